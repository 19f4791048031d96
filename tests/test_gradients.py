"""What is held constant while drawing changes a gradient's noise, never its mean nor the bound's value."""

from __future__ import annotations

import pytest
import torch
from oracle import assert_mean, linear_gaussian
from torch import Tensor

from tightbound import bounds
from tightbound.autoencoder import VAE
from tightbound.batch import Batch
from tightbound.gradients import Gradient, Pathwise, ScoreFunction, StickingTheLanding
from tightbound.objectives import ELBO, IWAE
from tightbound.posteriors import Posterior

PROBLEM = linear_gaussian(orthogonal=True)
X = PROBLEM.evidence.sample((3,))


def gradients(model: VAE, objective: ELBO, seed: int) -> Tensor:
    """By the posterior's parameters, in one vector."""
    torch.manual_seed(seed)
    value = objective(model, X).value
    return torch.cat([g.reshape(-1) for g in torch.autograd.grad(value, list(model.posterior.parameters()))])


@pytest.mark.parametrize("posterior", [PROBLEM.exact_posterior(), PROBLEM.exact_diagonal_posterior()])
def test_at_the_true_posterior_the_gradient_has_no_noise(posterior: Posterior) -> None:
    model = PROBLEM.model(posterior)
    noisy = gradients(model, ELBO(kl="sampled"), seed=0)
    assert gradients(model, ELBO(gradient=StickingTheLanding()), seed=0).abs().max() < 1e-9 < noisy.abs().max()


def test_its_mean_is_the_pathwise_gradients() -> None:
    model = PROBLEM.model(PROBLEM.wrong_posterior())
    one, other = ELBO(kl="sampled"), ELBO(gradient=StickingTheLanding())
    pairs = torch.stack([gradients(model, one, seed) - gradients(model, other, seed) for seed in range(600)])
    assert_mean(pairs, torch.zeros(pairs.shape[1], dtype=pairs.dtype))
    assert pairs.abs().max() > 1e-3  # they do differ, draw by draw


@pytest.mark.parametrize("gradient", [Pathwise(), StickingTheLanding(), ScoreFunction(), ScoreFunction("none")])
@pytest.mark.parametrize("bound", [bounds.elbo, bounds.iwae, bounds.renyi(0.5)])
def test_the_value_is_the_bounds(gradient: Gradient, bound: bounds.BoundFunction) -> None:
    model = PROBLEM.model(PROBLEM.wrong_posterior())
    torch.manual_seed(0)
    expected = bound(model.draw(X, samples=5))
    torch.manual_seed(0)
    surrogate, _ = gradient(model, Batch(X), bound, samples=5)
    torch.testing.assert_close(surrogate, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("baseline", ["leave-one-out", "none"])
def test_the_score_functions_mean_is_the_pathwise_gradients(baseline: str) -> None:
    model = PROBLEM.model(PROBLEM.wrong_posterior())
    one = ELBO(kl="sampled", samples=3)
    other = ELBO(kl="sampled", samples=3, gradient=ScoreFunction(baseline))  # type: ignore[arg-type]
    pairs = torch.stack([gradients(model, one, seed) - gradients(model, other, seed + 10_000) for seed in range(2000)])
    assert_mean(pairs, torch.zeros(pairs.shape[1], dtype=pairs.dtype))


def test_the_decoder_learns_as_ever() -> None:
    model = PROBLEM.model(PROBLEM.wrong_posterior())
    found = []
    for objective in (ELBO(kl="sampled"), ELBO(gradient=StickingTheLanding())):
        torch.manual_seed(0)
        found.append(torch.autograd.grad(objective(model, X).value, list(model.likelihood.parameters())))
    assert all(one.equal(other) for one, other in zip(*found, strict=True))


def test_refusals() -> None:
    with pytest.raises(
        ValueError, match=r"Expected at least 2 samples with ScoreFunction\(\), which compares draws; got samples=1"
    ):
        ELBO(gradient=ScoreFunction())(PROBLEM.model(PROBLEM.wrong_posterior()), Batch(X))
    with pytest.raises(
        ValueError, match=r"Expected baseline='leave-one-out', 'batch' or 'none'; got 'running', .* Take 'ba"
    ):
        ScoreFunction("running")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Expected baseline='leave-one-out', 'batch' or 'none'; got 'mean'"):
        ScoreFunction("mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"Expected kl='sampled' or kl='auto' with StickingTheLanding\(\)"):
        ELBO(kl="closed-form", gradient=StickingTheLanding())
    for kind in (ELBO, IWAE):
        with pytest.raises(TypeError, match=r"Expected a gradient such as tb\.gradients\.Pathwise\(\) .*got 'stl'"):
            kind(gradient="stl")  # type: ignore[arg-type]
