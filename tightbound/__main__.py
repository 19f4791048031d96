"""``python -m tightbound``, and the command ``tightbound``: the command line."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any


def main() -> int:
    """Run the command line. Ctrl-C ends it in one line, while it loads too; SIGTERM does what Ctrl-C does.

    Returns:
        The exit code: 0 good, 1 the run failed, 2 the request was wrong.
    """
    listens = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if listens:
        signal.signal(signal.SIGINT, _stop)  # an exception out of an import would end in a traceback, or in none
    from tightbound.cli import main as run

    if listens:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    ends = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ends:  # what was measured is then kept
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = run()
    for number, ours in ((signal.SIGINT, listens), (signal.SIGTERM, ends)):
        if ours:
            signal.signal(number, signal.SIG_IGN)  # all is done and said
    return code


def _stop(number: int, frame: Any) -> None:
    os.write(2, b"tightbound: Stopped.\n")
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
