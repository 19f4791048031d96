"""Recipes in the folders of older versions, brought up to date. No torch here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tightbound.files import require_file
from tightbound.runs import recipe as recipes
from tightbound.runs.pieces import FORMER
from tightbound.runs.recipe import Recipe
from tightbound.runs.registry import OBJECTIVES
from tightbound.runs.schema import fields_of

RECIPE = "recipe.toml"
RECORD = "training.json"  # in its place, in a folder that ``tb.fit`` made
STATES = "checkpoint"
CONFIG = "config.json"
FORMAT = 6  # of config.json, and so of the recipe and the weights beside it
OTHER_FULL_NORMAL = 2  # up to this format a full normal read its network's numbers otherwise …
OTHER_CONVOLUTIONS = 4  # … up to this one convolutional networks had other layers …
OTHER_LINKS = 5  # … and up to this one what x says of a layer of latents was not in the prior's units
FIRST = 1  # the format of version 0.1.0, whose recipes had the fields of every objective …
UNUSED: dict[str, Any] = {  # … at these values, where the objective did not use them
    "beta": 1.0,
    "samples": 1,
    "kl": "closed-form",
    "gradient": "pathwise",
    "warmup_steps": 0,
    "nats": 0.25,
    "capacity": 25.0,
    "gamma": 100.0,
}


def recipe_of(folder: Path) -> Recipe:
    """The recipe in a run's folder; the folder stays as it is.

    Args:
        folder: a run's, of this version or an older one.

    Returns:
        The recipe as this version writes it.

    Raises:
        ValueError: for a folder without a recipe, and for a recipe that cannot be read or brought up to date.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "config.json").write_text('{"format": 1}')
        ...     _ = Path(folder, "recipe.toml").write_text('model.likelihood = "grey-bernoulli"')
        ...     recipe_of(Path(folder)).model.likelihood
        'unnormalised-bernoulli'
    """
    if (folder / RECORD).is_file() and not (folder / RECIPE).is_file():
        raise ValueError(
            f"Expected a run of a recipe; got {folder}, which tb.fit made in Python and no recipe describes. "
            f"tb.open_run({str(folder)!r}).model() is its model, to train on from with tb.fit."
        )
    if not (folder / RECIPE).is_file():
        more = ", and so does tb.fit(…, out=FOLDER, resume=True) of a run that it began" * (folder / STATES).is_dir()
        raise ValueError(f"Expected a run folder with a {RECIPE}; got {folder}. 'tightbound train' makes one{more}.")
    if not is_of_first_format(folder):
        return recipes.from_file(folder / RECIPE)
    try:
        return recipes.from_file(folder / RECIPE, migrate=from_first)
    except ValueError as error:
        raise ValueError(
            f"{error} Version 0.1.0 made this run, and this version cannot bring it up to date. Train it anew: "
            "'tightbound recipes' lists where to begin."
        ) from None


def is_of_first_format(folder: Path) -> bool:
    """Whether version 0.1.0 made a run's folder.

    Args:
        folder: a run's.

    Example:
        >>> is_of_first_format(Path("missing"))
        False
    """
    return _format(folder) == FIRST


def require_same_weights(folder: Path, recipe: Recipe) -> None:
    """Refuse weights that mean something else by now.

    Args:
        folder: a run's.
        recipe: the recipe in it.

    Raises:
        ValueError: for a full-normal or top-down posterior, or convolutional networks, that an older version trained.

    Example:
        >>> require_same_weights(Path("missing"), Recipe())
    """
    version = _format(folder)
    if version is None:
        return
    what = ""
    if recipe.model.posterior == "full-normal" and version <= OTHER_FULL_NORMAL:
        what, why = "a full-normal posterior", "whose numbers mean something else"
    elif recipe.model.network in ("conv", "resnet") and version <= OTHER_CONVOLUTIONS:
        what, why = "a convolutional network", "whose layers are others"
    elif recipe.model.posterior == "top-down" and version <= OTHER_LINKS:
        what, why = "a top-down posterior", "whose numbers mean something else"
    if what:
        raise ValueError(
            f"Expected {what} that this version trained; got one of an older version in {folder}, {why}. To train it "
            f"anew: tightbound recipes {folder} > again.toml, then tightbound train again.toml."
        )


def _format(folder: Path) -> int | None:
    """Which one a run's folder has; None where whoever needs the file will say what is wrong with it."""
    try:
        require_file(folder / CONFIG)
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    version = config.get("format") if isinstance(config, dict) else None
    return version if isinstance(version, int) else None


def from_first(table: dict[str, Any]) -> dict[str, Any]:
    """A recipe's table of the first format as one of today's.

    Args:
        table: plain values by name.

    Returns:
        The table with today's names, and without what its objective never used.

    Example:
        >>> from_first({"objective": {"name": "iwae", "samples": 5, "kl": "closed-form", "nats": 0.25}})
        {'objective': {'name': 'iwae', 'samples': 5}}
    """
    table = {key: dict(value) if isinstance(value, dict) else value for key, value in table.items()}
    for section, field in (("model", "likelihood"), ("objective", "gradient")):
        part = table.get(section)
        if isinstance(part, dict) and isinstance(part.get(field), str):
            part[field] = FORMER.get(part[field], part[field])
    objective = table.get("objective")
    used = OBJECTIVES.get(str(objective.get("name"))) if isinstance(objective, dict) else None
    if isinstance(objective, dict) and used is not None:
        known = fields_of(used)
        table["objective"] = {
            key: value for key, value in objective.items() if key in known or UNUSED.get(key) != value
        }
    return table
