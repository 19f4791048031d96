"""Memory of this process as Linux counts it, and the pages of a mapped file: fetched, or forgotten."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from torch import Tensor

MIB = 2**20
_LIBC = ctypes.CDLL(None, use_errno=True)


def limit(mib: int) -> None:
    """Let this process allocate no more: heap, private maps and stacks of threads, but not pages of mapped files."""
    resource.setrlimit(resource.RLIMIT_DATA, (mib * MIB, mib * MIB))


def anonymous() -> float:
    """Resident MiB that belong to the process: what the system cannot take back without swap."""
    return _number("status", r"RssAnon:\s+(\d+)") / 1024


def pages_of_files() -> float:
    """Resident MiB that the system can drop and read again."""
    return _number("status", r"RssFile:\s+(\d+)") / 1024


def peak() -> float:
    """The most MiB resident since the process began, or since :func:`forget_peak`.

    ``ru_maxrss`` would be no less than what the process that started this one had at that time.
    """
    return _number("status", r"VmHWM:\s+(\d+)") / 1024


def forget_peak() -> None:
    """Start to watch memory anew."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_of(work: str) -> float:
    """MiB at the peak of a process of its own, which does what this line of Python says; it can import benchmarks."""
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); {work}; import memory; print(memory.peak())"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


def read_from_disk() -> float:
    """MiB that this process made the disk read so far, read-ahead included."""
    return _number("io", r"read_bytes: (\d+)") / MIB


def _number(file: str, pattern: str) -> float:
    found = re.search(pattern, Path("/proc/self", file).read_text())
    return float(found[1]) if found else float("nan")


def forget(stored: Tensor, path: Path) -> None:
    """No page of the file in memory: unmapped here, then dropped from the system's cache."""
    start = stored.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
    length = stored.data_ptr() + stored.nbytes - start
    if _LIBC.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), mmap.MADV_DONTNEED):
        raise OSError(ctypes.get_errno(), f"madvise on {path}")
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def fetch(stored: Tensor) -> None:
    """Every page of the file in memory."""
    for part in stored.split(8192):
        part.flatten(1)[:, :: mmap.PAGESIZE // 8].sum()


class Stage:
    """A row of a table: seconds, anonymous MiB at the peak and afterwards, beyond those before, and MiB read."""

    def __init__(self, name: str, rows: list[dict[str, Any]]) -> None:
        self.name, self.rows, self.over = name, rows, threading.Event()

    def __enter__(self) -> None:
        self.start, self.read, self.before = time.perf_counter(), read_from_disk(), anonymous()
        self.peak = self.before
        self.watcher = threading.Thread(target=self._watch)
        self.watcher.start()

    def _watch(self) -> None:
        while not self.over.wait(0.005):
            self.peak = max(self.peak, anonymous())

    def __exit__(self, *_: object) -> None:
        took, after = time.perf_counter() - self.start, anonymous()
        self.over.set()
        self.watcher.join()
        most = max(self.peak, after) - self.before
        values = {
            "s": took,
            "peak MiB": most,
            "kept MiB": after - self.before,
            "read MiB": read_from_disk() - self.read,
        }
        self.rows.append({"stage": self.name, **values})
