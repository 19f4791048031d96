"""One item of a data set: what of it is the observation, and what its label."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from tightbound.data.images import INDIRECT, plain
from tightbound.data.numbers import dense, tensor_of
from tightbound.surface import listed

LABELS = ("label", "labels", "target", "targets", "y", "cls", "class", "fine_label")  # what others call the label


def alike(items: Iterable[Any], name: str) -> Iterator[tuple[Tensor, object]]:
    """Each item as values and a label, all of one kind.

    Args:
        items: each x, (x,), (x, label), or a dict with one array among its values.
        name: what error messages call them.

    Yields:
        Values of one shape and dtype; and labels, or None for every item.

    Raises:
        TypeError: for an item that is none of these.
        ValueError: if items differ in shape or dtype, or some have labels, some none.

    Example:
        >>> list(alike([{"image": np.zeros(2), "label": 3, "file": "a.png"}], "photos"))
        [(tensor([0., 0.], dtype=torch.float64), 3)]
    """
    first, has = None, False
    for index, item in enumerate(items):
        value, label = parsed(item, index, name)
        if first is None:
            first, has = value, label is not None
        if value.shape != first.shape or value.dtype != first.dtype:
            raise ValueError(
                f"Expected items of shape {tuple(first.shape)} and {first.dtype}, as the first one; "
                f"got {tuple(value.shape)} and {value.dtype} at index {index} of {name}. "
                "Make them alike in the data set, for example with a transform."
            )
        if (label is not None) != has:
            first_has, this_has = ("one", "none") if has else ("none", "one")
            raise ValueError(
                f"Expected a label of every item or of none; got {first_has} at index 0 and {this_has} at index "
                f"{index} of {name}. Return (x, label) from its __getitem__ for all, or x alone."
            )
        yield value, label


def parsed(item: Any, index: int, name: str) -> tuple[Tensor, object]:
    """An item's values and its label, None where it has none.

    Args:
        item: as of :func:`alike`.
        index: its place, for the error.
        name: of the data set, for the error.

    Raises:
        TypeError: for an item that is none of these.
        ValueError: for masked values, and for several arrays in a dict.
    """
    where = f"item {index} of {name}"
    if isinstance(item, Mapping):
        value, label = _of_dict(item, index, name)
    else:
        # A part of a TensorDataset of one tensor has items (x,).
        pair = item if isinstance(item, tuple | list) and len(item) == 2 else (item, None)
        value, label = (item[0], None) if isinstance(item, tuple) and len(item) == 1 else pair
    if type(value).__module__.partition(".")[0] == "PIL" and value.mode in INDIRECT:
        value = np.asarray(plain(value, where))
    if isinstance(value, np.ma.MaskedArray) and np.ma.getmaskarray(value).any():
        raise ValueError(
            f"Expected values that are all there; got a masked array with masked values at index {index} of {name}. "
            "Fill them in where the data set is made, item.filled(...), or leave such items out."
        )
    if not isinstance(value, Tensor):
        array = np.asarray(value) if _is_array(value) or isinstance(item, Mapping) else None
        if array is None or array.dtype.kind not in "biuf":
            raise _not_an_item(item, index, name)
        value = array
    if isinstance(label, Tensor):
        label = dense(label, f"the label of {where}")
    return tensor_of(value, where), label.tolist() if isinstance(label, Tensor | np.ndarray) else label


def left_out(item: Any) -> tuple[str, ...]:
    """The keys of a dict that are neither the observation nor its label, nor begin with two underscores.

    Args:
        item: any.

    Example:
        >>> left_out({"image": np.zeros(2), "label": 3, "file": "a.png", "__key__": "a"})
        ('file',)
    """
    if not isinstance(item, Mapping):
        return ()
    used = {*_arrays(item), _label(item)}
    return tuple(str(key) for key in item if key not in used and not str(key).startswith("__"))


def _of_dict(item: Mapping[Any, Any], index: int, name: str) -> tuple[Any, object]:
    arrays, label = _arrays(item), _label(item)
    if len(arrays) > 1:
        raise ValueError(
            f"Expected items with one array in each; got {listed(map(repr, arrays))} at index {index} of {name}. "
            f"Choose one: (item[{arrays[0]!r}] for item in x), or of Hugging Face's x.select_columns([{arrays[0]!r}])."
        )
    if not arrays:
        raise _not_an_item(item, index, name)
    return item[arrays[0]], None if label is None else item[label]


def _arrays(item: Mapping[Any, Any]) -> list[Any]:
    """The keys of arrays, pictures, and lists of numbers."""
    label = _label(item)
    found = [key for key, value in item.items() if key != label and (_is_array(value) or isinstance(value, list))]
    return [key for key in found if np.ndim(item[key]) > 0]


def _label(item: Mapping[Any, Any]) -> Any:
    """The key of the label: the first that is called so and holds one value."""
    return next(
        (key for key in LABELS if key in item and not isinstance(item[key], bytes) and np.ndim(item[key]) == 0), None
    )


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor) or hasattr(value, "__array__") or hasattr(value, "__array_interface__")


def _not_an_item(item: Any, index: int, name: str) -> TypeError:
    remedy = "Return such items from its __getitem__."
    if isinstance(item, Mapping):
        coded = [key for key, value in item.items() if isinstance(value, bytes) and key not in LABELS]
        remedy = "Let one of its values be an array or a picture."
        if coded:
            remedy = f"Decode {coded[0]!r}, which holds bytes: of WebDataset's with .decode('pil')."
    return TypeError(
        f"Expected items x or (x, label), x an array of real numbers; got {type(item).__name__} "
        f"at index {index} of {name}. {remedy}"
    )
