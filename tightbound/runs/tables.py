"""Tables for a plain terminal."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tightbound.evaluate import Estimate

COLUMNS = 80  # of a plain terminal


def of_numbers(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of numbers, ranged right, that fits a plain terminal.

    Args:
        title: above it.
        headings: of the columns.
        rows: their cells.

    Returns:
        Its lines.

    Example:
        >>> print(of_numbers("nats", ("β", "ELBO"), [("1", "-90.0"), ("4", "-99.5")]))
           nats
        β   ELBO
        ────────
        1  -90.0
        4  -99.5
    """
    return rendered(_table(headings, rows, words=0, title=title))


def of_names(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose first column is names, as wide as they are: a terminal breaks lines that are too long for it.

    Args:
        headings: of the columns.
        rows: their cells.

    Returns:
        Its lines.

    Example:
        >>> print(of_names(("run", "ELBO"), [("runs/a", "-90.0")]))
        run      ELBO
        ─────────────
        runs/a  -90.0
    """
    table = _table(headings, rows, words=1)
    return rendered(table, width=max(COLUMNS, Console().measure(table).maximum))


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, words: int, title: str | None = None) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="left" if place < words else "right")
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def rendered(table: Table, *, width: int = COLUMNS) -> str:
    """The lines of a table.

    Args:
        table: any.
        width: in letters; that of a plain terminal by default.
    """
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def brief(found: Estimate) -> str:
    """An estimate with two decimals at most, so that a row fits a terminal.

    Args:
        found: any.

    Example:
        >>> brief(Estimate(-90.0, 0.0123)), brief(Estimate(-90.0, 1.2))
        ('-90.00 ± 0.01', '-90.0 ± 1.2')
    """
    return f"{found.value:.2f} ± {found.se:.2f}" if found.se < 0.1 else str(found)
