"""The schema of a table: which columns a model sees, what they are, and rows as numbers and back."""

from __future__ import annotations

import dataclasses
import importlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tightbound.columns import LEVELLED, Column, require_different
from tightbound.data.observations import Observations
from tightbound.surface import listed

if TYPE_CHECKING:
    from pandas import DataFrame, Series

__all__ = ["Schema", "frame_of", "moments_of", "numbers_of", "pandas", "plain", "word_of"]

DAY = 86_400.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What the columns of a table are, which of them a model sees, and how their values become numbers.

    Args:
        columns: those that a model sees, in order.
        dropped: names of those that it does not, and why.
        target: a column that is known and never seen by the model, against which it is judged; none by default.
        group: a column whose equal values stay on one side of a split; none by default.
        time: a column by which is split, the latest rows being the test set; none by default.

    Raises:
        ValueError: for no columns, a name that stands twice, and a target, group or time that is among the columns.

    Example:
        >>> schema = Schema(columns=[Column(name="age", kind="count")], dropped={"id": "an identifier"})
        >>> Schema.from_toml(schema.to_toml()) == schema
        True
    """

    columns: tuple[Column, ...]
    dropped: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    group: str = ""
    time: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "dropped", MappingProxyType(dict(self.dropped)))
        names = [column.name for column in self.columns]
        if not names:
            reasons = "; ".join(f"{name!r} {why}" for name, why in [*self.dropped.items()][:5])
            raise ValueError(f"Expected at least one column that a model can see; got none. {reasons}".rstrip() + ".")
        require_different(names, "the schema")
        for role in ("target", "group", "time"):
            if getattr(self, role) in names:
                raise ValueError(
                    f"Expected a {role} that the model does not see; got {getattr(self, role)!r}, which is among the "
                    "columns. Take it out of them."
                )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns that a model sees."""
        return tuple(column.name for column in self.columns)

    def to_toml(self) -> str:
        """The schema as TOML, to be edited by hand; fields that have their default are left out."""
        import tomli_w

        roles = {role: value for role in ("target", "group", "time") if (value := getattr(self, role))}
        table: dict[str, Any] = {**roles, "columns": {column.name: _without_name(column) for column in self.columns}}
        if self.dropped:
            table["dropped"] = dict(self.dropped)
        return tomli_w.dumps(table)

    @classmethod
    def from_toml(cls, text: str, *, origin: str = "the schema") -> Schema:
        """Read what :meth:`to_toml` wrote.

        Args:
            text: TOML.
            origin: what errors call it.

        Raises:
            ValueError: for text that is no TOML, fields that are unknown or of another type, and as for the class and
                its columns.
        """
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"Expected TOML in {origin}; got something else: {error}.") from None
        unknown = [key for key in table if key not in ("target", "group", "time", "columns", "dropped")]
        columns: Any = table.get("columns")
        dropped = table.get("dropped", {})
        texts = [*(table.get(role, "") for role in ("target", "group", "time")), *_values(dropped)]
        if unknown or not _are_tables(columns) or not isinstance(dropped, dict) or not all(map(_is_text, texts)):
            got = f"the field {unknown[0]!r}" if unknown else "another form"
            raise ValueError(
                "Expected target, group, time, a table [columns.NAME] for each column, and [dropped] with a reason for "
                f"each name, in {origin}; got {got}. tb.data.describe(frame).to_toml() writes one."
            )
        made = tuple(_column_of(name, fields, origin) for name, fields in columns.items())
        return cls(columns=made, **{key: value for key, value in table.items() if key != "columns"})

    # Rows

    def observations(self, frame: DataFrame, *, name: str = "table") -> Observations:
        """Rows as a model sees them, in float64; missing values are masked.

        Args:
            frame: with all columns of the schema, in any order; others are not looked at. Of pandas, polars or Arrow.
            name: what error messages and reports call the data.

        Raises:
            ValueError: for a column that is missing, a value of another kind, and a level that is not known.
        """
        frame = frame_of(frame)
        if absent := [column for column in self.names if column not in frame.columns]:
            raise ValueError(
                f"Expected the columns of the schema; got {name} without {listed([repr(each) for each in absent])}. It "
                f"has {listed([repr(str(each)) for each in [*frame.columns][:20]])}."
            )
        raw = np.stack([numbers_of(frame[column.name], column, name) for column in self.columns], 1)
        if not len(raw):
            raise ValueError(f"Expected at least one row; got none in {name}.")
        stored = np.stack([column.stored(raw[:, at]) for at, column in enumerate(self.columns)], 1)
        present = ~np.isnan(stored)
        return Observations(
            torch.from_numpy(np.where(present, stored, 0.0)),
            column_names=self.names,
            mask=None if present.all() else torch.from_numpy(present),
            name=name,
        )

    def frame(self, x: torch.Tensor) -> DataFrame:
        """Rows of a model as a table has them: levels by name, whole numbers whole, dates as dates.

        Args:
            x: shape (N, columns), as :meth:`observations` stores them; NaN for what is missing.
        """
        import pandas as pd

        values = x.detach().cpu().double().numpy()
        return pd.DataFrame({column.name: _cells(values[:, at], column) for at, column in enumerate(self.columns)})


def _without_name(column: Column) -> dict[str, Any]:
    return {key: value for key, value in column.said().items() if key != "name"}


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _values(table: object) -> list[object]:
    return [*table.values()] if isinstance(table, dict) else []


def _are_tables(columns: object) -> bool:
    return isinstance(columns, dict) and all(isinstance(fields, dict) for fields in columns.values())


def _column_of(name: str, fields: dict[str, Any], origin: str) -> Column:
    known = {each.name: each for each in dataclasses.fields(Column) if each.name != "name"}
    for key, value in fields.items():
        if key not in known:
            raise ValueError(
                f"Expected fields among {', '.join(known)} of the column {name!r} in {origin}; got {key!r}."
            )
        wanted: Any = (list,) if key in ("levels", "shares") else (str,) if isinstance(known[key].default, str) else ()
        wanted = wanted or ((str,) if key == "kind" else (int, float))
        item: Any = str if key == "levels" else (int, float)
        listed_well = not isinstance(value, list) or all(isinstance(each, item) for each in value)
        if not isinstance(value, wanted) or isinstance(value, bool) or not listed_well:
            what = {list: "a list", str: "text"}.get(wanted[0], "a number")
            raise ValueError(f"Expected {what} as {key} of the column {name!r} in {origin}; got {value!r}.")
    if "kind" not in fields:
        raise ValueError(f"Expected a kind for the column {name!r} in {origin}; got none.")
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    try:
        return Column(name=name, **given)
    except ValueError as error:
        raise ValueError(f"{error} It stands in {origin}.") from None


def pandas() -> Any:
    """The library that reads tables.

    Raises:
        ModuleNotFoundError: where it is not there, with the line that installs it.

    Example:
        >>> pandas().__name__
        'pandas'
    """
    try:
        return importlib.import_module("pandas")
    except ImportError:
        raise ModuleNotFoundError(
            "Expected pandas, which reads tables; got none. Install it: pip install 'tightbound[tables]'."
        ) from None


def frame_of(table: Any) -> DataFrame:
    """A data frame of pandas whose columns are called by words, made of one of polars or Arrow where it is one.

    Args:
        table: a data frame.

    Raises:
        ModuleNotFoundError: without pandas: ``pip install 'tightbound[tables]'``.
        TypeError: for anything else.

    Example:
        >>> import pandas as pd, pyarrow
        >>> frame_of(pyarrow.table({"age": [31, 40]}))["age"].sum()
        np.int64(71)
    """
    pd = pandas()

    if not isinstance(table, pd.DataFrame) and not hasattr(table, "to_pandas"):
        raise TypeError(f"Expected a data frame; got {type(table).__name__}. Make one: pandas.DataFrame(x).")
    made: DataFrame = table if isinstance(table, pd.DataFrame) else table.to_pandas()
    return (
        made
        if all(isinstance(name, str) for name in made.columns)
        else made.set_axis([*map(str, made.columns)], axis=1)
    )


def word_of(value: object) -> str:
    """What a level is called: the same for 3 and 3.0, as pandas turns 3 into 3.0 where values are missing.

    Args:
        value: a cell of a table.

    Example:
        >>> word_of(3.0), word_of(2.5), word_of(True)
        ('3', '2.5', 'True')
    """
    return str(int(value)) if isinstance(value, (float, np.floating)) and float(value).is_integer() else str(value)


def moments_of(values: Series) -> Series:
    """Times of a column, NaT where there is none.

    Args:
        values: dates, or words that are dates.

    Example:
        >>> import pandas as pd
        >>> moments_of(pd.Series(["2020-01-05", "soon"])).isna().tolist()
        [False, True]
    """
    import pandas as pd

    if not pd.api.types.is_datetime64_any_dtype(values.dtype):
        values = pd.to_datetime(values, errors="coerce", format="mixed", utc=True)
    return values.dt.tz_convert(None) if values.dt.tz is not None else values


def _days(values: Series) -> np.ndarray:
    """Days since 1970, NaN where there is none."""
    times = moments_of(values).to_numpy(dtype="datetime64[us]")
    days = times.astype(np.int64).astype(np.float64) / (1e6 * DAY)
    return np.where(np.isnat(times), np.nan, days)


def plain(values: Series) -> Series:
    """Durations in days, and periods as the dates on which they begin; other values as they are.

    Args:
        values: a column.

    Example:
        >>> import pandas as pd
        >>> plain(pd.Series([pd.Timedelta("36h")])).tolist()
        [1.5]
    """
    import pandas as pd

    if pd.api.types.is_timedelta64_dtype(values.dtype):
        return values.dt.total_seconds() / DAY
    return values.dt.to_timestamp() if isinstance(values.dtype, pd.PeriodDtype) else values


def numbers_of(values: Series, column: Column, origin: str) -> np.ndarray:
    """Values of one column as numbers in float64: levels by their place, dates in days; NaN where there is none.

    Args:
        values: of a table.
        column: what it is.
        origin: what errors call the table.

    Raises:
        ValueError: for values of another kind, and levels that are not known.

    Example:
        >>> import pandas as pd
        >>> numbers_of(pd.Series(["b", None, "a"]), Column(name="x", kind="flag", levels=("a", "b")), "people")
        array([ 1., nan,  0.])
    """
    import pandas as pd

    values = plain(values)
    absent = values.isna().to_numpy()
    if column.kind in LEVELLED:
        places = {level: place for place, level in enumerate(column.levels)}
        found = values.astype(object).map(word_of).map(places).to_numpy(dtype=np.float64)
        if (strange := np.isnan(found) & ~absent).any():
            raise _odd(values, strange, origin, f"a level among {listed([repr(each) for each in column.levels[:20]])}")
        return np.where(absent, np.nan, found)
    if column.kind == "date":
        found = _days(values)
    elif pd.api.types.is_datetime64_any_dtype(values.dtype):
        found = np.full(len(values), np.nan)
    else:
        found = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    if (strange := (np.isnan(found) & ~absent) | np.isinf(found)).any():
        raise _odd(values, strange, origin, "a date" if column.kind == "date" else "a finite number")
    return found


def _odd(values: Series, strange: np.ndarray, origin: str, wanted: str) -> ValueError:
    row = int(strange.nonzero()[0][0])
    value = values.iloc[row]
    got = value.item() if isinstance(value, np.generic) else value
    more = int(strange.sum()) - 1
    others = f", and {more} more of that kind" if more else ""
    return ValueError(
        f"Expected {wanted} in the column {str(values.name)!r} of {origin}; got {got!r} in row {row}{others}."
    )


def _cells(stored: np.ndarray, column: Column) -> Any:
    import pandas as pd

    absent = np.isnan(stored)
    if column.kind in LEVELLED:
        places = np.where(absent, 0, stored).round().astype(int).clip(0, len(column.levels) - 1)
        return pd.Series(np.array(column.levels, dtype=object)[places]).mask(absent)
    values = column.legal(column.restored(stored))
    if column.kind == "date":
        return pd.to_datetime(pd.Series(values), unit="D")
    if column.step == 1:
        return pd.Series(values).astype("Int64" if absent.any() else "int64")
    return pd.Series(values)
