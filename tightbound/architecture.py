"""What a model is made of, in a line: its parts by their classes, and their networks by the widths of the layers."""

from __future__ import annotations

from itertools import pairwise

from torch import nn

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
PARTS = ("prior", "posterior", "likelihood")
LONGEST = 6  # widths that a line can hold


def in_words(model: nn.Module) -> str:
    """What a model is made of: its parts as their classes are called, each with its networks in short.

    Args:
        model: any; of one without the usual parts it is the name of its class.

    Example:
        >>> import tightbound as tb
        >>> in_words(tb.VAE(
        ...     prior=tb.priors.StandardNormal(20),
        ...     posterior=tb.posteriors.DiagonalNormal(tb.networks.MLP((64,), (40,), hidden=(400,))),
        ...     likelihood=tb.likelihoods.Poisson(tb.networks.MLP((20,), (64,), hidden=(400,))),
        ... ))
        'VAE: StandardNormal prior (20), DiagonalNormal posterior (MLP 64-400-40), Poisson likelihood (MLP 20-400-64)'
    """
    inner = getattr(model, "vae", None)  # what a model of several observations is made of
    named = type(model).__name__
    if isinstance(inner, nn.Module):
        return f"{named} of a {in_words(inner)}"
    parts = [(name, part) for name in PARTS if isinstance(part := getattr(model, name, None), nn.Module)]
    said = ", ".join(f"{type(part).__name__} {name}{_within(name, part)}" for name, part in parts)
    return f"{named}: {said}" if said else named


def parameters_of(model: nn.Module) -> int:
    """How many numbers are trained, a shared one counted once.

    Args:
        model: any module.

    Example:
        >>> parameters_of(nn.Linear(3, 2))
        8
    """
    return sum(each.numel() for each in model.parameters())


def in_short(network: nn.Module) -> str:
    """A network by its class and the widths of its layers; where these make no chain, by how many layers it has.

    Args:
        network: any module.

    Example:
        >>> in_short(nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40)))
        'Sequential 784-400-40'
        >>> in_short(nn.Sequential(nn.Conv2d(1, 32, 3), nn.Flatten(), nn.Linear(21632, 40)))
        'Sequential of 2 layers'
    """
    network = _unwrapped(network)
    layers = [each for each in network.modules() if isinstance(each, LAYERS)]
    chain = [each for each in layers if isinstance(each, nn.Linear)]
    name = type(network).__name__
    if not layers:
        return name
    linear = len(chain) == len(layers) and all(a.out_features == b.in_features for a, b in pairwise(chain))
    if linear and len(chain) < LONGEST:
        return f"{name} {'-'.join(str(width) for width in (chain[0].in_features, *(e.out_features for e in chain)))}"
    return f"{name} of {len(layers)} layer{'' if len(layers) == 1 else 's'}"


def _within(role: str, part: nn.Module) -> str:
    """Length of the prior's latent, and the networks of a part, in brackets."""
    lengths = getattr(part, "layers", (getattr(part, "latent_dim", None),))
    known = role == "prior" and all(isinstance(length, int) for length in lengths)
    said = [" + ".join(f"{length:,}" for length in lengths)] if known else []
    said += [in_short(each) for each in _networks(part)]
    return f" ({', '.join(dict.fromkeys(said))})" if said else ""


def _networks(part: nn.Module) -> list[nn.Module]:
    """The networks of a part: its own, or those of the parts that it has."""
    if isinstance(own := getattr(part, "network", None), nn.Module):
        return [own]
    inner = [each for each in part.children() if isinstance(getattr(each, "network", None), nn.Module)]
    if isinstance(several := getattr(part, "networks", None), nn.ModuleList):
        return list(several)
    lists = [each for each in part.children() if isinstance(each, nn.ModuleList)]
    inner += [each for several in lists for each in several if isinstance(getattr(each, "network", None), nn.Module)]
    return [network for each in inner for network in _networks(each)]


def _unwrapped(network: nn.Module) -> nn.Module:
    """What is inside of a wrapper that only prepares the input."""
    while isinstance(inner := getattr(network, "network", None), nn.Module):
        network = inner
    return network
