"""log p(x) of each observation with the error of its own draws: three ways, and what can be known of each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from tightbound.batch import Batch
from tightbound.bounds import log_mean
from tightbound.evaluate.accelerate import Accelerated
from tightbound.evaluate.importance import effective_samples, pareto_k
from tightbound.evaluate.noise import generator, proposed
from tightbound.evaluate.proposals import LONGER, SET, Proposal, refine, start_of, student_noise
from tightbound.evaluate.target import Target
from tightbound.runtime import in_double

ERROR = 0.05  # nats that the draws of an observation may be off
START = 64  # draws from q(z | x) that a fit starts from, at least
PILOT = 6  # sets from which it is guessed how many are needed
LEAST, MOST = 4, 128  # sets of an observation
TURNS = 8  # of further fitting at most; there is another one as long as the ELBO rises by more than noise
HARD = 64  # sets; an observation that needs more is refined further, which costs about as much
SPARED = 3  # by which opposite draws and slices divide the variance, as a rule
WORSE = 1.0  # nats that the ELBO of a fitted proposal may lie below that of q(z | x): more than its draws' noise


class Marginal(NamedTuple):
    """log p(x) of B observations; each entry has shape (B,), float64, on the CPU.

    Attributes:
        log_px: The estimate, in nats: in expectation never above log p(x).
        error: Its standard error by the noise of the draws, in nats.
        ess: Effective sample size.
        k: Shape of the weights' tail, Pareto's k; NaN where it is not known.
        draws: How many draws the estimate is made of.
    """

    log_px: Tensor
    error: Tensor
    ess: Tensor
    k: Tensor
    draws: Tensor

    @classmethod
    def joined(cls, parts: list[Marginal]) -> Marginal:
        """Those of several blocks of observations."""
        return cls(*(torch.cat(column) for column in zip(*parts, strict=True)))


def of_weights(log_w: Tensor) -> Marginal:
    """From independent draws.

    Args:
        log_w: shape (K, B), float64.
    """
    error = (_variance(log_w) / len(log_w)).sqrt() if len(log_w) > 1 else torch.full_like(log_w[0], math.nan)
    count = torch.full_like(error, len(log_w))
    return Marginal(log_mean(log_w), error, effective_samples(log_w), pareto_k(log_w), count)


def enumerated(joint: Accelerated, batch: Batch, codes: Tensor, *, rows: int) -> Marginal:
    r"""Exact, as the sum over all codes.

    Args:
        joint: log p(x | z) and log p(z).
        batch: B observations.
        codes: all of them, shape (codes, \*latent).
        rows: latents decoded at a time.
    """
    z = codes[:, None].expand(-1, batch.size, *codes.shape[1:])
    log_joint = torch.cat([torch.stack(joint(batch, part)) for part in z.split(max(1, rows // batch.size))], 1)
    log_px = log_joint.cpu().double().sum(0).logsumexp(0)
    known, none = torch.full_like(log_px, math.nan), torch.zeros_like(log_px)
    return Marginal(log_px, none, known, known, torch.full_like(log_px, len(codes)))


class Pilot(NamedTuple):
    """What some first draws tell of a proposal, by observation."""

    log_w: Tensor  # shape (B, sets, draws), float64, on the CPU; 16 draws a set, of a mixture 32

    @property
    def elbo(self) -> Tensor:
        """The mean log-weight, shape (B,)."""
        return self.log_w.mean((1, 2))

    def sets(self, error: float) -> Tensor:
        """How many are needed, shape (B,)."""
        of_sets, draws, size = self.log_w.logsumexp(2).T, self.log_w.flatten(1).T, self.log_w.shape[2]
        # Six sets may agree by chance; what single draws tell is steadier, and too much by a known factor.
        needed = torch.maximum(_variance(of_sets), _variance(draws) / (size * SPARED)) / error**2
        return needed.nan_to_num(torch.inf).clamp(LEAST, MOST).ceil().long()


class Fits:
    """Proposals of a block of observations: fitted, tried, fitted for longer where that is needed.

    Args:
        target: log p(x, z) and its slope.
        batch: B observations.
        seeds: one for each.
        width: sets of 16 draws that are scored at a time.
    """

    def __init__(self, target: Target, batch: Batch, seeds: list[int], *, width: int) -> None:
        self.target, self.batch, self.seeds, self.width = target, batch, seeds, width

    def fitted(self, z: Tensor, error: float) -> tuple[Proposal, Pilot]:
        """The proposals, and what first draws tell of them.

        Args:
            z: draws from q(z | x) to start from, shape (K, B, \\*latent).
            error: that each observation's log p(x) may have, in nats; where that needs many draws, a fit goes on.
        """
        proposal = refine(self.target, self.batch, start_of(self.target.from_latent(z)))
        found = self.pilot(proposal, "pilot")
        hard = (found.sets(error) > HARD).nonzero()[:, 0]
        for turn in range(1, TURNS + 1):
            if not len(hard):
                break
            won = self._longer(hard, proposal, found, turn)
            hard = hard[(won > WORSE) & (found.sets(error)[hard] > HARD)]
        return proposal, found

    def _longer(self, hard: Tensor, proposal: Proposal, found: Pilot, turn: int) -> Tensor:
        """Fit some rows further, in place where that is better; gives the nats by which each one's ELBO rose."""
        part = Fits(
            self.target,
            self.batch.rows(hard.to(proposal.mean.device)),
            [self.seeds[i] for i in hard.tolist()],
            width=self.width,
        )
        longer = refine(self.target, part.batch, proposal.rows(hard.to(proposal.mean.device)), sweeps=LONGER, seed=turn)
        again = part.pilot(longer, "pilot again" if turn == 1 else f"pilot again {turn}")
        won = again.elbo - found.elbo[hard]
        better = won > 0
        chosen, where = better.nonzero()[:, 0], hard[better]
        # Of those that became better, the fit and its first draws stand in the place of the old ones.
        for old, new in zip((*proposal, *found), (*longer, *again), strict=True):
            old[where.to(old.device)] = new[chosen.to(old.device)]
        return won

    def estimate(self, proposal: Proposal, tried: Pilot, elbo: Tensor, *, error: float) -> Marginal:
        """log p(x) from fresh draws, as many as its error asks for.

        Where the ELBO of a proposal lies far below that of q(z | x), its fit went wrong: the draws are then from an
        even mixture of both.

        Args:
            proposal: as :meth:`fitted` gives it.
            tried: likewise. Its draws are no part of the estimate, which stays a lower bound in expectation.
            elbo: mean log-weight of q(z | x), shape (B,), float64, on the CPU.
            error: of each observation's log p(x), in nats.
        """
        kept = ~(tried.elbo < elbo - WORSE)
        by_set = self.log_weights(proposal, torch.where(kept, tried.sets(error), 0).tolist(), "estimate")
        found = [
            _of_sets(own, first) if good else self._of_mixture(proposal, row, error)
            for row, (own, first, good) in enumerate(zip(by_set, tried.log_w, kept.tolist(), strict=True))
        ]
        return Marginal.joined(found)

    def _of_mixture(self, proposal: Proposal, row: int, error: float) -> Marginal:
        """log p(x) of one observation whose fit went wrong, from as many draws as its error asks for."""
        first = self._mixed(proposal, row, PILOT, "pilot of the mixture")
        sets = int(Pilot(first[None]).sets(error))
        return _of_sets(self._mixed(proposal, row, sets, "mixture"), first)

    def pilot(self, proposal: Proposal, purpose: str) -> Pilot:
        """First draws from proposals."""
        return Pilot(torch.stack(self.log_weights(proposal, [PILOT] * len(self.seeds), purpose)))

    def log_weights(self, proposal: Proposal, sets: list[int], purpose: str) -> list[Tensor]:
        """Log-weights of fresh draws of each observation, shape (sets, 16), float64, on the CPU."""
        if not any(sets):
            return [torch.empty(0, SET, dtype=torch.float64) for _ in sets]
        found = [log_w for _, _, log_w in self.weighed(proposal, sets, purpose)]
        return list(torch.cat(found, 1).T.split(sets))

    def weighed(self, proposal: Proposal, sets: list[int], purpose: str) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Fresh draws, W sets of 16 at a time, observation after observation.

        Yields:
            The observation of each set, shape (W,); draws u of real numbers, shape (16, W, D); and their log-weights,
            shape (16, W), float64, on the CPU.
        """
        index = torch.repeat_interleave(torch.tensor(sets)).to(proposal.mean.device)
        noise = student_noise(sets, self.target.dim, [generator(seed, purpose) for seed in self.seeds])
        for part, e in zip(index.split(self.width), noise.split(self.width, 1), strict=True):
            own, e = proposal.rows(part), e.to(proposal.mean)
            u = own.at(e)
            yield part, u, (in_double(self.target(self.batch.rows(part), u)) - own.log_student(e)).cpu()

    def _mixed(self, proposal: Proposal, row: int, sets: int, purpose: str) -> Tensor:
        """Log-weights (sets, 32) of one observation under an even mixture of q(z | x) and its fitted proposal."""
        target, seed = self.target, self.seeds[row]
        at = torch.tensor([row], device=self.batch.x.device)
        one, own, model = self.batch.rows(at), proposal.rows(at), target.joint.model
        z, _ = proposed(model, one, [seed], sets * SET, lot=purpose)
        ours = target.from_latent(z)
        e = student_noise([sets], target.dim, [generator(seed, purpose)]).flatten(0, 1)[:, None].to(ours)
        u, noise = torch.cat([ours, own.at(e)]), torch.cat([own.noise_of(ours), e])
        found = []
        for part, its_noise in zip(u.split(SET * self.width), noise.split(SET * self.width), strict=True):
            log_q = in_double(model.log_posterior(one, target.to_latent(part)) + target.log_slopes(part))
            log_q = torch.where(log_q.isnan(), -torch.inf, log_q)
            log_mixture = torch.logaddexp(log_q, own.log_student(its_noise)) - math.log(2)
            found.append((in_double(target(one, part)) - log_mixture).cpu())
        return torch.cat(found).view(2, SET, sets).permute(2, 0, 1).flatten(1)


def _of_sets(log_w: Tensor, tried: Tensor | None = None) -> Marginal:
    """Of one observation, from log-weights of shape (sets, draws).

    ``tried``: those of first draws from the same proposal. They are no part of the estimate, yet tell of its tail and
    its error.
    """
    same = log_w[:0] if tried is None else tried
    draws = log_w.flatten()[:, None]
    every = torch.cat([log_w.flatten(), same.flatten()])[:, None]
    of_sets = torch.cat([log_w.logsumexp(1), same.logsumexp(1)])[:, None]
    error = (_variance(of_sets) / len(log_w)).sqrt()
    count = torch.full_like(error, len(draws))
    return Marginal(log_mean(draws), error, effective_samples(draws), pareto_k(every), count)


def _variance(log_w: Tensor) -> Tensor:
    """Variance of a weight over the square of their mean, shape (B,); divided by K it is that of the mean's logarithm.

    Args:
        log_w: shape (K, B).
    """
    w = torch.exp(log_w - log_w.amax(0).nan_to_num(neginf=0.0))
    return w.var(0) / w.mean(0).square()
