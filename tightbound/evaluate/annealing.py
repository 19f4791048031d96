r"""Annealed importance sampling: log p(x) by a walk from a proposal to the true posterior, and back again.

The walk goes through the densities :math:`f_\beta \propto r(u)^{1-\beta} p(x, u)^\beta` from the proposal r to the
true posterior by Hamiltonian steps. Forwards it gives a lower bound on log p(x) in expectation. Backwards, from an
exact draw of the posterior, it gives an upper one; such draws are there for observations that the model has simulated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from tightbound.batch import Batch
from tightbound.bounds import log_mean
from tightbound.evaluate.noise import generator
from tightbound.evaluate.proposals import Proposal
from tightbound.evaluate.target import Target
from tightbound.runtime import in_double

ACCEPTED = 0.7  # share of proposals that step sizes are fitted to
SPEED = 0.25  # of that fit, from one temperature to the next
FIRST_STEP = 0.5  # standard deviations of the proposal
PILOTS = 2  # chains that step sizes are fitted on
MOST_SLOPES = 10**7  # of an observation in one direction: at 10 µs each two minutes, at 1000 observations days
SHORTER = 0.95  # what the fitted steps are multiplied by


@dataclass(frozen=True)
class Schedule:
    """How an annealed walk goes.

    Args:
        temperatures: T, from the proposal to the posterior, in equal steps of β.
        chains: C, of each observation.
        leapfrogs: steps of each Hamiltonian move.

    Raises:
        ValueError: for less than one of any.

    Example:
        >>> Schedule(temperatures=30, chains=4, leapfrogs=3).slopes
        528
    """

    temperatures: int = 30
    chains: int = 4
    leapfrogs: int = 3

    def __post_init__(self) -> None:
        for name in ("temperatures", "chains", "leapfrogs"):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected at least 1 of {name}; got {name}={getattr(self, name)}.")

    @property
    def slopes(self) -> int:
        """How often the slope of log p(x, z) is computed for an observation in one direction, step sizes included."""
        return (self.chains + PILOTS) * (1 + (self.temperatures - 1) * self.leapfrogs)


class Walk(NamedTuple):
    """What a walk gives, by observation.

    Attributes:
        log_w: Log-weight of each chain, shape (C, B), float64, on the CPU: forwards the mean of w estimates p(x),
            backwards that of 1 / w estimates 1 / p(x), both without bias.
        accepted: Share of moves that were accepted, shape (B,).
    """

    log_w: Tensor
    accepted: Tensor


class _State(NamedTuple):
    """Where the chains are, in the noise of the proposal, and the density there; shapes (C, B, D) and (C, B)."""

    noise: Tensor
    value: Tensor  # log p(x, u)
    slope: Tensor  # by the noise


class Annealer:
    """Walks of a block of observations between their proposals and their posteriors.

    Step sizes are fitted on chains of their own and then frozen: a walk that fits them as it goes is no longer
    reversible, and gives no bound.

    Args:
        target: log p(x, u) and its slope.
        batch: B observations.
        proposal: where each walk begins, or ends.
        seeds: one for each observation.
        schedule: how it goes.
        moved: called after each move of all chains.
    """

    def __init__(
        self,
        target: Target,
        batch: Batch,
        proposal: Proposal,
        seeds: list[int],
        schedule: Schedule,
        *,
        moved: Callable[[], object] = bool,
    ) -> None:
        self.target, self.batch, self.proposal, self.schedule = target, batch, proposal, schedule
        self.seeds, self.tell = seeds, moved
        self.sizes = self._fitted_sizes()

    def forwards(self) -> Walk:
        """From the proposal to the posterior."""
        generators = self._generators("forwards")
        state = self._at(self._normal(generators, self.schedule.chains)[0])
        return self._walk(state, generators, range(1, self.schedule.temperatures + 1))

    def backwards(self, u: Tensor) -> Walk:
        """From an exact draw of the posterior, u of shape (B, D), to the proposal."""
        generators = self._generators("backwards")
        noise = self.proposal.noise_of(u[None]).expand(self.schedule.chains, -1, -1)
        return self._walk(self._at(noise), generators, range(self.schedule.temperatures, 0, -1))

    def _walk(self, state: _State, generators: list[torch.Generator], order: range) -> Walk:
        count, log_w = self.schedule.temperatures, 0 * in_double(state.value)
        accepted = torch.zeros_like(state.value[0])
        moves = 0
        for place in order:
            # The weight of step t is taken where the chain stands between the moves at t - 1 and t.
            log_w = log_w + (in_double(state.value) - self.proposal.log_normal(state.noise)) / count
            at = place if order.step > 0 else place - 1
            if 0 < at < count:
                state, rate = self._moved(state, at / count, self.sizes[at], generators)
                accepted, moves = accepted + rate.mean(0), moves + 1
        return Walk(log_w.cpu(), in_double(accepted / max(moves, 1)).cpu())

    def _moved(
        self, state: _State, beta: float, size: Tensor, generators: list[torch.Generator]
    ) -> tuple[_State, Tensor]:
        """A Hamiltonian move that leaves the density at β as it is; and the probability that it is accepted."""
        momentum, level = self._normal(generators, len(state.noise))
        size = size[:, None].to(state.noise)
        proposed, p = state, momentum
        for _ in range(self.schedule.leapfrogs):
            p = p + size / 2 * _force(proposed, beta)
            proposed = self._at(proposed.noise + size * p)
            p = p + size / 2 * _force(proposed, beta)
        gain = self._energy(proposed, p, beta) - self._energy(state, momentum, beta)
        rate = gain.nan_to_num(nan=-torch.inf, posinf=-torch.inf).clamp(max=0).exp().to(level)
        taken = torch.special.ndtr(level) < rate
        self.tell()
        return _State(*(_chosen(taken, new, old) for new, old in zip(proposed, state, strict=True))), rate

    def _fitted_sizes(self) -> list[Tensor]:
        """A step size for each temperature and observation, from chains that are thrown away."""
        generators, count = self._generators("sizes"), self.schedule.temperatures
        state = self._at(self._normal(generators, PILOTS)[0])
        log_size = torch.full_like(state.value[0], math.log(FIRST_STEP))
        found = [log_size]
        for at in range(1, count):
            state, rate = self._moved(state, at / count, log_size.exp(), generators)
            log_size = log_size + SPEED * (rate.mean(0) - ACCEPTED)
            found.append(log_size)
        fitted = torch.stack(found)
        width = min(5, count // 2)
        smooth = [fitted[max(0, i - width) : i + width + 1].mean(0) for i in range(count)]
        return [SHORTER * each.exp() for each in smooth]

    def _at(self, noise: Tensor) -> _State:
        value, slope = self.target.slope(self.batch, self.proposal.at(noise))
        by_noise = (self.proposal.factor.mT @ slope.movedim(0, -1)).movedim(-1, 0)
        return _State(noise, value, by_noise)

    def _energy(self, state: _State, momentum: Tensor, beta: float) -> Tensor:
        kinetic = in_double(momentum).square().sum(-1) / 2
        return beta * in_double(state.value) + (1 - beta) * self.proposal.log_normal(state.noise) - kinetic

    def _generators(self, purpose: str) -> list[torch.Generator]:
        return [generator(seed, f"annealing {purpose}") for seed in self.seeds]

    def _normal(self, generators: list[torch.Generator], chains: int) -> tuple[Tensor, Tensor]:
        """Normal noise of each observation's own, shapes (C, B, D) and (C, B)."""
        size = self.target.dim + 1
        drawn = [torch.randn(chains, size, dtype=torch.float64, generator=own) for own in generators]
        noise = torch.stack(drawn, 1).to(self.proposal.mean)
        return noise[..., :-1], noise[..., -1]


def lower(walk: Walk) -> Tensor:
    """A lower bound on log p(x) in expectation, shape (B,), in nats, from a walk forwards."""
    return log_mean(walk.log_w)


def upper(walk: Walk) -> Tensor:
    """An upper bound on log p(x) in expectation, shape (B,), in nats, from a walk backwards."""
    return -log_mean(-walk.log_w)


def _chosen(taken: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(taken.view(*taken.shape, *[1] * (new.ndim - taken.ndim)), new, old)


def _force(state: _State, beta: float) -> Tensor:
    return beta * state.slope - (1 - beta) * state.noise
