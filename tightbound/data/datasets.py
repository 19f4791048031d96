"""Map-style data sets of torch: they have a length, and items x or (x, label)."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from tightbound.data.arrays import from_array
from tightbound.data.images import INDIRECT, plain
from tightbound.data.numbers import dense, tensor_of
from tightbound.data.observations import Observations

AGAIN = 16  # items that are read twice: a flip of one in two stays unseen once in 65536 times


def from_dataset(dataset: Dataset[Any], *, name: str = "data set") -> Observations:
    """Read every item of a data set once and keep it in memory.

    A few items are read again at the end. Where they differ, a random transform has made them: one draw of it is kept,
    and a warning says so.

    Pictures of PIL whose values are no colours, such as those with a palette, become RGB.

    Args:
        dataset: a map-style data set with items x or (x, label); all x have one shape and dtype.
        name: what error messages and reports call the data.

    Returns:
        One observation for each item.

    Raises:
        TypeError: if the data set is iterable only, or an item is not x or (x, label) with x an array of real numbers.
        ValueError: if the data set is empty, if its items differ in shape or dtype, or if some have labels, some none.

    Example:
        >>> from_dataset(TensorDataset(torch.zeros(5, 2), torch.arange(5))).labels
        tensor([0, 1, 2, 3, 4])
    """
    if isinstance(dataset, TensorDataset) and 1 <= len(dataset.tensors) <= 2:
        return from_array(dataset.tensors[0], labels=(*dataset.tensors, None)[1], name=name)
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise TypeError(
            f"Expected a data set with a length and items by number; got {type(dataset).__name__}. "
            "Collect its items first: torch.stack(list(dataset))."
        )
    if len(dataset) == 0:
        raise ValueError(
            f"Expected at least one observation; got an empty {type(dataset).__name__}. Check how it was made."
        )
    first, label = _item(dataset, 0, name)
    stored = first.new_empty((len(dataset), *first.shape))
    labels = [label]
    stored[0] = first
    for index in range(1, len(dataset)):
        value, label = _item(dataset, index, name)
        if value.shape != first.shape or value.dtype != first.dtype:
            raise ValueError(
                f"Expected items of shape {tuple(first.shape)} and {first.dtype}, as the first one; "
                f"got {tuple(value.shape)} and {value.dtype} at index {index} of {name}. "
                "Make them alike in the data set, for example with a transform."
            )
        if (label is None) != (labels[0] is None):
            first_has, this_has = ("none", "one") if labels[0] is None else ("one", "none")
            raise ValueError(
                f"Expected a label of every item or of none; got {first_has} at index 0 and {this_has} at index "
                f"{index} of {name}. Return (x, label) from its __getitem__ for all, or x alone."
            )
        stored[index] = value
        labels.append(label)
    _require_constant(dataset, stored, name)
    return from_array(stored, labels=None if labels[0] is None else labels, name=name)


def _require_constant(dataset: Dataset[Any], stored: Tensor, name: str) -> None:
    """Warn of a data set whose items are others when they are read again."""
    for index in torch.linspace(0, len(stored) - 1, min(AGAIN, len(stored))).long().tolist():
        value, kept = _item(dataset, index, name)[0], stored[index]
        if value.shape != kept.shape or bool(((value != kept) & ((value == value) | (kept == kept))).any()):
            warnings.warn(
                f"Expected items that are the same whenever they are read; got another one the second time at index "
                f"{index} of {name}, as of a random transform. One draw of each is kept for all epochs. Take the "
                "transform out of the data set and give it to fit, which draws anew in each step: "
                "transform=tb.data.transforms.Flip(), or a function of your own.",
                stacklevel=4,
            )
            return


def _item(dataset: Dataset[Any], index: int, name: str) -> tuple[Tensor, object]:
    item, where = dataset[index], f"item {index} of {name}"
    # A part of a TensorDataset of one tensor has items (x,).
    pair = item if isinstance(item, tuple | list) and len(item) == 2 else (item, None)
    value, label = (item[0], None) if isinstance(item, tuple) and len(item) == 1 else pair
    if type(value).__module__.partition(".")[0] == "PIL" and value.mode in INDIRECT:
        value = np.asarray(plain(value, where))
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        raise ValueError(
            f"Expected values that are all there; got a masked array with masked values at index {index} of {name}. "
            "Fill them in where the data set is made, item.filled(...), or give all as tb.Observations(x, mask=mask)."
        )
    if not isinstance(value, Tensor):
        array = np.asarray(value) if hasattr(value, "__array__") or hasattr(value, "__array_interface__") else None
        if array is None or array.dtype.kind not in "biuf":
            raise TypeError(
                f"Expected items x or (x, label), x an array of real numbers; got {type(item).__name__} "
                f"at index {index} of {name}. Return such items from its __getitem__."
            )
        value = array
    if isinstance(label, Tensor):
        label = dense(label, f"the label of {where}")
    return tensor_of(value, where), label.tolist() if isinstance(label, Tensor | np.ndarray) else label
