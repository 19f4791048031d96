"""Numbers with their errors, and how a report of them prints."""

from __future__ import annotations

import math
import re
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    r"""A mean over observations and its standard error :math:`s / \sqrt{N}`.

    The noise of draws made independently for each observation is part of their spread, so the error covers it. Equal
    observations have the same draws: what these are off is in no spread, and is added (:meth:`of`).

    Args:
        value: the mean.
        se: its standard error; NaN for a single observation, which shows no spread.

    Example:
        >>> print(Estimate(-86.1234, 0.3056))
        -86.12 ± 0.31
    """

    value: float
    se: float

    @classmethod
    def of(cls, values: Tensor, noise: Tensor | None = None, same: Tensor | None = None) -> Estimate:
        """The mean of one value an observation, with its standard error.

        Args:
            values: shape (N,).
            noise: standard error of each value by the draws it is made of, (N,). Wanted where observations are equal.
            same: a number for each observation, (N,), that equal ones share: they have the same draws.

        Returns:
            The estimate.

        Example:
            >>> import torch
            >>> Estimate.of(torch.tensor([1.0, 3.0]))
            Estimate(value=2.0, se=1.0)
            >>> print(Estimate.of(torch.tensor([2.0, 2.0]), torch.tensor([0.5, 0.5]), torch.tensor([7, 7])))
            2.00 ± 0.50
        """
        values = values.double()
        se = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
        if noise is not None and same is not None and len(values) > 1:
            alone = noise_of_mean(noise, torch.arange(len(noise)))
            shared = noise_of_mean(noise, same) ** 2 - alone**2
            if shared > 0:  # of which the spread has an N-th already
                se = math.sqrt(se**2 + shared * len(values) / (len(values) - 1))
        return cls(values.mean().item(), se)

    def __str__(self) -> str:
        if not math.isfinite(self.se):
            return f"{self.value:.2f} ± unknown"
        # Two significant digits of the error; more of the value would be noise. Sixth decimal: float32 sums end there.
        digits = min(max(1 - math.floor(math.log10(self.se)), 0), 6) if self.se > 0 else 2
        return f"{self.value:.{digits}f} ± {self.se:.{digits}f}"


def bits_per_dim(nats: float, dimensions: int) -> float:
    """Bits per dimension of an observation from its log-likelihood in nats; the more nats, the fewer bits.

    Args:
        nats: log p(x).
        dimensions: elements of an observation, D.

    Returns:
        −log p(x) / (D log 2).

    Example:
        >>> round(bits_per_dim(-784 * math.log(2), 784), 6)
        1.0
    """
    return -nats / (dimensions * math.log(2))


def noise_of_mean(noise: Tensor, same: Tensor) -> float:
    """Standard error of a mean over observations by the noise of their draws alone.

    Args:
        noise: standard error of each value by its draws, (N,).
        same: a number for each observation, (N,), that equal ones share: their noise is the same, and adds up.

    Example:
        >>> import torch
        >>> noise = torch.tensor([0.5, 0.5, 0.5, 0.5])
        >>> noise_of_mean(noise, torch.tensor([0, 1, 2, 3])), noise_of_mean(noise, torch.tensor([0, 0, 0, 0]))
        (0.25, 0.5)
    """
    _, group = same.unique(return_inverse=True)
    added = torch.zeros(len(same), dtype=torch.float64).index_add(0, group, noise.double())
    return float(added.square().sum().sqrt() / len(same))


def plain(estimates: Mapping[str, Estimate | None]) -> dict[str, float | None]:
    """Estimates as numbers: each under its name, its error under ``…_se``; None where one is unknown.

    Args:
        estimates: by name.

    Example:
        >>> plain({"elbo": Estimate(-90.0, 0.5), "gap": None})
        {'elbo': -90.0, 'elbo_se': 0.5, 'gap': None, 'gap_se': None}
    """
    found: dict[str, float | None] = {}
    for name, each in estimates.items():
        found[name] = None if each is None else number(each.value)
        found[f"{name}_se"] = None if each is None else number(each.se)
    return found


def number(value: float) -> float | None:
    """A number as JSON has it: None where it is not finite."""
    return value if math.isfinite(value) else None


def row(name: str, value: Estimate | str, note: str, *, width: int = 18) -> str:
    """A line of a report: a name, a value with its error or words, and a note.

    Args:
        name: at most ``width`` characters.
        value: an estimate, or words.
        note: what it is.
        width: of the column of names.
    """
    if isinstance(value, str):
        return f"  {name:<{width}}{value}"
    number, error = str(value).split(" ± ")
    return f"  {name:<{width - 1}} {number:>12} ± {f'{error} ':<10}{note}".rstrip()


def in_columns(value: Estimate | str, note: str) -> tuple[str, str, str]:
    """The same as cells of a table: a number, its error, and a note, to which words beside a number belong.

    Args:
        value: an estimate, or words.
        note: what it is.

    Example:
        >>> in_columns("median 0.45; above 0.7 for 2% of them", ""), in_columns(Estimate(-2.0, 0.5), "nats")
        (('0.45', '', 'median; above 0.7 for 2% of them'), ('−2.00', '± 0.50', 'nats'))
    """
    number, _, error = str(value).partition(" ± ")
    if error:
        return number.replace("-", "−"), f"± {error}", note
    worded = re.fullmatch(r"(median|) ?(-?[\d.]+)(?:; | (?!of )|$)(.*)", number)
    if not worded:
        return number, "", note
    return worded[2].replace("-", "−"), "", "; ".join(filter(None, (worded[1], worded[3], note)))


class Judged(ABC):
    """A report that prints as its numbers and, below, what they mean."""

    @property
    @abstractmethod
    def table(self) -> str:
        """The numbers, without the verdict."""

    @property
    @abstractmethod
    def verdict(self) -> str:
        """What the numbers mean."""

    @property
    def in_words(self) -> str:
        """The verdict in lines of 100 characters; an empty line parts its paragraphs."""
        return "\n\n".join(textwrap.fill(part, width=100) for part in self.verdict.split("\n\n"))

    def __str__(self) -> str:
        return f"{self.table}\n\n{self.in_words}"

    __repr__ = __str__
