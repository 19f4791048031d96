"""Whether each latent dimension stands for one factor: scores with their errors, chance, and a perfect code beside."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tightbound.evaluate.estimates import Estimate, Judged, number
from tightbound.evaluate.scores import intervened, mutual, predicted
from tightbound.evaluate.scores.definitions import DEFINITIONS, Definition
from tightbound.evaluate.scores.labelled import Labelled, dead
from tightbound.settings import require_seed

RESAMPLES = 50  # of the bootstrap
REPEATS = 3  # of what is trained, each on other observations
LEAST = 100  # observations
MATTERS = 3  # errors above chance from which on a score says something
HALF = 0.5  # of a factor's entropy, by which its best unit must be ahead to stand for it
HARDLY = 0.1  # of the way from chance to certainty, below which a factor is not told


@dataclass(frozen=True)
class Score:
    """One score of disentanglement.

    Args:
        name: of its definition.
        value: with its error: the spread of a bootstrap over observations, or over what is held out of training.
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
        observations: N.
        seed: of everything random.
        entropies: of the factors in nats, shape (F,).
        most_frequent: share of each factor's most frequent value, shape (F,): what a code that tells nothing can have.
    """

    scores: dict[str, Score]
    information: Tensor
    importance: Tensor
    accuracy: Tensor
    factor_names: tuple[str, ...]
    units: tuple[int, ...]
    unit_count: int
    constant: tuple[str, ...]
    observations: int
    seed: int
    entropies: Tensor
    most_frequent: Tensor

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
        told = [name for name, seen in zip(self.factor_names, self._shares, strict=True) if seen >= HALF]
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
    def _shares(self) -> list[float]:
        """The gap of each factor: what its best unit tells more than any other, as a share of all."""
        ordered = self.information.sort(0, descending=True).values
        second = ordered[1] if len(ordered) > 1 else torch.zeros_like(ordered[0])
        return ((ordered[0] - second) / self.entropies).tolist()

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
            "scores": {
                name: {
                    "value": number(score.value.value), "se": number(score.value.se), "chance": score.chance,
                    "perfect": score.perfect, "rescaled": number(score.rescaled),
                    "definition": score.definition.sentence, "formula": score.definition.formula,
                    "reference": score.definition.reference, "estimator": score.definition.estimator,
                }
                for name, score in self.scores.items()
            },
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
            "observations": self.observations,
            "seed": self.seed,
            "verdict": self.verdict,
        }  # fmt: skip


def disentanglement(
    codes: Any,
    factors: Any,
    *,
    samples: Any = None,
    alive: Any = None,
    names: Sequence[str] = (),
    categorical: Sequence[str] = (),
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Disentanglement:
    r"""Score how far each unit of a code stands for one factor.

    Each score comes with its error, with what the same codes have by chance, beside factors of other observations, and
    with what the factors themselves have as a code: definitions do not all begin at 0 or end at 1. Units that are dead
    are left out first, and said so.

    Args:
        codes: of N observations, shape (N, L): as a rule the posterior's means.
        factors: that the observations were made of, shape (N, F), real numbers. One of more than 200 values is cut into
            20 parts of equal counts.
        samples: draws from the posteriors, shape (N, L), for scores of mutual information on them as well.
        alive: which units are alive, boolean, shape (L,). By default those whose standard deviation is at least a
            thousandth of the widest unit's. A model's KL of each unit tells better.
        names: of the factors.
        categorical: names of factors whose values have no order.
        seed: of everything random.
        progress: called with the steps done and their total.

    Returns:
        Scores, matrices and what they mean.

    Raises:
        TypeError: for anything but real numbers.
        ValueError: for shapes that do not fit, fewer than 100 observations, values that are not finite, names that do
            not fit, factors none of which varies, or a seed out of range.

    References:
        Locatello et al.: Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations
        (2019), https://arxiv.org/abs/1811.12359; Carbonneau et al.: Measuring Disentanglement (2022),
        https://arxiv.org/abs/2012.09276.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> factors = torch.randint(0, 4, (2000, 3)).float()
        >>> found = disentanglement(factors + 0.01 * torch.randn(2000, 3), factors, names=("a", "b", "c"))
        >>> found.best, bool(found.scores["mig"].value.value > 0.95)
        ({'a': 0, 'b': 1, 'c': 2}, True)
    """
    require_seed(seed)
    values = _numbers(codes, "codes")
    known = _numbers(factors, "factors")
    if len(known) != len(values):
        raise ValueError(f"Expected one row of factors for each of {len(values)} codes; got {len(known)}.")
    if len(values) < LEAST:
        raise ValueError(f"Expected at least {LEAST} observations, so that scores say something; got {len(values)}.")
    titles = _titles(names, known.shape[1])
    unknown = [name for name in categorical if name not in titles]
    if unknown:
        raise ValueError(f"Expected categorical factors among {', '.join(titles)}; got {', '.join(unknown)}.")
    varies = (known != known[:1]).any(0)
    if not varies.any():
        raise ValueError("Expected at least one factor of two or more values; got factors that are all constant.")
    kept = [place for place in range(len(titles)) if varies[place]]
    mask = ~dead(values) if alive is None else _mask(alive, values.shape[1])
    scored = Labelled.of(values[:, mask], known[:, kept], [titles[place] in categorical for place in kept])
    drawn = None
    if samples is not None:
        drawn = _numbers(samples, "samples")
        if drawn.shape != values.shape:
            raise ValueError(f"Expected samples of shape {tuple(values.shape)}; got {tuple(drawn.shape)}.")
        drawn = drawn[:, mask]
    return _scored(scored, drawn, mask, titles, kept, seed, progress or (lambda done, total: None))


def _scored(
    scored: Labelled,
    drawn: Tensor | None,
    mask: Tensor,
    titles: Sequence[str],
    kept: list[int],
    seed: int,
    progress: Callable[[int, int], None],
) -> Disentanglement:
    frequent = torch.stack([torch.bincount(column).max() / len(scored) for column in scored.classes.T]).double()
    common: dict[str, Any] = {
        "factor_names": tuple(titles[place] for place in kept), "units": tuple(mask.nonzero()[:, 0].tolist()),
        "unit_count": len(mask), "constant": tuple(name for place, name in enumerate(titles) if place not in kept),
        "observations": len(scored), "seed": seed, "entropies": mutual.entropies(scored), "most_frequent": frequent,
    }  # fmt: skip
    if not mask.any():
        nothing = torch.zeros(0, len(kept), dtype=torch.float64)
        names = [name for name in DEFINITIONS if drawn is not None or not name.endswith("-samples")]
        none = {name: Score(name, Estimate(0.0, 0.0), chance=0.0, perfect=1.0) for name in names}
        return Disentanglement(scores=none, information=nothing, importance=nothing, accuracy=frequent, **common)
    generator, steps = torch.Generator().manual_seed(seed), _Steps(progress, REPEATS + 2)
    strangers = scored.rows(torch.randperm(len(scored), generator=generator)).with_codes(scored.codes)
    ideal = scored.with_codes(scored.values)
    found = _counted(scored, strangers, ideal, drawn, generator)
    runs = [steps.done(_by_training(scored, seed + place)) for place in range(REPEATS)]
    chance, perfect = (steps.done(_by_training(each, seed))[0] for each in (strangers, ideal))
    for name in runs[0][0]:
        seen = torch.tensor([run[0][name] for run in runs], dtype=torch.float64)
        found[name] = Score(name, Estimate(seen.mean().item(), seen.std().item()), chance[name], perfect[name])
    return Disentanglement(
        scores={name: found[name] for name in DEFINITIONS if name in found},
        information=mutual.mutual_information(scored),
        importance=torch.stack([run[1] for run in runs]).mean(0),
        accuracy=torch.stack([run[2] for run in runs]).mean(0),
        **common,
    )


def _counted(
    scored: Labelled, strangers: Labelled, ideal: Labelled, drawn: Tensor | None, generator: torch.Generator
) -> dict[str, Score]:
    """Scores of counts and moments, whose errors are of a bootstrap."""
    value, chance = _by_counting(scored, drawn), _by_counting(strangers, drawn)
    perfect = _by_counting(ideal, None if drawn is None else ideal.codes)
    again: dict[str, list[float]] = {name: [] for name in value}
    for _ in range(RESAMPLES):
        index = torch.randint(len(scored), (len(scored),), generator=generator)
        for name, each in _by_counting(scored.rows(index), None if drawn is None else drawn[index]).items():
            again[name].append(each)
    spread = {name: torch.tensor(values, dtype=torch.float64).std().item() for name, values in again.items()}
    return {name: Score(name, Estimate(value[name], spread[name]), chance[name], perfect[name]) for name in value}


class _Steps:
    def __init__(self, progress: Callable[[int, int], None], total: int) -> None:
        self.progress, self.total, self.count = progress, total, 0

    def done(self, found: Any) -> Any:
        self.count += 1
        self.progress(self.count, self.total)
        return found


def _by_counting(labelled: Labelled, drawn: Tensor | None) -> dict[str, float]:
    """Scores that are computed from counts and moments."""
    found = {"sap": predicted.sap(labelled).mean(), "irs": intervened.irs(labelled).mean()}
    kinds: dict[str, tuple[Labelled, mutual.Correction]] = {
        "": (labelled, "miller-madow"), "-plug-in": (labelled, "none"),
    }  # fmt: skip
    if drawn is not None:
        kinds["-samples"] = labelled.with_codes(drawn), "miller-madow"
    for kind, (which, correction) in kinds.items():
        information = mutual.mutual_information(which, correction=correction)
        entropies = mutual.entropies(which, correction)
        found[f"mig{kind}"] = mutual.mig(information, entropies).mean()
        found[f"mig-sup{kind}"] = mutual.mig_sup(information, entropies).mean()
        found[f"modularity{kind}"] = mutual.modularity(information).mean()
    return {name: float(value) for name, value in found.items()}


def _by_training(labelled: Labelled, seed: int) -> tuple[dict[str, float], Tensor, Tensor]:
    """Scores of trained predictors, with importances and accuracies."""
    importance, accuracy = predicted.dci(labelled, seed)
    found = {
        "dci-disentanglement": float(predicted.disentanglement_of(importance)),
        "dci-completeness": float(predicted.completeness_of(importance)),
        "dci-informativeness": float(accuracy.mean()),
        "explicitness": float(predicted.explicitness(labelled, seed).mean()),
        "beta-vae": intervened.beta_vae(labelled, seed),
        "factor-vae": intervened.factor_vae(labelled, seed),
    }
    return found, importance, accuracy


def _numbers(value: Any, what: str) -> Tensor:
    tensor = torch.as_tensor(value).detach().cpu()
    if tensor.is_complex():
        raise TypeError(f"Expected {what} that are real numbers; got {tensor.dtype}.")
    if tensor.ndim != 2 or 0 in tensor.shape:
        axes = "(N, F)" if what == "factors" else "(N, L)"
        raise ValueError(f"Expected {what} of shape {axes}; got {tuple(tensor.shape)}.")
    tensor = tensor.double()
    if not tensor.isfinite().all():
        row = int((~tensor.isfinite()).any(1).nonzero()[0])
        raise ValueError(f"Expected finite {what}; got NaN or infinity, first in row {row}. Leave such rows out.")
    return tensor


def _titles(names: Sequence[str], count: int) -> tuple[str, ...]:
    if names and len(names) != count:
        raise ValueError(f"Expected {count} names, one for each factor; got {len(names)}.")
    return tuple(names) or tuple(f"factor {place}" for place in range(count))


def _mask(alive: Any, count: int) -> Tensor:
    mask = torch.as_tensor(alive)
    if mask.dtype != torch.bool or mask.shape != (count,):
        raise ValueError(
            f"Expected alive as {count} booleans, one for each unit; got {mask.dtype} of shape {tuple(mask.shape)}."
        )
    return mask
