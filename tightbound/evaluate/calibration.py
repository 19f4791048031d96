"""Whether intervals of z cover what they say: ranks of known latents among draws of q(z | x) or refined proposals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from tightbound.batch import Batch
from tightbound.evaluate.accelerate import accelerate
from tightbound.evaluate.estimates import Estimate, Judged
from tightbound.evaluate.evidence import REFINING
from tightbound.evaluate.importance import effective_samples
from tightbound.evaluate.marginal import ERROR, START, Fits
from tightbound.evaluate.noise import generator, proposed, seeds_of
from tightbound.evaluate.observed import (
    continuous_latent_of,
    observed_as,
    require_several,
    require_simulating,
    rows_at_once,
    simulated,
)
from tightbound.evaluate.proposals import SET
from tightbound.evaluate.ranks import off_uniform
from tightbound.evaluate.target import Target
from tightbound.model import Model
from tightbound.runtime import evaluation_mode, home, own_random_state
from tightbound.settings import require_seed

Ranked = Literal["posterior", "refined"]
DRAWS = 99  # ranks from 0 to 99: a hundredth each
SETS = 32  # of 16 weighted draws of a refined proposal
INTERVALS = (0.5, 0.8, 0.95)  # central ones
BLOCK = 256  # observations at a time
AT_ONCE = 2**22  # numbers in the weighted draws of some observations: 32 MB in float64
SURE = 3.0  # standard errors from which on a coverage is called wrong …
OFF = 0.02  # … if it is off by so much as well


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Calibration(Judged):
    r"""How often central intervals of z cover the z that an observation was made of.

    If draws were of the true posterior, the rank of z among them would be uniform in every dimension.

    Args:
        ranks: of each simulated observation's z among the draws, per dimension, shape (N, L), from 0 to the number of
            draws.
        draws: the largest rank, K.
        seed: of everything random.
        proposal: whose draws: "posterior" for q(z | x), "refined" for weighted draws of refined proposals.

    References:
        Talts et al.: Validating Bayesian Inference Algorithms with Simulation-Based Calibration (2018),
        https://arxiv.org/abs/1804.06788.

    Example:
        >>> import torch, tightbound as tb
        >>> _ = torch.manual_seed(0)
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> made = tb.evaluate.calibration(model, observations=50)
        >>> sorted(made.coverage), made.coverage_per_dimension.shape
        ([0.5, 0.8, 0.95], torch.Size([2]))
    """

    ranks: Tensor
    draws: int
    seed: int
    proposal: Ranked = "posterior"

    @property
    def coverage(self) -> dict[float, Estimate]:
        """Share of latents, over all dimensions, inside the central 50 %, 80 % and 95 % interval of the draws.

        The error is that of the mean over observations, whose dimensions are not independent.
        """
        return {level: Estimate.of(self._inside(level).double().mean(1)) for level in INTERVALS}

    @property
    def coverage_per_dimension(self) -> Tensor:
        """The same of each dimension, at 80 %, shape (L,)."""
        return self._inside(INTERVALS[1]).double().mean(0)

    @property
    def uneven(self) -> Tensor:
        r"""Kolmogorov–Smirnov distance of each dimension's ranks from uniform ones, shape (L,), times :math:`\sqrt{N}`.

        Above 1.63 in one dimension of a hundred whose posterior is right.
        """
        return math.sqrt(len(self.ranks)) * off_uniform((self.ranks.double() + 0.5) / (self.draws + 1))

    @property
    def fine(self) -> bool:
        """Whether no coverage is off by more than chance and 2 %."""
        return self._wrong is None

    @property
    def _wrong(self) -> tuple[float, Estimate] | None:
        for level, found in self.coverage.items():
            # Where hardly any latent is outside, their own spread says too little.
            least = math.sqrt(level * (1 - level) / self.ranks.numel())
            if abs(found.value - level) > max(SURE * max(found.se, least), OFF):
                return level, found
        return None

    @property
    def verdict(self) -> str:
        """Whether the posterior, or the sampler, is too sure of itself, or not sure enough."""
        who = "posterior" if self.proposal == "posterior" else "refined sampler"
        if (wrong := self._wrong) is None:
            return f"The {who}'s intervals cover what they say, on data that the model simulates."
        level, found = wrong
        narrow = found.value < level
        said = "too narrow: it is surer of z than it may be" if narrow else "too wide"
        worst = int((self.coverage_per_dimension - INTERVALS[1]).abs().argmax())
        return (
            f"The {who} is {said}. Its central {level:.0%} intervals cover {found.value:.1%} ± {found.se:.1%} of "
            f"the latents that simulated data were made of; dimension {worst} (from 0) is off the most. "
            f"{_INHERIT[self.proposal]}"
        )

    @property
    def table(self) -> str:
        """The numbers, without the verdict."""
        of = f"{self.draws} draws each" if self.proposal == "posterior" else "refined proposals"
        head = f"Calibration: {len(self.ranks)} simulated observations, {of}, seed {self.seed}"
        rows = [
            f"  central {level:.0%} interval covers {found.value:>8.1%} ± {found.se:.1%}"
            for level, found in self.coverage.items()
        ]
        return "\n".join([head, *rows])

    def to_json(self) -> dict[str, Any]:
        """All but the ranks, as plain numbers and words."""
        return {
            "coverage": [
                {"interval": level, "value": found.value, "se": found.se} for level, found in self.coverage.items()
            ],
            "coverage_per_dimension": self.coverage_per_dimension.tolist(),
            "uneven": self.uneven.tolist(),
            "observations": len(self.ranks),
            "draws": self.draws,
            "proposal": self.proposal,
            "seed": self.seed,
            "verdict": self.verdict,
        }

    def _inside(self, level: float) -> Tensor:
        """Whether each rank lies in the central interval, shape (N, L)."""
        tail = (1 - level) / 2 * (self.draws + 1)
        return (self.ranks >= tail) & (self.ranks < self.draws + 1 - tail)


_INHERIT = {
    "posterior": "Numbers that use q(z|x) as the posterior inherit that; log p(x) by refined proposals does not.",
    "refined": "Where its draws miss a part of the posterior, log p(x) comes out too low: look at Pareto's k.",
}


def calibration(
    model: Model,
    *,
    observations: int = 1000,
    proposal: Ranked = "posterior",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    r"""Simulation-based calibration: do intervals of z cover the latents that simulated data were made of?

    z is drawn from the prior, x from p(x | z), and then 99 latents from q(z | x). The rank of z among them is uniform
    if q is the true posterior. Ranks that pile up at both ends tell of a posterior too narrow, in the middle of one too
    wide, on one side of a biased one.

    With ``proposal="refined"`` the draws are those that log p(x) is estimated from: 512 of a proposal fitted to the
    observation, with their importance weights. The rank is from the normalised weights of the draws below z,

    .. math:: \left\lfloor 100\, \frac{\text{ESS} \sum_k w_k [z_k < z] + u}{\text{ESS} + 1} \right\rfloor,
              \qquad u \sim U(0, 1),

    so z counts as one effective draw beside the others, and for equal weights the rank is exactly uniform. Where a fit
    fails, an evaluation mixes it with q(z | x); here it stands alone, and shows.

    Args:
        model: a ``VAE`` of real latents, which can simulate.
        observations: how many to simulate.
        proposal: whose draws: "posterior" for q(z | x), or "refined".
        seed: of everything random. The simulated observations are the same for both proposals.
        progress: called with the observations done and their total.

    Returns:
        Ranks, coverage, and what they mean.

    Raises:
        TypeError: for a model that does not say how to simulate.
        ValueError: for fewer than two observations, for another proposal, and for discrete latents.

    References:
        Talts et al.: Validating Bayesian Inference Algorithms with Simulation-Based Calibration (2018),
        https://arxiv.org/abs/1804.06788.

    Example:
        >>> import tightbound as tb
        >>> _ = torch.manual_seed(0)
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> calibration(model, observations=50).ranks.shape
        torch.Size([50, 2])
        >>> calibration(model, observations=50, proposal="refined").fine
        True
    """
    seed = require_seed(seed)
    require_several(observations, "observations")
    if proposal not in get_args(Ranked):
        raise ValueError(f"Expected a proposal of {' or '.join(get_args(Ranked))}; got {proposal!r}.")
    able, ranks, done, refined = require_simulating(model), [], 0, None
    with evaluation_mode(model), own_random_state(home(model)[0], seed=seed):
        for batch, z in simulated(able, observations, BLOCK):
            if not done:
                shape = continuous_latent_of(model, batch, "to rank")
                refined = _Refined(model, batch, shape, count=observations) if proposal == "refined" else None
            seeds = seeds_of(batch, seed)
            if refined is None:
                drawn, _ = proposed(model, batch, seeds, DRAWS)
                ranks.append((drawn < z).sum(0).flatten(1).cpu())
            else:
                ranks.append(refined.ranks(batch, z, seeds))
            done += batch.size
            if progress is not None:
                progress(done, observations)
    return Calibration(ranks=torch.cat(ranks), draws=DRAWS, seed=seed, proposal=proposal)


class _Refined:
    """Ranks among weighted draws of proposals that are fitted to each observation."""

    def __init__(self, model: Model, some: Batch, shape: torch.Size, *, count: int) -> None:
        self.model, self.rows = model, rows_at_once(model, observed_as(some.x))
        joint = accelerate(model, some, rows=(REFINING + SETS * SET) * count, precision="float32")
        self.target = Target(joint, shape, model.parts(some))

    def ranks(self, batch: Batch, z: Tensor, seeds: list[int]) -> Tensor:
        """Shape (B, L), some observations at a time: as many as fill the decoder in a step of their fits."""
        size = max(1, min(self.rows // SET, AT_ONCE // (SETS * SET * self.target.dim)))
        parts = [slice(start, start + size) for start in range(0, batch.size, size)]
        return torch.cat([self._of(batch.rows(part), z[part], seeds[part]) for part in parts])

    def _of(self, batch: Batch, z: Tensor, seeds: list[int]) -> Tensor:
        fits = Fits(self.target, batch, seeds, width=max(1, self.rows // SET))
        proposal, _ = fits.fitted(proposed(self.model, batch, seeds, START)[0], ERROR)
        log_w, below = [], []
        for rows, u, its_log_w in fits.weighed(proposal, [SETS] * batch.size, "calibration"):
            log_w.append(its_log_w)
            below.append((self.target.to_latent(u) < z[rows]).flatten(2).cpu())
        turns = torch.stack([torch.rand(below[0].shape[2], generator=generator(each, "rank")) for each in seeds])
        return weighted_ranks(_by_observation(log_w), _by_observation(below), turns.double())


def _by_observation(parts: list[Tensor]) -> Tensor:
    """All draws of each observation: (16, B · sets, …) in parts to (K, B, …)."""
    return torch.cat(parts, 1).unflatten(1, (-1, SETS)).transpose(1, 2).flatten(0, 1)


def weighted_ranks(log_w: Tensor, below: Tensor, turns: Tensor) -> Tensor:
    """Ranks from 0 to 99 among weighted draws, as :func:`calibration` states them.

    Args:
        log_w: log-weights of K draws for each of B observations, shape (K, B), float64.
        below: which draws lie below the known latent, boolean, shape (K, B, L).
        turns: uniform numbers that break ties, shape (B, L).

    Returns:
        Shape (B, L), int64; 0 where no draw has a weight.

    Example:
        >>> draws = torch.arange(199.0)[:, None, None]
        >>> weighted_ranks(torch.zeros(199, 1).double(), draws < 150, torch.full((1, 1), 0.5).double())
        tensor([[75]])
    """
    w, ess = log_w.softmax(0), effective_samples(log_w)[:, None]
    level = (ess * torch.einsum("kb,kbl->bl", w, below.double()) + turns) / (ess + 1)
    return (level.nan_to_num(0.0) * (DRAWS + 1)).long().clamp(0, DRAWS)
