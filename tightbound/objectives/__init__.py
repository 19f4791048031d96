"""Objectives: what training makes small. ``objective(model, batch)`` is a loss in nats per observation.

An objective is a bound and a gradient, with a weight β on the rate or a penalty where wanted. Those here are frozen
values. One that learns something of its own is a module, and one that plays against the model says so with a
:class:`SecondPlayer`.
"""

from __future__ import annotations

from typing import Any

from tightbound.objectives.capacities import Capacity, JointVAE
from tightbound.objectives.labelled import KnownFactors, SemiSupervised
from tightbound.objectives.loss import Loss, Objective, SecondPlayer
from tightbound.objectives.of_batches import DIP, WAE, FactorVAE, InfoVAE, TotalCorrelation
from tightbound.objectives.of_draws import ELBO, IWAE, Bound, FreeBits, resolve
from tightbound.surface import missing

__all__ = [
    "DIP", "ELBO", "IWAE", "WAE", "Bound", "Capacity", "FactorVAE", "FreeBits", "InfoVAE", "JointVAE", "KnownFactors",
    "Loss", "Objective", "SecondPlayer", "SemiSupervised", "TotalCorrelation", "resolve",
]  # fmt: skip

_INSTEAD = {
    "BetaTCVAE": "TotalCorrelation(beta=…)",
    "BetaVAE": "ELBO(beta=…)",
    "DIPVAE": "DIP(…)",
    "MMDVAE": "InfoVAE(…)",
    "BetaELBO": "ELBO(beta=…)",
    "M2": "SemiSupervised()",
    "VAE": "ELBO()",
    "IWELBO": "IWAE(samples=…)",
}


def __getattr__(name: str) -> Any:
    raise missing(__name__, name, __all__, instead=_INSTEAD)
