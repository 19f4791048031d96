"""Distributions that torch lacks, or has in a form that loses its digits or its gradient where a decoder goes."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.utils import broadcast_all

from tightbound.support import GreyLevels

__all__ = ["ContinuousBernoulli", "DiscretizedLogistic"]


class ContinuousBernoulli(Distribution):
    r"""A density on [0, 1] in the form of a Bernoulli, by its logit.

    .. math:: \log p(x) = \ell x - \log \frac{e^{\ell} - 1}{\ell}

    Stable at every logit, :math:`\ell = 0` included, where torch's own works with clamped probabilities.

    References:
        Loaiza-Ganem, Cunningham: The continuous Bernoulli (2019), https://arxiv.org/abs/1907.06845.

    Args:
        logits: :math:`\ell`, any shape.

    Example:
        >>> ContinuousBernoulli(torch.zeros(())).log_prob(torch.tensor(0.3))
        tensor(-0.)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, logits: Tensor, *, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ContinuousBernoulli:
        return ContinuousBernoulli(self.logits.expand(batch_shape), validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return self.logits * (value - 0.5) - _log_sinhc(self.logits)

    @property
    def mean(self) -> Tensor:
        near, small, safe = _split(self.logits)
        # d/dl of the log-normaliser; its series around 0 where 1/(1 - e^-l) - 1/l would cancel.
        square = small.square()
        series = 0.5 + small / 12 * (1 - square / 60 * (1 - square / 42 * (1 - square / 40)))
        return torch.where(near, series, torch.reciprocal(-torch.expm1(-safe)) - safe.reciprocal())

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        u = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
        size = self.logits.abs().clamp(min=1e-6)
        # The inverse of F(x) = (e^{lx} - 1) / (e^l - 1) for -|l|, where nothing overflows; for |l| it is that of 1 - x.
        x = (-torch.log1p(u * torch.expm1(-size)) / size).clamp(0, 1)
        return torch.where(self.logits > 0, 1 - x, x)


def _split(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where a logit is so near 0 that a difference would cancel, the logits there, and those elsewhere."""
    near = logits.abs() < 0.5
    # What is not asked for is replaced: a gradient passes through both branches of a where, and must be finite in both.
    return near, torch.where(near, logits, 0), torch.where(near, 1, logits)


def _log_sinhc(logits: Tensor) -> Tensor:
    """log(sinh(l/2) / (l/2)), which is even, 0 at 0 and |l|/2 - log|l| far away."""
    near, small, safe = _split(logits)
    square, size = small.square(), safe.abs()
    series = square / 24 * (1 - square / 120 * (1 - square / 63 * (1 - 3 * square / 160)))
    return torch.where(near, series, size / 2 + torch.log(-torch.expm1(-size)) - size.log())


class DiscretizedLogistic(Distribution):
    r"""A logistic density gathered into ``levels`` equal bins: a probability for each grey level 0, 1/(L−1), …, 1.

    .. math:: P(x) = \sigma\!\left(\frac{x + h - \mu}{s}\right) - \sigma\!\left(\frac{x - h - \mu}{s}\right),
              \qquad h = \frac{1}{2(L-1)}

    The bins at 0 and 1 take the tails, so the levels sum to one.

    References:
        Kingma et al.: Improved Variational Inference with Inverse Autoregressive Flow (2016),
        https://arxiv.org/abs/1606.04934; Salimans et al.: PixelCNN++ (2017), https://arxiv.org/abs/1701.05517.

    Args:
        loc: :math:`\mu`, any shape, in units of x.
        scale: :math:`s > 0`, broadcastable with ``loc``.
        levels: how many grey levels, at least 2.

    Example:
        >>> levels = torch.linspace(0, 1, 16)
        >>> DiscretizedLogistic(torch.tensor(0.2), torch.tensor(0.1), levels=16).log_prob(levels).exp().sum()
        tensor(1.0000)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(self, loc: Tensor, scale: Tensor, *, levels: int = 256, validate_args: bool | None = None) -> None:
        if levels < 2:
            raise ValueError(f"Expected at least 2 grey levels; got {levels}.")
        self.loc, self.scale = broadcast_all(loc, scale)
        self.levels = levels
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return GreyLevels(self.levels)

    def expand(self, batch_shape: Any, _instance: Any = None) -> DiscretizedLogistic:
        loc, scale = self.loc.expand(batch_shape), self.scale.expand(batch_shape)
        return DiscretizedLogistic(loc, scale, levels=self.levels, validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        steps = self.levels - 1
        level = (value * steps).round()  # so that neighbouring bins share their edge to the last bit
        upper = ((level + 0.5) / steps - self.loc) / self.scale
        lower = ((level - 0.5) / steps - self.loc) / self.scale
        first, last = level == 0, level == steps
        # sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - e^{-(u-l)}): no difference of nearly equal numbers.
        log_width = torch.log(-torch.expm1(-1 / (steps * self.scale)))
        below = torch.where(last, 0.0, F.logsigmoid(upper))
        above = torch.where(first, 0.0, F.logsigmoid(-lower))
        return below + above + torch.where(first | last, 0.0, log_width)

    @property
    def mean(self) -> Tensor:
        steps = self.levels - 1
        total = torch.zeros_like(self.loc)
        for k in range(steps):  # E[x] is the sum of P(x > level k) over the levels, one step each
            total += torch.sigmoid((self.loc - (k + 0.5) / steps) / self.scale)
        return total / steps

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            shape = self._extended_shape(torch.Size(sample_shape))
            tiny = torch.finfo(self.loc.dtype).tiny
            u = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device).clamp_(tiny)
            steps = self.levels - 1
            return (self.loc + self.scale * torch.logit(u)).mul(steps).round().clamp(0, steps) / steps
