"""Whether each latent dimension stands for one factor: scores with their errors, chance, and a perfect code beside."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tightbound.data import Observations
from tightbound.evaluate.estimates import Estimate
from tightbound.evaluate.observed import observed_as, some_of
from tightbound.evaluate.scores import intervened, mutual, predicted
from tightbound.evaluate.scores.definitions import DEFINITIONS
from tightbound.evaluate.scores.labelled import Labelled, alive_units
from tightbound.evaluate.scores.scored import Disentanglement, Score
from tightbound.evaluate.units import units_of
from tightbound.model import Model
from tightbound.runtime import home, own_random_state
from tightbound.settings import require_seed, seed_after

GROUPS = 20  # of the jackknife, which leaves out one after another
REPEATS = 3  # of what is trained, each on other observations
LEAST = 100  # observations


def disentanglement(
    codes: Any,
    factors: Any,
    *,
    samples: Any = None,
    alive: Any = None,
    names: Sequence[str] = (),
    unordered: Sequence[str] = (),
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Disentanglement:
    r"""Score how far each unit of a code stands for one factor.

    Each score comes with its error, with what the same codes have by chance, beside factors of other observations, and
    with what the factors themselves have as a code: definitions do not all begin at 0 or end at 1. Units that are dead
    are left out first, and said so.

    Args:
        codes: of N observations, shape (N, L): as a rule the posterior's means.
        factors: that the observations were made of, shape (N, F), real numbers. One of more than 200 values is cut into
            20 parts of equal counts.
        samples: draws from the posteriors, shape (N, L), for scores of mutual information on them as well.
        alive: which units are alive, boolean, shape (L,). By default those whose standard deviation is at least a
            thousandth of the widest unit's. A model's KL of each unit tells better.
        names: of the factors.
        unordered: names of factors whose values have no order.
        seed: of everything random.
        progress: called with how far it is, in observations, and their total.

    Returns:
        Scores, matrices and what they mean.

    Raises:
        TypeError: for anything but real numbers.
        ValueError: for shapes that do not fit, fewer than 100 observations, values that are not finite, names that do
            not fit, factors none of which varies, or a seed out of range.

    References:
        Locatello et al.: Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations
        (2019), https://arxiv.org/abs/1811.12359; Carbonneau et al.: Measuring Disentanglement (2022),
        https://arxiv.org/abs/2012.09276.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> factors = torch.randint(0, 4, (2000, 3)).float()
        >>> found = disentanglement(factors + 0.01 * torch.randn(2000, 3), factors, names=("a", "b", "c"))
        >>> found.best, bool(found.scores["mig"].value.value > 0.95)
        ({'a': 0, 'b': 1, 'c': 2}, True)
    """
    seed = require_seed(seed)
    values = _numbers(codes, "codes")
    known = _numbers(factors, "factors")
    if len(known) != len(values):
        raise ValueError(f"Expected one row of factors for each of {len(values)} codes; got {len(known)}.")
    if len(values) < LEAST:
        raise ValueError(f"Expected at least {LEAST} observations, so that scores say something; got {len(values)}.")
    titles = _titles(names, known.shape[1])
    unknown = [name for name in unordered if name not in titles]
    if unknown:
        raise ValueError(f"Expected unordered factors among {', '.join(titles)}; got {', '.join(unknown)}.")
    varies = (known != known[:1]).any(0)
    if not varies.any():
        raise ValueError("Expected at least one factor of two or more values; got factors that are all constant.")
    kept = [name for name, does in zip(titles, varies, strict=True) if does]
    mask = alive_units(values, alive)
    scored = Labelled.of(values[:, mask], known[:, varies], [name in unordered for name in kept])
    drawn = None if samples is None else _numbers(samples, "samples")
    if drawn is not None and drawn.shape != values.shape:
        raise ValueError(f"Expected samples of shape {tuple(values.shape)}; got {tuple(drawn.shape)}.")
    frequent = torch.stack([torch.bincount(column).max() / len(scored) for column in scored.classes.T]).double()
    if mask.any():
        found = _scored(scored, None if drawn is None else drawn[:, mask], seed, progress or (lambda done, total: None))
    else:
        found = _nothing(len(kept), frequent, drawn)
    return Disentanglement(
        **found,
        factor_names=tuple(kept),
        units=tuple(mask.nonzero()[:, 0].tolist()),
        unit_count=len(mask),
        constant=tuple(name for name in titles if name not in kept),
        unordered=tuple(name for name in kept if name in unordered),
        observations=len(scored),
        seed=seed,
        entropies=mutual.entropies(scored),
        most_frequent=frequent,
    )


def disentangle(
    model: Model,
    data: Any,
    *,
    observations: int = 10_000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Disentanglement:
    """Score a model's code beside the known factors of its data.

    As :func:`disentanglement`, of the posteriors' means and of a draw from each. Units are alive that carry 0.01 nats
    on average; where the rate has no closed form in each dimension, those that move. A factor that is the same as the
    labels has no order.

    Args:
        model: any; discrete latents are scored by the probabilities of their classes.
        data: observations with factors; those with NaN among them are left out.
        observations: how many of them, taken at random; all where there are fewer.
        seed: of everything random.
        progress: called with how far it is, in observations, and their total.

    Returns:
        Scores, matrices and what they mean. The codes and factors scored are in ``per_observation``.

    Raises:
        ValueError: for observations without known factors; and as :func:`disentanglement`.

    Example:
        >>> import tightbound as tb
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(500, 5)
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> found = disentangle(model, tb.data.Observations(x, factors=x[:, :2].sign()))
        >>> found.information.shape
        torch.Size([2, 2])
    """
    seed = require_seed(seed)
    observed = _of_known_factors(observed_as(data))
    with own_random_state(home(model)[0], seed=seed):
        chosen = some_of(observed, observations)
    known: Tensor = chosen.factor_table()  # type: ignore[assignment]
    labels = chosen.label(torch.arange(len(chosen)))
    units = units_of(model, chosen, seed=seed)
    names = _titles(observed.factor_names, known.shape[1])
    found = disentanglement(
        units.means,
        known,
        samples=units.draws if units.draws.shape == units.means.shape else None,
        alive=units.alive,
        names=names,
        unordered=[name for name, column in zip(names, known.T, strict=True) if _same(column, labels)],
        seed=seed,
        progress=progress,
    )
    columns = [names.index(name) for name in found.factor_names]
    return dataclasses.replace(found, per_observation={"codes": units.means, "factors": known[:, columns].double()})


def _of_known_factors(observed: Observations) -> Observations:
    """The observations whose factors are all known."""
    if (table := observed.factor_table()) is None:
        raise ValueError(
            f"Expected observations whose factors are known; got {observed.name}, which has none. Give them: "
            "tb.data.Observations(x, factors=...), or the arrays factors and factor_names in a .npz file. The data "
            "'sprites' have some."
        )
    known = ~table.isnan().any(1)
    return observed if known.all() or not known.any() else observed.subset(known.nonzero()[:, 0].cpu())


def _same(column: Tensor, labels: Tensor | None) -> bool:
    """Whether a factor and the labels part the observations alike."""
    if labels is None:
        return False
    first, second = (each.cpu().unique(return_inverse=True)[1] for each in (column, labels))
    return len(torch.stack([first, second], 1).unique(dim=0)) == int(first.max()) + 1 == int(second.max()) + 1


def _nothing(factors: int, frequent: Tensor, drawn: Tensor | None) -> dict[str, Any]:
    """The scores and matrices of a code without a unit that is alive."""
    nothing = torch.zeros(0, factors, dtype=torch.float64)
    names = [name for name in DEFINITIONS if drawn is not None or not name.endswith("-samples")]
    none = {name: Score(name, Estimate(0.0, 0.0), chance=0.0, perfect=1.0) for name in names}
    return {"scores": none, "information": nothing, "importance": nothing, "accuracy": frequent}


def _scored(scored: Labelled, drawn: Tensor | None, seed: int, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Scores and matrices, each score beside strangers' factors and beside the factors themselves."""
    generator, steps = torch.Generator().manual_seed(seed), _Steps(progress, REPEATS + 2, len(scored))
    strangers = scored.rows(torch.randperm(len(scored), generator=generator)).with_codes(scored.codes)
    ideal = scored.with_codes(scored.values)
    found = _counted(scored, strangers, ideal, drawn, generator)
    runs = [steps.done(_by_training(scored, seed_after(seed, place))) for place in range(REPEATS)]
    chance, perfect = (steps.done(_by_training(each, seed))[0] for each in (strangers, ideal))
    for name in runs[0][0]:
        seen = torch.tensor([run[0][name] for run in runs], dtype=torch.float64)
        found[name] = Score(name, Estimate(seen.mean().item(), seen.std().item()), chance[name], perfect[name])
    return {
        "scores": {name: found[name] for name in DEFINITIONS if name in found},
        "information": mutual.mutual_information(scored),
        "importance": torch.stack([run[1] for run in runs]).mean(0),
        "accuracy": torch.stack([run[2] for run in runs]).mean(0),
    }


def _counted(
    scored: Labelled, strangers: Labelled, ideal: Labelled, drawn: Tensor | None, generator: torch.Generator
) -> dict[str, Score]:
    """Scores of counts and moments. Errors are a jackknife's: a bootstrap's equal rows would look like dependence."""
    value, chance = _by_counting(scored, drawn), _by_counting(strangers, drawn)
    perfect = _by_counting(ideal, None if drawn is None else ideal.codes)
    group = torch.randperm(len(scored), generator=generator) % GROUPS
    without: dict[str, list[float]] = {name: [] for name in value}
    for left_out in range(GROUPS):
        kept = (group != left_out).nonzero()[:, 0]
        for name, each in _by_counting(scored.rows(kept), None if drawn is None else drawn[kept]).items():
            without[name].append(each)
    among = {name: torch.tensor(values, dtype=torch.float64) for name, values in without.items()}
    spread = {name: math.sqrt((GROUPS - 1) * values.var(correction=0).item()) for name, values in among.items()}
    return {name: Score(name, Estimate(value[name], spread[name]), chance[name], perfect[name]) for name in value}


class _Steps:
    """Tells after each of so many steps how far it is, as if each were of an equal share of the observations."""

    def __init__(self, progress: Callable[[int, int], None], steps: int, observations: int) -> None:
        self.progress, self.steps, self.observations, self.count = progress, steps, observations, 0

    def done(self, found: Any) -> Any:
        self.count += 1
        self.progress(self.observations * self.count // self.steps, self.observations)
        return found


def _by_counting(labelled: Labelled, drawn: Tensor | None) -> dict[str, float]:
    """Scores that are computed from counts and moments."""
    found = {"sap": predicted.sap(labelled).mean(), "irs": intervened.irs(labelled).mean()}
    kinds: dict[str, tuple[Labelled, mutual.Correction]] = {
        "": (labelled, "miller-madow"), "-plug-in": (labelled, "none"),
    }  # fmt: skip
    if drawn is not None:
        kinds["-samples"] = labelled.with_codes(drawn), "miller-madow"
    for kind, (which, correction) in kinds.items():
        information = mutual.mutual_information(which, correction=correction)
        entropies = mutual.entropies(which, correction)
        found[f"mig{kind}"] = mutual.mig(information, entropies).mean()
        found[f"mig-sup{kind}"] = mutual.mig_sup(information, entropies).mean()
        found[f"modularity{kind}"] = mutual.modularity(information).mean()
    return {name: float(value) for name, value in found.items()}


def _by_training(labelled: Labelled, seed: int) -> tuple[dict[str, float], Tensor, Tensor]:
    """Scores of trained predictors, with importances and accuracies."""
    importance, accuracy = predicted.dci(labelled, seed)
    found = {
        "dci-disentanglement": float(predicted.disentanglement_of(importance)),
        "dci-completeness": float(predicted.completeness_of(importance)),
        "dci-informativeness": float(accuracy.mean()),
        "explicitness": float(predicted.explicitness(labelled, seed).mean()),
        "beta-vae-score": intervened.beta_vae(labelled, seed),
        "factor-vae-score": intervened.factor_vae(labelled, seed),
    }
    return found, importance, accuracy


def _numbers(value: Any, what: str) -> Tensor:
    tensor = torch.as_tensor(value).detach().cpu()
    if tensor.is_complex():
        raise TypeError(f"Expected {what} that are real numbers; got {tensor.dtype}.")
    if tensor.ndim != 2 or 0 in tensor.shape:
        axes = "(N, F)" if what == "factors" else "(N, L)"
        raise ValueError(f"Expected {what} of shape {axes}; got {tuple(tensor.shape)}.")
    tensor = tensor.double()
    if not tensor.isfinite().all():
        row = int((~tensor.isfinite()).any(1).nonzero()[0])
        raise ValueError(f"Expected finite {what}; got NaN or infinity, first in row {row}. Leave such rows out.")
    return tensor


def _titles(names: Sequence[str], count: int) -> tuple[str, ...]:
    if names and len(names) != count:
        raise ValueError(f"Expected {count} names, one for each factor; got {len(names)}.")
    return tuple(names) or tuple(f"factor {place}" for place in range(count))
