"""The verbs that show a model: what it draws, decodes and embeds, as a picture or as numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.figure import Figure

from tightbound import plots
from tightbound.autoencoder import VAE
from tightbound.cli.answer import Answer
from tightbound.cli.commands import at_least, opened, tell
from tightbound.conditioned import ConditionalVAE
from tightbound.data import Observations
from tightbound.data.mapped import require_memory
from tightbound.distributions import class_probabilities
from tightbound.evaluate import evidence
from tightbound.files import write_atomically
from tightbound.plots.pictures import label_name
from tightbound.reports import figures
from tightbound.runs.folder import FIGURES
from tightbound.runs.run import Run, Split
from tightbound.runs.trained import model_of
from tightbound.runtime import home, own_random_state
from tightbound.semi_supervised import conditional_of, of_one_condition
from tightbound.surface import listed

MOST = 1024  # pictures in one figure


def sample(
    path: Path, *, count: int, draw: bool, temperature: float, label: str | None, like: int | None, seed: int,
    out: Path | None, answer: Answer, source: str | None = None) -> int:  # fmt: skip
    """Samples from the prior, decoded, as a picture or as numbers: means of p(x|z), or with ``draw`` draws of x."""
    at_least("count", count, 1)
    if not temperature >= 0:
        raise ValueError(f"Expected --temperature of 0 or more; got {temperature:g}.")
    made, out = _open(path, out, "samples", (".png", ".npy"), count, source=source)
    model = vae_of(made)
    require_memory(
        4 * count * (math.prod(made.config.shape) + model.prior().event_shape.numel()),
        of=f"{count:,} samples",
        remedy="Take fewer, in several calls of another --seed each.",
    )
    given = _condition(made, model, count, label, like)
    with own_random_state(home(model)[0], seed=seed):
        x = model.sample(count, mean=not draw, temperature=temperature, **given)
    return _save(answer, x, out, lambda: plots.samples(x))


def _condition(made: Run, model: VAE, count: int, label: str | None, like: int | None) -> dict[str, Any]:
    """What samples are drawn under, as ``model.sample`` takes it."""
    asked = label is not None or like is not None
    if not asked and not isinstance(model, ConditionalVAE):
        return {}
    given, test = conditional_of(model, made.data().test)
    if given is None:
        raise ValueError(
            "Expected a run with a condition for --label and --like; got one without. Train it with "
            "--model.condition label."
        )
    if not asked:
        return figures.conditions(given, test, count)
    if label is None and like is not None:
        return _condition_of(given, test, like)
    if like is not None or given.covariates:
        wanted = "--like INDEX" if given.covariates else "--label CLASS or --like INDEX"
        raise ValueError(f"Expected {wanted}, a condition for samples; got another. INDEX counts test observations.")
    names = [label_name(y, test.label_names) for y in range(given.classes)]
    if label not in names:
        raise ValueError(f"Expected --label among {', '.join(names)}; got {label}.")
    return {"label": names.index(label)}


def _condition_of(model: ConditionalVAE, test: Observations, index: int) -> dict[str, Any]:
    """The condition of a test observation."""
    if not 0 <= index < len(test):
        raise ValueError(f"Expected --like between 0 and {len(test) - 1}, a test observation; got {index}.")
    one = test.eval_batch(index, index + 1)
    known = (("label", one.label, model.classes), ("factors", one.factors, model.covariates))
    return {name: value[0] for name, value, wanted in known if wanted and value is not None}


def reconstruct(
    path: Path, *, count: int, split: Split, out: Path | None, answer: Answer, source: str | None = None
) -> int:
    """Reconstructions, as a picture or as numbers."""
    at_least("count", count, 1)
    made, out = _open(path, out, "reconstructions", (".png", ".npy"), 2 * count, source=source)
    shown, seen = figures.examples(made.split(split), count)
    x = vae_of(made).reconstruct(seen)
    return _save(answer, x, out, lambda: plots.reconstructions(shown, x, count))


def traverse(
    path: Path, *, index: int, dimensions: int, steps: int, out: Path | None, answer: Answer, source: str | None = None
) -> int:
    """A traversal of the latent dimensions."""
    at_least("dimensions", dimensions, 1)
    at_least("steps", steps, 2)
    made, out = _open(path, out, "traversal", (".png", ".gif", ".webp"), source=source)
    model = vae_of(made)
    shown = min(dimensions, model.prior().event_shape.numel())
    _at_most_pictures(shown * steps)
    test = made.data().test
    if not 0 <= index < len(test):
        raise ValueError(f"Expected --index between 0 and {len(test) - 1}, a test observation; got {index}.")
    found = made.evaluation() or evidence(model, test, samples=1, proposal="posterior").to_json()
    found = figures.of_dimensions(model, found)  # which say most
    model, _ = of_one_condition(model, test.subset(torch.tensor([index])))
    x = test.eval_batch(index, index + 1).x[0]
    if out.suffix != ".png":
        frames = plots.traversal_frames(model, x, steps=2 * steps, **figures.ranked(found, shown))
        return _given(answer, plots.save_animation(frames, out))
    figure = plots.latent_traversal(model, x, steps=steps, **figures.ranked(found, shown))
    return _save(answer, None, out, lambda: figure)


def interpolate(
    path: Path, *, rows: int, steps: int, out: Path | None, answer: Answer, source: str | None = None
) -> int:
    """Interpolations between pairs of test observations."""
    at_least("rows", rows, 1)
    at_least("steps", steps, 2)
    made, out = _open(path, out, "interpolation", (".png",), rows * (steps + 2), source=source)
    model, test = of_one_condition(vae_of(made), made.data().test)
    seen = figures.examples(test, 2 * rows)[1].x
    if len(seen) < 2 * rows:
        raise ValueError(f"Expected two test observations a row, {2 * rows} for --rows {rows}; got {len(seen)}.")
    figure = plots.interpolation(model, seen[:rows], seen[rows:], steps)
    return _save(answer, None, out, lambda: figure)


def embed(path: Path, *, out: Path, split: Split | Literal["all"] | None, source: str | None, answer: Answer) -> int:
    """Posterior means as a .npy file."""
    made, out = _open(path, out, "", (".npy",))
    if split == "all" or (split is None and source is not None):
        parts = made.data(source).everything()
    else:
        parts = [made.split(split, source)]
    model = vae_of(made)
    codes = torch.cat([model.embed(part) for part in parts])
    if (classes := class_probabilities(model.prior())) is not None:
        variables, count = classes.shape
        what = "is 1" if count == 2 and codes.shape[1] == variables else f"has each of its {count} classes"
        tell(f"The codes are discrete: each of {variables} variables is given by the probability that it {what}.")
    return _save(answer, codes, out, None)


def vae_of(made: Run) -> VAE:
    """The run's model, which must be one that draws and decodes."""
    model = model_of(made)
    if not isinstance(model, VAE):
        raise ValueError(
            f"Expected a tb.VAE for pictures, samples and embeddings; got {type(model).__name__} in {made.path}. "
            f"In Python: tb.open_run({str(made.path)!r}).model(), and its own methods."
        )
    return model


def _open(
    path: Path,
    out: Path | None,
    name: str,
    kinds: tuple[str, ...],
    pictures: int = 0,
    *,
    source: str | None = None,
) -> tuple[Run, Path]:
    """The run and where the result goes, refused before there is any work in it."""
    made = opened(path, source, own=False)
    if out is not None and out.suffix not in kinds:
        raise ValueError(f"Expected --out to end in {listed(kinds, 'or')}; got {out}.")
    if out is not None and out.exists():
        raise ValueError(f"Expected a new file; got {out}, which exists. Choose another --out, or remove it first.")
    out = out or made.path / FIGURES / f"{name}.png"
    if out.suffix == ".png":
        _at_most_pictures(pictures, ", or for numbers: --out x.npy" if ".npy" in kinds else "")
    return made, out


def _save(answer: Answer, x: torch.Tensor | None, out: Path, draw: Callable[[], Figure] | None) -> int:
    if out.suffix == ".npy" and x is not None:
        array = x.cpu().numpy()
        write_atomically(out, lambda path: _save_array(path, array))
        return _given(answer, out, array.shape)
    if draw is not None:
        plots.save(draw(), out)
    return _given(answer, out)


def _given(answer: Answer, out: Path, shape: tuple[int, ...] | None = None) -> int:
    answer.say(out)
    answer.give({"file": out, "shape": shape})
    return 0


def _save_array(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _at_most_pictures(count: int, remedy: str = "") -> None:
    if count > MOST:
        raise ValueError(f"Expected at most {MOST} pictures in one figure; got {count}. Ask for fewer{remedy}.")
