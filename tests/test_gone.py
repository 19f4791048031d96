"""What disappears or changes under a run is noticed, and numbers come out before they are kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import TINY
from training import before_each_step

import tightbound as tb
from tightbound.cli import commands
from tightbound.cli.verbs import main
from tightbound.data.mapped import watched
from tightbound.plots._cells import _lines, _scale
from tightbound.runs import recipe as recipes
from tightbound.runs.run import open_run
from tightbound.runs.starting import train
from tightbound.training.journal import FolderGoneError


def test_a_folder_that_is_removed_ends_the_training_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(step: int) -> None:
        if step == 3:
            shutil.rmtree(tmp_path / "run")

    with monkeypatch.context() as patch:
        before_each_step(patch, gone)
        with pytest.raises(FolderGoneError, match=r"Expected .*metrics\.jsonl to stay where it is; got nothing there"):
            train(TINY.updated({"train.epochs": 2}), tmp_path / "run", progress=False)
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("how", ["cut", "changed", "removed", "another"])
def test_a_mapped_file_that_changes_is_noticed(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=(600, 5)))
    found = watched(str(path))
    assert found is not None
    found.require_same()

    def meddle(step: int) -> None:
        if step == 3 and how == "cut":
            with path.open("rb+") as file:
                file.truncate(path.stat().st_size - 8)  # within its last page
        elif step == 3 and how == "removed":
            path.unlink()
        elif step == 3:
            np.save(path, np.random.default_rng(1).normal(size=(600, 5) if how == "changed" else (600, 6)))

    recipe = TINY.updated({"model.likelihood": "gaussian", "data.source": str(path), "train.epochs": 3})
    with monkeypatch.context() as patch:
        before_each_step(patch, meddle)
        with pytest.raises(ValueError, match=r"Expected .*x\.npy to stay as it is while it is read from; got a file"):
            train(recipe, tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match="Put it back"):
        found.require_same()


def test_what_is_not_mapped_is_not_watched(tmp_path: Path) -> None:
    assert watched("digits") is None
    assert watched(str(tmp_path / "missing.npy")) is None


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(TINY, folder, progress=False)
    return folder


def test_numbers_are_printed_where_they_cannot_be_kept(
    evaluated: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tightbound.runs.run.write_json", refuse)
    assert main(["evaluate", str(evaluated), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["observations"] == 180
    assert "Not kept in" in err
    assert "Read-only file system" in err
    assert main(["gaps", str(evaluated), "--observations", "3"]) == 0
    assert "Not kept in" in capsys.readouterr().err


def test_a_report_says_what_was_refused(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(evaluated, tmp_path / "run"))

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("Expected this; got that.")

    monkeypatch.setattr(commands, "measure", refuse)
    monkeypatch.setattr("tightbound.reports.figures._maps", refuse)
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "The evaluation was refused. Expected this; got that." in page
    assert "No picture of the map of the latent space: Expected this; got that." in page
    assert page.count(">Left out</h2>") == 1
    capsys.readouterr()
    assert (
        main(["train", "digits", "--train.epochs", "0.1", "--model.hidden", "4", "--out", str(tmp_path / "new")]) == 1
    )
    assert (
        "is trained, but not to be evaluated. Expected this; got that. Its report says so:" in capsys.readouterr().err
    )
    assert (tmp_path / "new" / "report.html").is_file()


def test_every_verb_finds_data_that_have_moved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(90, 5)))
    recipe = TINY.updated({"model.likelihood": "gaussian", "data.source": str(tmp_path / "x.npy"), "train.epochs": 1})
    train(recipe, tmp_path / "run", progress=False)
    (tmp_path / "x.npy").rename(tmp_path / "y.npy")
    few, out = ["--observations", "3"], "--out"
    verbs = (
        ["certify", *few, "--temperatures", "3"],
        ["gaps", *few],
        ["information"],
        ["check", *few],
        ["disentangle"],
        ["reconstruct", out, str(tmp_path / "a.npy")],
        ["traverse", out, str(tmp_path / "b.png")],
        ["interpolate", "--rows", "2", out, str(tmp_path / "c.png")],
        ["sample", out, str(tmp_path / "d.npy")],
    )
    for verb, *more in verbs:
        run = str(tmp_path / "run")
        if verb != "sample":
            assert main([verb, run, *more]) == 2, verb
            assert "where there is nothing" in capsys.readouterr().err
        assert main([verb, run, *more, "--data", str(tmp_path / "y.npy")]) == 0, capsys.readouterr().err


def test_a_path_of_windows_says_how_to_write_it() -> None:
    with pytest.raises(ValueError, match=r"goes between single quotes, 'C:\\photos', or with /: \"C:/photos\""):
        recipes.from_toml('data.source = "C:\\Users\\me"')
    with pytest.raises(ValueError, match="got something else") as error:
        recipes.from_toml("data.source = C:/Users")
    assert "single quotes" not in str(error.value)
    assert recipes.from_toml("data.source = 'C:\\Users\\me'").data.source == "C:\\Users\\me"


@pytest.mark.parametrize(("shape", "seen"), [((4, 50, 3), (4, 3, 50)), ((4, 3, 50), (4, 3, 50)), ((4, 50), (4, 1, 50))])
def test_series_go_along_their_longer_axis(shape: tuple[int, ...], seen: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape)).reshape(shape)
    assert _lines(x).shape == seen
    if shape == (4, 50, 3):
        np.testing.assert_array_equal(_lines(x)[0, 1], x[0, :, 1])
    assert tb.plots.images(torch.from_numpy(x.astype("f4"))).axes
    assert open_run is not None


def test_lines_as_large_as_float32_goes_are_scaled_without_a_warning() -> None:
    lines = np.array([[0, 0, 0], [3e37, 2e37, 1e37]], dtype=np.float32)
    assert "bottom" in _scale(lines, None)[2]
    assert "each between its own" in _scale(lines * np.array([1, 1e-4, 1e-4], np.float32), None)[2]
