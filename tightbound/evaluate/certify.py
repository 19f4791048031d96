"""Whether an estimate of log p(x) can be believed: a second method beside it, and bounds from both sides."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from tightbound import bounds
from tightbound.autoencoder import VAE
from tightbound.batch import Batch
from tightbound.data.mapped import require_memory
from tightbound.evaluate.accelerate import accelerate
from tightbound.evaluate.annealing import MOST_SLOPES, Annealer, Schedule, lower, upper
from tightbound.evaluate.estimates import Estimate, Judged, plain, row
from tightbound.evaluate.marginal import ERROR, START, Fits
from tightbound.evaluate.noise import scored, seeds_of
from tightbound.evaluate.observed import (
    blocks,
    continuous_latent_of,
    observed_as,
    rows_at_once,
    simulated,
    simulates,
    some_of,
)
from tightbound.evaluate.proposals import SET
from tightbound.evaluate.target import Target
from tightbound.model import Model
from tightbound.runtime import evaluation_mode, home, own_random_state
from tightbound.settings import require_seed

AGREE = 3.0  # standard errors that two methods may be apart …
NEAR = 0.02  # … or nats, which no standard error of a test set can tell
TIGHT = 0.1  # nats between the bounds on the model's own data that are worth a certificate


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Certificate(Judged):
    r"""Two unlike estimates of log p(x), and bounds from both sides where exact posterior draws are known.

    Args:
        refined: −log p(x) of the observations by refined proposals, in nats.
        annealed: the same by annealed importance sampling.
        difference: log p(x) of the second less that of the first, paired by observation.
        lower: of observations that the model simulated, the lower bound on log p(x); None where none can be.
        upper: the upper bound on the same.
        gap: the upper less the lower one, paired by observation.
        simulated: log p(x) of the same by refined proposals.
        per_observation: each (N,), float64: "refined", "annealed"; "lower", "upper", "simulated" of simulated ones.
        observations: how many of each, N.
        schedule: of the walks.
        accepted: share of moves that were accepted.
        seconds: that it took.
        seed: of everything random.

    References:
        Neal: Annealed Importance Sampling (2001), https://arxiv.org/abs/physics/9803008; Grosse, Ghahramani, Adams:
        Sandwiching the marginal likelihood using bidirectional Monte Carlo (2015), https://arxiv.org/abs/1511.02543;
        Wu et al.: On the Quantitative Analysis of Decoder-Based Generative Models (2017),
        https://arxiv.org/abs/1611.04273.

    Example:
        >>> import torch, tightbound as tb
        >>> _ = torch.manual_seed(0)
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> made = tb.evaluate.certify(model, torch.randn(20, 5), observations=10)
        >>> made.observations, made.schedule.temperatures, sorted(made.per_observation)
        (10, 30, ['annealed', 'lower', 'refined', 'simulated', 'upper'])
    """

    refined: Estimate
    annealed: Estimate
    difference: Estimate
    lower: Estimate | None
    upper: Estimate | None
    gap: Estimate | None
    simulated: Estimate | None
    per_observation: dict[str, Tensor]
    observations: int
    schedule: Schedule
    accepted: float
    seconds: float
    seed: int

    @property
    def agrees(self) -> bool:
        """Whether two unlike methods give one number."""
        return abs(self.difference.value) <= max(AGREE * self.difference.se, NEAR)

    @property
    def largest_gap(self) -> float | None:
        """The widest gap of any observation; None where none were simulated."""
        if self.gap is None:
            return None
        return float((self.per_observation["upper"] - self.per_observation["lower"]).max())

    @property
    def verdict(self) -> str:
        """What is proved, and what is not."""
        return f"{self._on_agreement()} {self._on_gap()}"

    def _on_agreement(self) -> str:
        if self.agrees:
            return (
                f"Two unlike methods give one number: refined proposals and annealing differ by {self.difference} nats "
                "an observation."
            )
        above = "above" if self.difference.value > 0 else "below"
        return (
            f"The two methods do not agree: annealing lies {Estimate(abs(self.difference.value), self.difference.se)} "
            f"nats {above} the refined proposals. Both are lower bounds on log p(x) in expectation, so believe the "
            "higher one, and give the walk more temperatures."
        )

    def _on_gap(self) -> str:
        if self.gap is None:
            return "This model cannot simulate observations with their latents, so there is no bound from above."
        between = (
            f"On {self.observations} observations that the model simulated, log p(x) is at least {self.lower} and at "
            f"most {self.upper} on average: {self.gap} nats apart"
        )
        if self.gap.value > max(TIGHT, AGREE * self.gap.se):
            return f"{between}, too far to certify anything. Give the walk more temperatures."
        return (
            f"{between}. So the sampler finds log p(x) on the model's own data. It proves nothing about other data, "
            "whose posteriors may be harder to sample."
        )

    def to_json(self) -> dict[str, Any]:
        """All but the per-observation values, as plain numbers and words; None where a number is unknown."""
        names = ("refined", "annealed", "difference", "lower", "upper", "gap", "simulated")
        return {
            **plain({name: getattr(self, name) for name in names}),
            "largest_gap": self.largest_gap,
            "agrees": self.agrees,
            "observations": self.observations,
            **asdict(self.schedule),
            "slopes": self.schedule.slopes,
            "accepted": self.accepted,
            "seconds": self.seconds,
            "seed": self.seed,
            "verdict": self.verdict,
        }

    @property
    def table(self) -> str:
        """The numbers, without the verdict."""
        walk = self.schedule
        head = (
            f"Certificate: {self.observations} observations; {walk.temperatures} temperatures, {walk.chains} chains, "
            f"{walk.leapfrogs} leapfrogs, seed {self.seed}"
        )
        lines = [
            ("NLL, refined", self.refined, "nats per observation, by proposals fitted to each"),
            ("NLL, annealed", self.annealed, "by a walk from these proposals to the true posteriors"),
            ("difference", self.difference, "of log p(x), annealed less refined, by observation"),
        ]
        if self.gap is not None and self.lower is not None and self.upper is not None and self.simulated is not None:
            lines += [
                ("lower bound", self.lower, "on log p(x) of simulated observations"),
                ("refined", self.simulated, "on the same"),
                ("upper bound", self.upper, "on the same, from exact draws of the posterior"),
                ("gap", self.gap, f"between the bounds; {self.largest_gap:.2f} at most"),
            ]
        rows = [row(*line) for line in lines]
        cost = f"{walk.slopes} slopes an observation and direction, {self.seconds:.0f} s in all"
        rows.append(row("cost", f"{cost}; {self.accepted:.0%} of the moves accepted", ""))
        return "\n".join([head, *rows])


def certify(
    model: Model,
    data: Any,
    *,
    observations: int = 200,
    schedule: Schedule | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Certificate:
    r"""Check an estimate of log p(x): by a second, unlike method, and from both sides on the model's own data.

    On some of ``data``, log p(x) is estimated by refined proposals, and again by annealed importance sampling, which
    walks from these proposals to the true posteriors. Both are lower bounds in expectation.

    Then the model simulates as many observations. Of these one exact draw of the posterior is known, the z that they
    were made of. Annealing backwards from it gives an upper bound on log p(x): bidirectional Monte Carlo. How far the
    bounds are apart certifies the *sampler*, on data that are the model's own.

    Args:
        model: of continuous latents.
        data: observations, or anything that ``tb.data.observations`` takes; some of them are taken at random.
        observations: how many, and how many are simulated; all of the data where there are fewer.
        schedule: of the walks.
        seed: of everything random.
        progress: called with the observations done and their total.

    Returns:
        Both estimates, the bounds, and what they prove.

    Raises:
        ValueError: for fewer than two observations, discrete latents, more chains than memory holds, and a walk that
            would not end; and as ``evidence``.

    References:
        Grosse, Ghahramani, Adams: Sandwiching the marginal likelihood using bidirectional Monte Carlo (2015),
        https://arxiv.org/abs/1511.02543.

    Example:
        >>> import tightbound as tb
        >>> _ = torch.manual_seed(0)
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> found = certify(model, torch.randn(20, 5), observations=20)
        >>> found.agrees, found.gap.value < 0.1
        (True, True)
    """
    seed = require_seed(seed)
    began, walk, device = time.perf_counter(), schedule or Schedule(), home(model)[0]
    columns: dict[str, list[Tensor]] = defaultdict(list)
    with evaluation_mode(model), own_random_state(device, seed=seed):
        chosen = some_of(observed_as(data), observations)
        rows, sampler = rows_at_once(model, chosen), None
        size, done = max(1, rows // SET), 0
        given: Iterator[tuple[Batch, Tensor | None]] = ((batch, None) for _, batch in blocks(model, chosen, size))
        made = simulated(model, len(chosen), size) if isinstance(model, VAE) and simulates(model) else ()
        total = len(chosen) * (2 if made else 1)
        for batch, exact in chain(given, made):
            if sampler is None:
                shape = continuous_latent_of(model, batch, "to walk through")
                require_memory(
                    8 * walk.chains * shape.numel(), of=f"chains={walk.chains:,}", remedy="Take fewer: 4 do."
                )
                _require_end(walk)
                joint = accelerate(model, batch, rows=total * 2 * walk.slopes, precision="float32")
                sampler = _Sampler(Target(joint, shape, model.parts(batch)), walk, seed=seed, rows=rows)
            walks = 2 if exact is None else 3  # forwards, that of the step sizes, and backwards from exact latents
            moved = _within(progress, done, batch.size, total, moves=walks * (walk.temperatures - 1))
            for name, column in sampler(batch, exact, moved).items():
                columns[name].append(column)
            done += batch.size
            if progress is not None:
                progress(done, total)
    values = {name: torch.cat(each) for name, each in columns.items()}
    return _certificate(values, walk, seconds=time.perf_counter() - began, seed=seed)


def _require_end(walk: Schedule) -> None:
    if walk.slopes > MOST_SLOPES:
        raise ValueError(
            f"Expected temperatures, chains and leapfrogs with which an observation takes at most {MOST_SLOPES:,} "
            f"slopes; got {walk.slopes:,}, with temperatures={walk.temperatures:,}, chains={walk.chains:,} and "
            f"leapfrogs={walk.leapfrogs:,}. Take fewer: 1000 temperatures are many."
        )


def _within(
    progress: Callable[[int, int], None] | None, done: int, size: int, total: int, *, moves: int
) -> Callable[[], None]:
    """Counts the moves of a block, whose share tells how far it is: one of many temperatures may take hours."""
    made = told = 0

    def moved() -> None:
        nonlocal made, told
        made += 1
        if progress is not None and told < (now := min(size * made // moves, size - 1)):
            told = now
            progress(done + now, total)

    return moved


class _Sampler:
    """Both methods on one block of observations."""

    def __init__(self, target: Target, walk: Schedule, *, seed: int, rows: int) -> None:
        self.target, self.walk, self.seed, self.rows = target, walk, seed, rows

    def __call__(self, batch: Batch, exact: Tensor | None, moved: Callable[[], object]) -> dict[str, Tensor]:
        """``exact``: latents of simulated observations, shape (B, *latent)."""
        seeds = seeds_of(batch, self.seed)
        draws, z = scored(self.target.joint, batch, seeds, START, least=START, rows=self.rows)
        fits = Fits(self.target, batch, seeds, width=max(1, self.rows // SET))
        proposal, tried = fits.fitted(z, ERROR)
        refined = fits.estimate(proposal, tried, bounds.elbo(draws), error=ERROR).log_px
        walker = Annealer(self.target, batch, proposal, seeds, self.walk, moved=moved)
        there = walker.forwards()
        if exact is None:
            return {"refined": refined, "annealed": lower(there), "accepted": there.accepted}
        back = walker.backwards(self.target.from_latent(exact[None])[0])
        return {"simulated": refined, "lower": lower(there), "upper": upper(back), "accepted": there.accepted}


def _certificate(values: dict[str, Tensor], walk: Schedule, *, seconds: float, seed: int) -> Certificate:
    both = "upper" in values
    return Certificate(
        refined=Estimate.of(-values["refined"]),
        annealed=Estimate.of(-values["annealed"]),
        difference=Estimate.of(values["annealed"] - values["refined"]),
        lower=Estimate.of(values["lower"]) if both else None,
        upper=Estimate.of(values["upper"]) if both else None,
        gap=Estimate.of(values["upper"] - values["lower"]) if both else None,
        simulated=Estimate.of(values["simulated"]) if both else None,
        per_observation={name: each for name, each in values.items() if name != "accepted"},
        observations=len(values["refined"]),
        schedule=walk,
        accepted=float(values["accepted"].mean()),
        seconds=seconds,
        seed=seed,
    )
