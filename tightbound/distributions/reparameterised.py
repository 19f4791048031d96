r"""Draws as maps of noise, z = g(ε): the reparameterisation trick, written out for each family.

A gradient cannot pass through a draw, but it can pass through a function. So the draw is made of two steps: ε comes
from a law without parameters, and g carries the parameters. Then z is an ordinary differentiable function of them, and

.. math:: \nabla_\theta \mathbb{E}_{p_\theta(z)}[f(z)] = \mathbb{E}_{p(\epsilon)}[\nabla_\theta f(g(\epsilon; \theta))]

Each family here says which law its noise has and which map it is, and ``rsample`` is nothing but the two in turn.

References:
    Kingma, Welling: Auto-Encoding Variational Bayes (2013), https://arxiv.org/abs/1312.6114, section 2.4.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, final

import torch
import torch.distributions as td
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.utils import broadcast_all

__all__ = ["Exponential", "Gumbel", "LogNormal", "Logistic", "Normal", "Reparameterised", "Uniform"]

EULER = 0.5772156649015329  # γ: the mean of a standard Gumbel


class Reparameterised(Distribution, ABC):
    r"""A distribution of which a draw is a map of noise, :math:`z = g(\epsilon; \text{parameters})`."""

    has_rsample = True

    @property
    @abstractmethod
    def noise_distribution(self) -> Distribution:
        """The law of ε, which has no parameters: one for each element of a draw."""

    @abstractmethod
    def noise(self, sample_shape: Any = ()) -> Tensor:
        r"""Draws of ε.

        Args:
            sample_shape: how many, as a shape.

        Returns:
            Shape (\*sample_shape, \*batch, \*event).
        """

    @abstractmethod
    def from_noise(self, noise: Tensor) -> Tensor:
        """The map g.

        Args:
            noise: ε, as :meth:`noise` gives it.

        Returns:
            z = g(ε), of the same shape, differentiable in the parameters and in ε.
        """

    @final
    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.from_noise(self.noise(sample_shape))

    @final
    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)


class _OfNormalNoise(Reparameterised, ABC):
    """ε ~ N(0, 1)."""

    loc: Tensor

    @property
    def noise_distribution(self) -> td.Normal:
        return td.Normal(torch.zeros_like(self.loc), torch.ones_like(self.loc), validate_args=False)

    def noise(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        return torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)


class _OfUniformNoise(Reparameterised, ABC):
    """ε ~ U(0, 1), both ends left out: at 0 a logarithm would be infinite."""

    @property
    @abstractmethod
    def _parameter(self) -> Tensor:
        """One of the parameters, which says where and how precisely to compute."""

    @property
    def noise_distribution(self) -> td.Uniform:
        return td.Uniform(torch.zeros_like(self._parameter), torch.ones_like(self._parameter), validate_args=False)

    def noise(self, sample_shape: Any = ()) -> Tensor:
        like = self._parameter
        shape = self._extended_shape(torch.Size(sample_shape))
        # Draws of u are multiples of the step of their type, 0 among them and 1 not.
        return torch.rand(shape, dtype=like.dtype, device=like.device).clamp(min=torch.finfo(like.dtype).eps / 4)


class _OfLocAndScale(Reparameterised, ABC):
    """Elements with a location and a scale."""

    arg_constraints: ClassVar[dict[str, Any]] = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(self, loc: Tensor, scale: Tensor, *, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Distribution:
        loc, scale = self.loc.expand(batch_shape), self.scale.expand(batch_shape)
        return type(self)(loc, scale, validate_args=self._validate_args)

    @property
    def _parameter(self) -> Tensor:
        return self.loc


class Normal(_OfNormalNoise, td.Normal):
    r""":math:`z = \mu + \sigma \epsilon, \quad \epsilon \sim \mathcal{N}(0, 1)`.

    Args:
        loc: :math:`\mu`, any shape.
        scale: :math:`\sigma > 0`, broadcastable with it.

    Example:
        >>> z = Normal(torch.tensor(2.0), torch.tensor(3.0))
        >>> z.from_noise(torch.tensor([0.0, 1.0, -1.0]))
        tensor([ 2.,  5., -1.])
    """

    def from_noise(self, noise: Tensor) -> Tensor:
        return self.loc + noise * self.scale


class LogNormal(_OfLocAndScale, _OfNormalNoise):
    r""":math:`z = e^{\mu + \sigma \epsilon}, \quad \epsilon \sim \mathcal{N}(0, 1)`.

    Args:
        loc: :math:`\mu`, of log z, any shape.
        scale: :math:`\sigma > 0`, of log z, broadcastable with it.

    Example:
        >>> LogNormal(torch.tensor(0.0), torch.tensor(1.0)).from_noise(torch.tensor([0.0, 1.0]))
        tensor([1.0000, 2.7183])
    """

    support = constraints.positive

    def from_noise(self, noise: Tensor) -> Tensor:
        return (self.loc + noise * self.scale).exp()

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        log_z = value.log()
        return (
            -0.5 * ((log_z - self.loc) / self.scale).square() - (self.scale.log() + log_z) - 0.5 * math.log(2 * math.pi)
        )

    @property
    def mean(self) -> Tensor:
        return (self.loc + 0.5 * self.scale.square()).exp()

    @property
    def variance(self) -> Tensor:
        return torch.expm1(self.scale.square()) * self.mean.square()


class Exponential(_OfUniformNoise, td.Exponential):
    r""":math:`z = -\log(\epsilon) / \lambda, \quad \epsilon \sim \mathcal{U}(0, 1)`.

    Args:
        rate: :math:`\lambda > 0`, any shape; the mean is its inverse.

    Example:
        >>> Exponential(torch.tensor(2.0)).from_noise(torch.tensor([1.0, 0.5]))
        tensor([-0.0000, 0.3466])
    """

    @property
    def _parameter(self) -> Tensor:
        return self.rate

    def from_noise(self, noise: Tensor) -> Tensor:
        return -noise.log() / self.rate


class Gumbel(_OfLocAndScale, _OfUniformNoise):
    r""":math:`z = \mu - \beta \log(-\log \epsilon), \quad \epsilon \sim \mathcal{U}(0, 1)`.

    Args:
        loc: :math:`\mu`, where the density is highest, any shape.
        scale: :math:`\beta > 0`, broadcastable with it.

    Example:
        >>> standard = Gumbel(torch.tensor(0.0), torch.tensor(1.0))
        >>> standard.from_noise(torch.tensor(0.3679)), standard.mean
        (tensor(...), tensor(0.5772))
    """

    support = constraints.real

    def from_noise(self, noise: Tensor) -> Tensor:
        return self.loc - self.scale * torch.log(-noise.log())

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        y = (value - self.loc) / self.scale
        return -y - torch.exp(-y) - self.scale.log()

    @property
    def mean(self) -> Tensor:
        return self.loc + EULER * self.scale

    @property
    def variance(self) -> Tensor:
        return (math.pi * self.scale).square() / 6


class Logistic(_OfLocAndScale, _OfUniformNoise):
    r""":math:`z = \mu + s \log \frac{\epsilon}{1 - \epsilon}, \quad \epsilon \sim \mathcal{U}(0, 1)`.

    Args:
        loc: :math:`\mu`, the mean, any shape.
        scale: :math:`s > 0`, broadcastable with it.

    Example:
        >>> Logistic(torch.tensor(1.0), torch.tensor(2.0)).from_noise(torch.tensor(0.5))
        tensor(1.)
    """

    support = constraints.real

    def from_noise(self, noise: Tensor) -> Tensor:
        return self.loc + self.scale * (noise.log() - torch.log1p(-noise))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        y = (value - self.loc) / self.scale
        return F.logsigmoid(y) + F.logsigmoid(-y) - self.scale.log()

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return (math.pi * self.scale).square() / 3


class Uniform(_OfUniformNoise, td.Uniform):
    r""":math:`z = a + (b - a) \epsilon, \quad \epsilon \sim \mathcal{U}(0, 1)`.

    Args:
        low: a, any shape.
        high: b > a, broadcastable with it.

    Example:
        >>> Uniform(torch.tensor(1.0), torch.tensor(3.0)).from_noise(torch.tensor(0.25))
        tensor(1.5000)
    """

    @property
    def _parameter(self) -> Tensor:
        return self.low

    def from_noise(self, noise: Tensor) -> Tensor:
        return self.low + noise * (self.high - self.low)
