"""A training by epoch, from its lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_ELSEWHERE = ("step", "epoch", "split", "best", "learning_rate")  # what is no term of the loss


def by_epoch(lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Loss and terms by epoch: of training the mean over the epoch's steps, of validation the value at its end.

    Args:
        lines: as in ``metrics.jsonl``.

    Returns:
        "epoch" and "step" where each ended, "train" and "validation" with a list for each term; all lists are of one
        length. Where nothing was held out "validation" is empty. What is not finite is NaN. The last epoch may be a
        part of one.

    Example:
        >>> lines = [{"step": step, "epoch": step / 2, "split": "train", "loss": 9.0 - step} for step in range(1, 5)]
        >>> by_epoch(lines)
        {'epoch': [1, 2], 'step': [2, 4], 'train': {'loss': [7.5, 5.5]}, 'validation': {}}
    """
    epochs: list[float] = []
    steps: list[int] = []
    train: list[dict[str, float]] = []
    validation: list[dict[str, float]] = []
    for part, end in _parts(lines):
        epochs.append(_number(end, epochs[-1] if epochs else 0))
        steps.append(end["step"])
        train.append(_mean(part, steps[-2] if len(steps) > 1 else 0))
        if end["split"] == "validation":
            validation.append(_numbers(end))
    return {"epoch": epochs, "step": steps, "train": _columns(train), "validation": _columns(validation)}


def _parts(lines: Sequence[Mapping[str, Any]]) -> Iterable[tuple[list[Mapping[str, Any]], Mapping[str, Any]]]:
    """The training lines of each epoch, and the line at its end: that of validation where there is one."""
    known = [line for line in lines if line.get("split") in ("train", "validation")]
    validates = any(line["split"] == "validation" for line in known)
    part: list[Mapping[str, Any]] = []
    passed = 0
    for place, line in enumerate(known):
        if line["split"] == "train":
            part.append(line)
        passes = math.floor(line["epoch"]) > passed or place == len(known) - 1
        if part and (line["split"] == "validation" if validates else passes):
            yield part, line
            part, passed = [], math.floor(line["epoch"])


def _number(end: Mapping[str, Any], before: float) -> float:
    """Which epoch ends here: a whole one where it is as near as whole batches come, else how much of one there was."""
    reached, batch = end["epoch"], end["epoch"] / max(end["step"], 1)
    nearest = round(reached)
    whole = nearest if abs(reached - nearest) <= batch else math.floor(reached)
    return whole if whole > before else reached


def _mean(part: Sequence[Mapping[str, Any]], before: int) -> dict[str, float]:
    """Each line is a mean over the steps since the one before; so is the epoch."""
    total: dict[str, float] = {}
    ends = [before, *(line["step"] for line in part)]
    for line, start in zip(part, ends, strict=False):
        share = (line["step"] - start) / (ends[-1] - before)
        for name, value in _numbers(line).items():
            total[name] = total.get(name, 0.0) + share * value
    return total


def _numbers(line: Mapping[str, Any]) -> dict[str, float]:
    return {name: math.nan if value is None else float(value) for name, value in line.items() if name not in _ELSEWHERE}


def _columns(rows: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name, math.nan) for row in rows] for name in names}
