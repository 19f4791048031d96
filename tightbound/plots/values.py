"""Runs that differ in one value, of any kind: numbers along an axis, names side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from tightbound.plots.figure import Figure
from tightbound.plots.style import (
    BLUE,
    GREEN,
    NATS,
    VERMILION,
    Row,
    counted,
    describe,
    note,
    number,
    panels,
    plain,
    styled,
)
from tightbound.plots.tradeoff import _add_active_units, _add_evidence, _add_information, _panel, _sweep

LONGEST = 18  # letters of a name under an axis


@styled
def by_value(rows: Sequence[Row], name: str) -> Figure:
    """What runs at several values of something reach: the bound, and its two terms.

    Numbers stand where they lie, on a logarithmic axis if they span more than a decade; anything else stands in the
    order in which it comes. Several runs at one value are averaged. The highest ELBO is ringed.

    Args:
        rows: one mapping a run, in nats per observation: the value under ``name``, and "elbo", "distortion", "rate"
            with what else :func:`beta_tradeoff` takes.
        name: what differs.

    Returns:
        The figure.

    Raises:
        ValueError: for no rows, or rows without these numbers.

    Example:
        >>> from tightbound.plots import alt_text
        >>> rows = [{"size": name, "elbo": -9.0, "distortion": 8.0, "rate": 1.0} for name in ("a", "b")]
        >>> alt_text(by_value(rows, "size"))
        'ELBO, reconstruction term and KL term of 2 runs by size. Highest ELBO −9.00 nats at size = a.'
    """
    if not rows or any(name not in row for row in rows):
        raise ValueError(f"Expected {name!r} in every row; got {'a row without' if rows else 'no rows'}.")
    values = list(dict.fromkeys(row[name] for row in rows))
    numeric = all(_is_number(value) for value in values)
    places: dict[Any, float] = {value: float(value) if numeric else float(at) for at, value in enumerate(values)}
    sweep = _sweep([{**row, "beta": places[row[name]]} for row in rows])
    elbo, distortion = sweep["elbo"], sweep["distortion"]
    best = int(elbo[0].argmax())
    figure, axes = panels(3, columns=3, width=3.6, height=2.9)
    _panel(axes[0], sweep.betas, elbo, best, "ELBO, the bound on log p(x)", BLUE)
    _panel(axes[1], sweep.betas, (-distortion[0], distortion[1]), best, "Reconstruction term, E log p(x | z)", GREEN)
    _panel(axes[2], sweep.betas, sweep["rate"], best, "KL term, the rate", VERMILION)
    _add_evidence(axes[0], sweep)
    _add_information(axes[2], sweep)
    _add_active_units(axes[2], sweep)
    axes[0].set_ylabel(NATS)
    for panel in axes:
        panel.set_xlabel(plain(name))
        if not numeric:
            _named(panel, values)
    which = next(value for value in values if places[value] == sweep.betas[best])
    note(figure, f"Ringed: {name} = {which}, the highest ELBO. Bars: ± 2 standard errors.")
    what = f"ELBO, reconstruction term and KL term of {counted(len(rows), 'run')} by {name}."
    return describe(figure, f"{what} Highest ELBO {number(elbo[0][best], 2)} nats at {name} = {which}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _named(panel: Axes, values: Sequence[Any]) -> None:
    """Names under the axis, slanted where they are many or long; no line between what has no order."""
    words = [plain(each if len(each) <= LONGEST else f"{each[: LONGEST - 1]}…") for each in map(str, values)]
    slanted = sum(map(len, words)) > 24
    panel.set_xscale("linear")
    panel.set_xticks(range(len(words)), words, rotation=25 if slanted else 0, ha="right" if slanted else "center")
    panel.set_xlim(-0.5, len(words) - 0.5)
    for line in panel.lines:
        if line.get_linestyle() in ("-", "--"):
            line.set_linestyle("none")
