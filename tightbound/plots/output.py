"""Figures as PNG: equal figures give equal bytes."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure

from tightbound.files import write_atomically
from tightbound.plots.style import styled

DPI = 150


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


def save(figure: Figure, path: str | Path, *, dpi: int = DPI) -> Path:
    """Write the figure as PNG, making the folders above it.

    Args:
        figure: any matplotlib figure.
        path: a name ending in ``.png``.
        dpi: pixels an inch.

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
    if path.suffix.lower() != ".png":
        raise ValueError(f"Expected a path ending in .png; got {path}.")
    png = to_png(figure, dpi=dpi)
    write_atomically(path, lambda temporary: temporary.write_bytes(png))
    return path
