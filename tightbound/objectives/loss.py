"""What an objective gives, and who may play against the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from tightbound.batch import Batch
from tightbound.draws import Draws
from tightbound.model import Model
from tightbound.schedules import Linear
from tightbound.surface import listed


@dataclass(frozen=True, eq=False)
class Loss:
    """A loss and what it is made of.

    Args:
        value: scalar, lower is better, the mean over the batch of nats per observation; the model's gradient, and that
            of the objective's own parameters, flows from it.
        terms: detached scalars for the log, each a mean over the batch in nats.
        second: scalar that a second player makes small, where there is one. Its gradient reaches that player alone, and
            the gradient of ``value`` never does.

    Example:
        >>> import torch
        >>> Loss(torch.tensor(3.0, requires_grad=True), {"distortion": torch.tensor(3.0)}).second is None
        True
    """

    value: Tensor
    terms: dict[str, Tensor]
    second: Tensor | None = None


@dataclass(frozen=True, eq=False)
class SecondPlayer:
    """Parameters of an objective that play against the model, such as a discriminator's, with an Adam of their own.

    Args:
        module: holds them; a part of the objective.
        learning_rate: Adam's, which stays.
        betas: Adam's two decay rates.

    Raises:
        ValueError: for a learning rate that is not positive, or decay rates outside [0, 1).

    Example:
        >>> SecondPlayer(nn.Linear(2, 1)).learning_rate
        0.0001
    """

    module: nn.Module
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.5, 0.9)

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"Expected a finite learning_rate > 0; got {self.learning_rate}.")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"Expected two betas in [0, 1); got {self.betas}.")


class Objective(Protocol):
    """Anything that turns a model and a batch into a loss. ``step`` drives schedules; None means their end.

    An objective that is a ``torch.nn.Module`` has its parameters trained beside the model's: moved, saved, resumed and
    averaged with them. It may have more, each where it is needed:

    * ``second_player``, a :class:`SecondPlayer`, whose parameters are moved by :attr:`Loss.second` alone.
    * ``whole_batch``, True where it compares the observations of a batch: then a batch is never shared between
      processes, and validation sees batches of the training's size.
    * ``fitted_to(model, batch, observations)``, which gives the objective that is trained, with what it leaves to model
      and data filled in. ``observations`` is the training set, or None.
    """

    def __call__(self, model: Model, batch: Batch, step: Tensor | None = None) -> Loss: ...


class TrainingSet(Protocol):
    """What an objective may ask of the observations that it is trained on."""

    @property
    def binarise(self) -> bool: ...
    def __len__(self) -> int: ...
    def label(self, indices: Tensor) -> Tensor | None: ...
    def unbinarised(self, indices: Tensor) -> Tensor: ...
    def factor_table(self) -> Tensor | None: ...


def terms_of(draws: Draws, rate: Tensor | None = None) -> dict[str, Tensor]:
    """Distortion and rate for the log; the rate from the draws where it is not given."""
    rate = sampled_rate(draws) if rate is None else rate
    return {"distortion": -draws.log_px_z.detach().mean(), "rate": rate.detach().mean()}


def terms_by_layer(model: Model, batch: Batch, draws: Draws) -> dict[str, Tensor]:
    """The same, the rate from the draws, and that of each layer of latents that are layers, the one nearest x first."""
    with torch.no_grad():
        rates = model.rate_by_layer(batch, draws.z.detach())
    layers = () if rates is None else rates.flatten(0, -2).mean(0).unbind()
    return terms_of(draws) | {f"rate_{number}": rate for number, rate in enumerate(layers, 1)}


def sampled_rate(draws: Draws) -> Tensor:
    """log q(z | x) − log p(z) of each draw, shape (K, B)."""
    return draws.log_qz_x - draws.log_pz


def reconstruction(draws: Draws) -> Tensor:
    """The draws' part of an ELBO whose rate is in closed form: minus the distortion, shape (B,)."""
    return draws.log_px_z.mean(0)


def at_least(name: str, value: float | Linear, least: float) -> None:
    """Refuse a number below the least or without end, or a schedule that goes there.

    Raises:
        ValueError: for one.
    """
    ends = (value.start, value.end) if isinstance(value, Linear) else (value,)
    if math.inf in ends:
        raise ValueError(f"Expected a finite {name} >= {least}; got {value}.")
    if not min(ends) >= least:
        raise ValueError(f"Expected {name} >= {least}; got {value}.")


def parts_in_words(model: Model) -> str:
    """The model's class, with its posterior and prior where it has them."""
    parts = [type(part).__name__ for part in (getattr(model, "posterior", None), getattr(model, "prior", None)) if part]
    return f"{type(model).__name__} of {listed(parts)}" if parts else type(model).__name__
