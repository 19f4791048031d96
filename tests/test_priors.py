from __future__ import annotations

import copy
import math

import pytest
import torch
from oracle import assert_mean
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from tightbound import priors
from tightbound.autoencoder import VAE
from tightbound.distributions import every_code
from tightbound.distributions.mixtures import MixtureOfNormals as MixtureOfNormalsDistribution
from tightbound.likelihoods import Gaussian
from tightbound.posteriors import DiagonalNormal, FullNormal
from tightbound.priors import MixtureOfNormals, Prior, StandardNormal, VampPrior


def mixture() -> MixtureOfNormals:
    prior = MixtureOfNormals(2, components=3)
    with torch.no_grad():
        prior.logits.copy_(torch.tensor([0.5, -1.0, 0.2]))
        prior.mean.copy_(torch.tensor([[0.0, 3.0], [-2.0, 1.0], [4.0, -1.0]]))
        prior.log_scale.copy_(torch.tensor([[0.1, -0.5], [0.3, 0.0], [-1.0, 0.4]]))
    return prior


def vamp() -> VampPrior:
    return VampPrior(DiagonalNormal(nn.Linear(5, 4)), torch.randn(7, 5))


def moved(prior: Prior) -> Prior:
    """The same, its parameters away from their standards."""
    with torch.no_grad():
        for p in prior.parameters():
            p.copy_(0.4 * torch.randn_like(p))
    return prior


PRIORS = {
    "standard": lambda: StandardNormal(2),
    "mixture": mixture,
    "vamp": vamp,
}
LATENTS = {
    "log-normal": lambda learned: priors.LogNormal(2, learned=learned),
    "exponential": lambda learned: priors.Exponential(2, learned=learned),
    "gumbel": lambda learned: priors.Gumbel(2, learned=learned),
    "bits": lambda learned: priors.Bernoulli(4, learned=learned),
    "classes": lambda learned: priors.Categorical(2, classes=3, learned=learned),
}
every_latent = pytest.mark.parametrize("name", LATENTS)
every_prior = pytest.mark.parametrize("prior", [make() for make in PRIORS.values()], ids=PRIORS)


def by_hand(z: Tensor, log_share: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    return (log_share + Independent(Normal(mean, scale), 1).log_prob(z.unsqueeze(-2))).logsumexp(-1)


def test_standard_normal_log_density() -> None:
    z = torch.tensor([[1.0, -2.0, 0.5]])
    expected = -0.5 * z.square().sum(-1) - 1.5 * math.log(2 * math.pi)
    torch.testing.assert_close(StandardNormal(3).log_prob(z), expected)


def test_mixture_is_the_mixture_of_its_parameters() -> None:
    prior, z = mixture(), torch.randn(4, 6, 2)
    expected = by_hand(z, prior.logits.log_softmax(0), prior.mean, prior.log_scale.exp())
    torch.testing.assert_close(prior.log_prob(z), expected)


def test_vamp_prior_is_the_mean_posterior_of_its_pseudo_inputs() -> None:
    prior, z = vamp(), torch.randn(4, 6, 2)
    posterior = prior._posterior[0]
    each = torch.stack([posterior.log_prob(z, u.unsqueeze(0)) for u in prior.pseudo_inputs])
    torch.testing.assert_close(prior.log_prob(z), each.logsumexp(0) - math.log(7))


@every_prior
def test_density_integrates_to_one(prior: Prior) -> None:
    axis = torch.linspace(-15, 15, 401)
    grid = torch.cartesian_prod(axis, axis)
    total = prior.log_prob(grid).exp().sum() * (axis[1] - axis[0]) ** 2
    torch.testing.assert_close(total.item(), 1.0, rtol=0, atol=1e-3)


@every_prior
def test_samples_have_the_mean_and_the_entropy_of_the_density(prior: Prior) -> None:
    distribution = prior()
    z, other = distribution.sample((50_000,)), distribution.sample((50_000,))
    assert z.shape == (50_000, 2)
    assert_mean(z, distribution.mean.detach())
    axis = torch.linspace(-15, 15, 401)
    log_p = prior.log_prob(torch.cartesian_prod(axis, axis)).detach()
    entropy = -(log_p.exp() * log_p).sum() * (axis[1] - axis[0]) ** 2
    assert_mean(-prior.log_prob(other).detach(), entropy)


@every_prior
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_temperature_multiplies_standard_deviations(prior: Prior, temperature: float) -> None:
    narrow, plain = prior.tempered(temperature), prior()
    if isinstance(plain, MixtureOfNormalsDistribution):
        assert isinstance(narrow, MixtureOfNormalsDistribution)
        torch.testing.assert_close(narrow.scale, temperature * plain.scale)
        torch.testing.assert_close((narrow.loc, narrow.logits), (plain.loc, plain.logits))
        return
    torch.testing.assert_close(narrow.stddev, temperature * plain.stddev)
    torch.testing.assert_close(narrow.mean, plain.mean)


@every_prior
def test_frozen_holds_everything_that_is_learned(prior: Prior) -> None:
    z = torch.randn(5, 2, requires_grad=True)
    frozen, live = prior.log_prob(z, frozen=True), prior.log_prob(z)
    torch.testing.assert_close(frozen, live)
    torch.testing.assert_close(torch.autograd.grad(frozen.sum(), z), torch.autograd.grad(live.sum(), z))
    assert not prior.log_prob(z.detach(), frozen=True).requires_grad


def test_vamp_prior_shares_the_posterior_and_lists_it_once() -> None:
    posterior = DiagonalNormal(nn.Linear(5, 4))
    prior = VampPrior(posterior, torch.randn(7, 5))
    model = VAE(prior=prior, posterior=posterior, likelihood=Gaussian(nn.Linear(2, 5), scale=1.0))
    names = [name for name, _ in model.named_parameters()]
    assert [name for name in names if name.startswith("prior")] == ["prior.pseudo_inputs"]
    assert len(model.state_dict().keys() & set(names)) == len(names) == 5
    model.draw(torch.randn(3, 5)).log_pz.sum().backward()
    assert all(p.grad is not None and (p.grad != 0).any() for p in posterior.parameters())
    before = prior.log_prob(torch.zeros(1, 2))
    with torch.no_grad():
        posterior.network.bias.add_(1)
    assert prior.log_prob(torch.zeros(1, 2)) != before


def test_a_copied_model_has_a_vamp_prior_of_its_own_posterior() -> None:
    posterior = DiagonalNormal(nn.Linear(5, 4))
    model = VAE(
        prior=VampPrior(posterior, torch.randn(7, 5)),
        posterior=posterior,
        likelihood=Gaussian(nn.Linear(2, 5), scale=1.0),
    )
    twin = copy.deepcopy(model)
    assert twin.prior._posterior[0] is twin.posterior is not model.posterior


def test_vamp_prior_starts_at_a_copy_of_the_data() -> None:
    data = torch.zeros(7, 5)
    prior = VampPrior(DiagonalNormal(nn.Linear(5, 4)), data)
    with torch.no_grad():
        prior.pseudo_inputs.add_(1)
    assert (data == 0).all()


def test_vamp_prior_refuses_a_posterior_that_is_not_factorised() -> None:
    prior = VampPrior(FullNormal(nn.Linear(5, 5)), torch.zeros(7, 5))
    with pytest.raises(
        TypeError, match="Expected a DiagonalNormal posterior under a VampPrior; got MultivariateNormal"
    ):
        prior()


@pytest.mark.parametrize("kind", [StandardNormal, MixtureOfNormals])
@pytest.mark.parametrize("latent", [0, -1])
def test_refuses_an_empty_latent(kind: type[StandardNormal], latent: int) -> None:
    with pytest.raises(ValueError, match=f"Expected a latent of at least 1 dimension; got latent_dim={latent}"):
        kind(latent)


def test_mixture_refuses_to_have_no_components() -> None:
    with pytest.raises(ValueError, match="Expected at least 1 component; got 0"):
        MixtureOfNormals(2, components=0)


@every_prior
def test_distributions_check_no_arguments_of_their_own(prior: Prior) -> None:
    assert prior()._validate_args is False


def test_one_component_is_a_normal() -> None:
    prior = MixtureOfNormals(2, components=1)
    z = torch.randn(5, 2)
    normal = Independent(Normal(prior.mean[0], prior.log_scale[0].exp()), 1)
    torch.testing.assert_close(prior.log_prob(z), normal.log_prob(z))
    assert MixtureOfNormals(2).components == 10


@every_prior
def test_what_is_learned_is_learned_unless_frozen(prior: Prior) -> None:
    assert prior.log_prob(torch.zeros(1, 2)).requires_grad == bool([*prior.parameters()])


# Latents of other kinds than normals


@every_latent
def test_parameters_are_learned_or_fixed(name: str) -> None:
    fixed, learned = (LATENTS[name](learned) for learned in (False, True))
    assert not [*fixed.parameters()]
    assert not fixed.state_dict()
    assert [*learned.parameters()]
    z = fixed().sample((5,))
    torch.testing.assert_close(fixed.log_prob(z), learned.log_prob(z))
    learned.log_prob(z).sum().backward()
    assert all((p.grad != 0).any() for p in learned.parameters())
    assert "learned=True" in repr(learned)
    assert fixed.double()().sample().dtype == torch.float64


@every_latent
def test_draws_have_the_entropy_of_the_density(name: str) -> None:
    prior = moved(LATENTS[name](learned=True)).double()
    with torch.no_grad():
        z = prior().sample((20_000,))
        if name in ("bits", "classes"):
            p = prior.log_prob(every_code(prior()))
            exact = (p.exp() * p).sum()
        else:
            kinds = {"log-normal": "LogNormal", "gumbel": "Gumbel", "exponential": "Exponential"}
            theirs, base = getattr(torch.distributions, kinds[name]), prior().base_dist
            exact = -theirs(*(getattr(base, each) for each in theirs.arg_constraints)).entropy().sum()
        assert_mean(prior.log_prob(z), exact)


def test_temperature_narrows_each_latent_in_its_own_way() -> None:
    log_normal, gumbel = moved(priors.LogNormal(2, learned=True)), moved(priors.Gumbel(2, learned=True))
    for prior in (log_normal, gumbel):
        cool, warm = prior.tempered(0.5).base_dist, prior().base_dist
        torch.testing.assert_close((cool.loc, cool.scale), (warm.loc, 0.5 * warm.scale))
    rate = moved(priors.Exponential(2, learned=True))
    torch.testing.assert_close(rate.tempered(0.5).mean, 0.5 * rate().mean)
    bits, classes = moved(priors.Bernoulli(4, learned=True)), moved(priors.Categorical(2, classes=3, learned=True))
    torch.testing.assert_close(bits.tempered(0.5).base_dist.logits, 2 * bits.logits)
    torch.testing.assert_close(classes.tempered(0.5).logits, 2 * classes.logits)


@every_latent
def test_temperature_zero_is_the_likeliest_latent(name: str) -> None:
    prior = moved(LATENTS[name](learned=True))
    z = prior.tempered(0.0).sample((50,))
    assert (z == z[0]).all()
    if name in ("bits", "classes"):
        every = every_code(prior())
        assert z[0].equal(every[prior.log_prob(every).argmax()])


def test_latents_of_codes_refuse_impossible_sizes() -> None:
    for make in (priors.LogNormal, priors.Exponential, priors.Gumbel, priors.Bernoulli):
        with pytest.raises(ValueError, match="Expected a latent of at least 1 dimension; got latent_dim=0"):
            make(0)
    with pytest.raises(ValueError, match="Expected at least 2 classes; got 1"):
        priors.Categorical(2, classes=1)
    with pytest.raises(ValueError, match="Expected a latent of at least 1 dimension"):
        priors.Categorical(0, classes=2)
