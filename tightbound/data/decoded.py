"""Decoded images kept in the user's cache, so that a large folder is decoded once and then read from one file.

A kept file is a ``.npy`` file beside a small ``.json`` of what it was made of. It is named by a digest of the images'
names, sizes and times of change, and of the size in pixels: where one of them changes, the folder is decoded anew, and
the outdated file goes. All of them together take at most ``MOST`` bytes, and at most half of what is free on the disk:
those that were read longest ago go first.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from tightbound.files import write_atomically, write_json
from tightbound.paths import cache

FEWEST = 2000  # images of a folder that is kept: fewer are decoded again in a second or two
MOST = 64 * 10**9  # bytes of all that is kept
FORM = 1  # of the decoding: another one makes other pixels of the same files
_PIECE = 2**24  # bytes that are copied at a time

Blocks = Callable[[], Iterator[tuple[np.ndarray, int]]]


def place() -> Path:
    """The folder in which decoded images are kept.

    Example:
        >>> place().name
        'images'
    """
    return cache() / "images"


def kept(folder: Path, paths: Sequence[Path], size: int | None, blocks: Blocks) -> tuple[np.ndarray, int] | None:
    """The decoded images of a folder, mapped from the kept file, which is made first where there is none yet.

    Args:
        folder: where they are.
        paths: all of them, in order.
        size: in pixels, as they are decoded.
        blocks: gives them, some at a time, as bytes of shape (n, channels, height, width), each time with a number
            that is summed; the number of channels may rise from 1 to 3 on the way.

    Returns:
        Shape (N, channels, height, width), and the sum; or None where nothing can be kept, since the cache cannot be
        written to or has too little room.

    Raises:
        ValueError: as ``blocks`` does.
    """
    try:
        file = place() / f"{_digest(folder, paths, size)}.npy"
        found = _opened(file, len(paths))
        if found is not None:
            return found
        file.parent.mkdir(parents=True, exist_ok=True)
        about = {"folder": str(folder.resolve()), "size": size, "images": len(paths), "sum": 0}
        write_atomically(file, lambda temporary: about.update(sum=_write(temporary, len(paths), blocks)))
        write_json(file.with_suffix(".json"), about)
        _make_room(file, about)
        return _opened(file, len(paths))
    except OSError:
        return None


def clear() -> None:
    """Remove all kept images, and what processes that were ended while they decoded left behind.

    Example:
        >>> import os, tempfile
        >>> before = os.environ.get("XDG_CACHE_HOME")
        >>> with tempfile.TemporaryDirectory() as os.environ["XDG_CACHE_HOME"]:
        ...     clear()
        >>> _ = os.environ.pop("XDG_CACHE_HOME") if before is None else os.environ.update(XDG_CACHE_HOME=before)
    """
    if place().is_dir():
        shutil.rmtree(place())


def list_kept() -> list[tuple[Path, dict[str, Any], int]]:
    """Each kept file, what it was made of, and its bytes; the one that was read last comes first.

    Example:
        >>> all(size > 0 for _, _, size in list_kept())
        True
    """
    files = sorted(place().glob("*.npy"), key=_used, reverse=True) if place().is_dir() else []
    return [(file, _about(file), file.stat().st_size) for file in files]


def _digest(folder: Path, paths: Sequence[Path], size: int | None) -> str:
    seen = hashlib.sha256(json.dumps([FORM, size]).encode())
    above = len(os.fsencode(folder))
    for path in paths:
        found = os.stat(path)
        seen.update(os.fsencode(path)[above:] + b"\0%d\0%d\0" % (found.st_size, found.st_mtime_ns))
    return seen.hexdigest()[:32]


def _opened(file: Path, count: int) -> tuple[np.ndarray, int] | None:
    """A kept file, mapped, and the sum; None where it is not there, or not whole."""
    total = _about(file).get("sum")
    if not isinstance(total, int):
        return None
    try:
        mapped = np.lib.format.open_memmap(file, mode="r")
    except (OSError, ValueError):
        return None
    if mapped.dtype != np.uint8 or mapped.ndim != 4 or len(mapped) != count:
        return None
    with contextlib.suppress(OSError):
        os.utime(file)  # used last
    return mapped, total


def _about(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _used(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _write(temporary: Path, count: int, blocks: Blocks) -> int:
    """All blocks, one after another. Nothing is mapped for writing: a full disk would end the process."""
    channels = total = 0
    with temporary.open("wb+") as file:
        for block, more in blocks():
            total += more
            if block.shape[1] > channels:
                if channels:
                    _in_colour(file, count, (channels, *block.shape[2:]))
                else:
                    _require_room(file, count * block[0].size)
                    _write_header(file, (count, *block.shape[1:]))
                channels = block.shape[1]
            wide = np.broadcast_to(block, (len(block), channels, *block.shape[2:]))
            file.write(np.ascontiguousarray(wide).data)
    return total


def _write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    file.seek(0)
    form = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.uint8)), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, form)


def _in_colour(file: IO[bytes], count: int, grey: tuple[int, ...]) -> None:
    """What was written as grey so far becomes three equal channels; from the end on, so that nothing is overwritten."""
    plane = int(np.prod(grey))
    end = file.tell()
    _require_room(file, 3 * count * plane)
    _write_header(file, (count, *grey))
    start = file.tell()
    _write_header(file, (count, 3, *grey[1:]))
    begin = file.tell()
    most = max(_PIECE // plane, 1)
    last = (end - start) // plane
    while last:
        first = max(last - most, 0)
        file.seek(start + first * plane)
        block = np.frombuffer(file.read((last - first) * plane), np.uint8).reshape(-1, 1, plane)
        file.seek(begin + 3 * first * plane)
        file.write(np.ascontiguousarray(np.broadcast_to(block, (len(block), 3, plane))).data)
        last = first
    file.seek(0, os.SEEK_END)


def _require_room(file: IO[bytes], needed: int) -> None:
    free = shutil.disk_usage(os.path.dirname(file.name)).free
    if needed > min(MOST, free // 2):
        raise OSError(f"{needed} bytes are too many to keep")


def _make_room(fresh: Path, about: dict[str, Any]) -> None:
    """Remove what is outdated, and what was read longest ago where all together take too much."""
    total = 0
    for file, made_of, size in list_kept():
        total += size
        outdated = (made_of.get("folder"), made_of.get("size")) == (about["folder"], about["size"]) or not made_of
        if file != fresh and (outdated or total > MOST):
            _remove(file)
            total -= size


def _remove(file: Path) -> None:
    for path in (file, file.with_suffix(".json")):
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
