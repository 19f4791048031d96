"""Random numbers of each observation's own: what is drawn for it depends on nothing that stands beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from tightbound.batch import Batch
from tightbound.draws import Draws
from tightbound.evaluate.accelerate import Accelerated
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
    bits = batch.x.cpu().flatten(1).contiguous().view(torch.uint8).numpy()
    return [_number(str(seed), row.tobytes()) for row in bits]


def generator(seed: int, purpose: str) -> torch.Generator:
    """A generator of an observation's own.

    Args:
        seed: of the observation.
        purpose: what the numbers are for; another purpose has other numbers.

    Returns:
        A generator on the CPU.
    """
    return torch.Generator().manual_seed(_number(str(seed), purpose))


@contextmanager
def own_numbers(seed: int, purpose: str, device: torch.device) -> Iterator[None]:
    """Inside, torch's global generators draw an observation's own numbers; outside, nothing has changed.

    Args:
        seed: of the observation.
        purpose: what the numbers are for; another purpose has other numbers.
        device: where they are drawn, besides the CPU.

    Example:
        >>> found = []
        >>> for _ in range(2):
        ...     with own_numbers(3, "replicas", torch.device("cpu")):
        ...         found.append(torch.rand(()))
        >>> bool(found[0] == found[1])
        True
    """
    with own_random_state(device, seed=_number(str(seed), purpose)):
        yield


def proposed(
    model: Model, batch: Batch, seeds: list[int], samples: int, *, lot: int | str = 0
) -> tuple[Tensor, Tensor]:
    r"""Draws of z from q(z | x), one observation after the other, each with its own random numbers.

    Args:
        model: in evaluation mode.
        batch: B observations.
        seeds: one for each.
        samples: how many draws of each, K.
        lot: which lot, by number or purpose; another has other random numbers.

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


def scored(
    joint: Accelerated, batch: Batch, seeds: list[int], samples: int, *, least: int, rows: int
) -> tuple[Draws, Tensor]:
    r"""Draws of z from q(z | x), each observation's with its own random numbers, and their three log-densities.

    Args:
        joint: the model's log p(x | z) and log p(z).
        batch: B observations.
        seeds: one for each.
        samples: how many draws of each are scored, K.
        least: how many are made, at least: the first of them are then the same for every smaller K.
        rows: latents decoded at a time.

    Returns:
        Draws in float64 on the CPU, log-densities of shape (K, B), their ``z`` left empty; and the first lot of z.
    """
    parts: list[Tensor] = []
    first = torch.empty(0)
    for lot, start in enumerate(range(0, samples, LOT)):
        size = min(LOT, max(samples, least) - start)
        z, log_q = (each[: samples - start] for each in proposed(joint.model, batch, seeds, size, lot=lot))
        pieces = zip(*(each.split(max(1, rows // batch.size)) for each in (z, log_q)), strict=True)
        parts += [torch.stack([*joint(batch, piece), its_log_q]).cpu().double() for piece, its_log_q in pieces]
        first = first if lot else z
    log_px_z, log_pz, log_qz_x = torch.cat(parts, 1)
    return Draws(log_px_z.new_empty(samples, batch.size, 0), log_px_z, log_pz, log_qz_x), first


def _number(*parts: str | bytes) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part.encode() if isinstance(part, str) else part)
        digest.update(b"|")
    return int.from_bytes(digest.digest(), "big") >> 1
