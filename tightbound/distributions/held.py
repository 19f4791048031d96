"""Distributions with their parameters held constant, so that a gradient flows through the value alone."""

from __future__ import annotations

import torch.distributions as td
from torch.distributions import Distribution

from tightbound.distributions.bernoulli import Bernoulli
from tightbound.distributions.discrete import OneHot
from tightbound.distributions.joint import Joint
from tightbound.distributions.reparameterised import Exponential, Gumbel, Logistic, LogNormal, Normal
from tightbound.distributions.top_down import TopDown

_MADE_OF: dict[type[Distribution], tuple[str, ...]] = {
    td.Normal: ("loc", "scale"),
    Normal: ("loc", "scale"),
    LogNormal: ("loc", "scale"),
    Gumbel: ("loc", "scale"),
    Logistic: ("loc", "scale"),
    Exponential: ("rate",),
    Bernoulli: ("logits",),
    OneHot: ("logits",),
    td.MultivariateNormal: ("loc", "scale_tril"),
}


def held(distribution: Distribution) -> Distribution | None:
    """The same distribution, made of constants.

    Args:
        distribution: any.

    Returns:
        A distribution whose parameters carry no gradient; None for one of a kind that is not known here. In layers the
        networks from one to the next are not q's own, and stay as they are.

    Example:
        >>> import torch
        >>> q = Normal(torch.zeros(2, requires_grad=True), torch.ones(2))
        >>> held(q).log_prob(torch.zeros(2)).requires_grad
        False
    """
    if isinstance(distribution, td.Independent):
        base = held(distribution.base_dist)
        return base and td.Independent(base, distribution.reinterpreted_batch_ndims, validate_args=False)
    if isinstance(distribution, Joint):
        parts = [held(part) for part in distribution.parts]
        known = [part for part in parts if part is not None]
        return Joint(known) if len(known) == len(parts) else None
    if isinstance(distribution, TopDown):
        top = held(distribution.top)
        return top and TopDown(top, [below.held() for below in distribution.below], distribution.lengths[:-1])
    if hasattr(distribution, "held"):
        return distribution.held()
    names = _MADE_OF.get(type(distribution))
    if names is None:
        return None
    return type(distribution)(**{n: getattr(distribution, n).detach() for n in names}, validate_args=False)
