"""Draws from a posterior with their three log-densities: what every bound, gradient and diagnostic is a function of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

__all__ = ["Draws", "Relaxation"]


@dataclass(frozen=True, eq=False)
class Draws:
    r"""K draws :math:`z_k \sim q(z \mid x)` for each of B observations, with their log-densities in nats.

    Args:
        z: the draws, shape (K, B, \*latent).
        log_px_z: :math:`\log p(x \mid z)`, shape (K, B).
        log_pz: :math:`\log p(z)`, shape (K, B).
        log_qz_x: :math:`\log q(z \mid x)`, shape (K, B).

    Raises:
        ValueError: if z has fewer than two axes, or a log-density is not of shape (K, B).

    Example:
        >>> import torch
        >>> zeros = torch.zeros(2, 3)
        >>> Draws(z=torch.zeros(2, 3, 4), log_px_z=zeros, log_pz=zeros, log_qz_x=zeros).log_w.shape
        torch.Size([2, 3])
    """

    z: Tensor
    log_px_z: Tensor
    log_pz: Tensor
    log_qz_x: Tensor

    def __post_init__(self) -> None:
        expected = self.z.shape[:2]
        if len(expected) < 2:
            raise ValueError(f"Expected z of shape (K, B, *latent); got {tuple(self.z.shape)}.")
        for name, value in (("log_px_z", self.log_px_z), ("log_pz", self.log_pz), ("log_qz_x", self.log_qz_x)):
            if value.shape != expected:
                raise ValueError(
                    f"Expected {name} of shape (K, B) = {tuple(expected)}, as z {tuple(self.z.shape)} has it; got "
                    f"{tuple(value.shape)}. One log-density per draw: wrap the distribution in "
                    "torch.distributions.Independent so that it sums over the dimensions of one observation."
                )

    @property
    def log_w(self) -> Tensor:
        r"""Log importance weights :math:`\log p(x \mid z) + \log p(z) - \log q(z \mid x)`, shape (K, B), in nats."""
        return self.log_px_z + self.log_pz - self.log_qz_x

    def weighed(self, beta: float | Tensor) -> Draws:
        r"""The same draws with their rate counted β times.

        .. math:: \log w = \log p(x \mid z) + \beta \left(\log p(z) - \log q(z \mid x)\right)

        Args:
            beta: β, the weight of the rate.

        Returns:
            Draws whose ``log_pz`` and ``log_qz_x`` are multiplied by β.

        Example:
            >>> import torch
            >>> ones = torch.ones(1, 2)
            >>> Draws(z=torch.zeros(1, 2, 1), log_px_z=ones, log_pz=ones, log_qz_x=2 * ones).weighed(4.0).log_w
            tensor([[-3., -3.]])
        """
        if isinstance(beta, (int, float)) and beta == 1:
            return self
        return Draws(self.z, self.log_px_z, beta * self.log_pz, beta * self.log_qz_x)


class Relaxation(NamedTuple):
    """Hard codes and soft ones by the same noise, with the densities of the soft ones.

    Attributes:
        hard: bits or one-hot vectors, shape (K, B, \\*latent), without gradient.
        soft: the same relaxed, of the same shape, differentiable.
        log_pz: of the soft codes under the relaxed prior, shape (K, B), in nats.
        log_qz_x: of the soft codes under the relaxed posterior, shape (K, B), in nats.

    Example:
        >>> import torch, tightbound as tb
        >>> model = tb.VAE(
        ...     prior=tb.priors.Bernoulli(2),
        ...     posterior=tb.posteriors.Bernoulli(torch.nn.Linear(5, 2)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> made = model.relax(tb.Batch(torch.zeros(3, 5)), 4, temperature=0.5)
        >>> made.hard.shape, made.hard.unique(), made.soft.requires_grad
        (torch.Size([4, 3, 2]), tensor([0., 1.]), True)
    """

    hard: Tensor
    soft: Tensor
    log_pz: Tensor
    log_qz_x: Tensor
