"""Sheets of cells: many observations in one pair of axes, whatever their shape. Data coordinates are inches."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from tightbound.plots.figure import Figure
from tightbound.plots.style import BLUE, INK, PALE, PALETTE, SMALL, VERMILION, counted, note, number, shortened

PAGE, NARROW = 7.6, 4.9  # inches: of sheets whose rows or columns have names, and of others
MOST = 1024  # cells: beyond, nobody sees anything
Limits = tuple[float, float]


@dataclass(frozen=True)
class Sheet:
    """Where the cells are.

    Args:
        figure: what they are drawn on.
        axes: the only axes, in inches, downwards.
        shape: rows, columns.
        width: of one cell's picture.
        height: of one cell's picture.
        head: room for a title above it.
        gap: between cells.
    """

    figure: Figure
    axes: Axes
    shape: tuple[int, int]
    width: float
    height: float
    head: float
    gap: float

    def corner(self, index: int) -> tuple[float, float]:
        """Left and top of the picture in a cell."""
        row, col = divmod(index, self.shape[1])
        return col * (self.width + self.gap), row * (self.height + self.head + self.gap) + self.head

    def extent(self, index: int) -> tuple[float, float, float, float]:
        """Left, right, bottom, top of the picture in a cell, as ``imshow`` wants them."""
        left, top = self.corner(index)
        return left, left + self.width, top + self.height, top

    def label_rows(self, labels: Sequence[str], colours: Sequence[str] = ()) -> None:
        middles = [self.corner(row * self.shape[1])[1] + self.height / 2 for row in range(len(labels))]
        self.axes.set_yticks(middles, list(labels))
        self._grow(0.075 * max(map(len, labels)), 0)
        for tick, colour in zip(self.axes.get_yticklabels(), colours, strict=False):
            tick.set_color(colour)

    def label_columns(self, labels: Sequence[str], name: str = "") -> None:
        middles = [self.corner(col)[0] + self.width / 2 for col in range(len(labels))]
        self.axes.set_xticks(middles, list(labels))
        self.axes.set_xlabel(name)
        self.axes.xaxis.set_label_position("top")
        self._grow(0, 0.25 if "\n" not in labels[0] else 0.4)

    def note(self, text: str) -> None:
        """A line of small print under everything."""
        if text:
            note(self.figure, text)
            self._grow(0, 0.25)

    def _grow(self, right: float, down: float) -> None:
        width, height = self.figure.get_size_inches()
        self.figure.set_size_inches(width + right, height + down)

    def title(self, index: int, text: object) -> None:
        left, top = self.corner(index)
        words = shortened(text, self.width + self.gap)
        self.axes.text(left + self.width / 2, top - 0.03, words, ha="center", va="bottom", fontsize=SMALL, color=INK)

    def frame(self, index: int, colour: str, width: float = 1.6) -> None:
        left, top = self.corner(index)
        edge = Rectangle((left, top), self.width, self.height, fill=False, edgecolor=colour, linewidth=width)
        self.axes.add_patch(edge)

    def fade(self, row: int) -> None:
        """Grey a row out."""
        self._veil(row, 0, 0.68)

    def clear(self, row: int, start: int) -> None:
        """Leave a row empty from a column on."""
        if start < self.shape[1]:
            self._veil(row, start, 1.0)

    def _veil(self, row: int, start: int, alpha: float) -> None:
        left, top = self.corner(row * self.shape[1] + start)
        width = self.corner(self.shape[1] - 1)[0] + self.width - left
        edge = 0.02 if alpha == 1 else 0.0  # with the frame of what it hides
        corner, size = (left - edge, top - edge), (width + 2 * edge, self.height + 2 * edge)
        self.axes.add_patch(Rectangle(corner, *size, facecolor="white", alpha=alpha, linewidth=0, zorder=5))


def sheet(
    x: np.ndarray,
    columns: int | None = None,
    *,
    limits: Limits | None = None,
    second: np.ndarray | None = None,
    head: float = 0.0,
    gap: float | None = None,
    page: float = NARROW,
) -> Sheet:
    """Draw ``x`` (N, *shape) row by row; ``second`` is laid over it where observations are lines.

    Raises:
        ValueError: for no observations, too many, columns below 1, or limits that are not (low, high).
    """
    _check(x, columns, limits)
    pictures = _pictures(x)
    lines = None if pictures is not None else _lines(x)
    tall = 0.55 if pictures is None else min(max(pictures.shape[1] / pictures.shape[2], 0.25), 4.0)
    columns = min(columns or _columns(len(x), tall, few=pictures is None), len(x))
    width = min(page / columns, 1.9 if pictures is None else 1.2)
    made = _empty((-(-len(x) // columns), columns), width, tall, head, gap)
    if pictures is not None:
        beside = x.ndim == 4 and x.shape[1] > 1 and pictures.shape[2] == x.shape[1] * x.shape[3]
        words = f"{x.shape[1]} channels side by side. " if beside else ""
        made.note((words + _draw_pictures(made, pictures, limits)).strip())
    elif lines is not None:
        made.note(_draw_lines(made, lines, limits, None if second is None else _lines(second)))
    return made


def is_lines(x: np.ndarray) -> bool:
    """Whether observations of this kind are drawn as lines."""
    return _pictures(x) is None


def _check(x: np.ndarray, columns: int | None, limits: Limits | None) -> None:
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"Expected observations of shape (N, ...); got {x.shape}. For a single one: x[None].")
    if len(x) > MOST:
        raise ValueError(f"Expected at most {MOST} observations in one figure; got {len(x)}. Choose some: x[:64].")
    require_columns(columns)
    if limits is not None and not limits[0] < limits[1]:
        raise ValueError(f"Expected limits (low, high) with low < high; got {limits}.")


def require_columns(columns: int | None) -> None:
    """Refuse what is no number of columns.

    Raises:
        TypeError: for what is no whole number.
        ValueError: for less than one.
    """
    if columns is None:
        return
    if isinstance(columns, bool) or not isinstance(columns, numbers.Integral):
        raise TypeError(f"Expected columns as a whole number; got {columns!r}.")
    if columns < 1:
        raise ValueError(f"Expected columns >= 1; got {columns}.")


def filled(row: np.ndarray, columns: int) -> np.ndarray:
    """A row as long as the others; what is added shows nothing of its own."""
    return np.concatenate([row, np.repeat(row[-1:], columns - len(row), 0)])


def _columns(count: int, tall: float, *, few: bool) -> int:
    return min(max(math.ceil(math.sqrt(count * tall)), 1), 4) if few else math.ceil(math.sqrt(count * max(tall, 0.5)))


def _pictures(x: np.ndarray) -> np.ndarray | None:
    """``x`` as (N, height, width, 1 or 3), or None where lines say more."""
    shape = x.shape[1:]
    if len(shape) == 2:
        return x[..., None] if min(shape) > 3 else None
    if len(shape) == 3 and min(shape[1:]) > 1 and shape[0] in (1, 3):
        return np.moveaxis(x, 1, -1)
    if len(shape) == 3 and min(shape[:2]) > 3 and shape[2] in (1, 3):
        return x
    if len(shape) == 3 and min(shape[1:]) > 1:  # other numbers of channels stand side by side
        return np.moveaxis(x, 1, 2).reshape(len(x), shape[1], -1, 1)
    return x.reshape(len(x), -1, shape[-1], 1) if len([n for n in shape if n > 1]) > 2 else None


def _lines(x: np.ndarray) -> np.ndarray:
    """``x`` as (N, series, elements): of two axes the longer is the one along which series go."""
    if x.ndim == 3 and x.shape[1] > x.shape[2]:
        x = np.moveaxis(x, 1, 2)
    return x.reshape(len(x), -1, x.shape[-1])


def _empty(shape: tuple[int, int], width: float, tall: float, head: float, gap: float | None) -> Sheet:
    gap = 0.05 * width if gap is None else gap
    rows, columns = shape
    across, down = columns * (width + gap) - gap, rows * (width * tall + head + gap) - gap
    figure = Figure(figsize=(across + 0.3, down + 0.3))
    axes = figure.add_subplot()
    axes.set(xlim=(-0.02, across + 0.02), ylim=(down + 0.02, -0.02), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    return Sheet(figure, axes, shape, width, width * tall, head, gap)


def _draw_pictures(made: Sheet, pictures: np.ndarray, limits: Limits | None) -> str:
    pictures = _thinned(pictures)
    low, high = limits or limits_of(pictures)
    shown = np.clip((pictures - low) / (high - low), 0, 1)
    bad = ~np.isfinite(shown).all(-1)
    shown = np.repeat(shown, 3, -1) if shown.shape[-1] == 1 else shown
    shown[bad] = [0xD5 / 255, 0x5E / 255, 0]
    for index, picture in enumerate(shown):
        made.axes.imshow(picture, extent=made.extent(index), aspect="equal", interpolation="nearest")
    scale = "" if (low, high) == (0, 1) else f"Black is {low:.3g}, white {high:.3g}. "
    return (scale + ("Vermilion is not a finite number." if bad.any() else "")).replace("-", "−").strip()


def _thinned(pictures: np.ndarray) -> np.ndarray:
    """Means over squares of pixels that would fall on one pixel of the figure anyway."""
    by = max(min(pictures.shape[1:3]) // 256, 1)
    if by == 1:
        return pictures
    count, height, width, channels = pictures.shape
    whole = pictures[:, : height // by * by, : width // by * by]
    return whole.reshape(count, height // by, by, width // by, by, channels).mean((2, 4))


def limits_of(x: np.ndarray) -> Limits:
    """(0, 1) for values within it, else the smallest and the largest finite value."""
    finite = x[np.isfinite(x)]
    if finite.size == 0 or (finite.min() >= 0 and finite.max() <= 1):
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _draw_lines(made: Sheet, lines: np.ndarray, limits: Limits | None, second: np.ndarray | None) -> str:
    everything = lines if second is None else np.concatenate([lines, second])
    low, high, words = _scale(everything, limits)
    elements = lines.shape[-1]
    along = np.array([0.5]) if elements == 1 else np.linspace(0.04, 0.96, elements)
    marker, size = ("o", 2.2 if elements > 1 else 4) if elements <= 40 else ("", 0)
    for index in range(len(lines)):
        made.frame(index, PALE, 0.8)
        left, top = made.corner(index)
        overlaid = [] if second is None else [(second[index], (VERMILION,), 1.0)]
        colours, thickness = (PALETTE, 1.1) if second is None else ((BLUE,), 2.0)
        for several, hues, lw in [(lines[index], colours, thickness), *overlaid]:
            for series, values in enumerate(several):
                at = (values - low[series]) / (high[series] - low[series])
                y = top + made.height * (0.94 - 0.88 * np.clip(at, -0.05, 1.05))
                hue = hues[series % len(hues)]
                made.axes.plot(left + made.width * along, y, marker=marker, ms=size, lw=lw, color=hue)
    return words


def _scale(lines: np.ndarray, limits: Limits | None) -> tuple[np.ndarray, np.ndarray, str]:
    """What the bottom and the top of a cell mean for each series (and element), and that in words."""
    shape = lines.shape[1:]
    finite = np.where(np.isfinite(lines), lines, np.nan)
    nothing = np.isnan(finite).all(0)
    filled = np.where(nothing, 0, finite)
    low, high = np.nanmin(filled, 0), np.nanmax(filled, 0)
    ranges = (high - low)[high > low]
    # Columns of a table come in units of their own; a shared scale would flatten all but the largest.
    if limits is None and len(ranges) > 1 and 0 < np.median(ranges) < ranges.max() / 100:
        flat = high == low
        words = (
            f"{counted(shape[-1], 'element')} from left to right, each between its own smallest and largest value here."
        )
        return np.where(flat, low - 0.5, low), np.where(flat, high + 0.5, high), words
    whole = limits or limits_of(filled)
    words = (
        f"{counted(shape[-1], 'element')} from left to right; bottom {number(whole[0], 2)}, top {number(whole[1], 2)}."
    )
    return np.full(shape, whole[0]), np.full(shape, whole[1]), words
