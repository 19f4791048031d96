"""What an evaluation must not depend on, must not disturb, and must refuse."""

from __future__ import annotations

import json

import pytest
import torch
from oracle import linear_gaussian
from torch import Tensor, nn
from torch.distributions import Distribution

import tightbound as tb
from tightbound.evaluate import evidence
from tightbound.model import DRAWN


class Spy(nn.Module):
    """A network that keeps what it was asked under which circumstances."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.dropout = nn.Dropout(0.5)
        self.seen: list[tuple[int, bool, bool]] = []

    def forward(self, z: Tensor) -> Tensor:
        self.seen.append((z[..., 0].numel(), self.training, torch.is_grad_enabled()))
        return self.dropout(self.network(z))


def wrong_model() -> tb.VAE:
    problem = linear_gaussian()
    return problem.model(problem.wrong_posterior())


def binary_model() -> tb.VAE:
    return tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(nn.Linear(3, 4)),
        tb.likelihoods.Bernoulli(nn.Linear(2, 3)),
    )


@pytest.mark.parametrize("budget", [1, 7, 64, 10**6])
def test_numbers_do_not_depend_on_the_budget(budget):
    x = torch.randn(10, 5, dtype=torch.float64)
    expected = evidence(wrong_model(), x, samples=300).per_observation
    for name, values in evidence(wrong_model(), x, samples=300, budget=budget).per_observation.items():
        torch.testing.assert_close(values, expected[name], rtol=1e-12, atol=1e-12)


def test_decoder_never_sees_more_than_the_budget():
    model = wrong_model()
    spy = model.likelihood.network = Spy(model.likelihood.network)
    evidence(model, torch.randn(10, 5), samples=1000, budget=50, proposal="posterior")
    assert max(rows for rows, _, _ in spy.seen) == 50
    assert sum(rows for rows, _, _ in spy.seen) < 1.01 * 10 * 1000


def test_more_draws_than_are_made_at_a_time():
    model, x = wrong_model(), torch.randn(1, 5)
    samples = DRAWN + 1000
    report = evidence(model, x, samples=samples, proposal="posterior")
    exact = linear_gaussian().evidence.log_prob(x.double()).item()
    assert report.per_observation["log_px"].item() == pytest.approx(
        exact, abs=4 / report.per_observation["ess"].item() ** 0.5
    )
    assert report.per_observation["ess"].item() > DRAWN / 10  # the second lot is not the first one again


def test_draws_of_one_block_are_independent_across_lots():
    model, x = wrong_model(), torch.randn(2, 5, dtype=torch.float64)
    draws = model.score(x, samples=DRAWN, rows=10**5)  # two lots of DRAWN / 2 for each of two
    first, second = draws.log_w.detach().chunk(2)
    assert not torch.equal(first, second)
    assert draws.log_w.shape == (DRAWN, 2)
    assert draws.log_w.dtype == torch.float64


def test_the_callers_random_state_neither_matters_nor_changes():
    model, x = wrong_model(), torch.randn(10, 5)
    reports = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        reports.append(evidence(model, x, samples=20))
        assert torch.equal(before, torch.get_rng_state())
    assert reports[0].to_json() == reports[1].to_json()
    assert evidence(model, x, samples=20, seed=1).elbo != reports[0].elbo


def test_the_models_mode_and_torchs_checks_are_restored():
    model = wrong_model()
    spy = model.likelihood.network = Spy(model.likelihood.network)
    model.train()
    spy.network.eval()
    modes, checks = [module.training for module in model.modules()], Distribution._validate_args
    evidence(model, torch.randn(10, 5), samples=20, proposal="posterior")
    with pytest.raises(ValueError, match="observation 1"):
        evidence(model, torch.tensor([[0.0] * 5, [torch.nan] * 5]), samples=20)
    assert not any(training or gradients for _, training, gradients in spy.seen)
    assert [module.training for module in model.modules()] == modes
    assert Distribution._validate_args == checks


def test_values_stay_in_the_order_of_the_data():
    torch.set_default_dtype(torch.float64)  # a decoder rounded to float32 on its way would not be the exact one
    x = torch.randn(50, 5)
    problem = linear_gaussian()
    calls: list[tuple[int, int]] = []
    report = evidence(
        problem.model(problem.exact_posterior()),
        x,
        samples=2**12,
        proposal="posterior",
        progress=lambda done, total: calls.append((done, total)),
    )
    torch.testing.assert_close(report.per_observation["log_px"], problem.evidence.log_prob(x), rtol=0, atol=1e-9)
    assert calls == [(16, 50), (32, 50), (48, 50), (50, 50)]
    assert all(values.shape == (50,) for values in report.per_observation.values())
    assert all(values.dtype == torch.float64 for values in report.per_observation.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_data_take_the_models_precision(dtype):
    report = evidence(wrong_model().to(dtype), torch.randint(9, (10, 5)), samples=20)
    assert report.per_observation["elbo"].dtype == torch.float64


def test_images_of_any_shape():
    model = tb.VAE(
        tb.priors.StandardNormal(3),
        tb.posteriors.FullNormal(tb.networks.ConvEncoder((1, 9, 7), 9, base=2)),
        tb.likelihoods.Categorical(tb.networks.ConvDecoder(3, (4, 1, 9, 7), base=2), classes=4),
    )
    report = evidence(model, torch.randint(4, (6, 1, 9, 7)), samples=20, budget=12)
    assert report.bits_per_dim == pytest.approx(report.nll.value / 63 / torch.log(torch.tensor(2.0)).item())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 0}, "Expected at least 1 sample; got samples=0"),
        ({"proposal": "best"}, "Expected a proposal of auto, refined, enumerated, posterior; got 'best'"),
        ({"error": 0.0}, r"Expected an error above 0 nats; got error=0.0. 0.05 is the default"),
        ({"error": float("nan")}, "Expected an error above 0 nats; got error=nan"),
        ({"budget": 0}, "Expected a budget of at least 1 latent at a time; got budget=0"),
    ],
)
def test_impossible_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        evidence(wrong_model(), torch.randn(3, 5), **arguments)


@pytest.mark.parametrize("shape", [(3, 7), (3, 1), (3, 1, 5)])
def test_another_shape_than_the_models(shape):
    got = str(shape[1:]).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=rf"Expected observations of shape \(5,\), .* got {got} in "):
        evidence(wrong_model(), torch.randn(shape))


def test_grey_values_under_bernoulli():
    x = torch.zeros(40, 3)
    x[-1, -1] = 0.25  # in the last block
    with pytest.raises(ValueError, match=r"support of the Bernoulli likelihood; got the value 0.25, neither 0 nor 1"):
        evidence(binary_model(), x, samples=2**12)
    with pytest.raises(ValueError, match=r"binarise.*ContinuousBernoulli.*UnnormalisedBernoulli"):
        evidence(binary_model(), x, samples=2**12)


def test_grey_values_beyond_the_grey():
    model = binary_model()
    model.likelihood = tb.likelihoods.UnnormalisedBernoulli(nn.Linear(2, 3))
    message = r"support of the UnnormalisedBernoulli likelihood; got values between 0 and 7, .* Divide by the largest"
    with pytest.raises(ValueError, match=message):
        evidence(model, torch.tensor([[0.5, 0.0, 7.0]]), samples=5)


def test_values_outside_any_other_support():
    model = binary_model()
    model.likelihood = tb.likelihoods.Poisson(nn.Linear(2, 3))
    with pytest.raises(ValueError, match=r"support of the Poisson likelihood; got values between -1 and 7, .*Rescale"):
        evidence(model, torch.tensor([[-1.0, 0.0, 7.0]]), samples=5)


def test_values_that_are_not_finite():
    x = torch.zeros(40, 3)
    x[17, 1] = torch.inf
    with pytest.raises(ValueError, match="Expected finite values; got NaN or infinity in observation 17 of "):
        evidence(binary_model(), x, samples=2**12)


@pytest.mark.parametrize("proposal", ["refined", "posterior"])
def test_an_observation_without_a_density_is_counted_and_left_out(proposal):
    x = torch.randn(40, 5)
    odd = x.clone()
    odd[33] = 1e30  # its square is beyond float32
    model = wrong_model().float()
    found, without = (evidence(model, each, samples=30, proposal=proposal) for each in (odd, x[torch.arange(40) != 33]))
    assert not found.per_observation["log_px"][33].isfinite()
    assert found.counted.tolist() == [i != 33 for i in range(40)]
    assert found.nll == without.nll
    assert found.elbo == without.elbo
    torch.testing.assert_close(found.mean_variance, without.mean_variance)
    assert found.verdict.startswith("1 of 40 observations are left out of all means, as log p(x) of them is -∞")
    assert "model's precision: row 33 of the data (from 0)." in found.verdict
    assert found.to_json()["excluded"] == 1
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize("part", ["posterior", "likelihood"])
def test_a_model_that_has_diverged(part):
    model = binary_model()
    nn.init.constant_(getattr(model, part).network.weight, torch.nan)
    with pytest.raises(ValueError, match=r"got NaN or infinity .*[Tt]raining has diverged"):
        evidence(model, torch.ones(4, 3), samples=5)
