"""What a page tells of a model, wherever that is kept: in a run's folder, or nowhere but in Python."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from tightbound.data import Data, Observations, found_again
from tightbound.data import observations as as_observations
from tightbound.runs.config import Config
from tightbound.runs.folder import CLASSIFICATION, EVALUATION, INFORMATION, PER_OBSERVATION
from tightbound.runs.from_fit import HELD_OUT, FitData, FromFit, Part
from tightbound.runs.measured import Measured
from tightbound.runs.printed import SaidObjective, named
from tightbound.runs.recipe import GIVEN, Recipe
from tightbound.training import TrainResult, batches
from tightbound.training.environment import environment
from tightbound.training.fingerprint import glimpse_of_data
from tightbound.training.record import said_of

UNKNOWN = (
    "All observations that were given are judged. Where the model has seen some of them in training, the numbers "
    "flatter it."
)
OTHERS = "The training whose curves are shown was of other observations than the training set here."


class Told(Protocol):
    """What a page asks for. A run is such a thing."""

    @property
    def path(self) -> Path:
        """What errors call it."""
        ...

    @property
    def name(self) -> str:
        """What its page is called."""
        ...

    @property
    def recipe(self) -> Recipe | FromFit | None:
        """What it was made from; None where nobody knows."""
        ...

    @property
    def config(self) -> Config:
        """The shape of its data."""
        ...

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of its training."""
        ...

    def seconds(self) -> float | None:
        """How long that took."""
        ...

    def environment(self) -> dict[str, Any]:
        """The machine and library versions."""
        ...

    def evaluation(self) -> dict[str, Any] | None:
        """The numbers of its evaluation."""
        ...

    def kept(self, name: str) -> dict[str, Any] | None:
        """The numbers of a check that was made."""
        ...

    def renewed(self, name: str) -> str:
        """How damaged numbers are made anew."""
        ...

    def per_observation(self, name: str = PER_OBSERVATION) -> dict[str, Tensor]:
        """Values for each observation."""
        ...

    def held_out(self, data: Data) -> Observations | None:
        """What its training kept for validation."""
        ...


@dataclass(frozen=True, eq=False)
class InPython:
    """A model that was made in Python and has no folder.

    Attributes:
        name: What its page is called.
        recipe: What its training was, as far as the result tells; None without a result.
        config: The shape of its data.
        result: How its training went, if anybody told.
        own: Whether the data are those that it was trained on.
    """

    name: str
    recipe: FromFit | None
    config: Config
    result: TrainResult | None = None
    own: bool = False
    made: dict[str, Any] = field(default_factory=lambda: _here())

    @property
    def path(self) -> Path:
        """What errors call it."""
        return Path(self.name)

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of its training."""
        return [] if self.result is None else self.result.metrics

    def seconds(self) -> float | None:
        """How long that took."""
        return None if self.result is None else self.result.seconds

    def environment(self) -> dict[str, Any]:
        """The machine and library versions, of the process that makes the page."""
        return self.made

    def evaluation(self) -> dict[str, Any] | None:
        """None: :class:`Judged` has one."""
        return None

    def kept(self, name: str) -> dict[str, Any] | None:
        """None."""
        return None

    def renewed(self, name: str) -> str:
        """Nothing, as nothing of it is in a file."""
        return ""

    def per_observation(self, name: str = PER_OBSERVATION) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def held_out(self, data: Data) -> Observations | None:
        """What its training kept for validation; None where nobody knows.

        Args:
            data: as :func:`parts_of` gives them.
        """
        if not self.own or self.result is None or HELD_OUT in data.test.notes:
            return None
        return batches.split(data.train, self.result.settings.validation, self.result.seed)[1]


@dataclass(frozen=True, eq=False)
class Judged:
    """The same with an evaluation that no folder holds.

    Attributes:
        of: What was judged.
        found: Its numbers.
    """

    of: Told
    found: Measured

    @property
    def path(self) -> Path:
        """What errors call it."""
        return self.of.path

    @property
    def name(self) -> str:
        """What its page is called."""
        return self.of.name

    @property
    def recipe(self) -> Recipe | FromFit | None:
        """What it was made from."""
        return self.of.recipe

    @property
    def config(self) -> Config:
        """The shape of its data."""
        return self.of.config

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of its training."""
        return self.of.metrics()

    def seconds(self) -> float | None:
        """How long that took."""
        return self.of.seconds()

    def environment(self) -> dict[str, Any]:
        """The machine and library versions."""
        return self.of.environment()

    def evaluation(self) -> dict[str, Any] | None:
        """The numbers that were found."""
        return self.found.evidence.to_json()

    def kept(self, name: str) -> dict[str, Any] | None:
        """Those that were found, and what is kept of other checks.

        Args:
            name: of a file that a run keeps them in.
        """
        if name == EVALUATION:
            return self.evaluation()
        also = {INFORMATION: self.found.information, CLASSIFICATION: self.found.classification}
        report = also.get(name)
        return self.of.kept(name) if report is None else report.to_json()

    def renewed(self, name: str) -> str:
        """How damaged numbers are made anew.

        Args:
            name: of a file that a run keeps them in.
        """
        return self.of.renewed(name)

    def per_observation(self, name: str = PER_OBSERVATION) -> dict[str, Tensor]:
        """Values for each observation.

        Args:
            name: of a file that a run keeps them in.
        """
        return self.found.evidence.per_observation if name == PER_OBSERVATION else self.of.per_observation(name)

    def held_out(self, data: Data) -> Observations | None:
        """What its training kept for validation.

        Args:
            data: that it was trained and judged on.
        """
        return self.of.held_out(data)


def in_python(name: str | None, kind: str, data: Any, result: TrainResult | None) -> tuple[InPython, Data]:
    """A model that was made in Python, and what it is judged on.

    Of ``Data`` that is the test set. Of the observations that the training was given it is what it held out for
    validation; of others it is all of them.

    Args:
        name: what its page is called; of which kind it is, and on which data, where that is None.
        kind: what its class is called.
        data: as ``tb.fit`` takes them.
        result: what that returned, if anybody has it.

    Raises:
        TypeError: for data of another kind.
        ValueError: for data that cannot be used, and for those of a training that held nothing out.
    """
    given = data if isinstance(data, Data) else as_observations(data)
    train = given.train if isinstance(given, Data) else given
    own = result is not None and result.seen == glimpse_of_data(train)
    parts = given if isinstance(given, Data) else _unseen(given, result if own else None)
    if isinstance(given, Data) and result is not None and not own:
        parts = Data(given.name, given.train, given.test.replace(notes=(*given.test.notes, OTHERS)))
    known = isinstance(data, Data | Observations) or found_again(given.name)
    title = name or (f"{kind} on {given.name}" if known else kind)
    recipe = None if result is None else recipe_of(title, given.name, parts.train, result)
    return InPython(title, recipe, Config(tuple(train.shape)), result, own), parts


def _unseen(given: Observations, result: TrainResult | None) -> Data:
    """What to judge a model on where there is no test set; ``result`` of a training that was given the same."""
    if result is None:
        return Data(given.name, given, given.replace(notes=(*given.notes, UNKNOWN)))
    train, held_out = batches.split(given, result.settings.validation, result.seed)
    if held_out is None:
        raise ValueError(
            "Expected observations that the model has not seen; got those that it was trained on, of which nothing was "
            "held out. Give a test set besides: tb.data.Data('mine', train, test)."
        )
    return Data(given.name, train, held_out.replace(notes=(*held_out.notes, HELD_OUT)))


def recipe_of(name: str, source: str, train: Observations, result: TrainResult) -> FromFit:
    """What a training was, as far as its result tells.

    Args:
        name: what it is called.
        source: what the data are called that it was given.
        train: its training set.
        result: what ``tb.fit`` returned.
    """
    said = said_of(result.objective)
    seen = FitData(found_again(source) or GIVEN, Part(len(train)), binarise=train.binarise)
    return FromFit(
        name=name, seed=result.seed, data=seen, objective=named(said) or SaidObjective(said), said=said,
        train=result.settings,
    )  # fmt: skip


def _here() -> dict[str, Any]:
    found = environment()
    for of_a_training in ("started", "command"):
        del found[of_a_training]
    return {**found, "reported": time.strftime("%Y-%m-%d %H:%M:%S")}
