"""A cell that runs twice: the former run makes way, and nothing else ever does."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import TINY
from training import QUIET, before_each_step, data, model, written

import tightbound as tb
from tightbound.ownership import LOCK, owned
from tightbound.runs.folder import FIGURES, FILES, REPORT
from tightbound.runs.starting import train
from tightbound.training.checkpoint import STATE
from tightbound.training.replacing import FOLDERS, NAMED, WRITTEN, holds_run

SETTINGS: dict[str, Any] = {**QUIET, "epochs": 1}


def fit(folder: Path, *, seed: int = 0, given: Any = None, **changes: Any) -> tb.training.TrainResult:
    return tb.fit(model(), data() if given is None else given, out=folder, seed=seed, **{**SETTINGS, **changes})


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_second_run_is_as_if_there_had_been_none(tmp_path: Path) -> None:
    fit(tmp_path / "alone", seed=1)
    fit(tmp_path / "run", overwrite=True)  # nothing there yet
    run = tb.open_run(tmp_path / "run")
    (run.path / REPORT).write_text("old", encoding="utf-8")
    (run.path / "evaluation.json").write_text("{}", encoding="utf-8")
    (run.path / FIGURES).mkdir()
    (run.path / FIGURES / "samples.png").write_bytes(b"old")
    fit(tmp_path / "run", seed=1, overwrite=True)
    assert written(tmp_path / "run") == written(tmp_path / "alone")
    assert everything(tmp_path / "run").keys() == everything(tmp_path / "alone").keys()
    assert tb.open_run(tmp_path / "run").recipe.seed == 1


def test_without_it_the_refusal_names_both_ways(tmp_path: Path) -> None:
    fit(tmp_path / "run")
    before = everything(tmp_path / "run")
    said = "overwrite=True replaces that run, and resume=True goes on with it; or choose another out="
    with pytest.raises(ValueError, match=f"Expected a folder without a run in it; got .*{said}"):
        fit(tmp_path / "run")
    assert everything(tmp_path / "run") == before


def test_a_run_whose_checkpoint_was_removed_is_not_written_over_either(tmp_path: Path) -> None:
    fit(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / STATE.parent)
    for resume in (False, "auto"):
        with pytest.raises(ValueError, match="Expected a folder without a run in it"):
            fit(tmp_path / "run", resume=resume)
    fit(tmp_path / "run", overwrite=True)


def test_a_saved_model_is_not_written_over(tmp_path: Path) -> None:
    model().save(tmp_path / "model")
    before = everything(tmp_path / "model")
    with pytest.raises(ValueError, match=r"Expected a folder without a model in it; got .* Choose another out="):
        fit(tmp_path / "model")
    with pytest.raises(
        ValueError, match=r"Expected a run to replace .*; got .*, which is none and holds digests\.json"
    ):
        fit(tmp_path / "model", overwrite=True)
    assert {name: kept for name, kept in everything(tmp_path / "model").items() if name != LOCK} == before


def test_a_recipe_s_run_is_replaced_too(tmp_path: Path) -> None:
    train(TINY, tmp_path / "run", progress=False)
    fit(tmp_path / "run", overwrite=True)
    assert not (tmp_path / "run" / "recipe.toml").exists()
    assert tb.open_run(tmp_path / "run").model().embed(data()).shape == (100, 2)


def notes(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine", encoding="utf-8")


def pictures(folder: Path) -> None:
    (folder / FIGURES).mkdir()
    (folder / FIGURES / "paper.tex").write_text("mine", encoding="utf-8")


def folders(folder: Path) -> None:
    (folder / "model.json").unlink()
    (folder / "model.json").mkdir()


@pytest.mark.parametrize(
    ("more", "name"),
    [(notes, "notes.txt"), (pictures, "paper.tex"), (folders, "model.json")],
    ids=["notes", "pictures", "folders"],
)
def test_a_run_with_more_in_its_folder_stays(more: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    fit(tmp_path / "run")
    more(tmp_path / "run")
    before = everything(tmp_path / "run")
    with pytest.raises(
        ValueError, match=rf"Expected a run alone to replace .*; got .*, which holds {name} as well\. Move"
    ):
        fit(tmp_path / "run", overwrite=True)
    assert everything(tmp_path / "run") == before


@pytest.mark.parametrize(
    "names", [["notes.txt"], ["metrics.jsonl"], ["a", "b", "c", "d"], ["model.safetensors"]], ids=str
)
def test_what_is_no_run_stays(names: list[str], tmp_path: Path) -> None:
    for name in names:
        (tmp_path / name).write_text("mine", encoding="utf-8")
    more = " and 1 more" if len(names) > 3 else ""
    with pytest.raises(ValueError, match=rf"Expected a run to replace .*, which is none and holds .*{more}\. Choose"):
        fit(tmp_path, overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} - {LOCK} == set(names)


def test_a_folder_in_use_stays(tmp_path: Path) -> None:
    fit(tmp_path / "run")
    before, failed = everything(tmp_path / "run"), list[BaseException]()

    def work() -> None:
        try:
            fit(tmp_path / "run", overwrite=True)
        except ValueError as error:
            failed.append(error)

    with owned(tmp_path / "run"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert "Expected a folder in which nobody is at work" in str(failed[0])
    assert everything(tmp_path / "run").keys() == before.keys()
    assert written(tmp_path / "run") == {name: before[name] for name in ("metrics.jsonl", "model.safetensors")}


@pytest.mark.parametrize(
    "wrong",
    [
        {"given": torch.zeros(9, 4)},
        {"given": torch.full((30, 3), float("nan"))},
        {"given": tb.data.Data("x", tb.data.observations(data()), tb.data.observations(data() * float("nan")))},
        {"validation": 1000},
        {"epochs": -1},
    ],
    ids=str,
)
def test_a_new_run_that_is_refused_leaves_the_former_one(wrong: dict[str, Any], tmp_path: Path) -> None:
    fit(tmp_path / "run")
    before = everything(tmp_path / "run")
    with pytest.raises(ValueError, match="Expected"):
        fit(tmp_path / "run", overwrite=True, **wrong)
    assert everything(tmp_path / "run") == before


def test_links_are_removed_and_what_they_point_to_stays(tmp_path: Path) -> None:
    fit(tmp_path / "run")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "samples.png").write_bytes(b"mine")
    (tmp_path / "run" / "metrics.jsonl").rename(outside / "metrics.jsonl")
    (tmp_path / "run" / "metrics.jsonl").symlink_to(outside / "metrics.jsonl")
    (tmp_path / "run" / FIGURES).symlink_to(outside)
    before = everything(outside)
    with pytest.raises(ValueError, match="which holds figures as well"):
        fit(tmp_path / "run", overwrite=True)
    (tmp_path / "run" / FIGURES).unlink()
    fit(tmp_path / "run", overwrite=True)
    assert everything(outside) == before


def test_one_that_is_killed_while_it_clears_can_be_replaced_again(tmp_path: Path) -> None:
    fit(tmp_path / "run")
    for path in sorted((tmp_path / "run").rglob("*"), key=lambda path: path.name in NAMED):
        if path.is_dir():
            continue
        path.unlink()
        copy = Path(shutil.copytree(tmp_path / "run", tmp_path / "copy"))
        if any(item.name != LOCK for item in copy.rglob("*") if item.is_file()):
            assert holds_run(copy)
        fit(copy, overwrite=True)
        shutil.rmtree(copy)


def test_a_run_that_was_stopped_early_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(step: int) -> None:
        raise RuntimeError("out of luck")

    with monkeypatch.context() as patch:
        before_each_step(patch, fail)
        with pytest.raises(RuntimeError, match="out of luck"):
            fit(tmp_path / "run")
    fit(tmp_path / "run", overwrite=True)
    assert tb.open_run(tmp_path / "run").metrics()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"overwrite": True, "resume": True},
            r"Expected overwrite=True or resume=True; got both\. Go on with a run, or",
        ),
        ({"overwrite": True, "resume": "auto"}, "Expected overwrite=True or resume='auto'; got both"),
    ],
)
def test_both_at_once_are_refused(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        fit(tmp_path / "run", **given)


def test_without_a_folder_there_is_nothing_to_replace() -> None:
    with pytest.raises(ValueError, match="Expected out= with overwrite=True: the folder of the run to replace"):
        tb.fit(model(), data(), overwrite=True, **SETTINGS)


def test_every_file_of_a_run_is_known() -> None:
    known = {*NAMED, *WRITTEN, *FOLDERS, LOCK}
    assert {name.split("/")[0] for name in map(str, FILES)} <= known
