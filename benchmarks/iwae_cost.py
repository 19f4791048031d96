"""What K samples cost in training: time and memory of a step of the importance-weighted objective, beside K = 1.

A step with micro_batch decodes so many draws at a time, and again for the gradient. Time is that of the compiled step;
a good implementation takes at most K times as long as for K = 1. Memory is that of the uncompiled step, since compiling
has a peak of its own: that of a process of its own, less that of the process for K = 1. ``--compile 0`` does without.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from common import arguments, in_turn, ratios, report, seconds
from memory import peak_of

from tightbound.batch import Batch
from tightbound.data import Observations
from tightbound.execution import Execution, multiplies_bfloat16
from tightbound.objectives import IWAE
from tightbound.runs import recipe as recipes
from tightbound.runs.build import Config, build_model
from tightbound.settings import Training
from tightbound.training.step import TrainStep

CPU, SHAPE = torch.device("cpu"), (1, 28, 28)


def steps(samples: int, micro_batch: int, batch_size: int, execution: Execution) -> Callable[[int], float]:
    """Seconds of so many steps of the recipe's model, on noise: reading the data would be the peak of memory."""
    x = torch.rand(batch_size, *SHAPE).round()
    model = build_model(recipes.load("mnist-iwae").model, Config(SHAPE), observations=Observations(x))
    batch = Batch(x, checked=True)
    step = TrainStep(model, IWAE(samples), Training(micro_batch=micro_batch), steps=10**6, device=CPU)
    step.use(execution)

    def run(count: int) -> float:
        return seconds(lambda: [step.step(batch, number) for number in range(count)])

    return run


def a_step(run: Callable[[int], float], count: int) -> float:
    """Seconds of one of ``count`` steps."""
    return run(count) / count


def peak_memory(samples: int, micro_batch: int, batch_size: int, precision: str) -> float:
    """MiB at the peak of a process of its own."""
    given = f"{samples}, {micro_batch}, {batch_size}, Execution({precision!r})"
    return peak_of(f"from iwae_cost import *; steps({given})(3)")


def timed(args: argparse.Namespace, precision: str) -> list[dict[str, Any]]:
    """Rows of the table for one precision."""
    sides: dict[str, Callable[[], float]] = {}
    for samples, rows in ((1, 0), (args.samples, 0), (args.samples, args.micro_batch)):
        run = steps(samples, rows, args.batch_size, Execution(precision, compiled=bool(args.compile)))
        run(args.steps)  # compile, or warm up
        sides[f"K = {samples}" + f", micro_batch={rows}" * bool(rows)] = partial(a_step, run, args.steps)
    seen = in_turn(sides, repeats=args.repeats)
    return [
        {
            "objective": f"IWAE, {name}",
            "precision": precision,
            "ms a step": 1e3 * sorted(times)[len(times) // 2],
            "times K = 1": ratios(times, seen["K = 1"]),
        }
        for name, times in seen.items()
    ]


def main() -> None:
    sizes = {"samples": 50, "batch_size": 100, "micro_batch": 1000}
    args = arguments(__doc__ or "", **sizes, steps=10, repeats=5, memory=1, compile=1)
    precisions = ["float32", *(["bfloat16"] if multiplies_bfloat16(CPU) else [])]
    rows = [row for precision in precisions for row in timed(args, precision)]
    notes: dict[str, Any] = {"target": f"K = {args.samples} at most {args.samples} times K = 1"}
    if args.memory:
        first = peak_memory(1, 0, args.batch_size, "float32")
        for samples in (args.samples, 10 * args.samples):
            for micro_batch in (0, args.micro_batch):
                more = peak_memory(samples, micro_batch, args.batch_size, "float32") - first
                notes[f"peak MiB over K = 1, K = {samples}, micro_batch={micro_batch}"] = more
    report("cost of samples", rows, notes)


if __name__ == "__main__":
    main()
