"""Objectives of the aggregated posterior q(z), the mean of q(z | x) over the data: they look at a batch as a whole.

Each is the negative ELBO, its rate in closed form where there is one, with a penalty on all codes of the batch. What
they estimate from a batch is for training. Its constants differ from the true ones by nats: print the exact numbers of
``tb.evaluate.information`` instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal

from tightbound.batch import Batch, as_batch
from tightbound.divergences import pairwise_log_prob
from tightbound.gradients import Pathwise
from tightbound.model import Model
from tightbound.networks import MLP
from tightbound.objectives.loss import Loss, SecondPlayer, TrainingSet, at_least, parts_in_words
from tightbound.objectives.of_draws import negative_elbo

Kernel = Literal["squared-exponential", "inverse-multiquadratic"]
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the kernel, as shares of its width


@dataclass(frozen=True)
class TotalCorrelation:
    r"""Negative ELBO with more weight on the total correlation of the code: β-TCVAE.

    .. math:: \mathbb{E}_q[-\log p(x \mid z)] + \mathrm{KL}(q(z \mid x) \,\|\, p(z))
              + (\beta - 1)\, \mathrm{KL}(q(z) \,\|\, \prod_j q(z_j))

    :math:`\log q(z)` and :math:`\log q(z_j)` at a draw are logarithms of a weighted mean over the batch: the own
    posterior counts 1/N, every other one (N − 1) / (N (B − 1)). So the mean itself is exact on average, for any batch.
    The stratified weights of the paper give one of the others less than the rest; these are their mean over which one
    that is, with less noise.

    Args:
        beta: weight of the total correlation; the rest of the rate has weight 1.
        observations: N, in the training set; ``fit`` fills it in.
        samples: K, draws of each observation.

    Raises:
        ValueError: for a negative β, no samples or no observations; when called, without their number or for a batch
            of one.
        TypeError: when called, for a posterior whose dimensions are not independent, or whose draws have no path.

    References:
        Chen et al.: Isolating Sources of Disentanglement in VAEs (2018), https://arxiv.org/abs/1802.04942.

    Example:
        >>> TotalCorrelation(beta=6.0)
        TotalCorrelation(beta=6.0, observations=None, samples=1)
    """

    beta: float = 4.0
    observations: int | None = None
    samples: int = 1
    whole_batch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least("beta", self.beta, 0)
        at_least("samples", self.samples, 1)
        if self.observations is not None:
            at_least("observations", self.observations, 1)

    def fitted_to(self, model: Model, batch: Batch, observations: TrainingSet | None) -> TotalCorrelation:
        """With the number of observations that it is trained on, unless it was given one."""
        counted = None if observations is None else len(observations)
        return self if self.observations is not None else replace(self, observations=counted)

    def __call__(self, model: Model, batch: Batch, step: Tensor | None = None) -> Loss:
        batch, z, elbo = _drawn(model, batch, self.samples)
        q, count = _posterior(model, batch), _counted(self.observations)
        correlation = torch.stack([total_correlation(pairwise_log_prob(q, each), count) for each in z]).mean()
        return _penalised(elbo, "tc", correlation, self.beta - 1)


def total_correlation(log_q: Tensor, observations: int) -> Tensor:
    r"""Estimate of the total correlation from a batch, :math:`\overline{\log q(z) - \sum_j \log q(z_j)}`.

    Args:
        log_q: log-densities of every draw under every posterior by dimension, shape (B, B, L).
        observations: N.

    Returns:
        A scalar in nats, for training: it may be negative, and its constant is not that of the truth.

    Example:
        >>> independent = torch.zeros(3, 3, 2)
        >>> abs(float(total_correlation(independent, observations=100))) < 1e-6
        True
    """
    log_weight = _log_weights(len(log_q), observations, log_q)
    together = (log_q.sum(-1) + log_weight).logsumexp(1)
    apart = (log_q + log_weight[..., None]).logsumexp(1).sum(-1)
    return (together - apart).mean()


def _log_weights(size: int, observations: int, like: Tensor) -> Tensor:
    """Of each posterior of a batch at each draw, shape (B, B)."""
    others = (observations - 1) / (observations * (size - 1))
    weights = like.new_full((size, size), math.log(others) if others else -math.inf)
    return weights.fill_diagonal_(-math.log(observations))


@dataclass(frozen=True)
class DIP:
    r"""Negative ELBO with a penalty on the covariance of the code over the batch: DIP-VAE I and II.

    .. math:: -\text{ELBO} + \lambda_\text{off} \sum_{i \ne j} C_{ij}^2 + \lambda_\text{diag} \sum_i (C_{ii} - 1)^2

    C is the covariance of the posterior's mean over the batch ("means", DIP-VAE-I), or that of z, which is the former
    and the mean of the posteriors' covariances ("draws", DIP-VAE-II).

    Args:
        off_diagonal: λ_off.
        diagonal: λ_diag.
        of: whose covariance, "means" or "draws".
        samples: K, draws of each observation.

    Raises:
        ValueError: for negative weights, another word, or no samples; when called, for a batch of one.
        TypeError: when called, for a posterior without mean and variance, or whose draws have no path.

    References:
        Kumar, Sattigeri, Balakrishnan: Variational Inference of Disentangled Latent Concepts (2018),
        https://arxiv.org/abs/1711.00848.

    Example:
        >>> DIP(off_diagonal=10.0, diagonal=100.0, of="means")
        DIP(off_diagonal=10.0, diagonal=100.0, of='means', samples=1)
    """

    off_diagonal: float = 10.0
    diagonal: float = 10.0
    of: Literal["means", "draws"] = "draws"
    samples: int = 1
    whole_batch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("off_diagonal", "diagonal"):
            at_least(name, getattr(self, name), 0)
        at_least("samples", self.samples, 1)
        if self.of not in ("means", "draws"):
            raise ValueError(f"Expected of='means' (DIP-VAE-I) or of='draws' (DIP-VAE-II); got {self.of!r}.")

    def __call__(self, model: Model, batch: Batch, step: Tensor | None = None) -> Loss:
        batch, _, elbo = _drawn(model, batch, self.samples)
        covariance = _covariance(_posterior(model, batch), draws=self.of == "draws")
        diagonal = covariance.diagonal()
        off = covariance.square().sum() - diagonal.square().sum()
        penalty = self.off_diagonal * off + self.diagonal * (diagonal - 1).square().sum()
        return _penalised(elbo, "covariance", penalty, 1.0)


def _covariance(q: Distribution, *, draws: bool) -> Tensor:
    """Over the batch, of the posterior's mean or of z, shape (L, L)."""
    try:
        mean = q.mean
        each = q.covariance_matrix if isinstance(q, MultivariateNormal) else torch.diag_embed(q.variance)
    except NotImplementedError as error:
        raise TypeError(
            f"Expected a posterior whose mean and variance are known, as DIP needs; got {type(q).__name__}. Take "
            "DiagonalNormal."
        ) from error
    centred = mean - mean.mean(0)
    of_means = centred.mT @ centred / (len(mean) - 1)
    return of_means + each.mean(0) if draws else of_means


@dataclass(frozen=True)
class InfoVAE:
    r"""Distortion and rate with a maximum mean discrepancy between all codes and the prior: InfoVAE, MMD-VAE.

    .. math:: \mathbb{E}_q[-\log p(x \mid z)] + \beta\, \mathrm{KL}(q(z \mid x) \,\|\, p(z)) + \lambda\, \mathrm{MMD}^2

    The discrepancy is the unbiased estimate from the batch's draws and as many of the prior's. Its kernel is the mean
    over seven widths, 0.1 to 10 times the mean squared distance of two draws of the prior. In the paper's letters β is
    1 − α and λ is α + λ − 1.

    Args:
        mmd: λ, weight of the discrepancy.
        beta: of the rate; 0 is MMD-VAE, which need not tell little of each observation to be near the prior as a whole.
        kernel: "squared-exponential", or "inverse-multiquadratic", whose tails are heavier.
        samples: K, draws of each observation.

    Raises:
        ValueError: for negative weights, another kernel, or no samples; when called, for a batch of one.
        TypeError: when called, for a model without a prior to draw from, or whose prior it would not train; or for a
            posterior whose draws have no path.

    References:
        Zhao, Song, Ermon: InfoVAE (2019), https://arxiv.org/abs/1706.02262; Gretton et al.: A Kernel Two-Sample Test
        (2012), https://jmlr.org/papers/v13/gretton12a.html.

    Example:
        >>> InfoVAE(mmd=100.0)
        InfoVAE(mmd=100.0, beta=0.0, kernel='squared-exponential', samples=1)
    """

    mmd: float = 1000.0
    beta: float = 0.0
    kernel: Kernel = "squared-exponential"
    samples: int = 1
    whole_batch: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("mmd", "beta"):
            at_least(name, getattr(self, name), 0)
        at_least("samples", self.samples, 1)
        if self.kernel not in get_args(Kernel):
            raise ValueError(f"Expected a kernel of {' or '.join(get_args(Kernel))}; got {self.kernel!r}.")

    def __call__(self, model: Model, batch: Batch, step: Tensor | None = None) -> Loss:
        batch, z, elbo = _drawn(model, batch, self.samples, beta=self.beta)
        prior = _prior(model, trained=self.beta > 0)
        shape = torch.Size([batch.size])
        theirs = prior.rsample(shape) if prior.has_rsample else prior.sample(shape)
        width = 2 * prior.variance.sum().detach()
        apart = torch.stack([discrepancy(each, theirs, self.kernel, width) for each in z]).mean()
        return _penalised(elbo, "mmd", apart, self.mmd)


def WAE(mmd: float = 1000.0, *, samples: int = 1) -> InfoVAE:
    r"""Wasserstein autoencoder with a maximum mean discrepancy: ``InfoVAE`` without a rate, with heavy tails.

    Its cost is minus log p(x | z): with a Gaussian likelihood of fixed σ a squared distance. The paper's encoder has no
    noise; this one's is what the model has.

    Args:
        mmd: λ, weight of the discrepancy.
        samples: K, draws of each observation.

    References:
        Tolstikhin et al.: Wasserstein Auto-Encoders (2018), https://arxiv.org/abs/1711.01558.

    Example:
        >>> WAE(10.0).kernel
        'inverse-multiquadratic'
    """
    return InfoVAE(mmd=mmd, beta=0.0, kernel="inverse-multiquadratic", samples=samples)


def discrepancy(first: Tensor, second: Tensor, kernel: Kernel, width: Tensor | float) -> Tensor:
    r"""Unbiased estimate of the squared maximum mean discrepancy between two sets of points.

    .. math:: \overline{k(a_i, a_j)}_{i \ne j} + \overline{k(b_i, b_j)}_{i \ne j} - 2\, \overline{k(a_i, b_j)}

    The kernel is the mean over scales s of :math:`\exp(-d^2 / s w)` or :math:`s w / (s w + d^2)`, between 0 and 1.

    Args:
        first: shape (M, L).
        second: shape (N, L).
        kernel: its name.
        width: w, in squared units of z.

    Returns:
        A scalar, which may be negative.

    Example:
        >>> apart = discrepancy(torch.zeros(5, 2), 100 + torch.zeros(5, 2), "squared-exponential", 2.0)
        >>> round(float(apart), 4)
        2.0
    """
    within = [_kernel(points, points, kernel, width) for points in (first, second)]
    means = [(k.sum() - k.diagonal().sum()) / (len(k) * (len(k) - 1)) for k in within]
    return means[0] + means[1] - 2 * _kernel(first, second, kernel, width).mean()


def _kernel(first: Tensor, second: Tensor, kernel: Kernel, width: Tensor | float) -> Tensor:
    squares = (first[:, None] - second).square().sum(-1)
    scaled = [scale * width for scale in SCALES]
    if kernel == "squared-exponential":
        return torch.stack([torch.exp(-squares / each) for each in scaled]).mean(0)
    return torch.stack([each / (each + squares) for each in scaled]).mean(0)


class FactorVAE(nn.Module):
    r"""Negative ELBO with the total correlation told by a discriminator, which is the second player.

    .. math:: -\text{ELBO} + \gamma\, \overline{\log \frac{D(z)}{1 - D(z)}}

    D learns to tell codes from codes whose dimensions were each permuted over the batch, as if they were independent.
    Its logit is then an estimate of the log-ratio whose mean is the total correlation. The gradient of the loss never
    reaches it, and its own never reaches the model.

    Args:
        gamma: γ, weight of the total correlation.
        latent_dim: L, of the model that is trained; ``fit`` fills it in.
        width: of the discriminator's hidden layers.
        depth: how many there are.
        learning_rate: of the discriminator's Adam.

    Raises:
        ValueError: for a negative γ, or sizes below 1; when called, for a latent of another length or a batch of one.
        TypeError: when called, for a posterior whose draws have no path.

    References:
        Kim, Mnih: Disentangling by Factorising (2018), https://arxiv.org/abs/1802.05983. They permute codes of a
        second batch; here it is the same one, without its gradient.

    Example:
        >>> FactorVAE(6.4, latent_dim=10).second_player.learning_rate
        0.0001
    """

    whole_batch: ClassVar[bool] = True

    def __init__(
        self,
        gamma: float = 10.0,
        *,
        latent_dim: int | None = None,
        width: int = 256,
        depth: int = 3,
        learning_rate: float = 1e-4,
    ) -> None:
        super().__init__()
        at_least("gamma", gamma, 0)
        for name, value in (("latent_dim", latent_dim), ("width", width), ("depth", depth)):
            at_least(name, 1 if value is None else value, 1)
        self.gamma, self.latent_dim, self.width, self.depth = gamma, latent_dim, width, depth
        # Of a latent whose length is not known yet it is one of a single number, and is not used.
        self.discriminator = MLP((latent_dim or 1,), (1,), hidden=[width] * depth, act="silu")
        self.second_player = SecondPlayer(self.discriminator, learning_rate=learning_rate, betas=(0.5, 0.9))

    def fitted_to(self, model: Model, batch: Batch, observations: TrainingSet | None) -> FactorVAE:
        """With a discriminator for the model's latent, unless it was given its length."""
        if self.latent_dim is not None:
            return self
        with torch.no_grad():
            z, _ = model.propose(batch, 1)
        rate = self.second_player.learning_rate
        return FactorVAE(self.gamma, latent_dim=z[0, 0].numel(), width=self.width, depth=self.depth, learning_rate=rate)

    def __call__(self, model: Model, batch: Batch, step: Tensor | None = None) -> Loss:
        return super().__call__(model, batch, step)

    def forward(self, model: Model, batch: Batch, step: Tensor | None = None) -> Loss:
        batch, draws, elbo = _drawn(model, batch, 1)
        z = draws[0]
        if z.shape[1:] != (self.latent_dim,):
            raise ValueError(
                f"Expected a latent of length {self.latent_dim}, as FactorVAE was made for; got {tuple(z.shape[1:])}. "
                "fit fills it in; elsewhere write FactorVAE(latent_dim=...)."
            )
        correlation = self.discriminator(z).mean()
        codes = z.detach()
        order = torch.rand(codes.shape, device=codes.device).argsort(0)
        real, permuted = self.discriminator(codes), self.discriminator(codes.gather(0, order))
        second = 0.5 * (F.softplus(-real).mean() + F.softplus(permuted).mean())
        return replace(_penalised(elbo, "tc", correlation, self.gamma), second=second)


def _drawn(model: Model, batch: Batch, samples: int, *, beta: float = 1.0) -> tuple[Batch, Tensor, Loss]:
    """The encoded batch, draws with a path, shape (K, B, L), and the negative ELBO of the same draws."""
    batch = model.encoded(as_batch(batch))
    if batch.size < 2:
        raise ValueError(
            "Expected a batch of at least 2 observations, as this objective compares them; got 1. Take a larger "
            "batch_size."
        )
    if batch.q is not None and not batch.q.has_rsample:
        raise TypeError(
            f"Expected a posterior whose draws have a path to its parameters; got {parts_in_words(model)}. Take "
            "DiagonalNormal."
        )
    elbo, draws = negative_elbo(model, batch, Pathwise(), samples=samples, closed=model.rate(batch), beta=beta)
    return batch, draws.z, elbo


def _penalised(elbo: Loss, name: str, penalty: Tensor, weight: float) -> Loss:
    return Loss(elbo.value + weight * penalty, {**elbo.terms, name: penalty.detach()})


def _posterior(model: Model, batch: Batch) -> Distribution:
    if batch.q is None:
        raise TypeError(
            f"Expected a model that gives its posterior as a distribution; got {type(model).__name__}. Override "
            "Model.encoded."
        )
    return batch.q


def _prior(model: Model, *, trained: bool) -> Distribution:
    """The prior, to draw from; ``trained`` says whether something else trains its parameters."""
    prior = getattr(model, "prior", None)
    if not callable(prior):
        raise TypeError(f"Expected a model with a prior to draw from; got {type(model).__name__}. Take VAE.")
    made = prior()
    if not trained and not made.has_rsample and any(p.requires_grad for p in getattr(prior, "parameters", list)()):
        raise TypeError(
            "Expected a prior without parameters, or one whose draws have a path to them; got "
            f"{parts_in_words(model)}, whose prior nothing would train. Take StandardNormal, or beta above 0."
        )
    return made


def _counted(observations: int | None) -> int:
    if observations is None:
        raise ValueError(
            "Expected the number of training observations; got none. fit fills it in; elsewhere write "
            "TotalCorrelation(observations=len(data))."
        )
    return observations
