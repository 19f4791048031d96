"""Labels as people keep them, numbers or words, turned into integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def encode(parts: Sequence[object | None], name: str) -> tuple[list[Tensor | None], tuple[str, ...]]:
    """Integer labels for each part (a training and a test set, say), and their names where numbers do not say it.

    Integers from 0 up, and floats that are such integers, stay what they are and get no names. Words and negative
    integers are numbered in sorted order over all parts together. A part that
    is None, for want of labels, stays None.

    Raises:
        ValueError: for labels that are not one axis of integers or words; ``name`` says whose they are.

    Example:
        >>> encode([["cat", "dog"], ["ant"]], "pets")
        ([tensor([1, 2]), tensor([0])], ('ant', 'cat', 'dog'))
    """
    columns = [np.empty(0, np.uint8) if part is None else _column(part, name) for part in parts]
    joined = np.concatenate([column for column in columns if len(column)] or columns)
    names: tuple[str, ...] = ()
    if joined.dtype.kind in "USO":
        words, joined = np.unique(joined.astype(str), return_inverse=True)
        names = tuple(words.tolist())
    elif joined.size and joined.min() < 0:
        numbers, joined = np.unique(joined.astype(np.int64), return_inverse=True)
        names = tuple(map(str, numbers.tolist()))
    codes = torch.from_numpy(joined.astype(np.int64)).split([len(column) for column in columns])
    return [None if part is None else code for part, code in zip(parts, codes, strict=True)], names


def _column(part: object, name: str) -> np.ndarray:
    array = np.asarray(part.detach().cpu() if isinstance(part, Tensor) else part)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(
            f"Expected labels of shape (N,); got {array.shape} in {name}. One-hot labels: labels.argmax(1). "
            "A training and a test set: tightbound.data.Data(name, train, test)."
        )
    kind = array.dtype.kind
    words = kind in "US" or (kind == "O" and all(isinstance(label, str) for label in array))
    if not (words or kind in "biu" or (kind == "f" and _all_whole(array))):
        raise ValueError(f"Expected labels that are integers or words; got {array.dtype} in {name}. Leave them out.")
    return array


def _all_whole(array: np.ndarray) -> bool:
    return bool(np.all(np.isfinite(array) & (array == np.floor(array))))
