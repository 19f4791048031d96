from __future__ import annotations

import pytest
import torch
from oracle import assert_mean, linear_gaussian
from torch import nn

from tightbound import bounds
from tightbound.likelihoods import Bernoulli, Categorical, Gaussian
from tightbound.model import VAE
from tightbound.networks import MLP, ConvDecoder, ConvEncoder
from tightbound.posteriors import DiagonalNormal, FullNormal
from tightbound.priors import MixtureOfNormals, StandardNormal, VampPrior


def small() -> VAE:
    return VAE(
        prior=StandardNormal(2),
        posterior=DiagonalNormal(nn.Linear(5, 4)),
        likelihood=Bernoulli(nn.Linear(2, 5)),
    )


def test_draw_has_the_densities_of_its_parts() -> None:
    model, x = small(), torch.randint(2, (3, 5)).float()
    draws = model.draw(x, samples=7)
    assert draws.z.shape == (7, 3, 2)
    for k in range(7):
        z = draws.z[k]
        torch.testing.assert_close(draws.log_px_z[k], model.decode(z).log_prob(x))
        torch.testing.assert_close(draws.log_pz[k], model.prior().log_prob(z))
        torch.testing.assert_close(draws.log_qz_x[k], model.encode(x).log_prob(z))


def test_draws_come_from_the_posterior() -> None:
    problem = linear_gaussian()
    x = problem.evidence.sample((2,))
    z = problem.model(problem.exact_posterior()).draw(x, samples=40_000).z
    exact = problem.posterior(x)
    assert_mean(z, exact.mean)
    centred = z - exact.mean
    assert_mean(centred.unsqueeze(-1) * centred.unsqueeze(-2), exact.covariance_matrix)


def test_draws_are_reparameterised_and_seeded() -> None:
    model, x = small(), torch.ones(3, 5)
    torch.manual_seed(5)
    first = model.draw(x, samples=4)
    torch.manual_seed(5)
    assert torch.equal(first.z, model.draw(x, samples=4).z)
    first.z.sum().backward()
    assert all(p.grad is not None and (p.grad != 0).all() for p in model.posterior.parameters())


def test_coordinates_and_reconstructions_are_not_random() -> None:
    model, x = small(), torch.ones(3, 5)
    before = torch.get_rng_state()
    assert torch.equal(model.embed(x), model.embed(x))
    assert torch.equal(model.reconstruct(x), model.reconstruct(x))
    assert torch.equal(before, torch.get_rng_state())
    torch.testing.assert_close(model.embed(x), model.encode(x).mean)
    torch.testing.assert_close(model.reconstruct(x), model.likelihood.network(model.embed(x)).sigmoid())


def test_samples_have_the_moments_of_the_model() -> None:
    problem = linear_gaussian()
    model = problem.model(problem.exact_posterior())
    means = model.sample(40_000)
    assert not means.requires_grad
    assert_mean(means, problem.bias)
    centred = means - problem.bias
    assert_mean(centred.unsqueeze(-1) * centred.unsqueeze(-2), problem.weight @ problem.weight.T)
    noisy = model.decode(model.sample_prior(40_000)).sample() - problem.bias
    assert_mean(noisy.unsqueeze(-1) * noisy.unsqueeze(-2), problem.evidence.covariance_matrix)


def test_temperature_scales_latents() -> None:
    torch.manual_seed(3)
    plain = small().sample_prior(10)
    torch.manual_seed(3)
    torch.testing.assert_close(small().sample_prior(10, temperature=0.25), 0.25 * plain)


@pytest.mark.parametrize("prior", [StandardNormal(2), MixtureOfNormals(2, components=1)])
def test_temperature_zero_is_the_mean(prior: StandardNormal) -> None:
    model = VAE(prior=prior, posterior=DiagonalNormal(nn.Linear(5, 4)), likelihood=Bernoulli(nn.Linear(2, 5)))
    mean = prior().mean.detach()
    torch.testing.assert_close(model.sample_prior(3, temperature=0.0), mean.expand(3, 2))
    torch.testing.assert_close(model.sample(3, temperature=0.0), model.decode(mean.expand(3, 2)).mean)


@pytest.mark.parametrize("shape", [(1, 9, 9), (3, 7, 11)])
def test_images_go_through_whole(shape: tuple[int, int, int]) -> None:
    posterior = FullNormal(ConvEncoder(shape, 5, base=4))
    likelihood = Gaussian(ConvDecoder(2, (2, *shape), base=4), scale="per-element")
    model = VAE(prior=VampPrior(DiagonalNormal(MLP(shape, (4,))), torch.zeros(3, *shape)),
                posterior=posterior, likelihood=likelihood)  # fmt: skip
    x = torch.randn(6, *shape)
    draws = model.draw(x, samples=2)
    assert bounds.iwae(draws).shape == (6,)
    assert model.reconstruct(x).shape == x.shape
    assert model.sample(4).shape == (4, *shape)


def test_categories_are_reconstructed_by_the_most_probable() -> None:
    network = nn.Sequential(nn.Linear(2, 15), nn.Unflatten(-1, (3, 5)))
    model = VAE(
        prior=StandardNormal(2),
        posterior=DiagonalNormal(nn.Linear(5, 4)),
        likelihood=Categorical(network, classes=3),
    )
    x = torch.randint(3, (6, 5)).float()
    assert torch.equal(model.reconstruct(x), network(model.embed(x)).argmax(-2).float())
    assert bounds.elbo(model.draw(x)).shape == (6,)


@pytest.mark.parametrize("role", ["prior", "posterior", "likelihood"])
def test_refuses_a_bare_network(role: str) -> None:
    parts = {"prior": StandardNormal(2), "posterior": DiagonalNormal(nn.Linear(5, 4)), "likelihood": Bernoulli(nn.Linear(2, 5))}  # fmt: skip  # noqa: E501
    with pytest.raises(TypeError, match=f"Expected a Conditional as {role}; got Linear. Wrap a network"):
        VAE(**parts | {role: nn.Linear(5, 4)})  # type: ignore[arg-type]


@pytest.mark.parametrize("samples", [0, -1])
def test_draw_refuses_fewer_than_one_sample(samples: int) -> None:
    with pytest.raises(ValueError, match=f"Expected at least 1 sample; got samples={samples}"):
        small().draw(torch.ones(3, 5), samples=samples)


def test_draw_refuses_values_outside_the_support() -> None:
    with pytest.raises(ValueError, match="within the support"):
        small().draw(torch.full((3, 5), 0.5))


@pytest.mark.parametrize(("count", "temperature"), [(0, 1.0), (-1, 1.0), (2, -0.1)])
def test_sample_refuses_impossible_requests(count: int, temperature: float) -> None:
    message = f"Expected count >= 1 and temperature >= 0; got count={count}, temperature={temperature}"
    with pytest.raises(ValueError, match=message):
        small().sample(count, temperature=temperature)
