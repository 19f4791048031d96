"""Runs in processes of their own, to be killed: torch is loaded once, and each run is a fork of what loaded it.

As a module: :class:`Server`. As a script: reads requests, one JSON object a line, and answers with exit statuses.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any


class Server:
    """Starts runs and kills them."""

    def __enter__(self) -> Server:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_one_thread()
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.stdout.close()  # type: ignore[union-attr]
        self._process.wait()

    def __call__(self, verb: str, folder: Path, **request: Any) -> tuple[int, float]:
        """Train or resume a run in a process of its own.

        Args:
            verb: "train" or "resume".
            folder: the run's.
            **request: ``recipe`` as a table, for "train"; ``after``: seconds until it is killed; ``lines``: of metrics
                until ``signal`` is sent; ``at``: how many times what ``hook`` names is done before the process kills
                itself there.

        Returns:
            The exit status, negative for a signal's, and the seconds it took.
        """
        self._process.stdin.write(json.dumps({"verb": verb, "folder": str(folder), **request}) + "\n")  # type: ignore
        self._process.stdin.flush()  # type: ignore[union-attr]
        status, seconds = json.loads(self._process.stdout.readline())  # type: ignore[union-attr]
        return status, seconds


def _one_thread() -> dict[str, str]:
    root = Path(__file__).parents[1]
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(root)}


def serve() -> None:
    """Answer requests until there are none left."""
    import torch
    import torch._dynamo  # which torch.optim imports when it is first used

    from tightbound.data import load
    from tightbound.runs import starting

    torch.set_num_threads(1)
    load("digits")
    for line in sys.stdin:
        request, started = json.loads(line), time.monotonic()
        child = os.fork()
        if child == 0:
            os._exit(_run(starting, request))
        if "after" in request:
            time.sleep(request["after"])
            os.kill(child, signal.SIGKILL)  # waited for below, so its number is still its own
        if "lines" in request:
            _wait_for(request["lines"], Path(request["folder"]) / "metrics.jsonl", child)
            os.kill(child, request["signal"])
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(json.dumps([status, time.monotonic() - started]), flush=True)


def _wait_for(lines: int, metrics: Path, child: int) -> None:
    """Return when the file has so many lines or the process has ended, which it may without being waited for."""
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") >= lines):
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.002)


def _run(starting: Any, request: dict[str, Any]) -> int:
    from tightbound.runs.recipe import from_table
    from tightbound.training.signals import signals_kept

    try:
        if "hook" in request:
            _kill_at(request["hook"], request["at"])
        with signals_kept():
            if request["verb"] == "train":
                ended = starting.train(from_table(request["recipe"]), request["folder"], progress=False).result
            else:
                ended = starting.resume(request["folder"], progress=False).result
        return {"complete": 0, "early": 0, "interrupted": 3}[ended.ended]
    except BaseException:
        traceback.print_exc()
        return 1


def _kill_at(hook: str, at: int) -> None:
    """Let the process kill itself just before it does something for the ``at``-th time."""
    module, name = {"fsync": (os, "fsync"), "replace": (Path, "replace"), "write": (Path, "write_text")}[hook]
    original, count = getattr(module, name), iter(range(at))

    def deadly(*args: Any, **kwargs: Any) -> Any:
        if next(count, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(module, name, deadly)


if __name__ == "__main__":
    serve()
