"""Predictive checks of a model that is right, and of others that are wrong by known factors."""

from __future__ import annotations

import dataclasses
import json
import math
import sys

import pytest
import torch
from oracle import LinearGaussian, assert_mean, linear_gaussian, standard_error
from scipy.stats import kstest
from test_contract import TwoLayers
from torch import Tensor, nn

import tightbound as tb
from tightbound.evaluate import Predictive, predictive
from tightbound.evaluate.predictive import _judged

TRUE = linear_gaussian()
COUNT = 600


def held_out(count: int = COUNT) -> Tensor:
    torch.manual_seed(5)
    return TRUE.evidence.sample((count,))


def with_noise(factor: float) -> LinearGaussian:
    return dataclasses.replace(TRUE, sigma=factor * TRUE.sigma)


def judged(factor: float = 1.0) -> Predictive:
    problem = with_noise(factor)
    return predictive(problem.model(problem.exact_posterior()), held_out(), observations=COUNT)


def test_a_right_model_predicts_what_comes() -> None:
    found = judged()
    assert found.fine
    assert_mean(found.p_values, 0.5)
    assert_mean(found.simulated_p_values, 0.5)
    assert found.above.value == pytest.approx(0.5, abs=4 * found.above.se)
    assert found.uneven < 1.63
    assert "no sign that the noise of p(x|z) is off" in found.verdict
    assert "no sign that they are unlike what it makes" in found.verdict


def test_ranks_are_uniform_under_a_right_model() -> None:
    """With the exact posterior an ELBO is log p(x) itself, whose distribution is the same on both sides."""
    found = judged()
    assert kstest(found.ranks.numpy(), "uniform").pvalue > 0.01
    torch.testing.assert_close(found.elbo.sort().values, TRUE.evidence.log_prob(held_out()).sort().values)
    # Also of a posterior that is wrong: it is wrong on both sides alike.
    wrong = predictive(TRUE.model(TRUE.wrong_posterior()), held_out(), observations=COUNT)
    assert kstest(wrong.ranks.numpy(), "uniform").pvalue > 0.01
    assert wrong.fine


def test_posterior_p_values_use_data_twice_and_gather_around_one_half() -> None:
    found = judged()
    uniform = math.sqrt(1 / 12)
    error = uniform / math.sqrt(2 * COUNT)
    assert found.p_values.std() < uniform - 4 * error
    assert (found.p_values < 0.05).double().mean() < 0.05


def by_hand_of(factor: float, count: int = 20_000) -> Tensor:
    """Whether a replica is less likely than x, for one z of each x: squares of noise over that of the model."""
    torch.manual_seed(6)
    wrong, x = with_noise(factor), held_out(count)
    z = wrong.posterior(x).sample()
    away = (x - z @ wrong.weight.T - wrong.bias) / wrong.sigma
    return (torch.randn_like(away).square().sum(1) > away.square().sum(1)).double()


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_noise_that_is_off_by_a_factor_of_two_is_seen(factor: float) -> None:
    found = judged(factor)
    assert not found.fine
    assert_mean(found.simulated_p_values, 0.5)  # the posterior is that of this model
    by_hand = by_hand_of(factor)
    assert found.realised.value == pytest.approx(
        by_hand.mean().item(), abs=4 * math.hypot(found.realised.se, standard_error(by_hand).item())
    )
    if factor < 1:
        assert found.realised.value < 0.25
        assert found.above.value < 0.25
        assert "p(x|z) is too sure of itself, for a Gaussian its σ too small" in found.verdict
        assert "are less likely than 95% of their replicas" in found.verdict
        assert "they are unusual to the model" in found.verdict
    else:
        assert found.realised.value > 0.75
        assert found.above.value > 0.75
        assert "p(x|z) is less sure than it may be, for a Gaussian its σ too large" in found.verdict
        assert "are more likely than 95% of their replicas" in found.verdict
        assert "the model spreads over things that the data do not show" in found.verdict


def test_a_wrong_posterior_is_not_taken_for_a_wrong_model() -> None:
    posterior = TRUE.wrong_posterior()
    with torch.no_grad():
        posterior.network.bias[2:] += 3
    found = predictive(TRUE.model(posterior), held_out(), observations=COUNT)
    assert found.realised.value < 0.4
    assert found.realised.value == pytest.approx(found.simulated.value, abs=4 * found.difference.se)
    assert found.fine
    assert "which is the fault of q(z|x)" in found.verdict


def test_bits_and_codes_are_judged_too() -> None:
    torch.manual_seed(0)
    model = tb.VAE(
        tb.priors.Bernoulli(3), tb.posteriors.Bernoulli(nn.Linear(9, 3)), tb.likelihoods.Bernoulli(nn.Linear(3, 9))
    )
    found = predictive(model, model.sample(300), observations=300)
    assert found.above.value == pytest.approx(0.5, abs=4 * found.above.se)
    assert predictive(model, torch.ones(50, 9), observations=50).above.value != pytest.approx(0.5, abs=0.05)


def told(p: float = 0.5, simulated: float = 0.5, *, spread: float = 0.1, count: int = 400) -> Predictive:
    noise = spread * torch.linspace(-1, 1, count)
    elbo = torch.linspace(-3, 3, count)
    return Predictive(
        p_values=p + noise, simulated_p_values=simulated + noise, elbo=elbo, simulated_elbo=elbo, draws=99, seed=0
    )


@pytest.mark.parametrize(
    ("p", "simulated", "noise"),
    [
        (0.5, 0.5, 0),
        (0.449, 0.5, -1),
        (0.451, 0.5, 0),
        (0.551, 0.5, 1),
        (0.549, 0.5, 0),
        (0.4, 0.4, 0),  # both are off alike
        (0.4, 0.349, 0),  # the held-out ones less than the others
        (0.4, 0.451, -1),
        (0.6, 0.549, 1),
        (0.5, 0.4, 0),
    ],
)
def test_noise_is_called_off_by_both_of_its_thresholds(p: float, simulated: float, noise: int) -> None:
    assert told(p, simulated)._noise == noise
    assert told(p, simulated).fine == (noise == 0)
    assert told(p, simulated, spread=0.5, count=9)._noise == 0  # too few to tell


@pytest.mark.parametrize(("shift", "fine"), [(0.0, True), (0.2, True), (0.4, False), (-0.2, True), (-0.4, False)])
def test_elbos_are_called_off_by_their_ranks(shift: float, fine: bool) -> None:
    """A shift of 0.4 in a range of 6 moves the mean rank by 0.065, one of 0.2 by 0.033."""
    found = told(count=4000)
    moved = dataclasses.replace(found, elbo=found.elbo + shift)
    assert moved.above.value == pytest.approx(0.5 + shift / 6, abs=0.003)
    assert moved.fine == fine


@pytest.mark.parametrize(("stretch", "fine"), [(1.2, True), (1.3, False)])
def test_elbos_that_are_spread_otherwise_are_called_so(stretch: float, fine: bool) -> None:
    """Of uniform ones, stretched by s, distributions are (1 − 1/s) / 2 apart."""
    found = told(count=4000)
    moved = dataclasses.replace(found, elbo=stretch * found.elbo)
    assert moved.uneven / math.sqrt(2000) == pytest.approx((1 - 1 / stretch) / 2, abs=0.003)
    assert moved.fine == fine
    assert ("one half within chance, but their ELBOs are spread otherwise" in moved.verdict) != fine
    few = told(count=30)
    assert dataclasses.replace(few, elbo=stretch * few.elbo).fine


def test_a_rows_numbers_do_not_depend_on_its_company(monkeypatch: pytest.MonkeyPatch) -> None:
    model = TRUE.model(TRUE.wrong_posterior())
    x = held_out(40)
    whole = predictive(model, x, observations=40)
    monkeypatch.setattr(sys.modules["tightbound.evaluate.predictive"], "BLOCK", 7)
    turned = predictive(model, x.flip(0), observations=40)
    assert torch.equal(turned.p_values.flip(0), whole.p_values)
    torch.testing.assert_close(turned.elbo.flip(0), whole.elbo, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        alone = _judged(model, tb.Batch(x[3:4]), 99, seed=0, rows=1000)
    assert alone[0, 0] == whole.p_values[3]
    assert alone[1, 0] == pytest.approx(whole.elbo[3].item())


def test_a_p_value_is_what_its_formula_says() -> None:
    """Of one observation, by many draws made by hand."""
    model, x = TRUE.model(TRUE.exact_posterior()), held_out(1)
    with torch.no_grad():
        found = _judged(model, tb.Batch(x), 4000, seed=0, rows=300)[0, 0]
    torch.manual_seed(1)
    z = TRUE.posterior(x).sample((4000,))
    p = model.decode(z)
    by_hand = (p.log_prob(p.sample()) < p.log_prob(x)).double()[:, 0]
    assert abs(found - by_hand.mean()) < 4 * math.sqrt(2) * standard_error(by_hand)


def test_it_repeats_tells_how_far_it_is_and_leaves_the_random_state() -> None:
    model = TRUE.model(TRUE.wrong_posterior())
    seen: list[tuple[int, int]] = []
    x = held_out(50)
    before = torch.get_rng_state()
    first = predictive(model, x, observations=300, draws=5, progress=lambda done, total: seen.append((done, total)))
    assert torch.equal(before, torch.get_rng_state())
    assert seen == [(50, 350), (306, 350), (350, 350)]
    again = predictive(model, x, observations=300, draws=5)
    assert torch.equal(first.p_values, again.p_values)
    assert torch.equal(first.simulated_elbo, again.simulated_elbo)
    other = predictive(model, x, observations=300, draws=5, seed=1)
    assert not torch.equal(first.p_values, other.p_values)


def test_in_print_and_in_json() -> None:
    found = judged()
    text = str(found)
    assert text.startswith("Predictive: 600 held-out and 600 made observations, 99 replicas each, seed 0\n")
    assert "p-values below 0.05, above 0.95" in text
    plain = found.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["realised"] == found.realised.value
    assert plain["verdict"] == found.verdict


def test_what_cannot_be_judged_is_refused() -> None:
    model = TRUE.model(TRUE.wrong_posterior())
    with pytest.raises(TypeError, match="Expected a VAE, which can simulate observations with their latents; got Two"):
        predictive(TwoLayers(), held_out(5))
    with pytest.raises(ValueError, match="Expected at least 2 observations, which show an error; got observations=1"):
        predictive(model, held_out(5), observations=1)
    with pytest.raises(ValueError, match="Expected at least 2 draws, which show an error; got draws=1"):
        predictive(model, held_out(5), draws=1)
    with pytest.raises(ValueError, match="Expected at least 2 held-out observations, which show an error; got 1 in"):
        predictive(model, held_out(1))
    grey = tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(nn.Linear(9, 4)),
        tb.likelihoods.UnnormalisedBernoulli(nn.Linear(2, 9)),
    )
    with pytest.raises(
        ValueError, match="Expected a likelihood that sums or integrates to one, whose replicas can be told from data;"
    ):
        predictive(grey, torch.rand(9, 9))
