"""Adam in one pass over memory: weights, moments, averaged weights and 16-bit copies move together.

Compiled, the pass is one kernel made of plain operations. Where nothing is compiled, each of these operations would be
a pass of its own; torch's fused kernel takes their place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw

EPSILON = 1e-8  # under Adam's fraction
FUSED = ("cpu", "cuda")  # devices for which torch has a fused kernel in every version that we take
SWEPT = 64  # steps of the fused kernel between two looks for moments that are still: in so many none becomes a denormal
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
        self._counts = [torch.zeros((), device=w.device) for w in self.weights]  # of steps, as the fused kernel has it

    def state(self) -> dict[str, list[Tensor]]:
        """What a step leaves to the next, besides the weights."""
        return {"first": self.first, "second": self.second, "average": self.average}

    def constants(self, number: int, rate: float) -> Tensor:
        """What the step after ``number`` others multiplies by: a tensor, so that a compiled step reads it anew."""
        first, second = (1 - beta ** (number + 1) for beta in self.betas)
        w, share = self.weights[0], 1 - self._share_kept(number)
        return torch.tensor([rate / first, 1 / math.sqrt(second), share, rate], dtype=w.dtype).to(w.device)

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

    def move_plainly(self, gradients: Sequence[Tensor], copies: Sequence[Tensor], number: int, rate: float) -> None:
        """The same step, after ``number`` others, where nothing is compiled."""
        if self.weights[0].device.type not in FUSED:
            self.move(gradients, copies, self.constants(number, rate))
            return
        gradients = [_as(g, w) for g, w in zip(gradients, self.weights, strict=True)]
        if self.clip:
            gradients = clipped(gradients, self.clip)
        for decay in dict.fromkeys(self.decay):
            self._fused([i for i, own in enumerate(self.decay) if own == decay], gradients, number, rate, decay)
        if number % SWEPT == 0:
            for first in self.first:
                first.copy_(torch.hardshrink(first, STILL))
        for average, w in zip(self.average, self.weights, strict=bool(self.average)):
            average.lerp_(w, 1 - self._share_kept(number))
        for copy, w in zip(copies, self.weights, strict=True):
            if copy is not w:
                copy.copy_(w)

    def _fused(self, places: list[int], gradients: list[Tensor], number: int, rate: float, decay: float) -> None:
        """Torch's kernel on the weights that share a decay."""
        for i in places:
            self._counts[i].fill_(number)
        weights, gradients, first, second = (
            [column[i] for i in places] for column in (self.weights, gradients, self.first, self.second)
        )
        adamw(
            weights, gradients, first, second, [], [self._counts[i] for i in places], fused=True, amsgrad=False,
            beta1=self.betas[0], beta2=self.betas[1], lr=rate, weight_decay=decay, eps=EPSILON, maximize=False,
        )  # fmt: skip

    def _share_kept(self, number: int) -> float:
        """Of averaged weights: little at first, or the first weights would linger in the average."""
        return min(self.ema, (1 + number) / (10 + number))


def _as(gradient: Tensor, weight: Tensor) -> Tensor:
    """In the type and the order in memory of its weight: the fused kernel reads both alike."""
    if gradient.dtype == weight.dtype and gradient.stride() == weight.stride():
        return gradient
    return torch.empty_like(weight).copy_(gradient)


def clipped(gradients: Sequence[Tensor], most: float) -> list[Tensor]:
    """Gradients whose norm, all of them taken together, is at most ``most``.

    References:
        Pascanu, Mikolov, Bengio (2012), https://arxiv.org/abs/1211.5063.
    """
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    shrink = (most / (norm + 1e-6)).clamp(max=1)
    return [g * shrink for g in gradients]
