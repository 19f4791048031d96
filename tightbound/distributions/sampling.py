"""Draws together with their log-densities."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution


def sample_and_log_prob(q: Distribution, shape: torch.Size) -> tuple[Tensor, Tensor]:
    r"""Draws of a distribution with their log-densities, as a pair.

    A flow knows the density of what it has just drawn; asked afterwards, it would have to invert itself.

    Args:
        q: batch shape (B,), event shape \*latent.
        shape: how many draws, (K,).

    Returns:
        Draws of shape (K, B, \*latent), reparameterised where q can be, and log-densities of shape (K, B), in nats.

    Example:
        >>> from torch.distributions import Independent, Normal
        >>> z, log_q = sample_and_log_prob(Independent(Normal(torch.zeros(3, 2), torch.ones(3, 2)), 1), torch.Size([7]))
        >>> z.shape, log_q.shape
        (torch.Size([7, 3, 2]), torch.Size([7, 3]))
    """
    fused = getattr(q, "rsample_and_log_prob", None)
    if fused is not None:
        z, log_q = fused(shape)
        return z, log_q
    z = q.rsample(shape) if q.has_rsample else q.sample(shape)
    return z, q.log_prob(z)


def pulled(value: Tensor, share: Tensor) -> Tensor:
    r"""The same numbers, with this share of the gradient.

    Args:
        value: any.
        share: what a gradient is multiplied by, as wide as ``value`` or broadcast with it.

    Example:
        >>> import torch
        >>> x = torch.ones(2, requires_grad=True)
        >>> torch.autograd.grad(pulled(x, torch.tensor(0.25)).sum(), x)
        (tensor([0.2500, 0.2500]),)
    """
    constant = value.detach()
    return constant + share * (value - constant)
