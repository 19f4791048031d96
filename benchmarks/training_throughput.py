"""Images a second in training: ours against the textbook's loop, the same model on the same data, and the floor.

784-400-20, batch 128, Adam at 1e-3, grey MNIST, PyTorch's own initialisation. Epochs are run in turn. The floor is the
time of the epoch's matrix products alone, in the same precision, measured in the same run. Test losses are means over
several seeds, with their standard errors: one seed differs from the next by more than one side from the other.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from common import arguments, in_turn, pixels, ratios, report
from textbook import epochs as textbook_epochs

import tightbound as tb
from tightbound.distributed import world
from tightbound.progress import Silent
from tightbound.runs import recipe as recipes
from tightbound.runs.build import build
from tightbound.training.fit import prepare

BATCH, PIXELS, HIDDEN, LATENT = 128, 784, 400, 20


class Ours:
    """Our loop, an epoch at a time: batches, noise, step, log, snapshot; without validation, as the textbook."""

    def __init__(self, data: tb.data.Data, precision: str, epochs: int, seed: int = 0) -> None:
        recipe = recipes.load("mnist-tutorial").updated(
            {"train.precision": precision, "train.compile": "always", "train.epochs": epochs + 1, "seed": seed}
        )
        self.built = build(recipe, data)
        data = self.built.data
        self.test = data.test
        self.loop = prepare(self.built.model, data.train, self.built.objective, recipe.train, seed, None, world())
        self.loop.begin()

    def epoch(self) -> float:
        """One epoch's seconds."""
        loop = self.loop
        start = time.perf_counter()
        for _ in range(loop.setup.sampler.steps(1)):
            loop._step()
            if loop.at.number % loop.setup.settings.log_every == 0:
                loop._look(Silent(), log=True, validation=False)
        assert not loop.step.bad_weight()
        return time.perf_counter() - start

    @torch.no_grad()
    def loss(self) -> float:
        """Test loss in nats per image."""
        found = tb.evaluate.evidence(self.built.model, self.test, samples=1, proposal="posterior")
        return found.distortion.value + found.rate.value


def floor(precision: torch.dtype, images: int) -> float:
    """Seconds of the matrix products of one epoch: forward, by weights, by inputs (but not of the pixels)."""
    sizes = [(PIXELS, HIDDEN, 2), (HIDDEN, 2 * LATENT, 3), (LATENT, HIDDEN, 3), (HIDDEN, PIXELS, 3)]
    total = 0.0
    for inputs, outputs, products in sizes:
        x, w = torch.randn(BATCH, inputs).to(precision), torch.randn(outputs, inputs).to(precision)
        g = torch.randn(BATCH, outputs).to(precision)
        works = [lambda x=x, w=w: x @ w.t(), lambda g=g, x=x: g.t() @ x, lambda g=g, w=w: g @ w][:products]
        for work in works:
            times = []
            for _ in range(60):
                start = time.perf_counter()
                work()
                times.append(time.perf_counter() - start)
            total += sorted(times)[len(times) // 4]
    return total * images / BATCH


def textbook(images: torch.Tensor, test: torch.Tensor) -> Iterator[float]:
    """Seconds of the textbook's epochs."""
    run = textbook_epochs(images, test)
    while True:
        start = time.perf_counter()
        next(run)
        yield time.perf_counter() - start


def after(epochs: int, seeds: int, data: tb.data.Data) -> dict[str, list[float]]:
    """Test losses after so many epochs, by side, one for each seed."""
    found: dict[str, list[float]] = {"textbook": [], "auto": [], "float32": []}
    for seed in range(seeds):
        torch.manual_seed(seed)
        *_, last = itertools.islice(textbook_epochs(pixels(data.train), pixels(data.test)), epochs)
        found["textbook"].append(last())
        for name in ("auto", "float32"):
            side = Ours(data, name, epochs, seed)
            for _ in range(epochs):
                side.epoch()
            found[name].append(side.loss())
    return found


def main() -> None:
    args = arguments(__doc__ or "", epochs=3, seeds=3, images=60_000)
    torch.manual_seed(0)
    data = tb.data.load("mnist")
    if args.images < len(data.train):
        data = replace(data, train=data.train.subset(torch.arange(args.images)))
    count = len(data.train)
    sides = {name: Ours(data, name, args.epochs) for name in ("auto", "float32")}
    baseline = textbook(pixels(data.train), pixels(data.test))
    floors: dict[str, list[float]] = {"auto": [], "float32": []}

    def run(name: str) -> float:
        floors[name].append(floor(sides[name].loop.step.execution.dtype, count))
        return sides[name].epoch()

    seen = in_turn(
        {"textbook": lambda: next(baseline), "auto": lambda: run("auto"), "float32": lambda: run("float32")},
        repeats=args.epochs,
    )
    losses = after(3, args.seeds, data)
    rows = []
    for name, times in seen.items():
        middle = sorted(times)[len(times) // 2]
        rows.append(
            {
                "side": name if name == "textbook" else f"{name} ({sides[name].loop.step.execution.precision})",
                "images/s": round(count / middle),
                "times the textbook": ratios(seen["textbook"], times) if name != "textbook" else 1.0,
                "of the floor": ratios(floors[name], times)["median"] if name != "textbook" else "",
                "test loss after 3": statistics.fmean(losses[name]),
                "±": statistics.stdev(losses[name]) / args.seeds**0.5 if args.seeds > 1 else "",
            }
        )
    report("training throughput", rows, {"seeds of the test loss": args.seeds})


if __name__ == "__main__":
    main()
