"""Whether a model copies what it was trained on: how near its samples lie to training observations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tightbound.evaluate.estimates import Estimate, Judged, plain, row
from tightbound.evaluate.observed import (
    blocks,
    drawn,
    observed_as,
    require_normalised,
    require_several,
    require_simulating,
    require_two,
    rows_at_once,
    some_of,
)
from tightbound.evaluate.ranks import mann_whitney, share_below
from tightbound.likelihoods import point_estimate
from tightbound.model import Model
from tightbound.runtime import evaluation_mode, home, in_double, own_random_state
from tightbound.settings import require_seed

if TYPE_CHECKING:
    from tightbound.data.observations import Observations

BLOCK = 1024  # training observations at a time, at most …
READ = 2**22  # … and numbers they hold, at most
ASKED = 2**24  # numbers that the observations hold whose neighbours are looked for in one go
TRIED = 4  # of the nearest in a block by float32, which are measured again in float64
SHOWN = 12  # samples that are kept, for a picture
SURE = 3.0  # standard deviations from which on distances are called different …
OFF = 0.05  # … if the share of pairs is off one half by so much as well
CLOSE = 0.01  # share of held-out observations nearer than which a sample is called very near …
MANY = 0.05  # … and share of such samples that is worth a word
FEWEST = 100  # held-out observations whose nearest ones tell that; of so many, by chance in 6 of 1000 models
WIDTH = 30  # of the column of names


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Neighbours(Judged):
    r"""Distances of samples to their nearest training observation, beside those of held-out observations.

    Where samples are nearer than held-out observations, the model copies, or makes too little of what varies; where
    they are farther, it makes what is not there. Both are Euclidean, in units of the data.

    Args:
        samples: distance of each sample to the nearest training observation, shape (M,), float64.
        held_out: of each held-out observation, shape (N,), float64.
        nearest: index of each sample's nearest one in the training data, shape (M,).
        examples: the first samples, shape (S, \*shape).
        means: the mean of p(x | z) that each of them is a draw of, shape (S, \*shape).
        closest: the training observation that is nearest to each of them, as the model sees it, shape (S, \*shape).
        train: how many training observations.
        seed: of everything random.

    References:
        Meehan, Chaudhuri, Dasgupta: A Non-Parametric Test to Detect Data-Copying in Generative Models (2020),
        https://arxiv.org/abs/2004.05675.

    Example:
        >>> far, near, one = torch.arange(50.0) + 1, torch.arange(50.0) / 50, torch.zeros(1, 1)
        >>> found = Neighbours(
        ...     samples=near, held_out=far, nearest=one[0], examples=one, means=one, closest=one, train=9, seed=0
        ... )
        >>> found.nearer.value, round(found.z, 1), found.fine
        (1.0, -8.6, False)
    """

    samples: Tensor
    held_out: Tensor
    nearest: Tensor
    examples: Tensor
    means: Tensor
    closest: Tensor
    train: int
    seed: int

    @property
    def distance(self) -> Estimate:
        """The mean distance of samples."""
        return Estimate.of(self.samples)

    @property
    def held_out_distance(self) -> Estimate:
        """The mean distance of held-out observations."""
        return Estimate.of(self.held_out)

    @property
    def nearer(self) -> Estimate:
        """How often a sample is nearer than a held-out observation, over all pairs; ½ where both are alike."""
        return share_below(self.samples, self.held_out)

    @property
    def z(self) -> float:
        """Standard deviations by which samples are farther than held-out observations, by rank; below 0, nearer.

        The test of Meehan et al. with all of the data as one cell: copies of one kind of observation alone may hide
        behind samples of other kinds that are too far.
        """
        return mann_whitney(self.samples, self.held_out)

    @property
    def very_near(self) -> Estimate:
        """The share of samples that are nearer than all but 1 % of the held-out observations; 1 % where all is well."""
        return Estimate.of((self.samples < self.held_out.quantile(CLOSE)).double())

    @property
    def fine(self) -> bool:
        """Whether samples lie as far from the training data as held-out observations do."""
        return not (self._differs or self._some_are_copies)

    @property
    def _differs(self) -> bool:
        return abs(self.z) > SURE and abs(self.nearer.value - 0.5) > OFF

    @property
    def _some_are_copies(self) -> bool:
        found = self.very_near
        return len(self.held_out) >= FEWEST and found.value > max(CLOSE + SURE * found.se, MANY)

    @property
    def verdict(self) -> str:
        """Whether the model copies, or makes what is not there."""
        share = f"in {self.nearer.value:.1%} ± {self.nearer.se:.1%} of the pairs (z = {self.z:.1f})"
        said = f"A sample is nearer to the training data than a held-out observation {share}: "
        if not self._differs:
            said += "no sign that the model copies, or makes what is not there."
        elif self.z < 0:
            said += (
                "the model copies what it was trained on, or makes too little of what varies in it. Look at samples "
                "beside their neighbours to tell."
            )
        else:
            said += "it makes what is not there, or noise that the data do not have."
        if self._some_are_copies:
            said += (
                f" {self.very_near.value:.1%} of the samples are nearer than all but {CLOSE:.0%} of the held-out "
                "observations: some may be copies."
            )
        return said

    def to_json(self) -> dict[str, Any]:
        """All but the values by observation, as plain numbers and words."""
        estimates = ("distance", "held_out_distance", "nearer", "very_near")
        return {
            **plain({name: getattr(self, name) for name in estimates}),
            "z": self.z,
            "samples": len(self.samples),
            "held_out": len(self.held_out),
            "train": self.train,
            "seed": self.seed,
            "verdict": self.verdict,
        }

    @property
    def table(self) -> str:
        """The numbers, without the verdict."""
        head = (
            f"Neighbours: {len(self.samples)} samples and {len(self.held_out)} held-out observations among "
            f"{self.train} training ones, seed {self.seed}"
        )
        lines: list[tuple[str, Estimate | str, str]] = [
            ("distance of samples", self.distance, "to the nearest training observation, mean"),
            ("of held-out observations", self.held_out_distance, "the same"),
            ("samples that are nearer", self.nearer, "share of all pairs; ½ where both are alike"),
            ("by rank", f"{self.z:>12.1f} standard deviations; below 0 they are nearer", ""),
            ("samples that are very near", self.very_near, "share; 0.01 where both are alike"),
        ]
        return "\n".join([head, *(row(*line, width=WIDTH) for line in lines)])


def neighbours(
    model: Model,
    train: Any,
    held_out: Any,
    *,
    observations: int = 500,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Neighbours:
    r"""Does the model copy? Distances of its samples to the training data, beside those of held-out observations.

    Like is compared with like: a sample is a *draw* of x from p(x | z), z from the prior, with the noise that held-out
    observations have too; binarised data are binary on all sides. Means of p(x | z) would be nearer to everything, for
    they have no noise, and any model would seem to copy.

    Distances are found by matrix products in float32, block by block of the training data, and the nearest are measured
    again in float64. Elements count as they are: where columns come in units of their own, standardise them first, or
    the largest decide.

    Args:
        model: a ``VAE``, which can simulate; of any latents.
        train: the observations that it was trained on, or anything that ``tb.data.observations`` takes.
        held_out: others of the same kind.
        observations: how many samples; and how many held-out observations, taken at random, all where there are fewer.
        seed: of everything random.
        progress: called with the training observations compared and their total.

    Returns:
        Distances, and what they mean.

    Raises:
        TypeError: for a model that does not say how to simulate.
        ValueError: for fewer than two observations, and for a likelihood that is none; and as ``evidence``.

    References:
        Meehan, Chaudhuri, Dasgupta: A Non-Parametric Test to Detect Data-Copying in Generative Models (2020),
        https://arxiv.org/abs/2004.05675.

    Example:
        >>> import tightbound as tb
        >>> _ = torch.manual_seed(0)
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> found = neighbours(model, model.sample(1000), model.sample(300), observations=300)
        >>> found.fine, found.nearest.shape
        (True, torch.Size([300]))
    """
    seed = require_seed(seed)
    require_several(observations, "observations")
    able = require_simulating(model)
    require_normalised(model, "whose draws can be compared with data")
    trained, others = observed_as(train), observed_as(held_out)
    require_two(len(others), others.name)
    device, dtype = home(model)
    with evaluation_mode(model), own_random_state(device, seed=seed):
        chosen = some_of(others, observations)
        unseen = torch.cat([batch.x for _, batch in blocks(model, chosen, BLOCK)])
        samples, codes = drawn(able, observations, rows_at_once(model, chosen))
        means = point_estimate(able.decode(codes[:SHOWN]))
        search = _Search(model, trained, progress, total=_passes(samples, unseen) * len(trained))
        distances, nearest = search(samples)
        away, _ = search(unseen)
    return Neighbours(
        samples=distances,
        held_out=away,
        nearest=nearest,
        examples=samples[:SHOWN].cpu(),
        means=means.cpu(),
        closest=torch.cat([trained.eval_batch(row, row + 1, dtype).x for row in nearest[:SHOWN].tolist()]).cpu(),
        train=len(trained),
        seed=seed,
    )


def _passes(*asked: Tensor) -> int:
    return sum(len(list(_portions(each))) for each in asked)


def _portions(asked: Tensor) -> Iterator[Tensor]:
    flat = asked.flatten(1)
    return iter(flat.split(max(1, ASKED // flat.shape[1])))


class _Search:
    """Nearest training observations, exact, of as many observations at a time as memory takes."""

    def __init__(
        self, model: Model, train: Observations, progress: Callable[[int, int], None] | None, *, total: int
    ) -> None:
        self.model, self.train, self.progress, self.total, self.done = model, train, progress, total, 0

    def __call__(self, asked: Tensor) -> tuple[Tensor, Tensor]:
        """Distances and indices, shape (N,) both, on the CPU."""
        found = [self._of(each) for each in _portions(asked)]
        distances, indices = (torch.cat(column) for column in zip(*found, strict=True))
        return distances.sqrt().cpu(), indices.cpu()

    def _of(self, asked: Tensor) -> tuple[Tensor, Tensor]:
        exact = in_double(asked)
        least = exact.new_full((len(asked),), torch.inf)
        index = torch.zeros(len(asked), dtype=torch.int64, device=exact.device)
        centre: Tensor | None = None
        for start, batch in blocks(self.model, self.train, max(1, min(BLOCK, READ // asked.shape[1]))):
            x = batch.x.flatten(1)
            centre = x.mean(0) if centre is None else centre  # squares of values far from 0 would lose digits
            away = x - centre
            rough = away.square().sum(1) - 2 * (asked - centre) @ away.T
            tried = rough.topk(min(TRIED, len(x)), dim=1, largest=False).indices.to(exact.device)
            for column in tried.unbind(1):
                square = (exact - in_double(x)[column]).square().sum(1)
                nearer = square < least
                least, index = torch.where(nearer, square, least), torch.where(nearer, start + column, index)
            self.done += batch.size
            if self.progress is not None:
                self.progress(self.done, self.total)
        return least, index
