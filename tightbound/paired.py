"""A VAE of pairs that share some of their factors: what they share has one posterior."""

from __future__ import annotations

import torch
from torch import Tensor

from tightbound.autoencoder import VAE
from tightbound.batch import Batch
from tightbound.distributions import Normal, independent
from tightbound.divergences import kl_per_dimension
from tightbound.model import Model
from tightbound.posteriors import DiagonalNormal
from tightbound.support import require_support

__all__ = ["PairedVAE"]


class PairedVAE(Model):
    r"""A model of pairs (x₁, x₂), each with a latent of its own, whose posteriors are one where the pair is alike.

    Which dimensions a pair shares is told by its two posteriors: those whose divergence
    :math:`\delta_j = \mathrm{KL}(q(z_{1j} \mid x_1) \,\|\, q(z_{2j} \mid x_2))` lies below the middle between the
    least and the largest (Ada-GVAE), or a number of them, the least divergent ones. There both posteriors become
    their mean: of means, and of variances. So dimensions are pressed to be those that pairs share or change, which is
    what makes known factors identifiable, where a single observation does not.

    Its bound is that of log p(x₁) + log p(x₂), in nats per pair, and an objective of single observations trains it.
    The VAE inside is the model of one observation, trained along.

    Args:
        vae: with a posterior of independent normals.
        shared: how many dimensions a pair shares; by default each pair's own number.

    Raises:
        TypeError: for another posterior.
        ValueError: for a negative number; when used, for observations that are no pairs.

    References:
        Locatello et al.: Weakly-Supervised Disentanglement Without Compromises (2020),
        https://arxiv.org/abs/2002.02886; Hosoya: Group-based Learning of Disentangled Representations with
        Generalizability for Novel Contents (2019), https://www.ijcai.org/proceedings/2019/348.

    Example:
        >>> import tightbound as tb
        >>> vae = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> PairedVAE(vae).draw(torch.zeros(3, 2, 5), samples=7).z.shape
        torch.Size([7, 3, 2, 2])
    """

    def __init__(self, vae: VAE, *, shared: int | None = None) -> None:
        super().__init__()
        if not isinstance(vae.posterior, DiagonalNormal):
            raise TypeError(
                f"Expected a VAE with the posterior DiagonalNormal, whose dimensions can be shared one by one; got "
                f"{type(vae.posterior).__name__}."
            )
        if shared is not None and shared < 0:
            raise ValueError(f"Expected shared of 0 or more dimensions; got {shared}.")
        self.vae, self.shared = vae, shared

    def encoded(self, batch: Batch) -> Batch:
        if batch.q is not None:
            return batch
        if batch.x.ndim < 3 or batch.x.shape[1] != 2:
            raise ValueError(
                f"Expected pairs, shape (B, 2, *shape); got {tuple(batch.x.shape)}. Make them with tb.data.pairs."
            )
        q = self.vae.posterior(batch.x.flatten(0, 1))
        mean, scale = (each.unflatten(0, (-1, 2)) for each in (q.base_dist.loc, q.base_dist.scale))
        own, other = (independent(Normal(mean[:, i], scale[:, i], validate_args=False)) for i in (0, 1))
        alike = self._alike(kl_per_dimension(own, other))[:, None]
        variance = scale.square()
        mean = torch.where(alike, mean.mean(1, keepdim=True), mean)
        variance = torch.where(alike, variance.mean(1, keepdim=True), variance)
        return batch._replace(q=independent(Normal(mean, variance.sqrt(), validate_args=False), 2))

    def _alike(self, divergence: Tensor) -> Tensor:
        """Which dimensions each pair shares, shape (B, L)."""
        if self.shared is None:
            middle = (divergence.amax(1, keepdim=True) + divergence.amin(1, keepdim=True)) / 2
            return divergence < middle
        return divergence.argsort(1).argsort(1) < self.shared

    def propose(self, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
        q = self.encoded(batch).q
        z: Tensor = q.rsample(torch.Size([samples]))  # type: ignore[union-attr]
        return z, q.log_prob(z)  # type: ignore[union-attr]

    def log_joint(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
        p = self.vae.likelihood(z)
        if not batch.checked:
            require_support(p, batch.x, likelihood=type(self.vae.likelihood).__name__)
        return p.log_prob(batch.x).sum(-1), self.vae.prior().log_prob(z).sum(-1)

    def log_posterior(self, batch: Batch, z: Tensor, *, frozen: bool = False) -> Tensor:
        q = self.encoded(batch).q
        if frozen:
            base = q.base_dist  # type: ignore[union-attr]
            q = independent(Normal(base.loc.detach(), base.scale.detach(), validate_args=False), 2)
        return q.log_prob(z)  # type: ignore[union-attr]

    def rate(self, batch: Batch) -> Tensor | None:
        base = self.encoded(batch).q.base_dist  # type: ignore[union-attr]
        try:
            return kl_per_dimension(independent(base), self.vae.prior()).sum((-2, -1))
        except TypeError:
            return None

    def posterior_mean(self, batch: Batch) -> Tensor | None:
        return self.encoded(batch).q.mean  # type: ignore[union-attr]

    @property
    def is_normalised(self) -> bool:
        return self.vae.is_normalised
