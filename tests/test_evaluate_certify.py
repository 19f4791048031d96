"""Annealing and the sandwich, against a model whose log p(x) is known."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from oracle import LinearGaussian, assert_mean, linear_gaussian, standard_error
from test_contract import TwoLayers
from torch import Tensor, nn

import tightbound as tb
from tightbound.batch import Batch
from tightbound.evaluate import Certificate, Estimate, Schedule, certify
from tightbound.evaluate.accelerate import Accelerated
from tightbound.evaluate.annealing import Annealer, lower, upper
from tightbound.evaluate.proposals import Proposal
from tightbound.evaluate.target import Target

LATENT, COUNT = 4, 400


@pytest.fixture(scope="module")
def problem() -> LinearGaussian:
    return linear_gaussian(observed=4, latent=LATENT)


@pytest.fixture(scope="module")
def simulated(problem: LinearGaussian) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    z = torch.randn(COUNT, LATENT, dtype=torch.float64)
    noise = problem.sigma * torch.randn(COUNT, 4, dtype=torch.float64)
    return z @ problem.weight.T + problem.bias + noise, z


def annealer(problem: LinearGaussian, x: Tensor, proposal: Proposal, schedule: Schedule) -> Annealer:
    model = problem.model(problem.wrong_posterior())
    target = Target(Accelerated(model, torch.float32, compile=False), torch.Size([LATENT]))
    return Annealer(target, Batch(x), proposal, list(range(len(x))), schedule)


def off(count: int) -> Proposal:
    """A proposal that no posterior is like."""
    factor = torch.diag_embed(torch.full((count, LATENT), 0.9, dtype=torch.float64))
    return Proposal.of(torch.full((count, LATENT), -0.3, dtype=torch.float64), factor)


@pytest.mark.parametrize("temperatures", [1, 2, 5, 20])
def test_the_truth_lies_between_at_every_number_of_temperatures(problem, simulated, temperatures: int) -> None:
    x, z = simulated
    walker = annealer(problem, x, off(COUNT), Schedule(temperatures, 2, 3))
    exact = problem.evidence.log_prob(x)
    below, above = lower(walker.forwards()) - exact, upper(walker.backwards(z)) - exact
    assert below.mean() < 3 * standard_error(below)
    assert above.mean() > -3 * standard_error(above)
    assert (above - below).mean() > 3 * standard_error(above - below)


def test_weights_are_unbiased_forwards_and_backwards(problem, simulated) -> None:
    x, z = simulated
    walker = annealer(problem, x, off(COUNT), Schedule(30, 2, 3))
    exact = problem.evidence.log_prob(x)
    assert_mean((walker.forwards().log_w - exact).exp().mean(0), 1.0)
    assert_mean((exact - walker.backwards(z).log_w).exp().mean(0), 1.0)


def test_more_temperatures_close_the_gap(problem, simulated) -> None:
    x, z = simulated
    gaps = []
    for temperatures in (2, 8, 32):
        walker = annealer(problem, x[:100], off(100), Schedule(temperatures, 2, 3))
        gaps.append((upper(walker.backwards(z[:100])) - lower(walker.forwards())).mean().item())
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 0


def test_from_the_exact_posterior_there_is_nothing_to_walk(problem, simulated) -> None:
    x, z = simulated[0][:20], simulated[1][:20]
    truth = problem.posterior(x)
    factor = torch.linalg.cholesky(truth.covariance_matrix).expand(20, -1, -1)
    walker = annealer(problem, x, Proposal.of(truth.mean, factor), Schedule(5, 3, 3))
    exact = problem.evidence.log_prob(x)
    for walk, bound in ((walker.forwards(), lower), (walker.backwards(z), upper)):
        torch.testing.assert_close(bound(walk), exact, rtol=0, atol=1e-9)
        torch.testing.assert_close(walk.log_w, exact.expand(3, -1), rtol=0, atol=1e-9)
        assert walk.accepted.min() > 0.3


def test_step_sizes_are_frozen_and_walks_repeat(problem, simulated) -> None:
    x, z = simulated[0][:5], simulated[1][:5]
    walker = annealer(problem, x, off(5), Schedule(6, 2, 2))
    sizes = [size.clone() for size in walker.sizes]
    first, back = walker.forwards(), walker.backwards(z)
    assert torch.equal(first.log_w, walker.forwards().log_w)
    assert torch.equal(back.log_w, walker.backwards(z).log_w)
    assert all(torch.equal(old, new) for old, new in zip(sizes, walker.sizes, strict=True))
    alone = annealer(problem, x[2:3], off(1), Schedule(6, 2, 2))
    alone.seeds = [2]
    alone.sizes = [size[2:3] for size in sizes]
    torch.testing.assert_close(alone.forwards().log_w, first.log_w[:, 2:3])


@pytest.mark.parametrize("name", ["temperatures", "chains", "leapfrogs"])
def test_a_schedule_has_one_of_each_at_least(name: str) -> None:
    Schedule(**{name: 1})
    with pytest.raises(ValueError, match=f"Expected at least 1 of {name}; got {name}=0"):
        Schedule(**{name: 0})


@pytest.fixture(scope="module")
def made(problem: LinearGaussian, simulated: tuple[Tensor, Tensor]) -> Certificate:
    return certify(problem.model(problem.wrong_posterior()), simulated[0], observations=150)


def test_both_methods_and_both_bounds_give_the_evidence(problem, made, simulated) -> None:
    chosen = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))[:150].sort().values
    exact = problem.evidence.log_prob(simulated[0][chosen])
    for name in ("refined", "annealed"):
        assert_mean(made.per_observation[name] - exact, 0.0)
    assert made.agrees
    assert made.refined.value == pytest.approx(-made.per_observation["refined"].mean().item())
    assert abs(made.gap.value) < 4 * made.gap.se
    assert made.largest_gap == (made.per_observation["upper"] - made.per_observation["lower"]).max().item()
    expected = -problem.evidence.entropy().item()  # of what the model simulates
    assert made.simulated.value == pytest.approx(expected, abs=4 * made.simulated.se)
    assert "Two unlike methods give one number" in made.verdict
    assert "So the sampler finds log p(x) on the model's own data. It proves nothing about other data" in made.verdict


def test_a_certificate_in_print_and_in_json(made: Certificate) -> None:
    text = str(made)
    assert text.startswith("Certificate: 150 observations; 30 temperatures, 4 chains, 3 leapfrogs, seed 0\n")
    assert max(map(len, text.splitlines())) <= 100
    for name in ("NLL, refined", "NLL, annealed", "difference", "lower bound", "upper bound", "gap", "528 slopes"):
        assert name in text
    found = made.to_json()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert (found["temperatures"], found["slopes"], found["agrees"]) == (30, 528, True)
    assert found["gap_se"] == made.gap.se


def test_what_does_not_agree_or_is_wide_is_told(made: Certificate) -> None:
    apart = dataclasses.replace(made, difference=Estimate(-0.5, 0.1))
    assert not apart.agrees
    assert "do not agree: annealing lies 0.50 ± 0.10 nats below" in apart.verdict
    assert dataclasses.replace(made, difference=Estimate(0.31, 0.1)).verdict.count("nats above the refined") == 1
    assert dataclasses.replace(made, difference=Estimate(0.29, 0.1)).agrees
    assert dataclasses.replace(made, difference=Estimate(0.019, 0.001)).agrees
    assert not dataclasses.replace(made, difference=Estimate(0.021, 0.001)).agrees
    wide = dataclasses.replace(made, gap=Estimate(0.31, 0.1))
    assert "too far to certify anything" in wide.verdict
    assert "too far" not in dataclasses.replace(made, gap=Estimate(0.29, 0.1)).verdict
    assert "too far" not in dataclasses.replace(made, gap=Estimate(0.1, 0.001)).verdict


def test_a_model_that_cannot_simulate_has_no_upper_bound() -> None:
    torch.manual_seed(0)
    found = certify(TwoLayers().double(), torch.randn(10, 3, dtype=torch.float64), observations=10)
    assert found.agrees
    assert found.gap is found.upper is found.largest_gap is None
    assert "no bound from above" in found.verdict
    assert "upper bound" not in str(found)
    assert found.to_json()["upper"] is None


def test_positive_latents_are_walked_through_too() -> None:
    torch.manual_seed(0)
    model = tb.VAE(
        tb.priors.LogNormal(2), tb.posteriors.LogNormal(nn.Linear(3, 4)), tb.likelihoods.Gaussian(nn.Linear(2, 3))
    ).double()
    found = certify(model, torch.randn(40, 3), observations=40)
    assert found.agrees
    assert abs(found.gap.value) < max(4 * found.gap.se, 0.02)


def test_codes_and_single_observations_are_refused() -> None:
    model = tb.VAE(
        tb.priors.Bernoulli(2), tb.posteriors.Bernoulli(nn.Linear(3, 2)), tb.likelihoods.Gaussian(nn.Linear(2, 3))
    )
    with pytest.raises(ValueError, match="Expected continuous latents to walk through; got a model whose latents are"):
        certify(model, torch.randn(5, 3))
    with pytest.raises(ValueError, match="Expected at least 2 observations, which show an error; got observations=1"):
        certify(model, torch.randn(5, 3), observations=1)
    with pytest.raises(ValueError, match=r"Expected observations of shape \(3,\)"):
        certify(model, torch.randn(5, 4))


def test_progress_counts_both_kinds_and_the_random_state_stays(problem: LinearGaussian) -> None:
    told: list[tuple[int, int]] = []
    model, x = problem.model(problem.wrong_posterior()), torch.randn(9, 4)
    before = torch.get_rng_state()
    found = certify(model, x, observations=7, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (14, 14)
    assert found.observations == 7
    assert torch.equal(before, torch.get_rng_state())
    again = certify(model, x, observations=7)
    assert again.to_json() == {**found.to_json(), "seconds": again.seconds}
    assert not math.isnan(found.accepted)


def test_chains_that_fit_into_no_memory_are_refused_before_the_walk() -> None:
    model, x = linear_gaussian().model(linear_gaussian().exact_posterior()), linear_gaussian().evidence.sample((4,))
    with pytest.raises(
        ValueError, match=r"fit into this machine's memory of .* got chains=1,000,000,000,000,000, which"
    ):
        certify(model, x, schedule=Schedule(chains=10**15))


@pytest.mark.parametrize("longest", [{"temperatures": 10**12}, {"leapfrogs": 10**9}, {"chains": 10**6}])
def test_a_walk_that_would_not_end_is_refused(longest: dict[str, int]) -> None:
    model, x = linear_gaussian().model(linear_gaussian().exact_posterior()), linear_gaussian().evidence.sample((4,))
    with pytest.raises(ValueError, match=r"takes at most 10,000,000 slopes; got .*Take fewer: 1000 temperatures"):
        certify(model, x, schedule=Schedule(**longest))


def test_a_long_walk_tells_how_far_it_is_within_a_block(problem: LinearGaussian) -> None:
    told: list[tuple[int, int]] = []
    model, x = problem.model(problem.wrong_posterior()), torch.randn(9, 4)
    certify(model, x, observations=7, progress=lambda done, total: told.append((done, total)))
    assert told == sorted(set(told))
    assert len(told) > 4
