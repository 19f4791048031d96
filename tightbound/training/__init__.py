"""Training: one loop for every model and objective."""

from tightbound.settings import Training as Training
from tightbound.training import loggers as loggers
from tightbound.training.failure import NonFiniteError as NonFiniteError
from tightbound.training.fit import fit as fit
from tightbound.training.on_log import OnLogError as OnLogError
from tightbound.training.result import TrainResult as TrainResult

__all__ = ["NonFiniteError", "OnLogError", "TrainResult", "Training", "fit", "loggers"]
