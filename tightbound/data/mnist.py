"""MNIST: 70000 handwritten digits of 28×28 pixels, found on this machine or downloaded once."""

from __future__ import annotations

import hashlib
import http.client
import os
import tempfile
import urllib.request
from pathlib import Path

import torch

from tightbound.data.idx import parse_idx, read_raw
from tightbound.data.observations import Observations
from tightbound.data.splits import Data
from tightbound.paths import cache
from tightbound.progress import progress

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MD5 = {  # of the unpacked files, since gzip can pack the same bytes in several ways
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
TIMEOUT = 30.0  # seconds to wait for the next byte
MOST_BYTES = 2**26  # a longer download cannot be one of these files
PIECE = 2**16  # bytes to read at a time


def mnist() -> Data:
    """Load 60000 training and 10000 test images, stored as 8-bit pixels of shape (1, 28, 28).

    The four files may be gzipped. They are searched in ``$TIGHTBOUND_DATA/mnist``, in ``$TIGHTBOUND_DATA``, and in the
    user's cache, ``$XDG_CACHE_HOME/tightbound/mnist`` or ``~/.cache/tightbound/mnist``. A missing file is downloaded
    into the cache. The checksum of every file is verified, wherever the file came from.

    Returns:
        Training and test set, with the labels 0…9.

    Raises:
        ValueError: if a file has a wrong checksum, or if it is neither on this machine nor on a mirror.

    References:
        LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition (1998),
        https://doi.org/10.1109/5.726791.

    Example:
        >>> mnist().train.shape  # doctest: +SKIP
        torch.Size([1, 28, 28])
    """
    train_images, train_labels, test_images, test_labels = (_array(name) for name in MD5)
    return Data(
        "mnist",
        train=_observations(train_images, train_labels),
        test=_observations(test_images, test_labels),
    )


def files() -> list[Path]:
    """Those of its four files that are on this machine, where :func:`mnist` finds them.

    Example:
        >>> {path.name.removesuffix(".gz") for path in files()} <= set(MD5)
        True
    """
    return [path for name in MD5 if (path := _found(name)) is not None]


def _observations(images: torch.Tensor, labels: torch.Tensor) -> Observations:
    names = tuple(str(digit) for digit in range(10))
    return Observations(images[:, None], labels=labels.long(), label_names=names, name="mnist", scale=255)


def _array(name: str) -> torch.Tensor:
    path = _found(name) or _downloaded(name)
    raw = read_raw(path)
    if (got := _md5(raw)) != MD5[name]:
        raise ValueError(
            f"Expected {name} with the MD5 checksum {MD5[name]}; got {got} from {path}. Delete that file: "
            "a good copy is downloaded when there is none."
        )
    return torch.from_numpy(parse_idx(raw, str(path)))


def _md5(raw: bytearray) -> str:
    return hashlib.md5(raw, usedforsecurity=False).hexdigest()


def _cache() -> Path:
    return cache() / "mnist"


def _found(name: str) -> Path | None:
    given = os.environ.get("TIGHTBOUND_DATA")
    folders = [Path(given) / "mnist", Path(given), _cache()] if given else [_cache()]
    candidates = (folder / f"{name}{ending}" for folder in folders for ending in (".gz", ""))
    return next((path for path in candidates if path.is_file()), None)


def _downloaded(name: str) -> Path:
    failures = []
    for mirror in MIRRORS:
        target = _cache() / f"{name}.gz"
        try:
            _download(f"{mirror}{name}.gz", target, name)
        except (OSError, http.client.HTTPException, ValueError) as error:
            failures.append(f"{mirror}: {error}")
        else:
            return target
    files = ", ".join(f"{file}.gz" for file in MD5)
    raise ValueError(
        f"Expected {name}.gz on this machine or on a mirror; got neither ({'; '.join(failures)}). "
        f"Put these four files into {_cache()}: {files}. "
        "Or set TIGHTBOUND_DATA to a folder that holds them, gzipped or unpacked."
    )


def _download(url: str, target: Path, name: str) -> None:
    """Download into a temporary file and rename it once its checksum is right, so that nobody reads half a file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f"{name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            total = int(response.headers.get("Content-Length") or 0) or None
            with progress(f"fetching {name}", total, unit="B") as advance:
                while piece := response.read(PIECE):
                    file.write(piece)
                    advance(len(piece))
                    if file.tell() > MOST_BYTES:
                        raise ValueError(f"Expected at most {MOST_BYTES} bytes; got more from {url}.")
            file.flush()
            os.fsync(file.fileno())
        if (got := _md5(read_raw(temporary))) != MD5[name]:
            raise ValueError(f"Expected the MD5 checksum {MD5[name]}; got {got} from {url}.")
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)
