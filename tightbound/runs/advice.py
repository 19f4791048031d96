"""Which value of a swept field to take, from the numbers measured: for β, that depends on what for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tightbound.evaluate import Estimate

__all__ = [
    "Choice", "Outcome", "Value", "by_value", "choices", "comparable", "difference", "over_seeds", "surely_positive",
    "unsettled",
]  # fmt: skip

BETA = "objective.beta"
UNITS, NATS = 2, 2 * math.log(2)  # two dimensions of a bit each: the least there is to disentangle
NOT_COMPARABLE = ("model.likelihood", "train.validation")  # another sample space; other observations


SCORE = "mig"  # of the scores beside known factors, the one that β is chosen by


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """One run of a sweep, measured on the same observations as the others.

    Attributes:
        value: What the field was.
        found: The evaluation, as ``Evidence.to_json`` gives it; under "scores" those beside known factors, if any.
        log_px: The tightest bound on each observation's log p(x), shape (N,), in nats.
        distortion: Of each observation, shape (N,), in nats.
        seed: What it was trained with.
        codes: Of some of the observations, shape (M, L); None where nobody compares them.

    Example:
        >>> import torch
        >>> Outcome(2.0, {"elbo": -90.0}, log_px=torch.tensor([-85.0]), distortion=torch.tensor([70.0])).value
        2.0
    """

    value: Any
    found: dict[str, Any]
    log_px: Tensor
    distortion: Tensor
    seed: int = 0
    codes: Tensor | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """A value of the swept field, with all runs that have it: one for each seed.

    Attributes:
        value: What the field was.
        runs: At least one.

    Example:
        >>> runs = [Outcome(4, {"rate": r}, torch.zeros(2), torch.zeros(2), seed) for seed, r in enumerate((5.0, 7.0))]
        >>> Value(4, tuple(runs)).number("rate")
        6.0
    """

    value: Any
    runs: tuple[Outcome, ...]

    def estimate(self, name: str) -> Estimate:
        """Mean of ``log_px`` or ``distortion``; its error is over observations of one run, over seeds of several.

        Args:
            name: of the two.
        """
        each: list[Tensor] = [getattr(run, name) for run in self.runs]
        return over_seeds([Estimate.of(values) for values in each])

    def number(self, key: str) -> float:
        """Mean over runs of one number of the evaluation.

        Args:
            key: its name.
        """
        return sum(float(run.found[key]) for run in self.runs) / len(self.runs)

    def score(self, name: str) -> Estimate | None:
        """A score beside known factors; None where a run has none.

        Args:
            name: of its definition.
        """
        found = [(run.found.get("scores") or {}).get(name) for run in self.runs]
        known = [Estimate(each["value"], math.nan if each["se"] is None else each["se"]) for each in found if each]
        return over_seeds(known) if len(known) == len(self.runs) else None


def by_value(outcomes: Sequence[Outcome]) -> list[Value]:
    """The runs of each value together, values in the order in which they come first.

    Args:
        outcomes: the runs.

    Example:
        >>> import torch
        >>> runs = [Outcome(v, {}, torch.zeros(1), torch.zeros(1), seed) for v in (1, 4) for seed in (0, 1)]
        >>> [(each.value, len(each.runs)) for each in by_value(runs)]
        [(1, 2), (4, 2)]
    """
    found: dict[Any, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.value, []).append(outcome)
    return [Value(value, tuple(runs)) for value, runs in found.items()]


def over_seeds(each: Sequence[Estimate]) -> Estimate:
    """The mean over seeds with its standard error; of a single one, that itself.

    Args:
        each: one estimate for each seed.

    Example:
        >>> over_seeds([Estimate(1.0, 0.1), Estimate(3.0, 0.1)])
        Estimate(value=2.0, se=1.0)
    """
    return each[0] if len(each) == 1 else Estimate.of(torch.tensor([one.value for one in each], dtype=torch.float64))


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which value serves a purpose best, and the number that says so.

    Attributes:
        purpose: What the value is for.
        value: The value; None where none serves.
        because: The number that says so, in words.

    Example:
        >>> Choice("likelihood", 1.0, "its NLL is the lowest").value
        1.0
    """

    purpose: str
    value: Any
    because: str


def comparable(field: str) -> bool:
    """Whether runs that differ in this field describe the same observations, so that their nats can be compared.

    Args:
        field: its dotted name.

    Example:
        >>> comparable("model.latent_dim"), comparable("data.size")
        (True, False)
    """
    return field.startswith(("model.", "objective.", "train.")) and field not in NOT_COMPARABLE


def choices(field: str, outcomes: Sequence[Outcome], *, ranked: bool | None = None) -> list[Choice]:
    """Which value to take, from a sweep's own numbers; for β, the answer depends on what for.

    * generation (and any other field): the highest log p(x) of the model, by its tightest bound. It is a property of
      prior and decoder alone, so codes that stray from the prior are charged for; how samples look it does not say.
    * representation: the lowest distortion D. The information I between x and its code z satisfies H(x) − D ≤ I ≤ rate
      (Alemi et al. 2018), and H(x) is the data's own: the least distortion guarantees the most information. Among
      values that cannot be told apart, the lowest rate: the same told in fewer nats.
    * disentanglement: where factors are known, the highest MIG. Elsewhere the highest β, the strongest pressure towards
      independent dimensions, that leaves two active units and two bits. That is a proxy, no measurement: without known
      factors there is none (Locatello et al. 2019).

    Runs of one seed are compared by differences paired by observation, values of several seeds by what these differ by.
    Less than two standard errors tell nothing apart, nor does less than what an unreliable estimate of log p(x) may
    still lack.

    Args:
        field: dotted name of the swept field.
        outcomes: the runs, measured on the same observations.
        ranked: whether the runs can be compared; by default as :func:`comparable` has it.

    Returns:
        One choice for each purpose; none where the runs cannot be compared.

    References:
        Alemi et al.: Fixing a Broken ELBO (2018), https://arxiv.org/abs/1711.00464; Locatello et al.: Challenging
        Common Assumptions in the Unsupervised Learning of Disentangled Representations (2019),
        https://arxiv.org/abs/1811.12359.

    Example:
        >>> import torch
        >>> def outcome(beta, distortion, rate, units):
        ...     noise = torch.tensor([-0.1, 0.1])
        ...     found = {"rate": rate, "active_units": units, "latent_dim": 9, "reliable": True}
        ...     return Outcome(beta, found, noise - distortion - rate, distortion - noise)
        >>> made = [outcome(0.5, 62.0, 30.0, 9), outcome(1, 65.0, 25.0, 9), outcome(4, 86.0, 13.0, 5)]
        >>> [choice.value for choice in choices("objective.beta", made)]
        [1, 0.5, 4]
    """
    values = by_value(outcomes)
    if not (comparable(field) if ranked is None else ranked) or len(values) < 2:
        return []
    best = max(values, key=lambda each: each.estimate("log_px").value)
    if field != BETA:
        return [Choice("likelihood", best.value, _because_likely(best, values, f"{field.split('.')[-1]} = "))]
    scored = all(each.score(SCORE) is not None for each in values)
    return [
        Choice("generation", best.value, _because_likely(best, values, "β = ")),
        _representation(values, best),
        _measured(values, best) if scored else _disentanglement(values, best),
    ]


def difference(a: Value, b: Value, name: str, *, lacks: float = 0.0) -> Estimate:
    """How far a value lies above another one: paired by observation where both have one run, else over their seeds.

    Args:
        a: one value.
        b: the other.
        name: ``log_px`` or ``distortion``.
        lacks: what ``b`` may still lack, in nats.

    Example:
        >>> a, b = (Value(v, (Outcome(v, {}, torch.tensor([v, v + 1.0]), torch.zeros(2)),)) for v in (3.0, 1.0))
        >>> difference(a, b, "log_px")
        Estimate(value=2.0, se=0.0)
    """
    if len(a.runs) == len(b.runs) == 1:
        return Estimate.of(getattr(a.runs[0], name) - getattr(b.runs[0], name) - lacks)
    return _between(a.estimate(name), b.estimate(name), [a, b], lacks)


def _between(a: Estimate, b: Estimate, values: Sequence[Value], lacks: float = 0.0) -> Estimate:
    """Of two means over seeds; one seed shows no spread of them."""
    known = all(len(each.runs) > 1 for each in values) or all(len(each.runs) == 1 for each in values)
    return Estimate(a.value - b.value - lacks, math.hypot(a.se, b.se) if known else math.nan)


def surely_positive(found: Estimate) -> bool:
    """Whether an estimate lies two standard errors or more above zero; never where its error is unknown.

    Args:
        found: the estimate.

    Example:
        >>> surely_positive(Estimate(1.0, 0.5)), surely_positive(Estimate(1.0, 0.6))
        (True, False)
    """
    return found.value > 0 and found.value >= 2 * found.se


def _because_likely(best: Value, values: Sequence[Value], name: str) -> str:
    others = [other for other in values if other is not best]
    text = f"highest log p(x), {best.estimate('log_px')} nats"
    above = [difference(best, other, "log_px", lacks=max(unsettled(r.found) for r in other.runs)) for other in others]
    near = [other for other, found in zip(others, above, strict=True) if not surely_positive(found)]
    if near:
        return f"{text}; not told apart from {name}{', '.join(f'{other.value}' for other in near)}"
    second = max(others, key=lambda other: other.estimate("log_px").value)
    return f"{text}; {name}{second.value} is {difference(best, second, 'log_px')} lower"


def _representation(values: Sequence[Value], likeliest: Value) -> Choice:
    least = min(values, key=lambda each: each.estimate("distortion").value)
    tied = [each for each in values if not surely_positive(difference(each, least, "distortion"))]
    best = min(tied, key=lambda each: each.number("rate"))
    text = f"lowest distortion, {best.estimate('distortion')} nats, so its code tells most: {_code(best)}"
    edge = "; the lowest β tried" if best.value == min(each.value for each in values) else ""
    return Choice("representation", best.value, text + _cost(best, likeliest) + edge)


def _measured(values: Sequence[Value], likeliest: Value) -> Choice:
    """By a score beside known factors."""
    scores = {each.value: each.score(SCORE) or Estimate(math.nan, math.nan) for each in values}
    best = max(values, key=lambda each: scores[each.value].value)
    near = [
        other
        for other in values
        if other is not best and not surely_positive(_between(scores[best.value], scores[other.value], [best, other]))
    ]
    text = f"highest MIG, {scores[best.value]}"
    text += f"; not told apart from β = {', '.join(f'{other.value}' for other in near)}" if near else ""
    return Choice("disentanglement", best.value, f"{text}: {_code(best)}" + _cost(best, likeliest))


def _disentanglement(values: Sequence[Value], likeliest: Value) -> Choice:
    able = [each for each in values if each.number("active_units") >= UNITS and each.number("rate") >= NATS]
    if not able:
        return Choice(
            "disentanglement", None, f"no code keeps {UNITS} active units and {NATS:.1f} nats: none to untangle"
        )
    best = max(able, key=lambda each: each.value)
    text = f"strongest pressure that leaves {UNITS} units and {NATS:.1f} nats or more: {_code(best)}"
    edge = "; the highest β tried" if best.value == max(each.value for each in values) else ""
    return Choice("disentanglement", best.value, text + _cost(best, likeliest) + edge)


def _code(value: Value) -> str:
    units = f"{value.number('active_units'):.1f}".removesuffix(".0")
    return f"at most {value.number('rate'):.1f} nats, {units} of {value.number('latent_dim'):.0f} units active"


def _cost(best: Value, likeliest: Value) -> str:
    lost = difference(likeliest, best, "log_px")
    return f"; costs {lost} nats of log p(x)" if surely_positive(lost) else ""


def unsettled(found: dict[str, Any]) -> float:
    """Nats that an estimate of log p(x) which is not reliable may still lack: the last rise of the bound over K.

    Args:
        found: the evaluation, as ``Evidence.to_json`` gives it.

    Example:
        >>> unsettled({"reliable": False, "iwae": [{"value": -9.0}, {"value": -8.5}]})
        0.5
    """
    if found["reliable"] or len(found["iwae"]) < 2:
        return 0.0
    return float(found["iwae"][-1]["value"] - found["iwae"][-2]["value"])
