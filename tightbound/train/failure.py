"""When a loss stops being finite: which step, which term, and what to try."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from tightbound.train.step import Learner

ADVICE = "Try a lower learning_rate, clip=1.0, a warm-up of the learning rate, or precision='float32'"
LONGEST_REPLAY = 100_000


class NonFiniteError(ArithmeticError):
    """A loss, a term of it or a gradient became infinite or not a number; the last good checkpoint is kept."""


def explain(learner: Learner, number: int, batch: Callable[[int], Tensor]) -> NonFiniteError:
    """Repeat the steps since the last good state one by one until something is not finite, and name it.

    The fast loop looks only now and then; the replay is exact, so it finds what the loop ran into.

    Args:
        learner: in its last good state.
        number: that state's step.
        batch: the batch of a step.
    """
    for step in range(number, number + LONGEST_REPLAY):
        tensor = learner.step(batch(step).to(learner.device), step)
        values = dict(zip(("loss", *learner.names), tensor.tolist(), strict=True))
        wrong = next((name for name in (*learner.names, "loss") if not math.isfinite(values[name])), None)
        if wrong:
            return NonFiniteError(f"At step {step} the {wrong} became {values[wrong]}. {ADVICE}{_hint(wrong)}.")
        parameter = learner.first_bad_gradient()
        if parameter:
            return NonFiniteError(
                f"At step {step} the gradient of {parameter} stopped being finite, while the loss was still "
                f"{values['loss']:.4g}. {ADVICE}."
            )
    return NonFiniteError(f"The loss stopped being finite after step {number}. {ADVICE}.")


def _hint(term: str) -> str:
    return {
        "distortion": "; look for outliers in the data, or a learned scale that has shrunk to its floor",
        "rate": "; a posterior's variance has grown without limit: standardise the data",
    }.get(term, "")
