"""Bernoulli elements by their logits: nothing overflows, and a whole observation takes few logarithms."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributions as td
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import constraints

__all__ = ["Bernoulli", "IndependentBernoulli", "UnnormalisedBernoulli", "independent"]


class _ByLogit(td.Bernoulli):
    """Scores elements by their logits; a subclass says which values it lets through."""

    def __init__(self, logits: Tensor, *, validate_args: bool | None = None) -> None:
        super().__init__(logits=logits, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> _ByLogit:
        return type(self)(self.logits.expand(batch_shape), validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        linear, factor = self.parts(value)
        return linear - torch.log(factor)

    def parts(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """What the log-probability is made of: its linear part, less the logarithm of a factor from 1 to 2."""
        if self._validate_args:
            self._validate_sample(value)
        size = self.logits.abs()
        return (value - 0.5) * self.logits - 0.5 * size, 1 + torch.exp(-size)


class Bernoulli(_ByLogit):
    r"""torch's Bernoulli by its logit, with one exponential and one logarithm an element.

    .. math:: \log P(x) = \left(x - \tfrac12\right) \ell - \tfrac12 |\ell| - \log\left(1 + e^{-|\ell|}\right)

    Nothing overflows, and at :math:`\ell = 0` the gradient is x − ½.

    Args:
        logits: :math:`\ell`, any shape.

    Example:
        >>> Bernoulli(logits=torch.zeros(())).log_prob(torch.tensor(1.0))
        tensor(-0.6931)
    """

    support = constraints.boolean


class UnnormalisedBernoulli(_ByLogit):
    """The formula of :class:`Bernoulli` over the whole of [0, 1]: a cross-entropy, and no density.

    Its exponential does not integrate to one over [0, 1]; :class:`ContinuousBernoulli` is what it becomes if it does.

    Args:
        logits: any shape.

    Example:
        >>> UnnormalisedBernoulli(logits=torch.zeros(())).log_prob(torch.tensor(0.3))
        tensor(-0.6931)
    """

    support = constraints.unit_interval  # type: ignore[assignment]


class IndependentBernoulli(td.Independent):
    r"""Bernoulli elements of one observation, scored with a logarithm for a hundred of them.

    .. math:: \sum_i \log\left(1 + e^{-|\ell_i|}\right) = \log \prod_i \left(1 + e^{-|\ell_i|}\right)

    in groups whose product cannot overflow: each factor is at most 2. Where a gradient is wanted, the elements are
    scored one by one, for the gradient of a product is more work than the logarithms.

    Example:
        >>> p = IndependentBernoulli(Bernoulli(logits=torch.zeros(784)), 1)
        >>> with torch.no_grad():
        ...     bool(p.log_prob(torch.ones(784)).isclose(784 * torch.tensor(0.5).log()))
        True
    """

    def log_prob(self, value: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return super().log_prob(value)
        parts = self.base_dist.parts(value)  # whose leading axes are the value's own, more than the batch's it may be
        linear, factors = (p.reshape(*p.shape[: p.ndim - len(self.event_shape)], -1) for p in parts)
        return linear.sum(-1) - _sum_of_logs(factors)


def independent(elements: td.Distribution, axes: int = 1) -> td.Independent:
    r"""Independent elements as the distribution of one observation, or of one latent.

    Args:
        elements: batch shape (\*batch, \*event).
        axes: how many of its last axes are the event's.

    Returns:
        Batch shape \*batch, event shape \*event; bits are scored together.

    Example:
        >>> independent(Bernoulli(logits=torch.zeros(3, 2))).log_prob(torch.ones(3, 2)).shape
        torch.Size([3])
    """
    kind = IndependentBernoulli if isinstance(elements, _ByLogit) else td.Independent
    return kind(elements, axes, validate_args=False)


def _sum_of_logs(factors: Tensor) -> Tensor:
    """Sum of the logarithms of factors of at most 2, over the last axis."""
    count, most = factors.shape[-1], math.frexp(torch.finfo(factors.dtype).max)[1] - 1
    groups = -(-count // most)
    size = -(-count // groups)
    whole = F.pad(factors, (0, groups * size - count), value=1.0)
    return whole.unflatten(-1, (groups, size)).prod(-1).log().sum(-1)
