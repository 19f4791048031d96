"""Wrong data, settings and models are refused, with what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributions import Distribution
from training import QUIET, data, model, weights, written

import tightbound as tb
from tightbound.data import load
from tightbound.networks import MLP
from tightbound.training import fit


def binary_model(likelihood: type[tb.likelihoods.Bernoulli] = tb.likelihoods.Bernoulli) -> tb.VAE:
    return tb.VAE(
        prior=tb.priors.StandardNormal(2),
        posterior=tb.posteriors.DiagonalNormal(nn.Linear(3, 4)),
        likelihood=likelihood(nn.Linear(2, 3)),
    )


@pytest.mark.parametrize("validates", [False, True])  # whoever switched torch's checks off still gets this one
def test_one_value_outside_the_support_is_enough(validates: bool) -> None:
    Distribution.set_default_validate_args(validates)
    x = torch.zeros(300_000, 3)
    x[299_998, 1] = 0.5
    with pytest.raises(
        ValueError,
        match=r"Expected values in the support of the Bernoulli likelihood; got the value 0.5, neither 0 nor 1, "
        r"first in observation 299998 of array\. Binarise",
    ):
        fit(binary_model(), x, **QUIET)
    assert Distribution._validate_args == validates


def test_grey_data_under_bernoulli_wants_a_word() -> None:
    grey = (255 * torch.rand(50, 3)).to(torch.uint8)
    with pytest.raises(ValueError, match=r"Expected values in the support .*, or take UnnormalisedBernoulli"):
        fit(binary_model(), grey, **QUIET)
    fit(binary_model(), load(grey).binarised(), epochs=1, **QUIET)
    fit(binary_model(tb.likelihoods.UnnormalisedBernoulli), grey, epochs=1, **QUIET)


def test_grey_data_lie_between_0_and_1() -> None:
    message = r"support of the UnnormalisedBernoulli likelihood; got values between 0 and 255, .* Divide by the largest"
    with pytest.raises(ValueError, match=message):
        fit(binary_model(tb.likelihoods.UnnormalisedBernoulli), torch.tensor([[0.0, 255.0, 3.0]] * 50), **QUIET)


def test_what_to_do_outside_any_other_support() -> None:
    model = binary_model()
    model.likelihood = tb.likelihoods.Poisson(nn.Linear(2, 3))
    with pytest.raises(
        ValueError, match=r"support of the Poisson likelihood; got values between -1 and 2, .* Rescale the data"
    ):
        fit(model, torch.tensor([[0.0, -1.0, 2.0]] * 50), **QUIET)


@pytest.mark.parametrize(
    ("x", "changes", "error", "message"),
    [
        (
            torch.full((50, 3), torch.nan),
            {},
            ValueError,
            "Expected finite values; got NaN or infinity in observation 0 of array",
        ),
        (torch.zeros(0, 3), {}, ValueError, "Expected at least one observation; got an empty array"),
        (torch.zeros(50), {}, ValueError, r"Expected observations of shape \(N, ...\); got \(50,\)"),
        ([[1.0, 2.0], [3.0]], {}, TypeError, "Expected rows of one length; got 2 values in row 0 and 1 in"),
        (torch.zeros(50, 3), {"validation": 50}, ValueError, "Expected fewer validation observations than the 50"),
        (torch.zeros(1, 3), {}, ValueError, "Expected fewer validation observations than the 1 there are"),
        (torch.zeros(50, 3), {"epoch": 3}, TypeError, r"got 'epoch'. Did you mean 'epochs'\?"),
        (torch.zeros(50, 3), {"learning_rate": 0}, ValueError, "Expected a finite learning_rate > 0; got 0"),
        (torch.zeros(50, 3), {"device": "gpu"}, ValueError, r"Expected a device of this machine \(auto, .*'gpu'"),
        (torch.zeros(50, 3), {"device": "cpu:7"}, ValueError, "Expected a device of this machine .*; got 'cpu:7'"),
        (torch.zeros(50, 3), {"seed": -1}, ValueError, "Expected a seed from 0 to 2⁶³ − 1; got -1"),
        (torch.zeros(50, 3), {"seed": 2**63}, ValueError, "Expected a seed from 0 to 2⁶³ − 1; got 9223372036854775808"),
        (torch.zeros(50, 3), {"resume": True}, ValueError, "Expected out= with resume=True"),
    ],
)
def test_impossible_requests(x: Any, changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fit(model(), x, **{**QUIET, **changes})


@pytest.mark.parametrize("seed", [0, 2**31, 2**63 - 1])
def test_every_seed_in_range_serves(seed: int) -> None:
    assert fit(model(), data(), epochs=2, seed=seed, **QUIET).steps == 8


def test_observations_of_another_shape_than_the_likelihood_s() -> None:
    vae = model()
    vae.likelihood.network = MLP((2,), (1,), hidden=())  # would be spread over all three elements in silence
    with pytest.raises(
        ValueError, match=r"Expected observations of shape \(1,\), as the likelihood has it; got \(3,\)"
    ):
        fit(vae, data(), **QUIET)


def test_a_model_without_parameters() -> None:
    vae = model().requires_grad_(False)
    with pytest.raises(ValueError, match="Expected a model with parameters to train"):
        fit(vae, data(), **QUIET)


def test_frozen_parameters_stay(tmp_path: Path) -> None:
    vae = model()
    vae.posterior.requires_grad_(False)
    before = weights(vae)
    fit(vae, data(), epochs=2, ema=0.5, clip=1.0, **QUIET)
    moved = {name.split(".")[0] for name, value in weights(vae).items() if not value.equal(before[name])}
    assert moved == {"likelihood"}


def test_a_folder_with_a_run_in_it_is_left_alone(tmp_path: Path) -> None:
    fit(model(), data(), epochs=1, out=tmp_path, **QUIET)
    before = written(tmp_path)
    with pytest.raises(
        ValueError, match=r"Expected a folder without a run in it; got .* overwrite=True .* resume=True"
    ):
        fit(model(), data(), epochs=1, seed=1, out=tmp_path, **QUIET)
    assert written(tmp_path) == before


@pytest.mark.parametrize(
    ("posterior", "prior", "got", "remedy"),
    [
        ("Bernoulli", tb.priors.StandardNormal(4), "one of 4 numbers", "Bernoulli"),
        ("DiagonalNormal", tb.priors.Bernoulli(2), "one of 2 bits", "StandardNormal"),
        ("Gumbel", tb.priors.LogNormal(2), "which has no density at some of them", "Gumbel"),
        ("DiagonalNormal", tb.priors.Exponential(2), "which has no density at some of them", "StandardNormal"),
    ],
)
def test_a_prior_over_other_latents_is_refused(posterior: str, prior: tb.priors.Prior, got: str, remedy: str) -> None:
    q, latent = getattr(tb.posteriors, posterior)(nn.Linear(3, 4)), prior().event_shape[0]
    model, x = tb.VAE(prior, q, tb.likelihoods.Gaussian(nn.Linear(latent, 3))), torch.zeros(9, 3)
    draws = rf"Expected a prior over the latents that {posterior} draws, \d \w+; got {type(prior).__name__}, {got}"
    for ask in (lambda: fit(model, x, epochs=1, **QUIET), lambda: tb.evidence(model, x)):
        with pytest.raises(ValueError, match=rf"{draws}\. Take tb\.priors\.{remedy}, of the same sizes\."):
            ask()


def test_positive_latents_may_have_a_prior_over_all_numbers() -> None:
    posterior, decoder = tb.posteriors.LogNormal(nn.Linear(3, 4)), tb.likelihoods.Gaussian(nn.Linear(2, 3))
    model = tb.VAE(tb.priors.StandardNormal(2), posterior, decoder)
    assert tb.evidence(model, torch.zeros(9, 3), samples=3).rate_kind == "sampled"
