"""Many draws at the hardware's speed: densities in one compiled graph, and products in 16 bits where they serve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.conditional import Conditional, unvalidated
from tightbound.draws import Draws
from tightbound.model import VAE
from tightbound.runtime import called_again, compiled, multiplies_bfloat16, obstacle, products_in

Precision = Literal["auto", "float32", "bfloat16"]
SAME = 0.02  # nats: what 16-bit products may change in log p(x), far below its standard error on any test set
CHECKED = (8, 256)  # observations and draws that this is measured on
COST = 20.0  # seconds that compiling takes
SAVED = 2e-9  # seconds that a compiled kernel saves for each number the decoder writes


class Fast(VAE):
    """A model whose draws are weighed sooner; its parts, and so its parameters, are another model's.

    Args:
        model: what it stands for, with ``draw`` and ``weigh`` as ``VAE`` has them.
        dtype: of matrix products in the decoder.
        compile: whether the three log-densities are compiled into one graph.
    """

    def __init__(self, model: VAE, dtype: torch.dtype, *, compile: bool) -> None:
        super().__init__(model.prior, model.posterior, model.likelihood)  # itself: errors are told of it
        self._weighing = VAE(model.prior, model.posterior, _InPrecision(model.likelihood, dtype))
        self._compile, self._shape = compile, torch.Size()
        self._compiled: Callable[..., Draws] | None = None

    def weigh(self, x: Tensor, z: Tensor, q: Distribution) -> Draws:
        if self._compile:
            self._compile, self._shape = False, z.shape
            self._compiled = self._tried(x, z)
        # A remainder of another shape would be compiled anew for a single use.
        if self._compiled is None or z.shape != self._shape:
            return self._weighing.weigh(x, z, q)
        return self._compiled(x, z)

    def _tried(self, x: Tensor, z: Tensor) -> Callable[..., Draws] | None:
        fast = compiled(self._weigh_anew)
        try:
            fast(x, z)
            called_again(fast, x, z)
        except Exception:  # a model may do anything; whatever the compiler says, the plain way remains
            return None
        return fast

    def _weigh_anew(self, x: Tensor, z: Tensor) -> Draws:
        # A compiled graph takes tensors only, so it encodes x once more: one row for many draws.
        return self._weighing.weigh(x, z, self.posterior(x))


class _InPrecision(Conditional):
    """A likelihood whose matrix products are in ``dtype``."""

    def __init__(self, likelihood: Conditional, dtype: torch.dtype) -> None:
        super().__init__()
        self.likelihood, self.dtype = likelihood, dtype

    def forward(self, context: Tensor | None = None) -> Distribution:
        return self.likelihood(context)

    def log_prob(self, value: Tensor, context: Tensor | None = None, *, frozen: bool = False) -> Tensor:
        with products_in(self.dtype, value.device):
            return self.likelihood.log_prob(value, context, frozen=frozen)


def accelerate(model: VAE, x: Tensor, *, rows: int, precision: Precision) -> tuple[VAE, str]:
    """The model, fast where that is worth while, and the precision of its products.

    Args:
        model: in evaluation mode. One with a ``weigh`` or ``draw`` of its own is left as it is.
        x: some observations, to check 16-bit products on.
        rows: draws to be scored in all.
        precision: "auto" takes bfloat16 where the device multiplies it natively and log p(x) comes out the same.
    """
    worth_while = rows * x[0].numel() * SAVED > COST
    if type(model) is not VAE or not (worth_while or precision == "bfloat16"):
        return model, "float32"
    dtype, compile = _dtype(model, x, precision), worth_while and not obstacle()
    return Fast(model, dtype, compile=compile).eval(), str(dtype).removeprefix("torch.")


def _dtype(model: VAE, x: Tensor, precision: Precision) -> torch.dtype:
    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    if x.dtype != torch.float32 or not multiplies_bfloat16(x.device):
        return torch.float32
    return torch.bfloat16 if difference(model, x) <= SAME else torch.float32


def difference(model: VAE, x: Tensor) -> float:
    r"""How far 16-bit products move log p(x) of an observation, in nats, on average over some of them.

    Rounding adds :math:`\epsilon` to a log-weight; :math:`\log \mathbb{E}[w e^\epsilon]` then moves by about
    :math:`\mathbb{E}[\epsilon] + \operatorname{Var}[\epsilon] / 2`, whose size is taken for each observation by itself.
    """
    few, draws = CHECKED
    with unvalidated(), torch.no_grad():
        q = model.encode(x[:few])
        z = q.sample(torch.Size([draws]))
        exact = model.likelihood.log_prob(x[:few], z)
        rough = Fast(model, torch.bfloat16, compile=False).weigh(x[:few], z, q).log_px_z
    error = rough - exact
    moved = error.mean(0).abs() + error.var(0) / 2
    return float(moved.mean())
