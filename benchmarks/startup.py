"""Seconds until the command line answers, and what importing the library adds to importing torch; whole processes."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

from common import arguments, in_turn, report, seconds

TIGHTBOUND = str(Path(sys.executable).with_name("tightbound"))
COMMANDS = {
    "tightbound --help": [TIGHTBOUND, "--help"],
    "import tightbound": [sys.executable, "-c", "import tightbound"],
    "import torch": [sys.executable, "-c", "import torch"],
    "import tightbound and use it": [
        sys.executable,
        "-c",
        "import tightbound as tb; tb.VAE, tb.fit, tb.evaluate.evidence",
    ],
}


def main() -> None:
    args = arguments(__doc__ or "", repeats=7)

    def side(command: list[str]) -> float:
        return seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))

    seen = in_turn({name: partial(side, command) for name, command in COMMANDS.items()}, repeats=args.repeats)
    rows = [
        {
            "process": name,
            "seconds, median": sorted(times)[len(times) // 2],
            "lowest": min(times),
            "highest": max(times),
        }
        for name, times in seen.items()
    ]
    report("start", rows)


if __name__ == "__main__":
    main()
