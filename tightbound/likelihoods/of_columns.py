"""The likelihood of a table: a head for each family, and a density in the table's own units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.distributions as td
import torch.nn.functional as F
from torch import Tensor, nn

from tightbound import distributions
from tightbound.columns import Column
from tightbound.likelihoods.likelihood import Likelihood

__all__ = ["Columns", "numbers_of"]

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

    def __init__(self, network: nn.Module, columns: Sequence[Column], *, floor: float = FLOOR) -> None:
        super().__init__(network)
        self.columns, self.floor = tuple(columns), floor
        names = [column.name for column in self.columns]
        if not names or len(set(names)) < len(names):
            twice = next((name for name in names if names.count(name) > 1), None)
            raise ValueError(f"Expected columns of different names; got {'none' if twice is None else repr(twice)}.")
        if not 0 < floor < math.inf:
            raise ValueError(f"Expected a floor above 0; got {floor}.")
        self._families: list[tuple[str, int, int]] = []  # name, columns, numbers of all of them
        for family in dict.fromkeys(column.family for column in self.columns):
            own = [column for column in self.columns if column.family == family]
            places = [place for place, column in enumerate(self.columns) if column.family == family]
            self._hold(f"columns_{family}", torch.tensor(places))
            self._hold(f"levels_{family}", torch.tensor([len(column.levels) for column in own]))
            self._families.append((str(family), len(own), sum(map(numbers_of, own))))
        offset, slope = zip(*(column.log_slope for column in self.columns), strict=True)
        self._hold("offset", torch.tensor(offset, dtype=torch.get_default_dtype()))
        self._hold("slope", torch.tensor(slope, dtype=torch.get_default_dtype()))
        self._learned()

    def _hold(self, name: str, value: Tensor) -> None:
        self.register_buffer(name.replace("-", "_"), value, persistent=False)

    def _of(self, what: str, family: str) -> Tensor:
        return getattr(self, f"{what}_{family}".replace("-", "_"))

    def _learned(self) -> None:
        """Parameters that no z changes: degrees of freedom, and thresholds between levels, as gaps of even shares."""
        heavy = sum(column.family == "student-t" for column in self.columns)
        if heavy:
            self.raw_freedom = nn.Parameter(torch.full((heavy,), math.log(math.expm1(8.0))))
        ranked = [_thresholds(column) for column in self.columns if column.family == "ordinal"]
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
        parts, columns = [], []
        for (family, count, _), own in zip(self._families, out.split([n for *_, n in self._families], -1), strict=True):
            parts.append(_HEADS[family](self, own, count))
            columns.append(self._of("columns", family))
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
        found = []
        for family, *_ in self._families:
            own = [column for column in self.columns if column.family == family]
            found += [torch.tensor(_STARTS[family](own, self.floor), dtype=mean.dtype)]
        return torch.cat(found).to(mean.device)

    def extra_repr(self) -> str:
        return ", ".join(f"{count} {family}" for family, count, _ in self._families)

    # The heads, each of all columns of its family: numbers of shape (*, columns · numbers a column)

    def _scaled(self, out: Tensor) -> tuple[Tensor, Tensor]:
        location, raw = out.chunk(2, -1)
        return location, self.floor + F.softplus(raw)

    def _normal(self, out: Tensor, _: int) -> td.Distribution:
        return td.Normal(*self._scaled(out), validate_args=False)

    def _student(self, out: Tensor, _: int) -> td.Distribution:
        return td.StudentT(2 + F.softplus(self.raw_freedom), *self._scaled(out), validate_args=False)

    def _poisson(self, out: Tensor, _: int) -> td.Distribution:
        return distributions.Poisson(out, validate_args=False)

    def _negative_binomial(self, out: Tensor, _: int) -> td.Distribution:
        return distributions.NegativeBinomial(*out.chunk(2, -1), validate_args=False)

    def _bernoulli(self, out: Tensor, _: int) -> td.Distribution:
        return distributions.Bernoulli(out, validate_args=False)

    def _categorical(self, out: Tensor, count: int) -> td.Distribution:
        levels = self._of("levels", "categorical")
        sizes = [len(column.levels) for column in self.columns if column.family == "categorical"]
        most = max(sizes)
        logits = torch.stack([F.pad(own, (0, most - own.shape[-1])) for own in out.split(sizes, -1)], -2)
        return distributions.Levels(logits, levels)

    def _ordinal(self, out: Tensor, _: int) -> td.Distribution:
        levels = self._of("levels", "ordinal")
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
    if column.family == "categorical":
        return len(column.levels)
    return 2 if column.family in ("normal", "student-t", "negative-binomial") else 1


_HEADS: dict[str, Callable[[Columns, Tensor, int], td.Distribution]] = {
    "normal": Columns._normal,
    "student-t": Columns._student,
    "poisson": Columns._poisson,
    "negative-binomial": Columns._negative_binomial,
    "bernoulli": Columns._bernoulli,
    "categorical": Columns._categorical,
    "ordinal": Columns._ordinal,
}


def _thresholds(column: Column) -> list[float]:
    """Between levels, at which their probabilities are their shares."""
    shares = [share + 1e-3 for share in column.shares or [1.0] * len(column.levels)]
    below = [math.fsum(shares[: place + 1]) / math.fsum(shares) for place in range(len(shares) - 1)]
    return [math.log(share / (1 - share)) for share in below]


def _start_of_numbers(own: Sequence[Column], floor: float) -> list[float]:
    return [0.0] * len(own) + [math.log(math.expm1(max(1 - floor, 0.1)))] * len(own)


def _log_means(own: Sequence[Column]) -> list[float]:
    return [math.log(max(math.expm1(column.centre), 1e-3)) for column in own]


def _logits(column: Column) -> list[float]:
    return [math.log(share + 1e-3) for share in column.shares or [1.0] * len(column.levels)]


_STARTS: dict[str, Callable[[Sequence[Column], float], list[float]]] = {
    "normal": _start_of_numbers,
    "student-t": _start_of_numbers,
    "poisson": lambda own, _: _log_means(own),
    "negative-binomial": lambda own, _: _log_means(own) + [0.0] * len(own),
    "bernoulli": lambda own, _: [_logits(column)[1] - _logits(column)[0] for column in own],
    "categorical": lambda own, _: [logit for column in own for logit in _logits(column)],
    "ordinal": lambda own, _: [0.0] * len(own),
}
