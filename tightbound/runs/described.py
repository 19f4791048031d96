"""What there is to know of data before a training: where they lie, what they hold, and what follows from that."""

from __future__ import annotations

import math
import os
import textwrap
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tightbound.data import Data, DataSummary, Observations, load, places
from tightbound.data.few import UNKNOWN
from tightbound.data.shown import facts
from tightbound.data.splits import split_off
from tightbound.runs.notes import notes_on
from tightbound.runs.pieces import LIKELIHOODS, row
from tightbound.runs.recipe import Recipe
from tightbound.runs.resolving import levels_of, needs_float64, reason, resolve

__all__ = ["Described", "described"]

SPLITS = {  # where a test set comes from
    "own": "found apart",
    "random": "held out at random, the same rows each time",
    "chosen": "chosen by what they are",
}
WIDTH, INDENT = 100, 14  # of a line, and of what its first word takes


@dataclass(frozen=True, kw_only=True)
class Described:
    """Data at a glance, as a training with the recipe ``auto`` would take them.

    Attributes:
        data: Training and test set.
        facts: What the training values are.
        where: Paths of the data; none where they are made by each load, or were given in Python.
        likelihood: The one that ``auto`` takes.
        because: Why, a clause.
        network: The network that ``auto`` takes.
        split: Where the test set comes from, a key of :data:`SPLITS`.
        notes: What a person should know of the data, what was left out among it, a sentence each.

    Example:
        >>> found = described("digits")
        >>> found.likelihood, found.because
        ('discretized-logistic', 'the values are 17 levels of grey, from 0 to 16')
    """

    data: Data
    facts: DataSummary
    where: tuple[str, ...]
    likelihood: str
    because: str
    network: str
    split: str
    notes: tuple[str, ...]

    def __str__(self) -> str:
        train, test = self.data.train, self.data.test
        verified = "; each file's checksum is right" if self.data.name == "mnist" else ""
        grey = f", {self.facts.levels} levels" if self.facts.levels else ""
        lines = {
            "where": (", ".join(self.where) or "made anew by each load") + verified,
            "training": f"{len(train):,} observations of {'×'.join(map(str, train.shape))}",
            "test": f"{len(test):,}, {SPLITS[self.split]}",
            "values": f"{self.facts.describe().partition(', ')[2]}{grey}",
            **{name: text for name, text in facts(train).items() if name in ("labels", "factors", "columns")},
            **({} if train.mask is None else {"absent": f"{_absent(train):.2%} of the values"}),
            "auto takes": f"the likelihood {self.likelihood}, since {self.because}; the network {self.network}",
        }
        said = [
            textwrap.fill(text, WIDTH, initial_indent=f"  {name:{INDENT}}", subsequent_indent=" " * (INDENT + 2))
            for name, text in lines.items()
        ]
        noted = [textwrap.fill(f"Note: {note}", WIDTH, subsequent_indent="  ") for note in self.notes]
        return "\n".join([self.data.name, *said, *noted])

    def to_json(self) -> dict[str, Any]:
        """The same as plain values.

        Example:
            >>> described("digits").to_json()["labels"]["classes"]
            10
        """
        train, test, seen = self.data.train, self.data.test, self.facts
        return {
            "name": self.data.name,
            "where": list(self.where),
            "train": len(train),
            "test": len(test),
            "split": self.split,
            "shape": list(train.shape),
            **{name: getattr(seen, name) for name in ("dtype", "low", "high", "scale", "kind", "levels")},
            "absent": _absent(train),
            "labels": _labels(train),
            "factors": _factors(train),
            "columns": list(train.column_names) or None,
            "likelihood": self.likelihood,
            "because": self.because,
            "network": self.network,
            "notes": list(self.notes),
        }


def described(source: str | os.PathLike[str], *, size: int | None = None, test_fraction: float = 0.1) -> Described:
    """Load data and say what there is to know of them.

    Args:
        source: a name or a path, as :func:`tightbound.data.load` takes them.
        size: as there.
        test_fraction: as there.

    Returns:
        The data, what was seen of them, and what ``auto`` would take.

    Raises:
        TypeError: as :func:`tightbound.data.load`.
        ValueError: as there, and for data that no training could begin with.

    Example:
        >>> print(described("digits"))  # doctest: +ELLIPSIS
        digits
          where         ...
          training      1,617 observations of 1×8×8
          test          180, held out at random, the same rows each time
          values        uint8 0…16: grey, 17 levels
          labels        0, 1, 2, 3, 4, 5, 6, 7, 8, 9
          auto takes    the likelihood discretized-logistic, since the values are 17 levels of grey, from 0 to
                        16; the network mlp
    """
    data = load(source, size=size, test_fraction=test_fraction)
    seen, unseen = data.summaries()
    model = resolve(Recipe(), seen).model
    levels_of(model.likelihood, seen, unseen, test=data.test)  # refuses what a training would
    standardises = row(LIKELIHOODS, model.likelihood, "model.likelihood").standardises
    wide = standardises and any(map(needs_float64, (seen, unseen)))
    return Described(
        data=data,
        facts=seen,
        where=places(source),
        likelihood=model.likelihood,
        because=reason(Recipe(), seen),
        network=model.network,
        split=_split(data, test_fraction),
        notes=notes_on(data, seen, unseen, nn.Identity(), wide=wide),
    )


def _split(data: Data, test_fraction: float) -> str:
    if data.has_own_test_set:
        return "own"
    [whole] = data.everything()
    rows, expected = data.test.rows, split_off(whole, test_fraction).test.rows
    return "random" if rows is not None and expected is not None and torch.equal(rows, expected) else "chosen"


def _absent(observations: Observations) -> float:
    """Which share of the values is absent."""
    if observations.mask is None:
        return 0.0
    there = observations.mask if observations.rows is None else observations.mask[observations.rows]
    return 1 - there.double().mean().item()


def _labels(observations: Observations) -> dict[str, Any] | None:
    labels = observations.label(torch.arange(len(observations)))
    if labels is None:
        return None
    known = labels[labels != UNKNOWN]
    names = list(observations.label_names)
    return {"classes": len(names) or len(known.unique()), "names": names or None, "known": len(known)}


def _factors(observations: Observations) -> dict[str, Any] | None:
    table = observations.factor_table()
    return (
        None
        if table is None
        else {"count": math.prod(table.shape[1:]), "names": list(observations.factor_names) or None}
    )
