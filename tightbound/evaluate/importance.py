"""What importance weights tell: bounds at fewer draws than there are, and how many draws count."""

from __future__ import annotations

import math
import sys

import numpy as np
import torch
from torch import Tensor

from tightbound import bounds
from tightbound.draws import Draws

FEWEST = 25  # draws that have a tail of five, the least that a shape can be told from
EVEN = 1e-3  # nats between weights that differ by rounding, if at all
LOWEST = -700.0  # nats below the largest weight; less is no positive number any more


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


def effective_samples(log_w: Tensor) -> Tensor:
    r"""Effective sample size :math:`(\sum_k w_k)^2 / \sum_k w_k^2`, between 1 and K.

    Draws from a posterior that fits count fully; where it is small, one draw has nearly all the weight.

    References:
        Kong: A note on importance sampling using standardized weights (1992),
        University of Chicago, technical report 348.

    Args:
        log_w: log-weights, shape (K, B).

    Returns:
        Shape (B,).

    Example:
        >>> effective_samples(torch.zeros(4, 1))
        tensor([4.])
    """
    return torch.exp(2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0))


def pareto_k(log_w: Tensor) -> Tensor:
    r"""Shape k of the generalised Pareto distribution that the largest weights follow: how heavy their tail is.

    A mean of weights has a finite variance for k below ½, and no mean at all from 1 on. Up to about 0.7 the error of an
    estimate is what its draws say; above, the largest weight has as a rule not been drawn yet, and no effective sample
    size shows it.

    References:
        Vehtari, Simpson, Gelman, Yao, Gabry: Pareto Smoothed Importance Sampling (2024),
        https://jmlr.org/papers/v25/19-556.html.

    Args:
        log_w: log-weights, shape (K, B).

    Returns:
        Shape (B,), float64: 0 where all weights are equal to rounding, infinite where too few of them are above zero.
        NaN where there is no telling: for fewer than 25 draws, and where the largest weights repeat, as those of a
        few codes do.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> light, heavy = torch.randn(2000), 3 * torch.randn(2000)
        >>> [f"{k:.1f}" for k in pareto_k(torch.stack([light, heavy], 1).double())]
        ['0.5', '1.0']
    """
    own = log_w.T.cpu().double()
    if len(log_w) < FEWEST:
        return own.new_full((len(own),), math.nan)
    return torch.tensor([_k_of(each) for each in own], dtype=torch.float64)


def _k_of(log_w: Tensor) -> float:
    from arviz_stats.base import array_stats, stats_utils

    if sys.flags.optimize > 1:  # it adds to docstrings, of which python -OO leaves none
        stats_utils.update_docstring = lambda *_: None
    largest = log_w.sort().values[-_tail(len(log_w)) - 1 :]  # the tail, after the largest weight below it
    if not largest.isfinite().all():
        return math.inf
    if largest[-1] - largest[1] < EVEN:
        return 0.0
    quarter = largest[round(len(largest) / 4)]  # the fit takes its scale from it
    if quarter == largest[0]:
        return math.nan
    if quarter < largest[-1] + LOWEST:
        return math.inf
    with np.errstate(all="ignore"):  # what overflows is the smoothed weights of so heavy a tail, which nobody asks for
        k = float(array_stats.psislw(-log_w.clamp(min=float(log_w.max()) + LOWEST).numpy())[1])
    return math.inf if math.isnan(k) else k


def _tail(count: int) -> int:
    """How many of the largest weights make the tail, as Vehtari et al. take it."""
    return int(3 * math.sqrt(count)) if count > 225 else count // 5
