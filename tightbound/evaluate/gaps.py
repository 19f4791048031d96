"""How loose the ELBO is, and why: what the encoder loses and what its family of posteriors cannot follow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tightbound import bounds
from tightbound.autoencoder import VAE
from tightbound.batch import Batch
from tightbound.evaluate.accelerate import accelerate
from tightbound.evaluate.estimates import Estimate, Judged, plain
from tightbound.evaluate.marginal import ERROR, Fits
from tightbound.evaluate.noise import generator, scored, seeds_of
from tightbound.evaluate.observed import blocks, continuous_latent_of, observed_as, rows_at_once, some_of
from tightbound.evaluate.proposals import FIRST, SET, Family, Proposal, Sweep, refine, start_of
from tightbound.evaluate.target import Target
from tightbound.model import Model
from tightbound.posteriors import DiagonalNormal, FullNormal, LogNormal
from tightbound.runtime import evaluation_mode, home, in_double, own_random_state
from tightbound.settings import require_seed

DRAWS = 256  # of each ELBO, none of which a fit has seen
SWEEPS: dict[Family, tuple[Sweep, ...]] = {  # until more of them win no more than some thousandths of a nat
    "full": (*FIRST, Sweep(0.5, 0.2), Sweep(0.33, 0.1), Sweep(0.25, 0.1), Sweep(0.2, 0.05)),
    "diagonal": (*FIRST[:2], *[Sweep(0.5, 0.4)] * 6, *[Sweep(0.33, 0.2)] * 3, Sweep(0.25, 0.1), Sweep(0.2, 0.05)),
}
COST = 6000  # decodings that all of it costs an observation, about: a slope counts as three
WORTH = 0.1  # nats that are worth an advice


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    r"""The gap of one set of observations, in nats per observation, and its parts, paired by observation.

    Args:
        elbo: of the encoder's posterior.
        log_px: by refined proposals.
        gap: log p(x) less the ELBO: amortisation and approximation together.
        amortisation: ELBO of the best member of the family for each observation, less the encoder's; None for
            families that are not normal.
        approximation: log p(x) less the ELBO of that best member; None likewise.
        best_diagonal: log p(x) less the ELBO of the best normal without correlations.
        best_full: log p(x) less that of the best normal with full covariance.
        full_wins: ELBO of the best full normal less that of the best without correlations.
        observations: how many, N.
        per_observation: "elbo", "log_px", "diagonal", "full": each (N,), float64.
    """

    elbo: Estimate
    log_px: Estimate
    gap: Estimate
    amortisation: Estimate | None
    approximation: Estimate | None
    best_diagonal: Estimate
    best_full: Estimate
    full_wins: Estimate
    observations: int
    per_observation: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Gaps(Judged):
    r"""Where the nats between ELBO and log p(x) go.

    .. math:: \log p(x) - \text{ELBO}(q) = \underbrace{\text{ELBO}(q^*) - \text{ELBO}(q)}_\text{amortisation}
              + \underbrace{\log p(x) - \text{ELBO}(q^*)}_\text{approximation}

    with :math:`q^*` the best member of the family for this x.

    References:
        Cremer, Li, Duvenaud: Inference Suboptimality in Variational Autoencoders (2018),
        https://arxiv.org/abs/1801.03558.

    Args:
        test: of observations that the model has not seen.
        train: of others that it was trained on; None where none were given.
        family: that the posterior belongs to; None where that is not normal.
        seed: of everything random.

    Example:
        >>> import torch, tightbound as tb
        >>> _ = torch.manual_seed(0)
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> made = tb.evaluate.gaps(model, torch.randn(10, 5))
        >>> made.test.observations, made.train, sorted(made.test.per_observation)
        (10, None, ['diagonal', 'elbo', 'full', 'log_px'])
    """

    test: Parts
    train: Parts | None
    family: Family | None
    seed: int

    @property
    def overfitting(self) -> Estimate | None:
        """The test set's amortisation less the training set's: what the encoder has learned by heart."""
        ours, theirs = self.test.amortisation, None if self.train is None else self.train.amortisation
        if ours is None or theirs is None:
            return None
        return Estimate(ours.value - theirs.value, (ours.se**2 + theirs.se**2) ** 0.5)

    @property
    def verdict(self) -> str:
        """Who loses the nats, and what could win them: each advice with its number."""
        said = [f"The ELBO lies {self.test.gap} nats below log p(x)."]
        if self.test.amortisation is not None and self.test.approximation is not None:
            kind = "a normal without correlations" if self.family == "diagonal" else "a normal with full covariance"
            said.append(
                f"The encoder loses {self.test.amortisation} of them: so much more has the best {kind[2:]} for each "
                f"observation. The family, {kind}, cannot follow the true posterior for the other "
                f"{self.test.approximation}."
            )
        if self.family != "full" and _matters(self.test.full_wins):
            said.append(
                f"A normal with full covariance, fitted to each observation, wins {self.test.full_wins}: that is the "
                "most that a full-normal posterior can win. One that was trained on MNIST raised the ELBO by 1.4 nats."
            )
        if self.overfitting is not None and _matters(self.overfitting):
            said.append(
                f"The encoder over-fits by {self.overfitting}: on training data it loses that much less. Weight "
                "decay, train.weight_decay in a recipe, raised the ELBO by 0.8 nats on MNIST."
            )
        elif self.overfitting is not None and self.test.amortisation and _matters(self.test.amortisation):
            said.append("The encoder loses as much on training data: a larger encoder or longer training may help.")
        return " ".join(said)

    def to_json(self) -> dict[str, Any]:
        """All but the per-observation values, as plain numbers and words; None where a number is unknown."""
        return {
            "test": _plain(self.test),
            "train": None if self.train is None else _plain(self.train),
            **plain({"overfitting": self.overfitting}),
            "family": self.family,
            "seed": self.seed,
            "verdict": self.verdict,
        }

    @property
    def table(self) -> str:
        """The numbers, without the verdict."""
        columns = [("test", self.test), *([] if self.train is None else [("training", self.train)])]
        counts = ", ".join(f"{part.observations} {name}" for name, part in columns)
        lines = [f"Gaps: {counts} observations, seed {self.seed}", f"  {'nats':<28}" + _cells(columns, None)]
        lines += [f"  {name:<28}" + _cells(columns, key) for key, name in _NAMES.items()]
        return "\n".join(line.rstrip() for line in lines)


_NAMES = {
    "log_px": "log p(x)",
    "elbo": "ELBO",
    "gap": "gap between them",
    "amortisation": "  lost by the encoder",
    "approximation": "  lost by its family",
    "best_diagonal": "best diagonal normal lacks",
    "best_full": "best full normal lacks",
    "full_wins": "full wins over diagonal",
}


def gaps(
    model: Model,
    data: Any,
    *,
    train: Any = None,
    observations: int = 200,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Gaps:
    r"""How loose the ELBO is, and why: amortisation and approximation gap, with what a full covariance would win.

    For each observation, the best normal without correlations and the best with full covariance are fitted to it; all
    ELBOs are measured on fresh draws, and paired by observation.

    Args:
        model: of continuous latents.
        data: observations that it has not seen, or anything that ``tb.data.observations`` takes.
        train: observations that it was trained on: shows whether its encoder over-fits.
        observations: how many of each, taken at random; all where there are fewer.
        seed: of everything random.
        progress: called with the observations done and their total.

    Returns:
        The gaps and what they mean.

    Raises:
        ValueError: for fewer than two observations, and for discrete latents; and as ``evidence``.

    References:
        Cremer, Li, Duvenaud: Inference Suboptimality in Variational Autoencoders (2018),
        https://arxiv.org/abs/1801.03558.

    Example:
        >>> import tightbound as tb
        >>> _ = torch.manual_seed(0)
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> found = gaps(model, torch.randn(20, 5))
        >>> found.family, found.test.gap.value > found.test.best_diagonal.value > found.test.best_full.value - 0.01
        ('diagonal', True)
    """
    seed = require_seed(seed)
    done, family, found = 0, family_of(model), []
    with evaluation_mode(model), own_random_state(home(model)[0], seed=seed):
        sets = [some_of(observed_as(each), observations) for each in (data, train) if each is not None]
        total = sum(map(len, sets))
        for chosen in sets:
            columns: dict[str, list[Tensor]] = defaultdict(list)
            rows, measure = rows_at_once(model, chosen), None
            for _, batch in blocks(model, chosen, max(1, rows // SET)):
                measure = measure or _Measure(model, batch, seed=seed, rows=rows, count=len(chosen))
                for name, values in measure(batch).items():
                    columns[name].append(values)
                done += batch.size
                if progress is not None:
                    progress(done, total)
            found.append(_parts({name: torch.cat(each) for name, each in columns.items()}, family))
    return Gaps(test=found[0], train=found[1] if len(found) > 1 else None, family=family, seed=seed)


def family_of(model: Model) -> Family | None:
    """The family of normals, over unconstrained latents, that a model's posterior belongs to; None for all others."""
    if not isinstance(model, VAE) or type(model).propose is not VAE.propose:
        return None
    if isinstance(model.posterior, DiagonalNormal | LogNormal):
        return "diagonal"
    return "full" if isinstance(model.posterior, FullNormal) else None


class _Measure:
    """All ELBOs of a block of observations."""

    def __init__(self, model: Model, some: Batch, *, seed: int, rows: int, count: int) -> None:
        self.seed, self.rows = seed, rows
        shape = continuous_latent_of(model, some, "to fit normals to")
        joint = accelerate(model, some, rows=COST * count, precision="float32")
        self.target = Target(joint, shape, model.parts(some))

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        seeds = seeds_of(batch, self.seed)
        draws, z = scored(self.target.joint, batch, seeds, DRAWS, least=DRAWS, rows=self.rows)
        elbo, start = bounds.elbo(draws), start_of(self.target.from_latent(z))
        fits = Fits(self.target, batch, seeds, width=max(1, self.rows // SET))
        log_px = fits.estimate(*fits.fitted(z, ERROR), elbo, error=ERROR).log_px
        best = {str(name): self._best(batch, start, name, seeds) for name in SWEEPS}
        return {"elbo": elbo, "log_px": log_px, **best}

    def _best(self, batch: Batch, start: Proposal, family: Family, seeds: list[int]) -> Tensor:
        """The ELBO of the normal that is fitted best, on draws that its fit has not seen."""
        fitted = refine(self.target, batch, start, sweeps=SWEEPS[family], family=family)
        size = self.target.dim
        drawn = [torch.randn(DRAWS // 2, size, dtype=torch.float64, generator=generator(s, "elbo")) for s in seeds]
        half = torch.stack(drawn, 1).to(fitted.mean)
        noise = torch.cat([half, -half])
        parts = fitted.at(noise).split(max(1, self.rows // batch.size))
        log_p = torch.cat([in_double(self.target(batch, part)) for part in parts])
        return (log_p - fitted.log_normal(noise)).mean(0).cpu()


def _parts(columns: dict[str, Tensor], family: Family | None) -> Parts:
    elbo, log_px, diagonal, full = (columns[name] for name in ("elbo", "log_px", "diagonal", "full"))
    best = None if family is None else columns[family]
    return Parts(
        elbo=Estimate.of(elbo),
        log_px=Estimate.of(log_px),
        gap=Estimate.of(log_px - elbo),
        amortisation=None if best is None else Estimate.of(best - elbo),
        approximation=None if best is None else Estimate.of(log_px - best),
        best_diagonal=Estimate.of(log_px - diagonal),
        best_full=Estimate.of(log_px - full),
        full_wins=Estimate.of(full - diagonal),
        observations=len(elbo),
        per_observation=columns,
    )


def _matters(found: Estimate) -> bool:
    return found.value > max(WORTH, 2 * found.se)


def _plain(parts: Parts) -> dict[str, Any]:
    return {"observations": parts.observations, **plain({name: getattr(parts, name) for name in _NAMES})}


def _cells(columns: list[tuple[str, Parts]], key: str | None) -> str:
    cells = [name if key is None else str(getattr(part, key) or "unknown") for name, part in columns]
    return "".join(f"{cell:>20}" for cell in cells)
