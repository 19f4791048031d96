"""How results look in a notebook: tables, escaped, in the page's own colours, and nothing that runs."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

_CELL = "padding:0.15em 0.8em 0.15em 0;text-align:{};vertical-align:top"


def escaped(value: object) -> str:
    """Text that a page shows as it stands.

    Args:
        value: shown as ``str`` has it.

    Example:
        >>> escaped("<b>")
        '&lt;b&gt;'
    """
    return html.escape(str(value), quote=True)


def table(
    title: str,
    rows: Iterable[Sequence[object]],
    *,
    head: Sequence[str] = (),
    numbers: Sequence[int] = (),
    said: Sequence[str] = (),
) -> str:
    """A table for a notebook.

    Args:
        title: what it is of.
        rows: its cells.
        head: names of its columns.
        numbers: which columns are aligned to the right.
        said: paragraphs below.

    Returns:
        HTML. Everything in it is escaped.

    Example:
        >>> "<td" in table("data", [("x & y", 3)]), "x &amp; y" in table("data", [("x & y", 3)])
        (True, True)
    """
    lines = [_row("th", head, numbers)] if head else []
    lines += [_row("td", row, numbers) for row in rows]
    below = "".join(f"<p style='max-width:60em'>{escaped(text)}</p>" for text in said if text)
    return f"<div><b>{escaped(title)}</b><table style='border-collapse:collapse'>{''.join(lines)}</table>{below}</div>"


def _row(kind: str, cells: Sequence[object], numbers: Sequence[int]) -> str:
    shown = (
        f"<{kind} style='{_CELL.format('right' if place in numbers else 'left')}'>{escaped(cell)}</{kind}>"
        for place, cell in enumerate(cells)
    )
    return f"<tr>{''.join(shown)}</tr>"
