"""Units of a code beside known factors: how much each tells of each, and how one moves with the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from tightbound.plots.figure import Figure
from tightbound.plots.style import (
    BLUE,
    GREY,
    INK,
    PALE,
    SMALL,
    Array,
    as_array,
    counted,
    describe,
    note,
    panels,
    short,
    shortened,
    styled,
    z_name,
)

DARK = 0.55  # share of the largest value from which on a cell's number is white
MOST = 40  # values of a factor that are drawn apart; more are drawn in as many parts
FEW = 10  # values that have a tick each
NOTABLE = 0.1  # nats between two units, below which a cell stays pale
PERCENTILES = (5, 25, 50, 75, 95)


@styled
def factor_matrix(
    information: Array, importance: Array, factor_names: Sequence[str], units: Sequence[int] | None = None
) -> Figure:
    """What each unit tells of each factor, by mutual information and by importance for telling it.

    Args:
        information: nats, shape (L, F).
        importance: shares, shape (L, F).
        factor_names: F names.
        units: which units of the code the rows are; by default 0, 1, ….

    Raises:
        ValueError: for other shapes, or no unit.

    Example:
        >>> from tightbound.plots import alt_text
        >>> alt_text(factor_matrix(np.eye(2), np.eye(2), ("scale", "x")))
        'Mutual information and importance of 2 units for scale, x. Best: scale by z₀, x by z₁.'
    """
    nats, shares = as_array(information, "information"), as_array(importance, "importance")
    units = range(len(nats)) if units is None else units
    if nats.ndim != 2 or nats.shape != shares.shape or nats.shape != (len(units), len(factor_names)) or not nats.size:
        raise ValueError(
            f"Expected two matrices of {len(units)} units and {len(factor_names)} factors; got {nats.shape} and "
            f"{shares.shape}."
        )
    cell = 0.62
    figure, axes = panels(2, columns=2, width=1.0 + cell * len(factor_names), height=1.3 + 0.36 * len(nats))
    for panel, values, title in zip(axes, (nats, shares), ("mutual information, nats", "importance"), strict=True):
        _heat(panel, np.maximum(values, 0), [shortened(name, cell + 0.15) for name in factor_names])
        panel.set_yticks(range(len(units)), [z_name(unit) for unit in units])
        panel.set_title(title)
    note(figure, "Importance: of a unit for telling the factor, from random forests; a column's sum is 1.")
    best = ", ".join(
        f"{name} by {z_name(units[row])}" for name, row in zip(factor_names, nats.argmax(0).tolist(), strict=True)
    )
    about = f"Mutual information and importance of {counted(len(units), 'unit')} for {', '.join(factor_names)}."
    return describe(figure, f"{about} Best: {best}.")


@styled
def dependence_matrix(dependence: Array, units: Sequence[int]) -> Figure:
    """How far each pair of units depends on one another, by mutual information.

    Args:
        dependence: nats, shape (U, U); its diagonal is left empty.
        units: which units of the code the rows are.

    Raises:
        ValueError: for other shapes, or fewer than two units.

    Example:
        >>> from tightbound.plots import alt_text
        >>> alt_text(dependence_matrix(np.array([[0.0, 0.2], [0.2, 0.0]]), (0, 3)))
        'Mutual information of each pair of 2 units. Most: z₀ and z₃, 0.20 nats.'
    """
    nats = as_array(dependence, "dependence")
    if nats.shape != (len(units), len(units)) or len(units) < 2:
        raise ValueError(f"Expected a matrix of at least 2 units, {len(units)} here; got {nats.shape}.")
    names = [z_name(unit) for unit in units]
    side = 1.2 + 0.42 * len(units)
    figure, [panel] = panels(1, columns=1, width=side + 0.3, height=side)
    shown = nats.astype(float)
    np.fill_diagonal(shown, np.nan)
    _heat(panel, shown, names, least=NOTABLE)
    panel.set_yticks(range(len(units)), names)
    panel.set_title("mutual information, nats")
    first, second = divmod(int(np.nanargmax(shown)), len(units))
    about = f"Mutual information of each pair of {counted(len(units), 'unit')}."
    return describe(figure, f"{about} Most: {names[first]} and {names[second]}, {np.nanmax(shown):.2f} nats.")


def _heat(panel: Axes, values: np.ndarray, names: Sequence[str], *, least: float = 1e-12) -> None:
    top = max(float(np.nanmax(values)), least)
    panel.imshow(values, cmap="Blues", vmin=0, vmax=1.15 * top, aspect="auto")
    panel.set_xticks(range(len(names)), names)
    panel.tick_params(length=0, labeltop=True, labelbottom=False)
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
    for row, col in np.argwhere(np.isfinite(values)):
        shade = "white" if values[row, col] > DARK * top else INK
        panel.text(col, row, f"{values[row, col]:.2f}", ha="center", va="center", fontsize=SMALL, color=shade)


@styled
def factor_scatter(
    codes: Array, factors: Array, factor_names: Sequence[str], best: Sequence[int], values: Sequence[Sequence[str]] = ()
) -> Figure:
    """Each factor against the unit that tells most of it, a panel a factor.

    A line from the 5th to the 95th percentile of the unit at each value of the factor, thick between the quartiles,
    with a point at the median. Where lines of different values lie apart, the unit tells them apart.

    Args:
        codes: shape (N, L).
        factors: shape (N, F).
        factor_names: F names.
        best: for each factor the unit, F numbers.
        values: for each factor what its values are called; empty for numbers.

    Raises:
        ValueError: for shapes that do not fit.

    Example:
        >>> from tightbound.plots import alt_text
        >>> x = np.arange(6)[:, None] % 3
        >>> alt_text(factor_scatter(x, x, ("scale",), [0]))
        'Each factor against its best unit, 6 observations: scale, z₀.'
    """
    points, known = as_array(codes, "codes"), as_array(factors, "factors")
    shapes = points.ndim == known.ndim == 2 and len(points) == len(known) > 0
    if not shapes or known.shape[1] != len(factor_names) or len(best) != len(factor_names):
        raise ValueError(
            f"Expected codes (N, L), factors (N, F), F names and F units; got {points.shape}, {known.shape}, "
            f"{len(factor_names)} and {len(best)}."
        )
    columns = min(3, len(factor_names))
    figure, axes = panels(len(factor_names), columns=columns, width=7.6 / columns, height=2.2)
    for place, (panel, name, unit) in enumerate(zip(axes, factor_names, best, strict=True)):
        words = values[place] if place < len(values) else ()
        words = words if len(words) == len(np.unique(known[:, place])) else ()  # a value that is not there has no place
        _ranges(panel, points[:, unit], known[:, place], words)
        panel.set(xlabel=name, ylabel=z_name(unit))
    note(figure, "5th to 95th percentile, thick between the quartiles, and the median, of the posterior's mean.")
    pairs = "; ".join(f"{name}, {z_name(unit)}" for name, unit in zip(factor_names, best, strict=True))
    return describe(figure, f"Each factor against its best unit, {counted(len(points), 'observation')}: {pairs}.")


def _ranges(panel: Axes, code: np.ndarray, factor: np.ndarray, words: Sequence[str]) -> None:
    at, groups = np.unique(factor, return_inverse=True)
    if len(at) > MOST:
        edges = np.quantile(factor, np.linspace(0, 1, MOST + 1)[1:-1])
        groups = np.searchsorted(edges, factor)
        at = np.array([factor[groups == part].mean() for part in np.unique(groups)])
        groups = np.unique(groups, return_inverse=True)[1]
    else:
        at = np.arange(len(at)) if words else at
    ranges = np.array([np.percentile(code[groups == part], PERCENTILES) for part in range(len(at))])
    panel.axhline(0, color=PALE, linewidth=0.8, zorder=0)
    panel.vlines(at, ranges[:, 0], ranges[:, 4], color=GREY, linewidth=0.9)
    panel.vlines(at, ranges[:, 1], ranges[:, 3], color=BLUE, linewidth=3)
    panel.plot(at, ranges[:, 2], "o", color="white", markeredgecolor=BLUE, markersize=4)
    if words:
        panel.set_xticks(at, list(words))
        panel.set_xlim(-0.5, len(at) - 0.5)
    elif len(at) <= FEW:
        labels = [short(float(value)) if place % (1 + len(at) // 5) == 0 else "" for place, value in enumerate(at)]
        panel.set_xticks(at, labels)
