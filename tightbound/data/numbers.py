"""Real numbers of arrays, tensors and data frames; what holds none is refused with the line that makes them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor


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
        return whole(value, name).detach()
    array = np.asanyarray(_plain_columns(value, name))
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(f"Expected an array of real numbers; got dtype {array.dtype} in {name}. {_remedy(array)}")
    array = _all_there(array, name)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if any(stride < 0 for stride in array.strides):
        array = np.ascontiguousarray(array)
    with warnings.catch_warnings():  # a file mapped for reading is not writable, but nothing here writes to it
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(array)


def whole(tensor: Tensor, name: str) -> Tensor:
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
    own = dict[Any, np.dtype]()
    for column, dtype, each in zip(columns, dtypes, plain, strict=True):
        gaps = "" if each is None or each is dtype else _gaps(value, column)
        if gaps or each is None or each.kind not in "iufb" or (each.kind == "b" and several):
            raise TypeError(
                f"Expected columns of plain numbers; got {dtype}{gaps} in the column {str(column)!r} of {name}. Make "
                f"numbers of it without gaps, or leave it out: {_remedy_for_column(value, column, each, gaps)}."
            )
        if each is not dtype and not isinstance(dtype, np.dtype) and hasattr(dtype, "numpy_dtype"):
            own[column] = each
    return value.astype(own) if own else value


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


def _remedy_for_column(frame: Any, column: object, plain: np.dtype | None, gaps: str) -> str:
    polars = hasattr(frame, "drop_nulls")
    if gaps:
        return f"df.{'drop_nulls' if polars else 'dropna'}(subset=[{column!r}])"
    if plain is not None and plain.kind == "b":
        return f"df.cast({{{column!r}: polars.Float64}})" if polars else f"df.astype({{{column!r}: float}})"
    return f"df.drop({column!r})" if polars else f"df.drop(columns={column!r})"


def _remedy(array: np.ndarray) -> str:
    """The line that makes real numbers of an array, and loses none."""
    dtype, kind = array.dtype, array.dtype.kind
    if kind == "M":
        x = 'x.astype("M8[s]")' if np.datetime_data(dtype)[0] in "YM" else "x"  # a year has no fixed length
        return f'Take the seconds since the first: ({x} - {x}.min()) / numpy.timedelta64(1, "s").'
    if kind == "m":
        return f'Take the number of its units: x / numpy.timedelta64(1, "{np.datetime_data(dtype)[0]}").'
    if kind == "c":
        join = "stack" if array.ndim in (1, 3) else "concatenate"  # columns beside columns, channels beside channels
        return f"Take its real and its imaginary part: numpy.{join}([x.real, x.imag], axis=1)."
    if dtype.names:
        numbers = [name for name in dtype.names if dtype[name].base.kind in "biuf"]
        fields = "x" if len(numbers) == len(dtype.names) else f"x[{numbers}]"
        line = f"numpy.lib.recfunctions.structured_to_unstructured({fields})"
        return f"Make columns of its fields: import numpy.lib.recfunctions; {line}."
    if kind == "O":
        some = "x != None" if array.ndim < 2 else f"(x != None).all(axis={(*range(1, array.ndim),)})"
        return f"Drop what is None, or fill it in, before you convert it: x[{some}].astype(numpy.float64)."
    if kind in "UST":
        return (
            "If its words are numbers, convert it: x.astype(numpy.float64). Otherwise give them as labels: (x, labels)."
        )
    if kind == "f":
        return "Convert it: x.astype(numpy.float64)."
    return "Read its bytes as the numbers that they are: x.view(numpy.uint8)."


def _all_there(array: np.ndarray, name: str) -> np.ndarray:
    """A masked array without its mask, which must hide nothing."""
    if not isinstance(array, np.ma.MaskedArray):
        return array
    hidden = np.ma.getmaskarray(array)
    if hidden.any():
        rows = np.flatnonzero(hidden.reshape(len(hidden), -1).any(1)) if array.ndim else np.zeros(1, int)
        raise ValueError(
            f"Expected values that are all there; got a masked array with {int(hidden.sum())} values masked, in "
            f"{len(rows)} of {len(hidden) if array.ndim else 1} rows of {name}, the first at row {rows[0]}. Drop those "
            "rows, x[~x.mask.any(1)].data, or fill in their values, x.filled(...)."
        )
    return np.asarray(array.data)
