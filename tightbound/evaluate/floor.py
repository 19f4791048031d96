"""What raises a density and says nothing of what the model knows: scales at their floor, and data that are levels."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch.distributions import Independent

from tightbound.autoencoder import VAE
from tightbound.batch import Batch
from tightbound.distributions import InUnits
from tightbound.likelihoods import SMALLEST_SCALE
from tightbound.model import Model

SOME = 256  # observations that are looked at
MOST_LEVELS = 1024  # more are numbers
NEAR = 2.0  # times the floor
PLAIN = 0.5 * math.log(2 * math.pi * math.e)  # nats that an element of deviation 1 costs where nothing is known of it


class Floor(NamedTuple):
    """What a density wins by its unit alone.

    Attributes:
        elements: How many are at the floor.
        nats: What they win for an observation, beside elements of which nothing is known.
        levels: How many levels the data are of, as 256 of 8-bit pixels, though a density describes them; else 0.
    """

    elements: int
    nats: float
    levels: int = 0


NOTHING = Floor(0, 0.0)


def at_floor(model: Model, batch: Batch) -> Floor:
    """The elements that a density predicts to the smallest scale that there is, for most of some observations.

    Args:
        model: any; of one whose likelihood is no density in units, none.
        batch: some observations.

    Example:
        >>> import tightbound as tb
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5), scale=0.001),
        ... )
        >>> at_floor(model, Batch(torch.zeros(8, 5))).elements
        5
    """
    if not isinstance(model, VAE) or type(model).log_joint is not VAE.log_joint:
        return NOTHING
    batch = batch.rows(slice(0, SOME))
    with torch.no_grad():
        p = model.likelihood(model.seen_by_decoder(batch, model.embed(batch)))
        elements = p.base_dist if isinstance(p, Independent) else p
        known = getattr(p, "support", None)
        levels = 0 if known is None or known.is_discrete or not model.is_normalised else levels_of(batch.x)
        if not isinstance(elements, InUnits):
            return Floor(0, 0.0, levels)
        scale = elements.base.scale.expand(batch.x.shape)  # type: ignore[attr-defined]
        low = ((scale < NEAR * SMALLEST_SCALE).double().mean(0) > 0.5) & (elements.unit > 0)
        won = elements.log_prob(batch.x) + torch.where(elements.unit > 0, elements.unit, 1).log() + PLAIN
        return Floor(int(low.sum()), float(won[:, low].double().sum(1).mean()) if low.any() else 0.0, levels)


def levels_of(x: torch.Tensor) -> int:
    """How many levels of grey values between 0 and 1 are of: 256 of pixels of 8 bits. 0 for other values.

    Args:
        x: any number of values.

    Example:
        >>> levels_of(torch.tensor([0, 3, 17, 255]) / 255), levels_of(torch.tensor([0.0, 1.0]))
        (256, 0)
    """
    values = x.double().unique()
    if not 2 < len(values) <= MOST_LEVELS or values[0] < 0 or values[-1] > 1:
        return 0
    for steps in (255, round(1 / float(values.diff().min()))):
        if 1 < steps < MOST_LEVELS and bool(((values * steps - (values * steps).round()).abs() < 1e-3).all()):
            return steps + 1
    return 0
