"""Arrays, tensors, torch data sets and labels: how each becomes observations."""

import warnings

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from tightbound.data import load, observations, summarise
from tightbound.data.labels import encode


class Items(Dataset):
    """A map-style data set of whatever it is given."""

    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Stream(IterableDataset):
    """A data set without numbers for its items."""

    def __iter__(self):
        return iter(())


def everything(data):
    return data.take(torch.arange(len(data)))


# --- shapes and scales ---


@pytest.mark.parametrize(
    ("shape", "dtype", "seen"),
    [
        ((9, 5, 7, 3), np.uint8, (3, 5, 7)),
        ((9, 5, 7, 1), np.uint8, (1, 5, 7)),
        ((9, 5, 7, 3), np.float32, (3, 5, 7)),
        ((9, 3, 5, 7), np.uint8, (3, 5, 7)),
        ((9, 1, 5, 3), np.uint8, (1, 5, 3)),
        ((9, 3, 3, 3), np.float32, (3, 3, 3)),
        ((9, 5, 7, 4), np.uint8, (4, 5, 7)),
        ((9, 5, 7), np.uint8, (1, 5, 7)),
        ((9, 5, 7), np.bool_, (1, 5, 7)),
        ((9, 5, 7), np.float32, (5, 7)),
        ((9, 5, 7), np.int64, (5, 7)),
        ((9, 5), np.uint8, (5,)),
        ((9, 2, 2, 2, 3), np.uint8, (2, 2, 2, 3)),
    ],
)
def test_images_are_turned_channels_first_and_other_shapes_stay(shape, dtype, seen):
    for array in (np.ones(shape, dtype), torch.ones(shape, dtype=torch.from_numpy(np.ones(1, dtype)).dtype)):
        assert tuple(observations(array).shape) == seen


def test_channels_are_moved_and_not_reinterpreted():
    array = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    data = observations(array)
    np.testing.assert_array_equal(everything(data)[1, 2], array[1, :, :, 2])
    assert everything(data).is_contiguous()


@pytest.mark.parametrize(
    ("high", "dtype", "shape", "scale"),
    [
        (2, np.uint8, (1, 1, 2), 255),
        (1, np.uint8, (1, 1, 2), 1),
        (128, np.uint8, (1, 2), 255),
        (127, np.uint8, (1, 2), 1),
        (1, np.uint8, (1, 2), 1),
        (1, bool, (1, 1, 2), 1),
        (200, np.int64, (1, 1, 2), 1),
        (200, np.float32, (1, 1, 2), 1),
    ],
)
def test_bytes_are_pixels_unless_they_are_binary_or_small_numbers_in_a_table(high, dtype, shape, scale):
    data = observations(np.array([0, high], dtype).reshape(shape))
    assert data.scale == scale
    assert data.unbinarised(torch.tensor([0])).flatten().tolist() == pytest.approx([0, high / scale])


@pytest.mark.parametrize(
    "dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", "?", ">u2", ">f4", ">i8"]
)
def test_every_real_dtype_is_taken_in_either_byte_order(dtype):
    array = np.array([[0, 1], [1, 3]]).astype(dtype)
    data = observations(array)
    np.testing.assert_array_equal(everything(data).numpy(), array)
    assert summarise(data).count == 2


def test_odd_strides_and_read_only_arrays_are_taken_in_silence():
    array = np.arange(12.0).reshape(4, 3)
    frozen = array.copy()
    frozen.flags.writeable = False
    for odd in (array[::-1, ::-2], array.T, np.asfortranarray(array), frozen):
        np.testing.assert_array_equal(everything(observations(odd)).numpy(), odd)


def test_only_the_one_warning_is_silenced(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 2)))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        load(tmp_path / "x.npy")
        warnings.warn("another", UserWarning, stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["another"]


def test_a_tensor_is_not_copied_and_leaves_its_graph():
    tensor = torch.ones(4, 2, requires_grad=True)
    data = observations(tensor)
    assert data.stored.data_ptr() == tensor.data_ptr()
    assert not data.stored.requires_grad


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.zeros(5), ValueError, r"shape \(N, \.\.\.\); got \(5,\) in array\. For N single numbers, add an axis"),
        (np.float64(3), ValueError, r"shape \(N, \.\.\.\); got \(\) in array"),
        (torch.zeros(5), ValueError, r"shape \(N, \.\.\.\); got \(5,\) in array"),
        (np.zeros((0, 3)), ValueError, "at least one observation; got an empty array in array"),
        (np.zeros((3, 0), np.uint8), ValueError, "at least one observation; got an empty array in array"),
        (np.array([["a"]]), TypeError, "Expected an array of real numbers; got dtype <U1 in array"),
        (np.array([[None]]), TypeError, "Expected an array of real numbers; got dtype object in array"),
        (np.zeros((2, 2), complex), TypeError, "real numbers; got dtype complex128 in array"),
        (np.zeros((2, 2), "M8[s]"), TypeError, r"real numbers; got dtype datetime64\[s\] in array"),
        (np.zeros((2, 2), [("a", "f4")]), TypeError, "real numbers; got dtype .*'a'.* in array"),
        (np.zeros((2, 2), np.longdouble), TypeError, "real numbers; got dtype float128 in array"),
        (torch.zeros(2, 2, dtype=torch.complex64), TypeError, "real numbers; got torch.complex64.* in array"),
    ],
)
def test_unfit_arrays_are_refused(array, error, message):
    with pytest.raises(error, match=message):
        load(array)


# --- labels ---


@pytest.mark.parametrize(
    ("given", "codes", "names"),
    [
        ([3, 0, 3], [3, 0, 3], ()),
        (np.array([[3], [0]], np.uint8), [3, 0], ()),
        (torch.tensor([1.0, 0.0]), [1, 0], ()),
        ([True, False], [1, 0], ()),
        ([-1, 1, -1], [0, 1, 0], ("-1", "1")),
        (["dog", "cat", "dog"], [1, 0, 1], ("cat", "dog")),
        (np.array(["dog", "cat"], dtype=object), [1, 0], ("cat", "dog")),
        (np.array([b"dog", b"cat"]), [1, 0], ("cat", "dog")),
    ],
)
def test_labels_become_integers(given, codes, names):
    (encoded,), found = encode([given], "pets")
    assert (encoded.tolist(), found, encoded.dtype) == (codes, names, torch.int64)


def test_labels_of_two_parts_mean_the_same():
    (train, test), names = encode([["b", "c"], ["a"]], "pets")
    assert (train.tolist(), test.tolist(), names) == ([1, 2], [0], ("a", "b", "c"))
    (train, test), names = encode([None, ["a"]], "pets")
    assert (train, test.tolist(), names) == (None, [0], ("a",))
    assert encode([None, None], "pets") == ([None, None], ())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.eye(2), r"Expected labels of shape \(N,\); got \(2, 2\) in pets\. .*labels\.argmax\(1\)"),
        (3, r"Expected labels of shape \(N,\); got \(\) in pets"),
        ([0.5, 1.0], "Expected labels that are integers or words; got float64 in pets"),
        ([float("inf")], "integers or words; got float64 in pets"),
        (np.array([None, "a"]), "integers or words; got object in pets"),
        ([1j], "integers or words; got complex128 in pets"),
    ],
)
def test_other_labels_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        encode([given], "pets")


def test_a_pair_is_observations_and_their_labels():
    data = observations((np.zeros((3, 2)), ["b", "a", "b"]))
    assert data.label(torch.tensor([0, 1])).tolist() == [1, 0]
    assert data.label_names == ("a", "b")
    assert observations((torch.zeros(3, 2), None)).labels is None
    with pytest.raises(ValueError, match=r"one label for each of 3 observations; got labels of shape \(2,\) in array"):
        load((torch.zeros(3, 2), [0, 1]))
    with pytest.raises(ValueError, match=r"a training and a test set as tightbound\.data\.Data\(name, train, test\)"):
        load((torch.zeros(3, 2), torch.zeros(2, 2)))


# --- torch data sets ---


def test_items_are_stacked_with_their_labels():
    data = observations(Items(*((torch.full((2, 3), float(i)), i % 2) for i in range(5))))
    assert everything(data)[:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert data.labels.tolist() == [0, 1, 0, 1, 0]
    assert observations(Items(torch.zeros(3), torch.ones(3))).labels is None


def test_a_tensor_data_set_is_taken_whole():
    x = torch.arange(6.0).reshape(3, 2)
    assert observations(TensorDataset(x, torch.tensor([2, 1, 0]))).stored.data_ptr() == x.data_ptr()
    part = observations(Subset(TensorDataset(x, torch.tensor([2, 1, 0])), [2, 0]))
    assert (everything(part).tolist(), part.labels.tolist()) == ([[4, 5], [0, 1]], [0, 2])


def test_pictures_and_words_are_understood():
    image = pytest.importorskip("PIL.Image")
    data = observations(Items((image.new("RGB", (4, 5), "red"), "red"), (image.new("RGB", (4, 5), "lime"), "lime")))
    assert data.shape == (3, 5, 4)
    assert (data.scale, data.label_names) == (255, ("lime", "red"))
    assert everything(data)[0, :, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize(
    ("dataset", "error", "message"),
    [
        (Items(), ValueError, "Expected at least one observation; got an empty Items"),
        (Stream(), ValueError, "Expected at least one observation; got an empty Stream"),
        (Items({"x": 1}), TypeError, r"Expected items x or \(x, label\), .*; got dict at index 0 of data set"),
        (Items(torch.zeros(2), "word"), TypeError, "got str at index 1 of data set"),
        (Items(np.array([None])), TypeError, "got ndarray at index 0 of data set"),
        (Items((torch.zeros(2), 0, 1)), TypeError, "got tuple at index 0 of data set"),
        (
            Items((torch.zeros(2), torch.zeros(3))),
            ValueError,
            r"Expected labels of shape \(N,\); got \(1, 3\) in data set",
        ),
        (
            Items(torch.zeros(2), torch.zeros(2), torch.zeros(3)),
            ValueError,
            r"items of shape \(2,\) and torch\.float32, as the first one; got \(3,\) and torch\.float32 at index 2",
        ),
        (
            Items(torch.zeros(2), torch.zeros(2).long()),
            ValueError,
            r"got \(2,\) and torch\.int64 at index 1 of data set",
        ),
        (Items(torch.tensor(1.0)), ValueError, r"shape \(N, \.\.\.\); got \(1,\) in data set"),
    ],
)
def test_unfit_data_sets_are_refused(dataset, error, message):
    with pytest.raises(error, match=message):
        load(dataset)


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        ([(3, 1)], "1 values masked, in 1 of 9 rows of array, the first at row 3"),
        ([(3, 1), (3, 0), (2, 1)], "3 values masked, in 2 of 9 rows of array, the first at row 2"),
    ],
)
def test_what_a_mask_hides_is_missing(hidden: list[tuple[int, int]], message: str) -> None:
    x = np.ma.array(np.zeros((9, 2)), mask=np.zeros((9, 2), bool))
    assert len(observations(x)) == 9  # nothing is hidden
    assert len(observations(np.ma.array(np.zeros((9, 2))))) == 9
    for place in hidden:
        x.mask[place] = True
    with pytest.raises(ValueError, match=f"Expected values that are all there; got a masked array with {message}"):
        observations(x)
    assert len(observations(x[~x.mask.any(1)].data)) < 9
