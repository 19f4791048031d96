"""Plain values to frozen dataclasses and back, strictly: an unknown key or a value of another type is refused."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from typing import Any, Literal, TypeVar

T = TypeVar("T")


def to_table(value: Any) -> dict[str, Any]:
    """A dataclass as plain values, every field written out; what is None is left out, as TOML has no word for it."""
    table: dict[str, Any] = {}
    for item in dataclasses.fields(value):
        inner = getattr(value, item.name)
        if dataclasses.is_dataclass(inner):
            table[item.name] = to_table(inner)
        elif inner is not None:
            table[item.name] = list(inner) if isinstance(inner, tuple) else inner
    return table


def read(cls: type[T], table: dict[str, Any], where: str = "") -> T:
    """A dataclass from plain values, nested ones included.

    Args:
        cls: a dataclass of numbers, texts, tuples, literals, unions of these, and dataclasses.
        table: its values by name; a dash counts as an underscore.
        where: dotted name of the section, for messages.

    Raises:
        ValueError: for an unknown or doubled key, or a value of another type.
    """
    hints = typing.get_type_hints(cls)
    known = [item.name for item in dataclasses.fields(cls)]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            close = _in_sections(name, hints) or difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {where + close[0]!r}?" if close else f" There are: {', '.join(known)}."
            raise ValueError(f"Expected a known field; got {where + key!r}.{hint}")
        if name in values:
            raise ValueError(f"Expected {where + name} once; got it with a dash and with an underscore.")
        values[name] = _value(hints[name], value, where + name)
    return cls(**values)


def _in_sections(name: str, hints: dict[str, Any]) -> list[str]:
    sections = {key: hint for key, hint in hints.items() if dataclasses.is_dataclass(hint)}
    return [f"{key}.{name}" for key, hint in sections.items() for item in dataclasses.fields(hint) if item.name == name]


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ValueError(f"Expected a section [{where}]; got {value!r}.")
        return read(hint, value, where + ".")  # type: ignore[arg-type]
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for option in options:
        found, result = _match(option, value)
        if found:
            return result
    words = " or ".join(_words(option) for option in options if option is not type(None))
    close = difflib.get_close_matches(str(value), [w for option in options for w in _choices(option)], n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"Expected {words} for {where}; got {value!r}.{hint}")


def _match(hint: Any, value: Any) -> tuple[bool, Any]:
    origin = typing.get_origin(hint)
    if origin is tuple:
        return _match_tuple(typing.get_args(hint), value)
    if origin is Literal:
        return isinstance(value, str) and value in typing.get_args(hint), value
    if isinstance(value, bool):
        return hint is bool, value
    if hint is float and isinstance(value, int):
        return (True, float(value)) if abs(value) < 2**1023 else (False, None)
    return isinstance(value, hint), value


def _match_tuple(inner: tuple[Any, ...], value: Any) -> tuple[bool, Any]:
    endless = len(inner) == 2 and inner[1] is Ellipsis
    if not isinstance(value, (list, tuple)) or not (endless or len(value) == len(inner)):
        return False, None
    matched = [
        _match(hint, item) for hint, item in zip([inner[0]] * len(value) if endless else inner, value, strict=True)
    ]
    return all(found for found, _ in matched), tuple(item for _, item in matched)


def _choices(hint: Any) -> tuple[str, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


def _words(hint: Any) -> str:
    if choices := _choices(hint):
        return " or ".join(repr(choice) for choice in choices)
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        count = "" if inner[1] is Ellipsis else f"{len(inner)} "
        return f"a list of {count}{_words(inner[0]).removeprefix('a ')}s"
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}.get(hint, str(hint))
