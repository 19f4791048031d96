"""Several runs in one figure: their training, their bounds, and how they differ observation by observation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator

from tightbound.plots.figure import Figure
from tightbound.plots.style import (
    BLUE,
    HALF,
    INK,
    NATS,
    PALETTE,
    VERMILION,
    Array,
    Row,
    as_array,
    column,
    counted,
    describe,
    note,
    number,
    panels,
    plain,
    shortened,
    styled,
)

STYLES = ("-", "--", ":")  # of lines beyond the palette's colours
CURVES = {"−ELBO": ("distortion", "rate"), "Distortion": ("distortion",), "Rate": ("rate",)}
START, MANY = 0.1, 10  # of a training of so many points its start, whose values may be cut off
LIMITS = (0.5, 99.5)  # per cent of a histogram's values that are shown apart


def _look(place: int) -> dict[str, str]:
    return {"color": PALETTE[place % len(PALETTE)], "ls": STYLES[place // len(PALETTE) % len(STYLES)]}


@styled
def compared_curves(runs: Mapping[str, Sequence[Row]]) -> Figure:
    """Distortion, rate and their sum, −ELBO, over the epochs of several runs: on held-out data where they have some.

    Losses are left out, for different objectives have different ones.

    Args:
        runs: of each its lines as in ``metrics.jsonl``: "epoch", "split", "distortion" and "rate".

    Raises:
        ValueError: for no run with such lines.

    Example:
        >>> from tightbound.plots import alt_text
        >>> lines = [{"epoch": e, "split": "validation", "distortion": 30.0 - e, "rate": 1.0 * e} for e in (1, 2)]
        >>> alt_text(compared_curves({"a": lines, "b": lines}))
        'Distortion, rate and their sum by epoch, of 2 runs.'
    """
    known = {name: found for name, lines in runs.items() if (found := _held_out(lines))}
    if not known:
        raise ValueError("Expected a run with 'epoch', 'split', 'distortion' and 'rate' in its metrics; got none.")
    figure, axes = panels(len(CURVES), columns=len(CURVES), width=3.3, height=2.9)
    for panel, (title, parts) in zip(axes, CURVES.items(), strict=True):
        _curves(panel, known, list(runs), parts)
        panel.set_title(title)
    axes[0].set_ylabel(NATS)
    handles, words = axes[0].get_legend_handles_labels()
    figure.legend(handles, words, loc="outside lower center", ncols=min(4, len(words)))
    return describe(figure, f"Distortion, rate and their sum by epoch, of {counted(len(known), 'run')}.")


def _held_out(lines: Sequence[Row]) -> list[Row]:
    """The lines of validation, or of training where there are none."""
    fine = [line for line in lines if line.get("distortion") is not None and line.get("rate") is not None]
    return [line for line in fine if line["split"] == "validation"] or fine


def _curves(panel: Axes, runs: Mapping[str, Sequence[Row]], order: Sequence[str], parts: Sequence[str]) -> None:
    ends = []
    for run, lines in runs.items():
        epochs = column(lines, "epoch")
        values = np.sum([column(lines, part) for part in parts], axis=0)
        panel.plot(epochs, values, label=shortened(run, 2.4), **_look(order.index(run)))  # type: ignore[arg-type]
        start = START if len(epochs) >= MANY else 0.0
        ends.append(values[epochs >= epochs.min() + start * np.ptp(epochs)])
    later = np.concatenate(ends)
    room = 0.08 * np.ptp(later) or 0.05 * max(abs(later.max()), 1.0)
    panel.set(xlabel="epoch", ylim=(later.min() - room, later.max() + room))
    panel.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=1))
    panel.yaxis.set_major_locator(MaxNLocator(6))


@styled
def compared_bounds(runs: Mapping[str, tuple[Sequence[tuple[int, float]], float]]) -> Figure:
    """How far the importance-weighted bounds of several runs lie below their log p(x), by the number of samples.

    Args:
        runs: of each the bounds, as pairs of K and nats, and log p(x).

    Raises:
        ValueError: for no run, or one without bounds.

    Example:
        >>> from tightbound.plots import alt_text
        >>> alt_text(compared_bounds({"a": ([(1, -90.5), (10, -90.1)], -90.0), "b": ([(1, -89.0)], -88.0)}))
        'Nats between bounds and log p(x) by samples: of the ELBO 0.50 in a, 1.00 in b.'
    """
    if not runs or not all(bounds for bounds, _ in runs.values()):
        raise ValueError("Expected runs with importance-weighted bounds; got none, or one without.")
    figure = Figure(figsize=(HALF, 3.4))
    panel = figure.add_subplot()
    ticks = sorted({k for bounds, _ in runs.values() for k, _ in bounds})
    for place, (name, (bounds, log_px)) in enumerate(runs.items()):
        k, below = zip(*((k, log_px - value) for k, value in sorted(bounds)), strict=True)
        panel.plot(k, below, marker="o", ms=4, label=shortened(name, 3.0), **_look(place))  # type: ignore[arg-type]
    panel.set_xscale("log")
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xticks(ticks, [f"{k:,}" for k in ticks])
    panel.axhline(0, color=INK, lw=0.8)
    panel.set(xlabel="samples K", ylabel=f"{NATS} below log p(x)", title="Importance-weighted bounds")
    panel.legend()
    first = [f"{number(log_px - min(bounds)[1], 2)} in {name}" for name, (bounds, log_px) in runs.items()]
    return describe(figure, f"Nats between bounds and log p(x) by samples: of the ELBO {', '.join(first)}.")


@styled
def paired_differences(values: Mapping[str, Array], *, less: str) -> Figure:
    """A histogram of log p(x) of each observation under a run less that under another, for one or more runs.

    What lies beyond the middle 99 % is gathered in the outermost bars.

    Args:
        values: by the run's name, shape (N,) each, finite.
        less: the other run.

    Raises:
        ValueError: for no values, or some that are not finite.

    Example:
        >>> from tightbound.plots import alt_text
        >>> alt_text(paired_differences({"b": np.array([0.5, 1.0, -0.5])}, less="a"))
        'log p(x) of each observation under b less that under a: mean 0.33 nats, above 0 for 67 %.'
    """
    found = {name: as_array(each, "differences") for name, each in values.items()}
    if not found or not all(each.size and np.isfinite(each).all() for each in found.values()):
        raise ValueError("Expected finite differences, at least one a run; got none, or some that are not finite.")
    columns = min(2, len(found))
    figure, axes = panels(len(found), columns=columns, width=HALF if columns == 1 else 4.9, height=2.8)
    said = []
    for panel, (name, each) in zip(axes, found.items(), strict=True):
        low, high = np.percentile(each, LIMITS)
        low, high = min(low, 0.0), max(high, 0.0)
        shown = np.clip(each, low, high)
        width = (high - low) / 40 or 1.0
        edges = width * np.arange(np.floor(low / width), np.ceil(high / width) + 2)  # one of them at 0
        panel.hist([shown[shown <= 0], shown[shown > 0]], list(edges), stacked=True, color=[VERMILION, BLUE], lw=0)
        panel.axvline(0, color=INK, lw=0.8)
        panel.axvline(each.mean(), color=INK, ls=(0, (4, 3)), lw=1.1)
        share = f"{100 * (each > 0).mean():.0f} %"
        panel.set(xlabel=f"nats, {plain(name)} less {plain(less)}", ylabel="observations")
        panel.set_title(f"{shortened(name, 2.0)} is higher for {share}")
        panel.grid(visible=False, axis="x")
        said.append(f"under {name} less that under {less}: mean {number(each.mean(), 2)} nats, above 0 for {share}")
    note(figure, "Dashed: the mean. Blue: above 0.")
    return describe(figure, f"log p(x) of each observation {'; '.join(said)}.")
