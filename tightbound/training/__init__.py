"""Training: one loop for every model and objective."""

from tightbound.settings import Training as Training
from tightbound.training.failure import NonFiniteError as NonFiniteError
from tightbound.training.fit import fit as fit
from tightbound.training.result import TrainResult as TrainResult

__all__ = ["NonFiniteError", "TrainResult", "Training", "fit"]
