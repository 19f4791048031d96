"""The loss on observations that training never sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tightbound.data import Observations
from tightbound.distributed import world
from tightbound.runtime import own_random_state
from tightbound.training.step import SECOND, TrainStep

SEED = 1  # the same noise at each validation, so that two of them differ by the weights alone
ROWS = 1024


@torch.no_grad()
def validate(step: TrainStep, observations: Observations, *, names: Sequence[str], batch_size: int) -> dict[str, float]:
    """The loss and its terms, by ``names``, in nats per observation, schedules at their end.

    Several processes take batches in turn; noise belongs to a batch, so the result does not depend on their number.
    An objective that looks at a batch as a whole sees batches of the training's ``batch_size``; the last is filled up
    with observations before it. Leaves model and objective in training mode.
    """
    here, count = world(), len(observations)
    whole = getattr(step.objective, "whole_batch", False)
    rows = batch_size if whole else max(ROWS // getattr(step.objective, "samples", 1), 1)
    total = torch.zeros(1 + len(names), dtype=torch.float64)
    step.set_mode(training=False)
    with own_random_state(step.device):
        for number, start in enumerate(range(0, count, rows)):
            if number % here.count != here.rank:
                continue
            torch.manual_seed(SEED + number)
            first = max(0, min(start, count - rows)) if whole else start
            batch = observations.eval_batch(first, start + rows, step.dtype)._replace(checked=True).to(step.device)
            loss = step.objective(step.model, batch)
            terms = loss.terms if loss.second is None else {**loss.terms, SECOND: loss.second}
            values = torch.stack([loss.value, *(terms[name] for name in names)])
            total += values.cpu().double() * min(rows, count - start) / count
    step.set_mode(training=True)
    return dict(zip(("loss", *names), here.sum(total).tolist(), strict=True))
