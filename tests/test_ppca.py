"""Training a linear VAE reaches the optimum of probabilistic PCA, which is known in closed form."""

from __future__ import annotations

import pytest
import torch
from oracle import LinearGaussian, linear_gaussian
from torch import Tensor, nn

from tightbound import bounds
from tightbound.autoencoder import VAE
from tightbound.likelihoods import Gaussian
from tightbound.objectives import ELBO, IWAE, Objective
from tightbound.posteriors import DiagonalNormal
from tightbound.priors import StandardNormal

LATENT = 2


def best_evidence(x: Tensor) -> float:
    """Mean log p(x) at the maximum of the likelihood (Tipping & Bishop 1999): W spans the leading eigenvectors."""
    mean = x.mean(0)
    values, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    noise = values[:-LATENT].mean()
    weight = vectors[:, -LATENT:] * (values[-LATENT:] - noise).sqrt()
    return LinearGaussian(weight, mean, noise.sqrt().item()).evidence.log_prob(x).mean().item()


def trained(x: Tensor, objective: Objective) -> VAE:
    """A linear VAE after full-batch training."""
    model = VAE(
        prior=StandardNormal(LATENT),
        posterior=DiagonalNormal(nn.Linear(x.shape[1], 2 * LATENT)),
        likelihood=Gaussian(nn.Linear(LATENT, x.shape[1])),
    ).double()
    steps = 700
    optimiser = torch.optim.Adam(model.parameters(), lr=0.03)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        objective(model, x).value.backward()
        optimiser.step()
        cosine.step()
    return model


@pytest.mark.parametrize(
    "objective", [ELBO(), ELBO(kl="sampled"), IWAE(samples=3)], ids=["closed-form", "sampled", "iwae"]
)
def test_training_reaches_the_optimum_of_probabilistic_pca(objective: Objective) -> None:
    x = linear_gaussian(observed=6, latent=LATENT).evidence.sample((1000,))
    model = trained(x, objective)
    decoder, sigma = model.likelihood.network, model.decode(torch.zeros(1, LATENT).double()).stddev[0, 0].item()
    evidence = LinearGaussian(decoder.weight.detach(), decoder.bias.detach(), sigma).evidence.log_prob(x).mean().item()
    with torch.no_grad():
        bound = bounds.elbo(model.draw(x, samples=100)).mean().item()
    best = best_evidence(x)
    assert best - 0.05 <= evidence <= best + 1e-9  # no model of this form has more than the optimum
    assert best - 0.05 <= bound
