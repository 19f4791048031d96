"""What compiling costs: known where it was seen, guessed where not, and never a reason to fail."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from compiled import compiles
from training import QUIET, data, model

from tightbound import compilations
from tightbound.batch import Batch
from tightbound.compilations import AGAIN, COST, FILE, expected, remember
from tightbound.execution import Execution, step_pays
from tightbound.objectives import ELBO
from tightbound.settings import Training
from tightbound.training import fit
from tightbound.training.step import TrainStep


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(compilations, "_file", lambda: tmp_path / "cache" / FILE)
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


def test_the_cost_is_that_of_the_same_before_or_of_others_or_a_guess() -> None:
    assert expected("a") == COST
    remember("a", 10.0)
    assert expected("a") == AGAIN * 10.0  # its parts lie in the compiler's cache
    assert expected("b") == 10.0
    remember("a", 3.0)
    assert expected("a") == 3.0
    assert expected("b") == 10.0  # first compilations alone tell of first compilations
    remember("a", 4.0)
    assert expected("a") == 4.0
    remember("b", 30.0)
    remember("c", 20.0)
    assert expected("d") == 20.0


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(compilations, "MOST", 3)
    for name in "abcad":
        remember(name, 1.0)
    assert list(json.loads((folder / FILE).read_text())) == ["c", "a", "d"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"a": 1}', '{"a": []}', '{"a": ["x"]}', '{"a": [1e999]}', "\x00"]
)
def test_a_damaged_file_is_no_file(folder: Path, text: str) -> None:
    (folder / FILE).write_text(text)
    assert expected("a") == COST
    remember("a", 2.0)
    assert expected("a") == AGAIN * 2.0


def test_pipes_folders_and_missing_rights_are_no_reason_to_fail(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(folder / FILE)
    assert expected("a") == COST
    (folder / "no folder").touch()
    monkeypatch.setattr(compilations, "_file", lambda: folder / "no folder" / FILE)
    remember("a", 1.0)
    assert expected("a") == COST


def test_it_lies_with_what_the_compiler_keeps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    assert compilations._file() == tmp_path / FILE


def step(**settings: float) -> TrainStep:
    return TrainStep(model(), ELBO(), Training(**settings), steps=9, device=torch.device("cpu"))  # type: ignore[arg-type]


def test_what_a_compiled_step_depends_on_has_another_name() -> None:
    batch, plain = Batch(data(8)), step()
    assert step(epochs=3, learning_rate=0.5, log_every=7).compilation(batch) == plain.compilation(batch)
    assert step(clip=0.5).compilation(batch) != plain.compilation(batch)
    assert plain.compilation(Batch(data(9))) != plain.compilation(batch)
    before = plain.compilation(batch)
    plain.use(Execution(compiled=True))
    assert plain.compilation(batch) == before
    plain.use(Execution(threads=3))
    assert plain.compilation(batch) != before


def test_what_is_cheap_pays_sooner() -> None:
    assert not step_pays(steps=5000, parameters=1000, rows=10)
    assert step_pays(steps=5000, parameters=1000, rows=10, cost=7.0)
    assert not step_pays(steps=5000, parameters=1000, rows=10, cost=8.0)
    assert step_pays(steps=5000, parameters=1000, rows=10, cost=19.0, device="cuda")
    assert not step_pays(steps=5000, parameters=1000, rows=10, cost=1.0, device="mps")


@compiles
def test_a_training_remembers_what_its_compilation_took() -> None:
    fit(model(), data(), epochs=1, compile="always", **QUIET)
    first = compilations._read()
    assert [len(each) for each in first.values()] == [1]
    fit(model(), data(), epochs=2, compile="always", **QUIET)
    again = compilations._read()
    assert again.keys() == first.keys()
    assert [len(each) for each in again.values()] == [2]
