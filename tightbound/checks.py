"""Whether a model describes the data at all: asked once, before training switches torch's own checks off."""

from __future__ import annotations

import torch
from torch.distributions import Distribution, Independent, constraints
from torch.distributions.constraints import Constraint

from tightbound.data import Observations
from tightbound.model import VAE

CHUNK = 2**19  # values looked at in one go


@torch.no_grad()
def require_support(model: VAE, data: Observations, *, dtype: torch.dtype, device: torch.device) -> None:
    """Look at every observation once.

    Raises:
        ValueError: for observations of another shape than the likelihood's, or values outside its support.
    """
    before, training = Distribution._validate_args, model.training
    Distribution.set_default_validate_args(True)
    model.eval()  # a batch of one is none to normalise by
    try:
        p = model.decode(model.sample_prior(1))
        support = _support(p)
    finally:
        Distribution.set_default_validate_args(before)
        model.train(training)
    if p.event_shape != data.shape:
        raise ValueError(
            f"Expected observations of shape {tuple(p.event_shape)}, as the likelihood has it; got "
            f"{tuple(data.shape)} in {data.name}. Its network's output must have the shape of one observation."
        )
    if support is None or data.binarise:
        return
    rows = max(CHUNK // data.shape.numel(), 1)
    order = torch.arange(len(data)) if data.rows is None else data.rows.cpu().argsort()  # as they lie on the disk
    for part in order.split(rows):
        x = data.unbinarised(part, dtype)
        inside = support.check(x.to(device))
        if not inside.all():
            first = int(part[int(inside.logical_not().nonzero()[0, 0])])
            raise ValueError(
                f"Expected values in the support of {type(model.likelihood).__name__} ({support}); got others in "
                f"{data.name}, first in observation {first}, between {x.min():g} and {x.max():g}. {_remedy(support)}"
            )


def _remedy(support: Constraint) -> str:
    element = getattr(support, "base_constraint", support)  # of one number of an observation
    if element is constraints.boolean:
        return (
            "Grey data: binarise it (tb.data.load(...).binarised()), take a density for [0, 1] such as "
            "ContinuousBernoulli, or say Bernoulli(network, grey=True) and give up the likelihood."
        )
    if element is constraints.unit_interval:
        return "Divide by the largest value there can be (8-bit pixels: 255), or take Gaussian for data without bounds."
    return "Rescale the data, or take a likelihood made for such values."


def _support(p: Distribution) -> Constraint | None:
    """Where the distribution lives, or None where nobody knows or it was told to let anything through."""
    element: Distribution = p
    while isinstance(element, Independent):
        element = element.base_dist
    try:
        return p.support if element._validate_args else None
    except NotImplementedError:
        return None
