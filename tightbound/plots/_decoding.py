"""A model asked for pictures: nothing about it is changed, and nobody's random state is touched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from tightbound.likelihoods import centre_of
from tightbound.model import VAE
from tightbound.plots._style import as_array


@contextmanager
def evaluating(model: VAE) -> Iterator[None]:
    """No gradients and no dropout; every module's mode is back afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.no_grad():
            model.eval()
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def decoded(model: VAE, z: Tensor) -> np.ndarray:
    """Means of p(x | z), shape (N, *shape), for latents of shape (N, L)."""
    with evaluating(model):
        return as_array(centre_of(model.decode(z)))


def prior_moments(model: VAE) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each latent element under the prior, shape (L,); else from draws.

    Raises:
        ValueError: for latents that are no vectors.
    """
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with evaluating(model), torch.random.fork_rng(devices=list(devices)):
        prior = model.prior()
        if len(prior.event_shape) != 1:
            raise ValueError(f"Expected a latent vector; got latents of shape {tuple(prior.event_shape)}.")
        try:
            return prior.mean, prior.stddev
        except NotImplementedError:
            torch.manual_seed(0)
            draws = prior.sample(torch.Size([10_000]))
            return draws.mean(0), draws.std(0)
