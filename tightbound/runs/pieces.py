"""The registry's tables of pieces: likelihoods, posteriors, priors, gradients, a row each. No torch here."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

from tightbound.runs.rows import CODES, MIXED, PATHS, GradientRow, LikelihoodRow, Piece, PosteriorRow, PriorRow

IN_UNIT = frozenset({"binary", "grey"})
WHOLE = frozenset({"binary", "counts"})
EIGHT_BITS = "Counts stored in 8 bits count as grey levels: store them as int64."

Row = TypeVar("Row", bound=Piece)


def _table(*rows: Row) -> dict[str, Row]:
    return {row.name: row for row in rows}


LIKELIHOODS = _table(
    LikelihoodRow(
        name="bernoulli", cls="tightbound.likelihoods.Bernoulli", about="binary data; grey data are binarised",
        wants="values between 0 and 1", kinds=IN_UNIT, suits="binary", binarises=True,
        measure="probability",
    ),
    LikelihoodRow(
        name="unnormalised-bernoulli", cls="tightbound.likelihoods.UnnormalisedBernoulli", former="grey-bernoulli",
        about="grey data as they are, under a cross-entropy that is no likelihood",
        wants="values between 0 and 1", kinds=IN_UNIT, measure="none",
    ),
    LikelihoodRow(
        name="continuous-bernoulli", cls="tightbound.likelihoods.ContinuousBernoulli",
        about="real numbers in [0, 1]", wants="values between 0 and 1", kinds=IN_UNIT, suits="unit",
    ),
    LikelihoodRow(
        name="gaussian", cls="tightbound.likelihoods.Gaussian", about="real numbers",
        takes=("scale", "centre", "unit"), suits="real", standardises=True,
    ),
    LikelihoodRow(
        name="laplace", cls="tightbound.likelihoods.Laplace", about="real numbers with heavy tails",
        takes=("scale", "centre", "unit"), standardises=True,
    ),
    LikelihoodRow(
        name="categorical", cls="tightbound.likelihoods.Categorical", about="classes, numbered from 0",
        takes=("classes",), wants="whole numbers from 0", kinds=WHOLE, suits="codes", counts="classes",
        remedy="Classes stored in 8 bits count as grey levels: store them as int64.", measure="probability",
    ),
    LikelihoodRow(
        name="discretized-logistic", cls="tightbound.likelihoods.DiscretizedLogistic", about="grey levels",
        takes=("scale", "levels"), wants="integer grey levels", kinds=IN_UNIT, suits="levels", counts="grey",
        measure="probability",
    ),
    LikelihoodRow(
        name="poisson", cls="tightbound.likelihoods.Poisson", about="counts",
        wants="whole numbers from 0", kinds=WHOLE, suits="counts", standardises=True, remedy=EIGHT_BITS,
        measure="probability",
    ),
    LikelihoodRow(
        name="negative-binomial", cls="tightbound.likelihoods.NegativeBinomial",
        about="counts with more spread than Poisson's",
        wants="whole numbers from 0", kinds=WHOLE, suits="overdispersed", standardises=True, remedy=EIGHT_BITS,
        measure="probability",
    ),
)  # fmt: skip

POSTERIORS = _table(
    PosteriorRow(
        name="diagonal-normal", cls="tightbound.posteriors.DiagonalNormal", about="independent normals",
        family="normal", partner="standard-normal",
    ),
    PosteriorRow(
        name="full-normal", cls="tightbound.posteriors.FullNormal", about="a normal with full covariance",
        family="normal", partner="standard-normal", factorised=False,
    ),
    PosteriorRow(
        name="flow", cls="tightbound.posteriors.Flow", about="a normal whose noise is bent by a flow",
        takes=("latent_dim", "flow", "transforms"), factorised=False,
    ),
    PosteriorRow(
        name="log-normal", cls="tightbound.posteriors.LogNormal", about="positive numbers, their logarithms normal",
        family="log-normal", partner="log-normal", latents="positive",
    ),
    PosteriorRow(
        name="exponential", cls="tightbound.posteriors.Exponential", about="positive numbers, mostly small ones",
        family="exponential", partner="exponential", latents="positive",
    ),
    PosteriorRow(
        name="gumbel", cls="tightbound.posteriors.Gumbel", about="numbers with a long upper tail",
        family="gumbel", partner="gumbel",
    ),
    PosteriorRow(
        name="bernoulli", cls="tightbound.posteriors.Bernoulli", about="bits",
        family="bernoulli", partner="bernoulli", latents="bits",
    ),
    PosteriorRow(
        name="categorical", cls="tightbound.posteriors.Categorical", about="variables of several classes",
        family="categorical", partner="categorical", latents="classes", takes=("classes",),
    ),
    PosteriorRow(
        name="joint", cls="tightbound.posteriors.Joint", about="normals beside variables of several classes",
        family="joint", partner="joint", latents="mixed",
    ),
    PosteriorRow(
        name="class-first", cls="tightbound.posteriors.ClassFirst", about="a class, then normals that depend on it",
        family="class-first", partner="class-and-normal", latents="class first", factorised=False,
    ),
    PosteriorRow(
        name="top-down", cls="tightbound.posteriors.TopDown",
        about="layers of normals, each the prior's given the one above, times what x says of it",
        takes=("prior",), partner="top-down", latents="layers", factorised=False,
    ),
)  # fmt: skip

PRIORS = _table(
    PriorRow(
        name="standard-normal", cls="tightbound.priors.StandardNormal", about="N(0, I)", takes=("latent_dim",),
        family="normal",
    ),
    PriorRow(
        name="mixture", cls="tightbound.priors.MixtureOfNormals", about="a learned mixture of normals",
        takes=("latent_dim", "components"),
    ),
    PriorRow(
        name="flow", cls="tightbound.priors.Flow", about="a learned normal whose noise is bent by a flow",
        takes=("latent_dim", "flow", "transforms"),
    ),
    PriorRow(
        name="vamp", cls="tightbound.priors.VampPrior", about="the posterior at learned pseudo-inputs",
        takes=("posterior", "pseudo_inputs"), needs="diagonal-normal",
    ),
    PriorRow(
        name="log-normal", cls="tightbound.priors.LogNormal", about="positive numbers, their logarithms normal",
        takes=("latent_dim", "learned"), family="log-normal", latents="positive",
    ),
    PriorRow(
        name="exponential", cls="tightbound.priors.Exponential", about="positive numbers, mostly small ones",
        takes=("latent_dim", "learned"), family="exponential", latents="positive",
    ),
    PriorRow(
        name="gumbel", cls="tightbound.priors.Gumbel", about="numbers with a long upper tail",
        takes=("latent_dim", "learned"), family="gumbel",
    ),
    PriorRow(
        name="bernoulli", cls="tightbound.priors.Bernoulli", about="bits",
        takes=("latent_dim", "learned"), family="bernoulli", latents="bits",
    ),
    PriorRow(
        name="categorical", cls="tightbound.priors.Categorical", about="variables of several classes",
        takes=("variables", "classes", "learned"), family="categorical", latents="classes",
    ),
    PriorRow(
        name="joint", cls="tightbound.priors.Joint", about="N(0, I) beside variables of several classes",
        takes=("parts",), family="joint", latents="mixed",
    ),
    PriorRow(
        name="class-and-normal", cls="tightbound.priors.Joint", about="N(0, I) and equally likely classes",
        family="class-first", latents="class first",
    ),
    PriorRow(
        name="top-down", cls="tightbound.priors.TopDown", about="layers of normals, each given the one above, N(0, I)",
        takes=("networks", "layers"), latents="layers",
    ),
    PriorRow(
        name="top-down-mixture", cls="tightbound.priors.TopDown",
        about="the same below a learned mixture of normals", takes=("networks", "layers", "top"), latents="layers",
    ),
)  # fmt: skip

GRADIENTS = _table(
    GradientRow(name="pathwise", cls="tightbound.gradients.Pathwise", about="through the draws, all of it"),
    GradientRow(
        name="sticking-the-landing", cls="tightbound.gradients.StickingTheLanding", former="stl",
        about="through the draws alone, with less noise where the posterior fits", needs_draws=True,
    ),
    GradientRow(
        name="doubly-reparameterised", cls="tightbound.gradients.DoublyReparameterised",
        about="like sticking the landing, and unbiased for bounds of many samples", needs_draws=True,
    ),
    GradientRow(
        name="score-function", cls="tightbound.gradients.ScoreFunction", options={"baseline": "batch"},
        about="by the score of the posterior, less that of the batch", latents=PATHS | CODES | MIXED,
    ),
    GradientRow(
        name="leave-one-out", cls="tightbound.gradients.ScoreFunction", options={"baseline": "leave-one-out"},
        about="by the score of the posterior, less that of the other samples", latents=PATHS | CODES | MIXED,
        least_samples=2, spares_a_draw=True,
    ),
    GradientRow(
        name="vimco", cls="tightbound.gradients.VIMCO",
        about="by the score, less that of a typical sample; for bounds of many samples",
        latents=PATHS | CODES | MIXED, least_samples=2,
    ),
    GradientRow(
        name="enumerate", cls="tightbound.gradients.Enumerate", about="the exact sum over at most 4096 codes",
        latents=CODES, most_samples=1, lists_codes=True,
    ),
    GradientRow(
        name="straight-through", cls="tightbound.gradients.StraightThrough",
        about="as if a code were its probabilities; biased", latents=CODES,
    ),
    GradientRow(
        name="gumbel-softmax", cls="tightbound.gradients.GumbelSoftmax", takes=("temperature",),
        about="through codes relaxed over a temperature; biased", latents=CODES | MIXED,
    ),
    GradientRow(
        name="straight-through-gumbel", cls="tightbound.gradients.GumbelSoftmax", takes=("temperature",),
        options={"hard": True}, about="hard codes forwards, relaxed ones backwards; biased", latents=CODES | MIXED,
    ),
)  # fmt: skip


FORMER = {row.former: row.name for table in (LIKELIHOODS, GRADIENTS) for row in table.values() if row.former}


def row(table: Mapping[str, Row], name: str, field: str) -> Row:
    """The row of that name.

    Args:
        table: where to look.
        name: what a recipe says.
        field: the recipe's field, for the message.

    Raises:
        ValueError: for a name that no row has.

    Example:
        >>> row(PRIORS, "vamp", "model.prior").about
        'the posterior at learned pseudo-inputs'
    """
    if name not in table:
        close = [FORMER.get(name), *difflib.get_close_matches(name, table, n=1)]
        meant = next((f" Did you mean {word!r}?" for word in close if word in table), "")
        raise ValueError(f"Expected {field} among {', '.join(table)}; got {name!r}.{meant}")
    return table[name]
