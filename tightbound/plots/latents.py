"""What the latent's elements do to what is decoded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor

from tightbound.autoencoder import VAE
from tightbound.plots._cells import PAGE, Limits, Sheet, filled, sheet
from tightbound.plots._decoding import Walk, are_classes, decoded, middle_of, walks_of
from tightbound.plots.figure import Figure
from tightbound.plots.style import (
    BLUE,
    GREY,
    INK,
    Array,
    alive_by,
    as_array,
    counted,
    describe,
    number,
    styled,
    z_name,
)
from tightbound.runtime import home

ROWS = 12


@styled
def latent_traversal(
    model: VAE,
    x0: Array | None = None,
    *,
    dimensions: int | Sequence[int] | None = None,
    kl: Array | None = None,
    active: Array | None = None,
    names: Sequence[str] = (),
    span: float = 3.0,
    steps: int = 9,
    limits: Limits | None = None,
) -> Figure:
    r"""Decodings as one latent element moves and the others stay; a row an element, the most informative first.

    An element goes through the quantiles of its prior at which a normal would be so many standard deviations from its
    mean. A variable of a discrete code goes through its classes, while the others have the likeliest of theirs. Of
    latents of both kinds each goes its own way.

    Args:
        model: latents of shape (L,).
        x0: one observation, shape (\*shape), whose embedding the others stay at; the prior's middle without it.
        dimensions: which elements, or how many of the most informative ones; by default at most 12.
        kl: nats each element carries, shape (L,): orders and labels the rows. Without it, order is by index.
        active: which elements are alive, shape (L,), booleans; the others are greyed out. By default those of at least
            0.01 nats are alive, and all of them without ``kl``.
        names: what each of ``dimensions`` stands for, where they are given in order, without ``kl``.
        span: how far to go from the prior's mean, in its standard deviations; classes have no such measure.
        steps: pictures a row; of a discrete code it is one a class.
        limits: as for :func:`~tightbound.plots.images`.

    Raises:
        ValueError: for elements the latent does not have, ``kl`` or ``active`` of another length, fewer than 2 steps,
            or a span that is not positive.

    Example:
        >>> import tightbound as tb
        >>> from torch import nn
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(nn.Linear(2, 5)),
        ... )
        >>> tb.plots.alt_text(latent_traversal(model, kl=torch.tensor([0.0, 2.0])))
        'Decodings along 2 of 2 latent dimensions, from −3 to 3 σ of the prior: z₁ 2.0 nats, z₀ 0.00 nats, dead.'
    """
    if steps < 2 or not span > 0:
        raise ValueError(f"Expected steps >= 2 and span > 0; got steps={steps}, span={span}.")
    at = torch.linspace(-span, span, steps)
    walks = walks_of(model, at.to(*home(model)))
    order, nats, dead = chosen_elements(dimensions, kl, active, len(walks))
    chosen = [walks[j] for j in order]
    z = moved(model, x0, chosen)
    columns = max(len(row) for row in z)
    means = decoded(model, torch.cat(z))
    made = sheet(np.concatenate([filled(row, columns) for row in _rows(means, z)]), columns, limits=limits, page=PAGE)
    words = element_names(order, nats, dead)
    if names:
        if len(names) != len(order) or nats is not None:
            raise ValueError(f"Expected a name for each of {len(order)} dimensions, and no kl; got {len(names)} names.")
        words = [f"{name}: {word}" for name, word in zip(names, words, strict=True)]
    made.label_rows(words, [GREY if gone else INK for gone in dead])
    where = _label_positions(made, chosen, at)
    for index, row in enumerate(z):
        made.clear(index, len(row))
        if dead[index]:
            made.fade(index)
    along = f"Decodings along {len(order)} of {len(walks)} latent dimensions, {where}"
    return describe(made.figure, f"{along}: {', '.join(words)}.")


def _label_positions(made: Sheet, walks: Sequence[Walk], at: Tensor) -> str:
    """Say above the columns what they are; that in words."""
    along = [f"{round(float(v), 6) or 0:.3g}".replace("-", "−") for v in at]
    most = max((len(walk.values) for walk in walks if walk.classes), default=0)
    position, number_of = "position along the prior, in σ", "class of the variable"
    where, through = f"from −{-float(at[0]):g} to {float(at[-1]):g} σ of the prior", f"through {most} classes"
    if not most:
        made.label_columns(along, position)
        return where
    classes = [str(c) for c in range(most)]
    if all(walk.classes for walk in walks):
        made.label_columns(classes, number_of)
        return through
    both = [f"{first}\n{second}" for first, second in zip_longest(along, classes, fillvalue="")]
    made.label_columns(both, f"{position}; below it the {number_of}")
    return f"{where}, or {through}"


def _rows(means: np.ndarray, z: Sequence[Tensor]) -> list[np.ndarray]:
    """The decodings of each row."""
    return np.split(means, np.cumsum([len(row) for row in z])[:-1])


def chosen_elements(
    dimensions: int | Sequence[int] | None, kl: Array | None, active: Array | None, length: int
) -> tuple[list[int], np.ndarray | None, list[bool]]:
    """Which elements a walk is along, the nats of all of them where they are known, and which of these are dead."""
    nats = None if kl is None else _nats(kl, length)
    alive = alive_by(nats if nats is not None else np.full(length, np.inf), active)
    order = _chosen(dimensions, nats, length)
    return order, nats, [not alive[j] for j in order]


def element_names(order: Sequence[int], nats: np.ndarray | None, dead: Sequence[bool]) -> list[str]:
    """What each element is called beside its pictures."""
    return [_row_label(j, nats, dead=gone) for j, gone in zip(order, dead, strict=True)]


def moved(model: VAE, x0: Array | None, walks: Sequence[Walk]) -> list[Tensor]:
    """For each walk latents of shape (positions, L): one variable goes its way, the others stay."""
    middle = middle_of(model, x0)
    rows = [middle.repeat(len(walk.values), 1) for walk in walks]
    for row, walk in zip(rows, walks, strict=True):
        row[:, walk.at] = walk.values
    return rows


def _nats(kl: Array, length: int) -> np.ndarray:
    nats = as_array(kl, "nats per dimension")
    if nats.shape != (length,) or not np.isfinite(nats).all():
        raise ValueError(
            f"Expected kl of shape ({length},), the finite mean nats of each latent dimension; got {nats.shape}. "
            "Average over observations first: kl.mean(0)."
        )
    return nats


def _chosen(dimensions: int | Sequence[int] | None, nats: np.ndarray | None, length: int) -> list[int]:
    if dimensions is None or isinstance(dimensions, int):
        candidates, count = list(range(length)), ROWS if dimensions is None else dimensions
    else:
        candidates, count = [int(j) for j in dimensions], length
    if count < 1 or not candidates or any(not 0 <= j < length for j in candidates):
        raise ValueError(f"Expected dimensions among 0 to {length - 1}, or how many; got {dimensions}.")
    if nats is not None:
        candidates.sort(key=lambda j: -nats[j])
    return candidates[:count]


def _row_label(index: int, nats: np.ndarray | None, *, dead: bool) -> str:
    if nats is None:
        return z_name(index) + (", dead" if dead else "")
    value = float(nats[index])
    return f"{z_name(index)}  {number(value, 1 if value >= 0.1 else 2)} nats" + (", dead" if dead else "")


@styled
def interpolation(model: VAE, a: Array, b: Array, steps: int = 9, *, limits: Limits | None = None) -> Figure:
    r"""Decodings along the straight line between the embeddings of two observations, a row a pair.

    Args:
        model: latents of shape (L,).
        a: where the rows start, shape (N, \*shape); drawn themselves at the left, framed.
        b: where they end, the same shape; drawn at the right.
        steps: decodings a row, the embeddings of both ends among them.
        limits: as for :func:`~tightbound.plots.images`.

    Raises:
        ValueError: for different shapes, or fewer than 2 steps.

    Example:
        >>> import tightbound as tb
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(tb.networks.MLP((1, 4, 4), (4,))),
        ...     likelihood=tb.likelihoods.Bernoulli(tb.networks.MLP((2,), (1, 4, 4))),
        ... )
        >>> tb.plots.alt_text(interpolation(model, torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4)))
        '2 pairs of observations, each with 9 decodings from one to the other.'
    """
    if a.shape != b.shape:
        raise ValueError(f"Expected a and b of one shape (N, ...); got {tuple(a.shape)} and {tuple(b.shape)}.")
    if steps < 2:
        raise ValueError(f"Expected steps >= 2; got {steps}.")
    start, end = model.embed(a), model.embed(b)
    along = torch.linspace(0, 1, steps, dtype=start.dtype, device=start.device)[:, None]
    z = torch.lerp(start[:, None], end[:, None], along)
    means = decoded(model, z.flatten(0, 1)).reshape(len(a), steps, *a.shape[1:])
    everything = np.concatenate([as_array(a)[:, None], means, as_array(b)[:, None]], 1)
    made = sheet(everything.reshape(-1, *a.shape[1:]), steps + 2, limits=limits, page=PAGE)
    for row in range(len(a)):
        for col in (0, steps + 1):
            made.frame(row * (steps + 2) + col, BLUE)
    middle = [""] * (steps - 2)
    made.label_columns(["original", "t = 0", *middle, "t = 1", "original"])
    return describe(
        made.figure, f"{counted(len(a), 'pair')} of observations, each with {steps} decodings from one to the other."
    )


@styled
def manifold(model: VAE, steps: int = 20, *, limits: Limits | None = None) -> Figure:
    r"""Decodings over a two-dimensional latent, at equally spaced quantiles of the prior.

    Args:
        model: latents of shape (2,).
        steps: decodings a side.
        limits: as for :func:`~tightbound.plots.images`.

    Raises:
        ValueError: for a latent of another size or of classes, or fewer than 2 steps.

    Example:
        >>> import tightbound as tb
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(tb.networks.MLP((1, 4, 4), (4,))),
        ...     likelihood=tb.likelihoods.Bernoulli(tb.networks.MLP((2,), (1, 4, 4))),
        ... )
        >>> tb.plots.alt_text(manifold(model, steps=3))
        'Decodings at 3 by 3 quantiles of a two-dimensional prior.'
    """
    if steps < 2:
        raise ValueError(f"Expected steps >= 2; got {steps}.")
    quantiles = (torch.arange(steps) + 0.5) / steps
    walks = walks_of(model, (math.sqrt(2) * torch.erfinv(2 * quantiles - 1)).to(*home(model)))
    if are_classes(walks):
        raise ValueError(
            "Expected a model whose latents are numbers; got one of bits or classes. Use latent_traversal."
        )
    if len(walks) != 2:
        raise ValueError(
            f"Expected a model with 2 latent dimensions; got {len(walks)}. For others use latent_traversal."
        )
    across, up = (walk.values[:, 0] for walk in walks)
    z = torch.cartesian_prod(up.flip(0), across).flip(1)
    made = sheet(decoded(model, z), steps, limits=limits, gap=0.0)
    shown = {0, steps // 4, steps - 1 - steps // 4, steps - 1} | ({steps // 2} if steps % 2 else set())
    made.label_columns([number(float(v)) if i in shown else "" for i, v in enumerate(across)])
    made.label_rows([number(float(v)) if i in shown else "" for i, v in enumerate(up.flip(0))])
    made.axes.set(xlabel=z_name(0), ylabel=z_name(1))
    made.axes.tick_params(labelbottom=True, labeltop=False)
    return describe(made.figure, f"Decodings at {steps} by {steps} quantiles of a two-dimensional prior.")
