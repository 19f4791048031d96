"""What an evaluation is about: observations, looked at once as the model sees them, and the latents of the model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tightbound.autoencoder import VAE
from tightbound.batch import Batch, require_whole
from tightbound.checks import check_model, described, said_of
from tightbound.conditioned import ConditionalVAE
from tightbound.evaluate.noise import proposed
from tightbound.likelihoods import point_estimate
from tightbound.model import Model
from tightbound.runtime import home, require_computing

if TYPE_CHECKING:
    from tightbound.data.observations import Observations

WRITTEN = 2**20  # numbers the decoder writes at a time on a CPU: what its cache holds …
WRITTEN_GPU = 2**24  # … and elsewhere: enough to keep a GPU busy, 64 MB in float32
ENCODED = 1024  # observations encoded at a time, at most, where nothing is decoded
TRIED = 64  # draws that tell whether a latent is discrete
REPEATED = 0.5  # share of equal neighbours among sorted draws from which on it is taken for that


def observed_as(data: Any) -> Observations:
    """Data as observations: whatever ``tb.data.observations`` takes."""
    from tightbound.data import observations

    require_computing()
    return observations(data)


def some_of(observed: Observations, count: int) -> Observations:
    """So many of the observations, taken at random, in their order; all where there are fewer.

    Raises:
        ValueError: for fewer than two, which show no error.
    """
    require_several(count, "observations")
    return observed.subset(torch.randperm(len(observed))[:count].sort().values)


def require_several(count: int, name: str) -> None:
    """Refuse a mean that has no error.

    Raises:
        ValueError: for fewer than two.
    """
    require_whole(count, name)
    if count < 2:
        raise ValueError(f"Expected at least 2 {name}, which show an error; got {name}={count}.")


def require_two(count: int, name: str) -> None:
    """Refuse held-out data that show no spread.

    Raises:
        ValueError: for fewer than two observations.
    """
    if count < 2:
        raise ValueError(f"Expected at least 2 held-out observations, which show an error; got {count} in {name}.")


def rows_at_once(model: Model, observed: Observations) -> int:
    """How many latents the decoder takes at a time."""
    parameters = getattr(getattr(model, "likelihood", None), "parameters_per_element", 1)
    width = observed.shape.numel() * parameters
    return max(1, (WRITTEN if home(model)[0].type == "cpu" else WRITTEN_GPU) // width)


def blocks(model: Model, observed: Observations, size: int) -> Iterator[tuple[int, Batch]]:
    """Observations some at a time, where the model is, each block with the index of its first.

    Model and data are checked on the first block, and the values of every block.

    Raises:
        ValueError: for observations of another shape than the model's, and values that are not finite or lie outside
            the likelihood's support.
    """
    device, dtype = home(model)
    known, start = described(model), 0
    known.require_shape(observed.shape, said_of(observed))
    for batch in observed.batches(size, dtype):
        batch = batch.to(device)._replace(checked=True)
        rows = observed.rows_of(torch.arange(start, start + batch.size))
        batch = _within_type(batch, observed, start)
        known.require_values(batch.x, rows, observed.name)
        model.require_known(batch, observed.name)
        if not start:
            check_model(model, batch, name=said_of(observed))
        yield start, batch
        start += batch.size


def _within_type(batch: Batch, observed: Observations, start: int) -> Batch:
    """The batch with numbers that its type calls infinite at the type's end: too far for a density, yet numbers."""
    beyond = batch.x.isinf().flatten(1).any(1)
    if not beyond.any():
        return batch
    index = beyond.nonzero()[:, 0].cpu()
    if not observed.take(start + index).isfinite().all():
        return batch
    end = torch.finfo(batch.x.dtype).max
    return batch._replace(x=batch.x.clamp(-end, end))


def latent_of(model: Model, batch: Batch) -> tuple[torch.Size, bool]:
    """Shape of the latent of an observation, and whether some part of it is discrete.

    Of models that do not say what z is, it is discrete where draws repeat, as those of real numbers do not.
    """
    z, _ = proposed(model, batch.rows(slice(0, 1)), [0], TRIED)
    shape = z.shape[2:]
    if parts := model.parts(batch):
        return shape, any(part.discrete for part in parts)
    return shape, bool((z.sort(0).values.diff(dim=0) == 0).float().mean() > REPEATED)


def continuous_latent_of(model: Model, batch: Batch, purpose: str) -> torch.Size:
    """Shape of the latent of an observation.

    Raises:
        ValueError: for a latent that is discrete, at least in part; ``purpose`` says what it cannot be used for.
    """
    shape, discrete = latent_of(model, batch)
    if discrete:
        raise ValueError(
            f"Expected continuous latents {purpose}; got a model whose latents are discrete, at least in part. Where "
            "all codes can be listed, tb.evaluate.evidence is exact."
        )
    return shape


def simulates(model: Model) -> bool:
    """Whether the model can make observations with their latents, by the log_joint that it is judged by."""
    conditional = isinstance(model, ConditionalVAE)
    return isinstance(model, VAE) and not conditional and type(model).log_joint is VAE.log_joint


def require_simulating(model: Model) -> VAE:
    """The model, which can make observations with their latents.

    Raises:
        TypeError: for one that cannot.
    """
    if isinstance(model, VAE) and simulates(model):
        return model
    if isinstance(model, ConditionalVAE):
        raise TypeError(
            "Expected a VAE, which can simulate observations with their latents; got ConditionalVAE, whose conditions "
            "have no distribution. Take it under one of them, model.given(label=0), with the data of that condition."
        )
    raise TypeError(
        f"Expected a VAE, which can simulate observations with their latents; got {type(model).__name__}, whose "
        "log_joint is its own."
    )


def require_normalised(model: Model, purpose: str) -> None:
    """Refuse draws of x that are unlike the data.

    Raises:
        ValueError: for a likelihood that does not sum or integrate to one; ``purpose`` says what its draws are no use
            for.
    """
    if not model.is_normalised:
        raise ValueError(
            f"Expected a likelihood that sums or integrates to one, {purpose}; got UnnormalisedBernoulli, whose draws "
            "are 0 or 1 and whose data are grey. Take ContinuousBernoulli or DiscretizedLogistic for grey data."
        )


def simulated(model: VAE, count: int, size: int) -> Iterator[tuple[Batch, Tensor]]:
    r"""Observations that the model makes, some at a time, with the latents that they are made of.

    Args:
        model: as :func:`simulates` wants it.
        count: how many.
        size: how many at a time.
    """
    for z in model.sample_prior(count).split(size):
        yield Batch(draw_of(model, z).to(home(model)[1]), checked=True), z


def draw_of(model: VAE, z: Tensor) -> Tensor:
    """A draw of p(x | z).

    Args:
        model: whose decoder it is.
        z: as the decoder takes them.

    Raises:
        ValueError: where the decoder gives NaN, and its distribution cannot be drawn from.
    """
    p = model.decode(z)
    try:
        return p.sample()
    except RuntimeError:
        bad = point_estimate(p).isnan()
        if not bad.any():
            raise
        raise ValueError(
            f"Expected p(x|z) to have numbers for parameters; got NaN in {int(bad.sum())} of {bad.numel()} elements at "
            "drawn latents. Find the layer that gives them: model.decode(model.sample_prior(100))."
        ) from None


def drawn(model: VAE, count: int, rows: int) -> tuple[Tensor, Tensor]:
    r"""So many draws of x, with the latents that they are made of.

    Args:
        model: as :func:`simulates` wants it.
        count: how many.
        rows: how many at a time.

    Returns:
        Shape (count, \*shape) and (count, \*latent), where the model is.
    """
    made, codes = zip(*((batch.x, z) for batch, z in simulated(model, count, rows)), strict=True)
    return torch.cat(made), torch.cat(codes)
