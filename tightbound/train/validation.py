"""The loss on observations that training never sees."""

from __future__ import annotations

import torch

from tightbound.data import Observations
from tightbound.model import VAE
from tightbound.objectives import Objective
from tightbound.runtime import own_random_state

SEED = 1  # the same noise at each validation, so that two of them differ by the weights alone
ROWS = 1024


@torch.no_grad()
def validate(
    model: VAE, objective: Objective, observations: Observations, *, dtype: torch.dtype, device: torch.device
) -> dict[str, float]:
    """The loss and its terms, in nats per observation, schedules at their end; leaves the model in training mode."""
    total: dict[str, float] = {}
    rows = max(ROWS // getattr(objective, "samples", 1), 1)
    model.eval()
    with own_random_state(device):
        torch.manual_seed(SEED)
        for x in observations.batches(rows, dtype):
            loss = objective(model, x.to(device))
            for name, value in (("loss", loss.value), *loss.terms.items()):
                total[name] = total.get(name, 0.0) + float(value) * len(x) / len(observations)
    model.train()
    return total
