"""Test NLL over seconds of training: a recipe through our loop, the textbook's loop, and pythae's trainer.

One network from one start, Bernoulli pixels drawn anew at each visit, one evaluator. The clock runs from before a
trainer or loader is made, so that our validation counts, and compiling (as the compiler's cache finds it); it stands
still while a model is scored. Ours is scored by its averaged weights, at its end by those that the loop leaves. The
others see the whole training set in batches of 128, with Adam at 1e-3 and no schedule, until ``--seconds`` are spent;
their prior is the standard normal, which is all they know.

Sides run one after another: leave the machine alone. ``--epochs 0`` is the recipe's own number; choose one that fills
``--seconds``. With ``--final 1`` each side's end is scored on all test images with K = 5000 as well.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from common import Watch, arguments, machine, need, networks, pixels, report
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator
from textbook import Pictures
from torch.utils.data import DataLoader

import tightbound as tb
from tightbound.distributed import world
from tightbound.evaluate.results import Estimate
from tightbound.plots.style import BLUE, GREEN, GREY, INK, VERMILION, haloed, note, panels, styled
from tightbound.runs import recipe as recipes
from tightbound.runs.build import Built, build
from tightbound.runtime import resolve_device
from tightbound.training.fit import prepare
from tightbound.training.loop import Loop
from tightbound.training.signals import Asked

SHARES = (0.01, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0)  # of the budget, where models are scored
PAPER = 86.76
SOURCE = f"{PAPER}: one-layer VAE of the IWAE paper (Burda et al. 2015), 3280 epochs"
LEVELS = (90.0, 88.0, PAPER)
BATCH, RATE = 128, 1e-3
COLOURS = {"tightbound": BLUE, "textbook's loop": VERMILION, "pythae's trainer": GREEN}
Curve = list[tuple[float, Estimate]]
Side = Callable[[Built, tb.VAE, Watch], None]


class Scoring:
    """A display of the loop's progress that scores averaged weights, as its validation does."""

    def __init__(self, loop: Loop, watch: Watch) -> None:
        self.loop, self.watch = loop, watch

    def advance(self, step: int, line: dict[str, Any]) -> None:
        if step < self.loop.setup.steps and self.watch.due():
            self.loop.step.swap_average()
            self.watch.look(self.loop.step.model)
            self.loop.step.swap_average()

    def note(self, text: str) -> None: ...

    def close(self) -> None: ...


def ours(built: Built, model: tb.VAE, watch: Watch) -> None:
    """The recipe to its end."""
    recipe = built.recipe
    loop = prepare(model, built.data.train, built.objective, recipe.train, recipe.seed, None, world())
    loop.begin()
    loop.run(Asked(), Scoring(loop, watch))
    watch.look(model)


def textbook(built: Built, model: tb.VAE, watch: Watch) -> None:
    """A picture at a time, eager, the loss written out, `.item()` at each step."""
    torch.manual_seed(built.recipe.seed)
    device, total = resolve_device("auto"), 0.0
    loader = DataLoader(Pictures(pixels(built.data.train)), BATCH, shuffle=True)
    optimizer = torch.optim.Adam(model.to(device).parameters(), lr=RATE)
    encoder, decoder = networks(model)
    while True:
        for grey in loader:
            x = torch.bernoulli(grey.to(device))
            mean, log_variance = encoder(x).chunk(2, -1)
            z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            rate = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
            loss = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum") + rate
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            if watch.over(model):
                return


def pythae() -> Side:
    """pythae's trainer around the same networks; its import is not on the clock."""
    from pythae_trainer import train

    def side(built: Built, model: tb.VAE, watch: Watch) -> None:
        settings = {"learning_rate": RATE, "per_device_train_batch_size": BATCH, "seed": built.recipe.seed}
        encoder, decoder = networks(model)
        train(encoder, decoder, built.data.train, lambda: watch.over(model), **settings)

    return side


def build_for_all(name: str, epochs: float) -> Built:
    """The recipe's model and data, if the textbook's loss is right for them."""
    recipe = recipes.load(name)
    built = build(recipe.updated({"train.epochs": epochs}) if epochs else recipe)
    found = (*(getattr(built.recipe.model, part) for part in ("likelihood", "posterior")), *built.config.shape)
    if found != ("bernoulli", "diagonal-normal", 1, 28, 28):
        raise SystemExit(f"Expected binary MNIST and a diagonal normal, as in mnist; got {found} in {name}.")
    return built


def reached(curve: Curve, level: float) -> float | str:
    """Seconds at which the figure's line meets a level: straight between checkpoints, over log-seconds."""
    if curve[0][1].value <= level:
        return curve[0][0]
    for (t, a), (u, b) in pairwise(curve):
        if b.value <= level:
            return t * (u / t) ** ((a.value - level) / (a.value - b.value))
    return "not reached"


@styled
def figure(curves: dict[str, Curve], small_print: str) -> Figure:
    """NLL over log-seconds, a line for each side, and the paper's figure."""
    whole, (panel,) = panels(1, columns=1, width=6.6, height=4.2)
    for name, curve in curves.items():
        seconds, nll = [t for t, _ in curve], [found.value for _, found in curve]
        panel.plot(seconds, nll, "o-", color=COLOURS[name], mec="white", mew=0.8, zorder=3)
        panel.lines[-1].set_label(f"{name}: {nll[-1]:.1f} after {seconds[-1]:.0f} s")
    values = [found.value for curve in curves.values() for _, found in curve]
    low, worst = min(PAPER, *values), max(curve[-1][1].value for curve in curves.values())
    top = min(max(values), max(low + 30, worst + 5)) + 1
    panel.set_ylim(low - 0.08 * (top - low), top)
    panel.axhline(PAPER, color=INK, lw=1, ls="--")
    place: dict[str, Any] = {"xycoords": panel.get_yaxis_transform(), "textcoords": "offset points", "va": "top"}
    haloed(panel.annotate(SOURCE, (0, PAPER), (4, -4), fontsize=8, color=GREY, **place))
    panel.set_xscale("log", subs=[])
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda t, _: f"{t:g}"))
    panel.set(title="How soon a model is good", xlabel="seconds of training", ylabel="test NLL, nats per image")
    panel.legend(loc="best")
    note(whole, small_print)
    return whole


def row(name: str, curve: Curve, final: Estimate | None) -> dict[str, Any]:
    """A side's line in the table."""
    seconds, end = curve[-1]
    times = {f"s to {level:g}": reached(curve, level) for level in LEVELS}
    found = {"NLL of all, K = 5000": final.value, "all ±": final.se} if final else {}
    return {"side": name, "s": seconds, "NLL at the end": end.value, "±": end.se, **times, **found}


def main() -> None:
    budget = {"seconds": 60.0, "epochs": 0.0, "images": 1000, "samples": 1000}
    args = arguments(__doc__ or "", recipe="mnist", **budget, final=0, out="runs/bench")
    built = build_for_all(args.recipe, args.epochs)
    test = built.data.test
    some = test.subset(torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[: args.images])
    sides: dict[str, Side] = {"tightbound": ours, "textbook's loop": textbook}
    sides |= {"pythae's trainer": pythae()} if need("pythae") else {}
    curves, rows = {}, []
    for name, side in sides.items():
        print(name)
        model = copy.deepcopy(built.model)
        if side is not ours:
            model.prior = tb.priors.StandardNormal(built.recipe.model.latent_dim)
        watch = Watch(
            args.seconds,
            SHARES,
            lambda model: tb.evaluate.evidence(model, some, samples=args.samples, proposal="posterior").nll,
        )
        curves[name] = watch.points
        side(built, model, watch)
        final = tb.evaluate.evidence(model, test, samples=100).nll if args.final else None
        rows.append(row(name, watch.points, final))
    what = f"ours: recipe {args.recipe}, {built.recipe.train.epochs:g} epochs, prior {built.recipe.model.prior}; "
    what += f"the others: standard normal prior; K = {args.samples}, {len(some)} test images"
    path = tb.plots.save(figure(curves, f"{what}\n{machine()}"), Path(args.out) / "time_to_quality.png")
    points = {side: [[round(t, 2), round(nll.value, 3)] for t, nll in curve] for side, curve in curves.items()}
    report("time to quality", rows, {"what": what, "figure": str(path), **points})


if __name__ == "__main__":
    main()
