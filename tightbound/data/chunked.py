"""Observations a chunk at a time: their present values, and the mean and deviation of each element."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tightbound.data.observations import Observations
from tightbound.data.rows import Rows

CHUNK = 2**19  # values in a chunk: 4 MB as float64, which fits into a processor's cache
ROUNDED = 32  # units in the last place that rounding can move a value by: what varies by no more is a constant
RESIDUE = 1e-9  # below which a column can be what rounding leaves of numbers of everyday size


def moments(observations: Observations) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each element of ``stored / scale``, over the observations where it is present.

    They are computed in float64 on the CPU, a chunk at a time. The deviation is the root of the mean square, and
    exactly 0 for an element that never changes, or by no more than the rounding of its own values: 32 units in their
    last place. An element that is never present has mean 0 and deviation 0.

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
    count, origin, mean, squares, reach = torch.zeros(5, *observations.shape, dtype=torch.float64)
    for _, chunk, present in chunks(observations):
        values = chunk.cpu().to(torch.float64)
        present = None if present is None else present.cpu()
        # Distances from a present value keep a constant element exact, where a rounded mean would not.
        origin = torch.where(count > 0, origin, _one_present(values, present))
        distance = _zero_absent(values.sub_(origin), present)
        reach = torch.maximum(reach, distance.abs().amax(0))
        fresh = torch.tensor(len(values)) if present is None else present.sum(0)
        total = count + fresh
        centre = distance.sum(0) / fresh.clamp(min=1)
        share = fresh / total.clamp(min=1)
        squares += _zero_absent(distance.sub_(centre), present).square_().sum(0)
        squares += (centre - mean).square() * count * share
        mean += (centre - mean) * share
        count = total
    deviation = (squares / count.clamp(min=1)).sqrt()
    deviation = torch.where(deviation > 0, deviation, reach)  # where the squares are too small for the type
    deviation[_rounded(observations, origin, reach)] = 0
    mean = torch.where(count > 0, origin + mean, 0.0)
    return mean / observations.scale, deviation / observations.scale


def _rounded(observations: Observations, origin: Tensor, reach: Tensor) -> Tensor:
    """Which elements vary by the rounding of their own values alone, boolean, shape of an observation.

    Args:
        observations: whose.
        origin: a present value of each element.
        reach: the greatest distance from it.
    """
    near = reach <= ROUNDED * torch.finfo(torch.float32).eps * origin.abs()
    suspects = (reach > 0) & (near | (reach + origin.abs() < RESIDUE))
    if not suspects.any():
        return suspects
    columns = torch.cat([_filled(chunk, present, origin)[:, suspects] for _, chunk, present in chunks(observations)])
    single = (columns == columns.float()).all(0) & (columns != columns.floor()).any(0)
    last_place = torch.where(single, torch.finfo(torch.float32).eps, torch.finfo(torch.float64).eps)
    found = reach[suspects] <= ROUNDED * last_place * origin[suspects].abs()
    suspects[suspects.clone()] = found | _are_residues(columns)
    return suspects


def _filled(chunk: Tensor, present: Tensor | None, origin: Tensor) -> Tensor:
    values = chunk.cpu().to(torch.float64)
    return values if present is None else torch.where(present.cpu(), values, origin)


def _are_residues(columns: Tensor) -> Tensor:
    """Which columns are what rounding leaves where equal numbers are subtracted: few multiples of one power of two."""
    size = columns.abs()
    least = torch.where(size > 0, size, torch.inf).amin(0)
    multiples = columns / torch.exp2(least.log2().floor() - 2)
    return (size.amax(0) < RESIDUE) & (multiples == multiples.round()).all(0) & (multiples.abs() <= 4 * ROUNDED).all(0)


def chunks(observations: Observations) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Rows, their values in a dtype that has all the arithmetic, and which of the values are present (None for all).

    Rows come in stored order, in which a mapped file is read fastest.
    """
    stored, mask, rows = observations.stored, observations.mask, observations.rows
    rows = torch.arange(len(stored)) if rows is None else rows.cpu().sort().values
    for part in rows.split(chunk_rows(stored)):
        chunk = stored.index_select(0, part.to(stored.device))
        if chunk.dtype in (torch.uint16, torch.uint32, torch.uint64):
            chunk = chunk.to(torch.float64)
        if chunk.dtype == torch.bool:
            chunk = chunk.to(torch.uint8)
        yield part, chunk, None if mask is None else mask.index_select(0, part.to(mask.device)).to(chunk.device)


def present_values(observations: Observations) -> Iterator[Tensor]:
    """Chunks of present values, without those chunks that have none."""
    for _, chunk, present in chunks(observations):
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


def chunk_rows(stored: Tensor | Rows) -> int:
    return max(1, CHUNK // stored.shape[1:].numel())
