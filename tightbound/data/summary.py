"""What kind of numbers a data set holds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tightbound.data.observations import Observations
from tightbound.data.rows import Rows

Kind = Literal["binary", "grey", "counts", "real"]
Nature = Literal["binary", "levels", "unit", "counts", "overdispersed", "real"]

OVERDISPERSED = 1.5  # counts are not called Poisson if their variance over their mean is greater
CHUNK = 2**19  # values in a chunk: 4 MB as float64, which fits into a processor's cache


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """What :func:`summarise` found. Values are as stored, before the division by ``scale``.

    Args:
        count: number of observations.
        shape: shape of one observation.
        dtype: how a value is stored: "uint8", "float32", ….
        low: the least stored value.
        high: the greatest stored value.
        scale: the stored value that a model sees as 1.
        binarised: whether a model sees Bernoulli draws instead of the values.
        kind: what a model sees: "binary" (0 or 1), "grey" (within [0, 1]), "counts" (whole, 0 or more) or "real".
        levels: how many values a grey one can take, ``scale + 1``; None for other kinds and for grey values between
            the levels.
        overdispersion: variance of counts over their mean, both pooled over elements; None for other kinds.

    Example:
        >>> found = summarise(Observations(torch.tensor([[0], [3], [16]], dtype=torch.uint8), scale=16))
        >>> found.kind, found.levels, found.nature
        ('grey', 17, 'levels')
    """

    count: int
    shape: tuple[int, ...]
    dtype: str
    low: float
    high: float
    scale: float
    binarised: bool
    kind: Kind
    levels: int | None = None
    overdispersion: float | None = None

    @property
    def nature(self) -> Nature:
        """The kind, and what else a likelihood goes by: grey values are "levels" or fill the "unit" interval, and
        counts with more spread than Poisson's are "overdispersed"."""
        if self.kind == "grey":
            return "unit" if self.levels is None else "levels"
        if self.kind == "counts":
            return "overdispersed" if (self.overdispersion or 0.0) > OVERDISPERSED else "counts"
        return self.kind

    @property
    def because(self) -> str:
        """The reason for :attr:`nature`, as a clause that goes on from "since"."""
        top = f"{self.scale:g}"
        if self.binarised:
            return "the values are binarised"
        if self.kind == "binary":
            return f"every value is 0 or {top}"
        if self.kind == "grey":
            levels = "real numbers between 0 and" if self.levels is None else f"{self.levels} levels of grey, from 0 to"
            return f"the values are {levels} {top}"
        if self.kind == "counts":
            return f"the values are counts up to {self.high:.0f}, their variance {self.overdispersion:.2g} × their mean"
        return f"the values are real numbers between {self._figure(self.low)} and {self._figure(self.high)}"

    def describe(self) -> str:
        """Describe the data to a person in one line.

        Returns:
            The line, without a line break.

        Example:
            >>> summarise(Observations(torch.arange(256, dtype=torch.uint8)[:, None], scale=255)).describe()
            '256 observations of 1, uint8 0…255: grey'
        """
        shape, binarised = "×".join(map(str, self.shape)), ", binarised" if self.binarised else ""
        span = f"{self._figure(self.low)}…{self._figure(self.high)}"
        return f"{self.count} observations of {shape}, {self.dtype} {span}{binarised}: {self.kind}"

    def _figure(self, value: float) -> str:
        return str(float(f"{value:.3g}")) if "float" in self.dtype else f"{value:.0f}"


def summarise(observations: Observations) -> DataSummary:
    r"""Look at every present value once, a chunk at a time, and say what kind of numbers these are.

    Values that are all 0 or ``scale`` are *binary*, and so are values that will be binarised. Values within
    [0, ``scale``] are *grey* if ``scale`` is above 1 or they are not whole. Whole numbers from 0 up are *counts*. All
    others are *real*.

    Args:
        observations: what to look at. Values that its mask marks as absent are ignored.

    Returns:
        The summary.

    Raises:
        ValueError: if a value is NaN or infinite, with the row of the first such observation and how many there are;
            if no value is present; or if values outside [0, ``scale``] are to be binarised.

    Example:
        >>> found = summarise(Observations(torch.tensor([[-3.1], [4.0]])))
        >>> print(f"{found.nature}, since {found.because}")
        real, since the values are real numbers between -3.1 and 4.0
    """
    low, high, scale = math.inf, -math.inf, observations.scale
    whole = binary = True
    for values in _present_values(observations):
        least, greatest = values.amin().item(), values.amax().item()
        if not (math.isfinite(least) and math.isfinite(greatest)):
            raise _not_finite(observations)
        low, high = min(low, least), max(high, greatest)
        binary = binary and bool(((values == 0) | (values == scale)).all())
        whole = whole and (not values.is_floating_point() or bool((values == values.floor()).all()))
    if low > high:
        raise ValueError(
            f"Expected at least one present value; got a mask without any for the {len(observations)} observations of "
            f"{observations.name}. Mark present values with True."
        )
    within = low >= 0 and high <= scale
    if observations.binarise and not within:
        raise _not_grey(observations, low, high)
    kind = _kind(binary=binary or observations.binarise, whole=whole, within=within, positive=low >= 0, scale=scale)
    return DataSummary(
        count=len(observations),
        shape=tuple(observations.shape),
        dtype=str(observations.stored.dtype).removeprefix("torch."),
        low=low,
        high=high,
        scale=scale,
        binarised=observations.binarise,
        kind=kind,
        levels=int(scale) + 1 if kind == "grey" and whole and scale == int(scale) else None,
        overdispersion=_overdispersion(observations) if kind == "counts" else None,
    )


def moments(observations: Observations) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each element of ``stored / scale``, over the observations where it is present.

    They are computed in float64 on the CPU, a chunk at a time. The deviation is the root of the mean square, and
    exactly 0 for an element that never changes. An element that is never present has mean 0 and deviation 0.

    Args:
        observations: N observations. ``binarise`` makes no difference: the moments are those of grey values.

    Returns:
        Mean and deviation, each a float64 tensor of one observation's shape.

    References:
        Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances (1979).

    Example:
        >>> moments(Observations(torch.tensor([[0, 7], [255, 7]], dtype=torch.uint8), scale=255))[1]
        tensor([0.5000, 0.0000], dtype=torch.float64)
    """
    count, origin, mean, squares = torch.zeros(4, *observations.shape, dtype=torch.float64)
    for _, chunk, present in _chunks(observations):
        values = chunk.cpu().to(torch.float64)
        present = None if present is None else present.cpu()
        # Distances from a present value keep a constant element exact, where a rounded mean would not.
        origin = torch.where(count > 0, origin, _one_present(values, present))
        distance = _zero_absent(values.sub_(origin), present)
        fresh = torch.tensor(len(values)) if present is None else present.sum(0)
        total = count + fresh
        centre = distance.sum(0) / fresh.clamp(min=1)
        share = fresh / total.clamp(min=1)
        squares += _zero_absent(distance.sub_(centre), present).square_().sum(0)
        squares += (centre - mean).square() * count * share
        mean += (centre - mean) * share
        count = total
    mean = torch.where(count > 0, origin + mean, 0.0)
    return mean / observations.scale, (squares / count.clamp(min=1)).sqrt() / observations.scale


def require_grey(observations: Observations) -> None:
    """Check that every present value lies within [0, ``scale``], as binarisation needs.

    Args:
        observations: what to look at.

    Raises:
        ValueError: if a value lies outside.

    Example:
        >>> require_grey(Observations(torch.tensor([[0.0, 0.5]])))
    """
    dtype, scale = observations.stored.dtype, observations.scale
    if dtype == torch.bool or (dtype == torch.uint8 and scale >= torch.iinfo(dtype).max):
        return
    for values in _present_values(observations):
        low, high = values.amin().item(), values.amax().item()
        if not (low >= 0 and high <= scale):
            raise _not_grey(observations, low, high)


def all_below(stored: Tensor, bound: float) -> bool:
    """Tell whether every value is below a bound, a chunk at a time, and stop at the first chunk where one is not.

    Args:
        stored: values, shape (N, ...).
        bound: what they are compared with.

    Returns:
        Whether all are below it.

    Example:
        >>> all_below(torch.tensor([[0], [1]]), 2), all_below(torch.tensor([[0], [2]]), 2)
        (True, False)
    """
    return all(bool((chunk < bound).all()) for chunk in stored.split(_chunk_rows(stored)))


def _chunks(observations: Observations) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Rows, their values in a dtype that has all the arithmetic, and which of the values are present (None for all).

    Rows come in stored order, in which a mapped file is read fastest.
    """
    stored, mask, rows = observations.stored, observations.mask, observations.rows
    rows = torch.arange(len(stored)) if rows is None else rows.cpu().sort().values
    for part in rows.split(_chunk_rows(stored)):
        chunk = stored.index_select(0, part.to(stored.device))
        if chunk.dtype in (torch.uint16, torch.uint32, torch.uint64):
            chunk = chunk.to(torch.float64)
        if chunk.dtype == torch.bool:
            chunk = chunk.to(torch.uint8)
        yield part, chunk, None if mask is None else mask.index_select(0, part.to(mask.device)).to(chunk.device)


def _present_values(observations: Observations) -> Iterator[Tensor]:
    """Chunks of present values, without those chunks that have none."""
    for _, chunk, present in _chunks(observations):
        values = chunk if present is None else chunk[present]
        if len(values) > 0:
            yield values


def _one_present(values: Tensor, present: Tensor | None) -> Tensor:
    """A present value of each element, and any value where none is present."""
    if present is None:
        return values[0]
    return values.gather(0, present.to(torch.uint8).argmax(0, keepdim=True))[0]


def _zero_absent(values: Tensor, present: Tensor | None) -> Tensor:
    return values if present is None else values.masked_fill_(~present, 0)


def _chunk_rows(stored: Tensor | Rows) -> int:
    return max(1, CHUNK // stored.shape[1:].numel())


def _not_finite(observations: Observations) -> ValueError:
    bad = []
    for rows, chunk, present in _chunks(observations):
        wrong = ~chunk.isfinite() if present is None else ~chunk.isfinite() & present
        bad += rows[wrong.flatten(1).any(1).cpu()].tolist()
    return ValueError(
        f"Expected finite numbers; got NaN or infinity in {len(bad)} of {len(observations)} observations of "
        f"{observations.name}, the first at index {bad[0]}. Drop those rows, fill in their values, or mark "
        "missing values: Observations(x, mask=x.isfinite())."
    )


def _kind(*, binary: bool, whole: bool, within: bool, positive: bool, scale: float) -> Kind:
    if binary:
        return "binary"
    if within and (scale > 1 or not whole):
        return "grey"
    return "counts" if whole and positive and scale == 1 else "real"


def _overdispersion(observations: Observations) -> float:
    mean, deviation = moments(observations)
    return (deviation.square().sum() / mean.sum()).item()


def _not_grey(observations: Observations, low: float, high: float) -> ValueError:
    return ValueError(
        f"Expected values between 0 and {observations.scale:g} to binarise; got {low:g} to {high:g} in "
        f"{observations.name}. Rescale them first, or leave out the binarisation."
    )
