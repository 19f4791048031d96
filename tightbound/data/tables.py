"""Tables: files and data frames whose columns are of several kinds, and the schema that says of which.

pandas reads them (the extra ``tables``). A schema is made by :func:`describe`, may be edited by hand as TOML, and turns
rows into the numbers that a model sees and back.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tightbound.columns import LEVELLED, Column, Kind, require_different
from tightbound.data.schemas import Schema, frame_of, moments_of, numbers_of, pandas, plain, word_of
from tightbound.surface import listed

if TYPE_CHECKING:
    from pandas import DataFrame, Series

__all__ = ["describe", "read_table"]

ENDINGS = (".csv", ".tsv", ".parquet", ".feather", ".arrow", ".xlsx", ".xls")
ABSENT = ("?",)  # what tables write for a value that is missing, beside what pandas knows
MOST_RANKS = 16  # different whole numbers that are ranks, each with a probability of its own
MOST_LEVELS = 64  # different words that are levels of a category
ENOUGH = 20  # rows from which on it means something that all values differ
LARGEST_COUNT = 1e6  # beyond it whole numbers are as good as real ones
LARGEST = 1e150  # whose square float64 holds
SKEWED = 2.0  # skewness from which on a number is seen by its logarithm, where that is less skewed
SAMPLE = 1000  # rows by which a column of words is taken for dates


def read_table(path: str | os.PathLike[str]) -> DataFrame:
    """Read a table from a file: CSV, TSV, Parquet, Feather or Arrow, or Excel.

    Args:
        path: of the file, whose ending says what it is; a CSV may be packed by gzip and the like.

    Returns:
        The table.

    Raises:
        ModuleNotFoundError: without pandas, or what it needs for the file: ``pip install 'tightbound[tables]'``.
        ValueError: for another ending, a file that cannot be read as such, and columns that are called the same.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "x.csv").write_text("age,plan\\n31,pro\\n?,basic\\n")
        ...     read_table(Path(folder, "x.csv"))["age"].tolist()
        [31.0, nan]
    """
    pd, path = pandas(), Path(path)
    ending = next((each for each in map(str.lower, path.suffixes[::-1]) if each in ENDINGS), path.suffix.lower())
    readers = {
        ".csv": lambda: pd.read_csv(path, na_values=ABSENT, skipinitialspace=True),
        ".tsv": lambda: pd.read_csv(path, na_values=ABSENT, sep="\t"),
        ".parquet": lambda: pd.read_parquet(path),
        ".feather": lambda: pd.read_feather(path),
        ".arrow": lambda: pd.read_feather(path),
        ".xlsx": lambda: pd.read_excel(path),
        ".xls": lambda: pd.read_excel(path),
    }
    if ending not in readers:
        raise ValueError(f"Expected a table, a file that ends in {', '.join(ENDINGS)}; got {path}.")
    try:
        frame = readers[ending]()
    except ImportError as error:
        raise ModuleNotFoundError(f"{error} Install what reads tables: pip install 'tightbound[tables]'.") from None
    except Exception as error:  # a damaged file can break a parser in any way
        said = str(error).strip().splitlines()
        raise ValueError(
            f"Expected a table in {path}; got what pandas cannot read as {ending}: {said[0] if said else 'nothing'}."
        ) from error
    require_different([*frame.columns], str(path))
    return frame


def describe(
    frame: DataFrame,
    *,
    target: str = "",
    group: str = "",
    time: str = "",
    drop: Sequence[str] = (),
    rows: np.ndarray | None = None,
) -> Schema:
    """What the columns of a table are by the look of their values.

    - Numbers: two different ones are a flag; up to 16 whole numbers from 0 are ranks, more are counts, unless they lie
      far from zero; others are real. Numbers above 0 that are skewed are seen by their logarithm.
    - Words: up to 64 different ones are a category; dates are dates; numbers written as words are numbers.
    - Dropped: a column without values, with one value, or with another word or number in each row, as identifiers have.

    Args:
        frame: the table, of pandas, or of what can be made one of pandas: polars, Arrow.
        target: as of :class:`Schema`.
        group: likewise.
        time: likewise.
        drop: names of columns that the model is not to see.
        rows: places of the rows that centre, unit and shares are taken of, such as those of training; all by default.
            Levels are those of all rows.

    Raises:
        TypeError: for something else than a data frame.
        ValueError: for a name that the table does not have, columns that are called the same, and a table of which
            nothing is left.

    Example:
        >>> import pandas as pd
        >>> people = pd.DataFrame({"age": range(70, 20, -1), "plan": ["a", "b"] * 25, "id": [*map(hex, range(50))]})
        >>> schema = describe(people)
        >>> [(column.name, column.kind) for column in schema.columns], dict(schema.dropped)
        ([('age', 'count'), ('plan', 'flag')], {'id': 'has another word in each of 50 rows, as identifiers have'})
    """
    frame = frame_of(frame)
    require_different([*frame.columns], "the table")
    for role, names in (("target", [target]), ("group", [group]), ("time", [time]), ("drop", drop)):
        if strange := [name for name in names if name and name not in frame.columns]:
            raise ValueError(
                f"Expected {role} among the columns {listed([repr(str(each)) for each in [*frame.columns][:20]])}; got "
                f"{strange[0]!r}."
            )
    columns, dropped = [], {}
    for name in frame.columns:
        if name in (target, group, time):
            continue
        found = "is not wanted" if name in drop else _column(frame[name], rows)
        if isinstance(found, str):
            dropped[str(name)] = found
        else:
            columns.append(found)
    return Schema(columns=tuple(columns), dropped=dropped, target=target, group=group, time=time)


def _column(values: Series, rows: np.ndarray | None) -> Column | str:
    """What a column is, or why it is dropped."""
    import pandas as pd

    values = plain(values)
    name, known = str(values.name), values.dropna()
    missing = 1 - len(known) / max(len(values), 1)
    if not len(known):
        return "has no values"
    if _different(known) == 1:
        return f"has one value, {known.iloc[0]}"
    found: Column | str
    if pd.api.types.is_datetime64_any_dtype(known.dtype):
        found = Column(name=name, kind="date", why="dates")
    elif isinstance(known.dtype, pd.CategoricalDtype):
        known = known.cat.remove_unused_categories()
        kind: Kind = "flag" if len(known.cat.categories) == 2 else "ordinal" if known.cat.ordered else "category"
        found = Column(
            name=name, kind=kind, levels=tuple(map(word_of, known.cat.categories)), why="a category in the frame"
        )
    elif pd.api.types.is_bool_dtype(known.dtype):
        found = Column(name=name, kind="flag", levels=("False", "True"), why="true or false")
    elif pd.api.types.is_numeric_dtype(known.dtype):
        found = _of_numbers(name, known)
    else:
        found = _of_words(name, known)
    return found if isinstance(found, str) else _measured(dataclasses.replace(found, missing=missing), values, rows)


def _different(known: Series) -> int:
    try:
        return int(known.nunique())
    except TypeError:  # lists and the like
        return int(known.map(repr).nunique())


def _of_numbers(name: str, known: Series) -> Column | str:
    if known.dtype.kind == "c":
        return "has complex numbers"
    x = known.to_numpy(dtype=np.float64)
    if not np.isfinite(x).all():
        return "has infinite values"
    if not 1 / LARGEST < np.abs(x).max() < LARGEST:
        return f"has numbers of a size below {1 / LARGEST:g} or above {LARGEST:g}: take another unit"
    distinct = np.unique(x)
    if len(distinct) == 1:
        return "has numbers that float64 does not tell apart: take the least one off"
    whole, low, high = bool((x == np.floor(x)).all()), float(x.min()), float(x.max())
    if len(distinct) == 2:
        return Column(name=name, kind="flag", levels=tuple(map(word_of, distinct)), why="two different values")
    if whole and len(distinct) == len(x) >= ENOUGH and high - low < 2 * len(x) and bool((np.diff(x) > 0).all()):
        return f"has rising numbers, another one in each of {len(x)} rows, as identifiers have"
    step = 1.0 if whole else 0.0
    if whole and low >= 0 and len(distinct) <= MOST_RANKS:
        return Column(
            name=name,
            kind="ordinal",
            levels=tuple(map(word_of, distinct)),
            why=f"{len(distinct)} different whole numbers",
        )
    if whole and low >= 0 and low <= high / 2 and high <= LARGEST_COUNT and x.var() >= x.mean() / 2:
        return Column(name=name, kind="count", low=0, high=math.inf, step=1, why="whole numbers from 0")
    if low > 0 and _skewness(x) > SKEWED and abs(_skewness(np.log(x))) < _skewness(x) / 2:
        return Column(name=name, kind="positive", step=step, why="numbers above 0 with a long upper tail")
    if low >= 0 and _skewness(x) > SKEWED and abs(_skewness(np.log1p(x))) < _skewness(x) / 2:
        return Column(name=name, kind="real", transform="log1p", step=step, why="numbers from 0 with a long upper tail")
    return Column(name=name, kind="real", step=step, why="whole numbers and no counts" if whole else "numbers")


def _skewness(x: np.ndarray) -> float:
    apart = x - x.mean()
    spread = math.sqrt(float((apart**2).mean()))
    return float(((apart / spread) ** 3).mean()) if spread else 0.0


def _of_words(name: str, known: Series) -> Column | str:
    import pandas as pd

    words = known.map(word_of)
    numbers = pd.to_numeric(words, errors="coerce")
    if numbers.notna().all():
        found = _of_numbers(name, numbers)
        return found if isinstance(found, str) else dataclasses.replace(found, why=f"{found.why}, written as words")
    if _are_dates(words):
        return Column(name=name, kind="date", why="words that are dates")
    levels = sorted(words.unique())
    if len(levels) == len(words) >= ENOUGH:
        return f"has another word in each of {len(words)} rows, as identifiers have"
    if len(levels) > MOST_LEVELS:
        return f"has {len(levels)} different words, more than {MOST_LEVELS}"
    kind: Kind = "flag" if len(levels) == 2 else "category"
    return Column(name=name, kind=kind, levels=tuple(levels), why=f"{len(levels)} different words")


def _are_dates(words: Series) -> bool:
    some = words.iloc[:: max(len(words) // SAMPLE, 1)]
    if not some.str.contains(r"\d{1,4}[-/.]\d{1,2}|\d{1,2} \w{3,9} \d{4}|\d{8}T", regex=True).all():
        return False
    return bool(moments_of(some).notna().all()) and bool(moments_of(words).notna().all())


def _measured(column: Column, values: Series, rows: np.ndarray | None) -> Column:
    """A column with its statistics: centre, unit, range, shares of levels."""
    every = numbers_of(values, column, "the table")
    own = every if rows is None else every[rows]
    own = own[~np.isnan(own)]
    if column.kind in LEVELLED:
        counts = np.bincount(own.astype(int), minlength=len(column.levels)) / max(len(own), 1)
        return dataclasses.replace(column, shares=tuple(float(f"{share:.6g}") for share in counts))
    known = every[~np.isnan(every)]
    step = 1.0 if column.kind == "date" and bool((known == np.floor(known)).all()) else column.step
    seen = column.transformed(own)
    centre, unit = (float(seen.mean()), float(seen.std())) if len(seen) else (0.0, 1.0)
    low, high = (column.low, column.high) if column.kind == "count" else (float(known.min()), float(known.max()))
    return dataclasses.replace(column, centre=centre, unit=unit if unit > 0 else 1.0, low=low, high=high, step=step)
