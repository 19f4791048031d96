"""Which observations each step sees: a pure function of the seed and the step, so that nothing needs saving."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tightbound.data import Observations
from tightbound.settings import Training


def held_out(count: int, validation: float) -> int:
    """How many of so many observations a share (below 1) or a number of them is."""
    return max(round(validation * count), math.ceil(validation)) if validation < 1 else int(validation)


def split(observations: Observations, validation: float, seed: int) -> tuple[Observations, Observations | None]:
    """Hold out a share (below 1) or a number of observations for validation, by a permutation of the seed's own.

    Raises:
        ValueError: if nothing would be left to train on.
    """
    count = len(observations)
    apart = held_out(count, validation)
    if apart >= count:
        raise ValueError(
            f"Expected fewer validation observations than the {count} there are; got validation={validation:g}. "
            "Take fewer, a share below 1, or 0 for none."
        )
    if apart == 0:
        return observations, None
    held = torch.zeros(count, dtype=torch.bool)
    held[torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:apart]] = True
    return observations.subset((~held).nonzero()[:, 0]), observations.subset(held.nonzero()[:, 0])


def steps_of(settings: Training, count: int) -> int:
    """How many steps a training of so many observations takes, those for validation included, if none ends it early."""
    trained_on = max(1, count - held_out(count, settings.validation))
    return Sampler(trained_on, settings.batch_size, seed=0, device=torch.device("cpu")).steps(settings.epochs)


class Sampler:
    """Whole batches from one permutation of the observations after another.

    Each observation is seen once in a pass; a batch may straddle two passes, so none is short and none is dropped.

    Args:
        count: how many observations.
        batch_size: how many in a step; all of them where there are fewer.
        seed: of the permutations.
        device: where the indices are wanted.

    Example:
        >>> sampler = Sampler(5, 2, seed=0, device=torch.device("cpu"))
        >>> sorted(torch.cat([sampler.indices(step) for step in range(5)]).tolist())
        [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    """

    def __init__(self, count: int, batch_size: int, *, seed: int, device: torch.device) -> None:
        self.count, self.batch_size, self.seed, self.device = count, min(batch_size, count), seed, device
        self._passes: dict[int, Tensor] = {}

    def indices(self, step: int) -> Tensor:
        """Indices of the batch of ``step``, shape (batch_size,)."""
        start = step * self.batch_size
        number, offset = divmod(start, self.count)
        head = self._pass(number)[offset : offset + self.batch_size]
        short = self.batch_size - len(head)
        return torch.cat([head, self._pass(number + 1)[:short]]) if short else head

    def steps(self, epochs: float) -> int:
        """How many steps ``epochs`` passes take."""
        return max(round(epochs * self.count / self.batch_size), 1)

    def epoch(self, step: int) -> float:
        """How many passes ``step`` steps have made."""
        return step * self.batch_size / self.count

    def _pass(self, number: int) -> Tensor:
        if number not in self._passes:
            self._passes = {k: v for k, v in self._passes.items() if k == number - 1}
            generator = torch.Generator().manual_seed((self.seed * 1_000_003 + number) % 2**63)
            self._passes[number] = torch.randperm(self.count, generator=generator).to(self.device)
        return self._passes[number]
