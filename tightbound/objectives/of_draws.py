"""Objectives of draws: a bound and a gradient, with a weight β on the rate or a penalty where wanted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from torch import Tensor

from tightbound import bounds
from tightbound.batch import Batch, as_batch
from tightbound.bounds import BoundFunction
from tightbound.draws import Draws
from tightbound.gradients import (
    DoublyReparameterised,
    Gradient,
    Pathwise,
    StickingTheLanding,
)  # fmt: skip
from tightbound.model import Model
from tightbound.objectives.loss import (
    Loss,
    TrainingSet,
    at_least,
    parts_in_words,
    reconstruction,
    terms_by_layer,
    terms_of,
)
from tightbound.schedules import Linear, at

KL = Literal["auto", "closed-form", "sampled"]


@dataclass(frozen=True)
class ELBO:
    r"""Negative ELBO, its rate weighed by β.

    .. math:: \mathbb{E}_q[-\log p(x \mid z)] + \beta \, \mathrm{KL}(q(z \mid x) \,\|\, p(z))

    β = 1 is the bound; any other value is a trade-off between distortion and rate, and no bound on log p(x).

    References:
        Kingma, Welling (2013), https://arxiv.org/abs/1312.6114; Higgins et al.: β-VAE (2017),
        https://openreview.net/forum?id=Sy2fzU9gl.

    Args:
        beta: weight of the rate, a number or a schedule.
        samples: K, how many draws the expectation is averaged over.
        kl: the rate in "closed-form", "sampled" from the draws, or "auto": closed-form where the model has one and the
            gradient allows it.
        gradient: how the bound becomes a gradient.

    Raises:
        ValueError: for a negative β, no samples, another word for ``kl``, or a gradient of draws alone in closed form.
        TypeError: for a gradient that is none; when called, for a model without a closed form if that was asked for.

    Example:
        >>> ELBO(beta=4.0)
        ELBO(beta=4.0, samples=1, kl='auto', gradient=Pathwise())
    """

    beta: float | Linear = 1.0
    samples: int = 1
    kl: KL = "auto"
    gradient: Gradient = field(default_factory=Pathwise)

    def __post_init__(self) -> None:
        at_least("beta", self.beta, 0)
        at_least("samples", self.samples, 1)
        require_gradient_and_kl(self)

    def __call__(self, model: Model, batch: Batch, step: Tensor | None = None) -> Loss:
        batch = model.encoded(as_batch(batch))
        closed = closed_form(self, model, batch)
        return negative_elbo(
            model, batch, self.gradient, samples=self.samples, closed=closed, beta=at(self.beta, step), step=step
        )[0]


def negative_elbo(
    model: Model,
    batch: Batch,
    gradient: Gradient,
    *,
    samples: int,
    closed: Tensor | None,
    beta: float | Tensor = 1.0,
    step: Tensor | None = None,
) -> tuple[Loss, Draws]:
    """The negative ELBO, and the draws that it is of, for objectives that ask more of the same draws.

    Args:
        model: any.
        batch: encoded.
        gradient: how draws become a gradient.
        samples: K.
        closed: the rate in closed form, shape (B,); None takes it from the draws.
        beta: weight of the rate.
        step: drives the gradient's schedules.
    """
    if closed is None:
        value, draws = gradient(model, batch, _weighed(bounds.elbo, beta), samples=samples, step=step)
        return Loss(-value.mean(), terms_by_layer(model, batch, draws)), draws
    value, draws = gradient(model, batch, reconstruction, samples=samples, step=step)
    return Loss(beta * closed.mean() - value.mean(), terms_of(draws, closed)), draws


@dataclass(frozen=True)
class Bound:
    r"""Minus any bound, its rate weighed by β.

    Args:
        bound: a function from draws to (B,), in nats, higher is better: those of :mod:`tightbound.bounds`, or one of
            your own.
        samples: how many draws it is given, K.
        gradient: how the bound becomes a gradient.
        beta: weight of the rate in each draw's log-weight, a number or a schedule; a bound on log p(x) at 1 alone.

    Raises:
        ValueError: for a negative β or no samples.
        TypeError: for a bound that cannot be called, or a gradient that is none.

    Example:
        >>> Bound(bounds.renyi(0.5), samples=10)
        Bound(bound=Renyi(alpha=0.5), samples=10, gradient=Pathwise(), beta=1.0)
    """

    bound: BoundFunction
    samples: int = 5
    gradient: Gradient = field(default_factory=Pathwise)
    beta: float | Linear = 1.0

    def __post_init__(self) -> None:
        if not callable(self.bound):
            raise TypeError(
                f"Expected a function from draws to one number for each observation; got {self.bound!r}. For example: "
                "tb.bounds.iwae or tb.bounds.renyi(0.5)."
            )
        at_least("samples", self.samples, 1)
        at_least("beta", self.beta, 0)
        expect_gradient(self.gradient)

    def __call__(self, model: Model, batch: Batch, step: Tensor | None = None) -> Loss:
        batch = model.encoded(as_batch(batch))
        bound = _weighed(self.bound, at(self.beta, step))
        value, draws = self.gradient(model, batch, bound, samples=self.samples, step=step)
        return Loss(-value.mean(), terms_by_layer(model, batch, draws))


@dataclass(frozen=True)
class IWAE:
    r"""Negative importance-weighted bound of K samples: ``Bound(bounds.iwae, samples)`` by its usual name.

    References:
        Burda, Grosse, Salakhutdinov (2015), https://arxiv.org/abs/1509.00519.

    Args:
        samples: how many, K.
        gradient: how the bound becomes a gradient.

    Raises:
        ValueError: for no samples.
        TypeError: for a gradient that is none.

    Example:
        >>> IWAE(samples=50)
        IWAE(samples=50, gradient=Pathwise())
    """

    samples: int = 5
    gradient: Gradient = field(default_factory=Pathwise)

    def __post_init__(self) -> None:
        at_least("samples", self.samples, 1)
        expect_gradient(self.gradient)

    def __call__(self, model: Model, batch: Batch, step: Tensor | None = None) -> Loss:
        return Bound(bounds.iwae, self.samples, self.gradient)(model, batch, step)


@dataclass(frozen=True)
class FreeBits:
    r"""Negative ELBO in which each latent dimension may carry ``nats`` for nothing.

    .. math:: \mathbb{E}_q[-\log p(x \mid z)] + \sum_j \max\!\left(\lambda,\ \overline{\mathrm{KL}_j}\right)

    :math:`\overline{\mathrm{KL}_j}` is the batch's mean KL of dimension j, so a dimension is not pushed to die early.

    References:
        Kingma et al.: Improved Variational Inference with Inverse Autoregressive Flow (2016),
        https://arxiv.org/abs/1606.04934.

    Args:
        nats: λ, free nats for each dimension.
        samples: K, draws for the distortion.
        gradient: how the distortion becomes a gradient.

    Raises:
        ValueError: for negative nats or no samples, or a gradient that is about the noise of a sampled rate.
        TypeError: for a gradient that is none; when called, for a model whose rate has no closed form by dimension.

    Example:
        >>> FreeBits(nats=0.5)
        FreeBits(nats=0.5, samples=1, gradient=Pathwise())
    """

    nats: float = 0.25
    samples: int = 1
    gradient: Gradient = field(default_factory=Pathwise)

    def __post_init__(self) -> None:
        at_least("nats", self.nats, 0)
        at_least("samples", self.samples, 1)
        expect_gradient(self.gradient)
        if _of_draws_alone(self):
            raise ValueError(
                f"Expected a gradient for a rate in closed form with FreeBits; got {type(self.gradient).__name__}(), "
                "whose point is the noise of a sampled rate. Take Pathwise()."
            )

    def __call__(self, model: Model, batch: Batch, step: Tensor | None = None) -> Loss:
        batch = model.encoded(as_batch(batch))
        rates = model.rate_per_dimension(batch)
        if rates is None:
            raise TypeError(
                "Expected a model whose rate has a closed form for each latent dimension, as FreeBits needs; got "
                f"{parts_in_words(model)}. Take DiagonalNormal and StandardNormal, or override rate_per_dimension."
            )
        value, draws = self.gradient(model, batch, reconstruction, samples=self.samples, step=step)
        return Loss(rates.mean(0).clamp(min=self.nats).sum() - value.mean(), terms_of(draws, rates.sum(-1)))


def resolve(objective: Any, model: Model, batch: Tensor | Batch, *, observations: TrainingSet | None = None) -> Any:
    """The objective with what it leaves to model and data filled in, so that it can be recorded.

    ``kl="auto"`` becomes what the model allows. An objective with a method ``fitted_to(model, batch, observations)`` is
    what that gives.

    Args:
        objective: any; one that leaves nothing open is given back as it is.
        model: what it will train.
        batch: some observations.
        observations: the training set; None where it is not known yet.

    Returns:
        The objective.

    Example:
        >>> import torch, tightbound as tb
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> resolve(ELBO(), model, torch.zeros(1, 5)).kl
        'closed-form'
    """
    if hasattr(objective, "fitted_to"):
        return objective.fitted_to(model, as_batch(batch), observations)
    if getattr(objective, "kl", None) != "auto":
        return objective
    sampled = _of_draws_alone(objective) or model.rate(as_batch(batch)) is None
    return replace(objective, kl="sampled" if sampled else "closed-form")


def closed_form(objective: Any, model: Model, batch: Batch) -> Tensor | None:
    """The rate in closed form, shape (B,); None where it is to be taken from the draws."""
    if objective.kl == "sampled" or (objective.kl == "auto" and _of_draws_alone(objective)):
        return None
    rate = model.rate(batch)
    if rate is None and objective.kl == "closed-form":
        raise TypeError(
            f"Expected a model whose rate has a closed form; got {parts_in_words(model)}, for which there is none. "
            "Estimate it from draws: kl='sampled'."
        )
    return rate


def _of_draws_alone(objective: Any) -> bool:
    """Whether its gradient is about the noise of a sampled rate."""
    return isinstance(getattr(objective, "gradient", None), (StickingTheLanding, DoublyReparameterised))


def _weighed(bound: BoundFunction, beta: float | Tensor) -> BoundFunction:
    return lambda draws: bound(draws.weighed(beta))


def expect_gradient(gradient: object) -> None:
    if not isinstance(gradient, Gradient):
        raise TypeError(
            f"Expected a gradient such as tb.gradients.Pathwise() or tb.gradients.StickingTheLanding(); got "
            f"{gradient!r}."
        )


def require_gradient_and_kl(objective: Any) -> None:
    kl, gradient = objective.kl, objective.gradient
    if kl not in get_args(KL):
        raise ValueError(f"Expected kl='auto', kl='closed-form' or kl='sampled'; got {kl!r}.")
    expect_gradient(gradient)
    if _of_draws_alone(objective) and kl == "closed-form":
        raise ValueError(
            f"Expected kl='sampled' or kl='auto' with {type(gradient).__name__}(), whose point is the noise of a "
            "sampled rate; got kl='closed-form'."
        )
