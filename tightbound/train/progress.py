"""What a person sees while a model trains: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol


class Progress(Protocol):
    """What the loop tells while it works."""

    def advance(self, step: int, line: dict[str, Any]) -> None:
        """A line of metrics was written at ``step``."""
        ...

    def close(self) -> None:
        """The training is over."""
        ...


class Silent:
    """Nothing is shown."""

    def advance(self, step: int, line: dict[str, Any]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Lines:
    """A plain line for each validation, no more than one in ``seconds``: for logs and pipes.

    Args:
        steps: how many there are in all.
        seconds: the shortest time between two lines.
    """

    def __init__(self, steps: int, *, seconds: float = 2.0) -> None:
        self.steps, self.seconds = steps, seconds
        self._said, self._last = float("-inf"), ""

    def advance(self, step: int, line: dict[str, Any]) -> None:
        """Print the line if it is time."""
        self._last = f"step {step}/{self.steps}  epoch {line['epoch']:.4g}  {describe(line)}"
        if line["split"] == "validation" and time.monotonic() - self._said >= self.seconds:
            self._print()

    def close(self) -> None:
        """Print the last line if it was not yet."""
        self._print()

    def _print(self) -> None:
        if self._last:
            print(self._last, file=sys.stderr, flush=True)
        self._said, self._last = time.monotonic(), ""


class Bar:
    """A progress bar with the loss, distortion and rate apart.

    Args:
        steps: how many there are in all.
        done: where the training begins.
    """

    def __init__(self, steps: int, *, done: int = 0) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = ("training", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[text]}"))
        self._bar = RichProgress(*columns, console=Console(stderr=True))
        self._task = self._bar.add_task("training", total=steps, completed=done, text="")
        self._texts: dict[str, str] = {}
        self._bar.start()

    def advance(self, step: int, line: dict[str, Any]) -> None:
        """Move the bar."""
        self._texts[line["split"]] = describe(line)
        self._bar.update(self._task, completed=step, text=" │ ".join(self._texts.values()))

    def close(self) -> None:
        """Take the bar down."""
        self._bar.stop()


def describe(line: dict[str, Any]) -> str:
    """A line of metrics in words.

    Example:
        >>> describe({"split": "train", "loss": 3.0, "distortion": 2.0, "rate": 1.0, "step": 1})
        'train loss 3.00 (distortion 2.00, rate 1.00)'
    """
    number = {key: "?" if line.get(key) is None else f"{line[key]:.2f}" for key in ("loss", "distortion", "rate")}
    return f"{line['split']} loss {number['loss']} (distortion {number['distortion']}, rate {number['rate']})"


def progress_for(steps: int, done: int, *, show: bool) -> Progress:
    """A bar on a terminal, lines elsewhere, nothing where nothing is wanted."""
    if not show:
        return Silent()
    return Bar(steps, done=done) if sys.stderr.isatty() else Lines(steps)
