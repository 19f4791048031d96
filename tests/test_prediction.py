"""What a model predicts: without gradient, the same in each call, and of each observation by itself."""

from __future__ import annotations

import pytest
import torch
from oracle import assert_mean, linear_gaussian
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from tightbound.autoencoder import VAE
from tightbound.batch import Batch
from tightbound.data import Observations
from tightbound.likelihoods import Gaussian, Poisson
from tightbound.posteriors import DiagonalNormal, Posterior
from tightbound.priors import StandardNormal


class Squashed(Posterior):
    """A posterior without a formula for its mean."""

    def latent(self, out: Tensor) -> Distribution:
        mean, log_scale = out.chunk(2, -1)
        normal = Normal(mean, log_scale.exp(), validate_args=False)
        bounded = TransformedDistribution(normal, [TanhTransform(cache_size=1)], validate_args=False)
        return Independent(bounded, 1, validate_args=False)

    @staticmethod
    def outputs_for(latent_dim: int) -> int:
        return 2 * latent_dim


def noisy(posterior: type[Posterior] = DiagonalNormal) -> VAE:
    """A model whose networks behave in training as they must not in prediction."""
    encoder = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 4))
    decoder = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 5))
    return VAE(StandardNormal(2), posterior(encoder), Gaussian(decoder, scale=0.5)).train()


@pytest.mark.parametrize("posterior", [DiagonalNormal, Squashed])
def test_codes_are_equal_in_each_call_and_leave_the_model_alone(posterior: type[Posterior]) -> None:
    model, x = noisy(posterior), torch.randn(6, 5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    first = model.embed(x)
    assert first.equal(model.embed(x))
    assert torch.get_rng_state().equal(state)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())  # running statistics as well
    assert all(module.training for module in model.modules())
    torch.testing.assert_close(model.embed(x[2:4]), first[2:4])
    torch.testing.assert_close(model.embed(x, batch_size=4), first)


@pytest.mark.parametrize("posterior", [DiagonalNormal, Squashed])
def test_predictions_carry_no_gradient(posterior: type[Posterior]) -> None:
    model, x = noisy(posterior), torch.randn(6, 5)
    for found in (model.embed(x), model.reconstruct(x), model.sample(3), model.sample(3, mean=True)):
        assert not found.requires_grad
        assert len(found.numpy()) in (3, 6)
    assert not model.decode(torch.zeros(1, 2)).mean.requires_grad
    assert not model.log_prob(x, samples=3).requires_grad


def test_codes_of_anything_that_holds_observations() -> None:
    model, x = noisy(), torch.randn(6, 5)
    expected = model.embed(x)
    for given in (x.numpy(), x.double().numpy(), Batch(x), Observations(x)):
        torch.testing.assert_close(model.embed(given, batch_size=4), expected)
    with pytest.raises(ValueError, match="Expected a batch_size of at least 1; got 0"):
        model.embed(x, batch_size=0)


def test_codes_do_not_hang_on_the_random_state() -> None:
    model, x = noisy(Squashed), torch.randn(4, 5)
    torch.manual_seed(1)
    first, scored = model.embed(x), model.log_prob(x, samples=3)
    torch.manual_seed(2)
    assert model.embed(x).equal(first)
    assert model.log_prob(x, samples=3).equal(scored)


def test_a_model_that_has_diverged_says_so_when_it_is_sampled() -> None:
    model = VAE(StandardNormal(2), DiagonalNormal(nn.Linear(5, 4)), Poisson(nn.Linear(2, 5)))
    with torch.no_grad():
        model.likelihood.network.weight[0, 0] = torch.nan
    name = next(name for name, p in model.named_parameters() if p.isnan().any())
    with pytest.raises(ValueError, match=rf"Expected finite weights; got NaN or infinity in {name}\. The training has"):
        model.sample(3)


def test_a_mean_without_a_formula_is_that_of_draws() -> None:
    model, x = noisy(Squashed), torch.randn(4, 5)
    with torch.no_grad():
        draws = model.eval().draw(x, samples=20_000).z
    far = (model.embed(x) - draws.mean(0)).abs()
    assert (far <= 4 * draws.std(0) * (1 / 256 + 1 / 20_000) ** 0.5).all()


def test_log_prob_is_the_evidence_within_its_error() -> None:
    problem = linear_gaussian()
    x = problem.evidence.sample((40,))
    model = problem.model(problem.wrong_posterior())
    found, exact = model.log_prob(x, samples=2000), problem.evidence.log_prob(x)
    draws = model.score(x, samples=2000, rows=10**5)
    effective = (2 * draws.log_w.logsumexp(0) - (2 * draws.log_w).logsumexp(0)).exp()
    assert ((found - exact).abs() <= 5 / effective.sqrt()).all()
    assert found.dtype == torch.float64


def test_log_prob_of_an_observation_does_not_depend_on_those_beside_it() -> None:
    problem = linear_gaussian()
    model, x = problem.model(problem.wrong_posterior()), problem.evidence.sample((7,))
    together = model.log_prob(x, samples=50)
    state = torch.get_rng_state()
    for index in range(7):
        assert model.log_prob(x[index : index + 1], samples=50).equal(together[index : index + 1])
    assert model.log_prob(x.flip(0), samples=50).equal(together.flip(0))
    assert torch.get_rng_state().equal(state)
    same = model.log_prob(x[:1].expand(3, 5), samples=50)
    assert same.equal(together[:1].expand(3))


def test_log_prob_refuses_what_it_cannot_score() -> None:
    with pytest.raises(ValueError, match="Expected at least 1 sample; got samples=0"):
        noisy().log_prob(torch.zeros(2, 5), samples=0)


def test_samples_spread_as_the_model_does_and_their_means_less() -> None:
    problem = linear_gaussian()
    model = problem.model(problem.exact_posterior())
    x, means = model.sample(40_000), model.sample(40_000, mean=True)
    between = (problem.weight @ problem.weight.T).diagonal()
    assert_mean((x - problem.bias).square(), between + problem.sigma**2)
    assert_mean((means - problem.bias).square(), between)
    still = model.sample(40_000, temperature=0.0)  # all at the prior's mean: what is left is the likelihood's own
    assert_mean((still - problem.bias).square(), torch.full((5,), problem.sigma**2, dtype=torch.float64))


def test_predictions_of_a_model_in_double_take_any_observations() -> None:
    model, x = noisy().double(), torch.randn(6, 5)
    for given in (x, x.numpy(), Observations(x), Observations(x.double())):
        assert model.embed(given, batch_size=1).dtype == torch.float64
        assert model.log_prob(given, samples=2).shape == (6,)
    assert model.sample(3).dtype == model.sample(3, mean=True).dtype == torch.float64


def test_reconstructions_are_made_a_few_at_a_time() -> None:
    model, x, seen = noisy(), torch.randn(6, 5), []
    model.posterior.network.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    whole = model.reconstruct(x)
    seen.clear()
    torch.testing.assert_close(model.reconstruct(x, batch_size=4), whole)
    assert seen == [4, 2]
