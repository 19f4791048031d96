"""A layer of latents given the one above it, as prior and posterior share it."""

from __future__ import annotations

import torch
import torch.distributions as td
import torch.nn.functional as F
from torch import Tensor, nn

from tightbound import distributions
from tightbound.conditional import Held, bounded, outputs_of


class Link:
    r"""Independent normals whose mean and log-variance are what a network makes of the layer above.

    With ``seen``, what an observation says of the layer, they are multiplied by normals of that mean and log-variance:
    precisions add up, and the mean is theirs weighted by them. That is Bayes' rule where the likelihood's factor of
    each latent is a normal, and a layer of which x says nothing stays as the layer above has it.

    References:
        Sønderby et al.: Ladder Variational Autoencoders (2016), https://arxiv.org/abs/1602.02282.

    Args:
        network: from the layer above to (…, 2·length): mean, then log-variance.
        length: of the layer.
        seen: mean and log-variance, each of shape (B, length); None for the prior.
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
            seen_mean, seen_log_variance = self.seen
            apart = log_variance - bounded(seen_log_variance)
            mean = mean + torch.sigmoid(apart) * (seen_mean - mean)
            log_variance = log_variance + F.logsigmoid(-apart)
        scale = self.temperature * torch.exp(0.5 * log_variance)
        return distributions.independent(distributions.Normal(mean, scale, validate_args=False))

    def held(self) -> Link:
        """The same of constants: a gradient flows through the layer above alone."""
        seen = None if self.seen is None else (self.seen[0].detach(), self.seen[1].detach())
        return Link(Held(self.network), self.length, seen=seen, temperature=self.temperature)
