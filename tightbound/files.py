"""Files written whole or not at all: a temporary file, fsync, rename."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_ROOM = "Expected room on the disk; got none: the disk is full, or your share of it"
MAKE_ROOM = "Make room and go on: what was written before is whole."
ANONYMOUS = ("iostream error", "unexpected pos")  # what torch says of any error while it writes, a full disk mostly


class DiskFullError(OSError):
    """There is no room left on the disk for a file; what was there before is whole.

    Example:
        >>> raise DiskFullError(Path("run/model.safetensors"))
        Traceback (most recent call last):
        tightbound.files.DiskFullError: Expected room on the disk; got none: ...
    """

    def __init__(self, path: Path) -> None:
        super().__init__(f"{NO_ROOM}, for {path}. {MAKE_ROOM}")
        self.errno = errno.ENOSPC


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those that it came from.

    Args:
        error: the last of them.

    Example:
        >>> [str(each) for each in chain_of(ValueError("x"))]
        ['x']
    """
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@contextmanager
def told_when_full(path: Path) -> Iterator[None]:
    """A full disk is named as such, whoever says so.

    Args:
        path: what is written.

    Raises:
        DiskFullError: in place of what a full disk raises.

    Example:
        >>> with told_when_full(Path("x")):
        ...     raise OSError(errno.ENOSPC, "No space left on device")
        Traceback (most recent call last):
        tightbound.files.DiskFullError: Expected room on the disk; got none: ...
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        full = any(isinstance(each, OSError) and each.errno in FULL for each in chain_of(error))
        if full or (isinstance(error, RuntimeError) and any(words in str(error) for words in ANONYMOUS)):
            raise DiskFullError(path) from error
        raise


def require_file(path: Path) -> None:
    """Refuse what is no file before it is opened: reading from a pipe or a device may never end.

    Args:
        path: of a file, or of nothing yet.

    Raises:
        ValueError: for a pipe, a device or a socket.

    Example:
        >>> require_file(Path("/dev/zero"))
        Traceback (most recent call last):
        ValueError: Expected a file; got /dev/zero, which is a device. Give the path of a file.
    """
    mode = path.stat().st_mode if path.exists() else 0  # of what is missing whoever opens it speaks
    kinds = ((stat.S_ISFIFO, "pipe"), (stat.S_ISCHR, "device"), (stat.S_ISBLK, "device"), (stat.S_ISSOCK, "socket"))
    for is_so, kind in kinds:
        if is_so(mode):
            raise ValueError(f"Expected a file; got {path}, which is a {kind}. Give the path of a file.")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place: a reader sees the old or the new one.

    Args:
        path: the file. Where it is a link, the link is replaced, and what it points to stays as it is.
        write: called with the temporary file's path.

    Raises:
        DiskFullError: where there is no room for it; the old file is whole.
    """
    temporary = temporary_for(path)
    with told_when_full(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.unlink(missing_ok=True)  # of a process killed while it wrote, or somebody's link to elsewhere
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            write(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def temporary_for(path: Path) -> Path:
    """Where a file is written before it takes its place: always the same, so that kills leave one behind, not many."""
    return path.with_name(f".{path.name}.tmp")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a value as strict JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write named tensors as safetensors, atomically; tied ones are written out, each under its own name."""
    from safetensors.torch import save  # not save_file, whose own temporary file only its owner may read

    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    write_atomically(path, lambda temporary: temporary.write_bytes(save(plain)))


@contextmanager
def foreign(path: Path, expected: str) -> Iterator[None]:
    """Whatever goes wrong while a stranger's file is read is that file's fault, and a ValueError.

    Raises:
        ValueError: in place of any other exception but that of a library which is not installed.
    """
    try:
        yield
    except ModuleNotFoundError:  # an extra that is not installed here is no fault of the file's
        raise
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        if type(error).__name__ == "UnpicklingError":  # whose own text says how to run the file's code after all
            first = "a pickle of more than plain values"
        raise ValueError(
            f"Expected {expected}; got a damaged or foreign file at {path} ({first}). Nothing in it was run."
        ) from None


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # the rename itself lasts only once the folder is on disk
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
