"""What is said of missing values works: for arrays, tensors and frames, and by its numbers of the user's own rows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training import QUIET, data, model

import tightbound as tb
from tightbound.data import Data, Observations, load, observations, summarise
from tightbound.runs.build import build
from tightbound.runs.recipe import Recipe

R = np.random.default_rng(0)
X = R.normal(size=(60, 4))
HOLES = np.where(R.random(X.shape) < 0.1, np.nan, X)
HOLES[5, 2] = np.inf
BAD = ~np.isfinite(HOLES).all(axis=1)


def refusal(x: Any) -> str:
    with pytest.raises(ValueError, match="Expected finite numbers") as refused:
        summarise(observations(x))
    return str(refused.value)


def lines(message: str) -> tuple[str, str]:
    """The line that drops rows, and the one that fills in."""
    found = re.search(r"Drop those rows, (x\[.*\]), or fill in their values, (numpy\.where\(.*\))\.$", message)
    assert found is not None, message
    return found[1], found[2]


def forms() -> list[Any]:
    return [HOLES, HOLES.astype("f4"), torch.as_tensor(HOLES), HOLES.reshape(60, 2, 2), HOLES.reshape(60, 1, 2, 2)]


@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")  # of torch, in NumPy
@pytest.mark.parametrize("x", forms(), ids=lambda x: f"{type(x).__name__}{tuple(x.shape)}")
def test_both_lines_for_missing_values_work(x: Any) -> None:
    drop, fill = lines(refusal(x))
    dropped, filled = (observations(eval(line, {"numpy": np, "x": x})) for line in (drop, fill))
    assert dropped.stored.flatten(1).tolist() == np.asarray(x)[~BAD].reshape(-1, 4).tolist()
    values = filled.stored.flatten(1)
    assert values.isfinite().all()
    assert values[5, 2] == np.nanmedian(np.asarray(x, float).reshape(60, 4)[:, 2])
    assert values[~torch.from_numpy(BAD)].tolist() == dropped.stored.flatten(1).tolist()


def test_both_lines_work_for_frames_with_columns_of_several_types() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(HOLES, columns=list("abcd")).assign(e=np.arange(60) % 2 == 0, f=np.arange(60))
    drop, fill = lines(refusal(frame))
    dropped = observations(eval(drop, {"numpy": np, "x": frame}))
    assert (len(dropped), dropped.column_names) == (int((~BAD).sum()), tuple("abcdef"))
    assert observations(eval(fill, {"numpy": np, "x": frame})).stored.isfinite().all()


def test_rows_that_are_not_finite_are_counted_in_all_that_was_given() -> None:
    x = np.zeros((600, 2))
    x[590:, 1] = np.nan
    x[:590] = R.normal(size=(590, 2))
    parts = load(x)
    for given in (x, parts, observations(x)):
        with pytest.raises(ValueError, match=r"in 10 of 600 observations of array, the first at index 590\."):
            build(Recipe(), given)
    with pytest.raises(ValueError, match=r"in 4 of 300 observations of array, the first at index 590\."):
        build(Recipe(), observations(x).subset(torch.arange(294, 594)))
    only_test = Data("d", Observations(x[:500], name="a"), Observations(x[500:], name="b"))
    with pytest.raises(ValueError, match=r"in 10 of 100 observations of b, the first at index 90\."):
        build(Recipe(), only_test)


def test_the_first_row_of_a_number_too_large_is_the_first_of_all() -> None:
    x = R.normal(size=(600, 2))
    held_out = int(load(x).test.rows.min())  # type: ignore[union-attr]
    x[[held_out, 599], 1] = 1e200
    with pytest.raises(ValueError, match=rf"got 1e\+200 at row {held_out}, column 1 of array"):
        build(Recipe(), x)


def test_values_that_a_mask_calls_present_are_to_be_masked_too() -> None:
    mask = torch.ones(60, 4).bool()
    with pytest.raises(ValueError, match=r"in \d+ of 60 .* Mark them as absent too: mask & x\.isfinite\(\)\.$"):
        summarise(Observations(HOLES, mask=mask))
    assert summarise(Observations(HOLES, mask=mask & torch.as_tensor(HOLES).isfinite())).count == 60


@pytest.mark.parametrize("by", ["train", "fit"])
def test_a_mask_is_refused_with_what_works(tmp_path: Path, by: str) -> None:
    x = np.where(data(60) > 1.5, np.nan, data(60))
    mask = np.isfinite(x)
    masked = Observations(x, mask=mask)
    trainings: dict[str, Callable[[], Any]] = {
        "train": lambda: tb.train("auto", data=masked, out=tmp_path / "r", progress=False),
        "fit": lambda: tb.fit(model(), masked, **QUIET, epochs=1),
    }
    with pytest.raises(ValueError, match="Expected complete observations; got a mask") as refused:
        trainings[by]()
    found = re.search(r"fill in what is missing, (.*\)), or drop .*, (x\[.*\])\. A model", str(refused.value))
    assert found is not None, refused.value
    for line in found.groups():
        made = eval(line, {"numpy": np, "x": x, "mask": mask})
        assert observations(made).stored.isfinite().all()
    assert not (tmp_path / "r").exists()


def test_only_models_that_read_a_mask_are_offered_one() -> None:
    """Where a mask is spoken of, it is said that no model of the library reads one."""
    root = Path(tb.__file__).parents[1]
    for path in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
        for part in path.read_text(encoding="utf-8").split("\n\n"):
            if "mask=" in part:
                assert "models of your own" in " ".join(part.split()), path
