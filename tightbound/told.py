"""Networks that are told something beside their input, or less than all of it: a constant, a class, covariates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tightbound.networks import image_shape

__all__ = ["Beside", "Late", "Planes", "Without", "in_every_class"]


class Beside(nn.Module):
    """A network that is told a constant beside its input.

    Args:
        network: takes flat vectors of the input's numbers and the constant's.
        value: the constant, a vector.

    Example:
        >>> Beside(nn.Identity(), torch.tensor([7.0]))(torch.zeros(1, 2))
        tensor([[0., 0., 7.]])
    """

    value: Tensor

    def __init__(self, network: nn.Module, value: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("value", value)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(torch.cat([x.flatten(1), self.value.expand(len(x), -1)], 1))


class Late(nn.Module):
    """Two networks in a row, of which the second one is told further numbers: what the first one makes is shared.

    Args:
        trunk: from the input to features, a vector.
        head: from features, with the further numbers behind them, to the output.
        shape: of the input.

    Example:
        >>> Late(nn.Identity(), nn.Identity(), (2,))(torch.tensor([[1.0, 2.0, 7.0]]))
        tensor([[1., 2., 7.]])
    """

    def __init__(self, trunk: nn.Module, head: nn.Module, shape: Sequence[int]) -> None:
        super().__init__()
        self.trunk, self.head, self.shape = trunk, head, torch.Size(shape)

    def forward(self, x: Tensor) -> Tensor:
        own, others = x.split([self.shape.numel(), x.shape[1] - self.shape.numel()], 1)
        return self.head(torch.cat([self.trunk(own.reshape(-1, *self.shape)), others], 1))


class Without(nn.Module):
    """A network that does not see some of its input's numbers.

    Args:
        network: takes flat vectors of the others.
        start: the first number that it does not see.
        stop: the first one behind these.

    Example:
        >>> Without(nn.Identity(), 1, 3)(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
        tensor([[1., 4.]])
    """

    def __init__(self, network: nn.Module, start: int, stop: int) -> None:
        super().__init__()
        self.network, self.start, self.stop = network, start, stop

    def forward(self, x: Tensor) -> Tensor:
        return self.network(torch.cat([x[:, : self.start], x[:, self.stop :]], 1))


def in_every_class(network: nn.Module, x: Tensor, classes: int) -> Tensor:
    r"""The output of a network that is told a class behind its input, in every class; a :class:`Late` looks at x once.

    Args:
        network: takes flat vectors of x with a one-hot class behind it.
        x: shape (B, \*shape).
        classes: how many, C.

    Returns:
        Shape (B, C, numbers).

    Example:
        >>> in_every_class(nn.Identity(), torch.tensor([[7.0]]), 2)
        tensor([[[7., 1., 0.],
                 [7., 0., 1.]]])
    """
    seen = x.flatten(1)
    if isinstance(network, Late):
        seen, network = network.trunk(x), network.head
    every = torch.eye(classes, dtype=seen.dtype, device=seen.device).expand(len(x), classes, classes)
    told = torch.cat([seen[:, None].expand(-1, classes, -1), every], -1)
    out: Tensor = network(told.flatten(0, 1))
    return out.unflatten(0, (len(x), classes))


class Planes(nn.Module):
    """A network of images that sees further numbers as planes: constant channels behind those of the image.

    Args:
        network: takes images of so many more channels.
        shape: of the image: (channels, height, width).

    Example:
        >>> Planes(nn.Identity(), (1, 2, 2))(torch.tensor([[1.0, 2.0, 3.0, 4.0, 7.0]]))
        tensor([[[[1., 2.],
                  [3., 4.]],
        <BLANKLINE>
                 [[7., 7.],
                  [7., 7.]]]])
    """

    def __init__(self, network: nn.Module, shape: Sequence[int]) -> None:
        super().__init__()
        self.network, self.shape = network, image_shape(shape)

    def forward(self, x: Tensor) -> Tensor:
        image, others = x.split([self.shape.numel(), x.shape[1] - self.shape.numel()], 1)
        planes = others[:, :, None, None].expand(-1, -1, *self.shape[1:])
        return self.network(torch.cat([image.reshape(-1, *self.shape), planes], 1))
