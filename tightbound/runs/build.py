"""From a recipe to a model, an objective and data, through the registry: a name that is not in it is refused."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tightbound import networks, objectives, posteriors, priors
from tightbound.autoencoder import VAE
from tightbound.conditional import Conditional
from tightbound.conditioned import ConditionalVAE
from tightbound.data import Data, Observations, few_factors, few_labels, is_image, load, moments
from tightbound.data.transforms import Transform
from tightbound.likelihoods import Likelihood
from tightbound.runs import registry
from tightbound.runs.config import Config
from tightbound.runs.fitting import layers_of
from tightbound.runs.identity import data_fingerprint
from tightbound.runs.notes import notes_on, on_condition
from tightbound.runs.pieces import LIKELIHOODS, POSTERIORS, PRIORS, row
from tightbound.runs.plan import imported
from tightbound.runs.recipe import GIVEN, NOT_KEPT, ModelRecipe, Recipe
from tightbound.runs.resolving import (
    conditions_of,
    levels_of,
    needs_float64,
    prepared,
    reason,
    resolve,
    transform_of,
)
from tightbound.runs.rows import ObjectiveRecipe, PosteriorRow
from tightbound.runs.sizes import require_room
from tightbound.runs.wired import decoder_of, encoder_of, links_of
from tightbound.runtime import evaluation_mode, own_random_state, require_computing
from tightbound.semi_supervised import SemiSupervisedVAE
from tightbound.told import Late, Planes, Without

__all__ = ["Built", "build", "build_model", "build_objective", "loaded"]

WIDTH = 256  # of features, where a recipe names no hidden layer


@dataclass(frozen=True, eq=False)
class Built:
    """A recipe made real.

    Attributes:
        recipe: The recipe, resolved: nothing in it is "auto" that data or model decide.
        config: What the model's shape depends on besides.
        model: Untrained.
        objective: What its training makes small.
        data: As the likelihood wants them.
        notes: What a person should know of the data and of what follows from them, a sentence each.
        transform: What training makes of each batch of images, if anything.

    Example:
        >>> build(Recipe(), torch.randn(50, 3)).model.prior
        StandardNormal(latent_dim=32)
    """

    recipe: Recipe
    config: Config
    model: VAE
    objective: objectives.Objective
    data: Data
    notes: tuple[str, ...] = ()
    transform: Transform | None = None


def build(recipe: Recipe, data: Any = None) -> Built:
    """Load the data, resolve what the recipe leaves to them, and make the model with its seed.

    Args:
        recipe: what to build.
        data: data in place of the recipe's own: anything that :func:`tightbound.data.load` takes.

    Returns:
        Model, objective and data, with the resolved recipe.

    Raises:
        TypeError: for data of another kind.
        ValueError: for data that cannot be read, or that the likelihood does not describe.

    Example:
        >>> built = build(Recipe(), torch.randn(50, 3))
        >>> built.recipe.model.likelihood, built.recipe.objective.kl, built.config.shape
        ('gaussian', 'closed-form', (3,))
    """
    require_computing()
    recipe, found = loaded(recipe, data)
    seen = data_fingerprint(found)
    if recipe.data.labels is not None:
        found = dataclasses.replace(found, train=few_labels(found.train, recipe.data.labels, seed=recipe.seed))
    if recipe.data.factors is not None:
        found = dataclasses.replace(found, train=few_factors(found.train, recipe.data.factors, seed=recipe.seed))
    transform = transform_of(recipe.data, tuple(found.train.shape))
    facts, unseen = found.summaries()
    resolved = resolve(recipe, facts)
    levels = levels_of(resolved.model.likelihood, facts, unseen, test=found.test)
    found = prepared(resolved, found, facts, unseen)
    classes, covariates = conditions_of(resolved.model, found)
    of_condition, given_wide = on_condition(found, classes, covariates)
    wide = any(map(needs_float64, (facts, unseen)))
    wide = given_wide or (wide and row(LIKELIHOODS, resolved.model.likelihood, "model.likelihood").standardises)
    config = Config(tuple(facts.shape), levels, reason(recipe, facts), classes, covariates, wide, data=seen)
    outline = partial(_model, resolved.model, config, None, "meta")
    require_room(resolved, outline, math.prod(config.shape), len(found.train))
    with own_random_state(torch.device("cpu"), seed=resolved.seed):
        model = build_model(resolved.model, config, observations=found.train)
    with evaluation_mode(model):
        some = found.train.eval_batch(0, 1, config.dtype)
        objective = objectives.resolve(build_objective(resolved.objective), model, some)
    resolved = dataclasses.replace(resolved, objective=_recorded(resolved.objective, objective))
    notes = (*notes_on(found, facts, unseen, model, wide=config.wide), *of_condition)
    return Built(resolved, config, model, objective, found, notes, transform)


def loaded(recipe: Recipe, data: Any = None) -> tuple[Recipe, Data]:
    """The recipe's data, or others in their place, and the recipe that says which they are.

    Args:
        recipe: whose ``data`` section says how they are read.
        data: a name, a path or an object; the recipe's own source where it is None.

    Returns:
        The recipe, its source as what it was, and the data.

    Raises:
        TypeError: for data of another kind.
        ValueError: for data that cannot be read, and where data that were made in Python are not at hand.

    Example:
        >>> recipe, data = loaded(Recipe(), torch.zeros(20, 5))
        >>> recipe.data.source, len(data.train)
        ('given in Python', 18)
    """
    wanted = recipe.data
    if data is None and wanted.source == GIVEN:
        raise ValueError(NOT_KEPT)
    source = wanted.source if data is None else data
    named = isinstance(source, str | os.PathLike)
    found = load(source, size=wanted.size if named else None, test_fraction=wanted.test_fraction)
    wanted = dataclasses.replace(wanted, source=os.fspath(source) if named else GIVEN)
    return dataclasses.replace(recipe, data=wanted), found


def build_model(
    recipe: ModelRecipe, config: Config, *, observations: Observations | None = None, device: str = "cpu"
) -> VAE:
    """The model of a resolved recipe. Without observations every number is left to saved weights.

    Args:
        recipe: what it is made of.
        config: what its shape depends on besides.
        observations: what data-dependent starts are taken from.
        device: "meta" for an outline: names and shapes of everything, and no memory.

    Returns:
        The model, untrained.

    Raises:
        ValueError: for what is still "auto", for names that the registry does not have, and for parts that do not fit
            together.

    Example:
        >>> model = build_model(ModelRecipe(network="mlp", likelihood="gaussian", latent_dim=2), Config((5,)))
        >>> model.sample(3).shape
        torch.Size([3, 5])
    """
    return _model(recipe, config, observations, device)


def _model(recipe: ModelRecipe, config: Config, observations: Observations | None, device: str) -> VAE:
    open_channels = recipe.network != "mlp" and recipe.channels == "auto"
    if "auto" in (recipe.network, recipe.likelihood) or open_channels:
        raise ValueError(
            "Expected a network, its channels and a likelihood by name; got 'auto'. Only data can tell: see build()."
        )
    likelihood_row = row(LIKELIHOODS, recipe.likelihood, "model.likelihood")
    posterior_row = row(POSTERIORS, recipe.posterior, "model.posterior")
    if posterior_row.latents == "class first":
        return _class_first(recipe, config, observations=observations, device=device)
    shape, parts = config.shape, _parts(recipe, posterior_row)
    likelihood, (mean, deviation) = _likelihood(recipe, config, observations, device)
    with torch.device(device):
        widths = [part.outputs_for(length) for part, length, _ in parts]
        encoders = [encoder_of(recipe, shape, width, config.conditions) for width in widths]
        latent, above = sum(length for _, length, _ in parts), sum(layers_of(recipe)[1:])
        decoder = decoder_of(recipe, latent - above + config.conditions, (*_leading(likelihood), *shape))
    for each in (*encoders, decoder):
        each.to(config.dtype)
    _start(recipe, observations, encoders, likelihood, decoder, mean)
    if above:
        likelihood.network = Without(decoder, latent - above, latent)
    if recipe.init == "xavier" and observations is not None:
        for encoder, (part, length, _) in zip(encoders, parts, strict=True):
            networks.end_in_zeros(encoder, part.zeros_for(length))
    links = links_of(recipe, config.dtype, device, fresh=observations is not None)
    seen: list[nn.Module] = list(encoders)
    if config.conditions and recipe.network != "mlp":
        seen = [Planes(each, shape) for each in seen]
    if likelihood_row.standardises:
        seen = [networks.Standardized(each, *_with_conditions(mean, deviation, config.conditions)) for each in seen]
    with torch.device(device):
        prior: priors.Prior | None = None
        if "prior" in posterior_row.takes:  # the two share networks, so it is made first
            prior = _prior(recipe, None, shape, observations, links)
            parts = [(part, length, {"prior": prior}) for part, length, _ in parts]
        made = [part(network, **given) for network, (part, _, given) in zip(seen, parts, strict=True)]
        posterior = made[0] if len(made) == 1 else posteriors.Joint(made)
        prior = prior or _prior(recipe, posterior, shape, observations, links)
        if not config.conditions:
            return VAE(prior, posterior, likelihood).to(config.dtype)
        model = ConditionalVAE(prior, posterior, likelihood, classes=config.classes, covariates=config.covariates)
        model.to(config.dtype)
    if config.covariates and observations is not None:
        model.standardise(observations.factor_table())  # type: ignore[arg-type]
    return model


def _parts(recipe: ModelRecipe, wanted: PosteriorRow) -> list[tuple[Any, int, dict[str, Any]]]:
    """The classes that a posterior is made of, each with the length of its latent and what it takes besides."""
    if wanted.latents == "mixed":
        classes = {"classes": recipe.classes}
        codes = (posteriors.Categorical, recipe.codes * recipe.classes, classes)
        return [(posteriors.DiagonalNormal, recipe.latent_dim, {}), codes]
    length = sum(layers_of(recipe)) * (recipe.classes if wanted.latents == "classes" else 1)
    return [(imported(wanted.cls), length, {name: getattr(recipe, name) for name in wanted.takes if name != "prior"})]


def _likelihood(
    recipe: ModelRecipe, config: Config, observations: Observations | None, device: str
) -> tuple[Likelihood, tuple[Tensor, Tensor]]:
    """The likelihood, whose network is yet to come, and the mean and deviation of each element."""
    shape = config.shape
    wanted = row(LIKELIHOODS, recipe.likelihood, "model.likelihood")
    with torch.device(device):
        if observations is None:  # the weights have them; and operations on "meta" would load torch's compiler
            mean, deviation, unit = torch.zeros(shape), torch.ones(shape), torch.ones(shape)
        else:
            mean, deviation, unit = _units(observations)
    given = {"scale": recipe.scale, "centre": mean, "unit": unit, "levels": config.levels, "classes": config.levels}
    # The likelihood's own numbers, which are few, are real ones even in an outline.
    made = imported(wanted.cls)(nn.Identity(), **{name: given[name] for name in wanted.takes}).to(config.dtype)
    for name in {"centre", "unit"} & set(wanted.takes):
        getattr(made, name).copy_(given[name])  # in the model's type: a rounded centre is off by what float32 rounds
    return made, (mean, deviation)


def _units(observations: Observations) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and deviation of each element, and what it is measured in."""
    mean, deviation = moments(observations)
    if is_image(observations.shape):  # pixels share a unit: near-constant corners would otherwise outweigh the picture
        pooled = (deviation.square().mean() + mean.var(unbiased=False)).sqrt()
        deviation = pooled.expand_as(deviation)
    # What is constant in all of the data has no unit, and no nats to win; of one thing alone that would be everything.
    return mean, deviation, torch.where(deviation.any() | (deviation > 0), deviation, 1)


def _start(
    recipe: ModelRecipe,
    observations: Observations | None,
    encoders: Sequence[nn.Module],
    likelihood: Likelihood,
    decoder: networks.MLP | networks.ConvDecoder,
    mean: Tensor,
) -> None:
    """Give the likelihood its decoder, and networks their first weights where these depend on data."""
    likelihood.network = decoder
    if recipe.init == "xavier" and observations is not None:
        for each in (*encoders, decoder):
            networks.xavier_(each)
        networks.start_at(decoder, likelihood.initial_output(mean.to(next(decoder.parameters()).dtype)))


def _class_first(
    recipe: ModelRecipe, config: Config, *, observations: Observations | None, device: str
) -> SemiSupervisedVAE:
    """A model of a class and normals that depend on it. The class enters the encoder behind its first layer."""
    shape, classes, latent = config.shape, config.classes, recipe.latent_dim
    likelihood_row = row(LIKELIHOODS, recipe.likelihood, "model.likelihood")
    likelihood, (mean, deviation) = _likelihood(recipe, config, observations, device)
    width = recipe.hidden[0] if recipe.hidden else WIDTH
    with torch.device(device):
        classifier = encoder_of(recipe, shape, classes, 0)
        trunk = encoder_of(dataclasses.replace(recipe, hidden=()), shape, width, 0)
        outputs = (posteriors.DiagonalNormal.outputs_for(latent),)
        head = networks.MLP((width + classes,), outputs, hidden=recipe.hidden[1:], act=recipe.activation)
        decoder = decoder_of(recipe, latent + classes, (*_leading(likelihood), *shape))
    for each in (classifier, trunk, head, decoder):
        each.to(config.dtype)
    _start(recipe, observations, (classifier, trunk, head), likelihood, decoder, mean)
    with torch.device(device):
        features = nn.Sequential(trunk, networks.activation(recipe.activation))
        seen: list[nn.Module] = [classifier, features]
        if likelihood_row.standardises:
            seen = [networks.Standardized(each, mean, deviation) for each in seen]
        q_z = posteriors.DiagonalNormal(Late(seen[1], head, shape))
        q = posteriors.ClassFirst(posteriors.Categorical(seen[0], classes=classes), q_z)
        prior = priors.Joint(
            [priors.StandardNormal(latent), priors.Categorical(1, classes=classes, learned=recipe.learned_prior)]
        )
        return SemiSupervisedVAE(prior, q, likelihood).to(config.dtype)


def build_objective(recipe: ObjectiveRecipe) -> Any:
    """The objective of a recipe, as yet unresolved.

    Args:
        recipe: one of the registry's objectives.

    Raises:
        ValueError: for numbers that it cannot have.

    Example:
        >>> from tightbound.runs.drawn import Iwae
        >>> build_objective(Iwae(samples=3))
        IWAE(samples=3, gradient=Pathwise())
    """
    return registry.plan(recipe).make()


def _recorded(recipe: ObjectiveRecipe, objective: Any) -> ObjectiveRecipe:
    """The objective's recipe with every "auto" as it was resolved."""
    names = [item.name for item in dataclasses.fields(recipe) if getattr(recipe, item.name) == "auto"]
    return dataclasses.replace(recipe, **{name: getattr(objective, name) for name in names})


def _leading(likelihood: Likelihood) -> tuple[int, ...]:
    """The axis of a decoder's output that counts parameters; none where there is one parameter an element."""
    count = likelihood.parameters_per_element
    return () if count == 1 else (count,)


def _with_conditions(mean: Tensor, deviation: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The same behind which so many numbers stay as they are."""
    if not count:
        return mean, deviation
    rest = mean.new_zeros(count)
    return torch.cat([mean.flatten(), rest]), torch.cat([deviation.flatten(), rest + 1])


def _prior(
    recipe: ModelRecipe,
    posterior: Conditional | None,
    shape: tuple[int, ...],
    observations: Observations | None,
    links: list[nn.Module],
) -> priors.Prior:
    wanted = row(PRIORS, recipe.prior_by_name(), "model.prior")
    given: dict[str, Any] = {
        "latent_dim": recipe.latent_dim,
        "variables": recipe.latent_dim,
        "classes": recipe.classes,
        "components": recipe.components,
        "flow": recipe.flow,
        "transforms": recipe.transforms,
        "learned": recipe.learned_prior,
        "posterior": posterior,
        "networks": links,
        "layers": layers_of(recipe),
    }
    if "top" in wanted.takes:
        given["top"] = priors.MixtureOfNormals(recipe.layers[-1], components=recipe.components)
    if "parts" in wanted.takes:
        classes = priors.Categorical(recipe.codes, classes=recipe.classes, learned=recipe.learned_prior)
        given["parts"] = [priors.StandardNormal(recipe.latent_dim), classes]
    if "pseudo_inputs" in wanted.takes:
        given["pseudo_inputs"] = torch.zeros(recipe.components, *shape)
        if observations is not None:
            rows = torch.randint(len(observations), (recipe.components,))
            given["pseudo_inputs"] = observations.unbinarised(rows)
    return imported(wanted.cls)(**{name: given[name] for name in wanted.takes})
