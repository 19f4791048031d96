"""In which way a step is computed, decided once: the precision of matrix products, compiled or not."""

from __future__ import annotations

from dataclasses import dataclass

import torch

COST = 20.0  # seconds that a first compilation takes on two cores
SAVED = 0.35  # share of a step's time that it saves, at the sizes where that was measured
STEP = 1e-3  # seconds of a step that are there whatever its size
RATE = 2e11  # operations a second in matrix products


@dataclass(frozen=True)
class Execution:
    """How a step is computed; a resumed run computes it as it began.

    Args:
        precision: "float32" or "bfloat16", of matrix products.
        compiled: whether gradient and update are one compiled graph.
    """

    precision: str = "float32"
    compiled: bool = False

    @property
    def dtype(self) -> torch.dtype:
        """The precision as torch names it."""
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[self.precision]


def pays(*, steps: int, parameters: int, rows: int) -> bool:
    """Whether a training saves more by a compiled step than compiling costs: from sizes alone, so always the same.

    Args:
        steps: of the training.
        parameters: of the model.
        rows: observations times draws in a step.

    Example:
        >>> pays(steps=500, parameters=10_000, rows=64), pays(steps=100_000, parameters=10**6, rows=128)
        (False, True)
    """
    seconds = STEP + 6 * parameters * rows / RATE
    return steps * seconds * SAVED > COST
