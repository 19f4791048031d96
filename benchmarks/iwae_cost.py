"""What K samples cost in training: seconds of a step of the importance-weighted objective, over those of K = 1."""

from __future__ import annotations

import torch
from common import arguments, in_turn, ratios, report, seconds

from tightbound import recipe as recipes
from tightbound.build import build
from tightbound.conditional import unvalidated
from tightbound.objectives import IWAE
from tightbound.settings import Training
from tightbound.train.step import Learner
from tightbound.train.way import Way


def main() -> None:
    args = arguments(__doc__ or "", samples=50, batch_size=100, steps=10, repeats=5)
    built = build(recipes.load("mnist-iwae"))
    x = built.data.train.visit(torch.arange(args.batch_size))
    sides = {}
    for samples in (1, args.samples):
        learner = Learner(built.model, IWAE(samples), Training(), steps=10**6, device=torch.device("cpu"))
        learner.use(Way("float32", compiled=True))

        def side(learner: Learner = learner) -> float:
            with unvalidated():
                return seconds(lambda: [learner.step(x, number) for number in range(args.steps)]) / args.steps

        side()
        sides[f"K = {samples}"] = side
    seen = in_turn(sides, repeats=args.repeats)
    first = seen["K = 1"]
    rows = [
        {
            "objective": f"IWAE, {name}",
            "ms a step": 1e3 * sorted(times)[len(times) // 2],
            "times K = 1": ratios(times, first),
        }
        for name, times in seen.items()
    ]
    report("cost of samples", rows)


if __name__ == "__main__":
    main()
