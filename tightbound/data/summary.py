"""What kind of numbers a data set holds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from tightbound.data.chunked import chunk_rows, chunks, moments, present_values
from tightbound.data.nature import (
    Elements,
    are_levels_of_pixels,
    are_scaled_columns,
    lost_digits,
    oddities,
    of_whole_numbers,
)
from tightbound.data.observations import Observations

Kind = Literal["binary", "grey", "counts", "real"]
Nature = Literal["binary", "levels", "unit", "counts", "overdispersed", "codes", "real"]

WHOLE = 2.0**53  # up to which float64 holds every whole number
LARGEST = 1e150  # whose square float64 holds
OVERDISPERSED = 1.5  # counts are not called Poisson if their variance over their mean is greater


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
        instead: another nature than the kind has, by the look of the values, and why; None for most data.
        wide: whether float32 loses digits that tell values apart, or cannot square them: then float64 is needed.
        notes: what a person should know of the values, a sentence each.
        ends: the least and the greatest value of each element, flat; infinite where none is present.

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
    instead: tuple[Nature, str] | None = None
    wide: bool = False
    notes: tuple[str, ...] = ()
    ends: tuple[Tensor, Tensor] = field(default=(torch.zeros(0), torch.zeros(0)), compare=False, repr=False)

    @property
    def nature(self) -> Nature:
        """The kind, and what else a likelihood goes by: grey values are "levels" or fill the "unit" interval, counts
        with more spread than Poisson's are "overdispersed", and few whole numbers that are no counts are "codes"."""
        if self.instead is not None:
            return self.instead[0]
        if self.kind == "grey":
            return "unit" if self.levels is None else "levels"
        if self.kind == "counts":
            return "overdispersed" if (self.overdispersion or 0.0) > OVERDISPERSED else "counts"
        return self.kind

    @property
    def because(self) -> str:
        """The reason for :attr:`nature`, as a clause that goes on from "since"."""
        top = f"{self.scale:g}"
        if self.instead is not None:
            return self.instead[1]
        if self.binarised:
            return "the values are binarised"
        if self.kind == "binary":
            return f"every value is 0 or {top}"
        if self.kind == "grey":
            of = "each colour" if self._coloured else "grey"
            levels = "real numbers between 0 and" if self.levels is None else f"{self.levels} levels of {of}, from 0 to"
            return f"the values are {levels} {top}"
        if self.kind == "counts":
            return f"the values are counts up to {self.high:.0f}, their variance {self.overdispersion:.2g} × their mean"
        return f"the values are real numbers between {' and '.join(self._span())}"

    def describe(self) -> str:
        """Describe the data to a person in one line.

        Returns:
            The line, without a line break.

        Example:
            >>> summarise(Observations(torch.arange(256, dtype=torch.uint8)[:, None], scale=255)).describe()
            '256 observations of 1, uint8 0…255: grey'
        """
        shape, binarised = "×".join(map(str, self.shape)), ", binarised" if self.binarised else ""
        span = "…".join(self._span())
        return f"{self.count} observations of {shape}, {self.dtype} {span}{binarised}: {self.called}"

    @property
    def called(self) -> str:
        """The kind as a person calls it: values within [0, 1] of three channels are a colour's."""
        return "colour" if self.kind == "grey" and self._coloured else self.kind

    @property
    def _coloured(self) -> bool:
        return len(self.shape) == 3 and self.shape[0] == 3

    def _span(self) -> tuple[str, str]:
        """Both ends, in as few digits as tell them apart; whole numbers up to a million in all of theirs."""
        digits = next((n for n in (3, 6, 9, 12) if f"{self.low:.{n}g}" != f"{self.high:.{n}g}"), 3)

        def told(value: float) -> str:
            if "float" not in self.dtype:
                return f"{value:.0f}"
            whole = value == round(value) and abs(value) <= 1e6  # -9999 stands for something
            return str(value if whole else float(f"{value:.{digits}g}"))

        return told(self.low), told(self.high)


def summarise(observations: Observations, *, of: Observations | None = None) -> DataSummary:
    r"""Look at every present value once, a chunk at a time, and say what kind of numbers these are.

    Values that are all 0 or ``scale`` are *binary*, and so are values that will be binarised. Values within
    [0, ``scale``] are *grey* if ``scale`` is above 1 or they are not whole. Whole numbers from 0 up are *counts*. All
    others are *real*. The look of the values can say more than their kind: whole numbers need not be counts.

    Args:
        observations: what to look at. Values that its mask marks as absent are ignored.
        of: what they are a part of, where that was given: errors count rows of the whole, as whoever made it does.

    Returns:
        The summary.

    Raises:
        ValueError: if a value is NaN or infinite, with the row of the first such observation and how many there are;
            if no value is present; if numbers are above 1e150 in size, or an element has none above 1e-150; or if
            values outside [0, ``scale``] are to be binarised.

    Example:
        >>> found = summarise(Observations(torch.tensor([[-3.1], [4.0]])))
        >>> print(f"{found.nature}, since {found.because}")
        real, since the values are real numbers between -3.1 and 4.0
    """
    scale = observations.scale
    shape = observations.shape.numel()
    low, high = torch.full((shape,), math.inf).double(), torch.full((shape,), -math.inf).double()
    whole = binary = True
    for _, chunk, present in chunks(observations):
        values = chunk if present is None else chunk[present]
        if len(values) == 0:
            continue
        least, greatest = _ends(chunk, present)
        if not (math.isfinite(least.min()) and math.isfinite(greatest.max())):
            raise _not_finite(of or observations)
        low, high = torch.minimum(low, least), torch.maximum(high, greatest)
        binary = binary and bool(((values == 0) | (values == scale)).all())
        whole = whole and (not values.is_floating_point() or bool((values == values.floor()).all()))
    if not (low <= high).any():
        raise ValueError(
            f"Expected at least one present value; got a mask without any for the {len(observations)} observations of "
            f"{observations.name}. Mark present values with True."
        )
    elements = Elements(observations, low, high)
    _require_a_size(elements, of or observations)
    bottom, top = low.min().item(), high.max().item()
    within = bottom >= 0 and top <= scale
    if observations.binarise and not within:
        raise _not_grey(observations, bottom, top)
    kind = _kind(binary=binary or observations.binarise, whole=whole, within=within, positive=bottom >= 0, scale=scale)
    levels = int(scale) + 1 if kind == "grey" and whole and scale == int(scale) else None
    numbers = kind in ("counts", "real")
    lost = lost_digits(elements) if numbers else None
    return DataSummary(
        count=len(observations),
        shape=tuple(observations.shape),
        dtype=str(observations.stored.dtype).removeprefix("torch."),
        low=bottom,
        high=top,
        scale=scale,
        binarised=observations.binarise,
        kind=kind,
        levels=levels,
        overdispersion=_overdispersion(observations) if kind == "counts" else None,
        instead=_instead(elements, kind, levels),
        wide=lost is not None,
        notes=_notes(elements, kind, levels),
        ends=(low, high),
    )


def _ends(chunk: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
    """The least and the greatest present value of each element, flat; infinite where none is present."""
    values = chunk.flatten(1)
    if present is None:
        return values.amin(0).cpu().double(), values.amax(0).cpu().double()
    there, values = present.flatten(1), values.double()
    least = torch.where(there, values, math.inf).amin(0)
    return least.cpu(), torch.where(there, values, -math.inf).amax(0).cpu()


def _instead(elements: Elements, kind: Kind, levels: int | None) -> tuple[Nature, str] | None:
    """Another nature than the kind of the values has, by their look, and why."""
    if kind == "counts" and (found := of_whole_numbers(elements)) is not None:
        return ("codes" if found[0] == "codes" else "real"), found[1]
    if kind == "grey" and levels is None and elements.observations.scale == 1 and are_scaled_columns(elements):
        return "real", "each column is scaled to lie between its own least and greatest value, 0 and 1"
    return None


def _notes(elements: Elements, kind: Kind, levels: int | None) -> tuple[str, ...]:
    if kind in ("counts", "real"):
        return tuple(oddities(elements))
    unscaled = kind == "grey" and levels is None and elements.observations.scale == 1
    if unscaled and not elements.observations.binarise and are_levels_of_pixels(elements):
        return (
            "all values are levels of 8-bit pixels, divided by 255: a density of them has no honest bits per "
            "dimension. Store (255 * x).round() as uint8 to have a probability for each level",
        )
    return ()


def _require_a_size(elements: Elements, whole: Observations) -> None:
    """Refuse numbers whose squares no type holds, and whole ones whose last digits float64 does not."""
    size = torch.maximum(elements.low.abs(), elements.high.abs())
    size[~size.isfinite()] = 0
    name = elements.observations.name
    if elements.observations.stored.dtype in (torch.int64, torch.uint64) and float(size.max()) > WHOLE:
        index = int(size.argmax())
        row = _first_row(whole, index, WHOLE)
        raise ValueError(
            f"Expected whole numbers of at most 2^53, as float64 holds them; got {float(size[index]):.6g} at row "
            f"{row}, {elements.place(index)} of {name}. Take the least of each column off first: x - x.min(0)."
        )
    if float(size.max()) > LARGEST:
        index = int(size.argmax())
        row = _first_row(whole, index, LARGEST)
        raise ValueError(
            f"Expected numbers of at most {LARGEST:g} in size; got {float(size[index]):g} at row {row}, "
            f"{elements.place(index)} of {name}. Take another unit; where such a value means that one is missing, drop "
            "those rows or fill in their values."
        )
    if bool(((size > 0) & (size < 1 / LARGEST)).any()):
        index = int(((size > 0) & (size < 1 / LARGEST)).nonzero()[0, 0])
        row = _first_row(whole, index, 0)
        raise ValueError(
            f"Expected numbers of at least {1 / LARGEST:g} in size, or 0; got {float(size[index]):g} at most, first at "
            f"row {row}, in {elements.place(index)} of {name}. Take another unit."
        )


def _first_row(observations: Observations, index: int, bound: float) -> int:
    """The first stored row whose element is larger than a bound."""
    for rows, chunk, _ in chunks(observations):
        found = (chunk.flatten(1)[:, index].double().abs() > bound).nonzero()
        if len(found):
            return int(rows[int(found[0, 0])])
    return 0


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
    for values in present_values(observations):
        low, high = values.amin().item(), values.amax().item()
        if not (low >= 0 and high <= scale):
            raise _not_grey(observations, low, high)


def first_unlike(observations: Observations, facts: DataSummary) -> int | None:
    """The first row whose like a summary has not seen: beyond its ends, or with a fraction beside whole numbers.

    Args:
        observations: where to look.
        facts: a summary of others.

    Example:
        >>> seen = summarise(Observations(torch.tensor([[0], [1]])))
        >>> first_unlike(Observations(torch.tensor([[1], [2]])), seen)
        1
    """
    whole = facts.kind in ("binary", "counts") and facts.scale == 1 and not facts.binarised
    for rows, chunk, present in chunks(observations):
        odd = (chunk < facts.low) | (chunk > facts.high)
        if whole and chunk.is_floating_point():
            odd |= chunk != chunk.floor()
        odd = (odd if present is None else odd & present).flatten(1).any(1).cpu()
        if odd.any():
            return int(rows[int(odd.nonzero()[0, 0])])
    return None


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
    return all(bool((chunk < bound).all()) for chunk in stored.split(chunk_rows(stored)))


def _not_finite(observations: Observations) -> ValueError:
    bad = []
    for rows, chunk, present in chunks(observations):
        wrong = ~chunk.isfinite() if present is None else ~chunk.isfinite() & present
        bad += rows[wrong.flatten(1).any(1).cpu()].tolist()
    axes = 1 if len(observations.shape) == 1 else (*range(1, observations.stored.ndim),)
    remedy = (  # for arrays, tensors and frames, of which some have columns of several types
        f"Drop those rows, x[numpy.isfinite(numpy.asarray(x, float)).all(axis={axes})], or fill in their values, "
        "numpy.where(numpy.isfinite(y := numpy.asarray(x, float)), y, numpy.nanmedian(y, axis=0))."
    )
    if observations.mask is not None:
        remedy = "Mark them as absent too: mask & x.isfinite()."
    return ValueError(
        f"Expected finite numbers; got NaN or infinity in {len(bad)} of {len(observations)} observations of "
        f"{observations.name}, the first at index {bad[0]}. {remedy}"
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
