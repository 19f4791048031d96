"""Whether the parts of a recipe fit together. No torch here."""

from __future__ import annotations

from typing import Protocol

from tightbound.runs.drawn import DrawnRecipe
from tightbound.runs.pieces import GRADIENTS, POSTERIORS, PRIORS, row
from tightbound.runs.rows import LATENTS, MIXED, PATHS, ObjectiveRecipe, PosteriorRow
from tightbound.surface import listed

MOST_CODES = 4096  # that a sum runs over, as of tightbound.distributions, which needs torch


class Model(Protocol):
    """What a recipe says of its model, as far as it matters here."""

    @property
    def posterior(self) -> str: ...
    @property
    def latent_dim(self) -> int: ...
    @property
    def layers(self) -> tuple[int, ...]: ...
    @property
    def classes(self) -> int: ...
    @property
    def condition(self) -> str: ...
    def prior_by_name(self) -> str: ...


def layers_of(model: Model) -> tuple[int, ...]:
    """How many latents each layer has, the one nearest to x first; one layer where the posterior is not top-down.

    Args:
        model: as a recipe has it.

    Example:
        >>> from tightbound.runs.recipe import ModelRecipe
        >>> layers_of(ModelRecipe()), layers_of(ModelRecipe(posterior="top-down", layers=(16, 8)))
        ((32,), (32, 16, 8))
    """
    layered = row(POSTERIORS, model.posterior, "model.posterior").latents == "layers"
    return (model.latent_dim, *(model.layers if layered else ()))


def require_fitting(model: Model, objective: ObjectiveRecipe) -> None:
    """Refuse parts that do not fit together, each by the fields that say so."""
    posterior = row(POSTERIORS, model.posterior, "model.posterior")
    prior = row(PRIORS, model.prior_by_name(), "model.prior")
    if prior.needs not in ("", posterior.name):
        raise ValueError(
            f"Expected model.posterior {prior.needs!r} with model.prior {prior.name!r}; got {posterior.name!r}, whose "
            "mixture has no closed form here."
        )
    if prior.latents != posterior.latents and (prior.latents, posterior.latents) != ("real", "positive"):
        raise ValueError(
            f"Expected model.prior 'auto', or {posterior.partner!r}, with model.posterior {posterior.name!r}, whose "
            f"latents are {LATENTS[posterior.latents]}; got {prior.name!r}, one of {LATENTS[prior.latents]}."
        )
    _require_layers(model, posterior)
    _require_class_first(model, posterior, objective)
    if model.condition != "none" and prior.needs:
        raise ValueError(
            f"Expected model.condition 'none' with model.prior {prior.name!r}, whose pseudo-inputs have none; got "
            f"{model.condition!r}."
        )
    if objective.mixed and posterior.latents not in MIXED:
        raise ValueError(
            f"Expected model.posterior 'joint' with the objective {objective.name!r}, which is one of numbers and "
            f"classes side by side; got {posterior.name!r}."
        )
    one_family = bool(prior.family) and prior.family == posterior.family
    if objective.per_dimension and not (one_family and posterior.factorised):
        raise ValueError(
            "Expected a factorised model.posterior and its own prior, such as 'diagonal-normal' and 'auto', with the "
            f"objective {objective.name!r}, for the KL of each dimension; got {posterior.name!r} and {prior.name!r}."
        )
    if objective.factorised and not posterior.factorised:
        raise ValueError(
            f"Expected a factorised model.posterior, such as 'diagonal-normal', with the objective {objective.name!r}; "
            f"got {posterior.name!r}, whose dimensions depend on one another."
        )
    if objective.needs_path and posterior.latents not in PATHS:
        raise ValueError(
            f"Expected a model.posterior of real numbers with the objective {objective.name!r}, whose gradient goes "
            f"through the draws; got {posterior.name!r}, whose latents are {LATENTS[posterior.latents]}."
        )
    closed_form = getattr(objective, "kl", None) == "closed-form"
    if closed_form and not one_family:
        raise ValueError(
            f"Expected objective.kl 'auto' or 'sampled' with model.prior {prior.name!r} and model.posterior "
            f"{posterior.name!r}; got 'closed-form', which only a prior of the posterior's family has."
        )
    if isinstance(objective, DrawnRecipe):
        _require_fitting_gradient(posterior, objective, closed_form=closed_form)
        if row(GRADIENTS, objective.gradient, "objective.gradient").lists_codes:
            _require_few_codes(model, posterior, objective.gradient)


def _require_layers(model: Model, posterior: PosteriorRow) -> None:
    """Refuse layers of which there is but one."""
    if posterior.latents == "layers" and not model.layers:
        raise ValueError(
            f"Expected the sizes of the layers above the first as model.layers with model.posterior "
            f"{posterior.name!r}; got none. Take [16], or model.posterior 'diagonal-normal'."
        )


def _require_class_first(model: Model, posterior: PosteriorRow, objective: ObjectiveRecipe) -> None:
    """Refuse a class that comes first without the objective that sums over it, and the other way round."""
    first = posterior.latents == "class first"
    if first != objective.class_first:
        raise ValueError(
            "Expected the objective 'semi-supervised' with model.posterior 'class-first', and with it alone; got "
            f"{objective.name!r} and {posterior.name!r}."
        )
    if first and model.condition != "none":
        raise ValueError(
            f"Expected model.condition 'none' with model.posterior {posterior.name!r}, whose class is a latent; got "
            f"{model.condition!r}."
        )


def _require_fitting_gradient(posterior: PosteriorRow, objective: DrawnRecipe, *, closed_form: bool) -> None:
    """Refuse a gradient that cannot be taken through these latents, or not with these settings."""
    gradient = row(GRADIENTS, objective.gradient, "objective.gradient")
    if posterior.latents not in gradient.latents:
        fitting = listed((each.name for each in GRADIENTS.values() if posterior.latents in each.latents), "or")
        raise ValueError(
            f"Expected objective.gradient {fitting} with model.posterior {posterior.name!r}, whose latents are "
            f"{LATENTS[posterior.latents]}; got {gradient.name!r}."
        )
    if closed_form and gradient.needs_draws:
        raise ValueError(
            f"Expected objective.kl 'auto' or 'sampled' with objective.gradient {gradient.name!r}, which is one of "
            "draws; got 'closed-form'."
        )
    if objective.samples < gradient.least_samples:
        raise ValueError(
            f"Expected objective.samples of at least {gradient.least_samples} with objective.gradient "
            f"{gradient.name!r}; got {objective.samples}."
        )
    if gradient.most_samples is not None and objective.samples > gradient.most_samples:
        raise ValueError(
            f"Expected objective.samples of at most {gradient.most_samples} with objective.gradient "
            f"{gradient.name!r}; got {objective.samples}."
        )


def _require_few_codes(model: Model, posterior: PosteriorRow, gradient: str) -> None:
    """Refuse a sum over more codes than can be listed."""
    classes = model.classes if posterior.latents == "classes" else 2
    if classes**model.latent_dim > MOST_CODES:
        raise ValueError(
            f"Expected at most {MOST_CODES} codes with objective.gradient {gradient!r}; got model.latent_dim "
            f"{model.latent_dim} of {classes} classes each, {classes}^{model.latent_dim} codes. Take fewer, or "
            "'leave-one-out' with objective.samples of 2 or more."
        )
