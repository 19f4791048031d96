"""What a training says of itself beside its metrics and weights, so that its folder can be opened."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

from tightbound.data import Data, Observations, found_again
from tightbound.files import as_json, write_json, write_kept
from tightbound.saving import save_description
from tightbound.training.environment import environment
from tightbound.training.fingerprint import fingerprint_of_data
from tightbound.training.loop import Loop
from tightbound.training.replacing import ENVIRONMENT, RECIPE, RECORD

FORMAT = 1
ENDLESS = "endless"  # for which JSON has no number
LONGEST = 2000  # letters of an objective in words


def begin_record(loop: Loop, data: Any, *, new: bool) -> None:
    """Write down what is trained and how, unless a recipe says so already.

    Args:
        loop: begun, or gone on with.
        data: as :func:`~tightbound.training.fit` was given them.
        new: whether it has just begun. Of one that goes on, what is missing alone is written.
    """
    folder = loop.setup.out
    if folder is None:
        return
    if new:
        write_json(folder / ENVIRONMENT, environment())
    if not (folder / RECIPE).exists() and (new or not (folder / RECORD).exists()):
        save_description(loop.step.model, folder)
        _write(folder, _record(loop, data))


def end_record(loop: Loop, data: Any) -> None:
    """Write down which values the model was trained on, and which it is to be tested on.

    Args:
        loop: that has ended, or was interrupted.
        data: as :func:`~tightbound.training.fit` was given them.
    """
    folder = loop.setup.out
    if folder is None or (folder / RECIPE).exists():
        return
    made = _record(loop, data)
    parts = [made["data"]["train"], made["data"]["test"]]
    for part, seen in zip(parts, loop.setup.looked_at, strict=False):
        if seen.ask is None:  # a file larger than memory takes long to read
            part["fingerprint"] = fingerprint_of_data(seen)
    _write(folder, made)


def _write(folder: Path, made: dict[str, Any]) -> None:
    text = as_json(made)
    write_kept(folder, RECORD, lambda path: path.write_text(text, encoding="utf-8"))


def _record(loop: Loop, data: Any) -> dict[str, Any]:
    setup = loop.setup
    train, *test = setup.looked_at
    settings = dataclasses.asdict(setup.settings)
    named = data if isinstance(data, Data) else train
    return {
        "format": FORMAT,
        "seed": setup.seed,
        "settings": {name: ENDLESS if value == math.inf else value for name, value in settings.items()},
        "objective": said_of(loop.step.objective),
        "data": {
            "name": named.name,
            "source": found_again(named.name),
            "shape": list(train.shape),
            "binarise": train.binarise,
            "train": _part(train),
            "test": _part(test[0]) if test else None,
        },
    }


def said_of(objective: object) -> str:
    """An objective as Python prints it, without where it lies in memory.

    Args:
        objective: any.

    Example:
        >>> said_of(object())
        '<object object>'
    """
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(objective))[:LONGEST]


def _part(seen: Observations) -> dict[str, Any]:
    return {"count": len(seen), "fingerprint": ""}
