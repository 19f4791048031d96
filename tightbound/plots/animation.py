"""A walk along latent elements as a moving picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tightbound.autoencoder import VAE
from tightbound.files import write_atomically
from tightbound.plots._decoding import decoded, walks_of
from tightbound.plots.figure import AnyFigure, Figure
from tightbound.plots.latents import chosen_elements, element_names, moved
from tightbound.plots.pictures import images
from tightbound.plots.style import Array, styled
from tightbound.runtime import home

DPI = 100
COLUMNS = 5


@styled
def traversal_frames(
    model: VAE,
    x0: Array | None = None,
    *,
    dimensions: int | Sequence[int] | None = None,
    kl: Array | None = None,
    active: Array | None = None,
    span: float = 2.5,
    steps: int = 32,
) -> list[Figure]:
    r"""One latent element at a time goes along its prior and back, all of them beside each other: a figure a step.

    A variable of classes goes through them.

    Args:
        model: latents of shape (L,).
        x0: one observation, shape (\*shape), whose embedding the others stay at; the prior's middle without it.
        dimensions: which elements, or how many of the most informative ones; by default at most 12.
        kl: nats each element carries, shape (L,): orders and labels them.
        active: which elements are alive, shape (L,), booleans; the others are named so.
        span: how far to go from the prior's middle, in its standard deviations.
        steps: figures, an even number; the last is followed by the first without a jump.

    Raises:
        ValueError: for fewer than 2 steps, and as ``latent_traversal``.

    Example:
        >>> import tightbound as tb
        >>> from torch import nn
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(nn.Linear(2, 5)),
        ... )
        >>> frames = traversal_frames(model, steps=4)
        >>> len(frames), tb.plots.alt_text(frames[1])
        (4, '2 observations of shape (5,).')
    """
    if steps < 2 or not span > 0:
        raise ValueError(f"Expected steps >= 2 and span > 0; got steps={steps}, span={span}.")
    half = steps // 2
    there = -span * torch.cos(math.pi * torch.arange(half + 1) / half)  # slower where it turns
    back = [*range(half), *range(half, 0, -1)]
    walks = walks_of(model, there.to(*home(model)))
    order, nats, dead = chosen_elements(dimensions, kl, active, len(walks))
    chosen = [walks[j] for j in order]
    # A variable shows each of its classes for as long, one after the other, and begins anew.
    through = [[step * len(walk.values) // (2 * half) for step in range(2 * half)] for walk in chosen]
    places = [own if walk.classes else back for walk, own in zip(chosen, through, strict=True)]
    z = [row[place] for row, place in zip(moved(model, x0, chosen), places, strict=True)]
    made = np.asarray(decoded(model, torch.cat(z)))
    made = made.reshape(len(order), 2 * half, *made.shape[1:])
    titles = element_names(order, nats, dead)
    low, high = float(made.min()), float(made.max())
    limits = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    columns = min(COLUMNS, len(order))
    return [images(made[:, step], columns=columns, titles=titles, limits=limits) for step in range(2 * half)]


def save_animation(figures: Sequence[AnyFigure], path: str | Path, *, seconds: float = 4.0) -> Path:
    """Write figures as a moving picture that begins anew at its end, making the folders above it.

    Args:
        figures: of one size.
        path: a name ending in ``.gif`` or ``.webp``.
        seconds: how long one round takes.

    Returns:
        The path.

    Raises:
        ValueError: for another ending, no figure, or a time that is not positive.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_animation([Figure(figsize=(1, 1))] * 2, f"{folder}/empty.gif").is_file()
        True
    """
    from PIL import Image

    path = Path(path)
    if path.suffix.lower() not in (".gif", ".webp"):
        raise ValueError(f"Expected a path ending in .gif or .webp; got {path}.")
    if not figures or not seconds > 0:
        raise ValueError(f"Expected figures, and seconds > 0; got {len(figures)} and {seconds}.")
    frames = [Image.fromarray(_pixels(figure)) for figure in figures]
    each = max(20, round(1000 * seconds / len(frames)))  # milliseconds; viewers slow down what is faster
    told: dict[str, Any] = {"format": path.suffix[1:].upper(), "save_all": True, "append_images": frames[1:], "loop": 0}
    write_atomically(path, lambda temporary: frames[0].save(temporary, duration=each, **told))
    return path


@styled
def _pixels(figure: AnyFigure) -> np.ndarray:
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
