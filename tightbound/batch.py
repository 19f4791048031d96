"""A batch as a value: observations, and whatever belongs to each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution


class Batch(NamedTuple):
    r"""B observations with what is known about each: a plain value that objectives and models take, and that compiles.

    Wherever a batch is expected a bare tensor is taken as well, as ``Batch(x)``. The built-in ``len`` counts the fields
    of a tuple; :attr:`size` counts observations.

    Args:
        x: observations, shape (B, \*shape).
        label: the class of each, integers, shape (B,).
        mask: which elements of ``x`` are present, boolean, shape as ``x``; all of them where it is None.
        factors: known factors or covariates of each, shape (B, F).
        q: the posterior at ``x`` once a model has made it (:meth:`~tightbound.model.Model.encoded`), so that ``x`` is
            encoded once however often the posterior is asked.
        checked: whether every value of ``x`` is known to lie in the likelihood's support, so that nobody looks again.

    Example:
        >>> batch = Batch(torch.zeros(3, 5), label=torch.tensor([0, 1, 1]))
        >>> batch.size, batch.rows(slice(1, 3)).label
        (3, tensor([1, 1]))
    """

    x: Tensor
    label: Tensor | None = None
    mask: Tensor | None = None
    factors: Tensor | None = None
    q: Distribution | None = None
    checked: bool = False

    @property
    def size(self) -> int:
        """How many observations there are, B."""
        return self.x.shape[0]

    def rows(self, index: slice | Tensor) -> Batch:
        """Some of the observations, without the posterior that was made at all of them.

        Args:
            index: a slice, or indices of shape (N,).

        Returns:
            A batch of those observations.

        Example:
            >>> Batch(torch.arange(3.0)[:, None]).rows(torch.tensor([2, 0])).x
            tensor([[2.],
                    [0.]])
        """
        taken = (None if value is None else value[index] for value in (self.x, self.label, self.mask, self.factors))
        x, label, mask, factors = taken
        return Batch(self.x if x is None else x, label, mask, factors, None, self.checked)

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Batch:
        """The same batch on another device, ``x`` and ``factors`` in another floating-point type if one is given.

        Args:
            device: where to.
            dtype: the floating-point type; as it is where it is None.

        Returns:
            The moved batch, without its posterior.

        Example:
            >>> Batch(torch.zeros(2, 1)).to(torch.device("cpu"), torch.float64).x.dtype
            torch.float64
        """

        def moved(value: Tensor | None) -> Tensor | None:
            if value is None:
                return None
            wanted = dtype if value.is_floating_point() else None
            return value.to(device=device, dtype=wanted, non_blocking=True)

        x = self.x.to(device=device, dtype=dtype, non_blocking=True)
        return Batch(x, moved(self.label), moved(self.mask), moved(self.factors), None, self.checked)


def as_batch(x: Tensor | Batch) -> Batch:
    """A batch as it is, and a bare tensor of observations as a batch of nothing else.

    Args:
        x: a batch, or B observations.

    Returns:
        The batch.

    Raises:
        TypeError: for anything else.

    Example:
        >>> as_batch(torch.zeros(2, 3)).size
        2
    """
    if isinstance(x, Batch):
        return x
    if not isinstance(x, Tensor):
        raise TypeError(
            f"Expected a tensor of observations or a Batch; got {type(x).__name__}. Convert it: torch.as_tensor(x)."
        )
    return Batch(x)


def require_some(batch_size: int) -> None:
    """Refuse to go through observations none at a time.

    Raises:
        ValueError: for a batch size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"Expected a batch_size of at least 1; got {batch_size}.")


def blocks_of(x: Any, size: int, device: torch.device, dtype: torch.dtype) -> Iterator[Batch]:
    """Some observations at a time: of a batch, of an array, or of what gives its own batches.

    Args:
        x: observations, as :meth:`tightbound.Model.embed` takes them.
        size: how many at a time.
        device: where they are wanted.
        dtype: the floating-point type that they are wanted in.
    """
    if isinstance(x, Batch) or not hasattr(x, "batches"):
        whole = x if isinstance(x, Batch) else Batch(_array(x))
        for start in range(0, whole.size, size):
            yield whole.rows(slice(start, start + size)).to(device, dtype)
        return
    for block in x.batches(size, dtype):
        yield block.to(device, dtype)


def _array(x: Any) -> Tensor:
    try:
        return torch.as_tensor(x)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"Expected a tensor, an array, a Batch or Observations; got {type(x).__name__}. Of a data set with splits "
            "give one: data.test."
        ) from None
