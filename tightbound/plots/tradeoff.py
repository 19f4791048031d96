"""Several runs beside each other: what β trades."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from tightbound.plots.figure import Figure
from tightbound.plots.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    NATS,
    PALE,
    PURPLE,
    SMALL,
    VERMILION,
    Row,
    column,
    counted,
    describe,
    fractions,
    note,
    number,
    panels,
    styled,
)

OBJECTIVE = "Trained on: −distortion − β · rate"


@dataclass(frozen=True)
class _Sweep:
    """Runs by β: one value for each β, with its standard error."""

    betas: np.ndarray
    rows: Sequence[Row]

    def __getitem__(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        each, values, errors = column(self.rows, "beta"), column(self.rows, key), column(self.rows, key + "_se", np.nan)
        found = [_mean(values[each == beta], errors[each == beta]) for beta in self.betas]
        return np.array([m for m, _ in found]), np.array([e for _, e in found])

    def has(self, key: str) -> bool:
        return all(row.get(key) is not None for row in self.rows)


def _mean(values: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """Mean and standard error: the run's own for a single run, that over runs for several."""
    if len(values) == 1:
        return float(values[0]), float(errors[0])
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def _sweep(rows: Sequence[Row]) -> _Sweep:
    if not rows:
        raise ValueError("Expected at least one run; got no rows.")
    for key in ("beta", "elbo", "distortion", "rate"):
        bad = np.flatnonzero(~np.isfinite(column(rows, key)))
        if len(bad):
            raise ValueError(f"Expected a finite {key!r} in every row; got {rows[bad[0]][key]} in row {bad[0]}.")
    return _Sweep(np.unique(column(rows, "beta")), rows)


@styled
def beta_tradeoff(rows: Sequence[Row]) -> Figure:
    """What runs at several β reach: the bound, its two terms, and what they were trained on.

    The highest ELBO is marked, and the same run in the other panels. The β-weighted objective is drawn because it was
    trained on, but its values at different β are on different scales and cannot be ranked.

    Args:
        rows: one mapping a run, in nats per observation: "beta", "elbo", "distortion", "rate", each of the last three
            with its standard error ("elbo_se", …) if there is one; "nll" (−log p(x), importance-weighted),
            "active_units", and the bounds "information_lower" and "information_upper" on the mutual information are
            drawn if every row has them. Several runs at one β are averaged.

    Raises:
        ValueError: for no rows, or rows without these numbers.

    Example:
        >>> from tightbound.plots import alt_text
        >>> rows = [{"beta": b, "elbo": -b, "distortion": b - 1, "rate": 1.0} for b in (1, 2)]
        >>> alt_text(beta_tradeoff(rows))
        'ELBO, reconstruction term, KL term and objective of 2 runs by β. Highest ELBO −1.00 nats at β = 1.'
    """
    figure, axes = panels(4, columns=2, width=4.0, height=2.6)
    best = tradeoff_on(axes, rows)
    axes[0].set_ylabel(NATS)
    axes[2].set_ylabel(NATS)
    for panel in axes[2:]:
        panel.set_xlabel("β, the weight of the KL term in training")
    ringed = f"Ringed: β = {best['beta']:g}, the highest ELBO. Bars: ± 2 standard errors."
    note(figure, f"{ringed} At different β the last panel has different scales: no ranking.")
    what = f"ELBO, reconstruction term, KL term and objective of {counted(len(rows), 'run')} by β."
    return describe(figure, f"{what} Highest ELBO {number(best['elbo'], 2)} nats at β = {best['beta']:g}.")


def tradeoff_on(axes: Sequence[Axes], rows: Sequence[Row]) -> Row:
    """The panels of :func:`beta_tradeoff`, on axes of a figure that shows more than this.

    Args:
        axes: four: for the ELBO, the reconstruction term, the KL term and the objective.
        rows: as for :func:`beta_tradeoff`.

    Returns:
        "beta" and "elbo" where the ELBO is highest, which is what is ringed.

    Raises:
        ValueError: for no rows, or rows without these numbers.

    Example:
        >>> rows = [{"beta": b, "elbo": -b, "distortion": b - 1, "rate": 1.0} for b in (1, 2)]
        >>> tradeoff_on(panels(4, columns=4, width=2, height=2)[1], rows)
        {'beta': 1.0, 'elbo': -1.0}
    """
    sweep = _sweep(rows)
    elbo, distortion, rate = sweep["elbo"], sweep["distortion"], sweep["rate"]
    best = int(elbo[0].argmax())
    _panel(axes[0], sweep.betas, elbo, best, "ELBO, the bound on log p(x)", BLUE)
    _panel(axes[1], sweep.betas, (-distortion[0], distortion[1]), best, "Reconstruction term, E log p(x | z)", GREEN)
    _panel(axes[2], sweep.betas, rate, best, "KL term, the rate", VERMILION)
    _panel(axes[3], sweep.betas, (-distortion[0] - sweep.betas * rate[0], None), best, OBJECTIVE, PURPLE)
    _add_evidence(axes[0], sweep)
    _add_information(axes[2], sweep)
    _add_active_units(axes[2], sweep)
    return {"beta": float(sweep.betas[best]), "elbo": float(elbo[0][best])}


def _panel(
    panel: Axes, betas: np.ndarray, values: tuple[np.ndarray, np.ndarray | None], best: int, title: str, colour: str
) -> None:
    mean, error = values
    bars = None if error is None else 2 * np.nan_to_num(error)
    panel.errorbar(betas, mean, yerr=bars, fmt="o-", ms=4, color=colour, capsize=2.5, elinewidth=1.2)
    panel.plot(betas[best], mean[best], "o", ms=11, mfc="none", mec=INK, mew=1.2)
    low = mean[best] > (mean.min() + mean.max()) / 2
    panel.annotate(
        number(mean[best], 1 if abs(mean[best]) >= 10 else 2),
        (betas[best], mean[best]),
        (0, -10 if low else 10),
        textcoords="offset points",
        ha="center",
        va="top" if low else "bottom",
        fontweight="bold",
    )
    panel.set_title(title)
    panel.margins(x=0.08, y=0.2)
    _beta_axis(panel, betas)


def _beta_axis(panel: Axes, betas: np.ndarray) -> None:
    """Ticks at the runs' own β, on a logarithmic axis if they span more than a decade."""
    positive = betas[betas > 0]
    wide = len(positive) > 1 and positive.max() > 10 * positive.min()
    if wide and len(positive) == len(betas):
        panel.set_xscale("log")
    elif wide:
        panel.set_xscale("symlog", linthresh=positive.min())
    panel.xaxis.set_minor_locator(NullLocator())
    at = fractions(panel, np.stack([betas, np.full(len(betas), np.mean(panel.get_ylim()))], 1))[:, 0]
    shown = [0]
    for i in range(1, len(betas)):
        if at[i] - at[shown[-1]] > 0.075:
            shown.append(i)
    panel.set_xticks(betas[shown], [f"{b:g}" for b in betas[shown]])


def _add_evidence(panel: Axes, sweep: _Sweep) -> None:
    if sweep.has("nll"):
        value, error = sweep["nll"]
        bars = 2 * np.nan_to_num(error)
        panel.errorbar(
            sweep.betas,
            -value,
            yerr=bars,
            fmt="s--",
            ms=4,
            mfc="white",
            color=GREY,
            lw=1,
            label="log p(x), estimated",
        )
        panel.legend(loc="best")


def _add_information(panel: Axes, sweep: _Sweep) -> None:
    """Between which bounds the mutual information lies: a bar under each rate."""
    if sweep.has("information_lower") and sweep.has("information_upper"):
        (lower, _), (upper, _) = sweep["information_lower"], sweep["information_upper"]
        panel.vlines(sweep.betas, lower, upper, color=PALE, lw=7, zorder=1, label="I(x; z) lies in here")
        panel.legend(loc="best")


def _add_active_units(panel: Axes, sweep: _Sweep) -> None:
    if sweep.has("active_units"):
        for beta, units in zip(sweep.betas, sweep["active_units"][0], strict=True):
            panel.text(
                beta, 0.02, f"{units:g}", transform=panel.get_xaxis_transform(), ha="center", fontsize=SMALL, color=GREY
            )
        panel.set_title("KL term, the rate (below: active units)")


@styled
def scores_by_beta(rows: Sequence[Row]) -> Figure:
    """Scores of disentanglement by β, with what each run has: errors are over runs where a β has several.

    Args:
        rows: one mapping a run: "beta", and of each of "mig", "dci_disentanglement" and "factor_vae_score" the value,
            with its standard error under "…_se"; "udr" is shown where all have it.

    Returns:
        The figure.

    Raises:
        ValueError: for no rows, or rows without these numbers.

    Example:
        >>> from tightbound.plots import alt_text
        >>> score = {"mig": 0.2, "dci_disentanglement": 0.1, "factor_vae_score": 0.5}
        >>> alt_text(scores_by_beta([{"beta": b, **score} for b in (1, 2)]))
        'Scores of disentanglement of 2 runs by β.'
    """
    if not rows:
        raise ValueError("Expected at least one run; got no rows.")
    sweep = _Sweep(np.unique(column(rows, "beta")), rows)
    shown = [("mig", "MIG", BLUE), ("dci_disentanglement", "DCI-D", GREEN), ("factor_vae_score", "FactorVAE", PURPLE)]
    shown += [("udr", "UDR", VERMILION)] if sweep.has("udr") else []
    figure, [axes] = panels(1, columns=1, width=5.2, height=3.2)
    place = np.arange(len(sweep.betas))
    each = np.searchsorted(sweep.betas, column(rows, "beta"))
    for number_of, (key, name, colour) in enumerate(shown):
        aside = 0.05 * (number_of - (len(shown) - 1) / 2)
        values, errors = sweep[key]
        axes.scatter(each + aside, column(rows, key), s=9, color=colour, alpha=0.35, linewidths=0)
        axes.errorbar(place + aside, values, 2 * errors, color=colour, marker="o", markersize=4, label=name)
    axes.set(xlabel="β", ylabel="score, 0 to 1", xticks=place, xticklabels=[f"{b:g}" for b in sweep.betas])
    axes.set_ylim(0, 1)
    note(figure, "Bars: ± 2 standard errors. Pale: each run.")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return describe(figure, f"Scores of disentanglement of {counted(len(rows), 'run')} by β.")


@styled
def rate_distortion(rows: Sequence[Row]) -> Figure:
    """The same runs as points of rate and distortion; along a grey line the ELBO = −distortion − rate is the same.

    References:
        Alemi et al.: Fixing a Broken ELBO (2018), https://arxiv.org/abs/1711.00464.

    Args:
        rows: as for :func:`beta_tradeoff`.

    Raises:
        ValueError: for no rows, or rows without these numbers.

    Example:
        >>> from tightbound.plots import alt_text
        >>> rows = [{"beta": b, "elbo": -b, "distortion": b - 1, "rate": 1.0} for b in (1, 2)]
        >>> alt_text(rate_distortion(rows))
        'Rate and distortion of 2 runs, β from 1 to 2, with lines of equal ELBO.'
    """
    figure, (panel,) = panels(1, columns=1, width=6.0, height=4.6)
    betas = rate_distortion_on(panel, rows)
    note(figure, "Ringed: the highest ELBO. Grey lines: equal ELBO. Bars: ± 2 standard errors.")
    span = f"β from {betas[0]:g} to {betas[-1]:g}"
    return describe(figure, f"Rate and distortion of {counted(len(rows), 'run')}, {span}, with lines of equal ELBO.")


def rate_distortion_on(panel: Axes, rows: Sequence[Row]) -> np.ndarray:
    """The panel of :func:`rate_distortion`, on axes of a figure that shows more than this.

    Args:
        panel: where to.
        rows: as for :func:`beta_tradeoff`.

    Returns:
        The values of β, rising.

    Raises:
        ValueError: for no rows, or rows without these numbers.

    Example:
        >>> rows = [{"beta": b, "elbo": -b, "distortion": b - 1, "rate": 1.0} for b in (1, 2)]
        >>> rate_distortion_on(Figure().add_subplot(), rows).tolist()
        [1.0, 2.0]
    """
    sweep = _sweep(rows)
    (rate, rate_error), (distortion, distortion_error) = sweep["rate"], sweep["distortion"]
    best = int(sweep["elbo"][0].argmax())
    bars = {"xerr": 2 * np.nan_to_num(rate_error), "yerr": 2 * np.nan_to_num(distortion_error)}
    panel.errorbar(rate, distortion, **bars, fmt="o-", color=BLUE, lw=1, ms=5, elinewidth=1.2, zorder=3)
    panel.plot(rate[best], distortion[best], "o", ms=11, mfc="none", mec=INK, mew=1.2, zorder=4)
    panel.margins(x=0.2, y=0.14)
    _label_betas(panel, sweep.betas, np.stack([rate, distortion], 1), best)
    _iso_lines(panel)
    panel.set(xlabel=f"rate, {NATS}", ylabel=f"distortion, {NATS}")
    return sweep.betas


def _label_betas(panel: Axes, betas: np.ndarray, points: np.ndarray, best: int) -> None:
    """β beside each point, the best one's first, but not where it would lie on another's."""
    places = fractions(panel, points)
    taken: list[np.ndarray] = []
    for i in sorted(range(len(betas)), key=lambda i: i != best):
        if all(abs(places[i][0] - t[0]) > 0.12 or abs(places[i][1] - t[1]) > 0.035 for t in taken):
            panel.annotate(f"β = {betas[i]:g}", points[i], (8, 6), textcoords="offset points", fontsize=SMALL)
            taken.append(places[i])


def _iso_lines(panel: Axes) -> None:
    """Lines of slope −1 through the panel, each with its ELBO at the lower end."""
    (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
    totals = [t for t in MaxNLocator(9).tick_values(left + bottom, right + top) if left + bottom < t < right + top]
    for total in totals:
        ends = [(x, total - x) for x in (max(left, total - top), min(right, total - bottom))]
        panel.plot(*zip(*ends, strict=True), color=PALE, lw=0.8, zorder=1)
        x, y = ends[1]
        words = (" ELBO " if total == totals[-1] else " ") + f"{-total:,.10g}".replace("-", "−")
        panel.text(x, y, words, fontsize=SMALL, color=GREY, ha="left", va="bottom", clip_on=False)
    panel.set(xlim=(left, right), ylim=(bottom, top))
    panel.grid(visible=False)
