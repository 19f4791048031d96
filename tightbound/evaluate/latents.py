"""What the latent dimensions do over a data set: running statistics of codes."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan

import torch
from torch import Tensor

from tightbound.distributions import Part


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
        self._parts: Sequence[Part] = ()
        self._mean = torch.zeros((), dtype=torch.float64)
        self._squares = torch.zeros((), dtype=torch.float64)
        self._kl: Tensor | None = torch.zeros((), dtype=torch.float64)
        self._probabilities: Tensor | None = torch.zeros((), dtype=torch.float64)
        self._entropies = torch.zeros((), dtype=torch.float64)

    def add(
        self,
        codes: Tensor,
        rates: Tensor | None = None,
        probabilities: Tensor | None = None,
        parts: Sequence[Part] = (),
    ) -> None:
        """Take in a block of observations.

        Args:
            codes: the posterior's mean of each, shape (B, L).
            rates: the KL of each dimension, shape (B, L), in nats; None where the rate has no such closed form.
            probabilities: of each class of each discrete variable, shape (B, V, C); None where no part is discrete.
            parts: what the latent is made of; needed where only some of it is discrete.
        """
        self._parts = parts
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

    def state(self) -> dict[str, Tensor]:
        """What has been gathered, by name; :meth:`restore` takes it back."""
        found = {
            "count": torch.tensor(self._count),
            "mean": self._mean,
            "squares": self._squares,
            "kl": self._kl,
            "probabilities": self._probabilities,
            "entropies": self._entropies,
        }
        return {name: value for name, value in found.items() if value is not None}

    def restore(self, state: dict[str, Tensor], parts: Sequence[Part] = ()) -> None:
        """Go on from what was gathered before.

        Args:
            state: what :meth:`state` gave.
            parts: as of :meth:`add`.
        """
        self._count, self._parts = int(state["count"]), parts
        self._mean, self._squares, self._entropies = state["mean"], state["squares"], state["entropies"]
        self._kl, self._probabilities = state.get("kl"), state.get("probabilities")

    @property
    def mean_variance(self) -> Tensor:
        """Variance over the observations of the posterior's mean, shape (L,).

        Where only some of the latent is discrete it is one of each variable: NaN of bits and classes.
        """
        variance = self._squares / self._count
        if not self._is_mixed:
            return variance
        pieces = zip(self._parts, variance.split([part.length for part in self._parts]), strict=True)
        return torch.cat([piece.new_full((part.variables,), nan) if part.discrete else piece for part, piece in pieces])

    @property
    def kl(self) -> Tensor | None:
        """Mean over the observations of each dimension's KL, shape (L,), in nats; None without a closed form."""
        return None if self._kl is None else self._kl / self._count

    @property
    def information(self) -> Tensor | None:
        r"""What each variable of a discrete code tells about the observation, shape (V,), in nats; None for others.

        Their mutual information over the data, :math:`H(\bar{q_v}) - \overline{H(q_v(z \mid x))}`. Where only some of
        the latent is discrete there is one of each variable: NaN of real numbers.
        """
        if self._probabilities is None:
            return None
        found = _entropy(self._probabilities / self._count) - self._entropies / self._count
        if not self._is_mixed:
            return found
        own = iter(found.split([part.variables for part in self._parts if part.discrete]))
        return torch.cat([next(own) if part.discrete else found.new_full((part.length,), nan) for part in self._parts])

    @property
    def _is_mixed(self) -> bool:
        """Whether discrete variables stand beside real numbers."""
        return len({part.discrete for part in self._parts}) > 1


def _entropy(p: Tensor) -> Tensor:
    return torch.special.entr(p).sum(-1)
