"""Likelihoods p(x | z): what kind of data the decoder's network describes."""

from tightbound.likelihoods.likelihood import Likelihood, point_estimate
from tightbound.likelihoods.of_columns import Columns
from tightbound.likelihoods.of_elements import SMALLEST_SCALE as SMALLEST_SCALE
from tightbound.likelihoods.of_elements import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogistic,
    Gaussian,
    Laplace,
    NegativeBinomial,
    Poisson,
    UnnormalisedBernoulli,
)

__all__ = [
    "Bernoulli", "Categorical", "Columns", "ContinuousBernoulli", "DiscretizedLogistic", "Gaussian", "Laplace",
    "Likelihood", "NegativeBinomial", "Poisson", "UnnormalisedBernoulli", "point_estimate",
]  # fmt: skip
