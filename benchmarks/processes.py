"""Images a second in training: one process with all cores against several that share them, and what a message costs.

784-400-20 in float32, uncompiled, on grey MNIST (noise where there is none), at several batch sizes. Each process of
each side is kept alive and told to take its turn, so that sides are timed one after another in one run. The message is
the mean of the gradients over all processes, a float32 for each weight.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.multiprocessing as mp
from common import in_turn, ratios, report, seconds
from growth import Side, grey, images
from torch import Tensor

from tightbound.distributed import joined

KEPT = ("OMP_NUM_THREADS", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Group:
    """Processes that train together, a number of steps at a time.

    Args:
        count: how many.
        cores: of the processor, divided between them.
        port: where they meet.
        settings: what a worker takes besides.
    """

    def __init__(self, count: int, cores: int, port: int, **settings: Any) -> None:
        self.count = count
        context = mp.get_context("spawn")
        self.pipes, self.processes = [], []
        for rank in range(count):
            ours, theirs = context.Pipe()
            values = (str(max(1, cores // count)), str(rank), str(count), "127.0.0.1", str(port))
            os.environ |= dict(zip(KEPT, values, strict=True))
            process = context.Process(target=worker, args=(theirs, settings), daemon=True)
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)
        for name in KEPT:
            del os.environ[name]

    def turn(self, what: str) -> float:
        """The first process's answer, once all have answered."""
        for pipe in self.pipes:
            pipe.send(what)
        first, *_ = [pipe.recv() for pipe in self.pipes]
        return first

    def close(self) -> None:
        """Let the processes end."""
        for pipe in self.pipes:
            pipe.send("end")
        for process in self.processes:
            process.join()


def worker(pipe: Connection, settings: dict[str, Any]) -> None:
    """Answer each request with seconds: of an image in training, or of a message."""
    with joined() as here:
        side = Side(
            grey(settings["stored"]),
            **{"train.compile": "never", "train.precision": "float32", "train.epochs": 1e6},
            **settings["changes"],
        )
        side.begin()
        weights = [torch.zeros_like(w) for w in side.loop.step.weights]
        answers: dict[str, Callable[[], float]] = {
            "steps": lambda: side.turn(settings["steps"]),
            "message": lambda: seconds(lambda: [here.mean(weights, 1) for _ in range(20)]) / 20,
        }
        while (asked := pipe.recv()) in answers:
            here.wait()
            pipe.send(answers[asked]())


def compare(batch: int, stored: Tensor, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of a table for one batch size."""
    steps = max(1, args.images_a_turn // batch)
    settings = {"stored": stored, "steps": steps, "changes": {"train.batch_size": batch}}
    groups = {n: Group(n, os.cpu_count() or 1, args.port + n, **settings) for n in (1, args.processes)}
    for group in groups.values():
        group.turn("steps")
    seen = in_turn({str(n): partial(g.turn, "steps") for n, g in groups.items()}, repeats=args.repeats)
    messages = [groups[args.processes].turn("message") for _ in range(args.repeats)]
    for group in groups.values():
        group.close()
    return [
        {
            "batch": batch,
            "processes": n,
            "images/s": 1 / sorted(seen[str(n)])[args.repeats // 2],
            "times one": ratios(seen["1"], seen[str(n)]) if n > 1 else 1.0,
            "step, ms": 1e3 * batch * sorted(seen[str(n)])[args.repeats // 2],
            "message, ms": 1e3 * sorted(messages)[args.repeats // 2] if n > 1 else 0.0,
        }
        for n in groups
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 1024])
    parser.add_argument("--images", type=int, default=60_000, help="in the data set")
    parser.add_argument("--images-a-turn", type=int, default=60_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--port", type=int, default=29_600)
    args = parser.parse_args()
    stored = images(args.images)
    report("processes", [row for batch in args.batches for row in compare(batch, stored, args)])


if __name__ == "__main__":
    main()
