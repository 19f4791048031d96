"""Ctrl-C and SIGTERM as a question that the training answers when it can, and passes on when it has."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM)
_KEPT = ContextVar("_KEPT", default=False)


class Asked:
    """Which signal has asked a training to stop.

    Attributes:
        number: The signal; None where nobody has asked.
    """

    def __init__(self) -> None:
        self.number: signal.Signals | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Signals ask inside; a second one of the same kind does what it always did.

        A signal that is ignored, as a shell has it for what runs in the background, stays ignored. In a thread other
        than the main one nothing changes, for only there can Python set handlers.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        found = {number: signal.getsignal(number) for number in NUMBERS}
        # None is a handler that was not set from Python, which could not be put back.
        before = {number: old for number, old in found.items() if old not in (signal.SIG_IGN, None)}

        def ask(number: int, frame: Any) -> None:
            self.number = signal.Signals(number)
            signal.signal(number, before[self.number])

        for number in before:
            signal.signal(number, ask)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def pass_on(self) -> None:
        """Let the signal do what it would have done without the training: Ctrl-C is a ``KeyboardInterrupt`` again."""
        if self.number is None or _KEPT.get() or threading.current_thread() is not threading.main_thread():
            return
        signal.raise_signal(self.number)


@contextmanager
def signals_kept() -> Iterator[None]:
    """Inside, a training that a signal has stopped says so in its result, and passes the signal on to nobody.

    Example:
        >>> with signals_kept():
        ...     pass
    """
    token = _KEPT.set(True)
    try:
        yield
    finally:
        _KEPT.reset(token)
