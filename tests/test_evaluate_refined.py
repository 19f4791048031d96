"""Proposals fitted to each observation, against models whose log p(x) is known; and what a row must not depend on."""

from __future__ import annotations

import math

import pytest
import torch
from oracle import LinearGaussian, assert_mean, linear_gaussian
from scipy.stats import f as f_distribution
from scipy.stats import kstest
from torch import Tensor, nn
from torch.distributions import Independent, LogNormal, MultivariateNormal, Normal, kl_divergence

import tightbound as tb
from tightbound import posteriors, priors
from tightbound.batch import Batch
from tightbound.evaluate import evidence, marginal
from tightbound.evaluate.accelerate import Accelerated
from tightbound.evaluate.proposals import DEGREES, SET, Proposal, Sweep, directions, refine, student_noise
from tightbound.evaluate.target import Target
from tightbound.model import Model

LATENT = 6


@pytest.fixture
def problem() -> LinearGaussian:
    """Six latents, seen through four numbers: the true posterior is strongly correlated."""
    return linear_gaussian(observed=4, latent=LATENT)


def own(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def target_of(model: Model, latent: int, **options: object) -> Target:
    return Target(Accelerated(model, torch.float32, compile=False), torch.Size([latent]), **options)


def wide_start(rows: int, size: int = LATENT) -> Proposal:
    far = 3.0 * torch.randn(rows, size, dtype=torch.float64)
    return Proposal.of(far, torch.diag_embed(0.2 + torch.rand(rows, size, dtype=torch.float64)))


# The noise of the proposals


@pytest.mark.parametrize("dim", [1, 2, 7, 40])
def test_each_draw_has_the_students_density(dim: int) -> None:
    """An importance weight of it has mean 1 under any density that it covers, whatever is common to a set."""
    noise = student_noise([20_000], dim, [own()]).double()
    assert noise.shape == (SET, 20_000, dim)
    unit = Proposal.of(torch.zeros(1, dim).double(), torch.eye(dim).double()[None])
    for scale in (0.9, 1.1):
        other = Independent(Normal(torch.zeros(dim, dtype=torch.float64), scale), 1)
        flat = noise.flatten(0, 1)[:, None]
        weight = (other.log_prob(flat) - unit.log_student(flat)).exp().view(SET, -1)
        assert_mean(weight.mean(0), 1.0)  # sets are independent of each other, draws in one are not
    squares = noise.square().sum(-1) / dim
    for place in (0, 3, SET - 1):  # slices of the radius: each has its share of the distribution
        inside = f_distribution(dim, DEGREES).cdf(squares[place].numpy()) * SET / 2 - place % (SET // 2)
        assert kstest(inside, "uniform").pvalue > 1e-3
    torch.testing.assert_close(noise[: SET // 2], -noise[SET // 2 :])


def test_noise_is_each_observations_own() -> None:
    both = student_noise([3, 5], 2, [own(1), own(2)])
    torch.testing.assert_close(both[:, :3], student_noise([3], 2, [own(1)]))
    torch.testing.assert_close(both[:, 3:], student_noise([5], 2, [own(2)]))


def test_densities_of_a_proposal_are_torchs() -> None:
    torch.manual_seed(0)
    factor = torch.randn(3, 4, 4, dtype=torch.float64)
    proposal = Proposal.of(torch.randn(3, 4, dtype=torch.float64), factor)
    noise = torch.randn(5, 3, 4, dtype=torch.float64)
    u = proposal.at(noise)
    normal = MultivariateNormal(proposal.mean, factor @ factor.mT)
    torch.testing.assert_close(proposal.log_normal(noise), normal.log_prob(u))
    torch.testing.assert_close(proposal.noise_of(u), noise)
    student = torch.distributions.StudentT(torch.tensor(float(DEGREES)).double())  # in one dimension
    one = Proposal.of(torch.zeros(1, 1).double(), torch.full((1, 1, 1), 2.0).double())
    e = torch.linspace(-3, 3, 7).double()[:, None, None]
    torch.testing.assert_close(one.log_student(e)[:, 0], student.log_prob(e[:, 0, 0]) - math.log(2))


@pytest.mark.parametrize(("dim", "pairs"), [(1, 32), (2, 32), (31, 62), (32, 32), (33, 33)])
def test_a_sweep_sees_all_directions_alike(dim: int, pairs: int) -> None:
    found = directions(dim, seed=3, sweep=1)
    assert found.shape == (pairs, dim)
    torch.testing.assert_close(found.T @ found / pairs, torch.eye(dim, dtype=torch.float64))
    if dim > 1:
        assert not torch.equal(found, directions(dim, seed=3, sweep=2))
        assert not torch.equal(found, directions(dim, seed=4, sweep=1))


# The fit


def test_a_normal_posterior_is_found_exactly(problem: LinearGaussian) -> None:
    torch.manual_seed(0)
    x = problem.evidence.sample((7,))
    model = problem.model(problem.wrong_posterior())
    found = refine(target_of(model, LATENT), Batch(x), wide_start(7), sweeps=[Sweep(1.0, 0.5)] * 8)
    truth = problem.posterior(x)
    torch.testing.assert_close(found.factor @ found.factor.mT, truth.covariance_matrix.expand(7, -1, -1))
    assert (found.mean - truth.mean).abs().max() < 1e-3
    torch.testing.assert_close(found.log_scale, 0.5 * torch.logdet(truth.covariance_matrix).expand(7))


def test_three_sweeps_are_near(problem: LinearGaussian) -> None:
    torch.manual_seed(0)
    x = problem.evidence.sample((50,))
    q = problem.wrong_posterior()(x)
    model = problem.model(problem.wrong_posterior())
    found = refine(target_of(model, LATENT), Batch(x), Proposal.of(q.mean, torch.diag_embed(q.stddev)))
    fitted = MultivariateNormal(found.mean, found.factor @ found.factor.mT)
    before = kl_divergence(MultivariateNormal(q.mean, torch.diag_embed(q.variance)), problem.posterior(x))
    after = kl_divergence(fitted, problem.posterior(x))
    assert before.mean() > 0.8
    assert after.max() < 0.05


def test_the_best_diagonal_is_found_too(problem: LinearGaussian) -> None:
    """Its mean is the true one, its variances are one over the diagonal of the true precision."""
    torch.manual_seed(0)
    x = problem.evidence.sample((7,))
    model = problem.model(problem.wrong_posterior())
    found = refine(target_of(model, LATENT), Batch(x), wide_start(7), sweeps=[Sweep(1.0, 0.5)] * 30, family="diagonal")
    precision = torch.linalg.inv(problem.posterior_covariance)
    torch.testing.assert_close(found.factor.square(), torch.diag(1 / precision.diagonal()).expand(7, -1, -1))
    assert (found.mean - problem.posterior(x).mean).abs().max() < 1e-3


def test_a_fit_far_away_and_without_slopes_stays_finite() -> None:
    class Broken(tb.VAE):
        def log_joint(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
            log_px_z, log_pz = super().log_joint(batch, z)
            return log_px_z * torch.where(batch.x[:, 0] > 0, math.nan, 1.0), log_pz

    model = Broken(
        priors.StandardNormal(2), posteriors.DiagonalNormal(nn.Linear(3, 4)), tb.likelihoods.Gaussian(nn.Linear(2, 3))
    )
    start = Proposal.of(torch.zeros(2, 2), torch.eye(2).expand(2, -1, -1))
    found = refine(target_of(model, 2), Batch(torch.tensor([[1.0, 0, 0], [-1.0, 0, 0]])), start)
    assert found.mean.isfinite().all()
    assert found.factor.isfinite().all()


# log p(x)


@pytest.mark.parametrize("error", [0.05, 0.01])
def test_refined_evidence_is_exact_within_its_error(problem: LinearGaussian, error: float) -> None:
    torch.manual_seed(0)
    x = problem.evidence.sample((300,))
    found = evidence(problem.model(problem.wrong_posterior()), x, samples=10, error=error)
    columns = found.per_observation
    off = columns["log_px"] - problem.evidence.log_prob(x)
    assert found.proposal == "refined"
    assert columns["error"].mean() < 1.1 * error
    assert_mean(off, 0.0)
    assert 0.7 < (off / columns["error"]).std() < 1.4
    assert found.high_k_share < 0.05
    assert found.reliable


def test_draws_are_as_many_as_the_error_asks_for(problem: LinearGaussian) -> None:
    x = problem.evidence.sample((20,))
    model = problem.model(problem.wrong_posterior())
    few, some, many = (evidence(model, x, samples=10, error=each) for each in (10.0, 0.02, 1e-6))
    assert few.draws_mean == few.draws_max == marginal.LEAST * SET
    assert many.draws_mean == many.draws_max == marginal.MOST * SET
    assert few.draws_mean < some.draws_mean < many.draws_mean
    assert many.draws_error < some.draws_error < few.draws_error


def positive(kind: str) -> tuple[tb.VAE, Tensor]:
    torch.manual_seed(0)
    networks = {"log-normal": posteriors.LogNormal, "exponential": posteriors.Exponential}
    posterior = networks[kind](nn.Linear(2, 2 if kind == "log-normal" else 1))
    prior = priors.LogNormal(1) if kind == "log-normal" else priors.Exponential(1)
    return tb.VAE(prior, posterior, tb.likelihoods.Gaussian(nn.Linear(1, 2), scale=0.5)).double(), torch.randn(
        6, 2, dtype=torch.float64
    )


def quadrature(model: Model, x: Tensor, low: float = -12.0, high: float = 6.0) -> Tensor:
    """log p(x) of a model of one positive latent, by a sum over log z."""
    u = torch.linspace(low, high, 20_001, dtype=torch.float64)
    z = u.exp()[:, None, None].expand(-1, len(x), 1)
    with torch.no_grad():
        log_joint = torch.stack(model.log_joint(Batch(x), z)).sum(0)
    return (log_joint + u[:, None]).logsumexp(0) + math.log((high - low) / 20_000)


@pytest.mark.parametrize("kind", ["log-normal", "exponential"])
def test_positive_latents_are_fitted_by_their_logarithm(kind: str) -> None:
    model, x = positive(kind)
    found = evidence(model, x, samples=10, error=0.01)
    assert found.proposal == "refined"
    off = found.per_observation["log_px"] - quadrature(model, x)
    assert (off.abs() < 5 * found.per_observation["error"]).all()
    assert found.per_observation["error"].max() < 0.03


def test_kinds_side_by_side_each_have_their_own_map() -> None:
    torch.manual_seed(0)
    model = tb.VAE(
        priors.Joint([priors.StandardNormal(2), priors.LogNormal(1)]),
        posteriors.Joint([posteriors.DiagonalNormal(nn.Linear(2, 4)), posteriors.LogNormal(nn.Linear(2, 2))]),
        tb.likelihoods.Gaussian(nn.Linear(3, 2), scale=0.5),
    ).double()
    batch = Batch(torch.randn(4, 2, dtype=torch.float64))
    target = target_of(model, 3, parts=model.parts(batch))
    u = torch.randn(5, 4, 3, dtype=torch.float64)
    z = target.to_latent(u)
    torch.testing.assert_close(z, torch.cat([u[..., :2], u[..., 2:].exp()], -1))
    torch.testing.assert_close(target.from_latent(z), u)
    torch.testing.assert_close(target.log_slopes(u), u[..., 2])
    expected = torch.stack(model.log_joint(batch, z)).sum(0) + u[..., 2]
    torch.testing.assert_close(target(batch, u), expected)
    value, slope = target.slope(batch, u)
    torch.testing.assert_close(value, expected)
    step = 1e-5 * torch.eye(3, dtype=torch.float64)
    numeric = torch.stack([target(batch, u + e) - target(batch, u - e) for e in step], -1) / 2e-5
    torch.testing.assert_close(slope, numeric, rtol=1e-6, atol=1e-6)


class Unsaid(Model):
    """One positive latent, of which the model does not say that it is positive; q is far from the true posterior."""

    def propose(self, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
        z = LogNormal(1.0, 0.8).sample((samples, batch.size, 1)).double()
        return z, self.log_posterior(batch, z)

    def log_joint(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
        log_px_z = Normal(z, 1.0, validate_args=False).log_prob(batch.x).sum(-1)
        return log_px_z, torch.where(z > 0, -z, -torch.inf).sum(-1)

    def log_posterior(self, batch: Batch, z: Tensor, *, frozen: bool = False) -> Tensor:
        return LogNormal(1.0, 0.8, validate_args=False).log_prob(z).sum(-1)


def test_where_a_fit_fails_q_takes_part() -> None:
    """A normal's draws below zero have no weight; the mixture with q gives log p(x) all the same."""
    model, x = Unsaid(), torch.tensor([[-2.0], [0.0], [3.0]], dtype=torch.float64)
    found = evidence(model, x, samples=200)
    off = found.per_observation["log_px"] - quadrature(model, x)
    assert (off.abs() < 5 * found.per_observation["error"]).all()
    draws = found.per_observation["draws"]
    assert (draws % (2 * SET) == 0).all()
    assert draws.min() >= 2 * SET * marginal.LEAST
    assert len(draws.unique()) == 3  # each as many as its own error asks for
    few = evidence(model, x, samples=200, error=0.5).per_observation["draws"]
    assert (few < draws).any()


def test_an_odd_row_has_its_honest_cost_and_troubles_nobody(problem: LinearGaussian) -> None:
    torch.manual_seed(0)
    x = problem.evidence.sample((9,))
    odd = x.clone()
    odd[4] = 300 * problem.evidence.variance.sqrt()
    model = problem.model(problem.wrong_posterior())
    found, plain = (evidence(model, each, samples=10).per_observation for each in (odd, x))
    exact = problem.evidence.log_prob(odd)
    assert exact[4] < -10_000
    assert found["log_px"][4] == pytest.approx(exact[4].item(), abs=5 * found["error"][4].item() + 1e-6)
    others = torch.arange(9) != 4
    for name, values in found.items():
        torch.testing.assert_close(values[others], plain[name][others], rtol=1e-9, atol=1e-9, equal_nan=True)


def company(kind: str) -> tuple[Model, int]:
    torch.manual_seed(0)
    if kind == "bits":
        likelihood = tb.likelihoods.Gaussian(nn.Linear(3, 4), scale=0.7)
        return tb.VAE(priors.Bernoulli(3), posteriors.Bernoulli(nn.Linear(4, 3)), likelihood).double(), 4
    if kind == "flow":
        pytest.importorskip("zuko")
        posterior = posteriors.Flow(nn.Linear(4, 9), 3)
        return tb.VAE(priors.StandardNormal(3), posterior, tb.likelihoods.Gaussian(nn.Linear(3, 4))).double(), 4
    problem = linear_gaussian(observed=4, latent=LATENT)
    return problem.model(problem.wrong_posterior()), 4


@pytest.mark.parametrize("proposal", ["auto", "posterior"])
@pytest.mark.parametrize("kind", ["normal", "flow", "bits"])
def test_a_row_does_not_depend_on_its_company(kind: str, proposal: str) -> None:
    model, observed = company(kind)
    x = torch.randn(40, observed, dtype=torch.float64)
    whole = evidence(model, x, samples=60, proposal=proposal).per_observation
    order = torch.randperm(40)
    turned = evidence(model, x[order], samples=60, proposal=proposal, budget=100).per_observation
    alone = evidence(model, x[7:8], samples=60, proposal=proposal).per_observation
    twice = evidence(model, torch.cat([x[7:8], x[7:8]]), samples=60, proposal=proposal).per_observation
    for name, values in whole.items():
        if name in ("row", "same"):  # places in the data, and said to be
            continue
        torch.testing.assert_close(turned[name], values[order], rtol=1e-9, atol=1e-9, equal_nan=True)
        torch.testing.assert_close(alone[name], values[7:8], rtol=1e-9, atol=1e-9, equal_nan=True)
        torch.testing.assert_close(twice[name], values[7].expand(2), rtol=1e-9, atol=1e-9, equal_nan=True)


# Codes


def test_codes_that_can_be_listed_are_summed_over() -> None:
    model, _ = company("bits")
    x = torch.randn(5, 4, dtype=torch.float64)
    found = evidence(model, x, samples=5, budget=3)
    codes = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).double()[:, None].expand(-1, 5, -1)
    exact = torch.stack(model.log_joint(Batch(x), codes)).sum(0).logsumexp(0)
    torch.testing.assert_close(found.per_observation["log_px"], exact)
    assert (found.proposal, found.draws_mean, found.draws_error) == ("enumerated", 8, 0)
    assert found.reliable
    assert "exact, over all codes" in str(found)
    assert "Pareto" not in str(found)
    assert evidence(model, x, samples=5, proposal="enumerated").nll == found.nll
    with pytest.raises(
        ValueError, match="Expected continuous latents for refined proposals; got a model whose latents"
    ):
        evidence(model, x, proposal="refined")


def test_codes_that_are_too_many_are_drawn() -> None:
    model = tb.VAE(
        priors.Bernoulli(13), posteriors.Bernoulli(nn.Linear(4, 13)), tb.likelihoods.Gaussian(nn.Linear(13, 4))
    )
    assert evidence(model, torch.randn(3, 4), samples=30).proposal == "posterior"
    with pytest.raises(ValueError, match=r"4096.* Or take proposal='posterior'"):
        evidence(model, torch.randn(3, 4), proposal="enumerated")


def test_latents_that_repeat_are_taken_for_codes() -> None:
    class Die(Unsaid):
        def propose(self, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
            z = torch.randint(1, 7, (samples, batch.size, 1)).double()
            return z, self.log_posterior(batch, z)

        def log_posterior(self, batch: Batch, z: Tensor, *, frozen: bool = False) -> Tensor:
            return torch.full(z.shape[:2], -math.log(6), dtype=z.dtype)

    assert evidence(Die(), torch.zeros(2, 1), samples=30).proposal == "posterior"


def test_wide_latents_are_refined_only_when_asked(monkeypatch: pytest.MonkeyPatch, problem: LinearGaussian) -> None:
    module = __import__("importlib").import_module("tightbound.evaluate.evidence")
    monkeypatch.setattr(module, "WIDEST", LATENT - 1)
    model, x = problem.model(problem.wrong_posterior()), torch.randn(3, 4)
    assert evidence(model, x, samples=30).proposal == "posterior"
    assert evidence(model, x, samples=30, proposal="refined").proposal == "refined"
    monkeypatch.setattr(module, "WIDEST", LATENT)
    assert evidence(model, x, samples=30).proposal == "refined"


# Slopes of models that torch.func cannot trace


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, z: Tensor) -> Tensor:  # the old form, which torch.func refuses
        return 2 * z

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * gradient


def test_a_model_that_cannot_be_traced_has_its_slope_all_the_same(problem: LinearGaussian) -> None:
    class Stubborn(tb.VAE):
        def log_joint(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
            return super().log_joint(batch, Doubled.apply(z) / 2)

    plain = problem.model(problem.wrong_posterior())
    model = Stubborn(plain.prior, plain.posterior, plain.likelihood)
    batch, u = Batch(torch.randn(3, 4, dtype=torch.float64)), torch.randn(5, 3, LATENT, dtype=torch.float64)
    for found, expected in zip(
        target_of(model, LATENT).slope(batch, u), target_of(plain, LATENT).slope(batch, u), strict=True
    ):
        torch.testing.assert_close(found, expected)
