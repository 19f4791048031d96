"""Gradients without bias where there is no path: by the score of the posterior, or the exact sum over all codes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from tightbound.batch import Batch
from tightbound.bounds import BoundFunction
from tightbound.draws import Draws
from tightbound.gradients.gradient import Gradient
from tightbound.model import Model

Baseline = Literal["none", "batch", "leave-one-out"]


@dataclass(frozen=True)
class ScoreFunction(Gradient):
    r"""The gradient by the log-density alone, for draws that cannot be reparameterised, such as bits: REINFORCE.

    .. math:: \nabla_\phi \mathbb{E}_q[L] = \mathbb{E}_q\left[\nabla_\phi L + \sum_k (L - b_k)\,
              \nabla_\phi \log q_\phi(z_k \mid x)\right]

    where L is the bound as a function of K draws, held where they are. The baseline :math:`b_k` takes noise away. It
    adds no bias, for it does not depend on draw k: it is L of the other draws, and of a stand-in for draw k.

    - "leave-one-out": no stand-in, L of the K − 1 others. For the ELBO :math:`L - b_k = (f_k - \bar f_{-k}) / K`,
      where :math:`f_k = \log w_k` and the bar is the mean of the others.
    - "batch": the mean log-densities of the other observations. For the ELBO :math:`L - b_k = (f_k - \bar f) / K`
      with their mean. It does what a running mean of earlier steps does, and needs no memory. An observation alone
      has "none".
    - "none": log-densities of 0. For the ELBO :math:`L - b_k = f_k / K`, the textbook's; for a bound of many draws a
      weight of 1 beside those that there are.

    References:
        Williams: Simple statistical gradient-following algorithms (1992), https://doi.org/10.1007/BF00992696; Kool,
        van Hoof, Welling: Buy 4 REINFORCE samples, get a baseline for free! (2019),
        https://openreview.net/forum?id=r1lgTGL5DE.

    Args:
        baseline: "leave-one-out", for two samples or more; "batch"; or "none".

    Raises:
        ValueError: for another baseline; when called, for a single sample with "leave-one-out".

    Example:
        >>> ScoreFunction()
        ScoreFunction(baseline='leave-one-out')
    """

    baseline: Baseline = "leave-one-out"

    def __post_init__(self) -> None:
        if self.baseline == "running":
            raise ValueError(
                "Expected baseline='leave-one-out', 'batch' or 'none'; got 'running', which would need a memory that a "
                "gradient does not have. Take 'batch': the mean of the other observations serves as a running mean."
            )
        if self.baseline not in get_args(Baseline):
            raise ValueError(f"Expected baseline='leave-one-out', 'batch' or 'none'; got {self.baseline!r}.")

    def __call__(
        self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int, step: Tensor | None = None
    ) -> tuple[Tensor, Draws]:
        if self.baseline == "leave-one-out":
            _require_two(samples, "ScoreFunction()", "baseline='batch'")
        draws, value = _held_draws(model, batch, bound, samples)
        if self.baseline == "leave-one-out":
            baselines = [_of_others(bound, draws, k) for k in range(samples)]
        else:
            stand_in = self._stand_in(draws)
            baselines = [bound(_replaced(draws, k, stand_in)) for k in range(samples)]
        return _with_score(value, baselines, draws), draws

    def _stand_in(self, draws: Draws) -> list[Tensor]:
        """Log-densities for a draw of each observation that do not depend on its draws, each of shape (B,)."""
        means = [t.detach().mean(0) for t in _densities(draws)]
        others = len(means[0]) - 1
        if self.baseline == "none" or not others:
            return [torch.zeros_like(mean) for mean in means]
        return [(mean.sum() - mean) / others for mean in means]


@dataclass(frozen=True)
class VIMCO(Gradient):
    r"""The score function for bounds of many draws: each draw is compared with the geometric mean of the others.

    As :class:`ScoreFunction` with the baseline :math:`b_k = L(w_1, \ldots, \hat{w_k}, \ldots, w_K)`, in which draw k
    has the mean log-densities of the others: :math:`\log \hat{w_k} = \frac{1}{K-1} \sum_{j \ne k} \log w_j`. So b_k
    is a bound of K draws like L itself, where leaving draw k out would give one of K − 1.

    References:
        Mnih, Rezende: Variational Inference for Monte Carlo Objectives (2016), https://arxiv.org/abs/1602.06725.

    Raises:
        ValueError: when called, for a single sample.

    Example:
        >>> VIMCO()
        VIMCO()
    """

    def __call__(
        self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int, step: Tensor | None = None
    ) -> tuple[Tensor, Draws]:
        _require_two(samples, "VIMCO()", "tb.gradients.ScoreFunction(baseline='batch')")
        draws, value = _held_draws(model, batch, bound, samples)
        baselines = []
        for k in range(samples):
            typical = [(t.sum(0) - t[k]) / (samples - 1) for t in _densities(draws)]
            baselines.append(bound(_replaced(draws, k, typical)))
        return _with_score(value, baselines, draws), draws


@dataclass(frozen=True)
class Enumerate(Gradient):
    r"""The exact gradient of a discrete latent: the sum over all codes, at most 4096.

    .. math:: \mathbb{E}_q[L] = \sum_z q(z \mid x)\, L(z)

    There is no noise left but that of the batch. The decoder scores every code for every observation.

    Raises:
        TypeError: when called, for latents that cannot be listed.
        ValueError: when called, for more codes than that, or for more than one sample.

    Example:
        >>> Enumerate()
        Enumerate()
    """

    def __call__(
        self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int, step: Tensor | None = None
    ) -> tuple[Tensor, Draws]:
        if samples != 1:
            raise ValueError(
                f"Expected samples=1 with Enumerate(), which sums over all codes in place of drawing; got "
                f"samples={samples}. Take samples=1."
            )
        codes = model.every_code(batch)
        z = codes[:, None].expand(len(codes), batch.size, *codes.shape[1:])
        parts = (*model.log_joint(batch, z), model.log_posterior(batch, z))
        # Each code as the one draw of an observation of its own, since a bound mixes draws and no observations.
        each = bound(Draws(z.reshape(1, -1, *codes.shape[1:]), *(part.reshape(1, -1) for part in parts)))
        share = parts[-1].exp()
        expected = [(share * part).sum(0, keepdim=True) for part in parts]
        mean = torch.einsum("sb,s...->b...", share, codes)[None]
        return (share * each.view_as(share)).sum(0), Draws(mean, *expected)


def _held_draws(model: Model, batch: Batch, bound: BoundFunction, samples: int) -> tuple[Draws, Tensor]:
    """Draws through which no gradient passes, and their bound."""
    z, log_qz_x = model.propose(batch, samples)
    if z.requires_grad:
        z = z.detach()
        log_qz_x = model.log_posterior(batch, z)
    draws = Draws(z, *model.log_joint(batch, z), log_qz_x)
    return draws, bound(draws)


def _with_score(value: Tensor, baselines: list[Tensor], draws: Draws) -> Tensor:
    """The bound with the gradient that the score adds: of each draw, by how much the bound is above its baseline."""
    signal = value.detach() - torch.stack(baselines).detach()
    score = (signal * draws.log_qz_x).sum(0)
    return value + score - score.detach()


def _densities(draws: Draws) -> tuple[Tensor, Tensor, Tensor]:
    return draws.log_px_z, draws.log_pz, draws.log_qz_x


def _without(draws: Draws, k: int) -> Draws:
    """All draws but one."""

    def rest(t: Tensor) -> Tensor:
        return torch.cat([t[:k], t[k + 1 :]])

    return Draws(rest(draws.z), *map(rest, _densities(draws)))


def _of_others(bound: BoundFunction, draws: Draws, k: int) -> Tensor:
    try:
        return bound(_without(draws, k))
    except ValueError as error:
        raise ValueError(
            f"Expected a bound that can be one of {len(draws.z) - 1} draws as well as of {len(draws.z)}, for "
            f"ScoreFunction() leaves one out; got one that cannot. Take gradient=tb.gradients.VIMCO(). ({error})"
        ) from error


def _replaced(draws: Draws, k: int, by: list[Tensor]) -> Draws:
    """All draws, the k-th of which has other log-densities."""
    filled = [torch.cat([t[:k], t_k[None], t[k + 1 :]]) for t, t_k in zip(_densities(draws), by, strict=True)]
    return Draws(draws.z, *filled)


def _require_two(samples: int, gradient: str, instead: str) -> None:
    if samples < 2:
        raise ValueError(
            f"Expected at least 2 samples with {gradient}, which compares draws; got samples={samples}. Take more, or "
            f"{instead}."
        )
