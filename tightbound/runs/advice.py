"""Which value of a swept field to take, from the numbers measured: for β, that depends on what for."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from tightbound.evaluate import Estimate

BETA = "objective.beta"
UNITS, NATS = 2, 2 * math.log(2)  # two dimensions of a bit each: the least there is to disentangle
NOT_COMPARABLE = ("model.likelihood", "train.validation")  # another sample space; other observations


@dataclasses.dataclass(frozen=True, eq=False)
class Outcome:
    """One run of a sweep, measured on the same observations as the others.

    Attributes:
        value: What the field was.
        found: The evaluation, as ``Evidence.to_json`` gives it.
        log_px: The tightest bound on each observation's log p(x), shape (N,), in nats.
        distortion: Of each observation, shape (N,), in nats.

    Example:
        >>> import torch
        >>> Outcome(2.0, {"elbo": -90.0}, log_px=torch.tensor([-85.0]), distortion=torch.tensor([70.0])).value
        2.0
    """

    value: Any
    found: dict[str, Any]
    log_px: Tensor
    distortion: Tensor


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


def choices(field: str, outcomes: Sequence[Outcome]) -> list[Choice]:
    """Which value to take, from a sweep's own numbers; for β, the answer depends on what for.

    * generation (and any other field): the highest log p(x) of the model, by its tightest bound. It is a property of
      prior and decoder alone, so codes that stray from the prior are charged for; how samples look it does not say.
    * representation: the lowest distortion D. The information I between x and its code z satisfies H(x) − D ≤ I ≤ rate
      (Alemi et al. 2018), and H(x) is the data's own: the least distortion guarantees the most information. Among
      values that cannot be told apart, the lowest rate: the same told in fewer nats.
    * disentanglement: the highest β, the strongest pressure towards independent dimensions, that leaves two active
      units and two bits. A proxy, no measurement: without known factors there is none (Locatello et al. 2019).

    Values are compared by differences paired by observation; less than two standard errors tell nothing apart, nor does
    less than what an unreliable estimate of log p(x) may still lack.

    Args:
        field: dotted name of the swept field.
        outcomes: the runs, measured on the same observations.

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
    if not comparable(field) or len(outcomes) < 2:
        return []
    best = max(outcomes, key=lambda outcome: outcome.log_px.mean())
    if field != BETA:
        return [Choice("likelihood", best.value, _because_likely(best, outcomes, f"{field.split('.')[-1]} = "))]
    return [
        Choice("generation", best.value, _because_likely(best, outcomes, "β = ")),
        _representation(outcomes, best),
        _disentanglement(outcomes, best),
    ]


def _because_likely(best: Outcome, outcomes: Sequence[Outcome], name: str) -> str:
    others = [other for other in outcomes if other is not best]
    text = f"highest log p(x), {Estimate.of(best.log_px)} nats"
    if near := [other for other in others if not surely_above(best.log_px, other.log_px + unsettled(other.found))]:
        return f"{text}; not told apart from {name}{', '.join(f'{other.value}' for other in near)}"
    second = max(others, key=lambda other: other.log_px.mean())
    return f"{text}; {name}{second.value} is {Estimate.of(best.log_px - second.log_px)} lower"


def _representation(outcomes: Sequence[Outcome], likeliest: Outcome) -> Choice:
    least = min(outcomes, key=lambda outcome: outcome.distortion.mean())
    tied = [outcome for outcome in outcomes if not surely_above(outcome.distortion, least.distortion)]
    best = min(tied, key=lambda outcome: outcome.found["rate"])
    text = f"lowest distortion, {Estimate.of(best.distortion)} nats, so its code tells most: {_code(best)}"
    edge = "; the lowest β tried" if best.value == min(outcome.value for outcome in outcomes) else ""
    return Choice("representation", best.value, text + _cost(best, likeliest) + edge)


def _disentanglement(outcomes: Sequence[Outcome], likeliest: Outcome) -> Choice:
    able = [o for o in outcomes if o.found["active_units"] >= UNITS and o.found["rate"] >= NATS]
    if not able:
        return Choice(
            "disentanglement", None, f"no code keeps {UNITS} active units and {NATS:.1f} nats: none to untangle"
        )
    best = max(able, key=lambda outcome: outcome.value)
    text = f"strongest pressure that leaves {UNITS} units and {NATS:.1f} nats or more: {_code(best)}"
    edge = "; the highest β tried" if best.value == max(outcome.value for outcome in outcomes) else ""
    return Choice("disentanglement", best.value, text + _cost(best, likeliest) + edge)


def _code(outcome: Outcome) -> str:
    found = outcome.found
    return f"at most {found['rate']:.1f} nats, {found['active_units']} of {found['latent_dim']} units active"


def _cost(best: Outcome, likeliest: Outcome) -> str:
    if not surely_above(likeliest.log_px, best.log_px):
        return ""
    return f"; costs {Estimate.of(likeliest.log_px - best.log_px)} nats of log p(x)"


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


def surely_above(a: Tensor, b: Tensor) -> bool:
    """Whether the mean of ``a`` lies two standard errors or more above that of ``b``, paired by observation.

    Args:
        a: a value of each observation, shape (N,).
        b: likewise.

    Example:
        >>> import torch
        >>> surely_above(torch.tensor([5.0, 9.0]), torch.tensor([4.0, 8.1])), surely_above(torch.ones(2), torch.ones(2))
        (True, False)
    """
    difference = Estimate.of(a - b)
    return difference.value > 0 and difference.value >= 2 * difference.se
