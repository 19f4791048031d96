"""``tightbound data``: where data lie, what they hold, what was left out, and what follows from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_data_mnist import files, put
from tiny import refused, said

from tightbound import data
from tightbound.cli.there import NAMES
from tightbound.data import sources
from tightbound.runs.build import build
from tightbound.runs.described import described
from tightbound.runs.recipe import Recipe

__all__ = ["files"]  # a fixture


def told(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[str, dict[str, Any]]:
    """The same in words and as JSON."""
    code, out, error = said(capsys, "data", *words)
    assert (code, error) == (0, "")
    return out, json.loads(said(capsys, "data", *words, "--json")[1])


def test_every_name_that_data_have_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(NAMES) == list(sources._NAMES)
    out, found = told(capsys)
    assert [line.split()[0] for line in out.splitlines() if line.split()[0] in NAMES] == list(NAMES)
    assert "Or a path" in out
    assert {each["name"]: each["about"] for each in found["data"]} == NAMES


@pytest.mark.parametrize(
    ("name", "split"), [("digits", "random"), ("sprites", "random"), ("sprites-held-out", "chosen")]
)
def test_a_name_says_what_its_data_are(name: str, split: str) -> None:
    found, loaded = described(name), data.load(name)
    table = found.to_json()
    assert (table["train"], table["test"]) == (len(loaded.train), len(loaded.test))
    assert tuple(table["shape"]) == tuple(loaded.train.shape)
    assert table["split"] == split
    assert table["where"] == ([] if name.startswith("sprites") else list(data.places(name)))
    assert all(Path(place).is_file() for place in table["where"])


def test_mnist_lies_where_its_verified_files_do(
    files: dict[str, bytes], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "here", files)
    monkeypatch.setenv("TIGHTBOUND_DATA", str(tmp_path / "here"))
    out, found = told(capsys, "mnist")
    assert found["where"] == [str(tmp_path / "here")]
    assert (found["train"], found["test"], found["split"]) == (6, 3, "own")
    assert "each file's checksum is right" in " ".join(out.split())
    (tmp_path / "here" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"broken")
    error = said(capsys, "data", "mnist")
    assert (error[0], error[1]) == (2, "")


def test_a_folder_of_images_with_what_was_left_out(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for index in range(30):
        folder = tmp_path / "photos" / ("cats", "dogs")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20, 18, 3), dtype=np.uint8)).save(folder / f"{index}.png")
    (tmp_path / "photos" / "cats" / "notes.txt").write_text("not an image")
    out, found = told(capsys, tmp_path / "photos", "--size", "16")
    assert found["where"] == [str((tmp_path / "photos").resolve())]
    assert (found["train"], found["test"], found["shape"], found["kind"]) == (27, 3, [3, 16, 16], "grey")
    assert found["labels"] == {"classes": 2, "names": ["cats", "dogs"], "known": 27}
    assert (found["likelihood"], found["levels"]) == ("discretized-logistic", 256)
    assert any("left out" in note and ".txt" in note for note in found["notes"])
    for words in (
        "27 observations of 3×16×16", "3, held out at random", "cats, dogs", "Note: left out",
        f"the likelihood discretized-logistic, since {found['because']}",
    ):  # fmt: skip
        assert words in " ".join(out.split())
    assert "27" in told(capsys, tmp_path / "photos", "--size", "16", "--test-fraction", "0.1")[0]
    assert told(capsys, tmp_path / "photos", "--size", "16", "--test-fraction", "0.5")[1]["test"] == 15


@pytest.mark.parametrize("kind", ["levels", "counts", "real", "binary", "wide"])
def test_it_says_what_a_training_would_take(kind: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = {
        "levels": random.integers(0, 256, (60, 1, 40, 40), dtype=np.uint8),
        "counts": random.poisson(3.0, (60, 5)).astype(np.int64),
        "real": random.normal(size=(60, 5)),
        "binary": random.integers(0, 2, (60, 5)).astype(np.uint8),
        "wide": random.normal(size=(60, 5)) + np.array([1e9, 0, 0, 0, 0]),
    }[kind]
    np.save(tmp_path / "x.npy", values)
    found = described(tmp_path / "x.npy")
    small = {"model.hidden": [4], "model.channels": 4, "data.source": str(tmp_path / "x.npy")}
    built = build(Recipe().updated(small))
    model = built.recipe.model
    assert (found.likelihood, found.because, found.network) == (model.likelihood, built.config.why, model.network)
    assert set(found.notes) == set(built.notes)
    assert kind != "wide" or any("float64" in note for note in found.notes)


def test_labels_factors_columns_and_absent_values() -> None:
    x = torch.arange(40.0).view(20, 2) ** 1.1
    mask = torch.ones(20, 2, dtype=torch.bool)
    mask[:10, 0] = False
    part = data.Observations(
        x, labels=torch.arange(20) % 3 - 1, factors=x, factor_names=("a", "b"), column_names=("one", "two"), mask=mask
    )
    made = data.Data("mine", part, part)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tightbound.runs.described.load", lambda *_, **__: made)
        found = described("mine")
    table = found.to_json()
    assert table["absent"] == 0.25
    assert table["labels"] == {"classes": 2, "names": None, "known": 13}
    assert table["factors"] == {"count": 2, "names": ["a", "b"]}
    assert table["columns"] == ["one", "two"]
    for words in ("25.00% of the values", "a, b", "one, two"):
        assert words in str(found)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("mnits", "got 'mnits'. Did you mean \"mnist\"?"),
        ("nowhere/x.npy", "got nowhere/x.npy, where there is nothing"),
        ("digits --size 3", "Expected a size for sprites and folders of images only; got size=3 for digits."),
        ("digits --test-fraction 2", "between 0 and 1"),
        ("BAD", "NaN"),
        ("digits --size 2.5", "Expected a whole number for --size; got '2.5'."),
    ],
)
def test_what_a_training_would_refuse_is_refused(
    words: str, error: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    np.save(tmp_path / "bad.npy", np.full((20, 2), np.nan))
    assert error in refused(capsys, "data", *words.replace("BAD", str(tmp_path / "bad.npy")).split())
