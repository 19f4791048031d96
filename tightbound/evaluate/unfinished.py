"""What an evaluation has measured so far, kept in a file: after an interrupt the next one goes on from there."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from tightbound.batch import Batch
from tightbound.distributions import Part
from tightbound.evaluate.latents import LatentStatistics
from tightbound.files import read_tensors, why, write_tensors

EVERY = 30.0  # seconds between two writings
ALIKE = 1e-3  # nats, by which the ELBO of an observation may differ where the model and the draws are the same


class Unfinished:
    """The numbers of the blocks that are measured, in memory and where wanted in a file.

    The file goes on only where nothing has changed: the settings and the weights, by their digest; each block of
    observations, by its own; and all else that a model is made of, by the ELBO of the first block, which is measured
    anew each time. A file that is damaged, or of something else, is written over.

    Used as a context: what has been measured is kept on the way out, whatever the reason.

    Args:
        path: of the file; None keeps nothing.
        model: what is evaluated.
        settings: whatever else the numbers depend on, as plain values.
    """

    def __init__(self, path: Path | None, model: nn.Module, settings: object) -> None:
        self.statistics = LatentStatistics()
        self.count = 0
        self._path = path
        self._of = torch.empty(0) if path is None else _digest_of(model, settings)
        self._columns: defaultdict[str, list[Tensor]] = defaultdict(list)
        self._marks: list[int] = []
        self._whole = (0, 0, self.statistics.state())  # as of the last block that is in, wherever an interrupt comes
        self._written = time.monotonic()

    @property
    def columns(self) -> dict[str, Tensor]:
        """All values by name, each of shape (N,)."""
        return {name: torch.cat(parts) for name, parts in self._columns.items()}

    def add(self, batch: Batch, made: dict[str, Tensor]) -> None:
        """Take in what a block has; ``statistics`` are added to by whoever measures.

        Args:
            batch: the observations.
            made: their values by name, each of shape (B,).
        """
        self.count += batch.size
        for name, values in made.items():
            self._columns[name].append(values)
        if self._path is not None:
            self._marks.append(_mark(batch))
            self._whole = (self.count, len(self._marks), self.statistics.state())
            if time.monotonic() - self._written >= EVERY:
                self._write()

    def resume(self, batches: Iterable[Batch], parts: Sequence[Part] = ()) -> None:
        """After the first block: take over what an earlier evaluation of the same has kept.

        Args:
            batches: the blocks of observations, from the first on.
            parts: what the latent is made of, as of :meth:`LatentStatistics.add`.
        """
        kept = self._read()
        if kept is None:
            return
        marks, first = kept.pop("marks").tolist(), self.columns
        known = {name.removeprefix("column "): each for name, each in kept.items() if name.startswith("column ")}
        if set(known) != set(first) or len(known["elbo"]) <= self.count:
            return
        alike = torch.isclose(known["elbo"][: self.count], first["elbo"], rtol=0, atol=ALIKE, equal_nan=True)
        if not alike.all() or any(mark != _mark(batch) for mark, batch in zip(marks, batches, strict=False)):
            return
        state = {name.removeprefix("of all "): each for name, each in kept.items() if name.startswith("of all ")}
        self.statistics.restore(state, parts)
        self.count, self._marks = len(known["elbo"]), marks
        self._columns = defaultdict(list, {name: [values] for name, values in known.items()})
        self._whole = (self.count, len(marks), state)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._write()

    def _write(self) -> None:
        count, marks, state = self._whole
        if self._path is None or not count:
            return
        tensors = {f"column {name}": values[:count] for name, values in self.columns.items()}
        tensors |= {f"of all {name}": values for name, values in state.items()}
        tensors["marks"] = torch.tensor(self._marks[:marks])
        try:
            write_tensors(self._path, {**tensors, "of": self._of, "sum": _sum(tensors)})
        except OSError as error:  # the numbers matter more than a way to go on
            warnings.warn(
                f"What is measured can't be kept in {self._path}: {why(error)}. After an interrupt the "
                "evaluation will begin anew.",
                stacklevel=2,
            )
            self._path = None
        self._written = time.monotonic()

    def _read(self) -> dict[str, Tensor] | None:
        if self._path is None or not self._path.is_file():
            return None
        with suppress(Exception):  # of any kind, as of any damaged file: there is nothing to go on from
            found = read_tensors(self._path)
            of, total = found.pop("of"), found.pop("sum")
            if torch.equal(of, self._of) and torch.equal(total, _sum(found)):
                return found
        return None


def _digest_of(model: nn.Module, settings: object) -> Tensor:
    seen = hashlib.sha256(f"{json.dumps(settings, sort_keys=True)}{model!r}".encode())
    for name, value in model.state_dict().items():
        seen.update(name.encode())
        _add(seen, value)
    return _tensor(seen.digest())


def _sum(tensors: dict[str, Tensor]) -> Tensor:
    seen = hashlib.sha256()
    for name in sorted(tensors):
        seen.update(name.encode())
        _add(seen, tensors[name])
    return _tensor(seen.digest())


def _mark(batch: Batch) -> int:
    seen = hashlib.blake2b(digest_size=8)
    for value in batch:
        if isinstance(value, Tensor):
            _add(seen, value)
    return int.from_bytes(seen.digest(), "big") >> 1


def _add(seen: Any, value: Tensor) -> None:
    seen.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())


def _tensor(digest: bytes) -> Tensor:
    return torch.frombuffer(bytearray(digest), dtype=torch.uint8)
