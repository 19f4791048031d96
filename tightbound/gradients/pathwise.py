"""Gradients along a path z = g(ε), for real numbers: the whole of it, or without the part that is only noise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tightbound.batch import Batch
from tightbound.bounds import BoundFunction
from tightbound.draws import Draws
from tightbound.gradients.gradient import Gradient
from tightbound.model import Model


@dataclass(frozen=True)
class Pathwise(Gradient):
    r"""The gradient of the bound as it stands, through reparameterised draws :math:`z = g(\epsilon; x)`.

    References:
        Kingma, Welling: Auto-Encoding Variational Bayes (2013), https://arxiv.org/abs/1312.6114.

    Raises:
        TypeError: when called, for a posterior that cannot be reparameterised.

    Example:
        >>> Pathwise()
        Pathwise()
    """

    def __call__(
        self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int, step: Tensor | None = None
    ) -> tuple[Tensor, Draws]:
        z, log_qz_x = model.propose(batch, samples)
        _require_reparameterised(model, batch, z, log_qz_x, self)
        draws = Draws(z, *model.log_joint(batch, z), log_qz_x)
        return bound(draws), draws


@dataclass(frozen=True)
class StickingTheLanding(Gradient):
    r"""The pathwise gradient without the part whose mean is zero: log q(z | x) moves with z, not with q's parameters.

    Of the gradient of :math:`\mathbb{E}_q[\log p(x, z) - \log q(z \mid x)]` the part
    :math:`\mathbb{E}_q[\nabla_\phi \log q_\phi(z \mid x)]` is 0 and only adds noise. Without it the gradient has the
    same mean, and no variance at all where q is the true posterior. For bounds other than the ELBO the part is not 0,
    and leaving it out adds a bias.

    Networks that q shares with the prior, as layers of latents do, keep their part: it cancels most of their noise in
    log p(z).

    References:
        Roeder, Wu, Duvenaud: Sticking the Landing (2017), https://arxiv.org/abs/1703.09194.

    Raises:
        TypeError: when called, for a posterior that cannot be reparameterised.

    Example:
        >>> StickingTheLanding()
        StickingTheLanding()
    """

    def __call__(
        self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int, step: Tensor | None = None
    ) -> tuple[Tensor, Draws]:
        z, log_qz_x = model.propose(batch, samples)
        _require_reparameterised(model, batch, z, log_qz_x, self)
        draws = Draws(z, *model.log_joint(batch, z), model.log_posterior(batch, z, frozen=True))
        return bound(draws), draws


@dataclass(frozen=True)
class DoublyReparameterised(Gradient):
    r"""The pathwise gradient of a bound of log-weights without the part that only adds noise, and with the same mean.

    A bound of K draws pulls each draw along its path as hard as that draw counts, :math:`a_k`; the score part that
    :class:`StickingTheLanding` leaves out is, for bounds other than the ELBO, not 0. Reparameterised once more it
    becomes a pull along the same path, and the two together are

    .. math:: a_k - \frac{\partial a_k}{\partial \log w_k}

    which for the importance-weighted bound is :math:`\tilde{w_k}^2` and for the ELBO 1/K, sticking the landing's. Its
    signal stands far higher above its noise than the plain gradient's; in many dimensions it sinks too as K grows.
    Networks that q shares with the prior get the plain gradient (:meth:`~tightbound.model.Model.pulled`).

    The bound must be a function of :math:`\log p(x \mid z) + \beta (\log p(z) - \log q(z \mid x))`, as those of
    :mod:`tightbound.bounds` are. It costs one more pass through the decoder, without gradient; a decoder that is random
    itself, such as one with dropout, is not the same in both passes.

    References:
        Tucker, Lawson, Gu, Maddison: Doubly Reparameterized Gradient Estimators (2018),
        https://arxiv.org/abs/1810.04152; Rainforth et al.: Tighter Variational Bounds are Not Necessarily Better
        (2018), https://arxiv.org/abs/1802.04537.

    Raises:
        TypeError: when called, for a posterior that cannot be reparameterised.

    Example:
        >>> DoublyReparameterised()
        DoublyReparameterised()
    """

    def __call__(
        self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int, step: Tensor | None = None
    ) -> tuple[Tensor, Draws]:
        z, log_qz_x = model.propose(batch, samples)
        _require_reparameterised(model, batch, z, log_qz_x, self)
        held = z.detach()
        with torch.no_grad():
            share = _share_of_path(bound, Draws(held, *model.log_joint(batch, held), model.log_posterior(batch, held)))
        z = model.pulled(batch, z, share)
        draws = Draws(z, *model.log_joint(batch, z), model.log_posterior(batch, z, frozen=True))
        return bound(draws), draws


def _share_of_path(bound: BoundFunction, draws: Draws) -> Tensor:
    r"""Which share of its pull along the path a draw keeps: :math:`1 + \partial_{\log p} \partial_{\log q} L / a_k`.

    Shape (K, B). The derivatives are by draw k's own densities, of the bound as a function of log p(x | z) and log q.
    """
    z = draws.z.flatten(2)[..., :0]  # no bound looks at it

    def total(log_px_z: Tensor, log_qz_x: Tensor) -> Tensor:
        return bound(Draws(z, log_px_z, draws.log_pz, log_qz_x)).sum()

    by_p, by_q = torch.func.grad(total, 0), torch.func.grad(total, 1)
    pull = by_p(draws.log_px_z, draws.log_qz_x)

    def of_one(at_draw: Tensor) -> Tensor:
        """The derivative of draw k's pull by its own log p(x | z); ``at_draw`` is 1 there and 0 elsewhere."""
        slope = torch.func.grad(lambda log_p: (at_draw[:, None] * by_q(log_p, draws.log_qz_x)).sum())
        return at_draw @ slope(draws.log_px_z)

    own = torch.func.vmap(of_one)(torch.eye(len(pull), dtype=pull.dtype, device=pull.device))
    return torch.where(pull == 0, 0, 1 + own / torch.where(pull == 0, 1, pull))


def _require_reparameterised(model: Model, batch: Batch, z: Tensor, log_qz_x: Tensor, gradient: Gradient) -> None:
    name = type(gradient).__name__
    if log_qz_x.requires_grad and not z.requires_grad:
        raise TypeError(
            f"Expected draws that can be reparameterised for {name}(); got a posterior whose draws carry no gradient, "
            "such as one of bits. Take gradient=tb.gradients.ScoreFunction(), or see tb.gradients."
        )
    if any(part.discrete for part in model.parts(batch)):
        raise TypeError(
            f"Expected draws that can be reparameterised for {name}(); got a latent that is discrete in part, where no "
            "gradient would reach the posterior. Take gradient=tb.gradients.GumbelSoftmax(), which goes along the path "
            "where there is one."
        )
