"""Laws of Observations, and of their split into training and test."""

import pytest
import torch

from tightbound.data import Data, Observations, load
from tightbound.data.observations import BLOCK


def grey(count: int = 3000, scale: int = 255) -> Observations:
    """Rows of 0 … scale, a few elements each, binarised."""
    stored = (torch.arange(count * 5) % (scale + 1)).to(torch.uint8).reshape(count, 5)
    return Observations(stored, scale=scale, binarise=True)


# --- binarisation ---


@pytest.mark.parametrize("scale", [1, 3, 16, 255])
@pytest.mark.parametrize("fixed", [True, False])
def test_binarised_values_have_the_probabilities_that_are_stored(scale, fixed):
    draws = 20_000
    levels = torch.arange(scale + 1, dtype=torch.uint8)
    data = Observations(levels.expand(draws, -1), scale=scale, binarise=True)
    torch.manual_seed(0)
    seen = (data.eval_batch() if fixed else data.batch(torch.arange(draws))).x
    p = levels.double() / scale
    assert set(seen.unique().tolist()) <= {0.0, 1.0}
    assert seen[:, 0].sum() == 0
    assert seen[:, -1].sum() == draws
    standard_error = (p * (1 - p) / draws).sqrt()
    rounding = 2.0**-16
    assert ((seen.double().mean(0) - p).abs() <= 4 * standard_error + rounding).all()


def test_binarised_elements_are_independent():
    data = Observations(torch.full((20_000, 8), 0.5), binarise=True)
    torch.manual_seed(0)
    for seen in (data.eval_batch().x, data.batch(torch.arange(20_000)).x):
        correlations = torch.corrcoef(seen.T.double()) - torch.eye(8)
        assert correlations.abs().max() < 5 / 20_000**0.5


def test_zero_and_one_are_exact_for_every_seed_and_dtype():
    stored = torch.tensor([0, 1], dtype=torch.float64).expand(50_000, 2)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        data = Observations(stored * 0.1, scale=0.1, binarise=True)
        assert torch.equal(data.eval_batch(dtype=dtype).x, stored.to(dtype))


def test_visits_differ_but_repeat_with_the_seed():
    data, rows = grey(), torch.arange(100)
    torch.manual_seed(1)
    first, second = data.batch(rows).x, data.batch(rows).x
    torch.manual_seed(1)
    assert torch.equal(first, data.batch(rows).x)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("size", [1, 7, 250, BLOCK - 1, BLOCK, BLOCK + 1, 2999, 5000])
def test_fixed_values_do_not_depend_on_how_they_are_asked_for(size):
    data = grey(count=2500 if size > 1 else 60)
    assert torch.equal(torch.cat([batch.x for batch in data.batches(size)]), data.eval_batch().x)


def test_fixed_values_of_a_prefix_are_the_prefix_of_the_fixed_values():
    data = grey()
    prefix = data.subset(torch.arange(1500))
    assert torch.equal(prefix.eval_batch().x, data.eval_batch().x[:1500])
    assert torch.equal(data.eval_batch(1100, 1200).x, data.eval_batch().x[1100:1200])


def test_fixed_values_leave_the_global_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    grey().eval_batch()
    assert torch.equal(torch.rand(3), expected)


def test_fixed_values_never_change():
    # What a published number was computed on: a change here changes everybody's test set.
    seen = Observations(torch.full((BLOCK + 1, 16), 0.5), binarise=True).eval_batch().x
    assert "".join(str(int(bit)) for bit in seen[0]) == "1111011010001110"
    assert "".join(str(int(bit)) for bit in seen[BLOCK]) == "0000001101000100"


def test_an_empty_range_is_empty():
    for data in (grey(10), grey(10).replace(binarise=False)):
        for batch in (data.eval_batch(0, 0), data.eval_batch(10), data.eval_batch(2000, 2100)):
            assert batch.x.shape == (0, 5)


# --- storage ---


def test_a_model_sees_stored_values_over_the_scale():
    data = Observations(torch.tensor([[0, 51, 255]], dtype=torch.uint8), scale=255)
    expected = torch.tensor([[0.0, 0.2, 1.0]])
    assert torch.equal(data.batch(torch.tensor([0])).x, expected)
    assert torch.equal(data.replace(binarise=True).unbinarised(torch.tensor([0])), expected)
    assert torch.equal(data.eval_batch(dtype=torch.float64).x, torch.tensor([[0, 51, 255]], dtype=torch.float64) / 255)


def test_a_view_never_writes_to_the_storage():
    stored = torch.arange(6, dtype=torch.float32).reshape(3, 2)
    data = Observations(stored.clone(), scale=2.0)
    for seen in (
        data.batch(torch.arange(3)).x,
        data.eval_batch().x,
        data.unbinarised(torch.arange(3)),
        data.take(torch.arange(3)),
    ):
        seen.zero_()
    assert torch.equal(data.stored, stored)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.uint16, torch.int64, torch.float16, torch.float64])
def test_every_stored_dtype_can_be_seen(dtype):
    stored = torch.tensor([[0, 1], [1, 1]]).to(dtype)
    for data in (Observations(stored), Observations(stored, binarise=True)):
        assert torch.equal(data.batch(torch.tensor([1, 0])).x, torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
        assert torch.equal(data.eval_batch().x, torch.tensor([[0.0, 1.0], [1.0, 1.0]]))


def test_a_subset_of_a_subset_is_a_subset():
    data = Observations(torch.arange(20)[:, None], labels=torch.arange(20) * 10)
    inner = data.subset(torch.arange(19, -1, -2)).subset(torch.tensor([3, 0]))
    assert inner.take(torch.arange(2)).flatten().tolist() == [13, 19]
    assert inner.label(torch.tensor([1])).tolist() == [190]
    assert len(inner) == 2
    assert inner.stored is data.stored
    assert data.replace(labels=None).label(torch.tensor([0])) is None


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Observations(torch.zeros(5)), ValueError, r"Expected observations of shape \(N, \.\.\.\); got \(5,\)"),
        (lambda: Observations(torch.tensor(1.0)), ValueError, r"shape \(N, \.\.\.\); got \(\) in data"),
        (lambda: Observations(torch.zeros(0, 2)), ValueError, "at least one observation; got an empty array in data"),
        (lambda: Observations(torch.zeros(2, 0)), ValueError, "at least one observation; got an empty array in data"),
        (lambda: Observations(torch.zeros(2, 1), scale=0), ValueError, "positive, finite scale; got 0 for data"),
        (lambda: Observations(torch.zeros(2, 1), scale=float("nan")), ValueError, "finite scale; got nan for data"),
        (lambda: Observations(torch.zeros(2, 1) * 1j), TypeError, "dense real numbers; got torch.complex64.*in data"),
        (
            lambda: Observations(torch.eye(2).to_sparse()),
            TypeError,
            "dense real numbers; got .*torch.sparse_coo.*to_dense",
        ),
        (
            lambda: Observations(torch.zeros(2, 1), labels=torch.zeros(3, dtype=torch.long)),
            ValueError,
            r"Expected one label for each of 2 observations; got labels of shape \(3,\) in data",
        ),
        (lambda: Observations(torch.zeros(2, 1), labels=torch.eye(2).long()), ValueError, r"argmax\(1\)"),
        (
            lambda: Observations(torch.zeros(2, 1), labels=torch.zeros(2)),
            ValueError,
            "integer labels; got torch.float32",
        ),
    ],
)
def test_observations_refuse(make, error, message):
    with pytest.raises(error, match=message):
        make()


# --- splits ---


def test_a_held_out_set_is_a_random_tenth_and_the_rest_is_for_training():
    data = load(torch.arange(1000.0)[:, None])
    train, test = (part.take(torch.arange(len(part))).flatten().tolist() for part in (data.train, data.test))
    assert len(test) == 100
    assert sorted(train + test) == list(range(1000))
    assert test != sorted(test)
    assert abs(sum(test) / 100 - 499.5) < 4 * 27.4  # the standard error of 100 out of 0 … 999 without replacement


def test_the_held_out_rows_depend_on_no_seed():
    torch.manual_seed(1)
    first = load(torch.zeros(50, 1)).test.rows
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert torch.equal(first, load(torch.zeros(50, 1)).test.rows)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("count", "fraction", "held_out"), [(2, 0.1, 1), (2, 0.9, 1), (3, 0.01, 1), (10, 0.5, 5)])
def test_both_parts_have_at_least_one_row(count, fraction, held_out):
    data = load(torch.zeros(count, 1), test_fraction=fraction)
    assert (len(data.train), len(data.test)) == (count - held_out, held_out)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_a_fraction_outside_the_unit_interval_is_refused(fraction):
    with pytest.raises(ValueError, match="Expected a test_fraction between 0 and 1; got"):
        load(torch.zeros(9, 1), test_fraction=fraction)


def test_one_observation_cannot_be_split():
    with pytest.raises(ValueError, match=r"Expected at least two observations, .* got 1 in array"):
        load(torch.zeros(1, 1))


def test_data_knows_its_two_splits():
    data = load(torch.zeros(10, 1))
    assert data.split("train") is data.train
    assert data.split("test") is data.test
    with pytest.raises(ValueError, match='Expected the split "train" or "test"; got \'valid\''):
        data.split("valid")


def test_binarised_data_is_binarised_in_both_parts():
    data = load("digits").binarised()
    assert set(data.train.batch(torch.arange(50)).x.unique().tolist()) == {0.0, 1.0}
    assert set(data.test.eval_batch().x.unique().tolist()) == {0.0, 1.0}
    assert data.train.stored is data.test.stored


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_values_that_are_no_probabilities_cannot_be_binarised(bad):
    fine = Observations(torch.rand(5, 2))
    wrong = Observations(torch.tensor([[0.5, bad]]), name="faces.npy")
    with pytest.raises(ValueError, match=r"Expected values between 0 and 1 to binarise; got .* in faces\.npy"):
        Data("faces", train=fine, test=wrong).binarised()


def test_splits_must_be_of_one_kind():
    one, other = Observations(torch.zeros(2, 3)), Observations(torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"of one shape; got \(3,\) and \(4,\) in toys"):
        Data("toys", train=one, test=other)
    with pytest.raises(ValueError, match=r"of one scale; got 1\.0 and 2 in toys"):
        Data("toys", train=one, test=one.replace(scale=2))


# --- factors and masks ---


def test_factors_and_masks_go_with_their_observations():
    stored = torch.tensor([[1.0, torch.nan], [3.0, 4.0], [torch.inf, 6.0]])
    factors = torch.tensor([[0.5, 1.0], [2.0, 3.0], [4.0, 5.0]])
    data = Observations(
        stored, torch.tensor([7, 8, 9]), factors=factors, factor_names=("age", "height"), mask=stored.isfinite()
    )
    batch = data.subset(torch.tensor([2, 0])).batch(torch.tensor([1, 0]), torch.float64)
    assert batch.x.tolist() == [[1.0, 0.0], [0.0, 6.0]]
    assert batch.label.tolist() == [7, 9]
    assert batch.mask.tolist() == [[True, False], [False, True]]
    assert batch.factors.tolist() == [[0.5, 1.0], [4.0, 5.0]]
    assert batch.x.dtype == batch.factors.dtype == torch.float64
    whole = data.eval_batch()
    assert torch.equal(whole.x, torch.tensor([[1.0, 0.0], [3.0, 4.0], [0.0, 6.0]]))
    assert torch.equal(data.unbinarised(torch.arange(3)), whole.x)
    assert data.take(torch.tensor([0])).isnan().tolist() == [[False, True]]
    assert data.stored.isnan().any()


def test_what_is_not_there_is_none_in_a_batch():
    batch = Observations(torch.zeros(2, 3)).eval_batch()
    assert (batch.label, batch.mask, batch.factors, batch.q, batch.checked) == (None, None, None, None, False)


def test_absent_values_are_never_binarised_to_one():
    data = Observations(torch.ones(50, 4), binarise=True, mask=torch.tensor([True, False, True, False]).expand(50, 4))
    for batch in (data.eval_batch(), data.batch(torch.arange(50))):
        assert torch.equal(batch.x, torch.tensor([1.0, 0.0, 1.0, 0.0]).expand(50, 4))


def test_whole_factors_stay_whole():
    data = Observations(torch.zeros(2, 1), factors=torch.tensor([[1], [2]]))
    assert data.eval_batch(dtype=torch.float64).factors.dtype == torch.int64


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"factor_names": ("age",)}, ValueError, "factor_names only together with factors; got 1 names and no factors"),
        ({"factors": torch.zeros(2)}, ValueError, r"factors of shape \(N, F\) with N = 2; got \(2,\).*factors\[:"),
        ({"factors": torch.zeros(3, 1)}, ValueError, r"with N = 2; got \(3, 1\)"),
        ({"factors": torch.zeros(2, 0)}, ValueError, r"with N = 2; got \(2, 0\)"),
        ({"factors": torch.zeros(2, 1) * 1j}, TypeError, "dense real numbers; got torch.complex64"),
        ({"factors": torch.zeros(2, 2), "factor_names": ("age",)}, ValueError, "Expected 2 factor_names.*; got 1"),
        ({"factors": torch.zeros(2, 2), "factor_names": ("a", "a")}, ValueError, "got a more than once"),
        ({"column_names": ("a", "b", "c", "d")}, ValueError, "Expected . column_names.*of the observations; got 4 in"),
        ({"mask": torch.ones(2, 3)}, TypeError, r"Expected a boolean mask; got torch.float32.*mask\.bool"),
        ({"mask": torch.ones(2, 1).bool()}, ValueError, r"mask of shape \(2, 3\).*got \(2, 1\)"),
    ],
)
def test_factors_and_masks_that_do_not_fit_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        Observations(torch.zeros(2, 3), **given)
