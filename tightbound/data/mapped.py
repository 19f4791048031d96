"""Mapped files that memory cannot hold: rows are read one by one, and asked for before they are wanted."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SHARE = 0.5  # of memory: what is larger will not stay in the system's cache
CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def ahead(array: np.ndarray) -> Ahead | None:
    """What tells the operating system which rows of a mapped file will be read next; None where memory holds them all.

    Args:
        array: N rows, as ``numpy.load(…, mmap_mode="r")`` gives them.
    """
    apart = not array.flags.c_contiguous  # a row is not in one piece
    if apart or not hasattr(getattr(array, "_mmap", None), "madvise") or array.nbytes <= SHARE * memory():
        return None
    return Ahead(array)


class Ahead:
    """Called with rows of a mapped file, has the system read them in, many at a time, while something else goes on.

    A system reads some hundred kilobytes of a mapped file, or some megabytes, where one row is wanted. That soon brings
    a file into memory that fits there, and is ruinous for one that does not: nearly all of it is thrown away before it
    is used. So such a file is mapped for access in any order.

    Args:
        array: N rows in one piece each, mapped.
    """

    def __init__(self, array: np.ndarray) -> None:
        self.pages: mmap.mmap = array._mmap  # type: ignore[attr-defined]
        self.pages.madvise(mmap.MADV_RANDOM)
        self.first = array.offset % mmap.ALLOCATIONGRANULARITY  # type: ignore[attr-defined]
        self.size = array.nbytes // len(array)
        self.asked = torch.empty(0, dtype=torch.int64)

    def __call__(self, rows: Tensor) -> None:
        if rows.equal(self.asked):
            return
        self.asked = rows
        for start, stop in runs(self.first + np.sort(rows.numpy().astype(np.int64)) * self.size, self.size):
            self.pages.madvise(mmap.MADV_WILLNEED, start, stop - start)


def runs(starts: np.ndarray, size: int) -> list[tuple[int, int]]:
    """Stretches of whole pages that hold ``size`` bytes from each of ``starts``, which rise.

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
    """Bytes that this process may keep: the machine's, or the least that a control group on the way to it allows."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for folder in _groups():
        limit = folder / "memory.max"
        text = limit.read_text().strip() if limit.is_file() else ""
        found += [int(text)] if text.isdecimal() else []
    return min(found)


def _groups() -> list[Path]:
    lines = OWN.read_text().splitlines() if OWN.is_file() else []
    found = [CGROUPS / line.removeprefix("0::/") for line in lines if line.startswith("0::/")]
    return [group for folder in found for group in (folder, *folder.parents) if group.is_relative_to(CGROUPS)]
