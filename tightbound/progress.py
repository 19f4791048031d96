"""What a person sees while something takes long: a bar on a terminal, plain lines elsewhere. No torch here."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol


class Progress(Protocol):
    """What the loop tells while it works."""

    def advance(self, step: int, line: dict[str, Any]) -> None:
        """A line of metrics was written.

        Args:
            step: at which step.
            line: of ``metrics.jsonl``.
        """
        ...

    def note(self, text: str) -> None:
        """Something is to be said, unless it is empty.

        Args:
            text: a sentence.
        """
        ...

    def close(self) -> None:
        """The training is over."""
        ...


class Silent:
    """Nothing is shown.

    Example:
        >>> Silent().close()
    """

    def advance(self, step: int, line: dict[str, Any]) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Lines:
    """Plain lines for logs and pipes: one for each twentieth of the steps, and one at least every ten minutes.

    Validations are told where they come often enough, training's own lines in between. Where nobody reads any more,
    training goes on in silence.

    Args:
        steps: how many there are in all.
        done: where the training begins.
        count: how many lines to print, about.
        seconds: the longest silence.

    Example:
        >>> Lines(100).close()
    """

    def __init__(self, steps: int, *, done: int = 0, count: int = 20, seconds: float = 600.0) -> None:
        self.steps, self.every, self.seconds = steps, max(steps / count, 1.0), seconds
        self._next, self._validated = done + self.every, done
        self._said, self._heard = time.monotonic(), True
        self._step, self._last, self._held = done, "", ""

    def advance(self, step: int, line: dict[str, Any]) -> None:
        """Print the line if it is time, a line of training only once no validation of the same step has followed."""
        validated = line["split"] == "validation"
        replaced = validated and step == self._step and bool(self._held)
        if not replaced:
            self._print(self._held)
        waits = not validated and step - self._validated < 2 * self.every  # for the next validation, which says more
        due = replaced or (step >= self._next and not waits) or time.monotonic() - self._said >= self.seconds
        self._last = f"step {step}/{self.steps}  epoch {line['epoch']:.4g}  {describe(line)}"
        self._step, self._held = step, "" if validated or not due else self._last
        self._validated = step if validated else self._validated
        if due:
            self._next = step + self.every
            self._print("" if self._held else self._last)

    def note(self, text: str) -> None:
        """Print it now, behind what was held back."""
        if text:
            self._print(self._held)
            self._print(text)

    def close(self) -> None:
        """Print the last line if it was not yet."""
        self._print(self._last)

    def _print(self, text: str) -> None:
        if not text:
            return
        if self._heard:
            try:
                print(text, file=sys.stderr, flush=True)
            except BrokenPipeError:
                self._heard = False
        self._said, self._held = time.monotonic(), ""
        self._last = "" if text == self._last else self._last


class Bar:
    """A progress bar with the loss, and where the terminal is wide enough distortion and rate apart.

    Args:
        steps: how many there are in all.
        done: where the training begins.
    """

    WIDE = 110  # columns that the bar and both terms take

    def __init__(self, steps: int, *, done: int = 0) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            "training",
            BarColumn(20),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
        )
        self._bar = RichProgress(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task("training", total=steps, completed=done, text="")
        self._lines: dict[str, dict[str, Any]] = {}
        self._bar.start()

    def advance(self, step: int, line: dict[str, Any]) -> None:
        """Move the bar."""
        self._lines[line["split"]] = line
        wide = self._bar.console.width >= self.WIDE
        shown = describe(self._lines.get("validation", line)) if wide else "  ".join(map(_brief, self._lines.values()))
        self._bar.update(self._task, completed=step, text=shown)

    def note(self, text: str) -> None:
        """Print it above the bar."""
        if text:
            self._bar.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        """Take the bar down."""
        self._bar.stop()


def _brief(line: dict[str, Any]) -> str:
    return f"{line['split']} {_number(line, 'loss')}"


def _number(line: dict[str, Any], key: str) -> str:
    return "?" if line.get(key) is None else f"{line[key]:.2f}"


def describe(line: dict[str, Any]) -> str:
    """A line of metrics in words.

    Args:
        line: of ``metrics.jsonl``.

    Example:
        >>> describe({"split": "train", "loss": 3.0, "distortion": 2.0, "rate": 1.0, "step": 1})
        'train loss 3.00 (distortion 2.00, rate 1.00)'
    """
    loss, distortion, rate = (_number(line, key) for key in ("loss", "distortion", "rate"))
    return f"{line['split']} loss {loss} (distortion {distortion}, rate {rate})"


def progress_for(steps: int, done: int, *, show: bool) -> Progress:
    """What shows a training: a bar on a terminal, lines elsewhere, nothing where nothing is wanted.

    Args:
        steps: how many there are in all.
        done: where the training begins.
        show: whether anything is wanted.

    Example:
        >>> type(progress_for(10, 0, show=False)).__name__
        'Silent'
    """
    if not show:
        return Silent()
    return Bar(steps, done=done) if sys.stderr.isatty() else Lines(steps, done=done)


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


@contextmanager
def evaluating(total: int, *, show: bool = True, seconds: float = 20.0) -> Iterator[Callable[[int, int], None] | None]:
    """Yield a function that is told how many observations are evaluated; None where nothing is shown.

    Args:
        total: how many there are.
        show: whether anything is shown: a bar on a terminal, elsewhere a plain line now and then.
        seconds: the least time between two lines, so that a short evaluation says nothing.

    Example:
        >>> with evaluating(2, show=False) as tell:
        ...     print(tell)
        None
    """
    if not show:
        yield None
        return
    if not sys.stderr.isatty():
        yield _now_and_then(seconds)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("evaluating", total=total)
        yield lambda done, of: bar.update(task, completed=done)


def _now_and_then(seconds: float) -> Callable[[int, int], None]:
    """Lines that come at most so often."""
    said = time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal said
        if time.monotonic() - said > seconds:
            print(f"evaluated {done} of {of} observations", file=sys.stderr, flush=True)
            said = time.monotonic()

    return tell
