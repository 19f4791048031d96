"""What every likelihood p(x | z) is, and the one value that stands for a distribution."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch.distributions as td
from torch import Tensor

from tightbound import distributions
from tightbound.conditional import Networked
from tightbound.support import require_support

__all__ = ["Likelihood", "point_estimate"]


class Likelihood(Networked, ABC):
    """p(x | z), elements of x independent given z."""

    parameters_per_element: int = 1
    is_normalised: bool = True  # whether it sums or integrates to one over x

    def forward(self, context: Tensor | None = None) -> td.Independent:
        if context is None:
            raise TypeError("Expected latents z of shape (..., latent); got None. A likelihood is conditional on z.")
        lead = context.ndim - 1
        elements = self.elements(self.outputs(context, lead=lead), lead)
        return distributions.independent(elements, len(elements.batch_shape) - lead)

    def log_prob(self, value: Tensor, context: Tensor | None = None, *, frozen: bool = False) -> Tensor:
        r"""log p(x | z), its support checked first; see :meth:`Conditional.log_prob`.

        Args:
            value: x, shape (\*batch, \*shape).
            context: z, shape (\*batch, latent).
            frozen: whether parameters are held constant; the support is not checked then.

        Returns:
            Log-densities, shape (\*batch), in nats.

        Raises:
            ValueError: for values outside the support.
        """
        if frozen:
            return super().log_prob(value, context, frozen=True)
        p = self(context)
        require_support(p, value, likelihood=type(self).__name__)
        return p.log_prob(value)

    @abstractmethod
    def elements(self, out: Tensor, lead: int) -> td.Distribution:
        """The distribution of each element, given the network's output.

        Pass ``validate_args=False`` to it, or steps and evaluations of the model cannot be compiled.

        Args:
            out: the network's output behind ``lead`` axes of draws and observations.
            lead: how many those are.

        Returns:
            A distribution whose batch shape is those axes and the shape of one observation.
        """

    def initial_output(self, mean: Tensor) -> Tensor:
        """The network output at which x has this mean: where training best begins.

        Args:
            mean: of one observation, in the data's unit, shape of an observation.

        Returns:
            Shape of one output of the network.
        """
        return mean

    def extra_repr(self) -> str:
        return f"parameters_per_element={self.parameters_per_element}"


def point_estimate(distribution: td.Distribution) -> Tensor:
    """The one value that stands for a distribution: its mean, or for categories, which have none, the likeliest one.

    Args:
        distribution: of one observation, or of its elements.

    Returns:
        Values of shape (\\*batch, \\*event).

    Example:
        >>> import torch
        >>> point_estimate(td.Normal(torch.tensor(2.0), torch.tensor(1.0)))
        tensor(2.)
    """
    base = distribution.base_dist if isinstance(distribution, td.Independent) else distribution
    if isinstance(base, distributions.Columns):
        return base.of_each(point_estimate)
    return base.mode.to(base.logits.dtype) if isinstance(base, td.Categorical) else base.mean
