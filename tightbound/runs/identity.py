"""What makes a run this run and no other: its model, its training and its data, by short names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tightbound.data import Data
from tightbound.files import digest_of
from tightbound.runs.recipe import Recipe
from tightbound.runs.schema import to_table
from tightbound.training.checkpoint import WEIGHTS
from tightbound.training.fingerprint import FREE, fingerprint, fingerprint_of_data

NEWER = {"shift": 0, "flip": "none", "layers": [16]}  # fields at the values that runs without them were trained with
UNBOUND = ("name", "about", "reaches", "evaluate")  # what a recipe may say otherwise when all is done


def model_fingerprint(recipe: Recipe) -> str:
    """A short name of all that a recipe says of its model.

    Args:
        recipe: resolved.

    Example:
        >>> model_fingerprint(Recipe()) == model_fingerprint(Recipe(seed=3))
        True
    """
    return fingerprint({name: value for name, value in to_table(recipe.model).items() if NEWER.get(name) != value})


def training_fingerprint(recipe: Recipe) -> str:
    """A short name of all that a recipe says of a training, and of how its data are divided; not of where they are.

    Args:
        recipe: resolved.

    Example:
        >>> training_fingerprint(Recipe()) == training_fingerprint(Recipe(seed=3))
        False
    """
    table = {name: value for name, value in to_table(recipe).items() if name not in (*UNBOUND, "model")}
    data = {name: value for name, value in table["data"].items() if name != "source"}
    table["data"] = {name: value for name, value in data.items() if NEWER.get(name) != value}
    table["train"] = {name: value for name, value in table["train"].items() if name not in FREE}
    return fingerprint(table)


def data_fingerprint(data: Data) -> str:
    """A short name of every value of a training and a test set; empty for files larger than memory.

    Args:
        data: as they were loaded.

    Example:
        >>> import torch
        >>> from tightbound.data import load
        >>> x = torch.zeros(9, 2)
        >>> data_fingerprint(load(x)) == data_fingerprint(load(x + 1))
        False
    """
    parts = (data.train, data.test)
    if any(part.ask is not None for part in parts):  # as of those that training has a stamp for
        return ""
    return fingerprint([fingerprint_of_data(part) for part in parts])


def weights_fingerprint(folder: Path) -> str:
    """A short name of a run's weights, which numbers measured of them are kept with; empty where there are none.

    Args:
        folder: the run's.

    Example:
        >>> weights_fingerprint(Path("nowhere"))
        ''
    """
    return digest_of(folder / WEIGHTS)[:16] if (folder / WEIGHTS).is_file() else ""


def unlike(wanted: Recipe, found: Recipe) -> list[str]:
    """Where a run's recipe says something else than the one that was asked for, which leaves some things open.

    Args:
        wanted: with "auto" where data decide.
        found: resolved.

    Returns:
        Dotted names of fields.

    Example:
        >>> unlike(Recipe(seed=3), Recipe(seed=4))
        ['seed']
    """
    return _unlike(to_table(wanted), to_table(found))


def _unlike(wanted: dict[str, Any], found: dict[str, Any], at: str = "") -> list[str]:
    names = []
    for name, value in wanted.items():
        if isinstance(value, dict):
            names += _unlike(value, found.get(name, {}), f"{at}{name}.")
        elif value != "auto" and f"{at}{name}" not in UNBOUND and found.get(name) != value:
            names.append(f"{at}{name}")
    return names
