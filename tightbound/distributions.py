"""Two distributions that torch lacks, or has in a form whose gradient dies: continuous Bernoulli and discretized logistic."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.distributions.utils import broadcast_all


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
        tensor(0.)
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"logits": constraints.real}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, logits: Tensor, *, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ContinuousBernoulli:
        return ContinuousBernoulli(self.logits.expand(batch_shape), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return self.logits * (value - 0.5) - _log_sinhc(self.logits)

    @property
    def mean(self) -> Tensor:
        near, safe = _split(self.logits)
        # d/dl of the log-normaliser; its series around 0 where 1/(1 - e^-l) - 1/l would cancel.
        far = torch.where(near, 0.5, torch.reciprocal(-torch.expm1(-safe)) - safe.reciprocal())
        return torch.where(near, 0.5 + self.logits / 12, far)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        u = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
        near, safe = _split(self.logits)
        # The inverse of F(x) = (e^{lx} - 1) / (e^l - 1), with e^l taken out where it would overflow.
        positive = safe > 0
        towards_one = 1 + torch.log(u + (1 - u) * torch.exp(-safe.abs())) / safe.abs()
        towards_zero = -torch.log1p(-u * -torch.expm1(-safe.abs())) / safe.abs()
        return torch.where(near, u, torch.where(positive, towards_one, towards_zero)).clamp(0, 1)


def _split(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Where a logit is too near 0 to divide by, and the logits with those replaced by 1 (safe for the gradient)."""
    near = logits.abs() < 1e-2
    return near, torch.where(near, torch.ones_like(logits), logits)


def _log_sinhc(logits: Tensor) -> Tensor:
    """log(sinh(l/2) / (l/2)), which is even, 0 at 0 and |l|/2 - log|l| far away."""
    near, safe = _split(logits)
    size = safe.abs()
    square = logits.square()
    series = square / 24 - square.square() / 2880
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
    support = constraints.unit_interval

    def __init__(self, loc: Tensor, scale: Tensor, *, levels: int = 256, validate_args: bool | None = None) -> None:
        if levels < 2:
            raise ValueError(f"Expected at least 2 grey levels; got {levels}.")
        self.loc, self.scale = broadcast_all(loc, scale)
        self.levels = levels
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> DiscretizedLogistic:
        loc, scale = self.loc.expand(batch_shape), self.scale.expand(batch_shape)
        return DiscretizedLogistic(loc, scale, levels=self.levels, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        half = 0.5 / (self.levels - 1)
        upper = (value + half - self.loc) / self.scale
        lower = (value - half - self.loc) / self.scale
        first, last = value < half, value > 1 - half
        # sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - e^{-(u-l)}): no difference of nearly equal numbers.
        log_width = torch.log(-torch.expm1(-2 * half / self.scale))
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


def bits_per_dim(nats: float, dimensions: int) -> float:
    """Bits per dimension of an observation from its log-likelihood in nats (one place converts; higher nats, fewer bits).

    Example:
        >>> round(bits_per_dim(-784 * math.log(2), 784), 6)
        1.0
    """
    return -nats / (dimensions * math.log(2))
