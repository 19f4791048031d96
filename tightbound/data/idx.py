"""The IDX format of the MNIST files: http://yann.lecun.com/exdb/mnist/."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import IO

import numpy as np

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_MOST_AXES = 8
_PIECE = 2**20
_AGAIN = "Fetch or write the file again."
_DEFLATE_RATIO = 1032  # zlib cannot shrink anything more than this


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an IDX file, which may be gzipped.

    Memory grows with the bytes that arrive, so a damaged header cannot ask for more than the file holds.

    Args:
        path: the file.

    Returns:
        The array in the file, in this machine's byte order.

    Raises:
        ValueError: if the file is not IDX, or is shorter or longer than its header says.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = Path(folder, "labels-idx1-ubyte")
        ...     _ = written.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]))
        ...     read_idx(written)
        array([5, 0, 4], dtype=uint8)
    """
    return parse_idx(read_raw(path), str(path))


def read_raw(path: str | os.PathLike[str]) -> bytearray:
    """Read the bytes of an IDX file and unpack them if they are gzipped.

    Args:
        path: the file.

    Returns:
        The unpacked bytes, at most one more than the header asks for.

    Raises:
        ValueError: if the header is not IDX, or the gzip file is damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = Path(folder, "labels-idx1-ubyte.gz")
        ...     _ = written.write_bytes(gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 1, 7])))
        ...     list(read_raw(written))
        [0, 0, 8, 1, 0, 0, 0, 1, 7]
    """
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            return _read(file, Path(path).stat().st_size, str(path))
        try:
            with gzip.open(file) as unpacked:
                return _read(unpacked, Path(path).stat().st_size * _DEFLATE_RATIO, str(path))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"Expected a whole gzip file; got {error} in {path}. {_AGAIN}") from error


def parse_idx(raw: bytes | bytearray, name: str) -> np.ndarray:
    """Turn the unpacked bytes of an IDX file into an array.

    Args:
        raw: the bytes.
        name: what error messages call the file.

    Returns:
        The array, in this machine's byte order.

    Raises:
        ValueError: if the bytes are not IDX, or there are too few or too many of them.

    Example:
        >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 6]), "labels")
        array([5, 6], dtype=uint8)
    """
    dtype, shape = _header(raw, name)
    start, size = 4 + 4 * len(shape), dtype.itemsize * math.prod(shape)
    if len(raw) != start + size:
        got = f"{len(raw)}" if len(raw) < start + size else "more"
        raise ValueError(f"Expected {start + size} bytes for shape {shape}; got {got} in {name}. {_AGAIN}")
    return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _read(file: IO[bytes] | gzip.GzipFile, most: int, name: str) -> bytearray:
    raw = bytearray(file.read(4 + 4 * _MOST_AXES))
    dtype, shape = _header(raw, name)
    # One byte too many already shows that a file is too long.
    wanted = min(4 + 4 * len(shape) + dtype.itemsize * math.prod(shape), most) + 1
    while len(raw) < wanted and (piece := file.read(min(_PIECE, wanted - len(raw)))):
        raw += piece
    return raw


def _header(raw: bytes | bytearray, name: str) -> tuple[np.dtype, tuple[int, ...]]:
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _TYPES or not 1 <= raw[3] <= _MOST_AXES:
        raise ValueError(f"Expected an IDX file; got one that begins with {bytes(raw[:4])!r} in {name}. {_AGAIN}")
    if len(raw) < 4 + 4 * raw[3]:
        raise ValueError(f"Expected {raw[3]} sizes in the header; got only {len(raw)} bytes in {name}. {_AGAIN}")
    shape = tuple(np.frombuffer(raw, ">u4", count=raw[3], offset=4).tolist())
    if 0 in shape:
        raise ValueError(f"Expected at least one item; got shape {shape} in {name}. {_AGAIN}")
    return np.dtype(_TYPES[raw[2]]), shape
