"""A test set that is unlike the training set is told before the first step, or refused."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import tightbound as tb
from tightbound.data import Data, Observations, observations, summarise
from tightbound.data.strays import BEYOND, strays, unseen_classes
from tightbound.runs import recipe as recipes
from tightbound.runs.build import Built, build

R = np.random.default_rng(0)
X, ALIKE = R.normal(size=(400, 3)), R.normal(size=(40, 3))
TOP = float(X[:, 1].max())
REACH = TOP - float(X[:, 1].min())


def told(train: np.ndarray, test: np.ndarray) -> list[str]:
    data = Data("mine", observations(train), observations(test))
    return strays(data, summarise(data.train), summarise(data.test))


def at(row: int, column: int, value: float, x: np.ndarray = ALIKE) -> np.ndarray:
    changed = x.copy()
    changed[row, column] = value
    return changed


COUNTS = R.poisson(5, (400, 3))
UNLIKE = {
    "alike": (X, ALIKE),
    "another unit": (X, ALIKE * 1000, *[r"column \d of the test set lies outside .* in \d\d of 40 .* unit"] * 3),
    "another origin": (X, ALIKE + 30, *[r"in 40 of 40 observations: is it in another unit"] * 3),
    "a smaller unit": (X, ALIKE / 100, "most elements of the test set vary by less than 1/20"),
    "a sign in one column": (X, np.where(np.arange(3) == 2, -9999, ALIKE), "column 2 of the test set lies outside"),
    "one far value": (X, at(7, 1, 1e9), r"column 1 of the test set has the value 1e\+09 at row 7, far"),
    "just far": (X, at(7, 1, TOP + (BEYOND + 0.1) * REACH), "column 1 .* far outside"),
    "not quite": (X, at(7, 1, TOP + (BEYOND - 0.1) * REACH)),
    "a constant no longer": (at(slice(None), 2, 7.0, X), ALIKE, "column 2 .* at row .*, where training has 7 alone"),
    "few, and outside": (X, ALIKE[:10] + 30),
    "counts": (COUNTS, COUNTS[:40] * 1000, *["column . of the test set lies outside"] * 3),
    "a heavy tail": (R.standard_t(2, (400, 3)), R.standard_t(2, (40, 3))),
    "many columns": (R.normal(size=(99, 9)), R.normal(size=(40, 9)) + 99, *["lies outside"] * 3, "said 6 times more"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNLIKE)
def test_what_is_unlike_training_is_told(name: str) -> None:
    train, test, *messages = UNLIKE[name]
    found = told(train, test)
    assert len(found) == len(messages), found
    for message, note in zip(messages, found, strict=True):
        assert re.search(message, note)


@pytest.mark.parametrize("turned", [False, True])
def test_levels_in_two_units_are_told(*, turned: bool) -> None:
    bits, pixels = (Observations(torch.tensor([[0], [top]], dtype=torch.uint8), scale=255) for top in (1, 255))
    train, test = (pixels, bits) if turned else (bits, pixels)
    [said] = strays(Data("mine", train, test), summarise(train), summarise(test))
    assert f"levels go up to {train.stored.max()}, the test set's to {test.stored.max()}: is one unit meant" in said


def test_absent_values_are_not_compared() -> None:
    test = Observations(torch.tensor([[0.0], [1e9]]), mask=torch.tensor([[True], [False]]))
    data = Data("mine", Observations(torch.randn(50, 1)), test)
    assert strays(data, summarise(data.train), summarise(data.test)) == []


def test_rows_are_those_of_the_file() -> None:
    x = torch.tensor(at(7, 1, 1e9))
    data = Data("mine", Observations(torch.tensor(X)), Observations(x, rows=torch.tensor([3, 7])))
    assert "at row 7" in strays(data, summarise(data.train), summarise(data.test))[0]


def test_classes_of_the_test_set_alone_are_told() -> None:
    def of(train: list[int], test: list[int]) -> list[str]:
        parts = [Observations(torch.zeros(len(y), 1), labels=torch.tensor(y)) for y in (train, test)]
        return unseen_classes(Data("mine", *parts))

    assert of([0, 1, 2], [2, 0, -1]) == []
    assert of([0, 1], [1, 7, 7]) == ["the class 7 is in the test set alone, first at row 1: nothing is learned of it"]
    assert of([0], [3, 0, 2])[0].startswith("the classes 2, 3 are in the test set alone, first at row 0")


# What a run says and refuses


def built(path: Path, condition: str = "none", **arrays: np.ndarray) -> Built:
    np.savez(path, **arrays)
    recipe = recipes.load("auto")
    return build(dataclasses.replace(recipe, model=dataclasses.replace(recipe.model, condition=condition)), path)


CODES = R.integers(0, 5, (400, 3))


def test_codes_that_training_lacks_are_told_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.npz"
    assert built(file, x_train=CODES, x_test=CODES[:40]).notes == ()
    made = built(file, x_train=CODES, x_test=at(2, 1, 5, CODES[:40]))
    assert made.notes == ("codes above 4 are in the test set alone, first at row 2: nothing is learned of them",)
    assert made.config.levels == 6
    assert built(file, x_train=CODES, x_test=at(2, 1, 9, CODES[:40])).config.levels == 10
    for high in (10, 10**6):
        with pytest.raises(
            ValueError, match=rf"Expected codes in the test set .*, 0 to 4; got .*0…{high}: .* at row 2"
        ):
            built(file, x_train=CODES, x_test=at(2, 1, high, CODES[:40]))


def test_bits_are_not_tested_on_what_is_in_between(tmp_path: Path) -> None:
    bits = R.integers(0, 2, (400, 3))
    assert built(tmp_path / "x.npz", x_train=bits, x_test=bits[:40]).notes == ()
    with pytest.raises(ValueError, match=r"Expected a test set of zeros and ones, as the training set is; .*at row \d"):
        built(tmp_path / "x.npz", x_train=bits, x_test=bits[:40] / 2)


def test_labels_of_a_condition_are_looked_at(tmp_path: Path) -> None:
    labels = {"y_train": np.arange(400) % 5, "y_test": np.r_[7, np.arange(39) % 5]}
    found = built(tmp_path / "x.npz", "label", x_train=X, x_test=ALIKE, **labels)
    learned = "the class 7 is in the test set alone, first at row 0: nothing is learned of it"
    assert learned in found.notes
    assert learned not in built(tmp_path / "x.npz", x_train=X, x_test=ALIKE, **labels).notes
    labels["y_train"] = np.arange(400) % 5 * 200_000
    with pytest.raises(
        ValueError, match=r"Expected at most 65536 classes for model\.condition 'label'; .* up to 800000"
    ):
        built(tmp_path / "x.npz", "label", x_train=X, x_test=ALIKE, **labels)


def test_covariates_are_looked_at_as_data_are(tmp_path: Path) -> None:
    """Of those far from zero nothing is lost, and the unit makes no difference."""
    given = R.normal(size=(400, 2))
    seen = {}
    for name, factors in {"plain": given, "far": given + 1.6e9, "large": given * 1e39, "small": given * 1e-46}.items():
        made = built(tmp_path / "x.npz", "factors", x=X, factors=factors)
        assert made.config.wide == (name != "plain")
        some = made.data.train.eval_batch(0, 9, made.config.dtype)
        seen[name] = made.model.condition(factors=some.factors).double()
        torch.testing.assert_close(seen[name], seen["plain"], rtol=0, atol=1e-5)
    [note] = built(tmp_path / "x.npz", "factors", x=X, factors=at(slice(0, 9), 1, -9999, given)).notes
    assert "column 'covariate 1' has the value -9999 in" in note
    with pytest.raises(ValueError, match=r"Expected finite numbers; got NaN .* of the covariates of"):
        built(tmp_path / "x.npz", "factors", x=X, factors=at(3, 1, np.nan, given))
    far = {"factors_train": given, "factors_test": given[:40] + 1e6}
    notes = built(tmp_path / "x.npz", "factors", x_train=X, x_test=ALIKE, **far).notes
    assert any("column 'covariate 0' of the test set lies outside" in note for note in notes)


def test_a_model_of_ones_own_refuses_covariates_that_it_cannot_tell_apart() -> None:
    model = tb.ConditionalVAE(
        prior=tb.priors.StandardNormal(2),
        posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5 + 1, 4)),
        likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2 + 1, 5)),
        covariates=1,
    )
    far = torch.linspace(0, 9, 50, dtype=torch.float64)[:, None] + 1.6e9
    with pytest.raises(ValueError, match=r"Expected covariates that float32 can tell apart; got column 0, .* mean off"):
        model.standardise(far)
    model.standardise(far - far.mean(0))
    model.standardise(torch.full((5, 1), 1.6e9 / 3, dtype=torch.float64))
    model.double().standardise(far)


def test_data_without_variation_or_with_residues_alone_are_told(tmp_path: Path) -> None:
    assert built(tmp_path / "x.npz", x=np.full((400, 5), 7.5)).notes == (
        "every element has one value in the training data: there is nothing to learn, and no nats to win",
    )
    wide = "float32 has too few digits or too small a range for some numbers: the model computes in float64"
    left, _, _ = np.linalg.svd(R.normal(size=(400, 2)) @ R.normal(size=(2, 5)), full_matrices=False)
    assert built(tmp_path / "x.npz", x=left[:, :2]).notes == ()
    scores = left * [1, 1, 1e-16, 1e-16, 1e-16]
    first, second = built(tmp_path / "x.npz", x=scores).notes
    assert first == wide
    assert re.match(
        r"column 2 varies 1e\+16 times less than another element does, and 2 more of the kind: where", second
    )
    assert built(tmp_path / "x.npz", x=left * [1, 1, 1e-12, 1, 1]).notes == (wide,)
