"""Distributions that torch lacks, or computes in a form that loses digits; and draws written as maps of noise."""

from tightbound.distributions.bernoulli import Bernoulli, IndependentBernoulli, UnnormalisedBernoulli, independent
from tightbound.distributions.class_first import ClassFirst
from tightbound.distributions.columns import Columns, Levels, ordered
from tightbound.distributions.concrete import BinaryConcrete, Concrete, Relaxed, relaxation, relaxed
from tightbound.distributions.counts import NegativeBinomial, Poisson
from tightbound.distributions.discrete import (
    OneHot,
    Part,
    at_least_two,
    class_probabilities,
    codes_of,
    every_code,
    parts_of,
)
from tightbound.distributions.elements import ContinuousBernoulli, DiscretizedLogistic
from tightbound.distributions.held import held
from tightbound.distributions.joint import Joint
from tightbound.distributions.mixtures import MixtureOfNormals
from tightbound.distributions.reparameterised import (
    Exponential,
    Gumbel,
    Logistic,
    LogNormal,
    Normal,
    Reparameterised,
    Uniform,
)
from tightbound.distributions.sampling import pulled, sample_and_log_prob
from tightbound.distributions.top_down import TopDown
from tightbound.distributions.units import InUnits

__all__ = [
    "Bernoulli",
    "BinaryConcrete",
    "ClassFirst",
    "Columns",
    "Concrete",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "Exponential",
    "Gumbel",
    "InUnits",
    "IndependentBernoulli",
    "Joint",
    "Levels",
    "LogNormal",
    "Logistic",
    "MixtureOfNormals",
    "NegativeBinomial",
    "Normal",
    "OneHot",
    "Part",
    "Poisson",
    "Relaxed",
    "Reparameterised",
    "TopDown",
    "Uniform",
    "UnnormalisedBernoulli",
    "at_least_two",
    "class_probabilities",
    "codes_of",
    "every_code",
    "held",
    "independent",
    "ordered",
    "parts_of",
    "pulled",
    "relaxation",
    "relaxed",
    "sample_and_log_prob",
]
