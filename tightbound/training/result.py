"""What a training ends with."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """How a training ended.

    Attributes:
        steps: Optimisation steps made in all.
        loss: The best validation loss, or the last training loss where nothing was held out, in nats per observation;
            infinite where training was stopped before there was one.
        best_step: The step whose weights the model now has.
        seconds: Time spent training, earlier sessions of a resumed run included.
        ended: "complete", "early" (no better validation loss for a while) or "interrupted" (resumable).
        objective: What was made small, with what was left to be chosen (``kl="auto"``) written out.
        metrics: The lines of ``metrics.jsonl``.
    """

    steps: int
    loss: float
    best_step: int
    seconds: float
    ended: str
    objective: Any
    metrics: list[dict[str, Any]] = dataclasses.field(repr=False)
