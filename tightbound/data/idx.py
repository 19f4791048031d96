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
_DEFLATE_RATIO = 1032  # the most that zlib can shrink anything


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an IDX file, gzipped or not; which of the two is seen from its first bytes.

    Memory is taken as bytes arrive, never on the word of a header alone.

    Raises:
        ValueError: for a file that is not IDX, or that is shorter or longer than its header says.

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
    """The bytes of an IDX file, unpacked, up to one more than its header asks for."""
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not packed:
            return _read(file, Path(path).stat().st_size, str(path))
        try:
            with gzip.open(file) as unpacked:
                return _read(unpacked, Path(path).stat().st_size * _DEFLATE_RATIO, str(path))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"Expected a whole gzip file; got {error} in {path}. Fetch it again.") from error


def parse_idx(raw: bytes | bytearray, name: str) -> np.ndarray:
    """The array that the unpacked bytes of an IDX file spell, in this machine's byte order.

    Raises:
        ValueError: for bytes that are not IDX, too few of them or too many; ``name`` says whose they are.
    """
    dtype, shape = _header(raw, name)
    start, size = 4 + 4 * len(shape), dtype.itemsize * math.prod(shape)
    if len(raw) != start + size:
        got = f"{len(raw)}" if len(raw) < start + size else "more"
        raise ValueError(
            f"Expected {start + size} bytes for shape {shape}; got {got} in {name}. Fetch or write the file again."
        )
    return np.frombuffer(raw, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _read(file: IO[bytes] | gzip.GzipFile, most: int, name: str) -> bytearray:
    raw = bytearray(file.read(4 + 4 * _MOST_AXES))
    dtype, shape = _header(raw, name)
    # One byte too many is enough to know that a file is too long, however much more would come.
    wanted = min(4 + 4 * len(shape) + dtype.itemsize * math.prod(shape), most) + 1
    while len(raw) < wanted and (piece := file.read(min(_PIECE, wanted - len(raw)))):
        raw += piece
    return raw


def _header(raw: bytes | bytearray, name: str) -> tuple[np.dtype, tuple[int, ...]]:
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _TYPES or not 1 <= raw[3] <= _MOST_AXES:
        raise ValueError(f"Expected an IDX file; got one that begins with {bytes(raw[:4])!r} in {name}.")
    if len(raw) < 4 + 4 * raw[3]:
        raise ValueError(f"Expected {raw[3]} sizes in the header; got only {len(raw)} bytes in {name}.")
    shape = tuple(np.frombuffer(raw, ">u4", count=raw[3], offset=4).tolist())
    if 0 in shape:
        raise ValueError(f"Expected at least one item; got shape {shape} in {name}.")
    return np.dtype(_TYPES[raw[2]]), shape
