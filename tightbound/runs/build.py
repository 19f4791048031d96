"""From a recipe to a model, an objective and data, through a closed registry: a name that is not in it is refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tightbound import likelihoods, networks, objectives, posteriors, priors
from tightbound.data import Data, DataSummary, Observations, summarise, load, moments
from tightbound.model import VAE
from tightbound.runs.recipe import ModelRecipe, ObjectiveRecipe, Recipe
from tightbound.schedules import Linear

LARGEST_MLP_SIDE = 32
MOST_LEVELS = 2**16

POSTERIORS: dict[str, type[posteriors.Posterior]] = {
    "diagonal-normal": posteriors.DiagonalNormal,
    "full-normal": posteriors.FullNormal,
}


@dataclass(frozen=True)
class Config:
    """What a model's shape depends on besides its recipe: written beside the weights as ``config.json``.

    Attributes:
        shape: Of one observation.
        levels: How many values an element takes (grey levels, classes); 0 where that means nothing.
        why: How the likelihood was chosen, in words.
    """

    shape: tuple[int, ...]
    levels: int = 0
    why: str = ""


@dataclass(frozen=True, eq=False)
class Built:
    """A recipe made real."""

    recipe: Recipe
    config: Config
    model: VAE
    objective: objectives.Objective
    data: Data


def build(recipe: Recipe) -> Built:
    """Load the data, resolve what the recipe leaves to it, and make the model with its seed.

    Raises:
        ValueError: for data that cannot be read, or that the likelihood does not describe.
    """
    data = load(recipe.data.source, size=recipe.data.size, test_fraction=recipe.data.test_fraction)
    facts, unseen = summarise(data.train), summarise(data.test)
    resolved = resolve(recipe, facts)
    levels = levels_of(resolved.model.likelihood, facts, unseen)
    data = prepared(resolved, data, facts)
    config = Config(tuple(facts.shape), levels, _why(recipe, facts))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(resolved.seed)
        model = build_model(resolved.model, config, observations=data.train)
    return Built(resolved, config, model, build_objective(resolved.objective), data)


def resolve(recipe: Recipe, facts: DataSummary) -> Recipe:
    """The recipe with every "auto" that depends on the data replaced."""
    model = recipe.model
    image = len(facts.shape) == 3
    if model.network == "auto":
        large = image and max(facts.shape[1:]) > LARGEST_MLP_SIDE
        model = dataclasses.replace(model, network="conv" if large else "mlp")
    if model.network in ("conv", "resnet") and not image:
        raise ValueError(
            f"Expected images (channels, height, width) for network={model.network!r}; got observations of shape "
            f"{tuple(facts.shape)}. Take network='mlp'."
        )
    if model.likelihood == "auto":
        model = dataclasses.replace(model, likelihood=facts.likelihood)  # type: ignore[arg-type]
    return dataclasses.replace(recipe, model=model)


def prepared(recipe: Recipe, data: Data, facts: DataSummary) -> Data:
    """The data as the likelihood wants it: grey values binarised for a Bernoulli."""
    if recipe.model.likelihood == "bernoulli" and facts.kind != "binary":
        return data.binarised()
    return data


def levels_of(likelihood: str, facts: DataSummary, unseen: DataSummary) -> int:
    """How many values an element takes, in training and test set together; 0 where the likelihood does not care.

    Raises:
        ValueError: for data of a kind that the likelihood does not describe.
    """
    if likelihood == "grey-bernoulli" and not {facts.kind, unseen.kind} <= {"grey", "binary"}:
        raise ValueError(
            f"Expected values between 0 and 1 for 'grey-bernoulli'; got {facts.describe()}. Take 'gaussian' for real "
            "numbers or 'poisson' for counts."
        )
    if likelihood == "discretized-logistic":
        if facts.kind not in ("grey", "binary") or "float" in facts.dtype:
            raise ValueError(
                f"Expected integer grey levels for 'discretized-logistic'; got {facts.describe()}. "
                "Take 'continuous-bernoulli' for floats in [0, 1] or 'gaussian' for real numbers."
            )
        return round(facts.scale) + 1
    if likelihood == "categorical":
        classes = round(max(facts.high, unseen.high) / facts.scale) + 1
        if not {facts.kind, unseen.kind} <= {"binary", "counts"} or classes > MOST_LEVELS:
            raise ValueError(
                f"Expected whole numbers from 0 to {MOST_LEVELS - 1} at most for 'categorical'; got "
                f"{facts.describe()}. Classes in 8 bits count as grey levels: store them as int64."
            )
        return classes
    return 0


def build_model(
    recipe: ModelRecipe, config: Config, *, observations: Observations | None = None, device: str = "cpu"
) -> VAE:
    """The model of a resolved recipe. Without observations every number is left to saved weights.

    Args:
        recipe: what it is made of.
        config: what its shape depends on besides.
        observations: what data-dependent starts are taken from.
        device: "meta" for an outline: names and shapes of everything, and no memory.

    Raises:
        ValueError: for what is still "auto", and for parts that do not fit together.
    """
    if "auto" in (recipe.network, recipe.likelihood):
        raise ValueError("Expected a network and a likelihood by name; got 'auto'. Only data can tell: see build().")
    shape, latent = config.shape, recipe.latent_dim
    with torch.device(device):  # all but the likelihood's own numbers, which are few
        mean, deviation = moments(observations) if observations is not None else (torch.zeros(shape), torch.ones(shape))
        if len(shape) == 3:  # pixels share a unit: near-constant corners would otherwise outweigh the picture
            pooled = (deviation.square().mean() + mean.var(unbiased=False)).sqrt()
            deviation = pooled.expand_as(deviation)
        make, parameters = _likelihood(recipe, config, mean, deviation)
        encoder = _encoder(recipe, shape, POSTERIORS[recipe.posterior].outputs_for(latent))
        decoder = _decoder(recipe, latent, (*parameters, *shape))
    likelihood = make(decoder)
    if recipe.init == "xavier" and observations is not None:
        networks.xavier_(encoder)
        networks.xavier_(decoder)
        networks.start_at(decoder, likelihood.initial_output(mean.to(torch.get_default_dtype())))
    if recipe.likelihood in ("gaussian", "laplace", "poisson", "negative-binomial"):
        encoder = networks.Standardized(encoder, mean, deviation)
    posterior = POSTERIORS[recipe.posterior](encoder)
    with torch.device(device):
        prior = _prior(recipe, posterior, shape, observations)
    return VAE(prior, posterior, likelihood)


def build_objective(recipe: ObjectiveRecipe) -> objectives.Objective:
    """The objective of a recipe."""
    if recipe.name == "iwae":
        return objectives.IWAE(recipe.samples)
    if recipe.name == "free-bits":
        return objectives.FreeBits(recipe.nats, recipe.samples)
    if recipe.name == "capacity":
        return objectives.Capacity(_warmed(recipe.capacity, recipe), recipe.gamma, recipe.samples, recipe.kl)
    return objectives.ELBO(_warmed(recipe.beta, recipe), recipe.samples, recipe.kl, recipe.gradient)


def _warmed(value: float, recipe: ObjectiveRecipe) -> float | Linear:
    return Linear(0.0, value, recipe.warmup_steps) if recipe.warmup_steps else value


def _encoder(recipe: ModelRecipe, shape: tuple[int, ...], outputs: int) -> nn.Module:
    if recipe.network == "mlp":
        return networks.MLP(shape, (outputs,), hidden=recipe.hidden, act=recipe.activation)
    blocks = 2 if recipe.network == "resnet" else 0
    return networks.ConvEncoder(shape, outputs, base=recipe.channels, blocks=blocks, act=recipe.activation)


def _decoder(recipe: ModelRecipe, latent: int, outputs: tuple[int, ...]) -> networks.MLP | networks.ConvDecoder:
    if recipe.network == "mlp":
        return networks.MLP((latent,), outputs, hidden=recipe.hidden[::-1], act=recipe.activation)
    blocks = 2 if recipe.network == "resnet" else 0
    return networks.ConvDecoder(latent, outputs, base=recipe.channels, blocks=blocks, act=recipe.activation)


def _likelihood(
    recipe: ModelRecipe, config: Config, mean: Tensor, deviation: Tensor
) -> tuple[Callable[[nn.Module], likelihoods.Likelihood], tuple[int, ...]]:
    """What makes the likelihood from a network, and the network's leading output axes."""
    name, scale, levels = recipe.likelihood, recipe.scale, config.levels
    two = (2,) if scale == "per-element" else ()
    unit: dict[str, Any] = {"scale": scale, "centre": mean, "unit": torch.where(deviation > 0, deviation, 1)}
    registry: dict[str, tuple[Callable[[nn.Module], likelihoods.Likelihood], tuple[int, ...]]] = {
        "bernoulli": (likelihoods.Bernoulli, ()),
        "grey-bernoulli": (lambda net: likelihoods.Bernoulli(net, grey=True), ()),
        "continuous-bernoulli": (likelihoods.ContinuousBernoulli, ()),
        "gaussian": (lambda net: likelihoods.Gaussian(net, **unit), two),
        "laplace": (lambda net: likelihoods.Laplace(net, **unit), two),
        "categorical": (lambda net: likelihoods.Categorical(net, classes=levels), (levels,)),
        "discretized-logistic": (lambda net: likelihoods.DiscretizedLogistic(net, levels=levels, scale=scale), two),
        "poisson": (likelihoods.Poisson, ()),
        "negative-binomial": (likelihoods.NegativeBinomial, (2,)),
    }
    return registry[name]


def _prior(
    recipe: ModelRecipe, posterior: posteriors.Posterior, shape: tuple[int, ...], observations: Observations | None
) -> priors.Prior:
    if recipe.prior == "mixture":
        return priors.MixtureOfNormals(recipe.latent_dim, components=recipe.components)
    if recipe.prior == "vamp":
        if observations is None:
            return priors.VampPrior(posterior, torch.zeros(recipe.components, *shape))
        rows = torch.randint(len(observations), (recipe.components,))
        return priors.VampPrior(posterior, observations.unbinarised(rows))
    return priors.StandardNormal(recipe.latent_dim)


def _why(recipe: Recipe, facts: DataSummary) -> str:
    return facts.because if recipe.model.likelihood == "auto" else "named in the recipe"
