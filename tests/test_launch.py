"""The command line with several processes: one report, each line once, one exit code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from tiny import SMALL, refused

from tightbound.cli.launch import MOST
from tightbound.runs.run import open_run

ROOT = Path(__file__).parents[1]
TWO = ("train", "digits", *SMALL, "--procs", "2")


def start(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tightbound", *map(str, words)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip


def ended(started: subprocess.Popen[str]) -> tuple[int, list[str], list[str]]:
    """Exit code, lines of standard output and of standard error."""
    try:
        out, error = started.communicate(timeout=200)
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
    return started.returncode, out.splitlines(), error.splitlines()


def wait_for(path: Path, started: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert started.poll() is None, started.communicate()
        time.sleep(0.05)


def children(parent: int) -> list[int]:
    """Numbers of a process's children, oldest first."""
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return sorted(map(int, found))


def test_the_module_is_the_command() -> None:
    code, out, error = ended(start("--help"))
    assert (code, error) == (0, [])
    assert "tightbound demo" in " ".join(out)


@pytest.mark.parametrize("count", [MOST + 1, 100_000])
def test_more_processes_than_a_machine_can_use_are_refused(capsys: pytest.CaptureFixture[str], count: int) -> None:
    assert f"Expected --procs of at most {MOST}, four for each core and a few; got {count}." in refused(
        capsys, "train", "digits", "--procs", count
    )


@pytest.mark.parametrize("count", [0, -1])
def test_there_is_at_least_one_process(capsys: pytest.CaptureFixture[str], count: int) -> None:
    assert f"Expected --procs of at least 1; got {count}." in refused(capsys, "train", "digits", "--procs", count)


def test_two_train_and_one_speaks(tmp_path: Path) -> None:
    code, out, error = ended(start(*TWO, "--out", tmp_path / "run"))
    assert code == 0, error
    assert [line for line in out if line.startswith("Report: ")] == [f"Report: {tmp_path / 'run' / 'report.html'}"]
    assert sum(line.startswith("Evidence: ") for line in out) == 1
    assert [line.split()[0] for line in error] == ["Training", "VAE:", "step", "Trained", "Likelihood:", "Note:"]
    assert error[0].startswith("Training on cpu, 2 processes")
    run = open_run(tmp_path / "run")
    assert run.evaluation() is not None
    assert Counter(line["split"] for line in run.metrics()) == {"train": 1, "validation": 1}


ENDS = {
    "wrong_for_the_first": (2, "Expected sense; got none."),
    "failed_by_all": (1, "At step 1 the loss became nan."),
    "failed_by_the_second": (1, "MemoryError: too much"),
    "killed": (1, "A process was killed; the last checkpoint of a training is kept."),
    "interrupted": (1, "Stopped."),
}


def test_what_goes_wrong_is_said_once() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    script = [sys.executable, str(ROOT / "tests" / "launched.py"), *ENDS]
    done = subprocess.run(script, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines() == [f"{name} {code}" for name, (code, _) in ENDS.items()]
    assert done.stderr.splitlines() == [
        line for name, (_, said) in ENDS.items() for line in (name, f"tightbound: {said}")
    ]


@pytest.mark.slow
def test_a_wrong_request_is_answered_once(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    code, out, error = ended(start(*TWO, "--out", tmp_path))
    assert (code, out) == (2, [])
    assert error == [
        f"tightbound: Expected a new folder; got {tmp_path}, which already holds something. "
        "Choose another: --out, or out= in Python."
    ]
    code, out, shown = ended(start(*TWO, "--out", tmp_path, "--debug"))
    assert (code, out, shown[-1]) == (2, [], error[0])
    assert "Traceback (most recent call last):" in shown


@pytest.mark.slow
def test_a_number_that_is_not_finite_is_said_once(tmp_path: Path) -> None:
    code, out, error = ended(start(*TWO, "--train.learning-rate", "1e30", "--quiet", "--out", tmp_path / "run"))
    assert (code, out, len(error)) == (1, [], 1)
    assert error[0].startswith("tightbound: At step ")


@pytest.mark.slow
def test_control_c_stops_all_once_and_they_go_on(tmp_path: Path) -> None:
    words = ("train", "digits", "--procs", "2", "--train.epochs", "2000", "--out", tmp_path / "run")
    started = start(*words)
    wait_for(tmp_path / "run" / "checkpoint" / "state.pt", started)
    time.sleep(1)
    os.killpg(started.pid, signal.SIGINT)
    code, out, error = ended(started)
    assert (code, out) == (1, [])
    stopped = [line for line in error if not line.startswith(("step ", "Note: "))]
    assert len(stopped) == 1, error
    assert stopped[0].startswith("Stopped at step ")
    code, out, error = ended(start("train", "--resume", tmp_path / "run", "--quiet"))
    assert (code, out, len(error)) == (2, [], 1)
    assert "got another number of processes" in error[0]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="asks Linux for a process's children")
def test_a_killed_process_ends_the_others_soon(tmp_path: Path) -> None:
    words = ("train", "digits", "--procs", "2", "--train.epochs", "2000", "--quiet", "--out", tmp_path / "run")
    started = start(*words)
    wait_for(tmp_path / "run" / "checkpoint" / "state.pt", started)
    os.kill(children(started.pid)[-1], signal.SIGKILL)
    since = time.monotonic()
    code, out, error = ended(started)
    assert (code, out) == (1, [])
    assert time.monotonic() - since < 25
    assert len(error) == 1
    assert "go on with --resume" in error[0]
