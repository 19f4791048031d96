"""The estimates against a model whose log p(x) is known exactly."""

from __future__ import annotations

import itertools
import sys

import pytest
import torch
from oracle import LinearGaussian, assert_mean, linear_gaussian
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

import tightbound as tb
from tightbound.data import Observations
from tightbound.evaluate import Evidence, evidence, observed

COUNT = 200
MODULE = sys.modules["tightbound.evaluate.evidence"]  # the package has the function under this name


@pytest.fixture(scope="module")
def problem() -> LinearGaussian:
    return linear_gaussian()


@pytest.fixture(scope="module")
def x(problem: LinearGaussian) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return problem.evidence.sample((COUNT,))


@pytest.fixture(scope="module")
def wrong(problem: LinearGaussian, x: Tensor) -> Evidence:
    return evidence(problem.model(problem.wrong_posterior()), x, samples=2000, proposal="posterior")


def test_at_the_exact_posterior_every_bound_is_log_px(problem, x):
    torch.set_default_dtype(torch.float64)  # a decoder rounded to float32 on its way would not be the exact one
    report = evidence(problem.model(problem.exact_posterior()), x, samples=100, proposal="posterior")
    exact = problem.evidence.log_prob(x)
    for name in ("elbo", "log_px"):
        torch.testing.assert_close(report.per_observation[name], exact, rtol=0, atol=1e-10)
    for _, bound in report.iwae:
        assert bound.value == pytest.approx(exact.mean().item(), abs=1e-10)
        assert bound.se == pytest.approx(exact.std().item() / COUNT**0.5, rel=1e-9)
    torch.testing.assert_close(report.per_observation["ess"], torch.full((COUNT,), 100.0, dtype=torch.float64))
    assert report.reliable
    assert "tight" in report.verdict


def test_importance_weighting_rises_to_log_px(problem, x, wrong):
    bounds = [bound.value for _, bound in wrong.iwae]
    assert [k for k, _ in wrong.iwae] == [1, 10, 100, 1000, 2000]
    assert all(low < high for low, high in itertools.pairwise(bounds))
    # The leading term of the bias: half the variance of the mean weight, relative to its square.
    ess = wrong.per_observation["ess"]
    bias = 0.5 / wrong.samples - 0.5 / ess
    assert_mean(wrong.per_observation["log_px"] - problem.evidence.log_prob(x) - bias, 0.0)


def test_the_elbo_lacks_exactly_the_divergence_from_the_true_posterior(problem, x, wrong):
    q = problem.wrong_posterior()(x)
    normal = MultivariateNormal(q.mean, torch.diag_embed(q.variance))
    lacking = kl_divergence(normal, problem.posterior(x))
    assert_mean(problem.evidence.log_prob(x) - wrong.per_observation["elbo"] - lacking, 0.0)
    assert wrong.gap.value == pytest.approx(lacking.mean().item(), abs=4 * wrong.gap.se)


def test_elbo_is_minus_distortion_minus_rate(wrong):
    values = wrong.per_observation
    torch.testing.assert_close(values["elbo"], -values["distortion"] - values["rate_sampled"])
    assert wrong.elbo.value == wrong.iwae[0][1].value
    assert wrong.nll.value == -wrong.iwae[-1][1].value


def test_the_rise_of_a_bound_is_paired_by_observation(problem, x, wrong):
    assert (wrong.rises[0].value, wrong.rises[0].se) == (0.0, 0.0)
    for (_, bound), rise, told in zip(wrong.iwae, wrong.rises, wrong.to_json()["iwae"], strict=True):
        assert rise.value == pytest.approx(bound.value - wrong.elbo.value, abs=1e-9)
        assert (told["rise"], told["rise_se"]) == (rise.value, rise.se)
    assert 0 < wrong.rises[-1].se < wrong.iwae[-1][1].se  # what observations differ by cancels
    exact = evidence(problem.model(problem.exact_posterior()), x, samples=10)
    assert exact.rises[-1].value == pytest.approx(0.0, abs=1e-9)
    assert exact.rises[-1].se == pytest.approx(0.0, abs=1e-9)
    assert exact.iwae[-1][1].se > 0.01


def test_closed_form_rate_agrees_with_the_draws(problem, x, wrong):
    assert wrong.rate_kind == "closed-form"
    assert_mean(wrong.per_observation["rate"] - wrong.per_observation["rate_sampled"], 0.0)
    assert wrong.kl_per_dimension is not None
    assert wrong.kl_per_dimension.sum().item() == pytest.approx(wrong.rate.value)
    full = evidence(problem.model(problem.exact_posterior()), x, samples=500)
    assert full.rate_kind == "closed-form"
    assert full.kl_per_dimension is None  # a full covariance does not fall apart into dimensions
    assert_mean(full.per_observation["rate"] - full.per_observation["rate_sampled"], 0.0)


def test_mixture_prior_has_a_sampled_rate(problem, x):
    model = problem.model(problem.wrong_posterior())
    model.prior = tb.priors.MixtureOfNormals(2, components=3).double()
    report = evidence(model, x[:20], samples=200)
    assert report.rate_kind == "sampled"
    assert report.rate == report.rate_sampled
    assert report.kl_per_dimension is None
    assert report.to_json()["kl_per_dimension"] is None
    assert "sampled" in str(report)


def test_mean_variance_and_active_units(problem, x):
    model = problem.model(problem.wrong_posterior())
    with torch.no_grad():
        model.posterior.network.weight[1] = 0  # the second dimension's mean
    report = evidence(model, x, samples=2**12)  # 16 observations a block
    expected = model.embed(x).detach().var(0, correction=0)
    torch.testing.assert_close(report.mean_variance, expected)
    assert report.active.tolist() == [True, False]
    assert (report.active_units, report.latent_dim) == (1, 2)
    assert "1 of 2 latent dimensions carry information" in report.verdict
    assert "dimension 1 (from 0) is switched off" in report.verdict


def test_a_collapsed_posterior_is_called_so():
    problem = linear_gaussian()
    model = problem.model(problem.wrong_posterior())
    for parameter in (*model.posterior.parameters(), model.likelihood.network.weight):
        nn.init.zeros_(parameter)  # q(z | x) = p(z), and a decoder deaf to z: the exact posterior of that model
    report = evidence(model, torch.randn(30, 5), samples=50, proposal="posterior")
    assert report.verdict.startswith("The posterior has collapsed: none of the 2 latent dimensions carries information")
    assert report.rate.value == pytest.approx(0, abs=1e-12)
    assert report.gap.value == pytest.approx(0, abs=1e-12)
    assert "tight" in report.verdict


def test_bits_per_dim_of_coin_flips():
    likelihood = tb.likelihoods.Bernoulli(nn.Linear(2, 6))
    for parameter in likelihood.parameters():
        nn.init.zeros_(parameter)
    model = tb.VAE(tb.priors.StandardNormal(2), tb.posteriors.DiagonalNormal(nn.Linear(6, 4)), likelihood)
    report = evidence(model, torch.randint(2, (20, 6)), samples=5000)
    assert report.bits_per_dim == pytest.approx(1.0, abs=1e-2)
    assert report.distortion.value == pytest.approx(6 * torch.log(torch.tensor(2.0)).item(), rel=1e-6)
    assert report.is_likelihood


def test_a_badly_fitting_posterior_is_not_reliable(problem, x):
    posterior = problem.wrong_posterior()
    with torch.no_grad():
        posterior.network.bias[:2] += 4  # many of its own standard deviations beside the true one
    report = evidence(problem.model(posterior), x, samples=100, proposal="posterior")
    assert report.high_k_share > 0.9
    assert not report.reliable
    assert "The ELBO is loose" in report.verdict
    assert "Pareto's k above 0.7" in report.verdict
    assert "upper bound" in str(report)
    assert report.nll.value > -problem.evidence.log_prob(x).mean().item()


def test_binarised_data_are_seen_with_their_fixed_pixels():
    model = tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(nn.Linear(6, 4)),
        tb.likelihoods.Bernoulli(nn.Linear(2, 6)),
    )
    grey = Observations(torch.randint(256, (20, 6), dtype=torch.uint8), scale=255, binarise=True)
    assert evidence(model, grey, samples=10).elbo == evidence(model, grey.eval_batch().x, samples=10).elbo


def test_grey_values_under_bernoulli_are_called_no_likelihood():
    model = tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(nn.Linear(6, 4)),
        tb.likelihoods.UnnormalisedBernoulli(nn.Linear(2, 6)),
    )
    report = evidence(model, torch.rand(20, 6), samples=10)
    assert not report.is_likelihood
    assert not report.to_json()["is_likelihood"]
    assert report.verdict.startswith("No likelihood")
    assert "No likelihood" in str(report)


def test_one_sample_is_enough_and_none_is_not(problem, x):
    model = problem.model(problem.wrong_posterior())
    report = evidence(model, x[:4], samples=1, proposal="posterior")
    assert report.elbo.value == -report.nll.value
    assert "nan" not in str(report)
    assert not report.reliable
    assert evidence(model, x[:4], samples=1).elbo == report.elbo  # the same draws, however log p(x) is estimated
    with pytest.raises(ValueError, match="Expected at least 1 sample; got samples=0"):
        evidence(model, x[:4], samples=0)


@pytest.mark.parametrize("per_element", [False, True])
@pytest.mark.parametrize("written", [40, 7, 1])
def test_the_decoder_writes_no_more_than_a_cache_holds(monkeypatch, per_element: bool, written: int):
    monkeypatch.setattr(observed, "WRITTEN", written)
    numbers = 10 if per_element else 5
    network = nn.Sequential(nn.Linear(2, numbers), nn.Unflatten(-1, (2, 5)) if per_element else nn.Identity())
    scale = "per-element" if per_element else 1.0
    model = tb.VAE(
        prior=tb.priors.StandardNormal(2),
        posterior=tb.posteriors.DiagonalNormal(nn.Linear(5, 4)),
        likelihood=tb.likelihoods.Gaussian(network, scale=scale),
    )
    seen = []
    hook = network.register_forward_hook(lambda _module, _inputs, out: seen.append(out.numel()))
    evidence(model, torch.zeros(1, 5), samples=30, proposal="posterior")
    hook.remove()
    latents = max(written // numbers, 1)
    calls = -(-30 // latents)
    assert sum(seen[-calls:]) == 30 * numbers  # what comes before is the check of the model
    assert max(seen[-calls:]) == latents * numbers


def test_observations_wider_than_a_block_are_read_one_by_one(monkeypatch, problem):
    monkeypatch.setattr(MODULE, "READ", 3)
    model, seen = problem.model(problem.wrong_posterior()), []
    evidence(model, torch.zeros(3, 5), samples=2, progress=lambda done, _total: seen.append(done))
    assert seen == [1, 2, 3]


def test_blocks_are_never_larger_than_a_batch_of_encodings(monkeypatch, problem):
    monkeypatch.setattr(MODULE, "BLOCK", 4)
    model, seen = problem.model(problem.wrong_posterior()), []
    evidence(model, torch.zeros(10, 5), samples=2, progress=lambda done, _total: seen.append(done))
    assert seen == [4, 8, 10]


def test_errors_name_the_data(problem):
    model = problem.model(problem.wrong_posterior())
    named = Observations(torch.zeros(3, 4), name="the wrong table")
    with pytest.raises(ValueError, match="the wrong table"):
        evidence(model, named, samples=2)
    broken = torch.zeros(3, 5)
    broken[1, 0] = torch.nan
    with pytest.raises(ValueError, match=r"observation 1.*the broken table|the broken table.*observation 1"):
        evidence(model, Observations(broken, name="the broken table"), samples=2)


# Equal observations have the same draws: their noise adds up


@pytest.mark.parametrize("proposal", ["refined", "posterior"])
def test_the_error_of_equal_observations_covers_their_common_noise(
    problem: LinearGaussian, x: Tensor, proposal: str
) -> None:
    model, equal = problem.model(problem.wrong_posterior()), x[:1].expand(50, -1)
    found = [evidence(model, equal, samples=100, proposal=proposal, error=0.2, seed=seed) for seed in range(60)]
    for name in ("nll", "elbo", "distortion", "rate_sampled"):
        each = torch.tensor([getattr(one, name).value for one in found])
        said = torch.tensor([getattr(one, name).se for one in found]).square().mean().sqrt()
        assert 0.7 < float(each.std() / said) < 1.4, name  # four standard errors of a deviation of sixty
    for numbers in ([one.gap for one in found], [one.rises[-1] for one in found]):  # of two numbers with one noise
        each, said = (torch.tensor([getattr(one, name) for one in numbers]) for name in ("value", "se"))
        assert float(each.std() / said.square().mean().sqrt()) < 1.4
    for one in found:
        assert one.nll.se == pytest.approx(one.draws_error)
        assert one.draws_error == pytest.approx(float(one.per_observation["error"][0]))
        assert all(bound.se > 0 for _, bound in one.iwae)


def test_the_error_of_some_equal_observations_by_hand(problem: LinearGaussian, x: Tensor) -> None:
    index = torch.tensor([0, 1, 0, 2, 0, 1])
    found = evidence(problem.model(problem.wrong_posterior()), x[index], samples=64)
    columns = found.per_observation
    assert columns["same"].tolist() == [0, 1, 0, 3, 0, 1]
    a, b, _, c, _, _ = columns["error"]
    assert found.draws_error == pytest.approx(float(((3 * a) ** 2 + (2 * b) ** 2 + c**2).sqrt() / 6))
    added = ((9 - 3) * a**2 + (4 - 2) * b**2) / 36 * 6 / 5  # the spread has a sixth of it
    assert found.nll.se == pytest.approx(float((columns["log_px"].var() / 6 + added).sqrt()))


def test_observations_that_differ_have_the_error_of_their_spread_alone(wrong: Evidence) -> None:
    values = wrong.per_observation
    assert values["same"].tolist() == list(range(COUNT))
    assert wrong.nll.se == pytest.approx(float(values["log_px"].std()) / COUNT**0.5, rel=1e-12)
    assert wrong.draws_error == pytest.approx(float(values["error"].square().sum().sqrt()) / COUNT)
