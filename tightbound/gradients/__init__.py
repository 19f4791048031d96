"""How a bound becomes a gradient: how draws are made, and what is held constant meanwhile.

A gradient is a frozen value, called with a model, a batch and a bound. It gives a *surrogate* whose value is the
bound's, whatever its own gradient: logs and the choice of the best weights stay true. Which one to take depends on the
latent:

- **real numbers** have a path, z = g(ε): :class:`Pathwise`, :class:`StickingTheLanding`,
  :class:`DoublyReparameterised`;
- **bits and classes** have none: :class:`ScoreFunction` and :class:`VIMCO` are unbiased and noisy, :class:`Enumerate`
  is exact where there are few codes, :class:`StraightThrough` and :class:`GumbelSoftmax` are biased and quiet.
"""

from tightbound.gradients.compare import compare
from tightbound.gradients.comparison import Comparison, EstimatorStatistics
from tightbound.gradients.gradient import Gradient
from tightbound.gradients.pathwise import DoublyReparameterised, Pathwise, StickingTheLanding
from tightbound.gradients.relaxed import GumbelSoftmax, StraightThrough
from tightbound.gradients.score import VIMCO, Enumerate, ScoreFunction

__all__ = [
    "VIMCO",
    "Comparison",
    "DoublyReparameterised",
    "Enumerate",
    "EstimatorStatistics",
    "Gradient",
    "GumbelSoftmax",
    "Pathwise",
    "ScoreFunction",
    "StickingTheLanding",
    "StraightThrough",
    "compare",
]
