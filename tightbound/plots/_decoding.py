"""A model asked for pictures: nothing about it is changed, and nobody's random state is touched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from tightbound.autoencoder import VAE
from tightbound.distributions import Joint, Reparameterised, class_probabilities, codes_of
from tightbound.likelihoods import point_estimate
from tightbound.plots.style import Array, as_array
from tightbound.runtime import evaluation_mode, home, own_random_state

DRAWS = 10_000  # for moments without a formula


def decoded(model: VAE, z: Tensor) -> np.ndarray:
    """Means of p(x | z), shape (N, *shape), for latents of shape (N, L)."""
    return as_array(point_estimate(model.decode(z)))


class Walk(NamedTuple):
    """Where one latent variable goes.

    Attributes:
        at: Its elements of the latent vector: one, or one for each class of a one-hot vector.
        values: What they are on the way, shape (positions, elements).
        classes: Whether it goes through classes; else it goes along its prior.
    """

    at: slice
    values: Tensor
    classes: bool


def walks_of(model: VAE, deviations: Tensor) -> list[Walk]:
    """Where each latent variable goes: numbers along their prior, bits and classes through all that they can be.

    Args:
        model: latents of shape (L,).
        deviations: the way of a number: values at which a normal would be so many deviations from its mean. For a prior
            whose elements are maps of noise they are its quantiles, so that they lie where the prior does; for others,
            its mean plus so many of its standard deviations.

    Raises:
        ValueError: for latents that are no vectors.
    """
    with evaluation_mode(model), own_random_state(home(model)[0], seed=0):
        prior = model.prior()
        if len(prior.event_shape) != 1:
            raise ValueError(f"Expected a latent vector; got latents of shape {tuple(prior.event_shape)}.")
        walks, start = [], 0
        for part in prior.parts if isinstance(prior, Joint) else (prior,):
            for values in _ways(part, deviations):
                walks.append(Walk(slice(start, start + values.shape[1]), values, class_probabilities(part) is not None))
                start += values.shape[1]
        return walks


def middle_of(model: VAE, x0: Array | None) -> Tensor:
    """The latent vector that a walk starts from, shape (L,).

    Args:
        model: latents of shape (L,).
        x0: an observation, whose embedding it is; without one it is the prior's middle. Of bits and classes these are
            the likeliest ones.
    """
    with evaluation_mode(model), own_random_state(home(model)[0], seed=0):
        prior = model.prior()
        parts = prior.parts if isinstance(prior, Joint) else (prior,)
        if x0 is None:
            zero = torch.zeros(1).to(*home(model))
            return torch.cat([_middle(part, zero) for part in parts])
    code = model.embed(x0[None])[0]
    pieces = code.split([part.event_shape[0] for part in parts])
    return torch.cat([_likeliest(piece, part) for piece, part in zip(pieces, parts, strict=True)])


def are_classes(walks: Sequence[Walk]) -> bool:
    """Whether some latent variable goes through classes."""
    return any(walk.classes for walk in walks)


def _ways(part: Distribution, deviations: Tensor) -> Iterable[Tensor]:
    """Of each variable of a part, shape (positions, elements)."""
    p = class_probabilities(part)
    if p is None:
        return _quantiles(part, deviations)[..., None]
    variables, classes = p.shape
    every = torch.arange(classes, device=p.device)[:, None].expand(classes, variables)
    return codes_of(every, part).unflatten(-1, (variables, -1)).unbind(1)


def _middle(part: Distribution, zero: Tensor) -> Tensor:
    p = class_probabilities(part)
    return _quantiles(part, zero)[:, 0] if p is None else codes_of(p.argmax(-1), part)


def _likeliest(code: Tensor, part: Distribution) -> Tensor:
    """A code of probabilities as the likeliest code; numbers stay as they are."""
    if (p := class_probabilities(part)) is None:
        return code
    own = code.unflatten(-1, (len(p), -1))
    return codes_of(own.argmax(-1) if own.shape[1] > 1 else (own[:, 0] > 0.5).long(), part)


def _quantiles(prior: Distribution, deviations: Tensor) -> Tensor:
    """Values of each element where a normal would be so many deviations from its mean, shape (L, positions)."""
    elements = prior.base_dist if isinstance(prior, Independent) else prior
    if isinstance(elements, Reparameterised) and len(elements.event_shape) == 0:
        noise = elements.noise_distribution.icdf(torch.special.ndtr(deviations)[:, None])
        return elements.from_noise(noise).sort(0).values.T
    try:
        mean, deviation = prior.mean, prior.stddev
    except NotImplementedError:
        draws = prior.sample(torch.Size([DRAWS]))
        mean, deviation = draws.mean(0), draws.std(0)
    return mean[:, None] + deviation[:, None] * deviations
