"""Sweeps over a recipe's field: trained where that is not done yet, measured, and compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from tightbound.evaluate import Disentanglement
from tightbound.runs import starting
from tightbound.runs import sweep as sweeps
from tightbound.runs.advice import BETA, comparable
from tightbound.runs.from_fit import whole_recipe
from tightbound.runs.measured import Measured, remark_on
from tightbound.runs.migrate import RECIPE
from tightbound.runs.recipe import Recipe
from tightbound.runs.run import open_run
from tightbound.runs.starting import Trained
from tightbound.runs.sweep import Planned
from tightbound.runs.sweep_words import Setting
from tightbound.runs.swept import Sweep, SweepRun


def of_recipe(
    recipe: Recipe, field: str, values: Sequence[Any], folder: Path | None, *, seeds: int = 1, data: Any = None,
    progress: bool = True,
) -> Sweep:  # fmt: skip
    """Train a recipe for each value of a field, where that is not done yet, and measure.

    Args:
        recipe: what the runs have in common.
        field: dotted name of what differs.
        values: of that field.
        folder: the sweep's; a new one by default.
        seeds: how many trainings each value has.
        data: in place of the recipe's own.
        progress: whether to show how it goes.

    Raises:
        ValueError: as :func:`sweep`.
    """
    if data is None and not recipe.data.source:
        raise ValueError(
            f"Expected data with the recipe {recipe.name!r}, which is for data of your own; got none. For example: "
            f"tb.sweep({recipe.name!r}, x, over=…)."
        )
    folder = folder or starting.default_folder(dataclasses.replace(recipe, name=f"{recipe.name}-sweep"))
    planned = sweeps.begin(folder, recipe, field, values, seeds=seeds)
    for each in planned:
        starting.require_own(*_placed(each))
    runs: list[SweepRun] = []
    for each in sweeps.announced(planned, field, show=progress):
        wanted, path = _placed(each)
        found, trained = sweeps.measured(each), None
        if found is None:
            given = {} if data is None else {"data": data}
            trained = (
                starting.resume(path, progress=progress, **given)
                if (path / RECIPE).is_file()
                else starting.train(wanted, path, progress=progress, **given)
            )
            if trained.result.ended == "interrupted":
                break
            found = sweeps.keep(each, *_compared(trained, data, progress=progress))
        runs.append(SweepRun(each.value, found, open_run(path), None if trained is None else trained.result))
    why = "" if comparable(field) else unranked(field)
    if not why:
        starting.require_one_data(run.run.path for run in runs if run.run is not None)
    validated = recipe.train.validation > 0 or field == "train.validation"
    missing = len(planned) - len(runs)
    setting = Setting(field, beta=field == BETA, validated=validated, unranked=why, missing=missing)
    return Sweep(setting, tuple(runs), folder)


def _placed(each: Planned) -> tuple[Recipe, Path]:
    """What is trained, and where; a run of a recipe has both."""
    if each.recipe is None or each.path is None:
        raise ValueError("Expected a run of a recipe with a folder; got one without.")
    return each.recipe, each.path


def unranked(field: str) -> str:
    """Why runs that differ in a field cannot be ranked.

    Args:
        field: its name.
    """
    return f"Runs at different {field} describe different observations: their nats cannot be ranked."


def _compared(trained: Trained, source: Any, *, progress: bool) -> tuple[Measured, Disentanglement | None, Tensor]:
    """What a sweep compares a recipe's run by."""
    recipe, data = whole_recipe(trained.run.recipe, trained.run.path), trained.data
    if recipe.data.factors is not None:
        data = trained.run.data(source)  # the scores may know what training did not
    observed, remark = sweeps.compared_on(trained), remark_on(recipe, trained.result.steps)
    return sweeps.numbers_on(trained.model, observed, data.train, recipe.evaluate, remark=remark, progress=progress)
