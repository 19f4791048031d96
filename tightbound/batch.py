"""A batch as a value: observations, and whatever belongs to each of them."""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.frames import plain_columns

WHOLE = {torch.bool, torch.int8, torch.int16, torch.int32, torch.int64}
UNSIGNED = {torch.uint8, torch.uint16, torch.uint32, torch.uint64}
REAL = WHOLE | UNSIGNED | {torch.float16, torch.bfloat16, torch.float32, torch.float64}


class Batch(NamedTuple):
    r"""B observations with what is known about each: a plain value that objectives and models take, and that compiles.

    Wherever a batch is expected a bare tensor is taken as well, as ``Batch(x)``. The built-in ``len`` counts the fields
    of a tuple; :attr:`size` counts observations.

    Args:
        x: observations, shape (B, \*shape).
        label: the class of each, integers, shape (B,).
        mask: which elements of ``x`` are present, boolean, shape as ``x``; all of them where it is None.
        factors: known factors or covariates of each, shape (B, F).
        q: the posterior at ``x`` once a model has made it (:meth:`~tightbound.model.Model.encoded`), so that ``x`` is
            encoded once however often the posterior is asked.
        checked: whether every value of ``x`` is known to lie in the likelihood's support, so that nobody looks again.

    Example:
        >>> batch = Batch(torch.zeros(3, 5), label=torch.tensor([0, 1, 1]))
        >>> batch.size, batch.rows(slice(1, 3)).label
        (3, tensor([1, 1]))
    """

    x: Tensor
    label: Tensor | None = None
    mask: Tensor | None = None
    factors: Tensor | None = None
    q: Distribution | None = None
    checked: bool = False

    @property
    def size(self) -> int:
        """How many observations there are, B."""
        return self.x.shape[0]

    def rows(self, index: slice | Tensor) -> Batch:
        """Some of the observations, without the posterior that was made at all of them.

        Args:
            index: a slice, or indices of shape (N,).

        Returns:
            A batch of those observations.

        Example:
            >>> Batch(torch.arange(3.0)[:, None]).rows(torch.tensor([2, 0])).x
            tensor([[2.],
                    [0.]])
        """
        taken = (None if value is None else value[index] for value in (self.x, self.label, self.mask, self.factors))
        x, label, mask, factors = taken
        return Batch(self.x if x is None else x, label, mask, factors, None, self.checked)

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Batch:
        """The same batch on another device, ``x`` and ``factors`` in another floating-point type if one is given.

        Args:
            device: where to.
            dtype: the floating-point type; as it is where it is None.

        Returns:
            The moved batch, without its posterior.

        Example:
            >>> Batch(torch.zeros(2, 1)).to(torch.device("cpu"), torch.float64).x.dtype
            torch.float64
        """

        def moved(value: Tensor | None) -> Tensor | None:
            if value is None:
                return None
            wanted = dtype if value.is_floating_point() else None
            return value.to(device=device, dtype=wanted, non_blocking=True)

        x = self.x.to(device=device, dtype=dtype, non_blocking=True)
        return Batch(x, moved(self.label), moved(self.mask), moved(self.factors), None, self.checked)


def as_batch(x: Tensor | Batch) -> Batch:
    """A batch as it is, and a bare tensor of observations as a batch of nothing else.

    Args:
        x: a batch, or B observations.

    Returns:
        The batch.

    Raises:
        TypeError: for anything else.

    Example:
        >>> as_batch(torch.zeros(2, 3)).size
        2
    """
    if isinstance(x, Batch):
        return x
    if not isinstance(x, Tensor):
        raise TypeError(
            f"Expected a tensor of observations or a Batch; got {type(x).__name__}. Convert it: torch.as_tensor(x)."
        )
    return Batch(x)


def require_whole(count: Any, of: str) -> None:
    """Refuse to count by what is no whole number.

    Args:
        count: of something.
        of: what is counted, for the error.

    Raises:
        TypeError: for a fraction, a text and the like.
    """
    try:
        operator.index(count)
    except TypeError:
        raise TypeError(f"Expected a whole number of {of}; got {count!r}. Give an int, such as 100.") from None


def require_some(batch_size: int) -> None:
    """Refuse to go through observations none at a time.

    Raises:
        TypeError: for a batch size that is no whole number.
        ValueError: for one below 1.
    """
    require_whole(batch_size, "observations at a time")
    if batch_size < 1:
        raise ValueError(f"Expected a batch_size of at least 1; got {batch_size}.")


def blocks_of(x: Any, size: int, device: torch.device, dtype: torch.dtype) -> Iterator[Batch]:
    """Some observations at a time: of a batch, of an array, or of what gives its own batches.

    Args:
        x: observations, as :meth:`tightbound.Model.embed` takes them.
        size: how many at a time.
        device: where they are wanted.
        dtype: the floating-point type that they are wanted in.

    Raises:
        TypeError: for what holds no dense real numbers.
        ValueError: for no observation, one without its axis, and values that are not there or not finite.
    """
    if hasattr(x, "batches") and not isinstance(x, Batch):
        blocks, name, rows = x.batches(size, dtype), x.name, x.rows_of(torch.arange(len(x)))
    else:
        batch = x if isinstance(x, Batch) else Batch(x)
        whole = batch._replace(x=observed_in(batch.x))
        blocks = (whole.rows(slice(start, start + size)) for start in range(0, whole.size, size))
        name, rows = "x", torch.arange(whole.size)
    for index, block in enumerate(blocks):
        moved = block.to(device, dtype)
        if moved.mask is None:
            require_finite(moved.x, rows[index * size :], name)
        yield moved


def observed_in(x: Any) -> Tensor:
    r"""A tensor of observations, made of whatever holds numbers.

    Args:
        x: a tensor, an array or a list, shape (N, \*shape).

    Raises:
        TypeError: for anything else.
        ValueError: for no observation, one without its axis, and a mask that hides values.

    Example:
        >>> observed_in([[1.0, 2.0]]).shape
        torch.Size([1, 2])
    """
    if not (isinstance(x, Tensor | list | tuple) or hasattr(x, "__array__")):
        remedy = "tb.data.observations(x) makes observations of other things, or says how."
        if isinstance(x, str):
            remedy = f"Read the file first: tb.data.load({x!r}).test, or numpy.load for all of its rows."
        if hasattr(x, "train") and hasattr(x, "test"):
            remedy = "Of a data set with splits give one: data.test."
        raise TypeError(f"Expected a tensor, an array, a Batch or Observations; got {type(x).__name__}. {remedy}")
    found = tensor_of(x, "x")
    if found.ndim < 2:
        raise ValueError(
            f"Expected observations of shape (N, ...); got {tuple(found.shape)}. A single observation is a batch of "
            "one, x[None]; N single numbers want an axis, x[:, None]."
        )
    if found.numel() == 0:
        raise ValueError("Expected at least one observation; got an empty array. Check how it was made.")
    return found


@contextmanager
def told_by_shape(x: Any) -> Iterator[None]:
    """What a network says of observations of another shape, told by theirs: often one of them without its axis.

    Args:
        x: observations, as :meth:`tightbound.Model.embed` takes them.

    Raises:
        ValueError: in place of what torch says of sizes.
    """
    try:
        yield
    except RuntimeError as error:
        first = (str(error).splitlines() or [""])[0]
        if not re.search("shape|size|channels", first) or "memory" in first:
            raise
        shape = tuple(x.shape if hasattr(x, "batches") else observed_in(x.x if isinstance(x, Batch) else x).shape[1:])
        raise ValueError(
            f"Expected observations of the shape that the network takes; got {shape} each ({first}). A single "
            "observation is a batch of one: x[None]."
        ) from error


def complete(x: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A tensor of observations where a model is, every value finite.

    Args:
        x: as :func:`observed_in` takes it.
        device: where it is wanted.
        dtype: the floating-point type that it is wanted in.

    Raises:
        TypeError: as :func:`observed_in`.
        ValueError: likewise, and for values that are not finite.
    """
    found = observed_in(x).to(device, dtype)
    require_finite(found, torch.arange(len(found)), "x")
    return found


def tensor_of(value: Any, name: str) -> Tensor:
    """A tensor as it is, and an array or a list as a tensor, which shares its memory where that is possible.

    Args:
        value: dense real numbers.
        name: what error messages call them.

    Raises:
        TypeError: for other numbers, and for Python objects.
        ValueError: for a masked array whose mask hides values.

    Example:
        >>> tensor_of(np.arange(3, dtype=">i4")[::-1], "these")
        tensor([2, 1, 0], dtype=torch.int32)
    """
    if isinstance(value, Tensor):
        require_real(value, name)
        return value
    value = plain_columns(value, name)
    try:
        array = np.asanyarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _no_array(value, name, error) from None
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        made = "" if hasattr(value, "__array__") else "With x = numpy.array(x): "
        got = f"got dtype {array.dtype} in {name}"
        raise TypeError(f"Expected an array of real numbers; {got}. {made}{_remedy(array)}")
    array = _all_there(array, name)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if any(stride < 0 for stride in array.strides):
        array = np.ascontiguousarray(array)
    with warnings.catch_warnings():  # a file mapped for reading is not writable, but nothing here writes to it
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
        return torch.from_numpy(array)


def _no_array(value: Any, name: str, error: Exception) -> TypeError:
    if isinstance(value, list | tuple):
        sizes = [len(row) if hasattr(row, "__len__") else 1 for row in value]
        other = next((row for row, size in enumerate(sizes) if size != sizes[0]), None)
        if other is not None:
            return TypeError(
                f"Expected rows of one length; got {sizes[0]} values in row 0 and {sizes[other]} in row {other} of "
                f"{name}. Fill up the shorter rows, or cut the longer ones."
            )
    return TypeError(
        f"Expected an array of real numbers; got a {type(value).__name__} in {name} of which NumPy makes none "
        f"({error}). Give rows of one length, as plain numbers."
    )


def _remedy(array: np.ndarray) -> str:
    """The line that makes real numbers of an array, and loses none."""
    dtype, kind = array.dtype, array.dtype.kind
    if kind == "M":
        x = 'x.astype("M8[s]")' if np.datetime_data(dtype)[0] in "YM" else "x"  # a year has no fixed length
        return f'Take the seconds since the first: ({x} - {x}.min()) / numpy.timedelta64(1, "s").'
    if kind == "m":
        return f'Take the number of its units: x / numpy.timedelta64(1, "{np.datetime_data(dtype)[0]}").'
    if kind == "c":
        join = "stack" if array.ndim in (1, 3) else "concatenate"  # columns beside columns, channels beside channels
        return f"Take its real and its imaginary part: numpy.{join}([x.real, x.imag], axis=1)."
    if dtype.names:
        numbers = [name for name in dtype.names if dtype[name].base.kind in "biuf"]
        fields = "x" if len(numbers) == len(dtype.names) else f"x[{numbers}]"
        line = f"numpy.lib.recfunctions.structured_to_unstructured({fields})"
        return f"Make columns of its fields: import numpy.lib.recfunctions; {line}."
    if kind == "O" and any(isinstance(each, str) for each in array.flat):
        return "Leave out what is text, or give it as labels: (x, labels)."
    if kind == "O":
        some = "x != None" if array.ndim < 2 else f"(x != None).all(axis={(*range(1, array.ndim),)})"
        return f"Drop what is None, or fill it in, before you convert it: x[{some}].astype(numpy.float64)."
    if kind in "UST":
        return (
            "If its words are numbers, convert it: x.astype(numpy.float64). Otherwise give them as labels: (x, labels)."
        )
    if kind == "f":
        return "Convert it: x.astype(numpy.float64)."
    return "Read its bytes as the numbers that they are: x.view(numpy.uint8)."


def _all_there(array: np.ndarray, name: str) -> np.ndarray:
    """A masked array without its mask, which must hide nothing."""
    if not isinstance(array, np.ma.MaskedArray):
        return array
    hidden = np.ma.getmaskarray(array)
    if hidden.any():
        rows = np.flatnonzero(hidden.reshape(len(hidden), -1).any(1)) if array.ndim else np.zeros(1, int)
        raise ValueError(
            f"Expected values that are all there; got a masked array with {int(hidden.sum())} values masked, in "
            f"{len(rows)} of {len(hidden) if array.ndim else 1} rows of {name}, the first at row {rows[0]}. Drop those "
            "rows, x[~x.mask.any(1)].data, or fill in their values, x.filled(...)."
        )
    return np.asarray(array.data)


def is_real(values: Any) -> bool:
    """Whether a tensor, or what stands in its place, holds dense real numbers."""
    return values.dtype in REAL and values.layout == torch.strided


def require_real(values: Any, name: str) -> None:
    """Refuse what is_real refuses.

    Raises:
        TypeError: for complex numbers, sparse tensors and the like.
    """
    if not is_real(values):
        raise TypeError(
            f"Expected dense real numbers; got {values.dtype}, {values.layout} in {name}. "
            "Convert them first: x.to_dense() for sparse, torch.view_as_real(x) for complex tensors."
        )


def require_finite(x: Tensor, rows: Tensor, name: str) -> None:
    r"""Look whether every value is finite.

    Args:
        x: observations as the model sees them, shape (B, \*shape).
        rows: their numbers, for the error.
        name: of the data, for the error.

    Raises:
        ValueError: for NaN and infinity, with the first row.
    """
    bad = x.flatten(1).isfinite().all(1).logical_not()
    if bad.any():
        index, dtype = int(rows[int(bad.nonzero()[0, 0])]), str(x.dtype).removeprefix("torch.")
        raise ValueError(
            f"Expected finite values; got NaN or infinity in observation {index} of {name}, as {dtype} holds it. "
            "Leave such observations out, fill in what is missing, or rescale what is too large."
        )
