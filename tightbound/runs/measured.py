"""What is measured of a model on some observations: how well it explains them, and what its code tells of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from tightbound.autoencoder import VAE
from tightbound.data import Observations
from tightbound.evaluate import (
    Classification,
    Evidence,
    Information,
    baselines,
    classification,
    evidence,
    information,
)
from tightbound.likelihoods import Likelihood
from tightbound.model import Model
from tightbound.progress import evaluating
from tightbound.runs.from_fit import HELD_OUT, FromFit
from tightbound.runs.recipe import Recipe
from tightbound.runtime import evaluation_mode, home, own_random_state
from tightbound.semi_supervised import SemiSupervisedVAE
from tightbound.threads import best, on_threads, tried, usable

FEW_STEPS = 100  # after which hardly any model has learned
ROWS, DRAWS = 64, 5  # that a trial of threads scores
MUTUAL = "mutual_information"  # what its numbers are called among the others
_WHOLE = {"samples": 1, "active_units": 0, "latent_dim": 1, "observations": 1}  # whole numbers, at least so large
_ALWAYS = ("elbo", "distortion", "rate", "nll")  # older versions kept these too
_NUMBERS = (*_ALWAYS, "gap", "bits_per_dim", "high_k_share")


@dataclass(frozen=True, eq=False, repr=False)
class Measured:
    """Evidence and information of the same observations.

    Attributes:
        evidence: How well they are explained.
        information: What the code tells; None of a single observation, which has no other to be told from.
        classification: How often a model with a classifier takes one class for another; None of other models.
    """

    evidence: Evidence
    information: Information | None
    classification: Classification | None = None

    def to_json(self) -> dict[str, Any]:
        """The numbers of the evidence; under "mutual_information" those of the information, and so "classification"."""
        found = {**self.evidence.to_json(), MUTUAL: None if self.information is None else self.information.to_json()}
        return found if self.classification is None else {**found, "classification": self.classification.to_json()}

    def __str__(self) -> str:
        others = (self.information, self.classification)
        return "\n\n".join([str(self.evidence), *(each.in_words for each in others if each is not None)])

    __repr__ = __str__


def require_evaluation(found: Mapping[str, Any]) -> None:
    """Look at what pictures, pages and tables read of an evaluation that a file kept.

    Args:
        found: as :meth:`Measured.to_json` gives it, or an older version.

    Raises:
        KeyError: for a number that is missing.
        TypeError: for one of another type.
        ValueError: for one that it cannot be.

    Example:
        >>> require_evaluation({"samples": "many"})
        Traceback (most recent call last):
        ...
        TypeError: samples is 'many', and no whole number
    """
    for name, kind in _WHOLE.items():
        if type(found[name]) is not int or found[name] < kind:
            raise TypeError(f"{name} is {found[name]!r}, and no whole number")
    for name in _NUMBERS:
        if name in _ALWAYS or name in found:
            _require_number(name, found[name])
        _require_number(f"{name}_se", found.get(f"{name}_se", 0.0), least=0.0, none=True)
    if not all(isinstance(found[name], bool) for name in ("reliable", "is_likelihood")):
        raise TypeError("reliable or is_likelihood is neither true nor false")
    length = len(found["active"])
    if not (length and isinstance(found["active"], list) and all(isinstance(each, bool) for each in found["active"])):
        raise TypeError("active is no list of true and false")
    for name in ("kl_per_dimension", "mean_variance", "information"):
        values = found.get(name)
        if name != "mean_variance" and not values:
            continue
        for value in values if isinstance(values, list) and len(values) >= 1 else [values]:
            _require_number(name, value, none=name != "kl_per_dimension")
    if found["kl_per_dimension"] and len(found["kl_per_dimension"]) != length:
        raise ValueError(f"kl_per_dimension has {len(found['kl_per_dimension'])} numbers and active {length}")
    for layer in found.get("rate_by_layer", ()):
        _require_number("the rate of a layer", layer["value"])
        _require_number("the error of a layer's rate", layer["se"], least=0.0, none=True)
    if not found["iwae"]:
        raise ValueError("there is no bound")
    for bound in found["iwae"]:
        if type(bound["samples"]) is not int or bound["samples"] < 1:
            raise TypeError("samples of a bound is no whole number")
        _require_number("a bound", bound["value"])
        _require_number("the error of a bound", bound["se"], least=0.0, none=True)


def _require_number(name: str, value: object, *, least: float = -math.inf, none: bool = False) -> None:
    if value is None and none:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < math.inf:
        raise TypeError(f"{name} is {value!r}, and no number that it can be")


def remark_on(recipe: Recipe | FromFit, steps: int) -> str:
    """What to know before any number of a model that has hardly been trained; empty of others.

    Args:
        recipe: what it was trained by.
        steps: how many it made.

    Example:
        >>> remark_on(Recipe(), 11)[:51], remark_on(Recipe(), 5000)
        ('The model is hardly trained: it has made 11 steps. ', '')
    """
    said, warmup = [], getattr(recipe.objective, "warmup_steps", 0)
    if steps < FEW_STEPS:
        said.append(f"The model is hardly trained: it has made {steps} steps. Numbers of it say little: train longer.")
    if warmup >= steps:
        said.append(
            f"The objective warms up over {warmup} steps, so the full one was never trained on: train longer, or take "
            "a shorter --objective.warmup-steps."
        )
    return " ".join(said)


def noted(remark: str, observations: Observations) -> str:
    """A remark, and what the observations themselves say of the numbers.

    Args:
        remark: may be empty.
        observations: that are judged.

    Example:
        >>> noted("Beware.", Observations(torch.zeros(1, 2)))
        'Beware.'
    """
    return " ".join(part for part in (remark, HELD_OUT if HELD_OUT in observations.notes else "") if part)


def measure(
    model: Model, observations: Observations, *, train: Observations | None = None, progress: bool = False,
    remark: str = "", **settings: Any,
) -> Measured:  # fmt: skip
    """Measure a model.

    Args:
        model: any.
        observations: what it has not seen.
        train: what it was trained on, to fit simple models that it must beat; without it there are none.
        progress: whether to show how it goes.
        remark: what a reader must know first.
        **settings: of :func:`tightbound.evaluate.evidence`; a seed is that of the information too.

    Raises:
        ValueError: as ``evidence``.

    Example:
        >>> import torch, tightbound as tb
        >>> _ = torch.manual_seed(0)
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> measure(model, Observations(torch.randn(1, 5)), samples=5).information is None
        True
    """
    remark = noted(remark, observations)
    with on_threads(_suited(model, observations)):
        return _measured(model, observations, train, remark, settings, show=progress)


def _measured(
    model: Model, observations: Observations, train: Observations | None, remark: str, settings: dict[str, Any], *,
    show: bool,
) -> Measured:  # fmt: skip
    with evaluating(len(observations), show=show) as tell:
        found = dataclasses.replace(evidence(model, observations, progress=tell, **settings), remark=remark)
    described = isinstance(model, VAE) and isinstance(model.likelihood, Likelihood) and found.is_likelihood
    if train is not None and described:
        found = dataclasses.replace(found, baselines=baselines(model, train, observations))
    if len(observations) < 2:
        return Measured(found, None)
    with evaluating(len(observations), show=show) as tell:
        told = information(model, observations, seed=settings.get("seed", 0), progress=tell)
    return Measured(found, told, classification(model, observations) if _classifies(model, observations) else None)


def _suited(model: Model, observations: Observations) -> int | None:
    """The number of threads on which some draws are scored soonest just now; None where it is not to be chosen."""
    device, dtype = home(model)
    most = usable()
    if device.type != "cpu" or most < 2 or not len(observations):
        return None
    batch = observations.eval_batch(0, ROWS, dtype)

    def scored() -> None:
        with torch.no_grad(), own_random_state(device, seed=0):
            model.draw(batch, samples=DRAWS)

    try:
        with evaluation_mode(model):
            return best(tried(scored, [1, most]))
    except Exception:  # whatever is wrong with model or data is said where they are measured
        return None


def _classifies(model: Model, observations: Observations) -> bool:
    labels = observations.label(torch.arange(len(observations)))
    return isinstance(model, SemiSupervisedVAE) and labels is not None and int((labels >= 0).sum()) > 1
