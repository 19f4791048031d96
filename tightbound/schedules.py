"""Values that change with the step: β warm-up, capacity, learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import overload

from torch import Tensor

__all__ = ["Linear", "WarmupCosine", "at"]


@dataclass(frozen=True)
class Linear:
    r"""From ``start`` to ``end`` over ``steps``, then constant: KL warm-up, a growing capacity.

    References:
        Bowman et al.: Generating Sentences from a Continuous Space (2015), https://arxiv.org/abs/1511.06349.

    Args:
        start: value at step 0, unless ``steps`` is 0.
        end: value from ``steps`` on.
        steps: how many optimisation steps the change takes; 0 for none.

    Raises:
        ValueError: for a negative number of steps.

    Example:
        >>> Linear(0.0, 1.0, steps=10)(5)
        0.5
    """

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"Expected steps >= 0; got {self.steps}.")

    @overload
    def __call__(self, step: float) -> float: ...
    @overload
    def __call__(self, step: Tensor) -> Tensor: ...
    def __call__(self, step: float | Tensor) -> float | Tensor:
        left = (self.steps - step) / max(self.steps, 1)
        left = left.clamp(0, 1) if isinstance(left, Tensor) else min(max(left, 0.0), 1.0)
        return left * self.start + (1 - left) * self.end


@dataclass(frozen=True)
class WarmupCosine:
    r"""Learning rate: up from 0 over ``warmup`` steps, then down along half a cosine to ``floor`` × peak.

    References:
        Loshchilov, Hutter: SGDR (2016), https://arxiv.org/abs/1608.03983.

    Args:
        peak: the highest value.
        steps: total number of optimisation steps.
        warmup: of these, how many rise.
        floor: what is left at the end, as a share of the peak.

    Raises:
        ValueError: for a warm-up longer than the training.

    Example:
        >>> rate = WarmupCosine(1.0, steps=100, warmup=10)
        >>> rate(5), rate(10), round(rate(100), 6)
        (0.5, 1.0, 0.0)
    """

    peak: float
    steps: int
    warmup: int = 0
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup <= self.steps:
            raise ValueError(
                f"Expected a warm-up between 0 and the {self.steps} steps of the training; got {self.warmup}."
            )

    def __call__(self, step: float) -> float:
        if step < self.warmup:
            return self.peak * step / self.warmup
        done = min((step - self.warmup) / max(self.steps - self.warmup, 1), 1.0)
        return self.peak * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * done)))


def at(value: float | Linear, step: Tensor | None) -> float | Tensor:
    """A number as it is; a schedule at ``step``, or at its end where there is no step (validation, evaluation).

    Args:
        value: a number or a schedule.
        step: how many steps came before; None for a schedule's end.

    Returns:
        The value: a tensor where a schedule is asked at a step.

    Example:
        >>> import torch
        >>> at(Linear(0.0, 4.0, steps=10), None), at(Linear(0.0, 4.0, steps=10), torch.tensor(5))
        (4.0, tensor(2.))
    """
    if isinstance(value, Linear):
        return value.end if step is None else value(step)
    return value
