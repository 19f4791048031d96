"""A piece of work in several processes on this machine."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from tightbound.cli.errors import guarded
from tightbound.cli.output import prepare

MOST = 4 * (os.cpu_count() or 1) + 8  # processes: more only wait for each other
ELASTIC = "torch.distributed.elastic"
QUIET = (f"{ELASTIC}.agent.server.api", f"{ELASTIC}.multiprocessing.api", "torch.multiprocessing.spawn")


def in_processes(count: int, work: Callable[[], int]) -> int:
    """Do the same in each of some processes, as ``torchrun`` would start them, and give the exit code.

    They share the processor's cores between them. When one fails, the others are stopped; what goes wrong in several
    of them is said once.

    Args:
        count: how many processes; 1 is this one.
        work: what each does; it can be pickled.

    Raises:
        ValueError: for fewer than one, and for more than this machine can do anything with.
    """
    if count < 1:
        raise ValueError(f"Expected --procs of at least 1; got {count}.")
    if count > MOST:
        raise ValueError(
            f"Expected --procs of at most {MOST}, four for each core and a few; got {count}. One for each "
            "GPU, or each core, is the quickest."
        )
    if count == 1:
        return work()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")  # a shared store loses its clients now and then
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # each process says for itself what went wrong
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    if hasattr(config, "signals_to_handle"):  # newer torch
        config.signals_to_handle = "SIGTERM,SIGHUP,SIGQUIT"

    def stop(number: int, frame: object) -> None:
        raise SignalException("", signal.SIGTERM)  # Python prints a traceback where SIGINT meets it early

    before = signal.signal(signal.SIGINT, stop)
    with tempfile.TemporaryDirectory(prefix="tightbound-") as folder:
        silent = ""
        try:
            elastic_launch(config, _work)(work, folder, sys.argv)
        except ChildFailedError:
            silent = "A process was killed; the last checkpoint of a training is kept."
        except SignalException:
            silent = "Stopped."
        finally:
            signal.signal(signal.SIGINT, before)
        return _ended(Path(folder), count, silent)


def _work(work: Callable[[], int], folder: str, words: list[str]) -> None:
    if hasattr(os, "setsid"):
        os.setsid()  # out of the terminal's reach: Ctrl-C comes through the launcher, once
    prepare()
    said: list[str] = []
    rank = os.environ["RANK"]
    debug = "--debug" in words
    with contextlib.nullcontext() if debug or rank == "0" else contextlib.redirect_stderr(io.StringIO()):
        code = guarded(work, debug=debug, tell=said.append)
    (Path(folder) / rank).write_text(json.dumps([code, said]), encoding="utf-8")
    if code:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # all is said; torch's threads, cut short, now and then abort an interpreter that takes its time


def _ended(folder: Path, count: int, silent: str) -> int:
    """Give the exit code, and say what the processes left to say, or what is to be said for one that could not."""
    left = [path for rank in range(count) if (path := folder / str(rank)).exists()]
    ends = [json.loads(path.read_text(encoding="utf-8")) for path in left]
    worst = max(int(len(ends) < count), *(code for code, _ in ends), 0)
    said = [line for code, lines in ends if code == worst for line in lines]
    if len(ends) < count and not said:
        said = [f"tightbound: {silent}"]
    for line in dict.fromkeys(said):
        print(line, file=sys.stderr)
    return worst
