"""Where a training stands: plain frozen values, of which a checkpoint is made."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tightbound.execution import Execution
from tightbound.settings import MOST_THREADS


@dataclass(frozen=True, eq=False)
class Best:
    """The best validation loss so far, and the weights that had it.

    Attributes:
        loss: In nats per observation; the last training loss where nothing is held out.
        step: The step that had it.
        weights: Of model and objective, each by name; None before the first validation.
        since: Validations that have passed without a better one.
    """

    loss: float = math.inf
    step: int = 0
    weights: dict[str, dict[str, Tensor]] | None = None
    since: int = 0


@dataclass(frozen=True, eq=False)
class Standing:
    """How far a training has come.

    Attributes:
        number: Steps made.
        early: Whether validation has stopped getting better.
        sums: Loss and terms added up since the last line of the log, unread; None before the first step after it.
        summed: Over how many steps.
        best: The best so far.
        seconds: Time spent, earlier sessions included.
    """

    number: int = 0
    early: bool = False
    sums: Tensor | None = None
    summed: int = 0
    best: Best = Best()
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class State:
    """Everything that the rest of a training depends on.

    Attributes:
        standing: How far it has come.
        step: Weights and moments, as the training step gives them.
        names: Of the loss's terms.
        execution: How a step is computed.
        noise: The random state of each process.
        journal: Bytes in each of the two log files.
    """

    standing: Standing
    step: dict[str, Any]
    names: tuple[str, ...]
    execution: Execution
    noise: list[dict[str, Tensor]]
    journal: tuple[int, int]

    def to_plain(self) -> dict[str, Any]:
        """Tensors, numbers, texts and containers of them, as a checkpoint holds them."""
        standing = {item.name: getattr(self.standing, item.name) for item in dataclasses.fields(Standing)}
        return {
            "standing": {**standing, "best": {f.name: getattr(self.standing.best, f.name) for f in _fields_of_best()}},
            "step": self.step,
            "names": list(self.names),
            "execution": dataclasses.asdict(self.execution),
            "noise": self.noise,
            "journal": list(self.journal),
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> State:
        """The state that :meth:`to_plain` gave.

        Raises:
            KeyError: where something is missing.
            TypeError: where something is of another type, or too much.
            ValueError: likewise.
        """
        standing = dict(plain["standing"])
        best = Best(**standing.pop("best"))
        metrics, timing = map(int, plain["journal"])
        made = Standing(**{**standing, "best": best})
        _require_sense(made)
        return cls(
            made,
            dict(plain["step"]),
            tuple(map(str, plain["names"])),
            _execution(plain["execution"]),
            list(plain["noise"]),
            (metrics, timing),
        )


def require_alike(kept: dict[str, dict[str, Tensor]] | None, ours: dict[str, dict[str, Tensor]]) -> None:
    """Refuse best weights that are not those of this model."""
    if kept is None:
        return
    shapes = [
        {part: {name: value.shape for name, value in each[part].items()} for part in each} for each in (kept, ours)
    ]
    if shapes[0] != shapes[1]:
        raise ValueError("the best weights are those of another model")


def _execution(plain: dict[str, Any]) -> Execution:
    made = Execution(**plain)
    if made.precision not in ("float32", "bfloat16") or type(made.compiled) is not bool:
        raise ValueError(f"precision is {made.precision!r}, compiled {made.compiled!r}")
    if type(made.threads) is not int or not 0 <= made.threads <= MOST_THREADS:
        raise ValueError(f"threads is {made.threads!r}")
    return made


def _require_sense(standing: Standing) -> None:
    """Refuse values of another type, or that no training comes to: they would end it, or be divided by, much later."""
    best = standing.best
    for name, value in (
        ("number", standing.number),
        ("summed", standing.summed),
        ("best", best.step),
        ("since", best.since),
    ):
        if type(value) is not int or not 0 <= value < 2**53:
            raise TypeError(f"{name} is {value!r}")
    if type(standing.early) is not bool or not isinstance(standing.sums, Tensor | None):
        raise TypeError("early or sums is of another type")
    if (standing.sums is None) != (standing.summed == 0):
        raise ValueError("sums of no steps")
    for number in (standing.seconds, best.loss):
        if not isinstance(number, (int, float)) or isinstance(number, bool) or math.isnan(number):
            raise TypeError("seconds or loss is no number")
    if not 0 <= standing.seconds < math.inf or not isinstance(best.weights, dict | None):
        raise ValueError("seconds or weights make no sense")


def _fields_of_best() -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(Best)
