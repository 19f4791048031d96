"""Objectives as Python prints them, read again: nothing is called but the library's own, and that with plain values."""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass
from typing import Any

from tightbound import bounds, gradients, objectives, schedules
from tightbound.runs.drawn import DrawnRecipe
from tightbound.runs.pieces import GRADIENTS
from tightbound.runs.registry import OBJECTIVES, plan
from tightbound.runs.rows import ObjectiveRecipe
from tightbound.runs.schema import fields_of

_PLACES = {
    name: (cls, module.__name__.replace("tightbound", "tb"))
    for module in (bounds, schedules, gradients, objectives)
    for name, cls in vars(module).items()
    if inspect.isclass(cls) and cls.__module__.startswith(module.__name__)
}


@dataclass(frozen=True)
class SaidObjective:
    """An objective that no recipe can name.

    Attributes:
        said: It in words, as Python prints it.
    """

    said: str
    name: str = "given in Python"

    def in_words(self, steps: int) -> str:
        """One sentence on what the loss is.

        Args:
            steps: how many the training took.
        """
        return f"Loss: {self.said}."


def rebuilt(said: str) -> Any:
    """The objective that Python prints so.

    Args:
        said: what ``repr`` gave.

    Returns:
        The objective; None where it is made of anything but the library's own classes and plain values.

    Example:
        >>> rebuilt("ELBO(beta=4, samples=1, kl='auto', gradient=Pathwise())")
        ELBO(beta=4, samples=1, kl='auto', gradient=Pathwise())
        >>> rebuilt("system('ls')") is None
        True
    """
    try:
        made = _made(_parsed(said))
    except (TypeError, ValueError):
        return None
    return made if repr(made) == said else None


def as_code(said: str) -> str:
    """The line of Python that makes the objective that is printed so.

    Args:
        said: what ``repr`` gave.

    Returns:
        The line; ``objective`` where it is not the library's.

    Example:
        >>> as_code("IWAE(samples=3, gradient=Pathwise())"), as_code("Mine()")
        ('tb.objectives.IWAE(samples=3, gradient=tb.gradients.Pathwise())', 'objective')
    """
    if rebuilt(said) is None:
        return "objective"
    tree = _parsed(said)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            node.func = ast.Name(f"{_PLACES[node.func.id][1]}.{node.func.id}")
    return ast.unparse(tree)


def named(said: str) -> ObjectiveRecipe | None:
    """The objective of the registry that Python prints so.

    Args:
        said: what ``repr`` gave.

    Returns:
        Its row of a recipe, for words; None where there is none.

    Example:
        >>> named("ELBO(beta=Linear(start=0, end=4, steps=9), samples=1, kl='auto', gradient=Pathwise())").in_words(20)
        'Loss = distortion + β · rate, β = 4, in training rising from 0 over the first 9 steps.'
    """
    try:
        tree = _parsed(said)
    except ValueError:
        return None
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    given = {each.arg: each.value for call in reversed(calls) for each in call.keywords if each.arg}
    for row in OBJECTIVES.values():
        if row.cls.rpartition(".")[2] != ast.unparse(tree.func):
            continue
        for gradient in GRADIENTS if issubclass(row, DrawnRecipe) else ("",):
            try:
                candidate = row(**_fields(row, given), **({"gradient": gradient} if gradient else {}))
                if _alike(repr(plan(candidate).make()), said):
                    return candidate
            except (TypeError, ValueError):
                continue
    return None


def _parsed(said: str) -> ast.Call:
    try:
        tree = ast.parse(said, mode="eval").body
    except (SyntaxError, RecursionError, MemoryError):
        raise ValueError("no expression") from None
    if not isinstance(tree, ast.Call):
        raise ValueError("no call")
    return tree


def _made(node: ast.expr) -> Any:
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    if not isinstance(node.func, ast.Name) or node.func.id not in _PLACES:
        raise ValueError("a class that is not the library's")
    values = {each.arg: _made(each.value) for each in node.keywords if each.arg}
    return _PLACES[node.func.id][0](*map(_made, node.args), **values)


def _alike(one: str, other: str) -> bool:
    """Whether two print the same but for the dots of whole numbers."""
    trees = [ast.parse(text, mode="eval") for text in (one, other)]
    for node in (each for tree in trees for each in ast.walk(tree)):
        if isinstance(node, ast.Constant) and type(node.value) is int:
            node.value = float(node.value)
    return ast.dump(trees[0]) == ast.dump(trees[1])


def _fields(row: type[ObjectiveRecipe], given: dict[str, ast.expr]) -> dict[str, Any]:
    """The fields that a recipe of this objective has, from the arguments that were printed."""
    values: dict[str, Any] = {}
    for name in fields_of(row):
        node = given.get(name)
        if name in ("name", "gradient") or node is None:
            continue
        if isinstance(node, ast.Call):  # a schedule
            ends = {each.arg: ast.literal_eval(each.value) for each in node.keywords}
            values[name] = ends.get("end")
            values["anneal_steps" if name == "temperature" else "warmup_steps"] = ends.get("steps")
        else:
            values[name] = ast.literal_eval(node)
    return values
