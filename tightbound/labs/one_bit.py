"""One bit, whose gradient is known: what estimators for discrete latents make of it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.batch import Batch
from tightbound.distributions import Bernoulli, BinaryConcrete, independent, relaxed
from tightbound.draws import Draws, Relaxation
from tightbound.evaluate import Estimate
from tightbound.gradients import VIMCO, Enumerate, Gradient, GumbelSoftmax, ScoreFunction, StraightThrough
from tightbound.labs.result import Result
from tightbound.labs.words import require_whole, table
from tightbound.model import Model
from tightbound.plots import style
from tightbound.plots.figure import Figure
from tightbound.runtime import own_random_state
from tightbound.settings import require_seed
from tightbound.surface import listed
from tightbound.threads import on_threads

__all__ = ["discrete"]

CPU = torch.device("cpu")
TARGETS = (0.49, 0.499, 0.501, 0.51)  # p₀: so near one half that the gradient is small and changes its sign
TEMPERATURES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
SHOWN = (0.1, 0.5, 2.0)  # temperatures of which samples are drawn
LARGEST = 4.0  # log-odds: beyond, draws of the other value are too rare to count errors by
FAR = 4.0  # standard errors beyond which a mean is called off
ESTIMATORS: dict[str, tuple[Gradient, int]] = {
    "enumeration": (Enumerate(), 1),
    "score function": (ScoreFunction("none"), 2),
    "score, batch baseline": (ScoreFunction("batch"), 2),
    "leave-one-out": (ScoreFunction("leave-one-out"), 2),
    "VIMCO": (VIMCO(), 2),
    "straight-through": (StraightThrough(), 2),
    "Gumbel-softmax (t = 0.5)": (GumbelSoftmax(0.5), 2),
    "hard Gumbel-softmax (t = 0.5)": (GumbelSoftmax(0.5, hard=True), 2),
}


class _Bit(Model):
    """b ~ Bernoulli(σ(φ)), with a φ of its own for each row, so that each row has a gradient of its own."""

    def __init__(self, target: float, phi: float, rows: int) -> None:
        super().__init__()
        self.target = target
        self.phi = nn.Parameter(torch.full((rows, 1), phi, dtype=torch.float64))

    def q(self) -> Distribution:
        return independent(Bernoulli(self.phi, validate_args=False))

    def propose(self, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
        z = self.q().sample((samples,))
        return z, self.log_posterior(batch, z)

    def log_joint(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
        """(b − p₀)² in the place of log p(x | z), and nothing else: the textbook's problem has no prior."""
        value = (z - self.target).square().sum(-1)
        return value, torch.zeros_like(value)

    def log_posterior(self, batch: Batch, z: Tensor, *, frozen: bool = False) -> Tensor:
        return self.q().log_prob(z)

    def posterior_mean(self, batch: Batch) -> Tensor:
        return torch.sigmoid(self.phi)

    def every_code(self, batch: Batch) -> Tensor:
        return torch.tensor([[0.0], [1.0]], dtype=torch.float64)

    def relax(self, batch: Batch, samples: int, temperature: float | Tensor) -> Relaxation:
        soft = relaxed(self.q(), temperature)
        noise = soft.noise((samples,))
        nothing = torch.zeros(noise.shape[:2], dtype=noise.dtype)
        return Relaxation(soft.hard(noise), soft.from_noise(noise), nothing, nothing)


def _mean(draws: Draws) -> Tensor:
    """The bound of this problem: E (b − p₀)², by the mean of the draws."""
    return draws.log_px_z.mean(0)


def _gradients(gradient: Gradient, samples: int, target: float, phi: float, rows: int) -> Tensor:
    """Independent estimates of the gradient, shape (rows,)."""
    bit = _Bit(target, phi, rows)
    value, _ = gradient(bit, Batch(torch.zeros(rows, 1, dtype=torch.float64)), _mean, samples=samples)
    return torch.autograd.grad(value.sum(), bit.phi)[0][:, 0]


def discrete(*, phi: float = 0.5, repeats: int = 200_000, seed: int = 0) -> Result:
    r"""The gradient of one bit, by every estimator for discrete latents.

    .. math:: \nabla_\phi\, \mathbb{E}[(b - p_0)^2] = (1 - 2 p_0)\, \sigma(\phi)\, (1 - \sigma(\phi)), \qquad
              b \sim \mathrm{Bernoulli}(\sigma(\phi))

    For p₀ near one half the gradient is small, and its sign says whether b should be 0 or 1. Each estimator is asked
    for it many times, with two samples each. Below one half and above it the answer ought to change its sign.

    What to look for: every unbiased estimator hits the exact value, each with its own noise. Straight-through takes the
    slope of (b − p₀)² at the draw for the difference between 0 and 1; its mean is
    :math:`2 (\sigma(\phi) - p_0)\, \sigma(\phi) (1 - \sigma(\phi))`, which points to the same side whatever p₀ says.
    Relaxed bits are off too. Towards a temperature of 0 their bias ends and their noise grows; on the way the bias
    rises and falls.

    References:
        Tucker et al.: REBAR (2017), https://arxiv.org/abs/1703.07370; Grathwohl et al.: Backpropagation through the
        Void (2018), https://arxiv.org/abs/1711.00123, for the problem; Jang, Gu, Poole (2016),
        https://arxiv.org/abs/1611.01144, for Gumbel-softmax.

    Args:
        phi: φ, the log-odds of the bit.
        repeats: estimates of each gradient.
        seed: of the draws.

    Returns:
        Numbers, words and a figure: means beside the exact gradient, bias and noise over the temperature, and relaxed
        bits beside their density.

    Raises:
        TypeError: for a number of repeats that is no whole number.
        ValueError: for a φ beyond ±4, fewer than 100 repeats, or a seed out of range.

    Example:
        >>> found = discrete(repeats=1000)
        >>> [row["estimator"] for row in found.numbers["estimates"] if row["noise"] == 0][:1]
        ['enumeration']
    """
    require_whole("repeats", repeats, least=100, why="Fewer show no bias beside their noise.")
    require_seed(seed)
    if not abs(phi) <= LARGEST:
        raise ValueError(
            f"Expected phi between −{LARGEST:g} and {LARGEST:g}; got {phi}. A bit that is nearly always the same shows "
            "nothing: take log-odds such as 0.5."
        )
    with on_threads(1), own_random_state(CPU, seed=seed):
        rows = [
            _row(name, target, phi, _gradients(gradient, samples, target, phi, repeats))
            for target in TARGETS
            for name, (gradient, samples) in ESTIMATORS.items()
        ]
        over = [
            _row("Gumbel-softmax", TARGETS[0], phi, _gradients(GumbelSoftmax(t), 2, TARGETS[0], phi, repeats))
            | {"temperature": t}
            for t in TEMPERATURES
        ]
        soft = {t: _soft(phi, t).sample((min(repeats, 20_000),))[:, 0] for t in SHOWN}
    numbers = {"phi": phi, "repeats": repeats, "seed": seed, "estimates": rows, "over_temperature": over}
    return Result("discrete", numbers, _words(numbers), _figure(numbers, soft))


def _soft(phi: float, temperature: float) -> BinaryConcrete:
    return BinaryConcrete(torch.tensor([phi], dtype=torch.float64), temperature, validate_args=False)


def _row(name: str, target: float, phi: float, found: Tensor) -> dict[str, Any]:
    p = float(torch.sigmoid(torch.tensor(phi, dtype=torch.float64)))
    exact, estimate = (1 - 2 * target) * p * (1 - p), Estimate.of(found)
    noise = 0.0 if estimate.se < 1e-15 else float(found.std())  # rounding, where every estimate is the same
    off = None if noise == 0 else (estimate.value - exact) / estimate.se
    return {
        "estimator": name,
        "target": target,
        "estimate": estimate.value,
        "se": estimate.se if noise else 0.0,
        "exact": exact,
        "off": off,
        "noise": noise,
    }


def _words(numbers: Mapping[str, Any]) -> str:
    rows, head = numbers["estimates"], ["p0", *(f"{target:g}" for target in TARGETS)]
    means, offs = [["exact", *(f"{_of(rows, target)['exact']:+.5f}" for target in TARGETS), ""]], []
    for name in ESTIMATORS:
        own = [row for row in rows if row["estimator"] == name]
        means.append([name, *(f"{row['estimate']:+.5f}" for row in own), f"{own[0]['noise']:.3f}"])
        offs.append([name, *(_off(row) for row in own)])
    by_temperature = [
        [
            f"t = {row['temperature']:g}",
            f"{row['estimate'] - row['exact']:+.5f} ± {row['se']:.5f}",
            f"{row['noise']:.3f}",
        ]
        for row in numbers["over_temperature"]
    ]
    return "\n".join(
        [
            f"Discrete: the gradient of E (b - p0)² for one bit of log-odds {numbers['phi']:g}, {numbers['repeats']:,} "
            "estimates",
            f"of two samples each, seed {numbers['seed']}.",
            "",
            "Mean of each estimator, and the noise of one estimate:",
            table([*head, "noise"], means),
            "",
            "How far the mean is off, in its own standard errors:",
            table(head, offs),
            "",
            f"Gumbel-softmax at p0 = {TARGETS[0]:g}, by its temperature:",
            table(["", "bias ± se", "noise"], by_temperature),
            "",
            textwrap.fill(_meaning(numbers), width=100),
        ]
    )


def _of(rows: Sequence[Mapping[str, Any]], target: float) -> Mapping[str, Any]:
    return next(row for row in rows if row["target"] == target)


def _off(row: Mapping[str, Any]) -> str:
    return "exact" if row["off"] is None else f"{row['off']:+.1f}"


def _meaning(numbers: Mapping[str, Any]) -> str:
    off = [row for row in numbers["estimates"] if row["off"] is not None and abs(row["off"]) > FAR]
    names = dict.fromkeys(row["estimator"] for row in off)
    wrong = dict.fromkeys(row["estimator"] for row in off if row["estimate"] * row["exact"] < 0)
    biased = f"More than {FAR:g} standard errors off: {listed(names)}." if names else "None is off."
    way = f" For some p0 the wrong way is shown by {listed(wrong)}." if wrong else ""
    return (
        f"{biased}{way} The noise is the standard deviation of one estimate: a baseline takes it away and leaves the "
        "mean where it is. Unbiased estimators need no more than patience; a bias stays, however long one averages."
    )


@style.styled
def _figure(numbers: Mapping[str, Any], soft: Mapping[float, Tensor]) -> Figure:
    figure = Figure(figsize=(11.4, 6.6))
    grid = figure.add_gridspec(2, 3, width_ratios=[1.35, 1.35, 1.2])
    _means_panel(figure.add_subplot(grid[:, :2]), numbers["estimates"])
    _temperature_panel(figure.add_subplot(grid[0, 2]), numbers["over_temperature"])
    _samples_panel(figure.add_subplot(grid[1, 2]), numbers["phi"], soft)
    style.note(
        figure, "Bars: ± 2 standard errors, mostly smaller than the marks. Lines: exact gradients and densities."
    )
    return style.describe(
        figure,
        "The gradient of one bit by eight estimators beside the exact one for four targets; bias and noise of "
        "Gumbel-softmax over its temperature; relaxed bits at three temperatures.",
    )


def _means_panel(panel: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    names = list(ESTIMATORS)
    for place, target in enumerate(TARGETS):
        own = [row for row in rows if row["target"] == target]
        colour = style.PALETTE[place]
        panel.axvline(own[0]["exact"], color=colour, lw=1.2)
        heights = len(names) - np.arange(len(names)) + 0.24 - 0.16 * place
        panel.errorbar(
            [row["estimate"] for row in own], heights, xerr=[2 * row["se"] for row in own], fmt="o", ms=4.5,
            color=colour, label=f"p₀ = {target:g}",
        )  # fmt: skip
    panel.axvline(0, color=style.GREY, lw=0.8, ls=(0, (4, 3)))
    panel.set_yticks(len(names) - np.arange(len(names)), names)
    panel.grid(visible=False, axis="y")
    panel.legend(loc="center right", title="exact: the lines", title_fontsize=8)
    panel.set(title="Mean of each estimator, and the exact gradient", xlabel="gradient of E (b − p₀)² in φ")


def _temperature_panel(panel: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    t = [row["temperature"] for row in rows]
    bias = [abs(row["estimate"] - row["exact"]) for row in rows]
    panel.errorbar(
        t, bias, yerr=[2 * row["se"] for row in rows], fmt="o-", ms=4.5, color=style.VERMILION, label="|bias|"
    )
    panel.plot(t, [row["noise"] for row in rows], "s-", ms=4.5, color=style.BLUE, label="noise, one estimate")
    panel.axhline(rows[0]["exact"], color=style.GREY, lw=0.8, ls=(0, (4, 3)))
    panel.annotate("the gradient itself", (t[0], rows[0]["exact"]), (6, -10), textcoords="offset points", fontsize=7,
                   color=style.GREY)  # fmt: skip
    panel.set(xscale="log", yscale="log", title="Gumbel-softmax: bias for noise", xlabel="temperature")
    panel.set_xticks(t, [f"{each:g}" for each in t])
    panel.minorticks_off()
    panel.legend()


def _samples_panel(panel: Axes, phi: float, soft: Mapping[float, Tensor]) -> None:
    edges = np.linspace(0, 1, 41)
    at = torch.linspace(0.002, 0.998, 500, dtype=torch.float64)
    for colour, (t, samples) in zip((style.BLUE, style.GREEN, style.VERMILION), soft.items(), strict=True):
        counts, _ = np.histogram(samples.numpy(), edges)
        panel.stairs(counts / (len(samples) * np.diff(edges)), edges, fill=True, color=colour, alpha=0.25)
        panel.plot(at, _soft(phi, t).log_prob(at[:, None]).exp(), color=colour, lw=1.3, label=f"t = {t:g}")
    panel.set(ylim=(0, 5), title="Relaxed bits", xlabel="value of a soft bit", ylabel="density")
    panel.legend(loc="upper center")
