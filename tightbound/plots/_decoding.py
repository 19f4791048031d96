"""A model asked for pictures: nothing about it is changed, and nobody's random state is touched."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tightbound.likelihoods import point_estimate
from tightbound.model import VAE
from tightbound.plots._style import Array, as_array
from tightbound.runtime import evaluation_mode, home

DRAWS = 10_000  # for moments without a formula


def decoded(model: VAE, z: Tensor) -> np.ndarray:
    """Means of p(x | z), shape (N, *shape), for latents of shape (N, L)."""
    with evaluation_mode(model, seed=0):
        return as_array(point_estimate(model.decode(z)))


def embedded(model: VAE, x: Array) -> Tensor:
    """Posterior means of shape (N, L), for observations as a tensor or an array of any kind."""
    device, dtype = home(model)
    with evaluation_mode(model, seed=0):
        return model.embed(torch.as_tensor(x).to(device, dtype))


def prior_moments(model: VAE) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each latent element under the prior, shape (L,); else from draws.

    Raises:
        ValueError: for latents that are no vectors.
    """
    with evaluation_mode(model, seed=0):
        prior = model.prior()
        if len(prior.event_shape) != 1:
            raise ValueError(f"Expected a latent vector; got latents of shape {tuple(prior.event_shape)}.")
        try:
            return prior.mean, prior.stddev
        except NotImplementedError:
            draws = prior.sample(torch.Size([DRAWS]))
            return draws.mean(0), draws.std(0)
