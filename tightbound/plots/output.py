"""Figures as PNG and as SVG: equal figures give equal bytes."""

from __future__ import annotations

import io
import re
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from tightbound.files import write_atomically
from tightbound.plots.style import DARK, GREY, GRID, INK, PALE, PALETTE, SHADE, styled

DPI = 150
MANY = 1500  # points from which on an SVG holds them as a picture
_FONTS = '"DejaVu Sans", Verdana, system-ui, sans-serif'  # of one width, where the first is not there


@styled
def to_png(figure: Figure, *, dpi: int = DPI) -> bytes:
    """The figure as PNG, cropped to what is drawn; no date and no version of any software in it.

    Args:
        figure: any matplotlib figure.
        dpi: pixels an inch.

    Returns:
        The file's bytes.

    Raises:
        ValueError: for a resolution that is not positive.

    Example:
        >>> to_png(Figure(figsize=(1, 1)), dpi=20)[:4]
        b'\\x89PNG'
    """
    if not dpi > 0:
        raise ValueError(f"Expected dpi > 0; got {dpi}.")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", pad_inches=0.08, metadata={"Software": None})
    return buffer.getvalue()


@styled
def to_svg(figure: Figure) -> str:
    """The figure as SVG whose colours follow the reader's choice of a light or a dark page.

    Text stays text. The size is in CSS pixels, as if drawn at 96 of them an inch.

    Args:
        figure: any matplotlib figure.

    Returns:
        The file's text, without a date and without a version of any software.

    Example:
        >>> drawn = to_svg(Figure(figsize=(1, 1)))
        >>> drawn[:4], "prefers-color-scheme: dark" in drawn
        ('<svg', True)
    """
    points = [each for panel in figure.axes for each in panel.collections if isinstance(each, PathCollection)]
    before = [(each, each.get_rasterized()) for each in points if len(np.asarray(each.get_offsets())) > MANY]
    buffer = io.StringIO()
    try:
        for each, _ in before:
            each.set_rasterized(True)
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tightbound"}):
            none = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            figure.savefig(buffer, format="svg", dpi=DPI, bbox_inches="tight", pad_inches=0.08, metadata=none)
    finally:
        for each, rasterized in before:
            each.set_rasterized(rasterized)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'\b(width|height)="([0-9.]+)pt"', _in_pixels, text, count=2)
    text = re.sub(r"'DejaVu Sans'|\"DejaVu Sans\"|DejaVu Sans", _FONTS.replace('"', "'"), text)
    for name, light in COLOURS.items():
        text = re.sub(f"{light}\\b", f"var(--{name})", text, flags=re.I)
    light, dark = (" ".join(f"--{name}: {value};" for name, value in each.items()) for each in (COLOURS, DARK_COLOURS))
    style = f"svg {{ {light} }} image {{ image-rendering: pixelated; }}"
    style += f" @media (prefers-color-scheme: dark) {{ svg {{ {dark} }} }}"
    return text.replace(">", f"><style>{style}</style>", 1)


COLOURS = {
    "ink": INK, "soft": GREY, "pale": PALE, "shade": SHADE, "grid": GRID, "paper": "#ffffff",
    **{f"c{place}": colour for place, colour in enumerate(PALETTE)},
}  # fmt: skip
DARK_COLOURS = dict(zip(COLOURS, DARK, strict=True))


def _in_pixels(found: re.Match[str]) -> str:
    return f'{found[1]}="{float(found[2]) * 96 / 72:.1f}"'


def save(figure: Figure, path: str | Path, *, dpi: int = DPI) -> Path:
    """Write the figure as PNG or SVG, making the folders above it.

    Args:
        figure: any matplotlib figure.
        path: a name ending in ``.png`` or ``.svg``.
        dpi: pixels an inch, of PNG.

    Returns:
        The path.

    Raises:
        ValueError: for another ending, or a resolution that is not positive.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(Figure(figsize=(1, 1)), f"{folder}/figures/empty.png", dpi=20).is_file()
        True
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in (".png", ".svg"):
        raise ValueError(f"Expected a path ending in .png or .svg; got {path}.")
    made = to_png(figure, dpi=dpi) if ending == ".png" else to_svg(figure).encode()
    write_atomically(path, lambda temporary: temporary.write_bytes(made))
    return path
