"""What a column of a table holds, and how its values become the numbers that a model sees."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = ["Column", "Family", "Kind", "Transform", "require_different"]

Kind = Literal["real", "positive", "count", "ordinal", "category", "flag", "date"]
Transform = Literal["none", "standardise", "log1p", "log"]
Family = Literal["normal", "student-t", "poisson", "negative-binomial", "bernoulli", "categorical", "ordinal"]

FAMILIES: dict[str, tuple[str, ...]] = {  # that suit a kind, the one taken by default first
    "real": ("normal", "student-t"),
    "positive": ("normal", "student-t"),
    "date": ("normal", "student-t"),
    "count": ("negative-binomial", "poisson"),
    "ordinal": ("ordinal", "categorical"),
    "category": ("categorical",),
    "flag": ("bernoulli",),
}
TRANSFORMS: dict[str, tuple[str, ...]] = {  # likewise; counts, levels and flags are seen as they are
    "real": ("standardise", "log1p", "none"),
    "positive": ("log", "log1p", "standardise", "none"),
    "date": ("standardise", "none"),
}
LEVELLED = ("ordinal", "category", "flag")


@dataclass(frozen=True, kw_only=True)
class Column:
    r"""One column: its kind, the family that describes it given z, and how its values become numbers.

    A number x is stored as :math:`y = (t(x) - c) / u`, t the transform, in float64: so a column of large numbers that
    differ little keeps its digits. A level is stored as its place among ``levels``, a count as it is.

    Args:
        name: of the column.
        kind: "real"; "positive", above 0; "count", whole numbers from 0; "ordinal", levels in an order; "category",
            levels without one; "flag", two levels; "date", in days since 1970.
        transform: t of numbers: "log", "log1p", or the identity for "standardise" and "none". By default the first
            that suits the kind.
        family: of p(x | z). By default the first that suits the kind.
        levels: their names in order, for "ordinal", "category" and "flag".
        shares: of the levels, in the same order; none where they are not known.
        centre: c, of numbers and dates; of a count the mean of log(1 + x), around which an encoder sees it.
        unit: u, likewise the deviation; above 0.
        low: least value of a number, a count or a date, in the table's own unit; with ``high`` the range of legal rows.
        high: greatest value.
        step: what values are multiples of, 1 for whole numbers; 0 for any.
        missing: share of rows that lack a value.
        why: the kind's reason, in words.

    Raises:
        ValueError: for names that are none of these, transforms and families that do not suit the kind, levels that
            are too few, repeated or on a column of numbers, and numbers out of their range.

    Example:
        >>> income = Column(name="income", kind="positive", centre=10.0, unit=0.5)
        >>> income.stored(np.array([np.e**10, np.e**11])), income.family
        (array([0., 2.]), 'normal')
    """

    name: str
    kind: Kind
    transform: Transform | Literal[""] = ""
    family: Family | Literal[""] = ""
    levels: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    centre: float = 0.0
    unit: float = 1.0
    low: float = -math.inf
    high: float = math.inf
    step: float = 0.0
    missing: float = 0.0
    why: str = ""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"Expected a kind among {', '.join(get_args(Kind))}; got {self.kind!r} for {self._named}.")
        for field, table in (("transform", TRANSFORMS), ("family", FAMILIES)):
            suited, value = table.get(self.kind, ("none",)), getattr(self, field)
            if value == "":
                object.__setattr__(self, field, suited[0])
            elif value not in suited:
                raise ValueError(
                    f"Expected a {field} among {', '.join(suited)} for {self._named}, which is of kind {self.kind!r}; "
                    f"got {value!r}."
                )
        self._check_levels()
        if not (self.low <= self.high and 0 <= self.step < math.inf):
            raise ValueError(
                f"Expected low <= high and a step of at least 0 for {self._named}; got {self.low}, {self.high} and "
                f"{self.step}."
            )
        if not (math.isfinite(self.centre) and 0 < self.unit < math.inf and 0 <= self.missing <= 1):
            raise ValueError(
                f"Expected a finite centre, a unit above 0 and a share missing between 0 and 1 for {self._named}; got "
                f"{self.centre}, {self.unit} and {self.missing}."
            )

    def _check_levels(self) -> None:
        wanted = self.kind in LEVELLED
        least, most = (0, 0) if not wanted else (2, 2) if self.kind == "flag" else (2, math.inf)
        if not least <= len(self.levels) <= most:
            told = "no levels" if not wanted else "two levels" if self.kind == "flag" else "at least two levels"
            raise ValueError(f"Expected {told} for {self._named}, of kind {self.kind!r}; got {len(self.levels)}.")
        if len(set(self.levels)) < len(self.levels):
            twice = next(each for each in self.levels if self.levels.count(each) > 1)
            raise ValueError(f"Expected different levels for {self._named}; got {twice!r} twice.")
        if self.shares and len(self.shares) != len(self.levels):
            raise ValueError(
                f"Expected a share for each of {len(self.levels)} levels of {self._named}, or none; got "
                f"{len(self.shares)}."
            )

    @property
    def _named(self) -> str:
        return f"the column {self.name!r}"

    @property
    def is_number(self) -> bool:
        """Whether its values are numbers with a unit, whose density depends on it; not counts, nor levels."""
        return self.kind in TRANSFORMS

    def stored(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Numbers as a model sees them.

        Args:
            values: as the table has them, in float64; NaN where there is none.

        Returns:
            Of the same shape; counts and places of levels as they are.

        Raises:
            ValueError: for numbers that the transform does not take, and counts that are none.
        """
        known = values[~np.isnan(values)]
        least = {"log": 0.0, "log1p": -1.0}.get(self.transform, -math.inf)
        if not (known > least).all():
            raise ValueError(
                f"Expected numbers above {least:g} in {self._named}, for its transform {self.transform!r}; got "
                f"{known.min():g}. Choose 'standardise'."
            )
        if not self.is_number:
            top = len(self.levels) - 1 if self.levels else math.inf
            odd = known[(known < 0) | (known > top) | (known != np.floor(known))]
            if len(odd):
                what = f"places of its {len(self.levels)} levels, from 0" if self.levels else "whole numbers from 0"
                raise ValueError(f"Expected {what} in {self._named}; got {odd[0]:g}.")
            return values
        return (self.transformed(values) - self.centre) / self.unit

    def transformed(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """t(x), of which ``centre`` and ``unit`` are the mean and the deviation; of counts log(1 + x).

        Args:
            values: as the table has them, in float64.

        Example:
            >>> Column(name="visits", kind="count").transformed(np.array([0.0]))
            array([0.])
        """
        if self.transform == "log":
            return np.log(values)
        return np.log1p(values) if self.transform == "log1p" or self.kind == "count" else values

    def restored(self, stored: NDArray[np.float64]) -> NDArray[np.float64]:
        """The inverse of :meth:`stored`.

        Args:
            stored: numbers as a model sees them, in float64.

        Example:
            >>> depth = Column(name="depth", kind="real", transform="log1p", centre=2.0, unit=3.0)
            >>> depth.restored(depth.stored(np.array([5.0])))
            array([5.])
        """
        if not self.is_number:
            return stored
        turned = stored * self.unit + self.centre
        return np.exp(turned) if self.transform == "log" else np.expm1(turned) if self.transform == "log1p" else turned

    def legal(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Numbers as the table could have them: within its range, and multiples of its step.

        Args:
            values: in the table's own unit, in float64.

        Example:
            >>> Column(name="age", kind="count", low=18, high=99, step=1).legal(np.array([3.2, 41.7]))
            array([18., 42.])
        """
        within = np.clip(values, self.low, self.high)
        return np.round(within / self.step) * self.step if self.step else within

    def said(self) -> dict[str, Any]:
        """The fields that do not have their default, as plain values, from which the column is made again.

        Example:
            >>> Column(name="age", kind="count", low=18).said()
            {'name': 'age', 'kind': 'count', 'transform': 'none', 'family': 'negative-binomial', 'low': 18}
        """
        fields = {each.name: (each.default, getattr(self, each.name)) for each in dataclasses.fields(self)}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, (default, value) in fields.items()
            if value != default
        }

    @property
    def log_slope(self) -> tuple[float, float]:
        r"""a and b such that :math:`\log |dy/dx| = a - b y`: what makes a density of y one of x.

        Example:
            >>> Column(name="income", kind="positive", centre=10.0, unit=0.5).log_slope
            (-9.306..., 0.5)
        """
        if not self.is_number:
            return 0.0, 0.0
        bends = self.transform in ("log", "log1p")  # whose slope at x is e^-t(x)
        return -math.log(self.unit) - (self.centre if bends else 0.0), self.unit if bends else 0.0


def require_different(names: Sequence[str], origin: str) -> None:
    """Refuse columns of which two are called the same.

    Args:
        names: of columns.
        origin: what the error calls the table.

    Raises:
        ValueError: for a name that stands twice.

    Example:
        >>> require_different(["age", "age"], "people.csv")
        Traceback (most recent call last):
        ValueError: Expected columns of different names; got 'age' twice in people.csv. Rename one of them.
    """
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"Expected columns of different names; got {twice!r} twice in {origin}. Rename one of them.")
