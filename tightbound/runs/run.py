"""A run is a folder. This module reads and writes it, and never runs code that it finds there."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tightbound.data import Data, Observations
from tightbound.evaluate import Certificate, Checks, Classification, Disentanglement, Gaps, Independence, Information
from tightbound.files import foreign, read_tensors, require_file, write_json, write_tensors
from tightbound.model import Model
from tightbound.runs.build import build_model, loaded
from tightbound.runs.config import Config, read_config, read_json
from tightbound.runs.folder import (
    CHECKED,
    CHECKS,
    CLASSIFICATION,
    EVALUATION,
    FACTORED,
    INFORMATION,
    MADE_BY,
    PER_OBSERVATION,
    recipe_in,
    require_inside,
)  # fmt: skip
from tightbound.runs.from_fit import HELD_OUT, FromFit, data_of, found_where_it_was, model_of, read_from_fit
from tightbound.runs.identity import (
    data_fingerprint,
    model_fingerprint,
    training_fingerprint,
    weights_fingerprint,
)
from tightbound.runs.measured import Measured, require_evaluation
from tightbound.runs.migrate import CONFIG, RECIPE, require_same_weights
from tightbound.runs.pieces import LIKELIHOODS
from tightbound.runs.recipe import GIVEN, Recipe
from tightbound.runs.resolving import levels_of, prepared
from tightbound.runtime import own_random_state
from tightbound.training import batches
from tightbound.training.checkpoint import WEIGHTS, check_weights, load_weights
from tightbound.training.history import by_epoch
from tightbound.training.journal import METRICS, TIMING, read_metrics, require_metrics
from tightbound.training.replacing import ENVIRONMENT, RECORD

__all__ = ["Run", "open_run"]

Kept = Certificate | Classification | Gaps | Independence | Information | Checks | Disentanglement
Split = Literal["train", "validation", "test"]


@dataclasses.dataclass(frozen=True, repr=False)
class Run:
    """A run's folder, read as it is asked for.

    Attributes:
        path: The folder.
        recipe: What it was made from, resolved; of a run that ``tb.fit`` made, as much of it as Python leaves behind.
        config: What the model's shape depends on besides.
        given: Of a run that ``tb.fit`` made, the model into which its weights are read; None to rebuild it.

    Example:
        >>> import tempfile, tightbound as tb
        >>> small = {"train.epochs": 0.1, "model.hidden": [8], "model.latent_dim": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = tb.train("digits", out=f"{folder}/run", changes=small, progress=False)
        ...     run = tb.open_run(f"{folder}/run")
        ...     run.model().embed(run.split("test").eval_batch(0, 3)).shape
        torch.Size([3, 2])
    """

    path: Path
    recipe: Recipe | FromFit
    config: Config
    given: Model | None = None

    def __repr__(self) -> str:
        what = f"recipe={self.recipe.name!r}" if isinstance(self.recipe, Recipe) else "made by tb.fit"
        return f"Run({str(self.path)!r}, {what})"

    @property
    def name(self) -> str:
        """What it is called: as its recipe is, or its folder."""
        return self.recipe.name

    def _repr_html_(self) -> str:
        from tightbound.runs.shown import shown

        return shown(self)

    def model(self) -> Any:
        """The trained model, a VAE as a rule, rebuilt through the registry, on the CPU and in evaluation mode.

        Raises:
            ValueError: for weights that are missing, damaged, of another model or of another meaning, and for a model
                of ``tb.fit`` with pieces that are not the library's: ``tb.open_run(path, model=model)`` takes it.
        """
        if isinstance(self.recipe, FromFit):
            return model_of(self.path, self.given)
        require_same_weights(self.path, self.recipe)
        with own_random_state(torch.device("cpu")):
            with foreign(self.path / RECIPE, "a recipe that a model can be built from"):
                outline = build_model(self.recipe.model, self.config, device="meta")
            check_weights(self.path, outline)  # before any memory is taken: a stranger's shapes may be of any size
            model = build_model(self.recipe.model, self.config)
        load_weights(self.path, model)
        return model.eval()

    def data(self, source: Any = None) -> Data:
        """The run's data, or others, as the model's likelihood wants them.

        Args:
            source: other data: a name, a path, or anything that :func:`tightbound.data.load` takes. A run on data that
                were made in Python needs those.

        Raises:
            TypeError: for data of another kind.
            ValueError: for data that cannot be read, or of another shape than the model's.
        """
        return self._found(source)[0]

    def _found(self, source: Any) -> tuple[Data, bool]:
        """Data, and whether they are the run's own."""
        recipe = found_where_it_was(self.recipe, self.config)
        if isinstance(recipe, FromFit):
            data, own = data_of(recipe, source)
            expected = own or source is not None or not self.config.data
        else:
            if source is not None and not (isinstance(source, str | os.PathLike) and Path(source).is_dir()):
                recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, size=None))
            _, data = loaded(recipe, source)
            known, seen = self.config.data, data_fingerprint(data) if self.config.data else ""
            own = source is None or (bool(known) and seen == known)  # the same values somewhere else
            expected = source is not None or seen in ("", known)
        if not expected:
            raise ValueError(
                f"Expected the data that the run in {self.path} was trained on; got others in {recipe.data.source}. "
                "Say where its own are: --data. On others: tightbound evaluate RUN --data, or run.data(x) in Python."
            )
        if tuple(data.train.shape) != self.config.shape:
            raise ValueError(
                f"Expected observations of shape {self.config.shape}, as this run's model has seen; got "
                f"{tuple(data.train.shape)} in {data.name}. Reshape them, or open the run that was trained on them."
            )
        return (data if isinstance(recipe, FromFit) else self._prepared(recipe, data)), own

    def _prepared(self, recipe: Recipe, data: Data) -> Data:
        facts, unseen = data.summaries()
        levels = levels_of(recipe.model.likelihood, facts, unseen)
        classes = LIKELIHOODS[recipe.model.likelihood].counts == "classes"
        if levels > self.config.levels or (levels < self.config.levels and not classes):
            raise ValueError(
                f"Expected {self.config.levels} levels, as this run's model has seen; got {levels} in {data.name}. "
                "Store the values as those of the training data were."
            )
        return prepared(recipe, data, facts, unseen)

    def split(self, name: Split | None = None, source: Any = None) -> Observations:
        """The observations of a split.

        Args:
            name: "train" (without those of validation), "validation" or "test". Without a name the test set is meant;
                of other data that have no test set of their own, all of them. The run's own data are known by their
                values, wherever they are.
            source: other data, as :meth:`data` takes them.

        Raises:
            TypeError: for data of another kind.
            ValueError: for data that cannot be read or of another shape, and for a validation split that there is not.
        """
        data, own = self._found(source)
        if not own and name is None:
            return data.test if data.has_own_test_set else data.everything()[0]
        own = own or (isinstance(self.recipe, Recipe) and self.recipe.data.source == GIVEN)
        if name in ("train", "validation") and own:
            train, held_out = self._divided(data)
            if name == "train":
                return train
            if held_out is None:
                raise ValueError(
                    "Expected the split train or test, as this run held nothing out (train.validation = 0); got "
                    "validation."
                )
            return held_out
        if name == "validation":
            raise ValueError(
                f"Expected the split train or test of {data.name}; got validation, which only a run's own data have."
            )
        return data.split(name or "test")

    def held_out(self, data: Data) -> Observations | None:
        """What training keeps for validation, or None where it keeps nothing.

        Args:
            data: the run's own, as :meth:`data` gives them.
        """
        return self._divided(data)[1]

    def _divided(self, data: Data) -> tuple[Observations, Observations | None]:
        """What it was trained on, and what was held out of that."""
        if HELD_OUT in data.test.notes:
            return data.train, data.test
        return batches.split(data.train, self.recipe.train.validation, self.recipe.seed)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``.

        Raises:
            ValueError: for a line without step, epoch and split, or with something else than a number for a loss.
        """
        lines = read_metrics(self.path)
        with foreign(self.path / METRICS, "metrics as this version keeps them", self.renewed(METRICS)):
            require_metrics(lines)
        return lines

    def history(self) -> dict[str, Any]:
        """Loss and terms by epoch, as ``TrainResult.history`` gives them.

        Raises:
            ValueError: as :meth:`metrics`.
        """
        return by_epoch(self.metrics())

    def seconds(self) -> float | None:
        """How long the training took, by ``timing.jsonl``; None where that is gone or damaged."""
        path = self.path / TIMING
        try:
            require_file(path)  # nobody waits for a pipe
            last = path.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
            return float(json.loads(last)["seconds"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def evaluation(self) -> dict[str, Any] | None:
        """What ``evaluation.json`` holds, or None where the run was not evaluated yet.

        Raises:
            ValueError: for a file without the numbers that pictures and reports are made of.
        """
        found = self.kept(EVALUATION)
        if found is not None:
            with foreign(self.path / EVALUATION, "an evaluation as this version keeps it", self.renewed(EVALUATION)):
                require_evaluation(found)
        return found

    def save_evaluation(self, found: Measured) -> None:
        """Keep an evaluation: its numbers and the name of the weights as JSON, its per-observation values beside them.

        Args:
            found: of the run's own test set.
        """
        write_tensors(self.path / PER_OBSERVATION, found.evidence.per_observation)
        write_json(self.path / EVALUATION, {**found.evidence.to_json(), "weights": weights_fingerprint(self.path)})
        if found.information is not None:
            self.save(INFORMATION, found.information)
        if found.classification is not None:
            self.save(CLASSIFICATION, found.classification)

    def kept(self, name: str) -> dict[str, Any] | None:
        """What a file of measured numbers holds, or None where it was not made yet.

        Args:
            name: ``EVALUATION``, or as of :meth:`save`.
        """
        return read_json(self.path / name, self.renewed(name)) if (self.path / name).is_file() else None

    def renewed(self, name: str) -> str:
        """How there will be a good file in place of a damaged one, a sentence.

        Args:
            name: of the metrics, or of a file that :meth:`save_evaluation` or :meth:`save` writes.
        """
        if name == METRICS:
            return "Put back the file as it was, or remove it: a report is then without curves."
        return f"'tightbound {MADE_BY[name]} {shlex.quote(str(self.path))}' writes it anew."

    def save(self, name: str, found: Kept) -> None:
        """Keep a further check.

        Args:
            name: ``CERTIFICATE``, ``GAPS``, ``INFORMATION``, ``CHECKS``, ``DISENTANGLEMENT``, ``INDEPENDENCE`` or
                ``CLASSIFICATION``.
            found: of the run's own observations.
        """
        if isinstance(found, Checks | Disentanglement):  # whose figures need more than means
            write_tensors(self.path / (CHECKED if name == CHECKS else FACTORED), found.per_observation)
        write_json(self.path / name, found.to_json())

    def per_observation(self, name: str = PER_OBSERVATION) -> dict[str, Tensor]:
        """Values for each observation; empty where there are none yet.

        Args:
            name: ``PER_OBSERVATION``, of the evaluation, ``CHECKED``, of the checks, or ``FACTORED``, of scored codes.
        """
        path = self.path / name
        with foreign(path, "a safetensors file", self.renewed(name)):
            return read_tensors(path) if path.is_file() else {}

    def environment(self) -> dict[str, Any]:
        """The machine and library versions it was trained with."""
        return read_json(self.path / ENVIRONMENT) if (self.path / ENVIRONMENT).is_file() else {}


def open_run(path: str | Path, *, model: Model | None = None) -> Run:
    """Open a run's folder. A folder from a stranger can be opened: nothing in it is executed.

    A folder that version 0.1.0 made opens as well; it stays as it is. So does one that ``tb.fit(out=…)`` made: the
    model is rebuilt where it is made of the library's own pieces; where it is not, it must be given.

    Args:
        path: the folder.
        model: of a run that ``tb.fit`` made: the model, built as before. The run's weights are read into it.

    Returns:
        The run.

    Raises:
        ValueError: for a folder that is no run, or whose files are damaged or point elsewhere, and for another model
            than was trained.

    Example:
        >>> import tempfile
        >>> from tightbound.runs.starting import train
        >>> small = Recipe().updated({"model.hidden": [8], "train.epochs": 0.1})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = train(small, f"{folder}/run", data=torch.randn(50, 3), progress=False)
        ...     open_run(f"{folder}/run").recipe.model.likelihood
        'gaussian'
    """
    folder = Path(path)
    require_inside(folder)
    if (folder / RECORD).is_file() and not (folder / RECIPE).is_file():
        made = Run(folder, *read_from_fit(folder), given=model)
        if model is not None and (folder / WEIGHTS).is_file():
            made.model()
        return made
    recipe, config = recipe_in(folder), read_config(folder / CONFIG)
    if model is not None:
        raise ValueError(
            f"Expected no model for {folder}, a run whose recipe it is rebuilt from; got {type(model).__name__}. Leave "
            "model= out."
        )
    if config.model not in ("", model_fingerprint(recipe)):
        raise ValueError(
            f"Expected the [model] that the weights were trained with in {folder / RECIPE}; got another one. Undo the "
            "change, or train anew with the changed recipe."
        )
    if config.training not in ("", training_fingerprint(recipe)):
        raise ValueError(
            f"Expected the seed and the [data], [objective] and [train] of the training in {folder / RECIPE}; got "
            "others. Undo the change, or train anew with the changed recipe."
        )
    return Run(folder, recipe, config)
