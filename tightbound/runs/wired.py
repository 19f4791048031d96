"""The networks of a recipe: from observations, from latents, and from one layer of latents to the next."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import nn

from tightbound import networks
from tightbound.runs.fitting import layers_of
from tightbound.runs.recipe import ModelRecipe


def encoder_of(
    recipe: ModelRecipe, shape: tuple[int, ...], outputs: int, conditions: int
) -> networks.MLP | networks.ConvEncoder:
    """The network from an observation.

    Args:
        recipe: resolved.
        shape: of an observation.
        outputs: how many numbers it gives.
        conditions: how many numbers it is told besides.

    Example:
        >>> encoder_of(ModelRecipe(network="mlp", hidden=(9,)), (5,), 4, 0).outputs
        torch.Size([4])
    """
    if recipe.network == "mlp":
        inputs = (math.prod(shape) + conditions,) if conditions else shape
        return networks.MLP(inputs, (outputs,), hidden=recipe.hidden, act=recipe.activation)
    blocks = 2 if recipe.network == "resnet" else 0
    shape = (shape[0] + conditions, *shape[1:])
    return networks.ConvEncoder(shape, outputs, base=int(recipe.channels), blocks=blocks, act=recipe.activation)


def decoder_of(recipe: ModelRecipe, latent: int, outputs: tuple[int, ...]) -> networks.MLP | networks.ConvDecoder:
    """The network from latents.

    Args:
        recipe: resolved.
        latent: how many numbers it takes.
        outputs: shape of what it gives.

    Example:
        >>> decoder_of(ModelRecipe(network="mlp", hidden=(9,)), 4, (2, 5)).outputs
        torch.Size([2, 5])
    """
    if recipe.network == "mlp":
        return networks.MLP((latent,), outputs, hidden=recipe.hidden[::-1], act=recipe.activation)
    blocks = 2 if recipe.network == "resnet" else 0
    return networks.ConvDecoder(latent, outputs, base=int(recipe.channels), blocks=blocks, act=recipe.activation)


def links_of(recipe: ModelRecipe, dtype: torch.dtype, device: str, *, fresh: bool) -> list[nn.Module]:
    """Networks from each layer of latents to the one below; none of a single layer.

    Args:
        recipe: resolved.
        dtype: of their numbers.
        device: "meta" for an outline.
        fresh: whether they are to be trained.

    Example:
        >>> [link.outputs for link in links_of(ModelRecipe(posterior="top-down"), torch.float32, "cpu", fresh=True)]
        [torch.Size([64])]
    """
    with torch.device(device):
        made = [
            networks.MLP((above,), (2 * below,), hidden=recipe.hidden[::-1], act=recipe.activation).to(dtype)
            for below, above in pairwise(layers_of(recipe))
        ]
    for each in made if recipe.init == "xavier" and fresh else []:
        networks.xavier_(each)  # and no zeros at the end: a layer of which nothing below knows would be given up
    return list(made)
