"""The recipe's fields as flags of the command line. No torch here."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from cyclopts import CoercionError, Group, Parameter, Token, convert

from tightbound.runs import recipe as recipes
from tightbound.runs.pieces import LIKELIHOODS, POSTERIORS, PRIORS
from tightbound.runs.registry import OBJECTIVES
from tightbound.runs.rows import Piece
from tightbound.runs.schema import Names, marked
from tightbound.settings import Training

# The dataclasses whose fields a section has. Of several, a recipe takes one.
SECTIONS: dict[str, Sequence[type]] = {
    "data": (recipes.DataRecipe,),
    "model": (recipes.ModelRecipe,),
    "objective": tuple(OBJECTIVES.values()),
    "train": (Training,),
    "evaluate": (recipes.EvaluateRecipe,),
}

OPTIONAL: dict[str, Mapping[str, Piece]] = {  # fields of the model that some pieces take
    "scale": LIKELIHOODS,
    "components": PRIORS,
    "classes": POSTERIORS,
    "flow": POSTERIORS,  # and the prior of the same name
    "transforms": POSTERIORS,
}


def _described(cls: type) -> dict[str, str]:
    """What a docstring's ``Attributes`` say of each name, those of its bases too: written once, shown in --help."""
    entries: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        name = ""
        section = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2].partition("\n\n")[0]
        for line in section.splitlines():
            if line.startswith("        "):
                entries[name] += f" {line.strip()}"
            elif line.strip():
                name, _, entries[name] = line.strip().partition(": ")
    return entries


def _changes(section: str, place: int) -> type:
    """A dataclass of a section's fields, each None unless given: what a command line changes in a recipe."""
    made = dataclasses.make_dataclass(
        f"{section.capitalize()}Changes",
        [
            (name, Annotated[hint | None, Parameter(help=help, negative="", **_several(hint))], None)
            for name, (hint, help) in _flags(section).items()
        ],
        kw_only=True,
    )
    made.__module__ = __name__  # cyclopts does not take a class of the standard library's apart into flags
    return Parameter(name=section, group=Group(f"Recipe: {section}", sort_key=10 + place))(made)


def _several(hint: Any) -> dict[str, Any]:
    """How values are read of which a flag takes any number: given twice, it takes the last ones."""
    if typing.get_origin(hint) is tuple:
        return {"consume_multiple": True, "converter": _last}
    return {"consume_multiple": True, **({"converter": whole} if hint is int or int in typing.get_args(hint) else {})}


def _last(hint: Any, tokens: Sequence[Token]) -> Any:
    begin = max(place for place, token in enumerate(tokens) if token.index == 0)
    return (whole if int in typing.get_args(hint) else convert)(hint, tokens[begin:])


def whole(hint: Any, tokens: Sequence[Token]) -> Any:
    """Whole numbers of a command line, of which cyclopts itself would round "2.7" to 3.

    Args:
        hint: what the flag takes.
        tokens: what it was given.

    Raises:
        CoercionError: for a fraction.
    """
    for token in tokens:
        with contextlib.suppress(ValueError):
            if float not in typing.get_args(hint) and not float(token.value).is_integer():
                raise CoercionError(token=token, target_type=int)
    return convert(hint, tokens)


Switch = Annotated[bool, Parameter(show_default=False)]
Split = Literal["train", "validation", "test"]
Whole = Annotated[int, Parameter(converter=whole)]
WholeOrNone = Annotated[int | None, Parameter(converter=whole)]


def _flags(section: str) -> dict[str, tuple[Any, str]]:
    """Type and help of each field of a section."""
    classes = SECTIONS[section]
    hints: dict[str, Any] = {}
    said: dict[str, dict[str, list[str]]] = {}  # of each field what it means, and to which classes
    for cls in classes:
        described, own = _described(cls), typing.get_type_hints(cls, include_extras=True)
        for item in dataclasses.fields(cls):
            if not (section == "data" and item.name == "source"):
                hints.setdefault(item.name, own[item.name])
                help = described.get(item.name, "") + _pieces(own[item.name]) + _takers(item.name)
                said.setdefault(item.name, {}).setdefault(help, []).append(getattr(cls, "name", ""))
    found = {name: (_literal(hint), " ".join(said[name])) for name, hint in hints.items()}
    if len(classes) == 1:
        return found
    chosen = " ".join(f"{name}: {(inspect.getdoc(cls) or '').splitlines()[0]}" for name, cls in OBJECTIVES.items())
    return {
        name: (Literal[tuple(OBJECTIVES)], f"What is made small. {chosen}")
        if name == "name"
        else (hint, " ".join(f"{help} Used by {_users(users)}." for help, users in said[name].items()))
        for name, (hint, _) in found.items()
    }


def _users(names: Sequence[str]) -> str:
    """Objectives in words."""
    return "every objective" if len(names) == len(OBJECTIVES) else ", ".join(names)


def _takers(field: str) -> str:
    """The pieces that take what a field of the model says, where not all of them do."""
    takers = [name for name, piece in OPTIONAL.get(field, {}).items() if field in piece.takes]
    return f" Used by {', '.join(takers)}." if takers else ""


def _pieces(hint: Any) -> str:
    """What each of the pieces is that a field can name."""
    names = marked(hint, Names)
    pieces: Mapping[str, Piece] = names.table if names else {}
    return "".join(f" {name}: {piece.about}." for name, piece in pieces.items())


def _literal(hint: Any) -> Any:
    """Names from the registry as a literal, which cyclopts checks and shows."""
    names = marked(hint, Names)
    return Literal[names.all()] if names else hint


DataChanges, ModelChanges, ObjectiveChanges, TrainChanges, EvaluateChanges = (
    _changes(section, place) for place, section in enumerate(SECTIONS)
)


@Parameter(name="*")
@dataclasses.dataclass(kw_only=True)
class Changes:
    """What the command line changes in a recipe.

    Attributes:
        data: "digits", "mnist", "sprites" and its kin, or the path of a .npy, .npz or .h5 file, or a folder of images.
        seed: Of weights, noise, batches and the validation split.
    """

    data: Annotated[str | None, Parameter(name="--data")] = None
    seed: WholeOrNone = None
    data_section: DataChanges = dataclasses.field(default_factory=DataChanges)  # type: ignore[valid-type]
    model: ModelChanges = dataclasses.field(default_factory=ModelChanges)  # type: ignore[valid-type]
    objective: ObjectiveChanges = dataclasses.field(default_factory=ObjectiveChanges)  # type: ignore[valid-type]
    train: TrainChanges = dataclasses.field(default_factory=TrainChanges)  # type: ignore[valid-type]
    evaluate: EvaluateChanges = dataclasses.field(default_factory=EvaluateChanges)  # type: ignore[valid-type]

    def apply(self, recipe: recipes.Recipe) -> recipes.Recipe:
        """The recipe with what was given put in.

        Args:
            recipe: what it was before.

        Returns:
            The changed recipe.

        Raises:
            ValueError: for a value the field cannot hold, and for a recipe that is still without data.

        Example:
            >>> Changes(seed=3).apply(recipes.load("digits")).seed
            3
        """
        given: dict[str, Any] = {"seed": self.seed, "data.source": self.data}
        for section in SECTIONS:
            part = self.data_section if section == "data" else getattr(self, section)
            given |= {f"{section}.{key}": value for key, value in vars(part).items()}
        for key, value in given.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"Expected a finite number for --{key.replace('_', '-')}; got {value}.")
        changed = recipe.updated({key: value for key, value in given.items() if value is not None})
        if not changed.data.source:
            raise ValueError(
                f"Expected --data with the recipe {recipe.name!r}, which is for data of your own; got none. "
                f"For example: tightbound train {recipe.name} --data my-images/"
            )
        return changed
