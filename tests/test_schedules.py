from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tightbound.schedules import Linear, WarmupCosine, at

finite = st.floats(-100, 100)


@given(finite, finite, st.integers(0, 50), st.integers(0, 100))
def test_linear_of_a_tensor_is_linear_of_the_number(start: float, end: float, steps: int, step: int) -> None:
    schedule = Linear(start, end, steps=steps)
    of_tensor = schedule(torch.tensor(step, dtype=torch.float64))
    assert of_tensor.item() == pytest.approx(schedule(step), rel=1e-12, abs=1e-12)
    assert schedule(torch.tensor(step)).item() == pytest.approx(schedule(step), rel=1e-5, abs=1e-4)


@given(finite, finite, st.integers(1, 50))
def test_linear_goes_from_start_to_end_and_stays(start: float, end: float, steps: int) -> None:
    schedule = Linear(start, end, steps=steps)
    assert (schedule(0), schedule(steps), schedule(steps + 7)) == (start, end, end)
    low, high = sorted((start, end))
    assert all(low - 1e-9 <= schedule(step) <= high + 1e-9 for step in range(steps))
    assert schedule(-steps) == schedule(torch.tensor(-float(steps), dtype=torch.float64)).item() == start


def test_linear_has_equal_steps() -> None:
    assert [Linear(2.0, 0.0, steps=4)(step) for step in range(6)] == [2.0, 1.5, 1.0, 0.5, 0.0, 0.0]


def test_linear_over_no_steps_is_at_its_end() -> None:
    schedule = Linear(0.0, 4.0, steps=0)
    assert schedule(0) == schedule(3) == 4.0
    assert schedule(torch.tensor(0)).item() == 4.0


def test_warmup_cosine_passes_its_marks() -> None:
    rate = WarmupCosine(2.0, steps=110, warmup=10, floor=0.1)
    marks = {0: 0.0, 5: 1.0, 10: 2.0, 60: 1.1, 110: 0.2, 1000: 0.2}
    assert {step: rate(step) for step in marks} == pytest.approx(marks)


@pytest.mark.parametrize(("steps", "warmup"), [(0, 0), (1, 0), (5, 5)])
def test_warmup_cosine_of_short_trainings(steps: int, warmup: int) -> None:
    rate = WarmupCosine(1.0, steps=steps, warmup=warmup)
    assert rate(warmup) == 1.0
    assert 0 <= rate(steps + 1) <= 1


def test_warmup_cosine_without_warmup_begins_at_its_peak_and_falls() -> None:
    rate = WarmupCosine(3.0, steps=20)
    values = [rate(step) for step in range(21)]
    assert values[0] == 3.0
    assert values == sorted(values, reverse=True)


def test_at_takes_numbers_and_schedules() -> None:
    schedule = Linear(0.0, 4.0, steps=10)
    assert at(2.5, None) == at(2.5, torch.tensor(3)) == 2.5
    assert at(schedule, None) == 4.0
    assert at(schedule, torch.tensor(5)).item() == 2.0  # type: ignore[union-attr]


def test_linear_refuses_negative_steps() -> None:
    with pytest.raises(ValueError, match="Expected steps >= 0; got -1"):
        Linear(0.0, 1.0, steps=-1)


@pytest.mark.parametrize(("steps", "warmup"), [(10, 11), (10, -1), (-1, 0)])
def test_warmup_cosine_refuses_a_warmup_longer_than_the_training(steps: int, warmup: int) -> None:
    with pytest.raises(ValueError, match=f"Expected a warm-up between 0 and the {steps} steps .*; got {warmup}"):
        WarmupCosine(1.0, steps=steps, warmup=warmup)
