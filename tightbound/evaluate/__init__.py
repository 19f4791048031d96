"""Evaluation: functions of a model and data that return a report, every estimate with its standard error."""

from tightbound.evaluate.evidence import evidence
from tightbound.evaluate.results import Estimate, Evidence

__all__ = ["Estimate", "Evidence", "evidence"]
