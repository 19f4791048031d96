"""Does an image cost the same in a large data set as in a small one? Training from 15 000 to 480 000, evaluation too.

784-400-20 under a density for [0, 1], on shifted copies of MNIST, 8-bit and in memory, the same number of steps at each
size, in turn; evaluation and the latent map of growing parts. A fixed number of steps would hide what depends on the
whole set, so that is listed by itself: the permutation, made once a pass, and the look at every value, taken once
before the first step. Draws cost against work to growth.png.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from common import in_turn, pixels, ratios, report, seconds
from torch import Tensor

import tightbound as tb
from tightbound.checks import check_data
from tightbound.distributed import world
from tightbound.progress import Silent
from tightbound.runs import recipe as recipes
from tightbound.runs.build import Config, build_model, build_objective
from tightbound.training.batches import Sampler
from tightbound.training.fit import prepare

TOLERATED = 0.15  # how far the cost of an image may move
SHAPE = (1, 28, 28)
Rows = list[dict[str, Any]]


class Side:
    """Our training loop on some data, a number of steps at a time, without validation."""

    def __init__(self, data: tb.data.Observations, **changes: Any) -> None:
        settings = {"model.likelihood": "continuous-bernoulli", "train.compile": "always", **changes}
        recipe = recipes.load("mnist-tutorial").updated(settings)
        torch.manual_seed(0)
        self.model = build_model(recipe.model, Config(SHAPE))
        self.loop = prepare(self.model, data, build_objective(recipe.objective), recipe.train, 0, None, world())

    def begin(self) -> Side:
        """All that happens before the first step."""
        self.loop.begin()
        return self

    def turn(self, steps: int) -> float:
        """Seconds an image of the next ``steps`` steps."""
        return seconds(lambda: self._run(steps)) / (steps * self.loop.setup.sampler.batch_size)

    def _run(self, steps: int) -> None:
        for _ in range(steps):
            self.loop._step()
            if self.loop.at.number % self.loop.setup.settings.log_every == 0:
                self.loop._look(Silent(), log=True, validation=False)


def images(count: int) -> Tensor:
    """Shape (count, 1, 28, 28), 8-bit: MNIST and shifted copies of it; noise where there is no MNIST."""
    try:
        base = pixels(tb.data.load("mnist").train)
    except ValueError as error:
        print(f"Noise in place of MNIST: {error}")
        base = torch.randint(256, (60_000, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    made = torch.empty(count, *SHAPE, dtype=torch.uint8)
    for copy, part in enumerate(made.split(len(base))):
        part.copy_(base[: len(part)].roll((copy // 5 % 5, copy % 5), (2, 3)))
    return made


def grey(stored: Tensor) -> tb.data.Observations:
    return tb.data.Observations(stored, scale=255)


def training(stored: Tensor, args: argparse.Namespace) -> Rows:
    """Microseconds an image of the same number of steps at each size."""
    sides = {n: Side(grey(stored[:n]), **{"train.compile": args.compile}).begin() for n in args.sizes}
    for side in sides.values():
        side.turn(args.steps // 10 + 1)
    turns = {str(n): partial(side.turn, args.steps) for n, side in sides.items()}
    rows = _rows("training", in_turn(turns, repeats=args.repeats))
    for row, (n, side) in zip(rows, sides.items(), strict=True):
        data, device = side.loop.setup.data, side.loop.step.device
        sampler = Sampler(n, 128, seed=1, device=device)
        look = seconds(partial(check_data, side.model, data))
        row["permutation, µs"] = 1e6 * seconds(partial(sampler.indices, 0)) / n
        row["look at values, µs"] = 1e6 * look / n
    return rows


def evaluation(stored: Tensor, args: argparse.Namespace) -> Rows:
    """Microseconds an image of an evaluation, and of the latent map."""
    model = Side(grey(stored[:1000])).model.eval()
    parts = {str(n): grey(stored[:n]) for n in args.evaluated}

    def judge(data: tb.data.Observations) -> None:
        tb.evaluate.evidence(model, data, samples=args.samples, proposal="posterior")

    def embed(data: tb.data.Observations) -> None:
        model.embed(data)

    rows: Rows = []
    for name, work in {f"evidence, K = {args.samples}": judge, "latent map": embed}.items():
        work(next(iter(parts.values())))
        turns = {n: partial(_each, work, data) for n, data in parts.items()}
        rows += _rows(name, in_turn(turns, repeats=args.repeats))
    return rows


def _each(work: Callable[[tb.data.Observations], None], data: tb.data.Observations) -> float:
    return seconds(partial(work, data)) / len(data)


def _rows(work: str, seen: dict[str, list[float]]) -> Rows:
    first = next(iter(seen.values()))
    middle = {name: sorted(times)[len(times) // 2] for name, times in seen.items()}
    return [
        {
            "work": work,
            "images": int(name),
            "µs an image": 1e6 * middle[name],
            "times the smallest": ratios(times, first),
            "constant": abs(ratios(times, first)["median"] - 1) <= TOLERATED,
            "permutation, µs": "",
            "look at values, µs": "",
        }
        for name, times in seen.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[15_000, 60_000, 120_000, 480_000])
    parser.add_argument("--evaluated", type=int, nargs="+", default=[2_500, 5_000, 10_000, 20_000])
    parser.add_argument("--steps", type=int, default=400, help="at each size, in each turn")
    parser.add_argument("--samples", type=int, default=16, help="K of the evaluation")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--compile", choices=("always", "never"), default="always")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder of growth.png")
    args = parser.parse_args()
    stored = images(max(args.sizes + args.evaluated))
    rows = training(stored, args) + evaluation(stored, args)
    from growth_figure import draw

    args.out.mkdir(parents=True, exist_ok=True)
    draw(rows, TOLERATED, args.out / "growth.png")
    report("growth", rows, {"figure": str(args.out / "growth.png")})


if __name__ == "__main__":
    main()
