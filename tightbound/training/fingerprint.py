"""What must not change between a run and its continuation."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tightbound.data import Observations
from tightbound.data.mapped import Ahead
from tightbound.settings import Training

FREE = (
    "checkpoint_seconds",
    "device",
    "precision",
    "compile",
    "threads",
)  # settings that have a fact of their own, or no effect
SAMPLED_ROWS = 64
CHUNK = 2**24  # bytes of observations that are read in one go
FILE = "file of the data"  # its stamp is written beside the facts, and is none of them


def run_fingerprint(
    settings: Training, *, device: torch.device, objective: object, seed: int, processes: int, model: nn.Module,
    data: Observations, validation: Observations | None = None, transform: object = None,
) -> Fingerprints:  # fmt: skip
    """A short fingerprint of each fact, by its name in words. That of the data is made while something else goes on.

    Args:
        settings: of the training.
        device: where it computes.
        objective: what it makes small.
        seed: of noise, batches and the validation split.
        processes: how many share each batch.
        model: what is trained.
        data: what it is trained on, those held out included.
        validation: what it is validated on, where that is no part of these.
        transform: what is made of each batch, if anything.

    Returns:
        What gives sixteen letters for each fact; equal facts have equal ones.
    """
    chosen = dataclasses.asdict(settings)
    facts: dict[str, Any] = {
        "settings": {name: value for name, value in chosen.items() if name not in FREE},
        "device": device.type,
        "precision or compile": [chosen["precision"], chosen["compile"]],
        "objective": [repr(objective), _shapes(objective) if isinstance(objective, nn.Module) else {}],
        "seed": seed,
        "number of processes": processes,
        "model": facts_of(model),
    }
    known = {name: fingerprint(value) for name, value in facts.items()}
    known["transform"] = "" if transform is None else fingerprint(repr(transform))  # as of runs before there were any
    known["validation set"] = "" if validation is None else fingerprint_of_data(validation)
    return Fingerprints(known, data)


class Fingerprints:
    """Fingerprints of which that of the data may not be there yet: a thread of its own makes it when it is asked for.

    A file larger than memory takes long to read. It is not read again where it has the size and the time of change
    that it had when the others were made.

    Args:
        known: those of everything else.
        data: what is trained on.
    """

    def __init__(self, known: dict[str, str], data: Observations) -> None:
        self._known = known
        self._file = stamp_of_data(data)
        self._found: list[str | BaseException] = []
        self._thread = threading.Thread(target=self._read, args=(data,), daemon=True)

    def _read(self, data: Observations) -> None:
        try:
            self._found.append(fingerprint_of_data(data))
        except BaseException as error:  # told to whoever asks
            self._found.append(error)

    def there(self, *, within: float | None = None) -> dict[str, str]:
        """All of them; without that of the data where it takes longer.

        Args:
            within: seconds to wait for it; by default as long as it takes.
        """
        if not self._found:
            if self._thread.ident is None:
                self._thread.start()
            self._thread.join(within)
        if not self._found:
            return self._known
        [found] = self._found
        if isinstance(found, BaseException):
            raise found
        return {**self._known, "data": found, **({FILE: self._file} if self._file else {})}

    def unlike(self, others: Mapping[str, str]) -> list[str]:
        """The names of the facts that differ. Where the others were written before the data were read, these do not.

        Args:
            others: fingerprints that :meth:`there` gave.
        """
        unread = self._file is not None and self._thread.ident is None
        if unread and others.get(FILE) == self._file and "data" in others:
            self._found = [others["data"]]
        ours = {name: value for name, value in self.there().items() if name != FILE}
        return [name for name, value in ours.items() if others.get(name, value if name == "data" else "") != value]


def facts_of(model: nn.Module) -> list[Any]:
    """What a model is, but for the values of its weights."""
    return [_shapes(model), _structure(model)]


def _structure(model: nn.Module) -> list[Any]:
    """What a model is made of, besides its weights: each module's class, and the plain values that it holds.

    Values of the library's own and of torch's modules alone: those of others may count what has happened to them.
    """
    found: list[Any] = []
    for name, module in model.named_modules():
        known = type(module).__module__.partition(".")[0] in ("tightbound", "torch")
        values = {key: value for key, value in vars(module).items() if known and _is_plain(key, value)}
        found.append([name, type(module).__qualname__, values])
    return found


def _is_plain(key: str, value: object) -> bool:
    if key.startswith("_") or key == "training":
        return False
    whole = (bool, int, float, str, type(None))
    return isinstance(value, whole) or (
        isinstance(value, (tuple, list)) and all(isinstance(each, whole) for each in value)
    )


def _shapes(module: nn.Module) -> dict[str, list[Any]]:
    return {name: [*value.shape, str(value.dtype)] for name, value in module.state_dict().items()}


def fingerprint(facts: object) -> str:
    """A short name of some facts.

    Args:
        facts: plain values, and what ``str`` describes.

    Returns:
        Sixteen hexadecimal digits.

    Example:
        >>> fingerprint([1, 2]) == fingerprint((1, 2)), fingerprint([1, 2]) == fingerprint([2, 1])
        (True, False)
    """
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(re.sub(r" at 0x[0-9a-fA-F]+", "", text).encode()).hexdigest()[:16]


def fingerprint_of_data(data: Observations) -> str:
    """A short name of observations: of their form, of every value, label and factor, and of which are absent.

    Of observations that are made when they are asked for some are looked at: what makes them is what matters.

    Args:
        data: observations.

    Returns:
        Sixteen hexadecimal digits.

    Example:
        >>> x = torch.zeros(9, 2)
        >>> fingerprint_of_data(Observations(x)) == fingerprint_of_data(Observations(x.clone()))
        True
    """
    count = len(data) if isinstance(data.stored, Tensor) else min(len(data), SAMPLED_ROWS)
    rows = torch.linspace(0, len(data) - 1, count, dtype=torch.float64).long() if count < len(data) else None
    seen = _form(data)
    every = torch.arange(len(data)) if rows is None else rows
    whole = data.replace(ask=None)
    for part in every.split(max(1, CHUNK // max(1, data.shape.numel() * data.stored.dtype.itemsize))):
        _add(seen, whole.take(part))
    there = data.rows_of(every)
    for table in (data.labels, data.factors, data.mask):
        if table is not None:
            _add(seen, table.index_select(0, there.to(table.device)))
    return seen.hexdigest()[:16]


def glimpse_of_data(data: Observations) -> str:
    """A short name of observations by a few of their values, which takes no time however many there are.

    Labels and factors are left out, and whether a model sees them binarised: they are the same observations.

    Args:
        data: observations.

    Returns:
        Sixteen hexadecimal digits.

    Example:
        >>> x = torch.rand(900, 2)
        >>> glimpse_of_data(Observations(x)) == glimpse_of_data(Observations(x, binarise=True))
        True
    """
    rows = torch.linspace(0, len(data) - 1, min(len(data), SAMPLED_ROWS), dtype=torch.float64).long()
    seen = _form(data.replace(binarise=False))
    _add(seen, data.replace(ask=None).take(rows))
    return seen.hexdigest()[:16]


def stamp_of_data(data: Observations) -> str | None:
    """A short name of the file that observations are mapped from: where it is, its size, and when it was changed.

    Which rows of it are used, and their labels, factors and mask, are part of the name.

    Args:
        data: observations.

    Returns:
        Sixteen hexadecimal digits, or None where the observations are in memory, or would soon be.

    Example:
        >>> stamp_of_data(Observations(torch.zeros(9, 2))) is None
        True
    """
    if not isinstance(data.ask, Ahead):
        return None
    file, seen = data.ask.file, _form(data)
    seen.update(json.dumps([os.fsencode(file.path).hex(), file.size, file.changed]).encode())
    for table in (data.rows, data.labels, data.factors, data.mask):
        seen.update(b"none" if table is None else b"some")
        if table is not None:
            _add(seen, table)
    return seen.hexdigest()[:16]


def _form(data: Observations) -> Any:
    form = [len(data), list(data.shape), str(data.stored.dtype), data.scale, data.binarise]
    return hashlib.sha256(json.dumps(form).encode())


def _add(seen: Any, values: Tensor) -> None:
    seen.update(values.detach().cpu().contiguous().view(torch.uint8).numpy().data)
