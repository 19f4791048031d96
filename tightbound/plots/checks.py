"""Whether what a model says comes true: ranks of known latents, p-values of held-out data, neighbours of samples."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from tightbound.plots._cells import limits_of, sheet
from tightbound.plots.figure import Figure
from tightbound.plots.style import (
    BLUE,
    GREY,
    GRID,
    HALF,
    INK,
    PALE,
    VERMILION,
    Array,
    as_array,
    counted,
    describe,
    note,
    panels,
    styled,
    z_name,
)

BINS = 20
DIMENSIONS = 12  # panels
WORDS = 0.6  # inches for what stands above and below them
QUALITY = {
    "precision": "samples among data",
    "density": "how dense data lie there",
    "recall": "data among samples",
    "coverage": "data with a sample near",
}
CHANCE = 0.99  # share of bins that grey bands hold


@styled
def rank_histograms(ranks: Array | None, refined: Array | None = None, *, largest: int = 99) -> Figure:
    """Ranks of known latents among draws of the posterior, a panel for each dimension: flat where intervals are right.

    Args:
        ranks: among draws of q(z | x), shape (N, L); None for none.
        refined: among draws of refined proposals, shape (N, L).
        largest: rank that there can be.

    Raises:
        ValueError: for no ranks, other shapes, or ranks outside 0 … ``largest``.

    Example:
        >>> from tightbound.plots import alt_text
        >>> alt_text(rank_histograms(np.arange(100)[:, None] % 100))
        'Ranks of 100 latents in 1 dimension, of q(z|x).'
    """
    from scipy.stats import binom

    sets = {
        name: as_array(each, "ranks")
        for name, each in (("q(z|x)", ranks), ("refined proposals", refined))
        if each is not None
    }
    shapes = {each.shape for each in sets.values()}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 2 or not min(shape):
        raise ValueError(f"Expected ranks of shape (N, L); got {[each.shape for each in sets.values()]}.")
    if any(not ((each >= 0) & (each <= largest)).all() for each in sets.values()):
        raise ValueError(f"Expected ranks from 0 to {largest}; got others.")
    count, dimensions = shape
    heights = {name: _counts(each, np.linspace(-0.5, largest + 0.5, BINS + 1)) for name, each in sets.items()}
    worst = np.abs(next(iter(heights.values())) - count / BINS).sum(0)
    shown = np.argsort(-worst, kind="stable")[:DIMENSIONS]
    columns = min(4, len(shown))
    figure, axes = panels(len(shown), columns=columns, width=max(2.0, 5.6 / columns), height=1.6)
    figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() + WORDS)
    low, high = binom.ppf([(1 - CHANCE) / 2, (1 + CHANCE) / 2], count, 1 / BINS)
    top = 1.08 * max(high, *(each[:, shown].max() for each in heights.values()))
    for place, (panel, dimension) in enumerate(zip(axes, shown, strict=True)):
        _flat(panel, count / BINS, (low, high))
        for name, each in heights.items():
            _bars(panel, each[:, dimension], filled=name == "q(z|x)")
        panel.set(xlim=(0, 1), ylim=(0, top), xticks=[0, 0.5, 1], xticklabels=["0", str(largest // 2), str(largest)])
        panel.set_title(z_name(int(dimension)))
        if place % 4 == 0:
            panel.set_ylabel("observations")
    _legend(figure, {name: name == "q(z|x)" for name in sets})
    few = f"{len(shown)} of {dimensions} dimensions, the least even. " if len(shown) < dimensions else ""
    note(
        figure, f"{few}Rank of the true latent among draws. Where intervals are right, 99 of 100 bars end in the grey."
    )
    return describe(figure, f"Ranks of {count} latents in {counted(dimensions, 'dimension')}, of {' and '.join(sets)}.")


@styled
def predictive_checks(p_values: Array, simulated_p_values: Array, ranks: Array) -> Figure:
    """How likely held-out observations are beside replicas of their own, and beside what the model makes.

    Args:
        p_values: posterior predictive p-values of held-out observations, shape (N,).
        simulated_p_values: of observations that the model made, shape (M,).
        ranks: of each held-out observation's ELBO among theirs, between 0 and 1, shape (N,).

    Raises:
        ValueError: for other shapes, no values, or values outside [0, 1].

    Example:
        >>> from tightbound.plots import alt_text
        >>> half = np.full(40, 0.5)
        >>> alt_text(predictive_checks(half, half, half))
        'Mean p-value of 40 held-out observations 0.50, of 40 that the model made 0.50; mean rank 0.50.'
    """
    from scipy.stats import norm

    ours, theirs, places = (as_array(each, "values") for each in (p_values, simulated_p_values, ranks))
    for each in (ours, theirs, places):
        if each.ndim != 1 or not len(each) or not ((each >= 0) & (each <= 1)).all():
            raise ValueError(f"Expected values between 0 and 1, of shape (N,); got {each.shape}.")
    figure, (left, right) = panels(2, columns=2, width=3.9, height=2.9)
    edges = np.linspace(0, 1, BINS + 1)
    for values, filled in ((ours, True), (theirs, False)):
        _bars(left, 100 * _counts(values[:, None], edges)[:, 0] / len(values), filled=filled)
    left.set(xlim=(0, 1), ylim=(0, None), xlabel="share of replicas that are less likely", ylabel="% of observations")
    left.set_title("Beside replicas of their own")
    # Both sets are random: the held-out observations, and those that the bins are quantiles of.
    chance = norm.ppf((1 + CHANCE) / 2) * np.sqrt((1 - 1 / BINS) / BINS * (1 / len(ours) + 1 / len(theirs)))
    _flat(right, 100 / BINS, (max(100 / BINS - 100 * chance, 0.0), 100 / BINS + 100 * chance))
    _bars(right, 100 * _counts(places[:, None], edges)[:, 0] / len(places), filled=True)
    right.set(xlim=(0, 1), ylim=(0, None), xlabel="share of what the model makes that is less likely")
    right.set_title("Beside what the model makes")
    _legend(figure, {"held-out observations": True, "observations that the model made": False})
    note(figure, "Left: around ½ if the model is right. Right: flat; then 99 of 100 bars end in the grey.")
    said = f"Mean p-value of {counted(len(ours), 'held-out observation')} {ours.mean():.2f}, of {len(theirs)} that the "
    return describe(figure, f"{said}model made {theirs.mean():.2f}; mean rank {places.mean():.2f}.")


@styled
def neighbour_distances(samples: Array, held_out: Array) -> Figure:
    """How far samples and held-out observations are from their nearest training observation.

    Args:
        samples: distances of samples, shape (M,).
        held_out: of held-out observations, shape (N,).

    Raises:
        ValueError: for other shapes, no values, or values that are not finite.

    Example:
        >>> from tightbound.plots import alt_text
        >>> alt_text(neighbour_distances(np.array([1.0, 2.0]), np.array([3.0, 4.0])))
        'Distance to the nearest training observation: median 1.50 of 2 samples, 3.50 of 2 held-out observations.'
    """
    ours, theirs = (as_array(each, "distances") for each in (samples, held_out))
    for each in (ours, theirs):
        if each.ndim != 1 or not len(each) or not np.isfinite(each).all():
            raise ValueError(f"Expected finite distances of shape (N,); got {each.shape}.")
    both = np.concatenate([ours, theirs])
    low, high = (float(both.min()), float(both.max())) if both.max() > both.min() else (both[0] - 0.5, both[0] + 0.5)
    edges = np.linspace(low, high, BINS + 1)
    figure = Figure(figsize=(HALF, 3.3))
    panel = figure.add_subplot()
    for values, filled in ((theirs, True), (ours, False)):
        _bars(panel, 100 * _counts(values[:, None], edges)[:, 0] / len(values), filled=filled, edges=edges)
    panel.set(
        xlabel="distance to the nearest training observation", ylabel="% of each", ylim=(0, None), xlim=(low, high)
    )
    panel.grid(visible=False, axis="x")
    _legend(figure, {"held-out observations": True, "samples": False})
    middles = f"median {np.median(ours):.2f} of {counted(len(ours), 'sample')}, {np.median(theirs):.2f} of"
    whole = f"{middles} {counted(len(theirs), 'held-out observation')}."
    return describe(figure, f"Distance to the nearest training observation: {whole}")


@styled
def nearest_neighbours(means: Array, samples: Array, nearest: Array) -> Figure:
    r"""Samples between the mean that each is a draw of and the training observation nearest to it.

    Args:
        means: of p(x | z), shape (S, \*shape).
        samples: draws of x, the same shape.
        nearest: training observations, the same shape.

    Raises:
        ValueError: for different shapes, and as :func:`images`.

    Example:
        >>> from tightbound.plots import alt_text
        >>> x = np.random.default_rng(0).random((3, 1, 8, 8))
        >>> alt_text(nearest_neighbours(x, x, x))
        '3 samples, the mean of each above it and its nearest training observation below it.'
    """
    rows = [as_array(each) for each in (means, samples, nearest)]
    if len({each.shape for each in rows}) != 1:
        shapes = ", ".join(str(each.shape) for each in rows)
        raise ValueError(f"Expected means, samples and neighbours of one shape; got {shapes}.")
    made = sheet(np.concatenate(rows), len(rows[0]), limits=limits_of(rows[2]))
    made.label_rows(["mean of p(x|z)", "sample", "nearest"], [GREY, INK, BLUE])
    words = "the mean of each above it and its nearest training observation below it"
    return describe(made.figure, f"{counted(len(rows[0]), 'sample')}, {words}.")


@styled
def sample_quality(samples: Array, reference: Array, samples_se: Array, reference_se: Array) -> Figure:
    """Precision, density, recall and coverage of samples beside those of the data themselves, with errors.

    Args:
        samples: the four of samples, in this order, shape (4,).
        reference: of training observations in their place, shape (4,).
        samples_se: standard errors of the first, shape (4,).
        reference_se: of the second, shape (4,).

    Raises:
        ValueError: for other shapes, or values that are not finite.

    Example:
        >>> from tightbound.plots import alt_text
        >>> one, error = np.ones(4), np.full(4, 0.02)
        >>> alt_text(sample_quality(0.5 * one, one, error, error))
        'Of samples, and of the data: precision 0.50, 1.00; density 0.50, 1.00; recall 0.50, 1.00; coverage 0.50, 1.00.'
    """
    ours, theirs, *errors = (as_array(each, "values") for each in (samples, reference, samples_se, reference_se))
    for each in (ours, theirs, *errors):
        if each.shape != (len(QUALITY),) or not np.isfinite(each).all():
            raise ValueError(f"Expected finite values of shape ({len(QUALITY)},); got {each} of shape {each.shape}.")
    figure = Figure(figsize=(HALF, 2.9))
    panel = figure.add_subplot()
    rows = np.array([0.0, 1.0, 2.4, 3.4])  # quality apart from variety
    panel.hlines(rows, np.minimum(ours, theirs), np.maximum(ours, theirs), color=PALE, lw=5, alpha=0.55, zorder=1)
    sets = (("the data themselves", theirs, errors[1], BLUE, "o"), ("samples", ours, errors[0], VERMILION, "D"))
    for place, (name, values, error, colour, marker) in enumerate(sets):
        at = rows + 0.26 * place - 0.13
        panel.errorbar(values, at, xerr=2 * error, fmt=marker, color=colour, ms=6, elinewidth=1.6, label=name, zorder=3)
    most = max(1.0, (ours + 2 * errors[0]).max(), (theirs + 2 * errors[1]).max())
    panel.set(ylim=(4.0, -0.6), xlim=(0, 1.04 * most))
    panel.set_yticks(rows, [f"{name}\n{about}" for name, about in QUALITY.items()], linespacing=1.15)
    panel.grid(visible=False, axis="y")
    panel.axhline(1.7, color=GRID, lw=0.8)
    figure.legend(loc="outside upper left", ncols=2)
    note(figure, "Above quality, below variety; bars are two standard errors.")
    said = (f"{name} {mine:.2f}, {other:.2f}" for name, mine, other in zip(QUALITY, ours, theirs, strict=True))
    return describe(figure, f"Of samples, and of the data: {'; '.join(said)}.")


@styled
def sample_extremes(best: Array, worst: Array, nearest: Array, missed: Array) -> Figure:
    r"""Samples where data are densest, samples farthest out with the observations nearest to them, and missed data.

    Args:
        best: samples, shape (S, \*shape).
        worst: samples, the same shape.
        nearest: the observation nearest to each of the worst, the same shape.
        missed: observations far from all samples, the same shape.

    Raises:
        ValueError: for different shapes, and as :func:`images`.

    Example:
        >>> from tightbound.plots import alt_text
        >>> x = np.random.default_rng(0).random((3, 1, 8, 8))
        >>> alt_text(sample_extremes(x, x, x, x))
        '3 samples most like the data, 3 least like them with the nearest observations, and 3 observations most missed.'
    """
    rows = [as_array(each) for each in (best, worst, nearest, missed)]
    if len({each.shape for each in rows}) != 1:
        shapes = ", ".join(str(each.shape) for each in rows)
        raise ValueError(f"Expected samples and observations of one shape; got {shapes}.")
    made = sheet(np.concatenate(rows), len(rows[0]), limits=limits_of(np.concatenate(rows[2:])))
    made.label_rows(["best samples", "worst samples", "nearest to these", "missed data"], [INK, VERMILION, BLUE, BLUE])
    count = len(rows[0])
    words = f"{count} least like them with the nearest observations, and {counted(count, 'observation')} most missed"
    return describe(made.figure, f"{counted(count, 'sample')} most like the data, {words}.")


def _counts(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """How many of each column fall into each bin, shape (bins, columns)."""
    return np.stack([np.histogram(column, edges)[0] for column in values.T], 1)


def _flat(panel: Axes, height: float, span: tuple[float, float]) -> None:
    """What equal bins look like, and how far chance takes them."""
    panel.axhspan(*span, color=PALE, alpha=0.55, linewidth=0, zorder=1)
    panel.axhline(height, color=GREY, lw=0.8, zorder=1.5)


def _bars(panel: Axes, heights: np.ndarray, *, filled: bool, edges: np.ndarray | None = None) -> None:
    edges = np.linspace(0, 1, BINS + 1) if edges is None else edges
    if filled:
        panel.stairs(heights, edges, fill=True, color=BLUE, alpha=0.55, linewidth=0, zorder=2)
    else:
        panel.stairs(heights, edges, color=VERMILION, linewidth=1.4, zorder=3)


def _legend(figure: Figure, names: dict[str, bool]) -> None:
    keys = [
        Patch(color=BLUE, alpha=0.55, linewidth=0, label=name)
        if filled
        else Line2D([], [], color=VERMILION, lw=1.4, label=name)
        for name, filled in names.items()
    ]
    figure.legend(handles=keys, loc="outside upper left", ncols=len(keys))
