"""Files with known factors, and parts that ask harder questions."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
import torch

from tightbound.data import Observations, correlated, held_out, load
from tightbound.data.arrays import DSPRITES
from tightbound.data.factors import SHAPES3D, Read, factor, read_h5


def grid(*counts: int) -> Observations:
    table = torch.tensor(list(itertools.product(*map(range, counts)))).double()
    names = tuple("abcdef"[: len(counts)])
    return Observations(torch.arange(len(table))[:, None].double(), factors=table, factor_names=names)


def rows_of(part: Observations) -> set[float]:
    return set(part.eval_batch(dtype=torch.float64).x[:, 0].tolist())


def test_two_factors_go_together_in_training_alone():
    data = correlated(grid(20, 20, 40), "a", "b", spread=0.2)
    a, b = (factor(data.train, name) for name in "ab")
    assert torch.corrcoef(torch.stack([a, b]))[0, 1] > 0.7
    for part, names in ((data.train, "ac"), (data.test, "ab"), (data.test, "ac")):
        pair = torch.stack([factor(part, name) for name in names])
        assert abs(torch.corrcoef(pair)[0, 1]) < 4 / len(part) ** 0.5
    assert not rows_of(data.train) & rows_of(data.test)


def test_a_row_is_kept_as_often_as_is_said():
    """At a distance of d the share that is kept is exp(−d² / 2 s²)."""
    whole = grid(5, 5, 4000)
    data = correlated(whole, "a", "b", spread=0.5)
    distance = (factor(data.train, "a") - factor(data.train, "b")).abs() / 4
    test = (factor(data.test, "a") - factor(data.test, "b")).abs() / 4
    for step, pairs in ((0, 5), (1, 8), (2, 6), (3, 4), (4, 2)):
        there = pairs * 4000 - int((test == step / 4).sum())
        expected = np.exp(-((step / 4) ** 2) / (2 * 0.5**2))
        seen = int((distance == step / 4).sum()) / there
        assert abs(seen - expected) <= 4 * np.sqrt(expected * (1 - expected) / there)


def test_a_seed_chooses_the_rows():
    same, again, other = (correlated(grid(5, 5, 20), "a", "b", seed=seed) for seed in (0, 0, 1))
    assert rows_of(same.train) == rows_of(again.train) != rows_of(other.train)


def test_combinations_are_held_out_together():
    data = held_out(grid(3, 4, 5), {"a": [1], "c": {0, 4}})
    assert len(data.test) == 1 * 4 * 2
    assert {tuple(row) for row in data.test.eval_batch().factors[:, [0, 2]].tolist()} == {(1, 0), (1, 4)}
    assert len(data.train) == 60 - 8
    assert not rows_of(data.train) & rows_of(data.test)


def test_parts_can_be_parted_again():
    part = grid(3, 4, 5).subset(torch.arange(30))
    assert rows_of(held_out(part, {"a": [0]}).test) == set(range(20))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: correlated(grid(3, 3), "a", "b", spread=0), "Expected a spread above 0; got 0. 0.2 makes a strong"),
        (lambda: correlated(grid(3, 3), "a", "b", spread=float("nan")), "Expected a spread above 0; got nan"),
        (lambda: correlated(grid(3, 3), "a", "a"), "Expected two different factors; got 'a' twice."),
        (lambda: correlated(grid(3, 3), "a", "z"), r"Expected the name of a factor of data \(a, b\); got 'z'."),
        (
            lambda: correlated(Observations(torch.zeros(3, 1)), "a", "b"),
            r"Expected the name of a factor of data \(no factor that has a name\); got 'a'.",
        ),
        (lambda: held_out(grid(3, 3), {}), "Expected at least one factor to hold out by; got none."),
        (
            lambda: held_out(grid(3, 3), {"a": [7]}),
            r"leave some; got {'a': \[7\]}, which takes none of 9 rows of data.",
        ),
        (lambda: held_out(grid(3, 3), {"a": [0, 1, 2]}), "which takes all of 9 rows of data."),
    ],
)
def test_a_part_that_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_spread_that_keeps_nothing_is_refused():
    table = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(20, 1)
    apart = Observations(torch.zeros(40, 1), factors=table, factor_names=("a", "b"))
    with pytest.raises(ValueError, match=r"Expected a spread that keeps some rows; got 0\.01, which keeps none"):
        correlated(apart, "a", "b", spread=0.01)


def test_sprites_ask_harder_questions():
    data = load("sprites-correlated", size=16)
    pair = torch.stack([factor(data.train, name) for name in ("scale", "x")])
    assert torch.corrcoef(pair)[0, 1] > 0.6
    data = load("sprites-held-out", size=16)
    assert len(data.test) == 1 * 6 * 3 * 4 * 8
    assert factor(data.test, "x").min() > 0.5
    assert data.train.shape == (1, 16, 16)


def test_the_file_of_dsprites_is_read_as_it_is(tmp_path):
    """Its arrays and their dtypes, a pickled description among them, which is never opened."""
    values = np.array(list(itertools.product([1.0], [1.0, 2.0, 3.0], [0.5, 1.0], [0.0, 6.28], [0.0, 1.0], [0.0, 1.0])))
    images = np.random.default_rng(0).integers(0, 2, (len(values), 64, 64)).astype(np.uint8)
    np.savez_compressed(
        tmp_path / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz", metadata=np.array({"title": "dSprites"}, object),
        imgs=images, latents_classes=np.zeros_like(values, np.int64), latents_values=values,
    )  # fmt: skip
    data = load(tmp_path / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz")
    assert data.train.factor_names == DSPRITES
    [whole] = data.everything()
    assert whole.shape == (1, 64, 64)
    assert whole.eval_batch().x[:, 0].numpy().tolist() == images.tolist()
    assert whole.factors.numpy().tolist() == values.tolist()
    assert [whole.label_names[label] for label in whole.labels] == [
        ("square", "ellipse", "heart")[int(shape) - 1] for shape in values[:, 1]
    ]


def test_any_file_can_have_factors(tmp_path):
    x, factors = np.ones((20, 3)), np.arange(40).reshape(20, 2)
    np.savez(tmp_path / "x.npz", x=x, factors=factors, factor_names=np.array(["width", "angle"]))
    [whole] = load(tmp_path / "x.npz").everything()
    assert whole.factor_names == ("width", "angle")
    assert whole.factors.tolist() == factors.tolist()
    np.savez(tmp_path / "y.npz", x_train=x, x_test=x[:5], factors_train=factors, factors_test=factors[:5])
    data = load(tmp_path / "y.npz")
    assert data.test.factors.tolist() == factors[:5].tolist()
    assert data.train.factor_names == ()


@pytest.mark.parametrize(
    ("factors", "names", "message"),
    [
        (np.zeros((19, 2)), np.array(["a", "b"]), r"Expected factors of shape \(N, F\) with N = 20; got \(19, 2\)"),
        (np.zeros((20, 2)), np.array(["a"]), "Expected 2 factor_names, one for each column of factors; got 1"),
        (
            np.zeros((20, 2)),
            np.array([1, 2]),
            r"Expected factor_names as an array of words, .*; got int64 of shape \(2,\)",
        ),
        (np.zeros((20, 2)), np.array([["a", "b"]]), r"an array of words, .* of shape \(1, 2\)"),
    ],
)
def test_factors_that_do_not_fit_are_refused(factors, names, message, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.ones((20, 3)), factors=factors, factor_names=names)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "x.npz")


def test_factors_of_words_are_refused(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.ones((2, 3)), factors=np.array([["red"], ["blue"]]))
    with pytest.raises(TypeError, match=r"Expected an array of real numbers; got dtype <U4 in the factors of .*x\.npz"):
        load(tmp_path / "x.npz")


def shapes3d(path, **changes):
    h5py = pytest.importorskip("h5py")
    generator = np.random.default_rng(0)
    arrays = {
        "images": generator.integers(0, 256, (24, 8, 8, 3)).astype(np.uint8),
        "labels": generator.integers(0, 4, (24, 6)).astype(float),
        **changes,
    }
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            if values is not None:
                file.create_dataset(name, data=values, compression="gzip")
    return arrays


def test_the_file_of_3d_shapes_is_read(tmp_path, monkeypatch):
    arrays = shapes3d(tmp_path / "3dshapes.h5")
    [kept] = load(tmp_path / "3dshapes.h5").everything()
    assert kept.factor_names == SHAPES3D
    assert kept.factors.numpy().tolist() == arrays["labels"].tolist()
    assert kept.labels.tolist() == [int(shape) for shape in arrays["labels"][:, 4]]
    assert kept.stored.permute(0, 2, 3, 1).numpy().tolist() == arrays["images"].tolist()
    monkeypatch.setattr("tightbound.data.factors.memory", lambda: 1)
    lazy = read_h5(tmp_path / "3dshapes.h5")
    assert isinstance(lazy.stored, Read)
    for rows in (torch.tensor([3, 0, 3, 23]), torch.arange(24), torch.arange(24).flip(0)):
        assert lazy.take(rows).equal(kept.take(rows))
    assert lazy.eval_batch().x.equal(kept.eval_batch().x)
    assert lazy.to(torch.device("meta")).stored.shape == (24, 3, 8, 8)
    assert lazy.to(torch.device("cpu")).stored is lazy.stored


def test_another_table_has_no_names(tmp_path):
    shapes3d(tmp_path / "x.hdf5", labels=np.zeros((24, 2)))
    assert load(tmp_path / "x.hdf5").train.factor_names == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, r'Expected a whole HDF5 file with "images" and "labels"; got .*labels.* in .*x\.h5'),
        ({"images": np.zeros((24, 3))}, r'Expected 8-bit "images" of shape \(N, H, W, C\) .*; got float64 \(24, 3\)'),
        ({"labels": np.zeros((5, 6))}, r"got uint8 \(24, 8, 8, 3\) and \(5, 6\) in .*x\.h5"),
    ],
)
def test_another_hdf5_file_is_refused(changes, message, tmp_path):
    shapes3d(tmp_path / "x.h5", **changes)
    with pytest.raises(ValueError, match=message):
        load(tmp_path / "x.h5")


def test_a_damaged_hdf5_file_is_refused(tmp_path):
    pytest.importorskip("h5py")
    (tmp_path / "x.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ValueError, match=r'Expected a whole HDF5 file with "images" and "labels"; got .* in .*x\.h5'):
        load(tmp_path / "x.h5")


@pytest.mark.parametrize("lazily", [False, True])
def test_a_file_that_was_cut_is_refused_or_read_no_further(lazily, tmp_path, monkeypatch):
    shapes3d(tmp_path / "x.h5")
    whole = (tmp_path / "x.h5").read_bytes()
    (tmp_path / "x.h5").write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr("tightbound.data.factors.memory", lambda: 1 if lazily else 2**40)
    with pytest.raises(ValueError, match=r"Expected a whole HDF5 file .*x\.h5"):
        load(tmp_path / "x.h5")


def test_a_seed_out_of_range_is_refused():
    with pytest.raises(ValueError, match="Expected a seed from 0"):
        correlated(grid(3, 3), "a", "b", seed=-1)


def test_without_the_library_a_hdf5_file_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ModuleNotFoundError, match=r"Expected the library h5py, to read .*; got none\. Install it: pip"):
        read_h5(tmp_path / "x.h5")
