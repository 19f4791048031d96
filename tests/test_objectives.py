from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError

import pytest
import torch
from oracle import assert_mean, linear_gaussian
from torch import Tensor, nn

from tightbound import bounds
from tightbound.autoencoder import VAE
from tightbound.batch import Batch
from tightbound.divergences import kl, kl_per_dimension
from tightbound.gradients import Gradient, Pathwise, StickingTheLanding
from tightbound.model import Model
from tightbound.objectives import ELBO, IWAE, Bound, Capacity, FreeBits, Loss, Objective, SecondPlayer, resolve
from tightbound.posteriors import DiagonalNormal
from tightbound.priors import MixtureOfNormals, StandardNormal
from tightbound.schedules import Linear

OBJECTIVES: dict[str, Objective] = {
    "elbo": ELBO(),
    "elbo-sampled": ELBO(kl="sampled", samples=3),
    "elbo-stl": ELBO(gradient=StickingTheLanding(), samples=3),
    "beta": ELBO(beta=Linear(0.0, 4.0, steps=10)),
    "iwae": IWAE(samples=4),
    "renyi": Bound(bounds.renyi(0.5), samples=4),
    "miwae": Bound(bounds.miwae(2), samples=4, beta=Linear(0.0, 1.0, steps=10)),
    "free-bits": FreeBits(nats=0.2),
    "capacity": Capacity(capacity=Linear(0.0, 3.0, steps=10), gamma=5.0),
    "capacity-sampled": Capacity(capacity=1.0, gamma=5.0, kl="sampled"),
}
every_objective = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
PROBLEM = linear_gaussian(orthogonal=True)


def model_and_batch(count: int = 6) -> tuple[VAE, Tensor]:
    return PROBLEM.model(PROBLEM.wrong_posterior()), PROBLEM.evidence.sample((count,))


def seeded(objective: Objective, model: VAE, x: Tensor, step: Tensor | None = None) -> Loss:
    torch.manual_seed(11)
    return objective(model, x, step)


@every_objective
def test_signature_follows_the_protocol(objective: Objective) -> None:
    expected = inspect.signature(Objective.__call__)
    assert inspect.signature(type(objective).__call__) == expected


@every_objective
def test_value_is_a_scalar_that_reaches_every_parameter(objective: Objective) -> None:
    model, x = model_and_batch()
    loss = seeded(objective, model, x, torch.tensor(5))
    assert loss.value.shape == ()
    loss.value.backward()
    assert all(p.grad is not None and (p.grad != 0).any() for p in model.parameters())


@every_objective
def test_terms_are_the_distortion_and_the_rate_detached(objective: Objective) -> None:
    model, x = model_and_batch()
    terms = seeded(objective, model, x).terms
    assert set(terms) == {"distortion", "rate"}
    assert all(term.shape == () and not term.requires_grad for term in terms.values())
    torch.manual_seed(11)
    draws = model.draw(x, samples=vars(objective).get("samples", 1))
    sampled = isinstance(objective, IWAE | Bound) or getattr(resolve(objective, model, x), "kl", "") == "sampled"
    rate = draws.log_qz_x - draws.log_pz if sampled else kl(model.encode(x), model.prior())
    torch.testing.assert_close(terms["distortion"], -draws.log_px_z.mean())
    torch.testing.assert_close(terms["rate"], rate.mean())


@pytest.mark.parametrize("kind", ["closed-form", "sampled"])
def test_elbo_is_the_negative_bound_in_expectation(kind: str) -> None:
    model, x = model_and_batch(1)
    expected = bounds.elbo(model.draw(x, samples=200_000)).item()
    objective = ELBO(kl=kind)  # type: ignore[arg-type]
    values = torch.stack([objective(model, x).value.detach() for _ in range(600)])
    assert_mean(-values, expected)


def test_sampled_elbo_is_exactly_the_bound_of_the_same_draws() -> None:
    model, x = model_and_batch()
    torch.manual_seed(11)
    expected = -bounds.elbo(model.draw(x, samples=3)).mean()
    torch.testing.assert_close(seeded(ELBO(kl="sampled", samples=3), model, x).value, expected)


def test_one_importance_sample_is_the_elbo() -> None:
    model, x = model_and_batch()
    ours, theirs = seeded(IWAE(samples=1), model, x), seeded(ELBO(kl="sampled"), model, x)
    torch.testing.assert_close(ours.value, theirs.value)
    assert ours.terms == theirs.terms


def test_iwae_is_the_negative_bound_of_the_same_draws() -> None:
    model, x = model_and_batch()
    torch.manual_seed(11)
    expected = -bounds.iwae(model.draw(x, samples=4)).mean()
    torch.testing.assert_close(seeded(IWAE(samples=4), model, x).value, expected)


def test_free_bits_of_nothing_are_the_elbo() -> None:
    model, x = model_and_batch()
    ours, theirs = seeded(FreeBits(nats=0.0), model, x).value, seeded(ELBO(), model, x).value
    torch.testing.assert_close(ours, theirs)
    parameters = list(model.parameters())
    torch.testing.assert_close(torch.autograd.grad(ours, parameters), torch.autograd.grad(theirs, parameters))


def test_free_bits_charge_only_what_lies_above() -> None:
    model, x = model_and_batch()
    rates = kl_per_dimension(model.encode(x), model.prior()).mean(0)
    nats = rates.mean().item()
    assert rates.min() < nats < rates.max()
    loss = seeded(FreeBits(nats=nats), model, x)
    torch.testing.assert_close(loss.value, loss.terms["distortion"] + nats + rates.max())
    everything = seeded(FreeBits(nats=100.0), model, x)
    torch.testing.assert_close(everything.value, everything.terms["distortion"] + 200.0)
    only_distortion = seeded(ELBO(beta=0.0), model, x)
    parameters = list(model.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(everything.value, parameters), torch.autograd.grad(only_distortion.value, parameters)
    )


@pytest.mark.parametrize("beta", [0.0, 0.5, 4.0])
def test_beta_weighs_the_rate(beta: float) -> None:
    model, x = model_and_batch()
    loss = seeded(ELBO(beta=beta), model, x)
    torch.testing.assert_close(loss.value, loss.terms["distortion"] + beta * loss.terms["rate"])


def test_capacity_holds_the_rate() -> None:
    model, x = model_and_batch()
    rate = seeded(ELBO(), model, x).terms["rate"].item()
    for capacity in (rate - 0.5, rate + 0.5):
        loss = seeded(Capacity(capacity=capacity, gamma=7.0), model, x)
        torch.testing.assert_close(loss.value, loss.terms["distortion"] + 3.5)
    # Above its capacity the rate is charged as under β = γ.
    above = seeded(Capacity(capacity=rate - 0.5, gamma=7.0), model, x)
    weighed = seeded(ELBO(beta=7.0), model, x)
    parameters = list(model.parameters())
    torch.testing.assert_close(
        torch.autograd.grad(above.value, parameters), torch.autograd.grad(weighed.value, parameters)
    )


@pytest.mark.parametrize(
    ("scheduled", "fixed"),
    [
        (ELBO(beta=Linear(0.0, 4.0, steps=10)), lambda v: ELBO(beta=v)),
        (Capacity(capacity=Linear(0.0, 4.0, steps=10)), lambda v: Capacity(capacity=v)),
    ],
)
def test_schedules_follow_the_step_and_end_without_one(
    scheduled: Objective, fixed: Callable[[float], Objective]
) -> None:
    model, x = model_and_batch()
    for step, value in ((torch.tensor(0), 0.0), (torch.tensor(5), 2.0), (torch.tensor(99), 4.0), (None, 4.0)):
        torch.testing.assert_close(seeded(scheduled, model, x, step).value, seeded(fixed(value), model, x).value)


@pytest.mark.parametrize(
    "objective", [ELBO(kl="sampled"), IWAE(), Capacity(kl="sampled")], ids=["elbo", "iwae", "capacity"]
)
def test_only_the_contract_is_asked_of_a_model_of_another_structure(objective: Objective) -> None:
    class Doubled(VAE):
        def log_joint(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
            log_px_z, log_pz = super().log_joint(batch, z)
            return 2 * log_px_z, log_pz

    plain, x = model_and_batch()
    doubled = Doubled(plain.prior, plain.posterior, plain.likelihood)
    torch.testing.assert_close(
        seeded(objective, doubled, x).terms["distortion"], 2 * seeded(objective, plain, x).terms["distortion"]
    )


def test_closed_form_needs_a_pair_that_has_one() -> None:
    model = VAE(MixtureOfNormals(2), DiagonalNormal(nn.Linear(5, 4)), model_and_batch()[0].likelihood.float())
    x = torch.randn(3, 5)
    for objective in (ELBO(kl="closed-form"), Capacity(kl="closed-form")):
        with pytest.raises(TypeError, match=r"^Expected a model whose rate has a closed form; got VAE of .*'sampled'"):
            objective(model, x)
    with pytest.raises(TypeError, match=r"closed form for each latent dimension, as FreeBits needs; got VAE of Diag"):
        FreeBits()(model, x)
    assert resolve(ELBO(), model, x).kl == "sampled"
    assert resolve(ELBO(), small_with_standard_prior(), x).kl == "closed-form"
    assert resolve(FreeBits(), model, x) == FreeBits()
    for kind in ("auto", "sampled"):
        assert ELBO(kl=kind)(model, x).value.isfinite()  # type: ignore[arg-type]


def small_with_standard_prior() -> VAE:
    return VAE(StandardNormal(2), DiagonalNormal(nn.Linear(5, 4)), model_and_batch()[0].likelihood.float())


@every_objective
def test_is_a_frozen_value(objective: Objective) -> None:
    assert objective == type(objective)(**vars(objective))
    assert hash(objective) == hash(type(objective)(**vars(objective)))
    with pytest.raises(FrozenInstanceError):
        objective.samples = 2  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (ELBO, {"beta": -1.0}, "Expected beta >= 0; got -1.0"),
        (ELBO, {"beta": math.nan}, "Expected beta >= 0; got nan"),
        (ELBO, {"beta": Linear(0.0, -1.0, steps=3)}, r"Expected beta >= 0; got Linear\(start=0.0, end=-1.0"),
        (ELBO, {"samples": 0}, "Expected samples >= 1; got 0"),
        (ELBO, {"kl": "exact"}, "Expected kl='auto', kl='closed-form' or kl='sampled'; got 'exact'"),
        (IWAE, {"samples": 0}, "Expected samples >= 1; got 0"),
        (Bound, {"bound": bounds.iwae, "samples": 0}, "Expected samples >= 1; got 0"),
        (Bound, {"bound": bounds.iwae, "beta": -1.0}, "Expected beta >= 0; got -1.0"),
        (SecondPlayer, {"module": nn.Linear(2, 1), "learning_rate": 0.0}, "Expected a finite learning_rate > 0; got 0"),
        (SecondPlayer, {"module": nn.Linear(2, 1), "learning_rate": math.inf}, "Expected a finite learning_rate > 0"),
        (SecondPlayer, {"module": nn.Linear(2, 1), "betas": (0.5,)}, r"Expected two betas in \[0, 1\); got \(0.5,\)"),
        (SecondPlayer, {"module": nn.Linear(2, 1), "betas": (0.5, 1.0)}, r"Expected two betas in \[0, 1\); got"),
        (SecondPlayer, {"module": nn.Linear(2, 1), "betas": (-0.1, 0.5)}, r"Expected two betas in \[0, 1\); got"),
        (FreeBits, {"nats": -0.1}, "Expected nats >= 0; got -0.1"),
        (FreeBits, {"samples": 0}, "Expected samples >= 1; got 0"),
        (Capacity, {"capacity": -1.0}, "Expected capacity >= 0; got -1.0"),
        (Capacity, {"gamma": -1.0}, "Expected gamma >= 0; got -1.0"),
        (Capacity, {"samples": 0}, "Expected samples >= 1; got 0"),
        (Capacity, {"kl": "exact"}, "Expected kl='auto', kl='closed-form' or kl='sampled'; got 'exact'"),
    ],
)
def test_refuses_impossible_settings(kind: type[ELBO], options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**options)  # type: ignore[arg-type]


def test_a_second_player_may_move_without_momentum() -> None:
    assert SecondPlayer(nn.Linear(2, 1), betas=(0.0, 0.0)).betas == (0.0, 0.0)


@pytest.mark.parametrize("gradient", [Pathwise(), StickingTheLanding()])
def test_iwae_is_its_bound_under_its_own_gradient(gradient: Gradient) -> None:
    model, x = model_and_batch()
    found = []
    for objective in (IWAE(7, gradient), Bound(bounds.iwae, 7, gradient)):
        model.zero_grad()
        seeded(objective, model, x).value.backward()
        found.append([p.grad.clone() for p in model.posterior.parameters() if p.grad is not None])
    torch.testing.assert_close(*found, rtol=0, atol=0)


@pytest.mark.parametrize("bound", [bounds.iwae, bounds.miwae(2)])
def test_a_bound_may_be_warmed_up(bound: bounds.BoundFunction) -> None:
    model, x = model_and_batch()
    for step, beta in ((0, 0.5), (3, 1.0)):
        warmed = Bound(bound, 4, beta=Linear(0.5, 1.0, steps=3))
        at_step = seeded(warmed, model, x, torch.tensor(step)).value
        torch.testing.assert_close(at_step, seeded(Bound(bound, 4, beta=beta), model, x).value)


def test_an_error_names_the_parts_of_a_model_that_has_them() -> None:
    class Bare(Model):
        def propose(self, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
            z = torch.randn(samples, batch.size, 2)
            return z, self.log_posterior(batch, z)

        def log_joint(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
            return -z.square().sum(-1), -z.square().sum(-1)

        def log_posterior(self, batch: Batch, z: Tensor, *, frozen: bool = False) -> Tensor:
            return -z.square().sum(-1)

    parts = VAE(MixtureOfNormals(2), DiagonalNormal(nn.Linear(5, 4)), model_and_batch()[0].likelihood)
    for model, words in (
        (parts, "got VAE of DiagonalNormal and MixtureOfNormals, for which"),
        (Bare(), "got Bare, for"),
    ):
        with pytest.raises(TypeError, match=words):
            ELBO(kl="closed-form")(model, torch.zeros(1, 5))
