"""Gradients beside each other on models of real data: bias, variance, seconds, and what a second buys.

Two models of scikit-learn's digits are trained: one of 16 normal latents, and one of 8 bits, whose 256 codes can be
listed, so that its gradient is known exactly. Then each gradient is asked for the same batch of 64 digits.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import machine

import tightbound as tb
from tightbound.gradients import (
    VIMCO,
    Comparison,
    DoublyReparameterised,
    Enumerate,
    Gradient,
    GumbelSoftmax,
    Pathwise,
    ScoreFunction,
    StickingTheLanding,
    StraightThrough,
    compare,
)
from tightbound.objectives import ELBO

REAL: dict[str, Gradient | ELBO] = {
    "pathwise, rate in closed form": ELBO(kl="closed-form"),
    "pathwise": Pathwise(),
    "sticking the landing": StickingTheLanding(),
    "score, batch baseline": ScoreFunction("batch"),
    "score, leave-one-out": ScoreFunction("leave-one-out"),
}
WEIGHTED = {
    "pathwise": Pathwise(),
    "sticking the landing": StickingTheLanding(),
    "doubly reparameterised": DoublyReparameterised(),
}
BITS: dict[str, Gradient | ELBO] = {
    "score function": ScoreFunction("none"),
    "score, batch baseline": ScoreFunction("batch"),
    "score, leave-one-out": ScoreFunction("leave-one-out"),
    "straight-through": ELBO(kl="closed-form", gradient=StraightThrough()),
    "Gumbel-softmax, t = 0.1": ELBO(kl="closed-form", gradient=GumbelSoftmax(0.1)),
    "Gumbel-softmax, t = 0.5": ELBO(kl="closed-form", gradient=GumbelSoftmax(0.5)),
    "the same, rate of soft codes": GumbelSoftmax(0.5),
    "enumeration": Enumerate(),
}
CODES = {"model.posterior": "bernoulli", "model.latent_dim": 8, "objective.gradient": "enumerate"}


def trained(epochs: float, changes: dict[str, Any]) -> tuple[tb.Model, tb.Batch]:
    """A model of the digits, and a batch of them."""
    with tempfile.TemporaryDirectory() as folder:
        run = tb.train("digits", out=f"{folder}/run", changes={"train.epochs": epochs, **changes}, progress=False)
        return run.model(), run.data().train.eval_batch(0, 64)


def main() -> None:
    """Print the three tables, and draw them where a folder is given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=float, default=60)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--samples", type=int, nargs="+", default=[1, 2, 5, 10, 50])
    parser.add_argument("--out", type=Path, help="a folder for figures and numbers")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    normal, codes = trained(given.epochs, {}), trained(given.epochs, CODES)
    many = [k for k in given.samples if k > 1]
    found: dict[str, Comparison] = {
        "digits": compare(*normal, REAL, samples=given.samples, repeats=given.repeats),
        "digits-iwae": compare(*normal, WEIGHTED, samples=many, repeats=given.repeats, bound=tb.bounds.iwae),
        "digits-8-bits": compare(*codes, BITS, samples=given.samples, repeats=given.repeats),
        "digits-8-bits-iwae": compare(
            *codes, {"score, leave-one-out": ScoreFunction(), "VIMCO": VIMCO()}, samples=many, repeats=given.repeats,
            bound=tb.bounds.iwae,
        ),
    }  # fmt: skip
    for name, each in found.items():
        print(f"\n{name}. {each}")
        if given.out is not None:
            tb.plots.save(tb.plots.gradient_comparison(each), given.out / f"{name}.png")
            (given.out / f"{name}.json").write_text(json.dumps(each.to_json(), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
