"""Networks: plain modules, tensor to tensor, built for any shape of observation. Leading axes pass through."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "MLP", "ChannelNorm", "ConvDecoder", "ConvEncoder", "Residual", "Standardized", "activation", "end_in_zeros",
    "image_shape", "start_at", "xavier_",
]  # fmt: skip

SMALL = 0.1  # of the usual size: a convolutional decoder's last weights at the start
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
}


def activation(name: str) -> nn.Module:
    """The activation of that name.

    Args:
        name: one of ``ACTIVATIONS``.

    Returns:
        A module.

    Raises:
        ValueError: for an unknown name.

    Example:
        >>> activation("relu")
        ReLU()
    """
    if name not in ACTIVATIONS:
        close = difflib.get_close_matches(name, ACTIVATIONS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"Expected an activation among {', '.join(ACTIVATIONS)}; got {name!r}.{hint}")
    return ACTIVATIONS[name]()


class MLP(nn.Module):
    r"""Fully connected layers from any shape to any shape.

    Args:
        inputs: shape of one input; its axes are flattened.
        outputs: shape of one output.
        hidden: widths of the hidden layers; empty for a linear map.
        act: name of the activation.

    Example:
        >>> MLP((1, 28, 28), (40,), hidden=(400,))(torch.zeros(3, 1, 28, 28)).shape
        torch.Size([3, 40])
    """

    def __init__(
        self, inputs: Sequence[int], outputs: Sequence[int], *, hidden: Sequence[int] = (400,), act: str = "relu"
    ) -> None:
        super().__init__()
        self.inputs, self.outputs = torch.Size(inputs), torch.Size(outputs)
        self.hidden, self.act = tuple(hidden), act
        widths = [self.inputs.numel(), *hidden]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), activation(act)]
        self.layers = nn.Sequential(*layers)
        self.last = nn.Linear(widths[-1], self.outputs.numel())

    def forward(self, x: Tensor) -> Tensor:
        out = self.last(self.layers(_flattened(x, self.inputs)))
        return out if len(self.outputs) == 1 else out.unflatten(-1, self.outputs)


def _flattened(x: Tensor, shape: torch.Size) -> Tensor:
    if x.shape[x.ndim - len(shape) :] != shape:
        raise ValueError(f"Expected input of shape (..., {', '.join(map(str, shape))}); got {tuple(x.shape)}.")
    return x.flatten(-len(shape)) if len(shape) > 1 else x


def _sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Image sizes from the input down to about 4 pixels on the shorter side, each half the one before, rounded up."""
    sizes = [(height, width)]
    while min(sizes[-1]) > 5 and len(sizes) < 6:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def _widths(stages: int, base: int) -> list[int]:
    return [min(base * 2**i, 8 * base) for i in range(stages)]


class ChannelNorm(nn.LayerNorm):
    r"""Each pixel's channels brought to mean 0 and deviation 1, then scaled and shifted by learned numbers.

    Nothing is shared between pixels or observations, so that a row's numbers do not depend on the rows beside it.

    References:
        Ba et al.: Layer normalization (2016), https://arxiv.org/abs/1607.06450; over channels as in Liu et al.: A
        ConvNet for the 2020s (2022), https://arxiv.org/abs/2201.03545.

    Args:
        channels: of the image.

    Example:
        >>> y = ChannelNorm(8)(3 + 5 * torch.randn(2, 8, 4, 4))
        >>> bool((y.mean(1).abs() < 1e-5).all()), y.shape
        (True, torch.Size([2, 8, 4, 4]))
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Residual(nn.Module):
    r"""x + f(x), f two 3×3 convolutions whose last starts at zero: deep nets begin as the identity.

    References:
        He et al.: Identity mappings in deep residual networks (2016), https://arxiv.org/abs/1603.05027; Zhang, Dauphin,
        Ma: Fixup (2019), https://arxiv.org/abs/1901.09321.

    Args:
        channels: of the image, before and after.
        act: name of the activation.

    Example:
        >>> x = torch.randn(1, 3, 8, 8)
        >>> bool((Residual(3, act="relu")(x) == x).all())
        True
    """

    def __init__(self, channels: int, *, act: str) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ChannelNorm(channels),
            activation(act),
            nn.Conv2d(channels, channels, 3, padding=1),
            activation(act),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        nn.init.zeros_(self.body[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.body[-1].bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class ConvEncoder(nn.Module):
    r"""Strided convolutions from an image of any size to a vector, by a hidden layer.

    The last pixels of the last stage, about 4×4, are read by a dense layer: what is far apart in the image meets there.

    Args:
        shape: (channels, height, width), any numbers.
        outputs: length of the vector.
        base: channels of the first stage; doubled at each stage, up to eight times.
        blocks: residual blocks a stage; 0 gives a plain convolutional net, 1 or more a ResNet.
        hidden: width of the hidden layer.
        act: name of the activation.

    Raises:
        ValueError: for a shape that is not (channels, height, width).

    Example:
        >>> ConvEncoder((3, 37, 53), 20)(torch.zeros(2, 3, 37, 53)).shape
        torch.Size([2, 20])
    """

    def __init__(
        self, shape: Sequence[int], outputs: int, *, base: int = 32, blocks: int = 0, hidden: int = 256,
        act: str = "silu",
    ) -> None:  # fmt: skip
        super().__init__()
        channels, height, width = self.shape = image_shape(shape)
        self.outputs, self.base, self.blocks, self.hidden, self.act = outputs, base, blocks, hidden, act
        sizes = _sizes(height, width)
        widths = _widths(max(len(sizes) - 1, 1), base)
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(zip([channels, *widths], widths, strict=False)):
            layers.append(nn.Conv2d(before, after, 3, stride=2 if i < len(sizes) - 1 else 1, padding=1))
            layers += [Residual(after, act=act) for _ in range(blocks)]
            layers += [ChannelNorm(after), activation(act)]
        self.layers = nn.Sequential(*layers)
        self.dense = nn.Sequential(nn.Linear(widths[-1] * math.prod(sizes[-1]), hidden), activation(act))
        self.last = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        lead = _flattened(x, self.shape).shape[:-1]
        images = x.reshape(-1, *self.shape).contiguous(memory_format=torch.channels_last)  # as convolutions are fastest
        pixels = self.layers(images).permute(0, 2, 3, 1).flatten(1)
        return self.last(self.dense(pixels)).reshape(*lead, self.last.out_features)


class ConvDecoder(nn.Module):
    r"""From a vector to one or several images of any size: convolutions whose channels unfold into pixels.

    No convolution works on the whole image: the last one writes each 2×2 pixels at once, at half of its size. Full-size
    stages take most of the time and add next to nothing (`benchmarks/images.py`). Each pixel has a bias of its own, and
    the last convolution starts small: training begins at the mean image.

    References:
        Shi et al.: sub-pixel convolution (2016), https://arxiv.org/abs/1609.05158; Aitken et al.: Checkerboard artifact
        free sub-pixel convolution (2017), https://arxiv.org/abs/1707.02937, for the start of the last one, which gives
        the four pixels one value.

    Args:
        inputs: length of the vector.
        outputs: (channels, height, width), or (parameters, channels, height, width).
        base: channels of the last stage before the image.
        blocks: residual blocks a stage; 0 gives a plain convolutional net, 1 or more a ResNet.
        hidden: width of the hidden layer between vector and pixels.
        act: name of the activation.

    Raises:
        ValueError: for outputs of another form.

    Example:
        >>> ConvDecoder(20, (3, 37, 53))(torch.zeros(5, 2, 20)).shape
        torch.Size([5, 2, 3, 37, 53])
    """

    def __init__(
        self, inputs: int, outputs: Sequence[int], *, base: int = 32, blocks: int = 0, hidden: int = 256,
        act: str = "silu",
    ) -> None:  # fmt: skip
        super().__init__()
        self.outputs = torch.Size(outputs)
        image_shape(outputs[-3:])
        self.sizes = _sizes(*outputs[-2:])[::-1]
        self.grows = len(self.sizes) > 1
        widths = _widths(max(len(self.sizes) - 1, 1), base)[::-1]
        self.inputs, self.base, self.blocks, self.hidden, self.act = inputs, base, blocks, hidden, act
        self.dense = nn.Sequential(nn.Linear(inputs, hidden), activation(act))
        self.first = nn.Linear(hidden, widths[0] * math.prod(self.sizes[0]))
        unfolded = 4 if self.grows else 1
        self.stages = nn.ModuleList()
        for before, after in zip(widths, [*widths[1:], None], strict=True):
            layers: list[nn.Module] = [Residual(before, act=act) for _ in range(blocks)]
            layers += [ChannelNorm(before), activation(act)]
            layers += [] if after is None else [nn.Conv2d(before, unfolded * after, 3, padding=1)]
            self.stages.append(nn.Sequential(*layers))
        self.last = nn.Conv2d(widths[-1], unfolded * math.prod(outputs[:-2]), 3, padding=1, bias=False)
        self.bias = nn.Parameter(torch.zeros(self.outputs))
        self.start()

    @torch.no_grad()
    def start(self) -> None:
        """Make the last weights small, and those of the pixels that unfold from one place equal."""
        unfolded = 4 if self.grows else 1
        self.last.weight.copy_(SMALL * self.last.weight[::unfolded].repeat_interleave(unfolded, 0))

    def forward(self, z: Tensor) -> Tensor:
        lead = _flattened(z, torch.Size([self.inputs])).shape[:-1]
        pixels = self.first(self.dense(z.reshape(-1, self.inputs)))
        h = pixels.unflatten(1, (*self.sizes[0], -1)).permute(0, 3, 1, 2)  # channels last, as convolutions are fastest
        for place, stage in enumerate(self.stages, 1):
            h = stage(h) if place < len(self.stages) else self.last(stage(h))
            if self.grows:
                height, width = self.sizes[place]
                h = F.pixel_shuffle(h, 2)[..., :height, :width]
        return h.reshape(*lead, *self.outputs) + self.bias


def image_shape(shape: Sequence[int]) -> torch.Size:
    """A shape, which must be that of an image.

    Args:
        shape: (channels, height, width).

    Returns:
        The same.

    Raises:
        ValueError: for another one.

    Example:
        >>> image_shape((1, 28, 28))
        torch.Size([1, 28, 28])
    """
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(
            f'Expected images of shape (channels, height, width); got {tuple(shape)}. For other data use network="mlp".'
        )
    return torch.Size(shape)


class Standardized(nn.Module):
    """A network behind (x − mean) / deviation, constants that belong to the model and are saved with it.

    Args:
        network: what sees the standardised input.
        mean: broadcastable with one observation.
        deviation: likewise; zeros (constant elements) count as 1.

    Example:
        >>> Standardized(nn.Identity(), torch.tensor([2.0]), torch.tensor([4.0]))(torch.tensor([[10.0]]))
        tensor([[2.]])
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.network = network
        dtype = next((p.dtype for p in network.parameters()), torch.get_default_dtype())
        self.register_buffer("mean", mean.to(dtype, copy=True))
        self.register_buffer("deviation", torch.where(deviation > 0, deviation, 1).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        return self.network((x - self.mean) / self.deviation)


def xavier_(network: nn.Module) -> nn.Module:
    """Glorot's uniform weights and zero biases in every linear and convolutional layer that does not start at zero.

    References:
        Glorot, Bengio: Understanding the difficulty of training deep feedforward neural networks (2010),
        https://proceedings.mlr.press/v9/glorot10a.html.

    Args:
        network: changed in place.

    Returns:
        The same network.

    Example:
        >>> bool(xavier_(nn.Linear(3, 2)).bias.any())
        False
    """
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and bool(module.weight.any()):  # zeroed residuals stay zero
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for decoder in (each for each in network.modules() if isinstance(each, ConvDecoder)):
        decoder.start()
    return network


@torch.no_grad()
def start_at(network: MLP | ConvDecoder, output: Tensor) -> None:
    """Set the last bias so that the network's first outputs are about ``output``.

    Args:
        network: changed in place.
        output: of one observation.

    Example:
        >>> network = MLP((2,), (3,), hidden=())
        >>> start_at(network, torch.tensor([1.0, 2.0, 3.0]))
        >>> network(torch.zeros(1, 2)).tolist()
        [[1.0, 2.0, 3.0]]
    """
    bias = network.last.bias if isinstance(network, MLP) else network.bias
    bias.copy_(output.reshape(bias.shape))


@torch.no_grad()
def end_in_zeros(network: MLP | ConvEncoder, count: int) -> None:
    """Set the last weights so that so many of the network's outputs, the last ones, are 0 for every input.

    Args:
        network: changed in place.
        count: how many outputs.

    Example:
        >>> network = MLP((2,), (3,))
        >>> end_in_zeros(network, 2)
        >>> network(torch.ones(1, 2))[0, 1:].tolist()
        [0.0, 0.0]
    """
    kept = network.last.out_features - count
    network.last.weight[kept:].zero_()
    network.last.bias[kept:].zero_()
