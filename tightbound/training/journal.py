"""What a training writes down: ``metrics.jsonl``, the same for the same seed, and the clock's ``timing.jsonl``."""

from __future__ import annotations

import json
import math
import os
import shlex
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from tightbound.files import require_file, told_when_full

METRICS = "metrics.jsonl"
TIMING = "timing.jsonl"


class FolderGoneError(OSError):
    """The run's folder was removed while it trained: there is nowhere to keep what it learns.

    Example:
        >>> raise FolderGoneError(Path("run/metrics.jsonl"))
        Traceback (most recent call last):
        tightbound.training.journal.FolderGoneError: Expected run/metrics.jsonl to stay where it is; ...
    """

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"Expected {path} to stay where it is; got nothing there: the run's folder was removed while it trained, "
            "and nothing more can be kept. Train anew."
        )


class Journal:
    """Append-only lines, kept in memory too; on disk where there is a run folder.

    Args:
        run: the run's folder, or None to keep lines in memory only.
        resume_at: sizes in bytes of the two files at the checkpoint; later lines are of steps that will come again.

    Raises:
        ValueError: for metrics that are shorter than they were at the checkpoint. A shorter clock is a warning.
    """

    def __init__(self, run: Path | None, resume_at: tuple[int, int] | None = None) -> None:
        self.metrics: list[dict[str, Any]] = []
        self._files: dict[str, TextIO] = {}
        if run is None:
            return
        run.mkdir(parents=True, exist_ok=True)
        metrics, timing = resume_at or (0, 0)
        _cut(run / METRICS, metrics)
        _cut(run / TIMING, _at_most(run / TIMING, timing))
        self.metrics = read_metrics(run)
        self._files = {name: (run / name).open("a", encoding="utf-8", newline="\n") for name in (METRICS, TIMING)}

    def metric(self, **values: Any) -> None:
        """One line of metrics. Numbers that are not finite become null, as JSON has no other word."""
        line = {key: _plain(value) for key, value in values.items()}
        self.metrics.append(line)
        self._write(METRICS, line)

    def timing(self, **values: Any) -> None:
        """One line of the clock."""
        self._write(TIMING, values)

    def sizes(self) -> tuple[int, int]:
        """Sizes in bytes of both files."""
        metrics, timing = (self._files[name].tell() if name in self._files else 0 for name in (METRICS, TIMING))
        return metrics, timing

    def sync(self) -> None:
        """Return when every line is safely on disk."""
        for file in self._files.values():
            with told_when_full(Path(file.name)):
                os.fsync(file.fileno())

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _write(self, name: str, line: dict[str, Any]) -> None:
        if name in self._files:
            with told_when_full(Path(self._files[name].name)):
                self._files[name].write(json.dumps(line) + "\n")
                self._files[name].flush()
            if os.fstat(self._files[name].fileno()).st_nlink == 0:
                raise FolderGoneError(Path(self._files[name].name))


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``, oldest first; empty where there is none.

    A last line without its end is left out: it is being written, or its writer was killed.

    Raises:
        ValueError: for a line that is no JSON object, with its number.
    """
    path = run / METRICS
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    if "\0" in text:
        raise ValueError(
            f"Expected one JSON object a line in {path}; got zeros, which a disk leaves where it has lost what was "
            "there. Take it from a backup, or remove it: the run is then without its curves."
        )
    return [_line(line, number, path) for number, line in enumerate(text.split("\n")[:-1], start=1)]


def ended(run: Path, steps: int, patience: int) -> bool:
    """Whether a run's lines are those of a training that has ended: at its last step, or early.

    Args:
        run: the run's folder.
        steps: of the whole training.
        patience: validations without a better loss after which it ends early; never where it is 0.

    Returns:
        Whether they are; False where a line is damaged.

    Example:
        >>> ended(Path("nowhere"), steps=10, patience=0)
        False
    """
    try:
        lines = read_metrics(run)
    except ValueError:
        return False
    better = [bool(line.get("best")) for line in lines if line.get("split") == "validation"]
    early = 0 < patience <= len(better) and not any(better[-patience:])
    return early or any(line.get("step") == steps for line in lines[-2:])


def _line(text: str, number: int, path: Path) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        line = None
    if not isinstance(line, dict):
        raise ValueError(f"Expected one JSON object a line in {path}; got something else in line {number}.")
    return line


def require_metrics(lines: Sequence[Mapping[str, Any]]) -> None:
    """Look at what curves and tables read of each line.

    Args:
        lines: as :func:`read_metrics` gives them.

    Raises:
        TypeError: for a line without step, epoch and split, or with something else than a number for a loss.

    Example:
        >>> require_metrics([{"step": 1, "epoch": 0.5, "split": "train", "loss": 3.0}, {"step": "1"}])
        Traceback (most recent call last):
        ...
        TypeError: step, epoch or split of line 2
    """
    for number, line in enumerate(lines, start=1):
        step = line.get("step")
        whole = type(step) is int and step >= 0
        if not (whole and _is_number(line.get("epoch")) and isinstance(line.get("split"), str)):
            raise TypeError(f"step, epoch or split of line {number}")
        for key in ("loss", "distortion", "rate", "learning_rate"):
            if line.get(key) is not None and not _is_number(line[key]):
                raise TypeError(f"{key} of line {number}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf


def _at_most(clock: Path, size: int) -> int:
    """Where to go on in the clock's file, which no training needs: its end, where it is shorter than it was."""
    require_file(clock)
    there = clock.stat().st_size if clock.exists() else 0
    if there < size:
        warnings.warn(
            f"Expected at least {size} bytes in {clock}, as at the checkpoint; got {there}. The training goes on "
            "without the clock of the steps before.",
            stacklevel=4,
        )
    return min(there, size)


def _cut(path: Path, size: int) -> None:
    require_file(path)
    path.touch()
    there = path.stat().st_size
    if not 0 <= size <= there:
        raise ValueError(
            f"Expected at least {size} bytes in {path}, as at the checkpoint; got {there}. Put back the file as it "
            f"was, or train anew: tightbound recipes {shlex.quote(str(path.parent))} > again.toml, then tightbound "
            "train again.toml."
        )
    os.truncate(path, size)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
