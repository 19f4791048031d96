"""What does not fit together is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import recipe, source, values

from tightbound.runs.build import Config, build, build_model
from tightbound.runs.recipe import ModelRecipe, Recipe
from tightbound.runs.resolving import MOST_LEVELS


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (
            "real",
            {"model__likelihood": "discretized-logistic"},
            "Expected integer grey levels, 65536 different ones at most, for model.likelihood 'discretized-logistic'; "
            "got .* For these data 'auto' takes 'gaussian'",
        ),
        (
            "floats",
            {"model__likelihood": "discretized-logistic"},
            "Expected integer grey levels, .* For these data 'auto' takes 'continuous-bernoulli'",
        ),
        (
            "grey",
            {"model__likelihood": "categorical"},
            "Expected whole numbers from 0, 65536 different ones at most, for .* 'auto' takes 'discretized-logistic'. "
            "Classes stored in 8 bits count as grey levels: store them as int64",
        ),
        ("real", {"model__likelihood": "categorical"}, "Expected whole numbers from 0, .* for model.likelihood 'categ"),
        (
            "real",
            {"model__likelihood": "bernoulli"},
            "Expected values between 0 and 1 for model.likelihood 'bernoulli'",
        ),
        ("real", {"model__likelihood": "continuous-bernoulli"}, "Expected values between 0 and 1 for model.likelihood"),
        (
            "floats",
            {"model__likelihood": "poisson"},
            "Expected whole numbers from 0 for model.likelihood 'poisson'; got",
        ),
        ("grey", {"model__likelihood": "poisson"}, "Counts stored in 8 bits count as grey levels: store them as int64"),
        ("real", {"model__likelihood": "negative-binomial"}, "Expected whole numbers from 0 for model.likelihood 'neg"),
        (
            "real",
            {"model__likelihood": "unnormalised-bernoulli"},
            "Expected values between 0 and 1 for model.likelihood 'unnormalised-bernoulli'; got",
        ),
        (
            "counts",
            {"model__likelihood": "unnormalised-bernoulli"},
            "For these data 'auto' takes 'poisson'",
        ),
        ("real", {"model__likelihood": "gaussian", "model__scale": -1.0}, "Expected a positive scale"),
        ("real", {"model__activation": "rely"}, r"Expected an activation .* Did you mean 'relu'\?"),
        ("real", {"data__size": 20}, "Expected a size for sprites and folders of images only"),
        ("real", {"data__test_fraction": 1.0}, "Expected a test_fraction between 0 and 1; got 1.0"),
    ],
)
def test_what_does_not_fit_the_data_is_refused(
    tmp_path: Path, kind: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(recipe(source(tmp_path, kind), **changes))


def test_convolutions_want_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Expected images .* for network='conv'; got .* \(6,\). Take network='mlp'"):
        build(recipe(source(tmp_path, "real", (6,)), model__network="conv"))


def test_classes_of_the_test_set_count_too(tmp_path: Path) -> None:
    train_x, test_x = values("classes"), values("classes") + 1
    np.savez(tmp_path / "classes.npz", x_train=train_x, x_test=test_x)
    assert build(recipe(str(tmp_path / "classes.npz"), model__likelihood="categorical")).config.levels == 5


def test_too_many_classes_are_refused(tmp_path: Path) -> None:
    many = values("classes")
    many[0] = MOST_LEVELS
    np.save(tmp_path / "many.npy", many)
    with pytest.raises(ValueError, match=f"Expected whole numbers from 0, {MOST_LEVELS} different ones at most"):
        build(recipe(str(tmp_path / "many.npy"), model__likelihood="categorical"))


def test_a_test_set_of_another_kind_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "mixed.npz", x_train=values("floats"), x_test=values("real"))
    with pytest.raises(ValueError, match=r"Expected values between 0 and 1 .*; got 30 observations .*: real"):
        build(recipe(str(tmp_path / "mixed.npz"), model__likelihood="continuous-bernoulli"))


@pytest.mark.parametrize(
    ("field", "wrong", "message"),
    [
        ("likelihood", "bernouli", r"Expected model.likelihood among .*; got 'bernouli'. Did you mean 'bernoulli'\?"),
        ("likelihood", "grey-bernoulli", r"got 'grey-bernoulli'. Did you mean 'unnormalised-bernoulli'\?"),
        (
            "posterior",
            "os.system",
            "model.posterior among diagonal-normal, full-normal, .*; got 'os.system'",
        ),
        ("prior", "__import__", "Expected model.prior among standard-normal, mixture, .*; got '__import__'"),
    ],
)
def test_only_what_the_registry_names_is_built(field: str, wrong: str, message: str) -> None:
    named: dict[str, Any] = {"network": "mlp", "likelihood": "gaussian", field: wrong}
    with pytest.raises(ValueError, match=message):
        build_model(ModelRecipe(**named), Config((5,)))


@pytest.mark.parametrize("part", ["network", "likelihood", "channels"])
def test_a_model_needs_a_resolved_recipe(part: str) -> None:
    named = {"network": "conv" if part == "channels" else "mlp", "likelihood": "bernoulli", part: "auto"}
    with pytest.raises(ValueError, match="Expected a network, its channels and a likelihood by name; got 'auto'"):
        build_model(ModelRecipe(**named), Config((5,)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("likelihood", "remedy"),
    [
        ("bernoulli", "If these are 8-bit pixels, store them as uint8, or divide them by 255."),
        ("continuous-bernoulli", "If these are 8-bit pixels, store them as uint8, or divide them by 255."),
        ("discretized-logistic", "If these are 8-bit pixels, store them as uint8."),
    ],
)
def test_pixels_stored_as_other_numbers_are_told_apart_from_counts(likelihood: str, remedy: str) -> None:
    x = np.random.default_rng(0).integers(0, 256, (60, 4)).astype(np.float32)
    changes = {"model.likelihood": likelihood, "model.hidden": [4]}
    with pytest.raises(ValueError, match="Expected ") as refused:
        build(Recipe().updated(changes), x)
    assert str(refused.value).endswith(f"For these data 'auto' takes 'negative-binomial'. {remedy}")
    build(Recipe().updated(changes), x.astype(np.uint8))
    if "divide" in remedy:
        build(Recipe().updated(changes), x / 255)
    with pytest.raises(ValueError, match="For these data 'auto' takes ") as refused:
        build(Recipe().updated(changes), np.minimum(x, 100))
    assert "pixels" not in str(refused.value)
