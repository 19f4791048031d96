"""The loss on observations that training never sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tightbound.data import Observations
from tightbound.distributed import world
from tightbound.model import VAE
from tightbound.objectives import Objective
from tightbound.runtime import own_random_state

SEED = 1  # the same noise at each validation, so that two of them differ by the weights alone
ROWS = 1024


@torch.no_grad()
def validate(
    model: VAE,
    objective: Objective,
    observations: Observations,
    *,
    names: Sequence[str],
    dtype: torch.dtype,
    device: torch.device,
) -> dict[str, float]:
    """The loss and its terms, by ``names``, in nats per observation, schedules at their end.

    Several processes take batches in turn; noise belongs to a batch, so the result does not depend on their number.
    Leaves the model in training mode.
    """
    here = world()
    rows = max(ROWS // getattr(objective, "samples", 1), 1)
    total = torch.zeros(1 + len(names), dtype=torch.float64)
    model.eval()
    with own_random_state(device):
        for batch, start in enumerate(range(0, len(observations), rows)):
            if batch % here.count != here.rank:
                continue
            torch.manual_seed(SEED + batch)
            x = observations.eval_batch(start, start + rows, dtype)
            loss = objective(model, x.to(device))
            values = torch.stack([loss.value, *(loss.terms[name] for name in names)])
            total += values.cpu().double() * len(x) / len(observations)
    model.train()
    return dict(zip(("loss", *names), here.sum(total).tolist(), strict=True))
