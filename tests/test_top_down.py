"""Layers of latents, each given the one above: against linear-Gaussian layers, which are solved by hand."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from building import SMALL, recipe, source, trains
from compiled import assert_compiled_is_plain, compiles
from oracle import LinearLayers, assert_mean, linear_layers
from torch import Tensor, nn
from training import before_each_step, written

import tightbound as tb
from tightbound import bounds, posteriors, priors
from tightbound.batch import Batch
from tightbound.distributions import TopDown, held, parts_of
from tightbound.evaluate import evidence
from tightbound.evaluate.check import check
from tightbound.gradients import DoublyReparameterised, Gradient, Pathwise, ScoreFunction, StickingTheLanding
from tightbound.objectives import ELBO, IWAE, Capacity, FreeBits, Objective
from tightbound.reports.page import write_report
from tightbound.runs.build import build
from tightbound.runs.measured import measure
from tightbound.runs.recipe import ModelRecipe, Recipe
from tightbound.settings import Training
from tightbound.training import fit
from tightbound.training.step import TrainStep

LAYERS = pytest.mark.parametrize("layers", [(3, 2), (4, 3, 2), (3, 3, 2, 1), (1, 1)])
GRADIENTS = [Pathwise(), StickingTheLanding(), DoublyReparameterised(), ScoreFunction("leave-one-out")]


def off_by(known: LinearLayers, off: float = 0.3) -> tuple[tb.VAE, Tensor]:
    torch.manual_seed(4)
    return known.model(off=off), known.evidence.sample((6,))


def layered(x: Tensor, *, top: priors.Prior | None = None) -> tb.VAE:
    """Three layers of networks that bend."""
    torch.manual_seed(0)
    links = [tb.networks.MLP((3,), (8,), hidden=(6,), act="tanh"), tb.networks.MLP((2,), (6,), hidden=(6,), act="tanh")]
    prior = priors.TopDown(links, layers=(4, 3, 2), top=top)
    posterior = posteriors.TopDown(tb.networks.MLP((x.shape[1],), (18,), hidden=(8,)), prior)
    return tb.VAE(prior, posterior, tb.likelihoods.Gaussian(tb.networks.MLP((9,), (x.shape[1],), hidden=(8,))))


X = torch.linspace(-1, 1, 30).reshape(6, 5)


# Exact answers


@LAYERS
def test_where_q_is_the_true_posterior_every_log_weight_is_the_evidence(layers: tuple[int, ...]) -> None:
    known = linear_layers(*layers)
    model, x = off_by(known, 0.0)
    draws = model.draw(x, samples=7)
    exact = known.evidence.log_prob(x)
    assert draws.z.shape == (7, 6, sum(layers))
    torch.testing.assert_close(draws.log_w, exact.expand(7, 6), rtol=1e-9, atol=1e-9)
    for bound in (bounds.elbo, bounds.iwae, bounds.renyi(0.5), bounds.miwae(7)):
        torch.testing.assert_close(bound(draws), exact, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.log_posterior(Batch(x), draws.z), draws.log_qz_x)


@LAYERS
def test_importance_weights_and_refined_proposals_find_the_evidence(layers: tuple[int, ...]) -> None:
    known = linear_layers(*layers)
    model, x = off_by(known)
    exact = known.evidence.log_prob(x)
    near = known.model(off=0.03).draw(x, samples=40_000)
    assert_mean((near.log_w.detach() - exact).exp(), 1.0, errors=6)
    assert (bounds.elbo(model.draw(x, samples=1000)) < exact - 0.01).all()
    report = evidence(model, x, samples=20, error=0.02)
    assert report.proposal == "refined"
    off = report.per_observation["log_px"] - exact
    assert (off.abs() < 5 * report.per_observation["error"] + 1e-9).all()
    assert report.per_observation["error"].max() < 0.04


def test_the_prior_is_what_its_draws_are() -> None:
    known = linear_layers(3, 2)
    model = known.model()
    weight, bias = known.weights[1], known.biases[1]
    z = model.prior().sample((50_000,))
    assert_mean(z, torch.cat([bias, torch.zeros(2).double()]))
    spread = weight @ weight.T + known.variances[0].diag()
    assert_mean((z[:, :3, None] - bias[:, None]) * (z[:, None, :3] - bias), spread)
    assert_mean(z[:, :3, None] * z[:, None, 3:], weight)
    x = model.sample(50_000).double()
    assert_mean(x, known.evidence.mean)
    assert model.prior().sample().shape == (5,)


def test_colder_priors_are_narrower_in_every_layer() -> None:
    model = linear_layers(3, 2).model()
    cold = model.sample_prior(20_000, temperature=0.0)
    torch.testing.assert_close(cold[:, 3:], torch.zeros(20_000, 2).double())
    torch.testing.assert_close(cold[:, :3], linear_layers(3, 2).biases[1].expand(20_000, 3))
    below, top = model.prior.tempered(0.5).layers(torch.zeros(5).double())
    torch.testing.assert_close(top.stddev, torch.full((2,), 0.5).double())
    torch.testing.assert_close(below.stddev, 0.5 * linear_layers(3, 2).variances[0].sqrt())


@LAYERS
def test_the_rate_falls_apart_into_those_of_the_layers(layers: tuple[int, ...]) -> None:
    model, x = off_by(linear_layers(*layers))
    draws = model.draw(x, samples=3)
    rates = model.rate_by_layer(Batch(x), draws.z)
    assert rates is not None
    assert rates.shape == (3, 6, len(layers))
    torch.testing.assert_close(rates.sum(-1), draws.log_qz_x - draws.log_pz)
    assert model.rate(Batch(x)) is None
    assert tb.VAE(priors.StandardNormal(sum(layers)), model.posterior, model.likelihood).double().rate_by_layer(
        Batch(x), draws.z
    ) is None  # fmt: skip


def test_a_layer_of_which_x_says_nothing_costs_nothing() -> None:
    model = linear_layers(3, 2).model()
    with torch.no_grad():
        encoder = model.posterior.network
        encoder.weight[:3], encoder.bias[:3] = 0, 0
        encoder.bias[5:8] = 200.0  # the log-variance of what x says, in the prior's units: bent to 9
    draws = model.draw(X.double(), samples=4)
    rates = model.rate_by_layer(Batch(X.double()), draws.z)
    assert rates is not None
    assert rates[..., 0].abs().max() < 0.05
    assert rates[..., 1].mean() > 0.1


# Gradients


def exact_elbo(known: LinearLayers, model: tb.VAE, x: Tensor) -> Tensor:
    """The ELBO of each observation of two linear layers in closed form, as a function of the model's parameters."""
    [first, _] = known.layers
    link, encoder, decoder = model.prior.networks[0], model.posterior.network, model.likelihood.network
    [seen, top], [seen_lv, top_lv] = (half.split(known.layers, -1) for half in encoder(x).chunk(2, -1))
    lv = link.bias[first:]  # its weights there are 0, which the gradient by them is not asked for
    kept = torch.sigmoid(seen_lv)
    variance = kept * lv.exp()
    up = kept[..., None] * link.weight[:first]  # z_1 = up z_2 + base + noise
    base = kept * link.bias[:first] + (0.5 * lv).exp() * seen
    mean = (up @ top[..., None])[..., 0] + base
    spread = up * top_lv.exp()[:, None] @ up.mT + torch.diag_embed(variance)
    kl_top = 0.5 * (top_lv.exp() + top.square() - 1 - top_lv).sum(-1)
    apart_up, apart = up - link.weight[:first], base - link.bias[:first]
    apart_mean = (apart_up @ top[..., None])[..., 0] + apart
    apart_square = apart_mean.square() + (apart_up.square() * top_lv.exp()[:, None]).sum(-1)
    kl_first = 0.5 * ((variance + apart_square) / lv.exp() - 1 + lv - variance.log()).sum(-1)
    whole_mean = torch.cat([mean, top], -1)
    cross = up * top_lv.exp()[:, None]
    whole = torch.cat([torch.cat([spread, cross], -1), torch.cat([cross.mT, torch.diag_embed(top_lv.exp())], -1)], -2)
    errors = (x - decoder(whole_mean)).square().sum(-1)
    errors = errors + torch.einsum("di,bij,dj->b", decoder.weight, whole, decoder.weight)
    distortion = 0.5 * errors / known.sigma**2 + x.shape[1] * (math.log(known.sigma) + 0.5 * math.log(2 * math.pi))
    return -distortion - kl_top - kl_first


def moved(model: tb.VAE) -> list[nn.Parameter]:
    return list(model.parameters())


def gradient_of(value: Tensor, model: tb.VAE) -> Tensor:
    found = torch.autograd.grad(value, moved(model), materialize_grads=True)
    first = model.prior.layers[0]
    found[0][first:] = 0  # of the link's log-variance by z_2, which the closed form takes for constant
    return torch.cat([g.reshape(-1) for g in found])


def test_the_elbo_has_its_exact_value() -> None:
    known = linear_layers(3, 2)
    model, x = off_by(known)
    assert moved(model)[0] is model.prior.networks[0].weight
    draws = model.draw(x, samples=20_000)
    assert_mean(draws.log_w, exact_elbo(known, model, x), errors=5)
    exact = off_by(known, 0.0)[0]
    torch.testing.assert_close(exact_elbo(known, exact, x), known.evidence.log_prob(x))


@pytest.mark.parametrize("gradient", GRADIENTS, ids=lambda each: type(each).__name__)
def test_gradients_have_the_exact_mean(gradient: Gradient) -> None:
    """By parameters of the prior too, which are in q as well."""
    known = linear_layers(3, 2)
    model, x = off_by(known)
    exact = gradient_of(exact_elbo(known, model, x).mean(), model)
    objective = ELBO(samples=2, kl="sampled", gradient=gradient)
    torch.manual_seed(5)
    found = torch.stack([gradient_of(-objective(model, Batch(x)).value, model) for _ in range(1000)])
    assert_mean(found, exact, errors=6)


def test_the_doubly_reparameterised_gradient_of_iwae_is_the_plain_one_in_the_mean() -> None:
    model, x = off_by(linear_layers(3, 2))
    found = []
    for gradient in (Pathwise(), DoublyReparameterised()):
        torch.manual_seed(6)
        found.append(
            torch.stack([gradient_of(IWAE(4, gradient=gradient)(model, Batch(x)).value, model) for _ in range(800)])
        )
    plain, double = found
    error = ((plain.var(0) + double.var(0)) / 800).sqrt()
    assert ((plain.mean(0) - double.mean(0)).abs() <= 5 * error + 1e-9).all()


def test_sticking_the_landing_leaves_the_encoder_no_noise_at_the_true_posterior() -> None:
    model, x = off_by(linear_layers(4, 3, 2), 0.0)
    loss = ELBO(kl="sampled", gradient=StickingTheLanding())(model, Batch(x)).value
    for p in torch.autograd.grad(loss, list(model.posterior.parameters())):
        assert p.abs().max() < 1e-9


def test_held_constant_what_x_says_has_no_slope_and_all_else_has() -> None:
    model = layered(X)
    z, log_q = model.propose(Batch(X), 3)
    z = z.detach().requires_grad_()
    constant = held(model.posterior(X))
    assert isinstance(constant, TopDown)
    own, others = [*model.posterior.parameters()], [z, *model.prior.parameters()]
    expected = torch.autograd.grad(model.posterior(X).log_prob(z).sum(), others)
    for log_prob in (constant.log_prob(z), model.log_posterior(model.encoded(Batch(X)), z, frozen=True)):
        torch.testing.assert_close(log_prob, log_q)
        slopes = torch.autograd.grad(log_prob.sum(), own, retain_graph=True, allow_unused=True)
        assert set(slopes) == {None}
        torch.testing.assert_close(torch.autograd.grad(log_prob.sum(), others, retain_graph=True), expected)
    assert not model.prior.log_prob(z.detach(), frozen=True).requires_grad
    frozen = model.posterior.log_prob(z, X, frozen=True)
    torch.testing.assert_close(frozen, log_q)
    assert set(torch.autograd.grad(frozen.sum(), [*model.parameters()], allow_unused=True)) == {None}


def test_draws_are_pulled_by_what_x_says_in_shares_and_by_the_networks_between_layers_in_full() -> None:
    model = layered(X).double()
    batch = model.encoded(Batch(X.double()))
    z, _ = model.propose(batch, 3)
    direction = torch.randn_like(z)
    own, others = [*model.posterior.parameters()], [*model.prior.parameters()]

    def slopes(drawn: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((drawn * direction).sum(), [*own, *others], retain_graph=True)

    plain = slopes(z)
    for share in (0.0, 0.25, 1.0):
        again = model.pulled(batch, z, torch.full((3, 6), share).double())
        torch.testing.assert_close(again, z)
        expected = [share * slope for slope in plain[: len(own)]] + [*plain[len(own) :]]
        torch.testing.assert_close(slopes(again), tuple(expected))
    only = torch.zeros(3, 6).double()
    only[1, 4] = 1.0  # the other draws and observations pull nothing
    torch.testing.assert_close(
        slopes(model.pulled(batch, z, only))[: len(own)],
        torch.autograd.grad((z * direction)[1, 4].sum(), own, retain_graph=True),
    )


@pytest.mark.parametrize("gradient", [StickingTheLanding(), DoublyReparameterised()], ids=["sticking", "doubly"])
def test_where_the_encoder_loses_noise_the_networks_shared_with_the_prior_gain_none_to_speak_of(
    gradient: Gradient,
) -> None:
    """They stand in log p and in log q, where most of it cancels: by log p alone the noise is four times as large."""
    model, x = off_by(linear_layers(4, 3, 2))
    halves = [[*model.posterior.parameters()], [*model.prior.parameters()]]

    def noise(objective: Objective) -> list[float]:
        losses = [objective(model, Batch(x)).value for _ in range(200)]
        return [
            sum(
                torch.stack(slopes).var(0).sum().item()
                for slopes in zip(*(torch.autograd.grad(loss, half, retain_graph=True) for loss in losses), strict=True)
            )
            for half in halves
        ]

    plain, ours = noise(IWAE(5)), noise(IWAE(5, gradient=gradient))
    assert ours[0] < 0.3 * plain[0]
    assert ours[1] < 2 * plain[1]


# Training and what follows


OBJECTIVES: list[Objective] = [
    ELBO(beta=tb.schedules.Linear(0.0, 1.0, steps=5)),
    ELBO(samples=3, gradient=StickingTheLanding()),
    IWAE(3, gradient=DoublyReparameterised()),
    IWAE(2),
    Capacity(1.0),
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda each: type(each).__name__)
def test_training_tells_the_rate_of_each_layer(objective: Objective) -> None:
    loss = objective(layered(X), Batch(X))
    layers = [loss.terms[f"rate_{number}"] for number in (1, 2, 3)]
    assert [*loss.terms] == ["distortion", "rate", "rate_1", "rate_2", "rate_3"]
    torch.testing.assert_close(sum(layers), loss.terms["rate"])
    assert not any(rate.requires_grad for rate in layers)
    plain = tb.VAE(priors.StandardNormal(9), posteriors.DiagonalNormal(nn.Linear(5, 18)), layered(X).likelihood)
    assert [*objective(plain, Batch(X)).terms] == ["distortion", "rate"]


def test_free_bits_are_refused_for_want_of_a_closed_form() -> None:
    with pytest.raises(TypeError, match="as FreeBits needs; got VAE of TopDown and TopDown"):
        FreeBits()(layered(X), Batch(X))
    with pytest.raises(TypeError, match="whose rate has a closed form; got VAE of TopDown and TopDown"):
        ELBO(kl="closed-form")(layered(X), Batch(X))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda each: type(each).__name__)
def test_micro_batches_give_the_same_gradient(objective: Objective) -> None:
    found = []
    for rows in (0, 4):
        model = layered(X).double()
        step = TrainStep(model, objective, Training(micro_batch=rows), steps=10, device=torch.device("cpu"))
        torch.manual_seed(3)
        values = step.gradient(Batch(X.double(), checked=True), 3)
        found.append({"values": values, **dict(zip(step.parameters, step.gradients, strict=True))})
        assert all(gradient.abs().max() > 0 for gradient in step.gradients)
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


@compiles
def test_a_compiled_step_is_the_plain_one() -> None:
    assert_compiled_is_plain(layered(X), ELBO(gradient=StickingTheLanding()), Batch(X))


@pytest.mark.parametrize("top", [None, priors.MixtureOfNormals(2, components=3)], ids=["normal", "mixture"])
def test_training_and_evaluation_of_layers(top: priors.Prior | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(300, 2) @ torch.randn(2, 5) + 0.2 * torch.randn(300, 5)
    model = layered(x, top=copy.deepcopy(top))
    before = evidence(model, x, samples=20)
    fit(model, x, objective=ELBO(samples=2), epochs=20, batch_size=50, learning_rate=0.01, progress=False, validation=0)
    after = evidence(model, x, samples=20)
    assert after.elbo.value > before.elbo.value + 2
    assert after.rate_kind == "sampled"
    assert after.latent_dim == 9
    assert len(after.rate_by_layer) == 3
    assert sum(rate.value for rate in after.rate_by_layer) == pytest.approx(after.rate.value, abs=0.2)
    assert "rate, layer 2" in str(after)
    told = after.to_json()["rate_by_layer"]
    assert told == [{"value": rate.value, "se": rate.se} for rate in after.rate_by_layer]
    torch.testing.assert_close(after.per_observation["rate_1"].mean().item(), told[0]["value"])
    model.save(tmp_path / "model")
    again = tb.load_model(tmp_path / "model")
    assert again.posterior.prior is again.prior
    torch.testing.assert_close(again.log_prob(x[:5], samples=20), model.log_prob(x[:5], samples=20))
    assert model.embed(x[:4]).shape == (4, 9)
    assert model.sample(5, temperature=0.5).shape == (5, 5)
    assert tb.plots.latent_traversal(model, x[0], steps=3, dimensions=2)


def test_of_one_layer_nothing_is_said() -> None:
    plain = tb.VAE(
        priors.StandardNormal(2), posteriors.DiagonalNormal(nn.Linear(5, 4)), tb.likelihoods.Gaussian(nn.Linear(2, 5))
    )
    report = evidence(plain, X, samples=3)
    assert report.rate_by_layer == ()
    assert report.to_json()["rate_by_layer"] == []
    assert "layer" not in str(report)


def test_other_posteriors_do_under_layers() -> None:
    """The same rates as draws, and the contract's own checks."""
    prior = layered(X).prior
    model = tb.VAE(prior, posteriors.DiagonalNormal(nn.Linear(5, 18)), layered(X).likelihood)
    fit(model, X, objective=ELBO(), epochs=1, progress=False, validation=0)
    assert [*ELBO()(model, Batch(X)).terms] == ["distortion", "rate"]
    assert set(check(layered(X), X, X, observations=6).skipped) <= {"fidelity"}  # which needs more of them


def test_what_the_layers_are_is_told() -> None:
    model = layered(X)
    assert [part[:3] for part in parts_of(model.prior())] == [(4, 4, False), (3, 3, False), (2, 2, False)]
    assert [part[:3] for part in model.parts(Batch(X))] == [(4, 4, False), (3, 3, False), (2, 2, False)]
    assert model.prior().support.check(torch.zeros(9))
    assert model.prior().expand((2,)).log_prob(torch.zeros(2, 9)).shape == (2,)
    words = "VAE: TopDown prior (4 + 3 + 2, MLP 3-6-8, MLP 2-6-6), TopDown posterior (MLP 5-8-18), Gaussian"
    assert tb.architecture.in_words(model).startswith(words)
    assert repr(model.prior).startswith("TopDown(\n  layers=(4, 3, 2)")


def test_a_copy_shares_its_own_networks() -> None:
    twin = copy.deepcopy(layered(X))
    assert twin.posterior.prior is twin.prior
    assert {name.split(".")[0] for name in twin.posterior.state_dict()} == {"network"}


# Recipes


CHANGES: dict[str, Any] = {"model__posterior": "top-down", "model__layers": [2], "evaluate__samples": 5}


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model__layers": [3, 2], "model__prior": "top-down-mixture", "model__init": "torch"},
        {"objective__name": "iwae", "objective__gradient": "doubly-reparameterised"},
        {"objective__kl": "sampled", "objective__gradient": "sticking-the-landing", "objective__warmup_steps": 3},
    ],
    ids=["plain", "mixture", "iwae", "warm-up"],
)
def test_recipes_train(tmp_path: Path, changes: dict[str, Any], network: str) -> None:
    wanted = recipe(source(tmp_path, "binary"), model__network=network, **{**CHANGES, **changes})
    built = build(wanted)
    assert built.model.prior.layers == (3, *wanted.model.layers)
    assert built.model.posterior.prior is built.model.prior
    trains(built)


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_a_recipe_decodes_from_the_lowest_layer(tmp_path: Path, network: str) -> None:
    built = build(recipe(source(tmp_path, "binary"), model__network=network, **CHANGES))
    z = torch.randn(7, 5)
    moved = z + torch.tensor([0.0, 0, 0, 1, 1])
    assert built.model.decode(z).mean.equal(built.model.decode(moved).mean)
    assert (built.model.prior.log_prob(z) - built.model.prior.log_prob(moved)).abs().min() > 0


@pytest.mark.parametrize("condition", ["label", "factors"])
def test_layers_take_a_condition(tmp_path: Path, condition: str) -> None:
    x = torch.randn(30, 6)
    data = tb.data.Observations(x, labels=torch.arange(30) % 3, factors=x[:, :2], factor_names=("a", "b"))
    wanted = Recipe().updated(
        {**SMALL, "model.posterior": "top-down", "model.layers": [2], "model.condition": condition}
    )
    built = build(wanted, data)
    before = copy.deepcopy(built.model.state_dict())
    fit(built.model, built.data, objective=built.objective, settings=built.recipe.train, progress=False)
    assert not any(p.equal(before[name]) for name, p in built.model.named_parameters())


def test_a_run_of_layers_resumes_and_is_reported(tmp_path: Path) -> None:
    changes = {**SMALL, "model.posterior": "top-down", "model.layers": [2], "train.epochs": 3, "evaluate.samples": 5}
    x = torch.randn(60, 6)
    made = tb.train(Recipe().updated(changes), data=x, out=tmp_path / "run", progress=False)
    opened = tb.open_run(tmp_path / "run")
    torch.testing.assert_close(opened.model().embed(x[:3]), made.model().embed(x[:3]))
    lines = [line for line in opened.metrics() if line["split"] == "train"]
    assert lines[-1]["rate"] == pytest.approx(lines[-1]["rate_1"] + lines[-1]["rate_2"], abs=1e-4)
    found = measure(opened.model(), opened.data(x).test, samples=5)
    assert len(found.evidence.rate_by_layer) == 2
    opened.save_evaluation(found)
    page = write_report(opened, opened.model(), opened.data(x)).read_text(encoding="utf-8")
    assert "3 + 2 latent dimensions, top-down prior, top-down posterior" in page
    assert "rate, layer 2" in page


def stop_at_five(step: int) -> None:
    if step == 5:
        raise RuntimeError("step 5")


def test_an_interrupted_training_goes_on_to_the_same_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(folder: Path, *, resume: bool = False) -> Any:
        objective = ELBO(kl="sampled", gradient=StickingTheLanding())
        settings = {"epochs": 4, "batch_size": 3, "validation": 0, "progress": False}
        return fit(layered(X), X, objective=objective, out=folder, resume=resume, ema=0.9, **settings)

    run(tmp_path / "complete")
    with monkeypatch.context() as patch:
        before_each_step(patch, stop_at_five)
        with pytest.raises(RuntimeError, match="step 5"):
            run(tmp_path / "stopped")
    run(tmp_path / "stopped", resume=True)
    assert written(tmp_path / "stopped") == written(tmp_path / "complete")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model.layers": []},
            r"Expected the sizes of the layers above the first as model.layers .*; got none. Take \[",
        ),
        ({"model.layers": [4, 0]}, r"Expected sizes of layers >= 1; got \(4, 0\)"),
        ({"model.layers": [1] * 1001}, "Expected at most 1000 layers; got 1001"),
        ({"model.layers": 3}, "Expected a list of whole numbers for model.layers; got 3"),
        ({"model.prior": "mixture"}, "whose latents are layers of real numbers; got 'mixture', one of real numbers"),
        (
            {"model.posterior": "diagonal-normal", "model.prior": "top-down"},
            "got 'top-down', one of layers of real num",
        ),
        ({"objective.name": "free-bits"}, "for the KL of each dimension; got 'top-down' and 'top-down'"),
        ({"objective.kl": "closed-form"}, "got 'closed-form', which only a prior of the posterior's family has"),
        ({"objective.gradient": "gumbel-softmax"}, "whose latents are layers of real numbers; got 'gumbel-softmax'"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe().updated({"model.posterior": "top-down", **changes})


def test_sizes_beyond_memory_are_told() -> None:
    wanted = Recipe().updated({**SMALL, "model.posterior": "top-down", "model.layers": [10**15]})
    with pytest.raises(ValueError, match="layers = about 1e15"):
        build(wanted, torch.randn(30, 6))


def test_runs_of_before_keep_their_fingerprint() -> None:
    from tightbound.runs.identity import model_fingerprint
    from tightbound.runs.schema import to_table
    from tightbound.training.fingerprint import fingerprint

    table = to_table(ModelRecipe())
    assert table.pop("layers") == [16]
    assert model_fingerprint(Recipe()) == fingerprint(table)


# What is refused


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: priors.TopDown([], layers=(3,)),
            ValueError,
            r"Expected at least two layers, and a network for each but the topmost, .*; got layers=\(3,\) and 0 net",
        ),
        (lambda: priors.TopDown([nn.Linear(2, 6)], layers=(3, 2, 2)), ValueError, "got layers=.* and 1 networks"),
        (lambda: priors.TopDown([nn.Linear(2, 6)], layers=(3, 0)), ValueError, "of at least 1 dimension; got lat"),
        (
            lambda: priors.TopDown([nn.Linear(2, 6)], layers=(3, 2), top=priors.StandardNormal(3)),
            ValueError,
            r"Expected a prior of 2 latents at the top, the last of layers=\(3, 2\); got StandardNormal of \(3,\)",
        ),
        (
            lambda: priors.TopDown([nn.Linear(2, 5)], layers=(3, 2))().sample(),
            ValueError,
            r"Expected a network giving \(..., 6\): mean, then log-variance, of a layer of 3 below one of 2; got",
        ),
        (
            lambda: posteriors.TopDown(nn.Linear(5, 9), layered(X).prior)(X),
            ValueError,
            r"Expected a network giving \(..., 18\), 2 \* 9: mean, then log-variance, of layers of \(4, 3, 2\); got",
        ),
        (
            lambda: posteriors.TopDown(nn.Linear(5, 9), priors.StandardNormal(3)),
            TypeError,
            "Expected the model's tb.priors.TopDown, whose networks this posterior shares; got StandardNormal",
        ),
    ],
)  # fmt: skip
def test_wrong_parts_are_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_prior_of_other_lengths_is_refused_before_training() -> None:
    model = layered(X)
    swapped = tb.VAE(priors.StandardNormal(8), model.posterior, model.likelihood)
    with pytest.raises(
        ValueError, match=r"over latents of one shape; got \(8,\) from StandardNormal and \(9,\) from TopD"
    ):
        fit(swapped, X, objective=ELBO(), progress=False)
