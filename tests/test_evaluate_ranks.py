"""Two sets of numbers side by side, against scipy and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import ks_2samp, mannwhitneyu, norm

from tightbound.evaluate.ranks import kolmogorov_smirnov, mann_whitney, placed, share_below

WHOLE = pytest.mark.parametrize("ties", [False, True])


def two(*, ties: bool) -> tuple[torch.Tensor, torch.Tensor]:
    own = torch.Generator().manual_seed(0)
    first, second = torch.randn(70, generator=own), 0.4 + torch.randn(50, generator=own)
    first, second = first.double(), second.double()
    return ((2 * first).round(), (2 * second).round()) if ties else (first, second)


@WHOLE
def test_the_rank_test_is_scipys(ties: bool) -> None:
    first, second = two(ties=ties)
    theirs = mannwhitneyu(first, second, method="asymptotic", use_continuity=False)
    z = mann_whitney(first, second)
    assert z < 0
    assert 2 * norm.sf(abs(z)) == pytest.approx(theirs.pvalue, rel=1e-9)
    assert mann_whitney(second, first) == pytest.approx(-z)
    assert share_below(first, second).value == pytest.approx(1 - theirs.statistic / (70 * 50))


@WHOLE
def test_the_distance_of_distributions_is_scipys(ties: bool) -> None:
    first, second = two(ties=ties)
    assert kolmogorov_smirnov(first, second) == pytest.approx(ks_2samp(first, second).statistic)


def test_the_error_of_a_share_is_that_of_its_repetitions() -> None:
    torch.manual_seed(0)
    found = [share_below(torch.randn(80), 0.7 + 2 * torch.randn(40)) for _ in range(400)]
    values, errors = torch.tensor([(each.value, each.se) for each in found]).T
    spread = values.std()
    assert errors.mean() == pytest.approx(spread.item(), abs=4 * spread.item() / math.sqrt(2 * 400))


def test_what_is_equal_counts_half_and_nan_is_the_lowest() -> None:
    assert placed(torch.tensor([1.0, torch.nan]), torch.tensor([0.0, 1.0, 2.0, torch.nan])).tolist() == [0.625, 0.125]
    assert mann_whitney(torch.ones(5), torch.ones(4)) == 0
    assert share_below(torch.ones(5), torch.ones(4)).value == 0.5
    assert kolmogorov_smirnov(torch.zeros(5), torch.ones(5)) == 1
