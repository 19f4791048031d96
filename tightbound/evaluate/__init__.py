"""Evaluation: functions of a model and data that return a report, every estimate with its standard error."""

from tightbound.evaluate.estimate import Estimate
from tightbound.evaluate.importance import evidence
from tightbound.evaluate.report import Evidence

__all__ = ["Estimate", "Evidence", "evidence"]
