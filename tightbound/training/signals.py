"""Ctrl-C and SIGTERM as a question that the training answers when it can."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def catching_signals() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM ask the loop to stop after the step; a second one of the same kind does what it always did."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only there can handlers be set
        yield asked
        return
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: Any) -> None:
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
