"""A progress bar on a terminal's standard error; nothing anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(title: str, total: int | None, *, unit: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that says how many more are done.

    Args:
        title: what is going on, in front of the bar.
        total: how many there are to do; None if nobody knows.
        unit: what is counted; "B" for bytes.

    Example:
        >>> with progress("reading", 2, unit="images") as advance:
        ...     advance(2)
    """
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    amount = (DownloadColumn(),) if unit == "B" else (MofNCompleteColumn(), TextColumn(unit))
    columns = (TextColumn("{task.description}"), BarColumn(), *amount, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.advance(task, done)
