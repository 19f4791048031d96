"""What is no data is refused in a sentence, and the line that it names makes data of it."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.lib.recfunctions
import pytest
import torch
import training
from PIL import Image
from torch.utils.data import Dataset, TensorDataset, random_split

import tightbound as tb
from tightbound.data import Data, Observations, load, observations
from tightbound.data.labels import encode
from tightbound.data.numbers import tensor_of

R = np.random.default_rng(0)
X, Y = R.normal(size=(40, 5)), np.arange(40) % 3


class Items(Dataset[Any]):
    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


# Arrays


DAYS = np.array([["2020-01-01", "NaT"], ["2020-01-02", "2020-01-05"]], "M8[D]")
YEARS = np.array([["1970", "1971"], ["1972", "1970"]], "M8[Y]")
PAIRS = np.array([(1.5, 2), (3.5, 4)], [("a", "f4"), ("b", "i4")])
NAMED = np.array([(1.5, "x"), (3.5, "y")], [("a", "f4"), ("b", "U1")])
GAPS = np.array([[1, None], [2, 3]], object)


@pytest.mark.parametrize(
    ("x", "remedy", "made"),
    [
        (DAYS, '(x - x.min()) / numpy.timedelta64(1, "s")', None),
        (DAYS[1:], '(x - x.min()) / numpy.timedelta64(1, "s")', [[0, 3 * 86400]]),
        (YEARS, '(x.astype("M8[s]") - x.astype("M8[s]").min()) / numpy.timedelta64(1, "s")',
         [[0, 31536000], [63072000, 0]]),
        (DAYS[1:] - DAYS[0, 0], 'x / numpy.timedelta64(1, "D")', [[1, 4]]),
        (np.array([[1 + 2j, 3]]), "numpy.concatenate([x.real, x.imag], axis=1)", [[1, 3, 2, 0]]),
        (np.array([[[1 + 2j]]]), "numpy.stack([x.real, x.imag], axis=1)", [[[[1]], [[2]]]]),
        (PAIRS, "numpy.lib.recfunctions.structured_to_unstructured(x)", [[1.5, 2], [3.5, 4]]),
        (np.ma.array(PAIRS, mask=[True, False]), "numpy.lib.recfunctions.structured_to_unstructured(x)", None),
        (NAMED, "numpy.lib.recfunctions.structured_to_unstructured(x[['a']])", [[1.5], [3.5]]),
        (GAPS, "x[(x != None).all(axis=(1,))].astype(numpy.float64)", [[2, 3]]),
        (GAPS[0], "x[x != None].astype(numpy.float64)", [1]),
        (np.array([["1.5"]]), "x.astype(numpy.float64)", [[1.5]]),
        (np.array([[1.5]], np.longdouble), "x.astype(numpy.float64)", [[1.5]]),
        (np.array([[b"ab"]], "V2"), "x.view(numpy.uint8)", [[97, 98]]),
    ],
)  # fmt: skip
def test_each_dtype_has_a_line_that_makes_numbers_of_it(x: np.ndarray, remedy: str, made: Any) -> None:
    with pytest.raises(TypeError, match=r"^Expected an array of real numbers; got dtype .* in array\. ") as refused:
        observations(x)
    assert remedy in str(refused.value)
    if made is not None:
        np.testing.assert_array_equal(tensor_of(eval(remedy, {"numpy": np, "x": x}), "x"), made)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_tensors_that_hold_no_values_or_no_rows_are_refused() -> None:
    for given in (torch.zeros(9, 2, device="meta"), TensorDataset(torch.zeros(9, 2, device="meta"))):
        with pytest.raises(ValueError, match=r'Expected a tensor with values; got one on the device "meta".*"cpu"'):
            load(given)
    nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
    with pytest.raises(TypeError, match=r"Expected rows of one shape; got a nested tensor .*to_padded_tensor\(x, 0\.0"):
        load(nested)
    assert observations(torch.nested.to_padded_tensor(nested, 0.0)).shape == (3,)
    with pytest.raises(TypeError, match=r"Expected dense real numbers; got .*sparse_coo in array\. .*x\.to_dense\(\)"):
        load(torch.eye(9).to_sparse())


# Labels


class Sparse:
    def toarray(self) -> None: ...


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (
            np.array([b"\xe9", b"a"]),
            ValueError,
            r"got bytes that are no UTF-8 in pets\. .*numpy\.char\.decode\(y, 'lat",
        ),
        ([[0], [0, 1]], ValueError, "got lists of several lengths in pets. Give one label for each observation"),
        (Sparse(), ValueError, r"got sparse ones in pets\. Make them dense: y\.toarray\(\)"),
        (torch.tensor([0, 1]).to_sparse(), TypeError, r"sparse_coo in the labels of pets\. .*x\.to_dense\(\)"),
        (torch.zeros(2, device="meta"), ValueError, 'got one on the device "meta", which keeps none, in the labels of'),
        (np.ma.array([0, 1], mask=[0, 1]), ValueError, r"Expected a label for every observation; got masked labels in"),
    ],
)
def test_labels_that_are_none_are_refused_in_a_sentence(labels: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        encode([labels], "pets")


def test_labels_of_little_known_kinds_are_read() -> None:
    assert encode([torch.tensor([2, 0], dtype=torch.bfloat16)], "pets")[0][0].tolist() == [2, 0]  # type: ignore[union-attr]
    assert encode([np.array(["é", "a"]).astype(object), None], "pets")[1] == ("a", "é")
    assert encode([np.char.encode(np.array(["é", "a"]), "utf-8"), ["b"]], "pets")[1] == ("a", "b", "é")
    assert encode([np.ma.array([1, 0])], "pets")[0][0].tolist() == [1, 0]  # type: ignore[union-attr]


def test_a_masked_label_is_not_unmasked() -> None:
    y = np.ma.array(Y, mask=Y == 2)
    with pytest.raises(ValueError, match=r"got masked labels in array\. Drop those rows, \(x\[~y\.mask\], y\[~y\.mask"):
        load((X, y))
    assert set(observations((X[~y.mask], y[~y.mask].data)).labels.tolist()) == {0, 1}  # type: ignore[union-attr]


# Data sets


def test_pictures_with_a_palette_become_their_colours() -> None:
    red, odd = Image.new("RGB", (4, 5), (200, 10, 30)), Image.new("RGB", (4, 5), (1, 2, 3))
    found = observations(Items(*(each.convert("P", palette=Image.Palette.ADAPTIVE) for each in (red, odd))))
    assert found.shape == (3, 5, 4)
    assert found.take(torch.tensor([0, 1]))[:, :, 0, 0].tolist() == [[200, 10, 30], [1, 2, 3]]
    assert observations(Items(red.convert("CMYK"))).take(torch.tensor([0]))[0, :, 0, 0].tolist() == [200, 10, 30]
    assert observations(Items(Image.new("L", (4, 5), 7))).shape == (1, 5, 4)
    glass = Image.new("P", (4, 5))
    glass.info["transparency"] = 0
    with pytest.raises(ValueError, match="Expected opaque images; got transparent pixels in item 1 of data set"):
        load(Items(red.convert("P"), glass))


@pytest.mark.parametrize(
    ("first", "second", "got"),
    [(X[0], (X[1], 1), "none at index 0 and one at index 2"), ((X[0], 1), X[1], "one at index 0 and none at index 2")],
)
def test_labels_of_some_items_are_refused(first: Any, second: Any, got: str) -> None:
    with pytest.raises(ValueError, match=f"Expected a label of every item or of none; got {got} of data set"):
        load(Items(first, first, second))
    assert observations(Items((X[0], None), X[1])).labels is None
    assert observations(Items((X[0], 1), (X[1], 2))).labels is not None


def test_items_are_read_as_arrays_are() -> None:
    assert observations(Items(X[0].astype(">f4"), X[1].astype(">f4"))).stored.dtype == torch.float32
    np.testing.assert_array_equal(observations(Items(*X[:, ::-1])).stored, X[:, ::-1])
    assert observations(Items(np.ma.array(X[0]))).shape == (5,)
    with pytest.raises(
        ValueError, match=r"got a masked array with masked values at index 1 of data set\. Fill them in"
    ):
        load(Items(X[0], np.ma.array(X[1], mask=[0, 1, 0, 0, 0])))
    with pytest.raises(
        TypeError, match=r"got dtype float128 in item 0 of data set\. Convert it: x\.astype\(numpy\.float64"
    ):
        load(Items(X[0].astype(np.longdouble)))
    with pytest.raises(TypeError, match=r"sparse_coo in item 0 of data set\. Make it dense: x\.to_dense\(\)"):
        load(Items(torch.ones(3).to_sparse()))
    with pytest.raises(ValueError, match='got one on the device "meta", which keeps none, in the label of item 0'):
        load(Items((torch.ones(3), torch.ones((), device="meta"))))


# Files of arrays


def written(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path / "x.npz", **arrays)
    return path / "x.npz"


@pytest.mark.parametrize(
    ("left", "note"),
    [
        (
            ("weights", "feature_names", "y_test"),
            "the arrays weights, feature_names, y_test were left out: of .* only x, y",
        ),
        (("x_dev", "x_validation", "val"), "the arrays x_dev, x_validation, val were left out: validation takes its"),
    ],
)
def test_arrays_that_are_not_read_are_named(tmp_path: Path, left: tuple[str, ...], note: str) -> None:
    assert load(written(tmp_path, x=X, y=Y)).train.notes == ()
    data = load(written(tmp_path, x=X, y=Y, **dict.fromkeys(left, X)))
    assert len(data.train.notes) == 1
    assert re.match(note, data.train.notes[0])


@pytest.mark.parametrize("key", ["mask", "Mask_train", "x_masks"])
def test_a_mask_that_would_not_be_read_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match=rf"got the array {key} in .*x\.npz\. Drop the rows that lack a value, or"):
        load(written(tmp_path, x=X, **{key: X > 0}))
    assert load(written(tmp_path, **{key: X})).train.shape == (5,)  # the only array, whatever it is called


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "bsr", "dia"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_a_sparse_matrix_of_a_file_is_refused_as_such(tmp_path: Path, form: str, kind: str) -> None:
    import scipy.sparse

    x, path = np.where(X > 1, X, 0), tmp_path / "sparse.npz"
    scipy.sparse.save_npz(path, getattr(scipy.sparse, f"{form}_{kind}")(x))
    with pytest.raises(ValueError, match=r"^Expected an array of all values; got a sparse matrix in ") as refused:
        load(path)
    remedy = str(refused.value).split("Make it dense: ")[1][:-1]
    assert remedy == f"numpy.save('x.npy', scipy.sparse.load_npz({str(path)!r}).toarray())"
    eval(remedy.replace("'x.npy'", repr(str(tmp_path / "x.npy"))), {"numpy": np, "scipy": scipy})
    np.testing.assert_array_equal(load(tmp_path / "x.npy").train.replace(rows=None).stored, x)


def test_sparse_matrices_that_others_have_saved_are_refused_as_such(tmp_path: Path) -> None:
    import scipy.sparse

    m = scipy.sparse.csr_matrix(np.where(X > 1, X, 0))
    parts = {"data": m.data, "indices": m.indices, "indptr": m.indptr, "shape": np.array(m.shape)}
    with pytest.raises(ValueError, match=r"got a sparse matrix in .*x\.npz\. Make it dense: ") as refused:
        load(written(tmp_path, **parts))
    line = re.search(r"'x\.npy', (scipy.*)\)\.$", str(refused.value))
    assert line is not None
    np.testing.assert_array_equal(eval(line[1], {"numpy": np, "scipy": scipy}), m.toarray())
    coordinates = {"data": m.data, "coords": np.array(m.nonzero()), "shape": np.array(m.shape), "fill_value": 0.0}
    with pytest.raises(
        ValueError, match=r"got a sparse matrix .*'x\.npy', sparse\.load_npz\('.*x\.npz'\)\.todense\(\)\)"
    ):
        load(written(tmp_path, **coordinates))
    assert load(written(tmp_path, x=X, **parts)).train.shape == (5,)  # x is read, whatever lies beside it
    assert load(written(tmp_path, data=X, shape=np.array(X.shape))).train.shape == (5,)


def test_labels_of_one_set_of_a_file_are_told(tmp_path: Path) -> None:
    notes = load(written(tmp_path, x_train=X, x_test=X, y_train=Y, y_test=Y + 1)).train.notes
    assert notes == ("only the training set has the labels 0", "only the test set has the labels 3")
    notes = load(written(tmp_path, x_train=X, x_test=X, y_test=Y)).train.notes
    assert notes == ("the test set has labels, and the training set has none",)
    assert load(written(tmp_path, x_train=X, x_test=X, y_train=Y, y_test=Y)).train.notes == ()
    assert load(written(tmp_path, x_train=X, x_test=X)).train.notes == ()


def test_sets_of_two_dtypes_are_refused_by_the_axes_that_were_given(tmp_path: Path) -> None:
    pixels = R.integers(0, 256, (9, 8, 8), dtype=np.uint8)
    message = r"got x_train of uint8 and x_test of float64, both of shape \(8, 8\), in .*Save both as the same"
    with pytest.raises(ValueError, match=message):
        load(written(tmp_path, x_train=pixels, x_test=pixels / 255))
    with pytest.raises(ValueError, match=r"in d\. Make both .*: the one is stored as uint8, the other as float64\."):
        Data("d", observations(pixels), observations(pixels / 255))
    assert load(written(tmp_path, x_train=Y[:, None].astype("u1"), x_test=Y[:, None])).test.shape == (1,)


def test_endings_in_upper_case_are_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    written(tmp_path, x=X)
    for ending in ("npy", "npz"):
        (tmp_path / f"x.{ending}").rename(tmp_path / f"X.{ending.upper()}")
        assert load(tmp_path / f"X.{ending.upper()}").train.shape == (5,)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("a.PNG", r"Give the folder that it lies in, with all images: "),
        ("x.pt", r"Read it first: numpy\.save\('x\.npy', torch\.load\('.*x\.pt', weights_only=True\)\.numpy\(\)\)"),
        ("x.npy.gz", "Unpack it first, and give the file or folder in it"),
        ("x.tsv", r"pandas\.read_csv\('.*x\.tsv', sep='\\t'\)\.to_numpy\(\)\)"),
        ("x.txt", r"numpy\.save\('x\.npy', numpy\.loadtxt\('.*x\.txt'\)\)"),
        ("train-images-idx3-ubyte.gz", r"numpy\.save\('x\.npy', tightbound\.data\.idx\.read_idx\('"),
        ("noext", "Save its numbers with numpy.save, and give that file"),
    ],
)
def test_each_other_kind_of_file_has_its_one_line(tmp_path: Path, name: str, remedy: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=rf"Expected a \.npy.*; got the file .*{re.escape(name)}\. .*{remedy}"):
        load(tmp_path / name)


def test_the_lines_for_files_of_tensors_and_of_idx_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(torch.from_numpy(X), tmp_path / "x.pt")
    (tmp_path / "idx3.gz").write_bytes(gzip.compress(struct.pack(">HBBIII", 0, 8, 3, 9, 2, 2) + bytes(36)))
    for name, shape in (("x.pt", (5,)), ("idx3.gz", (1, 2, 2))):
        with pytest.raises(ValueError, match="Read it first: ") as refused:
            load(tmp_path / name)
        eval(str(refused.value).split("Read it first: ")[1][:-1], {"numpy": np, "torch": torch, "tightbound": tb})
        assert load("x.npy").train.shape == shape


# Other objects


@pytest.mark.parametrize(
    "rows",
    [X.tolist(), [*X], tuple(map(tuple, X.tolist())), [list(map(np.float64, row)) for row in X], [*torch.as_tensor(X)]],
    ids=["lists", "arrays", "tuples", "NumPy's numbers", "tensors"],
)
def test_rows_in_a_list_are_an_array(rows: Any) -> None:
    np.testing.assert_array_equal(observations(rows).stored, X)
    labelled = observations((rows, Y.tolist()))
    np.testing.assert_array_equal(labelled.stored, X)
    assert labelled.labels.tolist() == Y.tolist()  # type: ignore[union-attr]


def test_two_rows_are_no_pair_and_nested_lists_are_images() -> None:
    assert observations(((1.0, 2.0), (3.0, 4.0))).stored.tolist() == [[1, 2], [3, 4]]
    assert observations(np.zeros((9, 1, 4, 4)).tolist()).shape == (1, 4, 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            [[1.0, 2.0], [3.0, 4.0], [5.0]],
            r"Expected rows of one length; got 2 values in row 0 and 1 in row 2 of array",
        ),
        ([np.zeros(3), np.zeros(4)], r"Expected rows of one length; got 3 values in row 0 and 4 in row 1 of array\."),
        ([["a", "b"]], r"got dtype <U1 in array\. With x = numpy\.array\(x\): If its words are numbers, convert it"),
        ([1.0, 2.0], r"a list of rows, .*; got list\. Convert it to an array: numpy\.asarray\(x\)"),
        ([], r"got list\. Convert it to an array"),
        ([(np.zeros((2, 2)), 1), (np.zeros((2, 2)), 0)], r"got list\. Convert it to an array"),
    ],
)
def test_lists_that_are_no_rows_are_refused_in_words(given: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        load(given)


def test_rows_in_a_list_are_trained_on(tmp_path: Path) -> None:
    rows = training.data(60).tolist()
    assert tb.fit(training.model(), rows, **training.QUIET, epochs=1).steps > 0
    changes = {"train.epochs": 1, "model.hidden": (8,)}
    run = tb.train("auto", data=rows, out=tmp_path / "r", changes=changes, progress=False)
    assert run.model().log_prob(rows[:2], samples=3).isfinite().all()


def test_what_random_split_gives_becomes_two_parts() -> None:
    parts = random_split(TensorDataset(torch.from_numpy(X)), [30, 10])
    with pytest.raises(
        TypeError, match=r"got list\. Give two of them as parts: tb\.data\.Data\('data', \*\["
    ) as refused:
        load(parts)
    data = eval(str(refused.value).split("parts: ")[1][:-1], {"tb": tb, "x": parts})
    assert (len(data.train), len(data.test)) == (30, 10)
    with pytest.raises(TypeError, match=r"got list\. Convert it to an array"):
        load([X, X])


@pytest.mark.parametrize("size", ["8", 8.5, True, (8, 8)])
def test_a_size_is_a_whole_number(tmp_path: Path, size: Any) -> None:
    Image.new("L", (6, 5)).save(tmp_path / "0.png")
    Image.new("L", (6, 5)).save(tmp_path / "1.png")
    for source in (tmp_path, "sprites"):
        with pytest.raises(TypeError, match=r"Expected a size that is a whole number of pixels; got .* Give a number"):
            load(source, size=size)
    assert load(tmp_path, size=np.int64(4)).train.shape == (1, 4, 4)  # type: ignore[arg-type]


def test_arguments_of_other_kinds_are_refused_in_a_sentence() -> None:
    with pytest.raises(TypeError, match=r"Expected a test_fraction that is a number; got '0\.1'\. Give one, such as"):
        load(X, test_fraction="0.1")  # type: ignore[arg-type]
    assert len(load(X, test_fraction=np.float32(0.1)).test) == 4  # type: ignore[arg-type]
    good = Observations(torch.zeros(2, 1))
    for train, test, which in ((torch.zeros(2, 1), good, "training"), (good, X, "test")):
        with pytest.raises(TypeError, match=rf"Expected Observations as the {which} set of a; got .*tb\.data\.observ"):
            Data("a", train, test)  # type: ignore[arg-type]


# Data frames: the libraries are no part of this one, so their frames are made up here where they are not installed.


class Own:
    """One of pandas' own dtypes, of which even numbers can be absent."""

    def __init__(self, name: str, numpy_dtype: str) -> None:
        self.name, self.numpy_dtype, self.kind = name, np.dtype(numpy_dtype), np.dtype(numpy_dtype).kind

    def __repr__(self) -> str:
        return self.name


class Column:
    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def isna(self) -> Column:
        return Column([value is None for value in self.values])

    def to_numpy(self) -> np.ndarray:
        return np.array(self.values)


class Nullable:
    """What a frame of pandas looks like from outside."""

    def __init__(self, dtypes: list[Any], **columns: list[Any]) -> None:
        self.dtypes, self.columns, self.held = dtypes, list(columns), columns

    def __len__(self) -> int:
        return 3

    def __getitem__(self, column: str) -> Column:
        return Column(self.held[column])

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(list(self.held.values()), object).T

    def astype(self, dtype: np.dtype) -> np.ndarray:
        return np.stack([np.array(held, dtype) for held in self.held.values()], 1)


def test_columns_that_could_have_gaps_and_have_none_are_taken() -> None:
    kinds = [Own("Int64", "i8"), Own("Float32", "f4")]
    assert observations(Nullable(kinds, a=[1, 2, 3], b=[1.0, 2.0, 3.5])).stored.tolist() == [[1, 1], [2, 2], [3, 3.5]]
    message = r"got Int64 with 1 of 3 values absent in the column 'a' of array\. .*df\.dropna\(subset=\['a'\]\)"
    with pytest.raises(TypeError, match=message):
        observations(Nullable(kinds, a=[1, None, 3], b=[1.0, 2.0, 3.5]))


BOOL, TEXT = Own("boolean", "?"), Own("string", "O")


@pytest.mark.parametrize(
    ("kinds", "columns", "stored", "dtype"),
    [
        (
            [np.dtype("?"), np.dtype("f4")],
            ([True, False, True], [1, 2, 3.5]),
            [[1, 1], [0, 2], [1, 3.5]],
            torch.float32,
        ),
        ([BOOL, np.dtype("i8")], ([True, False, True], [1, 2, 3]), [[1, 1], [0, 2], [1, 3]], torch.int64),
        ([BOOL, np.dtype("?")], ([True, False, True], [False] * 3), [[1, 0], [0, 0], [1, 0]], torch.bool),
    ],
)
def test_true_and_false_are_1_and_0_beside_numbers(kinds: Any, columns: Any, stored: Any, dtype: torch.dtype) -> None:
    found = observations(Nullable(kinds, a=columns[0], b=columns[1]))
    assert (found.stored.tolist(), found.stored.dtype, found.column_names) == (stored, dtype, ("a", "b"))


def test_all_columns_that_are_refused_are_named_at_once() -> None:
    frame = Nullable(
        [np.dtype("O"), np.dtype("f8"), TEXT, np.dtype("O"), BOOL, Own("Int64", "i8")],
        a=["x", "y", "z"], b=[1, 2, 3], c=["x", None, "y"], d=["x"] * 3, e=[True, None, None], f=[None, 1, 2],
    )  # fmt: skip
    with pytest.raises(TypeError) as refused:
        observations(frame)
    assert str(refused.value) == (
        "Expected columns of plain numbers; got object in the columns 'a', 'd', string with 1 of 3 values absent in "
        "the column 'c', boolean with 2 of 3 values absent in the column 'e' and Int64 with 1 of 3 values absent in "
        "the column 'f' of array. Make numbers of them without gaps, or leave them out: "
        "df.drop(columns=['a', 'c', 'd']).dropna(subset=['e', 'f'])."
    )


def test_frames_of_pandas_are_read() -> None:
    pandas = pytest.importorskip("pandas")
    whole = pandas.DataFrame({"a": pandas.array([1, 2, 3], "Int64"), "b": pandas.array([1, 2, 3.5], "Float32")})
    found = observations(whole)
    assert (found.stored.tolist(), found.column_names) == ([[1, 1], [2, 2], [3, 3.5]], ("a", "b"))
    gaps = pandas.DataFrame({"a": pandas.array([1, None, 3], "Int64")})
    with pytest.raises(TypeError, match=r"got Int64 with 1 of 3 values absent in the column 'a'.*dropna"):
        observations(gaps)
    assert len(observations(gaps.dropna(subset=["a"]))) == 2
    with pytest.raises(TypeError, match=r"df\.drop\(columns='a'\)"):
        observations(pandas.DataFrame({"a": ["x"], "b": [1]}))
    dummies = pandas.get_dummies(pandas.DataFrame({"a": [1.5, 2.0], "c": ["x", "y"]}))
    found = observations(dummies.assign(d=pandas.array([True, False], "boolean")))
    assert (found.stored.tolist(), found.column_names) == ([[1.5, 1, 0, 1], [2, 0, 1, 0]], ("a", "c_x", "c_y", "d"))
    twice = pandas.concat([pandas.DataFrame({"a": [1.5]}), pandas.DataFrame({"a": [True]})], axis=1)
    assert observations(twice).stored.tolist() == [[1.5, 1]]


class Polar:
    """A dtype of polars."""

    def __init__(self, name: str) -> None:
        self.name = name

    def is_numeric(self) -> bool:
        return self.name != "String"

    def __str__(self) -> str:
        return self.name


class Held:
    def __init__(self, count: int) -> None:
        self.count = count

    def null_count(self) -> int:
        return self.count


class Frame(Nullable):
    """What a frame of polars looks like from outside."""

    def __init__(self, *names: str, gaps: int = 0) -> None:
        super().__init__([Polar(name) for name in names], **{"abc"[place]: [] for place in range(len(names))})
        self.gaps = gaps

    def __getitem__(self, column: str) -> Any:
        return Held(self.gaps)

    def drop_nulls(self) -> None: ...

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.ones((3, len(self.columns)))


@pytest.mark.parametrize(
    ("names", "gaps", "words"),
    [
        (("Float64", "String"), 0, r"got String in the column 'b' .*df\.drop\('b'\)\."),
        (("String", "Boolean", "Date"), 0, r"got String in the column 'a' and Date in .* 'c' .*df\.drop\('a', 'c'\)\."),
        (("Decimal(None, 2)",), 0, r"got Decimal.* in the column 'a' .*df\.drop\('a'\)"),
        (("Int64",), 2, r"got Int64 with 2 of 3 values absent in the column 'a' .*df\.drop_nulls\(subset=\['a'\]\)"),
    ],
)
def test_frames_of_polars_are_taken_where_all_is_numbers(names: tuple[str, ...], gaps: int, words: str) -> None:
    assert observations(Frame("Float64", "Int32", "Boolean")).column_names == ("a", "b", "c")
    with pytest.raises(TypeError, match=f"Expected columns of plain numbers; {words}"):
        observations(Frame(*names, gaps=gaps))


def test_frames_of_polars_are_read() -> None:
    polars = pytest.importorskip("polars")
    found = observations(polars.DataFrame({"a": [1.0, 2.0], "b": [1, 2]}))
    assert (found.stored.tolist(), found.column_names) == ([[1, 1], [2, 2]], ("a", "b"))
    mixed = polars.DataFrame({"a": [1, None], "b": ["x", "y"], "c": [True, False]})
    with pytest.raises(TypeError, match=r"got Int64 with 1 of 2 values absent in the column 'a'"):
        observations(mixed)
    assert observations(mixed.drop("b").drop_nulls(subset=["a"])).stored.tolist() == [[1, 1]]
