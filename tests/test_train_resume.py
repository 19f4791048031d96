"""A training that was asked to stop ends, once it is gone on with, as if it never had been."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training import QUIET, before_each_step, bits, data, equal, model, weights, written

from tightbound.autoencoder import VAE
from tightbound.batch import Batch
from tightbound.divergences import kl
from tightbound.gradients import Enumerate, Gradient, GumbelSoftmax, ScoreFunction, StraightThrough
from tightbound.objectives import ELBO, Loss
from tightbound.schedules import Linear
from tightbound.training import TrainResult, fit
from tightbound.training.checkpoint import load_state
from tightbound.training.signals import signals_kept

# Asked to stop


def train(folder: Path, *, resume: bool = False, seed: int = 0, **changes: Any) -> tuple[dict[str, Any], TrainResult]:
    vae = model(seed=int(resume))  # whatever the weights were before, a checkpoint's take their place
    settings = {**QUIET, "epochs": 4, "ema": 0.9, "warmup_steps": 3, **changes}
    ended = fit(vae, data(), out=folder, resume=resume, seed=seed, **settings)
    return weights(vae), ended


def interrupt_at(step: int, number: int = signal.SIGINT) -> Callable[[int], None]:
    def interrupt(now: int) -> None:
        if now == step:
            os.kill(os.getpid(), number)

    return interrupt


def stopped_at(
    monkeypatch: pytest.MonkeyPatch, step: int, folder: Path, number: int = signal.SIGINT, **changes: Any
) -> tuple[dict[str, Any], TrainResult]:
    with monkeypatch.context() as patch:
        before_each_step(patch, interrupt_at(step, number))
        with signals_kept():
            return train(folder, **changes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("changes", [{}, {"log_every": 5}, {"validation": 0, "log_every": 3}, {"ema": 0.0}], ids=str)
def test_a_signal_stops_after_the_step_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals, step: int, changes: dict[str, Any]
) -> None:
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    _, stopped = stopped_at(monkeypatch, step, tmp_path / "stopped", number, **changes)
    assert (stopped.ended, stopped.steps) == ("interrupted", step + 1)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    found, resumed = train(tmp_path / "stopped", resume=True, **changes)
    expected, complete = train(tmp_path / "complete", **changes)
    assert equal(found, expected)
    assert written(tmp_path / "stopped") == written(tmp_path / "complete")
    assert resumed.metrics == complete.metrics
    assert (resumed.ended, resumed.steps, resumed.loss, resumed.best_step) == (
        (complete.ended, complete.steps, complete.loss, complete.best_step)
    )  # fmt: skip


@pytest.mark.parametrize(
    "gradient",
    [
        ScoreFunction(),
        ScoreFunction("batch"),
        GumbelSoftmax(Linear(1.0, 0.2, steps=12)),
        Enumerate(),
        StraightThrough(),
    ],
    ids=str,
)
def test_gradients_of_bits_go_on_as_if_never_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, gradient: Gradient
) -> None:
    objective = ELBO(samples=1 if gradient == Enumerate() else 2, gradient=gradient)

    def run(folder: Path, *, resume: bool = False) -> dict[str, Any]:
        codes = bits(seed=int(resume))
        fit(codes, data(), objective=objective, out=folder, resume=resume, **{**QUIET, "epochs": 3, "micro_batch": 15})
        return weights(codes)

    with monkeypatch.context() as patch:
        before_each_step(patch, interrupt_at(5))
        with signals_kept():
            run(tmp_path / "stopped")
    assert equal(run(tmp_path / "stopped", resume=True), run(tmp_path / "complete"))
    assert written(tmp_path / "stopped") == written(tmp_path / "complete")


def test_stopped_again_and_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stopped_at(monkeypatch, 1, tmp_path / "stopped")
    for step in range(2, 15):
        found, ended = stopped_at(monkeypatch, step, tmp_path / "stopped", resume=True)
        assert (ended.ended, ended.steps) == ("interrupted", step + 1)
    found, _ = train(tmp_path / "stopped", resume=True)
    expected, _ = train(tmp_path / "complete")
    assert equal(found, expected)
    assert written(tmp_path / "stopped") == written(tmp_path / "complete")


def test_a_signal_in_the_last_step_changes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, ended = stopped_at(monkeypatch, 15, tmp_path)
    assert (ended.ended, ended.steps) == ("complete", 16)


def test_a_second_signal_ends_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def twice(step: int) -> None:
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        before_each_step(patch, twice)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "stopped", checkpoint_seconds=0)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    train(tmp_path / "stopped", resume=True)
    train(tmp_path / "complete")
    assert written(tmp_path / "stopped") == written(tmp_path / "complete")


def test_an_interrupted_run_has_its_best_weights_so_far(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found, ended = stopped_at(monkeypatch, 9, tmp_path / "stopped")
    validated = [line for line in ended.metrics if line["split"] == "validation"]
    best = min(validated, key=lambda line: line["loss"])
    assert (ended.best_step, ended.loss) == (best["step"], best["loss"])
    assert equal(found, load_state(tmp_path / "stopped")["standing"]["best"]["weights"]["model"])


def test_training_works_outside_the_main_thread() -> None:
    ended: list[TrainResult] = []
    thread = threading.Thread(target=lambda: ended.append(fit(model(), data(), epochs=1, **QUIET)))
    thread.start()
    thread.join()
    assert ended[0].ended == "complete"


def test_running_statistics_and_dropout_are_part_of_the_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(folder: Path, *, resume: bool = False) -> TrainResult:
        vae = model()
        vae.posterior.network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.3), vae.posterior.network)
        vae.likelihood.network = nn.Sequential(nn.BatchNorm1d(2), vae.likelihood.network)
        return fit(vae, data(), objective=ReconstructionAndRate(), out=folder, resume=resume, epochs=3, **QUIET)

    run(tmp_path / "complete")
    for step in (2, 7):
        with monkeypatch.context() as patch:
            before_each_step(patch, interrupt_at(step))
            with signals_kept():
                assert run(tmp_path / "stopped", resume=step > 2).ended == "interrupted"
    run(tmp_path / "stopped", resume=True)
    assert written(tmp_path / "stopped") == written(tmp_path / "complete")


class ReconstructionAndRate:
    """Batch normalisation wants latents of shape (B, latent), where a draw has (K, B, latent)."""

    def __call__(self, model: VAE, batch: Batch, step: Tensor | None = None) -> Loss:
        q = model.posterior(batch.x)
        distortion = -model.likelihood.log_prob(batch.x, q.rsample()).mean()
        rate = kl(q, model.prior()).mean()
        return Loss(distortion + rate, {"distortion": distortion.detach(), "rate": rate.detach()})


# Already over


def test_a_complete_training_is_not_gone_on_with(tmp_path: Path) -> None:
    expected, first = train(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    found, second = train(tmp_path, resume=True)
    assert second == first
    assert equal(found, expected)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("patience", [1, 2])
def test_a_training_that_stopped_early_is_not_gone_on_with(tmp_path: Path, patience: int) -> None:
    changes: dict[str, Any] = {
        "patience": patience,
        "epochs": 60,
        "learning_rate": 0.1,
        "schedule": "constant",
        "ema": 0.0,
    }
    expected, first = train(tmp_path, **changes)
    assert first.ended == "early"
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    found, second = train(tmp_path, resume=True, **changes)
    assert second == first
    assert equal(found, expected)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_patience_survives_a_stop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"patience": 2, "epochs": 60, "learning_rate": 0.1, "schedule": "constant", "ema": 0.0}
    _, complete = train(tmp_path / "complete", **changes)
    assert complete.ended == "early"
    _, stopped = stopped_at(monkeypatch, complete.steps - 2, tmp_path / "stopped", **changes)
    assert stopped.ended == "interrupted"
    _, resumed = train(tmp_path / "stopped", resume=True, **changes)
    assert (resumed.ended, resumed.steps) == ("early", complete.steps)
    assert written(tmp_path / "stopped") == written(tmp_path / "complete")


def test_seconds_add_up_over_sessions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, stopped = stopped_at(monkeypatch, 5, tmp_path)
    _, resumed = train(tmp_path, resume=True)
    assert resumed.seconds > stopped.seconds > 0


def test_random_numbers_of_the_caller_play_no_part_in_going_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stopped_at(monkeypatch, 5, tmp_path / "stopped")
    torch.manual_seed(12345)
    before = torch.get_rng_state()
    train(tmp_path / "stopped", resume=True)
    assert torch.get_rng_state().equal(before)
    train(tmp_path / "complete")
    assert written(tmp_path / "stopped") == written(tmp_path / "complete")
