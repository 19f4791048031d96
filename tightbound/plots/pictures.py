"""Observations and what a model makes of them."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.lines import Line2D
from torch import Tensor

from tightbound.data.observations import Observations
from tightbound.plots._cells import PAGE, Limits, Sheet, filled, is_lines, limits_of, require_columns, sheet
from tightbound.plots.figure import AnyFigure, Figure
from tightbound.plots.style import BLUE, VERMILION, Array, as_array, counted, describe, styled

TITLE = 0.2  # inches
CHOICE = 0  # the seed of what a grid shows


@styled
def images(
    x: Array, *, columns: int | None = None, titles: Sequence[object] | Array = (), limits: Limits | None = None
) -> Figure:
    r"""Observations in a grid: grey and colour images as such, vectors and short series as lines.

    Args:
        x: shape (N, \*shape).
        columns: how many beside each other; about square by default. Sixteen images in two rows have 8.
        titles: one above each observation, such as its label, or none.
        limits: the values that are black and white (bottom and top for lines); by default (0, 1) for data within
            it, else the smallest and the largest value shown, which the figure then states.

    Raises:
        TypeError: for columns that are no whole number.
        ValueError: for no or too many observations, columns below 1, or another number of titles.

    Example:
        >>> alt_text(images(torch.rand(16, 1, 8, 8), columns=8, titles=torch.arange(16)))
        '16 observations of shape (1, 8, 8).'
    """
    made = _titled(as_array(x), columns, _listed(titles), limits)
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
def data_grid(observations: Observations, count: int = 64, *, columns: int | None = None) -> Figure:
    """A random choice of observations, the same in every call, sorted by label where there are labels.

    Args:
        observations: any data; what is shown is their grey values, never a binarisation.
        count: how many at most.
        columns: as for :func:`images`.

    Raises:
        TypeError: for columns that are no whole number.
        ValueError: for a count or columns below 1.

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
    made = _titled(as_array(observations.unbinarised(indices)), columns, names, None)
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
        rows: what each row is called, a name for each.
        limits: as for :func:`images`.

    Returns:
        The figure.

    Raises:
        TypeError: for rows that are no names.
        ValueError: for another number of names than there are rows; and as :func:`images`.

    Example:
        >>> alt_text(samples(torch.rand(16, 1, 8, 8), columns=8))
        '16 samples from the model.'
    """
    if isinstance(rows, int | str):
        raise TypeError(
            f"Expected rows as names, one for each row; got {rows!r}. For two rows of eight: columns=8, of 16 samples."
        )
    made = _titled(as_array(x, "samples"), columns, (), limits)
    if rows and len(rows) != made.shape[0]:
        raise ValueError(
            f"Expected a name for each of {counted(made.shape[0], 'row')}; got {len(rows)}. columns says how many "
            "samples a row has."
        )
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


def _listed(titles: Sequence[object] | Array) -> Sequence[object]:
    """Titles that may be a tensor of labels."""
    return titles.tolist() if isinstance(titles, Tensor | np.ndarray) else titles


def _titled(x: np.ndarray, columns: int | None, titles: Sequence[object], limits: Limits | None) -> Sheet:
    if titles and len(titles) != len(x):
        raise ValueError(f"Expected one title for each of {len(x)} observations; got {len(titles)}.")
    made = sheet(x, columns, limits=limits, head=TITLE if titles else 0.0)
    for index, title in enumerate(titles):
        made.title(index, title)
    return made


@styled
def reconstructions(
    originals: Array,
    reconstructed: Array,
    count: int = 32,
    *,
    columns: int | None = None,
    limits: Limits | None = None,
) -> Figure:
    r"""Each observation with its reconstruction: beside it, or under it in rows of ``columns``.

    Where observations are lines, one lies over the other.

    Args:
        originals: shape (N, \*shape).
        reconstructed: the same shape.
        count: how many pairs at most, the first ones.
        columns: how many observations beside each other, with a row of their reconstructions under them. By default
            there are four to a row, each with its reconstruction to the right.
        limits: as for :func:`images`, by default those of the originals.

    Raises:
        TypeError: for columns that are no whole number.
        ValueError: for different shapes, or a count or columns below 1.

    Example:
        >>> x = torch.rand(16, 1, 8, 8)
        >>> alt_text(reconstructions(x, x.round(), 4))
        '4 observations, each with its reconstruction to the right.'
        >>> alt_text(reconstructions(x, x.round(), 8, columns=8))
        '8 observations, each with its reconstruction under it.'
    """
    if originals.shape != reconstructed.shape:
        shapes = f"{tuple(originals.shape)} and {tuple(reconstructed.shape)}"
        raise ValueError(f"Expected originals and reconstructions of one shape; got {shapes}.")
    if count < 1:
        raise ValueError(f"Expected count >= 1; got {count}.")
    require_columns(columns)
    x, y = as_array(originals)[:count], as_array(reconstructed, "reconstructions")[:count]
    what = f"{counted(len(x), 'observation')}, each with its reconstruction"
    if is_lines(x):
        return describe(_overlaid(x, y, columns, limits), f"{what} over it.")
    limits = limits or limits_of(x)
    if columns is not None:
        return describe(_under(x, y, min(columns, len(x)), limits), f"{what} under it.")
    pairs = np.stack([x, y], 1).reshape(-1, *x.shape[1:])
    made = sheet(pairs, 2 * min(len(x), 4), limits=limits)
    made.label_columns(["original", "decoded"] * min(len(x), 4))
    return describe(made.figure, f"{what} to the right.")


def _under(x: np.ndarray, y: np.ndarray, columns: int, limits: Limits) -> Figure:
    rows = [part[start : start + columns] for start in range(0, len(x), columns) for part in (x, y)]
    made = sheet(np.concatenate([filled(row, columns) for row in rows]), columns, limits=limits, page=PAGE)
    made.label_rows(["original", "decoded"] * (len(rows) // 2))
    for index, row in enumerate(rows):
        made.clear(index, len(row))
    return made.figure


def _overlaid(x: np.ndarray, y: np.ndarray, columns: int | None, limits: Limits | None) -> Figure:
    made = sheet(x, columns, limits=limits, second=y)
    keys = [Line2D([], [], color=BLUE, label="original"), Line2D([], [], color=VERMILION, label="reconstructed")]
    made.axes.legend(handles=keys, loc="lower left", bbox_to_anchor=(0, 1.01), ncols=2)
    return made.figure
