"""When a loss stops being finite: which step, which term, and what to try."""

from __future__ import annotations

import math
from collections.abc import Callable

from tightbound.batch import Batch
from tightbound.training.step import TrainStep

ADVICE = "Try a lower learning_rate, clip=1.0, a warm-up of the learning rate, or precision='float32'"


RUNAWAY = 1e6  # nats of loss an element, beyond anything that a model of its data has


class NonFiniteError(ArithmeticError):
    """A loss, a term of it or a gradient became infinite or not a number; the last good checkpoint is kept.

    Example:
        >>> import torch, tightbound as tb
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> try:
        ...     tb.fit(model, 1e30 * torch.ones(100, 5), epochs=1, validation=0, progress=False)
        ... except tb.training.NonFiniteError as error:
        ...     print(error)
        At step 1 the distortion became ...
    """


def runaway(loss: float, elements: int) -> str:
    """What to say of a loss that is finite and far too large; empty of others.

    Args:
        loss: the best one, in nats per observation.
        elements: numbers in an observation.

    Example:
        >>> runaway(7e28, 50)[:54], runaway(700.0, 50)
        ('The best loss is 7e+28 nats an observation, which is n', '')
    """
    if not RUNAWAY * elements < loss < math.inf:
        return ""
    return (
        f"The best loss is {loss:.2g} nats an observation, which is no loss of a model that has learned: training has "
        "run away. Standardise the data, lower learning_rate, or set clip=1.0."
    )


def explain(step: TrainStep, start: int, stop: int, batch: Callable[[int], Batch]) -> NonFiniteError:
    """Repeat the steps since the last good state one by one until something is not finite, and name it.

    The fast loop looks only now and then; the replay is exact, so it finds what the loop ran into.

    Args:
        step: in its last good state.
        start: how many steps had been made then.
        stop: how many had been made when the loop looked.
        batch: the batch of a step.

    Returns:
        An error that counts steps from 1, as ``metrics.jsonl`` does.
    """
    for number in range(start, stop):
        tensor = step.gradient(batch(number), number)
        values = dict(zip(("loss", *step.names), tensor.tolist(), strict=True))
        wrong = next((name for name in (*step.names, "loss") if not math.isfinite(values[name])), None)
        if wrong:
            return NonFiniteError(f"At step {number + 1} the {wrong} became {values[wrong]}. {ADVICE}{_hint(wrong)}.")
        if name := step.bad_gradient():
            return NonFiniteError(
                f"At step {number + 1} the gradient of {name} stopped being finite, while the loss was still "
                f"{values['loss']:.4g}. {ADVICE}."
            )
        step.update(number)
        if name := step.bad_weight():
            return NonFiniteError(f"At step {number + 1} the update took {name} out of range. {ADVICE}.")
    return NonFiniteError(f"Between steps {start + 1} and {stop} the loss stopped being finite. {ADVICE}.")


def _hint(term: str) -> str:
    return {
        "distortion": "; look for outliers in the data, or a learned scale that has shrunk to its floor",
        "rate": "; a posterior's variance has grown without limit: standardise the data",
    }.get(term, "")
