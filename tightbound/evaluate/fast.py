"""The likelihood of many draws at the hardware's speed: one compiled kernel, and 16 bits where they serve."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.conditional import Conditional, unvalidated
from tightbound.model import VAE
from tightbound.runtime import compiled, multiplies_bfloat16, obstacle, products_in

Precision = Literal["auto", "float32", "bfloat16"]
SAME = 0.02  # nats: what 16-bit products may change in log p(x), far below its standard error on any test set
CHECKED = (8, 256)  # observations and draws that this is measured on
COST = 20.0  # seconds that compiling takes
SAVED = 2e-9  # seconds that a compiled kernel saves for each number the decoder writes


class Fast(Conditional):
    """A likelihood that scores as another does, sooner.

    Args:
        likelihood: what it stands for; its parameters stay its own.
        dtype: of matrix products.
        compile: whether densities are fused into one kernel.
    """

    def __init__(self, likelihood: Conditional, dtype: torch.dtype, *, compile: bool) -> None:
        super().__init__()
        self.likelihood, self.dtype = likelihood, dtype
        self._scored = compiled(self._score) if compile else self._score
        self._shape: torch.Size | None = None

    def forward(self, context: Tensor | None = None) -> Distribution:
        return self.likelihood(context)

    def log_prob(self, value: Tensor, context: Tensor | None = None, *, frozen: bool = False) -> Tensor:
        if context is None:
            raise TypeError("Expected latents; got None.")
        self._shape = self._shape or context.shape
        # A remainder of another shape would be compiled anew for a single use.
        scored = self._scored if context.shape == self._shape else self._score
        return scored(value, context)

    def _score(self, value: Tensor, context: Tensor) -> Tensor:
        with products_in(self.dtype, context.device):
            return self.likelihood.log_prob(value, context)


def faster(model: VAE, x: Tensor, *, rows: int, precision: Precision) -> tuple[VAE, str]:
    """The model with a fast likelihood where that is worth while, and the precision of its products.

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
    fast = VAE(model.prior, model.posterior, Fast(model.likelihood, dtype, compile=compile)).eval()
    return fast, str(dtype).removeprefix("torch.")


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
        rough = Fast(model.likelihood, torch.bfloat16, compile=False).log_prob(x[:few], z)
    error = rough - exact
    moved = error.mean(0).abs() + error.var(0) / 2
    return float(moved.mean())
