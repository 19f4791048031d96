"""What a training has made of a run: its model, whether it has ended, and what to know before its numbers."""

from __future__ import annotations

import shlex

from tightbound.autoencoder import VAE
from tightbound.runs.measured import remark_on
from tightbound.runs.recipe import GIVEN, Recipe
from tightbound.runs.run import Run
from tightbound.runtime import resolve_device

UNFINISHED = "has not come to its end"
SLACK = 0.5  # steps, by which the last one may lie before the last epoch's end


def model_of(run: Run) -> VAE:
    """The run's model, on the device it was trained on where this machine has it.

    Args:
        run: any.

    Raises:
        ValueError: as :meth:`tightbound.runs.run.Run.model`.
    """
    try:
        device = resolve_device(run.recipe.train.device)
    except ValueError:
        device = resolve_device("auto")
    return run.model().to(device)


def remark_of(run: Run) -> str:
    """What a reader must know before any number of the run; empty where there is nothing.

    Args:
        run: any.
    """
    lines = run.metrics()
    if not lines:  # without them nobody knows
        return ""
    said = [remark_on(run.recipe, max(line["step"] for line in lines))]
    if not has_ended(run):
        at, all_of = lines[-1], run.recipe.train.epochs
        said.append(
            f"The training {UNFINISHED}: it is at step {at['step']}, epoch {at['epoch']:.3g} of {all_of:g}. It goes on "
            f"with: {_going_on(run)}."
        )
    return " ".join(filter(None, said))


def _going_on(run: Run) -> str:
    """The line that goes on with a training."""
    if not isinstance(run.recipe, Recipe):
        return run.recipe.again(str(run.path))
    data = " --data x.npy" * (run.recipe.data.source == GIVEN)
    return f"tightbound train --resume {shlex.quote(str(run.path))}{data}"


def has_ended(run: Run) -> bool:
    """Whether the run's training came to its end, at its last step or early; True where nobody wrote down how far.

    Args:
        run: any.
    """
    lines = run.metrics()
    if not lines:
        return True
    last, wanted = lines[-1], run.recipe.train
    better = [bool(line.get("best")) for line in lines if line["split"] == "validation"]
    early = 0 < wanted.patience <= len(better) and not any(better[-wanted.patience :])
    left = (wanted.epochs - last["epoch"]) * last["step"] / last["epoch"] if last["epoch"] else 1.0
    return early or left <= SLACK + 1e-4 * last["step"]  # epochs are written with four decimals
