"""Posteriors q(z | x): distributions of the latent given an observation."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
import torch.distributions as td
from torch import Tensor

from tightbound.conditional import Networked


class Posterior(Networked, ABC):
    """q(z | x), z a vector."""

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


class DiagonalNormal(Posterior):
    r"""Independent normals: :math:`q(z \mid x) = \mathcal{N}(\mu(x), \operatorname{diag} \sigma^2(x))`.

    References:
        Kingma, Welling: Auto-Encoding Variational Bayes (2013), https://arxiv.org/abs/1312.6114.

    Args:
        network: x to (…, 2·latent): mean, then log-variance.

    Raises:
        ValueError: when used, if the network's last axis is odd.

    Example:
        >>> from torch import nn
        >>> DiagonalNormal(nn.Linear(5, 4))(torch.zeros(3, 5)).event_shape
        torch.Size([2])
    """

    def latent(self, out: Tensor) -> td.Independent:
        if out.shape[-1] % 2:
            raise ValueError(
                f"Expected a network giving (..., 2 * latent): mean, then log-variance; got (..., {out.shape[-1]})."
            )
        mean, log_variance = out.chunk(2, -1)
        normal = td.Normal(mean, torch.exp(0.5 * log_variance), validate_args=False)
        return td.Independent(normal, 1, validate_args=False)

    @staticmethod
    def outputs_for(latent_dim: int) -> int:
        return 2 * latent_dim


class FullNormal(Posterior):
    r"""A normal with full covariance: :math:`q(z \mid x) = \mathcal{N}(\mu(x), L(x) L(x)^\top)`.

    Args:
        network: x to (…, L + L(L+1)/2): mean, then the rows of the lower triangle, its diagonal as logarithms.

    Raises:
        ValueError: when used, if the network's last axis is of no such form.

    Example:
        >>> from torch import nn
        >>> FullNormal(nn.Linear(5, 5))(torch.zeros(3, 5)).event_shape
        torch.Size([2])
    """

    def latent(self, out: Tensor) -> td.MultivariateNormal:
        size = round((math.sqrt(9 + 8 * out.shape[-1]) - 3) / 2)
        if self.outputs_for(size) != out.shape[-1]:
            raise ValueError(
                "Expected a network giving (..., L + L(L+1)/2): mean, then the lower triangle; "
                f"got (..., {out.shape[-1]}), which is no such number for any L."
            )
        mean, triangle = out.split([size, out.shape[-1] - size], -1)
        row, column = torch.tril_indices(size, size, device=out.device)
        factor = out.new_zeros(*mean.shape, size)
        on_diagonal = row == column  # exponentials of the rest could overflow, and would spoil the gradient
        factor[..., row, column] = torch.where(on_diagonal, torch.where(on_diagonal, triangle, 0).exp(), triangle)
        return td.MultivariateNormal(mean, scale_tril=factor, validate_args=False)

    @staticmethod
    def outputs_for(latent_dim: int) -> int:
        return latent_dim + latent_dim * (latent_dim + 1) // 2
