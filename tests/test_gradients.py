"""What is held constant while drawing changes a gradient's noise, never its mean nor the bound's value."""

from __future__ import annotations

import pytest
import torch
from oracle import assert_mean, linear_gaussian
from torch import Tensor

from tightbound import bounds
from tightbound.gradients import stl
from tightbound.model import VAE
from tightbound.objectives import ELBO
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
    assert gradients(model, ELBO(kl="sampled", gradient="stl"), seed=0).abs().max() < 1e-9 < noisy.abs().max()


def test_its_mean_is_the_pathwise_gradients() -> None:
    model = PROBLEM.model(PROBLEM.wrong_posterior())
    one, other = ELBO(kl="sampled"), ELBO(kl="sampled", gradient="stl")
    pairs = torch.stack([gradients(model, one, seed) - gradients(model, other, seed) for seed in range(600)])
    assert_mean(pairs, torch.zeros(pairs.shape[1], dtype=pairs.dtype))
    assert pairs.abs().max() > 1e-3  # they do differ, draw by draw


def test_the_value_is_the_bounds() -> None:
    model = PROBLEM.model(PROBLEM.wrong_posterior())
    torch.manual_seed(0)
    expected = bounds.elbo(model.draw(X, samples=5))
    torch.manual_seed(0)
    assert bounds.elbo(stl(model, X, samples=5)).equal(expected)


def test_the_decoder_learns_as_ever() -> None:
    model = PROBLEM.model(PROBLEM.wrong_posterior())
    found = []
    for objective in (ELBO(kl="sampled"), ELBO(kl="sampled", gradient="stl")):
        torch.manual_seed(0)
        found.append(torch.autograd.grad(objective(model, X).value, list(model.likelihood.parameters())))
    assert all(one.equal(other) for one, other in zip(*found, strict=True))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="Expected at least 1 sample; got samples=0"):
        stl(PROBLEM.model(PROBLEM.wrong_posterior()), X, samples=0)
    with pytest.raises(ValueError, match="Expected kl='sampled' with gradient='stl', which is one of draws"):
        ELBO(gradient="stl")
    with pytest.raises(ValueError, match="Expected gradient='pathwise' or gradient='stl'; got 'reinforce'"):
        ELBO(gradient="reinforce")  # type: ignore[arg-type]
