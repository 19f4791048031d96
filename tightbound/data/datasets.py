"""Data sets of items, whoever made them: torch's and Hugging Face's, data loaders, shards, any class that iterates.

All of them are read once, item by item, into memory or, with :func:`write`, into a file. What never ends is no data
set: take a part of it.
"""

from __future__ import annotations

import io
import itertools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
    default_convert,
)

from tightbound.data.arrays import from_array, read_npy
from tightbound.data.items import alike, left_out, parsed
from tightbound.data.labels import encode
from tightbound.data.mapped import require_memory
from tightbound.data.numbers import tensor_of
from tightbound.data.observations import Observations
from tightbound.files import write_atomically
from tightbound.progress import progress

__all__ = ["dataset_of", "from_dataset", "is_data_set", "write"]

MOST_BYTES = 2**31  # of values that an iterable without a length may have, for it to be read into memory
ROWS = 1024  # among which an item is looked for in one go
AGAIN = 16  # items that are read twice: a flip of one in two stays unseen once in 65536 times


def is_data_set(source: object) -> bool:
    """Whether an object gives items, by number or one after another, and is no plain container.

    Args:
        source: any.

    Example:
        >>> is_data_set(torch.utils.data.TensorDataset(torch.zeros(2))), is_data_set(iter([])), is_data_set([1, 2])
        (True, True, False)
    """
    contained = isinstance(source, str | bytes | list | tuple | set | frozenset | Mapping | type)
    array = isinstance(source, Tensor) or hasattr(source, "__array__") or hasattr(source, "toarray")  # dense or sparse
    plain = contained or array
    return not plain and (isinstance(source, Dataset) or hasattr(source, "__iter__") or _is_numbered(source))


def from_dataset(source: Any, *, name: str = "data set") -> Observations:
    """Read every item once and keep it in memory.

    A few items are read again at the end. Where they differ, a random transform has made them: one draw of it is kept,
    and a warning says so. Pictures of PIL whose values are no colours, such as those with a palette, become RGB.

    Args:
        source: what has a length and items by number, or what iterates and comes to an end; a data loader gives its
            data set. Items are x, (x, label) or dicts with one array among them; all x have one shape and dtype.
        name: what error messages and reports call the data.

    Returns:
        One observation for each item.

    Raises:
        TypeError: if an item is none of these, or there is neither a length nor a way to iterate.
        ValueError: if there is no item, if items differ in shape or dtype, if some have labels, some none; if they do
            not fit into memory, or are more than 2 GiB where nobody knows how many there are; and for a loader that
            samples or collates in a way of its own.

    Example:
        >>> from_dataset(TensorDataset(torch.zeros(5, 2), torch.arange(5))).labels
        tensor([0, 1, 2, 3, 4])
    """
    source = dataset_of(source) if isinstance(source, DataLoader) else source
    if isinstance(source, TensorDataset) and 1 <= len(source.tensors) <= 2:
        return from_array(source.tensors[0], labels=(*source.tensors, None)[1], name=name)
    items, count = _opened(source)
    first, given = _first(items(), source)
    labels: list[object] = []
    with progress(f"reading {name}", count, unit="items") as advance:
        values = _apart(alike(given, name), labels, advance)
        stored = _gathered(values, name) if count is None else _stacked(values, count, name)
    _require_constant(source, items, stored, name)
    made = from_array(stored, labels=None if labels[0] is None else labels, name=name)
    return made.replace(notes=(*made.notes, *_on_keys(first, name)))


def write(source: Any, path: str | os.PathLike[str]) -> Observations:
    """Write items into a ``.npy`` file, one after another in little memory, and read them from there.

    So a stream that is larger than memory, or that can be read only once, becomes data like any other: shuffled, held
    out, and read again by a run that goes on. Later :func:`tightbound.data.load` reads the file, without the labels.

    Args:
        source: as :func:`tightbound.data.observations` takes data sets; it must come to an end.
        path: a new file, its name ending in ``.npy``.

    Returns:
        Observations that are read from the file, with their labels if there are any.

    Raises:
        TypeError: for what gives no items, and for items that are no data.
        ValueError: for a path that exists or has another ending, and as for data sets.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data = write((torch.full((3,), float(i)) for i in range(5)), f"{folder}/x.npy")
        ...     data.take(torch.tensor([4]))
        tensor([[4., 4., 4.]])
    """
    path = Path(os.path.expanduser(path))
    if path.suffix != ".npy" or path.exists():
        got = "one that is there already" if path.suffix == ".npy" else path.name
        raise ValueError(
            f"Expected a new file whose name ends in .npy; got {got}: {path}. Choose another, or read what is there: "
            f"tb.data.load({str(path)!r})."
        )
    if not is_data_set(source):
        raise TypeError(f"Expected a data set or another iterable of items; got {type(source).__name__}.")
    source = dataset_of(source) if isinstance(source, DataLoader) else source
    items, count = _opened(source)
    first, given = _first(items(), source)
    labels: list[object] = []
    with progress(f"writing {path.name}", count, unit="items") as advance:
        values = _apart(alike(given, str(path)), labels, advance)
        write_atomically(path, lambda temporary: _put(values, temporary))
    codes, names = encode([None if labels[0] is None else labels], str(path))
    made = read_npy(path)
    if count is not None:  # what only iterates is written to be read once
        _require_constant(source, items, tensor_of(np.load(path, mmap_mode="r"), str(path)), str(path))
    return made.replace(labels=codes[0], label_names=names, notes=(*made.notes, *_on_keys(first, str(path))))


def dataset_of(loader: DataLoader[Any]) -> Any:
    """What a data loader reads from, where it does nothing that would be lost.

    Args:
        loader: any.

    Returns:
        Its data set.

    Raises:
        ValueError: for a sampler or a collate_fn of one's own.

    Example:
        >>> len(dataset_of(DataLoader(TensorDataset(torch.zeros(5, 2)), batch_size=2, shuffle=True)))
        5
    """
    sampler, dataset = loader.sampler, cast(Any, loader.dataset)
    usual = isinstance(dataset, IterableDataset) or type(sampler) in (SequentialSampler, RandomSampler)
    drawn = isinstance(sampler, RandomSampler) and (sampler.replacement or sampler.num_samples != len(dataset))
    batched = loader.batch_size is None and loader.batch_sampler is not None
    if batched or drawn or not usual:
        raise ValueError(
            f"Expected a DataLoader without a sampler of its own, as each observation is seen once in an epoch; got "
            f"{type(loader.batch_sampler if batched else sampler).__name__}. Give the observations as they are to be "
            "seen: tb.data.observations(loader.dataset).subset(rows)."
        )
    if loader.collate_fn not in (default_collate, default_convert):
        called = getattr(loader.collate_fn, "__qualname__", repr(loader.collate_fn))
        raise ValueError(
            f"Expected a DataLoader without a collate_fn of its own, as items are read one by one; got {called}. Let "
            "the data set's __getitem__ give what it makes of an item, and give loader.dataset."
        )
    return loader.dataset


def _is_numbered(source: Any) -> bool:
    numbered = hasattr(type(source), "__getitem__") and hasattr(source, "__len__")
    return numbered and not isinstance(source, IterableDataset)  # which inherits the one, and may have the other


def _opened(source: Any) -> tuple[Callable[[], Iterator[Any]], int | None]:
    """What gives the items from the beginning, and how many there are, where that is known."""
    if _is_numbered(source):
        return (lambda: (source[index] for index in range(len(source)))), len(source)
    if not hasattr(source, "__iter__"):
        raise TypeError(
            f"Expected a data set with a length and items by number, or one that iterates; got "
            f"{type(source).__name__}. Collect its items first: torch.stack(list(dataset))."
        )
    return (lambda: iter(source)), None


def _first(items: Iterator[Any], source: Any) -> tuple[Any, Iterator[Any]]:
    """The first item, and all of them with it."""
    try:
        first = next(items)
    except StopIteration:
        raise ValueError(
            f"Expected at least one observation; got an empty {type(source).__name__}. Check how it was made."
        ) from None
    return first, itertools.chain([first], items)


def _apart(
    pairs: Iterator[tuple[Tensor, object]], labels: list[object], advance: Callable[[int], None]
) -> Iterator[Tensor]:
    """The values alone; labels go into the list."""
    for value, label in pairs:
        labels.append(label)
        advance(1)
        yield value


def _stacked(values: Iterator[Tensor], count: int, name: str) -> Tensor:
    first = next(values)
    require_memory(
        count * first.numel() * first.element_size(),
        of=f"{count:,} items of shape {tuple(first.shape)} in {name}",
        remedy="Write them into a file, from which they are read: tb.data.write(dataset, 'x.npy').",
    )
    stored = first.new_empty((count, *first.shape))
    for index, value in enumerate(itertools.chain([first], values)):
        stored[index] = value
    return stored


def _gathered(values: Iterator[Tensor], name: str) -> Tensor:
    kept, size = [], 0
    for value in values:
        kept.append(value.clone())  # what iterates may fill the same array again and again
        size += value.numel() * value.element_size()
        if size > MOST_BYTES:
            raise ValueError(
                f"Expected an iterable that ends within {MOST_BYTES / 2**30:g} GiB, which is kept in memory; got more "
                f"in {name}, after {len(kept):,} items. Write it into a file, from which it is read: tb.data.write(x, "
                "'x.npy'). Of one without an end take a part: itertools.islice(x, 100_000)."
            )
    return torch.stack(kept)


def _put(values: Iterator[Tensor], path: Path) -> None:
    """Write values as NumPy does, whose header has room for a count of any length: it is written again at the end."""
    count = 0
    form: tuple[Any, tuple[int, ...]] = ("", ())
    with path.open("wb") as file:
        for value in values:
            plain = value.float() if value.dtype == torch.bfloat16 else value  # of which NumPy has none
            array = np.ascontiguousarray(plain.cpu().numpy())
            if count == 0:
                form = (np.lib.format.dtype_to_descr(array.dtype), array.shape)
                file.write(_header(0, *form))
            file.write(array.tobytes())
            count += 1
        file.seek(0)
        file.write(_header(count, *form))


def _header(count: int, dtype: Any, shape: tuple[int, ...]) -> bytes:
    made = io.BytesIO()
    facts = {"descr": dtype, "fortran_order": False, "shape": (count, *shape)}
    np.lib.format.write_array_header_1_0(made, facts)
    return made.getvalue()


def _on_keys(first: Any, name: str) -> list[str]:
    left = left_out(first)
    return [f"{', '.join(left)} of the items of {name} {'were' if len(left) > 1 else 'was'} left out"] if left else []


def _require_constant(source: Any, items: Callable[[], Iterator[Any]], stored: Tensor, name: str) -> None:
    """Warn of items that are others when they are read again; those that iterate may come in another order."""
    numbered, count = _is_numbered(source), min(AGAIN, len(stored))
    again: Iterable[tuple[int, Any]] = ()
    if not numbered and (once_more := items()) is not source:  # else it is read up
        again = enumerate(itertools.islice(once_more, count))
    if numbered:
        rows = torch.linspace(0, len(stored) - 1, count).long().tolist()
        again = ((row, source[row]) for row in rows)
    for row, item in again:
        value = parsed(item, row, name)[0]
        found = _is_among(value, stored[row : row + 1])
        if not (found or (not numbered and any(_is_among(value, part) for part in stored.split(ROWS)))):
            warnings.warn(
                f"Expected items that are the same whenever they are read; got another one the second time at index "
                f"{row} of {name}, as of a random transform. One draw of each is kept for all epochs. Take the "
                "transform out of the data set and give it to fit, which draws anew in each step: "
                "transform=tb.data.transforms.Flip(), or a function of your own.",
                stacklevel=4,
            )
            return


def _is_among(value: Tensor, rows: Tensor) -> bool:
    """Whether one of the rows has these values; a NaN is the same as another."""
    if value.shape != rows.shape[1:]:
        return False
    same = (rows == value) | ((rows != rows) & (value != value))
    return bool(same.reshape(len(rows), -1).all(1).any())
