"""Labels, numbers or words, turned into integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tightbound.data.numbers import dense
from tightbound.surface import some

MOST = 1_000_000  # labels up to here are taken for the number of a class


def encode(parts: Sequence[object | None], name: str) -> tuple[list[Tensor | None], tuple[str, ...]]:
    """Turn the labels of several parts, such as a training and a test set, into integers that mean the same in all.

    Whole numbers from 0 up to a million stay as they are and get no names. Words, negative integers and larger ones are
    numbered in sorted order over all parts together.

    Args:
        parts: the labels of each part, shape (N,) or (N, 1); None for a part without labels.
        name: what error messages call the data.

    Returns:
        For each part, int64 labels of shape (N,), or None where it has none; and the names of labels 0, 1, …, which are
        empty where the labels were whole numbers from 0 up.

    Raises:
        TypeError: if labels are a sparse or nested tensor.
        ValueError: if labels have another shape, are masked, or are not integers that 64 bits hold or words.

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
    elif joined.size and (joined.min() < 0 or joined.max() > MOST):
        numbers, joined = np.unique(joined.astype(np.int64), return_inverse=True)
        names = tuple(map(str, numbers.tolist()))
    codes = torch.from_numpy(joined.astype(np.int64)).split([len(column) for column in columns])
    return [None if part is None else code for part, code in zip(parts, codes, strict=True)], names


def apart(codes: Sequence[Tensor | None], names: Sequence[str]) -> list[str]:
    """What is to be said of labels that only one of a training and a test set has.

    Args:
        codes: the labels of the training set and of the test set, as :func:`encode` gives them.
        names: of the labels, or none.

    Returns:
        A sentence each.

    Example:
        >>> apart([torch.tensor([0, 1]), torch.tensor([1, 2])], ("ant", "cat", "dog"))
        ['only the training set has the labels ant', 'only the test set has the labels dog']
    """
    train, test = (None if part is None else set(part.tolist()) for part in codes)
    if train is None or test is None:
        has, lacks = ("training", "test") if test is None else ("test", "training")
        return [f"the {has} set has labels, and the {lacks} set has none"] if train or test else []
    return [
        f"only the {which} set has the labels {some([names[code] if names else str(code) for code in sorted(lone)], 5)}"
        for which, lone in (("training", train - test), ("test", test - train))
        if lone
    ]


def _column(part: object, name: str) -> np.ndarray:
    array = _array(part, name)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(
            f"Expected labels of shape (N,); got {array.shape} in {name}. Turn one-hot labels into integers with "
            "labels.argmax(1). Give other columns as factors: tightbound.data.Observations(x, factors=...). "
            "Give a training and a test set as tightbound.data.Data(name, train, test)."
        )
    kind = array.dtype.kind
    words = kind in "US" or (kind == "O" and all(isinstance(label, str) for label in array))
    if not (words or kind in "biu" or (kind == "f" and _all_whole(array))):
        raise ValueError(
            f"Expected labels that are integers or words; got {array.dtype} in {name}. Convert them, leave them out, "
            "or give them as factors: tightbound.data.Observations(x, factors=...)."
        )
    if not words and array.size and not -(2**63) <= float(array.min()) <= float(array.max()) < 2**63:
        raise ValueError(
            f"Expected labels that are integers of 64 bits or words; got one of {float(np.abs(array).max()):.3g} in "
            f"{name}. Number the classes from 0, or leave the labels out."
        )
    return array.astype(np.int64) if not words and kind in "uf" else array


def _array(part: object, name: str) -> np.ndarray:
    if isinstance(part, Tensor):
        part = dense(part, f"the labels of {name}").detach().cpu()
        part = part.float() if part.dtype == torch.bfloat16 else part  # which NumPy does not know
    if hasattr(part, "toarray"):
        raise ValueError(f"Expected labels of shape (N,); got sparse ones in {name}. Make them dense: y.toarray().")
    if isinstance(part, np.ma.MaskedArray) and np.ma.getmaskarray(part).any():
        raise ValueError(
            f"Expected a label for every observation; got masked labels in {name}. Drop those rows, "
            "(x[~y.mask], y[~y.mask].data), or give the unknown a label of their own, y.filled(...)."
        )
    try:
        array = np.asarray(part)
        return np.char.decode(array, "utf-8") if array.dtype.kind == "S" else array
    except UnicodeDecodeError:
        got, remedy = "bytes that are no UTF-8", "Decode them: numpy.char.decode(y, 'latin-1')"
    except ValueError:  # NumPy refuses lists that are not of one length
        got, remedy = "lists of several lengths", "Give one label for each observation"
    raise ValueError(f"Expected labels that are integers or words; got {got} in {name}. {remedy}.")


def _all_whole(array: np.ndarray) -> bool:
    return bool(np.all(np.isfinite(array) & (array == np.floor(array))))
