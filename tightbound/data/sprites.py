"""Sprites: small pictures made of known factors, so that what a latent dimension means can be measured."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from tightbound.data.mapped import require_memory
from tightbound.data.observations import Observations
from tightbound.data.rows import Rows

Colour = Literal["binary", "grey", "hue", "primary"]
SHAPES = ("arrow", "L", "heart")  # none of them looks the same after a turn, so no two images are equal
LEAST = 16  # pixels a side, below which turned sprites look alike
RADIUS = 0.22  # of the largest sprite, where the canvas is 1 wide
SMALLEST = 0.5  # scale of the smallest sprite
FINE = 4  # each pixel is looked at in 4 × 4 places
AT_ONCE = 2**21  # places looked at in one go
IN_MEMORY = 2**28  # bytes up to which all images are kept


def sprites(
    size: int = 32,
    *,
    colour: Colour = "binary",
    scales: int = 6,
    rotations: int = 8,
    positions: int = 8,
    hues: int | None = None,
    in_memory: bool | None = None,
) -> Observations:
    r"""All combinations of shape, scale, rotation, position and perhaps hue, an image each: the same on every machine.

    A sprite is an arrow, an L or a heart, none of which any turn maps to itself. So all images are distinct, and each
    factor can be read off: what is not found in a code is the code's fault. That holds for the counts given here, from
    32 pixels on. Binary images can be equal where pixels are fewer or steps finer.

    Args:
        size: pixels of a side.
        colour: "grey" for pixels that say in 17 levels how much of them is covered; "binary" for 1 where it is half or
            more, and 0 elsewhere; "hue" for grey ones in a colour, with the hue as one more factor; "primary" for
            binary ones in one of the six colours whose red, green and blue are each off or on.
        scales: how many sizes, from half the largest to the largest.
        rotations: how many turns, evenly over the full circle.
        positions: how many places along x, and as many along y.
        hues: how many hues, evenly over the circle of colours; for "primary" at most 6, which is also what "primary"
            has where nothing else is said.
        in_memory: whether to keep the images. Otherwise they are drawn whenever they are needed. By default they are
            kept where they fit into 256 MB.

    Returns:
        Observations of shape (1, size, size), or (3, size, size) in colours. Their factors are "shape", "scale" as a
        share of the largest, "rotation" in degrees, "x" and "y" of the middle as shares of the canvas, and "hue" as a
        share of the circle; their labels are shapes. Where the images are kept, their entropy is known: log N nats if
        all N are distinct, each as likely as the others. No model can need less on average.

    Raises:
        TypeError: for a number that is not whole.
        ValueError: for too small a number, or another colour.

    References:
        After Matthey et al.: dSprites (2017), https://github.com/google-deepmind/dsprites-dataset, whose squares and
        ellipses look the same after some turns.

    Example:
        >>> made = sprites()
        >>> len(made), made.shape, made.factor_names
        (9216, torch.Size([1, 32, 32]), ('shape', 'scale', 'rotation', 'x', 'y'))
        >>> print(f"{made.entropy:.3f} {math.log(9216):.3f}")
        9.129 9.129
        >>> upright = sprites(colour="primary", scales=4, rotations=1, positions=12)
        >>> len(upright), upright.factor_names
        (10368, ('shape', 'scale', 'x', 'y', 'hue'))
        >>> len(sprites(64, rotations=40, positions=32))
        737280
    """
    if colour not in get_args(Colour):
        raise ValueError(f"Expected a colour of {', '.join(get_args(Colour))}; got {colour!r}.")
    hues = (6 if colour == "primary" else 8) if hues is None else hues
    numbers = {"size": size, "scales": scales, "rotations": rotations, "positions": positions, "hues": hues}
    for name, value in numbers.items():
        least = LEAST if name == "size" else 1
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"Expected a whole number for {name}; got {value!r}.")
        if value < least:
            raise ValueError(f"Expected {name} of at least {least}; got {value}.")
    if colour == "primary" and 6 % hues:
        raise ValueError(f'Expected 1, 2, 3 or 6 hues with colour="primary"; got {hues}. Take colour="hue" for others.')
    require_memory(4 * size**2, of=f"sprites of size {size}", remedy="Take a smaller size (--data.size).")
    table, names = _table(colour, scales, rotations, positions, hues)
    drawn = Drawn(table, size, colour)
    several = (table != table[0]).any(0)
    keep = math.prod(drawn.shape) <= IN_MEMORY if in_memory is None else in_memory
    stored = drawn.whole() if keep else drawn
    return Observations(
        stored,
        labels=table[:, 0].long(),
        label_names=SHAPES,
        factors=table[:, several],
        factor_names=tuple(name for name, differs in zip(names, several.tolist(), strict=True) if differs),
        name="sprites",
        scale=1.0 if colour in ("binary", "primary") else 255.0,
        entropy=_entropy(stored) if isinstance(stored, Tensor) else None,
    )


def _entropy(images: Tensor) -> float:
    """Of one of the images, each as likely as the others: log N where all are distinct, in nats."""
    counts = Counter(image.tobytes() for image in images.numpy())
    return math.log(len(images)) - sum(count * math.log(count) for count in counts.values()) / len(images)


def _table(colour: str, scales: int, rotations: int, positions: int, hues: int) -> tuple[Tensor, tuple[str, ...]]:
    """Every combination of the factors' values, the last factor changing fastest."""
    places = np.linspace(RADIUS, 1 - RADIUS, positions) if positions > 1 else [0.5]
    values: dict[str, Any] = {
        "shape": range(len(SHAPES)),
        "scale": np.linspace(SMALLEST, 1, scales) if scales > 1 else [1.0],
        "rotation": [360 * turn / rotations for turn in range(rotations)],
        "x": places,
        "y": places,
    }
    if colour in ("hue", "primary"):
        values["hue"] = [hue / hues for hue in range(hues)]
    rows = itertools.product(*values.values())
    flat = np.fromiter(itertools.chain.from_iterable(rows), np.float64)
    return torch.from_numpy(flat.reshape(-1, len(values))), tuple(values)


@dataclass(frozen=True, eq=False)
class Drawn(Rows):
    """Images that are drawn when they are asked for, in the place of a tensor that holds them.

    Args:
        table: factors of each image as :func:`sprites` has them, shape (N, F); any values, not those of a grid alone.
        size: pixels of a side.
        colour: as of :func:`sprites`.

    Example:
        >>> one = Drawn(torch.tensor([[2, 1.0, 45, 0.5, 0.5]]), 32, "binary")
        >>> one.take(torch.tensor([0])).shape, one.dtype
        (torch.Size([1, 1, 32, 32]), torch.uint8)
    """

    table: Tensor
    size: int
    colour: Colour

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self.table), 3 if self.colour in ("hue", "primary") else 1, self.size, self.size))

    def take(self, index: Tensor) -> Tensor:
        rows = self.table[index].numpy()
        drawn, of = np.unique(rows[:, :5], axis=0, return_inverse=True)  # colours share a form
        covered = _covered(drawn, self.size)[of.ravel()]
        if self.colour == "binary":
            return torch.from_numpy((covered >= 0.5).astype(np.uint8))[:, None]
        if self.colour == "primary":
            on = _rgb(rows[:, 5]) > 0.5
            return torch.from_numpy((on[:, :, None, None] & (covered >= 0.5)[:, None]).astype(np.uint8))
        paint = np.ones((len(rows), 1), np.float32) if self.colour == "grey" else _rgb(rows[:, 5])
        return torch.from_numpy(np.rint(255 * paint[:, :, None, None] * covered[:, None]).astype(np.uint8))


def _covered(rows: np.ndarray, size: int) -> np.ndarray:
    """How much of each pixel the sprite covers, 0 to 1, shape (M, size, size)."""
    canvas = np.zeros((len(rows), size, size), np.float32)
    width = min(size, 2 * math.ceil(RADIUS * size) + 1)  # of a window that holds the sprite
    left, top = (np.clip(np.floor(rows[:, at] * size - width / 2), 0, size - width).astype(int) for at in (3, 4))
    each = max(1, AT_ONCE // (width * FINE) ** 2)
    for kind, inside in enumerate((_arrow, _ell, _heart)):
        (found,) = np.nonzero(rows[:, 0] == kind)
        for part in np.split(found, range(each, len(found), each)):
            seen = inside(*_turned(rows[part], left[part], top[part], width, size))
            shares = seen.reshape(-1, width, FINE, width, FINE).mean((2, 4), dtype=np.float32)
            across, down = left[part, None] + np.arange(width), top[part, None] + np.arange(width)
            canvas[part[:, None, None], down[:, :, None], across[:, None, :]] = shares
    return canvas


def _turned(
    rows: np.ndarray, left: np.ndarray, top: np.ndarray, width: int, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Places of each window as the sprite sees them: it stands upright, and nothing of it is further away than 1."""
    x, y = (start[:, None] / size + (np.arange(width * FINE) + 0.5) / (size * FINE) for start in (left, top))
    radius, turn = RADIUS * rows[:, 1, None], np.deg2rad(rows[:, 2, None, None])
    # Processors differ in the last bit of a cosine; what a pixel shows may hang on it.
    cosine, sine = np.cos(turn).round(12), np.sin(turn).round(12)
    right, up = ((x - rows[:, 3, None]) / radius)[:, None, :], ((rows[:, 4, None] - y) / radius)[:, :, None]
    return cosine * right + sine * up, cosine * up - sine * right


def _arrow(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    head = (v > 0) & (np.abs(u) < 0.8 * (0.98 - v))
    return head | ((v > -0.95) & (v <= 0) & (np.abs(u) < 0.27))


def _ell(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    upright = (np.abs(u + 0.32) < 0.24) & (np.abs(v) < 0.8)
    return upright | ((np.abs(u - 0.02) < 0.58) & (np.abs(v + 0.56) < 0.24))


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    x, y = 1.3 * u, 1.3 * v + 0.12
    far = x * x + y * y - 1
    return far * far * far < x * x * y * y * y


def _rgb(hue: np.ndarray) -> np.ndarray:
    """Bright colours around the circle, shape (M, 3)."""
    return np.clip(np.abs((6 * hue[:, None] + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
