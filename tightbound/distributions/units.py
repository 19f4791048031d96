"""Real numbers in a unit of their own."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

__all__ = ["InUnits"]


class InUnits(Distribution):
    r"""A distribution of :math:`u = (x - c) / s`, as one of x.

    .. math:: \log p(x) = \log p_u\!\left(\frac{x - c}{s}\right) - \log s

    Only u is ever squared, so the unit s may be of any size. Where it is 0, x is a constant, c: it has no spread to be
    described, and counts 0 nats. A density of it would be as high as one likes.

    Args:
        base: of u, real numbers, any batch shape.
        centre: c, broadcastable with it.
        unit: s ≥ 0, broadcastable with it.

    Example:
        >>> from torch.distributions import Normal
        >>> base, units = Normal(torch.zeros(2), torch.ones(2)), torch.tensor([1e-30, 0.0])
        >>> metres = InUnits(base, torch.tensor([5.0, 7.0]), units)
        >>> metres.log_prob(torch.tensor([5.0, 7.0])), metres.mean
        (tensor([68.1586,  0.0000]), tensor([5., 7.]))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real

    def __init__(self, base: Distribution, centre: Tensor, unit: Tensor, *, validate_args: bool | None = None) -> None:
        self.base, self.centre, self.unit = base, centre, unit
        super().__init__(base.batch_shape, validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether a gradient passes through a draw."""
        return self.base.has_rsample

    def expand(self, batch_shape: Any, _instance: Any = None) -> InUnits:
        return InUnits(self.base.expand(batch_shape), self.centre, self.unit, validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        varies = self.unit > 0
        unit = torch.where(varies, self.unit, 1)
        # What is not asked for is replaced: a gradient passes through both branches, and must be finite in both.
        u = torch.where(varies, (value - self.centre) / unit, 0)
        return torch.where(varies, self.base.log_prob(u) - unit.log(), 0)

    @property
    def loc(self) -> Tensor:
        """Location, in the unit of x."""
        return self.centre + self.unit * self.base.loc  # type: ignore[attr-defined]

    @property
    def scale(self) -> Tensor:
        """Scale, in the unit of x."""
        return self.unit * self.base.scale  # type: ignore[attr-defined]

    @property
    def mean(self) -> Tensor:
        return self.centre + self.unit * self.base.mean

    @property
    def stddev(self) -> Tensor:
        return self.unit * self.base.stddev

    @property
    def variance(self) -> Tensor:
        return self.stddev.square()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.centre + self.unit * self.base.rsample(sample_shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return self.centre + self.unit * self.base.sample(sample_shape)
