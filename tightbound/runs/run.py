"""A run is a folder. This module reads and writes it, and never runs code that it finds there."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from tightbound.autoencoder import VAE
from tightbound.data import Data, Observations, summarise
from tightbound.distributed import world
from tightbound.evaluate import Certificate, Checks, Classification, Disentanglement, Gaps, Independence, Information
from tightbound.files import foreign, require_file, temporary_for, write_json, write_tensors, write_text
from tightbound.runs import recipe as recipes
from tightbound.runs.build import Built, Config, build, build_model, loaded
from tightbound.runs.environment import environment
from tightbound.runs.measured import Measured
from tightbound.runs.migrate import CONFIG, FORMAT, RECIPE, is_of_first_format, recipe_of, require_same_weights
from tightbound.runs.pieces import LIKELIHOODS
from tightbound.runs.recipe import GIVEN, Recipe
from tightbound.runs.resolving import MOST_LEVELS, levels_of, prepared
from tightbound.runtime import own_random_state
from tightbound.training import TrainResult, batches, fit
from tightbound.training.checkpoint import OBJECTIVE, STATE, WEIGHTS, check_weights, load_weights
from tightbound.training.journal import METRICS, TIMING, read_metrics

ENVIRONMENT = "environment.json"
EVALUATION = "evaluation.json"
PER_OBSERVATION = "per-observation.safetensors"
CERTIFICATE = "certificate.json"
GAPS = "gaps.json"
INFORMATION = "information.json"
CHECKS = "checks.json"
CHECKED = "checks.safetensors"
DISENTANGLEMENT = "disentanglement.json"
FACTORED = "disentanglement.safetensors"  # codes beside factors
CLASSIFICATION = "classification.json"
INDEPENDENCE = "independence.json"
REPORT = "report.html"
FIGURES = "figures"
FILES = (
    RECIPE, CONFIG, ENVIRONMENT, EVALUATION, PER_OBSERVATION, CERTIFICATE, GAPS, INFORMATION, CHECKS, CHECKED,
    CLASSIFICATION, DISENTANGLEMENT, FACTORED, INDEPENDENCE, REPORT, FIGURES, WEIGHTS, OBJECTIVE, METRICS, TIMING,
    STATE,
)  # fmt: skip
LEFTOVERS = {temporary_for(Path(RECIPE)).name}  # of a start that was killed before there was anything else

Kept = Certificate | Classification | Gaps | Independence | Information | Checks | Disentanglement
Split = Literal["train", "validation", "test"]


@dataclasses.dataclass(frozen=True, repr=False)
class Run:
    """A run's folder, read as it is asked for.

    Attributes:
        path: The folder.
        recipe: What it was made from, resolved.
        config: What the model's shape depends on besides.

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
    recipe: Recipe
    config: Config

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, recipe={self.recipe.name!r})"

    def model(self) -> VAE:
        """The trained model, rebuilt from its recipe through the registry, on the CPU and in evaluation mode.

        Raises:
            ValueError: for weights that are missing, damaged, of another model or of another meaning.
        """
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
        recipe = self.recipe
        if source is not None and not (isinstance(source, str | os.PathLike) and Path(source).is_dir()):
            recipe = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, size=None))
        _, data = loaded(recipe, source)
        if tuple(data.train.shape) != self.config.shape:
            raise ValueError(
                f"Expected observations of shape {self.config.shape}, as this run's model has seen; got "
                f"{tuple(data.train.shape)} in {data.name}. Reshape them, or open the run that was trained on them."
            )
        facts, unseen = summarise(data.train), summarise(data.test)
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
                of other data that have no test set of their own, all of them.
            source: other data, as :meth:`data` takes them.

        Raises:
            TypeError: for data of another kind.
            ValueError: for data that cannot be read or of another shape, and for a validation split that there is not.
        """
        data = self.data(source)
        if source is not None and name is None:
            return data.test if data.has_own_test_set else data.everything()[0]
        if name in ("train", "validation") and (source is None or self.recipe.data.source == GIVEN):
            train, held_out = batches.split(data.train, self.recipe.train.validation, self.recipe.seed)
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
        return batches.split(data.train, self.recipe.train.validation, self.recipe.seed)[1]

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``."""
        return read_metrics(self.path)

    def evaluation(self) -> dict[str, Any] | None:
        """What ``evaluation.json`` holds, or None where the run was not evaluated yet."""
        return self.kept(EVALUATION)

    def save_evaluation(self, found: Measured) -> None:
        """Keep an evaluation: its numbers as JSON, its per-observation values beside them.

        Args:
            found: of the run's own test set.
        """
        write_tensors(self.path / PER_OBSERVATION, found.evidence.per_observation)
        write_json(self.path / EVALUATION, found.evidence.to_json())
        if found.information is not None:
            self.save(INFORMATION, found.information)
        if found.classification is not None:
            self.save(CLASSIFICATION, found.classification)

    def kept(self, name: str) -> dict[str, Any] | None:
        """What a file of measured numbers holds, or None where it was not made yet.

        Args:
            name: ``EVALUATION``, or as of :meth:`save`.
        """
        return _json(self.path / name) if (self.path / name).is_file() else None

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
        with foreign(path, "a safetensors file"):
            return load_file(path) if path.is_file() else {}

    def environment(self) -> dict[str, Any]:
        """The machine and library versions it was trained with."""
        return _json(self.path / ENVIRONMENT) if (self.path / ENVIRONMENT).is_file() else {}


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """What a training made.

    Attributes:
        run: Its folder.
        model: The trained model, in evaluation mode, on the device where it was trained.
        data: What it was trained and is to be tested on, as the likelihood wants them.
        result: How the training went.
    """

    run: Run
    model: VAE
    data: Data
    result: TrainResult


def open_run(path: str | Path) -> Run:
    """Open a run's folder. A folder from a stranger can be opened: nothing in it is executed.

    A folder that version 0.1.0 made opens as well; it stays as it is.

    Args:
        path: the folder.

    Returns:
        The run.

    Raises:
        ValueError: for a folder that is no run, or whose files are damaged or point elsewhere.

    Example:
        >>> import tempfile
        >>> small = Recipe().updated({"model.hidden": [8], "train.epochs": 0.1})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = train(small, f"{folder}/run", data=torch.randn(50, 3), progress=False)
        ...     open_run(f"{folder}/run").recipe.model.likelihood
        'gaussian'
    """
    folder = Path(path)
    return Run(folder, _recipe(folder), _config(folder / CONFIG))


def train(recipe: Recipe, out: str | Path, *, data: Any = None, progress: bool = True) -> Trained:
    """Build a recipe and train it into a new folder.

    Args:
        recipe: what to train.
        out: the folder.
        data: data in place of the recipe's own: anything that :func:`tightbound.data.load` takes.
        progress: whether to show how it goes.

    Returns:
        The run, with the model and the data that it was made of.

    Raises:
        TypeError: for data of another kind.
        ValueError: for a folder that already holds something, and whatever the recipe gets wrong.

    Example:
        >>> import tempfile
        >>> small = Recipe().updated({"model.hidden": [8], "train.epochs": 1, "train.batch_size": 9})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trained = train(small, f"{folder}/run", data=torch.randn(50, 3), progress=False)
        >>> trained.result.steps, len(trained.data.test), trained.model.training
        (5, 5, False)
    """
    folder = Path(out)
    fresh = not folder.exists() or (folder.is_dir() and {item.name for item in folder.iterdir()} <= LEFTOVERS)
    if world().is_main and not fresh:
        raise ValueError(
            f"Expected a new folder; got {folder}, which already holds something. Choose another: --out, or out= in "
            "Python."
        )
    return _train(folder, build(recipe, data), resume=False, progress=progress)


def resume(path: str | Path, *, data: Any = None, progress: bool = True) -> Trained:
    """Go on with a run that was stopped or killed; the result is that of a run never stopped, bit for bit.

    Args:
        path: the run's folder.
        data: the data that it was started with, where they were made in Python.
        progress: whether to show how it goes.

    Returns:
        The run, with the model and the data that it was made of.

    Raises:
        TypeError: for data of another kind.
        ValueError: for a folder that is no run, that an older version began, or whose data are not what it was started
            with.

    Example:
        >>> import tempfile
        >>> small, x = Recipe().updated({"model.hidden": [8], "train.epochs": 0.1}), torch.randn(50, 3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = train(small, f"{folder}/run", data=x, progress=False)
        ...     resume(f"{folder}/run", data=x, progress=False).result == first.result
        True
    """
    folder = Path(path)
    recipe, begun = _recipe(folder), (folder / STATE).exists()
    if begun and is_of_first_format(folder):
        raise ValueError(
            f"Expected a run of this version to go on with; got {folder}, which version 0.1.0 began. It can be "
            f"evaluated, reported and embedded as it is. To train it anew: tightbound recipes {folder} > again.toml, "
            "then tightbound train again.toml."
        )
    if begun:
        require_same_weights(folder, recipe)
    return _train(folder, build(recipe, data), resume=begun, progress=progress)


def _train(folder: Path, built: Built, *, resume: bool, progress: bool) -> Trained:
    if world().is_main and not resume:
        # The recipe first: with it, what is killed right here can be gone on with.
        write_text(folder / RECIPE, recipes.to_toml(built.recipe))
        write_json(folder / CONFIG, {"format": FORMAT, **dataclasses.asdict(built.config)})
        write_json(folder / ENVIRONMENT, environment())
    result = fit(
        built.model,
        built.data,
        objective=built.objective,
        seed=built.recipe.seed,
        out=folder,
        resume=resume,
        progress=progress,
        settings=built.recipe.train,
    )
    return Trained(Run(folder, built.recipe, built.config), built.model, built.data, result)


def default_folder(recipe: Recipe) -> Path:
    """Where a run goes unless it is told: ``runs/<recipe>-<time>``.

    Args:
        recipe: what is trained.

    Example:
        >>> str(default_folder(Recipe(name="digits")))
        'runs/digits-...'
    """
    return Path("runs") / f"{Path(recipe.name).name or 'run'}-{time.strftime('%Y%m%d-%H%M%S')}"


def _recipe(folder: Path) -> Recipe:
    for name in FILES:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"Expected files inside the run folder; got {folder / name}, which leads out of it.")
    return recipe_of(folder)


def _config(path: Path) -> Config:
    values = _json(path)
    shape, counts = values.get("shape"), [values.get(name, 0) for name in ("levels", "classes", "covariates")]
    whole = isinstance(shape, list) and all(type(n) is int and n > 0 for n in shape)
    counted = all(type(n) is int and 0 <= n <= MOST_LEVELS for n in counts)
    if values.get("format") not in range(1, FORMAT + 1) or not whole or not shape or not counted:
        raise ValueError(
            f"Expected a configuration of format {FORMAT} or older, a shape of positive whole numbers and at most "
            f"{MOST_LEVELS} levels; got something else in {path}. A newer version of tightbound may have written it."
        )
    levels, classes, covariates = counts
    return Config(tuple(shape), levels, str(values.get("why", "")), classes, covariates)


def _json(path: Path) -> dict[str, Any]:
    require_file(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"Expected JSON in {path}; got something unreadable ({error}).") from None
    if not isinstance(value, dict):
        raise ValueError(f"Expected a JSON object in {path}; got {type(value).__name__}.")
    return value
