"""The registry: every piece that a recipe can name stands in one row. No torch here.

A row says what a piece is made of (its class, as text that is imported when the piece is built), which fields a recipe
has for it, how captions and help describe it, and what it wants of the data. Whoever adds a piece writes its class and
one row, and hands the row to :func:`register`; recipes, building, checks, captions and help all read it from here.
"""

from __future__ import annotations

import dataclasses
import difflib
from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from tightbound.runs import labelled, whole_batch
from tightbound.runs.plan import Plan
from tightbound.runs.rows import (
    CODES,
    PATHS,
    GradientRow,
    LikelihoodRow,
    ObjectiveRecipe,
    Piece,
    PosteriorRow,
    PriorRow,
)
from tightbound.runs.schema import Names

if TYPE_CHECKING:
    from tightbound.data.summary import Nature

IN_UNIT = frozenset({"binary", "grey"})
WHOLE = frozenset({"binary", "counts"})

Row = TypeVar("Row", bound=Piece)


def _table(*rows: Row) -> dict[str, Row]:
    return {row.name: row for row in rows}


LIKELIHOODS = _table(
    LikelihoodRow(
        name="bernoulli", cls="tightbound.likelihoods.Bernoulli", about="binary data; grey data are binarised",
        wants="values between 0 and 1", kinds=IN_UNIT, suits="binary", binarises=True,
    ),
    LikelihoodRow(
        name="unnormalised-bernoulli", cls="tightbound.likelihoods.UnnormalisedBernoulli", former="grey-bernoulli",
        about="grey data as they are, under a cross-entropy that is no likelihood",
        wants="values between 0 and 1", kinds=IN_UNIT,
    ),
    LikelihoodRow(
        name="continuous-bernoulli", cls="tightbound.likelihoods.ContinuousBernoulli",
        about="real numbers in [0, 1]", wants="values between 0 and 1", kinds=IN_UNIT, suits="unit",
    ),
    LikelihoodRow(
        name="gaussian", cls="tightbound.likelihoods.Gaussian", about="real numbers",
        takes=("scale", "centre", "unit"), suits="real", standardises=True,
    ),
    LikelihoodRow(
        name="laplace", cls="tightbound.likelihoods.Laplace", about="real numbers with heavy tails",
        takes=("scale", "centre", "unit"), standardises=True,
    ),
    LikelihoodRow(
        name="categorical", cls="tightbound.likelihoods.Categorical", about="classes, numbered from 0",
        takes=("classes",), wants="whole numbers from 0", kinds=WHOLE, counts="classes",
        remedy="Classes stored in 8 bits count as grey levels: store them as int64.",
    ),
    LikelihoodRow(
        name="discretized-logistic", cls="tightbound.likelihoods.DiscretizedLogistic", about="grey levels",
        takes=("scale", "levels"), wants="integer grey levels", kinds=IN_UNIT, suits="levels", counts="grey",
    ),
    LikelihoodRow(
        name="poisson", cls="tightbound.likelihoods.Poisson", about="counts",
        wants="whole numbers from 0", kinds=WHOLE, suits="counts", standardises=True,
    ),
    LikelihoodRow(
        name="negative-binomial", cls="tightbound.likelihoods.NegativeBinomial",
        about="counts with more spread than Poisson's",
        wants="whole numbers from 0", kinds=WHOLE, suits="overdispersed", standardises=True,
    ),
)  # fmt: skip

POSTERIORS = _table(
    PosteriorRow(
        name="diagonal-normal", cls="tightbound.posteriors.DiagonalNormal", about="independent normals",
        family="normal", partner="standard-normal",
    ),
    PosteriorRow(
        name="full-normal", cls="tightbound.posteriors.FullNormal", about="a normal with full covariance",
        family="normal", partner="standard-normal", factorised=False,
    ),
    PosteriorRow(
        name="flow", cls="tightbound.posteriors.Flow", about="a normal whose noise is bent by a flow",
        takes=("latent_dim", "flow", "transforms"), factorised=False,
    ),
    PosteriorRow(
        name="log-normal", cls="tightbound.posteriors.LogNormal", about="positive numbers, their logarithms normal",
        family="log-normal", partner="log-normal", latents="positive",
    ),
    PosteriorRow(
        name="exponential", cls="tightbound.posteriors.Exponential", about="positive numbers, mostly small ones",
        family="exponential", partner="exponential", latents="positive",
    ),
    PosteriorRow(
        name="gumbel", cls="tightbound.posteriors.Gumbel", about="numbers with a long upper tail",
        family="gumbel", partner="gumbel",
    ),
    PosteriorRow(
        name="bernoulli", cls="tightbound.posteriors.Bernoulli", about="bits",
        family="bernoulli", partner="bernoulli", latents="bits",
    ),
    PosteriorRow(
        name="categorical", cls="tightbound.posteriors.Categorical", about="variables of several classes",
        family="categorical", partner="categorical", latents="classes", takes=("classes",),
    ),
    PosteriorRow(
        name="class-first", cls="tightbound.posteriors.ClassFirst", about="a class, then normals that depend on it",
        family="class-first", partner="class-and-normal", latents="class first", factorised=False,
    ),
)  # fmt: skip

PRIORS = _table(
    PriorRow(
        name="standard-normal", cls="tightbound.priors.StandardNormal", about="N(0, I)", takes=("latent_dim",),
        family="normal",
    ),
    PriorRow(
        name="mixture", cls="tightbound.priors.MixtureOfNormals", about="a learned mixture of normals",
        takes=("latent_dim", "components"),
    ),
    PriorRow(
        name="flow", cls="tightbound.priors.Flow", about="a learned normal whose noise is bent by a flow",
        takes=("latent_dim", "flow", "transforms"),
    ),
    PriorRow(
        name="vamp", cls="tightbound.priors.VampPrior", about="the posterior at learned pseudo-inputs",
        takes=("posterior", "pseudo_inputs"), needs="diagonal-normal",
    ),
    PriorRow(
        name="log-normal", cls="tightbound.priors.LogNormal", about="positive numbers, their logarithms normal",
        takes=("latent_dim", "learned"), family="log-normal", latents="positive",
    ),
    PriorRow(
        name="exponential", cls="tightbound.priors.Exponential", about="positive numbers, mostly small ones",
        takes=("latent_dim", "learned"), family="exponential", latents="positive",
    ),
    PriorRow(
        name="gumbel", cls="tightbound.priors.Gumbel", about="numbers with a long upper tail",
        takes=("latent_dim", "learned"), family="gumbel",
    ),
    PriorRow(
        name="bernoulli", cls="tightbound.priors.Bernoulli", about="bits",
        takes=("latent_dim", "learned"), family="bernoulli", latents="bits",
    ),
    PriorRow(
        name="categorical", cls="tightbound.priors.Categorical", about="variables of several classes",
        takes=("variables", "classes", "learned"), family="categorical", latents="classes",
    ),
    PriorRow(
        name="class-and-normal", cls="tightbound.priors.Joint", about="N(0, I) and equally likely classes",
        family="class-first", latents="class first",
    ),
)  # fmt: skip

GRADIENTS = _table(
    GradientRow(name="pathwise", cls="tightbound.gradients.Pathwise", about="through the draws, all of it"),
    GradientRow(
        name="sticking-the-landing", cls="tightbound.gradients.StickingTheLanding", former="stl",
        about="through the draws alone, with less noise where the posterior fits", needs_draws=True,
    ),
    GradientRow(
        name="doubly-reparameterised", cls="tightbound.gradients.DoublyReparameterised",
        about="like sticking the landing, and unbiased for bounds of many samples", needs_draws=True,
    ),
    GradientRow(
        name="score-function", cls="tightbound.gradients.ScoreFunction", options={"baseline": "batch"},
        about="by the score of the posterior, less that of the batch", latents=PATHS | CODES,
    ),
    GradientRow(
        name="leave-one-out", cls="tightbound.gradients.ScoreFunction", options={"baseline": "leave-one-out"},
        about="by the score of the posterior, less that of the other samples", latents=PATHS | CODES, least_samples=2,
        spares_a_draw=True,
    ),
    GradientRow(
        name="vimco", cls="tightbound.gradients.VIMCO",
        about="by the score, less that of a typical sample; for bounds of many samples",
        latents=PATHS | CODES, least_samples=2,
    ),
    GradientRow(
        name="enumerate", cls="tightbound.gradients.Enumerate", about="the exact sum over at most 4096 codes",
        latents=CODES, most_samples=1, lists_codes=True,
    ),
    GradientRow(
        name="straight-through", cls="tightbound.gradients.StraightThrough",
        about="as if a code were its probabilities; biased", latents=CODES,
    ),
    GradientRow(
        name="gumbel-softmax", cls="tightbound.gradients.GumbelSoftmax", takes=("temperature",),
        about="through codes relaxed over a temperature; biased", latents=CODES,
    ),
    GradientRow(
        name="straight-through-gumbel", cls="tightbound.gradients.GumbelSoftmax", takes=("temperature",),
        options={"hard": True}, about="hard codes forwards, relaxed ones backwards; biased", latents=CODES,
    ),
)  # fmt: skip


FORMER = {row.former: row.name for table in (LIKELIHOODS, GRADIENTS) for row in table.values() if row.former}

KL = Literal["auto", "closed-form", "sampled"]
GradientName = Annotated[str, Names(GRADIENTS, former=FORMER)]


@dataclass(frozen=True, kw_only=True)
class DrawnRecipe(ObjectiveRecipe, ABC):
    """An objective of draws, with a gradient of its own.

    Attributes:
        samples: Draws of z for each observation; K of an importance-weighted bound.
        gradient: How draws become a gradient.
        temperature: Of relaxed codes, under a gradient that relaxes them.
        anneal_steps: Steps over which the temperature falls from 1.
    """

    samples: int = 1
    gradient: GradientName = "pathwise"
    temperature: float = 0.5
    anneal_steps: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"Expected a finite objective.temperature > 0; got {self.temperature}.")
        if self.anneal_steps < 0:
            raise ValueError(f"Expected objective.anneal_steps >= 0; got {self.anneal_steps}.")
        if self.anneal_steps and self.temperature > 1:
            raise ValueError(
                f"Expected objective.temperature of at most 1 with objective.anneal_steps, over which it falls from 1; "
                f"got {self.temperature}."
            )

    def gradient_plan(self) -> Plan:
        """The call that makes its gradient."""
        wanted = row(GRADIENTS, self.gradient, "objective.gradient")
        given = dict(wanted.options)
        if "temperature" in wanted.takes:
            falls = Plan(
                "tightbound.schedules.Linear", {"start": 1.0, "end": self.temperature, "steps": self.anneal_steps}
            )
            given["temperature"] = falls if self.anneal_steps else self.temperature
        return Plan(wanted.cls, given)


@dataclass(frozen=True, kw_only=True)
class Elbo(DrawnRecipe):
    """The ELBO, its rate weighted by β.

    Attributes:
        beta: Weight of the rate.
        kl: The rate in "closed-form", or "sampled" from the draws; "auto" takes the closed form where there is one.
        warmup_steps: Steps over which beta rises from zero.
    """

    name: str = dataclasses.field(default="elbo", init=False, repr=False)
    beta: float = 1.0
    kl: KL = "auto"
    warmup_steps: int = 0
    cls: ClassVar[str] = "tightbound.objectives.ELBO"
    warms: ClassVar[str] = "beta"

    def in_words(self, steps: int) -> str:
        if self.beta == 1 and not self.warmup_steps:
            return "Loss = distortion + rate."
        return f"Loss = distortion + β · rate, β = {self.beta:g}{self.warm_up_in_words(steps, 'rising from 0')}."


@dataclass(frozen=True, kw_only=True)
class Iwae(DrawnRecipe):
    """The importance-weighted bound.

    Attributes:
        samples: Draws of z for each observation; K of an importance-weighted bound.
    """

    name: str = dataclasses.field(default="iwae", init=False, repr=False)
    samples: int = 5
    cls: ClassVar[str] = "tightbound.objectives.IWAE"

    def in_words(self, steps: int) -> str:
        bound = f"Loss = minus the importance-weighted bound of {self.samples} samples"
        return f"{bound}, which is less than distortion + rate."


@dataclass(frozen=True, kw_only=True)
class Renyi(DrawnRecipe):
    """The variational Rényi bound.

    Attributes:
        alpha: Order of the Rényi bound: 0 is the importance-weighted bound, 1 the ELBO.
        samples: Draws of z for each observation; K of an importance-weighted bound.
    """

    name: str = dataclasses.field(default="renyi", init=False, repr=False)
    alpha: float = 0.5
    samples: int = 5
    cls: ClassVar[str] = "tightbound.objectives.Bound"
    bound: ClassVar[str] = "tightbound.bounds.renyi"
    of_bound: ClassVar[tuple[str, ...]] = ("alpha",)

    def in_words(self, steps: int) -> str:
        return f"Loss = minus the variational Rényi bound of order {self.alpha:g} and {self.samples} samples."


@dataclass(frozen=True, kw_only=True)
class Miwae(DrawnRecipe):
    """The mean of several importance-weighted bounds.

    Attributes:
        groups: Parts into which the draws are split, each with a bound of its own; a divisor of samples.
        samples: Draws of z for each observation, those of all groups together.
    """

    name: str = dataclasses.field(default="miwae", init=False, repr=False)
    groups: int = 2
    samples: int = 8
    cls: ClassVar[str] = "tightbound.objectives.Bound"
    bound: ClassVar[str] = "tightbound.bounds.miwae"
    of_bound: ClassVar[tuple[str, ...]] = ("groups",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.groups < 1 or self.samples % self.groups:
            raise ValueError(
                f"Expected objective.groups to divide objective.samples; got groups={self.groups} and "
                f"samples={self.samples}. Take 2 groups and 8 samples, for example."
            )
        if self.groups > 1 and row(GRADIENTS, self.gradient, "objective.gradient").spares_a_draw:
            raise ValueError(
                "Expected objective.gradient 'vimco' with the objective 'miwae', whose groups cannot spare a draw; got "
                f"{self.gradient!r}."
            )

    def in_words(self, steps: int) -> str:
        each = self.samples // self.groups
        return f"Loss = minus the mean of {self.groups} importance-weighted bounds of {each} samples each."


@dataclass(frozen=True, kw_only=True)
class FreeBits(DrawnRecipe):
    """The ELBO with free nats for each latent dimension.

    Attributes:
        nats: Free nats for each latent dimension.
    """

    name: str = dataclasses.field(default="free-bits", init=False, repr=False)
    nats: float = 0.25
    cls: ClassVar[str] = "tightbound.objectives.FreeBits"
    per_dimension: ClassVar[bool] = True

    def in_words(self, steps: int) -> str:
        return f"Loss = distortion + rate, where {self.nats:g} nats of each latent dimension are free."


@dataclass(frozen=True, kw_only=True)
class Capacity(DrawnRecipe):
    """The distortion, with the rate held at a capacity.

    Attributes:
        capacity: Nats at which the rate is held.
        gamma: How strictly it is held there.
        kl: The rate in "closed-form", or "sampled" from the draws; "auto" takes the closed form where there is one.
        warmup_steps: Steps over which the capacity rises from zero.
    """

    name: str = dataclasses.field(default="capacity", init=False, repr=False)
    capacity: float = 25.0
    gamma: float = 100.0
    kl: KL = "auto"
    warmup_steps: int = 0
    cls: ClassVar[str] = "tightbound.objectives.Capacity"
    warms: ClassVar[str] = "capacity"

    def in_words(self, steps: int) -> str:
        rises = self.warm_up_in_words(steps, "a target that rises")
        return f"Loss = distortion + {self.gamma:g} × the distance of the rate from {self.capacity:g} nats{rises}."


_OBJECTIVES: tuple[type[ObjectiveRecipe], ...] = (
    Elbo, Iwae, Renyi, Miwae, FreeBits, Capacity, *whole_batch.ROWS, *labelled.ROWS,
)  # fmt: skip
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


def row(table: Mapping[str, Row], name: str, field: str) -> Row:
    """The row of that name.

    Args:
        table: where to look.
        name: what a recipe says.
        field: the recipe's field, for the message.

    Raises:
        ValueError: for a name that no row has.

    Example:
        >>> row(PRIORS, "vamp", "model.prior").about
        'the posterior at learned pseudo-inputs'
    """
    if name not in table:
        close = [FORMER.get(name), *difflib.get_close_matches(name, table, n=1)]
        meant = next((f" Did you mean {word!r}?" for word in close if word in table), "")
        raise ValueError(f"Expected {field} among {', '.join(table)}; got {name!r}.{meant}")
    return table[name]


def suited(nature: Nature) -> str:
    """The likelihood that "auto" takes for data of this nature.

    Args:
        nature: what the values are, as a summary of the data names it.

    Example:
        >>> suited("levels")
        'discretized-logistic'
    """
    return next(each.name for each in LIKELIHOODS.values() if each.suits == nature)


def plan(objective: ObjectiveRecipe) -> Plan:
    """How an objective is made: its class, and each field of its recipe as the argument of the same name.

    Args:
        objective: what a recipe says of it.

    Returns:
        The call that makes it.

    Raises:
        ValueError: for a gradient that there is not.

    Example:
        >>> plan(Iwae(samples=3)).called
        'tightbound.objectives.IWAE'
    """
    given: dict[str, Any] = {item.name: getattr(objective, item.name) for item in dataclasses.fields(objective)}
    del given["name"]
    if steps := given.pop("warmup_steps", 0):
        rise = {"start": 0.0, "end": given[objective.warms], "steps": steps}
        given[objective.warms] = Plan("tightbound.schedules.Linear", rise)
    if isinstance(objective, DrawnRecipe):
        given = {name: value for name, value in given.items() if name not in ("temperature", "anneal_steps")}
        given["gradient"] = objective.gradient_plan()
    if objective.bound:
        given["bound"] = Plan(objective.bound, {name: given.pop(name) for name in objective.of_bound})
    if objective.inner:
        given["objective"] = Plan(objective.inner, {name: given.pop(name) for name in objective.of_inner})
    return Plan(objective.cls, given)
