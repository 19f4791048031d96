"""Which labs there are and what each teaches. No torch here, so that help comes at once."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tightbound.labs.result import Result


@dataclass(frozen=True)
class Lab:
    """A lab: a concept, computed live.

    Attributes:
        name: What the command line calls it.
        function: Its function, as dotted text.
        teaches: What it shows, in one sentence.

    Example:
        >>> LABS["bounds"].function
        'tightbound.labs.evidence.bounds'
    """

    name: str
    function: str
    teaches: str

    def load(self) -> Callable[..., Result]:
        """The function itself.

        Example:
            >>> LABS["bounds"].load().__name__
            'bounds'
        """
        module, _, name = self.function.rpartition(".")
        return getattr(importlib.import_module(module), name)


LABS = {
    lab.name: lab
    for lab in (
        Lab(
            "reparameterisation",
            "tightbound.labs.draws.reparameterisation",
            "Noise goes through a map and becomes a draw: normal, log-normal, exponential and Gumbel, each beside its "
            "exact density.",
        ),
        Lab(
            "bounds",
            "tightbound.labs.evidence.bounds",
            "Where everything is known exactly, the ELBO lies below log p(x) by KL(q || p(z|x)), and L_K closes the "
            "gap as K grows.",
        ),
        Lab(
            "gradients",
            "tightbound.labs.estimators.gradients",
            "Pathwise and score-function gradients of one and the same number: their noise, and what more samples buy.",
        ),
        Lab(
            "discrete",
            "tightbound.labs.estimators.discrete",
            "One bit, whose gradient is known: which estimators hit it, and how far the relaxed ones miss.",
        ),
        Lab(
            "trade-off",
            "tightbound.labs.training.trade_off",
            "A sweep over beta on real data: what a smaller rate costs, and which beta serves which purpose.",
        ),
        Lab(
            "decomposition",
            "tightbound.labs.training.decomposition",
            "Distortion plus rate over a real training, and the rate as a sum over latents: which of them wakes when.",
        ),
    )
}
