"""Mapped files that do not fit into memory: the system is told which rows to read before they are needed."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SHARE = 0.5  # of memory: a larger file will not stay in the system's cache
CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def ahead(array: np.ndarray) -> Ahead | None:
    """Make an :class:`Ahead` for a mapped file that does not fit into memory.

    Args:
        array: N rows, as ``numpy.load(…, mmap_mode="r")`` gives them.

    Returns:
        The object, or None where it would not help: the file fits into memory, its rows are not each in one piece, or
        the array is not mapped from a file.

    Example:
        >>> ahead(np.zeros((5, 2))) is None
        True
    """
    apart = not array.flags.c_contiguous  # then a row is not in one piece
    if apart or not hasattr(getattr(array, "_mmap", None), "madvise") or array.nbytes <= SHARE * memory():
        return None
    return Ahead(array)


class Ahead:
    """Reads rows of a mapped file ahead: call it with rows, and the system reads them while something else goes on.

    Where one row of a mapped file is needed, the system reads some hundred kilobytes or some megabytes around it. This
    soon brings a file that fits into memory completely there. With a file that does not fit, nearly everything that was
    read would be thrown away before it is used. Such a file is therefore mapped for access in any order, which means
    that the system reads only the rows that are asked for.

    Args:
        array: N rows, mapped from a file, each row in one piece.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(Path(folder, "x.npy"), np.zeros((5, 2)))
        ...     read_ahead = Ahead(np.load(Path(folder, "x.npy"), mmap_mode="r"))
        >>> read_ahead(torch.tensor([4, 0]))
    """

    def __init__(self, array: np.ndarray) -> None:
        self.pages: mmap.mmap = array._mmap  # type: ignore[attr-defined]
        self.pages.madvise(mmap.MADV_RANDOM)
        self.first = array.offset % mmap.ALLOCATIONGRANULARITY  # type: ignore[attr-defined]
        self.size = array.nbytes // len(array)
        self.asked = torch.empty(0, dtype=torch.int64)
        path = Path(array.filename).resolve()  # type: ignore[attr-defined]
        self.file = Watched.now(path)

    def __call__(self, rows: Tensor) -> None:
        if rows.equal(self.asked):
            return
        self.asked = rows
        for start, stop in runs(self.first + np.sort(rows.numpy().astype(np.int64)) * self.size, self.size):
            self.pages.madvise(mmap.MADV_WILLNEED, start, stop - start)


def runs(starts: np.ndarray, size: int) -> list[tuple[int, int]]:
    """Find the stretches of whole pages that hold certain pieces of a file.

    Args:
        starts: where each piece begins, in bytes, rising.
        size: how long each piece is, in bytes.

    Returns:
        Begin and end of each stretch, in bytes, rising; stretches that touch are joined.

    Example:
        >>> runs(np.array([10, 30, 3 * mmap.PAGESIZE]), 20) == [
        ...     (0, mmap.PAGESIZE), (3 * mmap.PAGESIZE, 4 * mmap.PAGESIZE)
        ... ]
        True
    """
    if not len(starts):
        return []
    page = mmap.PAGESIZE
    begins, ends = starts // page * page, -(-(starts + size) // page) * page
    apart = np.flatnonzero(begins[1:] > ends[:-1]) + 1
    return list(zip(begins[[0, *apart]].tolist(), ends[[*(apart - 1), -1]].tolist(), strict=True))


def memory() -> int:
    """Find how much memory this process may use, on a Unix system.

    Returns:
        The machine's memory or the least limit of the control groups that hold the process, whichever is less, in
        bytes.

    Example:
        >>> memory() > 0
        True
    """
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder in _groups():
        limit = folder / "memory.max"
        text = limit.read_text().strip() if limit.is_file() else ""
        found += [int(text)] if text.isdecimal() else []
    return min(found)


def require_memory(needed: int, *, of: str, remedy: str) -> None:
    """Refuse what cannot fit into this machine's memory, before any of it is taken.

    Args:
        needed: bytes, at least.
        of: what takes them.
        remedy: what to do.

    Raises:
        ValueError: where that is more than :func:`memory` finds.

    Example:
        >>> require_memory(10**15, of="10**12 samples", remedy="Take fewer.")
        Traceback (most recent call last):
        ValueError: Expected sizes that fit into this machine's memory of ... got 10**12 samples, ... 1e+06 GB. ...
    """
    there = memory()
    if needed > there:
        amount = f"{needed / 10**9:.3g}" if needed < 10**300 else "1e+291"
        raise ValueError(
            f"Expected sizes that fit into this machine's memory of {there / 10**9:.3g} GB; got {of}, which needs "
            f"about {amount} GB. {remedy}"
        )


def _groups() -> list[Path]:
    lines = OWN.read_text().splitlines() if OWN.is_file() else []
    found = [CGROUPS / line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    return [group for folder in found for group in (folder, *folder.parents) if group.is_relative_to(CGROUPS)]


@dataclass(frozen=True)
class Watched:
    """A mapped file as it was when it was opened.

    Args:
        path: where it is.
        size: in bytes.
        changed: when it was last changed, in nanoseconds.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(Path(folder, "x.npy"), np.zeros(5))
        ...     file = watched(str(Path(folder, "x.npy")))
        ...     file.require_same()
    """

    path: Path
    size: int
    changed: int

    @classmethod
    def now(cls, path: Path) -> Watched:
        """The file as it is.

        Args:
            path: where it is.
        """
        found = path.stat()
        return cls(path, found.st_size, found.st_mtime_ns)

    def require_same(self) -> None:
        """Look whether the file is as it was. Who reads what has been cut off is ended by the system, without a word.

        Raises:
            ValueError: for a file that was changed, cut or removed.
        """
        try:
            same = self.now(self.path) == self
        except OSError:
            same = False
        if not same:
            raise ValueError(
                f"Expected {self.path} to stay as it is while it is read from; got a file that was changed, cut or "
                "removed. Put it back, and go on from the last checkpoint."
            )


def watched(name: str) -> Watched | None:
    """A file to be watched, or None where observations are not mapped from one.

    Args:
        name: of the observations: for those of a ``.npy`` file, its path.
    """
    path = Path(name)
    if path.suffix != ".npy" or not path.is_file():
        return None
    return Watched.now(path.resolve())
