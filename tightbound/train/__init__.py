"""Training: one loop for every model and objective."""

from tightbound.settings import Training as Training
from tightbound.train.failure import NonFiniteError as NonFiniteError
from tightbound.train.loop import fit as fit
from tightbound.train.trainer import Fit as Fit

__all__ = ["Fit", "NonFiniteError", "Training", "fit"]
