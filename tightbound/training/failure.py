"""When a loss stops being finite: which step, which term, and what to try."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from tightbound.batch import Batch
from tightbound.model import Model
from tightbound.training.step import TrainStep

ADVICE = "Try a lower learning_rate, clip=1.0, a warm-up of the learning rate, or precision='float32'"

EARLY = 10  # steps up to which the data are to blame where they are far from the size that networks want …
NEAR = (1e-2, 1e2)  # … the largest of which lies between these
EXACT = 1e15  # whole numbers up to it are counts
DIVIDE = "Divide them by it: x / abs(x).max()"

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
        seen = batch(number)
        if not seen.x.isfinite().all():  # the data are, so that a transform has made them so
            return NonFiniteError(f"At step {number + 1} the transform gave values that are not finite. Mend it.")
        tensor = step.gradient(seen, number)
        advice = (_on_scale(seen.x) if number < EARLY else "") or ADVICE
        values = dict(zip(("loss", *step.names), tensor.tolist(), strict=True))
        wrong = next((name for name in (*step.names, "loss") if not math.isfinite(values[name])), None)
        if wrong:
            hint = _hint(wrong) if advice == ADVICE else ""
            where = _first_output(step.model, seen.to(step.device))
            return NonFiniteError(f"At step {number + 1} the {wrong} became {values[wrong]}. {where}{advice}{hint}.")
        if name := step.bad_gradient():
            return NonFiniteError(
                f"At step {number + 1} the gradient of {name} stopped being finite, while the loss was still "
                f"{values['loss']:.4g}. {advice}."
            )
        step.update(number)
        if name := step.bad_weight():
            return NonFiniteError(f"At step {number + 1} the update took {name} out of range. {advice}.")
    return NonFiniteError(f"Between steps {start + 1} and {stop} the loss stopped being finite. {ADVICE}.")


def _first_output(model: Model, batch: Batch) -> str:
    """Which layer gives the first numbers that are not finite; empty where all of them are."""
    found: list[str] = []

    def look(name: str, layer: nn.Module, output: Any) -> None:
        if isinstance(output, Tensor) and not output.isfinite().all():
            found.append(f"The first output that is not finite is that of {name} ({type(layer).__name__}). ")

    layers = [(name, layer) for name, layer in model.named_modules() if name]
    hooks = [layer.register_forward_hook(lambda m, _, y, name=name: look(name, m, y)) for name, layer in layers]
    try:
        with torch.no_grad(), suppress(Exception):  # what a step refuses has been said before
            model.draw(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else ""


def _on_scale(x: Tensor) -> str:
    """What to do about data whose size overflows a network before it has learned anything; empty of others."""
    size = float(x.abs().max())
    if NEAR[0] <= size <= NEAR[1] or size == 0:
        return ""
    counts = size < EXACT and bool(((x >= 0) & (x == x.round())).all())
    remedy = f"Let the encoder begin with torch.nn.BatchNorm{2 if x.ndim == 4 else 1}d" if counts else DIVIDE
    return f"The largest number in the data is {size:.2g} in size, while networks want numbers near 1. {remedy}"


def _hint(term: str) -> str:
    return {
        "distortion": "; look for outliers in the data, a scale far too small for them, or a learned one at its floor",
        "rate": "; a posterior's variance has grown without limit: standardise the data",
    }.get(term, "")
