"""Standard output and error as they come: without an encoding for ±, closed, on a full disk. No torch here."""

from __future__ import annotations

import codecs
import io
import os
import sys
import unicodedata

PLAIN = {
    "±": "+-", "−": "-", "–": "-", "—": "-", "…": "...", "·": ".", "×": "x", "≥": ">=", "≤": "<=", "≠": "!=",
    "≈": "~", "∞": "inf", "√": "sqrt", "→": "->", "←": "<-", "²": "^2", "³": "^3", "½": "1/2", "‘": "'", "’": "'",
    "“": '"', "”": '"', "•": "*", "°": " degrees", "\N{NO-BREAK SPACE}": " ", "━": "-", "─": "-", "│": "|", "┃": "|",
}  # fmt: skip
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

    What the encoding does not have is written in ASCII. A stream that is closed swallows what it gets, and so does
    standard error where nobody can read it: on a full disk, or in a pipe whose reader has left.
    """
    codecs.register_error(DEGRADED, _degrade)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # closed: the next file to be opened would be taken for it
            setattr(sys, name, open(os.devnull, "r+" if number else "r", encoding="utf-8"))  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors=DEGRADED)
    if isinstance(sys.stderr, io.TextIOWrapper) and sys.stderr is sys.__stderr__:
        unread = io.BufferedWriter(_Unread(sys.stderr.fileno(), "w", closefd=False))
        sys.stderr = io.TextIOWrapper(unread, sys.stderr.encoding, DEGRADED, line_buffering=True, write_through=True)


def _degrade(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return plain(error.object[error.start : error.end]), error.end


class _Unread(io.FileIO):
    """A file that takes what it is given, written or not."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError:
            return len(memoryview(data))  # type: ignore[arg-type]
