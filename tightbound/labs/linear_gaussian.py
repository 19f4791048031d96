"""The model that labs know everything about: linear and Gaussian, better known as probabilistic PCA."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from tightbound.autoencoder import VAE
from tightbound.likelihoods import Gaussian
from tightbound.posteriors import Posterior
from tightbound.priors import StandardNormal

__all__ = ["BestLinear", "LinearGaussian", "affine"]


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    r"""p(z) = N(0, I), p(x | z) = N(W z + b, σ² I), so that p(x) and p(z | x) are normal as well.

    Attributes:
        weight: W, shape (D, L).
        bias: b, shape (D,).
        sigma: σ.

    Example:
        >>> one = LinearGaussian(torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64), sigma=1.0)
        >>> one.evidence.variance, one.covariance  # 1 + 1, and 1 / (1 + 1)
        (tensor([2.0000], dtype=torch.float64), tensor([[0.5000]], dtype=torch.float64))
    """

    weight: Tensor
    bias: Tensor
    sigma: float

    @property
    def latent(self) -> int:
        return self.weight.shape[1]

    @cached_property
    def evidence(self) -> MultivariateNormal:
        """p(x) = N(b, W Wᵀ + σ² I)."""
        noise = self.sigma**2 * torch.eye(len(self.bias), dtype=torch.float64)
        return MultivariateNormal(self.bias, self.weight @ self.weight.T + noise)

    @cached_property
    def precision(self) -> Tensor:
        """Of p(z | x): I + Wᵀ W / σ², the same at every x."""
        return torch.eye(self.latent, dtype=torch.float64) + self.weight.T @ self.weight / self.sigma**2

    @cached_property
    def covariance(self) -> Tensor:
        return torch.linalg.inv(self.precision)

    @property
    def gain(self) -> Tensor:
        """A of the posterior's mean A (x − b)."""
        return self.covariance @ self.weight.T / self.sigma**2

    def posterior(self, x: Tensor) -> MultivariateNormal:
        """p(z | x)."""
        return MultivariateNormal((x - self.bias) @ self.gain.T, self.covariance)

    def elbo(self, x: Tensor, q: MultivariateNormal) -> Tensor:
        """E_q log p(x | z) + E_q log p(z) + the entropy of q, each in closed form; log p(x) is in none of them."""
        m, s = q.mean, q.covariance_matrix
        missed = (x - self.bias - m @ self.weight.T).square().sum(-1)
        blurred = (self.weight @ s @ self.weight.T).diagonal(dim1=-2, dim2=-1).sum(-1)
        log_2pi, variance = math.log(2 * math.pi), self.sigma**2
        reconstruction = -0.5 * (len(self.bias) * (log_2pi + math.log(variance)) + (missed + blurred) / variance)
        prior = -0.5 * (self.latent * log_2pi + m.square().sum(-1) + s.diagonal(dim1=-2, dim2=-1).sum(-1))
        return reconstruction + prior + q.entropy()

    def model(self, posterior: Posterior) -> VAE:
        """The same as the library has it: a VAE with this posterior."""
        likelihood = Gaussian(affine(self.weight, self.bias), scale=self.sigma)
        return VAE(StandardNormal(self.latent), posterior, likelihood).double()


@dataclass(frozen=True, eq=False)
class BestLinear:
    r"""The least distortion + β · rate that linear-Gaussian VAEs can have on some data, whatever the data are.

    Decoder N(W z + b, σ² I) with σ fixed, posterior N(A (x − c), S), prior N(0, I): both terms depend on the data by
    their mean and covariance only. With λ₁ ≥ λ₂ ≥ … the covariance's eigenvalues, the minimum is *reverse
    water-filling* up to the level θ = β σ²:

    .. math:: \text{rate} = \sum_{i \le L} \tfrac12 \log^+ \frac{\lambda_i}{\theta}, \quad
              \text{mse} = \sum_{i \le L} \min(\lambda_i, \theta) + \sum_{i > L} \lambda_i, \quad
              \text{distortion} = \tfrac{D}{2} \log 2 \pi \sigma^2 + \frac{\text{mse}}{2 \sigma^2}

    A direction with λ above θ has a latent of its own, and the others have none. At β = 1 it is probabilistic PCA, and
    −distortion − rate is the log-likelihood.

    References:
        Cover, Thomas: Elements of Information Theory, section 10.3.3 (2006), https://doi.org/10.1002/047174882X;
        Lucas et al.: Don't Blame the ELBO! (2019), https://arxiv.org/abs/1911.02469; Alemi et al.: Fixing a Broken ELBO
        (2018), https://arxiv.org/abs/1711.00464.

    Attributes:
        variances: λ, shape (D,), falling.
        sigma: σ.
        latent: L.

    Example:
        >>> best = BestLinear(torch.tensor([4.0, 1.0, 0.25]), sigma=1.0, latent=2)
        >>> best.alive(1.0), round(best.rate(1.0), 4)  # half the logarithm of 4
        (1, 0.6931)
    """

    variances: Tensor
    sigma: float
    latent: int

    @classmethod
    def of(cls, x: Tensor, *, sigma: float, latent: int) -> BestLinear:
        """That of some observations.

        Args:
            x: shape (N, D).
            sigma: σ.
            latent: L; more than D are D.
        """
        centred = x.double() - x.double().mean(0)
        variances = torch.linalg.eigvalsh(centred.T @ centred / len(x)).flip(0).clamp(min=0)
        return cls(variances, sigma, min(latent, len(variances)))

    def alive(self, beta: float) -> int:
        """How many latents say something.

        Args:
            beta: β.
        """
        return int((self.variances[: self.latent] > beta * self.sigma**2).sum())

    def rate(self, beta: float) -> float:
        """In nats.

        Args:
            beta: β.
        """
        return float(0.5 * (self.variances[: self.alive(beta)] / (beta * self.sigma**2)).log().sum())

    def distortion(self, beta: float) -> float:
        """In nats.

        Args:
            beta: β.
        """
        alive = self.alive(beta)
        mse = alive * beta * self.sigma**2 + float(self.variances[alive:].sum())
        return 0.5 * len(self.variances) * math.log(2 * math.pi * self.sigma**2) + mse / (2 * self.sigma**2)


def affine(weight: Tensor, bias: Tensor) -> nn.Linear:
    """The network of one layer with these numbers."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer
