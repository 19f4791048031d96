"""The standard pictures of a run, each made from the run's own numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from tightbound import plots
from tightbound.data import Data
from tightbound.model import VAE
from tightbound.run import Run

CODES = 5000  # observations in the latent map: enough to see its shape


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure with what a reader should look for in it."""

    name: str
    title: str
    caption: str
    figure: Figure


def pictures(run: Run, model: VAE, data: Data) -> Iterator[Picture]:
    """Every picture that fits the run, in the order a reader wants them."""
    evaluation = run.evaluation() or {}
    yield from _training(run)
    if evaluation:
        yield from _evidence(run, evaluation)
    yield from _observations(model, data)
    yield from _latents(model, data, evaluation)


def _training(run: Run) -> Iterator[Picture]:
    if metrics := run.metrics():
        caption = "Loss = distortion + rate. The gap between training and validation is what the model learned by heart."
        if run.recipe.objective.name != "elbo" or run.recipe.objective.beta != 1:
            caption = "The loss is the objective's; distortion and rate are apart, in nats, so that runs can be compared."
        yield Picture("training", "Training", caption, plots.training_curves(metrics))


def _evidence(run: Run, evaluation: dict[str, Any]) -> Iterator[Picture]:
    rungs = [(rung["samples"], rung["value"], rung["se"] or 0.0) for rung in evaluation["iwae"]]
    caption = "The more samples, the nearer to log p(x); what the ELBO lacks is the posterior's misfit."
    yield Picture("bounds", "How tight the bound is", caption, plots.bound_by_samples(rungs))
    per_observation = run.per_observation()
    if evaluation["samples"] > 1 and "ess" in per_observation:
        caption = "Observations to the left of the threshold are explained by one or few draws; their estimate is biased."
        figure = plots.effective_sample_size(per_observation["ess"], evaluation["samples"])
        yield Picture("ess", "How far to trust it", caption, figure)
    if evaluation.get("kl_per_dimension"):
        caption = "Dimensions with no nats follow the prior and carry nothing."
        figure = plots.kl_per_dimension(
            torch.tensor(evaluation["kl_per_dimension"]), torch.tensor(evaluation["active"])
        )
        yield Picture("kl", "Where the nats go", caption, figure)


def _observations(model: VAE, data: Data) -> Iterator[Picture]:
    yield Picture("data", "The data", "Test observations, as stored.", plots.data_grid(data.test))
    shown, seen = examples(data, 32)
    caption = "Each original with its reconstruction: the mean of p(x|z) at the mean of q(z|x)."
    yield Picture("reconstructions", "Reconstructions", caption, plots.reconstructions(shown, reconstructed(model, seen)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = model.sample(64)
    yield Picture("samples", "Samples", "Means of p(x|z) for z drawn from the prior.", plots.samples(drawn))


def _latents(model: VAE, data: Data, evaluation: dict[str, Any]) -> Iterator[Picture]:
    kl = evaluation.get("kl_per_dimension")
    shown, seen = examples(data, 12)
    figure = plots.latent_traversal(model, seen[0], dimensions=None if not kl else min(len(kl), 12), kl=_tensor(kl))
    caption = "One latent dimension at a time, the most informative first; the rest as the first test observation has it."
    yield Picture("traversal", "What each dimension does", caption, figure)
    caption = "Straight lines between pairs of test observations, in the latent space."
    yield Picture("interpolation", "Interpolation", caption, plots.interpolation(model, seen[:6], seen[6:12]))
    count = min(len(data.test), CODES)
    codes = embedded(model, data, "test", count)
    labels = data.test.label(torch.arange(count))
    figure = plots.latent_map(codes, labels, data.test.label_names)
    yield Picture("map", "The latent space", "Posterior means of test observations.", figure)
    if codes.shape[1] == 2:
        caption = "The decoder over the prior's quantiles, the middle of the prior in the middle."
        yield Picture("manifold", "The manifold", caption, plots.manifold(model))


def examples(data: Data, count: int, split: str = "test") -> tuple[Tensor, Tensor]:
    """The first observations of a split: as a person wants to see them, and as the model does."""
    observations = data.split(split)
    rows = torch.arange(min(count, len(observations)))
    return observations.grey(rows), observations.fixed(0, len(rows))


@torch.no_grad()
def reconstructed(model: VAE, seen: Tensor) -> Tensor:
    """The model's reconstructions."""
    return model.reconstruct(seen)


@torch.no_grad()
def embedded(model: VAE, data: Data, split: str, count: int | None = None) -> Tensor:
    """Posterior means of the first ``count`` observations of a split, shape (count, latent)."""
    observations = data.split(split)
    if count is not None:
        observations = observations.subset(torch.arange(min(count, len(observations))))
    return torch.cat([model.embed(x) for x in observations.batches(1024)])


def _tensor(values: list[float] | None) -> Tensor | None:
    return None if not values else torch.tensor(values)
