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
    alpha: float = 0.1
    samples: int = 1
    labelled_batch: int = 100
    cls: ClassVar[str] = "tightbound.objectives.SemiSupervised"
    class_first: ClassVar[bool] = True

    def in_words(self, steps: int) -> str:
        known = "summed over the class where it is not known"
        return f"Loss = distortion + rate, {known}, + {self.alpha:g} × minus log q(y|x) of labelled observations."


ROWS: tuple[type[ObjectiveRecipe], ...] = (SemiSupervised,)
