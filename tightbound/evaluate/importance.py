"""What importance weights tell: bounds at fewer draws than there are, and how many draws count."""

from __future__ import annotations

import torch
from torch import Tensor

from tightbound import bounds
from tightbound.draws import Draws


def sample_counts(samples: int) -> tuple[int, ...]:
    """Numbers of draws to show a bound at: powers of ten below ``samples``, then ``samples``.

    Args:
        samples: how many draws there are.

    Returns:
        The numbers, rising.

    Example:
        >>> sample_counts(5000)
        (1, 10, 100, 1000, 5000)
    """
    powers = (10**i for i in range(len(str(samples))))
    return (*(k for k in powers if k < samples), samples)


def bound_at(draws: Draws, count: int) -> Tensor:
    r"""Importance-weighted bound of ``count`` draws, averaged over as many groups as the draws fill, in nats.

    Unbiased for :math:`\mathcal{L}_\text{count}`, with less variance than one group alone.

    Args:
        draws: K draws for each of B observations.
        count: between 1 and K.

    Returns:
        The bound, shape (B,).

    Example:
        >>> log_w = torch.tensor([[0.0], [2.0], [0.0], [2.0]])
        >>> draws = Draws(torch.zeros(4, 1, 2), log_w, 0 * log_w, 0 * log_w)
        >>> bound_at(draws, 1), bound_at(draws, 2)
        (tensor([1.]), tensor([1.4338]))
    """
    groups = len(draws.z) // count
    used = slice(groups * count)
    filled = Draws(draws.z[used], draws.log_px_z[used], draws.log_pz[used], draws.log_qz_x[used])
    return bounds.miwae(groups)(filled)


def effective_samples(draws: Draws) -> Tensor:
    r"""Effective sample size :math:`(\sum_k w_k)^2 / \sum_k w_k^2`, between 1 and K.

    Draws from a posterior that fits count fully; where it is small, one draw has nearly all the weight.

    References:
        Kong: A note on importance sampling using standardized weights (1992),
        University of Chicago, technical report 348.

    Args:
        draws: K draws for each of B observations.

    Returns:
        Shape (B,).

    Example:
        >>> from tightbound.draws import Draws
        >>> zeros = torch.zeros(4, 1)
        >>> effective_samples(Draws(z=torch.zeros(4, 1, 2), log_px_z=zeros, log_pz=zeros, log_qz_x=zeros))
        tensor([4.])
    """
    log_w = draws.log_w
    return torch.exp(2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0))
