"""A piece of work in several processes on this machine."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import uuid
from collections.abc import Callable

from tightbound.exits import guarded

ELASTIC = "torch.distributed.elastic"
QUIET = (f"{ELASTIC}.agent.server.api", f"{ELASTIC}.multiprocessing.api", "torch.multiprocessing.spawn")


def in_processes(count: int, work: Callable[[], int]) -> int:
    """Do the same in each of some processes, as ``torchrun`` would start them, and give the exit code.

    They share the processor's cores between them. When one fails, the others are stopped.
    """
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
    try:
        elastic_launch(config, _work)(work)
    except ChildFailedError as error:
        _, first = error.get_first_failure()
        return first.exitcode if first.exitcode > 0 else 1
    except SignalException:
        return 1
    return 0


def _work(work: Callable[[], int]) -> None:
    if hasattr(os, "setsid"):
        os.setsid()  # out of the terminal's reach: Ctrl-C comes through the launcher, once
    said = io.StringIO()
    with contextlib.nullcontext() if os.environ["RANK"] == "0" else contextlib.redirect_stderr(said):
        code = guarded(work)
    if code != 2:  # a wrong request is wrong for all alike, and the first process says so
        print(said.getvalue(), end="", file=sys.stderr)
    if code:
        sys.exit(code)
