"""A model asked for pictures: nothing about it is changed, and nobody's random state is touched."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tightbound.likelihoods import point_estimate
from tightbound.model import VAE
from tightbound.plots._style import as_array
from tightbound.runtime import evaluation_mode, home, own_random_state

DRAWS = 10_000  # for moments without a formula


def decoded(model: VAE, z: Tensor) -> np.ndarray:
    """Means of p(x | z), shape (N, *shape), for latents of shape (N, L)."""
    return as_array(point_estimate(model.decode(z)))


def prior_moments(model: VAE) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each latent element under the prior, shape (L,); else from draws.

    Raises:
        ValueError: for latents that are no vectors.
    """
    with evaluation_mode(model), own_random_state(home(model)[0], seed=0):
        prior = model.prior()
        if len(prior.event_shape) != 1:
            raise ValueError(f"Expected a latent vector; got latents of shape {tuple(prior.event_shape)}.")
        try:
            return prior.mean, prior.stddev
        except NotImplementedError:
            draws = prior.sample(torch.Size([DRAWS]))
            return draws.mean(0), draws.std(0)
