"""Observations as they are stored, and how a stored value becomes the number a model sees."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass

import numpy as np
import torch
from torch import Tensor

from tightbound.batch import Batch, is_real, require_real, tensor_of
from tightbound.data.rows import Rows

BLOCK = 1024  # observations that share one seed when they are binarised for evaluation
EVAL_SEED = 20_130_620  # a constant, so that everyone evaluates on the same binarised pixels
UNNAMED = "data"  # the name of observations that nobody gave one
_HALF = 2**15


@dataclass(frozen=True, eq=False, repr=False)
class Observations:
    r"""N observations of one shape, kept as they are stored: 8-bit pixels stay 8-bit, a mapped file stays on disk.

    A model sees ``stored / scale``. With ``binarise`` it sees independent draws
    :math:`x_i \sim \mathrm{Bernoulli}(\text{stored}_i / \text{scale})` instead (Salakhutdinov & Murray 2008,
    https://doi.org/10.1145/1390156.1390266). :meth:`batch` makes new draws at every call, for training;
    :meth:`eval_batch` gives the same draws at every call, for evaluation. Probabilities are rounded to 2⁻¹⁶; 0 and 1
    are exact.

    With ``mask``, some values are absent: a model of your own sees 0 there. The library's models refuse a mask.

    Args:
        stored: the values, shape (N, \*shape), any real dtype: a tensor, an array, or what reads or makes asked rows.
        labels: the class of each observation, integers, shape (N,). Pictures and reports show them.
        label_names: what labels 0, 1, … are called. Where it is empty, labels are called by their number.
        factors: known factors or covariates of each observation, real numbers, shape (N, F).
        factor_names: what the F columns of ``factors`` are called; either empty or F different names.
        column_names: what the D columns of observations of shape (D,) are called; either empty or D different names.
        mask: which values are present, boolean, shape (N, \*shape). Where it is None, all are present.
        name: what error messages and reports call this data.
        scale: the stored value that means 1 (255 for 8-bit pixels).
        binarise: whether a model sees Bernoulli draws instead of grey values.
        rows: the rows of ``stored`` that these observations are, in order, integers. Where it is None, they are all
            rows. ``labels``, ``factors`` and ``mask`` have one row for each row of ``stored``.
        notes: what a person should know of how the values were read, a sentence each: of axes that were turned, and of
            what was left out.
        entropy: of the distribution that the observations were drawn from, nats an observation, where it is known. No
            model can need less than that on average.
        ask: a function that is called with rows of ``stored`` shortly before they are read. A file too large for
            memory uses it to read ahead.

    Raises:
        TypeError: if ``stored`` or ``factors`` are not dense real numbers, or ``mask`` is not boolean.
        ValueError: if there is no observation; if ``labels``, ``factors`` or ``mask`` have the wrong shape; if labels
            are not integers; if ``factor_names`` or ``column_names`` has the wrong length or a name twice; if ``scale``
            is not positive and finite; or if ``entropy`` is not finite.

    Example:
        >>> grey = Observations(torch.tensor([[0, 255], [255, 0]], dtype=torch.uint8), scale=255, binarise=True)
        >>> grey.batch(torch.tensor([1])).x
        tensor([[1., 0.]])

        Factors are passed on with each batch:

        >>> people = Observations(
        ...     torch.rand(3, 5),
        ...     factors=torch.tensor([[30, 1.7], [50, 1.6], [40, 1.8]]),
        ...     factor_names=("age", "height"),
        ... )
        >>> people.batch(torch.tensor([2])).factors
        tensor([[40.0000,  1.8000]])

        A mask marks missing values:

        >>> measured = torch.tensor([[1.0, math.nan], [3.0, 4.0]])
        >>> Observations(measured, mask=measured.isfinite()).eval_batch().x
        tensor([[1., 0.],
                [3., 4.]])
    """

    stored: Tensor | Rows
    labels: Tensor | None = None
    _: KW_ONLY
    label_names: tuple[str, ...] = ()
    factors: Tensor | None = None
    factor_names: tuple[str, ...] = ()
    column_names: tuple[str, ...] = ()
    mask: Tensor | None = None
    name: str = UNNAMED
    scale: float = 1.0
    binarise: bool = False
    rows: Tensor | None = None
    notes: tuple[str, ...] = ()
    entropy: float | None = None
    ask: Callable[[Tensor], None] | None = None

    def __post_init__(self) -> None:
        for field in ("stored", "labels", "factors", "mask", "rows"):
            if isinstance(value := getattr(self, field), np.ndarray):  # on whose memory a tensor looks
                of = self.name if field == "stored" else f"the {field} of {self.name}"
                object.__setattr__(self, field, tensor_of(value, of))
        require_real(self.stored, self.name)
        if self.stored.ndim < 2:
            raise ValueError(
                f"Expected observations of shape (N, ...); got {tuple(self.stored.shape)} in {self.name}. "
                "For N single numbers, add an axis: x[:, None]."
            )
        if len(self) == 0 or self.shape.numel() == 0:
            raise ValueError(
                f"Expected at least one observation; got an empty array in {self.name}. Check how it was made."
            )
        if self.labels is not None:
            self._check_labels(self.labels)
        self._check_factors()
        if self.column_names:
            self._check_names("column_names", self.column_names, tuple(self.shape), "the observations")
        if self.mask is not None:
            self._check_mask(self.mask)
        if not 0 < self.scale < math.inf:
            raise ValueError(
                f"Expected a positive, finite scale; got {self.scale} for {self.name}. "
                "Give the stored value that means 1: 255 for 8-bit pixels."
            )
        if self.entropy is not None and not math.isfinite(self.entropy):
            raise ValueError(f"Expected a finite entropy, or None; got {self.entropy} for {self.name}. Leave it out.")

    def _check_labels(self, labels: Tensor) -> None:
        if labels.shape != (len(self.stored),):
            raise ValueError(
                f"Expected one label for each of {len(self.stored)} observations; "
                f"got labels of shape {tuple(labels.shape)} in {self.name}. Turn one-hot labels into integers with "
                "labels.argmax(1); give other columns as factors: Observations(x, factors=...)."
            )
        if labels.is_floating_point() or labels.is_complex():
            raise ValueError(f"Expected integer labels; got {labels.dtype} in {self.name}. Store them as integers.")

    def _check_factors(self) -> None:
        names = self.factor_names
        if self.factors is None:
            if names:
                raise ValueError(
                    f"Expected factor_names only together with factors; got {len(names)} names and no factors in "
                    f"{self.name}. Give factors=... as well, or leave the names out."
                )
            return
        if not is_real(self.factors):
            raise TypeError(
                f"Expected factors that are dense real numbers; got {self.factors.dtype}, {self.factors.layout} in "
                f"{self.name}. Convert them first, for example with factors.to_dense()."
            )
        count, shape = len(self.stored), tuple(self.factors.shape)
        if len(shape) != 2 or shape[0] != count or shape[1] == 0:
            raise ValueError(
                f"Expected factors of shape (N, F) with N = {count}; got {shape} in {self.name}. "
                "Give one row for each observation; for a single factor, add an axis: factors[:, None]."
            )
        if names:
            self._check_names("factor_names", names, shape[1:], "factors")

    def _check_names(self, argument: str, names: tuple[str, ...], shape: tuple[int, ...], of: str) -> None:
        if len(shape) != 1 or len(names) != shape[0]:
            wanted = f"{shape[0]} {argument}" if len(shape) == 1 else f"no {argument}"
            raise ValueError(
                f"Expected {wanted}, one for each column of {of}; got {len(names)} in {self.name}. Name all, or none."
            )
        if repeated := sorted({each for each in names if names.count(each) > 1}):
            raise ValueError(
                f"Expected different {argument}; got {', '.join(repeated)} more than once in {self.name}. "
                "Rename the columns."
            )

    def _check_mask(self, mask: Tensor) -> None:
        if mask.dtype != torch.bool:
            raise TypeError(f"Expected a boolean mask; got {mask.dtype} in {self.name}. Use mask != 0, or mask.bool().")
        if mask.shape != self.stored.shape:
            raise ValueError(
                f"Expected a mask of shape {tuple(self.stored.shape)}, as the stored values have; "
                f"got {tuple(mask.shape)} in {self.name}. Give True or False for each value, for example with "
                "numpy.broadcast_to(mask, stored.shape)."
            )

    def __len__(self) -> int:
        return len(self.stored) if self.rows is None else len(self.rows)

    def __repr__(self) -> str:
        dtype = str(self.stored.dtype).removeprefix("torch.")
        return f"Observations({len(self)} of shape {tuple(self.shape)}, {dtype}, name={self.name!r})"

    def _repr_html_(self) -> str:
        from tightbound.data.shown import shown

        return shown(self)

    @property
    def shape(self) -> torch.Size:
        """The shape of one observation."""
        return self.stored.shape[1:]

    def replace(self, **changes: object) -> Observations:
        """Copy the observations with some fields changed, as ``dataclasses.replace`` does. No tensor is copied.

        Args:
            changes: new values of fields, by the fields' names.

        Returns:
            The new observations.

        Raises:
            TypeError: if there is no field of such a name, and as for the class.
            ValueError: as for the class.

        Example:
            >>> Observations(torch.zeros(2, 3)).replace(name="zeros")
            Observations(2 of shape (3,), float32, name='zeros')
        """
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def subset(self, indices: Tensor) -> Observations:
        """Select observations as a view: values, labels, factors and mask are shared, and nothing is copied.

        Args:
            indices: which observations, integers, shape (M,), in their order; or True and False, shape (N,).

        Returns:
            M observations.

        Raises:
            ValueError: if none is chosen, and for another number of True and False than N.

        Example:
            >>> Observations(torch.tensor([[1.0], [2.0], [3.0]])).subset(torch.tensor([2, 0])).eval_batch().x
            tensor([[3.],
                    [1.]])
        """
        indices = tensor_of(indices, "the indices")
        if indices.dtype == torch.bool:
            if indices.shape != (len(self),):
                raise ValueError(f"Expected True or False for each of {len(self)} rows; got {tuple(indices.shape)}.")
            indices = indices.nonzero()[:, 0]
        return self.replace(rows=indices if self.rows is None else self.rows[indices])

    def to(self, device: torch.device) -> Observations:
        """Move the values, and everything that belongs to them, to another device.

        Args:
            device: where to.

        Returns:
            The observations with all their tensors on ``device``. They have no ``ask`` unless that is the CPU: there is
            no file to read ahead in.

        Example:
            >>> Observations(torch.zeros(2, 1), torch.tensor([0, 1])).to(torch.device("meta")).labels.device
            device(type='meta')
        """
        tensors = {name: getattr(self, name) for name in ("stored", "labels", "factors", "mask", "rows")}
        moved = {name: None if value is None else value.to(device) for name, value in tensors.items()}
        return self.replace(**moved, ask=self.ask if device.type == "cpu" else None)

    def label(self, indices: Tensor) -> Tensor | None:
        """Look up labels.

        Args:
            indices: which observations, integers, shape (M,).

        Returns:
            Their labels, shape (M,), or None where there are no labels.

        Example:
            >>> Observations(torch.zeros(3, 1), torch.tensor([7, 8, 9])).label(torch.tensor([2, 0]))
            tensor([9, 7])
        """
        return self._at(self.rows_of(indices), self.labels)

    def factor_table(self) -> Tensor | None:
        """The known factors of these observations.

        Returns:
            Shape (N, F), or None where there are none.

        Example:
            >>> table = torch.tensor([[1.0], [2.0]])
            >>> Observations(torch.zeros(2, 3), factors=table).subset(torch.tensor([1])).factor_table()
            tensor([[2.]])
        """
        return self._at(self.rows_of(torch.arange(len(self))), self.factors)

    def take(self, indices: Tensor) -> Tensor:
        r"""Read stored values without changing them: they are not scaled, and absent ones are not replaced.

        Args:
            indices: which observations, integers, shape (M,).

        Returns:
            A copy of their stored values, shape (M, \*shape), in the dtype of ``stored``.

        Example:
            >>> Observations(torch.tensor([[0, 51], [255, 0]], dtype=torch.uint8), scale=255).take(torch.tensor([0]))
            tensor([[ 0, 51]], dtype=torch.uint8)
        """
        self.prefetch(indices)
        return self.stored.index_select(0, self.rows_of(indices))

    def prefetch(self, indices: Tensor) -> None:
        """Start to read observations from disk while something else goes on; do nothing if they are in memory.

        Args:
            indices: which observations, integers, shape (M,).

        Example:
            >>> Observations(torch.zeros(2, 1), ask=print).prefetch(torch.tensor([1]))
            tensor([1])
        """
        if self.ask is not None:
            self.ask(self.rows_of(indices))

    def batch(self, indices: Tensor, dtype: torch.dtype = torch.float32) -> Batch:
        r"""Make a batch for training. Binarised values are drawn anew at each call, from torch's global random state.

        Args:
            indices: which observations, integers, shape (M,).
            dtype: the floating-point type of ``x``, and of ``factors`` if they are floating-point numbers.

        Returns:
            A batch of M observations on the device of ``stored``: ``x`` of shape (M, \*shape), 0 at absent values, and
            ``label``, ``mask`` and ``factors``, each None where there are none.

        Example:
            >>> pixels = torch.tensor([[0, 51], [255, 0]], dtype=torch.uint8)
            >>> data = Observations(pixels, torch.tensor([5, 6]), scale=255)
            >>> batch = data.batch(torch.tensor([1, 0]))
            >>> batch.x, batch.label
            (tensor([[1.0000, 0.0000],
                    [0.0000, 0.2000]]), tensor([6, 5]))
        """
        taken = self.take(indices)
        bits = _random_bits(taken.shape, taken.device, None) if self.binarise else None
        return self._batch(indices, taken, bits, dtype)

    def eval_batch(self, start: int = 0, stop: int | None = None, dtype: torch.dtype = torch.float32) -> Batch:
        r"""Make a batch for evaluation: the same in every call and on every machine, binarised values included.

        Args:
            start: the first observation.
            stop: the observation after the last one; by default, and where it is too large, N.
            dtype: the floating-point type of ``x``, and of ``factors`` if they are floating-point numbers.

        Returns:
            A batch as from :meth:`batch`, of observations ``start`` to ``stop - 1``. It is empty where there are none.

        Example:
            >>> Observations(torch.tensor([[1.0], [2.0], [3.0]])).eval_batch(1, 3).x
            tensor([[2.],
                    [3.]])
        """
        stop = len(self) if stop is None else min(stop, len(self))
        indices = torch.arange(start, max(start, stop))
        bits = _eval_bits(start, stop, self.shape).to(self.stored.device) if self.binarise else None
        return self._batch(indices, self.take(indices), bits, dtype)

    def batches(self, size: int, dtype: torch.dtype = torch.float32) -> Iterator[Batch]:
        """Go through all observations in order, in batches as :meth:`eval_batch` makes them.

        Args:
            size: observations in a batch, at least 1; the last batch may be smaller.
            dtype: the floating-point type of ``x``, and of ``factors`` if they are floating-point numbers.

        Yields:
            One batch after another.

        Example:
            >>> [batch.size for batch in Observations(torch.zeros(5, 1)).batches(2)]
            [2, 2, 1]
        """
        for start in range(0, len(self), size):
            yield self.eval_batch(start, start + size, dtype)

    def unbinarised(self, indices: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        r"""Give ``stored / scale`` whether ``binarise`` is set or not: grey values for a person to look at.

        Args:
            indices: which observations, integers, shape (M,).
            dtype: the floating-point type of the values.

        Returns:
            The values, shape (M, \*shape), 0 where they are absent.

        Example:
            >>> grey = Observations(torch.tensor([[0, 51]], dtype=torch.uint8), scale=255, binarise=True)
            >>> grey.unbinarised(torch.tensor([0]))
            tensor([[0.0000, 0.2000]])
        """
        mask = self._at(self.rows_of(indices), self.mask)
        return _zero_absent(self._scaled(self.take(indices), dtype), mask)

    def rows_of(self, indices: Tensor) -> Tensor:
        """Where observations stand in what is stored: of a split, their rows in the whole.

        Args:
            indices: which observations, integers, shape (M,).

        Returns:
            Rows of ``stored``, shape (M,).

        Example:
            >>> Observations(torch.zeros(9, 1)).subset(torch.tensor([7, 2])).rows_of(torch.tensor([1]))
            tensor([2])
        """
        indices = indices.to(self.stored.device)
        return indices if self.rows is None else self.rows.to(indices.device)[indices]

    def _at(self, rows: Tensor, table: Tensor | None) -> Tensor | None:
        if table is None:
            return None
        return table.index_select(0, rows.to(table.device)).to(self.stored.device)

    def _batch(self, indices: Tensor, taken: Tensor, bits: Tensor | None, dtype: torch.dtype) -> Batch:
        x = self._scaled(taken, dtype) if bits is None else _below(bits, taken, self.scale, dtype)
        rows = self.rows_of(indices)
        mask, factors = self._at(rows, self.mask), self._at(rows, self.factors)
        if factors is not None and factors.is_floating_point():
            factors = factors.to(dtype)
        return Batch(_zero_absent(x, mask), label=self._at(rows, self.labels), mask=mask, factors=factors)

    def _scaled(self, taken: Tensor, dtype: torch.dtype) -> Tensor:
        values = taken.to(dtype)
        return values if self.scale == 1 else values.div_(self.scale)


def _zero_absent(x: Tensor, mask: Tensor | None) -> Tensor:
    """Replace absent values, which may be NaN, so that nothing computed from ``x`` becomes NaN because of them."""
    return x if mask is None else x.masked_fill_(~mask, 0)


def _random_bits(shape: torch.Size, device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Draw uniform int16 values, four from each 64-bit draw: a quarter of the work of one draw for each value."""
    words = torch.empty((shape.numel() + 3) // 4, dtype=torch.int64, device=device)
    words.random_(-(2**63), None, generator=generator)
    return words.view(torch.int16)[: shape.numel()].view(shape)


def _eval_bits(start: int, stop: int, shape: torch.Size) -> Tensor:
    """Bits for observations ``start`` to ``stop``: each block has its own seed, so any range gets the same bits."""
    cpu = torch.device("cpu")
    parts = [torch.empty((0, *shape), dtype=torch.int16)]
    for block in range(start // BLOCK, -(-stop // BLOCK)):
        first = block * BLOCK
        generator = torch.Generator().manual_seed(EVAL_SEED + block)
        bits = _random_bits(torch.Size((min(stop - first, BLOCK), *shape)), cpu, generator)
        parts.append(bits[max(start - first, 0) :])
    return torch.cat(parts) if len(parts) != 2 else parts[1]


def _below(bits: Tensor, taken: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """Turn uniform int16 bits into Bernoulli(taken / scale) draws."""
    threshold = taken.to(torch.float32).mul_(2 * _HALF / scale).sub_(_HALF)
    return bits.lt(threshold).to(dtype)
