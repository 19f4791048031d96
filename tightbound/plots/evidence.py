"""How tight the bound is, and whether its estimate can be trusted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import NullLocator

from tightbound.evaluate.verdict import HIGH_K
from tightbound.plots.figure import Figure
from tightbound.plots.style import BLUE, GREY, HALF, INK, NATS, SMALL, VERMILION, Array, describe, note, number, styled

LIMITS = (-0.5, 1.5)  # of k that are told apart in a figure


@styled
def bound_by_samples(
    bounds: Sequence[tuple[int, float, float]],
    elbo: tuple[float, float] | None = None,
    *,
    log_px: float | None = None,
    paired: bool = False,
) -> Figure:
    """The importance-weighted bound rising over the number of samples, from the ELBO towards log p(x).

    Args:
        bounds: (K, value, standard error) for several K, in nats per observation; of an evaluation,
            ``[(k, bound.value, rise.se) for (k, bound), rise in zip(report.iwae, report.rises)]``.
        elbo: value and standard error; by default the entry at K = 1, if there is one.
        log_px: what it rises to, estimated by better means than these samples.
        paired: whether the errors are those of the rise above the first entry, by pairs, and not of each entry.

    Raises:
        ValueError: for no entries, K below 1, or values that are not finite.

    Example:
        >>> from tightbound.plots import alt_text
        >>> alt_text(bound_by_samples([(1, -90.0, 0.2), (10, -87.0, 0.2)]))
        'Importance-weighted bound for 1 to 10 samples: from −90.00 to −87.00 nats, 3.00 above the ELBO.'
    """
    table = np.array(sorted((k, value, error) for k, value, error in bounds), dtype=float).reshape(-1, 3)
    if not len(table) or not np.isfinite(table[:, :2]).all() or table[0, 0] < 1:
        raise ValueError(f"Expected (samples >= 1, finite value, standard error) for some K; got {list(bounds)}.")
    samples, values, errors = table.T
    if elbo is None and samples[0] == 1:
        elbo = (values[0], errors[0])
    figure = Figure(figsize=(HALF, 3.4))
    panel = figure.add_subplot()
    panel.errorbar(
        samples, values, 2 * np.nan_to_num(errors), fmt="o-", color=BLUE, capsize=2.5, elinewidth=1.2, zorder=3
    )
    panel.set_xscale("log")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(samples, [f"{k:,.0f}" for k in samples])
    panel.set(xlabel="samples K", ylabel=NATS, title="Importance-weighted bound")
    panel.margins(x=0.06, y=0.18)
    panel.annotate(
        number(values[-1], 2),
        (samples[-1], values[-1]),
        (-8, 6),
        textcoords="offset points",
        ha="right",
        fontweight="bold",
    )
    above = ""
    if elbo is not None:
        panel.axhline(elbo[0], color=GREY, ls=(0, (4, 3)), lw=1.1)
        beside = panel.get_yaxis_transform()
        named = f"ELBO\n{number(elbo[0], 2)}"
        panel.text(1.01, elbo[0], named, transform=beside, va="center", color=GREY, fontsize=SMALL)
        above = f", {number(values[-1] - elbo[0], 2)} above the ELBO"
    if log_px is not None:
        panel.axhline(log_px, color=VERMILION, ls=(0, (4, 3)), lw=1.1)
        named = f"log p(x)\n{number(log_px, 2)}"
        panel.text(
            1.01, log_px, named, transform=panel.get_yaxis_transform(), va="center", color=VERMILION, fontsize=SMALL
        )
        above += f", {number(log_px - values[-1], 2)} below log p(x)"
    meant = "of the rise above the first, paired by observation" if paired else "over observations, the same at every K"
    note(figure, f"Bars: ± 2 standard errors {meant}.")
    span = f"from {number(values[0], 2)} to {number(values[-1], 2)} nats"
    return describe(
        figure, f"Importance-weighted bound for {samples[0]:.0f} to {samples[-1]:.0f} samples: {span}{above}."
    )


@styled
def pareto_k(k: Array, *, threshold: float = HIGH_K) -> Figure:
    """Pareto's k of each observation's importance weights: how many have a tail that no draws can show.

    Args:
        k: shape (N,); infinite values are shown at the right edge.
        threshold: above, an observation's estimate is not to be trusted.

    Raises:
        ValueError: for another shape, no value, or NaN.

    Example:
        >>> from tightbound.plots import alt_text
        >>> alt_text(pareto_k(np.array([0.1, 0.3, 0.3, 0.9])))
        "Pareto's k of 4 observations: median 0.30; 25.0 % above 0.7."
    """
    values = np.asarray(k, dtype=float)
    if values.ndim != 1 or not len(values) or np.isnan(values).any():
        raise ValueError(f"Expected values of k of shape (N,), none of them NaN; got {values.shape}.")
    high = values > threshold
    shown = np.clip(values, *LIMITS)
    figure = Figure(figsize=(HALF, 3.3))
    panel = figure.add_subplot()
    edges = list(threshold + 0.05 * np.arange(-40, 41))  # one of them at the threshold
    panel.hist([shown[~high], shown[high]], edges, stacked=True, color=[BLUE, VERMILION], linewidth=0)
    panel.axvline(threshold, color=INK, ls=(0, (4, 3)), lw=1.1)
    panel.set(
        xlabel="Pareto's k of the weights' tail",
        ylabel="observations",
        xlim=(shown.min() - 0.1, max(1.0, shown.max() + 0.1)),
    )
    panel.set_title(f"{100 * high.mean():.1f} % of observations have k above {threshold:g}")
    panel.grid(visible=False, axis="x")
    middle = f"median {np.median(values):.2f}; {100 * high.mean():.1f} % above {threshold:g}"
    return describe(figure, f"Pareto's k of {len(values)} observations: {middle}.")
