"""Adam in one pass over memory: weights, moments, averaged weights and 16-bit copies move together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

EPSILON = 1e-8  # under Adam's fraction
STILL = 1e-30  # a first moment below it is none: left to fade, it would end in denormals, which processors are slow at


class Adam:
    r"""Weights and all that follows them, as plain operations on tensors, so that they compile into one kernel.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
              w \leftarrow (1 - \eta \lambda) w
              - \eta\, \frac{m / (1 - \beta_1^n)}{\sqrt{v / (1 - \beta_2^n)} + \epsilon}

    References:
        Kingma, Ba: Adam (2014), https://arxiv.org/abs/1412.6980; Loshchilov, Hutter: Decoupled Weight Decay
        Regularization (2019), https://arxiv.org/abs/1711.05101; Polyak, Juditsky: averaging (1992),
        https://doi.org/10.1137/0330046.

    Args:
        weights: w, moved in place.
        betas: :math:`\beta_1, \beta_2`.
        clip: largest norm of all gradients together; none where it is 0.
        ema: highest decay of averaged weights; none where it is 0.
        decay: λ of each weight; none of any where it is empty.

    Example:
        >>> w = torch.tensor([1.0, 1.0])
        >>> adam = Adam([w])
        >>> adam.move([torch.tensor([3.0, -0.5])], [w], adam.constants(0, rate=0.1))
        >>> w
        tensor([0.9000, 1.1000])
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        clip: float = 0.0,
        ema: float = 0.0,
        decay: Sequence[float] = (),
    ) -> None:
        self.decay = decay or [0.0] * len(weights)
        self.weights, self.betas, self.clip, self.ema = list(weights), betas, clip, ema
        self.first = [torch.zeros_like(w) for w in self.weights]
        self.second = [torch.zeros_like(w) for w in self.weights]
        self.average = [w.clone() for w in self.weights] if ema else []

    def state(self) -> dict[str, list[Tensor]]:
        """What a step leaves to the next, besides the weights."""
        return {"first": self.first, "second": self.second, "average": self.average}

    def constants(self, number: int, rate: float) -> Tensor:
        """What the step after ``number`` others multiplies by: a tensor, so that a compiled step reads it anew."""
        first, second = (1 - beta ** (number + 1) for beta in self.betas)
        decay = min(self.ema, (1 + number) / (10 + number))  # or the first weights would linger in the average
        w = self.weights[0]
        return torch.tensor([rate / first, 1 / math.sqrt(second), 1 - decay, rate], dtype=w.dtype).to(w.device)

    def move(self, gradients: Sequence[Tensor], copies: Sequence[Tensor], constants: Tensor) -> None:
        """One step down ``gradients``; each of ``copies`` follows its weight, unless it is that weight itself."""
        size, scale, share, rate = constants
        gradients = [g.to(w.dtype) for g, w in zip(gradients, self.weights, strict=True)]
        if self.clip:
            gradients = clipped(gradients, self.clip)
        for i, (w, first, second, g) in enumerate(zip(self.weights, self.first, self.second, gradients, strict=True)):
            first.lerp_(g, 1 - self.betas[0])
            first.copy_(torch.hardshrink(first, STILL))
            second.mul_(self.betas[1]).addcmul_(g, g, value=1 - self.betas[1])
            if self.decay[i]:
                w.mul_(1 - rate * self.decay[i])
            w.sub_(size * first / (second.sqrt() * scale + EPSILON))
            if self.average:
                self.average[i].lerp_(w, share)
            if copies[i] is not w:
                copies[i].copy_(w)


def clipped(gradients: Sequence[Tensor], most: float) -> list[Tensor]:
    """Gradients whose norm, all of them taken together, is at most ``most``.

    References:
        Pascanu, Mikolov, Bengio (2012), https://arxiv.org/abs/1211.5063.
    """
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    shrink = (most / (norm + 1e-6)).clamp(max=1)
    return [g * shrink for g in gradients]
