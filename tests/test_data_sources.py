"""load and observations: from a name, a path or an object to data, or to an error that says what can be given."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from tightbound.data import load, observations


def test_digits_are_the_published_ones():
    data = load("digits")
    assert data.name == "digits"
    assert len(data.train) + len(data.test) == 1797
    assert data.train.shape == (1, 8, 8)
    assert data.train.stored.dtype == torch.uint8
    assert data.train.scale == 16
    assert data.train.stored.max() == 16
    assert data.train.label_names == tuple("0123456789")
    assert data.train.labels.bincount().tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_what_is_data_already_comes_back():
    data = load(torch.zeros(30, 1))
    assert load(data) is data
    assert observations(data.test) is data.test
    assert load(data.test).test.stored is data.test.stored


@pytest.mark.parametrize("source", [np.zeros((4, 2)), torch.zeros(4, 2), TensorDataset(torch.zeros(4, 2))])
def test_objects_become_observations(source):
    assert observations(source).shape == (2,)
    assert len(load(source).train) == 3


def test_an_unknown_name_is_answered_with_a_guess():
    with pytest.raises(ValueError, match=r"got 'MINST'\. Did you mean \"mnist\"\?"):
        load("MINST")
    with pytest.raises(
        ValueError,
        match=r"Expected digits, mnist, .* or sprites-held-out, or the path of a \.npy, \.npz .*; got 'sheep'\.$",
    ):
        load("sheep")
    with pytest.raises(ValueError, match="got ''"):
        load("")


def test_a_missing_path_is_called_missing(tmp_path):
    for missing in (tmp_path / "faces", "faces.npy", "./faces"):
        with pytest.raises(ValueError, match=r"faces.*where there is nothing"):
            load(missing, size=8)


def test_another_kind_of_file_is_refused(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("1,2")
    with pytest.raises(
        ValueError, match=r"Expected a \.npy, \.npz or \.h5 file or a folder .*; got the file .*table\.csv"
    ):
        load(path)


def test_a_size_is_for_sprites_and_folders_only(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 2)))
    for source in ("digits", tmp_path / "x.npy", torch.zeros(4, 2)):
        with pytest.raises(ValueError, match="Expected a size for sprites and folders of images only; got size=8 for"):
            load(source, size=8)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([1.0], r"Expected an array, .*; got list\. Convert it to an array: numpy\.asarray\(x\)"),
        (7, "Expected an array, .*; got int"),
        (None, "Expected an array, .*; got NoneType"),
        (("a", "b"), "Expected an array, .*; got tuple"),
        ((torch.zeros(2, 1),), "Expected an array, .*; got tuple"),
    ],
)
def test_other_objects_are_refused(source, message):
    with pytest.raises(TypeError, match=message):
        load(source)


def test_data_is_not_observations():
    with pytest.raises(TypeError, match=r"got Data\. Choose one of its splits: data\.test"):
        observations(load(torch.zeros(4, 1)))


def test_importing_costs_none_of_the_libraries_that_a_source_may_need():
    code = "import tightbound.data, sys; print({'sklearn', 'PIL', 'rich'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
