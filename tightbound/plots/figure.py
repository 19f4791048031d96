"""A figure that a notebook shows by itself."""

from __future__ import annotations

import struct

from matplotlib.figure import Figure as AnyFigure

PIXELS = 96  # of CSS, an inch


class Figure(AnyFigure):
    """A matplotlib figure that a notebook shows as the last line of a cell, without any magic.

    Example:
        >>> png, size = Figure(figsize=(1, 1))._repr_png_()
        >>> png[:4], size
        (b'\\x89PNG', {'width': 111, 'height': 111})
    """

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """The picture at twice a page's resolution, with the size in CSS pixels that it is shown at."""
        from tightbound.plots.output import to_png

        made = to_png(self, dpi=2 * PIXELS)
        width, height = struct.unpack(">II", made[16:24])  # of the file's head
        return made, {"width": width // 2, "height": height // 2}
