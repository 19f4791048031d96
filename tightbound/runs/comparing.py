"""Runs compared on the same observations: which can be, and what is known or has to be measured of each."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tightbound.conditioned import ConditionalVAE
from tightbound.data import Data, Observations
from tightbound.evaluate.results import counted
from tightbound.files import foreign, read_tensors
from tightbound.runs import sweep
from tightbound.runs.build import loaded
from tightbound.runs.comparison import QUANTITIES, Compared, Comparison
from tightbound.runs.config import read_json
from tightbound.runs.folder import EVALUATION, PER_OBSERVATION, UNFINISHED
from tightbound.runs.identity import data_fingerprint, weights_fingerprint
from tightbound.runs.measured import measure, require_evaluation
from tightbound.runs.pieces import LIKELIHOODS
from tightbound.runs.places import with_source
from tightbound.runs.recipe import Recipe
from tightbound.runs.registry import row_of_likelihood
from tightbound.runs.run import Run, open_run
from tightbound.runs.schema import to_table
from tightbound.runs.trained import has_ended, model_of, remark_of
from tightbound.training.fingerprint import fingerprint_of_data

UNTOLD = ("name", "about", "reaches", "said")  # fields that say nothing of a training, or nothing more

COMPARED_ON = Literal["validation", "test"]
SAME = "A paired difference needs the same held-out observations."
MEASURES = {"density": "a density", "probability": "a probability", "none": "no likelihood at all"}
WRITTEN = 1e-6  # of a mean: what rounding can make of it between two files
_KEPT = {"test": (EVALUATION, PER_OBSERVATION), "validation": (sweep.FOUND, sweep.PER_OBSERVATION)}


def compare(
    runs: Sequence[str | os.PathLike[str] | Run],
    *,
    split: COMPARED_ON = "test",
    data: Any = None,
    keep: bool = False,
    progress: bool = False,
) -> Comparison:
    """Compare runs on the same held-out observations, each of the others with the first.

    Differences of ELBO, log p(x), distortion and rate are paired by observation: what is hard for one run is hard for
    all, and drops out. What a run's folder has of its present weights is used; what it lacks is measured, as
    ``tightbound evaluate`` does.

    Args:
        runs: two or more, or their folders.
        split: what they are compared on: "test", or "validation", which all must have held out alike.
        data: where their data are now, or the data themselves, if they have moved or were made in Python.
        keep: whether what had to be measured on a test set is written into its run, where that can be written.
        progress: whether to show how it goes.

    Returns:
        The comparison; ``print`` shows all of it.

    Raises:
        TypeError: for a run alone.
        ValueError: for fewer than two runs or one twice; for runs on other data or another split of them, under another
            condition, or whose p(x) is not of one kind, as a density and a probability; for a folder that is no run.

    Example:
        >>> import tempfile, tightbound as tb
        >>> small = {"train.epochs": 0.1, "model.hidden": [8], "evaluate.samples": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = [
        ...         tb.train(
        ...             "digits", out=f"{folder}/{d}", changes={**small, "model.latent_dim": d}, progress=False
        ...         )
        ...         for d in (2, 3)
        ...     ]
        ...     found = tb.compare(made)
        >>> [difference] = found.differences
        >>> difference.observations, found.fields["model.latent_dim"]
        (180, [2, 3])
    """
    if isinstance(runs, str | os.PathLike | Run):
        raise TypeError("Expected a list of runs; got one alone. For example: tb.compare(['runs/a', 'runs/b']).")
    opened = [each if isinstance(each, Run) else open_run(Path(each)) for each in runs]
    folders = [each.path.resolve() for each in opened]
    twice = next((each.path for each, folder in zip(opened, folders, strict=True) if folders.count(folder) > 1), None)
    if len(opened) < 2 or twice is not None:
        got = f"{twice} twice" if len(opened) > 1 else str(len(opened))
        raise ValueError(f"Expected two or more runs; got {got}. For example: tightbound compare runs/a runs/b")
    sides = [_Side(each, split, data) for each in opened]
    for side in sides[1:]:
        _require_alike(sides[0], side)
    compared = [
        side.compared(name, keep=keep, progress=progress) for side, name in zip(sides, _names(opened), strict=True)
    ]
    _require_same_rows(compared)
    fields = {key: list(values) for key, values in _fields(opened).items()}
    return Comparison(tuple(compared), split=split, source=opened[0].recipe.data.source, fields=fields)


class _Side:
    """One of the runs; its data are read where somebody asks for them, once."""

    def __init__(self, run: Run, split: COMPARED_ON, source: Any) -> None:
        self.run, self.split, self._source = run, split, source
        self._data: Data | None = None

    def data(self) -> Data:
        """The run's own data."""
        if self._data is None:
            if isinstance(self._source, str | os.PathLike):
                self._data = with_source(self.run, os.fspath(self._source)).data()
            else:
                self._require_own()
                self._data = self.run.data(self._source)
        return self._data

    def _require_own(self) -> None:
        """Refuse data given in Python that the run was not trained on."""
        known, recipe = self.run.config.data, self.run.recipe
        if self._source is None or not isinstance(recipe, Recipe):  # of what fit was given, the run itself asks that
            return
        if data_fingerprint(loaded(recipe, self._source)[1]) not in ("", known):
            raise ValueError(f"Expected the data that the run in {self.run.path} was trained on as data=; got others.")

    def observations(self) -> Observations:
        """What it is judged on."""
        held_out = self.data().test if self.split == "test" else self.run.held_out(self.data())
        if held_out is None:
            raise ValueError(
                f"Expected runs that hold observations out for validation; got {self.run.path}, which does not "
                "(train.validation = 0). Compare them on the test set."
            )
        return held_out

    def compared(self, name: str, *, keep: bool, progress: bool) -> Compared:
        """Its numbers: those that are kept of its present weights, else measured."""
        found = _saved(self.run, self.split)
        numbers, values = self._measured(keep=keep, progress=progress) if found is None else found
        return Compared(name, self.run, numbers, values, ended=has_ended(self.run))

    def _measured(self, *, keep: bool, progress: bool) -> tuple[dict[str, Any], dict[str, Tensor]]:
        run, observations = self.run, self.observations()
        unfinished = run.path / UNFINISHED if keep and os.access(run.path, os.W_OK) else None
        own = self.split == "test"
        found = measure(
            model_of(run),
            observations,
            train=self.data().train if own else None,
            progress=progress,
            remark=remark_of(run),
            keep=unfinished,
            **dataclasses.asdict(run.recipe.evaluate),
        )
        if unfinished is not None:
            with contextlib.suppress(OSError):  # the numbers are there, whether or not they can be kept
                unfinished.unlink(missing_ok=True)
                if own:
                    run.save_evaluation(found)
        return found.evidence.to_json(), found.evidence.per_observation


def _saved(run: Run, split: COMPARED_ON) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """What the folder holds, where it is whole and of the present weights."""
    name, columns = _KEPT[split]
    if not (run.path / name).is_file() or not (run.path / columns).is_file():
        return None
    try:
        found = read_json(run.path / name)
        require_evaluation(found)
        with foreign(run.path / columns, "a safetensors file"):
            values = read_tensors(run.path / columns)
        shapes = {values[each].shape for each in (*QUANTITIES, "row")}
        mean = float(values["elbo"][counted(values)].double().mean())
    except (ValueError, KeyError, TypeError):  # damaged, or of an older version: measured anew
        return None
    whole = shapes == {torch.Size([found["observations"]])} and abs(mean - found["elbo"]) <= WRITTEN * abs(mean)
    return (found, values) if whole and found.get("weights") == weights_fingerprint(run.path) else None


def _require_alike(first: _Side, other: _Side) -> None:
    """Refuse two runs of which no difference would mean anything."""
    a, b = first.run, other.run
    _require_one_data(first, other)
    _require_one_measure(first, other)
    conditions = _condition(a), _condition(b)
    if conditions[0] != conditions[1]:
        said = ["log p(x)" if each == "none" else f"log p(x | {each})" for each in conditions]
        raise ValueError(
            f"Expected runs under one condition; got {a.path}, which has {said[0]}, and {b.path}, which has {said[1]}: "
            "these answer two questions."
        )
    held_out = [(each.recipe.seed, each.recipe.train.validation) for each in (a, b)]
    if first.split == "validation" and held_out[0] != held_out[1]:
        raise ValueError(
            f"Expected runs that hold out the same observations for validation; got seed {held_out[0][0]} with "
            f"train.validation {held_out[0][1]:g} in {a.path}, and seed {held_out[1][0]} with {held_out[1][1]:g} in "
            f"{b.path}. Compare them on the test set."
        )


def _require_one_data(first: _Side, other: _Side) -> None:
    a, b = first.run, other.run
    known = a.config.data, b.config.data
    same = known[0] == known[1]
    if "" in known:  # too much to have been read whole: what can be looked at is
        same = fingerprint_of_data(first.observations()) == fingerprint_of_data(other.observations())
    if same and a.config.shape == b.config.shape:
        return
    mine, theirs = to_table(a.recipe.data), to_table(b.recipe.data)
    differ = [
        f"data.{key} is {mine.get(key)!r} and {theirs.get(key)!r}"
        for key in ("source", "size", "test_fraction")
        if mine.get(key) != theirs.get(key)
    ]
    why = ", ".join(differ) or "they have changed between the two trainings"
    raise ValueError(f"Expected runs on one data set, split alike; got others in {a.path} and {b.path}: {why}. {SAME}")


def _require_one_measure(first: _Side, other: _Side) -> None:
    a, b = first.run, other.run
    names = [_likelihood(each) for each in (a, b)]
    rows = [LIKELIHOODS[name] for name in names]
    said = [MEASURES[row.measure] for row in rows]
    if names[0] == names[1]:
        return
    if said[0] == said[1] and rows[0].measure != "none":
        seen = [side.data().test.binarise for side in (first, other)] if rows[0].binarises != rows[1].binarises else []
        if len(set(seen)) < 2:
            return
        said = [f"a probability of {'black and white' if each else 'levels'}" for each in seen]
    raise ValueError(
        f"Expected runs whose p(x) is of one kind; got {a.path} with {names[0]}, {said[0]}, and {b.path} with "
        f"{names[1]}, {said[1]}: their nats cannot be compared. Train both with one likelihood."
    )


def _condition(run: Run) -> str:
    if isinstance(run.recipe, Recipe):
        return run.recipe.model.condition
    return "its condition" if isinstance(run.model(), ConditionalVAE) else "none"


def _likelihood(run: Run) -> str:
    """The likelihood's name in the registry."""
    if isinstance(run.recipe, Recipe):
        return run.recipe.model.likelihood
    kind = type(run.model().likelihood)
    named = row_of_likelihood(kind)
    if named is None:
        raise ValueError(
            f"Expected runs whose likelihoods are the library's own; got {kind.__name__} in {run.path}, of whose nats "
            "nobody here knows what they are of. Compare tb.evidence of both models in Python."
        )
    return named.name


def _require_same_rows(compared: Sequence[Compared]) -> None:
    first = compared[0]
    for other in compared[1:]:
        if not torch.equal(first.values["row"], other.values["row"]):
            raise ValueError(
                f"Expected runs split alike; got other observations in {other.run.path} than in {first.run.path}. "
                f"{SAME}"
            )


def _names(runs: Sequence[Run]) -> list[str]:
    """What the runs are called: as their folders are, with as much of the path as tells them apart."""
    parts = [each.path.resolve().parts for each in runs]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(each[-length:]) for each in parts]
        if len(set(names)) == len(names):
            return names
    return [str(each.path) for each in runs]


def _fields(runs: Sequence[Run]) -> dict[str, tuple[Any, ...]]:
    """The fields of the recipes that are not the same in all of them, by dotted name; None where a recipe has none."""
    tables = [{**_flat(to_table(each.recipe)), "started": each.config.started or None} for each in runs]
    names = dict.fromkeys(name for table in tables for name in table if name not in UNTOLD)
    found = {name: tuple(table.get(name) for table in tables) for name in names}
    return {name: values for name, values in found.items() if any(value != values[0] for value in values)}


def _flat(table: dict[str, Any], at: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in table.items():
        flat |= _flat(value, f"{at}{name}.") if isinstance(value, dict) else {f"{at}{name}": value}
    return flat
