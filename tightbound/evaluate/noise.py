"""Random numbers of each observation's own: what is drawn for it depends on nothing that stands beside it."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from tightbound.batch import Batch
from tightbound.model import Model
from tightbound.runtime import own_random_state, seed_generators

LOT = 1024  # draws of one observation made in one go; each lot has a seed of its own


def seeds_of(batch: Batch, seed: int) -> list[int]:
    """A seed for each observation, made of its values and of the evaluation's seed.

    Equal observations have equal seeds. Different ones have different seeds, so the errors of their estimates are
    independent and average out.

    Args:
        batch: B observations.
        seed: of the evaluation.

    Returns:
        B numbers between 0 and 2⁶³ − 1.

    Example:
        >>> x = torch.tensor([[0.0], [1.0], [0.0]])
        >>> first, second, third = seeds_of(Batch(x), 0)
        >>> first == third != second, seeds_of(Batch(x[1:2]), 0) == [second], seeds_of(Batch(x), 1)[0] == first
        (True, True, False)
    """
    return [_number(str(seed), row.tobytes()) for row in batch.x.cpu().contiguous().numpy()]


def generator(seed: int, purpose: str) -> torch.Generator:
    """A generator of an observation's own.

    Args:
        seed: of the observation.
        purpose: what the numbers are for; another purpose has other numbers.

    Returns:
        A generator on the CPU.
    """
    return torch.Generator().manual_seed(_number(str(seed), purpose))


def proposed(model: Model, batch: Batch, seeds: list[int], samples: int, *, lot: int = 0) -> tuple[Tensor, Tensor]:
    r"""Draws of z from q(z | x), one observation after the other, each with its own random numbers.

    Args:
        model: in evaluation mode.
        batch: B observations.
        seeds: one for each.
        samples: how many draws of each, K.
        lot: which lot; another has other random numbers.

    Returns:
        z of shape (K, B, \*latent) and log q(z | x) of shape (K, B), in nats.
    """
    drawn = []
    with own_random_state(batch.x.device):
        for row, seed in enumerate(seeds):
            seed_generators(_number(str(seed), f"posterior {lot}"), batch.x.device)
            drawn.append(model.propose(batch.rows(slice(row, row + 1)), samples))
    z, log_qz_x = zip(*drawn, strict=True)
    return torch.cat(z, 1), torch.cat(log_qz_x, 1)


def _number(*parts: str | bytes) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"|")
    return int.from_bytes(digest.digest(), "big") >> 1
