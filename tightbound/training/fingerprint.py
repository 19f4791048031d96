"""What must not change between a run and its continuation."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tightbound.data import Observations
from tightbound.settings import Training

FREE = ("checkpoint_seconds", "device", "precision", "compile")  # settings that have a fact of their own, or no effect
SAMPLED_ROWS = 64
CHUNK = 2**24  # bytes of observations that are read in one go


def run_fingerprint(
    settings: Training, *, device: torch.device, objective: object, seed: int, processes: int, model: nn.Module,
    data: Observations,
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
        "model": [_shapes(model), _structure(model)],
    }
    return Fingerprints({name: fingerprint(value) for name, value in facts.items()}, data)


class Fingerprints:
    """Fingerprints of which that of the data may not be there yet.

    Args:
        known: those of everything else.
        data: whose fingerprint is made in a thread of its own.
    """

    def __init__(self, known: dict[str, str], data: Observations) -> None:
        self._known = known
        self._found: list[str | BaseException] = []
        self._thread = threading.Thread(target=self._read, args=(data,), daemon=True)
        self._thread.start()

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
        self._thread.join(within)
        if not self._found:
            return self._known
        [found] = self._found
        if isinstance(found, BaseException):
            raise found
        return {**self._known, "data": found}

    def unlike(self, others: Mapping[str, str]) -> list[str]:
        """The names of the facts that differ. Where the others were written before the data were read, these do not.

        Args:
            others: fingerprints that :meth:`there` gave.
        """
        ours = self.there()
        return [name for name, value in ours.items() if others.get(name, value if name == "data" else "") != value]


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
    form = [len(data), list(data.shape), str(data.stored.dtype), data.scale, data.binarise]
    seen = hashlib.sha256(json.dumps(form).encode())
    every = torch.arange(len(data)) if rows is None else rows
    whole = data.replace(ask=None)
    for part in every.split(max(1, CHUNK // max(1, data.shape.numel() * data.stored.dtype.itemsize))):
        _add(seen, whole.take(part))
    there = data.rows_of(every)
    for table in (data.labels, data.factors, data.mask):
        if table is not None:
            _add(seen, table.index_select(0, there.to(table.device)))
    return seen.hexdigest()[:16]


def _add(seen: Any, values: Tensor) -> None:
    seen.update(values.detach().cpu().contiguous().view(torch.uint8).numpy().data)
