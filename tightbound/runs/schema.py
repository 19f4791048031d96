"""Plain values to frozen dataclasses and back. An unknown key and a value of another type are errors. No torch here."""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from tightbound.surface import listed

T = TypeVar("T")
LARGEST = 2**64  # beyond what any machine counts to


@dataclass(frozen=True, eq=False)
class Names:
    """Marks a text in an ``Annotated`` hint as one of some names. The names are looked up when a value is read.

    Args:
        table: has the names as its keys.
        extra: words that are allowed besides.
        former: today's names by what they were called before; only hints use it.

    Example:
        >>> Names({"mlp": 1, "conv": 2}, extra=("auto",)).all()
        ('auto', 'mlp', 'conv')
    """

    table: Mapping[str, Any]
    extra: tuple[str, ...] = ()
    former: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def all(self) -> tuple[str, ...]:
        """Every word that is allowed."""
        return (*self.extra, *self.table)


@dataclass(frozen=True, eq=False)
class Variants:
    """Marks a section in an ``Annotated`` hint as one of several dataclasses, which its field ``name`` tells apart.

    Args:
        table: the dataclasses by name. The first one is meant where a section has no name.
        what: what error messages call one of them.
    """

    table: Mapping[str, type]
    what: str


def to_table(value: Any) -> dict[str, Any]:
    """A dataclass as plain values, with every field written out.

    Args:
        value: a dataclass of numbers, texts, tuples and dataclasses.

    Returns:
        Its values by name. What is None is left out, as TOML has no word for it.

    Example:
        >>> @dataclass
        ... class Size:
        ...     width: int = 3
        ...     depth: int | None = None
        >>> to_table(Size())
        {'width': 3}
    """
    table: dict[str, Any] = {}
    for item in dataclasses.fields(value):
        inner = getattr(value, item.name)
        if dataclasses.is_dataclass(inner):
            table[item.name] = to_table(inner)
        elif inner is not None:
            table[item.name] = list(inner) if isinstance(inner, tuple) else inner
    return table


def read(cls: type[T], table: Mapping[str, Any], *, where: str = "", what: str = "a known field") -> T:
    """A dataclass from plain values, nested ones included.

    Args:
        cls: a dataclass of numbers, texts, tuples, literals, unions of these, and dataclasses; a text may be marked
            with :class:`Names`, a dataclass with :class:`Variants`.
        table: its values by name; a dash counts as an underscore.
        where: dotted name of the section, for messages.
        what: what a key must be, for messages.

    Returns:
        The dataclass.

    Raises:
        ValueError: for an unknown or doubled key, or a value of another type.

    Example:
        >>> @dataclass
        ... class Size:
        ...     width: int = 3
        >>> read(Size, {"width": 4})
        Size(width=4)
    """
    hints = typing.get_type_hints(cls, include_extras=True)
    known = [item.name for item in dataclasses.fields(cls)]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            close = _in_sections(name, hints) or difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {where + close[0]!r}?" if close else f" There are: {', '.join(known)}."
            raise ValueError(f"Expected {what}; got {where + key!r}.{hint}")
        if name in values:
            raise ValueError(f"Expected {where + name} once; got it with a dash and with an underscore.")
        values[name] = _value(hints[name], value, where + name)
    return cls(**values)


def marked(hint: Any, kind: type[T]) -> T | None:
    """The mark of this kind that an ``Annotated`` hint carries, or None.

    Args:
        hint: any type hint.
        kind: :class:`Names` or :class:`Variants`.

    Returns:
        The mark.

    Example:
        >>> marked(Annotated[str, Names({"a": 1})], Names).all()
        ('a',)
    """
    return next((mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, kind)), None)


def fields_of(cls: type) -> list[str]:
    """The names of a dataclass's fields.

    Args:
        cls: a dataclass.

    Example:
        >>> fields_of(Names)
        ['table', 'extra', 'former']
    """
    return [item.name for item in dataclasses.fields(cls)]


def _sections(hints: Mapping[str, Any]) -> dict[str, list[type]]:
    """Every section of a dataclass, with the classes that it may be of."""
    found: dict[str, list[type]] = {}
    for key, hint in hints.items():
        if variants := marked(hint, Variants):
            found[key] = list(variants.table.values())
        elif dataclasses.is_dataclass(hint):
            found[key] = [typing.cast(type, hint)]
    return found


def _in_sections(name: str, hints: Mapping[str, Any]) -> list[str]:
    return [
        f"{key}.{name}" for key, classes in _sections(hints).items() if any(name in fields_of(cls) for cls in classes)
    ]


def _value(hint: Any, value: Any, where: str) -> Any:
    variants = marked(hint, Variants)
    if variants or dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ValueError(f"Expected a section [{where}]; got {value!r}.")
        return _variant(variants, value, where) if variants else read(hint, value, where=where + ".")
    options = _options(hint)
    for option in options:
        found, result = _match(option, value)
        if found:
            return result
    words = " or ".join(_words(option) for option in options if option is not type(None))
    raise ValueError(f"Expected {words} for {where}; got {value!r}.{_meant(value, options)}")


def _variant(variants: Variants, table: Mapping[str, Any], where: str) -> Any:
    name = table.get("name", next(iter(variants.table)))
    _value(Annotated[str, Names(variants.table)], name, f"{where}.name")
    own = fields_of(variants.table[name])
    for key in (key.replace("-", "_") for key in table):
        owners = [other for other, cls in variants.table.items() if key in fields_of(cls)]
        if owners and key not in own:
            raise ValueError(
                f"Expected only the fields {listed(each for each in own if each != 'name')} with the "
                f"{variants.what} {name!r}; "
                f"got {where}.{key}, a field of {listed(map(repr, owners))}. Leave it out, or choose another "
                f"{where}.name."
            )
    rest = {key: value for key, value in table.items() if key != "name"}
    return read(variants.table[name], rest, where=f"{where}.", what=f"a field of the {variants.what} {name!r}")


def _options(hint: Any) -> Sequence[Any]:
    """The types that a value may be of."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _meant(value: Any, options: Iterable[Any]) -> str:
    """A hint at the word that somebody may have meant."""
    if isinstance(value, int) and abs(value) >= LARGEST:
        return " Take one below 2⁶⁴."
    former = [names.former.get(str(value)) for option in options if (names := marked(option, Names))]
    close = difflib.get_close_matches(str(value), [word for option in options for word in _choices(option)], n=1)
    found = next(filter(None, [*former, *close]), None)
    return f" Did you mean {found!r}?" if found else ""


def _match(hint: Any, value: Any) -> tuple[bool, Any]:
    origin = typing.get_origin(hint)
    if origin is tuple:
        return _match_tuple(typing.get_args(hint), value)
    if choices := _choices(hint):
        return isinstance(value, str) and value in choices, value
    if isinstance(value, bool):
        return hint is bool, value
    if hint is int and isinstance(value, int):
        return abs(value) < LARGEST, value
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
    """The words that a hint allows; none where it allows something else."""
    if names := marked(hint, Names):
        return names.all()
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


def _words(hint: Any) -> str:
    if choices := _choices(hint):
        return " or ".join(repr(choice) for choice in choices)
    if typing.get_origin(hint) is tuple:
        inner = typing.get_args(hint)
        count = "" if inner[1] is Ellipsis else f"{len(inner)} "
        return f"a list of {count}{_words(inner[0]).removeprefix('a ')}s"
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}.get(hint, str(hint))
