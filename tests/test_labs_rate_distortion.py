"""The exact curve of rate and distortion, and trained models beside it."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

import tightbound as tb
from tightbound.labs.linear_gaussian import BestLinear, LinearGaussian
from tightbound.labs.result import Result

SIGMA = 0.6


@pytest.fixture(scope="module")
def x() -> Tensor:
    """Data that are not normal at all: what linear models can do depends on their covariance alone."""
    torch.manual_seed(0)
    return (torch.randn(400, 3).exp() @ torch.randn(3, 5) + 0.3 * torch.rand(400, 5)).double()


def parts(x: Tensor, weight: Tensor, gain: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Rate and distortion of a linear-Gaussian VAE, means over the data, in closed form."""
    centred = x - x.mean(0)
    mean = centred @ gain.T
    missed = (centred - mean @ weight.T).square().sum(1).mean() + (weight.square() @ spread).sum()
    rate = 0.5 * (mean.square().sum(1).mean() + (spread - 1 - spread.log()).sum())
    return rate, 0.5 * x.shape[1] * math.log(2 * math.pi * SIGMA**2) + missed / (2 * SIGMA**2)


@pytest.mark.parametrize("latent", [1, 2, 5])
@pytest.mark.parametrize("beta", [0.3, 1.0, 4.0])
def test_it_is_where_a_search_ends(x: Tensor, beta: float, latent: int) -> None:
    """A numerical minimum over every linear decoder and every linear-normal posterior without correlations."""
    best = BestLinear.of(x, sigma=SIGMA, latent=latent)
    torch.manual_seed(1)
    free = [
        (0.1 * torch.randn(5, latent)).double(),
        (0.1 * torch.randn(latent, 5)).double(),
        torch.zeros(latent).double(),
    ]
    for each in free:
        each.requires_grad_()

    def loss() -> Tensor:
        for each in free:
            each.grad = None
        rate, distortion = parts(x, free[0], free[1], free[2].exp())
        (value := distortion + beta * rate).backward()
        return value

    for _ in range(3):  # a search that has gone stale starts afresh from where it is
        search = torch.optim.LBFGS(
            free, max_iter=2000, tolerance_grad=1e-10, tolerance_change=1e-12, line_search_fn="strong_wolfe"
        )
        search.step(loss)
    rate, distortion = (each.item() for each in parts(x, free[0], free[1], free[2].exp()))
    assert distortion + beta * rate == pytest.approx(best.distortion(beta) + beta * best.rate(beta), abs=1e-6)
    assert rate == pytest.approx(best.rate(beta), abs=1e-3)


def test_at_beta_one_it_is_the_likelihood_of_probabilistic_pca(x: Tensor) -> None:
    best = BestLinear.of(x, sigma=SIGMA, latent=2)
    centred = x - x.mean(0)
    variances, directions = torch.linalg.eigh(centred.T @ centred / len(x))
    weight = directions[:, -2:] * (variances[-2:] - SIGMA**2).clamp(min=0).sqrt()
    log_px = LinearGaussian(weight, x.mean(0), SIGMA).evidence.log_prob(x).mean().item()
    assert -best.distortion(1.0) - best.rate(1.0) == pytest.approx(log_px, abs=1e-9)


def test_a_direction_lives_where_its_variance_is_above_the_level() -> None:
    best = BestLinear(torch.tensor([4.0, 1.0, 0.25]), sigma=0.5, latent=2)
    assert [best.alive(beta) for beta in (0.5, 0.99, 3.99, 4.0, 15.9, 16.0)] == [2, 2, 2, 1, 1, 0]
    assert best.rate(16.0) == 0.0
    dead = 1.5 * math.log(2 * math.pi * 0.25) + 5.25 / 0.5
    assert best.distortion(16.0) == pytest.approx(dead)
    assert best.distortion(100.0) == pytest.approx(dead)


def test_no_more_latents_than_elements(x: Tensor) -> None:
    assert BestLinear.of(x, sigma=SIGMA, latent=9).latent == 5


@pytest.fixture(scope="module")
def found() -> Result:
    return tb.labs.rate_distortion(betas=(4, 1), epochs=60, latent_dim=4)


def test_trained_linear_models_end_just_above_the_least(found: Result) -> None:
    """Never below it, but for the noise of the draws that measure them."""
    assert [row["beta"] for row in found.numbers["rows"]] == [1, 4]
    for row in found.numbers["rows"]:
        exact, linear = (row[k]["distortion"] + row["beta"] * row[k]["rate"] for k in ("exact", "linear"))
        assert exact - 0.1 < linear < exact + 1.5
        assert row["linear"]["alive"] == row["exact"]["alive"] == 4


def test_a_hidden_layer_wins(found: Result) -> None:
    for row in found.numbers["rows"]:
        exact, other = (row[k]["distortion"] + row["beta"] * row[k]["rate"] for k in ("exact", "nonlinear"))
        assert other < exact - 1


def test_the_curve_falls(found: Result) -> None:
    curve = found.numbers["curve"]
    for one, other in pairwise(curve):
        assert one["rate"] >= other["rate"]
        assert one["distortion"] <= other["distortion"]
        assert one["alive"] >= other["alive"]
