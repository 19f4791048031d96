"""Figures from data: every function takes numbers or a model and returns a matplotlib ``Figure``; nothing is global.

Figures never enter pyplot, so no window opens and none has to be closed. :func:`save`, :func:`to_png` and
:func:`to_svg` make files that are equal byte for byte for equal figures; :func:`alt_text` says what a figure shows.
"""

from tightbound.plots.animation import save_animation, traversal_frames
from tightbound.plots.checks import (
    nearest_neighbours,
    neighbour_distances,
    predictive_checks,
    rank_histograms,
    sample_extremes,
    sample_quality,
)
from tightbound.plots.codes import kl_per_dimension, latent_map
from tightbound.plots.compared import compared_bounds, compared_curves, paired_differences
from tightbound.plots.curves import training_curves
from tightbound.plots.evidence import bound_by_samples, pareto_k
from tightbound.plots.factors import dependence_matrix, factor_matrix, factor_scatter
from tightbound.plots.gradients import gradient_comparison
from tightbound.plots.latents import interpolation, latent_traversal, manifold
from tightbound.plots.output import save, to_png, to_svg
from tightbound.plots.pictures import alt_text, analogies, data_grid, images, reconstructions, samples
from tightbound.plots.tradeoff import beta_tradeoff, rate_distortion, scores_by_beta
from tightbound.plots.values import by_value

__all__ = [
    "alt_text",
    "analogies",
    "beta_tradeoff",
    "bound_by_samples",
    "by_value",
    "compared_bounds",
    "compared_curves",
    "data_grid",
    "dependence_matrix",
    "factor_matrix",
    "factor_scatter",
    "gradient_comparison",
    "images",
    "interpolation",
    "kl_per_dimension",
    "latent_map",
    "latent_traversal",
    "manifold",
    "nearest_neighbours",
    "neighbour_distances",
    "paired_differences",
    "pareto_k",
    "predictive_checks",
    "rank_histograms",
    "rate_distortion",
    "reconstructions",
    "sample_extremes",
    "sample_quality",
    "samples",
    "save",
    "save_animation",
    "scores_by_beta",
    "to_png",
    "to_svg",
    "training_curves",
    "traversal_frames",
]
