"""Mixtures of normals, scored by one matrix product."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, constraints


class MixtureOfNormals(Distribution):
    r"""Normals with diagonal covariance, mixed: :math:`p(z) = \sum_c \pi_c\, \mathcal{N}(z \mid \mu_c, \sigma_c^2)`.

    All components are scored by one matrix product, for :math:`\log \mathcal{N}` is linear in :math:`(z, z^2)`: many
    times sooner than one by one. What cancels in it cancels in double precision, where the device has that.

    Args:
        logits: of the weights :math:`\pi`, shape (C,); they need not be normalised.
        loc: :math:`\mu`, shape (C, L).
        scale: :math:`\sigma > 0`, shape (C, L).

    Example:
        >>> one = MixtureOfNormals(torch.zeros(3), torch.zeros(3, 2), torch.ones(3, 2))
        >>> one.log_prob(torch.zeros(2))
        tensor(-1.8379)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {
        "logits": constraints.real_vector,
        "loc": constraints.independent(constraints.real, 2),
        "scale": constraints.independent(constraints.positive, 2),
    }
    support = constraints.real_vector

    def __init__(self, logits: Tensor, loc: Tensor, scale: Tensor, *, validate_args: bool | None = None) -> None:
        self.logits, self.loc, self.scale = logits, loc, scale
        super().__init__(torch.Size(), loc.shape[-1:], validate_args=validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        wide = torch.float32 if value.device.type == "mps" else torch.float64
        z, loc, precision = value.to(wide), self.loc.to(wide), self.scale.to(wide).square().reciprocal()
        products = torch.cat([z, z.square()], -1) @ torch.cat([loc * precision, -0.5 * precision], -1).mT
        rest = 0.5 * (precision.log() - loc.square() * precision - math.log(2 * math.pi)).sum(-1)
        return (products + rest + self.logits.to(wide).log_softmax(-1)).logsumexp(-1).to(value.dtype)

    @property
    def mean(self) -> Tensor:
        return self.logits.softmax(-1) @ self.loc

    @property
    def variance(self) -> Tensor:
        return self.logits.softmax(-1) @ (self.scale.square() + (self.loc - self.mean).square())

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            chosen = Categorical(logits=self.logits).sample(torch.Size(sample_shape))
            return torch.normal(self.loc[chosen], self.scale[chosen])
