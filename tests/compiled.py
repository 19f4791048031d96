"""The compiled step beside the plain one, for whatever model and objective."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tightbound as tb
from tightbound.execution import Execution, obstacle
from tightbound.settings import Training
from tightbound.training.step import TrainStep


def compiles(test: Any) -> Any:
    """Marks a test that needs a compiler."""
    quiet = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # the compiler's own
    return quiet(pytest.mark.skipif(bool(obstacle()), reason="nothing can be compiled here")(test))


def assert_compiled_is_plain(model: tb.Model, objective: Any, batch: tb.Batch) -> None:
    """The same noise gives the same gradients, to rounding."""
    step = TrainStep(model, objective, Training(), steps=10, device=torch.device("cpu"))
    found = []
    for compiled in (False, True):
        step.use(Execution(compiled=compiled))
        torch.manual_seed(3)
        step.gradient(batch._replace(checked=True), 0)
        found.append([g.clone() for g in step.gradients])
    for plain, fast in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
