"""Sweeps over what a function makes models with, or over a setting of their training."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from tightbound.data import Data, Observations, load
from tightbound.data import observations as as_observations
from tightbound.model import Model
from tightbound.runs import sweep as sweeps
from tightbound.runs.from_fit import read_from_fit
from tightbound.runs.measured import remark_on
from tightbound.runs.recipe import EvaluateRecipe
from tightbound.runs.registry import row_of_likelihood
from tightbound.runs.run import Run
from tightbound.runs.sweep import Planned
from tightbound.runs.sweep_recipes import unranked
from tightbound.runs.sweep_words import Setting
from tightbound.runs.swept import Sweep, SweepRun
from tightbound.runs.told import recipe_of
from tightbound.runtime import own_random_state, resolve_device
from tightbound.settings import Training, TrainingChanges, require_seed
from tightbound.training import batches, fit
from tightbound.training.validation import alike, chosen

APART = ("validation", "seed")  # of which each value is judged on other observations
BESIDES = ("objective", "validation", "transform", "settings")  # what fit takes that is no setting
TAKEN = ("model", "data", "out", "resume", "overwrite", "progress", "on_log")  # which a sweep says itself


@dataclasses.dataclass(frozen=True, eq=False)
class _Maker:
    """How one run of a function's sweep is made and trained."""

    make: Callable[..., Any]
    field: str
    into_fit: bool
    data: Data | Observations
    settings: dict[str, Any]

    def made(self, each: Planned) -> tuple[Model, dict[str, Any]]:
        """The model, untrained, with its seed's weights, and what fit takes besides."""
        value = {self.field: each.given}
        with own_random_state(torch.device("cpu"), seed=each.seed):
            found = self.make() if self.into_fit else self.make(**value)
        given = {**self.settings, **(value if self.into_fit and self.field != "seed" else {})}
        model, objective = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
        if not isinstance(model, Model):
            raise TypeError(
                f"Expected a function that returns a model, or a model and its objective; got {type(found).__name__} "
                f"for {self.field} = {each.value}."
            )
        return model, given if objective is None else {**given, "objective": objective}

    def observed(self, given: Mapping[str, Any], seed: int) -> tuple[Observations, Observations, bool]:
        """What a run is trained on, what it is compared on, and whether that was held out for validation."""
        training = given.get("settings") or Training()
        own = {name: value for name, value in given.items() if name in TrainingChanges.__annotations__}
        training, validation = chosen(training.updated(own), given.get("validation"))
        train = self.data.train if isinstance(self.data, Data) else self.data
        if validation is not None:
            return train, alike(train, validation), True
        rest, held_out = batches.split(train, training.validation, seed)
        if held_out is not None:
            return rest, held_out, True
        if isinstance(self.data, Data):
            return rest, self.data.test, False
        raise ValueError(
            "Expected observations to compare the values on; got validation=0, which holds nothing out. Hold some out: "
            "validation=0.1."
        )


def of_function(
    make: Callable[..., Any], data: Any, field: str, values: dict[Any, Any], folder: Path | None, seeds: int, seed: int,
    settings: dict[str, Any], *, progress: bool,
) -> Sweep:  # fmt: skip
    given = data if isinstance(data, Data) else load(data) if isinstance(data, str | os.PathLike) else None
    if isinstance(data, DataLoader) and data.batch_size and "settings" not in settings:
        settings = {"batch_size": data.batch_size, **settings}
    maker = _Maker(make, field, _into_fit(make, field), given or as_observations(data), settings)
    _require_settings(settings, field, values, into_fit=maker.into_fit)
    common = (settings.get("settings") or Training()).updated(
        {name: value for name, value in settings.items() if name in TrainingChanges.__annotations__}
    )
    planned = sweeps.begin_in_python(folder, field, values, seed=seed, seeds=seeds, settings=common)
    runs: list[SweepRun] = []
    validated = True
    for each in sweeps.announced(planned, field, show=progress):
        model, besides = maker.made(each)
        if any(model is run.made for run in runs):
            raise ValueError(
                f"Expected a function that makes a new model each time; got the same one for {field} = {each.value}. "
                "Build it inside the function."
            )
        train, observed, validated = maker.observed(besides, each.seed)
        kept: dict[str, Any] = {} if each.path is None else {"out": each.path, "resume": "auto"}
        result = fit(model, maker.data, seed=each.seed, progress=progress, **besides, **kept)
        if result.ended == "interrupted":
            break
        found = sweeps.measured(each)
        if found is None:
            remark = remark_on(recipe_of(field, train.name, train, result), result.steps)
            how = EvaluateRecipe()
            numbers = sweeps.numbers_on(model, observed, train, how, remark=remark, progress=progress)
            found = sweeps.keep(each, *numbers)
        run = None if each.path is None else Run(each.path, *read_from_fit(each.path), given=model)
        runs.append(SweepRun(each.given, found, run, result, model))
    setting = Setting(
        field, beta=_is_beta(field, runs), validated=validated, folders=False, unranked=_why_unranked(field, runs),
        missing=len(planned) - len(runs),
    )  # fmt: skip
    return Sweep(setting, tuple(runs), folder)


def _into_fit(make: Callable[..., Any], field: str) -> bool:
    """Whether what differs is a setting of the training that the function does not take."""
    try:
        taken = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # of one without a signature nobody knows
        return False
    if any(each.name == field or each.kind is inspect.Parameter.VAR_KEYWORD for each in taken):
        return False
    if field in (*TrainingChanges.__annotations__, *BESIDES, "seed"):
        return True
    names = ", ".join(each.name for each in taken) or "nothing"
    raise TypeError(
        f"Expected a function that takes {field}, or a setting of fit as over; got one that takes {names}. For "
        f"example: def make({field}): …"
    )


def _require_settings(settings: Mapping[str, Any], field: str, values: Mapping[Any, Any], *, into_fit: bool) -> None:
    """Refuse what a sweep says itself, and what is said twice."""
    for name in settings:
        if name in TAKEN:
            raise TypeError(f"Expected settings of fit besides what a sweep says itself; got {name}=. Leave it out.")
        if name not in (*TrainingChanges.__annotations__, *BESIDES):
            Training().updated({name: None})  # which refuses it
    if into_fit and field in settings:
        raise TypeError(f"Expected {field} once; got it as over and as a setting. Leave one out.")
    if into_fit and field == "seed":
        for value in values.values():
            require_seed(value)
    resolve_device(str(settings.get("device", "auto")))


def _is_beta(field: str, runs: Sequence[SweepRun]) -> bool:
    """Whether what differs is the weight that each objective gives the rate."""
    weights = [getattr(run.result.objective, "beta", None) for run in runs if run.result is not None]
    ends = [getattr(weight, "end", weight) for weight in weights]  # of a schedule
    labels = [run.outcome.value for run in runs]
    numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in (*ends, *labels))
    return field == "beta" and numbers and bool(runs) and ends == labels


def _why_unranked(field: str, runs: Sequence[SweepRun]) -> str:
    """Why nats of these runs cannot be compared; empty where they can."""
    if field in APART:
        return unranked(field)
    measures = list(dict.fromkeys(_measure(run.model) for run in runs))
    if len(measures) < 2:
        return ""
    return f"p(x) of these runs is not of one kind ({', '.join(measures)}): their nats cannot be ranked."


def _measure(model: Model) -> str:
    """What p(x) of a model is: a density, a probability, or whatever its own class makes of it."""
    inner = getattr(model, "vae", model)
    kind = type(getattr(inner, "likelihood", inner))
    named = row_of_likelihood(kind)
    return kind.__name__ if named is None else named.measure
