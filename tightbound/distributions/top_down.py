"""Layers of latents as one vector, each with a distribution that depends on the layer above it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from tightbound.distributions.joint import SideBySide
from tightbound.distributions.sampling import pulled, sample_and_log_prob


class Below(Protocol):
    """The distribution of a layer given the one above it."""

    def __call__(self, above: Tensor) -> Distribution: ...
    def held(self) -> Below: ...
    def pulled(self, share: Tensor) -> Below: ...


class TopDown(Distribution):
    r"""Vectors :math:`(z_1, \ldots, z_L)`, drawn from the last one on: :math:`\log q(z) = \log q_L(z_L) +
    \sum_{l < L} \log q_l(z_l \mid z_{l+1})`.

    Args:
        top: :math:`q_L`, a distribution of vectors.
        below: :math:`q_1, \ldots, q_{L-1}`, each of vectors given the layer above.
        lengths: of these vectors.

    Example:
        >>> from tightbound.priors import TopDown as Prior
        >>> p = Prior([torch.nn.Linear(2, 2)], layers=(1, 2))()
        >>> p.lengths, p.rsample((4,)).shape, p.log_prob_by_layer(torch.zeros(4, 3)).shape
        ([1, 2], torch.Size([4, 3]), torch.Size([4, 2]))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, top: Distribution, below: Sequence[Below], lengths: Sequence[int]) -> None:
        self.top, self.below = top, tuple(below)
        self.lengths = [*lengths, top.event_shape.numel()]
        super().__init__(top.batch_shape, torch.Size([sum(self.lengths)]), validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether a gradient passes through the topmost layer, and with it through all."""
        return self.top.has_rsample

    @property
    def support(self) -> constraints.Constraint:
        supports = [constraints.real_vector] * len(self.below) + [self.top.support]
        return SideBySide(supports, self.lengths)

    def expand(self, batch_shape: Any, _instance: Any = None) -> TopDown:
        return TopDown(self.top.expand(batch_shape), self.below, self.lengths[:-1])

    def layers(self, value: Tensor) -> tuple[Distribution, ...]:
        r"""The distribution of each layer, those above it as they are in ``value``.

        Args:
            value: shape (\*, \*batch, sum of the lengths).
        """
        above = value.split(self.lengths, -1)[1:]
        return (*(below(z) for below, z in zip(self.below, above, strict=True)), self.top)

    def log_prob_by_layer(self, value: Tensor) -> Tensor:
        r"""The log-density of each layer given those above it, in nats.

        Args:
            value: shape (\*, \*batch, sum of the lengths).

        Returns:
            Shape (\*, \*batch, L); their sum over layers is that of the whole.
        """
        own = zip(self.layers(value), value.split(self.lengths, -1), strict=True)
        return torch.stack([layer.log_prob(z) for layer, z in own], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.log_prob_by_layer(value).sum(-1)

    def rsample_and_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
        r"""Draws with their log-densities.

        Args:
            sample_shape: how many.

        Returns:
            Draws of shape (\*samples, \*batch, sum of the lengths), and log-densities.
        """
        drawn, log_q = sample_and_log_prob(self.top, torch.Size(sample_shape))
        layers = [drawn]
        for below in reversed(self.below):
            z, own = sample_and_log_prob(below(layers[0]), torch.Size())
            layers, log_q = [z, *layers], log_q + own
        return torch.cat(layers, -1), log_q

    def pulled(self, value: Tensor, share: Tensor) -> Tensor:
        r"""Draws with a share of the gradient along their path for what is q's own, and all of it for the networks from
        layer to layer.

        Args:
            value: draws of this very distribution, shape (\*samples, \*batch, sum of the lengths).
            share: shape (\*samples, \*batch).

        Returns:
            The same numbers, but for rounding.
        """
        *below, top = value.split(self.lengths, -1)
        layers = [pulled(top, share[..., None])]
        for link, z in zip(reversed(self.below), reversed(below), strict=True):
            at = link.pulled(share)(layers[0])
            noise = ((z - at.mean) / at.stddev).detach()
            layers = [at.mean + at.stddev * noise, *layers]
        return torch.cat(layers, -1)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.rsample_and_log_prob(sample_shape)[0]

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)
