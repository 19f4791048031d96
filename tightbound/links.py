"""A layer of latents given the one above it, as prior and posterior share it."""

from __future__ import annotations

import torch
import torch.distributions as td
import torch.nn.functional as F
from torch import Tensor, nn

from tightbound import distributions
from tightbound.conditional import bounded, outputs_of


class Link:
    r"""Independent normals whose mean μ and log-variance log σ² are what a network makes of the layer above.

    With ``seen``, what an observation says of the layer, a pull d and a log-variance v in units of σ and σ², they are

    .. math:: \mathcal{N}(\kappa \mu + d \sigma, \; \kappa \sigma^2), \qquad \kappa = \frac{1}{1 + e^{-v}}

    That is Bayes' rule where x speaks of each latent by a factor :math:`\mathcal{N}(m \mid z, e^v \sigma^2)`, with
    :math:`d = (1 - \kappa) m / \sigma`: precisions add up. Where v is large and d = 0, x says nothing, and the layer
    stays as the one above has it. In units of σ what x says counts the same however wide the network makes the layer.

    References:
        Sønderby et al.: Ladder Variational Autoencoders (2016), https://arxiv.org/abs/1602.02282, for the product;
        Vahdat, Kautz: NVAE (2020), https://arxiv.org/abs/2007.03898, for the prior's units.

    Args:
        network: from the layer above to (…, 2·length): mean, then log-variance.
        length: of the layer.
        seen: d and v, each of shape (B, length); None for the prior.
        temperature: what the standard deviations are multiplied by.

    Example:
        >>> link = Link(nn.Linear(2, 6), 3)
        >>> link(torch.zeros(7, 5, 2)).batch_shape, link(torch.zeros(2)).event_shape
        (torch.Size([7, 5]), torch.Size([3]))
    """

    def __init__(
        self, network: nn.Module, length: int, *, seen: tuple[Tensor, Tensor] | None = None, temperature: float = 1.0
    ) -> None:
        self.network, self.length, self.seen, self.temperature = network, length, seen, temperature

    def __call__(self, above: Tensor) -> td.Independent:
        """The normals.

        Args:
            above: shape (\\*axes, length of the layer above).

        Raises:
            ValueError: for a network whose output is not of the right length.
        """
        lead = above.ndim - 1
        out = outputs_of(self.network, above, lead=lead) if lead else outputs_of(self.network, above[None])[0]
        if out.shape[-1] != 2 * self.length:
            raise ValueError(
                f"Expected a network giving (..., {2 * self.length}): mean, then log-variance, of a layer of "
                f"{self.length} below one of {above.shape[-1]}; got (..., {out.shape[-1]}). "
                f"For example: tb.networks.MLP(({above.shape[-1]},), ({2 * self.length},))."
            )
        mean, log_variance = out.chunk(2, -1)
        log_variance = bounded(log_variance)
        if self.seen is not None:
            pull, seen_log_variance = self.seen[0], bounded(self.seen[1])
            mean = torch.sigmoid(seen_log_variance) * mean + pull * torch.exp(0.5 * log_variance)
            log_variance = log_variance + F.logsigmoid(seen_log_variance)
        scale = self.temperature * torch.exp(0.5 * log_variance)
        return distributions.independent(distributions.Normal(mean, scale, validate_args=False))

    def held(self) -> Link:
        """The same with what x says held constant; the network, which is the prior's, is not."""
        return self if self.seen is None else self._seeing(*(part.detach() for part in self.seen))

    def pulled(self, share: Tensor) -> Link:
        """The same for each draw, with a share of the gradient for what x says.

        Args:
            share: shape (K, B).
        """
        if self.seen is None:
            return self
        return self._seeing(*(distributions.pulled(part, share[..., None]) for part in self.seen))

    def _seeing(self, pull: Tensor, log_variance: Tensor) -> Link:
        return Link(self.network, self.length, seen=(pull, log_variance), temperature=self.temperature)
