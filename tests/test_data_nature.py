"""What numbers are by their look: counts, codes, columns in any unit, constants, and what only looks like a number."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from tightbound.checks import check_data
from tightbound.data import Observations, is_image, moments, observations, summarise
from tightbound.data.nature import TOLD, require_digits

R = np.random.default_rng(0)
Z = R.normal(size=(400, 2))
BASE = Z @ R.normal(size=(2, 5)) + 0.1 * R.normal(size=(400, 5))


def scaled(x: np.ndarray) -> np.ndarray:
    return (x - x.min(0)) / (x.max(0) - x.min(0))


WHOLE = {
    "Poisson of a small mean": (R.poisson(0.4, (400, 6)), "counts", "counts up to"),
    "Poisson of a mean of 2": (R.poisson(2, (400, 6)), "counts", "counts up to"),
    "Poisson of a mean of 8": (R.poisson(8, (400, 6)), "counts", "counts up to"),
    "Poisson of a large mean": (R.poisson(400, (400, 6)), "counts", "counts up to"),
    "Poisson of unlike means": (R.poisson([0.1, 1, 5, 300], (400, 4)), "counts", "counts up to"),
    "few rows of counts": (R.poisson(2, (20, 3)), "counts", "counts up to"),
    "spread counts": (R.negative_binomial(2, 0.1, (400, 6)), "overdispersed", "counts up to"),
    "counts over five orders": (np.floor(np.exp(R.normal(5, 4, (400, 30)))), "overdispersed", "counts up to"),
    "zeros and rare ones and twos": (R.poisson(0.02, (4000, 6)), "counts", "counts up to"),
    "codes 0 to 4": (R.integers(0, 5, (400, 6)), "codes", "5 codes, 0 to 4: counts with such means would go higher"),
    "codes 0 to 4 as floats": (R.integers(0, 5, (400, 6)).astype("f4"), "codes", "5 codes"),
    "codes 0 to 4 in 8 bits": (R.integers(0, 5, (400, 6)).astype("u1"), "codes", "5 codes"),
    "codes 1 to 9": (R.integers(1, 10, (400, 6)), "codes", "10 codes, 0 to 9"),
    "identifiers": (np.c_[R.poisson(2, (400, 3)), np.arange(400)], "real", "column 3, 0 to 399, has a diff"),
    "shuffled identifiers": (R.permutation(10**6)[:400, None], "real", "as identifiers do"),
    "years": (R.integers(1950, 2024, (400, 3)), "real", "column 0, 1950 to 2023, lies far from zero"),
    "epoch seconds": (1_600_000_000 + R.integers(0, 10**6, (400, 3)), "real", "lies far from zero"),
    "rounded heights": (R.normal(170, 8, (400, 2)).round(), "real", "column 0, 1.. to 1.., has less spread"),
    "pixels as floats": (R.integers(0, 256, (60, 9, 9)).astype("f4"), "real", "divide them by 255, or store them as"),
    "pixels in 64 bits": (R.integers(0, 256, (60, 1, 9, 9)), "real", "in the shape of images, as pixels are"),
    "pixels in 8 bits": (R.integers(0, 256, (60, 9, 9)).astype("u1"), "levels", "256 levels of grey, from 0 to 255"),
    "whole numbers of both signs": (R.integers(-3, 4, (400, 3)), "real", "real numbers between -3 and 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", WHOLE)
def test_whole_numbers_are_counts_where_they_look_like_counts(name: str) -> None:
    x, nature, because = WHOLE[name]
    found = summarise(observations(x))
    assert found.nature == nature, found.because
    assert re.search(because, found.because)


@pytest.mark.parametrize("dtype", ["i8", "i4", "f4", "f8", "u2"])
def test_the_type_in_which_they_are_stored_says_nothing(dtype: str) -> None:
    for x in (R.poisson(2, (400, 6)), R.integers(0, 5, (400, 6)), R.integers(1950, 2024, (400, 3))):
        assert summarise(observations(x.astype(dtype))).nature == summarise(observations(x)).nature


UNIT = {
    "a table scaled by its columns": (scaled(BASE), "real"),
    "the same in single precision": (scaled(BASE).astype("f4"), "real"),
    "the same without some rows": (scaled(BASE)[20:], "real"),
    "probabilities": (1 / (1 + np.exp(-BASE)), "unit"),
    "pixels in a row": (R.integers(0, 256, (400, 64)) / 255, "unit"),
    "images": (scaled(R.random((400, 9, 9))), "unit"),
    "a volume": (scaled(R.random((60, 8, 8, 8))), "unit"),
}


@pytest.mark.parametrize("name", UNIT)
def test_a_table_scaled_by_its_columns_is_no_picture(name: str) -> None:
    x, nature = UNIT[name]
    found = summarise(observations(x))
    assert found.nature == nature
    assert ("each column is scaled" in found.because) == (nature == "real")


def test_channels_come_first_and_are_few() -> None:
    assert all(map(is_image, [(1, 28, 28), (3, 2, 2), (4, 4, 4), (13, 64, 64)]))
    assert not any(map(is_image, [(8, 8, 8), (9, 8, 30)]))
    assert not is_image((28, 28))


FAR = {
    "northings": (np.c_[4_649_776 + 0.3 * Z[:, 0], BASE], True),
    "epoch seconds": (np.c_[1.6e9 + Z[:, :1], BASE], True),
    "whole epoch seconds": (1_600_000_000 + R.integers(0, 9, (400, 2)), True),
    "tiny": (BASE * 1e-20, True),
    "huge": (BASE * 1e39, True),
    "beside one tiny column": (np.c_[BASE, 1e-25 * Z[:, :1]].astype("f4"), True),
    "everyday numbers": (BASE, False),
    "not far enough": (np.c_[1000 + Z[:, :1], BASE], False),
    "in single precision": (np.c_[4_649_776 + 30 * Z[:, :1], BASE].astype("f4"), False),
    "with a constant": (np.c_[np.full(400, 1.6e9 / 3), BASE], False),
    "with one far value": (np.r_[BASE, [[1e9] * 5]], False),
}


@pytest.mark.parametrize("name", FAR)
def test_what_float32_cannot_tell_apart_is_found(name: str) -> None:
    x, wide = FAR[name]
    assert summarise(observations(x)).wide == wide


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (BASE * 1e200, r"at most 1e\+150 in size; got .*e\+200 at row 0, column 0 of array"),
        (
            np.r_[BASE, [[0, 0, -1e151, 0, 0]]],
            r"got 1e\+151 at row 400, column 2 of array. Take another",
        ),
        (np.where(np.arange(2000).reshape(400, 5) == 77, -np.finfo(float).max, BASE), "at row 15, column 2 of array"),
        (BASE * 1e-300, r"of at least 1e-150 in size, or 0; got .*e-300 at most, first at row 0, in column 0 of array"),
        (np.c_[BASE, 1e-200 * Z[:, :1]], "in column 5 of array. Take another unit"),
    ],
)
def test_numbers_beyond_all_types_are_refused_with_their_place(x: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        summarise(observations(x))
    summarise(observations(np.clip(np.abs(x), 1e-140, 1e149)))


ROUNDED = np.where(np.arange(400) % 3, 0.3, 0.1 + 0.2)  # 0.3 and its neighbour
CONSTANT = {
    "exactly": (np.full(400, 7.0), True),
    "but for the last digit": (ROUNDED, True),
    "shares that add up to one": (np.array([sum(R.dirichlet(np.ones(50))) for _ in range(400)]), True),
    "in single precision": (np.float32(1e5) + np.float32(2**-7) * (np.arange(400) % 3), True),
    "single precision, stored as double": ((np.float32(0.1) * np.float32(3) + 2.0**-25 * (np.arange(400) % 2)), True),
    "what is left of equal numbers": (ROUNDED - 0.3, True),
    "0.3 and something": (0.3 + 1e-9 * Z[:, 0], False),
    "far, in double": (1.6e9 + 1e-3 * Z[:, 0], False),
    "whole numbers": (4_000_000 + np.arange(400) % 3, False),
    "whole numbers as single": ((4_000_000 + np.arange(400) % 3).astype("f4"), False),
    "tiny": (1e-20 * Z[:, 0], False),
    "two tiny values": (1e-12 * (np.arange(400) % 2), False),
}


@pytest.mark.parametrize("name", CONSTANT)
def test_what_varies_by_rounding_alone_is_a_constant(name: str) -> None:
    column, constant = CONSTANT[name]
    assert len(np.unique(column)) > 1 or name in ("exactly", "shares that add up to one")
    deviation = moments(observations(np.asarray(column)[:, None]))[1]
    assert bool(deviation == 0) == constant
    masked = Observations(torch.tensor(np.r_[column, math.nan])[:, None], mask=torch.arange(401)[:, None] < 400)
    assert bool(moments(masked)[1] == 0) == (constant and np.asarray(column).dtype != np.float32)


def column(*odd: float, rest: np.ndarray = Z[:, 0]) -> np.ndarray:
    return np.r_[odd, rest][:, None]


ODD = {
    "a sign, again and again": (column(-9999, -9999, -9999), 'column 0 has the value -9999 in 3 of 403'),
    "one sign": (column(-9999), "column 0 has the value -9999 in 1 of 401"),
    "netCDF's": (column(9.969209968386869e36, 9.969209968386869e36), r"9.96921e\+36 in 2 of 402"),
    "a value that comes again": (column(77.0, 77.0), "has the value 77 in 2 of 402"),
    "a single far value": (column(1e15), r"column 0 has the value 1e\+15, 2e\+14 times as far from the others"),
    "two signs": (column(-9999, -9999, 9999), "the value -9999 in 2 of 403", "the value 9999 in 1 of 403"),
    "three signs on one side": (column(777, 888, 888, 999), "the value 888 in 2 of 404", "the value 999 in 1"),
    "signs of many sizes": (column(1e20, -1e20, 9999, -9999), r"value -1e\+20", r"value 1e\+20", "value -9999"),
    "two far values": (column(1.1e15, 2.1e15), r"1.1e\+15, 2e\+14 times", r"2.1e\+15, 3e\+14 times"),
    "mostly zeros": (np.r_[np.zeros(380), np.arange(20.0) * 50][:, None],),
    "few and far": (np.r_[np.zeros(398), 5.0, 5.0][:, None],),
    "a heavy tail": (np.random.default_rng(1).standard_t(2, (400, 1)),),
    "an outlier": (column(30.0),),
    "two values": ((np.arange(400) % 2 * 1000.5)[:, None],),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_signs_for_missing_values_and_single_far_ones_are_named(name: str) -> None:
    x, *messages = ODD[name]
    notes = summarise(observations(x)).notes
    assert len(notes) == len(messages) or len(notes) > TOLD
    assert all(any(re.search(str(message), note) for note in notes) for message in messages), notes


def test_three_oddities_are_told_and_the_others_counted() -> None:
    notes = summarise(observations(np.r_[BASE, [[1e15] * 5]])).notes
    assert len(notes) == 4
    assert notes[-1] == "the same is to be said 2 times more"


@pytest.mark.parametrize("factor", [1e-300, 1e-50])
def test_a_type_must_hold_the_digits_of_what_a_model_sees(factor: float) -> None:
    far = observations(np.c_[BASE, 1.6e9 + Z[:, :1]])
    with pytest.raises(ValueError, match=r"can tell apart; got column 5 of array, .* Take the mean off first"):
        require_digits(far, torch.float32)
    require_digits(far, torch.float64)
    with pytest.raises(ValueError, match="Expected values that float32 can tell apart; got column 0 of array"):
        require_digits(observations(BASE * factor), torch.float32)
    require_digits(observations(BASE), torch.float32)
    require_digits(observations(np.c_[BASE, np.full(400, 1.6e9 / 3)]), torch.float32)


def test_a_model_of_ones_own_is_tried_on_what_it_sees() -> None:
    import tightbound as tb

    model = tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(torch.nn.Linear(6, 4)),
        tb.likelihoods.Gaussian(torch.nn.Linear(2, 6)),
    )
    x = np.c_[4_649_776 + 0.3 * Z[:, :1], BASE]
    with pytest.raises(ValueError, match=r"got column 0 of array, .*x - x.mean\(0\).* model.double\(\)"):
        tb.fit(model, x, epochs=1)
    assert math.isfinite(tb.fit(model, x - x.mean(0), epochs=1, progress=False).loss)
    check_data(model.double(), observations(x))


PIXELS = np.clip(R.normal(120, 90, (300, 64)), 0, 255).round()


def test_pixels_are_known_without_their_shape_and_after_a_division() -> None:
    flat = summarise(observations(PIXELS))
    assert (flat.nature, "divide them by 255, or store them as uint8" in flat.because) == ("real", True)
    assert summarise(observations(np.minimum(PIXELS, 254))).nature != "real"
    assert summarise(observations(PIXELS[:, :49])).nature == "overdispersed"
    for dtype in (np.float32, np.float64):
        [note] = summarise(observations((PIXELS / 255).astype(dtype))).notes
        assert note.startswith("all values are levels of 8-bit pixels, divided by 255")
    assert summarise(observations(PIXELS / 255 * 0.999)).notes == ()
    assert summarise(observations(PIXELS / 255).replace(binarise=True)).notes == ()


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_whole_numbers_beyond_float64_are_refused(dtype: type) -> None:
    x = np.arange(400).astype(dtype)[:, None] + dtype(2**53 - 399)
    assert summarise(observations(x)).wide
    with pytest.raises(
        ValueError, match=r"Expected whole numbers of at most 2\^53.* at row 399, column 0 of array\. Take"
    ):
        summarise(observations(x + dtype(2)))
    summarise(observations(x.astype(np.float64) * 2))
