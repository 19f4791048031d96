"""Normalising flows: normal noise bent by invertible steps, whose networks and splines are the library zuko's."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, ClassVar, Literal, get_args

import torch
import torch.distributions as td
from torch import Tensor, nn
from torch.distributions import constraints
from torch.func import functional_call

from tightbound.conditional import every_parameter
from tightbound.runtime import only_thread

__all__ = ["Bent", "Steps"]

Kind = Literal["autoregressive", "spline"]
BINS = 8  # of a spline
LARGEST = 2**28  # weights of one flow: its masks are made before anyone could look at an outline of it
INSTALL = "pip install 'tightbound[flows]'"


@functools.cache
def zuko() -> ModuleType:
    """The library of flows, imported when the first flow is made, and what its import does to torch undone.

    Zuko switches the argument checks of all of ``torch.distributions`` off as it is imported. Here the switch goes on
    zuko's own distributions instead, so that they work as their author meant and everybody else's stay as they were.
    What remains is one method more on torch's ``Transform``, ``call_and_ladj``, which zuko's transforms call.

    Returns:
        The module ``zuko``.

    Raises:
        ModuleNotFoundError: where it is not installed, with the command that installs it.

    Example:
        >>> before = td.Distribution._validate_args
        >>> zuko().__name__, td.Distribution._validate_args == before
        ('zuko', True)
    """
    with only_thread():  # a second thread would take the switch as the first one's import has just left it
        validates, asked_of = td.Distribution._validate_args, td.Distribution.arg_constraints
        inverse = td.transforms._InverseTransform
        name = inverse.__name__
        try:
            import zuko.distributions
            import zuko.flows
        except ImportError as error:
            raise ModuleNotFoundError(
                f"Expected the library zuko, which flows are made of; got none. Install it: {INSTALL}"
            ) from error
        finally:
            td.Distribution.set_default_validate_args(validates)
            td.Distribution.arg_constraints = asked_of  # type: ignore[method-assign]
            inverse.__name__ = name
        for own in vars(zuko.distributions).values():
            if isinstance(own, type) and own.__module__ == "zuko.distributions":
                own._validate_args = False  # type: ignore[attr-defined]
        return zuko


class Steps(nn.Module):
    r"""Invertible steps between noise and a latent, each masked so that its Jacobian is triangular.

    A step moves element i of a vector by a map that is monotone in it and depends on the elements before it and on a
    context, :math:`v_i = f(u_i; h(u_{<i}, c))`. So the log-determinant is a sum. One direction takes one call of the
    network h, the other one a call for each element, in their order. The order is turned round from step to step.

    All steps begin as the identity, for the last layer of every h begins at zero.

    Args:
        latent_dim: length of a latent, L.
        context: length of the context; 0 for none.
        flow: f as "autoregressive", a shift and a scale, or "spline", a monotone rational-quadratic spline of 8 bins
            on [−5, 5], the identity elsewhere.
        transforms: how many steps.
        hidden: widths of the hidden layers of each h.
        quick: the direction that takes one call: "sampling", from noise to latent, or "density", back.

    Raises:
        ValueError: for sizes below 1, more than 2²⁸ weights, or another ``flow``.
        ModuleNotFoundError: where zuko is not installed.

    Example:
        >>> steps = Steps(2, 0, flow="spline", transforms=3, hidden=(64, 64), quick="density")
        >>> steps.to_noise(torch.ones(1, 2), None)[0]
        tensor([[1..., 1...]]...)
    """

    def __init__(
        self,
        latent_dim: int,
        context: int,
        *,
        flow: Kind,
        transforms: int,
        hidden: Sequence[int],
        quick: Literal["sampling", "density"],
    ) -> None:
        super().__init__()
        _require_sizes(latent_dim, context, flow=flow, transforms=transforms, hidden=hidden)
        made = {"autoregressive": zuko().flows.MAF, "spline": zuko().flows.NSF}[flow]
        with torch.device("cpu"):  # masks are computed from numbers, which an outline has none of
            steps = made(latent_dim, context, transforms=transforms, hidden_features=hidden).transform
        for step in steps.transforms:
            _start_as_identity(step)
        self.steps = steps.transforms.to(torch.get_default_device())
        self.quick = quick

    def to_latent(self, noise: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        r"""From noise to latent.

        Args:
            noise: shape (\*samples, \*batch, L).
            context: shape (\*batch, C), or None.

        Returns:
            The latent, and log \|d latent / d noise\| of shape (\*samples, \*batch).
        """
        return self._quickly(noise, context) if self.quick == "sampling" else self._back(noise, context)

    def to_noise(self, latent: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        r"""From latent to noise.

        Args:
            latent: shape (\*samples, \*batch, L).
            context: shape (\*batch, C), or None.

        Returns:
            The noise, and log \|d latent / d noise\| of shape (\*samples, \*batch).
        """
        noise, bent = self._quickly(latent, context) if self.quick == "density" else self._back(latent, context)
        return noise, -bent

    def _quickly(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(x.shape[:-1])
        for step in self.steps:
            x, bent = step(context).call_and_ladj(x)
            total = total + bent
        return x, total

    def _back(self, y: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        total = y.new_zeros(y.shape[:-1])
        for step in reversed(self.steps):
            map_ = step(context)
            x = map_.inv(y)
            total = total - map_.log_abs_det_jacobian(x, y)
            y = x
        return y, total

    def forward(self, *_: Any) -> Any:
        raise TypeError("Expected a direction; got none. Take steps.to_latent(noise, c) or steps.to_noise(latent, c).")


class Bent(td.Distribution):
    r"""Normal noise, bent by steps, then moved and scaled: :math:`z = \mu + \sigma \odot T(\varepsilon \mid c)`.

    .. math:: \log q(z) = \log \mathcal{N}(\varepsilon \mid 0, I) - \log |\det \partial T / \partial \varepsilon|
              - \sum_j \log \sigma_j

    Steps that are the identity leave :math:`\mathcal{N}(\mu, \operatorname{diag} \sigma^2)`.

    Args:
        steps: T.
        loc: μ, shape (\*batch, L).
        log_scale: log σ, of the same shape.
        context: c, shape (\*batch, C), or None.
        temperature: what the noise's standard deviations are multiplied by.

    Example:
        >>> steps = Steps(2, 0, flow="autoregressive", transforms=1, hidden=(8,), quick="sampling")
        >>> z, log_q = Bent(steps, torch.zeros(3, 2), torch.zeros(3, 2)).rsample_and_log_prob(torch.Size([5]))
        >>> z.shape, log_q.shape
        (torch.Size([5, 3, 2]), torch.Size([5, 3]))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        steps: Steps | _HeldSteps,
        loc: Tensor,
        log_scale: Tensor,
        *,
        context: Tensor | None = None,
        temperature: float = 1.0,
    ) -> None:
        self.steps, self.loc, self.log_scale, self.context = steps, loc, log_scale, context
        self.temperature = temperature
        noise = td.Normal(torch.zeros_like(loc), torch.full_like(loc, temperature), validate_args=False)
        self.noise = td.Independent(noise, 1, validate_args=False)
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    def rsample_and_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
        r"""Draws with their log-densities, by the noise that made them.

        Args:
            sample_shape: how many.

        Returns:
            Draws of shape (\*samples, \*batch, L), and log-densities of shape (\*samples, \*batch), in nats.
        """
        noise = self.noise.rsample(torch.Size(sample_shape))
        bent, log_det = self.steps.to_latent(noise, self.context)
        z = self.loc + self.log_scale.exp() * bent
        return z, self.noise.log_prob(noise) - log_det - self.log_scale.sum(-1)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.rsample_and_log_prob(sample_shape)[0]

    def held(self) -> Bent:
        """The same with all parameters held constant."""
        steps = self.steps if isinstance(self.steps, _HeldSteps) else _HeldSteps(self.steps)
        context = None if self.context is None else self.context.detach()
        return Bent(steps, self.loc.detach(), self.log_scale.detach(), context=context, temperature=self.temperature)

    def log_prob(self, value: Tensor) -> Tensor:
        noise, log_det = self.steps.to_noise((value - self.loc) / self.log_scale.exp(), self.context)
        return self.noise.log_prob(noise) - log_det - self.log_scale.sum(-1)


class _HeldSteps(nn.Module):
    """Steps whose parameters are held constant: the whole of a pass runs with the constants in place.

    Args:
        steps: whose.
    """

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps

    def to_latent(self, noise: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """As :meth:`Steps.to_latent`."""
        return self._held(Steps.to_latent, noise, context)

    def to_noise(self, latent: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """As :meth:`Steps.to_noise`."""
        return self._held(Steps.to_noise, latent, context)

    def _held(self, way: Callable[..., Any], value: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        constants = {name: p.detach() for name, p in every_parameter(self).items()}
        return functional_call(self, constants, (way, value, context), tie_weights=False)

    def forward(self, way: Callable[..., Any], value: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        return way(self.steps, value, context)


class _AtLeastSingle(nn.Module):
    """What a network gives, in at least single precision: it may run in half, a log-density never does."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _start_as_identity(step: Any) -> None:
    """Put a step's parameters, or the last layer of the network that gives them, at zero."""
    network = getattr(step, "hyper", None)
    if network is None:  # of a single number without a context
        for parameter in step.phi:
            nn.init.zeros_(parameter)
        return
    nn.init.zeros_(network[-1].weight)
    nn.init.zeros_(network[-1].bias)
    network.append(_AtLeastSingle())


def _require_sizes(latent_dim: int, context: int, *, flow: Kind, transforms: int, hidden: Sequence[int]) -> None:
    if latent_dim < 1:
        raise ValueError(f"Expected a latent of at least 1 dimension; got latent_dim={latent_dim}.")
    if flow not in get_args(Kind):
        raise ValueError(f"Expected flow='autoregressive' or 'spline'; got {flow!r}.")
    if transforms < 1:
        raise ValueError(f"Expected transforms >= 1; got {transforms}.")
    if not hidden or min(hidden) < 1:
        raise ValueError(f"Expected at least one hidden layer, of widths >= 1; got hidden={tuple(hidden)}.")
    outputs = latent_dim * (2 if flow == "autoregressive" else 3 * BINS - 1)
    widths = (latent_dim + context, *hidden, outputs)
    weights = transforms * (sum(a * b for a, b in itertools.pairwise(widths)) + widths[0] * widths[-1])
    if weights > LARGEST:
        raise ValueError(
            f"Expected a flow of at most {LARGEST} weights; got {weights}. Take fewer latent dimensions, fewer "
            "transforms or narrower hidden layers."
        )
