"""Objectives that look at a batch as a whole: their estimates beside exact ones, and whose parameters they move."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal
from training import QUIET, data, model

import tightbound as tb
from tightbound.batch import Batch
from tightbound.distributed import World
from tightbound.divergences import kl, pairwise_log_prob
from tightbound.execution import Execution, compiling, obstacle
from tightbound.objectives import (
    DIP,
    ELBO,
    WAE,
    FactorVAE,
    InfoVAE,
    Objective,
    SecondPlayer,
    TotalCorrelation,
    resolve,
)  # fmt: skip
from tightbound.objectives.of_batches import SCALES, _log_weights, discrepancy, total_correlation
from tightbound.settings import Training
from tightbound.training import fit
from tightbound.training.fit import prepare
from tightbound.training.step import TrainStep
from tightbound.training.validation import SEED, validate

MADE: dict[str, Callable[[], Objective]] = {
    "total-correlation": lambda: TotalCorrelation(beta=5.0, observations=100, samples=2),
    "dip-i": lambda: DIP(off_diagonal=3.0, diagonal=2.0, of="means"),
    "dip-ii": lambda: DIP(off_diagonal=3.0, diagonal=2.0),
    "mmd": lambda: InfoVAE(mmd=20.0),
    "info": lambda: InfoVAE(mmd=20.0, beta=0.5, samples=3),
    "wae": lambda: WAE(20.0),
    "factor-vae": lambda: FactorVAE(3.0, latent_dim=2, width=16, depth=1),
}
every_objective = pytest.mark.parametrize("make", MADE.values(), ids=MADE)
CPU = torch.device("cpu")


def double(count: int = 12) -> tuple[tb.VAE, Batch]:
    return model().double(), Batch(data(count).double(), checked=True)


def loss_of(objective: Objective, vae: Any, batch: Batch) -> Any:
    torch.manual_seed(5)
    return objective(vae, batch)


def gradients(value: Tensor, vae: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(value, list(vae.parameters()), materialize_grads=True))


@every_objective
def test_signature_follows_the_protocol(make: Callable[[], Objective]) -> None:
    assert inspect.signature(type(make()).__call__) == inspect.signature(Objective.__call__)


@every_objective
def test_value_reaches_every_parameter_and_terms_are_detached(make: Callable[[], Objective]) -> None:
    vae, batch = double()
    objective = make()
    if isinstance(objective, nn.Module):
        objective.double()
    loss = loss_of(objective, vae, batch)
    assert loss.value.shape == ()
    assert all((gradient != 0).any() for gradient in gradients(loss.value, vae))
    assert len(loss.terms) == 3
    assert all(term.shape == () and not term.requires_grad for term in loss.terms.values())


@pytest.mark.parametrize(
    "objective",
    [
        TotalCorrelation(beta=1.0, observations=50), DIP(off_diagonal=0.0, diagonal=0.0), InfoVAE(mmd=0.0, beta=1.0),
        FactorVAE(0.0, latent_dim=2).double(),
    ],
    ids=lambda objective: type(objective).__name__,
)  # fmt: skip
def test_without_its_penalty_each_is_the_elbo(objective: Objective) -> None:
    vae, batch = double()
    expected, found = loss_of(ELBO(), vae, batch).value, loss_of(objective, vae, batch).value
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(found, vae), gradients(expected, vae))


# Total correlation


def test_the_mean_over_a_batch_is_that_over_the_data_on_average() -> None:
    """Over every batch that holds the own observation, of every size."""
    count, density = 6, torch.rand(6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for size in range(2, count + 1):
        weights = _log_weights(size, count, density).exp()
        torch.testing.assert_close(weights.sum(1), torch.ones(size).double())
        found = [
            (weights[0] * density[[0, *others]]).sum() for others in itertools.combinations(range(1, count), size - 1)
        ]
        torch.testing.assert_close(torch.stack(found).mean(), density.mean())


def test_weights_are_the_mean_of_the_papers() -> None:
    """Its matrix gives one of the other observations (N − M) / (N M), the rest 1 / M each; M = B − 1."""
    count, size = 50, 8
    m = size - 1
    theirs = torch.full((size,), 1 / m, dtype=torch.float64)
    theirs[0], theirs[1] = 1 / count, (count - m) / (count * m)
    ours = _log_weights(size, count, theirs).exp()[0]
    torch.testing.assert_close(ours[0], theirs[0])
    torch.testing.assert_close(ours[1:], theirs[1:].mean().expand(m))


def test_of_all_observations_at_once_it_is_exact() -> None:
    """A batch of the whole data has a mixture of all posteriors: written out here, one density at a time."""
    vae, batch = double(9)
    draws = vae.draw(batch.x, samples=1)
    z, q = draws.z[0], vae.encode(batch.x)
    mean, scale = q.base_dist.loc, q.base_dist.scale
    expected = []
    for i in range(9):
        each = Normal(mean, scale).log_prob(z[i]).exp()  # (N, L)
        expected.append((each.prod(1).mean().log() - each.mean(0).log().sum()).item())
    found = total_correlation(pairwise_log_prob(q, z), 9)
    assert found.item() == pytest.approx(np.mean(expected), rel=1e-10)


def test_an_independent_code_has_none_and_a_dependent_one_what_it_has() -> None:
    """z = (a, a + noise) with posteriors as narrow as may be: the exact value is that of a bivariate normal."""
    torch.manual_seed(0)
    count, rho, width = 1500, 0.8, 0.15
    first = torch.randn(count, dtype=torch.float64)
    for share, expected in ((rho, -0.5 * math.log(1 - rho**2)), (0.0, 0.0)):
        second = share * first + math.sqrt(1 - share**2) * torch.randn(count, dtype=torch.float64)
        mean = torch.stack([first, second], 1)
        q = torch.distributions.Independent(Normal(mean, torch.full_like(mean, width)), 1)
        found = total_correlation(pairwise_log_prob(q, q.sample()), count).item()
        # Noise of width s turns ρ into ρ / (1 + s²); a mixture of N kernels is off by some hundredths.
        blurred = -0.5 * math.log(1 - (share / (1 + width**2)) ** 2)
        assert found == pytest.approx(blurred, abs=0.06)
        assert abs(found - expected) < 0.12


def test_fit_fills_in_how_many_observations_there_are() -> None:
    ended = fit(model(), data(), objective=TotalCorrelation(beta=3.0), epochs=1, **QUIET)
    assert ended.objective == TotalCorrelation(beta=3.0, observations=80)
    given = TotalCorrelation(beta=3.0, observations=1000)
    assert fit(model(), data(), objective=given, epochs=1, **QUIET).objective == given
    assert resolve(TotalCorrelation(), model(), data(3)) == TotalCorrelation()


def test_pairs_are_told_by_dimension() -> None:
    vae, batch = double(4)
    q, z = vae.encode(batch.x), torch.randn(3, 2).double()
    found = pairwise_log_prob(q, z)
    for i, k in itertools.product(range(3), range(4)):
        one = Normal(q.base_dist.loc[k], q.base_dist.scale[k]).log_prob(z[i])
        torch.testing.assert_close(found[i, k], one)
    full = MultivariateNormal(torch.zeros(3, 2), torch.eye(2))
    with pytest.raises(TypeError, match="Expected a posterior whose dimensions are independent; got Multi"):
        pairwise_log_prob(full, z)


# Covariance


@pytest.mark.parametrize("of", ["means", "draws"])
def test_dip_is_a_penalty_on_numpys_covariance(of: str) -> None:
    vae, batch = double()
    q = vae.encode(batch.x)
    covariance = np.cov(q.mean.detach().numpy().T)
    if of == "draws":
        covariance = covariance + np.diag(q.variance.detach().numpy().mean(0))
    off = (covariance**2).sum() - (np.diag(covariance) ** 2).sum()
    expected = 3 * off + 2 * ((np.diag(covariance) - 1) ** 2).sum()
    loss = loss_of(DIP(3.0, 2.0, of=of), vae, batch)  # type: ignore[arg-type]
    assert loss.terms["covariance"].item() == pytest.approx(expected)
    plain = loss_of(ELBO(), vae, batch).value
    assert (loss.value - plain).item() == pytest.approx(expected)


def test_dip_takes_a_full_covariance() -> None:
    from tightbound.objectives.of_batches import _covariance

    torch.manual_seed(0)
    triangle = torch.tensor([[1.0, 0.0], [0.5, 0.8]]).double()
    mean = torch.randn(2000, 2, dtype=torch.float64)
    q = MultivariateNormal(mean, scale_tril=triangle.expand(2000, 2, 2))
    drawn = np.cov(q.sample((200,)).flatten(0, 1).numpy().T)
    np.testing.assert_allclose(_covariance(q, draws=True).numpy(), drawn, atol=0.02)


# Discrepancy


def test_discrepancy_is_that_of_its_definition() -> None:
    torch.manual_seed(0)
    a, b, width = torch.randn(5, 2).double(), torch.randn(4, 2).double(), 1.7

    def k(x: Tensor, y: Tensor, name: str) -> float:
        d = float(((x - y) ** 2).sum())
        if name == "squared-exponential":
            return float(np.mean([math.exp(-d / (s * width)) for s in SCALES]))
        return float(np.mean([s * width / (s * width + d) for s in SCALES]))

    for name in ("squared-exponential", "inverse-multiquadratic"):
        within = [
            np.mean([k(x, y, name) for i, x in enumerate(points) for j, y in enumerate(points) if i != j])
            for points in (a, b)
        ]
        across = np.mean([k(x, y, name) for x in a for y in b])
        assert discrepancy(a, b, name, width).item() == pytest.approx(sum(within) - 2 * across)  # type: ignore[arg-type]


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_discrepancy_is_unbiased(shift: float) -> None:
    """Of N(0, 1) and N(m, 1): a mean of exponentials of squared normals, which has a closed form."""
    torch.manual_seed(0)

    def expected(distance: float) -> float:
        each = [math.sqrt(s / (s + 4)) * math.exp(-(distance**2) / (s + 4)) for s in SCALES]
        return sum(each) / len(each)

    exact = 2 * expected(0.0) - 2 * expected(shift)
    found = [
        discrepancy(torch.randn(10, 1), shift + torch.randn(8, 1), "squared-exponential", 1.0).item()
        for _ in range(3000)
    ]
    assert abs(np.mean(found) - exact) < 4 * np.std(found) / math.sqrt(3000)
    if not shift:
        assert min(found) < 0  # as an unbiased estimate of 0 must sometimes be


def test_codes_are_compared_with_the_models_own_prior() -> None:
    """Of a prior that is far away the discrepancy is large, and its parameters learn where the codes are."""
    vae, batch = double()
    near = loss_of(InfoVAE(), vae, batch).terms["mmd"]
    vae.prior = _Moved(20.0)
    loss = loss_of(InfoVAE(), vae, batch)
    assert loss.terms["mmd"] > 0.5 > near
    assert (torch.autograd.grad(loss.value, vae.prior.middle)[0] > 0).all()


# FactorVAE


def test_the_discriminator_sees_codes_and_permuted_ones_without_their_gradient() -> None:
    vae, batch = double(40)
    objective, seen = FactorVAE(2.0, latent_dim=2).double(), []
    objective.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    loss = loss_of(objective, vae, batch)
    codes, real, permuted = seen
    assert codes.requires_grad
    assert not real.requires_grad
    assert not permuted.requires_grad
    assert codes.equal(real)
    for j in range(2):
        assert permuted[:, j].sort().values.equal(real[:, j].sort().values)
    together = {tuple(row) for row in real.tolist()}
    assert sum(tuple(row) in together for row in permuted.tolist()) < 10  # each dimension by itself
    assert all(not gradient.any() for gradient in gradients(loss.second, vae))


def test_each_player_is_moved_by_its_own_loss_alone() -> None:
    vae, batch = model(), Batch(data(30), checked=True)
    objective = FactorVAE(2.0, latent_dim=2, learning_rate=0.01)
    step = TrainStep(vae, objective, Training(), steps=10, device=CPU)
    torch.manual_seed(5)
    step.gradient(batch, 0)
    torch.manual_seed(5)
    loss = objective(vae, batch)
    ours, theirs = list(vae.parameters()), list(objective.discriminator.parameters())
    torch.testing.assert_close(list(step.gradients), list(torch.autograd.grad(loss.value, ours, retain_graph=True)))
    torch.testing.assert_close(list(step.their_gradients), list(torch.autograd.grad(loss.second, theirs)))
    assert not {id(p) for p in step.parameters.values()} & {id(p) for p in theirs}


def test_a_discriminator_learns_the_total_correlation() -> None:
    """Codes of a fixed bivariate normal: −½ log(1 − ρ²)."""
    torch.manual_seed(0)
    rho = 0.8
    triangle = torch.tensor([[1.0, 0.0], [rho, math.sqrt(1 - rho**2)]])
    objective = FactorVAE(1.0, latent_dim=2, width=64, depth=2)
    optimiser, found = torch.optim.Adam(objective.parameters(), lr=3e-3), []
    vae = tb.VAE(tb.priors.StandardNormal(2), _Fixed(triangle), tb.likelihoods.Gaussian(nn.Linear(2, 3)))
    x = torch.zeros(500, 3)
    for number in range(400):
        loss = objective(vae, Batch(x))
        optimiser.zero_grad()
        loss.second.backward()
        optimiser.step()
        if number >= 300:
            found.append(loss.terms["tc"].item())
    assert np.mean(found) == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.06)


class _Moved(tb.priors.Prior):
    def __init__(self, middle: float) -> None:
        super().__init__()
        self.middle = nn.Parameter(torch.full((2,), middle, dtype=torch.float64))

    def tempered(self, temperature: float) -> torch.distributions.Distribution:
        return torch.distributions.Independent(Normal(self.middle, torch.full_like(self.middle, temperature)), 1)


class _Fixed(tb.posteriors.Posterior):
    """The same normal for every observation, of which a parameter moves the mean by nothing."""

    def __init__(self, triangle: Tensor) -> None:
        super().__init__(nn.Identity())
        self.triangle, self.shift = triangle, nn.Parameter(torch.zeros(2))

    @staticmethod
    def outputs_for(latent_dim: int) -> int:
        return latent_dim

    def latent(self, out: Tensor) -> MultivariateNormal:
        mean = self.shift.expand(len(out), 2)
        return MultivariateNormal(mean, scale_tril=self.triangle.expand(len(out), 2, 2), validate_args=False)


def test_fit_makes_the_discriminator_for_the_latent() -> None:
    ended = fit(model(), data(), objective=FactorVAE(2.0, width=8, depth=1), epochs=1, **QUIET)
    assert isinstance(ended.objective, FactorVAE)
    assert ended.objective.latent_dim == 2
    assert isinstance(ended.objective.second_player, SecondPlayer)
    given = FactorVAE(2.0, latent_dim=2)
    assert resolve(given, model(), data(3)) is given


# In a training


def gradient_of(make: Callable[[], Objective], *, rows: int = 0, compiled: bool = False) -> list[Tensor]:
    torch.manual_seed(1)
    objective = make()
    step = TrainStep(model(), objective, Training(micro_batch=rows), steps=10, device=CPU)
    if compiled:
        step.use(Execution(compiled=True))
    torch.manual_seed(3)
    with compiling():
        values = step.gradient(Batch(data(20), checked=True), 0)
    return [values, *step.gradients, *step.their_gradients]


@every_objective
def test_micro_batches_change_nothing(make: Callable[[], Objective]) -> None:
    """They part the decoder's work alone: the posteriors of a batch stay together."""
    torch.testing.assert_close(gradient_of(make, rows=3), gradient_of(make), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # the compiler's own
@pytest.mark.skipif(bool(obstacle()), reason="nothing can be compiled here")
@pytest.mark.parametrize("name", ["total-correlation", "dip-ii", "factor-vae"])
def test_a_compiled_step_has_the_same_gradient(name: str) -> None:
    torch.testing.assert_close(gradient_of(MADE[name], compiled=True), gradient_of(MADE[name]), rtol=1e-4, atol=1e-5)


@every_objective
def test_it_trains(make: Callable[[], Objective]) -> None:
    torch.manual_seed(1)
    ended = fit(model(), data(), objective=make(), epochs=30, **QUIET)
    first, last = (ended.metrics[at]["loss"] for at in (0, -1))
    assert last < first


def test_several_processes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected one process with TotalCorrelation, .*; got 2, each with a part"):
        prepare(model(), data(), TotalCorrelation(), Training(batch_size=20), 0, None, World(0, 2))


@pytest.mark.parametrize(("size", "validation", "got"), [(1, 0.0, "1 and none"), (20, 0.01, "20 and 1")])
def test_batches_of_one_are_refused_before_the_first_step(size: int, validation: float, got: str) -> None:
    settings = {**QUIET, "batch_size": size, "validation": validation}
    with pytest.raises(ValueError, match=f"Expected at least 2 observations in a batch, .* with DIP, .*; got {got}"):
        fit(model(), data(), objective=DIP(), epochs=1, **settings)


def test_a_short_batch_at_the_end_of_validation_is_filled_up() -> None:
    """50 observations by 20: the last batch is of the last 20, and counts for its 10 that are new."""
    vae, objective = model(), TotalCorrelation(beta=5.0, observations=100)
    held_out = tb.data.observations(data(50))
    step = TrainStep(vae, objective, Training(batch_size=20), steps=10, device=CPU)
    found = validate(step, held_out, names=("distortion", "rate", "tc"), batch_size=20)
    expected = []
    with torch.no_grad():
        for number, rows in enumerate((slice(0, 20), slice(20, 40), slice(30, 50))):
            torch.manual_seed(SEED + number)
            expected.append(objective(vae, Batch(data(50)[rows])).value.item())
    assert found["loss"] == pytest.approx(0.4 * expected[0] + 0.4 * expected[1] + 0.2 * expected[2], rel=1e-5)


# What is refused


def bits() -> tb.VAE:
    likelihood = tb.likelihoods.Gaussian(nn.Linear(2, 3))
    return tb.VAE(tb.priors.Bernoulli(2), tb.posteriors.Bernoulli(nn.Linear(3, 2)), likelihood)


def full() -> tb.VAE:
    likelihood = tb.likelihoods.Gaussian(nn.Linear(2, 3))
    return tb.VAE(tb.priors.StandardNormal(2), tb.posteriors.FullNormal(nn.Linear(3, 5)), likelihood)


def of_mixture() -> tb.VAE:
    vae = model()
    vae.prior = tb.priors.MixtureOfNormals(2, components=3)
    return vae


@pytest.mark.parametrize(
    ("objective", "vae", "error", "message"),
    [
        (TotalCorrelation(), model, ValueError, "Expected the number of training observations; got none. fit fills it"),
        (
            TotalCorrelation(observations=9),
            full,
            TypeError,
            "Expected a posterior whose dimensions are independent; got",
        ),
        (TotalCorrelation(observations=9), bits, TypeError, "Expected a posterior whose draws have a path to its para"),
        (
            InfoVAE(),
            of_mixture,
            TypeError,
            "Expected a prior without parameters, .* nothing would train",
        ),
        (InfoVAE(), bits, TypeError, "Expected a posterior whose draws have a path"),
        (FactorVAE(), model, ValueError, r"Expected a latent of length None, .*; got \(2,\). fit fills it in"),
        (FactorVAE(latent_dim=3), model, ValueError, r"Expected a latent of length 3, as FactorVAE .*; got \(2,\)"),
    ],
)
def test_what_cannot_be_compared_is_refused(objective: Any, vae: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        objective(vae(), Batch(data(6)))


def test_under_a_prior_without_closed_form_the_rate_is_that_of_the_draws() -> None:
    vae, batch = of_mixture().double(), Batch(data(12).double(), checked=True)
    expected = loss_of(ELBO(kl="sampled"), vae, batch).value
    for objective in (
        TotalCorrelation(beta=1.0, observations=50), DIP(0.0, 0.0), InfoVAE(mmd=0.0, beta=1.0),
        FactorVAE(0.0, latent_dim=2).double(),
    ):  # fmt: skip
        torch.testing.assert_close(loss_of(objective, vae, batch).value, expected)


def test_the_seed_makes_the_discriminator() -> None:
    """Whatever the caller has drawn before."""
    weights = []
    for before in (1, 2):
        torch.manual_seed(before)
        ended = fit(model(), data(), objective=FactorVAE(2.0, width=8, depth=1), epochs=1, seed=4, **QUIET)
        weights.append([p.detach().clone() for p in ended.objective.parameters()])
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)


def test_validation_may_have_more_observations_than_training() -> None:
    settings = {**QUIET, "validation": 0.7, "batch_size": 500}
    assert fit(model(), data(), objective=TotalCorrelation(), epochs=2, **settings).steps == 2


@every_objective
def test_a_batch_of_one_is_refused(make: Callable[[], Objective]) -> None:
    with pytest.raises(ValueError, match=r"Expected a batch of at least 2 observations, .*; got 1"):
        make()(model(), Batch(data(1)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TotalCorrelation(beta=-1.0), "Expected beta >= 0; got -1.0"),
        (lambda: TotalCorrelation(samples=0), "Expected samples >= 1; got 0"),
        (lambda: TotalCorrelation(observations=0), "Expected observations >= 1; got 0"),
        (lambda: DIP(off_diagonal=-1.0), "Expected off_diagonal >= 0; got -1.0"),
        (lambda: DIP(diagonal=math.nan), "Expected diagonal >= 0; got nan"),
        (lambda: DIP(of=cast("Any", "codes")), r"Expected of='means' \(DIP-VAE-I\) or of='draws' .*; got 'codes'"),
        (lambda: DIP(samples=0), "Expected samples >= 1; got 0"),
        (lambda: InfoVAE(mmd=-1.0), "Expected mmd >= 0; got -1.0"),
        (lambda: InfoVAE(beta=-1.0), "Expected beta >= 0; got -1.0"),
        (lambda: InfoVAE(kernel=cast("Any", "linear")), "Expected a kernel of squared-.* or inverse-.*; got 'linear'"),
        (lambda: InfoVAE(samples=0), "Expected samples >= 1; got 0"),
        (lambda: FactorVAE(-1.0), "Expected gamma >= 0; got -1.0"),
        (lambda: FactorVAE(latent_dim=0), "Expected latent_dim >= 1; got 0"),
        (lambda: FactorVAE(width=0), "Expected width >= 1; got 0"),
        (lambda: FactorVAE(depth=0), "Expected depth >= 1; got 0"),
        (lambda: FactorVAE(learning_rate=0.0), "Expected a finite learning_rate > 0; got 0.0"),
    ],
)
def test_wrong_numbers_are_refused(make: Callable[[], Objective], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_model_without_prior_or_posterior_says_what_to_write() -> None:
    class Bare(tb.Model):
        def __init__(self) -> None:
            super().__init__()
            self.vae = model()

        def propose(self, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
            return self.vae.propose(batch, samples)

        def log_joint(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
            return self.vae.log_joint(batch, z)

        def log_posterior(self, batch: Batch, z: Tensor, *, frozen: bool = False) -> Tensor:
            return self.vae.log_posterior(batch, z, frozen=frozen)

        def rate(self, batch: Batch) -> Tensor | None:
            return kl(self.vae.posterior(batch.x), self.vae.prior())

    for objective, message in (
        (InfoVAE(), "Expected a model with a prior to draw from; got Bare. Take VAE."),
        (DIP(), "Expected a model that gives its posterior as a distribution; got Bare. Override Model.encoded."),
    ):
        with pytest.raises(TypeError, match=message):
            objective(Bare(), Batch(data(6)))
