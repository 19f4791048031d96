"""Held-out nats over seconds of training on images: our convolutions, the textbook's, and pythae's trainer.

``--data`` is one of

- mnist: 28×28, black or white, drawn anew at each visit; Bernoulli.
- sprites: 32×32, black or white, drawn by the library; Bernoulli.
- patches: 64×64 in colour, cut out of scikit-learn's two photographs; 256 levels, discretized logistic. Held-out
  patches come from the right quarter of each photograph, which no training patch touches.

One prior, one latent size, one family of posteriors and one likelihood for all, so that nats can be compared; what
differs is networks and loop. The *textbook* has 4×4 convolutions of stride 2, 32-64-128-256, and transposed ones back
(below 64 pixels as many of them as halve the image evenly), a default DataLoader, Adam at 1e-3, batches of 128 and
`.item()` at each step; *pythae's trainer* trains the same networks, where it is installed and the likelihood is
Bernoulli. *Ours* is what ``auto`` makes of the data with convolutions, to ``--epochs``. The clock runs from before a
trainer or loader is made, so that our validation and compiling count; it stands still while a model is scored.

``--channels``, ``--network`` and ``--precision`` change what ``auto`` takes, and ``--alone 1`` leaves the others out.
Sides run one after another: leave the machine alone. The share of the ceiling is operations in products, forward and
backward, over what this machine's largest product of matrices makes in the same precision.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Watch, arguments, machine, need, networks, report, seconds
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator
from memory import forget_peak, peak
from time_to_quality import COLOURS, SHARES, Scoring
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

import tightbound as tb
from tightbound.batch import Batch
from tightbound.data import Data, Observations
from tightbound.distributed import world
from tightbound.evaluate.results import Estimate
from tightbound.execution import Execution, products_in
from tightbound.plots.style import note, panels, styled
from tightbound.runs import recipe as recipes
from tightbound.runs.build import Built, build
from tightbound.runtime import resolve_device
from tightbound.training.fit import prepare
from tightbound.training.signals import Asked
from tightbound.training.step import TrainStep

RATE, BATCH = 1e-3, 128
WIDTHS = (32, 64, 128, 256)
SOME = 1000  # held-out images that are scored
Curve = list[tuple[float, Estimate]]


class TextbookEncoder(nn.Module):
    """4×4 convolutions of stride 2."""

    def __init__(self, shape: torch.Size, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels, side = shape[0], min(shape[1:])
        for width in WIDTHS[: stages(side)]:
            layers += [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.ReLU()]
            channels, side = width, side // 2
        self.shape, self.layers = shape, nn.Sequential(*layers, nn.Flatten())
        self.last = nn.Linear(self.layers(torch.zeros(1, *shape)).numel(), outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layers(x.reshape(-1, *self.shape))).unflatten(0, x.shape[:-3])


class TextbookDecoder(nn.Module):
    """And transposed ones back."""

    def __init__(self, latent: int, outputs: torch.Size) -> None:
        super().__init__()
        height, width = outputs[-2:]
        count = stages(min(height, width))
        self.outputs, self.start = outputs, (WIDTHS[count - 1], height >> count, width >> count)
        self.first = nn.Linear(latent, int(np.prod(self.start)))
        layers: list[nn.Module] = []
        for before, after in zip(WIDTHS[count - 1 :: -1], (*WIDTHS[: count - 1][::-1], 0), strict=True):
            planes = after or int(np.prod(outputs[:-2]))
            layers += [nn.ReLU(), nn.ConvTranspose2d(before, planes, 4, stride=2, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        h = self.first(z.reshape(-1, z.shape[-1])).unflatten(1, self.start)
        return self.layers(h).reshape(*z.shape[:-1], *self.outputs)


def stages(side: int) -> int:
    """How often an image can be halved evenly, four times at most."""
    count = 0
    while count < len(WIDTHS) and side % 2 == 0:
        count, side = count + 1, side // 2
    return count


@functools.cache
def photographs() -> list[np.ndarray]:
    """Scikit-learn's two."""
    from sklearn.datasets import load_sample_images

    return load_sample_images().images


def patches(count: int, *, held_out: bool, side: int = 64) -> Tensor:
    """Squares of two photographs: the right quarter of each is for those that are held out."""
    drawn, made = np.random.default_rng(int(held_out)), []
    for index in range(count):
        photograph = photographs()[index % 2]
        height, width = photograph.shape[:2]
        cut = 3 * width // 4
        left = drawn.integers(cut, width - side + 1) if held_out else drawn.integers(0, cut - side + 1)
        top = drawn.integers(0, height - side + 1)
        made.append(photograph[top : top + side, left : left + side])
    return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2).contiguous()


def load(name: str) -> Data:
    """The data of a name."""
    if name != "patches":
        return tb.data.load(name)
    train, test = (patches(n, held_out=held_out) for n, held_out in ((6000, False), (SOME, True)))
    return Data("patches", *(Observations(x, scale=255, name="patches") for x in (train, test)))


def built_of(name: str, epochs: float, changes: dict[str, Any]) -> Built:
    """What ``auto`` makes of the data, with convolutions."""
    binary = {"model.likelihood": "bernoulli"} if name == "mnist" else {}
    recipe = recipes.load("auto").updated({"train.epochs": epochs, **binary, **changes})
    return build(recipe, load(name))


def ours(built: Built, model: tb.VAE, watch: Watch) -> int:
    """The recipe to its end."""
    recipe = built.recipe
    loop = prepare(model, built.data.train, built.objective, recipe.train, recipe.seed, None, world())
    loop.begin()
    loop.run(Asked(), Scoring(loop, watch))
    watch.look(model)
    return loop.setup.steps * recipe.train.batch_size


def textbook(built: Built, model: tb.VAE, watch: Watch) -> int:
    """An eager loop over a default DataLoader, `.item()` at each step."""
    torch.manual_seed(built.recipe.seed)
    device, total, seen = resolve_device("auto"), 0.0, 0
    data = built.data.train
    loader = DataLoader(TensorDataset(torch.arange(len(data))), BATCH, shuffle=True)
    optimizer = torch.optim.Adam(model.to(device).parameters(), lr=RATE)
    while True:
        for (rows,) in loader:
            batch = data.batch(rows).to(device)
            draws = model.draw(batch)
            loss = -(draws.log_px_z + draws.log_pz - draws.log_qz_x).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            seen += len(rows)
            if watch.over(model):
                return seen


def pythae(built: Built, model: tb.VAE, watch: Watch) -> int:
    """pythae's trainer around the textbook's networks."""
    from pythae_trainer import train

    steps = 0

    def enough() -> bool:
        nonlocal steps
        steps += 1
        return watch.over(model)

    settings = {"learning_rate": RATE, "per_device_train_batch_size": BATCH, "seed": built.recipe.seed}
    encoder, decoder = networks(model)
    train(encoder, decoder, built.data.train, enough, **settings)
    return steps * BATCH


def with_textbook(built: Built) -> tb.VAE:
    """The same model around the textbook's networks."""
    model = copy.deepcopy(built.model)
    torch.manual_seed(built.recipe.seed)
    shape, latent = built.data.train.shape, built.recipe.model.latent_dim
    _, decoder = networks(model)
    assert isinstance(decoder.outputs, torch.Size)
    model.posterior.network = TextbookEncoder(shape, 2 * latent)
    model.likelihood.network = TextbookDecoder(latent, decoder.outputs)
    model.prior = tb.priors.StandardNormal(latent)
    return model


def operations(model: tb.VAE, batch: Batch) -> float:
    """In the products of a step, for each image."""
    with FlopCounterMode(display=False) as counter:
        draws = model.draw(batch)
        (-(draws.log_px_z + draws.log_pz - draws.log_qz_x).mean()).backward()
    model.zero_grad()
    return counter.get_total_flops() / batch.size


def ceiling(execution: Execution) -> float:
    """Operations a second of the largest product of matrices."""
    a, b = (torch.randn(2048, 2048, device=resolve_device("auto")) for _ in range(2))
    with products_in(execution.dtype, a.device), torch.no_grad():
        a @ b
        return 2 * 2048**3 / min(seconds(lambda: a @ b) for _ in range(7))


@styled
def figure(curves: dict[str, Curve], title: str, small_print: str) -> Figure:
    """−ELBO over log-seconds, a line for each side."""
    whole, (panel,) = panels(1, columns=1, width=6.6, height=4.2)
    for name, curve in curves.items():
        at, nats = [t for t, _ in curve], [found.value for _, found in curve]
        panel.plot(at, nats, "o-", color=COLOURS[name], mec="white", mew=0.8, label=f"{name}: {nats[-1]:,.1f}")
    ends = [curve[-1][1].value for curve in curves.values()]
    values = [found.value for curve in curves.values() for _, found in curve]
    low, spread = min(values), max(ends) - min(values)
    panel.set_ylim(low - 0.1 * (spread + 1), min(max(values), max(ends) + 2 * spread + 0.03 * abs(low)))
    panel.set_xscale("log", subs=[])
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda t, _: f"{t:g}"))
    panel.set(title=title, xlabel="seconds of training", ylabel="held-out −ELBO, nats per image")
    panel.legend(loc="best")
    note(whole, small_print)
    return whole


def main() -> None:
    defaults: dict[str, Any] = {"data": "mnist", "seconds": 60.0, "epochs": 3.0, "latent": 32, "out": "runs/bench"}
    args = arguments(__doc__ or "", **defaults, precision="auto", channels=0, network="conv", alone=0)
    changes = {"model.latent_dim": args.latent, "train.precision": args.precision, "model.network": args.network}
    built = built_of(args.data, args.epochs, changes | ({"model.channels": args.channels} if args.channels else {}))
    test = built.data.test
    some = test.subset(torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:SOME])
    binary = built.recipe.model.likelihood == "bernoulli"
    sides: dict[str, tuple[Callable[[Built, tb.VAE, Watch], int], Callable[[], tb.VAE]]] = {
        "tightbound": (ours, lambda: copy.deepcopy(built.model)),
        "textbook's loop": (textbook, lambda: with_textbook(built)),
    }
    if args.alone:
        sides = {"tightbound": sides["tightbound"]}
    elif binary and need("pythae"):
        sides["pythae's trainer"] = pythae, lambda: with_textbook(built)
    curves: dict[str, Curve] = {}
    rows: list[dict[str, Any]] = []
    for name, (side, make) in sides.items():
        print(name)
        model = make()
        some_batch = built.data.train.eval_batch(0, 16)
        needed = operations(model, some_batch)
        step = TrainStep(
            copy.deepcopy(model), built.objective, built.recipe.train, steps=10, device=torch.device("cpu")
        )
        execution = step.choose_precision(some_batch) if side is ours else Execution()
        most = ceiling(execution)
        watch = Watch(
            args.seconds, SHARES, lambda model: replace_sign(tb.evidence(model, some, samples=10, proposal="posterior"))
        )
        curves[name] = watch.points
        forget_peak()
        before = peak()
        seen = side(built, model, watch)
        taken, end = watch.points[-1]
        rows.append({
            "side": name, "precision": execution.precision, "s": taken, "-ELBO": end.value, "±": end.se,
            "images/s": seen / taken, "MFLOP an image": needed / 1e6, "share of ceiling": needed * seen / taken / most,
            "MiB at most": peak() - before, "weights": sum(p.numel() for p in model.parameters()),
        })  # fmt: skip
    what = f"{args.data}, {args.latent} latents, {SOME} held-out images; ours: {built.recipe.train.epochs:g} epochs"
    drawn = figure(curves, f"{args.data}: how soon a convolutional model is good", f"{what}\n{machine()}")
    path = tb.plots.save(drawn, Path(args.out) / f"images-{args.data}.png")
    points = {side: [[round(t, 2), round(found.value, 3)] for t, found in curve] for side, curve in curves.items()}
    report("images", rows, {"what": what, "figure": str(path), **points})


def replace_sign(found: Any) -> Estimate:
    """−ELBO."""
    return replace(found.elbo, value=-found.elbo.value)


if __name__ == "__main__":
    main()
