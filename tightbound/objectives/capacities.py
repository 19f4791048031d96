"""Objectives that hold the rate where it is wanted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tightbound.batch import Batch, as_batch
from tightbound.draws import Draws
from tightbound.gradients import Enumerate, Gradient, GumbelSoftmax, Pathwise
from tightbound.model import Model
from tightbound.objectives.loss import (
    Loss,
    at_least,
    parts_in_words,
    reconstruction,
    sampled_rate,
    terms_by_layer,
    terms_of,
)
from tightbound.objectives.of_draws import KL, closed_form, expect_gradient, require_gradient_and_kl
from tightbound.schedules import Linear, at


@dataclass(frozen=True)
class Capacity:
    r"""Distortion, with the rate held at a capacity that grows: :math:`D + \gamma\,|R - C|`.

    References:
        Burgess et al.: Understanding disentangling in β-VAE (2018), https://arxiv.org/abs/1804.03599.

    Args:
        capacity: C in nats, a number or a schedule.
        gamma: γ, how strictly.
        samples: K, draws for the distortion.
        kl: the rate in "closed-form", "sampled" from the draws, or "auto": closed-form where the model has one and the
            gradient allows it.
        gradient: how distortion and sampled rate become a gradient.

    Raises:
        ValueError: for negative numbers, no samples, another word for ``kl``, a gradient of draws alone in closed
            form, or ``Enumerate()`` with a sampled rate.
        TypeError: for a gradient that is none; when called, for a model without a closed form if that was asked for.

    Example:
        >>> Capacity(capacity=25.0, gamma=1000.0)
        Capacity(capacity=25.0, gamma=1000.0, samples=1, kl='auto', gradient=Pathwise())
    """

    capacity: float | Linear = 25.0
    gamma: float = 100.0
    samples: int = 1
    kl: KL = "auto"
    gradient: Gradient = field(default_factory=Pathwise)

    def __post_init__(self) -> None:
        at_least("capacity", self.capacity, 0)
        at_least("gamma", self.gamma, 0)
        at_least("samples", self.samples, 1)
        require_gradient_and_kl(self)
        if self.kl == "sampled" and isinstance(self.gradient, Enumerate):
            raise ValueError(
                "Expected kl='auto' or kl='closed-form' with Enumerate() in Capacity, whose penalty is of the batch's "
                "rate and not a sum over codes; got kl='sampled'."
            )

    def __call__(self, model: Model, batch: Batch, step: Tensor | None = None) -> Loss:
        batch = model.encoded(as_batch(batch))
        capacity, closed = at(self.capacity, step), closed_form(self, model, batch)
        if closed is not None:
            value, draws = self.gradient(model, batch, reconstruction, samples=self.samples, step=step)
            return Loss(self.gamma * (closed.mean() - capacity).abs() - value.mean(), terms_of(draws, closed))

        def side(draws: Draws) -> Tensor:
            """Whether the batch's rate lies above the capacity, 1, or below, −1."""
            return (sampled_rate(draws).detach().mean() - capacity).sign()

        def held(draws: Draws) -> Tensor:
            """Minus D + γ (R − C) · side, which is D + γ |R − C|: by observation, so that any gradient can take it."""
            rate = sampled_rate(draws).mean(0)
            return draws.log_px_z.mean(0) - self.gamma * side(draws) * (rate - capacity)

        value, draws = self.gradient(model, batch, held, samples=self.samples, step=step)
        return Loss(-value.mean(), terms_by_layer(model, batch, draws))


@dataclass(frozen=True)
class JointVAE:
    r"""Distortion, with the rate of real numbers and that of codes each held at a capacity of its own.

    .. math:: D + \gamma\,|R_\text{real} - C_\text{real}| + \gamma\,|R_\text{codes} - C_\text{codes}|

    Without one of their own, codes stay empty: real numbers carry the same nats at less cost.

    Args:
        real: capacity of the real numbers in nats, a number or a schedule.
        codes: capacity of bits and classes; at most what they can carry, log C for each variable, counts.
        gamma: γ, how strictly.
        samples: K, draws for the distortion.
        gradient: how the distortion becomes a gradient; one that can be taken through both kinds.

    Raises:
        ValueError: for negative numbers or no samples.
        TypeError: for a gradient that is none; when called, for a latent that is not made of both kinds, or whose rate
            has no closed form by dimension.

    References:
        Dupont: Learning Disentangled Joint Continuous and Discrete Representations (2018),
        https://arxiv.org/abs/1804.00104.

    Example:
        >>> JointVAE(real=Linear(0.0, 5.0, steps=25_000), codes=Linear(0.0, 5.0, steps=25_000)).gamma
        100.0
    """

    real: float | Linear = 5.0
    codes: float | Linear = 5.0
    gamma: float = 100.0
    samples: int = 1
    gradient: Gradient = field(default_factory=GumbelSoftmax)

    def __post_init__(self) -> None:
        for name in ("real", "codes", "gamma"):
            at_least(name, getattr(self, name), 0)
        at_least("samples", self.samples, 1)
        expect_gradient(self.gradient)

    def __call__(self, model: Model, batch: Batch, step: Tensor | None = None) -> Loss:
        batch = model.encoded(as_batch(batch))
        rates, parts = model.rate_per_dimension(batch), model.parts(batch)
        if rates is None or len({part.discrete for part in parts}) < 2:
            raise TypeError(
                "Expected a latent of real numbers and of codes side by side, with a closed-form rate of each; got "
                f"{parts_in_words(model)}. Take posteriors.Joint and priors.Joint."
            )
        pieces = list(zip(parts, rates.split([part.variables for part in parts], -1), strict=True))
        real = sum(rate.sum(-1) for part, rate in pieces if not part.discrete)
        codes = sum(rate.sum(-1) for part, rate in pieces if part.discrete)
        coded = [part for part in parts if part.discrete]
        most = sum(part.variables * math.log(max(2, part.length // part.variables)) for part in coded)
        value, draws = self.gradient(model, batch, reconstruction, samples=self.samples, step=step)
        off = (real.mean() - at(self.real, step)).abs()
        apart = (codes.mean() - torch.as_tensor(at(self.codes, step)).clamp(max=most)).abs()
        terms = {**terms_of(draws, rates.sum(-1)), "rate_codes": codes.detach().mean()}
        return Loss(self.gamma * (off + apart) - value.mean(), terms)
