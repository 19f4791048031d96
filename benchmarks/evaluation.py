"""Milliseconds an image of a likelihood evaluation, K = 5000, 784-400-20: ours in each precision, and pythae's.

The same trained weights on the same test images for all of ours; pythae's model has the same sizes and its own weights,
which does not change its time. Peak memory is that of the whole process, at two sizes of K and of the test set.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import torch
from common import arguments, in_turn, need, ratios, report, seconds
from memory import peak, peak_of

import tightbound as tb
from tightbound import execution
from tightbound.runs import recipe as recipes
from tightbound.runs.build import build


def model_and_test() -> tuple[tb.VAE, tb.data.Observations]:
    """The textbook's model after one epoch, and binary test images."""
    built = build(recipes.load("mnist-tutorial").updated({"model.likelihood": "bernoulli"}))
    with tempfile.TemporaryDirectory():
        tb.fit(built.model, built.data, objective=built.objective, epochs=1, validation=0, progress=False)
    return built.model.eval(), built.data.test


def ours(model: tb.VAE, test: tb.data.Observations, samples: int, precision: str) -> Callable[[], float]:
    """Seconds of an evaluation."""
    how: dict[str, Any] = {"samples": samples, "proposal": "posterior", "precision": precision}
    return lambda: seconds(lambda: tb.evaluate.evidence(model, test, **how))


def pythae(images: torch.Tensor, samples: int) -> Callable[[], float]:
    """Seconds of pythae's ``get_nll`` on a model of the same sizes."""
    from pythae.models import VAE, VAEConfig

    model = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=20, reconstruction_loss="bce")).eval()
    return lambda: seconds(lambda: model.get_nll(images, n_samples=samples, batch_size=min(samples, 5000)))


def peak_memory(samples: int, images: int) -> float:
    """MiB at the peak of a process of its own."""
    return peak_of(
        "from evaluation import *; model, test = model_and_test();"
        f"few = test.subset(torch.arange({images}));"
        f"tb.evaluate.evidence(model, few, samples={samples}, proposal='posterior', precision='float32')"
    )


def main() -> None:
    args = arguments(__doc__ or "", images=520, samples=5000, repeats=3, memory=0)
    execution.COST = 0.0  # here the evaluations are short and many: compile as a whole test set would
    model, test = model_and_test()
    some = test.subset(torch.arange(args.images))
    sides = {f"ours, {p}": ours(model, some, args.samples, p) for p in ("auto", "float32")}
    for side in sides.values():
        side()  # what the compiler makes once and keeps; each evaluation still asks for it, as users' do
    if need("pythae"):
        few = max(args.images // 40, 1)
        theirs = pythae(some.eval_batch(0, few).x, args.samples)
        sides["pythae"] = lambda: theirs() * args.images / few
    seen = in_turn(sides, repeats=args.repeats)
    rows = []
    for name, times in seen.items():
        row = {"side": name, "ms an image": 1e3 * sorted(times)[len(times) // 2] / args.images}
        if "pythae" in seen:
            row["times pythae"] = ratios(seen["pythae"], times)
        rows.append(row)
    notes = {"process so far, MiB": peak()}
    if args.memory:
        for k, n in ((500, 200), (5000, 200), (500, 2000)):
            notes[f"peak MiB, K = {k}, {n} images"] = peak_memory(k, n)
    report("likelihood evaluation", rows, notes)


if __name__ == "__main__":
    main()
