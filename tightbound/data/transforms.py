"""Transforms of images that leave them what they are: for training's batches alone, drawn anew in each step.

``fit(transform=…)`` takes one, or any function of your own from a batch's x to another x of its shape. It runs where
the batch is computed, and draws from torch's random numbers, so that a resumed run repeats the uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Compose", "Flip", "Shift"]

Transform = Callable[[Tensor], Tensor]
WAYS = ("horizontal", "vertical", "both")


@dataclass(frozen=True)
class Shift:
    """Move each image by up to some pixels along both axes; its edge is repeated where nothing was.

    No value appears that the image did not have, so the likelihood describes what it described before.

    Args:
        pixels: the farthest, at least 1. Each whole number up to it, either way, is as likely.

    Raises:
        TypeError: for a fraction.
        ValueError: for fewer than 1 pixel; when it is called, for observations that are no images, or smaller ones.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> Shift(1)(torch.tensor([[[[1.0, 2.0, 3.0]] * 3]]))[0, 0, 0]
        tensor([1., 1., 2.])
    """

    pixels: int

    def __post_init__(self) -> None:
        if not isinstance(self.pixels, Integral) or isinstance(self.pixels, bool):
            raise TypeError(f"Expected a whole number of pixels to shift by; got {self.pixels!r}. 2 will do.")
        if self.pixels < 1:
            raise ValueError(f"Expected at least 1 pixel to shift by; got {self.pixels}. Leave the transform out.")

    def __call__(self, x: Tensor) -> Tensor:
        _require_images(x, self)
        count, channels, height, width = x.shape
        if self.pixels >= min(height, width):
            raise ValueError(
                f"Expected a shift of fewer pixels than the {min(height, width)} of an image's side; got "
                f"{self.pixels}. Take fewer."
            )
        by = torch.randint(-self.pixels, self.pixels + 1, (2, count, 1), device=x.device)
        rows = (torch.arange(height, device=x.device) + by[0]).clamp(0, height - 1)
        columns = (torch.arange(width, device=x.device) + by[1]).clamp(0, width - 1)
        each, channel = torch.arange(count, device=x.device), torch.arange(channels, device=x.device)
        return x[
            each[:, None, None, None], channel[None, :, None, None], rows[:, None, :, None], columns[:, None, None]
        ]


@dataclass(frozen=True)
class Flip:
    """Turn every other image over, drawn for each by itself.

    Args:
        way: "horizontal" exchanges left and right, "vertical" top and bottom; "both" draws each of the two by itself.

    Raises:
        ValueError: for another way; when it is called, for observations that are no images.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> Flip()(torch.tensor([[[[1.0, 2.0]]]] * 3))[:, 0, 0].tolist()
        [[2.0, 1.0], [1.0, 2.0], [2.0, 1.0]]
    """

    way: Literal["horizontal", "vertical", "both"] = "horizontal"

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise ValueError(f"Expected a flip among {', '.join(WAYS)}; got {self.way!r}.")

    def __call__(self, x: Tensor) -> Tensor:
        _require_images(x, self)
        for axis, way in ((-1, "horizontal"), (-2, "vertical")):
            if self.way in (way, "both"):
                turned = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
                x = torch.where(turned, x.flip(axis), x)
        return x


@dataclass(frozen=True)
class Compose:
    """One transform after another.

    Args:
        transforms: the first one first.

    Example:
        >>> Compose((Flip(), Shift(2)))(torch.zeros(3, 1, 8, 8)).shape
        torch.Size([3, 1, 8, 8])
    """

    transforms: tuple[Transform, ...]

    def __call__(self, x: Tensor) -> Tensor:
        for transform in self.transforms:
            x = transform(x)
        return x


def _require_images(x: Tensor, transform: object) -> None:
    if x.ndim != 4:
        raise ValueError(
            f"Expected images of shape (channels, height, width) for {transform!r}; got observations of shape "
            f"{tuple(x.shape[1:])}. Leave the transform out, or write a function of your own for such data."
        )
