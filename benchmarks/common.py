"""What every benchmark shares: sides run in turn, medians and ratios, a table for people and JSON for programs."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tightbound as tb
from tightbound.conditional import Networked


def machine() -> str:
    """The machine in words: what a timing means nothing without."""
    if torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    name = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
    return f"{name}, {torch.get_num_threads()} threads of {os.cpu_count()} cores, torch {torch.__version__}"


def in_turn(sides: Mapping[str, Callable[[], float]], *, repeats: int) -> dict[str, list[float]]:
    """Run the sides in turn, ``repeats`` times each: A B A B …, so that a drift in speed meets all alike."""
    seen: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, side in sides.items():
            seen[name].append(side())
    return seen


def ratios(a: list[float], b: list[float]) -> dict[str, float]:
    """a / b pair by pair: lowest, median, highest."""
    pairs = sorted(x / y for x, y in zip(a, b, strict=True))
    return {"low": pairs[0], "median": statistics.median(pairs), "high": pairs[-1]}


def seconds(work: Callable[[], Any]) -> float:
    """How long ``work`` takes, a GPU's queue emptied before and after."""
    _wait()
    start = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - start


class Watch:
    """Seconds of training, standing still while a model is scored.

    Args:
        budget: seconds of training.
        shares: of the budget, where a model is scored; twice, four times … of it where a training goes on.
        score: what is wanted of a model.
    """

    def __init__(self, budget: float, shares: Sequence[float], score: Callable[[Any], Any]) -> None:
        self.budget, self.score, self.seconds = budget, score, 0.0
        self.points: list[tuple[float, Any]] = []
        self._marks = itertools.chain((share * budget for share in shares), (budget * 2**i for i in itertools.count(1)))
        self._mark = next(self._marks)
        self._since = time.perf_counter()

    def due(self) -> bool:
        """Whether the next mark has been passed."""
        return self.seconds + time.perf_counter() - self._since >= self._mark

    def look(self, model: Any) -> None:
        """Score a model, off the clock."""
        _wait()
        self.seconds += time.perf_counter() - self._since
        self._mark = next(mark for mark in self._marks if mark > self.seconds)
        self.points.append((self.seconds, self.score(model)))
        print(f"{self.seconds:9.1f} s  {self.points[-1][1]}", flush=True)
        self._since = time.perf_counter()

    def over(self, model: Any) -> bool:
        """Score if it is time to; whether the budget is spent."""
        if self.due():
            self.look(model)
        return self.seconds >= self.budget


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def report(name: str, rows: list[dict[str, Any]], notes: dict[str, Any] | None = None) -> None:
    """Print a table, and one line of JSON last."""
    print(f"\n{name} · {machine()} · {time.strftime('%Y-%m-%d')}")
    keys = list(rows[0])
    cells = [keys, *[[_cell(row.get(key)) for key in keys] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(keys))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
    for key, value in (notes or {}).items():
        print(f"{key}: {_cell(value)}")
    print(json.dumps({"benchmark": name, "machine": machine(), "rows": rows, **(notes or {})}), flush=True)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return " … ".join(f"{part:.3g}" for part in value.values())
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def pixels(data: tb.data.Observations) -> Tensor:
    """Of these observations alone, as they are stored: a split shares its tensor with the other."""
    return data.take(torch.arange(len(data)))


def networks(model: tb.VAE) -> tuple[nn.Module, nn.Module]:
    """The encoder's and the decoder's."""
    posterior, likelihood = model.posterior, model.likelihood
    assert isinstance(posterior, Networked)
    assert isinstance(likelihood, Networked)
    return posterior.network, likelihood.network


def arguments(doc: str, **defaults: float | str) -> argparse.Namespace:
    """Options with their defaults, each of its default's type."""
    parser = argparse.ArgumentParser(description=doc.strip().splitlines()[0])
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return parser.parse_args()


def need(module: str) -> bool:
    """Whether an optional module is installed; says so where it is not."""
    import importlib.util

    if importlib.util.find_spec(module) is None:
        print(f"{module} is not installed: that side is left out (pip install {module})", file=sys.stderr)
        return False
    return True
