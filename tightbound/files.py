"""Files written whole or not at all: a temporary file, fsync, rename."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then put it in place: a reader sees the old or the new one.

    Args:
        path: the file. Where it is a link, the link is replaced, and what it points to stays as it is.
        write: called with the temporary file's path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_for(path)
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
