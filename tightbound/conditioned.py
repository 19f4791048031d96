"""VAEs of x given something that is known of it: a class, covariates, or both."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.autoencoder import VAE, has_room
from tightbound.batch import Batch, blocks_of, complete, tensor_of
from tightbound.conditional import Conditional, Networked
from tightbound.likelihoods import point_estimate
from tightbound.model import ROWS
from tightbound.runtime import evaluation_mode, home, only_thread
from tightbound.told import Beside

__all__ = ["ConditionalVAE"]

Part = TypeVar("Part", bound=Conditional)
LOST = 0.05  # of a covariate's deviation: by what rounding must not move it


class ConditionalVAE(VAE):
    r"""A VAE of x given a condition c: prior p(z), posterior q(z | x, c), likelihood p(x | z, c).

    c is the batch's label as a vector of zeros with a single one, or its factors, standardised, or both side by side.
    It comes with the batch, so bounds, objectives and evaluation are those of any model, and log p(x) means
    log p(x | c) throughout.

    The encoder sees x as a flat vector with c behind it, of length D + C. The decoder sees z with c behind it. To let a
    network see images, wrap it in :class:`tightbound.told.Planes`.

    Args:
        prior: p(z).
        posterior: q(z | x, c), made of one network.
        likelihood: p(x | z, c), made of one network.
        classes: how many classes labels have, 0 to C − 1; 0 where the label is not a condition.
        covariates: how many columns the factors have; 0 where they are not a condition.

    Raises:
        TypeError: for parts that are no conditionals of one network.
        ValueError: for no condition at all; when used, for batches without it, or labels and factors out of range.

    References:
        Sohn, Lee, Yan: Learning Structured Output Representation using Deep Conditional Generative Models (2015),
        https://papers.nips.cc/paper/5775; Kingma et al.: Semi-Supervised Learning with Deep Generative Models (2014),
        https://arxiv.org/abs/1406.5298.

    Example:
        >>> import tightbound as tb
        >>> model = ConditionalVAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5 + 3, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2 + 3, 5)),
        ...     classes=3,
        ... )
        >>> model.draw(tb.Batch(torch.zeros(2, 5), label=torch.tensor([0, 2]))).log_px_z.shape
        torch.Size([1, 2])
        >>> model.sample(4, label=1).shape, type(model.given(label=1)).__name__
        (torch.Size([4, 5]), 'VAE')
    """

    centre: Tensor
    unit: Tensor

    def __init__(
        self, prior: Conditional, posterior: Conditional, likelihood: Conditional, *, classes: int = 0,
        covariates: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(prior, posterior, likelihood)
        if min(classes, covariates) < 0 or classes == 1 or classes + covariates == 0:
            raise ValueError(
                f"Expected at least 2 classes, or covariates, as a condition; got classes={classes} and "
                f"covariates={covariates}. Without a condition take VAE."
            )
        for name, part in (("posterior", posterior), ("likelihood", likelihood)):
            if not isinstance(part, Networked):
                raise TypeError(
                    f"Expected a {name} made of one network, which can be told the condition; got "
                    f"{type(part).__name__}."
                )
        self.classes, self.covariates = classes, covariates
        self.register_buffer("centre", torch.zeros(covariates))
        self.register_buffer("unit", torch.ones(covariates))

    def standardise(self, factors: Tensor) -> None:
        """Take centre and unit of the covariates from data: networks see them with mean 0 and standard deviation 1.

        Args:
            factors: of the training set, shape (N, F).

        Raises:
            ValueError: for covariates that the model's type cannot tell apart.

        Example:
            >>> import tightbound as tb
            >>> model = ConditionalVAE(
            ...     prior=tb.priors.StandardNormal(2),
            ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5 + 1, 4)),
            ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2 + 1, 5)),
            ...     covariates=1,
            ... )
            >>> model.standardise(torch.tensor([[30.0], [50.0]]))
            >>> model.condition(factors=torch.tensor([[50.0]]))
            tensor([[1.]])
        """
        values = factors.double()
        spread = values.std(0, unbiased=False)
        moved = (values - values.to(self.centre.dtype).double()).abs().amax(0)
        if (lost := (moved > LOST * spread) & (spread > 0)).any():
            raise ValueError(
                f"Expected covariates that {str(self.centre.dtype).removeprefix('torch.')} can tell apart; got column "
                f"{int(lost.nonzero()[0, 0])}, which it rounds by a twentieth of what its values differ by, or more. "
                "Take the mean off first (factors - factors.mean(0)), or take model.double()."
            )
        self.centre.copy_(values.mean(0))
        self.unit.copy_(torch.where(spread > 0, spread, 1))

    def condition(self, *, label: Any = None, factors: Any = None) -> Tensor:
        """The condition as the networks see it.

        Args:
            label: classes, shape (B,).
            factors: covariates, shape (B, F).

        Returns:
            Shape (B, C).

        Raises:
            ValueError: where one of them is missing, or has another shape.
        """
        device, dtype = home(self)
        parts = []
        if self.classes:
            if label is None:
                raise ValueError("Expected labels, which are this model's condition; got none. Give label=...")
            given = torch.as_tensor(label, device=device)
            parts.append((given[:, None] == torch.arange(self.classes, device=device)).to(dtype))
        if self.covariates:
            if factors is None:
                raise ValueError("Expected factors, which are this model's condition; got none. Give factors=...")
            given = torch.as_tensor(factors, device=device)
            if given.ndim != 2 or given.shape[1] != self.covariates:
                raise ValueError(f"Expected factors of shape (B, {self.covariates}); got {tuple(given.shape)}.")
            parts.append((given.to(dtype) - self.centre) / self.unit)
        return torch.cat(parts, -1)

    def require_known(self, batch: Batch, name: str) -> None:
        self.condition(label=batch.label, factors=batch.factors)
        if self.classes and batch.label is not None:
            bad = (batch.label < 0) | (batch.label >= self.classes)
            if bad.any():
                raise ValueError(
                    f"Expected labels from 0 to {self.classes - 1}, this model's classes; got "
                    f"{int(batch.label[bad][0])} in {name}."
                )
        if self.covariates and batch.factors is not None and not batch.factors.isfinite().all():
            raise ValueError(f"Expected finite factors, this model's condition; got NaN or infinity in {name}.")

    def given(self, *, label: int | None = None, factors: Any = None) -> VAE:
        """The model of x under one condition: a plain VAE of the same weights, for whatever takes one.

        Args:
            label: a class.
            factors: covariates, shape (F,).

        Returns:
            A VAE that shares its parameters with this model.

        Raises:
            ValueError: where one of them is missing, or out of range.
        """
        value = self._one(label, factors)
        return VAE(self.prior, _told(self.posterior, value), _told(self.likelihood, value))

    def given_any(self) -> VAE:
        """The model under some condition: the first class, covariates at their mean."""
        return self.given(label=0 if self.classes else None, factors=self.centre if self.covariates else None)

    def _one(self, label: int | None, factors: Any) -> Tensor:
        one = Batch(
            torch.empty(1, 0),
            label=None if label is None else torch.as_tensor(label).reshape(1),
            factors=None if factors is None else torch.as_tensor(factors)[None],
        )
        self.require_known(one, "the condition")
        return self.condition(label=one.label, factors=one.factors)[0]

    def seen_by_encoder(self, batch: Batch) -> Tensor:
        c = self.condition(label=batch.label, factors=batch.factors)
        return torch.cat([batch.x.flatten(1), c], -1)

    def seen_by_decoder(self, batch: Batch, z: Tensor) -> Tensor:
        c = self.condition(label=batch.label, factors=batch.factors)
        return torch.cat([z, c.expand(*z.shape[:-1], -1)], -1)

    # Prediction: as of VAE, given the condition

    def encode(self, x: Tensor, *, label: Any = None, factors: Any = None) -> Distribution:
        r"""The posterior q(z | x, c).

        Args:
            x: observations, shape (B, \*shape).
            label: their classes, shape (B,).
            factors: their covariates, shape (B, F).

        Returns:
            A distribution of batch shape (B,).

        Raises:
            ValueError: where the condition is missing.
        """
        with evaluation_mode(self):
            given = Batch(complete(x, *home(self)), label=label, factors=factors)
            return self.posterior(self.seen_by_encoder(given))

    def decode(self, z: Tensor, *, label: Any = None, factors: Any = None) -> Distribution:
        r"""The likelihood p(x | z, c).

        Args:
            z: latents, shape (\*batch, latent).
            label: classes, one for each place of the last batch axis.
            factors: covariates, likewise, shape (B, F).

        Returns:
            A distribution of batch shape (\*batch).

        Raises:
            ValueError: where the condition is missing.
        """
        with evaluation_mode(self):
            z = tensor_of(z, "z").to(*home(self))
            return self.likelihood(self.seen_by_decoder(Batch(z, label=label, factors=factors), z))

    @only_thread()
    def sample(
        self, count: int, *, label: Any = None, factors: Any = None, mean: bool = False, temperature: float = 1.0
    ) -> Tensor:
        r"""Draws of x under a condition: z from the prior, then x from p(x | z, c).

        Args:
            count: how many.
            label: a class for all of them, or one for each, shape (count,).
            factors: covariates of all of them, shape (F,), or of each, shape (count, F).
            mean: as of :meth:`tightbound.VAE.sample`.
            temperature: likewise.

        Returns:
            Shape (count, \*shape).

        Raises:
            ValueError: as :meth:`tightbound.VAE.sample`; and where the condition is missing, out of range or of another
                number.
        """
        z = self.sample_prior(count, temperature=temperature)
        wanted = Batch(
            z,
            label=None if label is None else _each(torch.as_tensor(label), 0, count),
            factors=None if factors is None else _each(torch.as_tensor(factors), 1, count),
        )
        self.require_known(wanted, "the condition")
        with has_room(count):
            return self._observation(self.decode(z, label=wanted.label, factors=wanted.factors), mean=mean)

    def analogies(self, x: Any) -> Tensor:
        r"""The mean of p(x | z, y) in every class y, at the code z of each observation: its style in other classes.

        Args:
            x: observations with their labels: a batch or ``Observations``.

        Returns:
            Shape (N, classes, \*shape).

        Raises:
            ValueError: for a model whose condition is no class, and observations without labels.
        """
        if not self.classes:
            raise ValueError("Expected a model whose condition is a class; got one of covariates alone.")
        made = []
        with evaluation_mode(self):
            device, dtype = home(self)
            for block in blocks_of(x, ROWS, device, dtype):
                self.require_known(block, "the observations")
                code = self._code(block)
                every = [block._replace(label=torch.full_like(block.label, y)) for y in range(self.classes)]  # type: ignore[arg-type]
                seen = [point_estimate(self.likelihood(self.seen_by_decoder(each, code))) for each in every]
                made.append(torch.stack(seen, 1))
        return torch.cat(made)


def _each(value: Tensor, axes: int, count: int) -> Tensor:
    """One value for all, or one for each, as one for each."""
    if value.ndim == axes:
        return value.expand(count, *value.shape)
    if len(value) != count:
        raise ValueError(f"Expected a condition for all, or for each of {count} samples; got {len(value)} of them.")
    return value


def _told(part: Part, value: Tensor) -> Part:
    """The same conditional, whose network is told a constant beside its input. Weights are shared."""
    twin = copy.copy(part)
    twin._modules = {**part._modules, "network": Beside(part.network, value)}  # type: ignore[arg-type]
    return twin
