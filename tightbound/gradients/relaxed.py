"""Gradients of codes with bias and little noise: a slope stands for the step that a draw is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightbound.batch import Batch
from tightbound.bounds import BoundFunction
from tightbound.distributions import Part
from tightbound.draws import Draws
from tightbound.gradients.gradient import Gradient
from tightbound.model import Model
from tightbound.schedules import Linear, at


@dataclass(frozen=True)
class StraightThrough(Gradient):
    r"""Hard codes forwards, the gradient of their probabilities backwards, as if a draw were its own mean.

    Biased, for the decoder's slope at a code is taken for the difference between codes; quiet, and cheap. Parts of a
    latent that are real numbers go along their path.

    References:
        Bengio, Léonard, Courville: Estimating or Propagating Gradients Through Stochastic Neurons (2013),
        https://arxiv.org/abs/1308.3432.

    Raises:
        TypeError: when called, for a latent that is not discrete.

    Example:
        >>> StraightThrough()
        StraightThrough()
    """

    def __call__(
        self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int, step: Tensor | None = None
    ) -> tuple[Tensor, Draws]:
        z, _ = model.propose(batch, samples)
        mean, length = model.posterior_mean(batch), z.shape[-1]
        # A model that says nothing of its parts has one, discrete where no gradient passes through a draw.
        parts = model.parts(batch) or (Part(length, length, discrete=not z.requires_grad),)
        if not any(part.discrete for part in parts):
            raise TypeError(
                "Expected a latent of bits or classes for StraightThrough(); got draws with a gradient of their own. "
                "Take gradient=tb.gradients.Pathwise()."
            )
        if mean is None:
            raise TypeError(
                f"Expected a model that knows its posterior's mean, for StraightThrough(); got {type(model).__name__}, "
                "which does not. Override posterior_mean, or take gradient=tb.gradients.ScoreFunction()."
            )
        through, lengths = z.detach() + (mean - mean.detach()), [part.length for part in parts]
        pieces = zip(parts, through.split(lengths, -1), z.split(lengths, -1), strict=True)
        z = torch.cat([straight if part.discrete else moved for part, straight, moved in pieces], -1)
        draws = Draws(z, *model.log_joint(batch, z), model.log_posterior(batch, z))
        return bound(draws), draws


@dataclass(frozen=True)
class GumbelSoftmax(Gradient):
    r"""The gradient of relaxed codes, in which a sigmoid or a softmax over a temperature stands for the step of a draw.

    Biased: it is the gradient of another model, whose codes are soft. The lower the temperature, the smaller the bias
    and the greater the noise. The value is that of hard codes by the same noise, so logs tell of the model itself. The
    rate of soft codes is a choice of the objective: ``kl="closed-form"`` takes that of the hard ones, which is common
    and makes no bound of the relaxed model; ``kl="sampled"`` takes the densities of the soft ones, which does. The
    bias of the second does not end with a low temperature: the KL of two relaxations is that of the noise moved by
    their logits, whatever the temperature, and never below that of the hard codes.

    References:
        Jang, Gu, Poole: Categorical Reparameterization with Gumbel-Softmax (2016), https://arxiv.org/abs/1611.01144;
        Maddison, Mnih, Teh: The Concrete Distribution (2016), https://arxiv.org/abs/1611.00712.

    Args:
        temperature: above 0, a number or a schedule.
        hard: whether codes are hard forwards and soft backwards alone: straight-through Gumbel-softmax.

    Raises:
        TypeError: when called, for a latent that is not discrete.
        ValueError: for a temperature of 0 or below.

    Example:
        >>> GumbelSoftmax(temperature=Linear(1.0, 0.3, steps=1000), hard=True)
        GumbelSoftmax(temperature=Linear(start=1.0, end=0.3, steps=1000), hard=True)
    """

    temperature: float | Linear = 0.5
    hard: bool = False

    def __post_init__(self) -> None:
        t = self.temperature
        if not all(0 < end < float("inf") for end in ((t.start, t.end) if isinstance(t, Linear) else (t,))):
            raise ValueError(
                f"Expected a finite temperature > 0; got {self.temperature}. Below about 0.1 gradients are mostly "
                "noise; 0.5 is a usual start."
            )

    def __call__(
        self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int, step: Tensor | None = None
    ) -> tuple[Tensor, Draws]:
        made = model.relax(batch, samples, at(self.temperature, step))
        hard = made.hard + (made.soft - made.soft.detach()) if self.hard else made.hard
        with torch.set_grad_enabled(self.hard and torch.is_grad_enabled()):
            draws = Draws(hard, *model.log_joint(batch, hard), model.log_posterior(batch, hard))
            value = bound(draws)
        if self.hard or not torch.is_grad_enabled():
            return value, draws
        soft = bound(Draws(made.soft, model.log_joint(batch, made.soft)[0], made.log_pz, made.log_qz_x))
        return value + soft - soft.detach(), draws
