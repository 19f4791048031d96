"""What must not change between a run and its continuation."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from typing import Any

import torch
from torch import nn

from tightbound.data import Observations
from tightbound.settings import Training

FREE = ("checkpoint_seconds", "device", "precision", "compile")  # settings that have a fact of their own, or no effect
SAMPLED_ROWS = 64


def run_fingerprint(
    settings: Training, *, device: torch.device, objective: object, seed: int, processes: int, model: nn.Module,
    data: Observations,
) -> dict[str, str]:  # fmt: skip
    """A short fingerprint of each fact, by its name in words.

    Args:
        settings: of the training.
        device: where it computes.
        objective: what it makes small.
        seed: of noise, batches and the validation split.
        processes: how many share each batch.
        model: what is trained.
        data: what it is trained on, those held out included.

    Returns:
        Sixteen letters for each fact; equal facts have equal ones.
    """
    chosen = dataclasses.asdict(settings)
    facts: dict[str, Any] = {
        "settings": {name: value for name, value in chosen.items() if name not in FREE},
        "device": device.type,
        "precision or compile": [chosen["precision"], chosen["compile"]],
        "objective": [repr(objective), _shapes(objective) if isinstance(objective, nn.Module) else {}],
        "seed": seed,
        "number of processes": processes,
        "model": _shapes(model),
    }
    return {**{name: fingerprint(value) for name, value in facts.items()}, "data": fingerprint_of_data(data)}


def _shapes(module: nn.Module) -> dict[str, list[Any]]:
    return {name: [*value.shape, str(value.dtype)] for name, value in module.state_dict().items()}


def fingerprint(facts: object) -> str:
    """A short name of some facts.

    Args:
        facts: plain values, and what ``str`` describes.

    Returns:
        Sixteen hexadecimal digits.

    Example:
        >>> fingerprint([1, 2]) == fingerprint((1, 2)), fingerprint([1, 2]) == fingerprint([2, 1])
        (True, False)
    """
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(re.sub(r" at 0x[0-9a-fA-F]+", "", text).encode()).hexdigest()[:16]


def fingerprint_of_data(data: Observations) -> str:
    """A short name of observations, by their number, their form and the values of some of them.

    Args:
        data: observations.

    Returns:
        Sixteen hexadecimal digits.
    """
    rows = torch.linspace(0, len(data) - 1, min(len(data), SAMPLED_ROWS), dtype=torch.float64).long()
    values = data.take(rows).cpu().to(torch.float64).numpy()
    form = [len(data), list(data.shape), data.scale, data.binarise]
    return fingerprint([form, hashlib.sha256(values.tobytes()).hexdigest()])
