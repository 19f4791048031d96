"""Training: one loop for every model and objective."""

from tightbound.settings import Training as Training
from tightbound.train.failure import NonFiniteError as NonFiniteError
from tightbound.train.loop import Fit as Fit
from tightbound.train.loop import fit as fit

__all__ = ["Fit", "NonFiniteError", "Training", "fit"]
