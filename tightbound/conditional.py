"""Conditional distributions: modules whose ``forward(context)`` is a distribution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call


class Conditional(nn.Module, ABC):
    """A distribution given a context: the one interface of priors, posteriors and likelihoods.

    A subclass writes :meth:`forward`; ``event_shape`` of what it returns must be the shape of one observation or one
    latent, so that ``log_prob`` sums over it.
    """

    @abstractmethod
    def forward(self, context: Tensor | None = None) -> Distribution:
        """The distribution given ``context`` (None for a prior)."""

    def log_prob(self, value: Tensor, context: Tensor | None = None, *, frozen: bool = False) -> Tensor:
        r"""Log-density of ``value`` given ``context``, in nats.

        Args:
            value: shape (\*batch, \*event).
            context: what the distribution is conditioned on.
            frozen: whether parameters are held constant, so that a gradient flows through ``value`` and ``context``
                only (Roeder, Wu, Duvenaud 2017, https://arxiv.org/abs/1703.09194).

        Returns:
            Log-densities, shape (\*batch).
        """
        if not frozen:
            return self(context).log_prob(value)
        constants = {name: p.detach() for name, p in self.every_parameter().items()}
        return self.log_prob_with(constants, value, context)

    def log_prob_with(self, parameters: dict[str, Tensor], value: Tensor, context: Tensor | None = None) -> Tensor:
        """:meth:`log_prob` with other values for parameters, by the names of :meth:`every_parameter`."""
        # The whole of log_prob runs with them in place: a flow reads its parameters only there.
        named = {f"conditional.{name}": p for name, p in parameters.items()}
        return functional_call(_LogProb(self), named, (value, context), tie_weights=False)

    def every_parameter(self) -> dict[str, Tensor]:
        """Parameters by name, a shared one under each of its names: once for each module that holds it."""
        # Names of whole modules come once each: functional_call leaves a module swapped that it meets under two names.
        return {
            f"{prefix}.{name}" if prefix else name: p
            for prefix, module in self.named_modules()
            for name, p in module.named_parameters(recurse=False, remove_duplicate=False)
        }


class _LogProb(nn.Module):
    def __init__(self, conditional: Conditional) -> None:
        super().__init__()
        self.conditional = conditional

    def forward(self, value: Tensor, context: Tensor | None) -> Tensor:
        return self.conditional.log_prob(value, context)


class Networked(Conditional, ABC):
    """A conditional whose parameters are a network's output.

    Args:
        network: any module from context to the parameters of the distribution.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def outputs(self, context: Tensor) -> Tensor:
        """The network's output in at least single precision: a network may run in half, a log-density never does."""
        out = self.network(context)
        return out.float() if out.dtype in (torch.bfloat16, torch.float16) else out


@contextmanager
def unvalidated() -> Iterator[None]:
    """Switch off the argument checks of ``torch.distributions`` for values known to be good, then restore them."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)
