"""Images a second in training: ours against the textbook's loop, the same model on the same data, and the floor.

784-400-20, batch 128, Adam at 1e-3, grey MNIST, PyTorch's own initialisation. Epochs are run in turn. The floor is the
time of the epoch's matrix products alone, in the same precision, measured in the same run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from common import arguments, in_turn, ratios, report
from textbook import epochs as textbook_epochs

import tightbound as tb
from tightbound import recipe as recipes
from tightbound.build import build
from tightbound.conditional import unvalidated
from tightbound.train.trainer import Trainer

BATCH, PIXELS, HIDDEN, LATENT = 128, 784, 400, 20


class Ours:
    """Our loop, an epoch at a time: batches, noise, step, log, snapshot; without validation, as the textbook."""

    def __init__(self, precision: str, epochs: int) -> None:
        recipe = recipes.load("mnist-tutorial").updated(
            {"train.precision": precision, "train.compile": "always", "train.epochs": epochs + 1}
        )
        self.built = build(recipe)
        data = self.built.data
        self.test = data.test
        self.trainer = Trainer(self.built.model, data.train, self.built.objective, recipe.train, 0, None)
        self.trainer.begin(resume=False)

    def epoch(self) -> float:
        """One epoch's seconds."""
        trainer, learner = self.trainer, self.trainer.learner
        start = time.perf_counter()
        with unvalidated():
            for _ in range(trainer.sampler.steps(1)):
                trainer._step()
                if trainer.number % trainer.settings.log_every == 0:
                    trainer._look(_Silent(), log=True, validation=False)
        assert not learner.bad_weight()
        return time.perf_counter() - start

    @torch.no_grad()
    def loss(self) -> float:
        """Test loss in nats per image."""
        found = tb.evaluate.evidence(self.built.model, self.test, samples=1)
        return found.distortion.value + found.rate.value


class _Silent:
    def advance(self, step: int, line: dict) -> None: ...


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


def textbook(images: torch.Tensor, test: torch.Tensor) -> Iterator[tuple[float, float]]:
    """Seconds and test loss of the textbook's epochs; the test is not timed."""
    run = textbook_epochs(images, test)
    while True:
        start = time.perf_counter()
        loss = next(run)
        yield time.perf_counter() - start, loss


def main() -> None:
    args = arguments(__doc__ or "", epochs=3)
    torch.manual_seed(0)
    data = tb.data.load("mnist")
    count = len(data.train)
    sides = {name: Ours(name, args.epochs) for name in ("auto", "float32")}
    baseline = textbook(data.train.stored, data.test.stored)
    losses: dict[str, float] = {}

    def run_textbook() -> float:
        seconds, losses["textbook"] = next(baseline)
        return seconds

    floors: dict[str, list[float]] = {"auto": [], "float32": []}

    def run(name: str) -> float:
        floors[name].append(floor(sides[name].trainer.learner.way.dtype, count))
        return sides[name].epoch()

    seen = in_turn(
        {"textbook": run_textbook, "auto": lambda: run("auto"), "float32": lambda: run("float32")}, repeats=args.epochs
    )
    losses |= {name: side.loss() for name, side in sides.items()}
    rows = []
    for name, times in seen.items():
        middle = sorted(times)[len(times) // 2]
        rows.append(
            {
                "side": name if name == "textbook" else f"{name} ({sides[name].trainer.learner.way.precision})",
                "images/s": round(count / middle),
                "times the textbook": ratios(seen["textbook"], times) if name != "textbook" else 1.0,
                "of the floor": ratios(floors[name], times)["median"] if name != "textbook" else "",
                f"test loss after {args.epochs}": losses[name],
            }
        )
    report("training throughput", rows)


if __name__ == "__main__":
    main()
