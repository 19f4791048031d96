"""Rows of the objectives of draws, each with a gradient that a recipe can choose."""

from __future__ import annotations

import dataclasses
from abc import ABC
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from tightbound.runs.pieces import FORMER, GRADIENTS, row
from tightbound.runs.plan import Plan
from tightbound.runs.rows import ObjectiveRecipe
from tightbound.runs.schema import Names

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
        super().__post_init__()
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
    warms: ClassVar[tuple[str, ...]] = ("beta",)

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
    warms: ClassVar[tuple[str, ...]] = ("capacity",)

    def in_words(self, steps: int) -> str:
        rises = self.warm_up_in_words(steps, "a target that rises")
        return f"Loss = distortion + {self.gamma:g} × the distance of the rate from {self.capacity:g} nats{rises}."


@dataclass(frozen=True, kw_only=True)
class JointVAE(DrawnRecipe):
    """The distortion, with the rates of numbers and of classes each held at a capacity of its own.

    Attributes:
        real: Nats at which the rate of the real numbers is held.
        codes: Nats at which that of the classes is held; at most what they can carry counts.
        gamma: How strictly they are held there.
        gradient: How draws become a gradient.
        warmup_steps: Steps over which both capacities rise from zero.
    """

    name: str = dataclasses.field(default="joint-vae", init=False, repr=False)
    real: float = 5.0
    codes: float = 5.0
    gamma: float = 30.0
    gradient: GradientName = "gumbel-softmax"
    warmup_steps: int = 0
    cls: ClassVar[str] = "tightbound.objectives.JointVAE"
    warms: ClassVar[tuple[str, ...]] = ("real", "codes")
    per_dimension: ClassVar[bool] = True
    mixed: ClassVar[bool] = True

    def in_words(self, steps: int) -> str:
        rises = self.warm_up_in_words(steps, "targets that rise")
        held = f"of the rate of numbers from {self.real:g} nats, and of that of classes from {self.codes:g}"
        return f"Loss = distortion + {self.gamma:g} × the distances {held}{rises}."


ROWS: tuple[type[ObjectiveRecipe], ...] = (Elbo, Iwae, Renyi, Miwae, FreeBits, Capacity, JointVAE)
