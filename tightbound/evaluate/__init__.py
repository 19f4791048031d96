"""Evaluation: functions of a model and data that return a report, every estimate with its standard error."""

from tightbound.evaluate.annealing import Schedule
from tightbound.evaluate.baselines import Baselines, baselines
from tightbound.evaluate.calibration import Calibration, calibration
from tightbound.evaluate.certify import Certificate, certify
from tightbound.evaluate.check import Checks, check
from tightbound.evaluate.classification import Classification, classification
from tightbound.evaluate.disentanglement import disentangle, disentanglement
from tightbound.evaluate.estimates import Estimate
from tightbound.evaluate.evidence import evidence
from tightbound.evaluate.fidelity import Fidelity, fidelity
from tightbound.evaluate.gaps import Gaps, gaps
from tightbound.evaluate.independence import Independence, independence
from tightbound.evaluate.information import Information, information
from tightbound.evaluate.neighbours import Neighbours, neighbours
from tightbound.evaluate.predictive import Predictive, predictive
from tightbound.evaluate.results import Evidence
from tightbound.evaluate.scores.scored import Disentanglement, Score
from tightbound.evaluate.scores.unsupervised import udr

__all__ = [
    "Baselines",
    "Calibration",
    "Certificate",
    "Checks",
    "Classification",
    "Disentanglement",
    "Estimate",
    "Evidence",
    "Fidelity",
    "Gaps",
    "Independence",
    "Information",
    "Neighbours",
    "Predictive",
    "Schedule",
    "Score",
    "baselines",
    "calibration",
    "certify",
    "check",
    "classification",
    "disentangle",
    "disentanglement",
    "evidence",
    "fidelity",
    "gaps",
    "independence",
    "information",
    "neighbours",
    "predictive",
    "udr",
]
