"""A run is a folder: what is in it, and what happens to one from a stranger."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from tightbound import recipe as recipes
from tightbound.evaluate import evidence
from tightbound.recipe import Recipe
from tightbound.run import Run, default_folder, environment, open_run, resume, train
from tightbound.train.checkpoint import load_state

TINY = Recipe(name="tiny").updated(
    {
        "model.latent_dim": 2, "model.hidden": [8], "model.likelihood": "bernoulli", "train.epochs": 0.4,
        "train.log_every": 2, "evaluate.samples": 2,
    }
)  # fmt: skip


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


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    change(values)
    path.write_text(json.dumps(values), encoding="utf-8")


def use(folder: Path) -> None:
    """Everything that opening a run and going on with it reads."""
    run = open_run(folder)
    run.metrics()
    run.environment()
    run.evaluation()
    run.per_observation()
    run.model()
    resume(folder, progress=False)


# What a run holds


def test_the_folder_holds_what_it_should(folder: Path) -> None:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "recipe.toml", "config.json", "environment.json", "metrics.jsonl", "timing.jsonl", "model.safetensors",
        "checkpoint/state.pt",
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
    run, _ = train(TINY, tmp_path / "run", progress=False)
    x = run.data().test.fixed()
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
    found = evidence(run.model(), run.data().test.subset(torch.arange(20)), samples=2)
    run.save_evaluation(found)
    again = open_run(folder)
    assert again.evaluation() == json.loads(json.dumps(found.to_json()))
    assert all(again.per_observation()[name].equal(value) for name, value in found.per_observation.items())


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
    run, _ = train(grey, tmp_path / "run", progress=False)
    np.save(tmp_path / "other.npy", np.arange(640, dtype=np.uint8).reshape(10, 1, 8, 8))
    with pytest.raises(ValueError, match=r"Expected 17 levels, as this run's model has seen; got 256"):
        run.data(str(tmp_path / "other.npy"))


def test_a_size_for_folders_does_not_stand_in_the_way_of_a_file(folder: Path, tmp_path: Path) -> None:
    run = open_run(folder)
    run = Run(run.path, run.recipe.updated({"data.size": 8}), run.config)
    np.save(tmp_path / "other.npy", np.arange(640, dtype=np.uint8).reshape(10, 1, 8, 8))
    assert len(run.data(str(tmp_path / "other.npy")).train) == 9


# Starting and going on


def test_a_run_wants_a_new_folder(folder: Path, tmp_path: Path) -> None:
    for path in (folder, folder / "recipe.toml"):
        with pytest.raises(ValueError, match=r"Expected a new folder; got .* Choose another --out"):
            train(TINY, path, progress=False)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / ".recipe.toml.tmp").touch()  # of a start that was killed at once
    train(TINY, tmp_path / "new", progress=False)
    assert not (tmp_path / "new" / ".recipe.toml.tmp").exists()


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
    _, first = resume(folder, progress=False)
    _, second = resume(folder, progress=False)
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


def test_a_changed_recipe_is_refused(folder: Path) -> None:
    changed = open_run(folder).recipe.updated({"train.epochs": 9, "objective.beta": 2})
    (folder / "recipe.toml").write_text(recipes.to_toml(changed), encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"got another settings, objective. A resumed run repeats the uninterrupted one"
    ):
        resume(folder, progress=False)


# A stranger's folder


class Payload:
    """What a pickle runs when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_the_payload_would_work(tmp_path: Path) -> None:
    torch.save(Payload(tmp_path / "marker"), tmp_path / "state.pt")
    torch.load(tmp_path / "state.pt", weights_only=False)
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "checkpoint/state.pt", "per-observation.safetensors"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_is_refused_and_never_run(folder: Path, tmp_path: Path, name: str, legacy: bool) -> None:
    marker = tmp_path / "marker"
    state = {**load_state(folder), "number": Payload(marker)}
    torch.save(state, folder / name, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(
        ValueError, match=r"Expected a .*; got a damaged or foreign file at .*Nothing in it was run"
    ) as e:
        use(folder)
    assert not marker.exists()
    assert "weights_only" not in str(e.value)  # torch's own advice is how to run it after all


@pytest.mark.parametrize("name", ["model.safetensors", "checkpoint/state.pt", "per-observation.safetensors"])
@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"\xff" * 64, b"{}", b"\x02\0\0\0\0\0\0\0{}", b"PK\x03\x04"])
def test_damaged_files_are_refused(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    if (name, content) == ("per-observation.safetensors", b"\x02\0\0\0\0\0\0\0{}"):
        assert open_run(folder).per_observation() == {}  # a whole file of nothing
        return
    with pytest.raises(ValueError, match=r"Expected .*; got "):
        use(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "checkpoint/state.pt"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_truncated_files_are_refused(folder: Path, name: str, share: float) -> None:
    os.truncate(folder / name, int((folder / name).stat().st_size * share))
    with pytest.raises(ValueError, match=r"got a damaged or foreign file at .*Nothing in it was run"):
        use(folder)


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"Expected weights at .*got no such file. .* resume it if it was killed"):
        open_run(folder).model()


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights.popitem(),
        lambda weights: weights.update(more=torch.zeros(3)),
        lambda weights: weights.update({name: value[..., None] for name, value in weights.items()}),
        lambda weights: weights.update({name: value.double() for name, value in weights.items()}),
        lambda weights: weights.clear(),
    ],
    ids=["missing", "extra", "shape", "dtype", "nothing"],
)
def test_weights_of_another_model_are_refused(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"Expected the weights of the recipe's model .* do not belong together"):
        open_run(folder).model()


def test_weights_of_another_recipe_are_refused(folder: Path, tmp_path: Path) -> None:
    train(TINY.updated({"model.hidden": [9]}), tmp_path / "other", progress=False)
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    with pytest.raises(ValueError, match=r"Expected the weights of the recipe's model .* do not belong together"):
        open_run(folder).model()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('likelihood = "bernoulli"', 'likelihood = "os.system"'),
        ('likelihood = "bernoulli"', 'likelihood = "auto"'),
        ('network = "mlp"', 'network = "torch.nn.Linear"'),
        ('network = "mlp"', 'network = "conv3d"'),
        ('network = "mlp"', 'network = "auto"'),
        ('prior = "standard-normal"', 'prior = "__import__"'),
        ('posterior = "diagonal-normal"', 'posterior = "builtins.eval"'),
        ('activation = "silu"', 'activation = "os.system"'),
        ('activation = "silu"', 'activation = "__class__"'),
        ('name = "elbo"', 'name = "subprocess.run"'),
        ("latent_dim = 2", "latent_dim = -2"),
        ("latent_dim = 2", "latent_dim = 1000000000000"),
        ("    8,", "    1000000000000000000000,"),
        ("    8,", "    1000000000,\n    1000000000,"),
        ('network = "mlp"', 'network = "conv"'),
        ("channels = 32", 'channels = "many"'),
        ("seed = 0", "seed = 1\nunknown = 3"),
        ("seed = 0", "seed = "),
    ],
)
def test_a_recipe_of_anything_unknown_is_refused(folder: Path, old: str, new: str) -> None:
    text = (folder / "recipe.toml").read_text(encoding="utf-8")
    assert old in text
    (folder / "recipe.toml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=r"Expected .*; got |Expected TOML in"):
        open_run(folder).model()


@pytest.mark.parametrize("content", [b"\xff\xfe\0", b"<html>", b"\0", b"seed = " + b"[" * 100_000])
def test_a_recipe_that_is_no_toml_is_refused(folder: Path, content: bytes) -> None:
    (folder / "recipe.toml").write_bytes(content)
    with pytest.raises(ValueError, match=r"Expected TOML in .*recipe.toml; got "):
        open_run(folder)


class LargestTensor(TorchDispatchMode):
    """How many elements the largest tensor has that takes memory."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor) and not tensor.is_meta:
                self.largest = max(self.largest, tensor.numel())
        return out


def test_the_largest_tensor_is_seen(folder: Path) -> None:
    with LargestTensor() as seen:
        open_run(folder).model()
    assert seen.largest >= 64 * 8


@pytest.mark.parametrize(
    "shape",
    [
        [2**12, 2**12], [2**20, 2**20], [2**62, 2**62], [10**30], [1] * 1000, [0], [-8, 8], [1, 8, 9], [63], [8.0, 8.0],
        ["8"], [True], [], 8, None, "8x8", [[8]],
    ],
    ids=str,
)  # fmt: skip
def test_a_shape_of_any_size_is_refused_without_taking_memory(folder: Path, shape: object) -> None:
    edited(folder / "config.json", lambda values: values.update(shape=shape))
    with LargestTensor() as seen, pytest.raises(ValueError, match=r"Expected .*; got "):
        open_run(folder).model()
    assert seen.largest < 1000


@pytest.mark.parametrize("levels", [-1, 10**9, 2.5, "3", None, True])
def test_impossible_levels_are_refused(folder: Path, levels: object) -> None:
    edited(folder / "config.json", lambda values: values.update(levels=levels))
    with pytest.raises(ValueError, match=r"Expected a configuration of format 1, a shape .* at most 65536 levels"):
        open_run(folder)


@pytest.mark.parametrize("name", ["config.json", "environment.json", "evaluation.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"{", b"\xff", b"[" * 100_000, b'{"a": 1}{'])
def test_files_that_are_no_json_are_refused(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"Expected (a )?JSON (object )?in .*{name}; got"):
        use(folder)


def test_a_configuration_of_another_format_is_refused(folder: Path) -> None:
    edited(folder / "config.json", lambda values: values.update(format=99))
    with pytest.raises(ValueError, match="Expected a configuration of format 1"):
        open_run(folder)


@pytest.mark.parametrize("line", [b"[]", b"{", b"\xff", b"[" * 100_000])
def test_metrics_that_are_no_json_are_refused(folder: Path, line: bytes) -> None:
    whole = (folder / "metrics.jsonl").read_bytes()
    (folder / "metrics.jsonl").write_bytes(line + b"\n" + whole)
    with pytest.raises(ValueError, match=r"Expected one JSON object a line in .*metrics.jsonl; got .* in line 1"):
        open_run(folder).metrics()


def test_a_line_under_way_is_left_out(folder: Path) -> None:
    lines = open_run(folder).metrics()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    assert open_run(folder).metrics() == lines


@pytest.mark.parametrize(
    "name",
    [
        "recipe.toml", "config.json", "environment.json", "evaluation.json", "metrics.jsonl", "timing.jsonl",
        "model.safetensors", "checkpoint", "checkpoint/state.pt", "per-observation.safetensors", "figures",
        "report.html",
    ],
)  # fmt: skip
@pytest.mark.parametrize("relative", [False, True])
def test_links_out_of_the_folder_are_refused(folder: Path, tmp_path: Path, name: str, relative: bool) -> None:
    outside = tmp_path / "outside"
    if (folder / name).exists():
        (folder / name).rename(outside)
    elif name == "figures":
        outside.mkdir()
    else:
        outside.write_text("{}")
    (folder / name).symlink_to(Path(os.path.relpath(outside, (folder / name).parent)) if relative else outside)
    before = outside.read_bytes() if outside.is_file() else sorted(outside.iterdir())
    for verb in (open_run, resume):
        with pytest.raises(ValueError, match=r"Expected files inside the run folder; got .*, which leads out of it"):
            verb(folder)
    assert before == (outside.read_bytes() if outside.is_file() else sorted(outside.iterdir()))


def test_links_within_the_folder_and_to_it_are_fine(folder: Path, tmp_path: Path) -> None:
    (folder / "metrics.jsonl").rename(folder / "elsewhere.jsonl")
    (folder / "metrics.jsonl").symlink_to("elsewhere.jsonl")
    (tmp_path / "link").symlink_to(folder)
    use(tmp_path / "link")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("identity"), "got a damaged or foreign file at"),
        (lambda state: state.pop("learner"), "got a damaged or foreign file at"),
        (lambda state: state["learner"].clear(), "got a damaged or foreign file at"),
        (lambda state: state.update(journal=[0]), "got a damaged or foreign file at"),
        (lambda state: state.update(journal=["many", {}]), "got a damaged or foreign file at"),
        (
            lambda state: state.update(journal=[10**15, 0]),
            r"Expected at least 1000000000000000 bytes in .*metrics.jsonl",
        ),
        (lambda state: state.update(journal=[-5, 0]), r"Expected at least -5 bytes in .*metrics.jsonl"),
        (lambda state: state.update(format=2), "Expected a checkpoint of format 1; got another one"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    state = load_state(folder)
    change(state)
    torch.save(state, folder / "checkpoint" / "state.pt")
    with pytest.raises(ValueError, match=message):
        resume(folder, progress=False)
    assert (folder / "metrics.jsonl").stat().st_size > 0
