"""Flows: their densities against integrals, Jacobians and models with a known answer, wherever a posterior can go."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributions as td
from building import SMALL, trains
from oracle import LinearGaussian, assert_mean, linear_gaussian
from tiny import refused
from torch import Tensor, nn

import tightbound as tb
from tightbound import flows
from tightbound.autoencoder import VAE
from tightbound.batch import Batch
from tightbound.checks import check_model
from tightbound.distributions import sample_and_log_prob
from tightbound.evaluate import evidence
from tightbound.execution import Execution, obstacle
from tightbound.flows import Bent, Steps
from tightbound.gradients import DoublyReparameterised, Gradient, Pathwise, ScoreFunction, StickingTheLanding
from tightbound.networks import MLP
from tightbound.objectives import ELBO, IWAE, Bound
from tightbound.runs.build import Config, build, build_model
from tightbound.runs.recipe import ModelRecipe, Recipe
from tightbound.settings import Training
from tightbound.training.step import TrainStep

KINDS = ["autoregressive", "spline"]
every_flow = pytest.mark.parametrize("flow", KINDS)
every_direction = pytest.mark.parametrize("quick", ["sampling", "density"])


def moved(module: nn.Module, by: float = 0.3) -> nn.Module:
    """The same in double precision, its parameters off their start."""
    module.double()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(by * torch.randn_like(p))
    return module


def bent(flow: Any, quick: Any, latent: int, *, observations: int = 1, by: float = 0.3) -> Bent:
    """One for each of some contexts, in general position."""
    context = torch.randn(observations, 3, dtype=torch.float64)
    steps = Steps(latent, 3, flow=flow, transforms=2, hidden=(16, 16), quick=quick)
    loc, log_scale = torch.randn(2, observations, latent, dtype=torch.float64)
    return Bent(moved(steps, by), loc, 0.3 * log_scale, context=context)  # type: ignore[arg-type]


def vae(
    flow: Any, *, posterior: bool = True, prior: bool = True, observed: int = 5, latent: int = 2, transforms: int = 2
) -> VAE:
    """One with a flow in either place or in both."""
    outputs = (3 if posterior else 2) * latent
    encoder = MLP((observed,), (outputs,), hidden=(8,))
    return tb.VAE(
        prior=tb.priors.Flow(latent, flow=flow, transforms=transforms) if prior else tb.priors.StandardNormal(latent),
        posterior=tb.posteriors.Flow(encoder, latent, flow=flow, transforms=transforms)
        if posterior
        else tb.posteriors.DiagonalNormal(encoder),
        likelihood=tb.likelihoods.Gaussian(MLP((latent,), (observed,), hidden=(8,))),
    )


# The density


@every_flow
@every_direction
@pytest.mark.parametrize(("latent", "points"), [(1, 6001), (2, 401)])
@torch.no_grad()
def test_the_density_integrates_to_one(flow: str, quick: str, latent: int, points: int) -> None:
    q = bent(flow, quick, latent, by=0.15)  # bent further, a spline has spikes between the points of a grid
    axis = torch.linspace(-14, 14, points, dtype=torch.float64)
    grid = torch.cartesian_prod(*[axis] * latent).reshape(-1, 1, latent)
    total = sum(q.log_prob(part).exp().sum() for part in grid.split(20_000)) * (axis[1] - axis[0]) ** latent
    assert float(total) == pytest.approx(1, abs=1e-3)


@every_flow
@every_direction
@pytest.mark.parametrize("latent", [1, 2, 5])
def test_draws_know_their_density(flow: str, quick: str, latent: int) -> None:
    q = bent(flow, quick, latent, observations=3)
    z, log_q = q.rsample_and_log_prob(torch.Size([7]))
    assert (z.shape, log_q.shape) == ((7, 3, latent), (7, 3))
    torch.testing.assert_close(q.log_prob(z), log_q, rtol=1e-4, atol=1e-4)
    assert q.sample((2,)).requires_grad is False
    assert q.rsample((2,)).requires_grad is True


@every_flow
@every_direction
def test_the_density_is_the_change_of_variables_of_autograd(flow: str, quick: str) -> None:
    q = bent(flow, quick, 3)
    noise = torch.randn(1, 3, dtype=torch.float64)

    def latent_of(e: Tensor) -> Tensor:
        return (q.loc + q.log_scale.exp() * q.steps.to_latent(e[None], q.context)[0])[0]

    jacobian = torch.autograd.functional.jacobian(latent_of, noise[0])
    expected = td.Normal(0, 1).log_prob(noise).sum() - torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(q.log_prob(latent_of(noise[0])[None]).squeeze(), expected, rtol=1e-6, atol=1e-6)


@every_flow
@every_direction
def test_each_direction_undoes_the_other(flow: str, quick: str) -> None:
    steps, noise = bent(flow, quick, 4, observations=6).steps, torch.randn(6, 4, dtype=torch.float64)
    context = torch.randn(6, 3, dtype=torch.float64)
    z, there = steps.to_latent(noise, context)
    again, back = steps.to_noise(z, context)
    torch.testing.assert_close(again, noise, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(back, there, rtol=1e-4, atol=1e-4)


@every_flow
@pytest.mark.parametrize("latent", [1, 2, 3])
def test_it_begins_as_a_normal(flow: Any, latent: int) -> None:
    out, z = torch.randn(4, 3 * latent), torch.randn(6, 4, latent)
    untrained = tb.posteriors.Flow(nn.Identity(), latent, flow=flow)(out)
    normal = tb.posteriors.DiagonalNormal(nn.Identity())(out[:, : 2 * latent])
    torch.testing.assert_close(untrained.log_prob(z), normal.log_prob(z), rtol=1e-5, atol=1e-5)
    prior = tb.priors.Flow(latent, flow=flow)
    torch.testing.assert_close(prior.log_prob(z), tb.priors.StandardNormal(latent).log_prob(z), rtol=1e-5, atol=1e-5)
    torch.manual_seed(0)
    drawn = untrained.rsample((5,))
    torch.manual_seed(0)
    torch.testing.assert_close(drawn, normal.rsample((5,)), rtol=1e-4, atol=1e-4)


@every_flow
def test_every_parameter_learns(flow: Any) -> None:
    model = moved(vae(flow))
    model.draw(torch.randn(6, 5).double(), samples=3).log_w.sum().backward()
    assert all(p.grad is not None and (p.grad != 0).any() for p in model.parameters())


@every_flow
def test_no_row_depends_on_its_neighbours(flow: Any) -> None:
    posterior, x = moved(tb.posteriors.Flow(MLP((5,), (6,), hidden=(8,)), 2, flow=flow)), torch.randn(6, 5).double()
    z, order = torch.randn(3, 6, 2).double(), torch.randperm(6)
    whole = posterior.log_prob(z, x)
    torch.testing.assert_close(posterior.log_prob(z[:, order], x[order]), whole[:, order])
    torch.testing.assert_close(posterior.log_prob(z[:, 2:3], x[2:3]), whole[:, 2:3])
    x.requires_grad_()
    [by_x] = torch.autograd.grad(posterior.log_prob(z, x)[:, 2].sum(), x)
    assert by_x[2].abs().min() > 0
    assert by_x[[0, 1, 3, 4, 5]].abs().max() == 0


def test_elements_hang_on_those_before_them_alone() -> None:
    steps = moved(Steps(4, 0, flow="spline", transforms=1, hidden=(16,), quick="sampling"))
    noise = torch.randn(4, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda e: steps.to_latent(e, None)[0], noise)  # type: ignore
    assert (jacobian.triu(1) == 0).all()
    assert (jacobian.tril() != 0).sum() == 10


# Frozen: sticking the landing and its relatives


@every_flow
@pytest.mark.parametrize("encoded", [False, True])
def test_a_frozen_posterior_leaks_nothing(flow: Any, encoded: bool) -> None:
    model, x = moved(vae(flow)), torch.randn(4, 5).double()
    z = torch.randn(3, 4, 2).double().requires_grad_()
    batch = Batch(x)
    batch = model.encoded(batch) if encoded else batch
    frozen, live = model.log_posterior(batch, z, frozen=True), model.log_posterior(batch, z)
    torch.testing.assert_close(frozen, live)
    [by_z] = torch.autograd.grad(frozen.sum(), z, retain_graph=True)
    torch.testing.assert_close(by_z, torch.autograd.grad(live.sum(), z, retain_graph=True)[0])
    assert by_z.abs().min() > 0
    assert all(g is None for g in torch.autograd.grad(frozen.sum(), [*model.parameters()], allow_unused=True))
    assert not model.log_posterior(batch, z.detach(), frozen=True).requires_grad
    assert all(g is not None for g in torch.autograd.grad(live.sum(), [*model.posterior.parameters()]))


@every_flow
def test_a_frozen_prior_leaks_nothing(flow: Any) -> None:
    prior, z = moved(tb.priors.Flow(2, flow=flow)), torch.randn(3, 4, 2).double().requires_grad_()
    frozen = prior.log_prob(z, frozen=True)
    torch.testing.assert_close(frozen, prior.log_prob(z))
    assert all(g is None for g in torch.autograd.grad(frozen.sum(), [*prior.parameters()], allow_unused=True))


def test_sticking_the_landing_has_the_mean_of_the_plain_gradient() -> None:
    """The two differ by the score, whose mean is 0 only if nothing leaks and the draws follow the density."""
    torch.manual_seed(3)
    model, x = moved(vae("autoregressive"), 0.2), torch.randn(1, 5).double()
    watched = [*model.posterior.parameters()]

    def gradient(kind: Gradient) -> Tensor:
        value, _ = kind(model, Batch(x.expand(400, -1)), tb.bounds.elbo, samples=1)
        return torch.cat([g.flatten() for g in torch.autograd.grad(value.mean(), watched)])

    off = torch.stack([gradient(StickingTheLanding()) - gradient(Pathwise()) for _ in range(60)])
    seen = off[:, off.std(0) > 1e-9]
    assert seen.shape[1] > 100
    assert_mean(seen, 0.0, errors=5.0)  # of some thousand numbers the largest


# Against models with a known answer


def nearly_parallel() -> LinearGaussian:
    """Two latents whose effects on x are nearly the same: their posterior is strongly correlated."""
    weight = torch.tensor([[1.0, 0.9], [2.0, 2.1], [-1.0, -1.2], [0.5, 0.6]], dtype=torch.float64)
    return LinearGaussian(weight, torch.tensor([0.1, -0.3, 0.2, 0.5], dtype=torch.float64), sigma=0.7)


@every_flow
def test_bounds_stand_in_their_order(flow: Any) -> None:
    problem = linear_gaussian()
    x = problem.evidence.sample((200,))
    encoder = problem.wrong_posterior().network
    wider = nn.Linear(5, 6, dtype=torch.float64)
    with torch.no_grad():
        wider.weight.zero_(), wider.bias.zero_()
        wider.weight[:4], wider.bias[:4] = encoder.weight, encoder.bias
    posterior = tb.posteriors.Flow(wider, 2, flow=flow)
    for p in posterior.steps.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    with torch.no_grad():
        draws = problem.model(posterior).draw(x, samples=500)
    elbo, iwae, exact = tb.bounds.elbo(draws), tb.bounds.iwae(draws), problem.evidence.log_prob(x)
    assert (elbo < iwae).all()
    assert (exact - elbo).mean() > 0.1
    assert_mean(tb.bounds.iwae(draws) - exact, 0.0, errors=6.0)
    assert_mean(draws.log_w.exp().mean(0) / exact.exp(), 1.0)


def trained(model: VAE, x: Tensor, steps: int, rate: float) -> VAE:
    optimiser = torch.optim.Adam(model.posterior.parameters(), lr=rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        rows = torch.randint(len(x), (100,), generator=torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        (-tb.bounds.elbo(model.draw(x[rows], samples=2)).mean()).backward()
        optimiser.step()
        cosine.step()
    return model


@every_flow
def test_a_correlated_posterior_is_reached_where_the_best_diagonal_normal_stays_behind(flow: Any) -> None:
    problem = nearly_parallel()
    x = problem.evidence.sample((500,))
    precision = torch.linalg.inv(problem.posterior_covariance)
    gap = 0.5 * (precision.diagonal().log().sum() - torch.logdet(precision)).item()  # of the best diagonal normal
    assert gap > 0.7
    exact = problem.evidence.log_prob(x)
    diagonal = tb.posteriors.DiagonalNormal(problem._affine(problem.gain, -precision.diagonal().log()))
    with torch.no_grad():
        behind = exact - tb.bounds.elbo(problem.model(diagonal).draw(x, samples=50))
    assert_mean(behind, gap)
    posterior = tb.posteriors.Flow(nn.Linear(4, 6), 2, flow=flow, hidden=(32, 32))
    model = trained(problem.model(posterior), x, 400, 0.02)
    with torch.no_grad():
        ours = exact - tb.bounds.elbo(model.draw(x, samples=50))
    assert ours.mean() < 0.1 * gap
    assert ours.mean() > -4 * ours.std() / math.sqrt(len(x))


class Square(nn.Module):
    """A decoder of z², and so a posterior with two modes."""

    def forward(self, z: Tensor) -> Tensor:
        return z.square()


def test_a_posterior_of_two_modes_is_reached_where_a_normal_takes_one() -> None:
    """x = z² + noise says nothing of the sign of z, so a normal on one mode loses about log 2."""
    x = torch.linspace(0.8, 1.6, 200, dtype=torch.float64)[:, None]
    behind, last = {}, {}
    for name, posterior in {
        "normal": tb.posteriors.DiagonalNormal(nn.Linear(1, 2)),
        "flow": tb.posteriors.Flow(nn.Linear(1, 3), 1, flow="spline", hidden=(32, 32)),
    }.items():
        likelihood = tb.likelihoods.Gaussian(Square(), scale=0.6)
        model = tb.VAE(prior=tb.priors.StandardNormal(1), posterior=posterior, likelihood=likelihood).double()
        trained(model, x, 500, 0.01)
        with torch.no_grad():
            axis = torch.linspace(-8, 8, 2001, dtype=torch.float64)[:, None, None].expand(-1, 200, -1)
            exact = torch.stack(model.log_joint(Batch(x), axis)).sum(0).logsumexp(0) + math.log(16 / 2000)
            last[name] = model.draw(x, samples=400)
            behind[name] = (exact - tb.bounds.elbo(last[name])).mean().item()
    assert behind["normal"] > 0.3
    assert -0.01 < behind["flow"] < behind["normal"] / 4
    share = (last["flow"].z > 0).double().mean((0, 2))
    assert ((share > 0.3) & (share < 0.7)).all()


# Wherever a posterior and a prior can go

PLACES = {"posterior": {"prior": False}, "prior": {"posterior": False}, "both": {}}


@pytest.mark.parametrize("place", PLACES)
@every_flow
def test_it_trains_is_judged_and_predicts(flow: Any, place: str, tmp_path: Path) -> None:
    model, x = vae(flow, **PLACES[place]), torch.randn(60, 5)
    fitted = tb.fit(model, x, epochs=2, batch_size=20, progress=False)
    assert fitted.objective.kl == "sampled"
    found = evidence(model, x[:20], samples=20)
    assert found.rate_kind == "sampled"
    assert math.isfinite(found.elbo.value)
    codes = model.embed(x[:4])
    assert codes.shape == (4, 2)
    torch.testing.assert_close(codes[2:3], model.embed(x[2:3]))
    assert (model.sample(3).shape, model.sample(3, mean=True, temperature=0.0).shape) == ((3, 5), (3, 5))
    assert model.reconstruct(x[:4]).shape == (4, 5)
    model.save(tmp_path / "model")
    again = tb.load_model(tmp_path / "model")
    assert str(again) == str(model)
    assert again.embed(x[:4]).equal(codes)
    assert again.log_prob(x[:4], samples=9).equal(model.log_prob(x[:4], samples=9))


@every_flow
def test_the_mean_of_256_draws_stands_for_a_mean_without_a_formula(flow: Any) -> None:
    model, x = moved(vae(flow)), torch.randn(2, 5).double()
    assert model.posterior_mean(Batch(x)) is None
    torch.manual_seed(0)
    with torch.no_grad():
        z = model.encode(x).sample((4000,))
    assert ((model.embed(x) - z.mean(0)).abs() < 5 * z.std(0) / 16).all()


@every_flow
@pytest.mark.parametrize(
    "objective",
    [
        ELBO(),
        ELBO(gradient=StickingTheLanding()),
        IWAE(4, gradient=DoublyReparameterised()),
        IWAE(4, gradient=ScoreFunction()),
        Bound(tb.bounds.renyi(0.5), 4),
    ],
    ids=str,
)
def test_micro_batches_give_the_same_gradient(flow: Any, objective: Any) -> None:
    def gradient(rows: int) -> list[Tensor]:
        torch.manual_seed(5)
        model = moved(vae(flow))
        step = TrainStep(model, objective, Training(micro_batch=rows), steps=10, device=torch.device("cpu"))
        torch.manual_seed(3)
        values = step.gradient(Batch(torch.linspace(-1, 1, 30).reshape(6, 5).double(), checked=True), 0)
        return [values, *step.gradients]

    torch.testing.assert_close(gradient(3), gradient(0), rtol=1e-7, atol=1e-9)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # the compiler's own
@pytest.mark.skipif(bool(obstacle()), reason="nothing can be compiled here")
@pytest.mark.parametrize("flow", ["autoregressive", pytest.param("spline", marks=pytest.mark.slow)])
def test_a_compiled_step_is_one_graph(flow: Any) -> None:
    step = TrainStep(vae(flow, transforms=1), ELBO(), Training(), steps=10, device=torch.device("cpu"))
    batch = Batch(torch.randn(6, 5), checked=True)
    assert step.try_compiled(batch) == ""
    assert step.execution.compiled
    assert td.Distribution._validate_args is __debug__


@every_flow
def test_log_densities_stay_whole_where_products_are_in_half(flow: Any) -> None:
    model, x = moved(vae(flow)).float(), torch.randn(6, 5)
    step = TrainStep(model, ELBO(), Training(), steps=10, device=torch.device("cpu"))
    step.use(Execution("bfloat16"))
    step.step(Batch(x, checked=True), 0)
    with torch.autocast("cpu", torch.bfloat16):
        q = model.posterior(x)
        z, log_q = sample_and_log_prob(q, torch.Size([3]))
        assert z.dtype == log_q.dtype == model.prior.log_prob(z).dtype == torch.float32
        torch.testing.assert_close(q.log_prob(z), log_q, rtol=1e-2, atol=1e-2)


@every_flow
@pytest.mark.parametrize(("prior", "posterior"), [("auto", "flow"), ("flow", "flow"), ("flow", "full-normal")])
def test_recipes_name_them(flow: str, prior: str, posterior: str) -> None:
    changes = {"model.prior": prior, "model.posterior": posterior, "model.flow": flow, "model.transforms": 3}
    built = build(Recipe().updated({**SMALL, **changes}), torch.randn(30, 4))
    assert built.recipe.objective.kl == "sampled"
    made = [part for part in (built.model.prior, built.model.posterior) if isinstance(part.forward, Callable)]
    for part in (each for each in made if type(each).__name__ == "Flow"):
        assert (part.flow, part.transforms, len(part.steps.steps), part.latent_dim) == (flow, 3, 3, 3)
    trains(built)
    outline = build_model(built.recipe.model, built.config, device="meta")
    assert {name: p.shape for name, p in outline.named_parameters()} == {
        name: p.shape for name, p in built.model.named_parameters()
    }
    assert {p.device.type for part in (outline.prior, outline.posterior) for p in part.state_dict().values()} <= {
        "meta"
    }


def test_a_prior_of_other_latents_is_refused() -> None:
    bits = tb.posteriors.Bernoulli(MLP((5,), (2,)))
    model = tb.VAE(tb.priors.Flow(2), bits, tb.likelihoods.Gaussian(MLP((2,), (5,))))
    with pytest.raises(ValueError, match=r"that Bernoulli draws, 2 bits; got Flow, one of 2 numbers\."):
        check_model(model, Batch(torch.randn(4, 5)), name="data")


# Temperature


@every_flow
def test_temperature_multiplies_the_noise(flow: Any) -> None:
    prior = moved(tb.priors.Flow(3, flow=flow))
    torch.manual_seed(0)
    with torch.no_grad():
        cool = prior.tempered(0.5).sample((50,))
        torch.manual_seed(0)
        noise = 0.5 * torch.randn(50, 3, dtype=torch.float64)
        z, _ = prior.steps.to_latent(noise, None)
    torch.testing.assert_close(cool, prior.loc.detach() + prior.log_scale.detach().exp() * z)
    untrained = tb.priors.Flow(2, flow=flow).double().tempered(0.5)
    value = torch.randn(4, 2).double()
    torch.testing.assert_close(untrained.log_prob(value), td.Normal(0, 0.5).log_prob(value).sum(-1))


@every_flow
def test_temperature_zero_is_one_latent(flow: Any) -> None:
    z = moved(tb.priors.Flow(3, flow=flow)).tempered(0.0).sample((50,))
    assert z.isfinite().all()
    torch.testing.assert_close(z, z[:1].expand(50, 3))


# The library that they are made of


def test_importing_zuko_switches_nothing_off() -> None:
    code = """
import sys
import torch.distributions as td
def state():
    return (td.Distribution._validate_args, td.Distribution.arg_constraints, td.Normal._validate_args,
            td.transforms._InverseTransform.__name__)
before = state()
import tightbound as tb
from tightbound import conditional, flows, model, posteriors, priors, saving
from tightbound.runs import build
assert "zuko" not in sys.modules, "it is imported before anyone asks for a flow"
prior = tb.priors.Flow(2, flow="spline")
assert "zuko" in sys.modules
assert state() == before
prior().rsample((3,))
try:
    td.Normal(0.0, -1.0)
except ValueError:
    pass
else:
    raise SystemExit("torch's checks are off")
import torch, zuko
zuko.flows.MAF(2, 1)(torch.zeros(1)).sample()  # zuko's own distributions need no switch either
assert state() == before
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def _without_zuko(monkeypatch: pytest.MonkeyPatch) -> Any:
    flows.zuko.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "zuko"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "zuko", None)
    yield
    flows.zuko.cache_clear()


MISSING = (
    r"Expected the library zuko, which flows are made of; got none\. Install it: pip install 'tightbound\[flows\]'"
)


@pytest.mark.usefixtures("_without_zuko")
@pytest.mark.parametrize("make", [lambda: tb.priors.Flow(2), lambda: tb.posteriors.Flow(nn.Linear(5, 6), 2)])
def test_without_zuko_one_line_says_what_to_install(make: Callable[[], Any]) -> None:
    with pytest.raises(ModuleNotFoundError, match=f"^{MISSING}$"):
        make()
    assert td.Distribution._validate_args is __debug__


@pytest.mark.usefixtures("_without_zuko")
@pytest.mark.parametrize("place", ["prior", "posterior"])
def test_without_zuko_the_command_line_says_so_and_leaves_nothing(place: str, capsys: Any, tmp_path: Path) -> None:
    error = refused(capsys, "train", "digits", f"--model.{place}", "flow", "--out", tmp_path / "run")
    assert error.strip().endswith("Install it: pip install 'tightbound[flows]'")
    assert not (tmp_path / "run").exists()


def test_without_zuko_a_saved_model_says_so(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    vae("spline").save(tmp_path)
    request.getfixturevalue("_without_zuko")
    with pytest.raises(ModuleNotFoundError, match=MISSING):
        tb.load_model(tmp_path)


# What is refused

PRIOR, POSTERIOR = tb.priors.Flow, partial(tb.posteriors.Flow, nn.Identity())


@pytest.mark.parametrize("make", [PRIOR, POSTERIOR])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"latent_dim": 0}, "Expected a latent of at least 1 dimension; got latent_dim=0"),
        ({"flow": "planar"}, "Expected flow='autoregressive' or 'spline'; got 'planar'"),
        ({"transforms": 0}, "Expected transforms >= 1; got 0"),
        ({"hidden": ()}, r"Expected at least one hidden layer, of widths >= 1; got hidden=\(\)"),
        ({"hidden": (8, 0)}, r"Expected at least one hidden layer, of widths >= 1; got hidden=\(8, 0\)"),
        ({"latent_dim": 10**7}, "Expected a flow of at most 268435456 weights; got .* Take fewer latent dimensions"),
        ({"transforms": 10**7}, "Expected a flow of at most 268435456 weights; got .* fewer transforms or narrower"),
        ({"hidden": (10**5, 10**5)}, "Expected a flow of at most 268435456 weights; got "),
    ],
)
def test_impossible_flows_are_refused(make: Callable[..., Any], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**{"latent_dim": 2, **wrong})


@pytest.mark.parametrize("outputs", [4, 5, 7, 9])
def test_a_network_of_another_length_is_refused(outputs: int) -> None:
    with pytest.raises(
        ValueError, match=rf"network giving \(\.\.\., 6\), 3 \* latent_dim: .*; got \(\.\.\., {outputs}\)"
    ):
        tb.posteriors.Flow(nn.Identity(), 2)(torch.zeros(1, outputs))


def test_steps_have_no_direction_of_their_own() -> None:
    with pytest.raises(TypeError, match=r"Expected a direction; got none\. Take steps\.to_latent"):
        Steps(2, 0, flow="spline", transforms=1, hidden=(8,), quick="density")(torch.zeros(2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.transforms": 0}, "Expected transforms >= 1; got 0"),
        ({"model.flow": "planar"}, "Expected 'autoregressive' or 'spline' for model.flow; got 'planar'"),
        ({"objective.name": "free-bits"}, "Expected a factorised model.posterior and its own prior"),
        (
            {"objective.kl": "closed-form"},
            "Expected objective.kl 'auto' or 'sampled' with model.prior 'standard-normal'",
        ),
        ({"model.prior": "vamp"}, "Expected model.posterior 'diagonal-normal' with model.prior 'vamp'; got 'flow'"),
        (
            {"model.prior": "bernoulli"},
            "Expected model.prior 'auto', or 'standard-normal', with model.posterior 'flow'",
        ),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe().updated({"model.posterior": "flow", **changes})


def test_a_recipe_of_a_flow_too_large_is_refused_before_any_memory_is_taken() -> None:
    model = ModelRecipe(posterior="flow", network="mlp", likelihood="gaussian", latent_dim=10**6)
    with pytest.raises(ValueError, match="Expected a flow of at most"):
        build_model(model, Config((5,)), device="meta")
