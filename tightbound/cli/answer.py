"""What a verb gives: words for a person, or one strict JSON object for a program. No torch here."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["Answer", "answered", "answering", "strict"]


class Answer:
    """Takes what a verb has found.

    Args:
        as_json: whether it is one object, not words.

    Example:
        >>> answer = Answer(as_json=False)
        >>> answer.say("ELBO −90.1")
        ELBO −90.1
        >>> answer.give({"elbo": -90.1})
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.table: dict[str, Any] | None = None

    def say(self, words: object) -> None:
        """Words, which are shown at once; nothing where an object is wanted."""
        if not self.as_json:
            print(words, flush=True)

    def give(self, table: Mapping[str, Any]) -> None:
        """The object, which is shown when the verb has ended well; nothing where words are wanted."""
        self.table = {**(self.table or {}), **table}

    def found(self, result: Any) -> None:
        """Both of a result that has words and ``to_json``."""
        self.say(result)
        self.give(result.to_json())


@contextlib.contextmanager
def answering(*, as_json: bool) -> Iterator[Answer]:
    """Show what a verb gives. Where that is JSON, standard output takes the object alone, and all else goes to error.

    A verb that fails, or gives nothing, leaves standard output empty.

    Args:
        as_json: whether one object is wanted.

    Example:
        >>> with answering(as_json=True) as answer:
        ...     answer.say("not shown")
        ...     answer.give({"elbo": float("nan")})
        {"elbo": null}
    """
    answer = Answer(as_json=as_json)
    if not as_json:
        yield answer
        return
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield answer
        line = "" if answer.table is None else json.dumps(strict(answer.table), allow_nan=False)
    if line:
        print(line, file=out, flush=True)


def answered(work: Callable[..., int], *args: Any, as_json: bool, **named: Any) -> int:
    """Do a verb's work, which is given an ``answer``, and show that.

    Args:
        work: takes ``answer`` besides what follows, and gives the exit code.
        *args: what it is called with.
        as_json: whether one object is wanted.
        **named: what it is called with besides.

    Returns:
        The exit code.

    Example:
        >>> def half(x: float, *, answer: Answer) -> int:
        ...     answer.give({"half": x / 2})
        ...     return 0
        >>> answered(half, 3.0, as_json=True)
        {"half": 1.5}
        0
    """
    with answering(as_json=as_json) as answer:
        return work(*args, answer=answer, **named)


def strict(value: Any) -> Any:
    """Plain values that every reader of JSON takes: what is no number is null, a path is text.

    Args:
        value: numbers, text, paths, arrays, and mappings and sequences of them.

    Example:
        >>> strict({"se": float("inf"), "run": Path("runs/a"), "shape": (1, 8)})
        {'se': None, 'run': 'runs/a', 'shape': [1, 8]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): strict(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [strict(each) for each in value]
    return strict(value.tolist()) if hasattr(value, "tolist") else value
