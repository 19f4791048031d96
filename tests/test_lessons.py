"""What the curves of a training say: both sides of each threshold, and where nothing can be said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny import said, trained

from tightbound.reports.page import write_report
from tightbound.runs.lessons import FALLING, HEART, LEAST, lessons, of_curves
from tightbound.runs.run import open_run


def curves(
    validation: list[float], train: list[float] | None = None, *, best: int | None = None
) -> list[dict[str, Any]]:
    """Ten steps between two lines; the best validation is the last one by default."""
    best = len(validation) - 1 if best is None else best
    lines: list[dict[str, Any]] = []
    for place, loss in enumerate(validation):
        if train is not None:
            lines.append({"split": "train", "step": 10 * (place + 1), "loss": train[place]})
        lines.append({"split": "validation", "step": 10 * (place + 1), "loss": loss, "best": place <= best})
    return lines


def falling(by: float, *, last: float = 100.0) -> list[float]:
    """Ten losses; the last lies so far below that after four fifths of the training."""
    return [last + 9.0] * 7 + [last + by, last + by / 2, last]


@pytest.mark.parametrize(
    ("by", "expected"), [(100 * FALLING + 0.01, True), (100 * FALLING - 0.01, False), (0.0, False)]
)
def test_a_training_that_stopped_too_soon_is_told_by_what_it_still_won(by: float, expected: bool) -> None:
    found = of_curves(curves(falling(by)))
    assert bool(found) == expected
    if expected:
        assert f"still falling: by {by:.2f} nats over the last 20% of its steps" in found[0]
        assert "tightbound train --resume RUN --train.epochs N" in found[0]


def test_of_a_training_in_python_the_words_are_python() -> None:
    both = of_curves(curves(falling(9.0), [50.0] * 10), in_python=True)
    assert len(both) == 2
    assert "tb.fit(model, data, epochs=N)" in both[0]
    assert "tb.fit(…, weight_decay=0.05)" in both[1]
    assert not any("--train" in each for each in both)


def test_where_nats_are_few_a_share_of_them_is_nothing() -> None:
    assert not of_curves(curves(falling(LEAST - 0.01, last=1.0)))
    assert of_curves(curves(falling(LEAST + 0.01, last=1.0)))
    assert of_curves(curves(falling(5.0, last=-300.0)))  # densities have losses below 0
    assert not of_curves(curves(falling(2.0, last=-300.0)))


def test_a_training_whose_best_step_came_before_its_last_had_long_enough() -> None:
    assert not of_curves(curves(falling(50.0), best=8))


@pytest.mark.parametrize(("gap", "expected"), [(100 * HEART + 0.01, True), (100 * HEART - 0.01, False), (-20.0, False)])
def test_what_was_learned_by_heart_is_told_in_nats(gap: float, expected: bool) -> None:
    found = of_curves(curves([100.0] * 5, [100.0 - gap] * 5))
    assert bool(found) == expected
    if expected:
        assert f"loses {100 - gap:.2f} nats, on the observations held out 100.00, {gap:.2f} more" in found[0]


def test_the_weights_that_are_kept_are_judged_and_not_the_last_ones() -> None:
    train = [100.0, 99.0, 98.0, 50.0, 40.0]
    assert not of_curves(curves([100.0] * 5, train, best=2))
    assert of_curves(curves([100.0] * 5, train, best=3))


def test_images_that_were_moved_are_harder_and_tell_nothing() -> None:
    lines = curves([100.0] * 5, [50.0] * 5)
    assert of_curves(lines)
    assert not of_curves(lines, augmented=True)


def test_losses_of_the_warm_up_are_of_another_objective() -> None:
    assert not of_curves(curves(falling(50.0)), warmup=90)
    assert not of_curves(curves([100.0] * 5, [50.0] * 5), warmup=50)
    assert of_curves(curves([100.0] * 5, [50.0] * 5), warmup=40)


def test_without_validation_nothing_is_known() -> None:
    assert of_curves([]) == []
    assert of_curves([{"split": "train", "step": 1, "loss": 3.0}]) == []


def test_the_report_and_the_command_say_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(shutil.copytree(trained(), tmp_path / "run"))
    steps = open_run(folder).metrics()[-1]["step"]
    heart = [
        {**line, "loss": 20.0 if line["split"] == "train" else 40.0, "step": steps + 1000 * place}
        for place, line in enumerate(open_run(folder).metrics(), 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in heart))
    run = open_run(folder)
    [lesson] = lessons(run)
    assert "20.00 more, which it has learned by heart" in lesson
    page = write_report(run, run.model(), run.data()).read_text()
    assert "How training ended</h2><ul><li>The model is over-fitted" in page
    assert "<code>--train.weight-decay 0.05</code>" in page
    code, _, error = said(
        capsys, "train", "digits", "--model.hidden", 64, "--train.epochs", 2, "--objective.warmup-steps", 0,
        "--evaluate.samples", 2, "--train.validation", 0.2, "--out", tmp_path / "short",
    )  # fmt: skip
    assert code == 0
    assert "Note: Training stopped while the validation loss was still falling" in error
    assert f"--resume {tmp_path / 'short'} --train.epochs N" in error
