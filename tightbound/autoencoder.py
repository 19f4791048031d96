"""The plain variational autoencoder: a prior, a posterior and a likelihood, and what can be predicted with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from tightbound.batch import Batch, blocks_of, complete, require_some, require_whole, tensor_of, told_by_shape
from tightbound.conditional import Conditional
from tightbound.distributions import (
    Part,
    TopDown,
    class_probabilities,
    every_code,
    held,
    parts_of,
    relaxation,
    sample_and_log_prob,
)
from tightbound.divergences import kl, kl_per_dimension
from tightbound.draws import Relaxation
from tightbound.likelihoods import point_estimate
from tightbound.model import ROWS, Model
from tightbound.priors import Prior
from tightbound.runtime import evaluation_mode, home, only_thread
from tightbound.support import require_support

__all__ = ["VAE", "has_room"]

HOTTEST = 1e6  # times the prior's standard deviations; far below where float32 ends
NO_ROOM = "can't allocate memory|not enough memory|out of memory|[Oo]verflow"  # as torch's allocators say it


class VAE(Model):
    r"""Variational autoencoder: prior p(z), posterior q(z | x), likelihood p(x | z).

    References:
        Kingma, Welling (2013), https://arxiv.org/abs/1312.6114; Rezende, Mohamed, Wierstra (2014),
        https://arxiv.org/abs/1401.4082.

    Args:
        prior: p(z).
        posterior: q(z | x).
        likelihood: p(x | z).

    Raises:
        TypeError: if a part is not a :class:`~tightbound.conditional.Conditional`.

    Example:
        >>> import tightbound as tb
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(nn.Linear(2, 5), scale=0.5),
        ... )
        >>> tb.bounds.iwae(model.draw(torch.zeros(3, 5), samples=7)).shape
        torch.Size([3])
    """

    def __init__(self, prior: Conditional, posterior: Conditional, likelihood: Conditional) -> None:
        super().__init__()
        for name, part in (("prior", prior), ("posterior", posterior), ("likelihood", likelihood)):
            if not isinstance(part, Conditional):
                raise TypeError(
                    f"Expected a Conditional as {name}; got {type(part).__name__}. Wrap a network in one, for example "
                    "tb.posteriors.DiagonalNormal(network) or tb.likelihoods.Bernoulli(network)."
                )
        self.prior = prior
        self.posterior = posterior
        self.likelihood = likelihood

    # The contract

    def propose(self, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
        return sample_and_log_prob(self._posterior_at(batch), torch.Size([samples]))

    def log_joint(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
        _require_complete(batch)
        p, prior = self.likelihood(self.seen_by_decoder(batch, z)), self.prior()
        if not batch.checked:
            require_support(p, batch.x, likelihood=type(self.likelihood).__name__)
        if prior.event_shape != z.shape[2:]:
            raise ValueError(
                f"Expected latents of the prior's shape {tuple(prior.event_shape)}; got {tuple(z.shape[2:])} from the "
                "posterior. Give both the same latent_dim."
            )
        return p.log_prob(batch.x), prior.log_prob(z)

    def log_posterior(self, batch: Batch, z: Tensor, *, frozen: bool = False) -> Tensor:
        q = self._posterior_at(batch)
        if not frozen:
            return q.log_prob(z)
        constant = held(q)  # of the q that is there: a random encoder, asked again, would give another one
        if constant is None:
            return self.posterior.log_prob(z, self.seen_by_encoder(batch), frozen=True)
        return constant.log_prob(z)

    def rate(self, batch: Batch) -> Tensor | None:
        return _or_none(kl, self._posterior_at(batch), self.prior())

    def rate_per_dimension(self, batch: Batch) -> Tensor | None:
        return _or_none(kl_per_dimension, self._posterior_at(batch), self.prior())

    def rate_by_layer(self, batch: Batch, z: Tensor) -> Tensor | None:
        q, p = self._posterior_at(batch), self.prior()
        if not (isinstance(q, TopDown) and isinstance(p, TopDown) and q.lengths == p.lengths):
            return None
        return q.log_prob_by_layer(z) - p.log_prob_by_layer(z)

    def pulled(self, batch: Batch, z: Tensor, share: Tensor) -> Tensor:
        q = self._posterior_at(batch)
        return q.pulled(z, share) if isinstance(q, TopDown) else super().pulled(batch, z, share)

    def encoded(self, batch: Batch) -> Batch:
        return batch if batch.q is not None else batch._replace(q=self._posterior_at(batch))

    def posterior_mean(self, batch: Batch) -> Tensor | None:
        try:
            return self._posterior_at(batch).mean
        except NotImplementedError:
            return None

    def class_probabilities(self, batch: Batch) -> Tensor | None:
        return class_probabilities(self._posterior_at(batch))

    def parts(self, batch: Batch) -> tuple[Part, ...]:
        return parts_of(self._posterior_at(batch))

    def every_code(self, batch: Batch) -> Tensor:
        return every_code(self._posterior_at(batch))

    def relax(self, batch: Batch, samples: int, temperature: float | Tensor) -> Relaxation:
        return Relaxation(*relaxation(self._posterior_at(batch), self.prior(), samples, temperature))

    @property
    def is_normalised(self) -> bool:
        return getattr(self.likelihood, "is_normalised", True)

    def _posterior_at(self, batch: Batch) -> Distribution:
        _require_complete(batch)
        return self.posterior(self.seen_by_encoder(batch)) if batch.q is None else batch.q

    # What the two networks see: a model that is given more than x and z has its own

    def seen_by_encoder(self, batch: Batch) -> Tensor:
        """What q is a function of.

        Args:
            batch: B observations.

        Returns:
            The posterior's context, here x.
        """
        return batch.x

    def seen_by_decoder(self, batch: Batch, z: Tensor) -> Tensor:
        r"""What p(x | z) is a function of.

        Args:
            batch: B observations.
            z: latents, shape (\*samples, B, latent).

        Returns:
            The likelihood's context, here z.
        """
        return z

    # Prediction: in evaluation mode and without gradient, whoever calls

    def encode(self, x: Tensor) -> Distribution:
        r"""The posterior q(z | x).

        Args:
            x: observations, shape (B, \*shape).

        Returns:
            A distribution of batch shape (B,).
        """
        with evaluation_mode(self), told_by_shape(x):
            return self.posterior(complete(x, *home(self)))

    def decode(self, z: Tensor) -> Distribution:
        r"""The likelihood p(x | z).

        Args:
            z: latents, shape (\*batch, latent).

        Returns:
            A distribution of batch shape (\*batch).
        """
        with evaluation_mode(self):
            return self.likelihood(tensor_of(z, "z").to(*home(self)))

    def reconstruct(self, x: Any, *, batch_size: int = ROWS) -> Tensor:
        r"""The mean of p(x | z) at the posterior's mean: the same in every call.

        Args:
            x: observations, as :meth:`embed` takes them.
            batch_size: observations at a time.

        Returns:
            Shape as ``x``; for categories the likeliest one of each element.
        """
        require_some(batch_size)
        with evaluation_mode(self), told_by_shape(x):
            device, dtype = home(self)
            return torch.cat([self._reconstructed(block) for block in blocks_of(x, batch_size, device, dtype)])

    def _reconstructed(self, batch: Batch) -> Tensor:
        return point_estimate(self.likelihood(self.seen_by_decoder(batch, self._code(batch))))

    @only_thread()
    def sample(self, count: int, *, mean: bool = False, temperature: float = 1.0) -> Tensor:
        r"""Draws of x from the model: z from the prior, then x from p(x | z).

        Args:
            count: how many.
            mean: whether to give the mean of p(x | z) in place of a draw from it: smoother pictures, and no samples of
                the model.
            temperature: what the prior's standard deviations are multiplied by; 0 for none at all.

        Returns:
            Shape (count, \*shape).

        Raises:
            TypeError: for a count that is no whole number.
            ValueError: for one below 1 or of more than fit into memory, a negative temperature, or weights that are not
                finite.
        """
        with has_room(count):
            return self._observation(self.decode(self.sample_prior(count, temperature=temperature)), mean=mean)

    def _observation(self, p: Distribution, *, mean: bool) -> Tensor:
        """Its mean, or a draw from it."""
        with torch.no_grad():
            try:
                return point_estimate(p) if mean else p.sample().to(home(self)[1])
            except RuntimeError as error:  # torch's own samplers refuse NaN each in another way
                raise _not_finite(self) or error from None

    @only_thread()
    def sample_prior(self, count: int, *, temperature: float = 1.0) -> Tensor:
        r"""Latents from the prior.

        Args:
            count: how many.
            temperature: what the prior's standard deviations are multiplied by.

        Returns:
            Shape (count, \*latent).

        Raises:
            TypeError: for a count that is no whole number.
            ValueError: for one below 1 or of more than fit into memory, a temperature that is negative or above 1e6, or
                weights that are not finite.
        """
        require_whole(count, "samples")
        if count < 1 or not temperature >= 0:
            raise ValueError(f"Expected count >= 1 and temperature >= 0; got count={count}, temperature={temperature}.")
        if temperature > HOTTEST:
            raise ValueError(f"Expected a temperature of at most {HOTTEST:g}; got {temperature:g}. 1 is the prior.")
        if error := _not_finite(self):
            raise error
        with has_room(count), evaluation_mode(self):
            p = self.prior.tempered(temperature) if isinstance(self.prior, Prior) else self.prior()
            return p.sample(torch.Size([count]))

    def save(self, folder: str | Path) -> None:
        """Write the model into a folder, without pickle; :func:`tightbound.load_model` reads it back.

        A model of the library's own pieces is written with all it takes to build it again. Of a model with pieces of
        your own the weights are written, and reading it back tells how to go on.

        Args:
            folder: where to; made if it is not there.

        Raises:
            ValueError: for a folder that holds a run.
        """
        from tightbound.saving import save_model

        save_model(self, Path(folder))


def _or_none(divergence: Callable[[Distribution, Distribution], Tensor], q: Any, p: Any) -> Tensor | None:
    try:
        return divergence(q, p)
    except TypeError:
        return None


def _require_complete(batch: Batch) -> None:
    if batch.mask is not None:
        axes = 1 if batch.mask.ndim == 2 else (*range(1, batch.mask.ndim),)
        raise ValueError(
            "Expected complete observations; got a mask of what is present, which no model of the library reads. Leave "
            "the mask out, and fill in what is missing, numpy.where(mask, x, 0), or drop the rows that lack a value, "
            f"x[numpy.asarray(mask).all(axis={axes})]. A model of your own may read batch.mask, in propose, log_joint "
            "and log_posterior."
        )


@contextmanager
def has_room(count: int) -> Iterator[None]:
    """What an allocator says of too many samples, told in a sentence.

    Args:
        count: how many there should be.

    Raises:
        ValueError: where they do not fit into memory.

    Example:
        >>> with has_room(10):
        ...     pass
    """
    try:
        yield
    except (RuntimeError, TypeError, OverflowError) as error:
        if not isinstance(error, OverflowError) and not re.search(NO_ROOM, str(error)):
            raise
        raise ValueError(
            f"Expected as many samples as fit into memory; got {count}. Take fewer at a time: torch.cat("
            "[model.sample(1000) for _ in range(10)])."
        ) from None


def _not_finite(model: nn.Module) -> ValueError | None:
    bad = [name for name, p in model.named_parameters() if not bool(p.isfinite().all())]
    if not bad:
        return None
    return ValueError(
        f"Expected finite weights; got NaN or infinity in {bad[0]}. The training has diverged: go back to an earlier "
        "checkpoint, or train anew with a lower learning_rate."
    )
