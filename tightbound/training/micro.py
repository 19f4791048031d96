"""Likelihoods of many draws in bounded memory: a few at a time, decoded again for the gradient."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import Distribution
from torch.func import vjp

from tightbound.conditional import Conditional
from tightbound.model import VAE
from tightbound.runtime import compiled, own_random_state, products_in, random_state, restore_random_state


def micro_batched(model: VAE, rows: int, dtype: torch.dtype, *, compile: bool) -> VAE:
    """The same model, its parts and parameters its own, with a :class:`MicroBatched` likelihood."""
    twin = copy.copy(model)
    twin._modules = dict(model._modules)
    twin.likelihood = MicroBatched(model.likelihood, rows, dtype, compile=compile)
    return twin


class MicroBatched(Conditional):
    r"""A likelihood that scores as another does, ``rows`` draws at a time, and keeps nothing of a decoder's insides.

    The gradient of a loss :math:`f(\log p(x \mid z))` needs, of the decoder, only the product of its Jacobian with
    :math:`\partial f / \partial \log p(x \mid z)`. That is a sum over draws, so it is taken a few draws at a time, each
    decoded a second time: exact, at a third more work, in memory that grows neither with K nor with the batch.

    The second decoding draws the random numbers of the first and starts from the buffers that it started from; neither
    generator nor buffers are moved by it. A decoder whose layers mix observations (batch normalisation) sees other
    batches than it would in one piece. No gradient reaches the observations.

    References:
        Chen et al.: Training Deep Nets with Sublinear Memory Cost (2016), https://arxiv.org/abs/1604.06174.

    Args:
        likelihood: what it stands for; its parameters stay its own.
        rows: draws decoded at a time, K times observations.
        dtype: of matrix products.
        compile: whether a micro-batch's score and gradient are compiled.
    """

    def __init__(self, likelihood: Conditional, rows: int, dtype: torch.dtype, *, compile: bool = False) -> None:
        super().__init__()
        self.likelihood, self.rows, self.dtype = likelihood, rows, dtype
        self.score = compiled(self._score) if compile else self._score
        self.pull = compiled(self._pull) if compile else self._pull

    def forward(self, context: Tensor | None = None) -> Distribution:
        return self.likelihood(context)

    def log_prob(self, value: Tensor, context: Tensor | None = None, *, frozen: bool = False) -> Tensor:
        if context is None:
            raise TypeError("Expected latents z of shape (K, B, *latent); got None. A likelihood is conditional on z.")
        if context.ndim == 2:  # one draw, its axis left out
            return self.log_prob(value, context[None], frozen=frozen)[0]
        if len(value) != context.shape[1]:
            raise ValueError(
                f"Expected latents z of shape (K, {len(value)}, *latent) for {len(value)} observations; "
                f"got {tuple(context.shape)}. Give them that shape, or train with micro_batch=0."
            )
        parameters = {name: p.detach() if frozen else p for name, p in self.likelihood.every_parameter().items()}
        log_prob: Tensor = _Recomputed.apply(self, list(parameters), value, context, *parameters.values())
        return log_prob

    def pieces(self, draws: int, observations: int) -> Iterator[tuple[slice, slice]]:
        """Slices of draws and of observations, together at most ``rows`` of them."""
        wide = min(observations, self.rows)
        deep = max(1, self.rows // wide)
        for k in range(0, draws, deep):
            for b in range(0, observations, wide):
                yield slice(k, k + deep), slice(b, b + wide)

    def _score(self, parameters: dict[str, Tensor], x: Tensor, z: Tensor) -> Tensor:
        with products_in(self.dtype, z.device):
            return self.likelihood.log_prob_with(parameters, x, z)

    def _pull(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, z: Tensor, cotangent: Tensor
    ) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        """Gradients by parameters and by z, and what the decoding leaves in the buffers."""

        def scored(parameters: dict[str, Tensor], z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
            after = {name: buffer.clone() for name, buffer in buffers.items()}  # vjp lets only its own be written into
            return self._score({**parameters, **after}, x, z), after

        _, pullback, after = vjp(scored, parameters, z, has_aux=True)  # type: ignore[misc]
        by_parameters, by_z = pullback(cotangent)
        return by_parameters, by_z, after


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, owner: MicroBatched, names: list[str], x: Tensor, z: Tensor, *parameters: Tensor) -> Tensor:
        ctx.owner, ctx.names, ctx.state = owner, names, random_state(z.device)
        ctx.buffers = {name: buffer.clone() for name, buffer in owner.likelihood.named_buffers()}
        ctx.save_for_backward(x, z, *parameters)
        named = dict(zip(names, parameters, strict=True))
        z = z.detach()  # the compiler warns of a tensor with a history
        out = z.new_empty(0)
        for k, b in owner.pieces(*z.shape[:2]):
            part = owner.score(named, x[b], z[k, b])
            out = out if len(out) else part.new_empty(z.shape[:2])
            out[k, b] = part
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        x, z, *parameters = ctx.saved_tensors
        owner, named, z = ctx.owner, dict(zip(ctx.names, parameters, strict=True)), z.detach()
        wide = {name: torch.promote_types(p.dtype, torch.float32) for name, p in named.items()}
        sums = {name: torch.zeros_like(p, dtype=wide[name]) for name, p in named.items()}
        by_z, buffers = torch.empty_like(z), ctx.buffers
        with own_random_state(z.device):
            restore_random_state(ctx.state, z.device)
            for k, b in owner.pieces(*z.shape[:2]):
                by_parameters, by_z[k, b], buffers = owner.pull(named, buffers, x[b], z[k, b], cotangent[k, b])
                for name, gradient in by_parameters.items():
                    sums[name] += gradient
        return None, None, None, by_z, *(sums[name].to(p.dtype) for name, p in named.items())
