"""Which precision matrix products run in: decided by the processor and by the loss itself."""

from __future__ import annotations

import torch
from torch import Tensor

from tightbound.conditional import unvalidated
from tightbound.distributed import world
from tightbound.execution import Execution
from tightbound.runtime import multiplies_bfloat16, random_state, restore_random_state
from tightbound.training.step import TrainStep

SAME = 1e-3  # largest relative difference of two losses that count as the same


def choose_precision(learner: TrainStep, x: Tensor) -> Execution:
    """bfloat16 where it is asked for, or where the device multiplies it natively and a batch's loss is the same in it.

    Args:
        learner: at its first step.
        x: a batch.
    """
    wanted = learner.settings.precision
    if wanted != "auto":
        return Execution(wanted)
    if not multiplies_bfloat16(learner.device):
        return Execution()
    (differs,) = world().any(not same_loss(learner, x))
    return Execution() if differs else Execution("bfloat16")


def same_loss(learner: TrainStep, x: Tensor) -> bool:
    """Whether a batch's loss, with the same noise, is the same in bfloat16 as in float32."""
    losses = []
    for precision in ("float32", "bfloat16"):
        learner.use(Execution(precision))
        state = random_state(learner.device)
        with unvalidated(), torch.no_grad():
            losses.append(float(learner.loss_of(x)))
        restore_random_state(state, learner.device)
    exact, rough = losses
    return abs(rough - exact) <= SAME * max(1.0, abs(exact))
