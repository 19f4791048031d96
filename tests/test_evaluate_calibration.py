"""Coverage of a posterior that is right, and of others by known factors too narrow or too wide."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from oracle import LinearGaussian, assert_mean, linear_gaussian
from test_contract import TwoLayers
from torch import nn
from torch.distributions import Normal

import tightbound as tb
from tightbound.evaluate import Calibration, calibration
from tightbound.evaluate.calibration import weighted_ranks


@pytest.fixture(scope="module")
def problem() -> LinearGaussian:
    return linear_gaussian(orthogonal=True)


def judged(problem: LinearGaussian, stretch: float = 1.0, shift: float = 0.0) -> Calibration:
    posterior = problem.exact_diagonal_posterior()
    deviation = problem.posterior_covariance.diagonal().sqrt()
    with torch.no_grad():
        posterior.network.bias[2:] += 2 * torch.tensor(stretch).log()
        posterior.network.bias[:2] += shift * deviation
    return calibration(problem.model(posterior), observations=2000)


def test_the_true_posterior_covers_what_it_says(problem: LinearGaussian) -> None:
    found = judged(problem)
    for level, covered in found.coverage.items():
        assert covered.value == pytest.approx(level, abs=4 * covered.se)
    assert (found.uneven < 2).all()
    assert found.ranks.min() == 0
    assert found.ranks.max() == 99
    assert found.verdict == "The posterior's intervals cover what they say, on data that the model simulates."


@pytest.mark.parametrize(("stretch", "words"), [(0.5, "too narrow: it is surer of z"), (1.5, "too wide")])
def test_one_that_is_off_by_a_factor_covers_what_follows_from_it(
    problem: LinearGaussian, stretch: float, words: str
) -> None:
    found = judged(problem, stretch)
    for level, covered in found.coverage.items():
        edge = Normal(0.0, 1.0).icdf(torch.tensor((1 + level) / 2))
        expected = 2 * Normal(0.0, 1.0).cdf(stretch * edge).item() - 1
        assert covered.value == pytest.approx(expected, abs=4 * covered.se + 0.01)  # 99 draws know their tails by 1 %
    assert (found.uneven > 3).all()
    assert f"The posterior is {words}" in found.verdict
    assert "central 50% intervals" in found.verdict


def test_a_biased_one_has_its_ranks_on_one_side(problem: LinearGaussian) -> None:
    found = judged(problem, shift=1.0)
    assert found.ranks.double().mean() < 35
    assert (found.uneven > 10).all()
    assert "too narrow" in found.verdict


def test_intervals_hold_as_many_ranks_as_they_say() -> None:
    every = Calibration(ranks=torch.arange(100)[:, None].expand(-1, 3), draws=99, seed=0)
    assert [covered.value for covered in every.coverage.values()] == pytest.approx([0.5, 0.8, 0.95])
    assert every.coverage_per_dimension.tolist() == pytest.approx([0.8] * 3)
    assert (every.uneven < 0.11).all()
    assert every.verdict.startswith("The posterior's intervals cover")


def test_the_dimension_that_is_off_the_most_is_named() -> None:
    even, middle = torch.arange(1000) % 100, torch.full((1000,), 50)
    found = Calibration(ranks=torch.stack([even, middle, even], 1), draws=99, seed=0)
    assert "The posterior is too wide." in found.verdict
    assert "dimension 1 (from 0) is off the most" in found.verdict


def test_in_print_and_in_json(problem: LinearGaussian) -> None:
    found = dataclasses.replace(judged(problem), seed=3)
    assert str(found).startswith("Calibration: 2000 simulated observations, 99 draws each, seed 3\n")
    assert "central 80% interval covers" in str(found)
    plain = found.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert [each["interval"] for each in plain["coverage"]] == [0.5, 0.8, 0.95]


def test_it_repeats_tells_how_far_it_is_and_leaves_the_random_state(problem: LinearGaussian) -> None:
    model = problem.model(problem.wrong_posterior())
    seen: list[tuple[int, int]] = []
    before = torch.get_rng_state()
    first = calibration(model, observations=300, progress=lambda done, total: seen.append((done, total)))
    assert torch.equal(before, torch.get_rng_state())
    assert seen == [(256, 300), (300, 300)]
    assert torch.equal(first.ranks, calibration(model, observations=300).ranks)
    assert not torch.equal(first.ranks, calibration(model, observations=300, seed=1).ranks)


def test_what_cannot_be_simulated_or_ranked_is_refused() -> None:
    with pytest.raises(TypeError, match="Expected a VAE, which can simulate observations with their latents; got Two"):
        calibration(TwoLayers())
    codes = tb.VAE(
        tb.priors.Bernoulli(2), tb.posteriors.Bernoulli(nn.Linear(3, 2)), tb.likelihoods.Gaussian(nn.Linear(2, 3))
    )
    with pytest.raises(ValueError, match="Expected continuous latents to rank; got a model whose latents are discrete"):
        calibration(codes)
    with pytest.raises(ValueError, match="Expected at least 2 observations, which show an error; got observations=1"):
        calibration(codes, observations=1)


# Refined proposals


@pytest.mark.parametrize("latent", [2, 6])
def test_refined_proposals_cover_what_they_say_where_the_posterior_does_not(latent: int) -> None:
    problem = linear_gaussian(observed=4, latent=latent)
    model = problem.model(problem.wrong_posterior())
    ours = calibration(model, observations=2000)
    refined = calibration(model, observations=2000, proposal="refined")
    assert not ours.fine
    assert (ours.uneven > 1.63).any()
    assert refined.fine
    assert (refined.uneven < 1.63).all()
    for level, covered in refined.coverage.items():
        assert covered.value == pytest.approx(level, abs=4 * covered.se)
    ends = (refined.ranks == 0) | (refined.ranks == 99)
    assert_mean(ends.double().mean(1), 0.02)
    assert refined.verdict == "The refined sampler's intervals cover what they say, on data that the model simulates."
    assert str(refined).startswith("Calibration: 2000 simulated observations, refined proposals, seed 0\n")
    assert refined.to_json()["proposal"] == "refined"
    assert ours.to_json()["proposal"] == "posterior"


def test_a_sampler_that_misses_a_mode_is_found_out() -> None:
    """x tells |z| alone, and a proposal that is fitted to one sign knows nothing of the other."""

    class Distance(nn.Module):
        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return z.abs()

    class OneSign(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x, torch.full_like(x, -5.0)], 1)

    model = tb.VAE(
        tb.priors.StandardNormal(1),
        tb.posteriors.DiagonalNormal(OneSign()),
        tb.likelihoods.Gaussian(Distance(), scale=0.05),
    )
    found = calibration(model, observations=400, proposal="refined")
    assert not found.fine
    assert found.coverage[0.95].value < 0.7
    assert "The refined sampler is too narrow" in found.verdict
    assert "log p(x) comes out too low: look at Pareto's k." in found.verdict


def test_positive_latents_are_ranked_too() -> None:
    model = tb.VAE(
        tb.priors.LogNormal(2),
        tb.posteriors.LogNormal(nn.Linear(3, 4)),
        tb.likelihoods.Gaussian(nn.Linear(2, 3), scale=0.5),
    )
    torch.manual_seed(0)
    assert calibration(model, observations=1000, proposal="refined").fine


def test_ranks_of_equal_weights_are_those_of_the_draws() -> None:
    """The known latent is one more draw: with 99 others each rank is as likely as any, whatever breaks the ties."""
    draws = torch.arange(99.0)[:, None, None]
    none = torch.zeros(99, 1).double()
    for rank in (0, 1, 50, 99):
        for turn in (0.001, 0.999):
            turns = torch.full((1, 1), turn).double()
            assert weighted_ranks(none, draws < rank, turns).item() == rank


def test_weighted_ranks_follow_the_weights() -> None:
    below = torch.tensor([True, False])[:, None, None]
    turns = torch.full((1, 1), 0.5).double()
    heavy = torch.tensor([[0.9], [0.1]]).double().log()
    ess = 1 / (0.9**2 + 0.1**2)
    assert weighted_ranks(heavy, below, turns).item() == int(100 * (ess * 0.9 + 0.5) / (ess + 1))
    assert weighted_ranks(heavy, ~below, turns).item() == int(100 * (ess * 0.1 + 0.5) / (ess + 1))
    nothing = torch.full((2, 1), -torch.inf).double()
    assert weighted_ranks(nothing, below, turns).item() == 0


def test_a_row_has_the_same_refined_ranks_in_any_block(
    problem: LinearGaussian, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = problem.model(problem.wrong_posterior())
    whole = calibration(model, observations=30, proposal="refined")
    monkeypatch.setattr("tightbound.evaluate.observed.WRITTEN", 5 * 16 * 7)  # seven observations at a time
    parts = calibration(model, observations=30, proposal="refined")
    assert torch.equal(whole.ranks, parts.ranks)


def test_few_observations_are_not_called_wrong_by_chance() -> None:
    """One latent of a hundred outside: its own spread alone would call 99 % far from 95 %."""
    ranks = torch.cat([torch.tensor([1]), 10 + torch.arange(99) % 80])[:, None]
    found = Calibration(ranks=ranks, draws=99, seed=0)
    assert found.coverage[0.95].value == 0.99
    assert found._wrong != (0.95, found.coverage[0.95])


def test_another_proposal_is_refused(problem: LinearGaussian) -> None:
    with pytest.raises(ValueError, match="Expected a proposal of posterior or refined; got 'enumerated'"):
        calibration(problem.model(problem.wrong_posterior()), proposal="enumerated")
