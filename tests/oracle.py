"""A linear-Gaussian VAE (probabilistic PCA), for which p(x) and p(z | x) are known exactly, in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from tightbound.autoencoder import VAE
from tightbound.draws import Draws
from tightbound.likelihoods import Gaussian
from tightbound.posteriors import DiagonalNormal, FullNormal, Posterior, TopDown
from tightbound.priors import StandardNormal
from tightbound.priors import TopDown as TopDownPrior


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """p(z) = N(0, I), p(x | z) = N(W z + b, σ² I), so p(x) = N(b, W Wᵀ + σ² I).

    Args:
        weight: W, shape (D, L).
        bias: b, shape (D,).
        sigma: σ.
    """

    weight: Tensor
    bias: Tensor
    sigma: float

    @property
    def observed(self) -> int:
        return self.weight.shape[0]

    @property
    def latent(self) -> int:
        return self.weight.shape[1]

    @property
    def evidence(self) -> MultivariateNormal:
        """p(x)."""
        covariance = self.weight @ self.weight.T + self.sigma**2 * torch.eye(self.observed, dtype=torch.float64)
        return MultivariateNormal(self.bias, covariance)

    @property
    def gain(self) -> Tensor:
        """A of the posterior's mean A (x − b): (Wᵀ W + σ² I)⁻¹ Wᵀ, shape (L, D)."""
        return self.posterior_covariance @ self.weight.T / self.sigma**2

    @property
    def posterior_covariance(self) -> Tensor:
        """σ² (Wᵀ W + σ² I)⁻¹, shape (L, L)."""
        precision = torch.eye(self.latent, dtype=torch.float64) + self.weight.T @ self.weight / self.sigma**2
        return torch.linalg.inv(precision)

    def posterior(self, x: Tensor) -> MultivariateNormal:
        """p(z | x)."""
        return MultivariateNormal((x - self.bias) @ self.gain.T, self.posterior_covariance)

    def exact_posterior(self) -> FullNormal:
        """A module whose distribution is p(z | x)."""
        factor = torch.linalg.cholesky(self.posterior_covariance)
        row, column = torch.tril_indices(self.latent, self.latent, offset=-1)
        below = (factor / factor.diagonal())[row, column]
        return FullNormal(self._affine(self.gain, torch.cat([2 * factor.diagonal().log(), below])))

    def exact_diagonal_posterior(self) -> DiagonalNormal:
        """The same, factorised: exact where the columns of W are orthogonal."""
        return DiagonalNormal(self._affine(self.gain, self.posterior_covariance.diagonal().log()))

    def wrong_posterior(self) -> DiagonalNormal:
        """A module that is off in its mean and in its variance, each dimension in its own way."""
        log_variance = self.posterior_covariance.diagonal().log() + torch.linspace(0.5, 0.9, self.latent).double()
        return DiagonalNormal(self._affine(0.8 * self.gain, log_variance))

    def model(self, posterior: Posterior) -> VAE:
        """The model with this posterior."""
        decoder = nn.Linear(self.latent, self.observed, dtype=torch.float64)
        _set(decoder, self.weight, self.bias)
        likelihood = Gaussian(decoder, scale=self.sigma)
        return VAE(prior=StandardNormal(self.latent), posterior=posterior, likelihood=likelihood).double()

    def _affine(self, gain: Tensor, rest: Tensor) -> nn.Linear:
        """A network from x to the mean gain (x − b), then constants."""
        network = nn.Linear(self.observed, self.latent + len(rest), dtype=torch.float64)
        weight = torch.cat([gain, torch.zeros(len(rest), self.observed, dtype=torch.float64)])
        _set(network, weight, torch.cat([-gain @ self.bias, rest]))
        return network


@torch.no_grad()
def _set(linear: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    linear.weight.copy_(weight)
    linear.bias.copy_(bias)


def linear_gaussian(*, observed: int = 5, latent: int = 2, orthogonal: bool = False) -> LinearGaussian:
    """A problem in general position: nothing symmetric, nothing centred, σ not 1."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randn(observed, latent, generator=generator, dtype=torch.float64)
    if orthogonal:
        weight = torch.linalg.qr(weight).Q * torch.arange(1, latent + 1)
    bias = torch.randn(observed, generator=generator, dtype=torch.float64)
    return LinearGaussian(weight, bias, sigma=0.7)


@dataclass(frozen=True, eq=False)
class LinearLayers:
    """p(z_L) = N(0, I), p(z_l | z_l+1) = N(A z_l+1 + a, diag s²), p(x | z_1) = N(W z_1 + b, σ² I), all known exactly.

    The columns of W, and those of each A as the layer below measures them, are orthogonal, so that the posterior of a
    layer given x and the one above is a product of normals, latent by latent.

    Args:
        weights: W, then each A from the lowest on.
        biases: b, then each a.
        variances: s² of each layer but the topmost.
        sigma: σ.
    """

    weights: list[Tensor]
    biases: list[Tensor]
    variances: list[Tensor]
    sigma: float

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(weight.shape[1] for weight in self.weights)

    @property
    def evidence(self) -> MultivariateNormal:
        """p(x)."""
        mean, covariance = torch.zeros(self.layers[-1]).double(), torch.eye(self.layers[-1]).double()
        noises = [torch.full_like(self.biases[0], self.sigma**2), *self.variances]
        for weight, bias, noise in zip(self.weights[::-1], self.biases[::-1], noises[::-1], strict=True):
            mean, covariance = weight @ mean + bias, weight @ covariance @ weight.T + noise.diag()
        return MultivariateNormal(mean, covariance)

    def seen(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """What x says of each layer, from the lowest on: z_l = G x + g + N(0, diag R), as (G, g, R)."""
        found = []
        gain, offset = torch.eye(len(self.biases[0])).double(), torch.zeros(len(self.biases[0])).double()
        noise = torch.full_like(self.biases[0], self.sigma**2)
        for weight, bias, own in zip(self.weights, self.biases, [*self.variances, None], strict=True):
            precision = (weight.square() / noise[:, None]).sum(0)
            back = weight.T / noise / precision[:, None]
            gain, offset = back @ gain, back @ (offset - bias)
            found.append((gain, offset, 1 / precision))
            noise = 1 / precision + (0 if own is None else own)
        return found

    def prior(self) -> TopDownPrior:
        links = []
        for weight, bias, variance in zip(self.weights[1:], self.biases[1:], self.variances, strict=True):
            link = nn.Linear(weight.shape[1], 2 * weight.shape[0], dtype=torch.float64)
            _set(link, torch.cat([weight, 0 * weight]), torch.cat([bias, variance.log()]))
            links.append(link)
        return TopDownPrior(links, layers=self.layers)

    def model(self, *, off: float = 0.0) -> VAE:
        """The model with its exact posterior, or one whose means and log-variances are this far off."""
        every = []
        for (gain, offset, noise), own in zip(self.seen(), [*self.variances, None], strict=True):
            prior = torch.ones_like(noise) if own is None else own  # the topmost layer is seen beside N(0, I)
            share = prior / (prior + noise)
            unit = share / prior.sqrt()
            every.append((unit[:, None] * gain, unit * offset, (1 - share if own is None else 1 / share - 1)))
        weight, bias, variance = (torch.cat(each) for each in zip(*every, strict=True))
        encoder = nn.Linear(weight.shape[1], 2 * len(weight), dtype=torch.float64)
        spread = torch.linspace(0.5, 1, len(weight)).double() * off
        _set(encoder, torch.cat([(1 - off) * weight, 0 * weight]), torch.cat([bias + spread, variance.log() + spread]))
        decoder = nn.Linear(len(weight), weight.shape[1], dtype=torch.float64)
        unseen = torch.zeros(weight.shape[1], len(weight) - self.layers[0]).double()
        _set(decoder, torch.cat([self.weights[0], unseen], 1), self.biases[0])
        prior = self.prior()
        return VAE(prior, TopDown(encoder, prior), Gaussian(decoder, scale=self.sigma)).double()


def linear_layers(*layers: int, observed: int = 5) -> LinearLayers:
    """A problem in general position, but for the columns that must be orthogonal."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weights, biases, variances, noise = [], [], [], torch.full((observed,), 0.7**2, dtype=torch.float64)
    for length in layers:
        size = torch.linspace(0.8, 1.7, length).double() * 1.3 ** len(weights)
        weights.append(noise.sqrt()[:, None] * torch.linalg.qr(normal(len(noise), length)).Q * size)
        biases.append(normal(len(noise)))
        variances.append(normal(length).exp() / 2)
        noise = 1 / size.square() + variances[-1]
    return LinearLayers(weights, biases, variances[:-1], sigma=0.7)


def draws_with(log_w: Tensor) -> Draws:
    """Draws of these log-weights, shape (K, B), all three log-densities other than zero."""
    log_pz, log_qz_x = torch.full_like(log_w, -2.0), torch.full_like(log_w, -0.5)
    return Draws(torch.zeros(*log_w.shape, 1), log_w - log_pz + log_qz_x, log_pz, log_qz_x)


def standard_error(values: Tensor, dim: int = 0) -> Tensor:
    """Standard error of the mean along ``dim``."""
    return values.std(dim) / math.sqrt(values.shape[dim])


def assert_mean(values: Tensor, expected: Tensor | float, *, errors: float = 4.0) -> None:
    """The mean along the first axis is the expected one, within so many of its own standard errors, and rounding."""
    off = (values.mean(0) - expected).abs()
    allowed = errors * standard_error(values) + 8 * torch.finfo(values.dtype).eps * values.abs().amax().clamp(min=1)
    assert (off <= allowed).all(), f"off by {off}, allowed {allowed}"
