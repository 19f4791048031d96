"""Means that a few far observations cannot move, and which observations move the mean."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tightbound.evaluate.estimates import Estimate

TRIMMED = 0.05  # of the observations, left out at either end
FEW = 8  # observations, below which none is called far
MOVES = 2.0  # standard errors of the others' mean, that a far observation moves the mean by, at least …
LEAST = 0.05  # … and nats
MOST = 0.05  # of the observations, that are called far at most


@dataclass(frozen=True)
class Far:
    """An observation that moves a mean by itself.

    Args:
        index: its number among the observations.
        row: its row in the data they were taken from.
        value: its own value, in nats.
        moves: the mean with it less the mean without it, in nats.

    Example:
        >>> Far(index=3, row=17, value=-1e6, moves=-2e4).row
        17
    """

    index: int
    row: int
    value: float
    moves: float


def trimmed(values: Tensor) -> Estimate:
    r"""The mean of the middle 90 % of values, with its standard error by those it replaces the ends with.

    .. math:: \widehat{\mathrm{se}} = \frac{s_w}{(1 - 2 \gamma) \sqrt{N}}, \qquad \gamma = 0.05

    Args:
        values: shape (N,).

    References:
        Tukey, McLaughlin: Less Vulnerable Confidence and Significance Procedures for Location (1963), Sankhyā A 25.

    Example:
        >>> print(trimmed(torch.tensor([*[-1.0, 1.0] * 20, -1e30])))
        -0.03 ± 0.18
    """
    ordered, count = values.double().sort().values, len(values)
    cut = int(TRIMMED * count + 0.5) if count > 2 else 0
    middle = ordered[cut : count - cut]
    replaced = ordered.clamp(middle[0], middle[-1])
    se = replaced.std().item() / ((1 - 2 * cut / count) * math.sqrt(count)) if count > 1 else math.nan
    return Estimate(middle.mean().item(), se)


def far(values: Tensor, rows: Tensor) -> tuple[Far, ...]:
    """The observations that move the mean, the farthest first: each by two standard errors of the mean of the others.

    Args:
        values: one an observation, shape (N,), finite.
        rows: where each stands in its data, shape (N,).

    Example:
        >>> values = torch.tensor([*[-1.0, 1.0] * 20, -1e6])
        >>> far(values, torch.arange(41) + 100)
        (Far(index=40, row=140, value=-1000000.0, moves=-24390.243902439026),)
    """
    values, found = values.double(), list[Far]()
    kept = torch.ones(len(values), dtype=torch.bool)
    while int(kept.sum()) >= FEW and len(found) <= MOST * len(values):
        centre = values[kept].median()
        index = int(torch.where(kept, (values - centre).abs(), -1.0).argmax())
        kept[index] = False
        others = Estimate.of(values[kept])
        with_it = torch.cat([values[kept], values[index : index + 1]]).mean().item()
        if abs(with_it - others.value) <= max(MOVES * others.se, LEAST):
            break
        found.append(Far(index, int(rows[index]), values[index].item(), with_it - others.value))
    return tuple(found)
