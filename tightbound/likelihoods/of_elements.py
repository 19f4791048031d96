"""Likelihoods whose elements are all of one family.

A network maps z of shape (…, latent) to the parameters: ``(…, *shape)`` for one number an element, ``(…, 2, *shape)``
for two, ``(…, classes, *shape)`` for a categorical one.
"""

from __future__ import annotations

import math
from abc import ABC
from typing import Literal

import torch
import torch.distributions as td
import torch.nn.functional as F
from torch import Tensor, nn

from tightbound import distributions
from tightbound.likelihoods.likelihood import Likelihood

__all__ = [
    "Bernoulli", "Categorical", "ContinuousBernoulli", "DiscretizedLogistic", "Gaussian", "Laplace",
    "NegativeBinomial", "Poisson", "UnnormalisedBernoulli",
]  # fmt: skip

Scale = float | Literal["learned", "per-element"]
SMALLEST_SCALE = 1e-3  # in the likelihood's unit: without a floor a density has no maximum to climb to


class Bernoulli(Likelihood):
    r"""Binary data: :math:`p(x \mid z) = \prod_i \mathrm{Bernoulli}(x_i \mid \sigma(\ell_i(z)))`.

    Args:
        network: z (…, latent) to logits (…, \*shape).

    Example:
        >>> from torch import nn
        >>> Bernoulli(nn.Linear(2, 5)).log_prob(torch.ones(3, 5), torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    def elements(self, out: Tensor, lead: int) -> td.Distribution:
        return distributions.Bernoulli(out, validate_args=False)

    def initial_output(self, mean: Tensor) -> Tensor:
        return torch.logit(mean, eps=1e-3)


class UnnormalisedBernoulli(Likelihood):
    r"""The cross-entropy of textbooks on grey data: **no likelihood**, for it does not integrate to one.

    It exists to compare with numbers made the same way. For grey data with a likelihood take
    :class:`ContinuousBernoulli`, :class:`DiscretizedLogistic`, or :class:`Bernoulli` on binarised data.

    Args:
        network: z (…, latent) to logits (…, \*shape).

    Example:
        >>> from torch import nn
        >>> cross_entropy = UnnormalisedBernoulli(nn.Linear(2, 5))
        >>> cross_entropy.log_prob(torch.full((3, 5), 0.3), torch.zeros(3, 2)).shape, cross_entropy.is_normalised
        (torch.Size([3]), False)
    """

    is_normalised = False

    def elements(self, out: Tensor, lead: int) -> td.Distribution:
        return distributions.UnnormalisedBernoulli(out, validate_args=False)

    def initial_output(self, mean: Tensor) -> Tensor:
        return torch.logit(mean, eps=1e-3)


class ContinuousBernoulli(Likelihood):
    r"""Data in [0, 1]: a normalised density in the form of a Bernoulli, by its logit.

    References:
        Loaiza-Ganem, Cunningham (2019), https://arxiv.org/abs/1907.06845.

    Args:
        network: z (…, latent) to logits (…, \*shape).

    Example:
        >>> from torch import nn
        >>> density = ContinuousBernoulli(nn.Linear(2, 5).requires_grad_(False))
        >>> _ = density.network.weight.zero_(), density.network.bias.zero_()
        >>> density.log_prob(torch.full((1, 5), 0.3), torch.zeros(1, 2))  # logits of 0: uniform on [0, 1]
        tensor([0.])
    """

    def elements(self, out: Tensor, lead: int) -> td.Distribution:
        return distributions.ContinuousBernoulli(out, validate_args=False)

    def initial_output(self, mean: Tensor) -> Tensor:
        # The mean is (1 + coth(l/2) - 2/l) / 2; Cohen's approximation to the inverse of Langevin's function.
        y = 2 * mean.clamp(0.03, 0.97) - 1
        return 2 * y * (3 - y.square()) / (1 - y.square())


class _LocationScale(Likelihood, ABC):
    r"""Location from the network, scale fixed, one learned, or learned per element; in units of the data.

    Where the unit is 0 an element is a constant: it counts 0 nats, as no density has a value for it.

    Args:
        network: z (…, latent) to locations (…, \*shape); with ``scale="per-element"`` to (…, 2, \*shape): location,
            then raw scale.
        scale: a number; ``"learned"`` for one shared parameter; ``"per-element"`` for one from the network.
        centre: what a network output of 0 means, broadcastable with one observation.
        unit: what a network output of 1 adds to it, and what the scale is measured in; 0 for a constant.
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
        """Of each element, in its unit."""
        if self.scale == "per-element":
            location, raw = out.unbind(lead)
            scale = _positive(raw)
        else:
            location = out
            scale = _positive(self.raw_scale) if self.scale == "learned" else location.new_tensor(self.scale)
        return location, scale

    def initial_output(self, mean: Tensor) -> Tensor:
        location = (mean - self.centre) / torch.where(self.unit > 0, self.unit, 1)
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
    return math.log(math.expm1(scale - SMALLEST_SCALE))


class Gaussian(_LocationScale):
    r"""Real data: :math:`p(x \mid z) = \prod_i \mathcal{N}(x_i \mid \mu_i(z), \sigma_i^2)`, its log 2π kept.

    Args:
        network: z (…, latent) to means (…, \*shape); with ``scale="per-element"`` to (…, 2, \*shape): mean, raw scale.
        scale: σ, a number; ``"learned"`` for one shared parameter; ``"per-element"`` for σ from the network.
        centre: what a network output of 0 means, broadcastable with one observation.
        unit: what a network output of 1 adds to it, and what σ is measured in; 0 for an element that is constant, which
            counts 0 nats: no density has a value for it.

    Raises:
        ValueError: for any other ``scale``.

    Example:
        >>> from torch import nn
        >>> Gaussian(nn.Linear(2, 5), scale=0.5).log_prob(torch.ones(3, 5), torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    def elements(self, out: Tensor, lead: int) -> td.Distribution:
        base = td.Normal(*self.location_and_scale(out, lead), validate_args=False)
        return distributions.InUnits(base, self.centre, self.unit, validate_args=False)


class Laplace(_LocationScale):
    r"""Real data with heavy tails: :math:`p(x \mid z) = \prod_i \mathrm{Laplace}(x_i \mid \mu_i(z), b_i)`.

    Args:
        network: as for :class:`Gaussian`, with b in place of σ.
        scale: likewise.
        centre: likewise.
        unit: likewise.

    Raises:
        ValueError: for any other ``scale``.

    Example:
        >>> from torch import nn
        >>> Laplace(nn.Linear(2, 5), scale=0.5).log_prob(torch.ones(3, 5), torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    def elements(self, out: Tensor, lead: int) -> td.Distribution:
        base = td.Laplace(*self.location_and_scale(out, lead), validate_args=False)
        return distributions.InUnits(base, self.centre, self.unit, validate_args=False)


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
        location, scale = self.location_and_scale(out, lead)
        return distributions.DiscretizedLogistic(location, scale, levels=self.levels, validate_args=False)

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

    Example:
        >>> from torch import nn
        >>> letters = Categorical(nn.Sequential(nn.Linear(2, 12), nn.Unflatten(1, (3, 4))), classes=3)
        >>> letters.log_prob(torch.tensor([[0.0, 2.0, 1.0, 1.0]]), torch.zeros(1, 2)).shape
        torch.Size([1])
    """

    def __init__(self, network: nn.Module, *, classes: int) -> None:
        super().__init__(network)
        self.classes = self.parameters_per_element = distributions.at_least_two(classes)

    def elements(self, out: Tensor, lead: int) -> td.Distribution:
        return td.Categorical(logits=out.movedim(lead, -1), validate_args=False)

    def initial_output(self, mean: Tensor) -> Tensor:
        return torch.zeros(self.parameters_per_element, *mean.shape)


class Poisson(Likelihood):
    r"""Counts: :math:`p(x \mid z) = \prod_i \mathrm{Poisson}(x_i \mid e^{\ell_i(z)})`.

    Args:
        network: z (…, latent) to log-rates (…, \*shape).

    Example:
        >>> from torch import nn
        >>> Poisson(nn.Linear(2, 5)).log_prob(torch.full((3, 5), 7.0), torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    def elements(self, out: Tensor, lead: int) -> td.Distribution:
        return distributions.Poisson(out, validate_args=False)

    def initial_output(self, mean: Tensor) -> Tensor:
        return mean.clamp(min=1e-3).log()


class NegativeBinomial(Likelihood):
    r"""Counts more spread than Poisson's: mean m and dispersion r, variance :math:`m + m^2 / r`.

    Args:
        network: z (…, latent) to (…, 2, \*shape): log m, log r.

    Example:
        >>> from torch import nn
        >>> counts = NegativeBinomial(nn.Sequential(nn.Linear(2, 10), nn.Unflatten(1, (2, 5))))
        >>> counts.log_prob(torch.full((3, 5), 7.0), torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    parameters_per_element = 2

    def elements(self, out: Tensor, lead: int) -> td.Distribution:
        log_mean, log_dispersion = out.unbind(lead)
        return distributions.NegativeBinomial(log_mean, log_dispersion, validate_args=False)

    def initial_output(self, mean: Tensor) -> Tensor:
        return torch.stack([mean.clamp(min=1e-3).log(), torch.zeros_like(mean)])
