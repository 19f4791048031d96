"""Real numbers of arrays, tensors and data frames; what holds none is refused with the line that makes them."""

from __future__ import annotations

from typing import Any

import numpy as np
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
        >>> tensor_of(np.arange(3, dtype=">i2"), "x")
        tensor([0, 1, 2], dtype=torch.int16)
    """
    if isinstance(value, Tensor):
        return dense(value, name).detach()
    return batch.tensor_of(_plain_columns(value, name), name)


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


def _plain_columns(value: Any, name: str) -> Any:
    """A data frame of plain numbers, or what is none unchanged.

    A frame is refused by the column that is no number; together its columns would be Python objects.
    """
    dtypes, columns = getattr(value, "dtypes", None), getattr(value, "columns", None)
    if dtypes is None or columns is None:
        return value
    plain = [_plain(dtype) for dtype in dtypes]
    several = len({getattr(each, "kind", "O") == "b" for each in plain}) > 1
    own, refused, absent = dict[Any, Any](), dict[Any, str](), []
    for column, dtype, each in zip(columns, dtypes, plain, strict=True):
        gaps = "" if each is None or each is dtype else _gaps(value, column)
        if gaps or each is None or each.kind not in "iufb":
            refused[column] = f"{dtype}{gaps}"
            absent += [column] if gaps else []
        elif each.kind == "b" and several:
            own[column] = int
        elif each is not dtype and not isinstance(dtype, np.dtype) and hasattr(dtype, "numpy_dtype"):
            own[column] = each
    if refused:
        got = ", ".join(f"{what} in the column {str(column)!r}" for column, what in refused.items())
        others = [column for column in refused if column not in absent]
        raise TypeError(
            f"Expected columns of plain numbers; got {got} of {name}. Make numbers of "
            f"{'it' if len(refused) == 1 else 'them'} without gaps, or leave {'it' if len(refused) == 1 else 'them'} "
            f"out: df{_dropped(value, others)}{_without_gaps(value, absent)}."
        )
    if not own:
        return value
    return value.cast(own) if hasattr(value, "drop_nulls") else value.astype(own)


def _plain(dtype: Any) -> np.dtype | None:
    """NumPy's dtype of a column; None where it has none."""
    if isinstance(dtype, np.dtype):
        return dtype
    if isinstance(found := getattr(dtype, "numpy_dtype", None), np.dtype):  # pandas' own: numbers can be absent
        return found
    kind = str(dtype).lower().rstrip("0123456789")  # of polars
    if hasattr(dtype, "is_numeric") and kind in ("int", "uint", "float", "boolean"):
        return np.dtype({"int": "i8", "uint": "u8", "float": "f8", "boolean": "?"}[kind])
    return None


def _gaps(frame: Any, column: object) -> str:
    held = frame[column]
    count = held.isna().to_numpy().sum() if hasattr(held, "isna") else held.null_count()
    return f" with {int(count)} of {len(frame)} values absent" if count else ""


def _dropped(frame: Any, columns: list[Any]) -> str:
    """The call that leaves columns out, in the words of the frame's library."""
    if not columns:
        return ""
    which = repr(columns[0] if len(columns) == 1 else columns)
    return f".drop({which})" if hasattr(frame, "drop_nulls") else f".drop(columns={which})"


def _without_gaps(frame: Any, columns: list[Any]) -> str:
    """The call that leaves out the rows in which something is absent."""
    if not columns:
        return ""
    return f".{'drop_nulls' if hasattr(frame, 'drop_nulls') else 'dropna'}(subset={columns})"
