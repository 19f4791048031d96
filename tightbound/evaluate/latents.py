"""What the latent dimensions do over a data set: running statistics of codes."""

from __future__ import annotations

import torch
from torch import Tensor


class LatentStatistics:
    """What each latent dimension does over the data, gathered a block of observations at a time.

    References:
        Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances (1979).

    Example:
        >>> statistics = LatentStatistics()
        >>> statistics.add(torch.tensor([[0.0], [2.0]]))
        >>> statistics.mean_variance, statistics.kl
        (tensor([1.], dtype=torch.float64), None)
    """

    def __init__(self) -> None:
        self._count = 0
        self._mean = torch.zeros((), dtype=torch.float64)
        self._squares = torch.zeros((), dtype=torch.float64)
        self._kl: Tensor | None = torch.zeros((), dtype=torch.float64)
        self._probabilities: Tensor | None = torch.zeros((), dtype=torch.float64)
        self._entropies = torch.zeros((), dtype=torch.float64)

    def add(self, codes: Tensor, rates: Tensor | None = None, probabilities: Tensor | None = None) -> None:
        """Take in a block of observations.

        Args:
            codes: the posterior's mean of each, shape (B, L).
            rates: the KL of each dimension, shape (B, L), in nats; None where the rate has no such closed form.
            probabilities: of each class of each variable, shape (B, V, C); None where the latent is not discrete.
        """
        means = codes.flatten(1).cpu().double()
        fresh, total = len(means), self._count + len(means)
        step = means.mean(0) - self._mean
        within = (means - means.mean(0)).square().sum(0)
        self._squares = self._squares + within + step.square() * (self._count * fresh / total)
        self._mean = self._mean + step * (fresh / total)
        self._count = total
        self._kl = None if rates is None or self._kl is None else self._kl + rates.sum(0).cpu().double()
        if probabilities is None or self._probabilities is None:
            self._probabilities = None
            return
        p = probabilities.cpu().double()
        self._probabilities = self._probabilities + p.sum(0)
        self._entropies = self._entropies + _entropy(p).sum(0)

    @property
    def mean_variance(self) -> Tensor:
        """Variance over the observations of the posterior's mean, shape (L,)."""
        return self._squares / self._count

    @property
    def kl(self) -> Tensor | None:
        """Mean over the observations of each dimension's KL, shape (L,), in nats; None without a closed form."""
        return None if self._kl is None else self._kl / self._count

    @property
    def information(self) -> Tensor | None:
        r"""What each variable of a discrete code tells about the observation, shape (V,), in nats; None for others.

        Their mutual information over the data, :math:`H(\bar q_v) - \overline{H(q_v(z \mid x))}`.
        """
        if self._probabilities is None:
            return None
        return _entropy(self._probabilities / self._count) - self._entropies / self._count


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(-1)
