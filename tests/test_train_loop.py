"""What a training takes, what it leaves alone and what it writes, seen from outside: through ``fit``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.utils.data import TensorDataset
from training import QUIET, before_each_step, data, equal, lines, model, weights, written

import tightbound as tb
from tightbound.batch import Batch
from tightbound.data import Data, Observations
from tightbound.objectives import ELBO, IWAE, Capacity, FreeBits, Loss
from tightbound.training import Training, fit
from tightbound.training.batches import Sampler

# What it takes


@pytest.mark.parametrize(
    "given",
    [
        lambda x: x,
        lambda x: x.numpy(),
        lambda x: Observations(x),
        lambda x: TensorDataset(x),
        lambda x: Data("both", Observations(x), Observations(x + 1000)),
    ],
    ids=["tensor", "array", "observations", "dataset", "data"],
)
def test_the_same_observations_in_any_form(given: Callable[[Tensor], Any]) -> None:
    expected, found = model(), model()
    fit(expected, data(), epochs=1, **QUIET)
    ended = fit(found, given(data()), epochs=1, **QUIET)
    assert ended.steps == 4
    assert equal(weights(found), weights(expected))


def test_settings_as_a_value_and_one_by_one() -> None:
    one, other = model(), model()
    settings = {k: v for k, v in QUIET.items() if k != "progress"}
    fit(one, data(), progress=False, settings=Training(epochs=7, **settings), epochs=2)
    fit(other, data(), epochs=2, **QUIET)
    assert equal(weights(one), weights(other))


@pytest.mark.parametrize(
    "objective", [ELBO(beta=2.0), IWAE(3), FreeBits(0.1), Capacity(2.0), ELBO(kl="sampled", samples=2)], ids=repr
)
def test_every_objective_gets_better(objective: tb.objectives.Objective) -> None:
    ended = fit(model(), data(), objective=objective, epochs=20, **QUIET)
    losses = [line["loss"] for line in lines(ended, "validation")]
    assert losses[-1] < losses[0]
    assert ended.loss == min(losses)


def test_any_function_of_model_and_batch_is_an_objective(tmp_path: Path) -> None:
    def objective(model: tb.VAE, batch: Batch, step: Tensor | None = None) -> Loss:
        error = (model.likelihood(model.posterior(batch.x).mean).mean - batch.x).square().sum(-1).mean()
        return Loss(error, {"error": error.detach()})

    ended = fit(model(), data(), objective=objective, epochs=5, out=tmp_path, **QUIET)
    assert {"loss", "error"} <= ended.metrics[-1].keys()
    assert ended.metrics[-1]["loss"] == ended.metrics[-1]["error"]
    fit(model(), data(), objective=objective, epochs=5, out=tmp_path, resume=True, **QUIET)


def test_double_precision_stays_double() -> None:
    seen: list[torch.dtype] = []

    class Spy(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.dtype)
            return super().forward(x)

    vae = tb.VAE(
        prior=tb.priors.StandardNormal(2),
        posterior=tb.posteriors.DiagonalNormal(Spy(3, 4)),
        likelihood=tb.likelihoods.Gaussian(nn.Linear(2, 3), scale=0.5),
    ).double()
    fit(vae, data(), epochs=1, **QUIET)
    assert set(seen) == {torch.float64}
    assert {value.dtype for value in vae.state_dict().values()} == {torch.float64}


@pytest.mark.parametrize("precision", ["bfloat16", "auto"])
def test_half_precision_trains_and_keeps_its_weights_single(precision: str) -> None:
    vae = model()
    ended = fit(vae, data(), epochs=10, **{**QUIET, "precision": precision})
    losses = [line["loss"] for line in lines(ended, "validation")]
    assert losses[-1] < losses[0]
    assert {value.dtype for value in vae.state_dict().values()} == {torch.float32}


# What it leaves alone


def test_the_user_s_global_state_is_left_alone(tmp_path: Path) -> None:
    vae, x = model().eval(), data()
    before, validates = torch.get_rng_state(), Distribution._validate_args
    fit(vae, x, epochs=2, out=tmp_path / "run", **QUIET)
    assert torch.get_rng_state().equal(before)
    assert Distribution._validate_args == validates
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("training", [False, True])
def test_whatever_its_mode_was_a_trained_model_is_in_evaluation_mode(training: bool) -> None:
    vae = model().train(training)
    fit(vae, data(), epochs=1, **QUIET)
    assert not any(module.training for module in vae.modules())


@pytest.mark.parametrize("validates", [False, True])
def test_the_user_s_global_state_is_left_alone_by_failures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, validates: bool
) -> None:
    def fail(step: int) -> None:
        if step == 3:
            raise RuntimeError("out of luck")

    before_each_step(monkeypatch, fail)
    Distribution.set_default_validate_args(validates)
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="out of luck"):
        fit(model(), data(), epochs=2, out=tmp_path / "run", **QUIET)
    assert torch.get_rng_state().equal(before)
    assert Distribution._validate_args == validates


def test_nothing_is_written_unless_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fit(model(), data(), epochs=1, **QUIET)
    assert os.listdir(tmp_path) == []


def test_the_data_are_left_alone() -> None:
    x = data()
    before = x.clone()
    fit(model(), x, epochs=1, **QUIET)
    assert x.equal(before)


# The same for the same seed


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        torch.rand(7)  # the user's own random numbers play no part
        fit(model(), data(), epochs=3, seed=seed, ema=0.9, out=tmp_path / folder, **QUIET)
    a, b, c = (written(tmp_path / folder) for folder in "abc")
    assert a == b
    assert all(a[name] != c[name] for name in a)


def test_looking_more_often_changes_nothing(tmp_path: Path) -> None:
    settings = {**QUIET, "ema": 0.9, "epochs": 3}
    one, other = model(), model()
    a = fit(one, data(), **settings)
    b = fit(other, data(), out=tmp_path, **{**settings, "log_every": 7, "checkpoint_seconds": 0})
    assert equal(weights(one), weights(other))
    assert lines(a, "validation") == lines(b, "validation")


def test_metrics_have_no_clock_and_timing_has(tmp_path: Path) -> None:
    ended = fit(model(), data(), epochs=2, out=tmp_path, **QUIET)
    metrics = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    timing = [json.loads(line) for line in (tmp_path / "timing.jsonl").read_text().splitlines()]
    assert metrics == ended.metrics
    assert not any("second" in key or "time" in key for line in metrics for key in line)
    assert all(line.keys() == {"step", "seconds", "threads"} for line in timing)
    seconds = [line["seconds"] for line in timing]
    assert seconds == sorted(seconds)
    assert seconds[-1] <= ended.seconds + 0.001


def test_a_line_is_the_mean_of_the_steps_since_the_last() -> None:
    each = lines(fit(model(), data(), epochs=2, **QUIET), "train")
    some = lines(fit(model(), data(), epochs=2, **{**QUIET, "log_every": 3}), "train")
    assert [line["step"] for line in each] == list(range(1, 9))
    assert [line["step"] for line in some] == [3, 4, 6, 8]  # every third, and where an epoch ends
    for start, stop, line in zip((0, 3, 4, 6), (3, 4, 6, 8), some, strict=True):
        for name in ("loss", "distortion", "rate"):
            assert line[name] == pytest.approx(np.mean([one[name] for one in each[start:stop]]), rel=1e-6)


def test_a_part_of_an_epoch_and_the_last_step_are_logged() -> None:
    ended = fit(model(), data(), epochs=1.5, **{**QUIET, "log_every": 100})
    assert [(line["split"], line["step"], line["epoch"]) for line in ended.metrics] == [
        ("train", 4, 1.0),
        ("validation", 4, 1.0),
        ("train", 6, 1.5),
        ("validation", 6, 1.5),
    ]


# What a person sees


def test_progress_is_silent_or_said_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    fit(model(), data(), epochs=3, **QUIET)
    assert capsys.readouterr() == ("", "")
    fit(model(), data(), epochs=3, **{**QUIET, "progress": True})
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("step 12/12  epoch 3  validation loss ")


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    fit(model(), data(), epochs=3, **{**QUIET, "progress": True})
    assert "12/12" in capsys.readouterr().err


def test_batches_are_the_sampler_s(monkeypatch: pytest.MonkeyPatch) -> None:
    x, seen = torch.arange(300.0).reshape(100, 3) / 100, []
    batch = Observations.batch

    def watch(self: Observations, indices: Tensor, dtype: torch.dtype = torch.float32) -> Batch:
        seen.append(indices)
        return batch(self, indices, dtype)

    monkeypatch.setattr(Observations, "batch", watch)
    fit(model(), x, epochs=2, seed=5, **QUIET)
    sampler = Sampler(80, 20, seed=5, device=torch.device("cpu"))
    assert [indices.tolist() for indices in seen[-8:]] == [sampler.indices(step).tolist() for step in range(8)]
