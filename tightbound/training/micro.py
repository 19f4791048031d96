"""log p(x | z) and log p(z) of many draws in bounded memory: a few at a time, decoded again for the gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call, vjp

from tightbound.batch import Batch
from tightbound.conditional import every_parameter
from tightbound.execution import compiled, products_in
from tightbound.model import Model, with_log_joint
from tightbound.runtime import random_state, restore_random_state


def micro_batched(model: Model, rows: int, dtype: torch.dtype, *, compile: bool) -> Model:
    """The same model, its parts and parameters its own, whose ``log_joint`` is a :class:`MicroBatched` one."""
    return with_log_joint(model, MicroBatched(model, rows, dtype, compile=compile))


class MicroBatched:
    r"""A model's ``log_joint``, ``rows`` draws at a time, which keeps nothing of a decoder's insides.

    The gradient of a loss :math:`f(\log p(x \mid z), \log p(z))` needs, of the decoder, only the product of its
    Jacobian with the gradient of f. That is a sum over draws, so it is taken a few draws at a time, each decoded a
    second time: exact, at a third more work, in memory that grows neither with K nor with the batch.

    The second decoding draws the random numbers of the first and starts from the buffers that it started from; neither
    generator nor buffers are moved by it. A decoder whose layers mix observations (batch normalisation) sees other
    batches than it would in one piece. No gradient reaches the observations.

    References:
        Chen et al.: Training Deep Nets with Sublinear Memory Cost (2016), https://arxiv.org/abs/1604.06174.

    Args:
        model: whose; parameters stay its own.
        rows: draws decoded at a time, K times observations.
        dtype: of matrix products.
        compile: whether a micro-batch's score and gradient are compiled.
    """

    def __init__(self, model: Model, rows: int, dtype: torch.dtype, *, compile: bool = False) -> None:
        self.model, self.rows, self.dtype = _LogJoint(model), rows, dtype
        self.score = compiled(self._score) if compile else self._score
        self.pull = compiled(self._pull) if compile else self._pull

    def __call__(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
        if z.ndim < 2 or z.shape[1] != batch.size:
            raise ValueError(
                f"Expected latents z of shape (K, {batch.size}, *latent) for {batch.size} observations; got "
                f"{tuple(z.shape)}. Give them that shape, or train with micro_batch=0."
            )
        parameters = every_parameter(self.model)
        log_px_z, log_pz = _Recomputed.apply(
            self, list(parameters), batch._replace(q=None), z, *parameters.values()
        ).unbind(0)
        return log_px_z, log_pz

    def pieces(self, draws: int, observations: int) -> Iterator[tuple[slice, slice]]:
        """Slices of draws and of observations, together at most ``rows`` of them."""
        wide = min(observations, self.rows)
        deep = max(1, self.rows // wide)
        for k in range(0, draws, deep):
            for b in range(0, observations, wide):
                yield slice(k, k + deep), slice(b, b + wide)

    def _score(self, parameters: dict[str, Tensor], batch: Batch, z: Tensor) -> Tensor:
        with products_in(self.dtype, z.device):
            return functional_call(self.model, parameters, (batch, z), tie_weights=False)

    def _pull(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], batch: Batch, z: Tensor, cotangent: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        """Gradients by parameters and by z, and what the decoding leaves in the buffers."""

        def scored(parameters: dict[str, Tensor], z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            after = {name: buffer.clone() for name, buffer in buffers.items()}  # vjp lets only its own be written into
            return self._score({**parameters, **after}, batch, z), after

        _, pullback, after = vjp(scored, parameters, z, has_aux=True)  # type: ignore[misc]
        by_parameters, by_z = pullback(cotangent)
        return by_parameters, by_z, after


class _LogJoint(nn.Module):
    """A model's ``log_joint`` as a module, so that its parameters can be put in from outside."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, z: Tensor) -> Tensor:
        return torch.stack(self.model.log_joint(batch, z))


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, owner: MicroBatched, names: list[str], batch: Batch, z: Tensor, *parameters: Tensor
    ) -> Tensor:
        ctx.owner, ctx.names, ctx.batch, ctx.state = owner, names, batch, random_state(z.device)
        ctx.buffers = {name: buffer.clone() for name, buffer in owner.model.named_buffers()}
        ctx.save_for_backward(z, *parameters)
        named = dict(zip(names, parameters, strict=True))
        z = z.detach()  # the compiler warns of a tensor with a history
        out = z.new_empty(0)
        for k, b in owner.pieces(*z.shape[:2]):
            part = owner.score(named, batch.rows(b), z[k, b])
            out = out if len(out) else part.new_empty(2, *z.shape[:2])
            out[:, k, b] = part
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        z, *parameters = ctx.saved_tensors
        owner, named, z = ctx.owner, dict(zip(ctx.names, parameters, strict=True)), z.detach()
        wide = {name: torch.promote_types(p.dtype, torch.float32) for name, p in named.items()}
        sums = {name: torch.zeros_like(p, dtype=wide[name]) for name, p in named.items()}
        by_z, buffers = torch.empty_like(z), ctx.buffers
        # No own_random_state: a device's backward runs in a thread of autograd's, while the training's waits for it.
        outside = random_state(z.device)
        restore_random_state(ctx.state, z.device)
        try:
            for k, b in owner.pieces(*z.shape[:2]):
                by_parameters, by_z[k, b], buffers = owner.pull(
                    named, buffers, ctx.batch.rows(b), z[k, b], cotangent[:, k, b]
                )
                for name, gradient in by_parameters.items():
                    sums[name] += gradient
        finally:
            restore_random_state(outside, z.device)
        return None, None, None, by_z, *(sums[name].to(p.dtype) for name, p in named.items())
