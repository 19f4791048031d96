"""What a training does, seen from outside: through ``fit`` and what it writes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.utils.data import TensorDataset
from training import QUIET, before_each_step, data, equal, model, weights, written

import tightbound as tb
from tightbound.data import Data, Observations, load
from tightbound.networks import MLP
from tightbound.objectives import ELBO, IWAE, Capacity, FreeBits, Loss
from tightbound.schedules import Linear, WarmupCosine
from tightbound.train import Fit, Training, fit
from tightbound.train.batches import Sampler, split
from tightbound.train.checkpoint import load_weights


def lines(ended: Fit, split: str) -> list[dict[str, Any]]:
    return [line for line in ended.metrics if line["split"] == split]


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
    fit(one, data(), progress=False, settings=Training(epochs=7, **settings), **{"epochs": 2})
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
    def objective(model: tb.VAE, x: Tensor, step: Tensor | None = None) -> Loss:
        error = (model.reconstruct(x) - x).square().sum(-1).mean()
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


def test_half_precision_trains_and_keeps_its_weights_single() -> None:
    vae = model()
    ended = fit(vae, data(), epochs=10, precision="bfloat16", **QUIET)
    losses = [line["loss"] for line in lines(ended, "validation")]
    assert losses[-1] < losses[0]
    assert {value.dtype for value in vae.state_dict().values()} == {torch.float32}


# What it leaves alone


def test_the_user_s_global_state_is_left_alone(tmp_path: Path) -> None:
    vae, x = model().eval(), data()
    before, numpy_before, validates = torch.get_rng_state(), np.random.get_state()[1], Distribution._validate_args
    fit(vae, x, epochs=2, out=tmp_path / "run", **QUIET)
    assert torch.get_rng_state().equal(before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)
    assert Distribution._validate_args == validates
    assert not vae.training
    assert fit(vae.train(), x, epochs=2, **QUIET)
    assert vae.training
    assert torch.is_grad_enabled()


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
    assert all(line.keys() == {"step", "seconds"} for line in timing)
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


# Steps


def recorded(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> tuple[list[dict[str, Tensor]], Fit]:
    """The weights before each step and after the last, of a training without averaging or validation."""
    vae, seen = model(), []
    with monkeypatch.context() as patch:
        before_each_step(patch, lambda step: seen.append(weights(vae)))
        ended = fit(vae, data(), **{**QUIET, "validation": 0, **settings})
    return [*seen, weights(vae)], ended


def largest_change(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize(("schedule", "warmup"), [("cosine", 0), ("cosine", 4), ("constant", 0), ("constant", 4)])
def test_the_learning_rate_follows_its_schedule(monkeypatch: pytest.MonkeyPatch, schedule: str, warmup: int) -> None:
    settings = {"schedule": schedule, "warmup_steps": warmup, "betas": (0.0, 0.0)}
    seen, ended = recorded(monkeypatch, epochs=2, **settings)
    rate = WarmupCosine(0.01, steps=10, warmup=warmup, floor=0.0 if schedule == "cosine" else 1.0)
    expected = [rate(step) for step in range(1, 11)]
    assert [line["learning_rate"] for line in lines(ended, "train")] == expected
    # Without memory Adam's step is the learning rate, up or down, in every weight with a gradient.
    changes = [largest_change(one, other) for one, other in pairwise(seen)]
    assert changes == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_a_warm_up_longer_than_the_training_rises_to_its_end() -> None:
    ended = fit(model(), data(), epochs=1, warmup_steps=100, **QUIET)
    rates = [line["learning_rate"] for line in lines(ended, "train")]
    assert rates == sorted(rates)
    assert rates[-1] == 0.01


def test_clipping_bounds_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"betas": (0.0, 0.0), "schedule": "constant", "epochs": 1}
    free, _ = recorded(monkeypatch, **settings)
    clipped, _ = recorded(monkeypatch, clip=1e-10, **settings)
    # Adam divides by |gradient| + 1e-8: a gradient of norm 1e-10 moves a weight by no more than a hundredth.
    for one, other in pairwise(clipped):
        assert 0 < largest_change(one, other) <= 0.01 * 0.01
    assert all(largest_change(one, other) > 0.009 for one, other in pairwise(free))


def test_a_generous_clip_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = recorded(monkeypatch, epochs=2)
    other, _ = recorded(monkeypatch, epochs=2, clip=1e9)
    assert equal(one[-1], other[-1])


def test_averaged_weights_are_the_average_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, _ = recorded(monkeypatch, epochs=3)
    average = {name: value.double() for name, value in seen[0].items()}
    for after in seen[1:]:
        average = {name: 0.7 * value + 0.3 * after[name].double() for name, value in average.items()}
    vae = model()
    fit(vae, data(), epochs=3, ema=0.7, **{**QUIET, "validation": 0})
    for name, value in weights(vae).items():
        torch.testing.assert_close(value.double(), average[name], rtol=1e-5, atol=1e-6)


def test_averaging_leaves_the_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, averaged = model(), model()
    seen: list[dict[str, Tensor]] = []
    before_each_step(monkeypatch, lambda step: seen.append(weights(plain if len(seen) < 12 else averaged)))
    fit(plain, data(), epochs=3, **QUIET)
    fit(averaged, data(), epochs=3, ema=0.7, **QUIET)
    assert all(equal(one, other) for one, other in zip(seen[:12], seen[12:], strict=True))


def test_validation_sees_the_averaged_weights() -> None:
    """With a decay of nearly one the average stays at the start, and so does the validation loss."""
    ended = fit(model(), data(), epochs=5, ema=1 - 1e-9, **QUIET)
    losses = [line["loss"] for line in lines(ended, "validation")]
    assert losses == pytest.approx([losses[0]] * 5, rel=1e-4)


def test_beta_follows_the_step_and_validation_its_end() -> None:
    beta = Linear(0.0, 3.0, steps=6)
    ended = fit(model(), data(), objective=ELBO(beta=beta), epochs=2, **QUIET)
    for line in lines(ended, "train"):
        weight = beta(line["step"] - 1)  # the first step is made at β(0)
        assert line["loss"] == pytest.approx(line["distortion"] + weight * line["rate"], rel=1e-5)
    for line in lines(ended, "validation"):
        assert line["loss"] == pytest.approx(line["distortion"] + 3.0 * line["rate"], rel=1e-5)


# Validation


def held_out(x: Tensor, seed: int = 0) -> Observations:
    part = split(Observations(x), QUIET["validation"], seed)[1]
    assert part is not None
    return part


def test_the_best_weights_are_those_of_the_lowest_validation_loss(tmp_path: Path) -> None:
    vae, x = model(), data(40)
    ended = fit(vae, x, epochs=60, out=tmp_path, **{**QUIET, "learning_rate": 0.1, "schedule": "constant"})
    losses = {line["step"]: line["loss"] for line in lines(ended, "validation")}
    assert ended.loss == min(losses.values())
    assert losses[ended.best_step] == ended.loss
    assert ended.best_step < ended.steps  # it went on past its best, else this shows nothing
    assert [line["step"] for line in lines(ended, "validation") if line["best"]][-1] == ended.best_step
    loaded = model(seed=1)
    load_weights(tmp_path, loaded)
    assert equal(weights(loaded), weights(vae))
    again = fit(loaded, x, epochs=1e-6, **{**QUIET, "learning_rate": 1e-30})  # a step that moves nothing
    assert again.loss == ended.loss


def test_validation_is_the_objective_on_what_was_held_out() -> None:
    vae, x = model(), data()
    ended = fit(vae, x, epochs=4, **QUIET)
    with torch.no_grad():
        losses = torch.stack([ELBO()(vae, held_out(x).fixed()).value for _ in range(2000)])
    error = losses.std() * math.sqrt(1 + 1 / len(losses))
    assert abs(ended.loss - losses.mean()) < 4 * error


def test_what_is_held_out_is_never_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    x, seen = data(), set()
    visit = Observations.visit

    def watch(self: Observations, indices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        found = visit(self, indices, dtype)
        seen.update(map(tuple, found.tolist()))
        return found

    monkeypatch.setattr(Observations, "visit", watch)
    fit(model(), x, epochs=3, **QUIET)
    kept = set(map(tuple, held_out(x).fixed().tolist()))
    assert len(kept) == 20
    assert seen == set(map(tuple, x.tolist())) - kept


def test_validation_is_without_dropout() -> None:
    vae = model()
    vae.posterior.network = nn.Sequential(nn.Dropout(0.5), vae.posterior.network)
    modes: list[bool] = []
    vae.posterior.network.register_forward_hook(lambda module, *_: modes.append(module.training))
    fit(vae.eval(), data(), epochs=2, **QUIET)
    assert modes[1:] == [*[True] * 4, False] * 2  # the first look, at the data, aside
    assert not vae.training


def scripted(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> None:
    """Validation losses as they are wanted."""
    script = iter(losses)
    monkeypatch.setattr("tightbound.train.trainer.validate", lambda *args, **kwargs: {"loss": next(script)})


@pytest.mark.parametrize(
    ("patience", "losses", "epochs", "best", "ended"),
    [
        (2, [3.0, 2.0, 4.0, 2.0], 4, 2, "early"),
        (1, [3.0, 3.0], 2, 1, "early"),
        (2, [3.0, 4.0, 2.0, 4.0, 1.0], 5, 5, "complete"),
        (0, [1.0, 2.0, 3.0, 4.0, 5.0], 5, 1, "complete"),
        (4, [1.0, 2.0, 3.0, 4.0, 5.0], 5, 1, "complete"),  # patience runs out as the training ends
    ],
)
def test_stopping_early(
    monkeypatch: pytest.MonkeyPatch, patience: int, losses: list[float], epochs: int, best: int, ended: str
) -> None:
    vae, seen = model(), {}
    before_each_step(monkeypatch, lambda step: seen.update({step: weights(vae)}))
    scripted(monkeypatch, losses)
    found = fit(vae, data(), epochs=5, patience=patience, **QUIET)
    assert (found.ended, found.steps, found.best_step) == (ended, 4 * epochs, 4 * best)
    assert found.loss == losses[best - 1]
    if best < epochs:
        assert equal(weights(vae), seen[4 * best])


def test_without_validation_the_last_weights_stay() -> None:
    ended = fit(model(), data(), epochs=2, **{**QUIET, "validation": 0})
    assert lines(ended, "validation") == []
    assert (ended.loss, ended.best_step) == (ended.metrics[-1]["loss"], ended.steps)


def test_tied_weights_can_be_saved(tmp_path: Path) -> None:
    vae = model()
    vae.likelihood.network.last.weight = vae.likelihood.network.layers[0].weight = nn.Parameter(torch.randn(8, 2))
    vae.likelihood.network.last = nn.Sequential(nn.Linear(8, 2), MLP((2,), (3,), hidden=()))
    vae.likelihood.network.last[0].weight = nn.Parameter(vae.likelihood.network.layers[0].weight.detach().T.clone())
    vae.posterior.network.layers.append(nn.Linear(8, 8))
    vae.posterior.network.layers.append(vae.posterior.network.layers[-1])
    fit(vae, data(), epochs=1, out=tmp_path, **QUIET)
    load_weights(tmp_path, vae)


# What it refuses


def binary_model() -> tb.VAE:
    return tb.VAE(
        prior=tb.priors.StandardNormal(2),
        posterior=tb.posteriors.DiagonalNormal(nn.Linear(3, 4)),
        likelihood=tb.likelihoods.Bernoulli(nn.Linear(2, 3)),
    )


@pytest.mark.parametrize("validates", [False, True])  # whoever switched torch's checks off still gets this one
def test_one_value_outside_the_support_is_enough(validates: bool) -> None:
    Distribution.set_default_validate_args(validates)
    x = torch.zeros(300_000, 3)
    x[299_998, 1] = 0.5
    with pytest.raises(
        ValueError,
        match=r"Expected values in the support of Bernoulli .*first in observation \d+, between 0 and 0.5. .*binarise",
    ):
        fit(binary_model(), x, **QUIET)
    assert Distribution._validate_args == validates


def test_grey_data_under_bernoulli_wants_a_word() -> None:
    grey = (255 * torch.rand(50, 3)).to(torch.uint8)
    with pytest.raises(ValueError, match=r"Expected values in the support .* or say Bernoulli\(network, grey=True\)"):
        fit(binary_model(), grey, **QUIET)
    fit(binary_model(), load(grey).binarised(), epochs=1, **QUIET)
    allowed = binary_model()
    allowed.likelihood.grey = True
    fit(allowed, grey, epochs=1, **QUIET)


@pytest.mark.parametrize(
    ("x", "changes", "error", "message"),
    [
        (torch.full((50, 3), torch.nan), {}, ValueError, "support of Gaussian .*Real.*, between nan and nan"),
        (torch.zeros(0, 3), {}, ValueError, "Expected at least one observation; got an empty array"),
        (torch.zeros(50), {}, ValueError, r"Expected observations of shape \(N, ...\); got \(50,\)"),
        ([[1.0, 2.0, 3.0]], {}, TypeError, "Expected an array, a tensor, .*; got list"),
        (torch.zeros(50, 3), {"validation": 50}, ValueError, "Expected fewer validation observations than the 50"),
        (torch.zeros(1, 3), {}, ValueError, "Expected fewer validation observations than the 1 there are"),
        (torch.zeros(50, 3), {"epoch": 3}, TypeError, r"got 'epoch'. Did you mean 'epochs'\?"),
        (torch.zeros(50, 3), {"learning_rate": 0}, ValueError, "Expected a finite learning_rate > 0; got 0"),
        (torch.zeros(50, 3), {"device": "gpu"}, ValueError, r"Expected a device of this machine \(auto, .*'gpu'"),
        (torch.zeros(50, 3), {"device": "cpu:7"}, ValueError, "Expected a device of this machine .*; got 'cpu:7'"),
        (torch.zeros(50, 3), {"seed": -1}, ValueError, "Expected a seed from 0 to 2⁶³ − 1; got -1"),
        (torch.zeros(50, 3), {"seed": 2**63}, ValueError, "Expected a seed from 0 to 2⁶³ − 1; got 9223372036854775808"),
        (torch.zeros(50, 3), {"resume": True}, ValueError, "Expected out= with resume=True"),
    ],
)
def test_impossible_requests(x: Any, changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fit(model(), x, **{**QUIET, **changes})


@pytest.mark.parametrize("seed", [0, 2**31, 2**63 - 1])
def test_every_seed_in_range_serves(seed: int) -> None:
    assert fit(model(), data(), epochs=2, seed=seed, **QUIET).steps == 8


def test_observations_of_another_shape_than_the_likelihood_s() -> None:
    vae = model()
    vae.likelihood.network = MLP((2,), (1,), hidden=())  # would be spread over all three elements in silence
    with pytest.raises(
        ValueError, match=r"Expected observations of shape \(1,\), as the likelihood has it; got \(3,\)"
    ):
        fit(vae, data(), **QUIET)


def test_a_model_without_parameters() -> None:
    vae = model().requires_grad_(False)
    with pytest.raises(ValueError, match="Expected a model with parameters to train"):
        fit(vae, data(), **QUIET)


def test_frozen_parameters_stay(tmp_path: Path) -> None:
    vae = model()
    vae.posterior.requires_grad_(False)
    before = weights(vae)
    fit(vae, data(), epochs=2, ema=0.5, clip=1.0, **QUIET)
    moved = {name.split(".")[0] for name, value in weights(vae).items() if not value.equal(before[name])}
    assert moved == {"likelihood"}


def test_a_folder_with_a_run_in_it_is_left_alone(tmp_path: Path) -> None:
    fit(model(), data(), epochs=1, out=tmp_path, **QUIET)
    before = written(tmp_path)
    with pytest.raises(ValueError, match=r"Expected a folder without a run in it; got .* or resume=True to go on"):
        fit(model(), data(), epochs=1, seed=1, out=tmp_path, **QUIET)
    assert written(tmp_path) == before


# What a person sees


def test_progress_is_silent_or_said_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    fit(model(), data(), epochs=3, **QUIET)
    assert capsys.readouterr() == ("", "")
    fit(model(), data(), epochs=3, **{**QUIET, "progress": True})
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("step 12/12  epoch 3  validation loss ")


def test_batches_are_the_sampler_s(monkeypatch: pytest.MonkeyPatch) -> None:
    x, seen = torch.arange(300.0).reshape(100, 3) / 100, []
    visit = Observations.visit

    def watch(self: Observations, indices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        seen.append(indices)
        return visit(self, indices, dtype)

    monkeypatch.setattr(Observations, "visit", watch)
    fit(model(), x, epochs=2, seed=5, **QUIET)
    sampler = Sampler(80, 20, seed=5, device=torch.device("cpu"))
    assert [indices.tolist() for indices in seen] == [sampler.indices(step).tolist() for step in range(8)]
