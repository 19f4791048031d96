"""Whether a posterior's intervals cover what they say: ranks of known latents among draws of q(z | x)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tightbound.autoencoder import VAE
from tightbound.evaluate.noise import proposed, seeds_of
from tightbound.evaluate.observed import continuous_latent_of, require_several, simulated, simulates
from tightbound.evaluate.results import Estimate
from tightbound.model import Model
from tightbound.runtime import evaluation_mode, home, own_random_state

DRAWS = 99  # ranks from 0 to 99: a hundredth each
INTERVALS = (0.5, 0.8, 0.95)  # central ones
BLOCK = 256  # observations at a time
SURE = 3.0  # standard errors from which on a coverage is called wrong …
OFF = 0.02  # … if it is off by so much as well


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Calibration:
    r"""How often central intervals of q(z | x) cover the z that an observation was made of.

    If q were the true posterior, the rank of z among draws of q would be uniform in every dimension.

    Args:
        ranks: of each simulated observation's z among the draws, per dimension, shape (N, L), from 0 to the number of
            draws.
        draws: how many draws of q(z | x), K.
        seed: of everything random.

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
        ordered = self.ranks.double().sort(0).values
        count = len(ordered)
        level = (ordered + 0.5) / (self.draws + 1)
        steps = torch.arange(1, count + 1, dtype=torch.float64)[:, None] / count
        return math.sqrt(count) * torch.maximum((steps - level).abs(), (steps - 1 / count - level).abs()).amax(0)

    @property
    def verdict(self) -> str:
        """Whether the posterior is too sure of itself, or not sure enough."""
        wrong = {
            level: found
            for level, found in self.coverage.items()
            if abs(found.value - level) > max(SURE * found.se, OFF)
        }
        if not wrong:
            return "The posterior's intervals cover what they say, on data that the model simulates."
        level, found = next(iter(wrong.items()))
        narrow = found.value < level
        said = "too narrow: it is surer of z than it may be" if narrow else "too wide"
        worst = int((self.coverage_per_dimension - INTERVALS[1]).abs().argmax())
        return (
            f"The posterior is {said}. Its central {level:.0%} intervals cover {found.value:.1%} ± {found.se:.1%} of "
            f"the latents that simulated data were made of; dimension {worst} (from 0) is off the most. Numbers that "
            "use q(z|x) as the posterior inherit that; log p(x) by refined proposals does not."
        )

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
            "seed": self.seed,
            "verdict": self.verdict,
        }

    def __str__(self) -> str:
        head = f"Calibration: {len(self.ranks)} simulated observations, {self.draws} draws each, seed {self.seed}"
        rows = [
            f"  central {level:.0%} interval covers {found.value:>8.1%} ± {found.se:.1%}"
            for level, found in self.coverage.items()
        ]
        return "\n".join([head, *rows, "", textwrap.fill(self.verdict, width=100)])

    __repr__ = __str__

    def _inside(self, level: float) -> Tensor:
        """Whether each rank lies in the central interval, shape (N, L)."""
        tail = (1 - level) / 2 * (self.draws + 1)
        return (self.ranks >= tail) & (self.ranks < self.draws + 1 - tail)


def calibration(
    model: Model, *, observations: int = 1000, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> Calibration:
    r"""Simulation-based calibration of q(z | x): does it cover the latents that simulated data were made of?

    z is drawn from the prior, x from p(x | z), and then 99 latents from q(z | x). The rank of z among them is uniform
    if q is the true posterior. Ranks that pile up at both ends tell of a posterior too narrow, in the middle of one too
    wide, on one side of a biased one.

    Args:
        model: a ``VAE`` of real latents, which can simulate.
        observations: how many to simulate.
        seed: of everything random.
        progress: called with the observations done and their total.

    Returns:
        Ranks, coverage, and what they mean.

    Raises:
        TypeError: for a model that does not say how to simulate.
        ValueError: for fewer than two observations, and for discrete latents.

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
    """
    require_several(observations, "observations")
    if not isinstance(model, VAE) or not simulates(model):
        raise TypeError(
            f"Expected a VAE, which can simulate observations with their latents; got {type(model).__name__}, whose "
            "log_joint is its own."
        )
    ranks, done = [], 0
    with evaluation_mode(model), own_random_state(home(model)[0], seed=seed):
        for batch, z in simulated(model, observations, BLOCK):
            if not done:
                continuous_latent_of(model, batch, "to rank")
            drawn, _ = proposed(model, batch, seeds_of(batch, seed), DRAWS)
            ranks.append((drawn < z).sum(0).flatten(1).cpu())
            done += batch.size
            if progress is not None:
                progress(done, observations)
    return Calibration(ranks=torch.cat(ranks), draws=DRAWS, seed=seed)
