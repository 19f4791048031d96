"""From recipes to models: every likelihood with every network on data of its kind."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from building import DESCRIBED, IMAGE, recipe, source, trains, values

from tightbound import bounds, gradients, objectives
from tightbound.data import Observations, load, summarise
from tightbound.runs import recipe as recipes
from tightbound.runs.build import build, build_model, build_objective
from tightbound.runs.drawn import Elbo
from tightbound.runs.recipe import ModelRecipe, Recipe
from tightbound.runs.resolving import resolve
from tightbound.runs.run import open_run
from tightbound.runs.starting import train
from tightbound.schedules import Linear
from tightbound.training import fit


@pytest.mark.parametrize("network", ["mlp", "conv", "resnet"])
@pytest.mark.parametrize(("likelihood", "kind"), DESCRIBED)
def test_every_likelihood_learns_with_every_network(tmp_path: Path, likelihood: str, kind: str, network: str) -> None:
    built = build(recipe(source(tmp_path, kind), model__likelihood=likelihood, model__network=network))
    trains(built)
    assert built.data.train.binarise == (likelihood == "bernoulli" and kind != "binary")


@pytest.mark.parametrize("scale", [0.5, "learned", "per-element"])
@pytest.mark.parametrize(
    ("likelihood", "kind"), [("gaussian", "real"), ("laplace", "real"), ("discretized-logistic", "grey")]
)
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_every_scale(tmp_path: Path, likelihood: str, kind: str, scale: object, network: str) -> None:
    path = source(tmp_path, kind)
    trains(build(recipe(path, model__likelihood=likelihood, model__scale=scale, model__network=network)))


@pytest.mark.parametrize("init", ["torch", "xavier"])
@pytest.mark.parametrize(
    ("prior", "posterior"),
    [
        ("standard-normal", "diagonal-normal"),
        ("standard-normal", "full-normal"),
        ("mixture", "diagonal-normal"),
        ("mixture", "full-normal"),
        ("vamp", "diagonal-normal"),
    ],
)
def test_every_prior_and_posterior(tmp_path: Path, prior: str, posterior: str, init: str) -> None:
    built = build(
        recipe(
            source(tmp_path, "real"),
            model__prior=prior,
            model__posterior=posterior,
            model__init=init,
            objective__kl="closed-form" if prior == "standard-normal" else "sampled",
        )
    )
    trains(built)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, objectives.ELBO(kl="closed-form")),
        ({"beta": 4, "samples": 3, "kl": "sampled"}, objectives.ELBO(4.0, 3, "sampled")),
        ({"beta": 4, "warmup_steps": 10}, objectives.ELBO(Linear(0.0, 4.0, 10), kl="closed-form")),
        ({"gradient": "sticking-the-landing"}, objectives.ELBO(1.0, 1, "sampled", gradients.StickingTheLanding())),
        (
            {"gradient": "leave-one-out", "samples": 2},
            objectives.ELBO(1.0, 2, "closed-form", gradients.ScoreFunction()),
        ),
        ({"name": "iwae", "samples": 3}, objectives.IWAE(3)),
        (
            {"name": "iwae", "gradient": "sticking-the-landing"},
            objectives.IWAE(5, gradients.StickingTheLanding()),
        ),
        ({"name": "renyi", "alpha": 0.3, "samples": 2}, objectives.Bound(bounds.renyi(0.3), samples=2)),
        ({"name": "miwae", "groups": 2, "samples": 4}, objectives.Bound(bounds.miwae(2), samples=4)),
        ({"name": "free-bits", "nats": 0.1}, objectives.FreeBits(0.1)),
        ({"name": "capacity", "capacity": 3, "gamma": 2}, objectives.Capacity(3.0, 2.0, kl="closed-form")),
        ({"name": "capacity", "warmup_steps": 10}, objectives.Capacity(Linear(0.0, 25.0, 10), kl="closed-form")),
    ],
)
def test_every_objective(tmp_path: Path, changes: dict[str, Any], expected: objectives.Objective) -> None:
    dotted = {f"objective__{name}": value for name, value in changes.items()}
    built = build(recipe(source(tmp_path, "binary"), **dotted))
    assert built.objective == expected
    trains(built)


@pytest.mark.parametrize(
    ("changes", "kl"),
    [
        ({}, "closed-form"),
        ({"model__posterior": "full-normal"}, "closed-form"),
        ({"model__prior": "mixture"}, "sampled"),
        ({"model__prior": "vamp"}, "sampled"),
        ({"model__prior": "mixture", "objective__name": "capacity"}, "sampled"),
        ({"objective__gradient": "sticking-the-landing"}, "sampled"),
    ],
)
def test_how_the_rate_is_computed_is_resolved_and_recorded(tmp_path: Path, changes: dict[str, Any], kl: str) -> None:
    built = build(recipe(source(tmp_path, "binary"), **changes))
    assert built.objective.kl == kl  # type: ignore[attr-defined]
    assert f'kl = "{kl}"' in recipes.to_toml(built.recipe)


def test_an_impossible_objective_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected beta >= 0; got -1"):
        build_objective(Elbo(beta=-1.0))


@pytest.mark.parametrize(
    ("kind", "shape", "network", "likelihood"),
    [
        ("binary", IMAGE, "mlp", "bernoulli"),
        ("grey", IMAGE, "mlp", "discretized-logistic"),
        ("floats", IMAGE, "mlp", "continuous-bernoulli"),
        ("real", (6,), "mlp", "gaussian"),
        ("counts", (6,), "mlp", "poisson"),
        ("overdispersed", (6,), "mlp", "negative-binomial"),
        ("binary", (1, 33, 8), "conv", "bernoulli"),
        ("binary", (1, 32, 32), "mlp", "bernoulli"),
        ("floats", (40, 50), "mlp", "continuous-bernoulli"),
    ],
)
def test_auto_follows_from_the_data(
    tmp_path: Path, kind: str, shape: tuple[int, ...], network: str, likelihood: str
) -> None:
    built = build(recipe(source(tmp_path, kind, shape)))
    assert (built.recipe.model.network, built.recipe.model.likelihood) == (network, likelihood)
    assert built.config.shape == shape
    assert built.config.why not in ("", "named in the recipe")
    trains(built)


@pytest.mark.parametrize(
    ("shape", "network", "channels"),
    [((1, 48, 48), "conv", 32), ((1, 49, 8), "conv", 16), ((1, 8, 49), "resnet", 16), ((1, 49, 49), "mlp", 32)],
)
def test_channels_follow_from_the_size(shape: tuple[int, ...], network: str, channels: int) -> None:
    facts = summarise(Observations(torch.zeros(3, *shape, dtype=torch.uint8), scale=255))
    model = ModelRecipe(network=network)  # type: ignore[arg-type]
    assert resolve(Recipe(model=model), facts).model.channels == channels
    named = dataclasses.replace(model, channels=5)
    assert resolve(Recipe(model=named), facts).model.channels == 5


def test_what_is_named_is_not_chosen(tmp_path: Path) -> None:
    built = build(recipe(source(tmp_path, "binary"), model__likelihood="gaussian"))
    assert built.recipe.model.likelihood == "gaussian"
    assert built.config.why == "named in the recipe"


def test_a_resolved_recipe_is_complete_and_stays_as_it_is(tmp_path: Path) -> None:
    built = build(recipe(source(tmp_path, "grey")))
    assert "auto" not in (built.recipe.model.network, built.recipe.model.likelihood)
    assert resolve(built.recipe, summarise(built.data.train)) == built.recipe
    assert recipes.from_toml(recipes.to_toml(built.recipe)) == built.recipe


@pytest.mark.parametrize("shape", [(1, 105, 105), (3, 13, 29), (2, 1, 40)])
@pytest.mark.parametrize("network", ["conv", "resnet"])
def test_images_of_odd_sizes(tmp_path: Path, shape: tuple[int, ...], network: str) -> None:
    path = source(tmp_path, "floats", shape)
    built = build(recipe(path, model__network=network, model__channels=2, train__batch_size=10))
    trains(built)


def test_the_seed_decides_the_weights_and_nothing_else_is_disturbed(tmp_path: Path) -> None:
    path = source(tmp_path, "real")
    before = torch.get_rng_state()
    models = [build(recipe(path, seed=seed)).model.state_dict() for seed in (0, 0, 1)]
    assert torch.get_rng_state().equal(before)
    assert all(models[0][name].equal(models[1][name]) for name in models[0])
    assert not all(models[0][name].equal(models[2][name]) for name in models[0])


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize(("likelihood", "kind"), DESCRIBED)
def test_a_run_brings_its_model_back(tmp_path: Path, likelihood: str, kind: str, network: str) -> None:
    made = recipe(
        source(tmp_path, kind),
        model__likelihood=likelihood,
        model__network=network,
        model__prior="vamp" if kind == "real" else "standard-normal",
        objective__kl="sampled" if kind == "real" else "closed-form",
    )
    run = train(made, tmp_path / "run", progress=False).run
    again, x = open_run(tmp_path / "run"), run.data().test.eval_batch()
    before = torch.get_rng_state()
    model = again.model()
    assert torch.get_rng_state().equal(before)
    assert not model.training
    assert again.recipe == run.recipe
    built = build(run.recipe)
    fit(built.model, built.data, objective=built.objective, seed=0, progress=False, settings=built.recipe.train)
    with torch.no_grad():
        assert model.embed(x).equal(run.model().embed(x))
        assert model.embed(x).equal(built.model.eval().embed(x))
        assert model.prior.log_prob(torch.zeros(1, 3)).equal(built.model.prior.log_prob(torch.zeros(1, 3)))
        assert model.likelihood.log_prob(x.x, torch.zeros(x.size, 3)).isfinite().all()


def test_the_outline_has_the_model_s_names_and_shapes_and_no_memory(tmp_path: Path) -> None:
    for prior, kl in (("standard-normal", "closed-form"), ("mixture", "sampled"), ("vamp", "sampled")):
        for likelihood in ("gaussian", "bernoulli"):
            made = recipe(
                source(tmp_path, "binary"), model__likelihood=likelihood, model__prior=prior, objective__kl=kl
            )
            built = build(made)
            outline = build_model(built.recipe.model, built.config, device="meta").state_dict()
            model = built.model.state_dict()
            assert {k: v.shape for k, v in outline.items()} == {k: v.shape for k, v in model.items()}
            assert sum(v.numel() for v in outline.values() if not v.is_meta) <= 1  # a learned scale


def test_the_last_bias_starts_at_the_mean_of_the_data(tmp_path: Path) -> None:
    built = build(recipe(source(tmp_path, "counts"), model__likelihood="poisson", model__network="mlp"))
    with torch.no_grad():
        start = built.model.decode(torch.zeros(1, 3)).mean[0]
    torch.testing.assert_close(start, built.data.train.eval_batch().x.mean(0))


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_a_full_normal_starts_without_correlations(tmp_path: Path, network: str) -> None:
    """So training begins with the diagonal normal of the same outputs."""
    words = {"model__likelihood": "poisson", "model__network": network, "model__posterior": "full-normal"}
    built = build(recipe(source(tmp_path, "counts"), **words))
    q = built.model.posterior(built.data.train.eval_batch(0, 5).x)
    assert q.scale_tril.triu().equal(q.scale_tril)
    assert q.scale_tril.diagonal(dim1=1, dim2=2).std() > 0


def test_constant_elements_do_no_harm(tmp_path: Path) -> None:
    constant = values("real")
    constant[:, :, 0] = 7.0
    np.save(tmp_path / "constant.npy", constant)
    for network in ("mlp", "conv"):
        trains(build(recipe(str(tmp_path / "constant.npy"), model__network=network, model__likelihood="gaussian")))


def test_the_test_set_is_kept_out_of_the_model(tmp_path: Path) -> None:
    x, other = values("real"), values("real") + 100
    np.savez(tmp_path / "a.npz", x_train=x, x_test=x)
    np.savez(tmp_path / "b.npz", x_train=x, x_test=other)
    a, b = (build(recipe(str(tmp_path / name))).model.state_dict() for name in ("a.npz", "b.npz"))
    assert all(a[name].equal(b[name]) for name in a)


def test_shipped_recipes_build() -> None:
    for name in recipes.shipped():
        made = recipes.load(name)
        if made.data.source == "digits":
            assert build(made).data.train.shape == load("digits").train.shape
