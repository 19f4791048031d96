"""Data frames of plain numbers; those with other columns are refused with the line that leaves these out."""

from __future__ import annotations

from typing import Any

import numpy as np

from tightbound.surface import listed


def plain_columns(value: Any, name: str) -> Any:
    """A data frame of plain numbers, or what is none unchanged. True and False are 1 and 0 beside numbers.

    Args:
        value: a frame of pandas or polars, or anything else.
        name: what error messages call it.

    Raises:
        TypeError: for columns that are no numbers, all at once; together its columns would be Python objects.
    """
    dtypes, columns = getattr(value, "dtypes", None), getattr(value, "columns", None)
    if dtypes is None or columns is None:
        return value
    plain = [_plain(dtype) for dtype in dtypes]
    numbers = [each for each in plain if each is not None and each.kind in "iufb"]
    no_numbers, gappy, got = list[Any](), list[Any](), dict[str, list[str]]()
    for column, dtype, each in zip(columns, dtypes, plain, strict=True):
        gaps = "" if each is None or each is dtype else _gaps(value, column)
        if no_number := each is None or each.kind not in "iufb":
            no_numbers.append(column)
        elif gaps:
            gappy.append(column)
        if no_number or gaps:
            got.setdefault(f"{dtype}{gaps}", []).append(repr(str(column)))
    if got:
        parts = [f"{kind} in the column{'s' * (len(of) > 1)} {', '.join(of)}" for kind, of in got.items()]
        them = "it" if len(no_numbers) + len(gappy) == 1 else "them"
        raise TypeError(
            f"Expected columns of plain numbers; got {listed(parts)} of {name}. Make numbers of {them} without gaps, "
            f"or leave {them} out: df{_without(no_numbers, gappy, polars=hasattr(value, 'drop_nulls'))}."
        )
    bools = {each.kind == "b" for each in numbers}
    if hasattr(value, "drop_nulls") or (len(bools) < 2 and all(isinstance(dtype, np.dtype) for dtype in dtypes)):
        return value  # polars makes numbers of all by itself
    one = np.dtype("u1")
    return value.astype(np.result_type(*(one if len(bools) > 1 and each.kind == "b" else each for each in numbers)))


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


def _without(no_numbers: list[Any], gappy: list[Any], *, polars: bool) -> str:
    """What leaves columns out that are no numbers, and then rows with gaps in others."""
    dropped = ", ".join(map(repr, no_numbers)) if polars or len(no_numbers) == 1 else repr(no_numbers)
    columns = f".drop({dropped})" if polars else f".drop(columns={dropped})"
    rows = f".{'drop_nulls' if polars else 'dropna'}(subset={gappy!r})"
    return columns * bool(no_numbers) + rows * bool(gappy)
