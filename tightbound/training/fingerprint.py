"""What must not change between a run and its continuation."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tightbound.data import Observations
from tightbound.training.checkpoint import fingerprint, fingerprint_of_data

if TYPE_CHECKING:
    from tightbound.training.trainer import Trainer

FREE = ("checkpoint_seconds", "device", "precision", "compile")  # settings that have a fact of their own, or no effect


def run_fingerprint(trainer: Trainer, data: Observations) -> dict[str, str]:
    """A short fingerprint of each fact, by its name in words."""
    settings = dataclasses.asdict(trainer.settings)
    chosen = [settings["precision"], settings["compile"]]
    facts = {
        "settings": {name: value for name, value in settings.items() if name not in FREE},
        "device": trainer.device.type,
        "precision or compile": chosen,
        "objective": repr(trainer.objective),
        "seed": trainer.seed,
        "number of processes": trainer.world.count,
        "model": {name: [*value.shape, str(value.dtype)] for name, value in trainer.model.state_dict().items()},
    }
    return {**{name: fingerprint(value) for name, value in facts.items()}, "data": fingerprint_of_data(data)}
