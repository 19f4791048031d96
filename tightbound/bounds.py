"""Lower bounds on the log-evidence log p(x): pure functions of draws, in nats per observation, higher is better."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightbound.draws import Draws


def elbo(draws: Draws) -> Tensor:
    r"""Evidence lower bound, averaged over the draws, in nats per observation.

    .. math:: \mathcal{L}(x) = \mathbb{E}_{q(z|x)}\left[\log p(x \mid z) + \log p(z) - \log q(z \mid x)\right]
              = \log p(x) - \mathrm{KL}(q(z|x) \,\|\, p(z|x))

    References:
        Kingma, Welling: Auto-Encoding Variational Bayes (2013), https://arxiv.org/abs/1312.6114.

    Args:
        draws: K draws for each of B observations.

    Returns:
        The bound, shape (B,).

    Example:
        >>> import torch
        >>> zeros = torch.zeros(2, 3)
        >>> elbo(Draws(z=torch.zeros(2, 3, 1), log_px_z=zeros - 1, log_pz=zeros, log_qz_x=zeros))
        tensor([-1., -1., -1.])
    """
    return draws.log_w.mean(0)


def iwae(draws: Draws) -> Tensor:
    r"""Importance-weighted bound, in nats per observation.

    .. math:: \mathcal{L}_K(x) = \log \frac{1}{K} \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k \mid x)}

    Its expectation does not fall as :math:`K` grows, and :math:`K = 1` is the ELBO.

    References:
        Burda, Grosse, Salakhutdinov: Importance Weighted Autoencoders (2015), https://arxiv.org/abs/1509.00519.

    Args:
        draws: K draws for each of B observations.

    Returns:
        The bound, shape (B,).

    Example:
        >>> import torch
        >>> zeros = torch.zeros(2, 3)
        >>> iwae(Draws(z=torch.zeros(2, 3, 1), log_px_z=zeros, log_pz=zeros, log_qz_x=zeros))
        tensor([0., 0., 0.])
    """
    return draws.log_w.logsumexp(0) - math.log(len(draws.log_w))


def renyi(draws: Draws, alpha: float) -> Tensor:
    r"""Variational Rényi bound, in nats per observation.

    .. math:: \mathcal{L}_\alpha(x) = \frac{1}{1-\alpha} \log \frac{1}{K} \sum_{k=1}^K w_k^{1-\alpha}

    :math:`\alpha = 0` is the importance-weighted bound, :math:`\alpha = 1` (by its limit) the ELBO; in expectation it
    bounds log p(x) from below for :math:`\alpha \ge 0`.

    References:
        Li, Turner: Rényi Divergence Variational Inference (2016), https://arxiv.org/abs/1602.02311.

    Args:
        draws: K draws for each of B observations.
        alpha: order of the divergence, at least 0.

    Returns:
        The bound, shape (B,).

    Raises:
        ValueError: for a negative or non-finite order, which gives no lower bound.

    Example:
        >>> import torch
        >>> zeros = torch.zeros(2, 3)
        >>> renyi(Draws(z=torch.zeros(2, 3, 1), log_px_z=zeros, log_pz=zeros, log_qz_x=zeros), alpha=0.5)
        tensor([0., 0., 0.])
    """
    if not 0 <= alpha < math.inf:
        raise ValueError(f"Expected an order alpha >= 0; got {alpha}. A negative order is no lower bound.")
    if alpha == 1:
        return elbo(draws)
    log_w = draws.log_w
    largest = (log_w.amax(0) if alpha < 1 else log_w.amin(0)).detach()  # the one that leads the sum
    largest = torch.where(largest.isfinite(), largest, 0)
    # log1p and expm1 keep the digits that a plain logarithm, divided by 1 - alpha, would lose near alpha = 1.
    return largest + torch.expm1((1 - alpha) * (log_w - largest)).mean(0).log1p() / (1 - alpha)


def miwae(draws: Draws, groups: int) -> Tensor:
    r"""Mean over M groups of the importance-weighted bound of K/M draws each, in nats per observation.

    .. math:: \mathcal{L}_{M, K}(x) = \frac{1}{M} \sum_{m=1}^M \log \frac{1}{K/M} \sum_{k} w_{m,k}

    ``groups=1`` is the importance-weighted bound of all draws, ``groups=K`` the ELBO.

    References:
        Rainforth et al.: Tighter Variational Bounds are Not Necessarily Better (2018), https://arxiv.org/abs/1802.04537.

    Args:
        draws: K draws for each of B observations.
        groups: M, a divisor of K.

    Returns:
        The bound, shape (B,).

    Raises:
        ValueError: if ``groups`` does not divide K.

    Example:
        >>> import torch
        >>> zeros = torch.zeros(4, 3)
        >>> miwae(Draws(z=torch.zeros(4, 3, 1), log_px_z=zeros, log_pz=zeros, log_qz_x=zeros), groups=2)
        tensor([0., 0., 0.])
    """
    log_w = draws.log_w
    if groups < 1 or len(log_w) % groups:
        raise ValueError(f"Expected a number of groups that divides the {len(log_w)} draws; got {groups}.")
    log_w = log_w.unflatten(0, (groups, -1))
    return (log_w.logsumexp(1) - math.log(log_w.shape[1])).mean(0)
