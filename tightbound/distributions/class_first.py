"""A class, then a vector whose distribution depends on the class: two parts of a latent that are not independent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from tightbound.distributions.joint import SideBySide
from tightbound.distributions.sampling import sample_and_log_prob


class ClassFirst(Distribution):
    r"""Vectors (z, y) of a vector and a one-hot class: :math:`\log q(z, y) = \log q(y) + \log q(z \mid y)`.

    Args:
        classes: q(y), a one-hot vector of C classes, batch shape (B,).
        outputs: what the distribution of z is made of in every class, shape (B, C, numbers).
        given: makes it of the last axis: numbers of any batch shape to a distribution of vectors.

    Example:
        >>> from tightbound.distributions import Normal, OneHot, independent
        >>> normal = lambda mean: independent(Normal(mean, torch.ones_like(mean)))
        >>> both = ClassFirst(OneHot(torch.zeros(1, 1, 3)), torch.tensor([[[0.0], [1.0], [5.0]]]), normal)
        >>> both.event_shape, both.mean
        (torch.Size([4]), tensor([[2.0000, 0.3333, 0.3333, 0.3333]]))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True  # through the vector, within the class that was drawn

    def __init__(self, classes: Distribution, outputs: Tensor, given: Callable[[Tensor], Distribution]) -> None:
        self.classes, self.outputs, self.given = classes, outputs, given
        self.every = given(outputs)
        self.lengths = [self.every.event_shape.numel(), classes.event_shape.numel()]
        super().__init__(classes.batch_shape, torch.Size([sum(self.lengths)]), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        return SideBySide([self.every.support, self.classes.support], self.lengths)

    @property
    def mean(self) -> Tensor:
        share = self.classes.mean
        return torch.cat([(share[..., None] * self.every.mean).sum(-2), share], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        z, y = value.split(self.lengths, -1)
        return self.classes.log_prob(y) + self._within(y).log_prob(z)

    def rsample_and_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
        r"""Draws with their log-densities.

        Args:
            sample_shape: how many.

        Returns:
            Draws of shape (\*samples, B, L + C), differentiable in their first L numbers, and log-densities.
        """
        y = self.classes.sample(torch.Size(sample_shape))
        z, log_q = sample_and_log_prob(self._within(y), torch.Size())
        return torch.cat([z, y], -1), log_q + self.classes.log_prob(y)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.rsample_and_log_prob(sample_shape)[0]

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)

    def _within(self, y: Tensor) -> Distribution:
        """The distribution of the vector in the class that a one-hot vector says."""
        chosen = self.outputs[torch.arange(len(self.outputs), device=y.device), y.argmax(-1)]
        return self.given(chosen)
