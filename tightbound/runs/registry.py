"""The registry: every piece that a recipe can name stands in one row. No torch here.

A row says what a piece is made of (its class, as text that is imported when the piece is built), which fields a recipe
has for it, how captions and help describe it, and what it wants of the data. Whoever adds a piece writes its class and
one row, and hands the row to :func:`register`; recipes, building, checks, captions and help all read the tables.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from tightbound.runs import drawn, labelled, whole_batch
from tightbound.runs.drawn import DrawnRecipe
from tightbound.runs.pieces import GRADIENTS, LIKELIHOODS, POSTERIORS, PRIORS
from tightbound.runs.plan import Plan, imported
from tightbound.runs.rows import GradientRow, LikelihoodRow, ObjectiveRecipe, Piece, PosteriorRow, PriorRow

if TYPE_CHECKING:
    from tightbound.data.summary import Nature

_OBJECTIVES = (*drawn.ROWS, *whole_batch.ROWS, *labelled.ROWS)
OBJECTIVES = {each.name: each for each in _OBJECTIVES}  # a recipe that names none has the first


def register(new: Piece | type[ObjectiveRecipe]) -> None:
    """Add a row: from then on recipes can name the piece.

    Runs that name it open only where it has been registered. The command line knows the pieces that were registered
    before it was imported.

    Args:
        new: a row for a likelihood, a posterior, a prior or a gradient, or a subclass of :class:`ObjectiveRecipe`.

    Raises:
        TypeError: for anything else.
        ValueError: for a name that is taken.

    Example:
        >>> register(PriorRow(name="mixture", cls="mine.Mixture", about="my own"))
        Traceback (most recent call last):
        ...
        ValueError: Expected a name of its own for the prior; got 'mixture', which is taken. Choose another name.
    """
    tables: dict[type, tuple[str, dict[str, Any]]] = {
        LikelihoodRow: ("likelihood", LIKELIHOODS),
        PosteriorRow: ("posterior", POSTERIORS),
        PriorRow: ("prior", PRIORS),
        GradientRow: ("gradient", GRADIENTS),
        ObjectiveRecipe: ("objective", OBJECTIVES),
    }
    is_objective = isinstance(new, type) and issubclass(new, ObjectiveRecipe)
    kind = ObjectiveRecipe if is_objective else type(new)
    if kind not in tables:
        raise TypeError(
            f"Expected a row of the registry or a subclass of ObjectiveRecipe; got {new!r}. For example: "
            "LikelihoodRow(name='mine', cls='my_module.MyLikelihood', about='what it describes')."
        )
    what, table = tables[kind]
    if new.name in table:
        raise ValueError(
            f"Expected a name of its own for the {what}; got {new.name!r}, which is taken. Choose another name."
        )
    table[new.name] = new


def suited(nature: Nature) -> str:
    """The likelihood that "auto" takes for data of this nature.

    Args:
        nature: what the values are, as a summary of the data names it.

    Example:
        >>> suited("levels")
        'discretized-logistic'
    """
    return next(each.name for each in LIKELIHOODS.values() if each.suits == nature)


def row_of_likelihood(cls: type) -> LikelihoodRow | None:
    """The row of a likelihood's class; None for one that has none.

    Args:
        cls: of a likelihood.

    Example:
        >>> from tightbound.likelihoods import Gaussian
        >>> row_of_likelihood(Gaussian).name
        'gaussian'
    """
    named = (row for row in LIKELIHOODS.values() if row.cls.endswith(f".{cls.__qualname__}"))
    return next((row for row in named if imported(row.cls) is cls), None)


def plan(objective: ObjectiveRecipe) -> Plan:
    """How an objective is made: its class, and each field of its recipe as the argument of the same name.

    Args:
        objective: what a recipe says of it.

    Returns:
        The call that makes it.

    Raises:
        ValueError: for a gradient that there is not.

    Example:
        >>> plan(drawn.Iwae(samples=3)).called
        'tightbound.objectives.IWAE'
    """
    given: dict[str, Any] = {item.name: getattr(objective, item.name) for item in dataclasses.fields(objective)}
    del given["name"]
    if steps := given.pop("warmup_steps", 0):
        for name in objective.warms:
            rise = {"start": 0.0, "end": given[name], "steps": steps}
            given[name] = Plan("tightbound.schedules.Linear", rise)
    if isinstance(objective, DrawnRecipe):
        given = {name: value for name, value in given.items() if name not in ("temperature", "anneal_steps")}
        given["gradient"] = objective.gradient_plan()
    if objective.bound:
        given["bound"] = Plan(objective.bound, {name: given.pop(name) for name in objective.of_bound})
    if objective.inner:
        given["objective"] = Plan(objective.inner, {name: given.pop(name) for name in objective.of_inner})
    return Plan(objective.cls, given)
