"""Checkpoints: everything a run depends on, written atomically and read without running anybody's code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tightbound.files import write_atomically

FORMAT = 1
WEIGHTS = "model.safetensors"
STATE = Path("checkpoint") / "state.pt"


def save_state(run: Path, state: dict[str, Any]) -> None:
    """Write the trainer's state: tensors, numbers, strings and containers of them."""
    write_atomically(run / STATE, lambda path: torch.save({"format": FORMAT, **state}, path))


def load_state(run: Path) -> dict[str, Any]:
    """Read the trainer's state.

    Raises:
        ValueError: where there is none, or it is damaged, of another version, or holds anything but plain values.
    """
    path = run / STATE
    if not path.is_file():
        raise ValueError(f"Expected a checkpoint to resume from; got none at {path}. Was the run ever started?")
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # a hostile file may provoke anything; none of it may pass for a checkpoint
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"Expected a checkpoint of plain tensors; got a damaged or foreign file at {path} ({first}). "
            "Nothing in it was run."
        ) from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"Expected a checkpoint of format {FORMAT}; got another one at {path}.")
    return state


def save_weights(run: Path, weights: dict[str, Tensor]) -> None:
    """Write a model's weights as safetensors."""
    plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    write_atomically(run / WEIGHTS, lambda path: save_file(plain, path))


def load_weights(run: Path, model: nn.Module) -> None:
    """Read a model's weights into ``model``.

    Raises:
        ValueError: where they are missing, damaged, no safetensors file, or of another model.
    """
    path = run / WEIGHTS
    if not path.is_file():
        raise ValueError(f"Expected weights at {path}; got no such file. Did the training finish its first epoch?")
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"Expected a safetensors file at {path}; got a damaged or foreign one ({error}). Nothing in it was run."
        ) from None
    expected = model.state_dict()
    wrong = sorted(
        name
        for name in weights.keys() | expected.keys()
        if name not in weights or name not in expected or weights[name].shape != expected[name].shape
    )
    if wrong:
        raise ValueError(
            f"Expected the weights of the recipe's model in {path}; got others: {', '.join(wrong[:3])} missing, extra "
            "or of another shape. Recipe and weights do not belong together."
        )
    model.load_state_dict(weights)


def fingerprint(facts: dict[str, Any]) -> str:
    """A short name of what must not change between a run and its continuation."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]
