"""Large folders of images are decoded once: what is kept is what was there, and what changed is noticed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tightbound.cli.verbs import main
from tightbound.data import Data, Observations, decoded, images
from tightbound.runs.identity import data_fingerprint

R = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache of its own, for folders of five images and more, in blocks of two."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(images, "FEWEST", 5)
    monkeypatch.setattr(images, "BLOCK", 2)
    return tmp_path / "cache" / "tightbound" / "images"


def drawn(folder: Path, count: int = 9, *, colour: int | None = None, side: int = 6) -> Path:
    """Grey pictures of noise, one of them in colour."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        shape = (side, side, 3) if index == colour else (side, side)
        Image.fromarray(R.integers(0, 256, shape, dtype=np.uint8)).save(folder / f"{index}.png")
    return folder


def decoded_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Observations | Data:
    with monkeypatch.context() as patch:
        patch.setattr(images, "FEWEST", 10**9)
        return images.read_images(folder)


def forbidden(*_: object) -> None:
    raise AssertionError("An image was decoded again.")


@pytest.mark.parametrize("colour", [None, 0, 1, 2, 5, 8])
@pytest.mark.parametrize("piece", [50, 10**6])
def test_what_is_kept_is_what_decoding_gives(
    few: Path, colour: int | None, piece: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoded, "_PIECE", piece)
    folder = drawn(tmp_path / "mine", colour=colour)
    expected, first = decoded_anew(folder, monkeypatch), images.read_images(folder)
    assert len(list(few.glob("*.npy"))) == 1
    assert not list(few.glob(".*"))
    monkeypatch.setattr(images, "_pixels", forbidden)
    for found in (first, images.read_images(folder)):
        assert isinstance(found, Observations)
        assert isinstance(expected, Observations)
        assert found.shape == expected.shape == (1 if colour is None else 3, 6, 6)
        assert torch.equal(found.take(torch.arange(9)), expected.stored)
        assert found.name == expected.name
        assert found.scale == 255


def test_parts_labels_and_notes_are_kept_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part, word, count in (("train", "cat", 4), ("train", "dog", 3), ("test", "dog", 2), ("test", "cat", 1)):
        drawn(tmp_path / "mine" / part / word, count)
    pages = [Image.new("L", (6, 6), value) for value in (0, 90)]
    pages[0].save(tmp_path / "mine" / "train" / "cat" / "9.tif", save_all=True, append_images=pages[1:])
    expected, _ = decoded_anew(tmp_path / "mine", monkeypatch), images.read_images(tmp_path / "mine")
    found = images.read_images(tmp_path / "mine")
    assert isinstance(found, Data)
    assert isinstance(expected, Data)
    for ours, theirs in ((found.train, expected.train), (found.test, expected.test)):
        rows = torch.arange(len(theirs))
        assert len(ours) == len(theirs)
        assert torch.equal(ours.take(rows), theirs.take(rows))
        assert torch.equal(ours.label(rows), theirs.label(rows))  # type: ignore[arg-type]
        assert (ours.label_names, ours.notes, ours.name) == (theirs.label_names, theirs.notes, theirs.name)
    assert "1 file has more than one picture; the first of each was read" in found.train.notes
    assert data_fingerprint(found) == data_fingerprint(expected)


@pytest.mark.parametrize("change", ["pixels", "time", "one more", "one less", "name", "size"])
def test_a_changed_folder_is_noticed_and_what_is_outdated_goes(
    few: Path, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = drawn(tmp_path / "mine")
    images.read_images(folder, size=4)
    [before] = few.glob("*.npy")
    if change == "pixels":
        drawn(folder, 1, colour=0)
    elif change == "time":
        os.utime(folder / "0.png", ns=(1, 1))
    elif change == "one more":
        shutil.copy(folder / "0.png", folder / "99.png")
    elif change == "one less":
        (folder / "3.png").unlink()
    elif change == "name":
        (folder / "3.png").rename(folder / "zzz.png")
    size = 5 if change == "size" else 4
    found = images.read_images(folder, size=size)
    with monkeypatch.context() as patch:
        patch.setattr(images, "FEWEST", 10**9)
        expected = images.read_images(folder, size=size)
    assert torch.equal(found.take(torch.arange(len(found))), expected.stored)  # type: ignore[union-attr]
    assert before.exists() == (change == "size")
    assert len(list(few.glob("*.npy"))) == len(list(few.glob("*.json"))) == (2 if change == "size" else 1)


@pytest.mark.parametrize("damage", ["cut", "other", "no json", "odd json", "json of no number"])
def test_a_damaged_file_is_made_anew(few: Path, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = drawn(tmp_path / "mine")
    expected = decoded_anew(folder, monkeypatch)
    images.read_images(folder)
    [file] = few.glob("*.npy")
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "other":
        np.save(file, np.zeros((9, 1, 6, 6)))
    elif damage == "no json":
        file.with_suffix(".json").unlink()
    else:
        file.with_suffix(".json").write_text("[1]" if damage == "odd json" else '{"sum": "x"}', encoding="utf-8")
    found = images.read_images(folder)
    assert torch.equal(found.take(torch.arange(9)), expected.stored)  # type: ignore[union-attr]
    assert json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))["images"] == 9


@pytest.mark.parametrize("trouble", ["no folder", "no room", "too large"])
def test_without_a_place_to_keep_them_images_are_read_into_memory(
    few: Path, trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = drawn(tmp_path / "mine", colour=4)
    expected = decoded_anew(folder, monkeypatch)
    if trouble == "no folder":
        (tmp_path / "cache").write_text("a file stands here", encoding="utf-8")
    elif trouble == "no room":
        monkeypatch.setattr(decoded.shutil, "disk_usage", lambda _: _Full())
    else:
        monkeypatch.setattr(decoded, "MOST", 900)  # enough in grey, too little in colour
    found = images.read_images(folder)
    assert torch.equal(found.stored, expected.stored)  # type: ignore[union-attr]
    assert not list(few.glob("*")) if few.is_dir() else True


class _Full:
    free = 100


def test_what_was_read_longest_ago_goes_first(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded, "MOST", 1000)  # two folders: each takes 128 + 9 · 36 bytes
    names = ("a", "b", "c")
    folders = [drawn(tmp_path / name) for name in names]
    for place, folder in enumerate(folders[:2]):
        images.read_images(folder)
        newest = max(few.glob("*.npy"), key=lambda file: file.stat().st_mtime)
        os.utime(newest, (place + 1, place + 1))
    images.read_images(folders[0])  # so that b was read longest ago
    images.read_images(folders[2])
    kept = {Path(about["folder"]).name for _, about, _ in decoded.list_kept()}
    assert kept == {"a", "c"}


def test_who_is_ended_while_it_decodes_leaves_nothing_that_counts(few: Path, tmp_path: Path) -> None:
    folder = drawn(tmp_path / "mine")
    (folder / "7.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"Expected an image; got .*7\.png"):
        images.read_images(folder)
    assert not list(few.glob("*"))


def test_all_that_cannot_be_read_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = drawn(tmp_path / "mine", 30)
    for index in (3, 8):
        (folder / f"{index}.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"got 2 that cannot be: .*3\.png.*8\.png\. Of the first: Expected an image; "):
        images.read_images(folder)
    monkeypatch.setattr(images, "NAMED", 1)
    with pytest.raises(ValueError, match=r"got more than 1 that cannot be: .*3\.png"):
        images.read_images(folder)


def test_a_training_reads_from_the_kept_file_and_goes_on_from_it(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = drawn(tmp_path / "mine", 40)
    words = ["--model.hidden", "8", "--model.latent-dim", "2", "--evaluate.samples", "5", "--quiet"]
    words += ["--train.epochs", "1", "--out", str(tmp_path / "run")]
    assert main(["train", "auto", "--data", str(folder), *words]) == 0
    monkeypatch.setattr(images, "_pixels", forbidden)
    assert main(["evaluate", str(tmp_path / "run"), "--samples", "5"]) == 0
    assert main(["train", "--resume", str(tmp_path / "run"), "--train.epochs", "2", "--out", str(tmp_path / "on")]) == 0
    capsys.readouterr()


def test_the_command_says_what_is_kept_and_removes_it(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images.read_images(drawn(tmp_path / "mine"))
    assert main(["data"]) == 0
    assert (
        f"Kept in {few}: the decoded images of 1 folder, 452 bytes. 'tightbound data clear'" in capsys.readouterr().out
    )
    assert main(["data", "clear", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": {"place": str(few), "folders": 1, "bytes": 452}}
    assert not few.exists()
    assert main(["data", "clear"]) == 0
    assert "Nothing is kept" in capsys.readouterr().out
    assert main(["data"]) == 0
    assert "Kept" not in capsys.readouterr().out
