"""Gaps against their closed forms."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from oracle import LinearGaussian, assert_mean, linear_gaussian
from test_contract import TwoLayers
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

import tightbound as tb
from tightbound.evaluate import Estimate, Gaps, gaps
from tightbound.evaluate.gaps import Parts


@pytest.fixture(scope="module")
def problem() -> LinearGaussian:
    return linear_gaussian(observed=4, latent=3)


@pytest.fixture(scope="module")
def x(problem: LinearGaussian) -> Tensor:
    torch.manual_seed(0)
    return problem.evidence.sample((200,))


@pytest.fixture(scope="module")
def wrong(problem: LinearGaussian, x: Tensor) -> Gaps:
    return gaps(problem.model(problem.wrong_posterior()), x)


def lacking(problem: LinearGaussian) -> Tensor:
    """What the best normal without correlations lacks: half the log-ratio of the determinants."""
    precision = torch.linalg.inv(problem.posterior_covariance)
    return (precision.diagonal().log().sum() - torch.logdet(precision)) / 2


def test_gaps_are_their_closed_forms(problem: LinearGaussian, x: Tensor, wrong: Gaps) -> None:
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0)).sort().values
    q = problem.wrong_posterior()(x[order])
    whole = kl_divergence(MultivariateNormal(q.mean, torch.diag_embed(q.variance)), problem.posterior(x[order]))
    columns, family = wrong.test.per_observation, lacking(problem)
    assert family > 0.05
    assert wrong.family == "diagonal"
    assert_mean(columns["log_px"] - columns["elbo"] - whole, 0.0)
    assert_mean(columns["log_px"] - columns["diagonal"] - family, 0.0)
    assert_mean(columns["diagonal"] - columns["elbo"] - (whole - family), 0.0)
    assert_mean(columns["log_px"] - columns["full"], 0.0)
    exact = problem.evidence.log_prob(x[order])
    torch.testing.assert_close(columns["full"], exact, rtol=0, atol=1e-4)  # sticking to it: no noise in an exact fit
    assert wrong.test.gap.value == pytest.approx(wrong.test.amortisation.value + wrong.test.approximation.value)
    assert wrong.test.best_full.value == pytest.approx(0, abs=4 * wrong.test.best_full.se)
    assert wrong.test.full_wins.value == pytest.approx(family.item(), abs=4 * wrong.test.full_wins.se + 1e-3)


def test_the_best_encoder_loses_nothing(problem: LinearGaussian, x: Tensor) -> None:
    best = problem.exact_diagonal_posterior()
    precision = torch.linalg.inv(problem.posterior_covariance)
    with torch.no_grad():
        best.network.bias[3:] = -precision.diagonal().log()
    found = gaps(problem.model(best), x, observations=100)
    assert_mean(found.test.per_observation["diagonal"] - found.test.per_observation["elbo"], 0.0)
    assert abs(found.test.amortisation.value) < 0.02
    full = gaps(problem.model(problem.exact_posterior()), x, observations=20)
    assert full.family == "full"
    assert full.test.amortisation.value == pytest.approx(0, abs=1e-4)
    assert full.test.elbo.value == pytest.approx(-problem.evidence.entropy().item(), abs=5 * full.test.elbo.se)


def test_other_families_have_no_parts() -> None:
    torch.manual_seed(0)
    found = gaps(TwoLayers().double(), torch.randn(6, 3, dtype=torch.float64))
    assert found.family is found.test.amortisation is found.test.approximation is found.overfitting is None
    assert "unknown" in str(found)
    assert "The encoder loses" not in found.verdict
    assert found.to_json()["test"]["amortisation"] is None
    json.dumps(found.to_json(), allow_nan=False)


def test_positive_latents_are_normal_by_their_logarithm() -> None:
    torch.manual_seed(0)
    model = tb.VAE(
        tb.priors.LogNormal(2), tb.posteriors.LogNormal(nn.Linear(3, 4)), tb.likelihoods.Gaussian(nn.Linear(2, 3))
    ).double()
    found = gaps(model, torch.randn(20, 3))
    assert found.family == "diagonal"
    assert found.test.amortisation.value > 0
    assert -0.05 < found.test.best_full.value <= found.test.best_diagonal.value + 0.02 < found.test.gap.value


def parts(**values: tuple[float, float] | None) -> Parts:
    base = dict.fromkeys(("elbo", "log_px", "gap", "best_diagonal", "best_full", "full_wins"), (1.0, 0.01))
    given = {**base, "amortisation": (0.5, 0.01), "approximation": (0.5, 0.01), **values}
    made = {name: None if each is None else Estimate(*each) for name, each in given.items()}
    return Parts(**made, observations=9, per_observation={})


def told(*, family: str | None = "diagonal", train: Parts | None = None, **values: tuple[float, float] | None) -> str:
    return Gaps(test=parts(**values), train=train, family=family, seed=0).verdict


def test_each_advice_has_its_number_and_its_threshold() -> None:
    assert "wins 0.210 ± 0.010: that is the most that a full-normal posterior can win" in told(full_wins=(0.21, 0.01))
    assert "full-normal" not in told(full_wins=(0.099, 0.01))
    assert "full-normal" not in told(full_wins=(0.3, 0.16))
    assert "full-normal" not in told(full_wins=(0.5, 0.01), family="full")
    trained = parts(amortisation=(0.2, 0.03))
    assert "The encoder over-fits by 0.300 ± 0.05" in told(amortisation=(0.5, 0.04), train=trained)
    assert "over-fits" not in told(amortisation=(0.29, 0.04), train=trained)
    assert "loses as much on training data: a larger encoder" in told(amortisation=(0.29, 0.04), train=trained)
    assert "larger encoder" not in told(amortisation=(0.05, 0.04), train=trained)
    assert "the best normal without correlations" in told()
    assert "the best normal with full covariance" in told(family="full")


def test_what_is_printed_and_progress(problem: LinearGaussian, x: Tensor, wrong: Gaps) -> None:
    seen: list[tuple[int, int]] = []
    before = torch.get_rng_state()
    model = problem.model(problem.wrong_posterior())
    torch.set_rng_state(before)
    found = gaps(model, x[:7], train=x[7:20], observations=9, progress=lambda done, total: seen.append((done, total)))
    assert torch.equal(before, torch.get_rng_state())
    assert seen[-1] == (16, 16)
    text = str(found)
    assert text.startswith("Gaps: 7 test, 9 training observations, seed 0\n")
    assert max(map(len, text.splitlines())) <= 100
    assert "lost by the encoder" in text
    plain = found.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["overfitting"] == pytest.approx(plain["test"]["amortisation"] - plain["train"]["amortisation"])
    assert dataclasses.replace(found, train=None).to_json()["overfitting"] is None
    assert wrong.train is None


def test_codes_and_single_observations_are_refused() -> None:
    model = tb.VAE(
        tb.priors.Bernoulli(2), tb.posteriors.Bernoulli(nn.Linear(3, 2)), tb.likelihoods.Gaussian(nn.Linear(2, 3))
    )
    with pytest.raises(
        ValueError, match="Expected continuous latents to fit normals to; got a model whose latents are"
    ):
        gaps(model, torch.randn(5, 3))
    with pytest.raises(ValueError, match="Expected at least 2 observations, which show an error; got observations=1"):
        gaps(model, torch.randn(5, 3), observations=1)
