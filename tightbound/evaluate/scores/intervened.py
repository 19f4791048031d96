"""Scores of what codes do while one factor is held fixed and the others vary."""

from __future__ import annotations

import torch
from torch import Tensor

from tightbound.evaluate.scores.labelled import Labelled

GROUP = 64  # observations that share one value of one factor
VOTES = (3000, 1500)  # groups to learn from, and to be tried on
QUANTILE = 0.99  # of deviations, in place of the largest


def factor_vae(labelled: Labelled, seed: int) -> float:
    """FactorVAE score: which factor is fixed, told by the unit that varies least in a group, over its own spread.

    A table says for each unit which factor it stands for, by majority.

    Args:
        labelled: codes and factors.
        seed: of the groups.

    Returns:
        The accuracy on other groups.

    References:
        Kim, Mnih: Disentangling by Factorising (2018), https://arxiv.org/abs/1802.05983.
    """
    generator = torch.Generator().manual_seed(seed)
    codes = labelled.codes / labelled.codes.std(0).clamp(min=1e-300)
    table = torch.zeros(codes.shape[1], len(labelled.sizes))
    right = 0.0
    for place, count in enumerate(VOTES):
        fixed, rows, _ = _groups(labelled, count, generator)
        least = codes[rows].var(1).argmin(1)
        if place == 0:
            table.index_put_((least, fixed), torch.ones(count), accumulate=True)
        else:
            right = float((table.argmax(1)[least] == fixed).double().mean())
    return right


def beta_vae(labelled: Labelled, seed: int) -> float:
    """BetaVAE score: which factor is fixed, told linearly from how far pairs that share its value are apart.

    What a linear classifier sees is the mean over 64 pairs of the distance in each unit, over the unit's own spread.

    Args:
        labelled: codes and factors.
        seed: of the pairs.

    Returns:
        The accuracy on other pairs.

    References:
        Higgins et al.: beta-VAE (2017), https://openreview.net/forum?id=Sy2fzU9gl.
    """
    from sklearn.linear_model import LogisticRegression

    if len(labelled.sizes) == 1:
        return 1.0
    generator = torch.Generator().manual_seed(seed)
    codes = labelled.codes / labelled.codes.std(0).clamp(min=1e-300)
    seen = []
    for count in VOTES:
        fixed, rows, others = _groups(labelled, count, generator)
        seen.append(((codes[rows] - codes[others]).abs().mean(1).numpy(), fixed.numpy()))
    return float(LogisticRegression(max_iter=1000).fit(*seen[0]).score(*seen[1]))


def irs(labelled: Labelled) -> Tensor:
    r"""Interventional robustness of each unit: how little it moves with all but its own factor.

    With the factor fixed, the 0.99 quantile of its distance from the mean, averaged over values and divided by the same
    with nothing fixed; 1 less that, for the factor where it is most.

    Args:
        labelled: codes and factors.

    Returns:
        Shape (L,).

    References:
        Suter et al.: Robustly Disentangled Causal Mechanisms (2019), https://arxiv.org/abs/1811.00007, who take the
        largest distance; the quantile 0.99 is that of Locatello et al. (2019), https://arxiv.org/abs/1811.12359.
    """
    whole = _deviation(labelled.codes).clamp(min=1e-300)
    moved = []
    for factor, size in enumerate(labelled.sizes):
        groups = [labelled.codes[labelled.classes[:, factor] == value] for value in range(size)]
        moved.append(sum(_deviation(group) * (len(group) / len(labelled)) for group in groups if len(group)))
    return (1 - torch.stack([torch.as_tensor(each) for each in moved], 1) / whole[:, None]).amax(1).clamp(min=0)


def _deviation(codes: Tensor) -> Tensor:
    return (codes - codes.mean(0)).abs().quantile(QUANTILE, 0)


def _groups(labelled: Labelled, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Fixed factors, shape (count,), and two sets of 64 observations that share its value, each (count, 64)."""
    fixed = torch.randint(len(labelled.sizes), (count,), generator=generator)
    first = torch.randint(len(labelled), (count,), generator=generator)
    rows = torch.empty(count, 2 * GROUP, dtype=torch.int64)
    for factor, size in enumerate(labelled.sizes):
        column = labelled.classes[:, factor]
        order, counts = column.argsort(stable=True), torch.bincount(column, minlength=size)
        starts = counts.cumsum(0) - counts
        asked = (fixed == factor).nonzero()[:, 0]
        value = column[first[asked]]
        among = torch.rand(len(asked), 2 * GROUP, generator=generator) * counts[value, None]
        rows[asked] = order[starts[value, None] + among.long()]
    return fixed, rows[:, :GROUP], rows[:, GROUP:]
