"""How a bound becomes a gradient: what is held constant while drawing."""

from __future__ import annotations

import dataclasses

import torch.distributions as td
from torch import Tensor

from tightbound.conditional import Conditional
from tightbound.draws import Draws
from tightbound.model import VAE


def stl(model: VAE, x: Tensor, *, samples: int = 1) -> Draws:
    r"""Draws whose log q(z | x) moves with z alone, not with q's parameters: "sticking the landing".

    Of the gradient of :math:`\mathbb{E}_q[\log p(x, z) - \log q(z \mid x)]` the part
    :math:`\mathbb{E}_q[\nabla_\phi \log q_\phi(z \mid x)]` is 0 and only adds noise. Without it the gradient has the
    same mean, and no variance at all where q is the true posterior. The bound's value is unchanged.

    References:
        Roeder, Wu, Duvenaud: Sticking the Landing (2017), https://arxiv.org/abs/1703.09194.

    Args:
        model: with a reparameterised posterior.
        x: B observations, shape (B, \*shape).
        samples: how many draws, K.

    Returns:
        Draws, log-densities of shape (K, B) in nats.

    Raises:
        ValueError: for fewer than one sample.

    Example:
        >>> import torch, tightbound as tb
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> tb.bounds.elbo(stl(model, torch.zeros(3, 5), samples=7)).shape
        torch.Size([3])
    """
    q = model.encode(x)
    draws = model.draw_from(q, x, samples=samples)
    return dataclasses.replace(draws, log_qz_x=_held(q, model.posterior, draws.z, x))


def _held(q: td.Distribution, posterior: Conditional, z: Tensor, x: Tensor) -> Tensor:
    """log q(z | x), q's parameters constant: at no cost for a normal, by encoding once more for any other."""
    if isinstance(q, td.Independent) and isinstance(q.base_dist, td.Normal):
        normal = td.Normal(q.base_dist.loc.detach(), q.base_dist.scale.detach())
        return td.Independent(normal, q.reinterpreted_batch_ndims).log_prob(z)
    return posterior.log_prob(z, x, frozen=True)
