"""Rows of the objectives that labels take part in."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from tightbound.runs.rows import ObjectiveRecipe


@dataclass(frozen=True, kw_only=True)
class SemiSupervised(ObjectiveRecipe):
    """The ELBO of x and its class, summed over classes where it is not known, and a classifier's loss: M2.

    Attributes:
        alpha: Weight of the classifier's loss.
        samples: Draws of z in each class.
        labelled_batch: Labelled observations of a step, drawn with replacement.
    """

    name: str = dataclasses.field(default="semi-supervised", init=False, repr=False)
    alpha: float = 1.0
    samples: int = 1
    labelled_batch: int = 100
    cls: ClassVar[str] = "tightbound.objectives.SemiSupervised"
    class_first: ClassVar[bool] = True

    def in_words(self, steps: int) -> str:
        known = "summed over the class where it is not known"
        return f"Loss = distortion + rate, {known}, + {self.alpha:g} × minus log q(y|x) of labelled observations."


@dataclass(frozen=True, kw_only=True)
class KnownFactors(ObjectiveRecipe):
    """The ELBO, with a pull of the first dimensions towards factors that few observations have.

    Attributes:
        gamma: Weight of the pull.
        beta: Weight of the rate.
        labelled_batch: Labelled observations of a step, drawn with replacement.
    """

    name: str = dataclasses.field(default="known-factors", init=False, repr=False)
    gamma: float = 10.0
    beta: float = 1.0
    labelled_batch: int = 100
    cls: ClassVar[str] = "tightbound.objectives.KnownFactors"
    inner: ClassVar[str] = "tightbound.objectives.ELBO"
    of_inner: ClassVar[tuple[str, ...]] = ("beta",)
    needs_path: ClassVar[bool] = True

    def in_words(self, steps: int) -> str:
        weight = "" if self.beta == 1 else f"{self.beta:g} · "
        pull = f"{self.gamma:g} × half the squared distance of codes to factors, of observations that have them"
        return f"Loss = distortion + {weight}rate + {pull}."


ROWS: tuple[type[ObjectiveRecipe], ...] = (SemiSupervised, KnownFactors)
