"""One process at a time writes into a folder; the system frees the folder when that process ends, however it ends."""

from __future__ import annotations

import os
import platform
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".lock"
_ours: dict[Path, int] = {}  # folders that threads of this process own, by the thread


@contextmanager
def owned(folder: Path, *, make: bool = True) -> Iterator[None]:
    """Own a folder for as long as the block runs. Within the block the same thread may own it once more.

    Args:
        folder: which.
        make: whether to make it where it is not there.

    Raises:
        ValueError: where somebody else owns it, with who that is, and where nothing can be written into it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place, owned(Path(place)), owned(Path(place)):
        ...     print(os.listdir(place))
        ['.lock']
    """
    if os.name != "posix":
        yield  # no other system has locks that end with their owner in Python's own library
        return
    if make:
        _make(folder)
    place = folder.resolve()
    if _ours.get(place) == threading.get_ident() or not folder.is_dir():
        yield
        return
    descriptor = _locked(folder)
    _ours[place] = threading.get_ident()
    try:
        yield
    finally:
        del _ours[place]
        os.close(descriptor)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"Expected a folder to write into; got {folder}: {error.strerror}. Choose another --out, or out= in Python."
        ) from None


def _locked(folder: Path) -> int:
    """A descriptor of the folder's lock, which holds it."""
    import fcntl

    path = folder / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise ValueError(
            f"Expected a folder to write into; got {folder}, whose {LOCK} cannot be opened: {error.strerror}. Choose "
            "another, or change its permissions."
        ) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"Expected a plain file at {path}; got something else. Remove it.")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {platform.node()}".encode(), 0)
    except BlockingIOError:
        who = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
        os.close(descriptor)
        raise ValueError(
            f"Expected a folder in which nobody is at work; got {folder}, into which {who} writes. Wait until it has "
            "ended, or choose another folder."
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
