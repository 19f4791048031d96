"""Bounds on log p(x) where log p(x) is known: a linear-Gaussian model, solved by hand."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from tightbound.autoencoder import VAE
from tightbound.draws import Draws
from tightbound.evaluate import Estimate
from tightbound.evaluate.importance import bound_at
from tightbound.labs.linear_gaussian import LinearGaussian, affine
from tightbound.labs.result import Result
from tightbound.labs.words import require_whole, table
from tightbound.plots import style
from tightbound.plots.figure import Figure
from tightbound.posteriors import FullNormal
from tightbound.runtime import own_random_state
from tightbound.settings import require_seed
from tightbound.threads import on_threads

__all__ = ["bounds"]

CPU = torch.device("cpu")
SHOWN = 4  # columns of the second table


def _solved() -> LinearGaussian:
    """Five numbers from two latents whose effects resemble each other, so that they are correlated in p(z | x)."""
    weight = [[1.0, 0.9], [0.8, 0.6], [0.3, -0.2], [-0.4, -0.1], [0.6, 0.8]]
    return LinearGaussian(
        torch.tensor(weight, dtype=torch.float64),
        torch.tensor([0.3, -0.5, 0.1, 0.8, -0.2], dtype=torch.float64),
        sigma=0.7,
    )


@dataclass(frozen=True)
class _Guess:
    """A posterior that is off by a known amount.

    Attributes:
        name: What it is called.
        shift: How far its mean is off, in standard deviations of p(z | x).
        stretch: What the standard deviations of p(z | x) are multiplied by.
        factorised: Whether it has the precisions of p(z | x) and no correlation: the best that factorises.
        by_hand: Its KL, as a formula.
    """

    name: str
    shift: float = 0.0
    stretch: float = 1.0
    factorised: bool = False
    by_hand: str = "0"

    def factor(self, of: LinearGaussian) -> Tensor:
        """Lower triangle whose square is the covariance."""
        if self.factorised:
            return torch.diag(of.precision.diagonal().rsqrt())
        return self.stretch * torch.linalg.cholesky(of.covariance)

    def at(self, of: LinearGaussian, x: Tensor) -> MultivariateNormal:
        """q(z | x)."""
        mean = (x - of.bias) @ of.gain.T + self._apart(of)
        return MultivariateNormal(mean, scale_tril=self.factor(of).expand(len(x), -1, -1))

    def model(self, of: LinearGaussian) -> VAE:
        """The same as the library has it: networks, a VAE, and draws."""
        factor, gain = self.factor(of), of.gain
        row, column = torch.tril_indices(of.latent, of.latent, offset=-1)
        spread = torch.cat([2 * factor.diagonal().log(), (factor / factor.diagonal())[row, column]])
        encoder = affine(
            torch.cat([gain, torch.zeros(len(spread), gain.shape[1], dtype=torch.float64)]),
            torch.cat([self._apart(of) - gain @ of.bias, spread]),
        )
        return of.model(FullNormal(encoder))

    def _apart(self, of: LinearGaussian) -> Tensor:
        return self.shift * torch.linalg.cholesky(of.covariance)[:, 0]


GUESSES = (
    _Guess("exact"),
    _Guess("mean off by 1 sd", shift=1.0, by_hand="1/2"),
    _Guess("1.5 times too wide", stretch=1.5, by_hand="c² − 1 − log c², c = 1.5"),
    _Guess("0.6 times as wide", stretch=0.6, by_hand="c² − 1 − log c², c = 0.6"),
    _Guess("no correlation", factorised=True, by_hand="−½ log(1 − r²)"),
)


def bounds(*, observations: int = 500, samples: int = 1024, seed: int = 0) -> Result:
    r"""The ELBO and the importance-weighted bounds beside log p(x), where log p(x) is known exactly.

    .. math:: \log p(x) - \text{ELBO} = \mathrm{KL}(q(z|x) \,\|\, p(z|x)), \qquad
              \text{ELBO} = \mathcal{L}_1 \le \mathcal{L}_2 \le \cdots \le \log p(x)

    The model is linear and Gaussian (probabilistic PCA), so p(x), p(z|x) and the ELBO have closed forms. One q is exact
    and four are off by known amounts. The gap and the KL come from formulas that share nothing, in float64, and are
    the same to rounding. The library's draws give the same within their standard errors.

    What to look for: with the exact q every bound is log p(x). Four wrong ones begin with a similar gap and end in
    different ones. The gap falls as :math:`\operatorname{Var}(w / p(x)) / 2K` where that variance is finite: for a
    wide or shifted q. Where q is too narrow in some direction the variance is infinite, and more samples help slowly.

    References:
        Tipping, Bishop: Probabilistic Principal Component Analysis (1999), https://doi.org/10.1111/1467-9868.00196;
        Burda, Grosse, Salakhutdinov: Importance Weighted Autoencoders (2015), https://arxiv.org/abs/1509.00519;
        Domke, Sheldon: Importance Weighting and Variational Inference (2018), https://arxiv.org/abs/1808.09034, for the
        rate at which the gap falls.

    Args:
        observations: how many, drawn from p(x).
        samples: draws of each, and the largest K.
        seed: of observations and draws.

    Returns:
        Numbers, words and a figure: gap beside KL, and L_K over K.

    Raises:
        TypeError: for counts that are no whole numbers.
        ValueError: for fewer than 2 observations or samples, or a seed out of range.

    Example:
        >>> found = bounds(observations=10, samples=8)
        >>> [guess["largest_difference"] < 1e-12 for guess in found.numbers["posteriors"]]
        [True, True, True, True, True]
    """
    require_whole("observations", observations, least=2, why="One shows no spread.")
    require_whole("samples", samples, least=2, why="With one sample there is no bound but the ELBO.")
    require_seed(seed)
    of = _solved()
    with on_threads(1), own_random_state(CPU, seed=seed), torch.no_grad():
        x = of.evidence.sample((observations,))
        found = [_measured(of, guess, x, samples) for guess in GUESSES]
    numbers = {
        "observations": observations,
        "samples": samples,
        "seed": seed,
        "log_px": float(of.evidence.log_prob(x).mean()),
        "largest_difference": max(each["largest_difference"] for each in found),
        "posteriors": found,
    }
    return Result("bounds", numbers, _words(numbers), _figure(numbers))


def _measured(of: LinearGaussian, guess: _Guess, x: Tensor, samples: int) -> dict[str, Any]:
    """One posterior: gap and KL in closed form, then what draws say of the gap at each K."""
    q, log_px = guess.at(of, x), of.evidence.log_prob(x)
    elbo, kl = of.elbo(x, q), kl_divergence(q, of.posterior(x))
    draws = guess.model(of).score(x, samples=samples, rows=samples * len(x))
    variance = _variance_of_weights(of, q, x)
    bounds = [
        _bound(draws, count, log_px, variance)
        for count in (2**i for i in range(samples.bit_length()))
        if count <= samples
    ]
    return {
        "posterior": guess.name,
        "elbo": float(elbo.mean()),
        "gap": float((log_px - elbo).mean()),
        "kl": float(kl.mean()),
        "kl_by_hand": guess.by_hand,
        "largest_difference": float((log_px - elbo - kl).abs().max()),
        "variance_of_weights": variance if math.isfinite(variance) else None,
        "bounds": bounds,
    }


def _bound(draws: Draws, count: int, log_px: Tensor, variance: float) -> dict[str, Any]:
    """L_K from groups of K draws. Its error is that of the gap: log p(x) itself is known."""
    gap = Estimate.of(log_px - bound_at(draws, count))
    return {
        "k": count,
        "value": float(log_px.mean()) - gap.value,
        "gap": gap.value,
        "se": gap.se,
        "gap_for_large_k": variance / (2 * count) if math.isfinite(variance) else None,
    }


def _variance_of_weights(of: LinearGaussian, q: MultivariateNormal, x: Tensor) -> float:
    """Var(w / p(x)) under q: the integral of p(z | x)² / q(z | x), less one; infinite where q's tails are too thin."""
    p, ours, theirs = of.posterior(x), of.precision, q.precision_matrix[0]
    both = 2 * ours - theirs  # the precision of p² / q
    if float(torch.linalg.eigvalsh(both)[0]) <= 0:
        return math.inf
    apart = q.mean[0] - p.mean[0]
    pulled = theirs @ apart
    log_ratio = ours.logdet() - 0.5 * theirs.logdet() - 0.5 * both.logdet()
    return float(torch.expm1(log_ratio + 0.5 * (apart @ pulled + pulled @ torch.linalg.solve(both, pulled))))


def _words(numbers: Mapping[str, Any]) -> str:
    found = numbers["posteriors"]
    first = [
        [
            each["posterior"],
            f"{each['gap']:.6f}",
            f"{each['kl']:.6f}",
            f"{each['largest_difference']:.0e}",
            str(Estimate(each["bounds"][0]["gap"], each["bounds"][0]["se"])),
        ]
        for each in found
    ]
    counts = [bound["k"] for bound in found[0]["bounds"]]
    chosen = sorted({round(place) for place in np.linspace(0, len(counts) - 1, SHOWN)})
    second = [[each["posterior"], *(str(_gap(each["bounds"][place])) for place in chosen)] for each in found]
    return "\n".join(
        [
            f"Bounds: {numbers['observations']} observations of a linear-Gaussian model, {numbers['samples']} draws of "
            f"each, seed {numbers['seed']}.",
            f"log p(x) is known: {numbers['log_px']:.4f} nats per observation on average.",
            "",
            "How far the ELBO lies below log p(x), in nats:",
            table(["q(z|x)", "log p(x) - ELBO", "KL(q||p(z|x))", "apart", "by draws ± se"], first),
            "",
            "How far L_K lies below log p(x), in nats ± one standard error:",
            table(["q(z|x)", *(f"K = {counts[place]}" for place in chosen)], second),
            "",
            textwrap.fill(_meaning(numbers), width=100),
        ]
    )


def _gap(bound: Mapping[str, Any]) -> Estimate:
    """Without the rounding that an exact q leaves."""
    rounding = 1e-9
    return Estimate(*(0.0 if abs(bound[name]) < rounding else bound[name] for name in ("gap", "se")))


def _meaning(numbers: Mapping[str, Any]) -> str:
    heavy = [each["posterior"] for each in numbers["posteriors"] if each["variance_of_weights"] is None]
    return (
        f"Gap and KL, from formulas that share nothing, are at most {numbers['largest_difference']:.0e} nats apart at "
        "any observation. With the exact q every bound is log p(x) at every draw. The gap of L_K falls like 1/K where "
        f"the weights have a finite variance; they have none with: {', '.join(heavy)}. There q is too narrow in some "
        "direction, and the gap closes slowly."
    )


@style.styled
def _figure(numbers: Mapping[str, Any]) -> Figure:
    figure, axes = style.panels(3, columns=3, width=4.1, height=4.0)
    _equal_panel(axes[0], numbers["posteriors"])
    _rising_panel(axes[1], numbers)
    _closing_panel(axes[2], numbers["posteriors"])
    style.note(figure, "Bars: ± 2 standard errors. Right: gaps that cannot be told from zero are left out.")
    return style.describe(
        figure,
        "Gap of the ELBO beside the KL for five posteriors of a linear-Gaussian model, at most "
        f"{numbers['largest_difference']:.0e} nats apart; importance-weighted bounds over K rising to log p(x) = "
        f"{style.number(numbers['log_px'], 3)} nats.",
    )


def _equal_panel(panel: Axes, found: Sequence[Mapping[str, Any]]) -> None:
    """KL as bars, the exact gap on their ends, the gap by draws above."""
    at = np.arange(len(found))[::-1]
    colours = style.PALETTE[: len(found)]
    panel.barh(at, [each["kl"] for each in found], height=0.5, color=colours, alpha=0.35)
    panel.fill_between([], [], color=style.GREY, alpha=0.35, label="KL(q ‖ p(z | x))")
    panel.plot([each["gap"] for each in found], at, "|", ms=22, mew=2, color=style.INK, label="log p(x) − ELBO, exact")
    panel.errorbar(
        [each["bounds"][0]["gap"] for each in found], at - 0.36, xerr=[2 * each["bounds"][0]["se"] for each in found],
        fmt="o", ms=4, color=style.GREY, capsize=2.5, label="the same by draws",
    )  # fmt: skip
    for place, each in zip(at, found, strict=True):
        words = f"{each['posterior']}  (apart: {each['largest_difference']:.0e})".replace("-", "−")
        panel.text(0.0, place + 0.33, words, fontsize=8, va="bottom")
    panel.set_yticks([])
    panel.set_ylim(-0.75, len(found) + 0.75)
    panel.set_xlim(-0.02, None)
    panel.legend(loc="upper right", markerscale=0.5)
    panel.set(title="The gap is the KL", xlabel=style.NATS)
    panel.grid(visible=False, axis="y")


def _rising_panel(panel: Axes, numbers: Mapping[str, Any]) -> None:
    panel.axhline(numbers["log_px"], color=style.INK, lw=1)
    panel.annotate(
        f"log p(x) = {style.number(numbers['log_px'], 3)}, exact", (1, numbers["log_px"]), (12, 5),
        textcoords="offset points", fontsize=8,
    )  # fmt: skip
    for each, colour in _coloured(numbers["posteriors"]):
        counts, values, errors = (_column(each, name) for name in ("k", "value", "se"))
        panel.errorbar(counts, values, yerr=2 * errors, fmt="o-", ms=3.5, lw=1.2, color=colour, label=each["posterior"])
        panel.plot(1, each["elbo"], "D", ms=8, mfc="none", mec=colour, mew=1.2)
    panel.plot([], [], "D", ms=7, mfc="none", mec=style.INK, mew=1.2, label="ELBO, exact")
    _axis_of_counts(panel, counts)
    panel.margins(y=0.12)
    panel.legend(loc="lower right")
    panel.set(title=r"$\mathcal{L}_K$ rises to log p(x)", ylabel=style.NATS)


def _closing_panel(panel: Axes, found: Sequence[Mapping[str, Any]]) -> None:
    lowest = min(min(_column(each, "gap")) for each in found[1:])
    for each, colour in _coloured(found):
        counts, gaps, errors = (_column(each, name) for name in ("k", "gap", "se"))
        if each["gap"] < 1e-9:
            continue  # the exact q, which has no gap: nowhere on a logarithmic axis
        shown = gaps > 2 * errors
        panel.errorbar(counts[shown], gaps[shown], yerr=2 * errors[shown], fmt="o-", ms=3.5, lw=1.2, color=colour)
        if each["variance_of_weights"] is not None:
            panel.plot(counts[2:], each["variance_of_weights"] / (2 * counts[2:]), color=colour, lw=1.2, ls=":")
    panel.plot([], [], color=style.GREY, lw=1.2, ls=":", label="Var(w / p(x)) / 2K, exact")
    _axis_of_counts(panel, counts)
    panel.set_yscale("log")
    panel.set_ylim(max(lowest, 1e-4) / 2, 1.0)
    panel.legend(loc="lower left")
    panel.set(title=r"How fast the gap of $\mathcal{L}_K$ closes", ylabel="log p(x) − bound, nats per observation")


def _coloured(found: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], str]]:
    return list(zip(found, style.PALETTE, strict=False))


def _column(each: Mapping[str, Any], name: str) -> np.ndarray:
    return np.array([bound[name] for bound in each["bounds"]], dtype=float)


def _axis_of_counts(panel: Axes, counts: np.ndarray) -> None:
    panel.set_xscale("log")
    shown = counts[:: max(1, len(counts) // 6)]
    panel.set_xticks(shown, [f"{count:.0f}" for count in shown])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlabel("K, samples in the bound")
