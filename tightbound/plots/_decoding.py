"""A model asked for pictures: nothing about it is changed, and nobody's random state is touched."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Independent

from tightbound.autoencoder import VAE
from tightbound.batch import Batch
from tightbound.distributions import Joint, Reparameterised, class_probabilities, parts_of
from tightbound.likelihoods import point_estimate
from tightbound.plots.style import Array, as_array
from tightbound.runtime import evaluation_mode, home, own_random_state

DRAWS = 10_000  # for moments without a formula


def decoded(model: VAE, z: Tensor) -> np.ndarray:
    """Means of p(x | z), shape (N, *shape), for latents of shape (N, L)."""
    return as_array(point_estimate(model.decode(z)))


def along_prior(model: VAE, deviations: Tensor) -> Tensor:
    """Values of each latent element where a normal would be so many deviations from its mean, shape (L, steps).

    For a prior whose elements are maps of noise they are its quantiles, so that they lie where the prior does; for
    others, its mean plus so many of its standard deviations.

    Raises:
        ValueError: for latents that are no vectors.
    """
    with evaluation_mode(model), own_random_state(home(model)[0], seed=0):
        prior = model.prior()
        if len(prior.event_shape) != 1:
            raise ValueError(f"Expected a latent vector; got latents of shape {tuple(prior.event_shape)}.")
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


def classes_of(model: VAE) -> Tensor | None:
    """The prior's probability of each class of each variable, shape (V, C); None where latents are not discrete.

    Raises:
        ValueError: for codes beside other codes or beside real numbers.
    """
    with evaluation_mode(model):
        prior = model.prior()
    if isinstance(prior, Joint) and any(part.discrete for part in parts_of(prior)):
        raise ValueError(
            "Expected latents of one kind, to be moved along their prior or through their classes; got codes side by "
            "side with other latents. Move those you want to see by hand: model.decode(z)."
        )
    return class_probabilities(prior)


def posterior_classes(model: VAE, x0: Array) -> Tensor:
    """The posterior's probability of each class of each variable, given one observation, shape (V, C)."""
    with evaluation_mode(model):
        found = model.class_probabilities(Batch(torch.as_tensor(x0)[None].to(*home(model))))
    if found is None:
        raise TypeError(f"Expected a model that tells the probabilities of its classes; got {type(model).__name__}.")
    return found[0]
