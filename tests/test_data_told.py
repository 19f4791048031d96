"""Nothing is turned, taken for something else or left out without a word."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from PIL import Image

import tightbound as tb
from tightbound.cli.verbs import main
from tightbound.data import Data, Observations, load, observations, summarise
from tightbound.data.labels import encode
from tightbound.data.observations import Observations as Kept

R = np.random.default_rng(0)


# Axes


@pytest.mark.parametrize(
    ("given", "seen", "dtype"),
    [
        ((9, 32, 32, 4), (4, 32, 32), "u1"),
        ((9, 32, 24, 2), (2, 32, 24), "f4"),
        ((9, 32, 24, 3), (3, 32, 24), "f8"),
        ((9, 20, 17, 3), (3, 20, 17), "f4"),
        ((9, 5, 5, 1), (1, 5, 5), "f4"),
        ((9, 16, 16, 8), (8, 16, 16), "f4"),
        ((9, 3, 32, 32), (3, 32, 32), "u1"),
        ((9, 1, 28, 3), (1, 28, 3), "f4"),
        ((9, 4, 32, 32), (4, 32, 32), "f4"),
        ((9, 8, 8, 8), (8, 8, 8), "f4"),
        ((9, 13, 64, 64), (13, 64, 64), "f4"),
        ((9, 20, 10, 7), (20, 10, 7), "f4"),
        ((9, 28, 28), (1, 28, 28), "u1"),
        ((9, 28, 28), (28, 28), "f4"),
    ],
)
def test_axes_are_turned_where_channels_stand_last_and_that_is_told(given: Any, seen: Any, dtype: str) -> None:
    x = (R.random(given) * 200).astype(dtype)
    found = observations(x)
    assert tuple(found.shape) == seen
    turned = len(given) == len(seen) + 1 and given[1:] != seen
    assert len(found.notes) == turned
    if turned:
        assert found.notes[0].startswith(f"the axes of array were turned from {given[1:]} to {seen};")
        np.testing.assert_array_equal(found.take(torch.arange(9)).numpy(), np.moveaxis(x, -1, 1))


def test_errors_speak_of_the_axes_that_were_given() -> None:
    model = tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(tb.networks.MLP((20, 17, 3), (4,))),
        tb.likelihoods.Gaussian(tb.networks.MLP((2,), (20, 17, 3))),
    )
    x = R.normal(size=(60, 20, 17, 3)).astype("f4")
    said = r"\(the axes of array were turned from \(20, 17, 3\) to \(3, 20, 17\); tb\.data\.Observations\(x\) leaves"
    for work in (lambda: tb.fit(model, x, epochs=1), lambda: tb.evaluate.evidence(model, x, samples=2)):
        with pytest.raises(ValueError, match=said):
            work()
    assert tb.fit(model, Observations(torch.from_numpy(x)), epochs=0.1, progress=False).steps


# Folders


def pictures(folder: Path, *names: str, kind: str = "PNG", mode: str = "L") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(names):
        Image.new(mode, (6, 5), 20 * index if mode == "L" else (20 * index, 3, 4)).save(folder / name, kind)


@pytest.mark.parametrize(
    ("train", "test", "notes"),
    [
        ("train", "test", []),
        ("Train", "Test", ["the folder Train is the train set", "the folder Test is the test set"]),
        ("TRAINING", "testing", ["the folder TRAINING is the train set", "the folder testing is the test set"]),
        ("train", "val", ["the folder val is the test set, as there is no other"]),
        ("training", "Validation", ["the folder training is the train set", "the folder Validation is the test set"]),
        ("train", "dev", ["the folder dev is the test set"]),
    ],
)
def test_splits_are_known_by_their_names(tmp_path: Path, train: str, test: str, notes: list[str]) -> None:
    for split, count in ((train, 4), (test, 2)):
        for label in ("cat", "dog"):
            pictures(tmp_path / split / label, *[f"{i}.png" for i in range(count)])
    data = load(tmp_path)
    assert (len(data.train), len(data.test)) == (8, 4)
    assert data.train.label_names == ("cat", "dog")
    assert len(data.train.notes) == len(notes)
    assert all(said.startswith(wanted) for said, wanted in zip(data.train.notes, notes, strict=True))


def test_a_third_folder_is_named(tmp_path: Path) -> None:
    for name in ("train", "test", "val", "notes", ".hidden"):
        pictures(tmp_path / name, "0.png", "1.png")
    data = load(tmp_path)
    assert (len(data.train), len(data.test)) == (2, 2)
    assert list(data.train.notes) == [
        "the folder val is left out: validation takes its share of the training set",
        "other folders beside them are left out: notes",
    ]


def test_what_could_be_two_splits_is_refused_and_one_label_is_one(tmp_path: Path) -> None:
    for name in ("train", "Training", "test"):
        pictures(tmp_path / "two" / name, "0.png")
    with pytest.raises(ValueError, match=r"Expected one folder for the train set in .*; got Training and train"):
        load(tmp_path / "two")
    pictures(tmp_path / "alone" / "Test", "0.png")
    with pytest.raises(ValueError, match=r'Expected both "train" and "test" in .*; got only "Test"'):
        load(tmp_path / "alone")
    for name in ("dev", "ops"):
        pictures(tmp_path / "labels" / name, "0.png", "1.png")
    assert load(tmp_path / "labels").train.label_names == ("dev", "ops")


@pytest.mark.parametrize(
    ("kind", "ending", "mode"),
    [
        ("WEBP", ".webp", "RGB"),
        ("BMP", ".BMP", "L"),
        ("TIFF", ".tif", "L"),
        ("TIFF", ".tiff", "RGB"),
        ("GIF", ".gif", "L"),
    ],
)
def test_other_formats_are_read(tmp_path: Path, kind: str, ending: str, mode: str) -> None:
    pictures(tmp_path, *[f"{i}{ending}" for i in range(4)], kind=kind, mode=mode)
    data = load(tmp_path)
    assert len(data.train) + len(data.test) == 4
    assert data.train.shape[1:] == (5, 6)
    assert data.train.notes == ()


def test_what_is_left_out_is_counted_and_moving_pictures_are_told(tmp_path: Path) -> None:
    pictures(tmp_path, "0.png", "1.png")
    for name in ("a.txt", "b.txt", "c.mp4", "README", ".DS_Store"):
        (tmp_path / name).write_text("x")
    frames = [Image.new("L", (6, 5), shade) for shade in (10, 200)]
    frames[0].save(tmp_path / "2.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "3.tiff", save_all=True, append_images=frames[1:])
    found = load(tmp_path).train
    assert found.notes == (
        "left out 2 .txt, 1 README, 1 .mp4",
        "2 files have more than one picture; the first of each was read",
    )
    assert (found.replace(rows=None).take(torch.tensor([2, 3])) < 100).all()


def test_a_damaged_file_and_a_deep_one_are_refused_by_name(tmp_path: Path) -> None:
    pictures(tmp_path, "0.png")
    (tmp_path / "1.webp").write_bytes(b"RIFF\0\0\0\0WEBPVP8 damaged")
    with pytest.raises(ValueError, match=r"Expected an image; got .*1\.webp\. Remove or repair it"):
        load(tmp_path)
    (tmp_path / "1.webp").unlink()
    Image.fromarray(np.zeros((5, 6), np.uint16)).save(tmp_path / "1.tiff")
    with pytest.raises(ValueError, match=r"Expected 8 bits a channel, grey or RGB; got a 16-bit image .*1\.tiff"):
        load(tmp_path)


def test_a_photograph_beyond_all_sizes_says_what_the_limit_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(tmp_path, "0.png", "1.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(ValueError, match=r"Expected images of at most 0 million pixels; got a larger one, .*0\.png"):
        load(tmp_path)


# What is no file, and what is no text


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.h5", "x.csv", "x.png"])
def test_pipes_are_refused_before_they_are_opened(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    source = tmp_path if name == "x.png" else tmp_path / name
    with pytest.raises(ValueError, match=r"Expected a file; got .*, which is a pipe"):
        load(source)


def test_names_that_are_no_text_are_refused_at_once(tmp_path: Path) -> None:
    bad = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.mkdir(bad)
    Image.new("L", (4, 4)).save(os.path.join(os.fsdecode(bad), "0.png"))
    with pytest.raises(ValueError, match=r"Expected names in UTF-8; got .*caf. Rename that file or folder|caf"):
        load(tmp_path)


# Arrays by other names


def written(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path / "x.npz", **arrays)
    return path / "x.npz"


X, Y = R.random((9, 4)), np.arange(9)


@pytest.mark.parametrize(
    ("arrays", "notes"),
    [
        ({"data": X, "target": Y}, ["the array data was taken for x", "the array target was taken for y"]),
        ({"Images": X, "Labels": Y}, ["the array Images was taken for x", "the array Labels was taken for y"]),
        ({"X": X, "Y": Y}, []),
        ({"arr_0": X}, []),
        (
            {"train_images": X, "train_labels": Y[:, None], "val_images": X, "val_labels": Y, "test_images": X,
             "test_labels": Y},
            ["the array train_images was taken for x_train", "the array test_images was taken for x_test",
             "the array train_labels was taken for y_train", "the array test_labels was taken for y_test",
             "the arrays val_images, val_labels were left out: validation takes its share of the training set"],
        ),
        ({"x_train": X, "x_val": X, "x_test": X}, ["the arrays x_val were left out: validation takes its share of th"]),
    ],
)  # fmt: skip
def test_well_known_names_are_read_and_told(tmp_path: Path, arrays: dict[str, np.ndarray], notes: list[str]) -> None:
    data = load(written(tmp_path, **arrays))
    assert len(data.train.notes) == len(notes)
    assert all(said.startswith(wanted) for said, wanted in zip(sorted(data.train.notes), sorted(notes), strict=True))
    assert (data.train.labels is not None) == bool({"target", "Labels", "Y", "train_labels"} & arrays.keys())


@pytest.mark.parametrize(
    "arrays", [{"a": X, "b": X}, {"data": X, "images": X}, {"x": X, "X": X}, {"y": Y, "labels": Y}]
)
def test_names_that_could_mean_two_things_are_refused_with_a_line_that_works(
    tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    with pytest.raises(ValueError, match=r"Take the array you mean: numpy\.savez\('x\.npz', x=file\['"):
        load(written(tmp_path, **arrays))


# Labels


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1e300, 1.0], r"Expected labels that are integers of 64 bits or words; got one of 1e\+300"),
        (np.array([2**64 - 1, 1], np.uint64), r"got one of 1\.84e\+19"),
        (np.array([2.0**63, 1]), r"got one of 9\.22e\+18"),
        ([0.5, 1.0], "Expected labels that are integers or words"),
        ([float("nan"), 1.0], "Expected labels that are integers or words"),
        (np.eye(2), r"labels\.argmax\(1\)"),
        (np.array(["2020-01-01", "2021-01-01"], "M8[D]"), "Expected labels that are integers or words; got datetime64"),
    ],
)
def test_labels_that_cannot_be_meant_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        observations((np.zeros((2, 3)), labels))


@pytest.mark.parametrize(
    ("labels", "codes", "names"),
    [
        ([0, 1_000_000], [0, 1_000_000], ()),
        ([0, 1_000_001], [0, 1], ("0", "1000001")),
        ([10**12, 5], [1, 0], ("5", "1000000000000")),
        (np.array([2**62, 7], np.uint64), [1, 0], ("7", str(2**62))),
        ([-1.0, 2.0], [0, 1], ("-1", "2")),
        ([True, False], [1, 0], ()),
        ([b"b", b"a"], [1, 0], ("a", "b")),
    ],
)
def test_labels_are_never_wrapped(labels: Any, codes: list[int], names: tuple[str, ...]) -> None:
    found, called = encode([labels], "data")
    assert found[0] is not None
    assert found[0].tolist() == codes
    assert called == names


# One line each


class Sparse:
    __module__ = "scipy.sparse"

    def toarray(self) -> None: ...


@pytest.mark.parametrize(
    ("source", "remedy"),
    [
        ("photos/x.npy", r"Read it first: tb.data.load\('photos/x.npy'\)"),
        (Path("digits"), r"Read it first: tb.data.load\('digits'\)"),
        (Sparse(), r"Make it dense: x.toarray\(\)"),
        (scipy.sparse.random(9, 3, 0.5, format="csr"), r"Make it dense: x.toarray\(\)"),
        (scipy.sparse.random(9, 3, 0.5, format="coo"), r"Make it dense: x.toarray\(\)"),
        ({"image": 1, "label": 2}, r"Choose one of its arrays: x\['image'\]"),
        (Data("d", Kept(torch.zeros(2, 1)), Kept(torch.zeros(2, 1))), "Choose one of its splits: data.test"),
        (3.0, "Convert it to an array"),
    ],
)
def test_each_other_object_has_its_one_line(source: Any, remedy: str) -> None:
    with pytest.raises(TypeError, match=rf"Expected an array.*; got \w+\. {remedy}"):
        observations(source)


def test_files_and_names_of_other_kinds_have_theirs(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"numpy\.save\('x\.npy', pandas\.read_csv\('.*t\.csv'\)\.to_numpy\(\)\)"):
        load(tmp_path / "t.csv")
    with pytest.raises(ValueError, match=r"Give torchvision's data set: .*datasets\.FashionMNIST\(folder, download"):
        load("fashion-mnist")
    with pytest.raises(ValueError, match=r"datasets\.CIFAR10\("):
        load("CIFAR10")


def test_notes_come_with_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tightbound.runs.build import build
    from tightbound.runs.recipe import Recipe

    x = R.random((30, 8, 8, 2)).astype("f4")
    built = build(Recipe().updated({"model.hidden": [4]}), x)
    assert built.notes[0].startswith("the axes of array were turned from (8, 8, 2) to (2, 8, 8)")
    np.save(tmp_path / "x.npy", x)
    small = ["--train.epochs", "0.1", "--model.hidden", "4", "--model.latent-dim", "2", "--evaluate.samples", "2"]
    assert main(["train", "auto", "--data", str(tmp_path / "x.npy"), *small, "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    note = f"Note: The axes of {tmp_path / 'x.npy'} were turned from (8, 8, 2) to (2, 8, 8);"
    assert note in said
    assert said.index(note) < said.index("step 1")


class Frame:
    """What a data frame looks like from outside: dtypes, columns, and an array of objects where they differ."""

    def __init__(self, **columns: Any) -> None:
        self.columns, self.dtypes = list(columns), [getattr(each, "dtype", each) for each in columns.values()]
        self._values = columns

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.stack([np.asarray(each) for each in self._values.values()], 1)

    def astype(self, dtype: np.dtype) -> np.ndarray:
        return np.stack([np.asarray(each, dtype) for each in self._values.values()], 1)


class Nullable:
    """A dtype of pandas' own."""

    kind = "i"

    def __repr__(self) -> str:
        return "Int64"


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (np.array(["x", "y"], object), "got object in the column 'b' of array"),
        (np.array(["2020", "2021"], "M8[Y]"), "got datetime64"),
        (Nullable(), "got Int64 in the column 'b'"),
    ],
)
def test_the_column_of_a_data_frame_that_is_no_number_is_named(column: Any, words: str) -> None:
    with pytest.raises(TypeError, match=f"Expected columns of plain numbers; {words}"):
        observations(Frame(a=np.zeros(2), b=column))
    assert observations(Frame(a=np.zeros(2), b=np.arange(2))).shape == (2,)
    assert observations(Frame(a=np.array([True, False]))).shape == (1,)
    assert observations(Frame(a=np.array([True, False]), b=np.array([0.5, 2]))).stored.tolist() == [[1, 0.5], [0, 2]]


def test_the_names_of_a_data_frames_columns_are_kept_and_told() -> None:
    from tightbound.runs.build import build
    from tightbound.runs.recipe import Recipe

    age = np.r_[R.normal(50, 9, 97), [-9999.0] * 3]
    read = load(Frame(age=age, height=R.normal(170, 9, 100)))
    for part in (read.train, read.test, read.train.subset(torch.arange(5))):
        assert part.column_names == ("age", "height")
    whole = observations(Frame(age=age, height=R.normal(170, 9, 100)))
    assert any("column 'age' has the value -9999 in 3 of 100" in note for note in summarise(whole).notes)
    age[7] = 1e200
    with pytest.raises(ValueError, match="row 7, column 'age'"):
        build(Recipe().updated({"model.hidden": [4]}), Frame(height=R.normal(170, 9, 100), age=age))


@pytest.mark.parametrize("names", [[0, 1], ["a", "a"]])
def test_columns_that_are_counted_or_called_the_same_have_no_names(names: list[Any]) -> None:
    frame = Frame(a=np.zeros(2), b=np.arange(2))
    frame.columns = names
    assert observations(frame).column_names == ()


def test_column_names_are_of_observations_that_are_rows() -> None:
    with pytest.raises(ValueError, match=r"Expected no column_names.*got 2 in data"):
        Observations(torch.zeros(3, 2, 2), column_names=("a", "b"))
    with pytest.raises(ValueError, match="Expected different column_names; got a more than once"):
        Observations(torch.zeros(3, 2), column_names=("a", "a"))


@pytest.mark.parametrize(("likelihood", "odd"), [("bernoulli", 2.0), ("bernoulli", -1.0), ("poisson", 0.5)])
def test_a_test_set_of_another_kind_is_refused_by_its_first_row(likelihood: str, odd: float, tmp_path: Path) -> None:
    from tightbound.runs.build import build
    from tightbound.runs.recipe import Recipe

    seen, unseen = R.integers(0, 2 if likelihood == "bernoulli" else 5, (60, 4)).astype("f4"), np.zeros((9, 4), "f4")
    unseen[5, 2] = odd
    np.savez(tmp_path / "x.npz", x_train=seen, x_test=unseen)
    recipe = Recipe().updated({"model.likelihood": likelihood, "data.source": str(tmp_path / "x.npz")})
    with pytest.raises(ValueError, match=r"in the test set, first at row 5\. Look at those rows, or take '"):
        build(recipe)
