"""A validation set of its own: the judge of the weights, looked at as training data are, and asked for by a resume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_train_resume import interrupt_at
from torch import Tensor
from torch.utils.data import TensorDataset
from training import QUIET, before_each_step, data, equal, lines, model, weights, written

import tightbound as tb
from tightbound.data import Data, Observations
from tightbound.networks import MLP
from tightbound.training import TrainResult, fit
from tightbound.training.batches import Sampler, split
from tightbound.training.signals import signals_kept
from tightbound.training.validation import alike

PLAIN = {name: value for name, value in QUIET.items() if name != "validation"}
OTHER = data(37, seed=5)


def train(
    folder: Path, validation: Any, *, resume: bool = False, **changes: Any
) -> tuple[dict[str, Tensor], TrainResult]:
    vae = model(seed=int(resume))
    ended = fit(vae, data(), validation=validation, out=folder, resume=resume, **{**PLAIN, "epochs": 3, **changes})
    return weights(vae), ended


@pytest.mark.parametrize(
    "kind",
    [
        lambda x: x,
        lambda x: x.numpy(),
        Observations,
        TensorDataset,
        lambda x: (x, np.arange(len(x))),
        lambda x: Data("both", Observations(data()), Observations(x)),
    ],
    ids=["tensor", "array", "Observations", "Dataset", "pair", "Data"],
)
def test_it_takes_whatever_data_are_and_judges_by_all_of_it(kind: Callable[[Tensor], Any], tmp_path: Path) -> None:
    x = data()
    train_part, held_out = split(Observations(x), 0.2, seed=0)
    assert held_out is not None
    one, other = model(), model()
    share = fit(one, x, validation=0.2, epochs=3, **PLAIN)
    given = fit(other, x[train_part.rows].clone(), validation=kind(x[held_out.rows].clone()), epochs=3, **PLAIN)
    assert equal(weights(one), weights(other))  # the same rows, in the same order of the same seed
    assert given.metrics == share.metrics


def test_nothing_else_is_held_out_of_the_training_set(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = set()
    before = Sampler.indices

    def seen(self: Sampler, step: int) -> Tensor:
        counts.add(self.count)
        return before(self, step)

    monkeypatch.setattr(Sampler, "indices", seen)
    settings = tb.Training(validation=0.3, **{**{k: v for k, v in PLAIN.items() if k != "progress"}, "epochs": 2})
    ended = fit(model(), data(), validation=OTHER, settings=settings, progress=False)
    assert counts == {100}
    assert len(lines(ended, "validation")) == 2


@pytest.mark.parametrize("number", [0.25, 25, np.float32(0.25), torch.tensor(25)], ids=str)
def test_a_number_stays_a_number(number: Any) -> None:
    ended = fit(model(), data(), validation=number, epochs=1, **PLAIN)
    assert ended.metrics == fit(model(), data(), settings=None, epochs=1, **{**PLAIN, "validation": 0.25}).metrics


def test_a_run_with_one_is_gone_on_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patch:
        before_each_step(patch, interrupt_at(4))
        with signals_kept():
            train(tmp_path / "stopped", OTHER)
    found, _ = train(tmp_path / "stopped", OTHER.numpy().copy(), resume=True)
    expected, _ = train(tmp_path / "complete", OTHER)
    assert equal(found, expected)
    assert written(tmp_path / "stopped") == written(tmp_path / "complete")


def one_value(x: Tensor) -> Tensor:
    x = x.clone()
    x[17, 1] += 1e-6
    return x


@pytest.mark.parametrize(
    ("before", "after", "named"),
    [
        (OTHER, one_value(OTHER), "validation set"),
        (OTHER, OTHER[:-1], "validation set"),
        (OTHER, 0.2, "settings, validation set"),
        (OTHER, 0, "validation set"),
        (0, OTHER, "validation set"),
    ],
    ids=["one value", "fewer", "a share", "none", "none before"],
)
def test_another_one_does_not_go_on(tmp_path: Path, before: Any, after: Any, named: str) -> None:
    train(tmp_path, before, epochs=1)
    with pytest.raises(ValueError, match=rf"was started with; got another {named}\. A resumed"):
        train(tmp_path, after, resume=True, epochs=1)


def bernoulli(network: Any = None) -> Any:
    return tb.VAE(
        prior=tb.priors.StandardNormal(2),
        posterior=tb.posteriors.DiagonalNormal(MLP((3,), (4,), hidden=(8,))),
        likelihood=tb.likelihoods.Bernoulli(MLP((2,), (3,), hidden=(8,))),
    )


@pytest.mark.parametrize(
    ("validation", "error", "message"),
    [
        (
            torch.zeros(5, 4),
            ValueError,
            r"observations of shape \(3,\), as those .*; got \(4,\) in array, the validation",
        ),
        (
            Observations(torch.zeros(5, 3), scale=2.0),
            ValueError,
            r"scale 1\.0, as those of the training set; got 2\.0 in",
        ),
        (
            torch.full((5, 3), 0.5),
            ValueError,
            r"the value 0\.5, .* first in observation 0 of array, the validation set\.",
        ),
        (
            torch.full((5, 3), torch.nan),
            ValueError,
            r"finite values; got NaN or infinity in observation 0 of array, the v",
        ),
        (torch.zeros(0, 3), ValueError, r"at least one observation; got an empty array"),
        ("x.npy", TypeError, r"an array, .*; got str\. Read it first: tb\.data\.load\('x\.npy'\)"),
        ([[0.0]], ValueError, r"of shape \(3,\)"),
    ],
    ids=["shape", "scale", "support", "finite", "empty", "path", "list"],
)
def test_what_is_no_validation_set_is_refused_before_the_first_step(
    tmp_path: Path, validation: Any, error: type[Exception], message: str
) -> None:
    vae = bernoulli()
    before = weights(vae)
    with pytest.raises(error, match=f"^Expected .*{message}"):
        fit(vae, torch.zeros(50, 3), validation=validation, out=tmp_path / "run", epochs=1, **PLAIN)
    assert equal(weights(vae), before)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_condition_must_be_known_of_it_too() -> None:
    vae = tb.ConditionalVAE(
        prior=tb.priors.StandardNormal(2),
        posterior=tb.posteriors.DiagonalNormal(MLP((5,), (4,))),
        likelihood=tb.likelihoods.Gaussian(MLP((4,), (3,))),
        classes=2,
    )
    labelled = (data(), np.arange(100) % 2)
    with pytest.raises(ValueError, match=r"^Expected .*label.*; got none"):
        fit(vae, labelled, validation=OTHER, epochs=1, **PLAIN)
    fit(vae, labelled, validation=(OTHER, np.arange(37) % 2), epochs=1, **PLAIN)


def test_labels_in_words_mean_what_they_mean_in_training() -> None:
    x = torch.zeros(3, 1)
    ours = tb.data.observations((x, ["ant", "bee", "cat"]))
    theirs = tb.data.observations((x, ["cat", "bee", "cat"]))
    assert theirs.label(torch.arange(3)).tolist() == [1, 0, 1]
    found = alike(ours, theirs)
    assert found.label(torch.arange(3)).tolist() == [2, 1, 2]
    assert found.label_names == ("ant", "bee", "cat")
    with pytest.raises(
        ValueError, match=r"labels that the training set has; got dog in array\. Leave those observations"
    ):
        alike(ours, tb.data.observations((x, ["cat", "dog", "cat"])))
    unlabelled = tb.data.observations(x)
    assert alike(unlabelled, theirs) is theirs
    assert alike(ours, unlabelled) is unlabelled


@pytest.mark.parametrize("what", ["column_names", "factor_names"])
def test_columns_in_another_order_are_refused(what: str) -> None:
    made = [Observations(torch.zeros(2, 2), factors=torch.zeros(2, 2), **{what: names}) for names in ("ab", "ba")]  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=rf"the {what} a, b, as those of the training set; got b, a in data\. Put both"
    ):
        alike(made[0], made[1])
    assert alike(made[0], made[0]) is made[0]
