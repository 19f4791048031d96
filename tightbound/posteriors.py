"""Posteriors q(z | x): distributions of the latent given an observation."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.distributions as td
from torch import Tensor, nn

from tightbound import distributions, flows
from tightbound.conditional import Conditional, Networked, as_parts, at_least_single, bounded
from tightbound.links import Link
from tightbound.priors import TopDown as TopDownPrior
from tightbound.told import in_every_class

__all__ = [
    "Bernoulli", "Categorical", "ClassFirst", "DiagonalNormal", "Exponential", "Flow", "FullNormal", "Gumbel", "Joint",
    "LogNormal", "Posterior", "TopDown",
]  # fmt: skip


class Posterior(Networked, ABC):
    """q(z | x), z a vector.

    A network goes on in straight lines beyond the data: an observation a hundred deviations away would have a posterior
    of deviation 10¹². So log-variances, and what stands in their place, are :func:`~tightbound.conditional.bounded`.
    """

    def forward(self, context: Tensor | None = None) -> td.Distribution:
        if context is None:
            raise TypeError("Expected observations; got None. A posterior is conditional on x.")
        return self.latent(self.outputs(context))

    @abstractmethod
    def latent(self, out: Tensor) -> td.Distribution:
        """The distribution of z given the network's output; made with ``validate_args=False``, so that it compiles.

        Args:
            out: shape (B, numbers), as many numbers as :meth:`outputs_for` says.

        Returns:
            A distribution with batch shape (B,).
        """

    @staticmethod
    @abstractmethod
    def outputs_for(latent_dim: int) -> int:
        """How many numbers the network must give.

        Args:
            latent_dim: length of z.

        Returns:
            The length of the network's output.
        """

    @staticmethod
    def zeros_for(latent_dim: int) -> int:
        """How many of these numbers, the last ones, are best at zero when training begins.

        Args:
            latent_dim: length of z.
        """
        return 0


def _deviation(log_variance: Tensor) -> Tensor:
    return torch.exp(0.5 * bounded(log_variance))


class _OfTwoNumbers(Posterior, ABC):
    """Independent elements of two parameters each: the network's output has the first of all, then the second."""

    halves: ClassVar[str]  # what they are, in words

    @abstractmethod
    def elements(self, first: Tensor, second: Tensor) -> td.Distribution:
        """The distribution of each element.

        Args:
            first: the first half of the network's output, shape (B, L).
            second: the second half, of the same shape.

        Returns:
            A distribution with batch shape (B, L), made with ``validate_args=False``.
        """

    def latent(self, out: Tensor) -> td.Independent:
        if out.shape[-1] % 2:
            raise ValueError(f"Expected a network giving (..., 2 * latent): {self.halves}; got (..., {out.shape[-1]}).")
        return distributions.independent(self.elements(*out.chunk(2, -1)))

    @staticmethod
    def outputs_for(latent_dim: int) -> int:
        return 2 * latent_dim


class DiagonalNormal(_OfTwoNumbers):
    r"""Independent normals: :math:`q(z \mid x) = \mathcal{N}(\mu(x), \operatorname{diag} \sigma^2(x))`.

    References:
        Kingma, Welling: Auto-Encoding Variational Bayes (2013), https://arxiv.org/abs/1312.6114.

    Args:
        network: x to (…, 2·latent): mean, then log-variance.

    Raises:
        ValueError: when used, if the network's last axis is odd.

    Example:
        >>> DiagonalNormal(nn.Linear(5, 4))(torch.zeros(3, 5)).event_shape
        torch.Size([2])
    """

    halves = "mean, then log-variance"

    def elements(self, first: Tensor, second: Tensor) -> td.Distribution:
        return distributions.Normal(first, _deviation(second), validate_args=False)


class FullNormal(Posterior):
    r"""A normal with full covariance: :math:`q(z \mid x) = \mathcal{N}(\mu(x), U(x) \operatorname{diag} \sigma^2(x)\,
    U(x)^\top)`, with U a lower triangle that has ones on its diagonal.

    A number of U below the diagonal, :math:`U_{ij}`, says how far z_i moves where z_j is off its mean by one. Where all
    of them are 0 this is :class:`DiagonalNormal`, of the same outputs. Recipes start there.

    Args:
        network: x to (…, L + L(L+1)/2): mean, then log-variance, then the rows of U below its diagonal.

    Raises:
        ValueError: when used, if the network's last axis is of no such form.

    Example:
        >>> FullNormal(nn.Linear(5, 5))(torch.zeros(3, 5)).event_shape
        torch.Size([2])
    """

    def latent(self, out: Tensor) -> td.MultivariateNormal:
        size = round((math.sqrt(9 + 8 * out.shape[-1]) - 3) / 2)
        if self.outputs_for(size) != out.shape[-1]:
            raise ValueError(
                "Expected a network giving (..., L + L(L+1)/2): mean, log-variance, then the triangle below the "
                f"diagonal; got (..., {out.shape[-1]}), which is no such number for any L."
            )
        mean, log_variance, below = out.split([size, size, out.shape[-1] - 2 * size], -1)
        row, column = torch.tril_indices(size, size, offset=-1, device=out.device)
        unit = torch.diag_embed(torch.ones_like(mean))
        unit[..., row, column] = below
        factor = unit * _deviation(log_variance)[..., None, :]
        return td.MultivariateNormal(mean, scale_tril=factor, validate_args=False)

    @staticmethod
    def outputs_for(latent_dim: int) -> int:
        return latent_dim + latent_dim * (latent_dim + 1) // 2

    @staticmethod
    def zeros_for(latent_dim: int) -> int:
        return latent_dim * (latent_dim - 1) // 2


class Flow(Posterior):
    r"""A normal whose noise is bent: :math:`z = \mu(x) + \sigma(x) \odot T(\varepsilon \mid c(x))`, T a flow.

    T begins as the identity, so the posterior begins as a ``DiagonalNormal`` and can become what no normal is:
    correlated, skewed, of several modes. T acts on the noise and not on z, so that its splines bend a posterior however
    narrow it is.

    A posterior is drawn from in each step, so T is quick from noise to z, an inverse autoregressive flow: draws know
    their own density after one network call a transform. The density at another z takes L calls more for each.
    ``StickingTheLanding`` and ``DoublyReparameterised`` ask for it in each step, the plain gradient never does.

    References:
        Kingma et al.: Improving Variational Inference with Inverse Autoregressive Flow (2016),
        https://arxiv.org/abs/1606.04934; Germain et al.: MADE (2015), https://arxiv.org/abs/1502.03509; Durkan et al.:
        Neural Spline Flows (2019), https://arxiv.org/abs/1906.04032.

    Args:
        network: x to (…, 3·latent_dim): mean, log-variance, and as many numbers more. T sees all of them.
        latent_dim: length of z, L.
        flow: "autoregressive", each number shifted and scaled, or "spline", each number on a monotone spline.
        transforms: how many T is made of, each with a network of its own; two turn the order of the numbers once.
        hidden: widths of these networks' hidden layers.

    Raises:
        ModuleNotFoundError: without the library zuko: ``pip install 'tightbound[flows]'``.
        ValueError: for sizes below 1, another flow, or a flow that is too large; when used, if the network's last axis
            is of another length.

    Example:
        >>> q = Flow(nn.Linear(5, 6), 2, flow="spline")(torch.zeros(3, 5))
        >>> z, log_q = q.rsample_and_log_prob((4,))
        >>> z.shape, bool(torch.isclose(q.log_prob(z), log_q, atol=1e-4).all())
        (torch.Size([4, 3, 2]), True)
    """

    def __init__(
        self,
        network: nn.Module,
        latent_dim: int,
        *,
        flow: flows.Kind = "autoregressive",
        transforms: int = 2,
        hidden: Sequence[int] = (64, 64),
    ) -> None:
        super().__init__(network)
        self.latent_dim, self.flow, self.transforms, self.hidden = latent_dim, flow, transforms, tuple(hidden)
        self.steps = flows.Steps(
            latent_dim,
            self.outputs_for(latent_dim),
            flow=flow,
            transforms=transforms,
            hidden=self.hidden,
            quick="sampling",
        )

    def latent(self, out: Tensor) -> flows.Bent:
        if out.shape[-1] != self.outputs_for(self.latent_dim):
            raise ValueError(
                f"Expected a network giving (..., {self.outputs_for(self.latent_dim)}), 3 * latent_dim: mean, "
                f"log-variance, and as many numbers more; got (..., {out.shape[-1]})."
            )
        mean, log_variance, _ = out.chunk(3, -1)
        return flows.Bent(self.steps, mean, 0.5 * bounded(log_variance), context=out)

    @staticmethod
    def outputs_for(latent_dim: int) -> int:
        return 3 * latent_dim


class LogNormal(_OfTwoNumbers):
    r"""Independent positive numbers: :math:`\log z \sim \mathcal{N}(\mu(x), \operatorname{diag} \sigma^2(x))`.

    Args:
        network: x to (…, 2·latent): mean, then log-variance, of log z.

    Raises:
        ValueError: when used, if the network's last axis is odd.

    Example:
        >>> LogNormal(nn.Linear(5, 4))(torch.zeros(3, 5)).event_shape
        torch.Size([2])
    """

    halves = "mean, then log-variance, of log z"

    def elements(self, first: Tensor, second: Tensor) -> td.Distribution:
        # exp of a mean without bounds is infinite for an odd observation
        return distributions.LogNormal(bounded(first, -20, 20), _deviation(second), validate_args=False)


class Exponential(Posterior):
    r"""Independent positive numbers: :math:`q(z \mid x) = \prod_j \lambda_j e^{-\lambda_j z_j}`.

    Args:
        network: x to (…, latent): log λ.

    Example:
        >>> Exponential(nn.Linear(5, 2))(torch.zeros(3, 5)).event_shape
        torch.Size([2])
    """

    def latent(self, out: Tensor) -> td.Independent:
        return distributions.independent(distributions.Exponential(1 / _deviation(-2 * out), validate_args=False))

    @staticmethod
    def outputs_for(latent_dim: int) -> int:
        return latent_dim


class Gumbel(_OfTwoNumbers):
    r"""Independent Gumbels, whose upper tail is the longer: location :math:`\mu(x)`, scale :math:`\beta(x)`.

    Args:
        network: x to (…, 2·latent): location, then log-scale.

    Raises:
        ValueError: when used, if the network's last axis is odd.

    Example:
        >>> Gumbel(nn.Linear(5, 4))(torch.zeros(3, 5)).event_shape
        torch.Size([2])
    """

    halves = "location, then log-scale"

    def elements(self, first: Tensor, second: Tensor) -> td.Distribution:
        return distributions.Gumbel(first, _deviation(2 * second), validate_args=False)


class Bernoulli(Posterior):
    r"""Independent bits: :math:`q(z \mid x) = \prod_j \mathrm{Bernoulli}(z_j \mid \sigma(\ell_j(x)))`.

    A draw cannot be reparameterised: train with a gradient for bits, such as ``gradients.ScoreFunction()``.

    Args:
        network: x to (…, latent): logits.

    Example:
        >>> Bernoulli(nn.Linear(5, 2))(torch.zeros(99, 5)).sample().unique()
        tensor([0., 1.])
    """

    def latent(self, out: Tensor) -> td.Independent:
        return distributions.independent(distributions.Bernoulli(out, validate_args=False))

    @staticmethod
    def outputs_for(latent_dim: int) -> int:
        return latent_dim


class Categorical(Posterior):
    r"""Independent variables of C classes, as one flat vector of one-hot vectors, which any decoder takes.

    A draw cannot be reparameterised: train with a gradient for classes, such as ``gradients.ScoreFunction()``.

    Args:
        network: x to (…, variables·C): logits.
        classes: C, of each variable.

    Raises:
        ValueError: for fewer than two classes; when used, if the network's last axis is no multiple of them.

    Example:
        >>> Categorical(nn.Identity(), classes=2)(torch.zeros(1, 4)).mean
        tensor([[0.5000, 0.5000, 0.5000, 0.5000]])
    """

    def __init__(self, network: nn.Module, *, classes: int) -> None:
        super().__init__(network)
        self.classes = distributions.at_least_two(classes)

    def latent(self, out: Tensor) -> distributions.OneHot:
        if out.shape[-1] % self.classes:
            raise ValueError(
                f"Expected a network giving (..., variables * {self.classes}): logits of {self.classes} classes for "
                f"each variable; got (..., {out.shape[-1]})."
            )
        return distributions.OneHot(out.unflatten(-1, (-1, self.classes)), validate_args=False)

    @staticmethod
    def outputs_for(latent_dim: int) -> int:
        return latent_dim


class Joint(Conditional):
    r"""Latents of several kinds side by side, as one vector: :math:`q(z \mid x) = \prod_i q_i(z_i \mid x)`.

    Its prior is :class:`tightbound.priors.Joint`, of the partners in the same order. With bits or classes among the
    parts train by ``gradients.GumbelSoftmax()``, which goes along the path where there is one, or by
    ``gradients.ScoreFunction()``, which needs none.

    References:
        Dupont: Learning Disentangled Joint Continuous and Discrete Representations (2018),
        https://arxiv.org/abs/1804.00104.

    Args:
        parts: posteriors, each with a network of its own from x.

    Raises:
        ValueError: for no parts.
        TypeError: for parts that are no posteriors.

    Example:
        >>> both = Joint([DiagonalNormal(nn.Linear(5, 4)), Categorical(nn.Linear(5, 10), classes=10)])
        >>> both(torch.zeros(3, 5)).event_shape
        torch.Size([12])
    """

    def __init__(self, parts: Sequence[Conditional]) -> None:
        super().__init__()
        self.parts = as_parts(parts, "tb.posteriors.DiagonalNormal(network)")

    def forward(self, context: Tensor | None = None) -> distributions.Joint:
        return distributions.Joint([part(context) for part in self.parts])


class TopDown(Posterior):
    r"""Layers, each given x and the one above: :math:`q(z \mid x) = q(z_L \mid x) \prod_{l<L} q(z_l \mid x, z_{l+1})`.

    A layer below the top one is what the prior says of it, :math:`p(z_l \mid z_{l+1})`, a normal of deviation σ, times
    what x says of it, a normal too, in units of σ: :class:`tightbound.links.Link` has the formula. So prior and
    posterior share the networks from layer to layer, and where x says nothing of a layer its rate is 0.

    References:
        Sønderby et al.: Ladder Variational Autoencoders (2016), https://arxiv.org/abs/1602.02282; Vahdat, Kautz: NVAE
        (2020), https://arxiv.org/abs/2007.03898.

    Args:
        network: x to (…, 2·latent): mean, then log-variance, each of all layers, the one nearest to x first; below the
            topmost in the prior's units, the mean as a pull away from the prior's.
        prior: the model's own, whose networks are shared; they stay the prior's.

    Raises:
        TypeError: for another prior.
        ValueError: when used, if the network's last axis is of another length.

    Example:
        >>> prior = TopDownPrior([nn.Linear(2, 8)], layers=(4, 2))
        >>> TopDown(nn.Linear(5, 12), prior)(torch.zeros(3, 5)).rsample((7,)).shape
        torch.Size([7, 3, 6])
    """

    def __init__(self, network: nn.Module, prior: TopDownPrior) -> None:
        super().__init__(network)
        if not isinstance(prior, TopDownPrior):
            raise TypeError(
                f"Expected the model's tb.priors.TopDown, whose networks this posterior shares; got "
                f"{type(prior).__name__}."
            )
        self._prior = (prior,)  # in a tuple, out of this module's own parameters: the VAE holds it already

    @property
    def prior(self) -> TopDownPrior:
        """The prior whose networks this shares."""
        return self._prior[0]

    @property
    def shared(self) -> tuple[nn.Module, ...]:
        return (*self._prior, *self.prior.shared)

    def latent(self, out: Tensor) -> distributions.TopDown:
        layers = self.prior.layers
        if out.shape[-1] != self.outputs_for(sum(layers)):
            raise ValueError(
                f"Expected a network giving (..., {self.outputs_for(sum(layers))}), 2 * {sum(layers)}: mean, then "
                f"log-variance, of layers of {layers}; got (..., {out.shape[-1]})."
            )
        *seen, (mean, log_variance) = zip(*(half.split(layers, -1) for half in out.chunk(2, -1)), strict=True)
        top = distributions.Normal(mean, _deviation(log_variance), validate_args=False)
        below = zip(self.prior.networks, layers, seen, strict=False)
        links = [Link(network, length, seen=own) for network, length, own in below]
        return distributions.TopDown(distributions.independent(top), links, layers[:-1])

    @staticmethod
    def outputs_for(latent_dim: int) -> int:
        return 2 * latent_dim


class ClassFirst(Conditional):
    r"""A class, then numbers that depend on it: :math:`q(z, y \mid x) = q(y \mid x)\, q(z \mid x, y)`.

    A latent is the vector (z, y), y a one-hot vector, under a prior of independent parts in the same order,
    ``priors.Joint([StandardNormal(L), Categorical(1, classes=C)])``.

    Args:
        classifier: q(y | x), of one variable.
        given: q(z | x, y). Its network takes x as a flat vector with y behind it. A network of
            :class:`tightbound.told.Late` looks at x once for all classes.

    Raises:
        TypeError: for other parts.

    References:
        Kingma et al.: Semi-Supervised Learning with Deep Generative Models (2014), https://arxiv.org/abs/1406.5298.

    Example:
        >>> q = ClassFirst(Categorical(nn.Linear(5, 3), classes=3), DiagonalNormal(nn.Linear(5 + 3, 4)))
        >>> q(torch.zeros(7, 5)).event_shape
        torch.Size([5])
    """

    def __init__(self, classifier: Categorical, given: Posterior) -> None:
        super().__init__()
        if not isinstance(classifier, Categorical) or not isinstance(given, Posterior):
            raise TypeError(
                "Expected a Categorical posterior as classifier, and one made of one network that is given the class; "
                f"got {type(classifier).__name__} and {type(given).__name__}."
            )
        self.classifier, self.given = classifier, given

    def forward(self, context: Tensor | None = None) -> distributions.ClassFirst:
        if context is None:
            raise TypeError("Expected observations; got None. A posterior is conditional on x.")
        classes = self.classifier(context)
        if classes.event_shape.numel() != self.classifier.classes:
            raise ValueError(
                f"Expected a classifier of one variable of {self.classifier.classes} classes; got "
                f"{classes.event_shape.numel()} outputs of its network."
            )
        out = at_least_single(in_every_class(self.given.network, context, self.classifier.classes))
        return distributions.ClassFirst(classes, out, self.given.latent)
