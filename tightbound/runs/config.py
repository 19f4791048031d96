"""What ``config.json`` says: what a model depends on besides its recipe, and which recipe and data belong to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tightbound.files import require_file, require_kept
from tightbound.runs.migrate import CONFIG, FORMAT
from tightbound.runs.resolving import MOST_LEVELS


@dataclass(frozen=True)
class Config:
    """What a model's shape depends on besides its recipe: written beside the weights as ``config.json``.

    Attributes:
        shape: Of one observation.
        levels: How many values an element takes (grey levels, classes); 0 where that means nothing.
        why: How the likelihood was chosen, in words.
        classes: How many classes the label has, where it is a condition or part of the latent; else 0.
        covariates: How many columns the factors have, where they are a condition; else 0.
        wide: Whether the model computes in float64, as float32 cannot tell the data's values apart.
        model: A short name of the recipe's model, so that another one in its place is noticed; empty in older runs.
        training: The same of the training, and of how the data are divided.
        data: The same of the values; empty where they are too many to be read again.
        source: Where the data were found when it began, from the root on; empty for data that have no place.
        started: What its weights were before, in words; empty where they were new.

    Example:
        >>> Config((1, 28, 28), levels=256).shape
        (1, 28, 28)
    """

    shape: tuple[int, ...]
    levels: int = 0
    why: str = ""
    classes: int = 0
    covariates: int = 0
    wide: bool = False
    model: str = ""
    training: str = ""
    data: str = ""
    source: str = ""
    started: str = ""

    @property
    def dtype(self) -> torch.dtype:
        """The model's floating-point type."""
        return torch.float64 if self.wide else torch.get_default_dtype()

    @property
    def conditions(self) -> int:
        """How many numbers say the condition."""
        return self.classes + self.covariates


def read_config(path: Path) -> Config:
    """Read ``config.json``, of this version or an older one.

    Args:
        path: of the file.

    Raises:
        ValueError: for a file that is damaged, or that a newer version wrote.
    """
    values = read_json(path)
    shape, counts = values.get("shape"), [values.get(name, 0) for name in ("levels", "classes", "covariates")]
    whole = isinstance(shape, list) and all(type(n) is int and n > 0 for n in shape)
    wide, counted = values.get("wide", False), all(type(n) is int and 0 <= n <= MOST_LEVELS for n in counts)
    if values.get("format") not in range(1, FORMAT + 1) or not (whole and shape and counted and type(wide) is bool):
        raise ValueError(
            f"Expected a configuration of format {FORMAT} or older, a shape of positive whole numbers and at most "
            f"{MOST_LEVELS} levels; got something else in {path}. A newer version of tightbound may have written it."
        )
    require_kept(path.parent, CONFIG)
    levels, classes, covariates = counts
    words = ("why", "model", "training", "data", "source", "started")
    about = {name: str(values.get(name, "")) for name in words}
    return Config(tuple(shape), levels, classes=classes, covariates=covariates, wide=wide, **about)


def read_json(path: Path, remedy: str = "") -> dict[str, Any]:
    """Read a file that holds a JSON object.

    Args:
        path: of the file.
        remedy: what to do about a damaged one, a sentence.

    Raises:
        ValueError: for a file that holds anything else.
    """
    require_file(path)
    more = f" {remedy}" if remedy else ""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"Expected JSON in {path}; got something unreadable ({error}).{more}") from None
    if not isinstance(value, dict):
        raise ValueError(f"Expected a JSON object in {path}; got {type(value).__name__}.{more}")
    return value
