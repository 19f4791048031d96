"""Likelihoods p(x | z): what kind of data the decoder's network describes.

A network maps z of shape (…, latent) to the parameters: ``(…, *shape)`` for one number an element, ``(…, 2, *shape)``
for two, ``(…, classes, *shape)`` for a categorical one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
import torch.distributions as td
import torch.nn.functional as F
from torch import Tensor, nn

from tightbound.conditional import Networked
from tightbound.distributions.bernoulli import Bernoulli as BernoulliDistribution
from tightbound.distributions.bernoulli import IndependentBernoulli
from tightbound.distributions.elements import ContinuousBernoulli as ContinuousBernoulliDistribution
from tightbound.distributions.elements import DiscretizedLogistic as DiscretizedLogisticDistribution
from tightbound.distributions.elements import NegativeBinomial as NegativeBinomialDistribution

Scale = float | Literal["learned", "per-element"]
SMALLEST_SCALE = 1e-3  # in the likelihood's unit: without a floor a density has no maximum to climb to


class Likelihood(Networked, ABC):
    """p(x | z), elements of x independent given z."""

    parameters_per_element: int = 1
    joint: type[td.Independent] = td.Independent  # what makes one observation's distribution of its elements'

    def forward(self, context: Tensor | None = None) -> td.Independent:
        if context is None:
            raise TypeError("Expected latents z of shape (..., latent); got None. A likelihood is conditional on z.")
        elements = self.elements(self.outputs(context), context.ndim - 1)
        return self.joint(elements, len(elements.batch_shape) - context.ndim + 1)

    @abstractmethod
    def elements(self, out: Tensor, lead: int) -> td.Distribution:
        """The distribution of each element, given the network's output: ``lead`` axes of draws and batch come first."""

    def initial_output(self, mean: Tensor) -> Tensor:
        """The network output at which x has this mean: where training best begins. Shape as the network's output."""
        return mean

    def extra_repr(self) -> str:
        return f"parameters_per_element={self.parameters_per_element}"


class Bernoulli(Likelihood):
    r"""Binary data: :math:`p(x \mid z) = \prod_i \mathrm{Bernoulli}(x_i \mid \sigma(\ell_i(z)))`.

    With ``grey=True`` values between 0 and 1 are let through as well. The cross-entropy of textbooks is then what
    ``log_prob`` gives, and it is **no likelihood**: it does not integrate to one. It exists to compare with them.

    Args:
        network: z (…, latent) to logits (…, \*shape).
        grey: the explicit word for grey data.

    Example:
        >>> from torch import nn
        >>> Bernoulli(nn.Linear(2, 5)).log_prob(torch.ones(3, 5), torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    joint = IndependentBernoulli

    def __init__(self, network: nn.Module, *, grey: bool = False) -> None:
        super().__init__(network)
        self.grey = grey

    def elements(self, out: Tensor, lead: int) -> td.Distribution:
        return BernoulliDistribution(out, grey=self.grey)

    def initial_output(self, mean: Tensor) -> Tensor:
        return torch.logit(mean, eps=1e-3)


class ContinuousBernoulli(Likelihood):
    r"""Data in [0, 1]: a normalised density in the form of a Bernoulli, by its logit.

    References:
        Loaiza-Ganem, Cunningham (2019), https://arxiv.org/abs/1907.06845.

    Args:
        network: z (…, latent) to logits (…, \*shape).
    """

    def elements(self, out: Tensor, lead: int) -> td.Distribution:
        return ContinuousBernoulliDistribution(out)

    def initial_output(self, mean: Tensor) -> Tensor:
        # The mean is (1 + coth(l/2) - 2/l) / 2; Cohen's approximation to the inverse of Langevin's function.
        y = 2 * mean.clamp(0.03, 0.97) - 1
        return 2 * y * (3 - y.square()) / (1 - y.square())


class _LocationScale(Likelihood, ABC):
    r"""Location from the network, scale fixed, one learned, or learned per element; in units of the data.

    Args:
        network: z (…, latent) to locations (…, \*shape); with ``scale="per-element"`` to (…, 2, \*shape): location,
            then raw scale.
        scale: a number; ``"learned"`` for one shared parameter; ``"per-element"`` for one from the network.
        centre: what a network output of 0 means, broadcastable with one observation.
        unit: what a network output of 1 adds to it, and what the scale is measured in.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        scale: Scale = "learned",
        centre: Tensor | float = 0.0,
        unit: Tensor | float = 1.0,
    ) -> None:
        super().__init__(network)
        if scale not in ("learned", "per-element") and not _is_scale(scale):
            raise ValueError(f"Expected a positive scale, 'learned' or 'per-element'; got {scale!r}.")
        self.scale = scale
        self.parameters_per_element = 2 if scale == "per-element" else 1
        self.register_buffer("centre", torch.as_tensor(centre, dtype=torch.get_default_dtype()).clone())
        self.register_buffer("unit", torch.as_tensor(unit, dtype=torch.get_default_dtype()).clone())
        if scale == "learned":
            self.raw_scale = nn.Parameter(torch.tensor(_raw(self.first_scale)))

    first_scale: float = 1.0
    centre: Tensor
    unit: Tensor

    def location_and_scale(self, out: Tensor, lead: int) -> tuple[Tensor, Tensor]:
        if self.scale == "per-element":
            location, raw = out.unbind(lead)
            scale = _positive(raw)
        else:
            location = out
            scale = _positive(self.raw_scale) if self.scale == "learned" else torch.full_like(self.unit, self.scale)
        return self.centre + self.unit * location, self.unit * scale

    def initial_output(self, mean: Tensor) -> Tensor:
        location = (mean - self.centre) / self.unit
        if self.scale != "per-element":
            return location
        return torch.stack([location, torch.full_like(location, _raw(self.first_scale))])

    def extra_repr(self) -> str:
        return f"scale={self.scale}"


def _is_scale(scale: object) -> bool:
    return isinstance(scale, (int, float)) and not isinstance(scale, bool) and 0 < scale < math.inf


def _positive(raw: Tensor) -> Tensor:
    return SMALLEST_SCALE + F.softplus(raw)


def _raw(scale: float) -> float:
    return float(torch.log(torch.expm1(torch.tensor(scale - SMALLEST_SCALE, dtype=torch.float64))))


class Gaussian(_LocationScale):
    r"""Real data: :math:`p(x \mid z) = \prod_i \mathcal{N}(x_i \mid \mu_i(z), \sigma_i^2)`, its log 2π kept.

    Args:
        network: z (…, latent) to means (…, \*shape); with ``scale="per-element"`` to (…, 2, \*shape): mean, raw scale.
        scale: σ, a number; ``"learned"`` for one shared parameter; ``"per-element"`` for σ from the network.
        centre: what a network output of 0 means, broadcastable with one observation.
        unit: what a network output of 1 adds to it, and what σ is measured in.

    Raises:
        ValueError: for any other ``scale``.

    Example:
        >>> from torch import nn
        >>> Gaussian(nn.Linear(2, 5), scale=0.5).log_prob(torch.ones(3, 5), torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    def elements(self, out: Tensor, lead: int) -> td.Distribution:
        return td.Normal(*self.location_and_scale(out, lead))


class Laplace(_LocationScale):
    r"""Real data with heavy tails: :math:`p(x \mid z) = \prod_i \mathrm{Laplace}(x_i \mid \mu_i(z), b_i)`.

    Arguments as :class:`Gaussian`, with b in place of σ.
    """

    def elements(self, out: Tensor, lead: int) -> td.Distribution:
        return td.Laplace(*self.location_and_scale(out, lead))


class DiscretizedLogistic(_LocationScale):
    r"""Grey levels 0, 1/(L−1), …, 1 (8-bit pixels over 255): a probability for each, so bits per dimension are honest.

    References:
        Salimans et al.: PixelCNN++ (2017), https://arxiv.org/abs/1701.05517.

    Args:
        network: z (…, latent) to locations (…, \*shape); with ``scale="per-element"`` to (…, 2, \*shape).
        levels: L, how many grey levels.
        scale: s, as σ of :class:`Gaussian`, in units of x.

    Raises:
        ValueError: for any other ``scale``, or fewer than two levels.

    Example:
        >>> from torch import nn
        >>> DiscretizedLogistic(nn.Linear(2, 5), levels=16).log_prob(torch.ones(3, 5), torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    first_scale = 0.2

    def __init__(self, network: nn.Module, *, levels: int = 256, scale: Scale = "learned") -> None:
        super().__init__(network, scale=scale)
        if levels < 2:
            raise ValueError(f"Expected at least 2 grey levels; got {levels}.")
        self.levels = levels

    def elements(self, out: Tensor, lead: int) -> td.Distribution:
        return DiscretizedLogisticDistribution(*self.location_and_scale(out, lead), levels=self.levels)

    def initial_output(self, mean: Tensor) -> Tensor:
        # The bins at the ends hold the tails, so the mean is s (softplus(μ/s) - softplus((μ - 1)/s)); solved for μ.
        s = self.scale if isinstance(self.scale, (int, float)) else self.first_scale
        m = mean.clamp(1e-3, 1 - 1e-3)
        location = m + s * (torch.log(-torch.expm1(-m / s)) - torch.log(-torch.expm1((m - 1) / s)))
        return super().initial_output(location)


class Categorical(Likelihood):
    r"""Integers 0 … C−1: :math:`p(x \mid z) = \prod_i \mathrm{Categorical}(x_i \mid \mathrm{softmax}(\ell_i(z)))`.

    Args:
        network: z (…, latent) to logits (…, C, \*shape).
        classes: how many, C.

    Raises:
        ValueError: for fewer than two classes.
    """

    def __init__(self, network: nn.Module, *, classes: int) -> None:
        super().__init__(network)
        if classes < 2:
            raise ValueError(f"Expected at least 2 classes; got {classes}.")
        self.parameters_per_element = classes

    def elements(self, out: Tensor, lead: int) -> td.Distribution:
        return td.Categorical(logits=out.movedim(lead, -1))

    def initial_output(self, mean: Tensor) -> Tensor:
        return torch.zeros(self.parameters_per_element, *mean.shape)


class Poisson(Likelihood):
    r"""Counts: :math:`p(x \mid z) = \prod_i \mathrm{Poisson}(x_i \mid e^{\ell_i(z)})`.

    Args:
        network: z (…, latent) to log-rates (…, \*shape).
    """

    def elements(self, out: Tensor, lead: int) -> td.Distribution:
        return td.Poisson(out.exp())

    def initial_output(self, mean: Tensor) -> Tensor:
        return mean.clamp(min=1e-3).log()


class NegativeBinomial(Likelihood):
    r"""Counts more spread than Poisson's: mean m and dispersion r, variance :math:`m + m^2 / r`.

    Args:
        network: z (…, latent) to (…, 2, \*shape): log m, log r.
    """

    parameters_per_element = 2

    def elements(self, out: Tensor, lead: int) -> td.Distribution:
        log_mean, log_dispersion = out.unbind(lead)
        return NegativeBinomialDistribution(log_mean, log_dispersion)

    def initial_output(self, mean: Tensor) -> Tensor:
        return torch.stack([mean.clamp(min=1e-3).log(), torch.zeros_like(mean)])


def point_estimate(distribution: td.Distribution) -> Tensor:
    """The mean, or for categories, which have none, the most probable one."""
    base = distribution.base_dist if isinstance(distribution, td.Independent) else distribution
    return base.mode.to(base.logits.dtype) if isinstance(base, td.Categorical) else base.mean
