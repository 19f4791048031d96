"""Elements of several families side by side: the columns of a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical, Distribution
from torch.distributions.constraints import Constraint, integer_interval, real

__all__ = ["Columns", "Levels", "ordered"]


class _Supports(Constraint):
    """Where each column has any probability.

    Args:
        supports: of the parts.
        columns: for each part, which columns it describes.
    """

    def __init__(self, supports: Sequence[Constraint], columns: Sequence[Tensor]) -> None:
        self.supports, self.columns = tuple(supports), tuple(columns)
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        inside = torch.ones_like(value, dtype=torch.bool)
        for support, columns in zip(self.supports, self.columns, strict=True):
            inside[..., columns] = support.check(value[..., columns])
        return inside

    def __repr__(self) -> str:
        return f"Supports({', '.join(map(repr, self.supports))})"


class Columns(Distribution):
    r"""Columns, each of a family of its own: one call for each family, however many columns it has.

    A density of a stored number y becomes one of the table's own number x by the slope of the transform,

    .. math:: \log p(x) = \log p(y) + \log \left|\frac{dy}{dx}\right|, \qquad
        \log \left|\frac{dy}{dx}\right| = a - b y

    so that nats are those of the table, and models with different transforms can be compared.

    Args:
        parts: distributions of batch shape (\*, columns of the part).
        columns: for each part, which columns of the table it describes, integers.
        offset: a of each column, shape (C,).
        slope: b of each column, shape (C,).

    Example:
        >>> from torch.distributions import Normal, Poisson
        >>> parts = [Poisson(torch.ones(7, 1)), Normal(torch.zeros(7, 2), torch.ones(7, 2))]
        >>> table = Columns(parts, [torch.tensor([1]), torch.tensor([0, 2])], torch.zeros(3), torch.zeros(3))
        >>> table.log_prob(torch.tensor([0.0, 2.0, 1.0]))[0]
        tensor([-0.9189, -1.6931, -1.4189])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, parts: Sequence[Distribution], columns: Sequence[Tensor], offset: Tensor, slope: Tensor) -> None:
        self.parts, self.columns, self.offset, self.slope = tuple(parts), tuple(columns), offset, slope
        self.back = torch.argsort(torch.cat(self.columns))
        batch = torch.broadcast_shapes(*(part.batch_shape[:-1] for part in self.parts))
        super().__init__(torch.Size([*batch, len(self.back)]), validate_args=False)

    @property
    def support(self) -> Constraint:
        return _Supports([part.support or real for part in self.parts], self.columns)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Columns:
        lead = torch.Size(batch_shape)[:-1]
        parts = [part.expand(torch.Size([*lead, part.batch_shape[-1]])) for part in self.parts]
        return Columns(parts, self.columns, self.offset, self.slope)

    def log_prob(self, value: Tensor) -> Tensor:
        own = [part.log_prob(value[..., columns]) for part, columns in zip(self.parts, self.columns, strict=True)]
        return torch.cat(own, -1)[..., self.back] + self.offset - self.slope * value

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return self.of_each(lambda part: part.sample(torch.Size(sample_shape)).to(self.offset))

    def of_each(self, ask: Callable[[Distribution], Tensor]) -> Tensor:
        r"""What each part answers, put in the order of the table's columns.

        Args:
            ask: from a part to a tensor of shape (\*, columns of the part).
        """
        return torch.cat([ask(part) for part in self.parts], -1)[..., self.back]


class Levels(Categorical):
    r"""Levels, numbered from 0, of columns that have different numbers of them.

    Args:
        logits: shape (\*, columns, most levels of any column).
        counts: how many levels each column has, integers, shape (columns,).

    Example:
        >>> Levels(torch.zeros(2, 3), torch.tensor([2, 3])).log_prob(torch.tensor([1.0, 1.0])).exp()
        tensor([0.5000, 0.3333])
    """

    def __init__(self, logits: Tensor, counts: Tensor) -> None:
        beyond = torch.arange(logits.shape[-1], device=logits.device) >= counts[:, None]
        self.counts = counts
        super().__init__(logits=logits.masked_fill(beyond, torch.finfo(logits.dtype).min / 4), validate_args=False)

    @property
    def support(self) -> Constraint:
        return integer_interval(torch.zeros_like(self.counts), self.counts - 1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Levels:
        return Levels(self.logits.expand(*batch_shape, self.logits.shape[-1]), self.counts)


def ordered(location: Tensor, thresholds: Tensor) -> Tensor:
    r"""Log-probabilities of levels in an order: :math:`P(k \le j) = \sigma(\theta_j - \eta)`.

    A difference of two of these is :math:`\sigma(a)\, \sigma(-b)\, (1 - e^{b - a})`, whose logarithm keeps its digits
    however far the location lies from both thresholds.

    References:
        McCullagh: Regression Models for Ordinal Data (1980), https://doi.org/10.1111/j.2517-6161.1980.tb01109.x.

    Args:
        location: η, shape (\*, columns).
        thresholds: θ in rising order, shape (columns, levels − 1); infinite beyond a column's own.

    Returns:
        Shape (\*, columns, levels).

    Example:
        >>> ordered(torch.zeros(1), torch.tensor([[-1.0, 1.0]])).exp()
        tensor([[0.2689, 0.4621, 0.2689]])
    """
    far = thresholds.new_full((len(thresholds), 1), torch.inf)
    above, below = torch.cat([thresholds, far], -1), torch.cat([-far, thresholds], -1)
    gap = torch.where(above > below, above - below, torch.inf)  # both infinite beyond the last level
    location = location[..., None]
    return F.logsigmoid(above - location) + F.logsigmoid(location - below) + torch.log(-torch.expm1(-gap))
