"""How a bound becomes a gradient: how draws are made, and what is held constant meanwhile.

A gradient is a frozen value, called with a model, a batch and a bound. It gives a *surrogate* whose value is the
bound's, whatever its own gradient: logs and the choice of the best weights stay true. Which one to take hangs on the
latent:

- **real numbers** have a path, z = g(ε): :class:`Pathwise`, :class:`StickingTheLanding`,
  :class:`DoublyReparameterised`;
- **bits and classes** have none: :class:`ScoreFunction` and :class:`VIMCO` are unbiased and noisy, :class:`Enumerate`
  is exact where there are few codes, :class:`StraightThrough` and :class:`GumbelSoftmax` are biased and quiet.
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
from tightbound.schedules import Linear, at

Baseline = Literal["none", "batch", "leave-one-out"]


class Gradient(ABC):
    """A way from a bound to its gradient."""

    @abstractmethod
    def __call__(
        self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int, step: Tensor | None = None
    ) -> tuple[Tensor, Draws]:
        """The surrogate of a bound, and the draws that it was taken of.

        Args:
            model: any.
            batch: B observations.
            bound: from draws to (B,), in nats.
            samples: how many draws, K.
            step: of the training, for what follows a schedule; None for its end.

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

    def __call__(
        self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int, step: Tensor | None = None
    ) -> tuple[Tensor, Draws]:
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

    def __call__(
        self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int, step: Tensor | None = None
    ) -> tuple[Tensor, Draws]:
        z, log_qz_x = model.propose(batch, samples)
        _require_reparameterised(z, log_qz_x, self)
        draws = Draws(z, *model.log_joint(batch, z), model.log_posterior(batch, z, frozen=True))
        return bound(draws), draws


@dataclass(frozen=True)
class DoublyReparameterised(Gradient):
    r"""The pathwise gradient of any bound without the part that only adds noise, and with the mean that it had.

    A bound of K draws pulls each draw along its path as hard as that draw counts, :math:`a_k`; the score part that
    :class:`StickingTheLanding` leaves out is, for bounds other than the ELBO, not 0. Reparameterised once more it
    becomes a pull along the same path, and the two together are

    .. math:: a_k - \frac{\partial a_k}{\partial \log w_k}

    which for the importance-weighted bound is :math:`\tilde w_k^2` and for the ELBO 1/K, sticking the landing's. Unlike
    the plain gradient's, its signal does not drown in noise as K grows. It costs one more pass through the decoder,
    without gradient; a decoder that is random itself, such as one with dropout, is not the same in both passes.

    References:
        Tucker, Lawson, Gu, Maddison: Doubly Reparameterized Gradient Estimators (2018),
        https://arxiv.org/abs/1810.04152; Rainforth et al.: Tighter Variational Bounds are Not Necessarily Better
        (2018), https://arxiv.org/abs/1802.04537.

    Raises:
        TypeError: when called, for a posterior that cannot be reparameterised.

    Example:
        >>> DoublyReparameterised()
        DoublyReparameterised()
    """

    def __call__(
        self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int, step: Tensor | None = None
    ) -> tuple[Tensor, Draws]:
        z, log_qz_x = model.propose(batch, samples)
        _require_reparameterised(z, log_qz_x, self)
        held = z.detach()
        with torch.no_grad():
            share = _share_of_path(bound, Draws(held, *model.log_joint(batch, held), model.log_posterior(batch, held)))
        z = held + share.reshape(*share.shape, *[1] * (z.ndim - 2)) * (z - held)
        draws = Draws(z, *model.log_joint(batch, z), model.log_posterior(batch, z, frozen=True))
        return bound(draws), draws


@dataclass(frozen=True)
class ScoreFunction(Gradient):
    r"""The gradient by the log-density alone, for draws that cannot be reparameterised, such as bits: REINFORCE.

    .. math:: \nabla_\phi \mathbb{E}_q[L] = \mathbb{E}_q\Big[\nabla_\phi L + \sum_k (L - b_k)\,
              \nabla_\phi \log q_\phi(z_k \mid x)\Big]

    where L is the bound as a function of K draws, held where they are. The baseline :math:`b_k` takes noise away. It
    adds no bias, for it does not hang on draw k:

    - "leave-one-out": the bound of the other K − 1 draws of the same observation;
    - "batch": the mean bound of the other observations. It does what a running mean of earlier steps does, and needs
      no memory;
    - "none": 0.

    References:
        Williams: Simple statistical gradient-following algorithms (1992), https://doi.org/10.1007/BF00992696; Kool,
        van Hoof, Welling: Buy 4 REINFORCE samples, get a baseline for free! (2019),
        https://openreview.net/forum?id=r1lgTGL5DE.

    Args:
        baseline: "leave-one-out", for two samples or more; "batch"; or "none".

    Raises:
        ValueError: for another baseline; when called, for a single sample with "leave-one-out".

    Example:
        >>> ScoreFunction()
        ScoreFunction(baseline='leave-one-out')
    """

    baseline: Baseline = "leave-one-out"

    def __post_init__(self) -> None:
        if self.baseline == "running":
            raise ValueError(
                "Expected baseline='leave-one-out', 'batch' or 'none'; got 'running', which would need a memory that a "
                "gradient does not have. Take 'batch': the mean of the other observations serves as a running mean."
            )
        if self.baseline not in get_args(Baseline):
            raise ValueError(f"Expected baseline='leave-one-out', 'batch' or 'none'; got {self.baseline!r}.")

    def __call__(
        self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int, step: Tensor | None = None
    ) -> tuple[Tensor, Draws]:
        if self.baseline == "leave-one-out":
            _require_two(samples, "ScoreFunction()", "baseline='batch'")
        draws, value = _held_draws(model, batch, bound, samples)
        signal = value.detach().expand(samples, -1)
        if self.baseline == "leave-one-out":
            signal = signal - torch.stack([bound(_without(draws, k)).detach() for k in range(samples)])
        if self.baseline == "batch" and batch.size > 1:
            signal = signal - (signal.sum(1, keepdim=True) - signal) / (batch.size - 1)
        return _with_score(value, signal, draws), draws


@dataclass(frozen=True)
class VIMCO(Gradient):
    r"""The score function for bounds of many draws: each draw is compared with the geometric mean of the others.

    As :class:`ScoreFunction` with the baseline :math:`b_k = L(w_1, …, \hat w_k, …, w_K)`, in which draw k's weight is
    replaced by :math:`\log \hat w_k = \frac{1}{K-1} \sum_{j \ne k} \log w_j`. So b_k is a bound of K draws like L
    itself, where leaving draw k out would give one of K − 1.

    References:
        Mnih, Rezende: Variational Inference for Monte Carlo Objectives (2016), https://arxiv.org/abs/1602.06725.

    Raises:
        ValueError: when called, for a single sample.

    Example:
        >>> VIMCO()
        VIMCO()
    """

    def __call__(
        self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int, step: Tensor | None = None
    ) -> tuple[Tensor, Draws]:
        _require_two(samples, "VIMCO()", "tb.gradients.ScoreFunction(baseline='batch')")
        draws, value = _held_draws(model, batch, bound, samples)
        others = torch.stack([bound(_typical(draws, k)).detach() for k in range(samples)])
        return _with_score(value, value.detach() - others, draws), draws


@dataclass(frozen=True)
class Enumerate(Gradient):
    r"""The exact gradient of a discrete latent: the sum over all codes, at most 4096.

    .. math:: \mathbb{E}_q[L] = \sum_z q(z \mid x)\, L(z)

    There is no noise left but that of the batch. The decoder scores every code for every observation.

    Raises:
        TypeError: when called, for latents that cannot be listed.
        ValueError: when called, for more codes than that, or for more than one sample.

    Example:
        >>> Enumerate()
        Enumerate()
    """

    def __call__(
        self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int, step: Tensor | None = None
    ) -> tuple[Tensor, Draws]:
        if samples != 1:
            raise ValueError(
                f"Expected samples=1 with Enumerate(), which sums over all codes in place of drawing; got "
                f"samples={samples}. Take samples=1."
            )
        codes = model.every_code(batch)
        z = codes[:, None].expand(len(codes), batch.size, *codes.shape[1:])
        parts = (*model.log_joint(batch, z), model.log_posterior(batch, z))
        # Each code as the one draw of an observation of its own, since a bound mixes draws and no observations.
        each = bound(Draws(z.reshape(1, -1, *codes.shape[1:]), *(part.reshape(1, -1) for part in parts)))
        share = parts[-1].exp()
        expected = [(share * part).sum(0, keepdim=True) for part in parts]
        mean = torch.einsum("sb,s...->b...", share, codes)[None]
        return (share * each.view_as(share)).sum(0), Draws(mean, *expected)


@dataclass(frozen=True)
class StraightThrough(Gradient):
    r"""Hard codes forwards, the gradient of their probabilities backwards, as if a draw were its own mean.

    Biased, for the decoder's slope at a code is taken for the difference between codes; quiet, and cheap.

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
        mean = model.posterior_mean(batch)
        if mean is None or z.requires_grad:
            raise TypeError(
                "Expected a latent of bits or classes for StraightThrough(); got draws with a gradient of their own. "
                "Take gradient=tb.gradients.Pathwise()."
            )
        z = z + (mean - mean.detach())
        draws = Draws(z, *model.log_joint(batch, z), model.log_posterior(batch, z))
        return bound(draws), draws


@dataclass(frozen=True)
class GumbelSoftmax(Gradient):
    r"""The gradient of relaxed codes, in which a sigmoid or a softmax over a temperature stands for the step of a draw.

    Biased: it is the gradient of another model, whose codes are soft. The lower the temperature, the smaller the bias
    and the greater the noise. The value is that of hard codes by the same noise, so logs tell of the model itself. The
    rate of soft codes is a choice of the objective: ``kl="closed-form"`` takes that of the hard ones, which is common
    and makes no bound of the relaxed model; ``kl="sampled"`` takes the densities of the soft ones, which does.

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


def _held_draws(model: Model, batch: Batch, bound: BoundFunction, samples: int) -> tuple[Draws, Tensor]:
    """Draws through which no gradient passes, and their bound."""
    z, log_qz_x = model.propose(batch, samples)
    if z.requires_grad:
        z = z.detach()
        log_qz_x = model.log_posterior(batch, z)
    draws = Draws(z, *model.log_joint(batch, z), log_qz_x)
    return draws, bound(draws)


def _with_score(value: Tensor, signal: Tensor, draws: Draws) -> Tensor:
    score = (signal * draws.log_qz_x).sum(0)
    return value + score - score.detach()


def _share_of_path(bound: BoundFunction, draws: Draws) -> Tensor:
    r"""Which share of its pull along the path a draw keeps: :math:`1 + \partial_{\log p} \partial_{\log q} L / a_k`.

    Shape (K, B). The derivatives are by draw k's own densities, of the bound as a function of log p(x | z) and log q.
    """
    z = draws.z.flatten(2)[..., :0]  # no bound looks at it

    def total(log_px_z: Tensor, log_qz_x: Tensor) -> Tensor:
        return bound(Draws(z, log_px_z, draws.log_pz, log_qz_x)).sum()

    by_p, by_q = torch.func.grad(total, 0), torch.func.grad(total, 1)
    pull = by_p(draws.log_px_z, draws.log_qz_x)

    def of_one(at_draw: Tensor) -> Tensor:
        """The derivative of draw k's pull by its own log p(x | z); ``at_draw`` is 1 there and 0 elsewhere."""
        slope = torch.func.grad(lambda log_p: (at_draw[:, None] * by_q(log_p, draws.log_qz_x)).sum())
        return at_draw @ slope(draws.log_px_z)

    own = torch.func.vmap(of_one)(torch.eye(len(pull), dtype=pull.dtype, device=pull.device))
    return torch.where(pull == 0, 0, 1 + own / torch.where(pull == 0, 1, pull))


def _without(draws: Draws, k: int) -> Draws:
    """All draws but one."""

    def rest(t: Tensor) -> Tensor:
        return torch.cat([t[:k], t[k + 1 :]])

    return Draws(rest(draws.z), rest(draws.log_px_z), rest(draws.log_pz), rest(draws.log_qz_x))


def _typical(draws: Draws, k: int) -> Draws:
    """All draws, the k-th of which has the mean of the others' log-densities."""

    def filled(t: Tensor) -> Tensor:
        return torch.cat([t[:k], ((t.sum(0) - t[k]) / (len(t) - 1))[None], t[k + 1 :]])

    return Draws(draws.z, filled(draws.log_px_z), filled(draws.log_pz), filled(draws.log_qz_x))


def _require_two(samples: int, gradient: str, instead: str) -> None:
    if samples < 2:
        raise ValueError(
            f"Expected at least 2 samples with {gradient}, which compares draws; got samples={samples}. Take more, or "
            f"{instead}."
        )


def _require_reparameterised(z: Tensor, log_qz_x: Tensor, gradient: Gradient) -> None:
    if log_qz_x.requires_grad and not z.requires_grad:
        raise TypeError(
            f"Expected draws that can be reparameterised for {type(gradient).__name__}(); got a posterior whose draws "
            "carry no gradient, such as one of bits. Take gradient=tb.gradients.ScoreFunction(), or see tb.gradients."
        )
