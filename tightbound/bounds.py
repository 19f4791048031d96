"""Lower bounds on the log-evidence log p(x): pure functions of draws, in nats per observation, higher is better.

A bound with a number of its own is a value that is called: ``renyi(0.5)(draws)``. So any bound can be handed to
:class:`~tightbound.objectives.Bound` and be trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tightbound.draws import Draws

__all__ = ["MIWAE", "Renyi", "elbo", "iwae", "log_mean", "miwae", "renyi"]

BoundFunction = Callable[[Draws], Tensor]  # K draws for each of B observations to (B,), in nats, higher is better


def log_mean(log_w: Tensor, dim: int = 0) -> Tensor:
    """Logarithm of the mean of weights, from their logarithms.

    Args:
        log_w: any shape.
        dim: over which the mean is taken.

    Returns:
        The shape without that axis.

    Example:
        >>> import torch
        >>> log_mean(torch.tensor([1.0, 3.0]).log()).exp()
        tensor(2.)
    """
    return log_w.logsumexp(dim) - math.log(log_w.shape[dim])


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
    return log_mean(draws.log_w)


@dataclass(frozen=True)
class Renyi:
    r"""Variational Rényi bound of one order, in nats per observation: a function of draws.

    .. math:: \mathcal{L}_\alpha(x) = \frac{1}{1-\alpha} \log \frac{1}{K} \sum_{k=1}^K w_k^{1-\alpha}

    :math:`\alpha = 0` is the importance-weighted bound, :math:`\alpha = 1` (by its limit) the ELBO; in expectation it
    bounds log p(x) from below for :math:`\alpha \ge 0`.

    References:
        Li, Turner: Rényi Divergence Variational Inference (2016), https://arxiv.org/abs/1602.02311.

    Args:
        alpha: order of the divergence, at least 0.

    Raises:
        ValueError: for a negative or non-finite order, which gives no lower bound.

    Example:
        >>> import torch
        >>> zeros = torch.zeros(2, 3)
        >>> Renyi(0.5)(Draws(z=torch.zeros(2, 3, 1), log_px_z=zeros, log_pz=zeros, log_qz_x=zeros))
        tensor([0., 0., 0.])
    """

    alpha: float

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"Expected an order alpha >= 0; got {self.alpha}. A negative order is no lower bound.")

    def __call__(self, draws: Draws) -> Tensor:
        """The bound, shape (B,)."""
        alpha, log_w = self.alpha, draws.log_w
        if alpha == 1:
            return elbo(draws)
        largest = (log_w.amax(0) if alpha < 1 else log_w.amin(0)).detach()  # the one that leads the sum
        largest = torch.where(largest.isfinite(), largest, 0)
        # log1p and expm1 keep the digits that a plain logarithm, divided by 1 - alpha, would lose near alpha = 1.
        return largest + torch.expm1((1 - alpha) * (log_w - largest)).mean(0).log1p() / (1 - alpha)


@dataclass(frozen=True)
class MIWAE:
    r"""Mean over M groups of the importance-weighted bound of K/M draws each, in nats per observation.

    .. math:: \mathcal{L}_{M, K}(x) = \frac{1}{M} \sum_{m=1}^M \log \frac{1}{K/M} \sum_{k} w_{m,k}

    ``groups=1`` is the importance-weighted bound of all draws, ``groups=K`` the ELBO.

    References:
        Rainforth et al.: Tighter Variational Bounds are Not Necessarily Better (2018), https://arxiv.org/abs/1802.04537.

    Args:
        groups: M, a divisor of K.

    Raises:
        ValueError: for fewer than one group; when called, if ``groups`` does not divide the number of draws.

    Example:
        >>> import torch
        >>> zeros = torch.zeros(4, 3)
        >>> MIWAE(2)(Draws(z=torch.zeros(4, 3, 1), log_px_z=zeros, log_pz=zeros, log_qz_x=zeros))
        tensor([0., 0., 0.])
    """

    groups: int

    def __post_init__(self) -> None:
        if self.groups < 1:
            raise ValueError(f"Expected at least 1 group; got groups={self.groups}.")

    def __call__(self, draws: Draws) -> Tensor:
        """The bound, shape (B,)."""
        log_w = draws.log_w
        if len(log_w) % self.groups:
            raise ValueError(
                f"Expected a number of groups that divides the {len(log_w)} draws; got {self.groups}. Take samples in "
                f"multiples of {self.groups}."
            )
        return log_mean(log_w.unflatten(0, (self.groups, -1)), 1).mean(0)


def renyi(alpha: float) -> Renyi:
    """The variational Rényi bound of order ``alpha``: see :class:`Renyi`.

    Args:
        alpha: order of the divergence, at least 0.

    Returns:
        A function from draws to the bound, shape (B,), in nats.

    Raises:
        ValueError: for a negative or non-finite order.

    Example:
        >>> renyi(0.5)
        Renyi(alpha=0.5)
    """
    return Renyi(alpha)


def miwae(groups: int) -> MIWAE:
    """The mean of importance-weighted bounds of M groups of draws: see :class:`MIWAE`.

    Args:
        groups: M, a divisor of the number of draws.

    Returns:
        A function from draws to the bound, shape (B,), in nats.

    Raises:
        ValueError: for fewer than one group.

    Example:
        >>> miwae(2)
        MIWAE(groups=2)
    """
    return MIWAE(groups)
