"""The dimensions of a code over observations: where they lie, a draw of them, and which are alive."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightbound.data import Observations
from tightbound.evaluate.noise import proposed, seeds_of
from tightbound.evaluate.observed import ENCODED, blocks
from tightbound.model import Model
from tightbound.runtime import evaluation_mode, home, own_random_state

CARRIES = 0.01  # nats, from which on a unit is alive


@dataclass(frozen=True, eq=False)
class Units:
    """The code of each observation, flat, on the CPU.

    Args:
        means: the posteriors' means, of bits and classes their probabilities, shape (N, L).
        draws: a draw from each posterior, shape (N, L) where it has the shape of the mean.
        alive: which units carry 0.01 nats on average, shape (L,); None where the rate has no closed form in each.

    Example:
        >>> Units(torch.zeros(3, 2), torch.zeros(3, 2), None).means.shape
        torch.Size([3, 2])
    """

    means: Tensor
    draws: Tensor
    alive: Tensor | None


def units_of(model: Model, observed: Observations, *, seed: int) -> Units:
    """Encode observations.

    Args:
        model: any.
        observed: what is encoded.
        seed: of the draws.

    Returns:
        Their units.

    Example:
        >>> import tightbound as tb
        >>> parts = tb.priors.StandardNormal(2), tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4))
        >>> model = tb.VAE(*parts, tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)))
        >>> units_of(model, Observations(torch.zeros(3, 5)), seed=0).alive.shape
        torch.Size([2])
    """
    means, draws, rates = [], [], []
    with evaluation_mode(model), own_random_state(home(model)[0], seed=seed):
        for _, batch in blocks(model, observed, ENCODED):
            means.append(model.embed(batch).flatten(1).cpu())
            draws.append(proposed(model, batch, seeds_of(batch, seed), 1)[0][0].flatten(1).cpu())
            rates.append(model.rate_per_dimension(model.encoded(batch)))
    whole = torch.cat(means)
    known = [each.cpu().double() for each in rates if each is not None and each.shape[1:] == whole.shape[1:]]
    return Units(whole, torch.cat(draws), torch.cat(known).mean(0) >= CARRIES if known else None)
