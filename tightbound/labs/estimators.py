"""Estimators of one gradient, side by side, where the gradient is known."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from torch import Tensor
from torch.distributions import MultivariateNormal

from tightbound import bounds
from tightbound.gradients import (
    Comparison,
    DoublyReparameterised,
    Gradient,
    Pathwise,
    ScoreFunction,
    StickingTheLanding,
    compare,
)
from tightbound.labs.linear_gaussian import LinearGaussian, affine
from tightbound.labs.result import Result
from tightbound.labs.words import require_whole, table
from tightbound.plots import style
from tightbound.plots.figure import Figure
from tightbound.posteriors import DiagonalNormal
from tightbound.runtime import own_random_state
from tightbound.settings import require_seed
from tightbound.threads import on_threads

__all__ = ["gradients"]

CPU = torch.device("cpu")
SIGMA = 0.7
OFF = 0.5  # how far the means of a wrong q are off, in standard deviations of p(z | x)
BATCH = 16
LATENTS = (2, 8, 32)
SAMPLES = (1, 2, 5, 20, 64)
WEIGHTED = (1, 8, 64)  # samples of the importance-weighted bound
NAMES: dict[str, Gradient] = {
    "score function": ScoreFunction("none"),
    "score, batch baseline": ScoreFunction("batch"),
    "score, leave-one-out": ScoreFunction("leave-one-out"),
    "pathwise": Pathwise(),
    "sticking the landing": StickingTheLanding(),
    "doubly reparameterised": DoublyReparameterised(),
}
OF_THE_ELBO = tuple(NAMES)[:5]  # for which the last is sticking the landing
OF_WEIGHTS = ("pathwise", "sticking the landing", "doubly reparameterised")


class _Problem:
    """A linear-Gaussian model whose p(z | x) factorises, so that a diagonal q can be exact, or off by a known amount.

    W has orthogonal columns, which makes Wᵀ W diagonal, and with it the precision of p(z | x).
    """

    def __init__(self, latents: int, off: float) -> None:
        observed = latents + 3
        sizes = torch.linspace(0.5, 1.5, latents, dtype=torch.float64)
        weight = torch.linalg.qr(torch.randn(observed, latents, dtype=torch.float64)).Q * sizes
        self.of = of = LinearGaussian(weight, torch.zeros(observed, dtype=torch.float64), SIGMA)
        variance = of.covariance.diagonal()
        encoder = affine(
            torch.cat([of.gain, torch.zeros_like(of.gain)]), torch.cat([off * variance.sqrt(), variance.log()])
        )
        self.model = of.model(DiagonalNormal(encoder))
        self.x = of.evidence.sample((BATCH,))

    def exact(self) -> list[Tensor]:
        """The gradient of the mean ELBO, which has a closed form."""
        q = self.model.posterior(self.x)
        elbo = self.of.elbo(self.x, MultivariateNormal(q.mean, torch.diag_embed(q.variance)))
        return list(torch.autograd.grad(elbo.mean(), list(self.model.posterior.parameters())))


def gradients(*, latents: int = 8, repeats: int = 60, seed: int = 0) -> Result:
    r"""Pathwise and score-function gradients of the same bounds: bias, noise, and what more samples buy.

    .. math:: \nabla_\phi\, \mathbb{E}_{q_\phi}[f(z)]
              = \mathbb{E}_\epsilon[\nabla_\phi f(g(\epsilon; \phi))]
              = \mathbb{E}_{q_\phi}[(f(z) - b)\, \nabla_\phi \log q_\phi(z)]

    The model is linear and Gaussian, and q's means are half a standard deviation off. So the ELBO has a closed form,
    and with it its gradient: nobody has to guess whether an estimator is biased.

    What to look for: all of them have one mean. The noise falls like 1/K with K samples. The score function's
    grows with the number of latents far faster than the pathwise one's; baselines take much of it away. Sticking the
    landing has no noise at all where q is exact. Under the importance-weighted bound it is biased; there the plain
    gradient's signal drowns in its noise as K grows. The doubly reparameterised one's stays above it here, and there
    is no bias.

    References:
        Mohamed, Rosca, Figurnov, Mnih: Monte Carlo Gradient Estimation in Machine Learning (2020),
        https://arxiv.org/abs/1906.10652; Roeder, Wu, Duvenaud: Sticking the Landing (2017),
        https://arxiv.org/abs/1703.09194; Rainforth et al.: Tighter Variational Bounds are Not Necessarily Better
        (2018), https://arxiv.org/abs/1802.04537; Tucker et al.: Doubly Reparameterized Gradient Estimators (2018),
        https://arxiv.org/abs/1810.04152.

    Args:
        latents: how many latents the model has in the first and the last comparison.
        repeats: evaluations of each gradient.
        seed: of model, observations and draws.

    Returns:
        Numbers, words and a figure: variance over the samples and over the latents, signal to noise of the
        importance-weighted bound, and bias.

    Raises:
        TypeError: for counts that are no whole numbers.
        ValueError: for no latents, fewer than 40 repeats, or a seed out of range.

    Example:
        >>> found = gradients(latents=2, repeats=40)
        >>> [each["is_biased"] for each in found.numbers["elbo"]["estimates"]].count(True)
        0
    """
    require_whole("latents", latents, least=1, why="A model without latents has no draws.")
    require_whole("repeats", repeats, least=40, why="Bias and variance would have no errors.")
    require_seed(seed)
    with on_threads(1), own_random_state(CPU, seed=seed):
        wrong = _Problem(latents, OFF)
        elbo = _compared(wrong, OF_THE_ELBO, SAMPLES, repeats, seed)
        landed = _compared(_Problem(latents, 0.0), ("pathwise", "sticking the landing"), (1,), repeats, seed)
        growing = [_compared(_Problem(count, OFF), OF_THE_ELBO, (2,), repeats, seed) for count in LATENTS]
        weighted = compare(
            wrong.model, wrong.x, {name: NAMES[name] for name in OF_WEIGHTS}, samples=WEIGHTED, repeats=repeats,
            bound=bounds.iwae, seed=seed,
        )  # fmt: skip
    numbers = {
        "latents": latents,
        "repeats": repeats,
        "seed": seed,
        "elbo": _timeless(elbo),
        "exact_posterior": _timeless(landed),
        "by_latents": {str(count): _timeless(each) for count, each in zip(LATENTS, growing, strict=True)},
        "iwae": _timeless(weighted),
    }
    return Result("gradients", numbers, _words(numbers), _figure(numbers))


def _compared(problem: _Problem, names: Sequence[str], samples: Sequence[int], repeats: int, seed: int) -> Comparison:
    chosen = {name: NAMES[name] for name in names}
    return compare(problem.model, problem.x, chosen, samples=samples, repeats=repeats, exact=problem.exact(), seed=seed)


def _timeless(comparison: Comparison) -> dict[str, Any]:
    """Its numbers without seconds, so that equal labs give equal numbers."""
    found = comparison.to_json()
    clock = ("seconds", "price")
    found["estimates"] = [{name: row[name] for name in row if name not in clock} for row in found["estimates"]]
    return found


def _rows(comparison: Mapping[str, Any]) -> dict[tuple[str, int], Mapping[str, Any]]:
    return {(row["gradient"], row["samples"]): row for row in comparison["estimates"]}


def _signal(comparison: Mapping[str, Any], name: str, samples: int) -> float:
    """The length of the gradient over the standard deviation of an estimate."""
    return comparison["length"][str(samples)] / math.sqrt(_rows(comparison)[name, samples]["variance"])


def _words(numbers: Mapping[str, Any]) -> str:
    elbo, weighted = _rows(numbers["elbo"]), _rows(numbers["iwae"])
    length = numbers["elbo"]["length"]["1"]

    def variance(rows: Mapping[tuple[str, int], Mapping[str, Any]], name: str, k: int) -> str:
        return style.short(rows[name, k]["variance"]) if (name, k) in rows else "–"

    first = [
        [name, *(variance(elbo, name, k) for k in SAMPLES), _bias(elbo[name, SAMPLES[-1]])] for name in OF_THE_ELBO
    ]
    by_latents = {int(count): _rows(each) for count, each in numbers["by_latents"].items()}
    second = [[name, *(variance(by_latents[count], name, 2) for count in LATENTS)] for name in OF_THE_ELBO]
    third = [
        [
            name,
            *(style.short(_signal(numbers["iwae"], name, k)) for k in WEIGHTED),
            *(_bias(weighted[name, k]) for k in WEIGHTED),
        ]
        for name in OF_WEIGHTS
    ]
    return "\n".join(
        [
            f"Gradients: a linear-Gaussian model of {numbers['latents']} latents, {numbers['repeats']} repeats, seed "
            f"{numbers['seed']}.",
            "",
            f"The ELBO. Its gradient is known, and {length:.3g} long. Variance with K samples, and bias:",
            table(["", *(f"K = {k}" for k in SAMPLES), f"bias, K = {SAMPLES[-1]}"], first),
            "",
            "The same by the number of latents L, two samples each:",
            table(["", *(f"L = {count}" for count in LATENTS)], second),
            "",
            "The importance-weighted bound of K samples. Signal to noise, and bias:",
            table(["", *(f"K = {k}" for k in WEIGHTED), *(f"bias, K = {k}" for k in WEIGHTED)], third),
            "",
            textwrap.fill(_meaning(numbers), width=100),
        ]
    )


def _bias(row: Mapping[str, Any]) -> str:
    return f"{row['bias']:.2g}" if row["is_biased"] else f"< {row['bias_bound']:.1g}"


def _meaning(numbers: Mapping[str, Any]) -> str:
    landed = _rows(numbers["exact_posterior"])
    most = _rows(numbers["by_latents"][str(LATENTS[-1])])
    ratio = most["score function", 2]["variance"] / most["pathwise", 2]["variance"]
    noise = landed["sticking the landing", 1]["variance"]
    return (
        f"With {LATENTS[-1]} latents the score function has {style.short(ratio)} times the variance of the pathwise "
        f"gradient. Where q is the true posterior, sticking the landing has a variance of {noise:.0e}, the pathwise "
        f"gradient one of {style.short(landed['pathwise', 1]['variance'])}."
    )


@style.styled
def _figure(numbers: Mapping[str, Any]) -> Figure:
    figure, axes = style.panels(4, columns=2, width=5.2, height=3.5)
    colours = dict(zip(NAMES, style.PALETTE, strict=False))
    elbo = _rows(numbers["elbo"])
    by_latents = {int(count): _rows(each) for count, each in numbers["by_latents"].items()}
    for name in OF_THE_ELBO:
        _curve(axes[0], {k: elbo[name, k]["variance"] for k in SAMPLES if (name, k) in elbo}, name, colours)
        _curve(axes[1], {count: rows[name, 2]["variance"] for count, rows in by_latents.items()}, name, colours)
    weighted = _rows(numbers["iwae"])
    for name in OF_WEIGHTS:
        _curve(axes[2], {k: _signal(numbers["iwae"], name, k) for k in WEIGHTED}, name, colours)
        _relative_bias(axes[3], {k: weighted[name, k] for k in WEIGHTED}, numbers["iwae"]["length"], name, colours)
    slope = {k: 2 * elbo["score function", 1]["variance"] / k for k in SAMPLES}
    axes[0].plot(list(slope), list(slope.values()), color=style.GREY, lw=0.8, ls=(0, (4, 3)))
    axes[0].annotate("∝ 1/K", (SAMPLES[-1], slope[SAMPLES[-1]]), (0, 4), textcoords="offset points", fontsize=7,
                     color=style.GREY, ha="right")  # fmt: skip
    axes[3].axhline(1, color=style.GREY, lw=0.8, ls=(0, (4, 3)))
    _finish(axes[0], SAMPLES, "Variance of the ELBO's gradient", "K, samples")
    _finish(axes[1], LATENTS, "The same by the number of latents, K = 2", "L, latents")
    _finish(axes[2], WEIGHTED, "Importance-weighted bound: signal to noise", "K, samples")
    _finish(axes[3], WEIGHTED, "Importance-weighted bound: bias / gradient", "K, samples")
    handles = [handle for panel in (axes[0], axes[2]) for handle in panel.get_legend_handles_labels()[0]]
    seen = {handle.get_label(): handle for handle in handles}
    figure.legend(handles=list(seen.values()), loc="outside upper left", ncols=3)
    style.note(figure, "Hollow marks: no bias was found, and it is below the mark by two standard errors.")
    ratio = by_latents[LATENTS[-1]]
    times = style.short(ratio["score function", 2]["variance"] / ratio["pathwise", 2]["variance"])
    return style.describe(
        figure,
        "Variance of five gradients of the ELBO over samples and latents; signal to noise and bias of three gradients "
        f"of the importance-weighted bound. With {LATENTS[-1]} latents the score function's variance is {times} times "
        "the pathwise one's.",
    )


def _curve(panel: Axes, values: Mapping[int, float], name: str, colours: Mapping[str, str]) -> None:
    panel.plot(list(values), list(values.values()), "o-", ms=4.5, color=colours[name], label=name)


def _relative_bias(
    panel: Axes,
    rows: Mapping[int, Mapping[str, Any]],
    lengths: Mapping[str, float],
    name: str,
    colours: Mapping[str, str],
) -> None:
    for k, row in rows.items():
        height = row["bias"] if row["is_biased"] else row["bias_bound"]
        face = colours[name] if row["is_biased"] else "white"
        panel.plot(k, height / lengths[str(k)], "o", ms=5, mec=colours[name], mfc=face)


def _finish(panel: Axes, ticks: Sequence[int], title: str, label: str) -> None:
    panel.set(xscale="log", yscale="log", title=title, xlabel=label)
    panel.set_xticks(ticks, [f"{tick}" for tick in ticks])
    panel.xaxis.set_minor_locator(NullLocator())
    low, high = panel.get_ylim()
    if high < 100 * low:  # too few powers of ten to read a height from
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: style.short(value)))
        panel.yaxis.set_minor_locator(NullLocator())
