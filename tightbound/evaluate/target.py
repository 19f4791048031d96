"""log p(x, z) as a function of an unconstrained vector, and its slope: what moves latents of one observation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import biject_to, constraints
from torch.func import grad

from tightbound.batch import Batch
from tightbound.distributions import Part
from tightbound.evaluate.accelerate import Accelerated, Graph


class Target:
    r"""The density that a proposal is fitted to and a Markov chain walks on: :math:`\log p(x, T(u)) + \log |T'(u)|`.

    A real latent is its own u. A positive one is :math:`z = e^u`, and so for every support that torch knows a map to.

    Args:
        joint: the model's log p(x | z) and log p(z).
        latent: shape of z, for one observation.
        parts: what it is made of; none where nobody knows, and then all of it is taken for real numbers.

    Example:
        >>> import tightbound as tb
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> target = Target(Accelerated(model, torch.float32, compile=False), torch.Size([2]))
        >>> value, slope = target.slope(Batch(torch.zeros(3, 5)), torch.zeros(7, 3, 2))
        >>> value.shape, slope.shape
        (torch.Size([7, 3]), torch.Size([7, 3, 2]))
    """

    def __init__(self, joint: Accelerated, latent: torch.Size, parts: Sequence[Part] = ()) -> None:
        self.joint, self.latent, self.dim = joint, latent, latent.numel()
        supports = [part.support or constraints.real for part in parts]
        self._lengths = [part.length for part in parts]
        self._maps = None if all(map(_is_real, supports)) else [biject_to(support) for support in supports]
        # What is not compiled does without torch.func, which loads the compiler: 2 s.
        first, self._other = self._slope_of, self._slope_of_traced
        if joint.compile:
            first, self._other = self._other, first
        self._slope = Graph(first, compile=joint.compile)

    def to_latent(self, u: Tensor) -> Tensor:
        r"""z = T(u): shape (K, B, \*latent) from (K, B, D)."""
        return self._mapped(u)[0].unflatten(-1, self.latent)

    def from_latent(self, z: Tensor) -> Tensor:
        r"""u of a latent: shape (K, B, D) from (K, B, \*latent)."""
        z = z.flatten(2)
        if self._maps is None:
            return z
        pieces = zip(self._maps, z.split(self._lengths, -1), strict=True)
        return torch.cat([each.inv(piece) for each, piece in pieces], -1)

    def log_slopes(self, u: Tensor) -> Tensor:
        """log |T'(u)|, shape (K, B): what a density over u has more than one over z."""
        return self._mapped(u)[1]

    def __call__(self, batch: Batch, u: Tensor) -> Tensor:
        """The log-density at u, shape (K, B), in nats; −∞ where it is not a number."""
        z, log_slope = self._mapped(u)
        log_px_z, log_pz = self.joint(batch, z.unflatten(-1, self.latent))
        return _known(log_px_z + log_pz + log_slope)

    def slope(self, batch: Batch, u: Tensor) -> tuple[Tensor, Tensor]:
        """The log-density at u and its gradient there, shapes (K, B) and (K, B, D); a gradient that is no number is 0.

        Args:
            batch: B observations.
            u: shape (K, B, D).
        """
        try:
            value, slope = self._slope(batch, u)
        except RuntimeError:  # a model that torch.func cannot trace, or weights that autograd cannot keep
            self._slope = Graph(self._other, compile=False)
            value, slope = self._slope(batch, u)
        return _known(value), torch.nan_to_num(slope, 0.0, 0.0, 0.0)

    def _mapped(self, u: Tensor) -> tuple[Tensor, Tensor]:
        if self._maps is None:
            return u, u.new_zeros(u.shape[:2])
        z, log_slope = [], u.new_zeros(u.shape[:2])
        for each, piece in zip(self._maps, u.split(self._lengths, -1), strict=True):
            made = each(piece)
            own = each.log_abs_det_jacobian(piece, made)
            log_slope = log_slope + (own if own.ndim == 2 else own.flatten(2).sum(-1))
            z.append(made)
        return torch.cat(z, -1), log_slope

    def _plainly(self, batch: Batch, u: Tensor) -> Tensor:
        z, log_slope = self._mapped(u)
        log_px_z, log_pz = self.joint.plainly(batch, z.unflatten(-1, self.latent))
        return log_px_z + log_pz + log_slope

    def _slope_of_traced(self, batch: Batch, u: Tensor) -> tuple[Tensor, Tensor]:
        def total(u: Tensor) -> tuple[Tensor, Tensor]:
            values = self._plainly(batch, u)
            return values.sum(), values

        slope, values = grad(total, has_aux=True)(u)
        return values, slope

    def _slope_of(self, batch: Batch, u: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            values = self._plainly(batch, u)
            (slope,) = torch.autograd.grad(values.sum(), u)
        return values.detach(), slope


def _is_real(support: constraints.Constraint) -> bool:
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return isinstance(support, type(constraints.real))


def _known(values: Tensor) -> Tensor:
    return torch.where(values.isnan() | (values == torch.inf), -torch.inf, values)
