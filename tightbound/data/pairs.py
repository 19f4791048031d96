"""Pairs of observations that share some of their factors, nobody saying which."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightbound.data.observations import Observations
from tightbound.data.rows import Rows
from tightbound.settings import require_seed

TRIES = 50  # for a partner that has the factors asked for


def pairs(
    observations: Observations, *, changed: int | None = None, count: int | None = None, seed: int = 0
) -> Observations:
    r"""Pairs of observations, of which the second differs from the first in few factors.

    The factors that change are drawn at random, and so are their new values, among observations that there are. Factors
    are used to make the pairs and are not part of them: what a model sees is two observations, and that they go
    together.

    Args:
        observations: with factors.
        changed: how many factors change in each pair; by default a number drawn for each, from 1 to all but one.
        count: how many pairs; as many as there are observations by default. No pair is stored, so there may be many.
        seed: of the choice.

    Returns:
        Observations of shape (2, \*shape), for :class:`tightbound.PairedVAE`.

    Raises:
        TypeError: for a seed that is no whole number.
        ValueError: for observations without two factors that vary, another number of changes or pairs, or factors of
            which no two observations share all but these.

    References:
        Locatello et al.: Weakly-Supervised Disentanglement Without Compromises (2020),
        https://arxiv.org/abs/2002.02886.

    Example:
        >>> from tightbound.data.sprites import sprites
        >>> made = pairs(sprites(16), changed=1)
        >>> made.shape, len(made)
        (torch.Size([2, 1, 16, 16]), 9216)
    """
    require_seed(seed)
    table = observations.factor_table()
    every = [] if table is None else [column.unique(return_inverse=True)[1] for column in table.T.cpu()]
    varied = [each for each in every if int(each.max()) > 0]
    factors, count = len(varied), len(observations) if count is None else count
    if factors < 2:
        raise ValueError(
            f"Expected observations with two factors or more that vary; got {factors or 'none'} in {observations.name}."
        )
    if count < 1 or (changed is not None and not 1 <= changed < factors):
        raise ValueError(
            f"Expected changed between 1 and {factors - 1}, and count of at least 1; got changed={changed} and "
            f"count={count}."
        )
    codes, generator = torch.stack(varied, 1), torch.Generator().manual_seed(seed)
    first = torch.randint(len(codes), (count,), generator=generator)
    second = _partners(codes, first, changed, generator)
    found = (second >= 0).nonzero()[:, 0]
    if not len(found):
        raise ValueError(
            f"Expected observations that share all but some factors; got none in {observations.name}. Take more of "
            "them, or a larger changed."
        )
    rows = torch.arange(len(observations)) if observations.rows is None else observations.rows
    return Observations(
        Paired(observations.stored, rows[first[found]], rows[second[found]]),
        name=f"pairs of {observations.name}",
        scale=observations.scale,
        binarise=observations.binarise,
    )


def _partners(codes: Tensor, first: Tensor, changed: int | None, generator: torch.Generator) -> Tensor:
    """For each row another one that differs in the factors drawn for it; −1 where none was found."""
    sizes = codes.amax(0) + 1
    place = torch.cat([sizes.flip(0).cumprod(0).flip(0)[1:], sizes.new_ones(1)])  # of a factor in the key
    keys, order = (codes * place).sum(1).sort()
    count, factors = len(first), codes.shape[1]
    many = torch.full((count,), changed or 0)
    if changed is None:
        many = torch.randint(1, factors, (count,), generator=generator)
    moves = torch.rand(count, factors, generator=generator).argsort(1).argsort(1) < many[:, None]
    second, open_ = torch.full((count,), -1), torch.arange(count)
    for _ in range(TRIES):
        own, which = codes[first[open_]], moves[open_]
        # Of a factor's other values one, so that it does change.
        step = (torch.rand(own.shape, generator=generator) * (sizes - 1)).long() + 1
        wanted = (torch.where(which, (own + step) % sizes, own) * place).sum(1)
        at = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
        there = keys[at] == wanted
        second[open_[there]] = order[at[there]]
        open_ = open_[~there]
        if not len(open_):
            break
    return second


@dataclass(frozen=True, eq=False)
class Paired(Rows):
    """Two observations in the place of one.

    Args:
        stored: what they are rows of.
        first: rows, shape (N,).
        second: as many.
    """

    stored: Tensor | Rows
    first: Tensor
    second: Tensor

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        return self.stored.dtype

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.first), 2, *self.stored.shape[1:]))

    def take(self, index: Tensor) -> Tensor:
        both = (self.stored.index_select(0, rows[index]) for rows in (self.first, self.second))
        return torch.stack(tuple(both), 1)
