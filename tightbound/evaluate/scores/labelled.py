"""Codes beside the factors of their observations, as every score wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

PARTS = 20  # equal shares that a factor of very many values is cut into
MANY = 200  # values from which on a factor counts as continuous
FLAT = 1e-3  # share of the widest unit's standard deviation below which a unit is dead


@dataclass(frozen=True, eq=False)
class Labelled:
    """N codes and the classes of their factors.

    Args:
        codes: of units that are alive, shape (N, L), float64.
        classes: of each factor, integers from 0, shape (N, F).
        values: the factors themselves, shape (N, F), float64.
        sizes: how many classes each factor has.
        unordered: whether the values of each factor have no order.

    Example:
        >>> made = Labelled.of(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[5.0], [7.0], [5.0]]))
        >>> made.classes[:, 0], made.sizes
        (tensor([0, 1, 0]), (2,))
    """

    codes: Tensor
    classes: Tensor
    values: Tensor
    sizes: tuple[int, ...]
    unordered: tuple[bool, ...]

    @classmethod
    def of(cls, codes: Tensor, factors: Tensor, unordered: Sequence[bool] | None = None) -> Labelled:
        """Classes of any factors.

        Args:
            codes: shape (N, L).
            factors: shape (N, F), real numbers. One of more than 200 values is cut into 20 parts of equal counts.
            unordered: whether the values of each have no order; by default all have one.
        """
        values = factors.double()
        columns = [_classes(column) for column in values.T]
        sizes = tuple(int(column.max()) + 1 for column in columns)
        return cls(codes.double(), torch.stack(columns, 1), values, sizes, tuple(unordered or [False] * len(sizes)))

    def rows(self, index: Tensor) -> Labelled:
        """Some of the observations, in the order of the indices."""
        parts = self.codes[index], self.classes[index], self.values[index]
        return Labelled(*parts, self.sizes, self.unordered)

    def with_codes(self, codes: Tensor) -> Labelled:
        """The same factors beside other codes."""
        return Labelled(codes.double(), self.classes, self.values, self.sizes, self.unordered)

    def __len__(self) -> int:
        return len(self.codes)


def _classes(column: Tensor) -> Tensor:
    column = column.contiguous()
    distinct, classes = column.unique(return_inverse=True)
    if len(distinct) <= MANY:
        return classes
    edges = column.quantile(torch.arange(1, PARTS, dtype=torch.float64) / PARTS)
    return torch.searchsorted(edges, column).unique(return_inverse=True)[1]


def alive_units(codes: Tensor, alive: Any) -> Tensor:
    """Which units are scored: as the caller says, or those that are not :func:`dead`.

    Args:
        codes: shape (N, L).
        alive: booleans, shape (L,), or None.

    Raises:
        ValueError: for anything but one boolean for each unit.

    Example:
        >>> alive_units(torch.eye(2), None), alive_units(torch.eye(2), [True, False])
        (tensor([True, True]), tensor([ True, False]))
    """
    if alive is None:
        return ~dead(codes)
    mask, count = torch.as_tensor(alive), codes.shape[1]
    if mask.dtype != torch.bool or mask.shape != (count,):
        raise ValueError(
            f"Expected alive as {count} booleans, one for each unit; got {mask.dtype} of shape {tuple(mask.shape)}."
        )
    return mask.cpu()


def dead(codes: Tensor) -> Tensor:
    """Units that hardly move beside the widest one, shape (L,), boolean.

    Args:
        codes: shape (N, L).

    Example:
        >>> dead(torch.tensor([[0.0, 5.0, 0.0], [1.0, 5.0, 1e-6]]))
        tensor([False,  True,  True])
    """
    spread = codes.double().std(0)
    return spread <= FLAT * spread.max()
