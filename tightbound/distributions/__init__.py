"""Distributions that torch lacks, or computes in a form that loses digits where a decoder goes."""

from tightbound.distributions.bernoulli import Bernoulli, IndependentBernoulli, UnnormalisedBernoulli
from tightbound.distributions.elements import ContinuousBernoulli, DiscretizedLogistic, NegativeBinomial
from tightbound.distributions.mixtures import MixtureOfNormals

__all__ = [
    "Bernoulli",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "IndependentBernoulli",
    "MixtureOfNormals",
    "NegativeBinomial",
    "UnnormalisedBernoulli",
]
