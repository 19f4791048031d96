"""The likelihood of a table: a head for each family, and a density in the table's own units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.distributions as td
import torch.nn.functional as F
from torch import Tensor, nn

from tightbound import distributions
from tightbound.columns import Column, require_different
from tightbound.likelihoods.likelihood import Likelihood

__all__ = ["HEADS", "Columns", "Head", "numbers_of"]

FLOOR = 0.1  # of σ, in units of the column: a density without one has no maximum to climb to, and lets outliers pass


class Columns(Likelihood):
    r"""The rows of a table: :math:`p(x \mid z) = \prod_c p_c(x_c \mid z)`, each column of its own family.

    "normal" and "student-t" have a location and a scale σ from the network, σ never below ``floor``; "poisson" a
    log-rate; "negative-binomial" log mean and log dispersion; "bernoulli" a logit; "categorical" a logit for each
    level; "ordinal" a location among thresholds, which are parameters. Columns of one family are one call.

    x is as :meth:`tightbound.columns.Column.stored` gives it, and the density is that of the table's own numbers: nats
    of two models with different transforms can be compared.

    Args:
        network: z (…, latent) to (…, numbers), as many as ``outputs_for(columns)`` says.
        columns: of the table, in order.
        floor: least σ of numbers, in units of their column.

    Raises:
        ValueError: for no columns, a name that stands twice, or a floor that is not above 0; when used, for a network
            of another length.

    Example:
        >>> table = [Column(name="age", kind="count"), Column(name="plan", kind="category", levels=("a", "b", "c"))]
        >>> Columns.outputs_for(table)
        5
        >>> p = Columns(nn.Linear(2, 5), table)
        >>> p.log_prob_columns(torch.tensor([[31.0, 2.0]]), torch.zeros(1, 2)).shape
        torch.Size([1, 2])
    """

    offset: Tensor
    slope: Tensor

    def __init__(self, network: nn.Module, columns: Sequence[Column], *, floor: float = FLOOR) -> None:
        super().__init__(network)
        self.columns, self.floor = tuple(columns), floor
        if not self.columns:
            raise ValueError(
                "Expected at least one column; got none. tb.data.describe(frame).columns are those of a table."
            )
        require_different([column.name for column in self.columns], "columns")
        if not 0 < floor < math.inf:
            raise ValueError(f"Expected a floor above 0; got {floor}.")
        self._own = {
            family: tuple(column for column in self.columns if column.family == family)
            for family in dict.fromkeys(column.family for column in self.columns)
        }
        for family, own in self._own.items():
            self._hold(f"columns_{family}", torch.tensor([self.columns.index(column) for column in own]))
            self._hold(f"levels_{family}", torch.tensor([len(column.levels) for column in own]))
        offset, slope = zip(*(column.log_slope for column in self.columns), strict=True)
        self._hold("offset", torch.tensor(offset, dtype=torch.get_default_dtype()))
        self._hold("slope", torch.tensor(slope, dtype=torch.get_default_dtype()))
        self._learned()

    def _hold(self, name: str, value: Tensor) -> None:
        self.register_buffer(name.replace("-", "_"), value, persistent=False)

    def _of(self, what: str, family: str) -> Tensor:
        found: Tensor = getattr(self, f"{what}_{family}".replace("-", "_"))
        return found

    def _learned(self) -> None:
        """Parameters that no z changes: degrees of freedom, and thresholds between levels, as gaps of even shares."""
        heavy = sum(HEADS[family].heavy * len(own) for family, own in self._own.items())
        if heavy:
            self.raw_freedom = nn.Parameter(torch.full((heavy,), math.log(math.expm1(8.0))))
        ranked = [_thresholds(column) for column in self.columns if HEADS[column.family].ranked]
        if ranked:
            most = max(map(len, ranked)) - 1
            gaps = [[math.log(math.expm1(b - a)) for a, b in pairwise(places)] for places in ranked]
            self.first_threshold = nn.Parameter(torch.tensor([places[0] for places in ranked]))
            self.raw_gaps = nn.Parameter(torch.tensor([each + [0.0] * (most - len(each)) for each in gaps]))

    @staticmethod
    def outputs_for(columns: Sequence[Column]) -> int:
        """How many numbers the network must give.

        Args:
            columns: of the table.
        """
        return sum(map(numbers_of, columns))

    def elements(self, out: Tensor, lead: int) -> distributions.Columns:
        wanted = self.outputs_for(self.columns)
        if out.ndim != lead + 1 or out.shape[-1] != wanted:
            raise ValueError(
                f"Expected a network giving (..., {wanted}) for these {len(self.columns)} columns; got "
                f"(..., {', '.join(map(str, out.shape[lead:]))}). For example: tb.networks.MLP((latent,), ({wanted},))."
            )
        widths = [sum(map(numbers_of, own)) for own in self._own.values()]
        parts = [
            HEADS[family].elements(self, numbers, own)
            for (family, own), numbers in zip(self._own.items(), out.split(widths, -1), strict=True)
        ]
        columns = [self._of("columns", family) for family in self._own]
        return distributions.Columns(parts, columns, self.offset, self.slope)

    def log_prob_columns(self, value: Tensor, context: Tensor) -> Tensor:
        r"""log p(x_c | z) of each column, in nats of the table's own units: the reasons for a row's log p(x | z).

        Args:
            value: x, shape (\*batch, C).
            context: z, shape (\*batch, latent).

        Returns:
            Shape (\*batch, C); their sum over columns is log p(x | z).
        """
        return self(context).base_dist.log_prob(value)

    def initial_output(self, mean: Tensor) -> Tensor:
        """Where training best begins: at the columns' own statistics.

        Args:
            mean: of one row; its type and device alone are looked at, as the columns know their shares and means.
        """
        starts = [number for family, own in self._own.items() for number in HEADS[family].start(own, self.floor)]
        return torch.tensor(starts, dtype=mean.dtype, device=mean.device)

    def extra_repr(self) -> str:
        return ", ".join(f"{len(own)} {family}" for family, own in self._own.items())

    # The heads: distributions of all columns of a family, made of numbers of shape (*, columns · numbers a column)

    def _scaled(self, out: Tensor) -> tuple[Tensor, Tensor]:
        location, raw = out.chunk(2, -1)
        return location, self.floor + F.softplus(raw)

    def _normal(self, out: Tensor, _: Sequence[Column]) -> td.Distribution:
        return td.Normal(*self._scaled(out), validate_args=False)

    def _student(self, out: Tensor, _: Sequence[Column]) -> td.Distribution:
        return td.StudentT(2 + F.softplus(self.raw_freedom), *self._scaled(out), validate_args=False)

    def _poisson(self, out: Tensor, _: Sequence[Column]) -> td.Distribution:
        return distributions.Poisson(out, validate_args=False)

    def _negative_binomial(self, out: Tensor, _: Sequence[Column]) -> td.Distribution:
        return distributions.NegativeBinomial(*out.chunk(2, -1), validate_args=False)

    def _bernoulli(self, out: Tensor, _: Sequence[Column]) -> td.Distribution:
        return distributions.Bernoulli(out, validate_args=False)

    def _categorical(self, out: Tensor, own: Sequence[Column]) -> td.Distribution:
        sizes = [len(column.levels) for column in own]
        logits = torch.stack([F.pad(each, (0, max(sizes) - each.shape[-1])) for each in out.split(sizes, -1)], -2)
        return distributions.Levels(logits, self._of("levels", own[0].family))

    def _ordinal(self, out: Tensor, own: Sequence[Column]) -> td.Distribution:
        levels = self._of("levels", own[0].family)
        rest = F.softplus(self.raw_gaps).cumsum(-1)
        thresholds = torch.cat([self.first_threshold[:, None], self.first_threshold[:, None] + rest], -1)
        beyond = torch.arange(thresholds.shape[-1], device=out.device) >= levels[:, None] - 1
        return distributions.Levels(distributions.ordered(out, thresholds.masked_fill(beyond, torch.inf)), levels)


def numbers_of(column: Column) -> int:
    """How many numbers a column's head takes of the network.

    Args:
        column: of a table.

    Example:
        >>> numbers_of(Column(name="plan", kind="category", levels=("a", "b", "c")))
        3
    """
    return HEADS[column.family].numbers or len(column.levels)


def _thresholds(column: Column) -> list[float]:
    """Between levels, at which their probabilities are their shares."""
    shares = [share + 1e-3 for share in column.shares or [1.0] * len(column.levels)]
    below = [math.fsum(shares[: place + 1]) / math.fsum(shares) for place in range(len(shares) - 1)]
    return [math.log(share / (1 - share)) for share in below]


def _start_of_numbers(own: Sequence[Column], floor: float) -> list[float]:
    return [0.0] * len(own) + [math.log(math.expm1(max(1 - floor, 0.1)))] * len(own)


def _log_means(own: Sequence[Column], _: float) -> list[float]:
    return [math.log(max(math.expm1(column.centre), 1e-3)) for column in own]


def _logits(column: Column) -> list[float]:
    return [math.log(share + 1e-3) for share in column.shares or [1.0] * len(column.levels)]


@dataclass(frozen=True)
class Head:
    """What a family makes of the network's numbers.

    Attributes:
        numbers: How many a column takes; 0 for one for each level.
        elements: The distribution of its columns.
        start: The numbers at which training best begins, of its columns and the floor of σ.
        heavy: Whether it has degrees of freedom.
        ranked: Whether it has thresholds.

    Example:
        >>> HEADS["normal"].numbers
        2
    """

    numbers: int
    elements: Callable[[Columns, Tensor, Sequence[Column]], td.Distribution]
    start: Callable[[Sequence[Column], float], list[float]]
    heavy: bool = False
    ranked: bool = False


HEADS: dict[str, Head] = {
    "normal": Head(2, Columns._normal, _start_of_numbers),
    "student-t": Head(2, Columns._student, _start_of_numbers, heavy=True),
    "poisson": Head(1, Columns._poisson, _log_means),
    "negative-binomial": Head(
        2, Columns._negative_binomial, lambda own, floor: _log_means(own, floor) + [0.0] * len(own)
    ),
    "bernoulli": Head(1, Columns._bernoulli, lambda own, _: [_logits(each)[1] - _logits(each)[0] for each in own]),
    "categorical": Head(0, Columns._categorical, lambda own, _: [logit for each in own for logit in _logits(each)]),
    "ordinal": Head(1, Columns._ordinal, lambda own, _: [0.0] * len(own), ranked=True),
}
