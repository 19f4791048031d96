"""A call that is written down and made later. No torch here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Plan:
    """What is called and with what: so a recipe can say how a piece is made without importing it.

    Args:
        called: a class or a function, as dotted text.
        arguments: what it is called with, by name; plans among them are made first.

    Example:
        >>> Plan("tightbound.schedules.Linear", {"start": 0.0, "end": 4.0, "steps": 10}).make()
        Linear(start=0.0, end=4.0, steps=10)
    """

    called: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Any:
        """Import what is called and call it.

        Returns:
            What it gives.

        Raises:
            ValueError: for arguments that it refuses.
        """
        given = {name: value.make() if isinstance(value, Plan) else value for name, value in self.arguments.items()}
        return imported(self.called)(**given)


def imported(text: str) -> Any:
    """What dotted text names.

    Args:
        text: a module and a name in it.

    Returns:
        The thing itself.

    Example:
        >>> imported("math.pi")
        3.141592653589793
    """
    module, _, name = text.rpartition(".")
    return getattr(importlib.import_module(module), name)
