"""A training by epoch, and the curves of one and of several."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from training import QUIET, data, model

import tightbound as tb
from tightbound import plots
from tightbound.plots.style import PALETTE
from tightbound.training import TrainResult
from tightbound.training.history import by_epoch


def trained(**changes: Any) -> TrainResult:
    return tb.fit(model(), data(), **{**QUIET, "epochs": 3, **changes})


# By epoch


@pytest.mark.parametrize("log_every", [1, 3, 50])
@pytest.mark.parametrize("validation", [0, 0.2])
def test_an_epoch_is_the_mean_over_its_steps_however_often_lines_come(log_every: int, validation: float) -> None:
    every = trained(log_every=1, validation=validation)
    found = trained(log_every=log_every, validation=validation).history
    length = every.steps // 3
    losses = [line["loss"] for line in every.metrics if line["split"] == "train"]
    means = np.array(losses).reshape(3, length).mean(1)
    np.testing.assert_allclose(found["train"]["loss"], means, rtol=1e-5)
    assert found["epoch"] == [1, 2, 3]
    assert found["step"] == [length, 2 * length, 3 * length]
    assert list(found["train"]) == ["loss", "distortion", "rate"]


def test_validation_is_the_value_at_the_epoch_s_end() -> None:
    ended = trained()
    lines = [line for line in ended.metrics if line["split"] == "validation"]
    assert ended.history["validation"]["loss"] == [line["loss"] for line in lines]
    assert min(ended.history["validation"]["loss"]) == ended.loss
    assert trained(validation=0).history["validation"] == {}


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [(0.5, [0.5]), (1, [1]), (2.5, [1, 2, 2.5]), (3, [1, 2, 3])],
)
@pytest.mark.parametrize("validation", [0, 0.2])
def test_epochs_are_whole_where_they_are_and_the_last_may_be_a_part(
    epochs: float, expected: list[float], validation: float
) -> None:
    found = trained(epochs=epochs, validation=validation, batch_size=10)
    assert found.history["epoch"] == pytest.approx(expected, abs=0.13)
    assert all(float(each).is_integer() for each in found.history["epoch"][: math.floor(epochs)])


def test_batches_that_straddle_two_epochs_still_make_whole_ones() -> None:
    found = trained(batch_size=37, epochs=4, validation=0).history
    assert found["epoch"] == [1, 2, 3, 4]
    assert found["step"] == [3, 6, 9, 11]


def test_what_is_not_finite_is_nan_and_a_term_of_some_lines_alone_too() -> None:
    lines = [
        {"step": 1, "epoch": 0.5, "split": "train", "loss": None, "learning_rate": 0.1},
        {"step": 2, "epoch": 1.0, "split": "train", "loss": 3.0, "learning_rate": 0.1},
        {"step": 2, "epoch": 1.0, "split": "validation", "loss": 2.0, "best": True},
        {"step": 4, "epoch": 2.0, "split": "train", "loss": 1.0, "mmd": 5.0},
        {"step": 4, "epoch": 2.0, "split": "validation", "loss": None, "best": False},
        {"step": 5, "epoch": 2.5, "split": "train", "loss": 9.0},
    ]
    found = by_epoch(lines)
    assert (found["epoch"], found["step"]) == ([1, 2], [2, 4])  # what was interrupted has no validation
    np.testing.assert_equal(found["train"], {"loss": [np.nan, 1.0], "mmd": [np.nan, 5.0]})
    np.testing.assert_equal(found["validation"], {"loss": [2.0, np.nan]})
    assert by_epoch([]) == {"epoch": [], "step": [], "train": {}, "validation": {}}


def test_a_run_has_the_same_history(tmp_path: Path) -> None:
    ended = trained(out=tmp_path / "run")
    assert tb.open_run(tmp_path / "run").history() == ended.history


# Curves


def lines_of(figure: Any, panel: int = 0) -> list[tuple[list[float], list[float]]]:
    return [
        (line.get_xdata().tolist(), line.get_ydata().tolist())
        for line in figure.axes[panel].lines
        if not line.get_label().startswith("_")
    ]


def test_a_result_a_run_its_lines_and_its_history_give_the_same_curves(tmp_path: Path) -> None:
    ended = trained(out=tmp_path / "run")
    run = tb.open_run(tmp_path / "run")
    expected = lines_of(plots.training_curves(ended.metrics))
    assert lines_of(plots.training_curves(ended)) == lines_of(plots.training_curves(run)) == expected
    by_hand = lines_of(plots.training_curves(ended.history))
    assert by_hand == lines_of(plots.training_curves(ended, x="epoch"))
    assert by_hand[0] == (ended.history["epoch"], ended.history["train"]["loss"])
    assert plots.alt_text(plots.training_curves(ended, x="epoch")).startswith(
        "Loss, distortion, rate by epoch, up to epoch 3."
    )
    assert lines_of(plots.training_curves(ended.history, x="step"))[0][0] == ended.history["step"]


def test_several_runs_have_four_panels_of_what_can_be_compared() -> None:
    runs = {f"β = {beta}": trained(objective=tb.objectives.ELBO(beta=beta)) for beta in (1, 4)}
    figure = plots.training_curves(runs)
    titles = [panel.get_title("left").partition("  ")[0] for panel in figure.axes]
    assert titles == ["Training −ELBO", "Distortion", "Rate", "Validation −ELBO"]
    for panel, split, key in ((1, "train", "distortion"), (2, "train", "rate")):
        drawn = lines_of(figure, panel)
        assert drawn == [(run.history["epoch"], run.history[split][key]) for run in runs.values()]
    for panel, split in ((0, "train"), (3, "validation")):
        for (_, drawn), run in zip(lines_of(figure, panel), runs.values(), strict=True):
            terms = run.history[split]
            np.testing.assert_allclose(drawn, np.add(terms["distortion"], terms["rate"]))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["β = 1", "β = 4"]
    assert "loss on another scale" in figure.get_supxlabel()
    assert plots.alt_text(figure).endswith("Validation −ELBO of 2 runs by epoch: β = 1, β = 4.")


def test_where_all_made_elbo_small_nothing_is_said_of_scales() -> None:
    figure = plots.training_curves([trained(), trained(seed=1)])
    assert "another scale" not in figure.get_supxlabel()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["1", "2"]


def test_runs_of_a_list_are_called_as_their_folders_are(tmp_path: Path) -> None:
    runs = []
    for name in ("one", "other"):
        trained(out=tmp_path / name)
        runs.append(tb.open_run(tmp_path / name))
    figure = plots.training_curves(runs, x="step")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "other"]
    assert lines_of(figure)[0][0] == list(range(1, 13))
    both = plots.training_curves([runs[0], runs[0]])
    assert [text.get_text() for text in both.legends[0].get_texts()] == ["1: one", "2: one"]


def test_without_validation_and_without_terms_there_are_fewer_panels() -> None:
    assert len(plots.training_curves({"a": trained(validation=0)}).axes) == 3
    lines = [{"step": i, "epoch": float(i), "split": "train", "loss": 3.0 / i} for i in (1, 2)]
    figure = plots.training_curves({"$a_": lines, "_b": lines})
    assert [panel.get_title("left") for panel in figure.axes] == ["Training loss"]
    assert len(figure.legends[0].get_texts()) == 2


def test_more_runs_than_colours_are_drawn_from_dark_to_light() -> None:
    lines = [{"step": i, "epoch": float(i), "split": "train", "loss": 3.0 / i} for i in (1, 2)]
    figure = plots.training_curves({str(name): lines for name in range(len(PALETTE) + 1)})
    assert len({str(line.get_color()) for line in figure.axes[0].lines}) == len(PALETTE) + 1


@pytest.mark.parametrize(
    ("given", "x", "said"),
    [
        (3, None, "Expected what tb.fit returned, a run, or lines as in metrics.jsonl; got int"),
        ({"a": 3}, None, "Expected what tb.fit returned, .*; got int"),
        (["a"], None, "Expected what tb.fit returned, .*; got list"),
        ([], "time", "Expected x='step' or x='epoch'; got 'time'"),
        ({}, None, "Expected lines with 'step'"),
        ({"a": []}, None, "Expected lines with 'step'"),
        ([{"step": 1, "epoch": None, "split": "train", "loss": 1.0}], "epoch", "a finite 'epoch' in every line"),
    ],
)
def test_what_is_no_training_is_refused(given: Any, x: Any, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        plots.training_curves(given, x=x)
