"""Arrays: NumPy's files, and arrays and tensors made in Python.

How an array becomes observations:

- The first axis counts observations. An array of four axes is a set of images with their channels last if the last axis
  has 1 to 4 entries, or fewer than two equal axes before it, and the second axis has more than 4; its axes are moved to
  (N, C, H, W), which a note says. An array of three axes of 8-bit or Boolean values is a set of grey images and becomes
  (N, 1, H, W). Every other shape stays as it is: a float array (N, H, W) might be a set of time series.
- 8-bit unsigned values are pixels, and 255 means 1. There are two exceptions, which are small whole numbers: an array
  with no value above 1, and a table (N, D) with no value above 127. Other values are used as they are.

To choose otherwise, make :class:`~tightbound.data.Observations` yourself: they are used as they are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from tightbound.data.labels import apart, encode
from tightbound.data.mapped import ahead
from tightbound.data.numbers import column_names, tensor_of
from tightbound.data.observations import Observations
from tightbound.data.splits import Data
from tightbound.data.summary import all_below

__all__ = ["from_array", "read_npy", "read_npz"]

MOST_CHANNELS = 4  # of an image, the alpha channel included
_KEYS = "x_train (with x_test, y_train, y_test), x (with y and factors), or a single array"
_OTHERS = {  # what other people call them, in lower case
    "train_images": "x_train", "test_images": "x_test", "train_labels": "y_train", "test_labels": "y_test",
    "train_x": "x_train", "test_x": "x_test", "train_y": "y_train", "test_y": "y_test",
    "x_training": "x_train", "x_testing": "x_test", "y_training": "y_train", "y_testing": "y_test",
    "data": "x", "images": "x", "features": "x", "target": "y", "targets": "y", "labels": "y", "label": "y",
}  # fmt: skip
_APART = ("val", "valid", "validation", "dev")  # which training takes from elsewhere
_MASKS = ("mask", "masks", "missing")  # without which absent values would be trained on
_SPARSE = {  # keys of sparse matrices beside data and shape: what makes an array of such a file
    "format": "scipy.sparse.load_npz({0}).toarray()",
    "coords": "sparse.load_npz({0}).todense()",
    "indptr": (
        "scipy.sparse.csr_matrix(((f := numpy.load({0}))['data'], f['indices'], f['indptr']), f['shape']).toarray()"
    ),
}
DSPRITES = ("color", "shape", "scale", "orientation", "posX", "posY")  # its own names are in a pickle


def read_npy(path: Path) -> Observations:
    """Open a ``.npy`` file and leave it on disk: values are read when they are needed.

    Args:
        path: the file.

    Returns:
        Observations that read from the file.

    Raises:
        TypeError: if the file does not hold real numbers.
        ValueError: if NumPy cannot map the file, because it is damaged or holds Python objects, for instance.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(Path(folder, "x.npy"), np.zeros((5, 2)))
        ...     len(read_npy(Path(folder, "x.npy")))
        5
    """
    try:
        # Not mode "c": a private copy-on-write map larger than memory may be refused by the operating system.
        mapped = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # a damaged header can break the parser in any way
        raise _unreadable(path, error) from error
    return from_array(mapped, name=str(path)).replace(ask=ahead(mapped))


def read_npz(path: Path) -> Observations | Data:
    """Read a ``.npz`` file with ``x_train`` (and ``x_test``, ``y_train``, ``y_test``), ``x`` (and ``y``) or one array.

    Known factors are the arrays ``factors`` beside x, or ``factors_train`` and ``factors_test``, of shape (N, F); their
    names are ``factor_names``, an array of words. The file of dSprites is read as it is. Keys may be in upper or lower
    case. A note names the other arrays of the file, which are not read.

    Args:
        path: the file.

    Returns:
        Data if there is a test set, Observations otherwise.

    Raises:
        TypeError: if an array does not hold real numbers.
        ValueError: if NumPy cannot read the file, because it is damaged or holds Python objects, for instance; if
            the keys do not tell which array is which; if there is a mask, which no model here reads; if training
            and test set are not of one kind; or if factors or their names do not fit.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(Path(folder, "x.npz"), x=np.zeros((3, 2)), y=np.array([4, 5, 6]))
        ...     read_npz(Path(folder, "x.npz")).labels
        tensor([4, 5, 6])
    """
    with open(path, "rb") as file:  # numpy.load would not close a file that it refuses
        roles, arrays, keys = _read_roles(file, path)
    labels, names = encode([arrays.get("y_train"), arrays.get("y_test")], str(path))

    def part(which: str, label: Tensor | None) -> Observations:
        made = from_array(arrays[f"x_{which}"], labels=label, name=f"{path}[{roles[f'x_{which}']}]")
        return _with_factors(made.replace(label_names=names), arrays, roles, which)

    train = part("train", labels[0])
    if notes := [*_on_keys(roles, keys, path), *(apart(labels, names) if "x_test" in arrays else [])]:
        train = train.replace(notes=(*train.notes, *notes))
    if "x_test" not in arrays:
        return train
    test = part("test", labels[1])
    if train.stored.dtype == test.stored.dtype:  # a test set of black images does not make pixels binary
        scale = max(train.scale, test.scale)
        train, test = train.replace(scale=scale), test.replace(scale=scale)
    if (train.shape, train.scale) != (test.shape, test.scale):
        _require_one_dtype(arrays, roles, path)
    return Data(str(path), train=train, test=test)


def _require_one_dtype(arrays: dict[str, np.ndarray], roles: dict[str, str], path: Path) -> None:
    """Say it of the arrays that were given where bytes alone were taken for images."""
    train, test = arrays["x_train"], arrays["x_test"]
    if train.shape[1:] == test.shape[1:] and train.dtype != test.dtype:
        raise ValueError(
            f"Expected training and test set of one dtype, as 8-bit values may be pixels; got {roles['x_train']} of "
            f"{train.dtype} and {roles['x_test']} of {test.dtype}, both of shape {train.shape[1:]}, in {path}. Save "
            "both as the same: pixels as uint8, or both divided by 255 as float32."
        )


def _on_keys(roles: dict[str, str], keys: list[str], path: Path) -> list[str]:
    """What is to be said of a file whose arrays have other names than ours, and of those that are not read."""
    said = [
        f"the array {key} was taken for {role if '_' in key else role.removesuffix('_train')}"
        for role, key in roles.items()
        if key.lower() in _OTHERS
    ]
    left = [key for key in keys if key not in roles.values()]
    held_out = [key for key in left if set(_words(key)) & set(_APART)]
    if held_out:
        said.append(f"the arrays {', '.join(held_out)} were left out: validation takes its share of the training set")
    if others := [key for key in left if key not in held_out]:
        said.append(
            f"the arrays {', '.join(others)} were left out: of {path} only {', '.join(roles.values())} are read"
        )
    return said


def _words(key: str) -> list[str]:
    return re.findall("[a-z]+", key.lower())


def _require_no_mask(keys: list[str], path: Path) -> None:
    if masks := [key for key in keys if set(_words(key)) & set(_MASKS)]:
        raise ValueError(
            f"Expected values that are all there, since masks of .npz files are not read; got the array {masks[0]} in "
            f"{path}. Drop the rows that lack a value, or fill in what is missing, and save the file without it."
        )


def _require_dense(keys: list[str], path: Path) -> None:
    """Refuse a sparse matrix, whose array of data has those values alone that are not zero."""
    made = next((line for key, line in _SPARSE.items() if key in keys), None)
    if made is not None and {"data", "shape"} <= set(keys) and not {"x", "x_train"} & {key.lower() for key in keys}:
        raise ValueError(
            f"Expected an array of all values; got a sparse matrix in {path}. Make it dense: "
            f"numpy.save('x.npy', {made.format(repr(str(path)))})."
        )


def _read_roles(file: IO[bytes], path: Path) -> tuple[dict[str, str], dict[str, np.ndarray], list[str]]:
    try:
        archive = np.load(file, allow_pickle=False)
    except Exception as error:  # a damaged archive can break the parser in any way
        raise _unreadable(path, error) from error
    if isinstance(archive, np.ndarray):
        raise _unreadable(path, "a .npy file by another name")
    with archive:
        _require_dense(archive.files, path)
        roles = _roles(archive.files, path)
        _require_no_mask([key for key in archive.files if key not in roles.values()], path)
        try:
            return roles, {role: archive[key] for role, key in roles.items()}, list(archive.files)
        except Exception as error:
            raise _unreadable(path, error) from error


def _with_factors(made: Observations, arrays: dict[str, np.ndarray], roles: dict[str, str], which: str) -> Observations:
    factors = arrays.get(f"factors_{which}")
    if factors is None:
        return made
    table = tensor_of(factors, f"the factors of {made.name}")
    if roles[f"factors_{which}"].lower() == "latents_values":
        shapes = table[:, DSPRITES.index("shape")].long() - 1
        return made.replace(
            labels=shapes, label_names=("square", "ellipse", "heart"), factors=table, factor_names=DSPRITES
        )
    names: tuple[str, ...] = ()
    if "factor_names" in arrays:
        words = arrays["factor_names"]
        if words.dtype.kind != "U" or words.ndim != 1:
            raise ValueError(
                f"Expected factor_names as an array of words, one for each column; got {words.dtype} of shape "
                f"{words.shape} in {made.name}. Save numpy.array(['width', 'angle'])."
            )
        names = tuple(map(str, words))
    return made.replace(factors=table, factor_names=names)


def from_array(value: object, *, labels: object = None, name: str = "array") -> Observations:
    """Make observations from an array, a tensor, or anything else that NumPy can view as an array.

    They share the array's memory where that is possible.

    Args:
        value: the values, shape (N, ...), real numbers.
        labels: N labels, integers or words; see :func:`tightbound.data.labels.encode`.
        name: what error messages and reports call the data.

    Returns:
        N observations; the module's description says of which shape and scale.

    Raises:
        TypeError: if the values are not real numbers.
        ValueError: if the array is empty or has no axis of observations, or if the labels do not fit.

    Example:
        >>> images = np.full((10, 32, 24, 3), 255, dtype=np.uint8)
        >>> from_array(images).shape, from_array(images).scale
        (torch.Size([3, 32, 24]), 255.0)
    """
    codes, names = encode([labels], name)
    given = tensor_of(value, name)
    stored = _channels_first(given)
    notes: tuple[str, ...] = ()
    if given.ndim == stored.ndim and given.shape != stored.shape:
        before, after = tuple(given.shape[1:]), tuple(stored.shape[1:])
        notes = (f"the axes of {name} were turned from {before} to {after}; tb.data.Observations(x) leaves them",)
    columns = column_names(value) if stored.ndim == 2 else ()
    observations = Observations(
        stored, labels=codes[0], label_names=names, column_names=columns, name=name, notes=notes
    )
    return observations.replace(scale=255.0) if _are_pixels(stored) else observations


def _channels_first(stored: Tensor) -> Tensor:
    if stored.ndim == 4 and _are_channels_last(*stored.shape[1:]):
        return stored.permute(0, 3, 1, 2)
    if stored.ndim == 3 and stored.dtype in (torch.uint8, torch.bool):
        return stored[:, None]
    return stored


def _are_channels_last(height: int, width: int, channels: int) -> bool:
    if height <= MOST_CHANNELS or channels >= min(height, width):
        return height not in (1, 3) and channels in (1, 3)
    return channels <= MOST_CHANNELS or height == width


def _are_pixels(stored: Tensor) -> bool:
    return stored.dtype == torch.uint8 and not all_below(stored, 128 if stored.ndim == 2 else 2)


_ROLES = ("x_train", "x_test", "y_train", "y_test", "factors_train", "factors_test", "factor_names")


def _roles(keys: list[str], path: Path) -> dict[str, str]:
    """Find which of a file's keys stand for x_train, x_test, y_train and so on."""
    by_name = {key.lower(): key for key in keys}
    known = (*_ROLES, "x", "y", "factors")
    if not by_name.keys() & {"x", "x_train"}:  # none of our own names
        meant = [_OTHERS.get(key.lower(), key.lower()) for key in keys]
        if len(set(meant)) == len(meant):
            by_name = dict(zip(meant, keys, strict=True))
    if {"imgs", "latents_values"} <= by_name.keys():  # dSprites
        return {"x_train": by_name["imgs"], "factors_train": by_name["latents_values"]}
    if len({key.lower() for key in keys if key.lower() in known}) == len([key for key in keys if key.lower() in known]):
        if "x_train" in by_name:
            return {role: by_name[role] for role in _ROLES if role in by_name}
        if "x" in by_name and "x_test" not in by_name:
            alone = {f"{role}_train": by_name[role] for role in ("x", "y", "factors") if role in by_name}
            return alone | {role: by_name[role] for role in ("factor_names",) if role in by_name}
        if len(keys) == 1:
            return {"x_train": keys[0]}
    got = f"the keys {', '.join(keys)}" if keys else "no array"
    first = keys[0] if keys else "a"
    raise ValueError(
        f"Expected {_KEYS}; got {got} in {path}. Take the array you mean: numpy.savez('x.npz', x=file[{first!r}])."
    )


def _unreadable(path: Path, reason: object) -> ValueError:
    return ValueError(
        f"Expected a whole {path.suffix} file of numbers; got {reason} in {path}. Write it again with "
        f"numpy.save{'z' if path.suffix.lower() == '.npz' else ''}, as numbers and not as Python objects."
    )
