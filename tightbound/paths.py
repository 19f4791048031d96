"""Paths that the system does not take, refused in a sentence: too long, without an end, with a NUL byte; the cache."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def refusal_of(error: BaseException, path: str | os.PathLike[str] = "") -> str | None:
    """What is wrong with a path that the system does not take; None for any other error.

    Args:
        error: what the system, or Python, says of it.
        path: which, where the error does not know.

    Example:
        >>> refusal_of(OSError(errno.ENAMETOOLONG, "File name too long", "aaa"))
        'Expected a path that the system takes; got one whose name is too long: aaa. Take a shorter one.'
    """
    number = error.errno if isinstance(error, OSError) else None
    name = os.fspath(path) or (error.filename if isinstance(error, OSError) else None) or ""
    name = os.fsencode(name).decode(errors="backslashreplace").replace("\0", "\\0")
    if number == errno.ENAMETOOLONG:
        return f"Expected a path that the system takes; got one whose name is too long: {name}. Take a shorter one."
    if number == errno.ELOOP or (isinstance(error, RuntimeError) and str(error).startswith("Symlink loop")):
        where = name or str(error).partition("'")[2].rpartition("'")[0]
        return f"Expected a path that leads somewhere; got {where}, a link that leads to itself. Remove the link."
    if number == errno.EEXIST:
        return f"Expected a folder to write into; got {name}, which is something else. Choose another, or remove it."
    if isinstance(error, ValueError) and "embedded null" in str(error):
        named = f": {name}" if name else ""
        return f"Expected a path without a NUL byte; got one with it{named}. Take another."
    return None


def require_path(path: str | os.PathLike[str]) -> None:
    """Refuse a path that the system does not take, before anything is done with it.

    Args:
        path: of a file or a folder, which need not be there.

    Raises:
        ValueError: for a name that is too long, a link that leads to itself, and a NUL byte.

    Example:
        >>> require_path(256 * "a")
        Traceback (most recent call last):
        ValueError: Expected a path that the system takes; got one whose name is too long: aaa... Take a shorter one.
    """
    for name in (path, *Path(path).parts):  # each part too: below a folder that is not there the system looks at none
        try:
            os.stat(name) if name is path else os.lstat(name)
        except (OSError, ValueError) as error:
            if refused := refusal_of(error, path):
                raise ValueError(refused) from None


def require_utf8(*words: str) -> None:
    """Refuse a name that no recipe and no report could be written with.

    Args:
        words: that may be names of files, as Python has them.

    Raises:
        ValueError: for the first that is no UTF-8.

    Example:
        >>> require_utf8("data.npy", "\\udcff.npy")
        Traceback (most recent call last):
        ValueError: Expected names in UTF-8; got '\\xff.npy'. Rename the file or the folder, or link to it: ln -s.
    """
    for word in words:
        if word.encode(errors="ignore").decode() != word:
            name = os.fsencode(word).decode(errors="backslashreplace")
            raise ValueError(
                f"Expected names in UTF-8; got '{name}'. Rename the file or the folder, or link to it: ln -s."
            )


def cache() -> Path:
    """The folder of what can be fetched or made again: ``$XDG_CACHE_HOME/tightbound``, or ``~/.cache/tightbound``.

    Example:
        >>> cache().name
        'tightbound'
    """
    given = os.environ.get("XDG_CACHE_HOME")
    return Path(given or os.path.expanduser("~/.cache")) / "tightbound"
