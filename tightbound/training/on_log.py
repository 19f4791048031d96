"""A function of the user's own that is told every line of metrics, and cannot change what it is told of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

OnLog = Callable[[dict[str, Any]], object]


class OnLogError(RuntimeError):
    """``on_log`` has failed. The training has ended, with its state saved; the cause is the error inside.

    Example:
        >>> raise OnLogError(ValueError("no network"), 50, None)
        Traceback (most recent call last):
        tightbound.training.on_log.OnLogError: Expected on_log to take each line of metrics; got ValueError: no ...
    """

    def __init__(self, cause: Exception | None, step: int, folder: Path | None) -> None:
        got = "an error in the first process" if cause is None else f"{type(cause).__name__}: {cause}".rstrip(": ")
        remedy = (
            "Mend it and train again; with out=FOLDER there would be a checkpoint to go on from."
            if folder is None
            else f"The state is saved: mend it, and go on with resume=True, or --resume {folder}."
        )
        super().__init__(f"Expected on_log to take each line of metrics; got {got}, at step {step}. {remedy}")


def require_on_log(on_log: object) -> None:
    """Refuse what cannot be called.

    Args:
        on_log: what was given.

    Raises:
        TypeError: for anything but a function or None.

    Example:
        >>> require_on_log(print)
    """
    if on_log is not None and not callable(on_log):
        raise TypeError(f"Expected a function of one line of metrics as on_log; got {on_log!r}. Write on_log=print.")


def tell(on_log: OnLog, lines: Sequence[dict[str, Any]]) -> Exception | None:
    """Give copies of lines to a function, one by one, until it fails.

    Args:
        on_log: the function.
        lines: of ``metrics.jsonl``.

    Returns:
        What it failed with, or None.

    Example:
        >>> tell(print, [{"step": 1}])
        {'step': 1}
    """
    try:
        with torch.enable_grad():  # and as it was afterwards, whatever the function switches
            for line in lines:
                on_log(dict(line))
    except Exception as error:
        return error
    return None
