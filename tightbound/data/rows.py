"""Observations whose rows are read or made when they are asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Rows(ABC):
    """8-bit images in the place of a tensor that holds them: it has that tensor's shape, and gives its rows.

    A subclass writes :attr:`shape` and :meth:`take`.
    """

    dtype = torch.uint8
    layout = torch.strided
    device = torch.device("cpu")

    @property
    @abstractmethod
    def shape(self) -> torch.Size:
        """N, channels, height and width."""

    @abstractmethod
    def take(self, index: Tensor) -> Tensor:
        """Read or make some of the images.

        Args:
            index: which, integers, shape (M,).

        Returns:
            8-bit pixels, shape (M, channels, height, width).
        """

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def index_select(self, dim: int, index: Tensor) -> Tensor:
        """Some of the images, as a tensor gives them; ``dim`` is 0."""
        return self.take(index)

    def whole(self) -> Tensor:
        """All images."""
        return self.take(torch.arange(len(self)))

    def to(self, device: torch.device) -> Tensor | Rows:
        """Themselves on the CPU; on another device all images, read or made once."""
        return self if device.type == "cpu" else self.whole().to(device)
