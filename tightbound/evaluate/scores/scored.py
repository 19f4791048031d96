"""What scores of disentanglement say: each with its error, chance and a perfect code beside."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from tightbound.evaluate.estimates import Estimate, Judged, number
from tightbound.evaluate.scores import mutual
from tightbound.evaluate.scores.definitions import DEFINITIONS, Definition

MATTERS = 3  # errors above chance from which on a score says something
HALF = 0.5  # of a factor's entropy, by which its best unit must be ahead to stand for it
HARDLY = 0.1  # of the way from chance to certainty, below which a factor is not told


@dataclass(frozen=True)
class Score:
    """One score of disentanglement.

    Args:
        name: of its definition.
        value: with its error: a jackknife's over observations, or the spread over what is held out of training.
        chance: what the same codes have beside factors of other observations.
        perfect: what the factors themselves have as a code.

    Example:
        >>> Score("mig", Estimate(0.25, 0.01), chance=0.0, perfect=0.5).rescaled
        0.5
    """

    name: str
    value: Estimate
    chance: float
    perfect: float

    @property
    def definition(self) -> Definition:
        """What it is."""
        return DEFINITIONS[self.name]

    @property
    def rescaled(self) -> float:
        """From 0 at chance to 1 for a perfect code; NaN where those are one."""
        room = self.perfect - self.chance
        return (self.value.value - self.chance) / room if room > 0 else math.nan

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, with the definition."""
        return {
            "value": number(self.value.value), "se": number(self.value.se), "chance": self.chance,
            "perfect": self.perfect, "rescaled": number(self.rescaled), "title": self.definition.title,
            "definition": self.definition.sentence, "formula": self.definition.formula,
            "reference": self.definition.reference, "estimator": self.definition.estimator,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Disentanglement(Judged):
    """Scores of how far each unit of a code stands for one factor.

    Args:
        scores: by name.
        information: mutual information of units and factors in nats, shape (L, F), corrected after Miller and Madow.
        importance: of each unit for telling each factor, shape (L, F), from random forests.
        accuracy: with which each factor is told by all units together, shape (F,).
        factor_names: of the factors.
        units: which units of the code were scored: those that are alive.
        unit_count: how many units the code has.
        constant: names of factors with one value only, which were left out.
        unordered: names of factors whose values have no order.
        observations: N.
        seed: of everything random.
        entropies: of the factors in nats, shape (F,).
        most_frequent: share of each factor's most frequent value, shape (F,): what a code that tells nothing can have.
        per_observation: the codes, shape (N, all units), and factors that were scored; empty where the caller has them.

    Example:
        >>> import torch, tightbound as tb
        >>> factors = torch.arange(600.0).view(300, 2) % torch.tensor([3.0, 4.0])
        >>> tb.evaluate.disentanglement(factors, factors, names=("a", "b")).best
        {'a': 0, 'b': 1}
    """

    scores: dict[str, Score]
    information: Tensor
    importance: Tensor
    accuracy: Tensor
    factor_names: tuple[str, ...]
    units: tuple[int, ...]
    unit_count: int
    constant: tuple[str, ...]
    unordered: tuple[str, ...]
    observations: int
    seed: int
    entropies: Tensor
    most_frequent: Tensor
    per_observation: dict[str, Tensor] = field(default_factory=dict)

    @property
    def best(self) -> dict[str, int | None]:
        """For each factor the unit that tells most of it; None where no unit is alive."""
        if not self.units:
            return dict.fromkeys(self.factor_names)
        best = self.information.argmax(0).tolist()
        return {name: self.units[place] for name, place in zip(self.factor_names, best, strict=True)}

    @property
    def verdict(self) -> str:
        """Which factors have a unit of their own, and which are not told at all."""
        if not self.units:
            return "The code is collapsed: no unit moves, so it tells of no factor, and every score is 0."
        ahead = mutual.mig(self.information, self.entropies).tolist()
        told = [name for name, seen in zip(self.factor_names, ahead, strict=True) if seen >= HALF]
        lost = [name for name, seen in zip(self.factor_names, self._above_chance, strict=True) if seen < HARDLY]
        mig = self.scores["mig"]
        said = [f"Unit {self.best[name]} (from 0) stands for {name}." for name in told]
        if mig.value.value - mig.chance < MATTERS * mig.value.se:
            said = ["No unit stands for one factor: MIG is at chance."]
        elif not told:
            said = [
                f"No unit stands for one factor alone: MIG is {mig.value.value:.2f}, where chance is {mig.chance:.2f} "
                f"and a perfect code has {mig.perfect:.2f}."
            ]
        if lost:
            said.append(f"The code hardly tells {', '.join(lost)}, by all its units together.")
        said.append(
            "Scores of different definitions order models differently, and two seeds of one setting differ by more "
            "than an error here: compare over seeds."
        )
        return " ".join(said)

    @property
    def _above_chance(self) -> list[float]:
        return ((self.accuracy - self.most_frequent) / (1 - self.most_frequent)).tolist()

    @property
    def table(self) -> str:
        """The numbers, without the verdict."""
        pruned = self.unit_count - len(self.units)
        head = f"Disentanglement: {self.observations} observations, {len(self.factor_names)} factors, "
        head += f"{len(self.units)} of {self.unit_count} units alive, seed {self.seed}"
        lines = [head, f"  {'score':<24}{'value':>8}   {'error':<8}{'chance':>7}{'perfect':>9}"]
        for name, score in self.scores.items():
            lines.append(
                f"  {DEFINITIONS[name].title:<24}{score.value.value:>8.3f} ± {score.value.se:<8.3f}{score.chance:>7.3f}"
                f"{score.perfect:>9.3f}"
            )
        lines += ["", f"  {'factor':<16}{'best unit':>10}{'nats':>8}{'of':>7}{'told by all':>14}{'chance':>9}"]
        for place, name in enumerate(self.factor_names):
            best = self.best[name]
            most = float(self.information[:, place].max()) if self.units else 0.0
            lines.append(
                f"  {name:<16}{'none' if best is None else best:>10}{most:>8.2f}{self.entropies[place]:>7.2f}"
                f"{self.accuracy[place]:>14.1%}{self.most_frequent[place]:>9.1%}"
            )
        if pruned:
            lines.append(f"  {pruned} dead units were left out first.")
        if self.constant:
            lines.append(f"  Of one value only, and left out: {', '.join(self.constant)}.")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words, with the definition of each score."""
        return {
            "scores": {name: score.to_json() for name, score in self.scores.items()},
            "factors": {
                name: {
                    "best_unit": self.best[name], "entropy": float(self.entropies[place]),
                    "accuracy": float(self.accuracy[place]), "most_frequent": float(self.most_frequent[place]),
                }
                for place, name in enumerate(self.factor_names)
            },
            "information": self.information.tolist(),
            "importance": self.importance.tolist(),
            "units": list(self.units),
            "unit_count": self.unit_count,
            "constant": list(self.constant),
            "unordered": list(self.unordered),
            "observations": self.observations,
            "seed": self.seed,
            "verdict": self.verdict,
        }  # fmt: skip
