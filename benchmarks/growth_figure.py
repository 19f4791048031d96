"""The figure of growth.py: cost against work, and the cost of an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullLocator

from tightbound.plots.style import BLUE, GREEN, GREY, INK, VERMILION, note, panels, short, styled

MARKS = ((BLUE, "o"), (VERMILION, "s"), (GREEN, "D"))


@styled
def draw(rows: list[dict[str, Any]], tolerated: float, path: Path) -> None:
    """Left, seconds to see all images once; right, the cost of one, relative to that in the smallest set."""
    figure, (left, right) = panels(2, columns=2, width=4.6, height=3.9)
    works = list(dict.fromkeys(row["work"] for row in rows))
    for work, (colour, mark) in zip(works, MARKS, strict=True):
        chosen = [row for row in rows if row["work"] == work]
        n = np.array([row["images"] for row in chosen], dtype=float)
        cost = np.array([row["µs an image"] for row in chosen]) * 1e-6
        left.plot(n, n * cost[0], color=colour, lw=1, ls=(0, (4, 3)), alpha=0.6)
        left.plot(n, n * cost, color=colour, marker=mark, ls="none", label=work)
        _relative(right, n, chosen, colour, mark)
    right.axhspan(1 - tolerated, 1 + tolerated, color="#EFEFEF", zorder=0, lw=0)
    right.axhline(1, color=INK, lw=1, ls=(0, (4, 3)))
    right.annotate(f"±{tolerated:.0%}", (0.99, 1 + tolerated), (0, 2), ("axes fraction", "data"), "offset points",
                   ha="right", va="bottom", color=GREY, fontsize=8)  # fmt: skip
    left.set(xscale="log", yscale="log", title="Cost of seeing every image once", ylabel="seconds", xlabel="images")
    right.set(xscale="log", title="Cost of an image", ylabel="times that in the smallest set", xlabel="images")
    left.legend(loc="best")
    _ticks(left, [row["images"] for row in rows])
    _ticks(right, [row["images"] for row in rows])
    note(figure, "Dashed: in proportion to the number of images. Points: medians; bars: all turns.")
    figure.savefig(path, dpi=200)


def _relative(panel: Axes, n: np.ndarray, rows: list[dict[str, Any]], colour: str, mark: str) -> None:
    low, middle, high = (
        np.array([row["times the smallest"][key] for row in rows]) for key in ("low", "median", "high")
    )
    panel.errorbar(n, middle, [middle - low, high - middle], color=colour, marker=mark, lw=1.4, elinewidth=1)


def _ticks(panel: Axes, images: list[int]) -> None:
    panel.set_xticks(sorted(set(images))[:: 1 if len(set(images)) < 6 else 2])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{short(x / 1000)} k" if x >= 1000 else short(x)))
