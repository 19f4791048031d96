"""What predictions are given: arrays of every kind are taken, and what cannot be is refused with what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import tightbound as tb
from tightbound.batch import Batch
from tightbound.data import Data, Observations

MODEL = tb.VAE(
    tb.priors.StandardNormal(2),
    tb.posteriors.DiagonalNormal(nn.Linear(5, 4)),
    tb.likelihoods.Gaussian(nn.Linear(2, 5)),
)
B = np.random.default_rng(0).normal(size=(40, 5))
every_prediction = pytest.mark.parametrize(
    "predict",
    [MODEL.embed, MODEL.reconstruct, lambda x: MODEL.log_prob(x, samples=3), lambda x: MODEL.encode(x).mean],
    ids=["embed", "reconstruct", "log_prob", "encode"],
)
Predict = Callable[[Any], Tensor]


@every_prediction
@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (B[::-1], B[::-1].copy()),
        (B[:, ::-1], B[:, ::-1].copy()),
        (B.astype(">f4"), B.astype("f4")),
        (B.astype(">i2"), B.astype("i2")),
        (np.ma.masked_array(B), B),
        (B.tolist(), B),
        (torch.as_tensor(B), B),
    ],
    ids=["rows reversed", "columns reversed", "big-endian", "big-endian integers", "nothing masked", "list", "tensor"],
)
def test_what_is_no_plain_array_is_taken_as_one(predict: Predict, given: Any, plain: np.ndarray) -> None:
    assert predict(given).equal(predict(plain))


@every_prediction
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (B * 1j, TypeError, r"Expected an array of real numbers; got dtype complex128 in x\. Take its real and its"),
        (torch.as_tensor(B * 1j), TypeError, r"dense real numbers; got torch\.complex128.* torch\.view_as_real\(x\)"),
        (torch.as_tensor(B).to_sparse(), TypeError, r"dense real numbers; got torch\.float64, .*sparse.* x\.to_dense"),
        (B.astype(object), TypeError, r"array of real numbers; got dtype object in x\. Drop what is None.*astype"),
        (B.astype(np.longdouble), TypeError, r"array of real numbers; got dtype float128 in x\. Convert it: x\.astype"),
        (
            [[1.0, 2.0], [3.0]],
            TypeError,
            r"Expected rows of one length; got 2 values in row 0 and 1 in row 1 of x\. Fill",
        ),
        ([[[1.0], [2]], [[3.0], [4, 5]]], TypeError, r"got a list in x of which NumPy makes none .*rows of one length"),
        ([[1.0, None]], TypeError, r"got dtype object in x\. With x = numpy\.array\(x\): Drop what is None"),
        (np.ma.masked_array(B, B > 1), ValueError, r"Expected values that are all there; got a masked array with \d+ "),
        (B[0], ValueError, r"observations of shape \(N, \.\.\.\); got \(5,\)\. A single observation .*x\[None\]"),
        (B[:0], ValueError, "Expected at least one observation; got an empty array"),
        ("x.npy", TypeError, r"got str\. Read the file first: tb\.data\.load\('x\.npy'\)\.test, or numpy\.load"),
        ({"x": B}, TypeError, r"got dict\. tb\.data\.observations\(x\) makes observations of other things"),
        (Data("d", train=Observations(B), test=Observations(B)), TypeError, r"got Data\. .* give one: data\.test"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_what_holds_no_observations_is_refused(predict: Predict, given: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        predict(given)


@every_prediction
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39])
def test_values_that_are_not_finite_are_refused_by_their_row(predict: Predict, value: float) -> None:
    x = B.copy()
    x[[7, 9], 3] = value
    with pytest.raises(ValueError, match="Expected finite values; got NaN or infinity in observation 7 of x, as float"):
        predict(x)
    assert predict(x[:7]).isfinite().all()


def test_frames_are_taken_as_they_are_for_a_training() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(B).assign(**{"4": B[:, 4] > 0})[[0, 1, 2, 3, "4"]]
    assert MODEL.embed(frame).equal(MODEL.embed(frame.to_numpy(float)))
    with pytest.raises(TypeError, match=r"got object in the column '4' of x\. .*df\.drop\(columns='4'\)"):
        MODEL.embed(frame.assign(**{"4": "a"}).astype({"4": object}))


def test_the_row_is_the_one_among_all_of_them() -> None:
    x = B.copy()
    x[33, 0] = np.nan
    for given, name in ((x, "x"), (Batch(torch.as_tensor(x)), "x"), (Observations(x, name="heights"), "heights")):
        with pytest.raises(ValueError, match=f"in observation 33 of {name}"):
            MODEL.embed(given, batch_size=10)
    chosen = Observations(x).subset(torch.arange(39, 29, -1))  # as everywhere, rows are those of what is stored
    with pytest.raises(ValueError, match="in observation 33 of data"):
        MODEL.embed(chosen, batch_size=4)


def test_remedies_for_a_single_observation_and_for_complex_ones_work() -> None:
    assert MODEL.embed(B[0][None]).equal(MODEL.embed(B[:1]))
    x = B[:, :3] + 1j * B[:, 2:]
    with pytest.raises(TypeError) as refused:
        MODEL.embed(x)
    remedy = re.search(r"numpy\.concatenate\(.*\)", str(refused.value))
    assert remedy is not None
    assert eval(remedy[0], {"numpy": np, "x": x}).shape == (40, 6)


# --- remedies that name Observations ---


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor], ids=["NumPy", "torch"])
def test_remedies_that_name_observations_work_for_arrays_and_tensors(make: Callable[[Any], Any]) -> None:
    images = make(np.zeros((4, 8, 9, 3)))
    found = tb.data.observations(images)
    assert found.notes[0].endswith("tb.data.Observations(x) leaves them")
    assert tuple(Observations(images).shape) == (8, 9, 3)
    x, factors = make(B), make(B[:, :2])
    assert Observations(x, factors=factors).factor_table().shape == (40, 2)
    with pytest.raises(ValueError, match=r"Expected one label .* give other columns as factors: Observations\(x, fac"):
        Observations(x, factors)


def test_arrays_become_tensors_that_share_their_memory() -> None:
    x, rows = B.copy(), np.array([3, 1])
    made = Observations(x, np.arange(40), mask=x > 0, rows=rows)
    x[3] = 7
    assert made.take(torch.tensor([0])).eq(7).all()
    assert made.eval_batch().label.tolist() == [3, 1]
    assert made.eval_batch().mask.dtype == torch.bool
    with pytest.raises(TypeError, match=r"Expected a boolean mask; got torch.int64 in data\. Use mask != 0"):
        Observations(x, mask=np.ones((40, 5), dtype=int))
    with pytest.raises(TypeError, match="array of real numbers; got dtype object in faces"):
        Observations(x.astype(object), name="faces")
    with pytest.raises(ValueError, match=r"values that are all there; got a masked array .* rows of data"):
        Observations(np.ma.masked_array(B, B > 1))
    with pytest.raises(ValueError, match=r"mask of shape \(40, 5\).* numpy\.broadcast_to\(mask, stored\.shape\)"):
        Observations(x, mask=x[:, :1] > 0)
    assert Observations(x, mask=np.broadcast_to(x[:, :1] > 0, x.shape)).mask.shape == (40, 5)


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor], ids=["NumPy", "torch"])
def test_a_subset_can_be_told_by_true_and_false(make: Callable[[Any], Any]) -> None:
    whole, chosen = Observations(B), B[:, 0] > 0
    found = whole.subset(make(chosen))
    assert len(found) == chosen.sum()
    assert found.take(torch.arange(len(found))).equal(torch.as_tensor(B[chosen]))
    again = found.subset(make(found.take(torch.arange(len(found))).numpy()[:, 1] > 0))
    assert len(again) == (chosen & (B[:, 1] > 0)).sum()
    assert whole.subset(make(np.array([4, 2]))).rows_of(torch.arange(2)).tolist() == [4, 2]
    for wrong in (chosen[:-1], B > 0):
        with pytest.raises(ValueError, match=r"Expected True or False for each of 40 rows; got \(\d+"):
            whole.subset(make(wrong))
    with pytest.raises(ValueError, match="Expected at least one observation"):
        whole.subset(make(np.zeros(40, dtype=bool)))


def pictures() -> tb.VAE:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 4))
    decoder = nn.Sequential(nn.Linear(2, 3 * 4 * 4), nn.Unflatten(1, (3, 4, 4)))
    prior = tb.priors.StandardNormal(2)
    return tb.VAE(prior, tb.posteriors.DiagonalNormal(encoder), tb.likelihoods.Gaussian(decoder))


@pytest.mark.parametrize("name", ["embed", "reconstruct", "log_prob", "encode"])
@pytest.mark.parametrize("make", [lambda x: x, Batch, Observations], ids=["tensor", "batch", "observations"])
def test_a_picture_without_its_axis_is_told_apart(name: str, make: Callable[[Tensor], Any]) -> None:
    predict, x = getattr(pictures(), name), torch.rand(5, 3, 4, 4)
    if name == "encode" and not isinstance(make(x), Tensor):
        pytest.skip("it takes tensors")
    with pytest.raises(
        ValueError, match=r"shape that the network takes; got \(4, 4\) each \(mat1.* a batch of one: x\[No"
    ):
        predict(make(x[0]))
    predict(make(x[0][None]))


# --- how many ---


@pytest.mark.parametrize("count", [2.5, "a", None, [3]])
@pytest.mark.parametrize(
    "call",
    [
        MODEL.sample,
        MODEL.sample_prior,
        lambda count: MODEL.log_prob(B, samples=count),
        lambda count: MODEL.draw(torch.zeros(2, 5), samples=count),
        lambda count: tb.evaluate.evidence(MODEL, B, samples=count),
    ],
    ids=["sample", "sample_prior", "log_prob", "draw", "evidence"],
)
def test_a_number_of_samples_is_whole(call: Callable[[Any], Any], count: Any) -> None:
    with pytest.raises(TypeError, match=f"Expected a whole number of samples; got {re.escape(repr(count))}"):
        call(count)


def test_other_numbers_are_whole_as_well() -> None:
    with pytest.raises(TypeError, match=r"Expected a whole number of observations at a time; got 2\.5\. Give an int"):
        MODEL.embed(B, batch_size=2.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Expected a whole number of observations; got 2\.5\. Give an int"):
        tb.evaluate.gaps(MODEL, B, observations=2.5)  # type: ignore[arg-type]
    assert MODEL.sample(np.int64(3)).shape == (3, 5)
    assert MODEL.log_prob(B[:1], samples=torch.tensor(3)).shape == (1,)


@pytest.mark.parametrize("count", [10**13, 10**18, 10**30])
def test_more_samples_than_memory_holds_are_refused_in_a_sentence(count: int) -> None:
    message = rf"Expected as many samples as fit into memory; got {count}\. Take fewer at a time: "
    for call in (MODEL.sample, MODEL.sample_prior):
        with pytest.raises(ValueError, match=message) as refused:
            call(count)
    remedy = str(refused.value).removesuffix(".").partition("at a time: ")[2]
    assert eval(remedy, {"torch": torch, "model": MODEL}).shape == (10_000, 5)
