"""Counts, by the logarithms of their parameters: exact where the difference of large numbers is small."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.utils import broadcast_all

__all__ = ["NegativeBinomial", "Poisson"]


class Poisson(Distribution):
    r"""Counts of rate :math:`\lambda = e^{\ell}`, by its logarithm.

    .. math:: \log P(k) = k \ell - e^{\ell} - \log k!

    At k = 10⁹ these terms are of size 10¹⁰ and their sum is about −11. So they are computed in float64, whatever the
    type of the log-rate: relative errors stay below 10⁻⁵ up to there, where torch's own is off by nats from 10⁶ on.

    Args:
        log_rate: :math:`\ell`, any shape.

    Example:
        >>> print(f"{Poisson(torch.tensor(1e6).log()).log_prob(torch.tensor(1e6)):.3f}")
        -7.827
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"log_rate": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(self, log_rate: Tensor, *, validate_args: bool | None = None) -> None:
        self.log_rate = log_rate
        super().__init__(log_rate.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Poisson:
        return Poisson(self.log_rate.expand(batch_shape), validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        log_rate, k = _in_double(self.log_rate), _in_double(value)
        return (k * log_rate - log_rate.exp() - torch.lgamma(1 + k)).to(self.log_rate)

    @property
    def mean(self) -> Tensor:
        return self.log_rate.exp()

    @property
    def variance(self) -> Tensor:
        return self.mean

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return torch.poisson(self.mean.expand(self._extended_shape(torch.Size(sample_shape))))


class NegativeBinomial(Distribution):
    r"""Counts of mean m and variance :math:`m + m^2 / r`, by the logarithms of both.

    .. math:: P(k) = \frac{\Gamma(r + k)}{\Gamma(r)\, k!} \frac{r^r m^k}{(r + m)^{r + k}}

    Exact up to its limit, Poisson's (:math:`r \to \infty`), and up to counts of 10⁹: computed in float64, as
    :class:`Poisson` is, and by Stirling's series where the difference of two log-gammas would lose its digits.

    Args:
        log_mean: log m, any shape.
        log_dispersion: log r, broadcastable with it; counts as within ±40.

    Example:
        >>> NegativeBinomial(torch.tensor(1.0), torch.tensor(30.0)).log_prob(torch.tensor(3.0))
        tensor(-1.5100)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"log_mean": constraints.real, "log_dispersion": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(self, log_mean: Tensor, log_dispersion: Tensor, *, validate_args: bool | None = None) -> None:
        self.log_mean, log_dispersion = broadcast_all(log_mean, log_dispersion)
        self.log_dispersion = log_dispersion.clamp(-40, 40)
        super().__init__(self.log_mean.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> NegativeBinomial:
        log_mean, log_dispersion = self.log_mean.expand(batch_shape), self.log_dispersion.expand(batch_shape)
        return NegativeBinomial(log_mean, log_dispersion, validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        log_mean, log_dispersion, k = map(_in_double, (self.log_mean, self.log_dispersion, value))
        r = log_dispersion.exp()
        log_share = -F.logsigmoid(log_dispersion - log_mean)  # log(1 + m/r)
        found = k * log_mean - (r + k) * log_share + _log_rising(r, k) - torch.lgamma(1 + k)
        return found.to(self.log_mean)

    @property
    def mean(self) -> Tensor:
        return self.log_mean.exp()

    @property
    def variance(self) -> Tensor:
        return self.mean + (2 * self.log_mean - self.log_dispersion).exp()

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            r = self.log_dispersion.exp().expand(self._extended_shape(torch.Size(sample_shape)))
            return torch.poisson(self.mean * torch._standard_gamma(r) / r)


def _in_double(values: Tensor) -> Tensor:
    """In float64: on the CPU where their own device has no such numbers."""
    return values.cpu().double() if values.device.type == "mps" else values.double()


def _log_rising(r: Tensor, k: Tensor) -> Tensor:
    """log(Γ(r + k) / (Γ(r) r^k)), by Stirling's series where r is large."""
    large = r > 50
    low, high = torch.where(large, 1, r), torch.where(large, r, 50)
    exact = torch.lgamma(low + k) - torch.lgamma(low) - k * low.log()
    rest = _stirling_rest(high + k) - _stirling_rest(high)
    return torch.where(large, (high + k - 0.5) * torch.log1p(k / high) - k + rest, exact)


def _stirling_rest(x: Tensor) -> Tensor:
    """log Γ(x) − (x − ½) log x + x − ½ log 2π."""
    return (1 - 1 / (30 * x.square())) / (12 * x)
