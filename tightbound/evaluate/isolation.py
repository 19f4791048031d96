"""An evaluation neither disturbs what surrounds it nor is disturbed by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn


def home(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device and floating-point type of a model: those of its first parameter or buffer that has one."""
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.get_default_dtype()


@contextmanager
def isolated(model: nn.Module, *, seed: int) -> Iterator[None]:
    """Evaluation mode, no gradients and a seed of its own, on the CPU and the model's GPU; all undone after."""
    device, _ = home(model)
    # Generators one by one: torch.manual_seed would reseed GPUs that this model does not use.
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index])
    states = [generator.get_state() for generator in generators]
    modes = [(module, module.training) for module in model.modules()]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
