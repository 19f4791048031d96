"""Training settings: what is allowed, and what is said about what is not."""

from __future__ import annotations

import dataclasses
import inspect
import math

import pytest

from tightbound.settings import MOST_THREADS, Training


def test_defaults_are_allowed_and_frozen() -> None:
    training = Training()
    with pytest.raises(dataclasses.FrozenInstanceError):
        training.epochs = 3  # type: ignore[misc]


def test_every_setting_is_described() -> None:
    text = inspect.getdoc(Training) or ""
    for field in dataclasses.fields(Training):
        assert f"    {field.name}: " in text


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 0, "Expected a finite epochs > 0; got 0"),
        ("epochs", -1.0, "Expected a finite epochs > 0; got -1.0"),
        ("epochs", math.nan, "Expected a finite epochs > 0; got nan"),
        ("epochs", math.inf, "Expected a finite epochs > 0; got inf"),
        ("learning_rate", 0.0, "Expected a finite learning_rate > 0; got 0.0"),
        ("learning_rate", math.inf, "Expected a finite learning_rate > 0; got inf"),
        ("batch_size", 0, "Expected batch_size >= 1; got 0"),
        ("log_every", 0, "Expected log_every >= 1; got 0"),
        ("warmup_steps", -1, "Expected warmup_steps >= 0; got -1"),
        ("patience", -1, "Expected patience >= 0; got -1"),
        ("weight_decay", -0.1, "Expected weight_decay from 0 to below 1 / learning_rate = 1000; got -0.1"),
        ("weight_decay", 1000, "Expected weight_decay from 0 to below 1 / learning_rate = 1000; got 1000"),
        ("weight_decay", math.nan, "Expected weight_decay from 0 to below 1 / learning_rate = 1000; got nan"),
        ("clip", -1.0, "Expected clip >= 0; got -1.0"),
        ("clip", math.nan, "Expected clip >= 0; got nan"),
        ("validation", -0.1, "Expected validation >= 0; got -0.1"),
        ("validation", math.nan, "Expected validation >= 0; got nan"),
        ("validation", 1.5, "Expected a share below 1 or a whole number of observations as validation; got 1.5"),
        ("validation", math.inf, "Expected a share below 1 or a whole number .* got inf"),
        ("checkpoint_seconds", -1.0, "Expected checkpoint_seconds >= 0; got -1.0"),
        ("ema", 1.0, r"Expected ema in \[0, 1\); got 1.0. 0.999 averages over about 1000 steps"),
        ("ema", -0.1, r"Expected ema in \[0, 1\); got -0.1"),
        ("betas", (0.9,), r"Expected two betas in \[0, 1\); got \(0.9,\)"),
        ("betas", (0.9, 1.0), r"Expected two betas in \[0, 1\); got \(0.9, 1.0\)"),
        ("schedule", "linear", "Expected schedule among cosine, constant; got 'linear'"),
        ("precision", "float16", "Expected precision among auto, float32, bfloat16; got 'float16'"),
        ("compile", "yes", "Expected compile among auto, always, never; got 'yes'"),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Training(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch_size", 12.5, "Expected a whole number for batch_size; got 12.5"),
        ("log_every", "50", "Expected a whole number for log_every; got '50'"),
        ("epochs", "3", "Expected a number for epochs; got '3'"),
        ("clip", None, "Expected a number for clip; got None"),
        ("weight_decay", "0.1", "Expected a number for weight_decay; got '0.1'"),
    ],
)
def test_values_of_another_type_are_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Training(**{name: value})  # type: ignore[arg-type]


def test_updated_changes_a_copy_and_checks_it() -> None:
    before = Training(epochs=2)
    assert before.updated({"batch_size": 7, "ema": 0.5}) == Training(epochs=2, batch_size=7, ema=0.5)
    assert before == Training(epochs=2)
    with pytest.raises(ValueError, match="Expected batch_size >= 1; got 0"):
        before.updated({"batch_size": 0})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("learning_rat", "got 'learning_rat'. Did you mean 'learning_rate'?"),
        ("batchsize", "Did you mean 'batch_size'?"),
        ("lr", "got 'lr'. Did you mean 'learning_rate'?"),
        ("xyzzy", "Expected a training setting among epochs, batch_size, .*; got 'xyzzy'.$"),
    ],
)
def test_an_unknown_setting_gets_a_suggestion(name: str, message: str) -> None:
    with pytest.raises(TypeError, match=message.replace("?", r"\?")):
        Training().updated({name: 1})


@pytest.mark.parametrize("threads", [0, 1, MOST_THREADS])
def test_any_number_of_threads_that_a_processor_may_have(threads: int) -> None:
    assert Training(threads=threads).threads == threads


@pytest.mark.parametrize(
    ("threads", "error", "words"),
    [
        (-1, ValueError, "Expected threads >= 0; got -1"),
        (MOST_THREADS + 1, ValueError, f"Expected threads of at most {MOST_THREADS}; got {MOST_THREADS + 1}. 0 finds"),
        (1.5, TypeError, "Expected a whole number for threads; got 1.5"),
    ],
)
def test_another_number_of_threads_is_refused(threads: float, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Training(threads=threads)  # type: ignore[arg-type]
