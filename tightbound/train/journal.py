"""What a training writes down: ``metrics.jsonl``, the same bytes for the same seed, and ``timing.jsonl``, the clock's."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, TextIO

METRICS = "metrics.jsonl"
TIMING = "timing.jsonl"


class Journal:
    """Append-only lines, kept in memory too; on disk where there is a run folder.

    Args:
        run: the run's folder, or None to keep lines in memory only.
        resume_at: sizes in bytes of the two files at the checkpoint; later lines are of steps that will come again.
    """

    def __init__(self, run: Path | None, resume_at: tuple[int, int] | None = None) -> None:
        self.metrics: list[dict[str, Any]] = []
        self._files: dict[str, TextIO] = {}
        if run is None:
            return
        run.mkdir(parents=True, exist_ok=True)
        for name, size in zip((METRICS, TIMING), resume_at or (0, 0), strict=True):
            path = run / name
            path.touch()
            os.truncate(path, size)
            self._files[name] = path.open("a", encoding="utf-8")
        self.metrics = read_metrics(run)

    def metric(self, **values: Any) -> None:
        """One line of metrics. Numbers that are not finite become null, as JSON has no other word."""
        line = {key: _plain(value) for key, value in values.items()}
        self.metrics.append(line)
        self._write(METRICS, line)

    def timing(self, **values: Any) -> None:
        """One line of the clock."""
        self._write(TIMING, values)

    def sizes(self) -> tuple[int, int]:
        """Sizes in bytes of both files, safely on disk."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        metrics, timing = (self._files[name].tell() if name in self._files else 0 for name in (METRICS, TIMING))
        return metrics, timing

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _write(self, name: str, line: dict[str, Any]) -> None:
        if name in self._files:
            self._files[name].write(json.dumps(line) + "\n")
            self._files[name].flush()


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's ``metrics.jsonl``, oldest first; empty where there is none.

    Raises:
        ValueError: for a line that is no JSON object, with its number.
    """
    path = run / METRICS
    lines = []
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines() if path.is_file() else (), start=1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            line = None
        if not isinstance(line, dict):
            raise ValueError(f"Expected one JSON object a line in {path}; got something else in line {number}.")
        lines.append(line)
    return lines


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
