"""The standard pictures: which ones fit a run, and captions that are true of it."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import copied, trained

from tightbound import plots
from tightbound.data import Data, Observations
from tightbound.reports import figures
from tightbound.runs import recipe as recipes
from tightbound.runs.measured import measure
from tightbound.runs.run import open_run
from tightbound.runs.starting import train

ALL = {
    "training", "bounds", "trust", "kl", "extremes", "map", "reconstructions", "samples", "traversal", "interpolation",
    "data",
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
    assert made(open_run(run)).keys() == ALL - {"bounds", "trust", "kl"}


def test_a_single_sample_shows_no_tightness(tmp_path):
    run = copied(tmp_path)
    found = {**open_run(run).evaluation(), "samples": 1}
    (run / "evaluation.json").write_text(json.dumps(found), encoding="utf-8")
    assert made(open_run(run)).keys() == ALL - {"bounds"}


def test_without_k_there_is_no_picture_of_trust(tmp_path):
    run = copied(tmp_path)
    values = load_file(run / "per-observation.safetensors")
    for k in (torch.full_like(values["k"], torch.nan), None):  # of codes that were all listed, and of an older version
        kept = {name: each for name, each in values.items() if name != "k"}
        save_file({**kept, "k": k} if k is not None else kept, run / "per-observation.safetensors")
        assert made(open_run(run)).keys() == ALL - {"trust"}


def test_the_captions_of_evidence_have_the_runs_numbers():
    run = open_run(trained())
    found = made(run)
    assert f"It lies {run.evaluation()['gap']:.2g} nats above the ELBO" in found["bounds"].caption
    assert "below log p(x)" in plots.alt_text(found["bounds"].figure)
    assert "observations: median" in plots.alt_text(found["trust"].figure)


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


def drawn(folder, data=None, *, evaluated=False, **changes) -> dict[str, figures.Picture]:
    """The pictures of a small run, by name."""
    small = {"model.hidden": [8], "model.components": 3, "train.epochs": 0.1, "train.validation": 0}
    recipe = recipes.load("digits").updated({**small, **{k.replace("__", "."): v for k, v in changes.items()}})
    trained = train(recipe, folder / "run", data=data, progress=False)
    if evaluated:
        trained.run.save_evaluation(measure(trained.model, trained.data.test, samples=2))
    return {picture.name: picture for picture in figures.pictures(trained.run, trained.model, trained.data)}


def test_a_traversal_shows_what_says_most():
    said = {"kl_per_dimension": [0.1, 3.0, 2.0], "mean_variance": [0.9, 0.1, 0.5], "active": [True, True, False]}
    by_kl = figures.ranked(said, 2)
    assert by_kl["dimensions"] == 2
    assert by_kl["kl"].tolist() == pytest.approx([0.1, 3.0, 2.0])
    by_spread = figures.ranked({**said, "kl_per_dimension": None}, 2)
    assert by_spread["dimensions"] == [0, 2]
    assert by_spread["active"].tolist() == [True, True, False]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_test_observations_are_enough(count, tmp_path):
    data = Data("few", Observations(torch.randn(9, 4)), Observations(torch.randn(count, 4)))
    found = drawn(tmp_path, data, model__likelihood="gaussian", model__latent_dim=3)
    assert ("map" in found) == ("interpolation" in found) == (count > 1)
    assert "binarised" not in found["reconstructions"].caption
    assert "One latent dimension at a time, in order;" in found["traversal"].caption


def test_two_latent_dimensions_have_a_manifold(tmp_path):
    found = drawn(tmp_path, torch.randn(30, 4), model__likelihood="gaussian", model__latent_dim=2)
    assert "manifold" in found
    assert "two directions" not in found["map"].caption


@pytest.mark.parametrize(
    "parts",
    [
        {"model__prior": "mixture"},
        {"model__prior": "vamp"},
        {"model__prior": "mixture", "model__posterior": "full-normal"},
    ],
)
def test_learned_priors_and_full_posteriors_are_drawn_too(parts, tmp_path):
    found = drawn(tmp_path, evaluated=True, model__latent_dim=2, **parts)
    assert found.keys() == (ALL | {"manifold"}) - {"kl"}
    assert "by how their posterior means vary" in found["traversal"].caption


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
    captions = [{p.name: p.caption for p in figures.pictures(run, model, each)}["map"] for each in (data, bare)]
    assert "never seen the labels" in captions[0]
    assert "labels" not in captions[1]
