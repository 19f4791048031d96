"""How many threads: what a process may use, what a trial decides, and when it is due again."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from training import QUIET, data, equal, model, weights

from tightbound import threads
from tightbound.data import Observations
from tightbound.evaluate import evidence
from tightbound.runs import measured
from tightbound.threads import Watch, best, on_threads, quota, tried, usable
from tightbound.training import fit, pace
from tightbound.training.checkpoint import load_state


@pytest.fixture(autouse=True)
def _four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_inside_as_many_as_asked_and_the_callers_afterwards() -> None:
    with on_threads(1):
        assert torch.get_num_threads() == 1
        with on_threads(None):
            assert torch.get_num_threads() == 1
            torch.set_num_threads(2)
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 4


# What a process may use


def test_no_more_than_its_affinity_its_quota_and_torch_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for limit, expected in ((math.inf, 4), (3.0, 3), (2.1, 3), (0.5, 1), (64.0, 4)):
        monkeypatch.setattr(threads, "quota", lambda limit=limit: limit)
        assert usable() == expected
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5}, raising=False)
    assert usable() == 1


def group(root: Path, name: str, files: dict[str, str]) -> None:
    folder = root / "sys/fs/cgroup" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / file).write_text(text)


def told(root: Path, text: str) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(text)


def test_the_least_of_a_groups_quota_and_those_around_it(tmp_path: Path) -> None:
    told(tmp_path, "0::/pods/mine\n")
    assert quota(tmp_path) == math.inf
    group(tmp_path, "pods/mine", {"cpu.max": "max 100000\n"})
    assert quota(tmp_path) == math.inf
    group(tmp_path, "pods", {"cpu.max": "350000 100000\n"})
    assert quota(tmp_path) == 3.5
    group(tmp_path, "pods/mine", {"cpu.max": "50000 100000\n"})
    assert quota(tmp_path) == 0.5
    group(tmp_path, ".", {"cpu.max": "20000 100000\n"})
    assert quota(tmp_path) == 0.2


def test_control_groups_of_the_first_version(tmp_path: Path) -> None:
    told(tmp_path, "5:memory:/a\n4:cpu,cpuacct:/a\n")
    group(tmp_path, "cpu,cpuacct/a", {"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"})
    assert quota(tmp_path) == math.inf
    group(tmp_path, "cpu,cpuacct/a", {"cpu.cfs_quota_us": "150000\n"})
    assert quota(tmp_path) == 1.5


@pytest.mark.parametrize("text", ["", "0 100000", "100000 0", "100000", "a b", "1 2 3", "-5 100000"])
def test_nonsense_limits_nothing(tmp_path: Path, text: str) -> None:
    told(tmp_path, "0::/\nnonsense\n")
    group(tmp_path, ".", {"cpu.max": text})
    assert quota(tmp_path) == math.inf


# A trial


class Work:
    """Takes as long as it is told to, by the number of threads, on a clock that only it moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: dict[int, list[float]]) -> None:
        self.now, self.done, self.seconds = 0.0, [], {count: list(each) for count, each in seconds.items()}
        monkeypatch.setattr(threads.time, "perf_counter", lambda: self.now)

    def __call__(self) -> None:
        count = torch.get_num_threads()
        self.done.append(count)
        left = self.seconds[count]
        self.now += left.pop(0) if len(left) > 1 else left[0]


def test_each_number_is_tried_in_turn_and_the_median_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch, {1: [9, 0.010, 9, 0.012, 9, 0.3], 4: [1, 0.005, 1, 0.006, 1, 0.004]})
    monkeypatch.setattr(threads, "LONGEST", 1000)
    monkeypatch.setattr(threads, "LOST", 1000)
    assert tried(work, [1, 4]) == pytest.approx({1: 0.012, 4: 0.005})
    assert work.done == [1, 1, 4, 4] * 3
    assert torch.get_num_threads() == 4


def test_a_hopeless_number_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch, {1: [0.01], 4: [0.4]})
    found = tried(work, [1, 4])
    assert work.done == [1, 1, 4]  # not even a second time
    assert best(found) == 1
    work = Work(monkeypatch, {1: [0.01], 4: [0.021]})
    assert best(tried(work, [1, 4])) == 1
    assert work.done == [1, 1, 4, 4]


def test_a_trial_of_long_steps_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Work(monkeypatch, {1: [1.0], 4: [0.3]})
    assert tried(work, [1, 4]) == pytest.approx({1: 1.0, 4: 0.3})
    assert work.done == [1, 1, 4, 4]


def test_more_threads_only_where_they_gain() -> None:
    assert best({1: 1.0, 4: threads.WORTH - 0.01}) == 4
    assert best({1: 1.0, 4: threads.WORTH + 0.01}) == 1
    assert best({1: 1.0, 2: 0.5, 4: 0.4}) == 4


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def dues(watch: Watch, clock: Clock, seconds: float, steps: int) -> list[int]:
    found = []
    for number in range(steps):
        clock.now += seconds
        if watch.due(seconds):
            found.append(number)
    return found


@pytest.mark.parametrize(("factor", "expected"), [(1.0, False), (1.4, False), (0.7, False), (1.6, True), (0.6, True)])
def test_a_trial_is_due_when_steps_take_another_time(factor: float, expected: bool) -> None:
    clock = Clock()
    watch = Watch(fewer=False, clock=clock)
    assert not dues(watch, clock, 1.0, 50)
    assert bool(dues(watch, clock, factor, 50)) == expected


def test_one_slow_step_is_no_reason() -> None:
    clock = Clock()
    watch = Watch(fewer=False, clock=clock)
    dues(watch, clock, 1.0, 50)
    assert not watch.due(1.0 + 0.49 * threads.STEPS)
    assert not dues(watch, clock, 1.0, 50)


def test_trials_take_a_small_share_of_the_time() -> None:
    clock = Clock()
    watch = Watch(fewer=False, spent=3.0, clock=clock)
    dues(watch, clock, 1.0, 10)
    first = dues(watch, clock, 2.0, 100)[0]
    assert clock.now > 3.0 / threads.SHARE
    assert first >= (3.0 / threads.SHARE - 10) / 2 - 2
    again = watch.after(fewer=False, seconds=3.0)
    dues(again, clock, 2.0, 10)
    begun = clock.now
    late = dues(again, clock, 5.0, 200)
    assert late[0] * 5.0 + begun > (6.0 + 3.0) / threads.SHARE - 10  # the one that is due counts, as long as the last
    assert late[0] * 5.0 + begun < (6.0 + 3.0) / threads.SHARE + 10


def test_fewer_threads_than_could_be_are_looked_at_again() -> None:
    for fewer in (False, True):
        clock = Clock()
        watch = Watch(fewer=fewer, clock=clock)
        found = dues(watch, clock, 1.0, int(threads.AGAIN) + 5)
        assert bool(found) == fewer
        if found:
            assert found[0] == threads.AGAIN


@pytest.mark.parametrize(("seconds", "expected"), [(0.009, False), (0.010, False), (0.013, True), (0.5, True)])
def test_steps_that_fall_behind_those_of_one_thread_are_told(seconds: float, expected: bool) -> None:
    watch = Watch(fewer=False, alone=0.010)
    lost = [watch.lost(seconds) for _ in range(200)]
    assert any(lost) == expected
    if expected:  # after the least time that tells it from chance
        assert lost.index(True) + 1 == max(threads.LATE, math.floor(threads.BEHIND / (seconds - 0.010)) + 1)


def test_what_was_gained_is_no_credit_and_a_few_late_steps_no_loss() -> None:
    watch = Watch(fewer=False, alone=0.010)
    assert not any(watch.lost(0.001) for _ in range(10_000))
    assert not any(watch.lost(1.0) for _ in range(threads.LATE - 1))  # a machine that slept, and no more
    assert not any(watch.lost(0.001) for _ in range(10_000))
    assert any(watch.lost(0.012) for _ in range(200))
    assert not any(Watch(fewer=True).lost(1000.0) for _ in range(200))


# A training


def slow_on_more(monkeypatch: pytest.MonkeyPatch, factor: dict[str, float]) -> list[int]:
    """Steps take that many times as long on all threads as on one, by a clock of the trial's own; and who was tried."""
    tries: list[int] = []

    def pretended(work: Any, counts: list[int]) -> dict[int, float]:
        for count in counts:
            with on_threads(count):
                work()
        tries.append(torch.get_num_threads())
        return {counts[0]: 0.01, counts[-1]: 0.01 * factor["now"]}

    monkeypatch.setattr("tightbound.training.step.tried", pretended)
    monkeypatch.setattr(pace, "usable", lambda: 4)
    return tries


@pytest.mark.parametrize(("factor", "expected"), [(30.0, 1), (0.5, 4)])
def test_a_trial_before_the_first_step_decides_and_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], factor: float, expected: int
) -> None:
    tries = slow_on_more(monkeypatch, {"now": factor})
    fit(model(), data(), epochs=2, out=tmp_path / "run", **{**QUIET, "progress": True})
    assert len(tries) == 1
    assert torch.get_num_threads() == 4  # the caller's
    assert load_state(tmp_path / "run")["execution"]["threads"] == expected
    said = capsys.readouterr().err
    assert f"Threads: {expected} of 4 (a step takes 10 ms on 1, {1000 * 0.01 * factor:.3g} ms on 4)." in said


def test_a_trial_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, looked = model(), model()
    expected = fit(plain, data(), epochs=2, threads=4, **QUIET)
    slow_on_more(monkeypatch, {"now": 0.5})
    found = fit(looked, data(), epochs=2, **QUIET)
    assert found.metrics == expected.metrics
    assert equal(weights(looked), weights(plain))


def test_a_named_number_is_taken_at_its_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tries = slow_on_more(monkeypatch, {"now": 30.0})
    fit(model(), data(), epochs=1, threads=2, out=tmp_path / "run", **QUIET)
    assert not tries
    assert load_state(tmp_path / "run")["execution"]["threads"] == 2


def test_steps_that_slow_down_are_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    factor = {"now": 0.5}
    tries = slow_on_more(monkeypatch, factor)
    count = [0]

    def due(self: Watch, seconds: float) -> bool:
        count[0] += 1
        factor["now"] = 30.0 if count[0] >= 5 else 0.5
        return count[0] in (3, 5)

    monkeypatch.setattr(Watch, "due", due)
    found, grey = model(), (255 * torch.rand(100, 3)).to(torch.uint8)
    drawn = Observations(grey, scale=255, binarise=True)  # batches that take random numbers
    fit(found, drawn, epochs=2, out=tmp_path / "run", **QUIET)
    assert len(tries) == 3
    assert load_state(tmp_path / "run")["execution"]["threads"] == 1
    expected = model()
    monkeypatch.undo()
    torch.set_num_threads(1)
    fit(expected, drawn, epochs=2, **QUIET)
    assert equal(weights(found), weights(expected))  # of a dense model not even the last bit depends on threads


def test_steps_that_fall_behind_go_on_on_one_thread(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tries = slow_on_more(monkeypatch, {"now": 0.5})
    count = [0]

    def lost(self: Watch, seconds: float) -> bool:
        count[0] += 1
        return count[0] == 3

    monkeypatch.setattr(Watch, "lost", lost)
    found, expected = model(), model()
    fit(found, data(), epochs=2, out=tmp_path / "run", **{**QUIET, "progress": True})
    assert len(tries) == 1
    assert load_state(tmp_path / "run")["execution"]["threads"] == 1
    assert "Threads: 1 of 4 (steps on 4 fell behind those on 1)." in capsys.readouterr().err
    fit(expected, data(), epochs=2, threads=1, **QUIET)
    assert equal(weights(found), weights(expected))


def test_a_resumed_training_takes_the_number_of_its_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from test_train_resume import stopped_at, train

    tries = slow_on_more(monkeypatch, {"now": 30.0})
    stopped_at(monkeypatch, 4, tmp_path / "run")
    assert len(tries) == 1
    train(tmp_path / "run", resume=True)
    assert len(tries) == 1
    assert load_state(tmp_path / "run")["execution"]["threads"] == 1


@pytest.mark.parametrize(("factor", "expected"), [(30.0, 1), (0.5, 4)])
def test_an_evaluation_runs_on_what_its_trial_finds(
    monkeypatch: pytest.MonkeyPatch, factor: float, expected: int
) -> None:
    seen: list[int] = []

    def looked(*args: Any, **settings: Any) -> Any:
        seen.append(torch.get_num_threads())
        return evidence(*args, **settings)

    monkeypatch.setattr(measured, "usable", lambda: 4)
    monkeypatch.setattr(measured, "tried", lambda work, counts: {counts[0]: 1.0, counts[1]: factor})
    monkeypatch.setattr(measured, "evidence", looked)
    found = measured.measure(model().eval(), Observations(data(5)), samples=3)
    assert seen == [expected]
    assert torch.get_num_threads() == 4
    torch.set_num_threads(1)
    monkeypatch.undo()
    assert measured.measure(model().eval(), Observations(data(5)), samples=3).to_json() == found.to_json()


@pytest.mark.parametrize("threads", [-1, 1.5, True, "2", 10**9])
def test_a_checkpoint_with_another_number_is_refused(tmp_path: Path, threads: Any) -> None:
    from tightbound.training.state import State

    fit(model(), data(), epochs=1, out=tmp_path / "run", **QUIET)
    plain = load_state(tmp_path / "run")
    assert State.from_plain(plain).execution.threads >= 1
    plain["execution"]["threads"] = threads
    with pytest.raises(ValueError, match="threads is"):
        State.from_plain(plain)
