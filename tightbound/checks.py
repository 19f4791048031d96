"""Whether a model and data belong together: looked at once, before the first step and before an evaluation.

Each check says in one sentence what is wrong and what to write instead. All of them look at what the model sees: the
values after the cast to its own floating-point type.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Distribution, Independent
from torch.distributions.constraints import Constraint

from tightbound import priors
from tightbound.autoencoder import VAE
from tightbound.batch import Batch, require_finite
from tightbound.conditioned import ConditionalVAE
from tightbound.data import Observations
from tightbound.data.nature import require_digits
from tightbound.distributions import parts_of, sample_and_log_prob
from tightbound.model import Model
from tightbound.runtime import evaluation_mode, home, own_random_state
from tightbound.support import first_outside, outside, support_of
from tightbound.surface import listed

CHUNK = 2**19  # values looked at in one go
FEW = 2  # observations and draws that a model is tried on: two, so that no axis hides behind another
FAR = (1, -10, 100, -1000)  # how far out a decoder is tried
MOVES = 1e-3  # between logits there that are not the same
AGREE = 1e-3  # relative difference up to which log q(z | x) counts as the same, computed in two ways


@dataclass(frozen=True)
class Described:
    """What a model's likelihood can describe.

    Attributes:
        shape: Of one observation; None where nobody knows.
        support: Where its values lie; None where nobody knows.
        likelihood: Its name.
    """

    shape: torch.Size | None
    support: Constraint | None
    likelihood: str

    def require_shape(self, shape: torch.Size, name: str) -> None:
        """Compare the shape of one observation.

        Args:
            shape: of an observation.
            name: of the data, for the error.

        Raises:
            ValueError: for another one.
        """
        if self.shape is not None and shape != self.shape:
            raise ValueError(
                f"Expected observations of shape {tuple(self.shape)}, as the likelihood has it; got {tuple(shape)} in "
                f"{name}. Its network's output must have the shape of one observation."
            )

    def require_values(self, x: Tensor, rows: Tensor, name: str) -> None:
        """Look at every value.

        Args:
            x: observations as the model sees them, shape (B, \\*shape).
            rows: their numbers, shape (B,), for the error.
            name: of the data, for the error.

        Raises:
            ValueError: for values that are not finite, or outside the support.
        """
        require_finite(x, rows, name)
        index_outside = None if self.support is None else first_outside(self.support, x)
        if self.support is not None and index_outside is not None:
            place = f"observation {int(rows[index_outside])} of {name}"
            raise outside(self.support, self.likelihood, x, where=place)


def described(model: Model) -> Described:
    """What a model's likelihood can describe, as far as the model tells.

    Args:
        model: any.

    Returns:
        Shape and support of an observation.

    Example:
        >>> import tightbound as tb
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Bernoulli(nn.Linear(2, 5)),
        ... )
        >>> described(model).shape, described(model).likelihood
        (torch.Size([5]), 'Bernoulli')
    """
    if not isinstance(model, VAE) or type(model).log_joint is not VAE.log_joint:
        return Described(None, None, type(model).__name__)
    if isinstance(model, ConditionalVAE):
        model = model.given_any()
    device, _ = home(model)
    with own_random_state(device, seed=0):
        p = model.decode(model.sample_prior(1))
    return Described(p.event_shape, support_of(p), type(model.likelihood).__name__)


def _described_or_none(model: Model) -> Described | None:
    try:
        return described(model)
    except (RuntimeError, TypeError, ValueError):  # a decoder that fails is told of where it is tried
        return None


def said_of(data: Observations) -> str:
    """What errors call data whose shape is not what somebody expects: their name, and what was done to their axes.

    Args:
        data: observations.

    Example:
        >>> said_of(Observations(torch.zeros(2, 3), name="faces", notes=("the axes of faces were turned",)))
        'faces (the axes of faces were turned)'
    """
    turned = [note for note in data.notes if "axes" in note]
    return f"{data.name} ({'; '.join(turned)})" if turned else data.name


def check_data(model: Model, data: Observations) -> None:
    """Look at every observation once, as the model sees it.

    Args:
        model: on its device.
        data: observations.

    Raises:
        ValueError: for observations of another shape than the likelihood's, values that are not finite, and values
            outside its support.
    """
    device, dtype = home(model)
    known = described(model)
    known.require_shape(data.shape, said_of(data))
    everything = torch.arange(len(data))
    known_besides = Batch(torch.empty(len(data), 0), label=data.label(everything), factors=data.factor_table())
    model.require_known(known_besides.to(device), data.name)
    if data.binarise:
        return
    require_digits(data, dtype)
    rows = max(CHUNK // data.shape.numel(), 1)
    order = everything if data.rows is None else data.rows.cpu().argsort()  # as they lie on the disk
    for part in order.split(rows):
        x = data.unbinarised(part, dtype)
        if data.mask is None:
            known.require_values(x.to(device), part, data.name)


def check_model(model: Model, batch: Batch, *, name: str) -> None:
    """Try a model on a few observations, and say what is wrong with it in a sentence.

    Args:
        model: on its device.
        batch: some observations of the data, on the model's device.
        name: of the data.

    Raises:
        TypeError: for a model in half precision, layers without a size yet, a network that gives several tensors.
        ValueError: for parts that do not fit together or do not fit the data, and for a ``log_posterior`` that is not
            the density of what ``propose`` draws.
    """
    _require_plain_parameters(model)
    if (known := _described_or_none(model)) is not None:
        known.require_shape(batch.x.shape[1:], name)
    batch = batch.rows(slice(0, FEW))._replace(checked=True)
    model.require_known(batch, name)
    with evaluation_mode(model), own_random_state(batch.x.device, seed=0):
        if isinstance(model, VAE) and type(model).encoded is VAE.encoded:
            _require_latents(model, batch, name)
        _require_agreement(model, batch)


def squashes(model: Model, batch: Batch) -> bool:
    """Whether a Bernoulli decoder keeps its logits in [0, 1] however far away the latents are: behind a Sigmoid.

    Args:
        model: any, on its device.
        batch: some observations, likewise.

    Returns:
        Whether it does; False for models of another kind, and where latents are discrete.

    Example:
        >>> import tightbound as tb
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Bernoulli(nn.Sequential(nn.Linear(2, 5), nn.Sigmoid())),
        ... )
        >>> squashes(model, Batch(torch.ones(2, 5)))
        True
    """
    if not isinstance(model, VAE) or type(model).log_joint is not VAE.log_joint or any(_kinds(model.prior())):
        return False
    batch = batch.rows(slice(0, FEW))
    with evaluation_mode(model), own_random_state(batch.x.device, seed=0):
        z, _ = model.propose(model.encoded(batch), FEW)
        logits = _logits(model.likelihood(model.seen_by_decoder(batch, z)))
        if logits is None or not bool(((logits >= 0) & (logits <= 1)).all()):
            return False
        try:
            logits = _logits(model.likelihood(model.seen_by_decoder(batch, torch.cat([z * far for far in FAR]))))
        except (RuntimeError, ValueError):  # so far out a decoder of one's own may refuse
            return False
    if logits is None or not bool((logits.amax(0) - logits.amin(0) > MOVES).any()):  # a decoder of zeros stands still
        return False
    return bool(((logits >= 0) & (logits <= 1)).all())


def _logits(p: Distribution) -> Tensor | None:
    while isinstance(p, Independent):
        p = p.base_dist
    return p.logits if isinstance(p, Bernoulli) else None


def require_gradients() -> None:
    """Say so where gradients are switched off for whoever calls.

    Raises:
        RuntimeError: inside ``torch.no_grad()`` or ``torch.inference_mode()``.
    """
    if not torch.is_grad_enabled() or torch.is_inference_mode_enabled():
        raise RuntimeError(
            "Expected training where gradients are computed; got a call inside torch.no_grad() or "
            "torch.inference_mode(). Move the call of fit out of that block."
        )


def require_trainable(model: nn.Module) -> None:
    """Refuse weights that no step can move.

    Args:
        model: any, before it is moved to where it is trained.

    Raises:
        TypeError: for weights made under ``torch.inference_mode()``, and for those on the meta device.
    """
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_inference():
            raise TypeError(
                f"Expected weights that can be trained; got some made under torch.inference_mode(), such as {name}. "
                "Make the model outside of it."
            )
        if tensor.is_meta:
            raise TypeError(
                f"Expected weights that can be trained; got some on the device meta, such as {name}, which hold no "
                "numbers. Make the model on the device cpu."
            )


def _require_plain_parameters(model: nn.Module) -> None:
    for name, p in model.named_parameters():
        if torch.nn.parameter.is_lazy(p):
            raise TypeError(
                f"Expected layers whose size is known; got a lazy one, whose {name} is not made yet. Call the network "
                "once on zeros of one observation's shape, or write the size down: nn.Linear in place of nn.LazyLinear."
            )
        if p.dtype in (torch.float16, torch.bfloat16):
            raise TypeError(
                f"Expected weights in float32 or float64; got {str(p.dtype).removeprefix('torch.')} in {name}. Take "
                "model.float(); precision='bfloat16' computes products in 16 bits and keeps the weights whole."
            )


def _require_latents(model: VAE, batch: Batch, name: str) -> None:
    observed = tuple(batch.x.shape[1:])
    with _told_as(f"an encoder that takes observations of shape {observed}, those of {name}"):
        q = model.posterior(model.seen_by_encoder(batch))
    _require_batch(q, batch.x.shape[:1], "posterior")
    prior = model.prior()
    if q.event_shape != prior.event_shape:
        raise ValueError(
            f"Expected a prior and a posterior over latents of one shape; got {tuple(prior.event_shape)} from "
            f"{type(model.prior).__name__} and {tuple(q.event_shape)} from {type(model.posterior).__name__}. Give the "
            f"prior latent_dim={q.event_shape.numel()}, or change the encoder's outputs."
        )
    # Unlike torch's sample it lets NaN through to where it is told of.
    z, _ = sample_and_log_prob(q, torch.Size([FEW]))
    _require_one_space(model, q, z)
    if type(model).log_joint is VAE.log_joint:
        with _told_as(f"a decoder that takes latents of shape {tuple(q.event_shape)}, as the posterior draws them"):
            p = model.likelihood(model.seen_by_decoder(batch, z))
        _require_batch(p, z.shape[:2], "likelihood")


def _require_one_space(model: VAE, q: Distribution, z: Tensor) -> None:
    """Refuse a prior without probability where the posterior draws, and a density against probabilities."""
    p = model.prior()
    ours, theirs = support_of(q), support_of(p)
    if ours is None or theirs is None:
        return
    outside = bool(z.isfinite().all()) and first_outside(theirs, z.flatten(0, 1)) is not None
    if _kinds(q) != _kinds(p) or outside:
        prior, posterior = type(model.prior).__name__, type(model.posterior).__name__
        got = "which has no density at some of them" if _kinds(q) == _kinds(p) else f"one of {_latents_of(p)}"
        raise ValueError(
            f"Expected a prior over the latents that {posterior} draws, {_latents_of(q)}; got {prior}, {got}. Take "
            f"tb.priors.{posterior if hasattr(priors, posterior) else 'StandardNormal'}, of the same sizes."
        )


def _kinds(distribution: Distribution) -> list[bool]:
    """Of each element of a latent vector, whether it is discrete."""
    return [part.discrete for part in parts_of(distribution) for _ in range(part.length)]


def _latents_of(distribution: Distribution) -> str:
    """What a latent is made of, in words."""
    words = []
    for part in parts_of(distribution):
        classes = part.length // part.variables
        kind = ("bit" if classes == 1 else "variable") if part.discrete else "number"
        count = f"{part.variables} {kind}{'' if part.variables == 1 else 's'}"
        words.append(f"{count} of {classes} classes" if classes > 1 else count)
    return listed(words)


def _require_batch(distribution: Distribution, axes: torch.Size, role: str) -> None:
    if distribution.batch_shape != axes:
        raise ValueError(
            f"Expected a {role} of batch shape {tuple(axes)}, the axes that its context begins with; got "
            f"{tuple(distribution.batch_shape)}, with events of shape {tuple(distribution.event_shape)}. Its network "
            "must let leading axes through, and torch.distributions.Independent joins the axes of one event."
        )


@contextmanager
def _told_as(expected: str) -> Iterator[None]:
    """What goes wrong inside a user's network, told in terms of what it was given."""
    try:
        yield
    except RuntimeError as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"Expected {expected}; got an error from the network: {first}.") from error


def _require_agreement(model: Model, batch: Batch) -> None:
    encoded = model.encoded(batch)
    z, log_qz_x = model.propose(encoded, FEW)
    expected = (FEW, batch.size)
    if z.shape[:2] != expected or log_qz_x.shape != expected:
        raise ValueError(
            f"Expected propose to give z of shape {(*expected, '*latent')} and log q(z|x) of shape {expected}; got "
            f"{tuple(z.shape)} and {tuple(log_qz_x.shape)}."
        )
    again = model.log_posterior(encoded, z)
    if not torch.allclose(again, log_qz_x, rtol=AGREE, atol=AGREE, equal_nan=True):
        raise ValueError(
            "Expected log_posterior to give the log q(z|x) that propose gives; got "
            f"{again.flatten()[0].item():.4g} where propose gives {log_qz_x.flatten()[0].item():.4g}. Override both "
            "methods, not one of them."
        )
