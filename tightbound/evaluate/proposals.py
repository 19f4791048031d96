r"""Proposals fitted to one observation at a time: what importance samples are drawn from in place of q(z | x).

An encoder guesses the posterior of every observation in one go, as a rule without correlations. Its draws miss
directions in which the true posterior is long, and no number of them makes up for that. A few steps that look at the
slope of :math:`\log p(x, z)` fit a normal with full covariance to each observation by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tightbound.batch import Batch
from tightbound.evaluate.target import Target
from tightbound.runtime import in_double

DEGREES = 15  # of freedom of the Student-t: tails heavy enough that no weight runs away, at little cost
SET = 16  # draws made together: opposite ones in pairs, radii from as many slices as there are pairs
PAIRS = 32  # directions looked at in one sweep, at least; each together with its opposite
STEP = 8  # of them between two steps of the mean
REACH = 2.0  # standard deviations within which the first step of a mean is taken; twice as many after each that helped
SMALLEST = 1e-6  # standard deviation that a fit begins with
STRETCH = 10.0  # by which a sweep changes a variance, at most

Family = Literal["full", "diagonal"]


class Sweep(NamedTuple):
    """How far one sweep goes.

    Attributes:
        covariance: Rate of the covariance; at 1 it is taken from this sweep alone.
        mean: Rate of the mean, in each of its steps.
        far: Whether steps that help grow longer and longer. Only where there is a covariance to step by.
    """

    covariance: float
    mean: float
    far: bool = True


FIRST = (Sweep(1.0, 0.5, far=False), Sweep(1.0, 0.4), Sweep(0.5, 0.2))
LONGER = (Sweep(1.0, 0.3), Sweep(0.5, 0.2), Sweep(0.33, 0.1), Sweep(0.25, 0.05))  # where the first fit falls short


class Proposal(NamedTuple):
    r"""A normal for each of B observations, :math:`u = m + F \varepsilon`: its mean m and a factor F of its covariance.

    Draws for importance weights are Student-t ones of the same mean and factor.

    Attributes:
        mean: m, shape (B, D).
        factor: F, shape (B, D, D), any with :math:`F F^\top` the covariance.
        log_scale: log |F|, shape (B,), float64.
    """

    mean: Tensor
    factor: Tensor
    log_scale: Tensor

    @classmethod
    def of(cls, mean: Tensor, factor: Tensor) -> Proposal:
        """The normal of a mean (B, D) and a factor (B, D, D)."""
        return cls(mean, factor, torch.linalg.slogdet(in_double(factor)).logabsdet)

    def at(self, noise: Tensor) -> Tensor:
        """u of noise, shape (K, B, D) both."""
        return self.mean + _times(self.factor, noise)

    def noise_of(self, u: Tensor) -> Tensor:
        """The noise that gives u, shape (K, B, D) both."""
        away = in_double(u - self.mean).movedim(0, -1)
        return torch.linalg.solve(in_double(self.factor), away).movedim(-1, 0).to(u)

    def rows(self, index: Tensor) -> Proposal:
        """Those of some observations."""
        return Proposal(self.mean[index], self.factor[index], self.log_scale[index.to(self.log_scale.device)])

    def log_normal(self, noise: Tensor) -> Tensor:
        """Log-density of the normal at u, shape (K, B), from the noise that gives it; float64."""
        squares = in_double(noise).square().sum(-1)
        return -0.5 * (squares + noise.shape[-1] * math.log(2 * math.pi)) - self.log_scale

    def log_student(self, noise: Tensor) -> Tensor:
        """Log-density of the Student-t at u, shape (K, B), from the noise that gives it; float64."""
        size = noise.shape[-1]
        squares = in_double(noise).square().sum(-1)
        constant = math.lgamma((DEGREES + size) / 2) - math.lgamma(DEGREES / 2) - size / 2 * math.log(DEGREES * math.pi)
        return constant - (DEGREES + size) / 2 * torch.log1p(squares / DEGREES) - self.log_scale


def refine(
    target: Target,
    batch: Batch,
    start: Proposal,
    *,
    sweeps: Sequence[Sweep] = FIRST,
    family: Family = "full",
    seed: int = 0,
) -> Proposal:
    r"""A normal fitted to the posterior of each observation, by the gradient of its own ELBO.

    The ELBO of :math:`\mathcal{N}(m, F F^\top)` is at its best where, over its draws :math:`u = m + F \varepsilon`,
    :math:`g = F^\top \nabla \log p(x, u) + \varepsilon` has mean 0 and :math:`\mathbb{E}[g \varepsilon^\top] = 0`. One
    sweep takes natural-gradient steps: of the mean by :math:`F\, \mathbb{E}[g]`, of the precision, in the coordinates
    of the noise, from 1 to :math:`1 - \mathbb{E}[g \varepsilon^\top]`. Its noise is a set of orthogonal directions
    with their opposites, all of length :math:`\sqrt{D}`: on a posterior that is normal a sweep is exact.

    All observations get the same directions, so that a fit depends on its own observation alone.

    References:
        Khan, Nielsen: Fast yet Simple Natural-Gradient Descent for Variational Inference in Complex Models (2018),
        https://arxiv.org/abs/1807.04489; Roeder, Wu, Duvenaud: Sticking the Landing (2017),
        https://arxiv.org/abs/1703.09194.

    Args:
        target: log p(x, u) and its slope.
        batch: B observations.
        start: where to begin.
        sweeps: how far each goes.
        family: "full" covariance or "diagonal".
        seed: of the directions.

    Returns:
        The fitted normals. Nothing promises that they are better: compare them on fresh draws.
    """
    mean, factor = start.mean, start.factor
    identity = torch.eye(target.dim, dtype=mean.dtype, device=mean.device)
    reach, before = torch.full_like(mean[:, :1], REACH), torch.full_like(mean[:, 0], -torch.inf)
    for number, sweep in enumerate(sweeps):
        noise = directions(target.dim, seed=seed, sweep=number).to(mean)
        moment = torch.zeros_like(factor)
        for part in noise.split(_even(len(noise), STEP)):
            both = torch.cat([part, -part])[:, None].expand(-1, len(mean), -1)
            value, slope = target.slope(batch, mean + _times(factor, both))
            value = value.mean(0)
            if sweep.far:
                reach = torch.where((value > before)[:, None], 2 * reach, REACH)
            before = value
            g = _times(factor.mT, slope) + both
            towards = torch.minimum(torch.maximum(g.mean(0), -reach), reach)
            mean = mean + sweep.mean * (factor @ towards[..., None])[..., 0]
            moment = moment + torch.einsum("kbi,kbj->bij", g, both) / (2 * len(noise))
        if family == "diagonal":
            moment = torch.diag_embed(moment.diagonal(dim1=-2, dim2=-1))
        factor = factor @ _inverse_root(identity - sweep.covariance * (moment + moment.mT) / 2)
    return Proposal.of(mean, factor)


def start_of(u: Tensor) -> Proposal:
    """The normal without correlations of the mean and spread of some draws u, shape (K, B, D): where a fit begins."""
    return Proposal.of(u.mean(0), torch.diag_embed(u.std(0).nan_to_num(1.0).clamp(min=SMALLEST)))


def directions(dim: int, *, seed: int, sweep: int) -> Tensor:
    r"""Orthogonal directions of length :math:`\sqrt{D}`, in as many random bases as make a sweep.

    Args:
        dim: D.
        seed: of the fit.
        sweep: which sweep.

    Returns:
        Shape (pairs, D), a multiple of D, float64.

    Example:
        >>> found = directions(3, seed=0, sweep=0)
        >>> found.shape, torch.allclose(found.T @ found / len(found), torch.eye(3).double())
        (torch.Size([33, 3]), True)
    """
    bases = math.ceil(PAIRS / dim)
    own = torch.Generator().manual_seed((seed * 1000 + sweep) % 2**63)
    turned = torch.linalg.qr(torch.randn(bases, dim, dim, dtype=torch.float64, generator=own)).Q
    return math.sqrt(dim) * turned.flatten(0, 1)


def student_noise(sets: Sequence[int], dim: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Noise of Student-t draws, in sets: opposite ones in pairs, and each pair's radius from a slice of its own.

    Each draw by itself has the Student-t density. Pairs cancel what is odd about a weight, slices even out what depends
    on the distance from the mean; sets are independent of each other, so the spread of their means tells the error.

    Args:
        sets: how many sets of 16, for each observation.
        dim: D.
        generators: of each observation.

    Returns:
        Shape (16, sum of sets, D), float64, observation after observation.
    """
    from scipy.special import fdtri

    half = SET // 2
    drawn = [
        torch.randn(count, half, dim + 1, dtype=torch.float64, generator=own)
        for count, own in zip(sets, generators, strict=True)
    ]
    towards, level = torch.cat(drawn).split([dim, 1], -1)
    level = (torch.arange(half) + torch.special.ndtr(level[..., 0])) / half
    # The squared length of Student-t noise, over D, has an F distribution.
    radius = torch.from_numpy(np.sqrt(dim * fdtri(dim, DEGREES, level.numpy())))
    noise = towards * (radius / towards.norm(dim=-1))[..., None]
    return torch.cat([noise, -noise], 1).transpose(0, 1)


def _times(factor: Tensor, noise: Tensor) -> Tensor:
    """Shape (K, B, D) from (B, D, D) and (K, B, D)."""
    return (factor @ noise.movedim(0, -1)).movedim(-1, 0)


def _even(total: int, most: int) -> int:
    return math.ceil(total / math.ceil(total / most))


def _inverse_root(precision: Tensor) -> Tensor:
    """The symmetric inverse root, which no turn of equal eigenvectors changes; without steps that leap."""
    values, vectors = torch.linalg.eigh(in_double(torch.nan_to_num(precision)))
    values = values.clamp(1 / STRETCH, STRETCH)
    return ((vectors * values.rsqrt()[:, None, :]) @ vectors.mT).to(precision)
