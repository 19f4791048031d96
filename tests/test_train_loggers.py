"""Trackers of other people get every number of every line: TensorBoard's own files are read, the others are played."""

from __future__ import annotations

import sys
import types
import typing
from pathlib import Path
from typing import Any

import pytest
from tiny import SMALL, refused, said
from training import QUIET, data, model

import tightbound as tb
from tightbound.cli import verbs
from tightbound.training import TrainResult, fit, loggers

LINES: list[dict[str, Any]] = [
    {"step": 4, "epoch": 1.0, "split": "train", "loss": 3.0, "learning_rate": 0.5},
    {"step": 4, "epoch": 1.0, "split": "validation", "loss": 4.0, "rate": None, "best": True},
]
SENT = [({"train/epoch": 1.0, "train/loss": 3.0, "train/learning_rate": 0.5}, 4),
        ({"validation/epoch": 1.0, "validation/loss": 4.0}, 4)]  # fmt: skip


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself reads."""
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = module.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return {name: [(each.step, each.value) for each in found.Scalars(name)] for name in found.Tags()["scalars"]}


def expected(ended: TrainResult) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for line in ended.metrics:
        for name, value in line.items():
            if name not in ("step", "split", "best"):
                found.setdefault(f"{line['split']}/{name}", []).append((line["step"], pytest.approx(value, rel=1e-6)))
    return found


# TensorBoard


def test_tensorboard_has_every_number_of_every_line(tmp_path: Path) -> None:
    with loggers.tensorboard(tmp_path / "curves") as log:
        ended = fit(model(), data(), on_log=log, epochs=2, **QUIET)
        assert curves(tmp_path / "curves") == expected(ended)  # without waiting for the end
    assert len(ended.metrics) == 10


def test_steps_that_come_again_take_the_place_of_those_before(tmp_path: Path) -> None:
    for first in (1, 2):
        with loggers.tensorboard(tmp_path) as log:
            for step in range(first, 4):
                log({"step": step, "split": "train", "loss": float(10 * first + step)})
    assert curves(tmp_path) == {"train/loss": [(1, 11.0), (2, 22.0), (3, 23.0)]}


def test_a_recipe_s_training_takes_a_name(tmp_path: Path) -> None:
    small = {"model.latent_dim": 2, "model.hidden": [8], "train.epochs": 1}
    run = tb.train("digits", out=tmp_path / "run", changes=small, progress=False, on_log="tensorboard")
    losses = [line["loss"] for line in run.metrics() if line["split"] == "train"]
    assert [value for _, value in curves(run.path / "tensorboard")["train/loss"]] == pytest.approx(losses)


def test_the_command_line_takes_it_at_the_start_and_when_it_goes_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    code, _, error = said(capsys, "train", "digits", *SMALL, "--quiet", "--log", "tensorboard", "--out", run)
    assert (code, error) == (0, "")
    before = curves(run / "tensorboard")
    assert len(before["validation/loss"]) == 1
    code, _, _ = said(capsys, "train", "--resume", run, "--quiet", "--log", "tensorboard")
    assert code == 0
    assert curves(run / "tensorboard") == before  # an ended training has no more lines


# The others, played


class Played(types.SimpleNamespace):
    """A module that remembers what is asked of it, in order."""

    def __init__(self, **values: Any) -> None:
        super().__init__(called=[], **values)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **given: Any) -> Any:
            self.called.append((name, args, given))
            return self

        return call


@pytest.mark.parametrize(
    ("name", "make", "begun", "sent", "ended"),
    [
        (
            "wandb",
            lambda: loggers.wandb(name="mine", folder=Path("there")),
            ("init", (), {"project": "tightbound", "name": "mine", "dir": "there"}),
            lambda values, step: ("log", (values,), {"step": step}),
            ("finish", (), {}),
        ),
        (
            "mlflow",
            lambda: loggers.mlflow(name="mine"),
            ("start_run", (), {"run_name": "mine"}),
            lambda values, step: ("log_metrics", (values,), {"step": step}),
            ("end_run", (), {}),
        ),
        (
            "trackio",
            lambda: loggers.trackio(name="mine"),
            ("init", (), {"project": "tightbound", "name": "mine"}),
            lambda values, step: ("log", (values,), {"step": step}),
            ("finish", (), {}),
        ),
    ],
    ids=["wandb", "mlflow", "trackio"],
)
def test_a_run_begins_with_the_first_line_and_ends_with_the_logger(
    monkeypatch: pytest.MonkeyPatch, name: str, make: Any, begun: Any, sent: Any, ended: Any
) -> None:
    module = Played(run=None)
    monkeypatch.setitem(sys.modules, name, module)
    log, asked = make(), [("active_run", (), {})] if name == "mlflow" else []
    module.active_run = lambda: module.called.append(("active_run", (), {}))
    assert module.called == []
    for line in LINES:
        log(line)
    log.close()
    log.close()
    assert module.called == [*asked, begun, *(sent(*each) for each in SENT), ended]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_run_that_is_active_is_used_and_left_open(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    run = Played()
    module = Played(run=run, active_run=lambda: run)
    monkeypatch.setitem(sys.modules, name, module)
    with loggers.named(name, Path("run")) as log:
        log(LINES[0])
    asked = [each for each, *_ in (*module.called, *run.called)]
    assert asked == [{"wandb": "log", "mlflow": "log_metrics"}[name]]


def test_names_are_those_of_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("wandb", "mlflow", "trackio"):
        module = Played(run=None, active_run=lambda: None)
        monkeypatch.setitem(sys.modules, name, module)
        with loggers.named(name, tmp_path / "mine") as log:
            log(LINES[0])
        _, _, given = module.called[0]
        assert given.get("name", given.get("run_name")) == "mine"


def test_a_training_that_is_refused_begins_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = Played(run=None)
    monkeypatch.setitem(sys.modules, "wandb", module)
    with pytest.raises(ValueError, match="Expected finite values"), loggers.wandb() as log:
        fit(model(), data() / 0, on_log=log, epochs=1, **QUIET)
    assert module.called == []


# Refused


@pytest.mark.parametrize("name", loggers.NAMES)
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard" if name == "tensorboard" else name, None)
    message = rf"^Expected the package {name}, to log there; got none\. Install it: pip install {name}$"
    with pytest.raises(ModuleNotFoundError, match=message):
        loggers.require_logger(name)
    error = refused(capsys, "train", "digits", *SMALL, "--log", name, "--out", tmp_path / "run")
    assert f"pip install {name}" in error
    assert "pip install" in refused(capsys, "train", "--resume", tmp_path / "run", "--log", name)
    assert not (tmp_path / "run").exists()


def test_another_name_is_answered_with_the_four(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"among tensorboard, wandb, mlflow and trackio; got 'comet'\. A function of yo"
    ):
        tb.train("digits", out=tmp_path / "run", on_log="comet")
    error = refused(capsys, "train", "digits", "--log", "comet")
    assert "Expected tensorboard, wandb, mlflow or trackio for --log; got 'comet'" in error
    assert not (tmp_path / "run").exists()


def test_the_command_line_knows_the_same_names() -> None:
    hint = typing.get_type_hints(verbs.train)["log"]
    assert typing.get_args(typing.get_args(hint)[0]) == loggers.NAMES
    for name in loggers.NAMES:
        assert callable(getattr(loggers, name))
