"""Latents of several kinds side by side: one vector, of which each part has a distribution of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, constraints

from tightbound.distributions.concrete import relaxed
from tightbound.distributions.discrete import MOST_CODES, class_probabilities, every_code


class Part(NamedTuple):
    """What a part of a latent vector is.

    Attributes:
        length: How many elements of the vector it takes.
        variables: How many variables they are: V one-hot vectors are V variables, of C elements each.
        discrete: Whether they are bits or classes.

    Example:
        >>> Part(length=12, variables=4, discrete=True).variables
        4
    """

    length: int
    variables: int
    discrete: bool


class Joint(Distribution):
    r"""Independent parts as one vector: :math:`\log q(z) = \sum_i \log q_i(z_i)`, :math:`z = (z_1, \ldots, z_n)`.

    Args:
        parts: distributions of vectors, with one batch shape.

    Raises:
        ValueError: for no parts, or parts that are no vectors.

    Example:
        >>> from tightbound.distributions import Bernoulli, Normal, independent
        >>> both = Joint([independent(Normal(torch.zeros(2), torch.ones(2))), independent(Bernoulli(torch.zeros(3)))])
        >>> both.event_shape, both.mean
        (torch.Size([5]), tensor([0.0000, 0.0000, 0.5000, 0.5000, 0.5000]))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, parts: Sequence[Distribution]) -> None:
        if not parts or any(len(part.event_shape) != 1 for part in parts):
            raise ValueError(
                f"Expected at least one part, each a distribution of vectors; got events of shapes "
                f"{[tuple(part.event_shape) for part in parts]}."
            )
        self.parts = tuple(parts)
        self.lengths = [part.event_shape[0] for part in parts]
        batch = torch.broadcast_shapes(*(part.batch_shape for part in parts))
        super().__init__(batch, torch.Size([sum(self.lengths)]), validate_args=False)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether a gradient passes through some part of a draw. Through bits and classes none does."""
        return any(part.has_rsample for part in self.parts)

    @property
    def support(self) -> constraints.Constraint:
        return _SideBySide([part.support for part in self.parts], self.lengths)

    @property
    def mean(self) -> Tensor:
        return torch.cat([part.mean for part in self.parts], -1)

    @property
    def variance(self) -> Tensor:
        return torch.cat([part.variance for part in self.parts], -1)

    def split(self, value: Tensor) -> tuple[Tensor, ...]:
        r"""A vector in its parts.

        Args:
            value: shape (\*, L).

        Returns:
            A tensor for each part.
        """
        return value.split(self.lengths, -1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Joint:
        return Joint([part.expand(batch_shape) for part in self.parts])

    def log_prob(self, value: Tensor) -> Tensor:
        each = [part.log_prob(own) for part, own in zip(self.parts, self.split(value), strict=True)]
        return torch.stack(each).sum(0)

    def rsample_and_log_prob(self, sample_shape: Any = ()) -> tuple[Tensor, Tensor]:
        r"""Draws with their log-densities; a part that knows the density of what it draws is not asked again.

        Args:
            sample_shape: how many.

        Returns:
            Draws of shape (\*samples, \*batch, L), differentiable where a part can be, and log-densities.
        """
        drawn = [_draw(part, torch.Size(sample_shape)) for part in self.parts]
        return torch.cat([z for z, _ in drawn], -1), torch.stack([log_q for _, log_q in drawn]).sum(0)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.rsample_and_log_prob(sample_shape)[0]

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            return torch.cat([part.sample(torch.Size(sample_shape)) for part in self.parts], -1)


class _SideBySide(constraints.Constraint):
    """Vectors whose parts satisfy a constraint each; unlike torch's ``cat`` it knows that a part is one event."""

    event_dim = 1

    def __init__(self, parts: Sequence[Any], lengths: Sequence[int]) -> None:
        self.parts, self.lengths = parts, list(lengths)
        self.is_discrete = any(part.is_discrete for part in parts)
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        found = [part.check(own) for part, own in zip(self.parts, value.split(self.lengths, -1), strict=True)]
        whole = [own if part.event_dim else own.all(-1) for part, own in zip(self.parts, found, strict=True)]
        return torch.stack(whole).all(0)


def _draw(part: Distribution, shape: torch.Size) -> tuple[Tensor, Tensor]:
    fused = getattr(part, "rsample_and_log_prob", None)
    if fused is not None:
        z, log_q = fused(shape)
        return z, log_q
    z = part.rsample(shape) if part.has_rsample else part.sample(shape)
    return z, part.log_prob(z)


def parts_of(distribution: Distribution) -> tuple[Part, ...]:
    """What a latent vector is made of.

    Args:
        distribution: of latents.

    Returns:
        Its parts, in order; one, unless it is a :class:`Joint`.

    Example:
        >>> from tightbound.distributions import OneHot
        >>> parts_of(OneHot(torch.zeros(4, 3)))
        (Part(length=12, variables=4, discrete=True),)
    """
    if isinstance(distribution, Joint):
        return tuple(part for each in distribution.parts for part in parts_of(each))
    length, classes = distribution.event_shape.numel(), class_probabilities(distribution)
    return (Part(length, length if classes is None else classes.shape[-2], classes is not None),)


def probabilities_of(distribution: Distribution) -> Tensor | None:
    r"""The probability of each class of each variable, of the discrete parts of a latent vector in their order.

    Args:
        distribution: of latents.

    Returns:
        Shape (\*batch, variables, classes); variables of fewer classes than others have zeros in the rest. None where
        no part is discrete.

    Example:
        >>> from tightbound.distributions import OneHot
        >>> probabilities_of(Joint([OneHot(torch.zeros(1, 2)), OneHot(torch.zeros(1, 4))]))
        tensor([[0.5000, 0.5000, 0.0000, 0.0000],
                [0.2500, 0.2500, 0.2500, 0.2500]])
    """
    if not isinstance(distribution, Joint):
        return class_probabilities(distribution)
    found = [p for p in map(probabilities_of, distribution.parts) if p is not None]
    most = max((p.shape[-1] for p in found), default=0)
    return torch.cat([F.pad(p, (0, most - p.shape[-1])) for p in found], -2) if found else None


def all_codes(distribution: Distribution) -> Tensor:
    """All values of a latent vector whose parts are all bits or classes.

    Args:
        distribution: of latents.

    Returns:
        Shape (codes, length): each code once.

    Raises:
        TypeError: for values that cannot be listed.
        ValueError: for more than 4096 of them.

    Example:
        >>> from tightbound.distributions import OneHot
        >>> all_codes(Joint([OneHot(torch.zeros(1, 2)), OneHot(torch.zeros(1, 3))])).shape
        torch.Size([6, 5])
    """
    if not isinstance(distribution, Joint):
        return every_code(distribution)
    each = [all_codes(part) for part in distribution.parts]
    total = math.prod(map(len, each))
    if total > MOST_CODES:
        raise ValueError(
            f"Expected at most {MOST_CODES} codes to list; got parts of {' × '.join(map(str, map(len, each)))} codes, "
            f"{total} in all. Take fewer, or a gradient of draws such as tb.gradients.ScoreFunction()."
        )
    chosen = torch.cartesian_prod(*[torch.arange(len(codes)) for codes in each]).view(total, -1)
    return torch.cat([codes[chosen[:, i]] for i, codes in enumerate(each)], -1)


def relaxation(
    q: Distribution, p: Distribution, samples: int, temperature: float | Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draws of discrete latents with their relaxations by the same noise; other parts of a vector go along a path.

    Args:
        q: posterior, batch shape (B,), at least in part of bits or classes.
        p: prior, made of parts as q is.
        samples: how many draws, K.
        temperature: above 0.

    Returns:
        Hard codes without gradient and soft codes, shape (K, B, L); log-densities of the soft ones under the relaxed p
        and the relaxed q, shape (K, B), in nats.

    Raises:
        TypeError: for latents that are not discrete in any part, and a prior that is not made of the same parts.

    Example:
        >>> from tightbound.distributions import OneHot
        >>> codes = OneHot(torch.zeros(5, 2, 3))
        >>> hard, soft, _, _ = relaxation(codes, codes, 4, 0.5)
        >>> hard.shape, bool((soft - hard).abs().max() < 1)
        (torch.Size([4, 5, 6]), True)
    """
    if isinstance(q, Joint) and any(part.discrete for part in parts_of(q)):
        if not isinstance(p, Joint) or p.lengths != q.lengths:
            raise TypeError(
                f"Expected a prior of the same parts as the posterior, to be relaxed part by part; got one of "
                f"{type(p).__name__}. Take tb.priors.Joint([...])."
            )
        each = [_relaxed_or_moved(a, b, samples, temperature) for a, b in zip(q.parts, p.parts, strict=True)]
        hard, soft, log_p, log_q = zip(*each, strict=True)
        return torch.cat(hard, -1), torch.cat(soft, -1), torch.stack(log_p).sum(0), torch.stack(log_q).sum(0)
    soft_q = relaxed(q, temperature)
    ours, theirs = class_probabilities(q), class_probabilities(p)
    if ours is not None and (theirs is None or theirs.shape[-2:] != ours.shape[-2:]):
        raise TypeError(
            f"Expected a prior over the same {soft_q.logits.shape[-1]} bits or classes as the posterior, to be relaxed "
            f"with it; got one of events of shape {tuple(p.event_shape)}, {type(p).__name__}. Take the posterior's "
            "partner, such as tb.priors.Bernoulli or tb.priors.Categorical."
        )
    soft_p = relaxed(p, temperature)
    noise = soft_q.noise((samples,))
    y = soft_q.unsquashed(noise)
    return soft_q.hard(noise), soft_q.from_noise(noise), soft_p.log_prob_of(y), soft_q.log_prob_of(y)


def _relaxed_or_moved(
    q: Distribution, p: Distribution, samples: int, temperature: float | Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if any(part.discrete for part in parts_of(q)):
        return relaxation(q, p, samples, temperature)
    z, log_q = _draw(q, torch.Size([samples]))
    return z.detach(), z, p.log_prob(z), log_q
