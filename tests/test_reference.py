"""The reference: what it names says what it takes, what it gives, and shows an example."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

API = (Path(__file__).parents[1] / "docs" / "api.md").read_text("utf-8")


def surface() -> Iterator[tuple[str, Any]]:
    """Every function and class that the reference shows, and every public method that one of its classes writes."""
    seen = {}
    for kind, path, options in re.findall(r"auto(\w+):: ([\w.]+)((?:\n   :.*)*)", API):
        if kind == "module":
            module = importlib.import_module(path)
            named = re.search(r":members: (.+)", options)
            names = named[1].split(", ") if named else [n for n in dir(module) if not n.startswith("_")]
            things = [getattr(module, name) for name in names]
            own = [t for t in things if getattr(t, "__module__", "") == path or ":imported-members:" in options]
        else:
            module, _, name = path.rpartition(".")
            own = [getattr(importlib.import_module(module), name)]
        for thing in own:
            if inspect.isfunction(thing) or inspect.isclass(thing):
                seen[f"{thing.__module__}.{thing.__qualname__}"] = thing
    for name, thing in seen.items():
        if not name.startswith("tightbound."):
            continue
        yield name, thing
        if inspect.isclass(thing):
            for method, function in vars(thing).items():
                function = getattr(function, "__func__", function)
                if inspect.isfunction(function) and not method.startswith("_"):
                    yield f"{name}.{method}", function


SURFACE = dict(surface())


def parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


def test_the_surface_is_found() -> None:
    assert {"tightbound.autoencoder.VAE", "tightbound.model.Model.draw", "tightbound.bounds.iwae"} <= SURFACE.keys()


@pytest.mark.parametrize("name", [n for n, thing in SURFACE.items() if inspect.isfunction(thing)])
def test_each_argument_is_explained(name: str) -> None:
    function, owner = SURFACE[name], SURFACE.get(name.rpartition(".")[0])
    text = inspect.getdoc(function)
    if inspect.isclass(owner) and not function.__doc__:  # explained by the class that asks for it, ours or torch's
        asking = [base for base in owner.__mro__[1:] if function.__name__ in vars(base)]
        assert asking, f"{name} has no docstring."
        if not any(base.__module__.startswith("tightbound.") for base in asking):
            return
    assert text is not None
    missing = [each for each in parameters(function) if not re.search(rf"^ +\*{{0,2}}{each}( \(.*\))?:", text, re.M)]
    assert not missing, f"{name} does not say what these are: {', '.join(missing)}."


def abstract(thing: Any) -> bool:
    return inspect.isabstract(thing) or getattr(thing, "_is_protocol", False)


@pytest.mark.parametrize(
    "name", [n for n, t in SURFACE.items() if not abstract(t) and (inspect.isclass(t) or "." not in t.__qualname__)]
)
def test_each_has_an_example(name: str) -> None:
    assert ">>>" in (inspect.getdoc(SURFACE[name]) or ""), f"{name} has no example."
