"""Data: from a name, a file, a folder or an object to observations that a model can see.

Nothing here knows of models. Storage stays as it is found, 8-bit pixels and mapped files included;
:class:`Observations` says what a model sees of it, and :func:`summarise` what kind of numbers that is.
"""

from tightbound.data.observations import Observations
from tightbound.data.sources import load, observations
from tightbound.data.splits import Data
from tightbound.data.summary import DataSummary, moments, summarise

__all__ = ["Data", "DataSummary", "Observations", "load", "moments", "observations", "summarise"]
