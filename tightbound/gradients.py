"""How a bound becomes a gradient: how draws are made, and what is held constant meanwhile.

A gradient is a frozen value, called with a model, a batch and a bound. It gives a *surrogate* whose value is the
bound's, whatever its own gradient: logs and the choice of the best weights stay true.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from tightbound.batch import Batch
from tightbound.bounds import BoundFunction
from tightbound.draws import Draws
from tightbound.model import Model

Baseline = Literal["none", "leave-one-out"]


class Gradient(ABC):
    """A way from a bound to its gradient."""

    @abstractmethod
    def __call__(self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int) -> tuple[Tensor, Draws]:
        """The surrogate of a bound, and the draws that it was taken of.

        Args:
            model: any.
            batch: B observations.
            bound: from draws to (B,), in nats.
            samples: how many draws, K.

        Returns:
            The surrogate, shape (B,), in nats, whose value is that of ``bound``; and the draws.
        """


@dataclass(frozen=True)
class Pathwise(Gradient):
    r"""The gradient of the bound as it stands, through reparameterised draws :math:`z = g(\epsilon; x)`.

    References:
        Kingma, Welling: Auto-Encoding Variational Bayes (2013), https://arxiv.org/abs/1312.6114.

    Raises:
        TypeError: when called, for a posterior that cannot be reparameterised.

    Example:
        >>> Pathwise()
        Pathwise()
    """

    def __call__(self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int) -> tuple[Tensor, Draws]:
        z, log_qz_x = model.propose(batch, samples)
        _require_reparameterised(z, log_qz_x, self)
        draws = Draws(z, *model.log_joint(batch, z), log_qz_x)
        return bound(draws), draws


@dataclass(frozen=True)
class StickingTheLanding(Gradient):
    r"""The pathwise gradient without the part whose mean is zero: log q(z | x) moves with z, not with q's parameters.

    Of the gradient of :math:`\mathbb{E}_q[\log p(x, z) - \log q(z \mid x)]` the part
    :math:`\mathbb{E}_q[\nabla_\phi \log q_\phi(z \mid x)]` is 0 and only adds noise. Without it the gradient has the
    same mean, and no variance at all where q is the true posterior. For bounds other than the ELBO the part is not 0,
    and leaving it out adds a bias.

    References:
        Roeder, Wu, Duvenaud: Sticking the Landing (2017), https://arxiv.org/abs/1703.09194.

    Raises:
        TypeError: when called, for a posterior that cannot be reparameterised.

    Example:
        >>> StickingTheLanding()
        StickingTheLanding()
    """

    def __call__(self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int) -> tuple[Tensor, Draws]:
        z, log_qz_x = model.propose(batch, samples)
        _require_reparameterised(z, log_qz_x, self)
        draws = Draws(z, *model.log_joint(batch, z), model.log_posterior(batch, z, frozen=True))
        return bound(draws), draws


@dataclass(frozen=True)
class ScoreFunction(Gradient):
    r"""The gradient by the log-density alone, for draws that cannot be reparameterised, such as bits: REINFORCE.

    .. math:: \nabla_\phi \mathbb{E}_q[L] = \mathbb{E}_q\Big[\nabla_\phi L + \sum_k (L - b_k)\,
              \nabla_\phi \log q_\phi(z_k \mid x)\Big]

    where L is the bound as a function of K draws, held where they are. The baseline :math:`b_k` is the bound of the
    other K − 1 draws, which takes noise away and adds no bias, or 0.

    References:
        Williams: Simple statistical gradient-following algorithms (1992), https://doi.org/10.1007/BF00992696; Kool,
        van Hoof, Welling: Buy 4 REINFORCE samples, get a baseline for free! (2019),
        https://openreview.net/forum?id=r1lgTGL5DE.

    Args:
        baseline: "leave-one-out", for two samples or more, or "none".

    Raises:
        ValueError: for another baseline; when called, for a single sample with "leave-one-out".

    Example:
        >>> ScoreFunction()
        ScoreFunction(baseline='leave-one-out')
    """

    baseline: Baseline = "leave-one-out"

    def __post_init__(self) -> None:
        if self.baseline not in get_args(Baseline):
            raise ValueError(f"Expected baseline='leave-one-out' or baseline='none'; got {self.baseline!r}.")

    def __call__(self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int) -> tuple[Tensor, Draws]:
        leave_one_out = self.baseline == "leave-one-out"
        if leave_one_out and samples < 2:
            raise ValueError(
                f"Expected at least 2 samples with baseline='leave-one-out'; got samples={samples}. Take more, or "
                "baseline='none'."
            )
        z, log_qz_x = model.propose(batch, samples)
        if z.requires_grad:
            z = z.detach()
            log_qz_x = model.log_posterior(batch, z)
        draws = Draws(z, *model.log_joint(batch, z), log_qz_x)
        value = bound(draws)
        signal = value.detach().expand(samples, -1)
        if leave_one_out:
            signal = signal - torch.stack([bound(_without(draws, k)).detach() for k in range(samples)])
        score = (signal * log_qz_x).sum(0)
        return value + score - score.detach(), draws


def _without(draws: Draws, k: int) -> Draws:
    """All draws but one."""

    def rest(t: Tensor) -> Tensor:
        return torch.cat([t[:k], t[k + 1 :]])

    return Draws(rest(draws.z), rest(draws.log_px_z), rest(draws.log_pz), rest(draws.log_qz_x))


def _require_reparameterised(z: Tensor, log_qz_x: Tensor, gradient: Gradient) -> None:
    if log_qz_x.requires_grad and not z.requires_grad:
        raise TypeError(
            f"Expected draws that can be reparameterised for {type(gradient).__name__}(); got a posterior whose draws "
            "carry no gradient, such as one of bits. Take gradient=tb.gradients.ScoreFunction()."
        )
