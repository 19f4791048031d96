"""Whether samples are told from held-out observations: by what they look like, and by what they leave out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tightbound.batch import Batch
from tightbound.evaluate.estimates import Estimate, Judged, plain, row
from tightbound.evaluate.features import features
from tightbound.evaluate.likeness import NEAREST, SHARES, distances, frechet_beside, radii, shares
from tightbound.evaluate.observed import (
    blocks,
    drawn,
    observed_as,
    require_normalised,
    require_several,
    require_simulating,
    rows_at_once,
)
from tightbound.model import Model
from tightbound.runtime import evaluation_mode, home, own_random_state
from tightbound.settings import require_seed

if TYPE_CHECKING:
    from tightbound.data.observations import Observations

FEWEST = NEAREST + 1  # observations that have so many neighbours
MOST = 2000  # of a set: three errors of a share are then below 5 %, and more would not change what is said
TAUGHT = 5000  # training observations that features are learned of, at most …
HELD = 2**24  # … and numbers that they hold
READ = 2**22  # numbers read at a time
SHOWN = 12  # observations of a kind that are kept, for a picture
SURE = 3.0  # standard errors from which on a difference is none of chance …
OFF = 0.05  # … if it is so large as well
CPU = torch.device("cpu")
LOOKS, VARIES, APART = ("precision", "density"), ("recall", "coverage"), ("frechet",)
TOLD = {"frechet": "Fréchet distance"}  # what they are called, where that is not their name
NOTES = {
    "precision": "share of samples among the data",
    "density": "how densely the data lie there",
    "recall": "share of data among samples",
    "coverage": "share of data with a sample near",
    "frechet": "over the data's variance",
}
FINDINGS = (
    (LOOKS, -1, "Quality: some samples look like nothing in the data"),
    (VARIES, -1, "Variety: parts of the data are rarely or never sampled"),
    (LOOKS, 1, "Samples crowd where the data are densest"),
    (VARIES, 1, "Samples spread over more than the data do"),
    (APART, 1, "Mean and covariance of samples are not those of the data"),
)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Fidelity(Judged):
    r"""Samples beside held-out observations, and training observations in the place of the samples.

    As many training observations show what the data themselves reach at this number. Every number has a bias at a
    finite one, which both sides share: only the difference between them tells.

    Args:
        samples: features of samples, shape (N, D), float64.
        reference: of training observations, shape (N, D).
        held_out: of held-out observations, shape (N, D).
        features: what they are, in words.
        told: how often the net that makes them is right; None where there is none.
        best: samples that lie where the data are densest, shape (S, \*shape).
        worst: samples that lie farthest out, shape (S, \*shape).
        nearest: the held-out observation nearest to each of these, shape (S, \*shape).
        missed: held-out observations that lie farthest from all samples, shape (S, \*shape).
        seed: of everything random.

    References:
        Heusel et al.: GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (2017),
        https://arxiv.org/abs/1706.08500, for the Fréchet distance of features; Kynkäänniemi et al.: Improved Precision
        and Recall Metric for Assessing Generative Models (2019), https://arxiv.org/abs/1904.06991; Naeem et al.:
        Reliable Fidelity and Diversity Metrics for Generative Models (2020), https://arxiv.org/abs/2002.09797.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> data, others, one = torch.randn(200, 2), torch.randn(200, 2), torch.zeros(1, 2)
        >>> pictures = dict(best=one, worst=one, nearest=one, missed=one)
        >>> few = 0.1 * torch.randn(200, 2)
        >>> narrow = Fidelity(samples=few, reference=others, held_out=data, features="values", seed=0, **pictures)
        >>> narrow.fine, narrow.of_samples["recall"].value < 0.5 < narrow.of_samples["precision"].value
        (False, True)
    """

    samples: Tensor
    reference: Tensor
    held_out: Tensor
    features: str
    told: Estimate | None = None
    best: Tensor
    worst: Tensor
    nearest: Tensor
    missed: Tensor
    seed: int

    @cached_property
    def _measured(self) -> tuple[dict[str, Estimate], dict[str, Estimate], dict[str, Estimate]]:
        ours, theirs = shares(self.samples, self.held_out), shares(self.reference, self.held_out)
        apart = frechet_beside(self.samples, self.reference, self.held_out)
        return (
            {name: each.estimate for name, each in ours.items()} | {"frechet": apart[0]},
            {name: each.estimate for name, each in theirs.items()} | {"frechet": apart[1]},
            {name: ours[name].less(theirs[name]) for name in SHARES} | {"frechet": apart[2]},
        )

    @property
    def of_samples(self) -> dict[str, Estimate]:
        """Precision, density, recall, coverage and Fréchet distance, which is a share of the held-out variance."""
        return self._measured[0]

    @property
    def of_reference(self) -> dict[str, Estimate]:
        """The same of training observations: what the data themselves reach."""
        return self._measured[1]

    @property
    def difference(self) -> dict[str, Estimate]:
        """The first less the second."""
        return self._measured[2]

    @property
    def strange(self) -> int:
        """How many samples are not finite numbers."""
        return int(self.samples.isfinite().all(1).logical_not().sum())

    @property
    def fine(self) -> bool:
        """Whether no difference is beyond chance and a little, and every sample is a finite number."""
        return not (self.strange or any(self._off(names, side) for names, side, _ in FINDINGS))

    def _off(self, names: tuple[str, ...], side: int) -> list[str]:
        """Those that differ towards that side; a Fréchet distance can only be too large."""
        of = ((name, self.difference[name]) for name in names)
        return [name for name, each in of if side * each.value > max(SURE * each.se, OFF)]

    @property
    def verdict(self) -> str:
        """Whether samples look like nothing in the data, and whether parts of the data are never sampled."""
        said = [f"{self.strange} of {len(self.samples)} samples are not finite numbers."] if self.strange else []
        for names, side, words in FINDINGS:
            if off := self._off(names, side):
                said.append(f"{words} ({'; '.join(map(self._beside, off))}).")
        if said:
            return " ".join(said)
        told = f"{self._beside('precision')}; {self._beside('recall')}"
        return f"Samples are not told from held-out observations: no sign of lacking quality or variety ({told})."

    def _beside(self, name: str) -> str:
        return f"{TOLD.get(name, name)} {self.of_samples[name]}, of the data themselves {self.of_reference[name]}"

    def to_json(self) -> dict[str, Any]:
        """All but the values by observation, as plain numbers and words."""
        return {
            **plain(self.of_samples),
            **plain({f"reference_{name}": each for name, each in self.of_reference.items()}),
            **plain({f"{name}_difference": each for name, each in self.difference.items()}),
            **plain({"told": self.told}),
            "features": self.features,
            "observations": len(self.samples),
            "strange": self.strange,
            "seed": self.seed,
            "verdict": self.verdict,
        }

    @property
    def table(self) -> str:
        """The numbers, without the verdict."""
        head = (
            f"Sample quality: {len(self.samples)} samples, and as many held-out and training observations, seed "
            f"{self.seed}"
        )
        by = f"  by {self.features}"
        if self.told is not None:
            by += (
                f",\n  right for {self.told.value:.1%} of others; no number by any other net can be compared with these"
            )
        lines = [
            row(TOLD.get(name, name), self.of_samples[name], f"data {self.of_reference[name]!s:<18}{note}")
            for name, note in NOTES.items()
        ]
        return "\n".join([head, by, *lines])


def fidelity(
    model: Model,
    train: Any,
    held_out: Any,
    *,
    observations: int = 500,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Fidelity:
    r"""Are samples told from held-out observations, by what they look like or by what they leave out?

    Three sets of one size are compared: samples, held-out observations, and training observations in the place of the
    samples, which show what the data themselves reach. Like is compared with like: a sample is a *draw* of x from
    p(x | z), z from the prior; binarised data are binary on all sides.

    They are compared by features that are learned of other training observations. Of images of 8×8 pixels or more these
    are 64 numbers of a small convolutional net that is trained here, within seconds, to tell the labels apart, or
    quarter-turns where there are none; of all other data the standardised values. So nothing is downloaded, and numbers
    of any other net, such as published ones, cannot be compared with these.

    *Quality* is precision and density: do samples lie where held-out observations do? *Variety* is recall and coverage:
    do held-out observations lie where samples do? Of each, five nearest neighbours say where that is. The Fréchet
    distance asks for both at once, by means and covariances alone.

    Args:
        model: a ``VAE``, which can simulate; of any latents.
        train: the observations that it was trained on, or anything that ``tb.data.observations`` takes.
        held_out: others of the same kind.
        observations: how many of each set, at most: no more than are held out, half of the training data, or 2000.
        seed: of everything random.
        progress: called with the steps of the net done and their total, or once.

    Returns:
        The numbers, and what they mean.

    Raises:
        TypeError: for a model that does not say how to simulate.
        ValueError: for fewer than 6 observations of a set, and for a likelihood that is none; and as ``evidence``.

    References:
        As of :class:`Fidelity`, and Gidaris, Singh, Komodakis: Unsupervised Representation Learning by Predicting Image
        Rotations (2018), https://arxiv.org/abs/1803.07728.

    Example:
        >>> import tightbound as tb
        >>> _ = torch.manual_seed(0)
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> found = fidelity(model, model.sample(1000), model.sample(300))
        >>> found.fine, len(found.samples)
        (True, 300)
    """
    seed = require_seed(seed)
    require_several(observations, "observations")
    able = require_simulating(model)
    require_normalised(model, "whose draws can be compared with data")
    trained, others = observed_as(train), observed_as(held_out)
    count = size_of_sets(observations, trained, others)
    if count < FEWEST:
        raise ValueError(
            f"Expected at least {FEWEST} observations, as many held-out ones and {2 * FEWEST} training ones, to have "
            f"{NEAREST} neighbours each; got observations={observations}, {len(others)} in {others.name} and "
            f"{len(trained)} in {trained.name}. Give more."
        )
    with evaluation_mode(model), own_random_state(home(model)[0], seed=seed):
        unseen = _whole(model, others.subset(torch.randperm(len(others))[:count].sort().values))
        order = torch.randperm(len(trained))
        most = count + max(count, min(TAUGHT, HELD // others.shape.numel()))
        reference = _whole(model, trained.subset(order[:count].sort().values))
        samples = drawn(able, count, rows_at_once(model, others))[0].cpu()
        by = features(model, trained.subset(order[count:most].sort().values), reference, progress=progress)
        ours, theirs, data = (by.of(x) for x in (samples, reference.x, unseen.x))
    if progress is not None:
        progress(1, 1)
    outside, missed = _ranked(ours, data)
    shown = min(SHOWN, count // 2)
    worst = outside[-shown:].flip(0)
    return Fidelity(
        samples=ours,
        reference=theirs,
        held_out=data,
        features=by.words,
        told=by.told,
        best=samples[outside[:shown]],
        worst=samples[worst],
        nearest=unseen.x[distances(ours[worst], data).argmin(1)],
        missed=unseen.x[missed[:shown]],
        seed=seed,
    )


def size_of_sets(observations: int, train: Observations, held_out: Observations) -> int:
    """How many samples, held-out and training observations are compared; features are learned of the other half.

    Args:
        observations: that are asked for.
        train: the training data.
        held_out: the held-out data.
    """
    return min(observations, len(held_out), len(train) // 2, MOST)


def _whole(model: Model, observed: Observations) -> Batch:
    """Observations as the model sees them, all at once, on the processor."""
    read = [batch.to(CPU) for _, batch in blocks(model, observed, max(1, READ // observed.shape.numel()))]
    labels = [batch.label for batch in read if batch.label is not None]
    return Batch(torch.cat([batch.x for batch in read]), label=torch.cat(labels) if labels else None)


def _ranked(ours: Tensor, data: Tensor) -> tuple[Tensor, Tensor]:
    """Samples from those in most balls of the data to those farthest out; data from those farthest from samples on.

    Far is measured in radii of the data's own balls: beyond 1 a sample is outside, and an observation missed.
    """
    far = (distances(ours, data) / radii(data)).nan_to_num(nan=0.0, posinf=torch.inf)  # 0 of 0: the same observation
    near, balls = far.amin(1), (far <= 1).sum(1)
    return (near - 2 * balls).argsort(stable=True), far.amin(0).argsort(descending=True, stable=True)
