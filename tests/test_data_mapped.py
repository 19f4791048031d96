"""Files that memory cannot hold: which pages are asked for, when, and that the numbers stay."""

from __future__ import annotations

import itertools
import mmap
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training import QUIET, data, model

from tightbound.data import load, mapped
from tightbound.data.mapped import Ahead, memory, runs
from tightbound.training import fit

PAGE = mmap.PAGESIZE


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", data().numpy())
    return tmp_path / "x.npy"


@pytest.fixture
def scarce(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "memory", lambda: 0)


def test_a_file_that_fits_is_left_to_the_system(file: Path) -> None:
    assert load(file).train.ask is None


@pytest.mark.usefixtures("scarce")
def test_only_rows_in_one_piece_of_a_mapped_file_are_asked_for(tmp_path: Path, file: Path) -> None:
    assert isinstance(load(file).train.ask, Ahead)
    np.save(tmp_path / "turned.npy", np.asfortranarray(data().numpy()))
    assert load(tmp_path / "turned.npy").train.ask is None
    assert mapped.ahead(np.zeros((4, 3))) is None


@given(st.lists(st.integers(0, 500), max_size=30), st.integers(1, 3 * PAGE), st.integers(0, PAGE))
def test_every_byte_of_every_row_is_asked_for_once_and_little_else(rows: list[int], size: int, first: int) -> None:
    starts = first + np.sort(np.array(rows, dtype=np.int64)) * size
    found = runs(starts, size)
    asked = [page for start, stop in found for page in range(start // PAGE, stop // PAGE)]
    wanted = {page for s in starts.tolist() for page in range(s // PAGE, (s + size - 1) // PAGE + 1)}
    assert sorted(asked) == sorted(wanted)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(found))


@pytest.mark.usefixtures("scarce")
def test_a_training_asks_for_the_next_batch_and_goes_as_ever(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []
    ask = Ahead.__call__

    def seen(self: Ahead, rows: torch.Tensor) -> None:
        asked.append(tuple(rows.tolist()))
        ask(self, rows)

    monkeypatch.setattr(Ahead, "__call__", seen)
    train = load(file).train
    found = fit(model(), train, epochs=2, **QUIET)
    assert found.metrics == fit(model(), train.replace(ask=None), epochs=2, **QUIET).metrics
    batches = [rows for rows in asked if len(rows) == QUIET["batch_size"]]
    ahead, taken = batches[-1], batches[-2]  # the last step's batch, and the one after it
    assert batches.count(taken) == 2
    assert batches.count(ahead) == 1


def test_memory_is_what_the_control_group_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "CGROUPS", tmp_path)
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    monkeypatch.setattr(mapped, "OWN", tmp_path / "own")
    whole = memory()
    assert whole > 2**20
    (tmp_path / "own").write_text("12:memory:/elsewhere\n0::/outer/inner\n")
    assert memory() == whole
    (inner / "memory.max").write_text("max\n")
    assert memory() == whole
    (tmp_path / "outer" / "memory.max").write_text("1048576\n")
    assert memory() == 2**20
