"""What numbers are by the look of their elements, whatever type they are stored in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tightbound.data.chunked import moments
from tightbound.data.observations import Observations

ROWS, VALUES = 4096, 2**22  # looked at in a sample: rows, and values in all of them
MOST_CODES = 16  # classes that whole numbers from 0 can be codes of
FAR = 1000  # whole numbers above it that never fall to half of their largest are far from zero
PIXEL = 255.0  # the largest
ROUNDED = 1e-4  # of a level: by what float32 may miss it
MANY = 50  # observations from which on it means something that all values differ
SENTINELS = (99, 999, 9999, 99_999, 32_767, 32_768, 2**31 - 1, 2**31, 1e20, 1e30, 1e36, 9.969209968386869e36, 3.4e38)
TOLD = 3  # oddities, each in a sentence of its own
ENDS = 5  # values at both ends of a column that can be apart from the rest, and one more
ODD, ERROR = 3, 1000  # how far an end is from the others, in what these lie apart, to look like a sign or an error
WIDE = (torch.float64, torch.int32, torch.int64, torch.uint32, torch.uint64)  # with digits that float32 has not
DIGITS, LOST = 2.0**-10, 0.05  # of a column's spread: by what a rounding to float32 may move values, and must not
RANGE = (1e-12, 1e15)  # spread and size of values whose squares float32 holds, with room for small deviations


@dataclass(frozen=True, eq=False)
class Elements:
    """Each element of observations, as stored; flat, in float64.

    Args:
        observations: whose.
        low: the least value of each.
        high: the greatest.
    """

    observations: Observations
    low: Tensor
    high: Tensor

    def sample(self) -> Tensor:
        """Some observations at equal distances, shape (n, D); NaN at what is absent."""
        observed = self.observations
        count = min(len(observed), ROWS, max(64, VALUES // len(self.low)))
        rows = torch.linspace(0, len(observed) - 1, count, dtype=torch.float64).long()
        values = observed.take(rows).cpu().to(torch.float64).flatten(1)
        if observed.mask is None:
            return values
        present = observed.mask[rows if observed.rows is None else observed.rows[rows]]
        return values.masked_fill(~present.cpu().flatten(1), torch.nan)

    def place(self, index: int) -> str:
        """What an element is called: "column 3", "column 'age'", or its place in an observation."""
        shape = tuple(self.observations.shape)
        if self.observations.column_names:
            return f"column {self.observations.column_names[index]!r}"
        if len(shape) == 1:
            return f"column {index}"
        return f"element ({', '.join(str(int(i)) for i in torch.unravel_index(torch.tensor(index), shape))})"

    @property
    def varies(self) -> Tensor:
        """Which of them take more than one value."""
        return self.high > self.low


def is_image(shape: Sequence[int]) -> bool:
    """Whether an observation of this shape is an image: channels, fewer than there are rows and columns, come first.

    Args:
        shape: of one observation.

    Example:
        >>> is_image((3, 64, 48)), is_image((8, 8, 8))
        (True, False)
    """
    return len(shape) == 3 and (shape[0] <= 4 or shape[0] < min(shape[1:]))


def of_whole_numbers(elements: Elements) -> tuple[str, str] | None:
    """What whole numbers from 0 are, where they are no counts, and why; None for counts.

    Args:
        elements: of observations that are whole and not below 0.

    Returns:
        "codes" or "real", and a clause that goes on from "since".

    Example:
        >>> codes = Observations(torch.arange(400)[:, None] % 5)
        >>> of_whole_numbers(Elements(codes, torch.zeros(1), torch.full((1,), 4.0)))[0]
        'codes'
    """
    observed, low, high, varies = elements.observations, elements.low, elements.high, elements.varies
    if not varies.any():
        return None
    if (shaped := _are_pixels(observed.shape, float(high.max()))) or _are_flat_pixels(high[varies]):
        where = "in the shape of images" if shaped else "and many elements reach just that"
        return "real", (
            f"the values are whole numbers up to {float(high.max()):.0f} {where}, as pixels are: divide "
            "them by 255, or store them as uint8, to have levels of grey"
        )
    mean, deviation = (each.flatten() * observed.scale for each in moments(observed))
    for found, words in (
        ((high > FAR) & (low > high / 2), "lies far from zero"),
        ((high >= MOST_CODES) & (deviation.square() < mean / 2), "has less spread than counts have"),
        (_are_numbered(elements, mean, deviation), "has a different number in each row, as identifiers do"),
    ):
        if (found & varies).any():
            index = int((found & varies).nonzero()[0, 0])
            span = f"{float(low[index]):.0f} to {float(high[index]):.0f}"
            return "real", f"the values are whole numbers and no counts: {elements.place(index)}, {span}, {words}"
    if float(high.max()) < MOST_CODES and float(high.max()) >= 2:
        # Of counts with these means about one in all would lie above the largest that is there.
        above = len(observed) * (1 - torch.special.gammaincc(high + 1, mean.clamp(min=1e-9)))
        if float(above[varies].mean()) > 5 and float(above[varies].sum()) > 20:
            return "codes", (
                f"the values are {float(high.max()) + 1:.0f} codes, 0 to {float(high.max()):.0f}: counts with such "
                "means would go higher"
            )
    return None


def _are_pixels(shape: torch.Size, high: float) -> bool:
    return len(shape) >= 2 and min(shape[-2:]) >= 4 and 200 < high <= 255


def _are_flat_pixels(high: Tensor) -> bool:
    """Whether elements that vary end as pixels do: at 255, and often."""
    return len(high) >= MANY and float(high.max()) == PIXEL and float((high == PIXEL).double().mean()) > 0.05


def are_levels_of_pixels(elements: Elements) -> bool:
    """Whether numbers between 0 and 1 are 8-bit pixels that somebody has divided by 255.

    Args:
        elements: of observations within [0, 1].

    Example:
        >>> pixels = Observations(torch.arange(256)[:, None] / 255)
        >>> are_levels_of_pixels(Elements(pixels, torch.zeros(1), torch.ones(1)))
        True
    """
    seen = PIXEL * elements.sample().nan_to_num(0)
    return len(seen.unique()) > MOST_CODES and bool(((seen - seen.round()).abs() < ROUNDED).all())


def _are_numbered(elements: Elements, mean: Tensor, deviation: Tensor) -> Tensor:
    """Which elements have different values throughout, spread evenly between the least and the greatest."""
    seen = elements.sample()
    if len(seen) < MANY:
        return torch.zeros_like(elements.varies)
    reach = elements.high - elements.low
    even = (deviation * 12**0.5 / reach - 1).abs() < 0.1
    centred = ((mean - elements.low) / reach - 0.5).abs() < 0.05
    apart = (seen.sort(0).values.diff(dim=0) != 0).all(0)
    return even & centred & apart


def are_scaled_columns(elements: Elements) -> bool:
    """Whether a table of numbers in [0, 1] was scaled column by column: most reach 0 and 1, and hardly ever.

    Args:
        elements: of observations within [0, 1].

    Example:
        >>> x = torch.rand(500, 3, dtype=torch.float64)
        >>> scaled = Observations((x - x.amin(0)) / (x.amax(0) - x.amin(0)))
        >>> are_scaled_columns(Elements(scaled, torch.zeros(3), torch.ones(3)))
        True
    """
    varies = elements.varies
    if len(elements.observations.shape) != 1 or not varies.any():
        return False
    ends = (elements.low == 0) & (elements.high == 1)
    if float(ends[varies].double().mean()) < 0.5:
        return False
    seen = elements.sample()[:, varies]
    at_ends = float(((seen == 0) | (seen == 1)).double().mean())
    return at_ends < max(0.02, 4 / len(seen)) and len(seen.unique()) > 256


def lost_digits(elements: Elements) -> int | None:
    """The first element whose differences float32 does not hold, or whose squares; None where there is none.

    Args:
        elements: of any observations.

    Example:
        >>> far = Observations(1.6e9 + torch.randn(100, 1, dtype=torch.float64))
        >>> lost_digits(Elements(far, far.stored[:, :1].amin(0), far.stored.amax(0)))
        0
    """
    size, reach = torch.maximum(elements.low.abs(), elements.high.abs()), elements.high - elements.low
    bad = elements.varies & ((size > RANGE[1]) | (reach < RANGE[0]))
    if elements.observations.stored.dtype in WIDE:
        bad |= elements.varies & (coarseness(elements, torch.float32) > DIGITS)
    if bad.any():  # of what varies by more than its own rounding
        bad &= moments(elements.observations)[1].flatten() > 0
    return int(bad.nonzero()[0, 0]) if bad.any() else None


def require_digits(observations: Observations, dtype: torch.dtype) -> None:
    """Refuse values that a type cannot tell apart, or makes zeros of.

    Args:
        observations: as they are stored.
        dtype: the type in which a model sees them.

    Raises:
        ValueError: for an element whose values a rounding to it moves by a twentieth of what they are apart, and more.

    Example:
        >>> require_digits(Observations(1e12 + torch.randn(100, 1, dtype=torch.float64)), torch.float32)
        Traceback (most recent call last):
        ...
        ValueError: Expected values that float32 can tell apart; got column 0 of data, which it rounds by ...
    """
    if observations.stored.dtype not in WIDE or dtype == torch.float64:
        return
    seen = Elements(observations, *(torch.zeros(observations.shape.numel()).double() for _ in range(2))).sample()
    elements = Elements(observations, seen.nan_to_num(torch.inf).amin(0), seen.nan_to_num(-torch.inf).amax(0))
    lost = elements.varies & (coarseness(elements, dtype) > LOST)
    if lost.any():
        lost &= moments(observations)[1].flatten() > 0
    if lost.any():
        name = str(dtype).removeprefix("torch.")
        raise ValueError(
            f"Expected values that {name} can tell apart; got {elements.place(int(lost.nonzero()[0, 0]))} of "
            f"{observations.name}, which it rounds by a twentieth of what its values differ by, or more. "
            "Take the mean off first (x - x.mean(0)) and divide by what they differ by, or take model.double()."
        )


def coarseness(elements: Elements, dtype: torch.dtype) -> Tensor:
    """How far a rounding to ``dtype`` moves the values of each element, as a share of their spread, shape (D,).

    The median of both: a single value far from the others does not count.
    """
    seen = elements.sample()
    moved = (seen - seen.to(dtype).to(torch.float64)).abs().nanmedian(0).values
    quarters = seen.nanquantile(torch.tensor([0.25, 0.75], dtype=torch.float64), dim=0).diff(dim=0)[0]
    spread = torch.where(quarters > 0, quarters, elements.high - elements.low)
    return torch.where(spread > 0, moved / spread, 0).nan_to_num(0)


def oddities(elements: Elements) -> list[str]:
    """What looks like a sign for missing values or like an error: ends far from all other values, a sentence each.

    Args:
        elements: of any observations.

    Example:
        >>> x = torch.randn(200, 2)
        >>> x[:5, 1] = -9999
        >>> print(*oddities(Elements(Observations(x), x.amin(0).double(), x.amax(0).double())))
        column 1 has the value -9999 in 5 of 200 observations, far from all others: does it mean "missing"?
    """
    seen, found = elements.sample(), list[str]()
    count = len(elements.observations)
    for index in _with_gaps(elements, seen).nonzero()[:, 0].tolist():
        column = seen[:, index][~seen[:, index].isnan()]
        for value, gap in _apart(column, float(elements.low[index]), float(elements.high[index])):
            again = int((column == value).sum())
            known = any(abs(abs(value) / sign - 1) < 1e-6 for sign in SENTINELS)
            if again > 1 or known:
                share = f"{again} of {len(column)}" if again else f"some of {count}"
                found.append(
                    f"{elements.place(index)} has the value {value:.6g} in {share} observations, far from all others: "
                    'does it mean "missing"?'
                )
            elif gap > ERROR:
                found.append(
                    f"{elements.place(index)} has the value {value:.6g}, {gap:.0g} times as far from the others as "
                    "these lie apart: is it an error? It makes mean and deviation of the column"
                )
    more = len(found) - TOLD
    return found if more <= 0 else [*found[:TOLD], f"the same is to be said {more} times more"]


def _with_gaps(elements: Elements, seen: Tensor) -> Tensor:
    """Which elements have a gap that is wide enough for some of their ends to be apart from the rest, boolean."""
    both = torch.stack([elements.low, elements.high])
    values = torch.cat([seen, both]).nan_to_num(torch.inf).sort(0).values
    values = torch.where(values.isinf(), elements.high, values)  # what is absent makes no gap
    return elements.varies & (values.diff(dim=0).amax(0) > (elements.high - elements.low) / (ENDS + 1))


def _apart(column: Tensor, low: float, high: float) -> list[tuple[float, float]]:
    """Values at the ends that lie far from the rest, each with how far, in what the rest lies apart.

    Signs can hide each other: with -9999 in a column, 9999 is no longer far. So up to four
    values are taken off at once.
    """
    values, found = sorted({low, high, *column.tolist()}), list[tuple[float, float]]()
    pairs = sorted(((below, above) for below in range(ENDS) for above in range(ENDS - below)), key=sum)
    while True:
        for below, above in pairs[1:]:
            first, last = below, len(values) - 1 - above
            if last <= first:
                continue
            least, most = values[first], values[last]
            rest = int(((column >= least) & (column <= most)).sum())
            gaps = [least - value for value in values[:first]] + [value - most for value in values[last + 1 :]]
            if rest >= 3 and rest > len(column) / 2 and min(gaps) > ODD * (most - least) > 0:
                found += zip(
                    [*values[:first], *values[last + 1 :]], [gap / (most - least) for gap in gaps], strict=True
                )
                values = values[first : last + 1]
                break
        else:
            return found
