"""Closed-form Kullback–Leibler divergences between the distributions that posteriors and priors give."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal


def kl(q: Distribution, p: Distribution) -> Tensor:
    r"""Closed-form :math:`\mathrm{KL}(q \,\|\, p) = \mathbb{E}_q[\log q(z) - \log p(z)]`, in nats.

    Known for factorised normals, and for a full-covariance normal against a factorised one.

    Args:
        q: batch shape (B,), event shape (L,).
        p: batch shape () or (B,), event shape (L,).

    Returns:
        Divergences, shape (B,).

    Raises:
        TypeError: for pairs without a closed form here; use draws instead.

    Example:
        >>> from tightbound.priors import StandardNormal
        >>> kl(StandardNormal(3)(), StandardNormal(3)())
        tensor(0.)
    """
    if isinstance(q, MultivariateNormal) and _factorised(p):
        return _full_against_factorised(q, p)  # type: ignore[arg-type]
    return kl_per_dimension(q, p).sum(-1)


def kl_per_dimension(q: Distribution, p: Distribution) -> Tensor:
    r"""Closed-form KL of each latent dimension by itself, in nats; its sum over the dimensions is the divergence.

    Args:
        q: a factorised normal, batch shape (B,), event shape (L,).
        p: a factorised normal, event shape (L,).

    Returns:
        Shape (B, L).

    Raises:
        TypeError: where the two are not factorised normals.

    Example:
        >>> from tightbound.priors import StandardNormal
        >>> q = Independent(Normal(torch.tensor([[0.0, 2.0]]), torch.ones(1, 2)), 1)
        >>> kl_per_dimension(q, StandardNormal(2)())
        tensor([[0., 2.]])
    """
    if not (_factorised(q) and _factorised(p)):
        raise TypeError(
            f"Expected a normal posterior and a factorised normal prior; got {_name(q)} and {_name(p)}, which have no "
            'closed-form KL here. Estimate it from draws: kl="sampled".'
        )
    a, b = q.base_dist, p.base_dist  # type: ignore[attr-defined]
    ratio = (a.scale / b.scale).square()
    return 0.5 * (ratio + ((a.loc - b.loc) / b.scale).square() - 1 - ratio.log())


def _factorised(distribution: Distribution) -> bool:
    return isinstance(distribution, Independent) and isinstance(distribution.base_dist, Normal)


def _full_against_factorised(q: MultivariateNormal, p: Independent) -> Tensor:
    loc, scale = p.base_dist.loc, p.base_dist.scale
    factor = q.scale_tril / scale.unsqueeze(-1)
    log_det = torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(-1)
    return 0.5 * (factor.square().sum((-2, -1)) + ((q.loc - loc) / scale).square().sum(-1) - q.loc.shape[-1]) - log_det


def _name(distribution: Distribution) -> str:
    inner = distribution.base_dist if isinstance(distribution, Independent) else distribution
    return type(inner).__name__
