"""What a row of the registry says of a piece, for each kind of piece. No torch here."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from tightbound.data.summary import Nature

Latents = Literal["real", "positive", "bits", "classes", "mixed", "class first", "layers"]
LATENTS: dict[Latents, str] = {
    "real": "real numbers", "positive": "positive numbers", "bits": "bits", "classes": "classes",
    "mixed": "real numbers and classes side by side",
    "class first": "a class and real numbers that depend on it",
    "layers": "layers of real numbers",
}  # fmt: skip
PATHS: frozenset[Latents] = frozenset({"real", "positive", "layers"})  # along which a draw can be moved
CODES: frozenset[Latents] = frozenset({"bits", "classes"})  # where it jumps
MIXED: frozenset[Latents] = frozenset({"mixed"})  # where it does both

LARGEST = 10**6  # number of an objective: beyond any use, and far from where float32 overflows


@dataclass(frozen=True, kw_only=True)
class Piece(ABC):
    """A row: what all pieces have.

    Attributes:
        name: What recipes call it.
        cls: Its class, as dotted text.
        about: What it is, in a few words.
        takes: The arguments of its class that a build fills in, besides a network: see :mod:`tightbound.runs.build`.
        former: What recipes called it before; empty where it has always had its name.
    """

    name: str
    cls: str
    about: str
    takes: tuple[str, ...] = ()
    former: str = ""


@dataclass(frozen=True, kw_only=True)
class LikelihoodRow(Piece):
    """A likelihood p(x|z).

    Attributes:
        wants: The data it describes, in words; empty where it describes any.
        kinds: Their kinds, as a summary of the data names them.
        remedy: What else could be done with data of another kind.
        suits: The nature of the data for which "auto" takes it, as a summary of the data names it.
        counts: Which number of values an element takes its class wants: "grey" levels, or "classes".
        binarises: Whether a model sees grey data binarised.
        standardises: Whether the encoder sees standardised data.
        measure: What p(x|z) is: a "density", a "probability", or "none" of the two. Only like compares with like.
    """

    wants: str = ""
    kinds: frozenset[str] = frozenset({"binary", "grey", "counts", "real"})
    remedy: str = ""
    suits: Nature | None = None
    counts: Literal["grey", "classes"] | None = None
    binarises: bool = False
    standardises: bool = False
    measure: Literal["density", "probability", "none"] = "density"


@dataclass(frozen=True, kw_only=True)
class PosteriorRow(Piece):
    """A posterior q(z|x).

    Attributes:
        family: Of its distribution; under a prior of the same family the rate has a closed form.
        latents: What z is.
        partner: The prior that "auto" takes with it.
        factorised: Whether its dimensions are independent.
    """

    family: str = ""
    latents: Latents = "real"
    partner: str = "standard-normal"
    factorised: bool = True


@dataclass(frozen=True, kw_only=True)
class PriorRow(Piece):
    """A prior p(z).

    Attributes:
        family: Of its distribution; empty where no posterior has a closed-form rate under it.
        latents: What z is.
        needs: The posterior that it is made of; empty where it is made of none.
    """

    family: str = ""
    latents: Latents = "real"
    needs: str = ""


@dataclass(frozen=True, kw_only=True)
class GradientRow(Piece):
    """How a bound becomes a gradient.

    Attributes:
        options: What its class is called with besides.
        latents: The latents that it can be taken through.
        needs_draws: Whether the rate must be sampled for it.
        least_samples: How many draws for each observation it needs.
        most_samples: How many it can make use of; None for any number.
        lists_codes: Whether it sums over all codes in place of drawing some.
        spares_a_draw: Whether it needs the bound of all draws but one.
    """

    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    latents: frozenset[Latents] = PATHS
    needs_draws: bool = False
    least_samples: int = 1
    most_samples: int | None = None
    lists_codes: bool = False
    spares_a_draw: bool = False


@dataclass(frozen=True, kw_only=True)
class ObjectiveRecipe(ABC):
    """What training makes small. Each subclass is a row: an objective, and the fields that a recipe has for it.

    A subclass gives each field the name and the meaning of an argument of its class.
    """

    name: str = dataclasses.field(default="", init=False, repr=False)
    cls: ClassVar[str] = ""  # its class, as dotted text
    bound: ClassVar[str] = ""  # the bound that its class takes, if it takes one …
    of_bound: ClassVar[tuple[str, ...]] = ()  # … and the fields that are that bound's
    inner: ClassVar[str] = ""  # the objective that its class adds to, if it takes one …
    of_inner: ClassVar[tuple[str, ...]] = ()  # … and the fields that are that objective's
    warms: ClassVar[tuple[str, ...]] = ()  # the fields that rise from zero over ``warmup_steps``
    per_dimension: ClassVar[bool] = False  # whether it needs the KL of each latent dimension
    factorised: ClassVar[bool] = False  # whether it needs a posterior of independent dimensions
    needs_path: ClassVar[bool] = False  # whether its gradient goes through the draws
    mixed: ClassVar[bool] = False  # whether it is one of numbers and classes side by side
    class_first: ClassVar[bool] = False  # whether it sums over a class that comes first

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float) and not abs(value) <= LARGEST:
                raise ValueError(
                    f"Expected objective.{item.name} of at most {LARGEST:,} in size; got {value:g}. {item.default:g} "
                    "is the default."
                )

    @abstractmethod
    def in_words(self, steps: int) -> str:
        """One sentence on what the loss is made of.

        Args:
            steps: how many the training took.
        """

    def warm_up_in_words(self, steps: int, what: str) -> str:
        """The end of a sentence on what rises; empty where nothing does.

        Args:
            steps: how many the training took.
            what: what rises, as it goes on after "in training".
        """
        warmup = getattr(self, "warmup_steps", 0)
        if not warmup:
            return ""
        ended = "" if warmup < steps else ", which this training did not reach"
        return f", in training {what} over the first {warmup} steps{ended}"
