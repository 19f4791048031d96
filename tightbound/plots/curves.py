"""Training, step by step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from tightbound.plots.style import (
    BLUE,
    GREY,
    NATS,
    ORANGE,
    SMALL,
    VERMILION,
    Row,
    column,
    counted,
    describe,
    haloed,
    number,
    panels,
    short,
    styled,
)

TITLES = {"loss": "Loss", "distortion": "Distortion  −log p(x | z)", "rate": "Rate  log q(z | x) − log p(z)"}
COLOURS = {"train": BLUE, "validation": ORANGE}
MANY = 60  # points: more of them hide their own trend


@styled
def training_curves(metrics: Sequence[Row]) -> Figure:
    """Loss, distortion and rate by step, in training and validation.

    The vertical range is that of the run after its start: what the first steps add beyond it is cut off, and said.
    Values that are not finite are marked at the bottom.

    Args:
        metrics: lines as in ``metrics.jsonl``: "step", "split" ("train" or "validation"), and any of "loss",
            "distortion" and "rate" in nats per observation; "beta" where it changes.

    Raises:
        ValueError: if there is no such line, or none has a finite loss, distortion or rate.

    Example:
        >>> from tightbound.plots import alt_text
        >>> lines = [{"step": 10, "split": "validation", "loss": 3.0}, {"step": 20, "split": "validation", "loss": 2.0}]
        >>> alt_text(training_curves(lines))
        'Loss by step, up to step 20. Best validation loss 2.00 nats at step 20.'
    """
    lines = [line for line in metrics if line.get("split") in COLOURS]
    steps = column(lines, "step")
    if not np.isfinite(steps).all():
        raise ValueError("Expected a finite 'step' in every line; got one that is not.")
    names = [name for name in TITLES if np.isfinite(column(lines, name, np.nan)).any()]
    if not names:
        raise ValueError(
            "Expected lines with 'step', 'split' ('train' or 'validation') and a finite 'loss', 'distortion' or "
            f"'rate'; got {len(metrics)} lines without. Read them from a run's metrics.jsonl."
        )
    figure, axes = panels(len(names), columns=len(names), width=3.3 if len(names) > 1 else 5.5, height=2.9)
    for panel, name in zip(axes, names, strict=True):
        _curve(panel, lines, steps, name)
    axes[0].set_ylabel(NATS)
    after = _mark_warm_up(axes[0], lines, steps)
    best = _mark_best(axes[names.index("loss")], lines, steps, after) if "loss" in names else ""
    handles, words = axes[0].get_legend_handles_labels()
    figure.legend(handles, words, loc="upper right", bbox_to_anchor=(0.99, 0.98), ncols=4)
    figure.set_layout_engine("constrained", rect=(0, 0, 1, 0.92))  # the legend's line above
    what = ", ".join(names).capitalize()
    return describe(figure, f"{what} by step, up to step {steps.max():.0f}.{best}")


def _curve(panel: Axes, lines: Sequence[Row], steps: np.ndarray, name: str) -> None:
    values = column(lines, name, np.nan)
    given = np.array([name in line for line in lines])
    for split, colour in COLOURS.items():
        chosen = given & np.array([line["split"] == split for line in lines])
        _line(panel, steps[chosen], values[chosen], split, colour)
    for step in steps[given & ~np.isfinite(values)]:
        panel.axvline(step, 0, 0.04, color=VERMILION, lw=1.5)
    low, high = _range(steps, values)
    panel.set_ylim(low, high)
    fine = values[np.isfinite(values)]
    broken = int((given & ~np.isfinite(values)).sum())
    words = [f"off the top: up to {short(fine.max())}"] if fine.max() > high else []
    _corner(panel, 0.97, "\n".join([*words, f"red: not finite, {counted(broken, 'line')}"] if broken else words))
    _corner(panel, 0.05, f"off the bottom: down to {short(fine.min())}" if fine.min() < low else "")
    panel.set(title=TITLES[name], xlabel="step")
    panel.xaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    panel.yaxis.set_major_locator(MaxNLocator(6))


def _corner(panel: Axes, y: float, words: str) -> None:
    if words:
        align = "top" if y > 0.5 else "bottom"
        haloed(panel.text(0.98, y, words, transform=panel.transAxes, ha="right", va=align, fontsize=SMALL, color=GREY))


def _line(panel: Axes, steps: np.ndarray, values: np.ndarray, split: str, colour: str) -> None:
    fine = np.isfinite(values)
    order = np.argsort(steps[fine], kind="stable")
    x, y = steps[fine][order], values[fine][order]
    if len(x) > MANY:
        panel.plot(x, y, color=colour, alpha=0.3, lw=0.8)
        panel.plot(x, _smoothed(y), color=colour, label=f"{split} (running mean)")
    elif len(x):
        panel.plot(x, y, "o-" if split == "validation" or len(x) == 1 else "-", ms=3, color=colour, label=split)


def _smoothed(y: np.ndarray) -> np.ndarray:
    window = np.ones(2 * (len(y) // 60) + 1)
    return np.convolve(y, window, "same") / np.convolve(np.ones(len(y)), window, "same")


def _range(steps: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Limits that hold everything, or all after the first tenth of the run if its start would squash the rest."""
    fine = np.isfinite(values)
    steps, values = steps[fine], values[fine]
    later = values[steps >= steps.min() + 0.1 * (steps.max() - steps.min())]
    low, high = np.percentile(later, [0.5, 99.5])
    room = 0.6 * (high - low) or max(abs(high), 1.0)
    low, high = max(values.min(), low - room), min(values.max(), high + room)
    pad = 0.06 * (high - low) or 0.05 * max(abs(high), 1.0)
    return low - pad, high + pad


def _mark_warm_up(panel: Axes, lines: Sequence[Row], steps: np.ndarray) -> float:
    """A line where β stops changing, and that step: losses before it are on other scales."""
    betas = column(lines, "beta", np.nan)
    known = np.isfinite(betas)
    changing = known & (betas != betas[known][-1]) if known.any() else known
    if not changing.any():
        return -np.inf
    end = float(steps[changing].max())
    panel.axvline(end, color=GREY, lw=1, ls=":", label=f"β reaches {betas[known][-1]:g}")
    return end


def _mark_best(panel: Axes, lines: Sequence[Row], steps: np.ndarray, after: float) -> str:
    loss = column(lines, "loss", np.nan)
    loss[[line["split"] != "validation" for line in lines] | (steps <= after)] = np.nan
    if np.isnan(loss).all():
        return ""
    best = int(np.nanargmin(loss))
    panel.plot(steps[best], loss[best], "o", ms=9, mfc="none", mec=COLOURS["validation"], mew=1.4)
    words = number(loss[best], 2)
    place = (steps[best], loss[best])
    haloed(panel.annotate(words, place, (0, 8), textcoords="offset points", ha="center", fontweight="bold"))
    return f" Best validation loss {words} nats at step {steps[best]:.0f}."
