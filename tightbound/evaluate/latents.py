"""What the latent dimensions do over a data set: running statistics of the posterior."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.divergences import kl, kl_per_dimension


class Codes:
    """Mean, variance and divergence of each latent dimension, gathered a block of observations at a time.

    References:
        Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances (1979).
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean = torch.zeros((), dtype=torch.float64)
        self._squares = torch.zeros((), dtype=torch.float64)
        self._kl: Tensor | None = torch.zeros((), dtype=torch.float64)

    def add(self, q: Distribution, p: Distribution) -> None:
        """Take in the posterior of a block of observations, and the prior it is measured against."""
        means = q.mean.flatten(1).cpu().double()
        fresh, total = len(means), self._count + len(means)
        step = means.mean(0) - self._mean
        within = (means - means.mean(0)).square().sum(0)
        self._squares = self._squares + within + step.square() * (self._count * fresh / total)
        self._mean = self._mean + step * (fresh / total)
        self._count = total
        divergence = per_dimension(q, p)
        self._kl = None if divergence is None or self._kl is None else self._kl + divergence.sum(0).cpu().double()

    @property
    def mean_variance(self) -> Tensor:
        """Variance over the observations of the posterior's mean, shape (L,)."""
        return self._squares / self._count

    @property
    def kl(self) -> Tensor | None:
        """Mean over the observations of each dimension's KL, shape (L,), in nats; None without a closed form."""
        return None if self._kl is None else self._kl / self._count


def closed_form_rate(q: Distribution, p: Distribution) -> Tensor | None:
    """KL(q‖p) for each observation, shape (B,), or None where the pair has no closed form."""
    try:
        return kl(q, p)
    except TypeError:
        return None


def per_dimension(q: Distribution, p: Distribution) -> Tensor | None:
    """KL of each latent dimension, shape (B, L), or None where the pair does not fall apart into dimensions."""
    try:
        return kl_per_dimension(q, p)
    except TypeError:
        return None
