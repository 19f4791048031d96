"""One look for all figures, and what they share: colours, words, arrays."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeAlias, TypeVar

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from torch import Tensor

from tightbound.plots.figure import Figure

P = ParamSpec("P")
R = TypeVar("R")
Array: TypeAlias = Tensor | np.ndarray
Row: TypeAlias = Mapping[str, Any]

# Okabe & Ito (2008): told apart by readers with any colour vision.
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, "#4D4D4D", "#B8A800")
INK, GREY, PALE, SHADE, GRID = "#2B2B2B", "#767676", "#C9C9C9", "#E4E4E4", "#EDEDED"
# The same and white, then the palette, on a dark page.
DARK = (
    "#E6E9ED", "#9AA4AF", "#48515B", "#323A43", "#272E36", "#171C22",
    "#4DA9E8", "#FF8B4D", "#2CC695", "#E0A0C4", "#F2B83D", "#8AD0F7", "#B4BBC3", "#D4C93A",
)  # fmt: skip
SMALL = 8.5  # points of small print: 11 pixels, where an inch has 96
HALF = 5.2  # inches: as wide as half a page of a report
NATS = "nats per observation"
DEAD = 0.01  # nats: an element with less says nothing about x

STYLE: dict[Any, Any] = {
    "text.usetex": False,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": PALE,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.prop_cycle": cycler(color=PALETTE),
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": PALE,
    "ytick.color": PALE,
    "xtick.labelcolor": GREY,
    "ytick.labelcolor": GREY,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
    "legend.borderaxespad": 0.0,
    "figure.facecolor": "white",
    "savefig.facecolor": "auto",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
}

_LOCK = threading.RLock()  # matplotlib's settings are the process's: two threads must not exchange theirs


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """``draw`` under this module's style, with the caller's settings back afterwards."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with _LOCK, matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapper


def panels(count: int, *, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """``count`` axes of ``width`` by ``height`` inches each, ``columns`` in a row."""
    rows = -(-count // columns)
    figure = Figure(figsize=(columns * width, rows * height))
    return figure, [figure.add_subplot(rows, columns, i + 1) for i in range(count)]


def describe(figure: Figure, text: str) -> Figure:
    """The figure, with ``text`` as what :func:`alt_text` gives."""
    figure.set_label(text)
    return figure


def note(figure: Figure, text: str) -> None:
    """A line of small print under everything."""
    if text:
        figure.supxlabel(plain(text), x=0.01, ha="left", fontsize=SMALL, color=GREY)


def plain(text: object) -> str:
    """Text as it stands: no mathematics between dollars, no legend entry hidden by its underscore."""
    escaped = str(text).replace("$", r"\$")
    return " " + escaped if escaped.startswith("_") else escaped


def counted(count: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def fractions(panel: Axes, points: np.ndarray) -> np.ndarray:
    """Where points in data coordinates, shape (N, 2), lie in the panel: 0 to 1."""
    panel.get_xlim(), panel.get_ylim()  # a limit not asked for is not yet the one that will be drawn
    return panel.transAxes.inverted().transform(panel.transData.transform(points))


def haloed(text: Text) -> None:
    """White round the letters: readable over lines and points."""
    text.set_path_effects([withStroke(linewidth=2.2, foreground="white")])


def shortened(text: object, width: float, size: float = SMALL) -> str:
    """``text`` cut to about ``width`` inches at a font size in points."""
    most = max(int(width * 72 / (0.62 * size)), 2)
    whole = str(text)
    return plain(whole if len(whole) <= most else whole[: most - 1] + "…")


def z_name(index: int) -> str:
    """The latent's element of that index, counted from 0: z₀, z₁, …"""
    return "z" + str(index).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def number(value: float, digits: int = 1) -> str:
    """``value`` with a proper minus sign and thousands apart."""
    return f"{value:,.{digits}f}".replace("-", "−")


def short(value: float) -> str:
    """``value`` to about three digits, without an exponent where that stays readable."""
    return f"{value:,.0f}".replace("-", "−") if 100 <= abs(value) < 1e6 else f"{value:.3g}".replace("-", "−")


def as_array(x: Array, what: str = "observations") -> np.ndarray:
    """``x`` as numpy numbers.

    Raises:
        TypeError: for anything that is not a tensor or an array of real numbers.
    """
    values = x.detach().cpu() if isinstance(x, Tensor) else x
    if isinstance(values, Tensor) and values.is_floating_point():
        values = values.double() if values.dtype.itemsize == 8 else values.float()
    values = np.asarray(values)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"Expected {what} as a tensor or an array of real numbers; got {type(x).__name__}.")
    return values if values.dtype.kind == "f" else values.astype(np.float32)


def alive_by(nats: np.ndarray, active: Array | None) -> np.ndarray:
    """Which latent elements are alive: as ``active`` says, else those with at least 0.01 nats.

    Raises:
        ValueError: if ``active`` is of another shape.
    """
    if active is None:
        return nats >= DEAD
    alive = as_array(active, "active") > 0
    if alive.shape != nats.shape:
        raise ValueError(f"Expected active of shape {nats.shape}, one for each latent dimension; got {alive.shape}.")
    return alive


def column(rows: Sequence[Row], key: str, default: float | None = None) -> np.ndarray:
    """One number of each row, NaN for None.

    Raises:
        ValueError: if a row lacks it and there is no default.
    """
    if default is None and (missing := [i for i, row in enumerate(rows) if key not in row]):
        raise ValueError(f"Expected {key!r} in every row; got row {missing[0]} with {sorted(rows[missing[0]])}.")
    values = [row.get(key, default) for row in rows]
    return np.array([np.nan if v is None else float(v) for v in values])
