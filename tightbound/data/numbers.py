"""Real numbers of arrays, tensors and data frames; what holds none is refused with the line that makes them."""

from __future__ import annotations

import torch
from torch import Tensor

from tightbound import batch


def tensor_of(value: object, name: str) -> Tensor:
    """Real numbers as a tensor, which shares their memory where that is possible.

    Args:
        value: a tensor, an array, or anything else that NumPy can view as one.
        name: what error messages call it.

    Returns:
        A tensor of the same shape, detached.

    Raises:
        TypeError: if it holds no real numbers.
        ValueError: if it holds no values, or some of them are masked.

    Example:
        >>> tensor_of([[0, 1, 2]], "x")
        tensor([[0, 1, 2]])
    """
    if isinstance(value, Tensor):
        return dense(value, name).detach()
    return batch.tensor_of(value, name)


def dense(tensor: Tensor, name: str) -> Tensor:
    """Refuse a tensor that is no array of values.

    Args:
        tensor: any.
        name: what error messages call it.

    Returns:
        The tensor.

    Raises:
        TypeError: if it is nested or sparse.
        ValueError: if it is on the device "meta".
    """
    if tensor.is_nested:
        raise TypeError(
            f"Expected rows of one shape; got a nested tensor in {name}. Fill them up to one shape: "
            "torch.nested.to_padded_tensor(x, 0.0)."
        )
    if tensor.device.type == "meta":
        raise ValueError(
            f'Expected a tensor with values; got one on the device "meta", which keeps none, in {name}. Make it on the '
            'device "cpu".'
        )
    if tensor.layout != torch.strided:
        raise TypeError(
            f"Expected dense real numbers; got {tensor.dtype}, {tensor.layout} in {name}. Make it dense: x.to_dense()."
        )
    return tensor


def column_names(value: object) -> tuple[str, ...]:
    """What a data frame calls its columns; none where it only counts them, or two are called the same."""
    columns = list(getattr(value, "columns", ()))
    names = tuple(map(str, columns))
    return () if columns == list(range(len(columns))) or len(set(names)) < len(names) else names
