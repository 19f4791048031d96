"""Checkpoints: everything a run depends on, written atomically and read without running anybody's code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tightbound.files import as_safetensors, foreign, read_tensors, require_kept, shapes_in, write_kept

FORMAT = 3
WEIGHTS = "model.safetensors"
OBJECTIVE = "objective.safetensors"
STATE = Path("checkpoint") / "state.pt"
AS_IT_IS = "Its weights are there: evaluate it, report it, or train on from them with --resume RUN --train.epochs N."
OLDER = Path("checkpoint") / "older.pt"  # the state before it


def save_state(run: Path, state: dict[str, Any]) -> None:
    """Write the trainer's state: tensors, numbers, strings and containers of them. The one before it is kept."""
    write_kept(run, str(STATE), lambda path: torch.save({"format": FORMAT, **state}, path), older=str(OLDER))


def has_state(run: Path) -> bool:
    """Whether there is a state to go on from."""
    return (run / STATE).exists() or (run / OLDER).exists()


def load_state(run: Path, *, ended: bool = False) -> dict[str, Any]:
    """Read the trainer's state: the newest, or the one before it where the newest was removed.

    Args:
        run: the run's folder.
        ended: whether the training has ended: then only the newest will do, as any other would train it again.

    Raises:
        ValueError: where there is none, or it is damaged, of another version, or holds anything but plain values.
    """
    if ended and not (run / STATE).is_file():
        raise ValueError(
            f"Expected a run with a checkpoint to go on from; got {run}, which has ended and whose checkpoint is gone. "
            f"{AS_IT_IS}"
        )
    name = OLDER if is_older(run) else STATE
    if not (run / name).is_file():
        raise ValueError(f"Expected a checkpoint to resume from; got none at {run / STATE}. Was the run ever started?")
    try:
        return _state(run, name)
    except ValueError as error:
        other = f" The run has ended. {AS_IT_IS}" if ended else _other_way(run, name)
        raise ValueError(f"{error}{other}") from None


def is_older(run: Path) -> bool:
    """Whether the newest state is missing and the one before it is there."""
    return not (run / STATE).is_file() and (run / OLDER).is_file()


def _other_way(run: Path, damaged: Path) -> str:
    """What else there is to go on from, in words."""
    if damaged == OLDER or not (run / OLDER).is_file():
        return ""
    try:
        step = int(_state(run, OLDER)["standing"]["number"])
    except (ValueError, KeyError, TypeError):
        return ""
    return f" The state before it, of step {step}, is whole: remove {run / STATE}, and --resume goes on from there."


def _state(run: Path, name: Path) -> dict[str, Any]:
    path = run / name
    require_kept(run, str(name), as_written=str(STATE))
    with foreign(path, "a checkpoint of plain tensors"):
        state = torch.load(path, weights_only=True, map_location="cpu")
    if not isinstance(state, dict) or type(state.get("format")) is not int or state["format"] != FORMAT:
        raise ValueError(
            f"Expected a checkpoint of format {FORMAT}; got another one at {path}. Another version of tightbound wrote "
            "it: go on with that version, or train anew."
        )
    return state


def save_weights(run: Path, weights: dict[str, dict[str, Tensor]]) -> None:
    """Write a model's weights as safetensors, and those of an objective that has any beside them."""
    for name, part in ((WEIGHTS, "model"), (OBJECTIVE, "objective")):
        if part == "model" or weights.get(part):
            data = as_safetensors(weights[part])
            write_kept(run, name, lambda path, data=data: path.write_bytes(data))  # type: ignore[misc]


def check_weights(run: Path, model: nn.Module) -> None:
    """Compare a run's weights with a model, by name and shape: neither of the two need take any memory.

    Raises:
        ValueError: where they are missing, damaged, no safetensors file, or of another model.
    """
    path = run / WEIGHTS
    if not path.is_file():
        raise ValueError(
            f"Expected weights at {path}; got no such file. They are written when the training ends: resume it if it "
            "was killed."
        )
    require_kept(run, WEIGHTS)
    with foreign(path, "a safetensors file"):
        found = shapes_in(path)
    _expect_same(path, found, {name: tuple(value.shape) for name, value in model.state_dict().items()})


def load_weights(run: Path, model: nn.Module) -> None:
    """Read a run's weights into a model; raises what :func:`check_weights` does."""
    check_weights(run, model)
    with foreign(run / WEIGHTS, "a safetensors file"):
        weights = read_tensors(run / WEIGHTS)
    expected = model.state_dict()
    _expect_same(run / WEIGHTS, {k: v.dtype for k, v in weights.items()}, {k: v.dtype for k, v in expected.items()})
    model.load_state_dict(weights)


def _expect_same(path: Path, found: dict[str, Any], expected: dict[str, Any]) -> None:
    wrong = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if wrong:
        raise ValueError(
            f"Expected the weights of the run's model in {path}; got others: {', '.join(wrong[:3])} missing, extra "
            "or of another shape or dtype. Model and weights do not belong together."
        )
