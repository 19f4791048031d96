"""The verbs that show a model, as functions: what it draws, decodes and embeds. What they do is in ``pictures``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from tightbound.cli.answer import answered
from tightbound.cli.flags import Split, Switch, Whole, WholeOrNone


def sample(
    run: Path,
    /,
    *,
    count: Whole = 64,
    draw: Annotated[Switch, Parameter(name=("--draw", "--noise"))] = False,
    temperature: float = 1.0,
    label: str | None = None,
    like: WholeOrNone = None,
    seed: Whole = 0,
    out: Path | None = None,
    data: str | None = None,
    json: Switch = False,
) -> int:
    """Draw from the prior and decode: the means of p(x|z), or with --draw draws of x itself.

    For example: `tightbound sample runs/digits --count 1000 --out samples.npy`.

    Means make clearer pictures. Draws show what new observations are like under the model, their noise included.

    Args:
        run: A run's folder.
        count: How many.
        draw: Draw x itself from p(x|z), in place of its mean.
        temperature: What the prior's standard deviations are multiplied by.
        label: Of a model under a condition: the class, by name or number; by default each in turn.
        like: The same: a test observation that has the condition.
        seed: Of the draws.
        out: A new .png for a picture, .npy for the numbers; RUN/figures/samples.png by default.
        data: Where its data are now, where they have moved.
        json: Print one JSON object: which file was written.
    """
    from tightbound.cli import pictures

    return answered(
        pictures.sample,
        run,
        count=count,
        draw=draw,
        temperature=temperature,
        label=label,
        like=like,
        seed=seed,
        out=out,
        source=data,
        as_json=json,
    )


def reconstruct(
    run: Path,
    /,
    *,
    count: Whole = 32,
    split: Split = "test",
    out: Path | None = None,
    data: str | None = None,
    json: Switch = False,
) -> int:
    """Show observations beside their reconstructions.

    For example: `tightbound reconstruct runs/digits --count 8 --out digits.png`.

    Args:
        run: A run's folder.
        count: How many.
        split: Which observations.
        out: A new .png for a picture, .npy for the numbers; RUN/figures/reconstructions.png by default.
        data: Where its data are now, where they have moved.
        json: Print one JSON object: which file was written.
    """
    from tightbound.cli import pictures

    return answered(pictures.reconstruct, run, count=count, split=split, out=out, source=data, as_json=json)


def traverse(
    run: Path,
    /,
    *,
    index: Whole = 0,
    dimensions: Whole = 10,
    steps: Whole = 11,
    out: Path | None = None,
    data: str | None = None,
    json: Switch = False,
) -> int:
    """Move along one latent dimension at a time, the most informative first.

    For example: `tightbound traverse runs/digits --index 7 --dimensions 5`.

    Args:
        run: A run's folder.
        index: The test observation to start from.
        dimensions: How many latent dimensions to show, at most.
        steps: Pictures for each; a variable of classes has one for each class instead.
        out: A new .png, or a .gif or .webp that moves; RUN/figures/traversal.png by default.
        data: Where its data are now, where they have moved.
        json: Print one JSON object: which file was written.
    """
    from tightbound.cli import pictures

    return answered(
        pictures.traverse, run, index=index, dimensions=dimensions, steps=steps, out=out, source=data, as_json=json
    )


def interpolate(
    run: Path,
    /,
    *,
    rows: Whole = 6,
    steps: Whole = 11,
    out: Path | None = None,
    data: str | None = None,
    json: Switch = False,
) -> int:
    """Walk in a straight line through the latent space between pairs of test observations.

    For example: `tightbound interpolate runs/digits --rows 3 --out walk.png`.

    Args:
        run: A run's folder.
        rows: How many pairs.
        steps: Decodings for each.
        out: A new .png; RUN/figures/interpolation.png by default.
        data: Where its data are now, where they have moved.
        json: Print one JSON object: which file was written.
    """
    from tightbound.cli import pictures

    return answered(pictures.interpolate, run, rows=rows, steps=steps, out=out, source=data, as_json=json)


def embed(
    run: Path,
    /,
    *,
    out: Path,
    split: Literal["train", "validation", "test", "all"] | None = None,
    data: str | None = None,
    json: Switch = False,
) -> int:
    """Write the posterior's mean of each observation: coordinates, the same in every call.

    For example: `tightbound embed runs/digits --split all --out z.npy`. Grey data that the model sees binarised are
    binarised the same way in every call. The mean of bits and classes is their probabilities.

    Args:
        run: A run's folder.
        out: The new .npy file, shape (observations, latent).
        split: Which observations of the run's data: test by default; all: as they are stored, row by row.
        data: Other observations of the same shape: all of them, unless --split says otherwise.
        json: Print one JSON object: which file was written, and the shape of its array.
    """
    from tightbound.cli import pictures

    return answered(pictures.embed, run, out=out, split=split, source=data, as_json=json)


SHOWING: tuple[Callable[..., int], ...] = (sample, reconstruct, traverse, interpolate, embed)
