"""Observations as they are stored, and how a stored value becomes the number a model sees."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 1024  # rows that share one seed when binarisation is fixed
FIXED_SEED = 20_130_620  # the same held-out pixels for everyone, always
_HALF = 2**15
_WHOLE = {torch.bool, torch.int8, torch.int16, torch.int32, torch.int64}
_UNSIGNED = {torch.uint8, torch.uint16, torch.uint32, torch.uint64}
_REAL = _WHOLE | _UNSIGNED | {torch.float16, torch.bfloat16, torch.float32, torch.float64}


@dataclass(frozen=True, eq=False, repr=False)
class Observations:
    r"""N observations of one shape, kept as they are stored: 8-bit pixels stay 8-bit, a mapped file stays on disk.

    A model sees ``stored / scale``; with ``binarise`` it sees independent draws
    :math:`x_i \sim \mathrm{Bernoulli}(\text{stored}_i / \text{scale})` instead (Salakhutdinov & Murray 2008,
    https://doi.org/10.1145/1390156.1390266): fresh ones at each :meth:`visit` (training), the same ones for ever from
    :meth:`fixed` (evaluation). Probabilities are rounded to 2⁻¹⁶; 0 and 1 are exact.

    Args:
        stored: shape (N, \*shape), any real dtype.
        labels: shape (N,), integers; only pictures and reports look at them.
        label_names: what label 0, 1, … is called; empty means by its number.
        name: what error messages and reports call this data.
        scale: the stored value that means 1 (255 for 8-bit pixels).
        binarise: whether a model sees Bernoulli draws in place of grey values.
        rows: which rows of ``stored`` these observations are, in order; all of them by default.
        ask: called with the rows of ``stored`` that are about to be read, for a file that is read as it is needed.

    Raises:
        TypeError: for complex, quantised or sparse tensors.
        ValueError: for an empty set, labels that are not one integer each, or a scale that is not positive.

    Example:
        >>> grey = Observations(torch.tensor([[0, 255], [255, 0]], dtype=torch.uint8), scale=255, binarise=True)
        >>> grey.batch(torch.tensor([1]))
        tensor([[1., 0.]])
    """

    stored: Tensor
    labels: Tensor | None = None
    label_names: tuple[str, ...] = ()
    name: str = "data"
    scale: float = 1.0
    binarise: bool = False
    rows: Tensor | None = None
    ask: Callable[[Tensor], None] | None = None

    def __post_init__(self) -> None:
        if self.stored.dtype not in _REAL or self.stored.layout != torch.strided:
            raise TypeError(
                f"Expected dense real numbers; got {self.stored.dtype}, {self.stored.layout} in {self.name}. "
                "Convert them first: x.to_dense() for sparse, torch.view_as_real(x) for complex tensors."
            )
        if self.stored.ndim < 2:
            raise ValueError(
                f"Expected observations of shape (N, ...); got {tuple(self.stored.shape)} in {self.name}. "
                "For N single numbers, add an axis: x[:, None]."
            )
        if len(self) == 0 or self.shape.numel() == 0:
            raise ValueError(f"Expected at least one observation; got an empty array in {self.name}.")
        if self.labels is not None:
            self._check_labels(self.labels)
        if not 0 < self.scale < math.inf:
            raise ValueError(f"Expected a positive, finite scale; got {self.scale} for {self.name}.")

    def _check_labels(self, labels: Tensor) -> None:
        if labels.shape != (len(self.stored),):
            raise ValueError(
                f"Expected one label for each of {len(self.stored)} observations; "
                f"got labels of shape {tuple(labels.shape)} in {self.name}. One-hot labels: labels.argmax(1)."
            )
        if labels.is_floating_point() or labels.is_complex():
            raise ValueError(f"Expected integer labels; got {labels.dtype} in {self.name}. Use labels.long().")

    def __len__(self) -> int:
        return len(self.stored) if self.rows is None else len(self.rows)

    def __repr__(self) -> str:
        dtype = str(self.stored.dtype).removeprefix("torch.")
        return f"Observations({len(self)} of shape {tuple(self.shape)}, {dtype}, name={self.name!r})"

    @property
    def shape(self) -> torch.Size:
        """The shape of one observation."""
        return self.stored.shape[1:]

    def replace(self, **changes: object) -> Observations:
        """A copy with some fields changed, as ``dataclasses.replace`` does."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def subset(self, indices: Tensor) -> Observations:
        """The observations at ``indices``, as a view: nothing is copied."""
        return self.replace(rows=indices if self.rows is None else self.rows[indices])

    def label(self, indices: Tensor) -> Tensor | None:
        """Labels of the observations at ``indices``, or None where there are none."""
        return None if self.labels is None else self.labels[self._rows(indices).to(self.labels.device)]

    def take(self, indices: Tensor) -> Tensor:
        """Stored values at ``indices``, shape (len(indices), \\*shape), untouched."""
        self.prefetch(indices)
        return self.stored.index_select(0, self._rows(indices))

    def prefetch(self, indices: Tensor) -> None:
        """Have the observations at ``indices`` read in while something else goes on, where they are not in memory."""
        if self.ask is not None:
            self.ask(self._rows(indices))

    def batch(self, indices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """What a model sees of the observations at ``indices`` this time; torch's global state draws what is drawn."""
        taken = self.take(indices)
        if not self.binarise:
            return self._scaled(taken, dtype)
        return _below(_random_bits(taken.shape, taken.device, None), taken, self.scale, dtype)

    def unbinarised(self, indices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """``stored / scale`` at ``indices``, never binarised: what a person wants to look at."""
        return self._scaled(self.take(indices), dtype)

    def eval_batch(self, start: int = 0, stop: int | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
        """What an evaluation sees of observations ``start`` to ``stop``: the same in every call, on every machine."""
        stop = len(self) if stop is None else min(stop, len(self))
        taken = self.take(torch.arange(start, max(start, stop)))
        if not self.binarise:
            return self._scaled(taken, dtype)
        return _below(_fixed_bits(start, stop, self.shape).to(taken.device), taken, self.scale, dtype)

    def batches(self, size: int, dtype: torch.dtype = torch.float32) -> Iterator[Tensor]:
        """All observations in order, ``size`` at a time, as :meth:`fixed` gives them."""
        for start in range(0, len(self), size):
            yield self.eval_batch(start, start + size, dtype)

    def _rows(self, indices: Tensor) -> Tensor:
        indices = indices.to(self.stored.device)
        return indices if self.rows is None else self.rows.to(indices.device)[indices]

    def _scaled(self, taken: Tensor, dtype: torch.dtype) -> Tensor:
        values = taken.to(dtype)
        return values if self.scale == 1 else values.div_(self.scale)


def _random_bits(shape: torch.Size, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Uniform int16 values, four from each 64-bit draw: a quarter of the work of one draw a value."""
    words = torch.empty((shape.numel() + 3) // 4, dtype=torch.int64, device=device)
    words.random_(-(2**63), None, generator=generator)
    return words.view(torch.int16)[: shape.numel()].view(shape)


def _fixed_bits(start: int, stop: int, shape: torch.Size) -> Tensor:
    """The same bits for observations ``start`` to ``stop`` whoever asks: each block has a seed of its own."""
    cpu = torch.device("cpu")
    parts = [torch.empty((0, *shape), dtype=torch.int16)]
    for block in range(start // BLOCK, -(-stop // BLOCK)):
        first = block * BLOCK
        generator = torch.Generator().manual_seed(FIXED_SEED + block)
        bits = _random_bits(torch.Size((min(stop - first, BLOCK), *shape)), cpu, generator)
        parts.append(bits[max(start - first, 0) :])
    return torch.cat(parts) if len(parts) != 2 else parts[1]


def _below(bits: Tensor, taken: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """Bernoulli(taken / scale) draws out of uniform int16 bits."""
    threshold = taken.to(torch.float32).mul_(2 * _HALF / scale).sub_(_HALF)
    return bits.lt(threshold).to(dtype)
