"""Files written whole or not at all: a temporary file, fsync, rename."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tightbound.paths import require_path

if TYPE_CHECKING:
    from torch import Tensor

DIGESTS = "digests.json"
GENERATIONS = 3  # digests that are kept of a file: it, the one before it, and one that was being written
_HOST = re.sub(r"[^0-9A-Za-z]", "", platform.node())[:16] or "host"

LONGEST_HEAD = 10**8  # bytes, as safetensors has it

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


def why(error: OSError) -> str:
    """What an error of the system says, without the full stop of a sentence.

    Args:
        error: any.

    Example:
        >>> why(DiskFullError(Path("x")))
        'Expected room on the disk; ... what was written before is whole'
    """
    return (error.strerror or str(error)).rstrip(".")


def require_file(path: Path, remedy: str = "Give the path of a file.") -> None:
    """Refuse what is no file before it is opened: reading from a pipe or a device may never end.

    Args:
        path: of a file, or of nothing yet.
        remedy: a sentence.

    Raises:
        ValueError: for a pipe, a device, a socket or a folder, and for a path that the system does not take.

    Example:
        >>> require_file(Path("/dev/zero"))
        Traceback (most recent call last):
        ValueError: Expected a file; got /dev/zero, which is a device. Give the path of a file.
    """
    require_path(path)
    mode = path.stat().st_mode if path.exists() else 0  # of what is missing whoever opens it speaks
    kinds = (
        (stat.S_ISFIFO, "pipe"), (stat.S_ISCHR, "device"), (stat.S_ISBLK, "device"), (stat.S_ISSOCK, "socket"),
        (stat.S_ISDIR, "folder"),
    )  # fmt: skip
    for is_so, kind in kinds:
        if is_so(mode):
            raise ValueError(f"Expected a file; got {path}, which is a {kind}. {remedy}")


def write_atomically(path: Path, write: Callable[[Path], object], *, before: Callable[[Path], object] = bool) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place: a reader sees the old or the new one.

    Args:
        path: the file. Where it is a link, the link is replaced, and what it points to stays as it is.
        write: called with the temporary file's path.
        before: called with the same when the file is whole, before it takes its place; does nothing by default.

    Raises:
        DiskFullError: where there is no room for it; the old file is whole.
    """
    require_file(path, "Remove it, or choose another path.")
    with told_when_full(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path)
        temporary = temporary_for(path)
        try:
            temporary.unlink(missing_ok=True)  # somebody's link to elsewhere
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            write(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            before(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def temporary_for(path: Path) -> Path:
    """Where this thread writes a file before it takes its place; no other thread or process writes there."""
    return path.with_name(f".{path.name}.{_HOST}-{os.getpid()}-{threading.get_ident()}.tmp")


def is_temporary(name: str, of: str) -> bool:
    """Whether a file of this name is one that was being written in place of another.

    Args:
        name: of the file.
        of: the other's name.

    Example:
        >>> is_temporary(temporary_for(Path("recipe.toml")).name, of="recipe.toml")
        True
    """
    return name.startswith(f".{of}.") and name.endswith(".tmp")


def _clear(path: Path) -> None:
    """Remove what processes of this machine left behind that were killed while they wrote."""
    for item in os.scandir(path.parent):
        parts = item.name.removesuffix(".tmp").rsplit("-", 2)
        ours = is_temporary(item.name, path.name) and len(parts) == 3 and parts[0].endswith(f".{_HOST}")
        if ours and parts[1].isdecimal() and not _lives(int(parts[1])):
            Path(item.path).unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return True


def write_kept(folder: Path, name: str, write: Callable[[Path], object], *, older: str | None = None) -> None:
    """Write a file atomically, and its digest beside it, so that :func:`require_kept` finds every bit that changed.

    The digest comes first and the file's last digests stay: whenever a kill comes, the file that is there is known.

    Args:
        folder: where digests are kept.
        name: of the file, within it.
        write: called with the temporary file's path.
        older: where the file that was there is kept, within the folder; nowhere by default.
    """
    path = folder / name

    def record(temporary: Path) -> None:
        known = _digests(folder)
        known[name] = list(dict.fromkeys([digest_of(temporary), *known.get(name, [])]))[:GENERATIONS]
        write_json(folder / DIGESTS, known)
        if older is not None and path.is_file():
            _keep(path, folder / older)

    write_atomically(path, write, before=record)


def require_kept(folder: Path, name: str, *, as_written: str | None = None) -> None:
    """Compare a file with the digest that was kept of it. Files without one, those of older versions, pass.

    Args:
        folder: where digests are kept.
        name: of the file, within it.
        as_written: the name under which it was written, where it is an older one.

    Raises:
        ValueError: for a file of which any bit has changed since it was written.
    """
    known = _digests(folder).get(as_written or name)
    if known and digest_of(folder / name) not in known:
        raise ValueError(
            f"Expected {folder / name} as it was written; got a file that has changed since, by its SHA-256 in "
            f"{DIGESTS}. The disk, or a copy, has damaged it: take it from a backup."
        )


def digest_of(path: Path) -> str:
    """The SHA-256 of a file.

    Args:
        path: which.

    Example:
        >>> digest_of(Path(os.devnull))[:12]
        'e3b0c44298fc'
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digests(folder: Path) -> dict[str, list[str]]:
    path = folder / DIGESTS
    if not path.is_file():
        return {}
    remedy = f"Put back {DIGESTS} as it was; without it, nothing tells whether a file has changed."
    with foreign(path, "digests of this folder's files", remedy):
        found = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(found, dict) and all(isinstance(known, list) for known in found.values())):
            raise ValueError("no lists of digests by the names of files")
        return {name: [str(each) for each in known] for name, known in found.items()}


def _keep(path: Path, older: Path) -> None:
    """Let a second name stand for a file, whatever stood there before."""
    _clear(older)
    other = temporary_for(older)
    other.unlink(missing_ok=True)
    try:
        os.link(path, other)
    except OSError:  # a file system without second names
        shutil.copyfile(path, other)
    other.replace(older)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a value as strict JSON, atomically."""
    write_text(path, as_json(value))


def as_json(value: Any) -> str:
    """A value as strict JSON, in lines.

    Args:
        value: plain.

    Example:
        >>> print(as_json({"a": None}), end="")
        {
          "a": null
        }
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    if text.encode(errors="ignore").decode() != text:  # the path of a file whose name is no UTF-8
        text = json.dumps(value, indent=2, allow_nan=False)
    return text + "\n"


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write named tensors as safetensors, atomically; tied ones are written out, each under its own name."""
    data = as_safetensors(tensors)
    write_atomically(path, lambda temporary: temporary.write_bytes(data))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name, at any path: safetensors itself takes no name but UTF-8.

    Args:
        path: which.
    """
    from safetensors.torch import load

    require_file(path)
    return load(path.read_bytes())


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors in a safetensors file, from its head alone.

    Args:
        path: which.

    Raises:
        ValueError: for a head that is none.
    """
    require_file(path)
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > min(LONGEST_HEAD, path.stat().st_size):
            raise ValueError(f"a head of {size} bytes")
        head = json.loads(file.read(size))
    return {name: tuple(each["shape"]) for name, each in head.items() if name != "__metadata__"}


def as_safetensors(tensors: dict[str, Tensor]) -> bytes:
    """Named tensors in the form of a safetensors file.

    Args:
        tensors: by name; tied ones are written out, each under its own.
    """
    from safetensors.torch import save  # not save_file, whose own temporary file only its owner may read

    return save({name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()})


class ForeignFileError(ValueError):
    """A file is damaged, or was made by somebody else for something else.

    Example:
        >>> with foreign(Path("x.json"), "JSON"):
        ...     json.loads("")
        Traceback (most recent call last):
        tightbound.files.ForeignFileError: Expected JSON; got a damaged or foreign file at x.json (...
    """


@contextmanager
def foreign(path: Path, expected: str, remedy: str = "") -> Iterator[None]:
    """Whatever goes wrong while a stranger's file is read is that file's fault, and a ValueError.

    Args:
        path: of the file.
        expected: what it should hold.
        remedy: a sentence on how there will be a good one.

    Raises:
        ForeignFileError: in place of any other exception but that of a library which is not installed, and of another
            file that is to blame.
    """
    try:
        yield
    except (ModuleNotFoundError, ForeignFileError):  # an extra that is not installed is no fault of the file's
        raise
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        if type(error).__name__ == "UnpicklingError":  # whose own text says how to run the file's code after all
            first = "a pickle of more than plain values"
        raise ForeignFileError(
            f"Expected {expected}; got a damaged or foreign file at {path} ({first.rstrip('.')}). Nothing in it was "
            f"run.{remedy and ' '}{remedy}"
        ) from None


def _sync_folder(folder: Path) -> None:
    if os.name == "posix":  # the rename itself lasts only once the folder is on disk
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
