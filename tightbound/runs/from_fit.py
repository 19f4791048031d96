"""Runs that ``tb.fit`` made in Python: what their folders say, and their model and data again."""

from __future__ import annotations

import dataclasses
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tightbound import saving
from tightbound.data import Data, Observations, load
from tightbound.data import observations as as_observations
from tightbound.files import foreign, require_kept
from tightbound.model import Model
from tightbound.runs.config import Config, read_json
from tightbound.runs.drawn import Elbo
from tightbound.runs.printed import SaidObjective, as_code, named
from tightbound.runs.recipe import GIVEN, NOT_KEPT, EvaluateRecipe, Recipe
from tightbound.runs.rows import ObjectiveRecipe
from tightbound.runs.schema import to_table
from tightbound.settings import Training, require_seed
from tightbound.training import batches
from tightbound.training.checkpoint import check_weights, load_weights
from tightbound.training.fingerprint import fingerprint_of_data
from tightbound.training.record import ENDLESS, FORMAT
from tightbound.training.replacing import RECORD

HELD_OUT = (
    "There is no test set: these observations were held out of the training for validation, by which the weights were "
    "chosen, so the numbers flatter the model a little."
)


@dataclass(frozen=True)
class Part:
    """Observations that a training was given.

    Attributes:
        count: How many.
        fingerprint: Of every value; empty where nobody has read them all.
    """

    count: int
    fingerprint: str = ""

    def is_of(self, found: Observations) -> bool:
        """Whether these are they, as far as anybody can tell.

        Args:
            found: observations.
        """
        if len(found) != self.count:
            return False
        return not self.fingerprint or found.ask is not None or fingerprint_of_data(found) == self.fingerprint


@dataclass(frozen=True)
class FitData:
    """What a training was given to learn from.

    Attributes:
        source: Where it is found again; "given in Python" where nobody knows.
        train: The observations that it was trained on, those held out for validation included.
        test: Those that it is to be tested on, where it was given any.
        binarise: Whether the model sees them binarised.
        size: Of images in a folder, in pixels.
    """

    source: str
    train: Part
    test: Part | None = None
    binarise: bool = False
    size: int | None = None

    def augmented(self) -> str:
        """Nothing: what ``fit(transform=…)`` made of batches is the caller's own."""
        return ""


@dataclass(frozen=True, kw_only=True)
class FromFit:
    """What a run was made from that ``tb.fit`` made: as much of a recipe as Python leaves behind.

    Attributes:
        name: What the run is called: its folder's name.
        seed: Of noise, batches and the validation split.
        data: What it learned from.
        objective: What was made small.
        said: The same as Python prints it.
        train: The settings.
        evaluate: How its evidence is estimated.
        about: Empty.
    """

    name: str
    seed: int
    data: FitData
    objective: ObjectiveRecipe | SaidObjective
    said: str
    train: Training
    evaluate: EvaluateRecipe = dataclasses.field(default_factory=EvaluateRecipe)
    about: str = ""

    def to_toml(self) -> str:
        """Seed, objective, settings and the place of the data, for people to read."""
        import tomli_w

        table = {"seed": self.seed, "objective": self.said, "data": self.data.source, "train": to_table(self.train)}
        return tomli_w.dumps(table)

    def again(self, folder: str | None, *, resume: bool = True) -> str:
        """The line of Python that goes on with it, or does the same anew.

        Args:
            folder: the run's, or another; None for none.
            resume: whether to go on.
        """
        usual = to_table(Training())
        changed = {name: value for name, value in to_table(self.train).items() if usual[name] != value}
        plain = isinstance(self.objective, Elbo) and dataclasses.replace(self.objective, kl="auto") == Elbo()
        given = [] if plain else [f"objective={as_code(self.said)}"]
        kept = {} if folder is None else {"out": folder, **({"resume": True} if resume else {})}
        rest = {"seed": self.seed, **changed, **kept}
        return f"tb.fit(model, data, {', '.join([*given, *(f'{name}={value!r}' for name, value in rest.items())])})"


def read_from_fit(folder: Path) -> tuple[FromFit, Config]:
    """What the folder of a run that was made in Python says of it.

    Args:
        folder: the run's.

    Returns:
        What it was made from, and the shape of its data.

    Raises:
        ValueError: for a damaged file, and one that a newer version wrote.
    """
    path = folder / RECORD
    made = read_json(path)
    if made.get("format") != FORMAT:
        raise ValueError(
            f"Expected a training of format {FORMAT}; got {made.get('format')!r} in {path}. A newer version of "
            "tightbound may have written it."
        )
    require_kept(folder, RECORD)
    with foreign(path, "what a training says of itself"):
        seen, said = made["data"], str(made["objective"])
        shape, source = tuple(map(_whole, seen["shape"])), str(seen["source"])
        train, test = _part(seen["train"]), None if seen["test"] is None else _part(seen["test"])
        square = len(shape) == 3 and shape[1] == shape[2]
        data = FitData(source or GIVEN, train, test, seen["binarise"] is True, shape[1] if square else None)
        settings = {name: math.inf if value == ENDLESS else value for name, value in made["settings"].items()}
        recipe = FromFit(
            name=folder.resolve().name, seed=require_seed(made["seed"]), data=data, said=said,
            objective=named(said) or SaidObjective(said), train=Training().updated(settings),
        )  # fmt: skip
    return recipe, Config(shape, data=train.fingerprint, source=source)


def whole_recipe(recipe: Recipe | FromFit, folder: Path) -> Recipe:
    """The recipe of a run that has one.

    Args:
        recipe: the run's.
        folder: the run's.

    Raises:
        ValueError: for a run that was made in Python.

    Example:
        >>> whole_recipe(Recipe(seed=3), Path("run")).seed
        3
    """
    if isinstance(recipe, Recipe):
        return recipe
    raise ValueError(
        f"Expected a run of a recipe; got {folder}, which tb.fit made in Python and no recipe describes. "
        f"tb.open_run({str(folder)!r}).model() is its model, to train on from with tb.fit."
    )


def moved(recipe: Recipe | FromFit, source: str) -> Any:
    """The same with its data elsewhere.

    Args:
        recipe: of a run.
        source: where they are.

    Example:
        >>> moved(Recipe(), "photos").data.source
        'photos'
    """
    data: Any = dataclasses.replace(recipe.data, source=source)
    return dataclasses.replace(recipe, data=data)


def found_where_it_was(recipe: Recipe | FromFit, config: Config) -> Any:
    """The same with its data where they were when the run began, if they are not where it says from here.

    Args:
        recipe: of a run.
        config: likewise.

    Example:
        >>> found_where_it_was(Recipe().updated({"data.source": "photos"}), Config((3,))).data.source
        'photos'
    """
    if not config.source or Path(recipe.data.source).exists() or not Path(config.source).exists():
        return recipe
    return moved(recipe, config.source)


def _part(seen: dict[str, Any]) -> Part:
    return Part(_whole(seen["count"]), str(seen["fingerprint"]))


def _whole(value: object) -> int:
    if type(value) is not int or value < 1:
        raise TypeError(f"{value!r} is no positive whole number")
    return value


def model_of(folder: Path, given: Model | None) -> Model:
    """The trained model, on the CPU if it is rebuilt, in evaluation mode.

    Args:
        folder: the run's.
        given: the model, built as before, into which the weights are read; without it one is built of the library's
            pieces.

    Raises:
        ValueError: for weights that are missing, damaged or of another model, and for pieces that are not the
            library's, with the line of Python that works.
    """
    spec, dtype = saving.read_description(folder)
    if given is not None:
        if other := saving.first_unlike(spec, saving.described(given)):
            raise ValueError(
                f"Expected the model that was trained in {folder}; got another one: {other} in the run and here. Build "
                "it as before."
            )
        load_weights(folder, given)
        return given.eval()
    require_library(folder, spec)
    check_weights(folder, saving.outline(folder, spec))  # before any memory is taken
    model = saving.built(folder, spec, dtype)
    load_weights(folder, model)
    return model.eval()


def require_library(folder: Path, spec: Any) -> None:
    """Refuse to rebuild a model with pieces that are not the library's.

    Args:
        folder: the run's.
        spec: the description of its model.

    Raises:
        ValueError: for one, with the line of Python that works.
    """
    if own := saving.own_pieces(spec):
        raise ValueError(
            f"Expected a model of the library's own pieces; got {own[0]} in {folder / saving.MODEL}, whose code no "
            f"folder keeps. In Python, with the model built as before: tb.open_run({str(folder)!r}, model=model)."
        )


def given_to_fit(recipe: FromFit, source: Any) -> tuple[Data | Observations, bool]:
    """The data as ``fit`` took them, and whether they are the run's own; others as they are loaded.

    Args:
        recipe: of the run.
        source: other data than where its own are found, as ``tb.data.load`` takes them.

    Raises:
        TypeError: for data of another kind.
        ValueError: where nobody knows where the data are, for data that cannot be read, and for the training set of a
            run that was given a test set besides.
    """
    known = recipe.data
    place = known.source if source is None else source
    if isinstance(place, str) and place == GIVEN:
        raise ValueError(NOT_KEPT)
    if isinstance(place, str | os.PathLike):
        share = 0.1 if known.test is None else known.test.count / (known.test.count + known.train.count)
        size = known.size if Path(place).is_dir() else None
        found: Data | Observations = load(place, size=size, test_fraction=share)
    else:
        found = place if isinstance(place, Data) else as_observations(place)
    if known.binarise:
        found = found.binarised() if isinstance(found, Data) else found.replace(binarise=True)
    if isinstance(found, Data):
        if known.train.is_of(found.train) and (known.test is None or known.test.is_of(found.test)):
            return found, True
        whole = found if found.has_own_test_set else found.everything()[0]
    else:
        whole = found
    if not isinstance(whole, Observations) or not known.train.is_of(whole):
        return found, False
    if known.test is not None:
        raise ValueError(
            f"Expected training and test set, as the run was given both; got the training set alone, {whole.name}. "
            "Give both: tb.data.Data('mine', train, test)."
        )
    return whole, True


def data_of(recipe: FromFit, source: Any) -> tuple[Data, bool]:
    """Data for judging the model, and whether they are the run's own.

    Where it was given no test set, what was held out of the training takes its place.

    Args:
        recipe: of the run.
        source: as of :func:`given_to_fit`.

    Raises:
        TypeError: as :func:`given_to_fit`.
        ValueError: the same, and where nothing was held out.
    """
    found, own = given_to_fit(recipe, source)
    if isinstance(found, Data):
        return found, own
    if not own:
        return load(found), False
    train, held_out = batches.split(found, recipe.train.validation, recipe.seed)
    if held_out is None:
        raise ValueError(
            "Expected observations that the model has not seen; got those that it was trained on, of which nothing was "
            "held out (validation=0). Give a test set besides: run.data(tb.data.Data('mine', train, test))."
        )
    return Data(found.name, train, held_out.replace(notes=(*held_out.notes, HELD_OUT))), True
