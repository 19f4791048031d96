"""Gradients through bits and classes, against the exact one: a sum over all codes."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from compiled import assert_compiled_is_plain, compiles
from oracle import assert_mean, draws_with, linear_gaussian, standard_error
from torch import Tensor, nn

import tightbound as tb
from tightbound import bounds, posteriors, priors
from tightbound.batch import Batch
from tightbound.bounds import BoundFunction
from tightbound.gradients import (
    VIMCO,
    DoublyReparameterised,
    Enumerate,
    Gradient,
    GumbelSoftmax,
    Pathwise,
    ScoreFunction,
    StickingTheLanding,
    StraightThrough,
)
from tightbound.gradients.pathwise import _share_of_path
from tightbound.model import Model
from tightbound.objectives import ELBO, IWAE, Bound, Capacity, FreeBits, Objective
from tightbound.schedules import Linear
from tightbound.training import fit

UNBIASED: dict[str, Gradient] = {
    "none": ScoreFunction("none"),
    "batch": ScoreFunction("batch"),
    "leave-one-out": ScoreFunction("leave-one-out"),
    "vimco": VIMCO(),
}
BIASED: dict[str, Gradient] = {
    "straight-through": StraightThrough(),
    "gumbel-softmax": GumbelSoftmax(0.7),
    "straight-through-gumbel": GumbelSoftmax(0.7, hard=True),
}


def codes(kind: str = "bits") -> tuple[tb.VAE, Batch]:
    """A model whose latents are 8 bits, or 4 variables of 3 classes, and some observations."""
    torch.manual_seed(1)
    latent = 8 if kind == "bits" else 12
    posterior = posteriors.Bernoulli if kind == "bits" else partial(posteriors.Categorical, classes=3)
    prior = priors.Bernoulli(8, learned=True) if kind == "bits" else priors.Categorical(4, classes=3, learned=True)
    model = tb.VAE(prior, posterior(nn.Linear(12, latent)), tb.likelihoods.Bernoulli(nn.Linear(latent, 12))).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.7 * torch.randn_like(p))
    return model, Batch(torch.randint(2, (3, 12)).double())


def gradient_of(value: Tensor, model: Model) -> Tensor:
    """By everything that is learned, as one vector."""
    found = torch.autograd.grad(value, list(model.parameters()), materialize_grads=True)
    return torch.cat([g.reshape(-1) for g in found])


def exact_elbo(model: tb.VAE, batch: Batch) -> Tensor:
    z = model.every_code(batch)[:, None].expand(-1, batch.size, -1)
    log_q = model.log_posterior(batch, z)
    log_px_z, log_pz = model.log_joint(batch, z)
    return (log_q.exp() * (log_px_z + log_pz - log_q)).sum(0)


every_kind = pytest.mark.parametrize("kind", ["bits", "classes"])


@every_kind
@pytest.mark.parametrize("kl", ["sampled", "closed-form"])
def test_enumeration_is_exact_in_value_gradient_and_terms(kind: str, kl: str) -> None:
    model, batch = codes(kind)
    loss = ELBO(gradient=Enumerate(), kl=kl)(model, batch)  # type: ignore[arg-type]
    exact = -exact_elbo(model, batch).mean()
    torch.testing.assert_close(loss.value, exact)
    torch.testing.assert_close(loss.terms["distortion"] + loss.terms["rate"], exact.detach())
    torch.testing.assert_close(gradient_of(loss.value, model), gradient_of(exact, model))
    torch.testing.assert_close(loss.terms["rate"], model.rate(batch).mean().detach())


@every_kind
@pytest.mark.parametrize("kl", ["sampled", "closed-form"])
@pytest.mark.parametrize("name", UNBIASED)
def test_the_mean_of_an_unbiased_gradient_is_the_exact_one(kind: str, kl: str, name: str) -> None:
    model, batch = codes(kind)
    objective = ELBO(samples=3, gradient=UNBIASED[name], kl=kl)  # type: ignore[arg-type]
    torch.manual_seed(5)
    losses = [objective(model, batch) for _ in range(600)]
    assert_mean(torch.stack([loss.value.detach() for loss in losses]), -exact_elbo(model, batch).mean().detach())
    found = torch.stack([gradient_of(loss.value, model) for loss in losses])
    assert_mean(found, gradient_of(-exact_elbo(model, batch).mean(), model), errors=5)


def test_gradients_of_a_bound_of_many_draws_agree() -> None:
    """Two bits, two draws: the expectation of the importance-weighted bound over all 16 pairs of codes."""
    torch.manual_seed(2)
    model = tb.VAE(priors.Bernoulli(2), posteriors.Bernoulli(nn.Linear(3, 2)), tb.likelihoods.Gaussian(nn.Linear(2, 3)))
    model, batch = model.double(), Batch(torch.randn(2, 3).double())
    z = model.every_code(batch)
    pairs = torch.stack([z.repeat_interleave(4, 0), z.repeat(4, 1)])[:, :, None].expand(2, 16, 2, 2)
    log_q = torch.stack([model.log_posterior(batch, each) for each in pairs])
    log_p = torch.stack([sum(model.log_joint(batch, each)) for each in pairs])
    bound = (log_p - log_q).logsumexp(0) - math.log(2)
    exact = gradient_of(-(log_q.sum(0).exp() * bound).sum(0).mean(), model)
    for gradient in (ScoreFunction("none"), ScoreFunction("leave-one-out"), VIMCO()):
        torch.manual_seed(3)
        found = torch.stack([gradient_of(IWAE(2, gradient)(model, batch).value, model) for _ in range(1500)])
        assert_mean(found, exact, errors=5)


def test_baselines_take_noise_away() -> None:
    model, batch = codes()
    spread = {}
    for name, gradient in UNBIASED.items():
        torch.manual_seed(4)
        found = [gradient_of(ELBO(samples=4, gradient=gradient)(model, batch).value, model) for _ in range(200)]
        spread[name] = float(torch.stack(found).var(0).sum())
    assert spread["leave-one-out"] < spread["batch"] < spread["none"]
    assert spread["vimco"] < spread["batch"]


@pytest.mark.parametrize("bound", [bounds.elbo, bounds.iwae, bounds.renyi(0.5)])
def test_for_the_elbo_leave_one_out_and_vimco_are_one(bound: BoundFunction) -> None:
    model, batch = codes()
    found = []
    for gradient in (ScoreFunction("leave-one-out"), VIMCO()):
        torch.manual_seed(4)
        found.append(gradient_of(Bound(bound, 5, gradient)(model, batch).value, model))
    same = torch.allclose(*found, rtol=1e-9)
    assert same == (bound is bounds.elbo)


# Biased ones


@every_kind
@pytest.mark.parametrize("name", BIASED)
@pytest.mark.parametrize("kl", ["sampled", "closed-form"])
def test_values_and_terms_are_those_of_hard_codes(kind: str, name: str, kl: str) -> None:
    model, batch = codes(kind)
    objective = ELBO(samples=2, gradient=BIASED[name], kl=kl)  # type: ignore[arg-type]
    losses = [objective(model, batch) for _ in range(600)]
    exact = -exact_elbo(model, batch).mean().detach()
    assert_mean(torch.stack([loss.value.detach() for loss in losses]), exact)
    assert_mean(torch.stack([sum(loss.terms.values()) for loss in losses]), exact)
    _, draws = BIASED[name](model, batch, bounds.elbo, samples=5)
    assert ((draws.z.detach() == 0) | (draws.z.detach() == 1)).all()
    with torch.no_grad():
        assert objective(model, batch).value.isfinite()


def test_the_bias_of_relaxed_codes_falls_with_the_temperature_and_their_noise_rises() -> None:
    model, batch = codes()
    exact = gradient_of(-exact_elbo(model, batch).mean(), model)
    bias, noise, error = {}, {}, {}
    for t in (0.1, 2.0):
        torch.manual_seed(6)
        objective = ELBO(gradient=GumbelSoftmax(t))
        found = torch.stack([gradient_of(objective(model, batch).value, model) for _ in range(1500)])
        bias[t], noise[t] = (found.mean(0) - exact).norm(), found.var(0).sum()
        error[t] = standard_error(found).norm()
    assert bias[2.0] > 4 * error[2.0]  # there is one
    assert bias[0.1] + 4 * error[0.1] < bias[2.0]
    assert noise[0.1] > noise[2.0]


def test_one_bit_of_a_textbook() -> None:
    """E[(b − p₀)²] of b ~ Bernoulli(σ(φ)): its gradient is (1 − 2 p₀) σ (1 − σ); straight-through's mean is not it."""

    class Bit(Model):
        def __init__(self, target: float) -> None:
            super().__init__()
            self.phi, self.target = nn.Parameter(torch.full((20_000, 1), 0.5, dtype=torch.float64)), target

        def q(self, batch: Batch) -> torch.distributions.Distribution:
            return posteriors.Bernoulli(nn.Identity())(self.phi)

        def propose(self, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
            z = self.q(batch).sample((samples,))
            return z, self.log_posterior(batch, z)

        def log_joint(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
            return (z - self.target).square().sum(-1), torch.zeros(z.shape[:2], dtype=z.dtype)

        def log_posterior(self, batch: Batch, z: Tensor, *, frozen: bool = False) -> Tensor:
            return self.q(batch).log_prob(z)

        def posterior_mean(self, batch: Batch) -> Tensor:
            return self.q(batch).mean

        def every_code(self, batch: Batch) -> Tensor:
            return torch.tensor([[0.0], [1.0]], dtype=torch.float64)

    batch, p = Batch(torch.zeros(20_000, 1, dtype=torch.float64)), 1 / (1 + math.exp(-0.5))

    def mean_of(gradient: Gradient, samples: int) -> None:
        value, _ = gradient(model, batch, lambda draws: draws.log_px_z.mean(0), samples=samples)
        each = torch.autograd.grad(value.sum(), model.phi)[0][:, 0]
        assert_mean(each, expected, errors=4.5)

    for target in (0.49, 0.499, 0.501, 0.51):
        model, expected = Bit(target), (1 - 2 * target) * p * (1 - p)
        for gradient in (ScoreFunction("none"), ScoreFunction("leave-one-out"), ScoreFunction("batch"), VIMCO()):
            mean_of(gradient, 2)
        mean_of(Enumerate(), 1)
        expected = 2 * (p - target) * p * (1 - p)
        mean_of(StraightThrough(), 1)


def test_a_temperature_may_follow_a_schedule() -> None:
    model, batch = codes()
    falling = GumbelSoftmax(Linear(1.0, 0.3, steps=10))
    for step, temperature in ((0, 1.0), (10, 0.3), (None, 0.3)):
        found = []
        for gradient in (falling, GumbelSoftmax(temperature)):
            torch.manual_seed(7)
            at = None if step is None else torch.tensor(float(step))
            found.append(gradient_of(ELBO(gradient=gradient)(model, batch, at).value, model))
        torch.testing.assert_close(*found)


# Doubly reparameterised


def test_the_share_of_a_path_is_known_for_each_bound() -> None:
    log_w = torch.randn(6, 4, dtype=torch.float64)
    draws, weights = draws_with(log_w), log_w.softmax(0)
    torch.testing.assert_close(_share_of_path(bounds.elbo, draws), torch.ones_like(log_w))
    torch.testing.assert_close(_share_of_path(bounds.iwae, draws), weights)
    torch.testing.assert_close(
        _share_of_path(bounds.miwae(2), draws), torch.cat([log_w[:3].softmax(0), log_w[3:].softmax(0)])
    )
    alpha = 0.3
    expected = 1 - (1 - alpha) * (1 - ((1 - alpha) * log_w).softmax(0))
    torch.testing.assert_close(_share_of_path(bounds.renyi(alpha), draws), expected)
    far = draws_with(torch.tensor([[0.0], [-2000.0]]))
    assert _share_of_path(bounds.iwae, far).equal(torch.tensor([[1.0], [0.0]]))


def test_doubly_reparameterised_has_the_mean_of_the_plain_gradient_and_far_less_noise() -> None:
    problem = linear_gaussian(orthogonal=True)
    model, batch = problem.model(problem.wrong_posterior()), Batch(problem.evidence.sample((3,)))
    found = {}
    for name, gradient in (("plain", Pathwise()), ("double", DoublyReparameterised())):
        torch.manual_seed(8)
        found[name] = torch.stack([gradient_of(IWAE(50, gradient)(model, batch).value, model) for _ in range(800)])
    difference = found["plain"] - found["double"]
    assert_mean(difference, torch.zeros(difference.shape[1], dtype=difference.dtype), errors=5)
    theirs = torch.cat([torch.full((p.numel(),), name.startswith("posterior")) for name, p in model.named_parameters()])
    spread = {name: values[:, theirs].var(0).sum() for name, values in found.items()}
    assert spread["double"] < spread["plain"] / 20  # at K = 50 hundreds of times have been seen


def test_doubly_reparameterised_is_sticking_the_landing_for_the_elbo() -> None:
    problem = linear_gaussian(orthogonal=True)
    model, batch = problem.model(problem.wrong_posterior()), Batch(problem.evidence.sample((3,)))
    found = []
    for gradient in (StickingTheLanding(), DoublyReparameterised()):
        torch.manual_seed(9)
        found.append(gradient_of(ELBO(samples=4, gradient=gradient)(model, batch).value, model))
    torch.testing.assert_close(*found)


# Training


OBJECTIVES: dict[str, Objective] = {
    **{f"elbo-{name}": ELBO(samples=2, gradient=g) for name, g in {**UNBIASED, **BIASED}.items()},
    "elbo-enumerate": ELBO(gradient=Enumerate()),
    "iwae-vimco": IWAE(3, VIMCO()),
    "free-bits": FreeBits(0.1, gradient=StraightThrough()),
    "capacity": Capacity(1.0, gamma=3.0, gradient=GumbelSoftmax()),
    "capacity-sampled": Capacity(1.0, gamma=3.0, kl="sampled", samples=3, gradient=ScoreFunction()),
}


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("rows", [0, 5])
def test_training_makes_the_exact_bound_better(name: str, rows: int) -> None:
    model, _ = codes()
    x = torch.randint(2, (60, 12)).double()
    rows *= 100 if name == "elbo-enumerate" else 1  # whose draws are all codes: a few at a time would take a minute
    before = exact_elbo(model, Batch(x)).mean()
    fit(
        model, x, objective=OBJECTIVES[name], epochs=8, batch_size=20, micro_batch=rows, learning_rate=0.02,
        validation=0, progress=False,
    )  # fmt: skip
    assert exact_elbo(model, Batch(x)).mean() > before


@compiles
@pytest.mark.parametrize("name", ["elbo-leave-one-out", "elbo-gumbel-softmax", "iwae-vimco", "elbo-enumerate"])
def test_compiled_steps_are_the_plain_ones(name: str) -> None:
    model, batch = codes("classes")
    assert_compiled_is_plain(model.float(), OBJECTIVES[name], batch.to(torch.device("cpu"), torch.float32))


# What cannot be


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan, Linear(1.0, 0.0, steps=3)])
def test_refuses_temperatures_that_are_none(temperature: float) -> None:
    with pytest.raises(ValueError, match="Expected a finite temperature > 0; got"):
        GumbelSoftmax(temperature)


@pytest.mark.parametrize(
    ("gradient", "message"),
    [
        (Pathwise(), r"Expected draws that can be reparameterised for Pathwise\(\)"),
        (StickingTheLanding(), r"Expected draws that can be reparameterised for StickingTheLanding\(\)"),
        (DoublyReparameterised(), r"Expected draws that can be reparameterised for DoublyReparameterised\(\)"),
    ],
)
def test_bits_have_no_path(gradient: Gradient, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        ELBO(gradient=gradient)(*codes())


@pytest.mark.parametrize(
    ("gradient", "message"),
    [
        (Enumerate(), "Expected codes that can be listed, bits or classes; got a latent of Independent"),
        (StraightThrough(), r"Expected a latent of bits or classes for StraightThrough\(\)"),
        (GumbelSoftmax(), "Expected a latent of bits or classes to be relaxed; got one of Independent"),
    ],
)
def test_numbers_are_no_codes(gradient: Gradient, message: str) -> None:
    problem = linear_gaussian(orthogonal=True)
    with pytest.raises(TypeError, match=message):
        ELBO(gradient=gradient)(problem.model(problem.wrong_posterior()), Batch(problem.evidence.sample((3,))))


def test_a_bound_that_cannot_spare_a_draw_is_told_of() -> None:
    model, batch = codes()
    with pytest.raises(
        ValueError, match=r"Expected a bound that can be one of 7 draws as well as of 8.*Take gradient=tb"
    ):
        Bound(bounds.miwae(2), 8, ScoreFunction())(model, batch)
    assert Bound(bounds.miwae(2), 8, VIMCO())(model, batch).value.isfinite()


def test_a_capacity_of_a_sampled_rate_is_no_sum_over_codes() -> None:
    with pytest.raises(ValueError, match=r"Expected kl='auto' or kl='closed-form' with Enumerate\(\) in Capacity"):
        Capacity(1.0, kl="sampled", gradient=Enumerate())
    assert Capacity(1.0, gradient=Enumerate()).kl == "auto"


@pytest.mark.parametrize("prior", [priors.StandardNormal(12), priors.Categorical(3, classes=4), priors.Bernoulli(12)])
def test_codes_are_not_relaxed_under_a_prior_over_others(prior: priors.Prior) -> None:
    model, batch = codes("classes")
    other = tb.VAE(prior, model.posterior, model.likelihood).double()
    with pytest.raises(
        TypeError, match="Expected a prior over the same 3 bits or classes as the posterior, to be relax"
    ):
        GumbelSoftmax()(other, batch, bounds.elbo, samples=1)


def test_straight_through_needs_a_mean() -> None:
    class Untold(tb.VAE):
        def posterior_mean(self, batch: Batch) -> Tensor | None:
            return None

    model, batch = codes()
    untold = Untold(model.prior, model.posterior, model.likelihood)
    with pytest.raises(
        TypeError, match=r"Expected a model that knows its posterior's mean, for StraightThrough\(\); got U"
    ):
        StraightThrough()(untold, batch, bounds.elbo, samples=1)


def test_samples_that_do_not_fit() -> None:
    model, batch = codes()
    with pytest.raises(ValueError, match=r"Expected samples=1 with Enumerate\(\), which sums.*; got samples=4"):
        ELBO(samples=4, gradient=Enumerate())(model, batch)
    with pytest.raises(ValueError, match=r"Expected at least 2 samples with VIMCO\(\), .*; got samples=1"):
        ELBO(gradient=VIMCO())(model, batch)
    wide = tb.VAE(
        priors.Bernoulli(13), posteriors.Bernoulli(nn.Linear(2, 13)), tb.likelihoods.Gaussian(nn.Linear(13, 2))
    )
    with pytest.raises(ValueError, match="Expected at most 4096 codes to list; got 13 variables of 2 classes"):
        ELBO(gradient=Enumerate())(wide, Batch(torch.zeros(1, 2)))


@pytest.mark.parametrize("kind", [StickingTheLanding, DoublyReparameterised])
def test_closed_forms_and_gradients_of_draws_do_not_meet(kind: type[Gradient]) -> None:
    for objective in (ELBO, Capacity):
        with pytest.raises(ValueError, match=rf"kl='sampled' or kl='auto' with {kind.__name__}\(\), whose point"):
            objective(kl="closed-form", gradient=kind())
        assert objective(gradient=kind()).gradient == kind()
    with pytest.raises(ValueError, match=rf"for a rate in closed form with FreeBits; got {kind.__name__}\(\)"):
        FreeBits(gradient=kind())


def test_a_model_that_says_nothing_of_its_codes_is_told_what_to_override() -> None:
    class Bare(Model):
        def propose(self, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
            raise NotImplementedError

        def log_joint(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
            raise NotImplementedError

        def log_posterior(self, batch: Batch, z: Tensor, *, frozen: bool = False) -> Tensor:
            raise NotImplementedError

    batch = Batch(torch.zeros(1, 2))
    with pytest.raises(TypeError, match=r"whose latents can be listed; got Bare, .* Override every_code"):
        Enumerate()(Bare(), batch, bounds.elbo, samples=1)
    with pytest.raises(TypeError, match=r"whose latents can be relaxed; got Bare, .* Override relax"):
        GumbelSoftmax()(Bare(), batch, bounds.elbo, samples=1)


def test_a_model_with_another_joint_is_not_relaxed_by_its_parents_prior() -> None:
    class Other(tb.VAE):
        def log_joint(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
            log_px_z, log_pz = super().log_joint(batch, z)
            return log_px_z, 2 * log_pz

    model, batch = codes()
    other = Other(model.prior, model.posterior, model.likelihood)
    with pytest.raises(TypeError, match="whose latents can be relaxed; got Other"):
        ELBO(gradient=GumbelSoftmax())(other, batch)
    assert ELBO(gradient=Enumerate())(other, batch).value > ELBO(gradient=Enumerate())(model, batch).value
