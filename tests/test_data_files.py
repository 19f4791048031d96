"""NumPy's files: read by their keys, left on disk where that can be, refused where they are damaged."""

import io
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tightbound.data import load


def everything(data):
    return data.take(torch.arange(len(data)))


def test_a_npy_file_stays_on_disk(tmp_path):
    path = tmp_path / "faces.npy"
    images = np.random.default_rng(0).integers(0, 256, (50, 6, 5, 3), dtype=np.uint8)
    np.save(path, images)
    data = load(path)
    assert data.train.name == data.name == str(path)
    assert (len(data.train), len(data.test)) == (45, 5)
    np.testing.assert_array_equal(data.test.take(torch.tensor([0]))[0], images[data.test.rows[0]].transpose(2, 0, 1))
    mapped = np.lib.format.open_memmap(path, mode="r+")
    mapped[int(data.train.rows[7])] = 9
    mapped.flush()
    assert data.train.take(torch.tensor([7])).unique().tolist() == [9]


@pytest.mark.skipif(os.name == "nt", reason="needs a file system that does not store what was never written")
def test_a_file_larger_than_memory_can_be_loaded(tmp_path):
    shape = (2**16, 2**18)  # 64 GB
    with open(tmp_path / "big.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        file.truncate(file.tell() + 4 * shape[0] * shape[1])
    data = load(tmp_path / "big.npy")
    (tmp_path / "big.npy").unlink()  # what is mapped stays until it is let go
    assert len(data.train) + len(data.test) == 2**16
    assert data.train.batch(torch.tensor([5, 50_000])).x.count_nonzero() == 0


@pytest.mark.parametrize(
    ("arrays", "train", "test"),
    [
        ({"x_train": 8, "x_test": 4, "y_train": 8, "y_test": 4, "note": 1}, "x_train", "x_test"),
        ({"X_train": 8, "X_test": 4}, "X_train", "X_test"),
        ({"x_train": 8, "y_train": 8}, "x_train", None),
        ({"x": 8, "y": 8}, "x", None),
        ({"X": 8, "y": 8, "columns": 3}, "X", None),
        ({"anything": 8}, "anything", None),
    ],
)
def test_a_npz_file_is_read_by_its_keys(arrays, train, test, tmp_path):
    path = tmp_path / "table.npz"
    generator = np.random.default_rng(0)
    content = {key: np.arange(n) % 3 if key[0] == "y" else generator.normal(size=(n, 2)) for key, n in arrays.items()}
    np.savez(path, **content)
    data = load(path)
    np.testing.assert_array_equal(data.train.stored, content[train])
    assert data.train.name == f"{path}[{train}]"
    assert (data.train.labels is None) == (not any(key[0] == "y" for key in arrays))
    if test is not None:
        np.testing.assert_array_equal(everything(data.test), content[test])
    else:
        assert data.test.stored is data.train.stored


def test_pixels_of_both_sets_have_one_scale(tmp_path):
    np.savez(tmp_path / "x.npz", x_train=np.full((4, 3, 3), 9, np.uint8), x_test=np.zeros((2, 3, 3), np.uint8))
    assert load(tmp_path / "x.npz").test.scale == 255
    np.savez(tmp_path / "x.npz", x_train=np.full((4, 3, 3), 9, np.uint8), x_test=np.zeros((2, 1, 3, 3)))
    with pytest.raises(ValueError, match=r"of one scale; got 255\.0 and 1\.0 in .*x\.npz"):
        load(tmp_path / "x.npz")


def test_words_label_both_sets_alike(tmp_path):
    x = np.zeros((2, 3))
    np.savez(tmp_path / "x.npz", x_train=x, x_test=x, y_train=np.array(["b", "c"]), y_test=np.array(["a", "c"]))
    data = load(tmp_path / "x.npz")
    assert data.train.label_names == data.test.label_names == ("a", "b", "c")
    assert data.test.labels.tolist() == [0, 2]


@pytest.mark.parametrize("keys", [("a", "pictures"), ("x", "X"), ("x", "x_test"), ("x_test", "y_test"), ()])
def test_an_ambiguous_npz_file_is_refused(keys, tmp_path):
    np.savez(tmp_path / "x.npz", **{key: np.zeros((2, 2)) for key in keys})
    listed = f"the keys {', '.join(keys)}" if keys else "no array"
    with pytest.raises(
        ValueError, match=rf"Expected x_train .*, x \(with y and factors\), .*; got {listed} in .*x\.npz"
    ):
        load(tmp_path / "x.npz")


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_python_objects_are_not_unpickled(ending, tmp_path):
    path = tmp_path / f"x.{ending}"
    (np.save if ending == "npy" else np.savez)(path, np.array([[None]]), allow_pickle=True)
    with pytest.raises(ValueError, match=rf"Expected a whole \.{ending} file of numbers; got .* in .*x\.{ending}"):
        load(path)


@pytest.mark.parametrize("ending", ["npy", "npz"])
@pytest.mark.parametrize("damage", ["empty", "noise", "cut"])
def test_a_damaged_file_is_refused_by_name(ending, damage, tmp_path):
    path = tmp_path / f"x.{ending}"
    (np.save if ending == "npy" else np.savez)(path, np.zeros((100, 3)))
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "noise": bytes(range(256)), "cut": whole[:-50]}[damage])
    with pytest.raises(ValueError, match=rf"Expected a whole \.{ending} file of numbers; got .* in .*x\.{ending}"):
        load(path)


def test_a_npy_file_by_another_name_is_told_apart(tmp_path):
    with open(tmp_path / "x.npz", "wb") as file:
        np.save(file, np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"got a \.npy file by another name in .*x\.npz"):
        load(tmp_path / "x.npz")


def test_a_file_of_text_or_of_one_axis_is_refused_by_name(tmp_path):
    np.save(tmp_path / "words.npy", np.array(["a", "b"]))
    with pytest.raises(TypeError, match=r"got dtype <U1 in .*words\.npy"):
        load(tmp_path / "words.npy")
    np.save(tmp_path / "line.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"got \(3,\) in .*line\.npy"):
        load(tmp_path / "line.npy")
    np.save(tmp_path / "none.npy", np.zeros((0, 3), np.uint8))
    with pytest.raises(ValueError, match=r"empty array in .*none\.npy"):
        load(tmp_path / "none.npy")


def stored_bytes(ending: str) -> bytes:
    buffer = io.BytesIO()
    (np.save if ending == "npy" else np.savez_compressed)(buffer, np.arange(12, dtype=np.uint8).reshape(4, 3))
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore::UserWarning")  # NumPy may warn of a header that it then refuses
@given(ending=st.sampled_from(["npy", "npz"]), at=st.integers(0, 300), put=st.binary(min_size=1, max_size=6))
@settings(max_examples=300)
def test_damage_anywhere_gives_data_or_a_clear_error(ending, at, put, tmp_path_factory):
    content = bytearray(stored_bytes(ending))
    content[at : at + len(put)] = put
    path = tmp_path_factory.getbasetemp() / f"damaged.{ending}"
    path.write_bytes(content)
    try:
        assert len(load(path).train) > 0
    except (ValueError, TypeError) as error:
        assert "damaged" in str(error)  # noqa: PT017 - damage may hit bytes that say nothing
