"""Paths that the system does not take, names that are no UTF-8: refused in one sentence, or they work."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import SMALL, copied, refused, trained

import tightbound as tb
from tightbound.cli.verbs import main
from tightbound.files import write_atomically
from tightbound.runs.folder import FILES

LONG = 300 * "x"
LOOPS = "Expected a path that leads somewhere; got .*, a link that leads to itself. Remove the link."


def loop(path: Path) -> Path:
    path.unlink(missing_ok=True)
    path.symlink_to(path)
    return path


@pytest.mark.parametrize(("name", "got"), [(LONG, "one whose name is too long: x"), ("a\0b", r"one with it: a\\0b")])
@pytest.mark.parametrize(
    "call",
    [
        tb.open_run, tb.load_model, tb.data.load, tb.train,
        lambda name: tb.train("digits", out=name, progress=False),
        lambda name: tb.open_run(trained()).model().save(name),
    ],
)  # fmt: skip
def test_python_refuses_a_path_that_the_system_does_not_take(call: Callable[[str], object], name: str, got: str):
    with pytest.raises(ValueError, match=f"Expected a path .*; got {got}"):
        call(name)


@pytest.mark.parametrize(
    "words",
    [
        ("report", LONG), ("train", f"{LONG}.toml"), ("recipes", LONG), ("train", "--resume", LONG),
        ("sweep", "digits", "--over", f"name={LONG}", "--out", "sweep"),
    ],
)  # fmt: skip
def test_a_name_that_is_too_long_is_refused_and_leaves_nothing(words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "Expected a path that the system takes; got one whose name is too long" in refused(capsys, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in FILES if "/" not in str(name)])
def test_a_file_of_a_run_that_is_a_loop(name: str, tmp_path: Path) -> None:
    run = copied(tmp_path)
    if (run / name).is_dir():
        (run / name).rename(tmp_path / "elsewhere")
    loop(run / name)
    with pytest.raises(ValueError, match=LOOPS):
        tb.open_run(run)


def test_loops_in_the_command_line(capsys, tmp_path):
    path = loop(tmp_path / "loop")
    assert "a link that leads to itself. Remove the link." in refused(capsys, "report", path)
    assert "a link that leads to itself. Remove the link." in refused(
        capsys, "sweep", "digits", "--over", "seed=1,2", "--out", path
    )
    assert "a link that leads to itself. Remove the link." in refused(capsys, "lab", "bounds", "--out", path)


@pytest.mark.parametrize("what", ["file", "pipe", "file/below"])
def test_a_model_is_saved_into_a_folder_only(what: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"Expected a folder for a model; got .*: .*. Choose another."):
        tb.open_run(trained()).model().save(tmp_path / what)


def test_what_is_no_file_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"which is a folder\. Remove it, or choose another path."):
        write_atomically(tmp_path, Path.touch)


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder whose name is no UTF-8."""
    folder = tmp_path / os.fsdecode(b"\xfe-here")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    return folder


def test_a_run_and_a_model_in_a_folder_that_is_no_utf8(odd: Path, capsys, monkeypatch) -> None:
    run = tb.open_run(copied(odd))
    model = run.model()
    assert run.per_observation()
    model.save(odd / "model")
    x = run.data().test.eval_batch(0, 3)
    assert torch.equal(tb.load_model(odd / "model").embed(x), model.embed(x))
    monkeypatch.chdir(odd)
    for words in (
        ["train", "digits", *SMALL, "--quiet", "--out", "new"], ["train", "--resume", "new", "--quiet"],
        ["report", "new"], ["sample", "new", "--out", "s.png"],
        ["sweep", "digits", *SMALL, "--quiet", "--over", "seed=1,2", "--out", "sweep"],
    ):  # fmt: skip
        assert main(words) == 0, capsys.readouterr().err


def test_data_whose_name_is_no_utf8_are_refused_with_nothing_left_behind(odd: Path, tmp_path: Path) -> None:
    import numpy as np

    np.save(odd / "x.npy", np.random.default_rng(0).normal(size=(50, 3)))
    with pytest.raises(ValueError, match=r"Expected names in UTF-8; got '.*\\xfe-here/x.npy'. Rename the file"):
        tb.train("auto", data=str(odd / "x.npy"), out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
