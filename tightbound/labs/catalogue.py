"""Which labs there are and what each teaches. No torch here, so that help comes at once."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tightbound.labs.result import Result

__all__ = ["Lab", "described", "find"]


@dataclass(frozen=True)
class Lab:
    """A lab: a concept, computed live.

    Attributes:
        name: What the command line calls it.
        function: Its function, as dotted text.
        teaches: What it shows, in one sentence.
        trains: Whether it trains models, which takes seconds: then it has ``progress`` to show.

    Example:
        >>> LABS["bounds"].function
        'tightbound.labs.evidence.bounds'
    """

    name: str
    function: str
    teaches: str
    trains: bool = False

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
            "known-evidence",
            "tightbound.labs.known.known_evidence",
            "A VAE trained for seconds whose log p(x) can be summed up: what is estimated, beside the truth.",
            trains=True,
        ),
        Lab(
            "gradients",
            "tightbound.labs.estimators.gradients",
            "Pathwise and score-function gradients of one and the same number: their noise, and what more samples buy.",
        ),
        Lab(
            "discrete",
            "tightbound.labs.one_bit.discrete",
            "One bit, whose gradient is known: which estimators hit it, and how far the relaxed ones miss.",
        ),
        Lab(
            "trade-off",
            "tightbound.labs.training.trade_off",
            "A sweep over beta on real data: what a smaller rate costs, and which beta serves which purpose.",
            trains=True,
        ),
        Lab(
            "rate-distortion",
            "tightbound.labs.curve.rate_distortion",
            "The curve of rate and distortion on real data, exact for linear models, and what a hidden layer wins.",
            trains=True,
        ),
        Lab(
            "decomposition",
            "tightbound.labs.training.decomposition",
            "Distortion plus rate over a real training, and the rate as a sum over latents: which of them wakes when.",
            trains=True,
        ),
    )
}


def find(name: str) -> Lab:
    """The lab of that name.

    Args:
        name: as the command line has it; an underscore, as Python has it, is the same.

    Returns:
        Its row.

    Raises:
        ValueError: where there is no such lab, with the one that may have been meant.

    Example:
        >>> find("trade_off").name
        'trade-off'
    """
    wanted = name.replace("_", "-")
    if wanted in LABS:
        return LABS[wanted]
    close = difflib.get_close_matches(wanted.lower(), LABS, n=1)
    meant = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"Expected a lab ({', '.join(LABS)}); got {name!r}.{meant}")


def described() -> str:
    """What each lab teaches, a line for each, as Markdown.

    Example:
        >>> described().splitlines()[0][:24]
        '* **reparameterisation**'
    """
    return "\n".join(f"* **{lab.name}**: {lab.teaches}" for lab in LABS.values())
