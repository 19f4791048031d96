"""What a step does to the weights: learning rate, clipping, averaging, schedules, batches."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from training import QUIET, data, equal, lines, model, recorded, weights

from tightbound.data import Observations
from tightbound.objectives import ELBO
from tightbound.schedules import Linear, WarmupCosine
from tightbound.training import Training, batches, fit
from tightbound.training.step import TrainStep
from tightbound.training.validation import validate


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


@pytest.mark.parametrize("validation", [0, 0.2])
@pytest.mark.parametrize("ema", [0.3, 0.99])
def test_averaged_weights_are_the_average_by_hand(
    monkeypatch: pytest.MonkeyPatch, ema: float, validation: float
) -> None:
    """At the end without validation, and with it at the step whose validation came out best."""
    settings = {"validation": validation, "schedule": "constant"}
    seen, _ = recorded(monkeypatch, epochs=4, **settings)  # one more, for the weights after the third
    vae = model()
    ended = fit(vae, data(), epochs=3, ema=ema, **{**QUIET, **settings})
    average = {name: value.double() for name, value in seen[0].items()}
    for number, after in enumerate(seen[1 : ended.best_step + 1]):
        decay = min(ema, (1 + number) / (10 + number))
        average = {name: decay * value + (1 - decay) * after[name].double() for name, value in average.items()}
    for name, value in weights(vae).items():
        torch.testing.assert_close(value.double(), average[name], rtol=1e-5, atol=1e-6)


def test_averaging_leaves_the_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, _ = recorded(monkeypatch, epochs=3)
    averaged, _ = recorded(monkeypatch, epochs=3, ema=0.7)
    assert all(equal(one, other) for one, other in zip(plain[:-1], averaged[:-1], strict=True))
    assert not equal(plain[-1], averaged[-1])


def test_validation_sees_the_averaged_weights() -> None:
    """At the end the model holds what the last validation saw: the average, not the last step's weights."""
    vae = model()
    ended = fit(vae, data(), epochs=5, ema=0.99, **QUIET)
    [seen] = [line for line in lines(ended, "validation") if line["step"] == ended.best_step]
    held_out = batches.split(Observations(data()), QUIET["validation"], 0)[1]
    assert held_out is not None
    step = TrainStep(vae, ELBO(), Training(), steps=1, device=torch.device("cpu"))
    again = validate(step, held_out, names=("distortion", "rate"), batch_size=20)
    assert again["loss"] == pytest.approx(seen["loss"], rel=1e-6)


def test_beta_follows_the_step_and_validation_its_end() -> None:
    beta = Linear(0.0, 3.0, steps=6)
    ended = fit(model(), data(), objective=ELBO(beta=beta), epochs=2, **QUIET)
    for line in lines(ended, "train"):
        weight = beta(line["step"] - 1)  # the first step is made at β(0)
        assert line["loss"] == pytest.approx(line["distortion"] + weight * line["rate"], rel=1e-5)
    for line in lines(ended, "validation"):
        assert line["loss"] == pytest.approx(line["distortion"] + 3.0 * line["rate"], rel=1e-5)
