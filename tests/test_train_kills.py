"""A run that was killed, whenever it was, ends as if it never had been."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from killable import Server
from training import written

from tightbound.runs.recipe import Recipe, to_table
from tightbound.runs.run import open_run
from tightbound.training.checkpoint import load_state

RECIPE = to_table(
    Recipe(name="killed").updated(
        {
            "model.latent_dim": 2, "model.hidden": [16], "model.likelihood": "bernoulli", "objective.warmup_steps": 20,
            "train.epochs": 8, "train.batch_size": 64, "train.warmup_steps": 20, "train.ema": 0.9, "train.clip": 1.0,
            "train.log_every": 7, "train.checkpoint_seconds": 0, "train.learning_rate": 0.01,
            "train.precision": "float32",
        }
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


@pytest.fixture(scope="module")
def never_stopped(server: Server, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The uninterrupted run, and how long it took."""
    folder = tmp_path_factory.mktemp("runs") / "never"
    status, seconds = server("train", folder, recipe=RECIPE)
    assert status == 0
    return folder, seconds


def whole(folder: Path) -> None:
    """Whatever the moment of the kill, what is on disk can be read."""
    if (folder / "checkpoint" / "state.pt").exists():
        load_state(folder)
        assert all(line["step"] > 0 for line in open_run(folder).metrics())


@pytest.mark.parametrize("chain", range(4))
def test_twenty_kills_leave_no_trace(
    server: Server, never_stopped: tuple[Path, float], tmp_path: Path, chain: int
) -> None:
    expected, seconds = never_stopped
    chance, folder, killed = random.Random(chain), tmp_path / "run", 0
    for _ in range(5):
        verb = "resume" if (folder / "recipe.toml").exists() else "train"
        status, _ = server(verb, folder, recipe=RECIPE, after=chance.uniform(0, seconds / 4))
        assert status in (0, -signal.SIGKILL)
        killed += status == -signal.SIGKILL
        whole(folder)
    assert killed >= 2
    verb = "resume" if (folder / "recipe.toml").exists() else "train"
    assert server(verb, folder, recipe=RECIPE)[0] == 0
    assert written(folder) == written(expected)
    left = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    assert left == {str(path.relative_to(expected)) for path in expected.rglob("*")}


@pytest.mark.parametrize(
    ("hook", "times"),
    [
        ("write", range(3)),  # the recipe, the configuration, the environment
        ("fsync", (*range(12), 40, 41, 42, 43)),  # of each file before its rename, of its folder after, of the journal
        ("replace", (0, 1, 2, 3, 4, 30)),
    ],
)
def test_kills_in_the_middle_of_writing_leave_no_trace(
    server: Server, never_stopped: tuple[Path, float], tmp_path: Path, hook: str, times: tuple[int, ...]
) -> None:
    """Kill after kill at each place where a file is half written, or written and not yet renamed."""
    folder = tmp_path / "run"
    for at in times:
        verb = "resume" if (folder / "recipe.toml").exists() else "train"
        assert server(verb, folder, recipe=RECIPE, hook=hook, at=at)[0] == -signal.SIGKILL
        whole(folder)
    assert server("resume", folder)[0] == 0
    assert written(folder) == written(never_stopped[0])


def test_kills_at_the_very_end_leave_no_trace(
    server: Server, never_stopped: tuple[Path, float], tmp_path: Path
) -> None:
    """Between the last checkpoint and the weights, and while the weights are written."""
    folder, steps = tmp_path / "run", open_run(never_stopped[0]).metrics()[-1]["step"]
    # After the recipe, the configuration and its digest, the environment, and a checkpoint at step 0 and at each but
    # the last: its digest, the one before it by its other name, and itself.
    last = 4 + 3 * steps - 1
    assert server("train", folder, recipe=RECIPE, hook="replace", at=last)[0] == -signal.SIGKILL
    assert load_state(folder)["standing"]["number"] == steps - 1
    at = 0
    while server("resume", folder, hook="replace", at=at)[0] != 0:
        at += 1
    assert at == 4  # killed at each file of the last checkpoint, and before the weights
    assert written(folder) == written(never_stopped[0])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_process_cleanly(
    server: Server, never_stopped: tuple[Path, float], tmp_path: Path, number: signal.Signals
) -> None:
    folder = tmp_path / "run"
    for verb, lines in (("train", 2), ("resume", 10), ("resume", 20)):
        assert server(verb, folder, recipe=RECIPE, lines=lines, signal=int(number))[0] == 3
        open_run(folder).model()
    assert server("resume", folder)[0] == 0
    assert written(folder) == written(never_stopped[0])


@pytest.mark.slow
def test_kills_leave_no_trace_where_the_step_is_compiled(server: Server, tmp_path: Path) -> None:
    recipe = {**RECIPE, "train": {**RECIPE["train"], "compile": "always"}}
    status, seconds = server("train", tmp_path / "never", recipe=recipe)
    assert (status, load_state(tmp_path / "never")["execution"]["compiled"]) == (0, True)
    status, seconds = server("train", tmp_path / "again", recipe=recipe)  # now that what was compiled is at hand
    assert (status, written(tmp_path / "again")) == (0, written(tmp_path / "never"))
    chance, killed = random.Random(0), 0
    for _ in range(4):
        verb = "resume" if (tmp_path / "run" / "recipe.toml").exists() else "train"
        killed += server(verb, tmp_path / "run", recipe=recipe, after=chance.uniform(0.5, 1) * seconds)[0] != 0
    assert killed > 0
    assert server("resume", tmp_path / "run")[0] == 0
    assert written(tmp_path / "run") == written(tmp_path / "never")
