"""What can be said of a code without known factors: whether other trainings find the same units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tightbound.evaluate.scores.labelled import alive_units


def udr(codes: Sequence[Any], *, alive: Sequence[Any] | None = None) -> Tensor:
    r"""Unsupervised disentanglement ranking: how far each model's units are those of models trained like it.

    For two models R holds the absolute Spearman correlations of their units. A unit that only one unit of the other
    follows counts 1, one that is spread over many counts less:

    .. math:: \mathrm{UDR}_{ij} = \frac{1}{d_a + d_b} \left[\sum_b \frac{(\max_a R_{ab})^2}{\sum_a R_{ab}} +
              \sum_a \frac{(\max_b R_{ab})^2}{\sum_b R_{ab}}\right]

    over units that are alive; a model's own is the median over the others. It needs no factors, and it does not say
    that units are those that a person would name: without known factors nothing does.

    Args:
        codes: of two or more models, on the same N observations, each of shape (N, L), L may differ.
        alive: for each model which units are alive, boolean, shape (L,). By default those whose standard deviation is
            at least a thousandth of the widest unit's.

    Returns:
        One number for each model, between 0 and 1; 0 for one without a unit that is alive.

    Raises:
        ValueError: for fewer than two models, or codes of different observations.

    References:
        Duan et al.: Unsupervised Model Selection for Variational Disentangled Representation Learning (2020),
        https://arxiv.org/abs/1905.12614; Locatello et al.: Challenging Common Assumptions in the Unsupervised Learning
        of Disentangled Representations (2019), https://arxiv.org/abs/1811.12359.

    Example:
        >>> z = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
        >>> bool((udr([z, -z[:, [2, 0, 1]].exp()]) > 0.8).all())
        True
    """
    values = [torch.as_tensor(each).detach().cpu().double() for each in codes]
    if len(values) < 2:
        raise ValueError(f"Expected codes of at least two models, to compare; got {len(values)}.")
    shapes = {tuple(each.shape[:1]) if each.ndim == 2 else tuple(each.shape) for each in values}
    if len(shapes) > 1 or any(each.ndim != 2 for each in values):
        raise ValueError(
            "Expected codes of shape (N, L), of the same N observations; got "
            f"{', '.join(str(tuple(each.shape)) for each in values)}."
        )
    if alive is not None and len(alive) != len(values):
        raise ValueError(f"Expected alive for each of {len(values)} models; got {len(alive)}.")
    masks = [alive_units(*each) for each in zip(values, alive or [None] * len(values), strict=True)]
    ranks = [_ranks(each[:, mask]) for each, mask in zip(values, masks, strict=True)]
    pairs = torch.tensor([[_alike(first, second) for second in ranks] for first in ranks], dtype=torch.float64)
    others = ~torch.eye(len(ranks), dtype=torch.bool)
    return torch.stack([row[own].quantile(0.5) for row, own in zip(pairs, others, strict=True)])


def _ranks(codes: Tensor) -> Tensor:
    """Ranks of each unit, equal values sharing theirs, centred and of length 1."""
    columns = []
    for column in codes.T.contiguous():
        _, place, counts = column.unique(return_inverse=True, return_counts=True)
        last = counts.cumsum(0).double()
        columns.append((last - (counts - 1) / 2)[place])
    if not columns:
        return codes
    ranks = torch.stack(columns, 1)
    ranks = ranks - ranks.mean(0)
    return ranks / ranks.norm(dim=0).clamp(min=1e-300)


def _alike(first: Tensor, second: Tensor) -> float:
    if not first.shape[1] or not second.shape[1]:
        return 0.0
    r = (first.T @ second).abs()
    found = sum((r.amax(dim) ** 2 / r.sum(dim).clamp(min=1e-300)).sum() for dim in (0, 1))
    return float(found) / sum(r.shape)
