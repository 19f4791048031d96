"""What kind of numbers a data set holds, and which likelihood follows from that."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tightbound.data.observations import Observations

Kind = Literal["binary", "grey", "counts", "real"]

OVERDISPERSED = 1.5  # variance over mean from which counts are not called Poisson
CHUNK = 2**19  # values looked at in one go: 4 MB as float64, which a cache holds


@dataclass(frozen=True, kw_only=True)
class DataSummary:
    """What :func:`summarise` found out. Values are as stored, before the division by ``scale``.

    Args:
        count: number of observations.
        shape: shape of one observation.
        dtype: how a value is stored: "uint8", "float32", ….
        low: the least stored value.
        high: the greatest stored value.
        scale: the stored value that a model sees as 1.
        binarised: whether a model sees Bernoulli draws instead of the values.
        kind: what a model sees: "binary" (0 or 1), "grey" (within [0, 1]), "counts" (whole, 0 or more) or "real".
        levels: how many values a grey one can take, ``scale + 1``; None where it is no matter of levels.
        overdispersion: variance of counts over their mean, both pooled over elements; None for other kinds.
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
    def likelihood(self) -> str:
        """Name of the likelihood whose support and spread fit these values."""
        if self.kind == "grey":
            return "continuous-bernoulli" if self.levels is None else "discretized-logistic"
        if self.kind == "counts":
            return "negative-binomial" if (self.overdispersion or 0.0) > OVERDISPERSED else "poisson"
        return "bernoulli" if self.kind == "binary" else "gaussian"

    @property
    def because(self) -> str:
        """The reason for :attr:`likelihood`, to be read after "since"."""
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
        """One line for a person.

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
    r"""Look at every value once, a chunk at a time, and say what kind of numbers these are.

    Values that are all 0 or ``scale`` are *binary*, and so is whatever a model sees binarised; values within
    [0, ``scale``] are *grey* if ``scale`` is above 1 or they are not whole; whole numbers from 0 up are *counts*; all
    else is *real*.

    Raises:
        ValueError: for NaN or infinity, with the row of the first such observation and how many there are; and for
            values outside [0, ``scale``] that are to be binarised.

    Example:
        >>> facts = summarise(Observations(torch.tensor([[-3.1], [4.0]])))
        >>> print(f"{facts.likelihood}, since {facts.because}")
        gaussian, since the values are real numbers between -3.1 and 4.0
    """
    low, high, scale = math.inf, -math.inf, observations.scale
    whole = binary = True
    for _, chunk in _chunks(observations):
        least, greatest = chunk.amin().item(), chunk.amax().item()
        if not (math.isfinite(least) and math.isfinite(greatest)):
            raise _not_finite(observations)
        low, high = min(low, least), max(high, greatest)
        binary = binary and bool(((chunk == 0) | (chunk == scale)).all())
        whole = whole and (not chunk.is_floating_point() or bool((chunk == chunk.floor()).all()))
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
    """Mean and standard deviation of each element of ``stored / scale`` over the observations.

    Computed in float64 on the CPU, a chunk at a time; the deviation is the root of the mean square, exactly 0 for an
    element that never changes.

    Returns:
        Two tensors of one observation's shape, float64.

    References:
        Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for computing sample variances (1979).

    Example:
        >>> moments(Observations(torch.tensor([[0, 7], [255, 7]], dtype=torch.uint8), scale=255))[1]
        tensor([0.5000, 0.0000], dtype=torch.float64)
    """
    origin = observations.take(torch.tensor([0])).cpu().to(torch.float64)
    count, mean, squares = 0, torch.zeros_like(origin[0]), torch.zeros_like(origin[0])
    for _, chunk in _chunks(observations):
        # Distances from the first observation keep a constant element exact, where a rounded mean would not.
        distance = chunk.cpu().to(torch.float64).sub_(origin)
        fresh, total = len(distance), count + len(distance)
        step = distance.mean(0) - mean
        squares += distance.sub_(distance.mean(0)).square_().sum(0) + step.square() * (count * fresh / total)
        mean += step * (fresh / total)
        count = total
    return (origin[0] + mean) / observations.scale, (squares / count).sqrt() / observations.scale


def require_grey(observations: Observations) -> None:
    """Raise a ValueError unless every value lies within [0, ``scale``], as binarisation needs."""
    dtype, scale = observations.stored.dtype, observations.scale
    if dtype == torch.bool or (dtype == torch.uint8 and scale >= torch.iinfo(dtype).max):
        return
    for _, chunk in _chunks(observations):
        low, high = chunk.amin().item(), chunk.amax().item()
        if not (low >= 0 and high <= scale):
            raise _not_grey(observations, low, high)


def all_below(stored: Tensor, bound: float) -> bool:
    """Whether every value is below ``bound``; stops at the first chunk that has one that is not."""
    return all(bool((chunk < bound).all()) for chunk in stored.split(_chunk_rows(stored)))


def _chunks(observations: Observations) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows in stored order, a mapped file's best order, and their values in a dtype that has all the arithmetic."""
    stored, rows = observations.stored, observations.rows
    rows = torch.arange(len(stored)) if rows is None else rows.cpu().sort().values
    for part in rows.split(_chunk_rows(stored)):
        chunk = stored.index_select(0, part.to(stored.device))
        if chunk.dtype in (torch.uint16, torch.uint32, torch.uint64):
            chunk = chunk.to(torch.float64)
        yield part, chunk.to(torch.uint8) if chunk.dtype == torch.bool else chunk


def _chunk_rows(stored: Tensor) -> int:
    return max(1, CHUNK // stored.shape[1:].numel())


def _not_finite(observations: Observations) -> ValueError:
    bad = torch.cat([rows[~chunk.flatten(1).isfinite().all(1).cpu()] for rows, chunk in _chunks(observations)])
    return ValueError(
        f"Expected finite numbers; got NaN or infinity in {len(bad)} of {len(observations)} observations of "
        f"{observations.name}, the first at index {bad[0]}. Drop those rows or fill in their values."
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
