"""From a name, a path or an object to data."""

from __future__ import annotations

import difflib
import numbers
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from tightbound.data.arrays import from_array, read_npy, read_npz
from tightbound.data.datasets import from_dataset, is_data_set
from tightbound.data.digits import digits
from tightbound.data.factors import correlated, factor, held_out, read_h5
from tightbound.data.folders import ENDINGS
from tightbound.data.images import read_images
from tightbound.data.mnist import files, mnist
from tightbound.data.observations import UNNAMED, Observations
from tightbound.data.splits import Data, split_off
from tightbound.data.sprites import Colour, sprites
from tightbound.files import require_file
from tightbound.paths import require_path
from tightbound.surface import listed

_SPRITES: dict[str, Colour] = {"sprites": "binary", "sprites-grey": "grey", "sprites-hue": "hue"}
_OTHER_SPRITES = ("sprites-upright", "sprites-correlated", "sprites-held-out")
_NAMES = ("digits", "mnist", *_SPRITES, *_OTHER_SPRITES)
_TORCHVISION = {
    "cifar10": "CIFAR10", "cifar-10": "CIFAR10", "cifar100": "CIFAR100", "cifar-100": "CIFAR100", "celeba": "CelebA",
    "fashion-mnist": "FashionMNIST", "fashionmnist": "FashionMNIST", "kmnist": "KMNIST", "emnist": "EMNIST",
    "svhn": "SVHN", "omniglot": "Omniglot",
}  # fmt: skip
_READ = {  # what makes an array of a file, by its ending
    ".csv": "pandas.read_csv({}).to_numpy()", ".tsv": "pandas.read_csv({}, sep='\\t').to_numpy()",
    ".parquet": "pandas.read_parquet({}).to_numpy()", ".feather": "pandas.read_feather({}).to_numpy()",
    ".xlsx": "pandas.read_excel({}).to_numpy()", ".xls": "pandas.read_excel({}).to_numpy()",
    ".json": "pandas.read_json({}).to_numpy()", ".txt": "numpy.loadtxt({})",
    ".pt": "torch.load({}, weights_only=True).numpy()", ".pth": "torch.load({}, weights_only=True).numpy()",
    ".safetensors": "safetensors.numpy.load_file({})['x']", ".mat": "scipy.io.loadmat({})['x']",
}  # fmt: skip
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz", ".7z")
_FILES = "a .npy, .npz or .h5 file or a folder of PNG or JPEG images"
_OBJECTS = "an array, a tensor, a list of rows, a data set of items, a pair (x, labels) or Observations"


def load(source: object, *, size: int | None = None, test_fraction: float = 0.1) -> Data:
    """Load a training and a test set from a name, a file, a folder or an object.

    A source that has its own test set keeps it: MNIST, a ``.npz`` file with ``x_test``, a folder with ``train`` and
    ``test``. From any other source a random test set is split off. The same rows are chosen every time.

    Args:
        source: "digits"; "mnist"; "sprites", "sprites-grey" or "sprites-hue" (see :mod:`tightbound.data.sprites`),
            "sprites-upright", in six colours and without a turn, which a small model learns in a minute;
            "sprites-correlated", whose scale and x go together in training, or "sprites-held-out", which is tested on
            hearts that stand on their head on the right; the path of a ``.npy`` or ``.npz`` file (see
            :mod:`tightbound.data.arrays`), of an ``.h5`` file as that of 3D Shapes, or of a folder of images (see
            :mod:`tightbound.data.images`); an array, a tensor, a list of rows, a data set of items, a pair (x, labels)
            or Observations; or Data, which is returned as it is.
        size: height and width in pixels that sprites have, or that images of a folder are resized to.
        test_fraction: which fraction of the observations to hold out where there is no test set, between 0 and 1.

    Returns:
        Training and test set.

    Raises:
        TypeError: if the source is of another kind, ``size`` is no whole number, or ``test_fraction`` is no number.
        ValueError: if a name is unknown, a path does not exist, a file or an array cannot be used as data, or
            ``test_fraction`` is not between 0 and 1.

    Example:
        >>> data = load("digits")
        >>> len(data.train), len(data.test)
        (1617, 180)
    """
    if isinstance(size, bool) or not isinstance(size, numbers.Integral | None):
        raise TypeError(f"Expected a size that is a whole number of pixels; got {size!r}. Give a number, such as 64.")
    if isinstance(source, str | os.PathLike):
        found = _named(source, size)
    else:
        _expect_no_size(size, type(source).__name__)
        found = source if isinstance(source, Data) else observations(source)
    return found if isinstance(found, Data) else split_off(found, test_fraction)


def observations(source: Any) -> Observations:
    """Make observations from an object in memory.

    Args:
        source: an array, a tensor, a list of rows or a pair (x, labels), as :mod:`tightbound.data.arrays` describes
            them; a data set of items, of torch, Hugging Face or any class that iterates, or a DataLoader of one, as
            :func:`tightbound.data.datasets.from_dataset` reads them; or Observations, which are returned as they are.

    Returns:
        The observations.

    Raises:
        TypeError: if the source is of another kind, or does not hold real numbers.
        ValueError: if an array is empty or has no axis of observations, or if labels do not fit.

    Example:
        >>> import torch
        >>> observations((torch.zeros(2, 5), ["cat", "ant"])).label_names
        ('ant', 'cat')
    """
    if isinstance(source, Observations):
        return source
    if isinstance(source, tuple) and len(source) == 2 and _is_array(source[0]):
        return from_array(source[0], labels=source[1])
    if _is_array(source):
        return from_array(source)
    if is_data_set(source):
        return from_dataset(source)
    raise TypeError(f"Expected {_OBJECTS}; got {type(source).__name__}. {_remedy_for(source)}")


def found_again(name: str) -> str:
    """What to give :func:`load` for data of that name; empty for data that were made in Python.

    Args:
        name: of data, or of observations.

    Returns:
        The same name where it is one that ``load`` knows, and a path from the root on where there is something.

    Example:
        >>> found_again("digits"), found_again("ndarray")
        ('digits', '')
    """
    if name in _NAMES:
        return name
    path = Path(name)
    try:
        return str(path.resolve()) if name not in ("", UNNAMED) and path.exists() else ""
    except (OSError, ValueError):  # a name that is no path
        return ""


def places(source: str | os.PathLike[str]) -> tuple[str, ...]:
    """Where the data of a name or a path lie on this machine, once they are loaded.

    Args:
        source: as :func:`load` takes names and paths.

    Returns:
        Paths from the root on: the folder of MNIST's files, the file of the digits in scikit-learn, the path itself;
        none for sprites, which each load makes.

    Example:
        >>> places("sprites"), places("digits")[0].endswith("digits.csv.gz")
        ((), True)
    """
    if source == "digits":
        from sklearn import datasets

        return (str(Path(datasets.__file__).parent / "data" / "digits.csv.gz"),)
    if source == "mnist":
        return tuple(dict.fromkeys(str(path.parent.resolve()) for path in files()))
    return () if source in _NAMES else (str(Path(os.path.expanduser(source)).resolve()),)


def _remedy_for(source: Any) -> str:
    """The one line that makes data of an object that is none."""
    kind, module = type(source).__name__, type(source).__module__.partition(".")[0]
    if isinstance(source, Data):
        return "Choose one of its splits: data.test."
    if isinstance(source, str | os.PathLike):
        return f"Read it first: tb.data.load({os.fspath(source)!r})."
    if module == "scipy" and hasattr(source, "toarray"):
        return "Make it dense: x.toarray()."
    if isinstance(source, list | tuple) and len(source) > 1 and all(isinstance(each, Dataset) for each in source):
        return "Give two of them as parts: tb.data.Data('data', *[tb.data.observations(each) for each in x[:2]])."
    if isinstance(source, dict):
        return f"Choose one of its arrays: x[{next(iter(source), 'key')!r}]."
    if module == "PIL":
        return "Give an array of pictures: numpy.stack([numpy.asarray(each) for each in pictures])."
    return f"Convert it to an array: numpy.asarray({'x' if kind == 'list' else 'list(x)'})."


def _is_array(value: object) -> bool:
    return isinstance(value, Tensor) or hasattr(value, "__array__") or _is_rows(value)


def _is_rows(value: object) -> bool:
    """Whether a list holds lists of numbers, or arrays of one axis each; not two sets, nor items with their labels."""
    first = value[0] if isinstance(value, list | tuple) and value else None
    if isinstance(first, list | tuple):
        return len(first) > 0 and getattr(first[0], "ndim", 0) == 0
    return getattr(first, "ndim", None) == 1


def _named(source: str | os.PathLike[str], size: int | None) -> Observations | Data:
    if source in _NAMES:
        return _made(str(source), size)
    path = Path(os.path.expanduser(source))
    require_path(path)
    if not (os.fspath(source) and path.exists()):
        raise _nothing_there(os.fspath(source))
    if path.is_dir():
        return read_images(path, size=size)
    _expect_no_size(size, path)
    readers: dict[str, Callable[[Path], Observations | Data]] = {
        ".npy": read_npy, ".npz": read_npz, ".h5": read_h5, ".hdf5": read_h5
    }  # fmt: skip
    require_file(path)
    if path.suffix.lower() not in readers:
        raise ValueError(f"Expected {_FILES}; got the file {path}. {_remedy_for_file(path)}")
    return readers[path.suffix.lower()](path)


def _remedy_for_file(path: Path) -> str:
    """The one line that makes a file to be read of one that is not."""
    ending, text = path.suffix.lower(), repr(str(path))
    if "idx" in path.name.lower():  # as MNIST's files are called, which may be gzipped
        return f"Read it first: numpy.save('x.npy', tightbound.data.idx.read_idx({text}))."
    if ending in ENDINGS:
        return f"Give the folder that it lies in, with all images: {path.parent}."
    if ending in _PACKED:
        return "Unpack it first, and give the file or folder in it."
    if ending in _READ:
        return f"Read it first: numpy.save('x.npy', {_READ[ending].format(text)})."
    return "Save its numbers with numpy.save, and give that file."


def _made(name: str, size: int | None) -> Observations | Data:
    if name in ("digits", "mnist"):
        _expect_no_size(size, name)
        return digits() if name == "digits" else mnist()
    if name == "sprites-upright":
        return sprites(32 if size is None else size, colour="primary", scales=4, rotations=1, positions=12)
    made = sprites(32 if size is None else size, colour=_SPRITES.get(name, "binary"))
    if name == "sprites-correlated":
        return correlated(made, "scale", "x")
    if name == "sprites-held-out":  # hearts that stand on their head, on the right
        places = factor(made, "x").unique()
        return held_out(made, {"shape": [2], "rotation": [135, 180, 225], "x": places[places > 0.5].tolist()})
    return made


def _expect_no_size(size: int | None, source: object) -> None:
    if size is not None:
        raise ValueError(
            f"Expected a size for sprites and folders of images only; got size={size} for {source}. Leave it out."
        )


def _nothing_there(text: str) -> ValueError:
    if Path(text).name != text or Path(text).suffix:
        return ValueError(
            f"Expected {_FILES}; got {text}, where there is nothing (seen from {Path.cwd()}). Check the path."
        )
    if text.lower().replace("_", "-") in _TORCHVISION:
        made = _TORCHVISION[text.lower().replace("_", "-")]
        return ValueError(
            f"Expected {listed(_NAMES, 'or')}, or the path of {_FILES}; got {text!r}. Give torchvision's data set: "
            f"tb.data.load(torchvision.datasets.{made}(folder, download=True, transform=ToTensor()))."
        )
    close = difflib.get_close_matches(text.lower(), _NAMES, n=1)
    hint = f' Did you mean "{close[0]}"?' if close else ""
    return ValueError(f"Expected {listed(_NAMES, 'or')}, or the path of {_FILES}; got {text!r}.{hint}")
