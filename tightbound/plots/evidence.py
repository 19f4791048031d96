"""How tight the bound is, and whether its estimate can be trusted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, StrMethodFormatter

from tightbound.evaluate.verdict import LOW_ESS
from tightbound.plots.style import BLUE, GREY, INK, NATS, VERMILION, Array, as_array, describe, note, number, styled

BINS = 40


@styled
def bound_by_samples(bounds: Sequence[tuple[int, float, float]], elbo: tuple[float, float] | None = None) -> Figure:
    """The importance-weighted bound rising over the number of samples, from the ELBO towards log p(x).

    Args:
        bounds: (K, value, standard error) for several K, in nats per observation; of an evaluation,
            ``[(k, bound.value, bound.se) for k, bound in report.iwae]``.
        elbo: value and standard error; by default the entry at K = 1, if there is one.

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
    figure = Figure(figsize=(5.6, 3.6))
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
        panel.text(1.01, elbo[0], named, transform=beside, va="center", color=GREY, fontsize=8)
        above = f", {number(values[-1] - elbo[0], 2)} above the ELBO"
    note(figure, "Bars: ± 2 standard errors over observations; the same observations at every K.")
    span = f"from {number(values[0], 2)} to {number(values[-1], 2)} nats"
    return describe(
        figure, f"Importance-weighted bound for {samples[0]:.0f} to {samples[-1]:.0f} samples: {span}{above}."
    )


@styled
def effective_sample_size(ess: Array, samples: int, *, threshold: float = LOW_ESS) -> Figure:
    """How many of K importance samples count: their distribution over observations, with what is too few.

    Args:
        ess: effective sample size of each observation, shape (N,), from 1 to K.
        samples: how many, K.
        threshold: below, an observation's estimate is not to be trusted.

    Raises:
        ValueError: for another shape, or no value, or one outside 1 to K.

    Example:
        >>> from tightbound.plots import alt_text
        >>> alt_text(effective_sample_size(np.array([2.0, 40.0, 50.0, 60.0]), 100))
        'Effective sample size of 4 observations: median 45.0 of 100 samples; 25.0 % below 10.'
    """
    values = as_array(ess, "effective sample sizes")
    if values.ndim != 1 or not len(values) or not ((values > 0.99) & (values < 1.01 * samples)).all():
        raise ValueError(
            f"Expected effective sample sizes of shape (N,), from 1 to {samples}; got {values.shape}, {_span(values)}."
        )
    low = values < threshold
    figure = Figure(figsize=(5.6, 3.4))
    panel = figure.add_subplot()
    edges = _edges(max(samples, 2), threshold)
    parts, colours = [values[low], values[~low]], [VERMILION, BLUE]
    panel.hist([np.clip(part, 1, samples) for part in parts], edges, stacked=True, color=colours, linewidth=0)
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    panel.axvline(threshold, color=INK, ls=(0, (4, 3)), lw=1.1)
    panel.set(xlabel=f"effective samples, of {samples:,}", ylabel="observations", xlim=(1, max(samples, 2)))
    panel.set_title(f"{100 * low.mean():.1f} % of observations have fewer than {threshold:g} effective samples")
    panel.grid(visible=False, axis="x")
    middle = f"median {np.median(values):.1f} of {samples} samples"
    below = f"{100 * low.mean():.1f} % below {threshold:g}"
    return describe(figure, f"Effective sample size of {len(values)} observations: {middle}; {below}.")


def _edges(most: int, threshold: float) -> list[float]:
    """Bins of about equal width on a logarithmic axis, one edge at the threshold."""
    if not 1 < threshold < most:
        return list(np.geomspace(1, most, BINS + 1))
    below = min(max(round(BINS * np.log(threshold) / np.log(most)), 1), BINS - 1)
    return [*np.geomspace(1, threshold, below + 1), *np.geomspace(threshold, most, BINS - below + 1)[1:]]


def _span(values: np.ndarray) -> str:
    return f"{values.min():g} to {values.max():g}" if values.size else "none"
