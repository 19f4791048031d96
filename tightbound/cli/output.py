"""Standard output and error as they come: without an encoding for ±, closed, on a full disk. No torch here."""

from __future__ import annotations

import codecs
import io
import os
import shutil
import sys
import unicodedata
import warnings
from typing import Any

PLAIN = {
    "±": "+-", "−": "-", "–": "-", "—": "-", "…": "...", "·": ".", "×": "x", "≥": ">=", "≤": "<=", "≠": "!=",
    "≈": "~", "∞": "inf", "√": "sqrt", "→": "->", "←": "<-", "²": "^2", "³": "^3", "½": "1/2", "‘": "'", "’": "'",
    "“": '"', "”": '"', "•": "*", "°": " degrees", "\N{NO-BREAK SPACE}": " ", "━": "-", "─": "-", "│": "|", "┃": "|",
}  # fmt: skip
LEAST_COLUMNS = 20  # in fewer no help can be laid out, and rich never ends with none
DEGRADED = "tightbound.plain"  # the name of the errors handler


def plain(text: str) -> str:
    r"""Text in ASCII: a sign that has none by what it is called, a letter of another script by its code.

    Args:
        text: any.

    Example:
        >>> plain("−3.1 ± 0.2 at σ … é")
        '-3.1 +- 0.2 at sigma ... \\u00e9'
    """
    return "".join(letter if letter.isascii() else _plain(letter) for letter in text)


def _plain(letter: str) -> str:
    name = unicodedata.name(letter, "")
    if letter in PLAIN:
        return PLAIN[letter]
    if name.startswith("GREEK") and " LETTER " in name:
        called = name.split(" LETTER ")[1].split()[0].lower()
        return called if "SMALL" in name else called.capitalize()
    if name.startswith("BOX DRAWINGS"):
        return "+"
    return f"\\u{ord(letter):04x}" if ord(letter) < 2**16 else f"\\U{ord(letter):08x}"


def prepare() -> None:
    """Let what is said degrade and never end a work: called once, before anything is said.

    What the encoding does not have is written in ASCII. A stream that is closed swallows what it gets, and so does one
    that nobody can read: on a full disk, or in a pipe whose reader has left. :func:`unsaid` tells of standard output.
    A warning is one line.
    """
    codecs.register_error(DEGRADED, _degrade)
    _environment()
    warnings.showwarning = _warn
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # closed: the next file to be opened would be taken for it
            setattr(sys, name, open(os.devnull, "r+" if number else "r", encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout is sys.__stdout__:
        own = sys.stdout
        sys.stdout = _degrading(own, line_buffering=own.line_buffering, write_through=own.write_through)
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=DEGRADED)
    if isinstance(sys.stderr, io.TextIOWrapper) and sys.stderr is sys.__stderr__:
        sys.stderr = _degrading(sys.stderr, line_buffering=True, write_through=True)


def unsaid() -> OSError | None:
    """What kept standard output from taking the result; None where it took all of it, or was not prepared."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.error if isinstance(raw, _Unread) else None


def _degrading(stream: io.TextIOWrapper, *, line_buffering: bool, write_through: bool) -> io.TextIOWrapper:
    unread = io.BufferedWriter(_Unread(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(unread, stream.encoding, DEGRADED, None, line_buffering, write_through)


def _environment() -> None:
    """Leave out variables with which libraries fail, or never end, over what no command needs."""
    columns = os.environ.get("COLUMNS", "")
    if columns and not (columns.isdecimal() and int(columns[:9]) >= LEAST_COLUMNS):
        del os.environ["COLUMNS"]
    if "COLUMNS" not in os.environ and 0 < shutil.get_terminal_size().columns < LEAST_COLUMNS:
        os.environ["COLUMNS"] = str(LEAST_COLUMNS)
    os.environ.pop("MPLBACKEND", None)  # figures are written and never shown


def _warn(message: Warning | str, *more: Any, **named: Any) -> None:
    print(f"tightbound: {' '.join(str(message).split())}", file=sys.stderr, flush=True)


def _degrade(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return plain(error.object[error.start : error.end]), error.end


class _Unread(io.FileIO):
    """A file that takes what it is given, written or not, and keeps why it was not."""

    error: OSError | None = None

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            self.error = error
            return len(memoryview(data))  # type: ignore[arg-type]
