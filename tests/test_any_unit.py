"""The unit of the data does not matter: any offset, and scales from 1e-30 to 1e30, and columns that are constant."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import tightbound as tb
from tightbound.runs.recipe import Recipe
from tightbound.runs.run import open_run
from tightbound.runs.starting import Trained, train

R = np.random.default_rng(0)
Z = R.normal(size=(400, 2))
BASE = Z @ R.normal(size=(2, 5)) + 0.1 * R.normal(size=(400, 5))
SMALL = Recipe().updated(
    {"model.hidden": (32,), "model.latent_dim": 2, "train.epochs": 30, "train.learning_rate": 5e-3}
)


def trained(x: np.ndarray, folder: Path, **changes: object) -> tuple[Trained, tb.evaluate.Evidence]:
    made = train(SMALL.updated(changes), folder, data=x, progress=False)
    return made, tb.evaluate.evidence(made.model, made.data.test, samples=10, proposal="posterior")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> float:
    return trained(BASE, tmp_path_factory.mktemp("plain") / "run")[1].elbo.value


OTHERWISE = {
    "scale 1e-30": (BASE * 1e-30, 5 * math.log(1e-30)),
    "scale 1e-10": (BASE * 1e-10, 5 * math.log(1e-10)),
    "scale 1e30": (BASE * 1e30, 5 * math.log(1e30)),
    "scale 1e39": (BASE * 1e39, 5 * math.log(1e39)),
    "units of their own": (BASE * [1e-30, 1e-3, 1.0, 1e6, 1e30], 3 * math.log(10)),
    "one column far away": (np.add(BASE, [0, 4_649_776, 0, 0, 0]), 0.0),
    "all columns far away": (BASE + 1.6e9, 0.0),
    "farther": (np.add(BASE, [1e12, 0, -1e12, 0, 0]), 0.0),
    "a constant beside them": (np.c_[BASE, np.full(400, 7.0)], 0.0),
    "a far constant beside them": (np.c_[np.full(400, 1.6e9), BASE], 0.0),
    "a constant but for rounding": (np.c_[BASE, np.where(np.arange(400) % 3, 0.3, 0.1 + 0.2)], 0.0),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_the_evidence_differs_by_the_log_of_the_unit_alone(name: str, plain: float, tmp_path: Path) -> None:
    """To what another start of the training makes of it: a fifth of a nat."""
    x, logs = OTHERWISE[name]
    made, found = trained(x, tmp_path / "run")
    assert found.elbo.value + logs == pytest.approx(plain, abs=0.2)
    opened = open_run(tmp_path / "run").model()
    sample = opened.sample(400).double().numpy()
    assert np.isfinite(sample).all()
    middle, spread = x.mean(0), x.std(0)
    assert (np.abs(sample.mean(0) - middle) <= 0.5 * spread + 1e-6 * np.abs(middle)).all()
    if x.shape[1] == 5:
        assert (np.abs(np.log(sample.std(0) / spread)) < 0.7).all()
    part = made.data.test.eval_batch(0, 9, made.run.config.dtype).x
    torch.testing.assert_close(opened.reconstruct(part), made.model.reconstruct(part))


def test_a_model_in_double_says_so_and_one_in_single_has_none_of_it(tmp_path: Path) -> None:
    made, _ = trained(BASE + 1.6e9, tmp_path / "far", **{"train.epochs": 1})
    assert next(made.model.parameters()).dtype == torch.float64
    assert tb.evaluate.evidence(made.model, made.data.test, samples=2).precision == "float64"
    assert "float32 has too few digits" in made.notes[0]
    made, _ = trained(BASE, tmp_path / "near", **{"train.epochs": 1})
    assert next(made.model.parameters()).dtype == torch.float32
    assert made.notes == ()


def test_constants_are_told_and_decoded_as_they_are(tmp_path: Path) -> None:
    x = np.c_[np.full(400, 7.0), BASE, np.where(np.arange(400) % 3, 0.3, 0.1 + 0.2)]
    made, _ = trained(x, tmp_path / "run", **{"train.epochs": 1})
    assert made.notes == ("2 of 7 elements have one value in the training data, but for rounding, and no nats to win",)
    assert (made.model.sample(5)[:, 0] == 7).all()
    torch.testing.assert_close(made.model.sample(5)[:, 6], torch.full((5,), 0.3))
    p = made.model.decode(torch.zeros(1, 2)).base_dist
    assert p.log_prob(torch.zeros(1, 7))[0, [0, 6]].tolist() == [0, 0]


@pytest.mark.parametrize("likelihood", ["gaussian", "laplace"])
@pytest.mark.parametrize("scale", ["learned", "per-element", 0.5])
def test_every_scale_knows_constants(likelihood: str, scale: object, tmp_path: Path) -> None:
    x = np.c_[BASE, np.full(400, 7.0)]
    changes = {"train.epochs": 1, "model.likelihood": likelihood, "model.scale": scale}
    found = trained(x, tmp_path / "run", **changes)[1]
    assert math.isfinite(found.elbo.value)
    assert found.elbo.value < 0


def test_data_of_one_value_are_trained_on_as_before(tmp_path: Path) -> None:
    """With nothing else to describe, a constant has a unit of one."""
    made, found = trained(np.full((60, 3), 2.5), tmp_path / "run", **{"train.epochs": 1})
    assert (made.model.likelihood.unit == 1).all()
    assert math.isfinite(found.elbo.value)
