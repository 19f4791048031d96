"""The standard pictures: which ones fit a run, and captions that are true of it."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny import copied, trained

import tightbound as tb
from tightbound import plots
from tightbound.data import Data, Observations, load
from tightbound.report import figures
from tightbound.runs import recipe as recipes
from tightbound.runs.build import build
from tightbound.runs.run import open_run

ALL = {
    "training", "bounds", "ess", "kl", "map", "reconstructions", "samples", "traversal", "interpolation", "data",
}  # fmt: skip


def made(run) -> dict[str, figures.Picture]:
    return {picture.name: picture for picture in figures.pictures(run, run.model(), run.data())}


def words(**changes) -> str:
    recipe = recipes.Recipe().updated({f"objective.{key}": value for key, value in changes.items()})
    return recipe.objective.in_words(steps=100)


def test_a_run_has_every_picture_each_with_a_caption_and_a_description():
    found = made(open_run(trained()))
    assert found.keys() == ALL
    for picture in found.values():
        assert picture.title
        assert picture.caption.endswith(".")
        assert plots.alt_text(picture.figure).endswith(".")


def test_a_run_without_an_evaluation_has_those_that_need_none(tmp_path):
    run = copied(tmp_path)
    (run / "evaluation.json").unlink()
    assert made(open_run(run)).keys() == ALL - {"bounds", "ess", "kl"}


@pytest.mark.parametrize(("samples", "missing"), [(1, {"bounds", "ess"}), (10, {"ess"})])
def test_too_few_samples_show_no_tightness_and_no_trust(samples, missing):
    run = open_run(trained())
    found = {**run.evaluation(), "samples": samples}
    shown = {picture.name for picture in figures._evidence(run, found)}
    assert shown == {"bounds", "ess", "kl"} - missing


def test_the_captions_of_evidence_have_the_runs_numbers():
    run = open_run(trained())
    found = made(run)
    assert f"It rises {run.evaluation()['gap']:.2g} nats over the ELBO" in found["bounds"].caption
    assert "fewer than 10 of 20 samples" in found["ess"].caption


def test_binarised_data_are_said_to_be_binarised():
    found = made(open_run(trained()))
    assert "the model saw them binarised" in found["reconstructions"].caption
    assert "The model sees them binarised" in found["data"].caption
    assert found["interpolation"].caption.endswith("as the model saw them.")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "Loss = distortion + rate."),
        ({"beta": 4}, "Loss = distortion + β · rate, β = 4."),
        (
            {"warmup_steps": 50},
            "Loss = distortion + β · rate, β = 1, in training rising from 0 over the first 50 steps.",
        ),
        ({"warmup_steps": 100}, "over the first 100 steps, which this training did not reach."),
        (
            {"name": "iwae", "samples": 5},
            "Loss = minus the importance-weighted bound of 5 samples, which is less than distortion + rate.",
        ),
        (
            {"name": "renyi", "alpha": 0.3, "samples": 7},
            "Loss = minus the variational Rényi bound of order 0.3 and 7 samples.",
        ),
        (
            {"name": "miwae", "groups": 2, "samples": 8},
            "Loss = minus the mean of 2 importance-weighted bounds of 4 samples each.",
        ),
        (
            {"name": "free-bits", "nats": 0.5},
            "Loss = distortion + rate, where 0.5 nats of each latent dimension are free.",
        ),
        (
            {"name": "capacity", "capacity": 5, "gamma": 9, "warmup_steps": 7},
            "distortion + 9 × the distance of the rate from 5 nats, in training a target that rises over the first 7",
        ),
    ],
)
def test_the_loss_is_told_as_the_objective_has_it(changes, said):
    assert said in words(**changes)


def tiny_model(latent: int, features: int) -> tb.VAE:
    return tb.VAE(
        prior=tb.priors.StandardNormal(latent),
        posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(features, 2 * latent)),
        likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(latent, features)),
    )


def drawn(model, data) -> dict[str, figures.Picture]:
    found = {
        "kl_per_dimension": None,
        "mean_variance": list(range(latent_of(model))),
        "active": [True] * latent_of(model),
    }
    parts = (figures._maps(model, data), figures._decoded(model, data), figures._walks(model, data, found))
    return {picture.name: picture for part in parts for picture in part}


def latent_of(model) -> int:
    return model.sample_prior(1).shape[-1]


def test_a_traversal_shows_what_says_most():
    said = {"kl_per_dimension": [0.1, 3.0, 2.0], "mean_variance": [0.9, 0.1, 0.5], "active": [True, True, False]}
    by_kl = figures.ranked(said, 2)
    assert by_kl["dimensions"] == 2
    assert by_kl["kl"].tolist() == pytest.approx([0.1, 3.0, 2.0])
    by_spread = figures.ranked({**said, "kl_per_dimension": None}, 2)
    assert by_spread["dimensions"] == [0, 2]
    assert by_spread["active"].tolist() == [True, True, False]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_test_observations_are_enough(count):
    data = Data("few", Observations(torch.randn(9, 4)), Observations(torch.randn(count, 4)))
    found = drawn(tiny_model(3, 4), data)
    assert ("map" in found) == ("interpolation" in found) == (count > 1)
    assert "binarised" not in found["reconstructions"].caption
    assert "by how their posterior means vary" in found["traversal"].caption


def test_two_latent_dimensions_have_a_manifold():
    assert "manifold" in drawn(tiny_model(2, 4), load(torch.randn(30, 4)))


@pytest.mark.parametrize(
    "parts", [{"prior": "mixture"}, {"prior": "vamp"}, {"prior": "mixture", "posterior": "full-normal"}]
)
def test_learned_priors_and_full_posteriors_are_drawn_too(parts):
    small = {"components": 3, "hidden": [8], "latent_dim": 2}
    changes = {f"model.{name}": value for name, value in {**parts, **small}.items()} | {"objective.kl": "sampled"}
    built = build(recipes.load("digits").updated(changes))
    assert drawn(built.model.eval(), built.data).keys() == {
        "map", "manifold", "reconstructions", "samples", "traversal", "interpolation",
    }  # fmt: skip


def test_pictures_leave_the_random_state_alone_and_are_the_same_each_time():
    run = open_run(trained())
    before = torch.get_rng_state()
    pngs = [plots.to_png(made(run)["samples"].figure) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), before)
    assert pngs[0] == pngs[1]


def test_the_labels_are_said_to_be_unseen_where_there_are_some():
    run = open_run(trained())
    data, model = run.data(), run.model()
    bare = dataclasses.replace(data, test=data.test.replace(labels=None))
    assert "never seen the labels" in next(figures._maps(model, data)).caption
    assert "labels" not in next(figures._maps(model, bare)).caption
