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
from safetensors.torch import load_file, save_file
from torch import Tensor

from tightbound import recipe as recipes
from tightbound._version import __version__
from tightbound.build import Built, Config, build, build_model, build_objective, prepared
from tightbound.data import Data, inspect, load
from tightbound.evaluate import Evidence
from tightbound.files import write_atomically, write_json, write_text
from tightbound.model import VAE
from tightbound.recipe import Recipe
from tightbound.train import Fit, fit
from tightbound.train.checkpoint import STATE, WEIGHTS, load_weights
from tightbound.train.journal import METRICS, TIMING, read_metrics

RECIPE = "recipe.toml"
CONFIG = "config.json"
ENVIRONMENT = "environment.json"
EVALUATION = "evaluation.json"
PER_OBSERVATION = "per-observation.safetensors"
REPORT = "report.html"
FIGURES = "figures"
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
        model = build_model(self.recipe.model, self.config)
        load_weights(self.path, model)
        return model.eval()

    def data(self, source: str | None = None) -> Data:
        """The run's data, or another source, as the model's likelihood wants it.

        Raises:
            ValueError: for data that cannot be read, or of another shape than the model's.
        """
        wanted = self.recipe.data
        data = load(source or wanted.source, size=wanted.size, test_fraction=wanted.test_fraction)
        if tuple(data.train.shape) != tuple(self.config.shape):
            raise ValueError(
                f"Expected observations of shape {tuple(self.config.shape)}, as this run's model has seen; got "
                f"{tuple(data.train.shape)} in {data.name}."
            )
        return prepared(self.recipe, data, inspect(data.train))

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``."""
        return read_metrics(self.path)

    def evaluation(self) -> dict[str, Any] | None:
        """What ``evaluation.json`` holds, or None where the run was not evaluated yet."""
        return _json(self.path / EVALUATION) if (self.path / EVALUATION).is_file() else None

    def save_evaluation(self, found: Evidence) -> None:
        """Keep an evaluation: its numbers as JSON, its per-observation values beside them."""
        write_atomically(self.path / PER_OBSERVATION, lambda path: save_file(found.per_observation, path))
        write_json(self.path / EVALUATION, found.to_json())

    def per_observation(self) -> dict[str, Tensor]:
        """The evaluation's values for each test observation; empty where it was not evaluated yet."""
        path = self.path / PER_OBSERVATION
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
    if not (folder / RECIPE).is_file():
        raise ValueError(f"Expected a run folder with a {RECIPE}; got {folder}. 'tightbound train' makes one.")
    for name in (RECIPE, CONFIG, ENVIRONMENT, EVALUATION, PER_OBSERVATION, WEIGHTS, METRICS, TIMING, STATE):
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"Expected files inside the run folder; got {folder / name}, which leads out of it.")
    recipe = recipes.from_toml((folder / RECIPE).read_text(encoding="utf-8"), origin=str(folder / RECIPE))
    return Run(folder, recipe, _config(folder / CONFIG))


def train(recipe: Recipe, out: str | Path, *, progress: bool = True) -> tuple[Run, Fit]:
    """Build a recipe and train it into a new folder.

    Raises:
        ValueError: for a folder that already holds something, and whatever the recipe gets wrong.
    """
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"Expected a new folder; got {folder}, which already holds something. Choose another --out.")
    return _train(folder, build(recipe), resume=False, progress=progress)


def resume(path: str | Path, *, progress: bool = True) -> tuple[Run, Fit]:
    """Go on with a run that was stopped or killed; the result is that of a run never stopped, bit for bit.

    Raises:
        ValueError: for a folder that is no run, or data that are not what it was started with.
    """
    run = open_run(path)
    return _train(run.path, build(run.recipe), resume=(run.path / STATE).exists(), progress=progress)


def _train(folder: Path, built: Built, *, resume: bool, progress: bool) -> tuple[Run, Fit]:
    if not resume:
        write_json(folder / ENVIRONMENT, environment())
        write_json(folder / CONFIG, {"format": FORMAT, **dataclasses.asdict(built.config)})
        write_text(folder / RECIPE, recipes.to_toml(built.recipe))
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
    return open_run(folder), ended


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


def _config(path: Path) -> Config:
    values = _json(path)
    shape, levels = values.get("shape"), values.get("levels", 0)
    fine = isinstance(shape, list) and shape and all(isinstance(n, int) and 0 < n < 2**20 for n in shape)
    if values.get("format") != FORMAT or not fine or not isinstance(levels, int):
        raise ValueError(f"Expected a configuration of format {FORMAT} with a shape; got something else in {path}.")
    return Config(tuple(shape), levels, str(values.get("why", "")))


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"Expected JSON in {path}; got something unreadable ({error}).") from None
    if not isinstance(value, dict):
        raise ValueError(f"Expected a JSON object in {path}; got {type(value).__name__}.")
    return value


__all__ = ["Run", "build_objective", "default_folder", "environment", "open_run", "resume", "train"]
