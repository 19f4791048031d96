"""The recipe's fields as flags of the command line. No torch here."""

from __future__ import annotations

import dataclasses
import inspect
import math
import typing
from typing import Annotated, Any

from cyclopts import Group, Parameter

from tightbound.runs import recipe as recipes
from tightbound.settings import Training

SECTIONS = {
    "data": recipes.DataRecipe,
    "model": recipes.ModelRecipe,
    "objective": recipes.ObjectiveRecipe,
    "train": Training,
    "evaluate": recipes.EvaluateRecipe,
}


def _described(cls: type) -> dict[str, str]:
    """What the ``Attributes`` section of a docstring says of each name: written once, shown in --help too."""
    entries: dict[str, str] = {}
    name = ""
    for line in (inspect.getdoc(cls) or "").partition("Attributes:\n")[2].splitlines():
        if line.startswith("        "):
            entries[name] += f" {line.strip()}"
        elif line.strip():
            name, _, entries[name] = line.strip().partition(": ")
    return entries


def _changes(section: str, place: int) -> type:
    """A dataclass of a section's fields, each None unless given: what a command line changes in a recipe."""
    cls = SECTIONS[section]
    described, hints = _described(cls), typing.get_type_hints(cls)
    made = dataclasses.make_dataclass(
        f"{cls.__name__}Changes",
        [
            (
                item.name,
                Annotated[hints[item.name] | None, _parameter(described.get(item.name, ""))],
                dataclasses.field(default=None),
            )
            for item in dataclasses.fields(cls)
            if not (section == "data" and item.name == "source")
        ],
        kw_only=True,
    )
    made.__module__ = __name__  # as a class of the standard library's it would not be taken apart into flags
    return Parameter(name=section, group=Group(f"Recipe: {section}", sort_key=10 + place))(made)


def _parameter(help: str) -> Parameter:
    return Parameter(help=help, negative="", consume_multiple=True)  # --model.hidden 200 200


DataChanges, ModelChanges, ObjectiveChanges, TrainChanges, EvaluateChanges = (
    _changes(section, place) for place, section in enumerate(SECTIONS)
)


@Parameter(name="*")
@dataclasses.dataclass(kw_only=True)
class Changes:
    """What the command line changes in a recipe.

    Attributes:
        data: "digits", "mnist", or the path of a .npy or .npz file or of a folder of images.
        seed: Of weights, noise, batches and the validation split.
    """

    data: Annotated[str | None, Parameter(name="--data")] = None
    seed: int | None = None
    data_section: DataChanges = dataclasses.field(default_factory=DataChanges)  # type: ignore[valid-type]
    model: ModelChanges = dataclasses.field(default_factory=ModelChanges)  # type: ignore[valid-type]
    objective: ObjectiveChanges = dataclasses.field(default_factory=ObjectiveChanges)  # type: ignore[valid-type]
    train: TrainChanges = dataclasses.field(default_factory=TrainChanges)  # type: ignore[valid-type]
    evaluate: EvaluateChanges = dataclasses.field(default_factory=EvaluateChanges)  # type: ignore[valid-type]

    def apply(self, recipe: recipes.Recipe) -> recipes.Recipe:
        """The recipe with what was given put in.

        Raises:
            ValueError: for a value the field cannot hold, and for a recipe that is still without data.
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
