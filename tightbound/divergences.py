"""Closed-form Kullback–Leibler divergences between the distributions that posteriors and priors give."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributions as td
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal

from tightbound.distributions import Bernoulli, ClassFirst, Exponential, Gumbel, Joint, LogNormal, Normal, OneHot
from tightbound.distributions.reparameterised import EULER

__all__ = ["kl", "kl_per_dimension", "pairwise_log_prob"]


def kl(q: Distribution, p: Distribution) -> Tensor:
    r"""Closed-form :math:`\mathrm{KL}(q \,\|\, p) = \mathbb{E}_q[\log q(z) - \log p(z)]`, in nats.

    Known for two factorised distributions of one family (normal, log-normal, exponential, Gumbel, bits, classes), for
    a full-covariance normal against a factorised one, and for such pairs side by side. Of a class and a vector given
    the class it is :math:`\mathrm{KL}(q(y) \,\|\, p(y)) + \sum_y q(y)\, \mathrm{KL}(q(z \mid y) \,\|\, p(z))`.

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
    if (pairs := _pairs(q, p)) is not None:
        return torch.stack([kl(own, other) for own, other in pairs]).sum(0)
    if isinstance(q, ClassFirst) and isinstance(p, Joint) and q.lengths == p.lengths:
        within = (q.classes.mean * kl(q.every, p.parts[0])).sum(-1)
        return kl(q.classes, p.parts[1]) + within
    if isinstance(q, MultivariateNormal) and _family(p) is Normal:
        return _full_against_factorised(q, p)  # type: ignore[arg-type]
    return kl_per_dimension(q, p).sum(-1)


def kl_per_dimension(q: Distribution, p: Distribution) -> Tensor:
    r"""Closed-form KL of each latent dimension by itself, in nats; its sum over the dimensions is the divergence.

    Args:
        q: factorised, batch shape (B,), event shape (L,).
        p: factorised, of the same family, event shape (L,).

    Returns:
        Shape (B, L); of classes, one for each variable.

    Raises:
        TypeError: where the two are not factorised distributions of one family.

    Example:
        >>> from tightbound.priors import StandardNormal
        >>> q = Independent(Normal(torch.tensor([[0.0, 2.0]]), torch.ones(1, 2)), 1)
        >>> kl_per_dimension(q, StandardNormal(2)())
        tensor([[0., 2.]])
    """
    if (pairs := _pairs(q, p)) is not None:
        return torch.cat([kl_per_dimension(own, other) for own, other in pairs], -1)
    family = _family(q)
    if family is None or family is not _family(p):
        raise TypeError(
            f"Expected a posterior and a prior of one family, each factorised; got {_name(q)} and {_name(p)}, which "
            'have no closed-form KL here. Estimate it from draws: kl="sampled".'
        )
    return _OF_FAMILY[family](_elements(q), _elements(p))


def pairwise_log_prob(q: Distribution, z: Tensor) -> Tensor:
    r"""Log-densities of every draw under every posterior of a batch, by dimension.

    Args:
        q: factorised, batch shape (B,), event shape (L,).
        z: M draws, shape (M, L).

    Returns:
        :math:`\log q(z_{ij} \mid x_k)` at [i, k, j], shape (M, B, L); of classes, one for each variable.

    Raises:
        TypeError: for a posterior that does not factorise.

    Example:
        >>> q = Independent(Normal(torch.zeros(3, 2), torch.ones(3, 2)), 1)
        >>> pairwise_log_prob(q, torch.zeros(4, 2)).shape
        torch.Size([4, 3, 2])
    """
    if isinstance(q, Joint):
        parts = zip(q.parts, z.split(list(q.lengths), -1), strict=True)
        return torch.cat([pairwise_log_prob(part, own) for part, own in parts], -1)
    if isinstance(q, Independent):
        return q.base_dist.log_prob(z[:, None])
    raise TypeError(f"Expected a posterior whose dimensions are independent; got {_name(q)}. Take DiagonalNormal.")


def _normal(q: Normal, p: Normal) -> Tensor:
    ratio = (q.scale / p.scale).square()
    return 0.5 * (ratio + ((q.loc - p.loc) / p.scale).square() - 1 - ratio.log())


def _exponential(q: Exponential, p: Exponential) -> Tensor:
    ratio = p.rate / q.rate
    return ratio - 1 - ratio.log()


def _gumbel(q: Gumbel, p: Gumbel) -> Tensor:
    ratio, apart = q.scale / p.scale, (q.loc - p.loc) / p.scale
    return apart + EULER * (ratio - 1) - 1 - ratio.log() + torch.exp(torch.lgamma(1 + ratio) - apart)


def _bits(q: Bernoulli, p: Bernoulli) -> Tensor:
    log_odds = q.logits - p.logits
    return torch.sigmoid(q.logits) * log_odds + F.logsigmoid(-q.logits) - F.logsigmoid(-p.logits)


def _classes(q: OneHot, p: OneHot) -> Tensor:
    return (q.log_probs.exp() * (q.log_probs - p.log_probs)).sum(-1)


_OF_FAMILY: dict[type[Distribution], Callable[..., Tensor]] = {
    Normal: _normal,
    LogNormal: _normal,  # the logarithm is a change of variable that both share
    Exponential: _exponential,
    Gumbel: _gumbel,
    Bernoulli: _bits,
    OneHot: _classes,
}
_KINDS: dict[type[Distribution], type[Distribution]] = {  # torch's count as ours, whose parameters have their names
    td.Normal: Normal,
    td.LogNormal: LogNormal,
    LogNormal: LogNormal,
    td.Exponential: Exponential,
    td.Gumbel: Gumbel,
    Gumbel: Gumbel,
    td.Bernoulli: Bernoulli,
    OneHot: OneHot,
}


def _pairs(q: Distribution, p: Distribution) -> list[tuple[Distribution, Distribution]] | None:
    """The parts of both, where both are made of parts of the same lengths."""
    if not (isinstance(q, Joint) and isinstance(p, Joint) and q.lengths == p.lengths):
        return None
    return list(zip(q.parts, p.parts, strict=True))


def _elements(distribution: Distribution) -> Distribution:
    return distribution.base_dist if isinstance(distribution, Independent) else distribution


def _family(distribution: Distribution) -> type[Distribution] | None:
    """Which family the independent elements of a latent have, ours or torch's; None where they are of no known one."""
    if not isinstance(distribution, Independent | OneHot):
        return None
    elements = _elements(distribution)
    return next((family for kind, family in _KINDS.items() if isinstance(elements, kind)), None)


def _full_against_factorised(q: MultivariateNormal, p: Independent) -> Tensor:
    loc, scale = p.base_dist.loc, p.base_dist.scale
    factor = q.scale_tril / scale.unsqueeze(-1)
    log_det = torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(-1)
    return 0.5 * (factor.square().sum((-2, -1)) + ((q.loc - loc) / scale).square().sum(-1) - q.loc.shape[-1]) - log_det


def _name(distribution: Distribution) -> str:
    return type(_elements(distribution)).__name__
