"""Adam as plain operations on tensors, so that a compiler can melt it into one pass over the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = 1e-8


@dataclass(frozen=True, eq=False)
class Moments:
    """What an update changes: weights, Adam's two moments, and where wanted averaged weights and 16-bit copies.

    Args:
        weights: the parameters themselves, changed in place.
        first: running mean of the gradient.
        second: running mean of its square.
        average: running mean of the weights; empty for none.
        copies: what matrix products read in place of the weights; a weight itself where it is not copied.
    """

    weights: list[Tensor]
    first: list[Tensor]
    second: list[Tensor]
    average: list[Tensor]
    copies: list[Tensor]


def hyperparameters(number: int, rate: float, betas: tuple[float, float]) -> list[float]:
    """What changes with the step: its number, the bias-corrected rate, the second moment's bias correction."""
    return [float(number), rate / (1 - betas[0] ** (number + 1)), 1 / (1 - betas[1] ** (number + 1))]


def update(
    state: Moments, gradients: Sequence[Tensor], hyper: Tensor, betas: tuple[float, float], clip: float, ema: float
) -> None:
    r"""One step of Adam, in place.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1) g, \quad v \leftarrow \beta_2 v + (1 - \beta_2) g^2, \quad
              w \leftarrow w - \eta \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    References:
        Kingma, Ba: Adam (2014), https://arxiv.org/abs/1412.6980.

    Args:
        state: what is changed.
        gradients: one for each weight.
        hyper: :func:`hyperparameters`, shape (3,).
        betas: decay rates of the two moments.
        clip: largest norm of the whole gradient; 0 for none.
        ema: decay of the averaged weights.
    """
    _, rate, correction = hyper.unbind()
    shrink = _shrink(gradients, clip) if clip else None
    for i, (w, m, v) in enumerate(zip(state.weights, state.first, state.second, strict=True)):
        g = gradients[i].to(w.dtype)
        g = g if shrink is None else g * shrink
        m.lerp_(g, 1 - betas[0])
        v.mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
        w.sub_(rate * m / ((correction * v).sqrt() + EPSILON))
        if state.average:
            state.average[i].lerp_(w, 1 - ema)
        if state.copies[i] is not w:
            state.copies[i].copy_(w)


def _shrink(gradients: Sequence[Tensor], clip: float) -> Tensor:
    norm = torch.stack([g.float().square().sum() for g in gradients]).sum().sqrt()
    return (clip / (norm + 1e-6)).clamp(max=1.0)
