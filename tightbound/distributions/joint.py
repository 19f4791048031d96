"""Latents of several kinds side by side: one vector, of which each part has a distribution of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from tightbound.distributions.sampling import sample_and_log_prob

__all__ = ["Joint", "SideBySide"]


class Joint(Distribution):
    r"""Independent parts as one vector: :math:`\log q(z) = \sum_i \log q_i(z_i)`, :math:`z = (z_1, \ldots, z_n)`.

    Args:
        parts: distributions of vectors, with one batch shape.

    Raises:
        ValueError: for no parts, or parts that are no vectors.

    Example:
        >>> from tightbound.distributions import Bernoulli, Normal, independent
        >>> both = Joint([independent(Normal(torch.zeros(2), torch.ones(2))), independent(Bernoulli(torch.zeros(3)))])
        >>> both.event_shape, both.mean
        (torch.Size([5]), tensor([0.0000, 0.0000, 0.5000, 0.5000, 0.5000]))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, parts: Sequence[Distribution]) -> None:
        if not parts or any(len(part.event_shape) != 1 for part in parts):
            raise ValueError(
                f"Expected at least one part, each a distribution of vectors; got events of shapes "
                f"{[tuple(part.event_shape) for part in parts]}."
            )
        self.parts = tuple(parts)
        self.lengths = [part.event_shape[0] for part in parts]
        batch = torch.broadcast_shapes(*(part.batch_shape for part in parts))
        super().__init__(batch, torch.Size([sum(self.lengths)]), validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether a gradient passes through some part of a draw. Through bits and classes none does."""
        return any(part.has_rsample for part in self.parts)

    @property
    def support(self) -> constraints.Constraint:
        return SideBySide([part.support for part in self.parts], self.lengths)

    @property
    def mean(self) -> Tensor:
        return torch.cat([part.mean for part in self.parts], -1)

    @property
    def variance(self) -> Tensor:
        return torch.cat([part.variance for part in self.parts], -1)

    def split(self, value: Tensor) -> tuple[Tensor, ...]:
        r"""A vector in its parts.

        Args:
            value: shape (\*, L).

        Returns:
            A tensor for each part.
        """
        return value.split(self.lengths, -1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Joint:
        return Joint([part.expand(batch_shape) for part in self.parts])

    def log_prob(self, value: Tensor) -> Tensor:
        each = [part.log_prob(own) for part, own in zip(self.parts, self.split(value), strict=True)]
        return torch.stack(each).sum(0)

    def rsample_and_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
        r"""Draws with their log-densities; a part that knows the density of what it draws is not asked again.

        Args:
            sample_shape: how many.

        Returns:
            Draws of shape (\*samples, \*batch, L), differentiable where a part can be, and log-densities.
        """
        drawn = [sample_and_log_prob(part, torch.Size(sample_shape)) for part in self.parts]
        return torch.cat([z for z, _ in drawn], -1), torch.stack([log_q for _, log_q in drawn]).sum(0)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.rsample_and_log_prob(sample_shape)[0]

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return torch.cat([part.sample(torch.Size(sample_shape)) for part in self.parts], -1)


class SideBySide(constraints.Constraint):
    """Vectors whose parts satisfy a constraint each; unlike torch's ``cat`` it knows that a part is one event.

    Args:
        parts: constraints.
        lengths: of the parts.

    Example:
        >>> SideBySide([constraints.positive, constraints.simplex], [1, 2]).check(torch.tensor([3.0, 0.5, 0.5]))
        tensor(True)
    """

    event_dim = 1

    def __init__(self, parts: Sequence[Any], lengths: Sequence[int]) -> None:
        self.parts, self.lengths = parts, list(lengths)
        self.is_discrete = any(part.is_discrete for part in parts)
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        found = [part.check(own) for part, own in zip(self.parts, value.split(self.lengths, -1), strict=True)]
        whole = [own if part.event_dim else own.all(-1) for part, own in zip(self.parts, found, strict=True)]
        return torch.stack(whole).all(0)
