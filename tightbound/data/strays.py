"""How a test set differs from what a model is trained on: other units, values far beyond, classes never seen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightbound.data.chunked import chunks, moments
from tightbound.data.nature import TOLD, Elements
from tightbound.data.observations import Observations
from tightbound.data.splits import Data
from tightbound.data.summary import DataSummary

BEYOND = 10  # times what the training values lie apart: what is further outside is told
ENOUGH = 20  # test observations from which on their spread means something
NARROW = 20  # times less spread than in training is another unit, where most elements have it
LEVELS = 50  # times fewer levels of grey are another unit too


def strays(data: Data, facts: DataSummary, unseen: DataSummary) -> list[str]:
    """Say how the values of the test set are unlike those of the training set, a sentence each.

    Args:
        data: both.
        facts: a summary of the training set.
        unseen: the same of the test set.

    Returns:
        Sentences; none where the two are alike, as parts of one set are.

    Example:
        >>> x = torch.linspace(-1, 1, 50)[:, None]
        >>> data = Data("mine", Observations(x), Observations(x + 100))
        >>> from tightbound.data.summary import summarise
        >>> print(*strays(data, summarise(data.train), summarise(data.test)))
        column 0 of the test set lies outside training's -1 to 1 in 50 of 50 observations: is it in another unit?
    """
    if {facts.kind, unseen.kind} <= {"grey", "binary"} and facts.scale > 1:
        low, high = sorted((facts.high, unseen.high))
        span = f"the training set's levels go up to {facts.high:g}, the test set's to {unseen.high:g}"
        return [f"{span}: is one unit meant?"] if low * LEVELS < high else []
    if not {facts.kind, unseen.kind} <= {"real", "counts"}:
        return []
    elements = Elements(data.train, *facts.ends)
    found = _outside(elements, _Furthest.of(data.test, *facts.ends))
    more = len(found) - TOLD
    found = found if more <= 0 else [*found[:TOLD], f"the same is to be said {more} times more"]
    return found or ([] if facts.notes else _narrow(data))  # far values make any spread wide


@dataclass(frozen=True, eq=False)
class _Furthest:
    """Of each element: the value furthest outside of two ends, and how often values lie outside."""

    value: Tensor
    by: Tensor
    row: Tensor
    outside: Tensor
    there: Tensor

    @classmethod
    def of(cls, observations: Observations, low: Tensor, high: Tensor) -> _Furthest:
        value, by, row, outside, there = torch.zeros(5, len(low), dtype=torch.float64)
        for rows, chunk, present in chunks(observations):
            values = chunk.flatten(1).cpu().double()
            past = torch.maximum(low - values, values - high)
            counted = torch.ones_like(past).bool() if present is None else present.flatten(1).cpu()
            past = past.masked_fill(~counted, -torch.inf)
            most, at = past.max(0)
            further = most > by
            value = torch.where(further, values.gather(0, at[None])[0], value)
            by, row = torch.where(further, most, by), torch.where(further, rows[at].double(), row)
            outside, there = outside + (past > 0).sum(0), there + counted.sum(0)
        return cls(value, by, row, outside, there)


def _outside(elements: Elements, found: _Furthest) -> list[str]:
    low, high, varies = elements.low, elements.high, elements.varies
    mostly = varies & (found.there >= ENOUGH) & (found.outside > found.there / 2)
    far = varies & (found.by > BEYOND * (high - low))
    table = len(elements.observations.shape) == 1
    other = ~varies & (found.by > 0) & low.isfinite() & table
    said = []
    for index in (mostly | far | other).nonzero()[:, 0].tolist():
        what = f"{elements.place(index)} of the test set"
        has = f"{what} has the value {float(found.value[index]):.6g} at row {int(found.row[index])}"
        span = f"{float(low[index]):.4g} to {float(high[index]):.4g}"
        if mostly[index]:
            share = f"{int(found.outside[index])} of {int(found.there[index])} observations"
            said.append(f"{what} lies outside training's {span} in {share}: is it in another unit?")
        elif far[index]:
            said.append(f"{has}, far outside training's {span}")
        else:
            said.append(f"{has}, where training has {float(low[index]):.6g} alone")
    return said


def _narrow(data: Data) -> list[str]:
    """A test set in a larger unit lies within the training set's span."""
    if len(data.test) < ENOUGH:
        return []
    (_, spread), (_, theirs) = moments(data.train), moments(data.test)
    varies = spread > 0
    if not varies.any() or (theirs * NARROW < spread)[varies].double().mean() <= 0.5:
        return []
    return [
        f"most elements of the test set vary by less than 1/{NARROW} of what they vary by in training: is it in "
        "another unit?"
    ]


def unseen_classes(data: Data) -> list[str]:
    """Say which classes the test set has and the training set lacks, in a sentence, or none where it lacks none.

    Args:
        data: both, with labels.

    Example:
        >>> x = torch.zeros(2, 1)
        >>> parts = Observations(x, labels=torch.tensor([0, 1])), Observations(x, labels=torch.tensor([1, 7]))
        >>> print(*unseen_classes(Data("mine", *parts)))
        the class 7 is in the test set alone, first at row 1: nothing is learned of it
    """
    known, asked = (_classes(part) for part in (data.train, data.test))
    new = [int(each) for each in asked.unique() if each >= 0 and each not in known]
    if not new:
        return []
    row = int(torch.isin(asked, torch.tensor(new)).nonzero()[0, 0])
    rows = data.test.rows_of(torch.tensor([row]))
    which, them = (
        (f"class {new[0]} is", "it") if len(new) == 1 else (f"classes {', '.join(map(str, new[:8]))} are", "them")
    )
    return [f"the {which} in the test set alone, first at row {int(rows[0])}: nothing is learned of {them}"]


def _classes(observations: Observations) -> Tensor:
    labels = observations.label(torch.arange(len(observations)))
    return torch.empty(0, dtype=torch.int64) if labels is None else labels.cpu()
