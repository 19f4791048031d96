"""Objectives: what training makes small. Frozen values; ``objective(model, x)`` is a loss in nats per observation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from tightbound import bounds
from tightbound.divergences import kl as closed_form_kl
from tightbound.divergences import kl_per_dimension
from tightbound.draws import Draws
from tightbound.gradients import stl
from tightbound.model import VAE
from tightbound.schedules import Linear, at

KL = Literal["closed-form", "sampled"]
Gradient = Literal["pathwise", "stl"]


@dataclass(frozen=True, eq=False)
class Loss:
    """A loss and what it is made of.

    Args:
        value: scalar, lower is better, the mean over the batch of nats per observation; gradients flow from it.
        terms: detached scalars for the log, each a mean over the batch in nats.
    """

    value: Tensor
    terms: dict[str, Tensor]


class Objective(Protocol):
    """Anything that turns a model and a batch into a loss. ``step`` drives schedules; None means their end."""

    def __call__(self, model: VAE, x: Tensor, step: Tensor | None = None) -> Loss: ...


@dataclass(frozen=True)
class ELBO:
    r"""Negative ELBO, its rate weighed by β.

    .. math:: \mathbb{E}_q[-\log p(x \mid z)] + \beta \, \mathrm{KL}(q(z \mid x) \,\|\, p(z))

    β = 1 is the bound; any other value is a trade-off between distortion and rate, and no bound on log p(x).

    References:
        Kingma, Welling (2013), https://arxiv.org/abs/1312.6114; Higgins et al.: β-VAE (2017),
        https://openreview.net/forum?id=Sy2fzU9gl.

    Args:
        beta: weight of the rate, a number or a schedule.
        samples: K, how many draws the expectation is averaged over.
        kl: the rate in closed form, or from the draws.
        gradient: "pathwise", all of it; or :func:`~tightbound.gradients.stl`, with less noise near a fitting posterior,
            which takes ``kl="sampled"``.

    Raises:
        ValueError: for a negative β, no samples, another word for ``kl`` or ``gradient``, or "stl" in closed form.

    Example:
        >>> ELBO(beta=4.0)
        ELBO(beta=4.0, samples=1, kl='closed-form', gradient='pathwise')
    """

    beta: float | Linear = 1.0
    samples: int = 1
    kl: KL = "closed-form"
    gradient: Gradient = "pathwise"

    def __post_init__(self) -> None:
        _at_least("beta", self.beta, 0)
        _at_least("samples", self.samples, 1)
        _known(self.kl)
        if self.gradient not in ("pathwise", "stl"):
            raise ValueError(f"Expected gradient='pathwise' or gradient='stl'; got {self.gradient!r}.")
        if self.gradient == "stl" and self.kl != "sampled":
            raise ValueError(f"Expected kl='sampled' with gradient='stl', which is one of draws; got kl={self.kl!r}.")

    def __call__(self, model: VAE, x: Tensor, step: Tensor | None = None) -> Loss:
        draws, rate = _draws_and_rate(model, x, self.samples, self.kl, self.gradient)
        distortion = -draws.log_px_z.mean()
        return Loss(distortion + at(self.beta, step) * rate.mean(), _terms(distortion, rate.mean()))


@dataclass(frozen=True)
class IWAE:
    r"""Negative importance-weighted bound of K samples.

    References:
        Burda, Grosse, Salakhutdinov (2015), https://arxiv.org/abs/1509.00519.

    Args:
        samples: how many, K.

    Raises:
        ValueError: for no samples.

    Example:
        >>> IWAE(samples=50)
        IWAE(samples=50)
    """

    samples: int = 5

    def __post_init__(self) -> None:
        _at_least("samples", self.samples, 1)

    def __call__(self, model: VAE, x: Tensor, step: Tensor | None = None) -> Loss:
        draws = model.draw(x, samples=self.samples)
        rate = (draws.log_qz_x - draws.log_pz).mean()
        return Loss(-bounds.iwae(draws).mean(), _terms(-draws.log_px_z.mean(), rate))


@dataclass(frozen=True)
class FreeBits:
    r"""Negative ELBO in which each latent dimension may carry ``nats`` for nothing.

    .. math:: \mathbb{E}_q[-\log p(x \mid z)] + \sum_j \max\!\left(\lambda,\ \overline{\mathrm{KL}_j}\right)

    :math:`\overline{\mathrm{KL}_j}` is the batch's mean KL of dimension j, so a dimension is not pushed to die early.

    References:
        Kingma et al.: Improved Variational Inference with Inverse Autoregressive Flow (2016),
        https://arxiv.org/abs/1606.04934.

    Args:
        nats: λ, free nats for each dimension.
        samples: K, draws for the distortion.

    Raises:
        ValueError: for negative nats or no samples.

    Example:
        >>> FreeBits(nats=0.5)
        FreeBits(nats=0.5, samples=1)
    """

    nats: float = 0.25
    samples: int = 1

    def __post_init__(self) -> None:
        _at_least("nats", self.nats, 0)
        _at_least("samples", self.samples, 1)

    def __call__(self, model: VAE, x: Tensor, step: Tensor | None = None) -> Loss:
        q = model.encode(x)
        draws = model.draw_from(q, x, samples=self.samples)
        per_dimension = kl_per_dimension(q, model.prior()).mean(0)
        distortion = -draws.log_px_z.mean()
        return Loss(distortion + per_dimension.clamp(min=self.nats).sum(), _terms(distortion, per_dimension.sum()))


@dataclass(frozen=True)
class Capacity:
    r"""Distortion, with the rate held at a capacity that grows: :math:`D + \gamma\,|R - C|`.

    References:
        Burgess et al.: Understanding disentangling in β-VAE (2018), https://arxiv.org/abs/1804.03599.

    Args:
        capacity: C in nats, a number or a schedule.
        gamma: γ, how strictly.
        samples: K, draws for the distortion.
        kl: the rate in closed form, or from the draws.

    Raises:
        ValueError: for negative numbers, no samples, or another word for ``kl``.

    Example:
        >>> Capacity(capacity=25.0, gamma=1000.0)
        Capacity(capacity=25.0, gamma=1000.0, samples=1, kl='closed-form')
    """

    capacity: float | Linear = 25.0
    gamma: float = 100.0
    samples: int = 1
    kl: KL = "closed-form"

    def __post_init__(self) -> None:
        _at_least("capacity", self.capacity, 0)
        _at_least("gamma", self.gamma, 0)
        _at_least("samples", self.samples, 1)
        _known(self.kl)

    def __call__(self, model: VAE, x: Tensor, step: Tensor | None = None) -> Loss:
        draws, rate = _draws_and_rate(model, x, self.samples, self.kl)
        distortion, mean_rate = -draws.log_px_z.mean(), rate.mean()
        value = distortion + self.gamma * (mean_rate - at(self.capacity, step)).abs()
        return Loss(value, _terms(distortion, mean_rate))


def _draws_and_rate(
    model: VAE, x: Tensor, samples: int, kl: KL, gradient: Gradient = "pathwise"
) -> tuple[Draws, Tensor]:
    if kl == "sampled":
        draws = stl(model, x, samples=samples) if gradient == "stl" else model.draw(x, samples=samples)
        return draws, draws.log_qz_x - draws.log_pz
    q = model.encode(x)
    return model.draw_from(q, x, samples=samples), closed_form_kl(q, model.prior())


def _terms(distortion: Tensor, rate: Tensor) -> dict[str, Tensor]:
    return {"distortion": distortion.detach(), "rate": rate.detach()}


def _known(kl: str) -> None:
    if kl not in ("closed-form", "sampled"):
        raise ValueError(f"Expected kl='closed-form' or kl='sampled'; got {kl!r}.")


def _at_least(name: str, value: float | Linear, least: float) -> None:
    smallest = min(value.start, value.end) if isinstance(value, Linear) else value
    if not smallest >= least:
        raise ValueError(f"Expected {name} >= {least}; got {value}.")
