"""Conditional distributions: modules whose ``forward(context)`` is a distribution."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.func import functional_call

__all__ = [
    "Conditional", "Held", "Networked", "as_parts", "at_least_single", "bounded", "every_parameter", "outputs_of",
]  # fmt: skip


class Conditional(nn.Module, ABC):
    """A distribution given a context: the one interface of priors, posteriors and likelihoods.

    A subclass writes :meth:`forward`; ``event_shape`` of what it returns must be the shape of one observation or one
    latent, so that ``log_prob`` sums over it. Pass ``validate_args=False`` to the distributions you make: torch's own
    checks take time in each step and keep it from being compiled, and the library looks at the data once beforehand.
    """

    @property
    def shared(self) -> tuple[nn.Module, ...]:
        """Modules whose parameters it reads and which belong to another part of the model; none by default."""
        return ()

    @abstractmethod
    def forward(self, context: Tensor | None = None) -> Distribution:
        """The distribution given a context.

        Args:
            context: what it is conditioned on: x for a posterior, z for a likelihood, None for a prior.

        Returns:
            A distribution whose event is one latent, or one observation.
        """

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
        # The whole of log_prob runs with the constants in place: a flow reads its parameters only there.
        return Held(_LogProb(self))(value, context)


class Held(nn.Module):
    """A module whose parameters are held constant, so that a gradient flows through its input alone.

    Args:
        module: whose; it is itself unchanged.

    Example:
        >>> Held(nn.Linear(2, 1))(torch.zeros(3, 2)).requires_grad
        False
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor | None) -> Tensor:
        constants = {name: p.detach() for name, p in every_parameter(self.module).items()}
        return functional_call(self.module, constants, inputs, tie_weights=False)


class _LogProb(nn.Module):
    def __init__(self, conditional: Conditional) -> None:
        super().__init__()
        self.conditional, self.shared = conditional, nn.ModuleList(conditional.shared)

    def forward(self, value: Tensor, context: Tensor | None) -> Tensor:
        return self.conditional.log_prob(value, context)


def every_parameter(module: nn.Module) -> dict[str, Tensor]:
    """Parameters by name, a shared one under each of its names: once for each module that holds it.

    Args:
        module: any.

    Returns:
        Names and parameters, as ``functional_call(…, tie_weights=False)`` wants them.

    Example:
        >>> [*every_parameter(nn.Linear(2, 1))]
        ['weight', 'bias']
    """
    # Names of whole modules come once each: functional_call leaves a module swapped that it meets under two names.
    return {
        f"{prefix}.{name}" if prefix else name: p
        for prefix, module in module.named_modules()
        for name, p in module.named_parameters(recurse=False, remove_duplicate=False)
    }


class Networked(Conditional, ABC):
    """A conditional whose parameters are a network's output.

    Args:
        network: any module from a batch of contexts to a batch of outputs, one tensor to one tensor.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def outputs(self, context: Tensor, *, lead: int = 1) -> Tensor:
        """The network's output, in at least single precision: a network may run in half, a log-density never does.

        The network always sees one batch axis, as networks are written, however many axes lead the context.

        Args:
            context: what the network takes, behind ``lead`` axes of draws and observations.
            lead: how many those are.

        Returns:
            The output behind the same leading axes.

        Raises:
            TypeError: for a network that gives anything but one tensor.
            ValueError: for a network whose output has another number of rows than its input.
        """
        return outputs_of(self.network, context, lead=lead)


def outputs_of(network: nn.Module, context: Tensor, *, lead: int = 1) -> Tensor:
    """What a network makes of contexts behind any axes; see :meth:`Networked.outputs`.

    Args:
        network: one tensor to one tensor.
        context: what it takes, behind ``lead`` axes.
        lead: how many those are.

    Example:
        >>> outputs_of(nn.Linear(2, 5), torch.zeros(7, 3, 2), lead=2).shape
        torch.Size([7, 3, 5])
    """
    axes = context.shape[:lead]
    out = network(context if lead == 1 else context.reshape(axes.numel(), *context.shape[lead:]))
    if not isinstance(out, Tensor):
        raise TypeError(
            f"Expected a network that gives one tensor; got {_described(out)} from {type(network).__name__}. "
            "Join several outputs in the network's forward: torch.cat([mean, log_variance], -1)."
        )
    if out.ndim == 0 or out.shape[0] != axes.numel():
        raise ValueError(
            f"Expected one output of {type(network).__name__} for each of {axes.numel()} inputs; got "
            f"{tuple(out.shape)}. The network must keep the first axis: z.view(len(z), ...)."
        )
    out = at_least_single(out)
    return out if lead == 1 else out.reshape(*axes, *out.shape[1:])


def at_least_single(out: Tensor) -> Tensor:
    """A network's output as densities want it: a network may run in half precision, a log-density never does.

    Args:
        out: of any floating-point type.

    Example:
        >>> at_least_single(torch.zeros(1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return out.float() if out.dtype in (torch.bfloat16, torch.float16) else out


def bounded(raw: Tensor, low: float = -16.0, high: float = 4.0) -> Tensor:
    r"""Numbers as they are between two bounds; beyond these they bend, and go no further than half as far again.

    .. math:: f(x) = b + r \tanh \frac{x - b}{r}, \qquad r = \frac{h - l}{4}, \qquad x \text{ beyond the bound } b

    Args:
        raw: any numbers. The default bounds are for log-variances: deviations between 3·10⁻⁴ and 7.4 are as the
            network says, and none is below 3·10⁻⁵ or above 90.
        low: where they begin to bend, l.
        high: the same at the other end, h.

    Returns:
        Numbers of the same shape, at most r beyond the bounds.

    Example:
        >>> bounded(torch.tensor([-1e9, 1.5, 1e9]))
        tensor([-21.0000,   1.5000,   9.0000])
    """
    rest = (high - low) / 4
    within = raw.clamp(low, high)
    return within + rest * torch.tanh((raw - within) / rest)


def _described(out: object) -> str:
    name = type(out).__name__
    return f"a {name} of {len(out)}" if isinstance(out, (tuple, list, dict)) else name


def as_parts(parts: Sequence[nn.Module], example: str, *, kind: type[nn.Module] = Conditional) -> nn.ModuleList:
    """Conditionals that stand side by side in another one.

    Args:
        parts: at least one.
        example: of one, for the message.
        kind: what each must be.

    Returns:
        The same as modules.

    Raises:
        ValueError: for none.
        TypeError: for anything else among them.

    Example:
        >>> as_parts([], "tb.priors.StandardNormal(2)")
        Traceback (most recent call last):
        ...
        ValueError: Expected at least one part; got none. For example: [tb.priors.StandardNormal(2)].
    """
    if len(parts) == 0:
        raise ValueError(f"Expected at least one part; got none. For example: [{example}].")
    for part in parts:
        if not isinstance(part, kind):
            raise TypeError(
                f"Expected parts that are each a {kind.__name__}; got {type(part).__name__}. For example: {example}."
            )
    return nn.ModuleList(parts)
