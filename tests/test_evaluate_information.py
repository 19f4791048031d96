"""Information against its closed forms, and what must not be told."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from oracle import LinearGaussian, linear_gaussian
from test_contract import TwoLayers
from torch import Tensor, nn

import tightbound as tb
from tightbound.batch import Batch
from tightbound.evaluate import Estimate, Information, information
from tightbound.posteriors import DiagonalNormal

COUNT = 3000


@pytest.fixture(scope="module")
def problem() -> LinearGaussian:
    return linear_gaussian(observed=4, latent=3)


def leaning(problem: LinearGaussian) -> DiagonalNormal:
    """A posterior two of whose means move together: q(z) is correlated."""
    posterior = problem.wrong_posterior()
    with torch.no_grad():
        posterior.network.weight[1] = posterior.network.weight[0]
    return posterior


@pytest.fixture(scope="module")
def found(problem: LinearGaussian) -> Information:
    torch.manual_seed(0)
    return information(problem.model(leaning(problem)), problem.evidence.sample((COUNT,)), draws=COUNT)


def covariances(problem: LinearGaussian) -> tuple[Tensor, Tensor]:
    """Of q(z | x) and of q(z), the latter over all x that the model makes."""
    q = leaning(problem)
    gain = q.network.weight[:3].detach()
    own = torch.diag(q(problem.bias[None]).variance[0].detach())
    return own, gain @ problem.evidence.covariance_matrix @ gain.T + own


def test_bounds_and_parts_are_near_their_closed_forms(problem: LinearGaussian, found: Information) -> None:
    own, whole = covariances(problem)
    exact = (torch.logdet(whole) - torch.logdet(own)).item() / 2
    middle = leaning(problem)(problem.bias[None]).mean[0].detach()
    marginal = 0.5 * (whole.trace() + middle.square().sum() - 3 - torch.logdet(whole)).item()
    correlation = 0.5 * (whole.diagonal().log().sum() - torch.logdet(whole)).item()
    assert correlation > 0.1
    assert found.saturated == 0
    assert found.lower.value < exact + 3 * found.lower.se
    assert found.upper.value > exact - 3 * found.upper.se
    assert found.lower.value == pytest.approx(exact, abs=3 * found.lower.se + 0.03)
    assert found.upper.value == pytest.approx(exact, abs=3 * found.upper.se + 0.05)
    assert found.rate.value == pytest.approx(exact + marginal, abs=4 * found.rate.se)
    assert found.marginal_kl.value == pytest.approx(marginal, abs=4 * found.marginal_kl.se + 0.05)
    assert found.total_correlation.value == pytest.approx(correlation, abs=4 * found.total_correlation.se + 0.05)


def test_the_rate_is_the_sum_of_its_parts(found: Information) -> None:
    assert found.rate.value == pytest.approx(found.lower.value + found.marginal_kl.value)
    assert found.marginal_kl.value == pytest.approx(found.total_correlation.value + found.dimension_wise.value)


@pytest.mark.parametrize("count", [5, 1030])
def test_it_is_the_exact_mixture_over_all_observations(problem: LinearGaussian, count: int) -> None:
    """Draws by draws, whatever is compared at a time."""
    x = problem.evidence.sample((count,))
    model = problem.model(problem.wrong_posterior())
    found = information(model, x, draws=count)
    q = model.posterior(x)
    torch.manual_seed(0)
    z = q.rsample((400,)).detach()
    log_q = torch.stack([q.log_prob(each[:, None]) for each in z[: 400 if count == 5 else 1]])
    told = log_q.diagonal(dim1=1, dim2=2) - (log_q.logsumexp(2) - math.log(count))
    spread = told.flatten().std() / math.sqrt(told.numel())
    assert found.lower.value == pytest.approx(told.mean().item(), abs=4 * (found.lower.se + spread.item()))


@pytest.mark.parametrize("each", [1, 20])
def test_of_codes_it_is_the_sum_over_them(each: int) -> None:
    """The error is over observations; the noise of draws, of which each has equally many, is all that is off."""
    torch.manual_seed(0)
    model = tb.VAE(
        tb.priors.Bernoulli(3), tb.posteriors.Bernoulli(nn.Linear(4, 3)), tb.likelihoods.Gaussian(nn.Linear(3, 4))
    ).double()
    x = 3 * torch.randn(400, 4, dtype=torch.float64)
    codes = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 3)
    log_q = model.log_posterior(Batch(x), codes[:, None].expand(-1, 400, -1)).detach()
    together = log_q.logsumexp(1) - math.log(400)
    told = log_q - together[:, None]
    exact = (log_q.exp() * told).sum(0)
    within = ((log_q.exp() * told.square()).sum(0) - exact.square()).mean().item()
    found = information(model, x, draws=400 * each + 399)
    assert found.draws == 400 * each
    assert found.lower.value == pytest.approx(exact.mean().item(), abs=4 * math.sqrt(within / found.draws))
    assert found.lower.se == pytest.approx(math.sqrt((exact.var().item() + within / each) / 400), rel=0.1)
    assert found.total_correlation is not None


def test_what_follows_from_the_number_of_observations_alone_is_refused(problem: LinearGaussian) -> None:
    """A narrow posterior knows its own observation and no other: the bound is log N, whatever N is."""
    posterior = problem.wrong_posterior()
    with torch.no_grad():
        posterior.network.bias[3:] = -20.0
    for count in (20, 200):
        found = information(problem.model(posterior), problem.evidence.sample((count,)))
        assert found.saturated > 0.9
        assert found.lower.value == pytest.approx(math.log(count), abs=0.1)
        assert found.marginal_kl is found.total_correlation is None
        assert found.dimension_wise is not None
        assert found.upper.value > 10
        assert f"the lower bound cannot pass log N = {math.log(count):.2f}" in found.verdict
        assert "not to be told" in str(found)


def test_the_least_upper_bound_is_not_above_the_rate(found: Information) -> None:
    assert found.upper.value <= found.rate.value + 3 * found.rate.se


def test_models_of_ones_own_are_asked_through_the_contract() -> None:
    torch.manual_seed(0)
    model, x = TwoLayers().double(), torch.randn(300, 3, dtype=torch.float64)
    found = information(model, x)
    assert found.total_correlation is found.dimension_wise is None  # of the parts that it overrides nothing is known
    z, log_q = model.propose(Batch(x), 1)
    rate = (log_q - model.log_joint(Batch(x), z)[1])[0].detach()
    assert found.rate.value == pytest.approx(rate.mean().item(), abs=4 * (found.rate.se + rate.std().item() / 17))
    other = tb.VAE(
        tb.priors.MixtureOfNormals(2, components=2),
        tb.posteriors.DiagonalNormal(nn.Linear(3, 4)),
        tb.likelihoods.Gaussian(nn.Linear(2, 3)),
    )
    mixed = information(other, torch.randn(50, 3))
    assert mixed.dimension_wise is mixed.total_correlation is None  # a mixture is no product


def test_the_verdict_has_both_sides_of_its_thresholds(found: Information) -> None:
    assert "know no other" not in dataclasses.replace(found, saturated=0.2).verdict
    assert "know no other" in dataclasses.replace(found, saturated=0.21).verdict
    strayed = {"rate": Estimate(5.0, 0.1), "saturated": 0.0}
    assert "learned prior" in dataclasses.replace(found, **strayed, marginal_kl=Estimate(0.51, 0.1)).verdict
    assert "learned prior" not in dataclasses.replace(found, **strayed, marginal_kl=Estimate(0.49, 0.1)).verdict


def test_two_bounds_that_print_alike_are_one_number(found: Information) -> None:
    alike = dataclasses.replace(found, lower=Estimate(0.381, 0.1), upper=Estimate(0.384, 0.1))
    assert "The code tells 0.38 nats about an observation" in alike.verdict
    apart = dataclasses.replace(found, lower=Estimate(0.381, 0.1), upper=Estimate(0.386, 0.1))
    assert "The code tells between 0.38 and 0.39 nats" in apart.verdict


def test_in_print_and_in_json(found: Information) -> None:
    assert str(found).startswith(f"Information: {COUNT} observations, {COUNT} draws, seed 0\n")
    assert max(map(len, str(found).splitlines())) <= 100
    plain = found.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["lower"] == found.lower.value


def test_draws_are_of_the_observations_that_the_model_sees(problem: LinearGaussian) -> None:
    """Of grey data too: the fixed pixels belong to a place in the data."""
    torch.manual_seed(0)
    posterior, likelihood = tb.posteriors.DiagonalNormal(nn.Linear(6, 4)), tb.likelihoods.Bernoulli(nn.Linear(2, 6))
    model = tb.VAE(tb.priors.StandardNormal(2), posterior, likelihood)
    grey = tb.data.Observations(torch.randint(256, (90, 6), dtype=torch.uint8), scale=255, binarise=True)
    binary = information(model, grey.eval_batch().x, draws=30)
    assert information(model, grey, draws=30).to_json() == binary.to_json()


def test_bad_requests_and_the_random_state(problem: LinearGaussian) -> None:
    model, x = problem.model(problem.wrong_posterior()), torch.randn(6, 4)
    with pytest.raises(ValueError, match="Expected at least 2 draws, which show an error; got draws=1"):
        information(model, x, draws=1)
    with pytest.raises(ValueError, match="Expected at least 2 observations to tell apart; got 1 in"):
        information(model, x[:1])
    seen: list[tuple[int, int]] = []
    before = torch.get_rng_state()
    first = information(model, x, progress=lambda done, total: seen.append((done, total)))
    assert torch.equal(before, torch.get_rng_state())
    assert seen == [(6, 6)]
    assert information(model, x).to_json() == first.to_json()
    assert information(model, x, seed=1).lower != first.lower
