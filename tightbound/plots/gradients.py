"""Gradients beside each other: what their noise, their bias and their time are by the number of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from tightbound.plots.figure import Figure
from tightbound.plots.style import GREY, PALETTE, SMALL, counted, describe, note, panels, plain, short, styled

MARKS = "osD^vPX*"
SMALLEST = 1e-3  # of the gradient: a bias below is of no interest


class Compared(Protocol):
    """What ``gradients.compare`` gives."""

    @property
    def reference(self) -> str:
        """What the bias was measured against, in words."""
        ...

    def to_json(self) -> Mapping[str, Any]:
        """All its numbers as plain values."""


@styled
def gradient_comparison(comparison: Compared) -> Figure:
    """Variance, bias, and the price of precision of several gradients over the number of samples.

    The last panel is what a second is best spent on: variance × seconds is the variance that is left after a second of
    averaging. A bias that cannot be told from none is drawn hollow, at what it stays below.

    Args:
        comparison: of :func:`tightbound.gradients.compare`.

    Raises:
        ValueError: for a comparison of nothing.

    Example:
        >>> from tightbound.gradients import Comparison, EstimatorStatistics
        >>> one = EstimatorStatistics("mine", 1, 0.04, 0.001, variance=3.0, variance_se=0.1, seconds=0.002)
        >>> from tightbound.plots import alt_text
        >>> alt_text(gradient_comparison(Comparison((one,), "the exact sum", {1: 1.0}, parameters=8, repeats=100)))
        'Variance, bias and price of 1 gradient by the number of samples. All are biased.'
    """
    found = comparison.to_json()
    rows: Sequence[Mapping[str, Any]] = found["estimates"]
    if not rows:
        raise ValueError("Expected a comparison of at least one gradient; got one of none.")
    names = list(dict.fromkeys(row["gradient"] for row in rows))
    figure, (noise, bias, price) = panels(3, columns=3, width=3.6, height=3.6)
    for place, name in enumerate(names):
        own = [row for row in rows if row["gradient"] == name]
        look = {
            "color": PALETTE[place % len(PALETTE)],
            "marker": MARKS[place % len(MARKS)],
            "ls": "--" if place // len(PALETTE) % 2 else "-",
        }
        k = np.array([row["samples"] for row in own], dtype=float)
        variance = np.array([row["variance"] for row in own])
        _curve(noise, k, variance, look, label=plain(name))
        _curve(price, k, np.array([row["price"] for row in own]), look)
        _biases(bias, own, k, look)
    _slope(noise, rows)
    noise.set_title("Variance")
    bias.set_title("Bias")
    price.set_title("Variance × seconds")
    lengths = found["length"]
    length = list(lengths.values())[-1]
    bias.plot([int(k) for k in lengths], list(lengths.values()), color=GREY, lw=0.8, ls=(0, (4, 3)))
    bias.annotate(
        "the gradient's own length", (0.98, length), xycoords=("axes fraction", "data"), xytext=(0, 3),
        textcoords="offset points", fontsize=SMALL, color=GREY, ha="right",
    )  # fmt: skip
    for panel in (noise, bias, price):
        _axes(panel, sorted({row["samples"] for row in rows}))
    bias.set_ylim(bottom=max(bias.get_ylim()[0], SMALLEST * length))
    figure.legend(loc="outside upper left", ncols=min(len(names), 5))
    note(figure, f"Bias against {found['reference']}; hollow: at most that, none was found. {_setting(found)}")
    what = f"Variance, bias and price of {counted(len(names), 'gradient')} by the number of samples."
    unbiased = [row for row in rows if not row["is_biased"]]
    if not unbiased:
        return describe(figure, f"{what} All are biased.")
    best = min(unbiased, key=lambda row: row["price"])
    told = f"{best['gradient']} with {counted(best['samples'], 'sample')}"
    return describe(figure, f"{what} Least noise for a second, of those without bias: {told}.")


def _setting(found: Mapping[str, Any]) -> str:
    return f"Summed over {counted(found['parameters'], 'parameter')}, {found['repeats']} repeats."


def _curve(panel: Axes, k: np.ndarray, values: np.ndarray, look: Mapping[str, Any], label: str = "") -> None:
    shown = values > 0  # an exact gradient has no variance, which a logarithm cannot show
    panel.plot(k[shown], values[shown], label=label or None, **look)


def _biases(panel: Axes, rows: Sequence[Mapping[str, Any]], k: np.ndarray, look: Mapping[str, Any]) -> None:
    heights = np.array([row["bias"] if row["is_biased"] else row["bias_bound"] for row in rows])
    is_biased = np.array([row["is_biased"] for row in rows])
    shown = heights > 0
    panel.plot(k[shown], heights[shown], color=look["color"], lw=0.8, alpha=0.5)
    for kind, face in ((is_biased, look["color"]), (~is_biased, "white")):
        chosen = kind & shown
        panel.plot(k[chosen], heights[chosen], ls="", mfc=face, mec=look["color"], marker=look["marker"])


def _slope(panel: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """What independent draws do: 1/K."""
    samples = sorted({row["samples"] for row in rows})
    top = max(row["variance"] for row in rows)
    if len(samples) > 1 and top > 0:
        k = np.array([samples[0], samples[-1]], dtype=float)
        panel.plot(k, 2 * top * k[0] / k, color=GREY, lw=0.8, ls=(0, (4, 3)))
        panel.annotate(
            "∝ 1/K", (k[1], 2 * top * k[0] / k[1]), xytext=(0, 4), textcoords="offset points", fontsize=SMALL,
            color=GREY, ha="right",
        )  # fmt: skip


def _axes(panel: Axes, samples: Sequence[int]) -> None:
    panel.set_yscale("log")
    if len(samples) > 1:
        panel.set_xscale("log")
    panel.set_xticks(samples, [short(k) for k in samples])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlabel("K, samples for each observation")
