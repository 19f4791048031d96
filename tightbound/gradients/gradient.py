"""What a gradient is: a way from a bound to its derivative by the parameters."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from tightbound.batch import Batch
from tightbound.bounds import BoundFunction
from tightbound.draws import Draws
from tightbound.model import Model


class Gradient(ABC):
    """A way from a bound to its gradient."""

    @abstractmethod
    def __call__(
        self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int, step: Tensor | None = None
    ) -> tuple[Tensor, Draws]:
        """The surrogate of a bound, and the draws that it was taken of.

        Args:
            model: any.
            batch: B observations.
            bound: from draws to (B,), in nats.
            samples: how many draws, K.
            step: of the training, for what follows a schedule; None for its end.

        Returns:
            The surrogate, shape (B,), in nats, whose value is that of ``bound``; and the draws.
        """
