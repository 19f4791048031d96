"""What a function of the user's is told while a training goes on, and that nothing it does reaches the training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from training import QUIET, data, equal, lines, model, weights, written

import tightbound as tb
from tightbound.training import OnLogError, TrainResult, fit
from tightbound.training.checkpoint import load_state


def normalised() -> Any:
    """A model with everything that a function could disturb: dropout, running statistics."""
    vae = model()
    vae.posterior.network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.3), vae.posterior.network)
    return vae


def train(vae: Any, folder: Path, **changes: Any) -> TrainResult:
    return fit(vae, data(), out=folder, **{**QUIET, "epochs": 3, "ema": 0.9, "log_every": 3, **changes})


# What is told


def test_every_line_is_told_once_it_is_written(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []

    def remember(line: dict[str, Any]) -> None:
        told.append(line)
        there = [json.loads(each) for each in (tmp_path / "metrics.jsonl").read_text().splitlines()]
        assert there[len(told) - 1] == line

    ended = train(model(), tmp_path, on_log=remember)
    assert told == ended.metrics
    assert {line["split"] for line in told} == {"train", "validation"}


def test_without_a_folder_it_is_told_the_same(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    fit(model(), data(), on_log=told.append, **{**QUIET, "epochs": 3, "ema": 0.9, "log_every": 3})
    assert told == train(model(), tmp_path).metrics


def test_it_sees_the_weights_of_the_last_step() -> None:
    vae, seen = model(), []
    settings = {**QUIET, "validation": 0, "epochs": 1}
    fit(vae, data(), on_log=lambda line: seen.append(weights(vae)), **settings)
    assert len(seen) == 5
    assert not equal(seen[0], seen[1])
    assert equal(seen[-1], weights(vae))


def test_a_recipe_s_training_tells_too(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    small = {"model.latent_dim": 2, "model.hidden": [8], "train.epochs": 1}
    run = tb.train("auto", data=data(), out=tmp_path / "run", changes=small, progress=False, on_log=told.append)
    assert told == run.metrics()


# What it does


def evaluate(vae: Any) -> object:
    return tb.evidence(vae, data()[:5], samples=2), vae.sample(3)


def overwrite(vae: Any) -> None:
    for name, value in vae.state_dict().items():
        value.data.add_(1 if "num_batches" in name else 0.5)


def probe(vae: Any) -> None:
    """Train something else, with gradients, on codes."""
    probe = nn.Linear(2, 3)
    optimiser = torch.optim.SGD(probe.parameters())
    (probe(vae.embed(data())) - data()).square().sum().backward()
    optimiser.step()


def another(vae: Any) -> None:
    fit(model(seed=3), data(), **QUIET, epochs=0.5)


@pytest.mark.parametrize(
    "work",
    [
        lambda vae: torch.manual_seed(5),
        lambda vae: (torch.randn(7), np.random.default_rng().normal()),
        lambda vae: vae.eval(),
        lambda vae: torch.set_grad_enabled(False),
        lambda vae: vae.embed(data()),
        evaluate,
        overwrite,
        probe,
        another,
    ],
    ids=["seed", "draw", "mode", "no gradient", "embed", "evaluate", "overwrite", "probe", "another training"],
)
def test_whatever_it_does_the_training_goes_on_as_without_it(tmp_path: Path, work: Callable[[Any], object]) -> None:
    one, other = normalised(), normalised()

    def on_log(line: dict[str, Any]) -> None:
        work(other)
        line.clear()

    first = train(one, tmp_path / "without")
    second = train(other, tmp_path / "with", on_log=on_log)
    assert equal(weights(one), weights(other))
    assert written(tmp_path / "without") == written(tmp_path / "with")
    assert first.metrics == second.metrics
    assert torch.is_grad_enabled()


# Where it fails


def failing_at(step: int, error: BaseException) -> Callable[[dict[str, Any]], None]:
    def on_log(line: dict[str, Any]) -> None:
        if line["step"] == step:
            raise error

    return on_log


@pytest.mark.parametrize("step", [3, 4, 12])  # between epochs, at the end of one, at the very end
def test_an_error_in_it_ends_the_training_with_the_state_saved(tmp_path: Path, step: int) -> None:
    cause, vae = ValueError("no network"), normalised()
    with pytest.raises(
        OnLogError,
        match=rf"^Expected on_log to take each line of metrics; got ValueError: no network, at step {step}\. The state "
        r"is saved: mend it, and go on with resume=True, or --resume .*failed\.$",
    ) as caught:
        train(vae, tmp_path / "failed", on_log=failing_at(step, cause))
    assert caught.value.__cause__ is cause
    assert not vae.training
    assert load_state(tmp_path / "failed")["standing"]["number"] == step
    told: list[dict[str, Any]] = []
    ended, other = train(vae, tmp_path / "failed", resume=True, on_log=told.append), normalised()
    complete = train(other, tmp_path / "complete")
    assert equal(weights(vae), weights(other))
    assert written(tmp_path / "failed") == written(tmp_path / "complete")
    assert told == [line for line in ended.metrics if line["step"] > step]
    assert ended.metrics == complete.metrics


def test_without_a_folder_the_remedy_is_another(tmp_path: Path) -> None:
    with pytest.raises(OnLogError, match=r"got ZeroDivisionError, at step 1\. Mend it and train again; with out=FOLD"):
        fit(model(), data(), on_log=failing_at(1, ZeroDivisionError()), **QUIET, epochs=1)


def test_an_interrupt_in_it_passes(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(model(), tmp_path / "run", on_log=failing_at(4, KeyboardInterrupt()))
    ended, complete = train(model(), tmp_path / "run", resume=True), train(model(), tmp_path / "complete")
    assert ended.metrics == complete.metrics


def test_lines_that_come_again_are_told_again(tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    with pytest.raises(KeyboardInterrupt):  # the last checkpoint is that of the start
        train(model(), tmp_path / "run", on_log=failing_at(8, KeyboardInterrupt()))
    ended = train(model(), tmp_path / "run", resume=True, on_log=told.append)
    assert told == ended.metrics
    assert lines(ended, "validation")


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match=r"^Expected a function of one line of metrics as on_log; got 3\. Write on_log"):
        fit(model(), data(), on_log=3, **QUIET)  # type: ignore[arg-type]
