"""Sets of numbers by rank: beside each other, and beside uniform ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightbound.evaluate.estimates import Estimate


def placed(values: Tensor, among: Tensor) -> Tensor:
    """The share of other numbers that lie below each number; one that is equal counts half.

    Args:
        values: shape (N,); NaN counts as −∞.
        among: the others, shape (M,), likewise.

    Returns:
        Shape (N,), float64, between 0 and 1.

    Example:
        >>> placed(torch.tensor([0.0, 2.0, 5.0]), torch.tensor([1.0, 2.0]))
        tensor([0.0000, 0.7500, 1.0000], dtype=torch.float64)
    """
    values, ordered = _known(values), _known(among).sort().values
    below, up_to = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return (below + up_to).double() / (2 * len(among))


def share_below(first: Tensor, second: Tensor) -> Estimate:
    """How often a number of the first set lies below one of the second, over all pairs; ½ where both are alike.

    References:
        DeLong, DeLong, Clarke-Pearson: Comparing the Areas under Two or More Correlated Receiver Operating
        Characteristic Curves (1988), https://doi.org/10.2307/2531595, for the error.

    Args:
        first: shape (N,).
        second: shape (M,).

    Returns:
        The share and its standard error by the spread of both sets.

    Example:
        >>> share_below(torch.tensor([0.0, 3.0]), torch.tensor([1.0, 2.0])).value
        0.5
    """
    ours, theirs = placed(first, second), placed(second, first)
    return Estimate(theirs.mean().item(), math.sqrt(ours.var() / len(first) + theirs.var() / len(second)))


def mann_whitney(first: Tensor, second: Tensor) -> float:
    r"""How many standard deviations the ranks of the first set lie above what chance gives; 0 where both are alike.

    .. math:: Z = \frac{U - NM/2}{\sqrt{NM(N + M + 1)/12}}

    with U the number of pairs in which the first number is the larger one. Ties count half, and narrow the root.

    References:
        Mann, Whitney: On a Test of Whether one of Two Random Variables is Stochastically Larger than the Other (1947),
        https://doi.org/10.1214/aoms/1177730491.

    Args:
        first: shape (N,).
        second: shape (M,).

    Returns:
        Z, negative where the first are smaller; 0 where all numbers are equal.

    Example:
        >>> round(mann_whitney(torch.arange(20.0), torch.arange(20.0) + 10), 2)
        -4.06
    """
    n, m = len(first), len(second)
    ties = torch.cat([_known(first), _known(second)]).unique(return_counts=True)[1].double()
    spread = n * m / 12 * (n + m + 1 - float((ties**3 - ties).sum()) / ((n + m) * (n + m - 1)))
    above = n * m * (float(placed(first, second).mean()) - 0.5)
    return above / math.sqrt(spread) if spread > 0 else 0.0


def kolmogorov_smirnov(first: Tensor, second: Tensor) -> float:
    """The largest distance of two sets' distribution functions, between 0 and 1.

    Args:
        first: shape (N,).
        second: shape (M,).

    Example:
        >>> kolmogorov_smirnov(torch.arange(4.0), torch.arange(4.0) + 2)
        0.5
    """
    first, second = _known(first), _known(second)
    every = torch.cat([first, second])
    ours, theirs = (torch.searchsorted(x.sort().values, every, right=True).double() / len(x) for x in (first, second))
    return float((ours - theirs).abs().max())


def off_uniform(levels: Tensor) -> Tensor:
    """The largest distance of a set's distribution function from that of uniform numbers, of each column.

    Args:
        levels: between 0 and 1, shape (N, L).

    Returns:
        Shape (L,), float64, between 0 and 1.

    Example:
        >>> off_uniform(torch.tensor([[0.25], [0.75]]))
        tensor([0.2500], dtype=torch.float64)
    """
    ordered, count = levels.double().sort(0).values, len(levels)
    steps = torch.arange(1, count + 1, dtype=torch.float64)[:, None] / count
    return torch.maximum((steps - ordered).abs(), (steps - 1 / count - ordered).abs()).amax(0)


def _known(values: Tensor) -> Tensor:
    values = values.double()
    return torch.where(values.isnan(), -torch.inf, values)
