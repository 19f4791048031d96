"""The contract of a latent-variable model: what every one must say of itself, and what follows from it."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from tightbound import bounds
from tightbound.batch import Batch, as_batch, blocks_of, require_some, require_whole, told_by_shape
from tightbound.distributions import Part, pulled
from tightbound.draws import Draws, Relaxation
from tightbound.runtime import evaluation_mode, home, own_random_state

__all__ = ["Model", "with_log_joint"]

DRAWN = 2**16  # latents drawn in one go: the noise depends on this alone, never on how many are decoded at a time
ROWS = 1024  # observations embedded at a time
WRITTEN = 2**20  # numbers that a decoder writes at a time: what a processor's cache holds
MEAN_DRAWS = 256  # for the mean of a posterior that has no formula for it
SEED = 0  # of prediction's own noise, so that equal calls give equal numbers


def _definer(cls: type, name: str) -> int:
    """How far up a class's ancestors the definition of ``name`` is found."""
    return next(place for place, ancestor in enumerate(cls.__mro__) if name in vars(ancestor))


class Model(nn.Module, ABC):
    r"""What every latent-variable model must say of itself. All the library asks of a model goes through here.

    A subclass writes three methods: draws of z with log q(z | x) as a pair (:meth:`propose`), log p(x | z) and log p(z)
    at any z (:meth:`log_joint`), and log q(z | x) at any z (:meth:`log_posterior`). Bounds, gradients, objectives,
    evaluation, compiled code and micro-batches are made of these three and of nothing else, so a model that overrides
    one of them is the model that is trained and the model that is judged.

    Shapes are (samples K, batch B, …) and log-densities are in nats. The methods of the contract always get a
    :class:`~tightbound.batch.Batch`; :meth:`draw` and the predictions take bare tensors too.

    A few more methods follow from the three and have defaults. A subclass that overrides one of the three has these
    defaults again unless it overrides them as well: a closed form of the parent's would be that of another model.

    Example:
        >>> class Coin(Model):  # z says which of two coins x was; q does not look at x
        ...     def propose(self, batch, samples):
        ...         z = torch.randint(2, (samples, batch.size, 1)).float()
        ...         return z, self.log_posterior(batch, z)
        ...     def log_joint(self, batch, z):
        ...         heads = 0.2 + 0.6 * z
        ...         log_px_z = torch.where(batch.x == 1, heads, 1 - heads).log().sum(-1)
        ...         return log_px_z, torch.full_like(log_px_z, 0.5).log()
        ...     def log_posterior(self, batch, z, *, frozen=False):
        ...         return torch.full(z.shape[:2], 0.5).log()
        >>> _ = torch.manual_seed(0)
        >>> print(f"{bounds.iwae(Coin().draw(torch.ones(1, 1), samples=4000)).item():.1f}")  # log 0.5
        -0.7
    """

    # Which defaults come back when a subclass overrides which part of the contract.
    _FOLLOWS: ClassVar[dict[str, tuple[str, ...]]] = {
        "encoded": ("propose", "log_posterior"),
        "class_probabilities": ("propose", "log_posterior"),
        "every_code": ("propose", "log_posterior"),
        "parts": ("propose", "log_posterior"),
        "posterior_mean": ("propose", "log_posterior"),
        "pulled": ("propose", "log_posterior"),
        "rate": ("propose", "log_posterior", "log_joint"),
        "rate_per_dimension": ("propose", "log_posterior", "log_joint"),
        "rate_by_layer": ("propose", "log_posterior", "log_joint"),
        "relax": ("propose", "log_posterior", "log_joint"),
    }

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("draw", "score", "log_prob"):
            if Model in cls.__mro__[1:] and name in vars(cls):
                raise TypeError(
                    f"Expected a subclass that overrides the contract (propose, log_joint, log_posterior); got {name} "
                    f"overridden by {cls.__name__}. {name} is made of those three, and most callers never call it."
                )
        for name, parts in cls._FOLLOWS.items():
            if _definer(cls, name) > min(_definer(cls, part) for part in parts):
                setattr(cls, name, getattr(Model, name))

    @abstractmethod
    def propose(self, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
        r"""K draws :math:`z_k \sim q(z \mid x)` with their log-densities, as a pair.

        Args:
            batch: B observations.
            samples: how many draws, K.

        Returns:
            z of shape (K, B, \*latent), reparameterised where q can be, and log q(z | x) of shape (K, B), in nats.
        """

    @abstractmethod
    def log_joint(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
        r"""log p(x | z) and log p(z) at any z.

        Args:
            batch: B observations.
            z: latents, shape (K, B, \*latent).

        Returns:
            Both of shape (K, B), in nats.
        """

    @abstractmethod
    def log_posterior(self, batch: Batch, z: Tensor, *, frozen: bool = False) -> Tensor:
        r"""log q(z | x) at any z.

        Args:
            batch: B observations.
            z: latents, shape (K, B, \*latent).
            frozen: whether q's own parameters are held constant, so that of these a gradient flows through ``z`` alone;
                networks of the prior that q shares are not q's own.

        Returns:
            Shape (K, B), in nats.
        """

    def rate(self, batch: Batch) -> Tensor | None:
        """KL(q(z | x) ‖ p(z)) in closed form.

        Args:
            batch: B observations.

        Returns:
            Shape (B,), in nats; None where there is no closed form.
        """
        return None

    def rate_per_dimension(self, batch: Batch) -> Tensor | None:
        """The same for each latent dimension.

        Args:
            batch: B observations.

        Returns:
            Shape (B, L), in nats; None where it does not fall apart into dimensions.
        """
        return None

    def rate_by_layer(self, batch: Batch, z: Tensor) -> Tensor | None:
        """log q − log p of each layer given those above it, for models whose latents are layers.

        Args:
            batch: B observations.
            z: draws of q(z | x), shape (K, B, latent).

        Returns:
            Shape (K, B, layers), in nats, the layer nearest to x first: its sum is log q(z | x) − log p(z). None where
            z has no layers.
        """
        return None

    def pulled(self, batch: Batch, z: Tensor, share: Tensor) -> Tensor:
        r"""Draws as they are, with a share of the gradient along their path for q's own parameters.

        Args:
            batch: B observations.
            z: draws of q(z | x) that :meth:`propose` gave, shape (K, B, \*latent).
            share: shape (K, B).

        Returns:
            The same latents. Parameters of the prior that are in q too are pulled as they were.
        """
        return pulled(z, share.reshape(*share.shape, *[1] * (z.ndim - 2)))

    def encoded(self, batch: Batch) -> Batch:
        """The batch with the posterior at ``x`` in it, for models that have one; so it is made once.

        Args:
            batch: B observations.

        Returns:
            The batch, its ``q`` filled in, or as it was.
        """
        return batch

    def class_probabilities(self, batch: Batch) -> Tensor | None:
        """The posterior's probability of each class of each discrete variable of z.

        Args:
            batch: B observations.

        Returns:
            Shape (B, variables, classes), a bit having two classes; None where no part of z is discrete.
        """
        return None

    def parts(self, batch: Batch) -> tuple[Part, ...]:
        """What a latent vector is made of: real numbers, bits, classes, side by side.

        Args:
            batch: B observations.

        Returns:
            Its parts in order; none where the model does not say.
        """
        return ()

    def every_code(self, batch: Batch) -> Tensor:
        r"""All values that z can take, for models that have a countable latent.

        Args:
            batch: B observations.

        Returns:
            Shape (codes, \*latent).

        Raises:
            TypeError: for a model whose latents cannot be listed.
            ValueError: for more than 4096 of them.
        """
        raise TypeError(
            f"Expected a model whose latents can be listed; got {type(self).__name__}, which does not say what they "
            "are. Override every_code, or take a gradient of draws such as tb.gradients.ScoreFunction()."
        )

    def relax(self, batch: Batch, samples: int, temperature: float | Tensor) -> Relaxation:
        """Draws of a discrete z together with their relaxations, by the same noise.

        Args:
            batch: B observations.
            samples: how many draws, K.
            temperature: of the relaxation, above 0.

        Returns:
            Hard and soft codes.

        Raises:
            TypeError: for a model whose latents cannot be relaxed.
        """
        raise TypeError(
            f"Expected a model whose latents can be relaxed; got {type(self).__name__}, which does not say how. "
            "Override relax, or take a gradient that needs no relaxation, such as tb.gradients.ScoreFunction()."
        )

    def posterior_mean(self, batch: Batch) -> Tensor | None:
        r"""The posterior's mean: of bits and classes, their probabilities.

        Args:
            batch: B observations.

        Returns:
            Shape (B, \*latent); None where there is no formula for it.
        """
        return None

    def require_known(self, batch: Batch, name: str) -> None:
        """Look at what the model must know of observations besides x, once before they are used; nothing by default.

        Args:
            batch: observations.
            name: of the data, for the error.

        Raises:
            ValueError: where it is missing or out of range.
        """

    @property
    def is_normalised(self) -> bool:
        """Whether p(x | z) sums or integrates to one over x, so that log p(x) deserves its name."""
        return True

    @final
    def draw(self, x: Tensor | Batch, *, samples: int = 1) -> Draws:
        r"""K draws from q(z | x) with their three log-densities.

        Args:
            x: B observations, shape (B, \*shape), or a batch.
            samples: how many, K.

        Returns:
            Draws, log-densities of shape (K, B) in nats.

        Raises:
            ValueError: for fewer than one sample, or values outside the likelihood's support.
        """
        require_whole(samples, "samples")
        if samples < 1:
            raise ValueError(f"Expected at least 1 sample; got samples={samples}.")
        batch = as_batch(x)
        z, log_qz_x = self.propose(batch, samples)
        return Draws(z, *self.log_joint(batch, z), log_qz_x)

    @final
    def score(self, x: Tensor | Batch, *, samples: int, rows: int) -> Draws:
        r"""The log-densities of K draws in bounded memory, without gradient: :meth:`draw` for many draws.

        Args:
            x: B observations, shape (B, \*shape), or a batch.
            samples: how many draws, K.
            rows: latents decoded at a time, at least one for each observation; the numbers do not depend on it.

        Returns:
            Draws in float64 on the CPU, log-densities of shape (K, B); their ``z`` is left empty, shape (K, B, 0).

        Raises:
            ValueError: as :meth:`draw`.
        """
        scored: list[Tensor] = []
        with torch.no_grad():
            batch = self.encoded(as_batch(x))
            for count in _parts(samples, max(1, DRAWN // batch.size)):
                z, log_qz_x = self.propose(batch, count)
                pieces = zip(*(t.split(max(1, rows // batch.size)) for t in (z, log_qz_x)), strict=True)
                scored += [torch.stack([*self.log_joint(batch, part), log_q]) for part, log_q in pieces]
        # Float64 before anything is added up: log p(x | z) is large, what the bounds differ by is small.
        log_px_z, log_pz, log_qz_x = torch.cat(scored, 1).cpu().double()
        return Draws(log_px_z.new_empty(samples, batch.size, 0), log_px_z, log_pz, log_qz_x)

    @final
    def log_prob(self, x: Any, *, samples: int = 1000) -> Tensor:
        r"""An estimate of log p(x) for each observation: the importance-weighted bound of K draws.

        In expectation it is never above log p(x), and it rises towards it with K;
        :func:`tightbound.evaluate.evidence` says how far to trust it. Equal calls give equal numbers, and the number of
        an observation does not depend on those beside it. All of them get the same noise, so their errors do not
        average out: for a mean with its standard error take ``evidence``.

        References:
            Burda, Grosse, Salakhutdinov: Importance Weighted Autoencoders (2015), https://arxiv.org/abs/1509.00519.

        Args:
            x: observations: a tensor or array of shape (N, \*shape), a batch, or ``Observations``.
            samples: draws for each observation, K.

        Returns:
            Shape (N,), in nats, float64, on the CPU.

        Raises:
            ValueError: for fewer than one sample, or values outside the likelihood's support.

        Example:
            >>> import tightbound as tb
            >>> model = tb.VAE(
            ...     prior=tb.priors.StandardNormal(2),
            ...     posterior=tb.posteriors.DiagonalNormal(nn.Linear(5, 4)),
            ...     likelihood=tb.likelihoods.Gaussian(nn.Linear(2, 5)),
            ... )
            >>> model.log_prob(torch.zeros(3, 5), samples=10).shape
            torch.Size([3])
        """
        require_whole(samples, "samples")
        if samples < 1:
            raise ValueError(f"Expected at least 1 sample; got samples={samples}.")
        found = []
        with evaluation_mode(self), told_by_shape(x):
            device, dtype = home(self)
            for block in blocks_of(x, ROWS, device, dtype):
                rows = max(1, WRITTEN // block.x[0].numel())
                for index in range(block.size):
                    with own_random_state(device, seed=SEED):
                        one = block.rows(slice(index, index + 1))
                        found.append(bounds.iwae(self.score(one, samples=samples, rows=rows)))
        return torch.cat(found)

    def embed(self, x: Any, *, batch_size: int = ROWS) -> Tensor:
        r"""The posterior's mean: coordinates of each observation, the same in every call.

        Of bits and classes these are their probabilities, not codes. A posterior without a formula for its mean is
        asked for 256 draws, always the same ones.

        Args:
            x: observations: a tensor or array of shape (N, \*shape), a batch, or ``Observations``, which may be larger
                than memory.
            batch_size: observations encoded at a time.

        Returns:
            Shape (N, \*latent), on the model's device.

        Raises:
            ValueError: for a batch size below 1.
        """
        require_some(batch_size)
        with evaluation_mode(self), told_by_shape(x):
            device, dtype = home(self)
            return torch.cat([self._code(block) for block in blocks_of(x, batch_size, device, dtype)])

    def _code(self, batch: Batch) -> Tensor:
        mean = self.posterior_mean(self.encoded(batch))
        if mean is not None:
            return mean
        codes = []
        for index in range(batch.size):  # one by one, so that no observation's noise depends on those beside it
            with own_random_state(batch.x.device, seed=SEED):
                codes.append(self.propose(batch.rows(slice(index, index + 1)), MEAN_DRAWS)[0].mean(0))
        return torch.cat(codes)

    def forward(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "Expected a method of the model; got a call of the model itself. Take model.draw(x), model.embed(x), "
            "model.reconstruct(x) or model.log_prob(x)."
        )


def with_log_joint(model: Model, log_joint: Callable[[Batch, Tensor], tuple[Tensor, Tensor]]) -> Model:
    """The same model, whose parts and parameters are its own, with log p(x | z) and log p(z) computed another way.

    Args:
        model: any.
        log_joint: gives what ``model.log_joint`` gives.

    Returns:
        A model of the same class, through which every caller reaches ``log_joint``.

    Example:
        >>> import tightbound as tb
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(nn.Linear(2, 5)),
        ... )
        >>> twin = with_log_joint(model, lambda batch, z: (z.sum(-1) * 0 - 7, z.sum(-1) * 0))
        >>> twin.draw(torch.zeros(1, 5)).log_px_z, twin.prior is model.prior
        (tensor([[-7.]]...), True)
    """
    twin = copy.copy(model)
    twin.log_joint = log_joint  # type: ignore[method-assign,assignment]
    return twin


def _parts(total: int, size: int) -> list[int]:
    return [size] * (total // size) + ([total % size] if total % size else [])
