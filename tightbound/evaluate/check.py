"""Whether what a model says of data to come comes true: its intervals, its predictions, its samples."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tightbound.evaluate.calibration import Calibration, calibration
from tightbound.evaluate.estimates import Judged
from tightbound.evaluate.evidence import WIDEST
from tightbound.evaluate.fidelity import FEWEST, Fidelity, fidelity, size_of_sets
from tightbound.evaluate.likeness import NEAREST
from tightbound.evaluate.neighbours import Neighbours, neighbours
from tightbound.evaluate.observed import blocks, latent_of, observed_as, require_several, require_simulating
from tightbound.evaluate.predictive import Predictive, predictive
from tightbound.model import Model
from tightbound.runtime import evaluation_mode, home, own_random_state
from tightbound.settings import require_seed

if TYPE_CHECKING:
    from tightbound.data.observations import Observations

TITLES = {
    "posterior": "intervals of q(z|x)",
    "refined": "intervals of refined proposals",
    "predictive": "predictions",
    "neighbours": "samples beside training data",
    "fidelity": "sample quality",
}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Checks(Judged):
    """Five checks of a model, each by its own report, and what they say together.

    Args:
        posterior: whether intervals of q(z | x) cover what they say; None where it was left out, as for the others.
        refined: the same of refined proposals.
        predictive: whether held-out observations are what the model predicts.
        neighbours: whether the model copies.
        fidelity: whether samples are told from held-out observations.
        skipped: the reason why each of the others was left out, by its name.

    Example:
        >>> print(Checks(skipped={"neighbours": "There are no held-out observations."}).verdict)
        None of the checks could be made.
    """

    posterior: Calibration | None = None
    refined: Calibration | None = None
    predictive: Predictive | None = None
    neighbours: Neighbours | None = None
    fidelity: Fidelity | None = None
    skipped: dict[str, str]

    @property
    def made(self) -> dict[str, Calibration | Predictive | Neighbours | Fidelity]:
        """The checks that were made, by name."""
        every = ((name, getattr(self, name)) for name in TITLES)
        return {name: each for name, each in every if each is not None}

    @property
    def fine(self) -> bool:
        """Whether none of them found anything."""
        return all(each.fine for each in self.made.values())

    @property
    def verdict(self) -> str:
        """How many checks found something, then what each of them says."""
        return "\n\n".join([self._headline, *(each.verdict for each in self.made.values())])

    @property
    def _headline(self) -> str:
        off = [TITLES[name] for name, each in self.made.items() if not each.fine]
        count = len(self.made)
        if not count:
            return "None of the checks could be made."
        if not off:
            return f"{count} of {count} checks found nothing wrong."
        return f"{len(off)} of {count} checks found something: {', '.join(off)}."

    @property
    def per_observation(self) -> dict[str, Tensor]:
        """Values by observation, and the samples that a picture shows, of the checks that were made."""
        found: dict[str, Tensor] = {}
        for name, each in (("ranks", self.posterior), ("ranks_refined", self.refined)):
            if each is not None:
                found[name] = each.ranks.to(torch.uint8)
        if (told := self.predictive) is not None:
            found |= {"p_values": told.p_values, "simulated_p_values": told.simulated_p_values}
            found |= {"elbo": told.elbo, "simulated_elbo": told.simulated_elbo, "elbo_ranks": told.ranks}
        if (near := self.neighbours) is not None:
            found |= {"distances": near.samples, "held_out_distances": near.held_out, "nearest": near.nearest}
            found |= {"examples": near.examples, "means": near.means, "closest": near.closest}
        if (like := self.fidelity) is not None:
            found |= {"best": like.best, "worst": like.worst, "worst_nearest": like.nearest, "missed": like.missed}
        return {name: each.contiguous() for name, each in found.items()}

    def to_json(self) -> dict[str, Any]:
        """The report of each check under its name, None for those left out; plain numbers and words."""
        made = self.made
        return {
            **{name: made[name].to_json() if name in made else None for name in TITLES},
            "skipped": self.skipped,
            "fine": self.fine,
            "verdict": self.verdict,
        }

    @property
    def table(self) -> str:
        """The numbers, without the verdict."""
        left_out = [
            textwrap.fill(f"Left out, {TITLES[name]}: {reason}", width=100) for name, reason in self.skipped.items()
        ]
        return "\n\n".join([*(each.table for each in self.made.values()), *left_out])


def check(
    model: Model,
    train: Any,
    held_out: Any,
    *,
    observations: int = 500,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Checks:
    """Does what the model says of data to come come true? Five checks in one.

    Whether intervals of q(z | x) cover what they say, and those of refined proposals (:func:`calibration`); whether
    held-out observations are what the model predicts (:func:`predictive`); whether it copies (:func:`neighbours`);
    whether samples are told from held-out observations (:func:`fidelity`).

    A check that a model cannot take is left out, with the reason: ranks need real latents, refined proposals at most
    512 of them, replicas and samples a likelihood that sums or integrates to one, their quality six observations of a
    kind.

    Args:
        model: a ``VAE``, which can simulate.
        train: the observations that it was trained on, or anything that ``tb.data.observations`` takes.
        held_out: observations that it has not seen.
        observations: how many are simulated, and how many held-out ones are taken at random, all where there are fewer.
        seed: of everything random.
        progress: called with the observations done and their total, over all checks.

    Returns:
        The reports, and what they say together.

    Raises:
        TypeError: for a model that does not say how to simulate.
        ValueError: for fewer than two observations, and as ``evidence``.

    Example:
        >>> import tightbound as tb
        >>> _ = torch.manual_seed(0)
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> found = check(model, model.sample(500), model.sample(100), observations=100)
        >>> sorted(found.made), found.skipped, found.fine
        (['fidelity', 'neighbours', 'posterior', 'predictive', 'refined'], {}, True)
    """
    seed = require_seed(seed)
    require_several(observations, "observations")
    require_simulating(model)
    trained, others = observed_as(train), observed_as(held_out)
    skipped = _skipped(model, observations, trained, others)
    few, made = min(observations, len(others)), observations
    sizes = {"posterior": made, "refined": made, **dict.fromkeys(("predictive", "neighbours", "fidelity"), few + made)}
    total, base = sum(sizes.values()), sum(sizes[name] for name in skipped)
    found: dict[str, Any] = {}
    for name, size in sizes.items():
        if name in skipped:
            continue
        told = None if progress is None else _scaled(progress, base, size, total)
        common: dict[str, Any] = {"observations": observations, "seed": seed, "progress": told}
        if name == "predictive":
            found[name] = predictive(model, others, **common)
        elif name in ("neighbours", "fidelity"):
            found[name] = (neighbours if name == "neighbours" else fidelity)(model, trained, others, **common)
        else:
            found[name] = calibration(model, proposal="posterior" if name == "posterior" else "refined", **common)
        base += size
    return Checks(**found, skipped=skipped)


def _scaled(progress: Callable[[int, int], None], base: int, size: int, total: int) -> Callable[[int, int], None]:
    """What a check tells of its own work, as so much of the work of all."""
    return lambda done, of: progress(base + done * size // of, total)


def _skipped(model: Model, observations: int, train: Observations, held_out: Observations) -> dict[str, str]:
    """Which checks are left out, and why. Model and data are looked at on the way."""
    with evaluation_mode(model), own_random_state(home(model)[0], seed=0):
        _, batch = next(blocks(model, held_out, 2))
        shape, discrete = latent_of(model, batch)
    found: dict[str, str] = {}
    if discrete:
        reason = "its latents are discrete, at least in part, and a code has no rank."
        found |= {"posterior": reason, "refined": reason}
    elif shape.numel() > WIDEST:
        found["refined"] = f"it has {shape.numel()} latent dimensions, and proposals are fitted to at most {WIDEST}."
    reason = ""
    if not model.is_normalised:
        reason = "its likelihood does not sum or integrate to one, so its draws are unlike the data."
    elif len(held_out) < 2:
        reason = "there is one held-out observation, which shows no error."
    if reason:
        found |= dict.fromkeys(("predictive", "neighbours", "fidelity"), reason)
    elif size_of_sets(observations, train, held_out) < FEWEST:
        found["fidelity"] = (
            f"it takes {FEWEST} observations, as many held-out ones and {2 * FEWEST} training ones, to have {NEAREST} "
            "neighbours each."
        )
    return found
