"""summarise says what kind of numbers a data set holds; moments agrees with the textbook."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tightbound.data import Observations, chunked, load, moments, summarise


def column(*values, dtype=torch.float32, **more) -> Observations:
    return Observations(torch.tensor(values, dtype=dtype)[:, None], **more)


POISSON_LIKE = (0, 1, 2, 3, 1, 2)  # mean 1.5, variance 0.92
SPREAD = (0, 0, 0, 12)  # mean 3, variance 27


@pytest.mark.parametrize(
    ("observations", "kind", "levels", "nature", "because"),
    [
        (column(0, 1, 1), "binary", None, "binary", "every value is 0 or 1"),
        (column(0, 0, 0), "binary", None, "binary", "every value is 0 or 1"),
        (column(True, False, dtype=torch.bool), "binary", None, "binary", "every value is 0 or 1"),
        (column(0, 255, dtype=torch.uint8, scale=255), "binary", None, "binary", "every value is 0 or 255"),
        (column(0, 1, dtype=torch.int64), "binary", None, "binary", "every value is 0 or 1"),
        (column(0.2, 0.7, binarise=True), "binary", None, "binary", "the values are binarised"),
        (
            column(0, 7, 255, dtype=torch.uint8, scale=255),
            "grey",
            256,
            "levels",
            "the values are 256 levels of grey, from 0 to 255",
        ),
        (
            column(0, 7, 16, dtype=torch.uint8, scale=16),
            "grey",
            17,
            "levels",
            "the values are 17 levels of grey, from 0 to 16",
        ),
        (
            column(0, 7, 65535, dtype=torch.uint16, scale=65535),
            "grey",
            65536,
            "levels",
            "the values are 65536 levels of grey, from 0 to 65535",
        ),
        (
            column(0.0, 0.25, 1.0),
            "grey",
            None,
            "unit",
            "the values are real numbers between 0 and 1",
        ),
        (
            column(0.0, 63.75, 255.0, scale=255),
            "grey",
            None,
            "unit",
            "the values are real numbers between 0 and 255",
        ),
        (
            column(0, 1, 255, scale=255),
            "grey",
            256,
            "levels",
            "the values are 256 levels of grey, from 0 to 255",
        ),
        (
            column(*POISSON_LIKE, dtype=torch.int32),
            "counts",
            None,
            "counts",
            "the values are counts up to 3, their variance 0.61 × their mean",
        ),
        (
            column(*SPREAD),
            "counts",
            None,
            "overdispersed",
            "the values are counts up to 12, their variance 9 × their mean",
        ),
        (column(-3.1, 4.0), "real", None, "real", "the values are real numbers between -3.1 and 4.0"),
        (
            column(-3, 4, dtype=torch.int16),
            "real",
            None,
            "real",
            "the values are real numbers between -3 and 4",
        ),
        (column(0.5, 1.5), "real", None, "real", "the values are real numbers between 0.5 and 1.5"),
        (
            column(1, 200, dtype=torch.uint8, scale=16),
            "real",
            None,
            "real",
            "the values are real numbers between 1 and 200",
        ),
    ],
)
def test_the_nature_follows_from_the_values(observations, kind, levels, nature, because):
    found = summarise(observations)
    assert (found.kind, found.levels, found.nature, found.because) == (kind, levels, nature, because)


def test_three_channels_are_a_colours():
    pixels = torch.arange(256).to(torch.uint8).reshape(-1, 1, 1, 1)
    found = [summarise(Observations(pixels.expand(-1, c, 2, 2).contiguous(), scale=255)) for c in (1, 3)]
    assert [each.kind for each in found] == ["grey", "grey"]
    assert [each.describe().rpartition(": ")[2] for each in found] == ["grey", "colour"]
    assert found[1].because == "the values are 256 levels of each colour, from 0 to 255"


def test_a_summary_is_that_of_the_rows_that_are_looked_at():
    data = Observations(torch.tensor([[0.5], [7.25], [0.25]]), rows=torch.tensor([2, 0]))
    found = summarise(data)
    assert (found.count, found.shape, found.dtype, found.low, found.high) == (2, (1,), "float32", 0.25, 0.5)
    assert (found.scale, found.binarised, found.overdispersion) == (1.0, False, None)
    assert found.describe() == "2 observations of 1, float32 0.25…0.5: grey"
    marked = summarise(Observations(torch.tensor([[-9999.0], [5.78123]])))
    assert marked.describe() == "2 observations of 1, float32 -9999.0…5.78: real"


def test_digits_are_described_in_a_line():
    digits = load("digits").train
    assert summarise(digits).describe() == "1617 observations of 1×8×8, uint8 0…16: grey"
    assert (
        summarise(digits.replace(binarise=True)).describe()
        == "1617 observations of 1×8×8, uint8 0…16, binarised: binary"
    )


def test_overdispersion_is_pooled_over_elements():
    counts = torch.tensor([[0, 10], [2, 10], [4, 40]])
    found = summarise(Observations(counts))
    assert found.overdispersion == pytest.approx((8 / 3 + 200) / (2 + 20))
    poisson = torch.poisson(torch.full((5000, 4), 3.0), generator=torch.Generator().manual_seed(0))
    assert summarise(Observations(poisson)).nature == "counts"


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_numbers_that_are_not_finite_are_found(bad, dtype, monkeypatch):
    monkeypatch.setattr(chunked, "CHUNK", 10)
    stored = torch.zeros(100, 3, dtype=dtype)
    stored[[41, 17, 99], [0, 2, 1]] = bad
    message = "NaN or infinity in 3 of 100 observations of faces.npy, the first at index 17"
    with pytest.raises(ValueError, match=f"Expected finite numbers; got {message}"):
        summarise(Observations(stored, name="faces.npy"))
    view = Observations(stored, name="faces.npy").subset(torch.tensor([5, 99, 41]))
    with pytest.raises(ValueError, match=r"2 of 3 observations of faces\.npy, the first at index 41"):
        summarise(view)


def test_what_is_to_be_binarised_must_be_a_probability():
    with pytest.raises(ValueError, match="Expected values between 0 and 16 to binarise; got 3 to 17 in data"):
        summarise(column(3, 17, dtype=torch.uint8, scale=16, binarise=True))


def test_chunks_of_any_size_give_the_same_found(monkeypatch):
    data = Observations(torch.randint(0, 9, (101, 7), generator=torch.Generator().manual_seed(0)))
    whole = summarise(data)
    monkeypatch.setattr(chunked, "CHUNK", 8)
    pieces = summarise(data)
    assert pieces.overdispersion == pytest.approx(whole.overdispersion, rel=1e-12)
    assert (pieces.low, pieces.high, pieces.kind) == (whole.low, whole.high, whole.kind)


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 30), st.integers(1, 3)), elements=st.floats(-1e6, 1e6)))
def test_moments_are_those_of_numpy(stored):
    mean, deviation = moments(Observations(torch.from_numpy(stored), scale=4.0))
    rounding = max(1e-14 * np.abs(stored).max(), 1e-150)  # NumPy's own: of a constant, and of what it cannot square
    np.testing.assert_allclose(mean, stored.mean(0) / 4, rtol=1e-12, atol=rounding)
    np.testing.assert_allclose(deviation, stored.std(0) / 4, rtol=1e-9, atol=rounding)


def test_moments_in_chunks_are_accurate_far_from_zero(monkeypatch):
    monkeypatch.setattr(chunked, "CHUNK", 30)
    stored = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1e9
    mean, deviation = moments(Observations(stored))
    assert torch.allclose(mean, stored.mean(0), rtol=1e-15)
    assert torch.allclose(deviation, (stored - 1e9).std(0, correction=0), rtol=1e-9)


def test_a_constant_element_has_a_deviation_of_exactly_zero():
    stored = torch.tensor([0.1, 1e30, 3.0]).expand(1000, 3)
    mean, deviation = moments(Observations(stored))
    assert deviation.tolist() == [0.0, 0.0, 0.0]
    assert torch.equal(mean, stored[0].double())


def test_moments_are_of_what_is_stored_even_if_it_is_binarised():
    data = column(0, 255, 255, 0, dtype=torch.uint8, scale=255, binarise=True)
    mean, deviation = moments(data)
    assert (mean.item(), deviation.item()) == (0.5, 0.5)
    assert mean.dtype == deviation.dtype == torch.float64
    assert moments(data.subset(torch.tensor([1, 2])))[0].item() == 1.0


def test_absent_values_are_not_looked_at(monkeypatch):
    monkeypatch.setattr(chunked, "CHUNK", 20)
    stored = torch.randn(90, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mask = torch.rand(90, 3, generator=torch.Generator().manual_seed(1)) < 0.6
    mask[:, 2] = False  # never present
    data = Observations(stored.masked_fill(~mask, math.nan), mask=mask)
    found, (mean, deviation) = summarise(data), moments(data)
    assert (found.low, found.high) == (stored[mask].min().item(), stored[mask].max().item())
    for element in range(2):
        present = stored[mask[:, element], element]
        assert mean[element].item() == pytest.approx(present.mean().item(), rel=1e-12)
        assert deviation[element].item() == pytest.approx(present.std(correction=0).item(), rel=1e-12)
    assert (mean[2].item(), deviation[2].item()) == (0.0, 0.0)
    with pytest.raises(ValueError, match="Expected at least one present value; got a mask without any for the 90"):
        summarise(data.replace(mask=torch.zeros_like(mask)))
