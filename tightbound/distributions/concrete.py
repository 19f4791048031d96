r"""Relaxed bits and classes: the concrete distributions, which are maps of noise where bits and classes are not.

A bit is 1 where :math:`\ell + \epsilon > 0`, with :math:`\epsilon` logistic; a class is the one whose
:math:`\ell_c + \epsilon_c` is the largest, with Gumbels. Both are steps, through which no gradient passes. Relaxed,
the step is a slope: a sigmoid, or a softmax, of the same sum over a temperature. The same noise gives both, so each
relaxed code has a hard one.

References:
    Maddison, Mnih, Teh: The Concrete Distribution (2016), https://arxiv.org/abs/1611.00712; Jang, Gu, Poole:
    Categorical Reparameterization with Gumbel-Softmax (2016), https://arxiv.org/abs/1611.01144.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, constraints

from tightbound.distributions.discrete import OneHot, class_probabilities, one_hot, parts_of
from tightbound.distributions.joint import Joint
from tightbound.distributions.reparameterised import Gumbel, Logistic, Reparameterised
from tightbound.distributions.sampling import sample_and_log_prob

__all__ = ["BinaryConcrete", "Concrete", "Relaxed", "relaxation", "relaxed"]


class Relaxed(Reparameterised, ABC):
    """A relaxed code: a slope where the code itself is a step."""

    logits: Tensor
    temperature: float | Tensor

    @abstractmethod
    def hard(self, noise: Tensor) -> Tensor:
        """The code that the same noise makes where nothing is relaxed.

        Args:
            noise: as :meth:`noise` gives it.

        Returns:
            Bits or one-hot vectors, of the shape of a draw, without gradient.
        """

    @abstractmethod
    def unsquashed(self, noise: Tensor) -> Tensor:
        """Noise and logits over the temperature, before they are squashed: what keeps all its digits.

        Args:
            noise: as :meth:`noise` gives it.

        Returns:
            The log-odds of each bit, or the log-probabilities of each variable's classes.
        """

    @abstractmethod
    def log_prob_of(self, unsquashed: Tensor) -> Tensor:
        """The log-density of a draw, given before it was squashed: no logarithm is taken of a number near 0 or 1.

        Args:
            unsquashed: as :meth:`unsquashed` gives it, of this distribution or of another one of its shape.

        Returns:
            Log-densities of the squashed draw, in nats.
        """

    @property
    def _t(self) -> Tensor:
        return torch.as_tensor(self.temperature, dtype=self.logits.dtype, device=self.logits.device)


class BinaryConcrete(Relaxed):
    r"""L relaxed bits: :math:`z_j = \sigma\left((\ell_j + \epsilon_j) / t\right)`, with logistic noise.

    .. math:: \log p(z_j) = \log t + a_j - 2 \log(1 + e^{a_j}) - \log z_j - \log(1 - z_j),
              \qquad a_j = \ell_j - t \log\frac{z_j}{1 - z_j}

    Args:
        logits: :math:`\ell`, shape (\*batch, L): those of the bits that this relaxes.
        temperature: t > 0; towards 0 the draws become bits, and the gradient's variance grows.

    Example:
        >>> soft = BinaryConcrete(torch.tensor([0.5, 0.5]), 0.1)
        >>> noise = torch.tensor([-2.0, 2.0])
        >>> soft.from_noise(noise).round(decimals=3), soft.hard(noise)
        (tensor([0., 1.]), tensor([0., 1.]))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"logits": constraints.real_vector}
    support = constraints.independent(constraints.unit_interval, 1)

    def __init__(self, logits: Tensor, temperature: float | Tensor, *, validate_args: bool | None = None) -> None:
        self.logits, self.temperature = logits, temperature
        super().__init__(logits.shape[:-1], logits.shape[-1:], validate_args=validate_args)

    @property
    def noise_distribution(self) -> Logistic:
        return Logistic(torch.zeros_like(self.logits), torch.ones_like(self.logits), validate_args=False)

    def noise(self, sample_shape: Any = ()) -> Tensor:
        return self.noise_distribution.sample(sample_shape)

    def unsquashed(self, noise: Tensor) -> Tensor:
        return (self.logits + noise) / self.temperature

    def from_noise(self, noise: Tensor) -> Tensor:
        return torch.sigmoid(self.unsquashed(noise))

    def hard(self, noise: Tensor) -> Tensor:
        return (self.logits.detach() + noise > 0).to(self.logits.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.log_prob_of(torch.logit(value))

    def log_prob_of(self, unsquashed: Tensor) -> Tensor:
        y = unsquashed
        a = self.logits - self._t * y  # the density of y is logistic; that of σ(y) is over dz/dy = z (1 − z)
        log_p = self._t.log() + F.logsigmoid(a) + F.logsigmoid(-a) - F.logsigmoid(y) - F.logsigmoid(-y)
        return log_p.sum(-1)


class Concrete(Relaxed):
    r"""V variables of C classes: :math:`z_v = \mathrm{softmax}\left((\ell_v + \epsilon_v) / t\right)`, Gumbel noise.

    .. math:: \log p(z_v) = \log (C - 1)! + (C - 1) \log t + \sum_c a_c - C \log \sum_c e^{a_c} - \sum_c \log z_{vc},
              \qquad a_c = \ell_{vc} - t \log z_{vc}

    Args:
        logits: :math:`\ell`, shape (\*batch, V, C): those of the classes that this relaxes.
        temperature: t > 0; towards 0 the draws become one-hot vectors, and the gradient's variance grows.

    Example:
        >>> soft = Concrete(torch.tensor([[0.0, 1.0, 0.0]]), 0.1)
        >>> noise = torch.tensor([[3.0, 0.0, 1.0]])
        >>> soft.from_noise(noise).round(decimals=3), soft.hard(noise)
        (tensor([1., 0., 0.]), tensor([1., 0., 0.]))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"logits": constraints.independent(constraints.real, 2)}
    support = constraints.independent(constraints.unit_interval, 1)

    def __init__(self, logits: Tensor, temperature: float | Tensor, *, validate_args: bool | None = None) -> None:
        self.logits, self.temperature = logits, temperature
        super().__init__(logits.shape[:-2], torch.Size([logits.shape[-2:].numel()]), validate_args=validate_args)

    @property
    def noise_distribution(self) -> Gumbel:
        return Gumbel(torch.zeros_like(self.logits), torch.ones_like(self.logits), validate_args=False)

    def noise(self, sample_shape: Any = ()) -> Tensor:
        return self.noise_distribution.sample(sample_shape)

    def unsquashed(self, noise: Tensor) -> Tensor:
        return ((self.logits + noise) / self.temperature).log_softmax(-1)

    def from_noise(self, noise: Tensor) -> Tensor:
        return self.unsquashed(noise).exp().flatten(-2)

    def hard(self, noise: Tensor) -> Tensor:
        return one_hot(self.logits.detach() + noise)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.log_prob_of(value.unflatten(-1, self.logits.shape[-2:]).log())

    def log_prob_of(self, unsquashed: Tensor) -> Tensor:
        log_z = unsquashed
        variables, classes = self.logits.shape[-2:]
        constant = variables * (math.lgamma(classes) + (classes - 1) * self._t.log())
        a = (self.logits - self._t * log_z).log_softmax(-1)
        return constant + (a - log_z).sum((-2, -1))


def relaxed(distribution: Distribution, temperature: float | Tensor) -> Relaxed:
    """The relaxation of a distribution of codes.

    Args:
        distribution: of bits or one-hot vectors.
        temperature: above 0.

    Returns:
        A concrete distribution with the same batch and event shape.

    Raises:
        TypeError: for a distribution that is not discrete.

    Example:
        >>> relaxed(OneHot(torch.zeros(5, 2, 3)), 0.5).rsample().shape
        torch.Size([5, 6])
    """
    if isinstance(distribution, OneHot):
        return Concrete(distribution.logits, temperature, validate_args=False)
    if isinstance(distribution, Independent) and isinstance(distribution.base_dist, Bernoulli):
        return BinaryConcrete(distribution.base_dist.logits, temperature, validate_args=False)
    raise TypeError(
        f"Expected a latent of bits or classes to be relaxed; got one of {type(distribution).__name__}. Take "
        "gradient=tb.gradients.Pathwise(), which needs no relaxation."
    )


def relaxation(
    q: Distribution, p: Distribution, samples: int, temperature: float | Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draws of discrete latents with their relaxations by the same noise; other parts of a vector go along a path.

    Args:
        q: posterior, batch shape (B,), at least in part of bits or classes.
        p: prior, made of parts as q is.
        samples: how many draws, K.
        temperature: above 0.

    Returns:
        Hard codes without gradient and soft codes, shape (K, B, L); log-densities of the soft ones under the relaxed p
        and the relaxed q, shape (K, B), in nats.

    Raises:
        TypeError: for latents that are not discrete in any part, and a prior that is not made of the same parts.

    Example:
        >>> codes = OneHot(torch.zeros(5, 2, 3))
        >>> hard, soft, _, _ = relaxation(codes, codes, 4, 0.5)
        >>> hard.shape, bool((soft - hard).abs().max() < 1)
        (torch.Size([4, 5, 6]), True)
    """
    if isinstance(q, Joint) and any(part.discrete for part in parts_of(q)):
        if not isinstance(p, Joint) or p.lengths != q.lengths:
            raise TypeError(
                f"Expected a prior of the same parts as the posterior, to be relaxed part by part; got one of "
                f"{type(p).__name__}. Take tb.priors.Joint([...])."
            )
        each = [_relaxed_or_moved(a, b, samples, temperature) for a, b in zip(q.parts, p.parts, strict=True)]
        hard, soft, log_p, log_q = zip(*each, strict=True)
        return torch.cat(hard, -1), torch.cat(soft, -1), torch.stack(log_p).sum(0), torch.stack(log_q).sum(0)
    soft_q = relaxed(q, temperature)
    ours, theirs = class_probabilities(q), class_probabilities(p)
    if ours is not None and (theirs is None or theirs.shape[-2:] != ours.shape[-2:]):
        raise TypeError(
            f"Expected a prior over the same {soft_q.logits.shape[-1]} bits or classes as the posterior, to be relaxed "
            f"with it; got one of events of shape {tuple(p.event_shape)}, {type(p).__name__}. Take the posterior's "
            "partner, such as tb.priors.Bernoulli or tb.priors.Categorical."
        )
    soft_p = relaxed(p, temperature)
    noise = soft_q.noise((samples,))
    y = soft_q.unsquashed(noise)
    return soft_q.hard(noise), soft_q.from_noise(noise), soft_p.log_prob_of(y), soft_q.log_prob_of(y)


def _relaxed_or_moved(
    q: Distribution, p: Distribution, samples: int, temperature: float | Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if any(part.discrete for part in parts_of(q)):
        return relaxation(q, p, samples, temperature)
    z, log_q = sample_and_log_prob(q, torch.Size([samples]))
    return z.detach(), z, p.log_prob(z), log_q
