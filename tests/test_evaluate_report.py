"""The report: estimates in print, in JSON and in words."""

from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest
import torch
from oracle import draws_with, linear_gaussian

from tightbound import posteriors, priors
from tightbound.autoencoder import VAE
from tightbound.divergences import kl_per_dimension
from tightbound.evaluate import Estimate, Evidence, evidence, verdict
from tightbound.evaluate.estimates import bits_per_dim
from tightbound.evaluate.importance import bound_at, effective_samples, sample_counts
from tightbound.evaluate.latents import LatentStatistics
from tightbound.likelihoods import Gaussian
from tightbound.posteriors import DiagonalNormal
from tightbound.priors import StandardNormal

ESTIMATES = {"elbo", "distortion", "rate", "rate_sampled", "nll", "gap"}
ABOUT = {
    "observations",
    "samples",
    "seed",
    "precision",
    "proposal",
    "draws_mean",
    "draws_max",
    "draws_error",
    "excluded",
    "ess_median",
    "low_ess_share",
    "k_median",
    "high_k_share",
    "reliable",
    "is_likelihood",
    "verdict",
}
CODE = {"information", "rate_kind", "active_units", "latent_dim", "active", "mean_variance", "kl_per_dimension"}
ROBUST = {
    "elbo_median",
    "nll_median",
    "far",
    "floor",
    *(f"{name}_trimmed{end}" for name in ("elbo", "nll") for end in ("", "_se")),
}
KEYS = (
    ESTIMATES
    | {f"{name}_se" for name in ESTIMATES}
    | ABOUT
    | CODE
    | ROBUST
    | {"iwae", "bits_per_dim", "remark", "rate_by_layer"}
    | {"findings", "baselines"}
)


def report(observations: int = 12, samples: int = 100) -> Evidence:
    problem = linear_gaussian()
    return evidence(problem.model(problem.wrong_posterior()), torch.randn(observations, 5), samples=samples)


@pytest.mark.parametrize(
    ("value", "se", "text"),
    [
        (-86.1234, 0.3056, "-86.12 ± 0.31"),
        (-86.1234, 3.056, "-86.1 ± 3.1"),
        (-1234.5, 96.0, "-1234 ± 96"),
        (0.0123456, 0.00021, "0.01235 ± 0.00021"),
        (1.0, 1e-15, "1.000000 ± 0.000000"),
        (-1.5, 0.0, "-1.50 ± 0.00"),
        (-1.5, math.nan, "-1.50 ± unknown"),
    ],
)
def test_an_estimate_prints_as_many_digits_as_it_knows(value, se, text):
    assert str(Estimate(value, se)) == text


def test_standard_error_is_the_spread_over_the_root_of_n():
    values = torch.randn(50)
    assert Estimate.of(values).value == pytest.approx(values.mean().item())
    assert Estimate.of(values).se == pytest.approx(values.std().item() / 50**0.5)
    assert math.isnan(Estimate.of(values[:1]).se)


@pytest.mark.parametrize(
    ("samples", "counts"), [(1, (1,)), (2, (1, 2)), (10, (1, 10)), (64, (1, 10, 64)), (1000, (1, 10, 100, 1000))]
)
def test_bounds_are_shown_at_powers_of_ten_and_at_all_samples(samples, counts):
    assert sample_counts(samples) == counts


def test_bound_at_averages_over_all_full_groups():
    log_w = torch.randn(7, 4, dtype=torch.float64)
    groups = log_w[:3].logsumexp(0) - math.log(3), log_w[3:6].logsumexp(0) - math.log(3)
    torch.testing.assert_close(bound_at(draws_with(log_w), 3), (groups[0] + groups[1]) / 2)
    torch.testing.assert_close(bound_at(draws_with(log_w), 1), log_w.mean(0))


def test_effective_samples_counts_equal_weights_and_ignores_their_scale():
    log_w = torch.full((6, 3), -1000.0, dtype=torch.float64)
    log_w[3:, 1] = -torch.inf
    log_w[1:, 2] = -torch.inf
    torch.testing.assert_close(effective_samples(log_w), torch.tensor([6.0, 3.0, 1.0]).double())


def test_latent_statistics_do_not_depend_on_the_blocks():
    posterior, prior = DiagonalNormal(torch.nn.Linear(3, 8)).double(), StandardNormal(4).double()
    x = 10 + torch.randn(50, 3, dtype=torch.float64)
    whole, blocks = LatentStatistics(), LatentStatistics()
    with torch.no_grad():
        whole.add(posterior(x).mean, kl_per_dimension(posterior(x), prior()))
        for part in x.split(7):
            blocks.add(posterior(part).mean, kl_per_dimension(posterior(part), prior()))
        torch.testing.assert_close(whole.mean_variance, posterior(x).mean.var(0, correction=0))
    torch.testing.assert_close(blocks.mean_variance, whole.mean_variance)
    torch.testing.assert_close(blocks.kl, whole.kl)


def test_json_has_every_key_and_no_nan():
    made = report()
    plain = made.to_json()
    assert set(plain) == KEYS
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["nll"] == made.nll.value
    assert plain["nll_se"] == made.nll.se
    last, rise = made.iwae[-1][1], made.rises[-1]
    kept = {"samples": 100, "value": last.value, "se": last.se, "rise": rise.value, "rise_se": rise.se}
    assert plain["iwae"][-1] == kept
    assert len(plain["kl_per_dimension"]) == plain["latent_dim"] == 2


def test_a_single_observation():
    made = report(observations=1)
    assert json.loads(json.dumps(made.to_json(), allow_nan=False))["elbo_se"] is None
    assert "± unknown" in str(made)
    assert "One observation cannot show" in made.verdict


def test_text_shows_the_whole_table():
    made = report()
    text = str(made)
    assert repr(made) == text
    assert text.startswith("Evidence: 12 observations, 100 samples each, seed 0, float64\n")
    for name in ("ELBO", "distortion", "rate", "IWAE, K = 1 ", "IWAE, K = 100 ", "NLL", "bits per dim", "active units"):
        assert name in text
    assert "closed form" in text
    assert max(map(len, text.splitlines())) <= 100


def active(*on: bool) -> torch.Tensor:
    return torch.tensor(on)


@pytest.mark.parametrize(
    ("flags", "rate", "words"),
    [
        (
            active(False, False),
            0.01,
            r"collapsed: none of the 2 .* does without the code \(rate 0.01 nats\).*free bits",
        ),
        (active(False, False), -0.001, r"rate 0 nats"),
        (active(False, False), 3.0, r"collapsed: .* mean that moves with x, yet the rate is 3 nats.*tells little"),
        (active(True, False), 3.0, r"1 of 2 .*dimension 1 \(from 0\) is switched off, which is normal"),
        (active(True, False, False), 3.0, r"dimensions 1, 2 \(from 0\) are switched off"),
        (active(True, *[False] * 11), 3.0, r"dimensions 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, … \(from 0\)"),
        (active(True, False), 0.05, r"The rate is only 0.05 nats, though"),
        (active(True, True), 3.0, r"^All 2 latent dimensions carry information \(.*\)\.$"),
        (active(True), 3.0, r"^The one latent dimension carries information"),
    ],
)
def test_words_on_the_code(flags, rate, words):
    assert re.search(words, verdict.on_code(flags, rate, 100))


@pytest.mark.parametrize(
    ("gap", "rate", "reliable", "words"),
    [
        (3.25, 20.0, True, "The ELBO is loose: it lies 3.2 nats below log p(x)"),
        (3.25, 20.0, False, "The ELBO is loose: it lies at least 3.2 nats below log p(x)"),
        (3.25, 500.0, True, "The ELBO is tight: log p(x) lies about 3.2 nats above it."),
        (0.5, 1.0, True, "The ELBO is tight"),
    ],
)
def test_words_on_the_bound(gap, rate, reliable, words):
    assert verdict.on_bound(gap, rate, reliable=reliable).startswith(words)


def test_an_unreliable_small_gap_is_not_called_tight():
    assert verdict.on_bound(0.5, 20.0, reliable=False) == ""


@pytest.mark.parametrize(
    ("share", "draws", "error", "proposal", "latent", "words"),
    [
        (
            0.0,
            1,
            0.0,
            "posterior",
            "real",
            r"1 draw an observation cannot tell .* Take proposal=.refined.",
        ),
        (0.0, 5, 0.0, "posterior", "discrete", r"5 draws an observation cannot tell .*bound. Take more samples."),
        (0.34, 1000, 0.0, "posterior", "real", "For 34% of .*k above 0.7.*Take proposal='refined'; more samples help"),
        (0.34, 1000, 0.0, "posterior", "discrete", "For 34% of the observations .*Fit a better posterior; more"),
        (0.34, 1000, 0.0, "refined", "real", "For 34% of the observations .*Fit a better posterior; more samples"),
        (0.0, 100, 0.051, "posterior", "real", "The noise of the draws alone moves the NLL by 0.051 nats: take more"),
    ],
)
def test_words_on_the_weights(share, draws, error, proposal, latent, words):
    assert re.match(words, verdict.on_weights(share, draws, error, proposal=proposal, latent=latent))


def test_good_weights_need_no_words():
    for share, draws, error in ((0.0, 25, 0.0), (0.05, 1000, 0.05)):
        assert verdict.on_weights(share, draws, error, proposal="refined") == ""
    assert verdict.on_weights(1.0, 1, 9.0, proposal="enumerated") == ""


def test_what_is_left_out_is_said():
    assert verdict.on_excluded(torch.ones(3, dtype=torch.bool)) == ""
    many = verdict.on_excluded(torch.arange(30) < 18)
    assert many.startswith("12 of 30 observations are left out of all means")
    assert "rows 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, … of the data (from 0)" in many
    assert "row 40 of the data" in verdict.on_excluded(torch.arange(3) < 2, torch.tensor([5, 7, 40]))


def test_bits_per_dim_of_uniform_bytes_is_eight():
    assert bits_per_dim(-784 * math.log(256), 784) == pytest.approx(8)


def judged(**columns: list[float]) -> Evidence:
    """A report whose observations have these values."""
    made = report(observations=len(next(iter(columns.values()))))
    values = {name: torch.tensor(column, dtype=torch.float64) for name, column in columns.items()}
    return dataclasses.replace(made, per_observation={**made.per_observation, **values})


@pytest.mark.parametrize(("high", "reliable"), [(0, True), (5, True), (6, False)])
def test_a_mean_stands_few_observations_of_high_k(high: int, reliable: bool):
    made = judged(k=[0.71] * high + [0.7] * (99 - high) + [math.nan])
    assert made.high_k_share == pytest.approx(high / 100)
    assert made.reliable is reliable
    assert ("upper bound on" in str(made)) is not reliable
    assert ("Pareto's k above 0.7" in made.verdict) is not reliable


@pytest.mark.parametrize(("draws", "enough"), [(24, False), (25, True)])
def test_few_draws_tell_no_tail(draws: int, enough: bool):
    made = judged(draws=[draws] * 3, k=[0.0] * 3, error=[0.01] * 3)
    assert made.reliable is enough
    assert ("cannot tell log p(x)" in made.verdict) is not enough
    assert dataclasses.replace(made, proposal="enumerated").reliable


@pytest.mark.parametrize(("error", "small"), [(0.0999, True), (0.1001, False)])
def test_the_error_of_the_draws_is_that_of_a_mean(error: float, small: bool):
    made = judged(error=[error] * 4, k=[0.0] * 4)
    assert made.draws_error == pytest.approx(error / 2)
    assert made.reliable is small


def test_what_is_told_of_the_draws():
    made = judged(draws=[64.0, 128.0, 256.0], ess=[9.0, 12.0, 11.0], k=[0.1, math.nan, 0.3])
    assert (made.draws_mean, made.draws_max, made.ess_median) == (pytest.approx(448 / 3), 256, 11.0)
    assert (made.low_ess_share, made.k_median) == (pytest.approx(1 / 3), pytest.approx(0.1))
    assert "149.3 an observation on average, 256 at most" in str(made)
    assert "unknown; above 0.7 for 0.0%" in str(judged(k=[math.nan] * 3))


def test_a_dimension_is_active_above_a_variance_of_a_hundredth():
    made = dataclasses.replace(report(), mean_variance=torch.tensor([0.0099, 0.0101, 0.0, 5.0]).double())
    assert made.active.tolist() == [False, True, False, True]
    assert (made.active_units, made.latent_dim) == (2, 4)


def test_what_is_printed_to_the_letter():
    made = Evidence(
        elbo=Estimate(-90.5, 0.25),
        distortion=Estimate(65.5, 0.25),
        rate=Estimate(25.0, 0.11),
        rate_kind="closed-form",
        rate_sampled=Estimate(25.0, 0.12),
        iwae=((1, Estimate(-90.5, 0.25)), (10, Estimate(-88.25, 0.25)), (100, Estimate(-87.0, 0.25))),
        nll=Estimate(87.0, 0.25),
        bits_per_dim=0.16009,
        per_observation={
            "log_px": torch.full((2,), -87.0),
            "elbo": torch.full((2,), -90.5),
            "error": torch.tensor([0.03, 0.04]),
            "draws": torch.tensor([64.0, 128.0]),
            "ess": torch.tensor([31.25, 40.0]),
            "k": torch.tensor([0.25, 0.35]),
        },
        kl_per_dimension=None,
        mean_variance=torch.tensor([1.0, 0.0]),
        observations=1,
        samples=100,
        proposal="refined",
        seed=3,
        precision="bfloat16",
        is_likelihood=True,
    )
    table = """\
Evidence: 1 observation, 100 samples each, seed 3, bfloat16
  ELBO                    -90.50 ± 0.25      nats per observation, higher is better
  distortion               65.50 ± 0.25      -E log p(x|z)
  rate                     25.00 ± 0.11      KL(q(z|x) || p(z)), closed form
  IWAE, K = 1             -90.50 ± 0.25      draws from q(z|x)
  IWAE, K = 10            -88.25 ± 0.25
  IWAE, K = 100           -87.00 ± 0.25
  NLL                      87.00 ± 0.25      estimate of -log p(x), by refined proposals
  NLL, middle 90%          87.00 ± 0.00      without the ends; median 87.00
  bits per dim      0.1601
  draws             96 an observation on average, 128 at most; their noise moves the NLL by 0.025
  effective of them median 31.25
  Pareto's k        median 0.25; above 0.7 for 0.0% of the observations
  active units      1 of 2
"""
    words, verdict = str(made).split("\n\n")
    assert words == table.rstrip("\n")
    assert verdict.split() == made.verdict.split()
    assert max(map(len, verdict.splitlines())) > 90
    values = {**made.per_observation, "k": torch.tensor([0.25, 0.75])}
    doubtful = dataclasses.replace(made, per_observation=values, proposal="posterior", observations=2)
    told = "87.00 ± 0.25      upper bound on -log p(x): see below, from q(z|x)\n"
    assert f"  NLL                      {told}" in str(doubtful)
    assert str(doubtful).startswith("Evidence: 2 observations, 100")


def test_two_values_have_a_standard_error():
    assert Estimate.of(torch.tensor([1.0, 3.0])) == Estimate(2.0, 1.0)


@pytest.mark.parametrize(("gap", "loose"), [(1.0, False), (1.01, True)])
def test_a_gap_of_one_nat_is_still_tight(gap: float, loose: bool):
    said = verdict.on_bound(gap, 5.0, reliable=True)
    assert ("loose" in said) == loose
    assert verdict.on_bound(0.5, 5.0, reliable=True).endswith("lies about 0.5 nats above it.")


def test_no_more_than_ten_dead_dimensions_are_listed():
    assert verdict.on_code(torch.tensor([True] + [False] * 10), 3.0, 5).count("…") == 0
    assert "9, 10, … (from 0) are" in verdict.on_code(torch.tensor([True] + [False] * 11), 3.0, 5)
    assert verdict.on_code(torch.tensor([True]), 3.0, 1).startswith("One observation cannot show which")


def test_a_variable_of_a_code_is_active_by_what_it_tells():
    """Mutual information with the observation: log 2 of a bit that splits the data, 0 of one that does not move."""
    statistics = LatentStatistics()
    sure, coin = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5])
    rows = [torch.stack([sure, coin, sure]), torch.stack([sure.flip(0), coin, sure])]
    for p in rows * 3:
        statistics.add(p[None, :, 1], None, p[None])
    expected = torch.tensor([math.log(2), 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(statistics.information, expected)
    assert statistics.kl is None
    plain = LatentStatistics()
    plain.add(torch.zeros(2, 3))
    assert plain.information is None


@pytest.mark.parametrize("kind", ["bits", "classes"])
def test_evidence_of_codes_counts_variables(kind: str):
    torch.manual_seed(0)
    if kind == "bits":
        prior, posterior, length = priors.Bernoulli(4), posteriors.Bernoulli(torch.nn.Linear(5, 4)), 4
    else:
        prior, length = priors.Categorical(4, classes=3), 12
        posterior = posteriors.Categorical(torch.nn.Linear(5, 12), classes=3)
    with torch.no_grad():
        posterior.network.weight[: length // 2] = 0  # the first two variables do not look at x
        posterior.network.weight *= 5
    model = VAE(prior, posterior, Gaussian(torch.nn.Linear(length, 5)))
    found = evidence(model, torch.randn(30, 5), samples=20)
    assert found.latent_dim == 4
    assert found.active.tolist() == [False, False, True, True]
    assert found.kl_per_dimension.shape == found.information.shape == (4,)
    assert (found.information <= found.kl_per_dimension + 1e-6).all()
    assert found.to_json()["information"] == pytest.approx(found.information.tolist())
    assert found.verdict.startswith("The latent is discrete: all numbers are of hard codes, whatever training relaxed.")
    assert (
        "2 of 4 variables of the code carry information (each tells more than 0.01 nats about x); variables 0, 1 (from "
        "0) are switched off, which is normal for a model with more variables than its data repay."
    ) in found.verdict


def test_codes_are_told_of_by_variable():
    on, off = torch.tensor([True, True]), torch.tensor([False, False])
    assert verdict.on_code(on, 3.0, 5, latent="discrete") == (
        "All 2 variables of the code carry information (each tells more than 0.01 nats about x)."
    )
    assert verdict.on_code(on[:1], 3.0, 5, latent="discrete") == (
        "The one variable of the code carries information (tells more than 0.01 nats about x)."
    )
    assert "variable 0 (from 0) is switched off" in verdict.on_code(
        torch.tensor([False, True]), 3.0, 5, latent="discrete"
    )
    assert "none of the 2 variables of the code carries" in verdict.on_code(off, 0.0, 5, latent="discrete")
    assert "which variables of the code carry" in verdict.on_code(on, 3.0, 1, latent="discrete")
    for latent in ("real", "discrete", "mixed"):
        said = verdict.on_bound(9.0, 3.0, reliable=True, latent=latent)
        assert ("tb.evaluate.gaps" in said) == (latent == "real")
        assert bool(verdict.on_scoring(latent)) == (latent != "real")
