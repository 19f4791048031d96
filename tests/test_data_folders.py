"""Folders: what is a split, what is a label, and what is left out, each with a word."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from tightbound.data import load


def pictures(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.new("L", (6, 5), 20 * index).save(folder / f"{index}.png")


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train_set", "test_set"),
        ("trainset", "testset"),
        ("Train-Images", "TEST images"),
        ("training data", "validation-split"),
        ("tr", "te"),
    ],
)
def test_splits_with_a_word_more_are_splits_and_told(tmp_path: Path, train: str, test: str) -> None:
    pictures(tmp_path / train, 5)
    pictures(tmp_path / test, 2)
    data = load(tmp_path)
    assert (len(data.train), len(data.test)) == (5, 2)
    assert data.train.labels is None
    assert data.train.notes[0] == f"the folder {train} is the train set"
    assert data.train.notes[1].startswith(f"the folder {test} is the test set")


@pytest.mark.parametrize("names", [("trains", "tests"), ("valley", "device"), ("trainer", "tester")])
def test_labels_that_only_begin_as_a_split_are_labels_in_silence(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        pictures(tmp_path / name, 3)
    data = load(tmp_path)
    assert set(data.train.label_names) == set(names)
    assert data.train.notes == ()


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (("train2017", "val2017"), "the folders train2017, val2017 are labels and no split; call folders train and te"),
        (("en", "te", "tr"), "the folders te, tr are labels and no split; call folders train and test"),
        (("dev", "ops"), "the folder dev is a label and no split; call folders train and test"),
    ],
)
def test_labels_that_look_like_a_split_are_told(tmp_path: Path, names: tuple[str, ...], note: str) -> None:
    for name in names:
        pictures(tmp_path / name, 3)
    data = load(tmp_path)
    assert data.train.label_names == names
    assert [said.startswith(note) for said in data.train.notes] == [True]


@pytest.mark.parametrize("deeper", ["data", "a/b"])
def test_a_split_further_down_is_found_where_there_is_nothing_else(tmp_path: Path, deeper: str) -> None:
    for label in ("cat", "dog"):
        pictures(tmp_path / deeper / "train" / label, 4)
        pictures(tmp_path / deeper / "test" / label, 2)
    pictures(tmp_path / "__MACOSX", 1)
    data = load(tmp_path)
    assert (len(data.train), len(data.test)) == (8, 4)
    assert data.train.label_names == ("cat", "dog")
    assert data.train.notes == (
        f"the split is that of the folder {tmp_path / deeper}, as {tmp_path} holds nothing else",
    )


def test_half_a_split_further_down_is_refused_and_a_label_further_down_is_none(tmp_path: Path) -> None:
    pictures(tmp_path / "label" / "x" / "y", 4)
    assert load(tmp_path / "label").train.label_names == ("x",)
    pictures(tmp_path / "half" / "data" / "train", 4)
    with pytest.raises(ValueError, match=r'Expected both "train" and "test" in .*data, or neither; got only "train"'):
        load(tmp_path / "half")


@pytest.mark.parametrize("labels", [("a", "b"), ("x/a", "x/b")])
def test_a_split_of_each_label_is_refused(tmp_path: Path, labels: tuple[str, str]) -> None:
    for label in labels:
        pictures(tmp_path / label / "train", 4)
        pictures(tmp_path / label / "Test", 2)
    message = rf"in {tmp_path} itself; got train and Test in its sub-folder {labels[0]}\. Load .*{labels[0]} alone, or "
    with pytest.raises(ValueError, match=f"Expected a training and a test set {message}move the images to train/"):
        load(tmp_path)
    assert len(load(tmp_path / labels[0]).test) == 2


def test_what_lies_beside_a_split_is_told(tmp_path: Path) -> None:
    pictures(tmp_path / "train", 4)
    pictures(tmp_path / "test", 2)
    assert load(tmp_path).train.notes == ()
    pictures(tmp_path, 3)
    (tmp_path / "labels.csv").write_text("x")
    for index in range(7):
        (tmp_path / f"other{index}").mkdir()
    data = load(tmp_path)
    assert (len(data.train), len(data.test)) == (4, 2)
    assert data.train.notes == (
        "other folders beside them are left out: other0, other1, other2, other3, other4 and 2 more",
        "left out 3 .png, 1 .csv beside the folders train and test",
    )


def test_kinds_of_files_that_are_not_listed_are_counted(tmp_path: Path) -> None:
    for index in range(10):
        (tmp_path / f"x.e{index}").write_text("x")
    (tmp_path / "y.e0").write_text("x")
    with pytest.raises(ValueError, match=r"got only \.e0, \.e1, .*\.e7 and 2 more\. Add such files"):
        load(tmp_path)
    pictures(tmp_path, 3)
    assert load(tmp_path).train.notes == (
        "left out 2 .e0, 1 .e9, 1 .e8, 1 .e7, 1 .e6, 1 .e5, 1 .e4, 1 .e3 and 2 of other kinds",
    )


def test_labels_of_one_set_alone_are_told(tmp_path: Path) -> None:
    for name in ("train/a", "train/b", "test/b", "test/c"):
        pictures(tmp_path / name, 2)
    assert load(tmp_path).train.notes == (
        "only the training set has the labels a",
        "only the test set has the labels c",
    )
    for name in ("train/a", "train/b", "test"):
        pictures(tmp_path / "flat" / name, 2)
    assert load(tmp_path / "flat").train.notes == ("the training set has labels, and the test set has none",)


@pytest.mark.skipif(os.name == "nt", reason="needs names that are no text, which Windows has not")
def test_names_that_are_no_text_are_told_in_notes_that_can_be_written(tmp_path: Path) -> None:
    pictures(tmp_path / "train", 3)
    pictures(tmp_path / "test", 2)
    os.mkdir(os.path.join(os.fsencode(tmp_path), b"\xff"))
    for place in (b"a.\xff", b"train/a.\xff"):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), place))).write_text("x")
    assert load(tmp_path).train.notes == (
        "other folders beside them are left out: \ufffd",
        "left out 1 .\ufffd beside the folders train and test",
        "left out 1 .\ufffd",
    )
