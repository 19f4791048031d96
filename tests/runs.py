"""A small run on the digits, and everything that opening one reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tightbound.runs.recipe import Recipe
from tightbound.runs.run import open_run
from tightbound.runs.starting import resume

TINY = Recipe(name="tiny").updated(
    {
        "model.latent_dim": 2, "model.hidden": [8], "model.likelihood": "bernoulli", "train.epochs": 0.4,
        "train.log_every": 2, "evaluate.samples": 2,
    }
)  # fmt: skip


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def use(folder: Path) -> None:
    """Everything that opening a run and going on with it reads."""
    run = open_run(folder)
    run.metrics()
    run.environment()
    run.evaluation()
    run.per_observation()
    run.model()
    resume(folder, progress=False)
