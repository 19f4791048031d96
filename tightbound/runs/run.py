"""A run is a folder. This module reads and writes it, and never runs code that it finds there."""

from __future__ import annotations

import dataclasses
import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tightbound.runs import recipe as recipes
from tightbound._version import __version__
from tightbound.runs.build import MOST_LEVELS, Built, Config, build, build_model, build_objective, levels_of, prepared
from tightbound.data import Data, summarise, load
from tightbound.evaluate import Evidence
from tightbound.files import temporary_for, write_json, write_tensors, write_text
from tightbound.model import VAE
from tightbound.distributed import world
from tightbound.runs.recipe import Recipe
from tightbound.training import TrainResult, fit
from tightbound.training.checkpoint import STATE, WEIGHTS, check_weights, foreign, load_weights
from tightbound.training.journal import METRICS, TIMING, read_metrics

RECIPE = "recipe.toml"
CONFIG = "config.json"
ENVIRONMENT = "environment.json"
EVALUATION = "evaluation.json"
PER_OBSERVATION = "per-observation.safetensors"
REPORT = "report.html"
FIGURES = "figures"
FILES = (RECIPE, CONFIG, ENVIRONMENT, EVALUATION, PER_OBSERVATION, REPORT, FIGURES, WEIGHTS, METRICS, TIMING, STATE)
LEFTOVERS = {temporary_for(Path(RECIPE)).name}  # of a start that was killed before there was anything else
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Run:
    """A run's folder, read as it is asked for.

    Attributes:
        path: The folder.
        recipe: What it was made from, resolved.
        config: What the model's shape depends on besides.
    """

    path: Path
    recipe: Recipe
    config: Config

    def model(self) -> VAE:
        """The trained model, rebuilt from its recipe through a closed registry, in evaluation mode.

        Raises:
            ValueError: for weights that are missing, damaged or of another model.
        """
        with torch.random.fork_rng(devices=[]):
            with foreign(self.path / RECIPE, "a recipe that a model can be built from"):
                outline = build_model(self.recipe.model, self.config, device="meta")
            check_weights(self.path, outline)  # before any memory is taken: a stranger's shapes may be of any size
            model = build_model(self.recipe.model, self.config)
        load_weights(self.path, model)
        return model.eval()

    def data(self, source: str | None = None) -> Data:
        """The run's data, or another source, as the model's likelihood wants it.

        Raises:
            ValueError: for data that cannot be read, or of another shape than the model's.
        """
        wanted, likelihood = self.recipe.data, self.recipe.model.likelihood
        size = wanted.size if source is None or Path(source).is_dir() else None
        data = load(source or wanted.source, size=size, test_fraction=wanted.test_fraction)
        if tuple(data.train.shape) != self.config.shape:
            raise ValueError(
                f"Expected observations of shape {self.config.shape}, as this run's model has seen; got "
                f"{tuple(data.train.shape)} in {data.name}."
            )
        facts = summarise(data.train)
        levels = levels_of(likelihood, facts, summarise(data.test))
        if levels > self.config.levels or (levels < self.config.levels and likelihood != "categorical"):
            raise ValueError(
                f"Expected {self.config.levels} levels, as this run's model has seen; got {levels} in {data.name}."
            )
        return prepared(self.recipe, data, facts)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``."""
        return read_metrics(self.path)

    def evaluation(self) -> dict[str, Any] | None:
        """What ``evaluation.json`` holds, or None where the run was not evaluated yet."""
        return _json(self.path / EVALUATION) if (self.path / EVALUATION).is_file() else None

    def save_evaluation(self, found: Evidence) -> None:
        """Keep an evaluation: its numbers as JSON, its per-observation values beside them."""
        write_tensors(self.path / PER_OBSERVATION, found.per_observation)
        write_json(self.path / EVALUATION, found.to_json())

    def per_observation(self) -> dict[str, Tensor]:
        """The evaluation's values for each test observation; empty where it was not evaluated yet."""
        path = self.path / PER_OBSERVATION
        with foreign(path, "a safetensors file"):
            return load_file(path) if path.is_file() else {}

    def environment(self) -> dict[str, Any]:
        """The machine and library versions it was trained with."""
        return _json(self.path / ENVIRONMENT) if (self.path / ENVIRONMENT).is_file() else {}


def open_run(path: str | Path) -> Run:
    """Open a run's folder. A folder from a stranger can be opened: nothing in it is executed.

    Raises:
        ValueError: for a folder that is no run, or whose files are damaged or point elsewhere.
    """
    folder = Path(path)
    return Run(folder, _recipe(folder), _config(folder / CONFIG))


def train(recipe: Recipe, out: str | Path, *, progress: bool = True) -> tuple[Run, TrainResult]:
    """Build a recipe and train it into a new folder.

    Raises:
        ValueError: for a folder that already holds something, and whatever the recipe gets wrong.
    """
    folder = Path(out)
    fresh = not folder.exists() or (folder.is_dir() and {item.name for item in folder.iterdir()} <= LEFTOVERS)
    if world().is_main and not fresh:
        raise ValueError(f"Expected a new folder; got {folder}, which already holds something. Choose another --out.")
    return _train(folder, build(recipe), resume=False, progress=progress)


def resume(path: str | Path, *, progress: bool = True) -> tuple[Run, TrainResult]:
    """Go on with a run that was stopped or killed; the result is that of a run never stopped, bit for bit.

    Raises:
        ValueError: for a folder that is no run, or data that are not what it was started with.
    """
    folder = Path(path)
    return _train(folder, build(_recipe(folder)), resume=(folder / STATE).exists(), progress=progress)


def _train(folder: Path, built: Built, *, resume: bool, progress: bool) -> tuple[Run, TrainResult]:
    if world().is_main and not resume:
        # The recipe first: with it, what is killed right here can be gone on with.
        write_text(folder / RECIPE, recipes.to_toml(built.recipe))
        write_json(folder / CONFIG, {"format": FORMAT, **dataclasses.asdict(built.config)})
        write_json(folder / ENVIRONMENT, environment())
    ended = fit(
        built.model,
        built.data.train,
        objective=built.objective,
        seed=built.recipe.seed,
        out=folder,
        resume=resume,
        progress=progress,
        settings=built.recipe.train,
    )
    return Run(folder, built.recipe, built.config), ended


def default_folder(recipe: Recipe) -> Path:
    """``runs/<recipe>-<time>``."""
    return Path("runs") / f"{Path(recipe.name).name or 'run'}-{time.strftime('%Y%m%d-%H%M%S')}"


def environment() -> dict[str, Any]:
    """The machine and library versions, for the record."""
    return {
        "tightbound": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": " ".join(Path(word).name if i == 0 else word for i, word in enumerate(sys.argv)),
    }


def _recipe(folder: Path) -> Recipe:
    if not (folder / RECIPE).is_file():
        raise ValueError(f"Expected a run folder with a {RECIPE}; got {folder}. 'tightbound train' makes one.")
    for name in FILES:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"Expected files inside the run folder; got {folder / name}, which leads out of it.")
    return recipes.from_file(folder / RECIPE)


def _config(path: Path) -> Config:
    values = _json(path)
    shape, levels = values.get("shape"), values.get("levels", 0)
    whole = isinstance(shape, list) and all(type(n) is int and n > 0 for n in shape) and type(levels) is int
    if values.get("format") != FORMAT or not whole or not shape or not 0 <= levels <= MOST_LEVELS:
        raise ValueError(
            f"Expected a configuration of format {FORMAT}, a shape of positive whole numbers and at most {MOST_LEVELS} "
            f"levels; got something else in {path}."
        )
    return Config(tuple(shape), levels, str(values.get("why", "")))


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"Expected JSON in {path}; got something unreadable ({error}).") from None
    if not isinstance(value, dict):
        raise ValueError(f"Expected a JSON object in {path}; got {type(value).__name__}.")
    return value


__all__ = ["Run", "build_objective", "default_folder", "environment", "open_run", "resume", "train"]
