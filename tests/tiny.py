"""One tiny run for all tests of the command line, trained once in each process; and how they call it."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tightbound.cli.verbs import main

if TYPE_CHECKING:
    from tightbound.runs.starting import Trained

SMALL = ("--model.hidden", "16", "--model.latent-dim", "3", "--evaluate.samples", "20", "--train.epochs", "1")


@functools.cache
def trained() -> Path:
    """A run's folder, to read and never to write into."""
    folder = Path(tempfile.mkdtemp(prefix="tightbound-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if main(["train", "digits", *SMALL, "--quiet", "--out", str(folder / "run")]):
        raise RuntimeError("the tiny run failed")
    return folder / "run"


def copied(to: Path) -> Path:
    """A copy of it that may be written into."""
    return Path(shutil.copytree(trained(), to / "run"))


def stopped(path: Path | None = None) -> Trained:
    """What a training gives that was interrupted at step 7."""
    from tightbound.runs.run import open_run
    from tightbound.runs.starting import Trained
    from tightbound.training import TrainResult

    run = open_run(path or trained())
    ended = TrainResult(steps=7, loss=1.0, best_step=7, seconds=1.0, ended="interrupted", objective=None, metrics=[])
    return Trained(run, run.model(), run.data(), ended)


def said(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    trained()
    capsys.readouterr()
    code = main([str(word) for word in words])
    return code, *capsys.readouterr()


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line that a wrong request is answered with."""
    code, out, error = said(capsys, *words)
    assert (code, out, error.count("\n")) == (2, "", 1), (code, out, error)
    assert error.startswith("tightbound: Expected ")
    assert "Traceback" not in error
    return error
