"""Observations and what a model makes of them."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.lines import Line2D

from tightbound.data.observations import Observations
from tightbound.plots._cells import Limits, Sheet, is_lines, limits_of, sheet
from tightbound.plots.figure import AnyFigure, Figure
from tightbound.plots.style import BLUE, VERMILION, Array, as_array, counted, describe, styled

TITLE = 0.2  # inches
CHOICE = 0  # the seed of what a grid shows


@styled
def images(
    x: Array, *, columns: int | None = None, titles: Sequence[object] = (), limits: Limits | None = None
) -> Figure:
    r"""Observations in a grid: grey and colour images as such, vectors and short series as lines.

    Args:
        x: shape (N, \*shape).
        columns: how many beside each other; about square by default.
        titles: one above each observation, or none.
        limits: the values that are black and white (bottom and top for lines); by default (0, 1) for data within
            it, else the smallest and the largest value shown, which the figure then states.

    Raises:
        ValueError: for no or too many observations, or another number of titles.

    Example:
        >>> alt_text(images(torch.rand(6, 1, 8, 8)))
        '6 observations of shape (1, 8, 8).'
    """
    made = _titled(as_array(x), columns, titles, limits)
    return describe(made.figure, f"{counted(len(x), 'observation')} of shape {tuple(x.shape[1:])}.")


def alt_text(figure: AnyFigure) -> str:
    """What a figure of this package shows, in a sentence or two: for readers who do not see it.

    Args:
        figure: one that this package made.

    Returns:
        The sentences.

    Example:
        >>> alt_text(images(torch.rand(2, 1, 8, 8)))
        '2 observations of shape (1, 8, 8).'
    """
    return str(figure.get_label())


@styled
def data_grid(observations: Observations, count: int = 64) -> Figure:
    """A random choice of observations, the same in every call, sorted by label where there are labels.

    Args:
        observations: any data; what is shown is their grey values, never a binarisation.
        count: how many at most.

    Raises:
        ValueError: for a count below 1.

    Example:
        >>> alt_text(data_grid(Observations(torch.rand(90, 1, 8, 8), name="noise"), count=10))
        '10 of the 90 observations in noise.'
    """
    if count < 1:
        raise ValueError(f"Expected count >= 1; got {count}.")
    total = len(observations)
    indices = torch.tensor(sorted(random.Random(CHOICE).sample(range(total), min(count, total))))
    labels = observations.label(indices)
    if labels is not None:
        order = labels.argsort(stable=True).cpu()
        indices, labels = indices[order], labels[order]
    names = [] if labels is None else [label_name(int(label), observations.label_names) for label in labels]
    made = _titled(as_array(observations.unbinarised(indices)), None, names, None)
    return describe(made.figure, f"{len(indices)} of the {total} observations in {observations.name}.")


def label_name(label: int, names: Sequence[str]) -> str:
    """What a label is called: its name, or its number where it has none."""
    return names[label] if 0 <= label < len(names) else str(label)


@styled
def samples(x: Array, *, columns: int | None = None, rows: Sequence[str] = (), limits: Limits | None = None) -> Figure:
    r"""Samples of a model in a grid.

    Args:
        x: shape (N, \*shape).
        columns: as for :func:`images`.
        rows: what each row is called.
        limits: as for :func:`images`.

    Returns:
        The figure.

    Example:
        >>> alt_text(samples(torch.rand(6, 1, 8, 8)))
        '6 samples from the model.'
    """
    made = _titled(as_array(x, "samples"), columns, (), limits)
    if rows:
        made.label_rows(rows)
    return describe(made.figure, f"{counted(len(x), 'sample')} from the model.")


@styled
def analogies(originals: Array, decoded: Array, names: Sequence[str], *, limits: Limits | None = None) -> Figure:
    r"""The style of each observation in every class: a row an observation, framed, then a column a class.

    Args:
        originals: shape (N, \*shape).
        decoded: of each observation in each class, shape (N, classes, \*shape), as
            :meth:`tightbound.ConditionalVAE.analogies` gives it.
        names: of the classes.
        limits: as for :func:`images`.

    Raises:
        ValueError: for another number of observations or of names.

    Example:
        >>> alt_text(analogies(torch.rand(2, 1, 8, 8), torch.rand(2, 3, 1, 8, 8), ["a", "b", "c"]))
        '2 observations, each with its style in 3 classes.'
    """
    first, rest = as_array(originals), as_array(decoded)
    if rest.shape[:2] != (len(first), len(names)):
        raise ValueError(
            f"Expected decodings of {len(first)} observations in {len(names)} classes; got {tuple(rest.shape[:2])}."
        )
    everything = np.concatenate([first[:, None], rest], 1)
    made = sheet(everything.reshape(-1, *first.shape[1:]), len(names) + 1, limits=limits)
    for row in range(len(first)):
        made.frame(row * (len(names) + 1), BLUE)
    made.label_columns(["original", *names])
    return describe(made.figure, f"{counted(len(first), 'observation')}, each with its style in {len(names)} classes.")


def _titled(x: np.ndarray, columns: int | None, titles: Sequence[object], limits: Limits | None) -> Sheet:
    if titles and len(titles) != len(x):
        raise ValueError(f"Expected one title for each of {len(x)} observations; got {len(titles)}.")
    made = sheet(x, columns, limits=limits, head=TITLE if titles else 0.0)
    for index, title in enumerate(titles):
        made.title(index, title)
    return made


@styled
def reconstructions(originals: Array, reconstructed: Array, count: int = 32, *, limits: Limits | None = None) -> Figure:
    r"""Each observation beside its reconstruction; one line over the other where observations are lines.

    Args:
        originals: shape (N, \*shape).
        reconstructed: the same shape.
        count: how many pairs at most, the first ones.
        limits: as for :func:`images`, by default those of the originals.

    Raises:
        ValueError: for different shapes, or a count below 1.

    Example:
        >>> x = torch.rand(6, 1, 8, 8)
        >>> alt_text(reconstructions(x, x.round(), 4))
        '4 observations, each with its reconstruction to the right.'
    """
    if originals.shape != reconstructed.shape:
        shapes = f"{tuple(originals.shape)} and {tuple(reconstructed.shape)}"
        raise ValueError(f"Expected originals and reconstructions of one shape; got {shapes}.")
    if count < 1:
        raise ValueError(f"Expected count >= 1; got {count}.")
    x, y = as_array(originals)[:count], as_array(reconstructed, "reconstructions")[:count]
    if is_lines(x):
        return describe(
            _overlaid(x, y, limits), f"{counted(len(x), 'observation')}, each with its reconstruction over it."
        )
    pairs = np.stack([x, y], 1).reshape(-1, *x.shape[1:])
    made = sheet(pairs, 2 * min(len(x), 4), limits=limits or limits_of(x))
    made.label_columns(["original", "decoded"] * min(len(x), 4))
    return describe(made.figure, f"{counted(len(x), 'observation')}, each with its reconstruction to the right.")


def _overlaid(x: np.ndarray, y: np.ndarray, limits: Limits | None) -> Figure:
    made = sheet(x, None, limits=limits, second=y)
    keys = [Line2D([], [], color=BLUE, label="original"), Line2D([], [], color=VERMILION, label="reconstructed")]
    made.axes.legend(handles=keys, loc="lower left", bbox_to_anchor=(0, 1.01), ncols=2)
    return made.figure
