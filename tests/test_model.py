from __future__ import annotations

import pytest
import torch
from oracle import assert_mean, linear_gaussian
from torch import nn

from tightbound import bounds
from tightbound.autoencoder import VAE
from tightbound.batch import Batch
from tightbound.data import Observations
from tightbound.likelihoods import Bernoulli, Categorical, Gaussian
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
    means = model.sample(40_000, mean=True)
    assert not means.requires_grad
    assert_mean(means, problem.bias)
    centred = means - problem.bias
    assert_mean(centred.unsqueeze(-1) * centred.unsqueeze(-2), problem.weight @ problem.weight.T)
    noisy = model.sample(40_000) - problem.bias
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
    torch.testing.assert_close(model.sample(3, mean=True, temperature=0.0), model.decode(mean.expand(3, 2)).mean)


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
    with pytest.raises(
        ValueError,
        match=r"^Expected values in the support of the Bernoulli likelihood; got the value 0\.5, neither",
    ):
        small().draw(torch.full((3, 5), 0.5))


@pytest.mark.parametrize(("count", "temperature"), [(0, 1.0), (-1, 1.0), (2, -0.1)])
def test_sample_refuses_impossible_requests(count: int, temperature: float) -> None:
    message = f"Expected count >= 1 and temperature >= 0; got count={count}, temperature={temperature}"
    with pytest.raises(ValueError, match=message):
        small().sample(count, temperature=temperature)


def test_a_model_is_no_function() -> None:
    with pytest.raises(TypeError, match=r"^Expected a method of the model; got a call of the model itself\."):
        small()(torch.ones(3, 5))


def test_prediction_is_without_gradient_and_the_same_in_every_call_whatever_the_mode() -> None:
    network = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 4))
    decoder = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.5), nn.Linear(8, 5))
    model, x = VAE(StandardNormal(2), DiagonalNormal(network), Bernoulli(decoder)).train(), torch.ones(3, 5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for call in (
        model.embed,
        model.reconstruct,
        lambda x: model.encode(x).stddev,
        lambda x: model.log_prob(x, samples=3),
    ):
        first = call(x)
        assert not first.requires_grad
        assert first.equal(call(x))
    assert model.embed(x[:1]).allclose(model.embed(x)[:1])
    assert model.embed(x.numpy()).allclose(model.embed(x, batch_size=2))
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())


def test_prediction_takes_observations_and_says_what_else_it_takes() -> None:
    model, x = small(), torch.ones(5, 5)
    assert model.embed(Observations(x), batch_size=2).allclose(model.embed(x))
    assert model.embed(Batch(x)).equal(model.embed(x))
    with pytest.raises(TypeError, match=r"Expected a tensor, an array, a Batch or Observations; got str"):
        model.embed("digits")
    with pytest.raises(ValueError, match=r"Expected a batch_size of at least 1; got 0"):
        model.embed(x, batch_size=0)
    with pytest.raises(TypeError, match=r"Expected a tensor of observations or a Batch; got list"):
        model.draw([1.0])  # type: ignore[arg-type]


def test_a_mask_is_not_ignored() -> None:
    batch = Batch(torch.ones(3, 5), mask=torch.ones(3, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"Expected complete observations; got a mask"):
        small().draw(batch)


def test_latents_must_be_the_priors() -> None:
    model = VAE(StandardNormal(1), DiagonalNormal(nn.Linear(5, 4)), Bernoulli(nn.Linear(2, 5)))
    with pytest.raises(ValueError, match=r"^Expected latents of the prior's shape \(1,\); got \(2,\) from"):
        model.draw(torch.ones(3, 5))


def test_log_prob_is_the_evidence_where_the_posterior_is_exact() -> None:
    problem = linear_gaussian()
    model, x = problem.model(problem.exact_posterior()), problem.evidence.sample((4,))
    found = model.log_prob(x, samples=3)
    torch.testing.assert_close(found, problem.evidence.log_prob(x))
    wrong = problem.model(problem.wrong_posterior())
    assert wrong.log_prob(x[2:3], samples=50).equal(wrong.log_prob(x, samples=50)[2:3])
