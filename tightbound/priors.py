"""Priors p(z): distributions of the latent before anything is seen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, cast

import torch
import torch.distributions as td
from torch import Tensor, nn

from tightbound import distributions, flows
from tightbound.conditional import Conditional, as_parts
from tightbound.links import Link

__all__ = [
    "Bernoulli", "Categorical", "Exponential", "Flow", "Gumbel", "Joint", "LogNormal", "MixtureOfNormals", "Prior",
    "StandardNormal", "TopDown", "VampPrior",
]  # fmt: skip

COLD = 1e-6  # the temperature that 0 stands for where logits are divided by it


class Prior(Conditional, ABC):
    """p(z): a conditional without a context."""

    def forward(self, context: Tensor | None = None) -> td.Distribution:
        return self.tempered(1.0)

    @abstractmethod
    def tempered(self, temperature: float) -> td.Distribution:
        """The prior made narrower or wider: its standard deviations times a temperature.

        That of log z where z is log-normal. Of bits and classes the logits are divided by it, so that towards 0 the
        likeliest code is left.

        Args:
            temperature: above 0; 1 is the prior itself, less gives safer samples of less variety.

        Returns:
            A distribution of one latent.
        """


class StandardNormal(Prior):
    r""":math:`p(z) = \mathcal{N}(0, I)`.

    Args:
        latent_dim: length of z.

    Raises:
        ValueError: for a length below 1.

    Example:
        >>> StandardNormal(2).log_prob(torch.zeros(1, 2))
        tensor([-1.8379])
    """

    zero: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim = _checked(latent_dim)
        self.register_buffer("zero", torch.zeros(latent_dim), persistent=False)

    def tempered(self, temperature: float) -> td.Independent:
        scale = torch.full_like(self.zero, temperature)
        return distributions.independent(distributions.Normal(self.zero, scale, validate_args=False))

    def extra_repr(self) -> str:
        return f"latent_dim={self.latent_dim}"


class _Elements(Prior, ABC):
    """Independent elements of one family, whose parameters are fixed at their standard, or learned from there.

    Args:
        latent_dim: length of z.
        learned: whether the parameters are learned.

    Raises:
        ValueError: for a length below 1.
    """

    numbers: ClassVar[tuple[str, ...]]  # what a parameter is made of: 0 is its standard

    def __init__(self, latent_dim: int, *, learned: bool = False) -> None:
        super().__init__()
        self.latent_dim, self.learned = _checked(latent_dim), learned
        for name in self.numbers:
            _hold(self, name, torch.zeros(latent_dim), learned=learned)

    def extra_repr(self) -> str:
        return f"latent_dim={self.latent_dim}, learned={self.learned}"


class LogNormal(_Elements):
    r"""Independent positive numbers: :math:`\log z \sim \mathcal{N}(\mu, \operatorname{diag} \sigma^2)`.

    Args:
        latent_dim: length of z.
        learned: whether μ and σ are learned; otherwise they are 0 and 1.

    Raises:
        ValueError: for a length below 1.

    Example:
        >>> LogNormal(2).log_prob(torch.ones(1, 2))
        tensor([-1.8379])
    """

    numbers = ("loc", "log_scale")
    loc: Tensor
    log_scale: Tensor

    def tempered(self, temperature: float) -> td.Independent:
        scale = temperature * self.log_scale.exp()
        return distributions.independent(distributions.LogNormal(self.loc, scale, validate_args=False))


class Exponential(_Elements):
    r"""Independent positive numbers: :math:`p(z) = \prod_j \lambda_j e^{-\lambda_j z_j}`.

    Args:
        latent_dim: length of z.
        learned: whether λ is learned; otherwise it is 1.

    Raises:
        ValueError: for a length below 1.

    Example:
        >>> Exponential(2).log_prob(torch.ones(1, 2))
        tensor([-2.])
    """

    numbers = ("log_rate",)
    log_rate: Tensor

    def tempered(self, temperature: float) -> td.Independent:
        rate = self.log_rate.exp() / temperature if temperature else torch.full_like(self.log_rate, torch.inf)
        return distributions.independent(distributions.Exponential(rate, validate_args=False))


class Gumbel(_Elements):
    r"""Independent Gumbels: :math:`p(z) = \prod_j e^{-y_j - e^{-y_j}} / \beta_j, \; y_j = (z_j - \mu_j) / \beta_j`.

    Args:
        latent_dim: length of z.
        learned: whether μ and β are learned; otherwise they are 0 and 1.

    Raises:
        ValueError: for a length below 1.

    Example:
        >>> Gumbel(2).log_prob(torch.zeros(1, 2))
        tensor([-2.])
    """

    numbers = ("loc", "log_scale")
    loc: Tensor
    log_scale: Tensor

    def tempered(self, temperature: float) -> td.Independent:
        scale = temperature * self.log_scale.exp()
        return distributions.independent(distributions.Gumbel(self.loc, scale, validate_args=False))


class Bernoulli(_Elements):
    r"""Independent bits: :math:`p(z) = \prod_j \mathrm{Bernoulli}(z_j \mid \sigma(\ell_j))`.

    Args:
        latent_dim: how many bits.
        learned: whether the logits are learned; otherwise each bit is a fair coin.

    Raises:
        ValueError: for fewer than one.

    Example:
        >>> Bernoulli(2).log_prob(torch.ones(1, 2)).exp()
        tensor([0.2500])
    """

    numbers = ("logits",)
    logits: Tensor

    def tempered(self, temperature: float) -> td.Independent:
        logits = self.logits / max(temperature, COLD)
        return distributions.independent(distributions.Bernoulli(logits, validate_args=False))


class Categorical(Prior):
    r"""Independent variables of C classes, as one flat vector of one-hot vectors.

    Args:
        variables: how many.
        classes: C, of each variable.
        learned: whether the logits are learned; otherwise all classes are equally likely.

    Raises:
        ValueError: for fewer than one variable, or fewer than two classes.

    Example:
        >>> Categorical(2, classes=4).log_prob(torch.tensor([[1.0, 0, 0, 0, 0, 0, 1, 0]])).exp()
        tensor([0.0625])
    """

    logits: Tensor

    def __init__(self, variables: int, *, classes: int, learned: bool = False) -> None:
        super().__init__()
        self.variables, self.classes, self.learned = _checked(variables), distributions.at_least_two(classes), learned
        _hold(self, "logits", torch.zeros(variables, classes), learned=learned)

    def tempered(self, temperature: float) -> distributions.OneHot:
        return distributions.OneHot(self.logits / max(temperature, COLD), validate_args=False)

    def extra_repr(self) -> str:
        return f"variables={self.variables}, classes={self.classes}, learned={self.learned}"


class MixtureOfNormals(Prior):
    r""":math:`p(z) = \sum_c \pi_c\, \mathcal{N}(z \mid \mu_c, \operatorname{diag} \sigma_c^2)`, all of it learned.

    Args:
        latent_dim: length of z.
        components: how many normals.

    Raises:
        ValueError: for a length or a number of components below 1.

    Example:
        >>> MixtureOfNormals(2, components=3)().event_shape
        torch.Size([2])
    """

    def __init__(self, latent_dim: int, *, components: int = 10) -> None:
        super().__init__()
        if components < 1:
            raise ValueError(f"Expected at least 1 component; got {components}.")
        self.latent_dim, self.components = _checked(latent_dim), components
        self.logits = nn.Parameter(torch.zeros(components))
        self.mean = nn.Parameter(torch.randn(components, latent_dim))
        self.log_scale = nn.Parameter(torch.zeros(components, latent_dim))

    def tempered(self, temperature: float) -> td.Distribution:
        return distributions.MixtureOfNormals(
            self.logits, self.mean, temperature * self.log_scale.exp(), validate_args=False
        )


class Flow(Prior):
    r"""A normal whose noise is bent, all of it learned: :math:`z = \mu + \sigma \odot T(\varepsilon)`, T a flow.

    It begins as the standard normal. A prior is scored at given z in each step, so T is quick from z to noise, a masked
    autoregressive flow: one network call a transform. A draw takes L calls for each, and is asked for in pictures only.

    References:
        Papamakarios, Pavlakou, Murray: Masked Autoregressive Flow for Density Estimation (2017),
        https://arxiv.org/abs/1705.07057; Chen et al.: Variational Lossy Autoencoder (2016),
        https://arxiv.org/abs/1611.02731, for such a prior.

    Args:
        latent_dim: length of z, L.
        flow: "autoregressive", each number shifted and scaled, or "spline", each number on a monotone spline.
        transforms: how many T is made of, each with a network of its own.
        hidden: widths of these networks' hidden layers.

    Raises:
        ModuleNotFoundError: without the library zuko: ``pip install 'tightbound[flows]'``.
        ValueError: for sizes below 1, another flow, or a flow that is too large.

    Example:
        >>> Flow(2).log_prob(torch.zeros(1, 2))
        tensor([-1.8379]...)
    """

    def __init__(
        self,
        latent_dim: int,
        *,
        flow: flows.Kind = "autoregressive",
        transforms: int = 2,
        hidden: Sequence[int] = (64, 64),
    ) -> None:
        super().__init__()
        self.latent_dim, self.flow, self.transforms, self.hidden = latent_dim, flow, transforms, tuple(hidden)
        self.steps = flows.Steps(latent_dim, 0, flow=flow, transforms=transforms, hidden=self.hidden, quick="density")
        self.loc = nn.Parameter(torch.zeros(latent_dim))
        self.log_scale = nn.Parameter(torch.zeros(latent_dim))

    def tempered(self, temperature: float) -> flows.Bent:
        return flows.Bent(self.steps, self.loc, self.log_scale, temperature=temperature)

    def extra_repr(self) -> str:
        return f"latent_dim={self.latent_dim}, flow={self.flow!r}, transforms={self.transforms}"


class Joint(Prior):
    r"""Latents of several kinds side by side, as one vector: :math:`p(z) = \prod_i p_i(z_i)`.

    Args:
        parts: priors, in the order in which the posterior has its parts.

    Raises:
        ValueError: for no parts.
        TypeError: for parts that are no priors.

    Example:
        >>> Joint([StandardNormal(2), Categorical(1, classes=10)])().event_shape
        torch.Size([12])
    """

    def __init__(self, parts: Sequence[Prior]) -> None:
        super().__init__()
        self.parts = as_parts(parts, "tb.priors.StandardNormal(2)", kind=Prior)

    @property
    def shared(self) -> tuple[nn.Module, ...]:
        return tuple(module for part in self.parts for module in cast(Prior, part).shared)

    def tempered(self, temperature: float) -> distributions.Joint:
        return distributions.Joint([cast(Prior, part).tempered(temperature) for part in self.parts])


class TopDown(Prior):
    r"""Layers, each given the one above: :math:`p(z) = p(z_L) \prod_{l<L} \mathcal{N}(z_l \mid \mu_l(z_{l+1}),
    \operatorname{diag} \sigma_l^2(z_{l+1}))`, :math:`z = (z_1, \ldots, z_L)`.

    Its posterior is :class:`tightbound.posteriors.TopDown`, which is drawn in the same order; any other posterior of
    real numbers will do as well. A decoder sees all layers.

    References:
        Sønderby et al.: Ladder Variational Autoencoders (2016), https://arxiv.org/abs/1602.02282.

    Args:
        networks: of each layer but the topmost, from the layer above to its mean, then log-variance.
        layers: lengths of all layers, the one nearest to x first.
        top: the prior of the topmost layer; a standard normal by default.

    Raises:
        ValueError: for fewer than two layers, layers without a network, or a ``top`` of another length; when used, for
            networks of other lengths.

    Example:
        >>> TopDown([nn.Linear(2, 8)], layers=(4, 2))().sample((3,)).shape
        torch.Size([3, 6])
    """

    def __init__(self, networks: Sequence[nn.Module], *, layers: Sequence[int], top: Prior | None = None) -> None:
        super().__init__()
        self.layers = tuple(_checked(length) for length in layers)
        if len(self.layers) < 2 or len(networks) != len(self.layers) - 1:
            raise ValueError(
                "Expected at least two layers, and a network for each but the topmost, from the layer above to "
                f"2 * its length; got layers={self.layers} and {len(networks)} networks. For example: "
                "tb.priors.TopDown([tb.networks.MLP((2,), (8,))], layers=(4, 2))."
            )
        self.networks = nn.ModuleList(networks)
        self.top = StandardNormal(self.layers[-1]) if top is None else top
        if self.top().event_shape != self.layers[-1:]:
            raise ValueError(
                f"Expected a prior of {self.layers[-1]} latents at the top, the last of layers={self.layers}; got "
                f"{type(self.top).__name__} of {tuple(self.top().event_shape)}."
            )

    @property
    def shared(self) -> tuple[nn.Module, ...]:
        return self.top.shared

    def tempered(self, temperature: float) -> distributions.TopDown:
        below = zip(self.networks, self.layers, strict=False)
        links = [Link(network, length, temperature=temperature) for network, length in below]
        return distributions.TopDown(self.top.tempered(temperature), links, self.layers[:-1])

    def extra_repr(self) -> str:
        return f"layers={self.layers}"


class VampPrior(Prior):
    r"""The aggregate of the posterior over learned pseudo-inputs: :math:`p(z) = \frac{1}{C} \sum_c q(z \mid u_c)`.

    References:
        Tomczak, Welling: VAE with a VampPrior (2017), https://arxiv.org/abs/1705.07120.

    Args:
        posterior: the model's own posterior, a ``DiagonalNormal``; shared, so its parameters stay the posterior's.
        pseudo_inputs: where the pseudo-inputs start, shape (C, \*shape): rows of the training data serve well.

    Raises:
        TypeError: when used, if the posterior is not factorised.

    Example:
        >>> from tightbound.posteriors import DiagonalNormal
        >>> VampPrior(DiagonalNormal(nn.Linear(5, 4)), torch.zeros(7, 5))().event_shape
        torch.Size([2])
    """

    def __init__(self, posterior: Conditional, pseudo_inputs: Tensor) -> None:
        super().__init__()
        self._posterior = (posterior,)  # in a tuple, out of this module's own parameters: the VAE holds it already
        self.pseudo_inputs = nn.Parameter(pseudo_inputs.detach().clone())

    @property
    def posterior(self) -> Conditional:
        """The posterior whose aggregate this is."""
        return self._posterior[0]

    @property
    def shared(self) -> tuple[nn.Module, ...]:
        return self._posterior

    def tempered(self, temperature: float) -> td.Distribution:
        q = self.posterior(self.pseudo_inputs)
        if not (isinstance(q, td.Independent) and isinstance(q.base_dist, td.Normal)):
            raise TypeError(f"Expected a DiagonalNormal posterior under a VampPrior; got {type(q).__name__}.")
        uniform = q.mean.new_zeros(len(self.pseudo_inputs))
        return distributions.MixtureOfNormals(
            uniform, q.base_dist.loc, temperature * q.base_dist.scale, validate_args=False
        )


def _hold(prior: Prior, name: str, value: Tensor, *, learned: bool) -> None:
    if learned:
        prior.register_parameter(name, nn.Parameter(value))
    else:
        prior.register_buffer(name, value, persistent=False)


def _checked(latent_dim: int) -> int:
    if latent_dim < 1:
        raise ValueError(f"Expected a latent of at least 1 dimension; got latent_dim={latent_dim}.")
    return latent_dim
