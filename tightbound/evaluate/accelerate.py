"""Many draws at the hardware's speed: log-densities in one compiled graph, and products in 16 bits where they serve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from tightbound.batch import Batch
from tightbound.execution import (
    PRECISIONS,
    called_again,
    compiled,
    compiling,
    evaluation_pays,
    multiplies_bfloat16,
    obstacle,
    products_in,
)
from tightbound.model import Model

Function = Callable[[Batch, Tensor], tuple[Tensor, ...]]
Precision = Literal["auto", "float32", "bfloat16"]
SAME = 0.02  # nats: what 16-bit products may change in log p(x), far below its standard error on any test set
CHECKED = (8, 256)  # observations and draws that this is measured on


class Graph:
    """A function of a batch and of latents, compiled at the shape that it is first called with.

    Args:
        function: gives a tuple of tensors.
        compile: whether to compile it; where that fails the function remains as it is.
    """

    def __init__(self, function: Function, *, compile: bool) -> None:
        self._function, self._compile, self._shape = function, compile, torch.Size()
        self._compiled: Function | None = None

    def __call__(self, batch: Batch, z: Tensor) -> tuple[Tensor, ...]:
        batch = batch._replace(q=None)  # a compiled graph takes tensors only
        if self._compile:
            self._compile, self._shape = False, z.shape
            self._compiled = self._tried(batch, z)
        # A remainder of another shape would be compiled anew for a single use.
        if self._compiled is None or z.shape != self._shape:
            return self._function(batch, z)
        return self._compiled(batch, z)

    def _tried(self, batch: Batch, z: Tensor) -> Function | None:
        fast = compiled(self._function)
        try:
            with compiling():
                fast(batch, z)
                called_again(fast, batch, z)
        except Exception:  # a model may do anything; whatever the compiler says, the plain way remains
            return None
        return fast


class Accelerated:
    """A model's ``log_joint``, sooner.

    Args:
        model: whose.
        dtype: of matrix products in the decoder.
        compile: whether both log-densities are compiled into one graph.
    """

    def __init__(self, model: Model, dtype: torch.dtype, *, compile: bool) -> None:
        self.model, self.dtype, self.compile = model, dtype, compile
        self._graph = Graph(self.plainly, compile=compile)

    def __call__(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
        log_px_z, log_pz = self._graph(batch, z)
        return log_px_z, log_pz

    def plainly(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
        """The same, never compiled by itself: to be part of a larger graph."""
        with products_in(self.dtype, z.device):
            return self.model.log_joint(batch, z)


def accelerate(model: Model, batch: Batch, *, rows: int, precision: Precision) -> Accelerated:
    """The model's log-densities, fast where that is worth while.

    Args:
        model: in evaluation mode.
        batch: some observations, to check 16-bit products on.
        rows: draws to be scored in all.
        precision: "auto" takes bfloat16 where the device multiplies it natively and log p(x) comes out the same.

    Returns:
        What gives the numbers of ``model.log_joint``, to rounding.
    """
    pays = evaluation_pays(numbers=rows * batch.x[0].numel())
    if not (pays or precision == "bfloat16"):
        return Accelerated(model, torch.float32, compile=False)
    return Accelerated(model, _dtype(model, batch, precision), compile=pays and not obstacle())


def _dtype(model: Model, batch: Batch, precision: Precision) -> torch.dtype:
    if precision != "auto":
        return PRECISIONS[precision]
    if batch.x.dtype != torch.float32 or not multiplies_bfloat16(batch.x.device):
        return torch.float32
    return torch.bfloat16 if difference(model, batch) <= SAME else torch.float32


@torch.no_grad()
def difference(model: Model, batch: Batch) -> float:
    r"""How far 16-bit products move log p(x) of an observation, in nats, on average over some of them.

    Rounding adds :math:`\epsilon` to a log-weight; :math:`\log \mathbb{E}[w e^\epsilon]` then moves by about
    :math:`\mathbb{E}[\epsilon] + \operatorname{Var}[\epsilon] / 2`, whose size is taken for each observation by itself.

    Args:
        model: in evaluation mode.
        batch: observations.

    Returns:
        The mean over observations.
    """
    few, draws = CHECKED
    batch = batch.rows(slice(0, few))
    z, _ = model.propose(batch, draws)
    exact = torch.stack(model.log_joint(batch, z)).sum(0)
    rough = torch.stack(Accelerated(model, torch.bfloat16, compile=False)(batch, z)).sum(0)
    return rounding_moves(rough - exact)


def rounding_moves(error: Tensor) -> float:
    """What errors of log-weights move in log p(x): see :func:`difference`.

    Args:
        error: of each draw's log-weight, shape (K, B), in nats.

    Returns:
        The mean over observations, in nats.

    Example:
        >>> rounding_moves(torch.tensor([[0.1, -0.2], [0.1, -0.2]]))
        0.15...
    """
    moved = error.mean(0).abs() + error.var(0) / 2
    return float(moved.mean())
