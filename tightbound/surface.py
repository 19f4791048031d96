"""Words: what a module answers when it is asked for a name that it does not have, and lists. No torch here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence


def missing(
    module: str, name: str, known: Iterable[str], *, instead: Mapping[str, str] | None = None
) -> AttributeError:
    """The error for a name that a module does not have, with the one that may have been meant.

    Args:
        module: the module's name.
        name: what it was asked for.
        known: the names that it has.
        instead: what to write for names that are known from elsewhere.

    Returns:
        An error to be raised.

    Example:
        >>> missing("tightbound", "objectivs", ["objectives", "priors"])
        AttributeError("module 'tightbound' has no attribute 'objectivs'. Did you mean objectives?")
    """
    close = [word for word in known if word.lower() == name.lower()] or difflib.get_close_matches(
        name, list(known), n=1
    )
    meant = (instead or {}).get(name) or next(iter(close), "")
    hint = f". Did you mean {meant}?" if meant else ""
    return AttributeError(f"module {module!r} has no attribute {name!r}{hint}")


def listed(words: Iterable[str], last: str = "and") -> str:
    """Words as a sentence lists them.

    Args:
        words: any.
        last: what stands before the last of them.

    Returns:
        One text.

    Example:
        >>> listed(["a", "b", "c"], "or"), listed(["a"])
        ('a, b or c', 'a')
    """
    *others, end = words
    return f"{', '.join(others)} {last} {end}" if others else end


def some(words: Sequence[str], most: int) -> str:
    """The first of many words, and how many more there are.

    Args:
        words: any.
        most: how many of them are said.

    Returns:
        One text.

    Example:
        >>> some(["a", "b", "c"], 2), some(["a", "b"], 2)
        ('a, b and 1 more', 'a, b')
    """
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")
