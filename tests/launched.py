"""Work for processes started by ``in_processes``, which find it by its name; as a script: starts one after another."""

from __future__ import annotations

import os
import signal
import sys
import time

from tightbound.cli.launch import in_processes


def wrong_for_the_first() -> int:
    """The others lose it."""
    from tightbound.distributed import joined

    with joined() as here:
        if here.is_main:
            raise ValueError("Expected sense; got none.")
        here.wait()
    return 0


def failed_by_all() -> int:
    raise ArithmeticError("At step 1 the loss became nan.")


def failed_by_the_second() -> int:
    if os.environ["RANK"] == "1":
        raise MemoryError("too much")
    time.sleep(60)
    return 0


def killed() -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def interrupted() -> int:
    """The launcher is asked to stop before anything has begun."""
    os.kill(os.getppid(), signal.SIGINT)
    time.sleep(60)
    return 0


if __name__ == "__main__":
    import launched

    for name in sys.argv[1:]:
        print(name, file=sys.stderr, flush=True)
        print(name, in_processes(2, getattr(launched, name)), flush=True)
