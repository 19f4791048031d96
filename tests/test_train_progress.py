"""What is told of a training: few plain lines in a log, a bar on a terminal, nothing where nobody reads."""

from __future__ import annotations

import io
import sys

import pytest

from tightbound import progress
from tightbound.progress import Bar, Lines, Silent, evaluating, progress_for


def train(shown, *, steps: int, validate_every: int | None, log_every: int = 50) -> None:
    for step in range(1, steps + 1):
        line = {"epoch": step / 23, "loss": 3.0, "distortion": 2.0, "rate": 1.0}
        if step % log_every == 0:
            shown.advance(step, {**line, "split": "train"})
        if validate_every and (step % validate_every == 0 or step == steps):
            shown.advance(step, {**line, "split": "validation"})
    shown.close()


@pytest.mark.parametrize(
    ("steps", "validate_every", "log_every", "split"),
    [
        (150 * 23, 23, 23, "validation"),  # 150 epochs of digits
        (40 * 220, 220, 100, "validation"),  # 40 of MNIST
        (100_000, None, 50, "train"),  # nothing held out
        (100_000, 60_000, 50, "train"),  # long epochs
    ],
)
def test_a_log_has_about_twenty_lines(steps, validate_every, log_every, split, capsys):
    train(Lines(steps), steps=steps, validate_every=validate_every, log_every=log_every)
    lines = capsys.readouterr().err.splitlines()
    assert 15 <= len(lines) <= 23
    assert sum(f" {split} loss 3.00 (distortion 2.00, rate 1.00)" in line for line in lines) >= 15
    assert lines[-1].startswith(f"step {steps}/{steps}  epoch ")
    assert max(map(len, lines)) <= 90


def test_a_short_training_has_a_line_a_validation(capsys):
    train(Lines(69), steps=69, validate_every=23, log_every=23)
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["23/69", "46/69", "69/69"]


def test_a_long_silence_is_broken(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    shown = Lines(10**6)
    for step in range(100):
        now[0] += 60.0
        shown.advance(step, {"split": "train", "epoch": 0.1, "loss": 1.0})
    assert len(capsys.readouterr().err.splitlines()) == 9  # each a minute late: a validation might have followed


def test_a_resumed_training_goes_on_telling(capsys):
    shown = Lines(1000, done=900)
    shown.advance(920, {"split": "validation", "epoch": 9.2, "loss": 1.0})
    assert capsys.readouterr().err == ""
    shown.advance(960, {"split": "validation", "epoch": 9.6, "loss": 1.0})
    assert "step 960/1000" in capsys.readouterr().err


def test_training_goes_on_where_nobody_reads(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Gone())
    train(Lines(100), steps=100, validate_every=10)


@pytest.mark.parametrize(
    ("columns", "words"), [(80, "train 3.00  validation 3.00"), (140, "(distortion 2.00, rate 1.00)")]
)
def test_a_bar_has_what_fits_the_terminal(columns, words, capsys, monkeypatch):
    for name, value in (("COLUMNS", str(columns)), ("FORCE_COLOR", "1"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TTY_INTERACTIVE", raising=False)
    shown = Bar(100)
    train(shown, steps=100, validate_every=50)
    error = capsys.readouterr().err
    assert words in error
    assert "100/100" in error


def test_a_short_evaluation_says_nothing_and_a_long_one_now_and_then(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with evaluating(100) as tell:
        for done in range(10, 101, 10):
            now[0] += 15.0
            tell(done, 100)
    assert capsys.readouterr().err.splitlines() == [f"evaluated {n} of 100 observations" for n in (20, 40, 60, 80, 100)]
    with evaluating(100) as tell:
        now[0] += 19.0
        tell(100, 100)
    assert capsys.readouterr().err == ""


def test_an_evaluation_on_a_terminal_has_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with evaluating(4) as tell:
        tell(2, 4)
    assert "evaluating" in capsys.readouterr().err


def test_an_evaluation_nobody_wants_shown_says_nothing():
    with evaluating(4, show=False) as tell:
        assert tell is None


def test_loading_has_a_bar_on_a_terminal_only(capsys, monkeypatch):
    with progress.progress("reading", 3, unit="images") as advance:
        advance(3)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress.progress("reading", 3, unit="images") as advance:
        advance(3)
    assert "reading" in capsys.readouterr().err


def test_nothing_is_shown_where_nothing_is_wanted(capsys, monkeypatch):
    assert isinstance(progress_for(10, 0, show=False), Silent)
    assert isinstance(progress_for(10, 0, show=True), Lines)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    bar = progress_for(10, 0, show=True)
    assert isinstance(bar, Bar)
    bar.close()
    train(Silent(), steps=10, validate_every=5)
