"""What is told as a training begins: where it computes, what it sees, and what it trains."""

from __future__ import annotations

import torch

from tightbound.architecture import in_words, parameters_of
from tightbound.training.loop import Loop


def opening(loop: Loop) -> str:
    """Device, data, architecture and size, in two lines; a third one where a training goes on.

    Args:
        loop: begun, or gone on with.
    """
    setup, step = loop.setup, loop.step
    lines = [f"Training on {_place(loop)}: {_data(loop)}."]
    lines.append(f"{in_words(step.model)}; {parameters_of(step.model):,} parameters.")
    if loop.at.number:
        lines.append(f"Going on behind step {loop.at.number:,} of {setup.steps:,}.")
    return "\n".join(lines)


def _place(loop: Loop) -> str:
    device, execution, count = loop.step.device, loop.step.execution, loop.setup.world.count
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    how = [f"{device}{name}"]
    how += [f"{count} processes"] if count > 1 else []
    how += [execution.precision] if execution.precision != "float32" else []
    return ", ".join([*how, *(["compiled"] if execution.compiled else [])])


def _data(loop: Loop) -> str:
    setup = loop.setup
    given, held_out = len(setup.looked_at[0]), 0 if setup.held_out is None else len(setup.held_out)
    said = f"{given:,} observation{'' if given == 1 else 's'} of {'×'.join(map(str, setup.data.shape))}"
    if given > len(setup.data):
        return f"{said}, {held_out:,} of them held out for validation"
    return f"{said}, {held_out:,} others for validation" if held_out else f"{said}, none held out for validation"
