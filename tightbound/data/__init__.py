"""Data: from a name, a file, a folder or an object to observations that a model can see.

This package knows nothing of models. Values stay stored as they were found: 8-bit pixels stay 8-bit, and a mapped file
stays on disk. :class:`Observations` turns stored values into what a model sees, and :func:`summarise` says what kind of
numbers they are.
"""

from tightbound.columns import Column
from tightbound.data import transforms
from tightbound.data.chunked import moments
from tightbound.data.datasets import write
from tightbound.data.factors import correlated, held_out
from tightbound.data.few import few_factors, few_labels
from tightbound.data.nature import is_image
from tightbound.data.observations import Observations
from tightbound.data.pairs import pairs
from tightbound.data.schemas import Schema
from tightbound.data.sources import found_again, load, observations, places
from tightbound.data.splits import Data
from tightbound.data.sprites import sprites
from tightbound.data.summary import DataSummary, summarise
from tightbound.data.tables import describe, read_table

__all__ = [
    "Column", "Data", "DataSummary", "Observations", "Schema", "correlated", "describe", "few_factors", "few_labels",
    "found_again", "held_out", "is_image", "load", "moments", "observations", "pairs", "places", "read_table",
    "sprites", "summarise", "transforms", "write",
]  # fmt: skip
