"""The model: a prior, a posterior and a likelihood. Its one probabilistic verb is ``draw``."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.conditional import Conditional, unvalidated
from tightbound.draws import Draws
from tightbound.likelihoods import point_estimate
from tightbound.priors import Prior


class VAE(nn.Module):
    r"""Variational autoencoder: prior p(z), posterior q(z | x), likelihood p(x | z).

    References:
        Kingma, Welling (2013), https://arxiv.org/abs/1312.6114; Rezende, Mohamed, Wierstra (2014),
        https://arxiv.org/abs/1401.4082.

    Args:
        prior: p(z).
        posterior: q(z | x).
        likelihood: p(x | z).

    Raises:
        TypeError: if a part is not a :class:`~tightbound.conditional.Conditional`.

    Example:
        >>> import tightbound as tb
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(nn.Linear(2, 5), scale=0.5),
        ... )
        >>> tb.bounds.iwae(model.draw(torch.zeros(3, 5), samples=7)).shape
        torch.Size([3])
    """

    def __init__(self, prior: Conditional, posterior: Conditional, likelihood: Conditional) -> None:
        super().__init__()
        for name, part in (("prior", prior), ("posterior", posterior), ("likelihood", likelihood)):
            if not isinstance(part, Conditional):
                raise TypeError(
                    f"Expected a Conditional as {name}; got {type(part).__name__}. Wrap a network in one, for example "
                    "tb.posteriors.DiagonalNormal(network) or tb.likelihoods.Bernoulli(network)."
                )
        self.prior = prior
        self.posterior = posterior
        self.likelihood = likelihood

    def draw(self, x: Tensor, *, samples: int = 1) -> Draws:
        r"""K reparameterised draws from q(z | x) with their log-densities.

        Args:
            x: B observations, shape (B, \*shape).
            samples: how many, K.

        Returns:
            Draws, log-densities of shape (K, B) in nats.

        Raises:
            ValueError: for fewer than one sample, or values outside the likelihood's support.
        """
        return self.draw_from(self.encode(x), x, samples=samples)

    def draw_from(self, q: Distribution, x: Tensor, *, samples: int = 1) -> Draws:
        """:meth:`draw` where the posterior at ``x`` is at hand already; raises what it does."""
        if samples < 1:
            raise ValueError(f"Expected at least 1 sample; got samples={samples}.")
        return self.weigh(x, q.rsample(torch.Size([samples])), q)

    def weigh(self, x: Tensor, z: Tensor, q: Distribution) -> Draws:
        """Log-densities of draws already made: ``z`` of shape (K, B, \\*latent) from ``q``, the posterior at ``x``."""
        return Draws(z, self.likelihood.log_prob(x, z), self.prior.log_prob(z), q.log_prob(z))

    def encode(self, x: Tensor) -> Distribution:
        """The posterior q(z | x), batch shape (B,)."""
        return self.posterior(x)

    def embed(self, x: Tensor) -> Tensor:
        """The posterior's mean, shape (B, \\*latent): coordinates, the same in every call."""
        return self.encode(x).mean

    def decode(self, z: Tensor) -> Distribution:
        """The likelihood p(x | z), batch shape that of ``z`` without its last axis."""
        return self.likelihood(z)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The mean of p(x | z) at the posterior's mean, shape as ``x``: the same in every call."""
        return point_estimate(self.decode(self.embed(x)))

    @torch.no_grad()
    def sample(self, count: int, *, temperature: float = 1.0) -> Tensor:
        r"""The means of p(x | z) at ``count`` latents from the prior; for noise on top: ``decode(z).sample()``.

        Args:
            count: how many.
            temperature: what the prior's standard deviations are multiplied by; 0 for none at all.

        Returns:
            Shape (count, \*shape).

        Raises:
            ValueError: for a count below 1 or a negative temperature.
        """
        return point_estimate(self.decode(self.sample_prior(count, temperature=temperature)))

    @torch.no_grad()
    def sample_prior(self, count: int, *, temperature: float = 1.0) -> Tensor:
        """``count`` latents from the prior, shape (count, \\*latent)."""
        if count < 1 or temperature < 0:
            raise ValueError(f"Expected count >= 1 and temperature >= 0; got count={count}, temperature={temperature}.")
        with unvalidated():  # torch.distributions refuses the point mass of temperature 0
            p = self.prior.tempered(temperature) if isinstance(self.prior, Prior) else self.prior()
            return p.sample(torch.Size([count]))
