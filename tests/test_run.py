"""A run is a folder: what is in it, how it is started and gone on with."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import TINY
from safetensors.torch import load_file

from tightbound.data import Observations, load
from tightbound.files import temporary_for
from tightbound.runs import recipe as recipes
from tightbound.runs.build import build
from tightbound.runs.identity import weights_fingerprint
from tightbound.runs.measured import measure
from tightbound.runs.recipe import Recipe
from tightbound.runs.run import Run, open_run
from tightbound.runs.starting import default_folder, resume, train
from tightbound.training.environment import environment


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the digits, made once."""
    folder = tmp_path_factory.mktemp("runs") / "original"
    train(TINY, folder, progress=False)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(original, tmp_path / "run"))


# What a run holds


def test_the_folder_holds_what_it_should(folder: Path) -> None:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "recipe.toml", "config.json", "environment.json", "metrics.jsonl", "timing.jsonl", "model.safetensors",
        "checkpoint/state.pt", "checkpoint/older.pt", "digests.json", ".lock",
    }  # fmt: skip


def test_nothing_in_the_folder_is_a_pickle_to_be_trusted(folder: Path) -> None:
    load_file(folder / "model.safetensors")
    torch.load(folder / "checkpoint" / "state.pt", weights_only=True)


def test_the_recipe_is_resolved_and_complete(folder: Path) -> None:
    run = open_run(folder)
    assert run.recipe.model.network == "mlp"
    text = (folder / "recipe.toml").read_text(encoding="utf-8")
    for field in dataclasses.fields(run.recipe.train):
        assert f"{field.name} = " in text


def test_the_environment_is_written_down(folder: Path) -> None:
    written = open_run(folder).environment()
    assert written.keys() == environment().keys()
    assert written["torch"] == torch.__version__


def test_the_model_is_the_one_trained(tmp_path: Path) -> None:
    run = train(TINY, tmp_path / "run", progress=False).run
    x = run.data().test.eval_batch()
    with torch.no_grad():
        assert run.model().embed(x).equal(open_run(run.path).model().embed(x))
    assert not run.model().training


def test_metrics_are_the_lines_of_the_file(folder: Path) -> None:
    lines = open_run(folder).metrics()
    assert [(line["step"], line["split"]) for line in lines] == [
        (2, "train"),
        (4, "train"),
        (5, "train"),
        (5, "validation"),
    ]


def test_an_evaluation_is_kept(folder: Path) -> None:
    run = open_run(folder)
    assert run.evaluation() is None
    assert run.per_observation() == {}
    found = measure(run.model(), run.data().test.subset(torch.arange(20)), samples=2)
    run.save_evaluation(found)
    again = open_run(folder)
    kept = again.evaluation()
    assert kept is not None
    assert kept.pop("weights") == weights_fingerprint(again.path)  # whose they are
    assert kept == json.loads(json.dumps(found.evidence.to_json()))
    assert again.kept("information.json") == json.loads(json.dumps(found.information.to_json()))
    assert all(again.per_observation()[name].equal(value) for name, value in found.evidence.per_observation.items())


def test_default_folders_stay_among_the_runs() -> None:
    for name in ("digits", "../../elsewhere", "/", ""):
        assert default_folder(Recipe(name=name)).parent == Path("runs")


# Data for a run


def test_data_of_another_source_must_have_the_shape(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", np.zeros((10, 1, 9, 9), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"Expected observations of shape \(1, 8, 8\), .* got \(1, 9, 9\)"):
        open_run(folder).data(str(tmp_path / "other.npy"))


def test_data_of_another_source_is_prepared_as_the_run_s_own(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", np.arange(640, dtype=np.uint8).reshape(10, 1, 8, 8))
    assert open_run(folder).data(str(tmp_path / "other.npy")).train.binarise
    assert open_run(folder).data().train.binarise


def test_data_of_another_source_must_have_the_levels(tmp_path: Path) -> None:
    grey = TINY.updated({"model.likelihood": "discretized-logistic"})
    run = train(grey, tmp_path / "run", progress=False).run
    np.save(tmp_path / "other.npy", np.arange(640, dtype=np.uint8).reshape(10, 1, 8, 8))
    with pytest.raises(ValueError, match=r"Expected 17 levels, as this run's model has seen; got 256"):
        run.data(str(tmp_path / "other.npy"))


def test_a_size_for_folders_does_not_stand_in_the_way_of_a_file(folder: Path, tmp_path: Path) -> None:
    run = open_run(folder)
    run = Run(run.path, run.recipe.updated({"data.size": 8}), run.config)
    np.save(tmp_path / "other.npy", np.arange(640, dtype=np.uint8).reshape(10, 1, 8, 8))
    assert len(run.data(str(tmp_path / "other.npy")).train) == 9


def made_in_python(count: int = 40) -> torch.Tensor:
    return torch.linspace(-1, 1, 4 * count).reshape(count, 4)


GAUSSIAN = TINY.updated({"model.likelihood": "gaussian", "train.validation": 5})


def test_data_made_in_python_are_recorded_as_such_and_asked_for(tmp_path: Path) -> None:
    x = made_in_python()
    trained = train(GAUSSIAN, tmp_path / "run", data=x, progress=False)
    run = open_run(tmp_path / "run")
    assert run.recipe.data.source == trained.run.recipe.data.source == "given in Python"
    for give in (run.data, lambda: resume(run.path, progress=False), lambda: build(run.recipe)):
        with pytest.raises(
            ValueError, match=r"Expected the data themselves, for they were .* tb.report\(run, x\), .* x.npy"
        ):
            give()
    assert run.data(x).test.eval_batch().x.equal(trained.data.test.eval_batch().x)
    assert resume(run.path, data=x, progress=False).result == trained.result
    with pytest.raises(ValueError, match="got another data"):
        resume(run.path, data=x + 1, progress=False)


def test_a_runs_own_data_are_known_by_their_values_wherever_they_are(tmp_path: Path) -> None:
    x = made_in_python()
    trained = train(GAUSSIAN, tmp_path / "run", data=x, progress=False)
    np.save(tmp_path / "x.npy", x.numpy())
    np.save(tmp_path / "others.npy", x.flip(0).numpy())
    run = open_run(tmp_path / "run")
    for source in (x, str(tmp_path / "x.npy")):
        assert run.split(source=source).eval_batch().x.equal(trained.data.test.eval_batch().x)
        assert len(run.split("validation", source)) == 5
    assert len(run.split(source=str(tmp_path / "others.npy"))) == 40


def test_the_splits_of_data_made_in_python_are_those_of_training(tmp_path: Path) -> None:
    x = made_in_python()
    run = train(GAUSSIAN, tmp_path / "run", data=x, progress=False).run
    assert [len(run.split(name, x)) for name in ("train", "validation", "test")] == [31, 5, 4]
    assert len(run.split(source=x)) == 4


@pytest.mark.parametrize("kind", ["array", "pair", "observations", "data", "data set"])
def test_any_data_made_in_python_will_do(tmp_path: Path, kind: str) -> None:
    x, y = made_in_python(), torch.arange(40) % 3
    given = {
        "array": x.numpy(), "pair": (x, y), "observations": Observations(x), "data": load(x),
        "data set": torch.utils.data.TensorDataset(x, y),
    }[kind]  # fmt: skip
    built = build(GAUSSIAN, given)
    assert (built.recipe.data.source, built.config.shape) == ("given in Python", (4,))


def test_data_of_no_kind_are_refused() -> None:
    with pytest.raises(TypeError, match="Expected an array, a tensor"):
        build(GAUSSIAN, object())


def test_a_path_in_place_of_the_recipe_s_data_is_recorded(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", made_in_python().numpy())
    assert build(GAUSSIAN, tmp_path / "x.npy").recipe.data.source == str(tmp_path / "x.npy")


# The splits of a run


def test_the_splits_are_those_of_training(folder: Path) -> None:
    run = open_run(folder)
    train_rows, validation, test = (run.split(name).rows for name in ("train", "validation", "test"))
    assert torch.cat([train_rows, validation, test]).sort().values.equal(torch.arange(1797))
    assert run.split().rows.equal(test)
    assert run.held_out(run.data()).rows.equal(validation)


def test_other_data_have_no_validation_split(folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(640, dtype=np.uint8).reshape(10, 1, 8, 8))
    run, path = open_run(folder), str(tmp_path / "x.npy")
    assert [len(run.split(name, path)) for name in (None, "train", "test")] == [10, 9, 1]
    with pytest.raises(ValueError, match="got validation, which only a run's own data have"):
        run.split("validation", path)


def test_without_validation_there_is_no_such_split(folder: Path) -> None:
    run = open_run(folder)
    run = Run(run.path, run.recipe.updated({"train.validation": 0}), run.config)
    assert run.held_out(run.data()) is None
    with pytest.raises(ValueError, match=r"this run held nothing out \(train.validation = 0\); got validation"):
        run.split("validation")


def test_data_with_a_test_set_of_their_own_are_evaluated_on_it(folder: Path, tmp_path: Path) -> None:
    x = np.arange(640, dtype=np.uint8).reshape(10, 1, 8, 8)
    np.savez(tmp_path / "x.npz", x_train=x, x_test=x[:3])
    assert len(open_run(folder).split(source=str(tmp_path / "x.npz"))) == 3


# Starting and going on


def test_a_run_says_in_short_what_it_is(folder: Path) -> None:
    assert repr(open_run(folder)) == f"Run({str(folder)!r}, recipe='tiny')"


def test_training_hands_back_what_it_built(tmp_path: Path) -> None:
    trained = train(TINY, tmp_path / "run", progress=False)
    again = open_run(tmp_path / "run")
    assert not trained.model.training
    assert trained.result.objective == build(again.recipe).objective
    assert all(value.equal(again.model().state_dict()[name]) for name, value in trained.model.state_dict().items())
    assert trained.data.test.eval_batch().x.equal(again.data().test.eval_batch().x)
    assert again.recipe == trained.run.recipe
    assert again.recipe.objective.kl == "closed-form"
    assert json.loads((again.path / "config.json").read_text(encoding="utf-8"))["format"] == 6


def test_a_run_wants_a_new_folder(folder: Path, tmp_path: Path) -> None:
    for path in (folder, folder / "recipe.toml"):
        with pytest.raises(ValueError, match=r"Expected a new folder; got .* Choose another: --out"):
            train(TINY, path, progress=False)
    (tmp_path / "new").mkdir()
    left = temporary_for(tmp_path / "new" / "recipe.toml")  # of a start that was killed at once
    left = left.with_name(left.name.replace(f"-{os.getpid()}-", "-99999999-"))
    left.touch()
    train(TINY, tmp_path / "new", progress=False)
    assert not left.exists()


def test_a_wrong_recipe_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Expected an activation"):
        train(TINY.updated({"model.activation": "os.system"}), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("there", [("recipe.toml",), ("recipe.toml", "config.json"), ("recipe.toml", "metrics.jsonl")])
def test_what_was_killed_before_its_first_checkpoint_starts_afresh(
    original: Path, tmp_path: Path, there: tuple[str, ...]
) -> None:
    (tmp_path / "run").mkdir()
    for name in there:
        shutil.copy(original / name, tmp_path / "run" / name)
    resume(tmp_path / "run", progress=False)
    for name in ("metrics.jsonl", "model.safetensors", "recipe.toml"):
        assert (tmp_path / "run" / name).read_bytes() == (original / name).read_bytes()


def test_a_complete_run_stays_as_it_is(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    first, second = (resume(folder, progress=False).result for _ in range(2))
    assert first == second
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        for verb in (open_run, resume):
            with pytest.raises(ValueError, match=r"Expected a run folder with a recipe.toml; got .*'tightbound train'"):
                verb(path)


def test_other_data_than_at_the_start_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((50, 4)))
    recipe = TINY.updated({"data.source": str(tmp_path / "x.npy"), "model.likelihood": "gaussian"})
    train(recipe, tmp_path / "run", progress=False)
    np.save(tmp_path / "x.npy", np.ones((50, 4)))
    with pytest.raises(ValueError, match=r"Expected what the run in .* was started with; got another data"):
        resume(tmp_path / "run", progress=False)


@pytest.mark.parametrize(
    "change",
    [{"train.epochs": 9}, {"objective.beta": 2}, {"data.test_fraction": 0.9}, {"seed": 7}, {"train.validation": 0.3}],
)
def test_a_changed_recipe_is_refused_by_every_reader(change: dict[str, Any], folder: Path) -> None:
    changed = open_run(folder).recipe.updated(change)
    (folder / "recipe.toml").write_text(recipes.to_toml(changed), encoding="utf-8")
    with pytest.raises(ValueError, match=r"Expected the seed and the \[data\], \[objective\] and \[train\] of"):
        open_run(folder)
    with pytest.raises(ValueError, match=r"Expected the seed and the \[data\]"):
        resume(folder, progress=False)


def test_what_a_recipe_may_say_otherwise_is_no_change(folder: Path) -> None:
    free = {"evaluate.samples": 3, "train.checkpoint_seconds": 9, "data.source": "elsewhere", "name": "x", "about": "y"}
    changed = open_run(folder).recipe.updated(free)
    (folder / "recipe.toml").write_text(recipes.to_toml(changed), encoding="utf-8")
    assert open_run(folder).recipe.name == "x"
