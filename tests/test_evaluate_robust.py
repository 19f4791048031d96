"""Far observations: named by their row, their share of the mean told, and means that they cannot move."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import tightbound as tb
from tightbound.data import Observations
from tightbound.data.splits import split_off
from tightbound.evaluate import evidence
from tightbound.evaluate.robust import Far, far, trimmed


@pytest.mark.parametrize("count", [3, 9, 10, 29, 30, 1000])
def test_the_trimmed_mean_is_that_of_scipy(count: int) -> None:
    values = torch.from_numpy(np.random.default_rng(count).standard_t(2, count))
    found = trimmed(values)
    cut = int(0.05 * count + 0.5)
    assert found.value == pytest.approx(stats.trim_mean(values.numpy(), cut / count + 1e-9))
    winsorised = np.asarray(stats.mstats.winsorize(values.numpy(), limits=(cut / count + 1e-9,) * 2))
    assert found.se == pytest.approx(winsorised.std(ddof=1) / ((1 - 2 * cut / count) * math.sqrt(count)))


def test_the_error_of_the_trimmed_mean_covers() -> None:
    """Of normals, whose mean it is: within two errors for 95 % of the samples, to the noise of 2000 of them."""
    draws = torch.randn(2000, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    inside = np.mean([abs(found.value) < 2 * found.se for found in map(trimmed, draws)])
    assert 0.93 < inside < 0.97


def test_single_values_have_no_error() -> None:
    assert math.isnan(trimmed(torch.tensor([2.0])).se)
    assert trimmed(torch.tensor([1.0, 3.0])).value == 2


NORMAL = torch.randn(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("value", [-1e30, -1e6, -200.0, 300.0])
def test_a_far_value_is_found_with_its_row_and_what_it_moves(value: float) -> None:
    values = torch.cat([NORMAL, torch.tensor([value], dtype=torch.float64)])
    (found,) = far(values, torch.arange(401) * 10)
    assert (found.index, found.row, found.value) == (400, 4000, value)
    assert found.moves == pytest.approx(values.mean().item() - NORMAL.mean().item(), rel=1e-9)


def test_values_that_belong_together_are_not_far() -> None:
    assert far(NORMAL, torch.arange(400)) == ()
    assert far(torch.cat([NORMAL, torch.tensor([-6.0])]), torch.arange(401)) == ()
    assert far(torch.tensor([0.0, 0.0, 0.0, -1e9]), torch.arange(4)) == ()  # of so few nobody can say
    assert far(torch.tensor([0.0] * 7 + [-1e9]), torch.arange(8))[0].index == 7


def test_several_are_named_the_farthest_first_and_their_shares_add_up() -> None:
    values = torch.cat([torch.tensor([-1e4, 5.0, -1e8]), NORMAL])
    found = far(values, torch.arange(403))
    assert [each.index for each in found] == [2, 0]
    assert sum(each.moves for each in found) == pytest.approx(values.mean().item() - values[[1, *range(3, 403)]].mean())
    heavy = far(torch.from_numpy(np.random.default_rng(0).standard_cauchy(400)) ** 3, torch.arange(400))
    assert 0 < len(heavy) <= 21  # a twentieth of them, and no more: then the mean is no use at all


def model(**changes: nn.Module) -> tb.VAE:
    torch.manual_seed(0)
    parts = {
        "prior": tb.priors.StandardNormal(2),
        "posterior": tb.posteriors.DiagonalNormal(nn.Linear(5, 4)),
        "likelihood": tb.likelihoods.Gaussian(nn.Linear(2, 5)),
    }
    return tb.VAE(**{**parts, **changes})


X = torch.randn(200, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("size", [1e2, 1e6, 1e15])
def test_an_evaluation_names_the_row_in_the_file_and_tells_its_share(size: float) -> None:
    """Of a split: the row in the file and not that in the split. The other numbers are as without it."""
    x = X.clone()
    where = int(split_off(Observations(x), 0.25).test.rows[7])
    x[where] = size
    test = split_off(Observations(x), 0.25).test
    found = evidence(model(), test, samples=8, proposal="posterior")
    assert [(each.index, each.row) for each in found.far] == [(7, where)]
    assert f"Row {where} of the data (from 0) moves the mean ELBO by -" in found.verdict
    plain = evidence(model(), split_off(Observations(X), 0.25).test, samples=8, proposal="posterior")
    assert plain.far == ()
    assert "moves the mean" not in plain.verdict
    assert found.elbo_median == pytest.approx(plain.elbo_median, abs=0.3)
    assert abs(found.elbo_trimmed.value - plain.elbo_trimmed.value) < plain.elbo_trimmed.se
    assert abs(found.nll_trimmed.value - plain.nll_trimmed.value) < plain.nll_trimmed.se
    assert found.elbo.value < plain.elbo.value - 100
    written = found.to_json()
    assert written["far"] == [{"index": 7, "row": where, "value": found.far[0].value, "moves": found.far[0].moves}]
    assert written["nll_trimmed"] == found.nll_trimmed.value
    assert written["elbo_median"] == found.elbo_median
    assert f"without the ends; median {found.nll_median:.2f}" in found.table


@pytest.mark.parametrize("proposal", ["posterior", "refined"])
def test_numbers_that_the_type_calls_infinite_are_left_out_and_named(proposal: str) -> None:
    x = X.clone()
    x[30, 2] = 1e39
    found = evidence(model(), Observations(x, rows=torch.arange(20, 60)), samples=8, proposal=proposal)  # type: ignore[arg-type]
    assert int((~found.counted).sum()) == 1
    assert (
        "left out of all means, as log p(x) of them is -∞ to the model's precision: row 30 of the data" in found.verdict
    )
    assert math.isfinite(found.elbo.value)


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_what_is_no_number_is_refused_by_its_row_in_the_file(value: float) -> None:
    x = X.clone()
    x[30, 2] = value
    with pytest.raises(ValueError, match="NaN or infinity in observation 30 of data"):
        evidence(model(), Observations(x, rows=torch.arange(20, 60)), samples=8)


class Off(torch.distributions.Poisson):
    """A log-probability that has lost its digits: at counts of a thousand million single precision is off by this."""

    def log_prob(self, value: Tensor) -> Tensor:
        return super().log_prob(value) + 2048 * (value > 1e6)


class Lost(tb.likelihoods.Poisson):
    def elements(self, out: Tensor, lead: int) -> torch.distributions.Distribution:
        return Off(out.exp(), validate_args=False)


def test_probabilities_above_one_are_refused() -> None:
    encoder = tb.networks.Standardized(nn.Linear(5, 4), torch.full((5,), 1e7), torch.full((5,), 1e4))
    with torch.no_grad():
        decoder = nn.Linear(2, 5)
        decoder.weight.zero_()
        decoder.bias.fill_(math.log(1e7))
    parts = {"posterior": tb.posteriors.DiagonalNormal(encoder)}
    x = torch.poisson(torch.full((60, 5), 1e7), generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"of at most 0, as Lost is .*; got 1.*e\+04 nats for row \d+ of array"):
        evidence(model(likelihood=Lost(decoder), **parts), x, samples=4, proposal="posterior")
    found = evidence(model(likelihood=tb.likelihoods.Poisson(decoder), **parts), x, samples=4, proposal="posterior")
    assert 40 < found.nll.value < 60  # five times the entropy of a Poisson of 10⁷, 9.48 nats


def test_a_far_observation_is_a_value() -> None:
    assert Far(0, 1, 2.0, 3.0) == Far(index=0, row=1, value=2.0, moves=3.0)


@pytest.mark.parametrize(("scale", "elements"), [(0.001, 5), (0.0019, 5), (0.0021, 0), (0.5, 0)])
def test_a_scale_at_its_floor_is_told_with_what_it_wins(scale: float, elements: int) -> None:
    """Of an exact copy: the log of how much narrower than the data a density is, for each element."""
    likelihood = tb.likelihoods.Gaussian(nn.Linear(2, 5), scale=scale)
    with torch.no_grad():
        likelihood.network.weight.zero_()
        likelihood.network.bias.zero_()
    found = evidence(model(likelihood=likelihood), torch.zeros(20, 5), samples=4, proposal="posterior")
    assert found.floor.elements == elements
    if elements:
        assert found.floor.nats == pytest.approx(5 * (0.5 - math.log(scale)), rel=1e-4)
        assert (
            f"5 elements are predicted to the smallest scale that there is, and win {found.floor.nats:.1f}"
            in found.verdict
        )
    else:
        assert "smallest scale" not in found.verdict


def test_only_the_elements_at_the_floor_count_and_constants_do_not() -> None:
    raw = torch.tensor([-30.0, 1.0, -30.0, 1.0, 1.0])
    network = nn.Sequential(nn.Linear(2, 10), nn.Unflatten(1, (2, 5)))
    with torch.no_grad():
        network[0].weight.zero_()
        network[0].bias.copy_(torch.cat([torch.zeros(5), raw]))
    likelihood = tb.likelihoods.Gaussian(network, scale="per-element", unit=torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0]))
    found = evidence(model(likelihood=likelihood), torch.zeros(20, 5), samples=4, proposal="posterior")
    assert found.floor.elements == 1
    assert (
        "1 element is predicted to the smallest scale that there is, and wins 7.4 nats by that alone." in found.verdict
    )
    assert found.to_json()["floor"] == {"elements": 1, "nats": found.floor.nats, "levels": 0}


GREY = torch.randint(0, 256, (20, 5), generator=torch.Generator().manual_seed(0)) / 255


@pytest.mark.parametrize(
    ("likelihood", "x", "levels"),
    [
        (tb.likelihoods.Gaussian, GREY, 256),
        (tb.likelihoods.ContinuousBernoulli, GREY, 256),
        (tb.likelihoods.Gaussian, (GREY * 16).round() / 16, 17),
        (tb.likelihoods.Gaussian, GREY + 1e-4 * torch.rand(20, 5), 0),
        (tb.likelihoods.Gaussian, GREY.round(), 0),
        (tb.likelihoods.Gaussian, 3 * GREY, 0),
        (tb.likelihoods.DiscretizedLogistic, GREY, 0),
        (tb.likelihoods.UnnormalisedBernoulli, GREY, 0),
    ],
    ids=["gaussian", "continuous-bernoulli", "17 levels", "real", "binary", "beyond 1", "levels", "no likelihood"],
)
def test_a_density_of_levels_is_called_one(likelihood: type, x: Tensor, levels: int) -> None:
    """log2(255) bits lie between a density over [0, 1] and one in steps of a level."""
    given = {"levels": 256} if likelihood is tb.likelihoods.DiscretizedLogistic else {}
    found = evidence(model(likelihood=likelihood(nn.Linear(2, 5), **given)), x, samples=4, proposal="posterior")
    assert found.floor.levels == levels
    told = f"data that are {levels} levels" in found.verdict and f"are {math.log2(max(levels - 1, 1)):.2f} more bits"
    assert bool(told) == (levels > 0)
    assert ("A density of data" in found.verdict) == (levels > 0)
