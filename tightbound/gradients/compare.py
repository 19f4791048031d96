"""Gradients beside each other: the bias, the noise and the time of each, to know what to spend a second on."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tightbound import bounds
from tightbound.batch import Batch, as_batch
from tightbound.bounds import BoundFunction
from tightbound.gradients.comparison import Comparison, EstimatorStatistics
from tightbound.gradients.gradient import Gradient
from tightbound.gradients.pathwise import DoublyReparameterised
from tightbound.gradients.score import VIMCO, Enumerate, ScoreFunction
from tightbound.model import Model
from tightbound.runtime import home, own_random_state
from tightbound.settings import require_seed, seed_after

GROUPS = 20  # of repeats: what the standard errors of bias and variance are taken from
LEAST = 2 * GROUPS
FOR_REFERENCE = 4  # times as many repeats for the mean that stands for an exact gradient


class Estimator(Protocol):
    """An objective: what gives a loss whose gradient is looked at, a dataclass with a field ``samples``."""

    @property
    def samples(self) -> int:
        """K, how many draws the loss takes."""
        ...

    def __call__(self, model: Model, batch: Batch) -> Any:
        """A loss, its ``value`` in nats."""


def compare(
    model: Model,
    x: Tensor | Batch,
    estimators: Mapping[str, Gradient | Estimator] | Sequence[Gradient | Estimator],
    *,
    samples: int | Sequence[int] = (1, 2, 5, 10, 50),
    repeats: int = 200,
    bound: BoundFunction = bounds.elbo,
    of: nn.Module | None = None,
    exact: Sequence[Tensor] | None = None,
    seed: int = 0,
) -> Comparison:
    r"""Bias, variance and time of several gradients of a bound's mean over a batch, at several numbers of samples.

    An estimate :math:`g` of a gradient :math:`\nabla` has the bias :math:`|\mathbb{E} g - \nabla|` and the variance
    :math:`\mathbb{E} |g - \mathbb{E} g|^2`, summed over the parameters. More samples cost more time and leave less
    variance. What a second buys is in their product: averaged over a second, the variance is variance × seconds.

    The bias is measured against the exact sum over all codes where they can be listed and the bound's mean does not
    depend on K, else against the mean of many draws of a gradient that has none. A pair that cannot work, such as
    leave-one-out with one sample, is left out.

    References:
        Mohamed, Rosca, Figurnov, Mnih: Monte Carlo Gradient Estimation in Machine Learning (2020),
        https://arxiv.org/abs/1906.10652.

    Args:
        model: any, in the mode that it is to be looked at in; it is not changed.
        x: observations, one batch of a training.
        estimators: gradients, by name or in order. An objective counts as minus its loss, for what a gradient of the
            bound cannot say: a rate in closed form, as in ``ELBO(kl="closed-form", gradient=…)``. It is measured
            against the gradient of ``bound``, which must be the bound that it makes large.
        samples: numbers of draws for each observation, K.
        repeats: evaluations of each, at least 40.
        bound: from draws to (B,), in nats.
        of: the part of the model by whose parameters the gradient is taken: the posterior where the model has one,
            else all of it.
        exact: the gradient itself where it is known, a tensor for each parameter of that part.
        seed: of the draws; the caller's random state stays as it is.

    Returns:
        The comparison: print it, take its ``estimates``, or draw it by ``plots.gradient_comparison``.

    Raises:
        ValueError: for no gradients or samples, too few repeats, an ``exact`` of other shapes, and a gradient that
            works with none of the numbers of samples.
        TypeError: for estimators that are no gradients, and a gradient that cannot be taken through these latents.

    Example:
        >>> import tightbound as tb
        >>> _ = torch.manual_seed(0)
        >>> model = tb.VAE(
        ...     prior=tb.priors.Bernoulli(3),
        ...     posterior=tb.posteriors.Bernoulli(nn.Linear(5, 3)),
        ...     likelihood=tb.likelihoods.Gaussian(nn.Linear(3, 5)),
        ... )
        >>> found = compare(model, torch.randn(4, 5), [ScoreFunction("batch"), Enumerate()], samples=(1,), repeats=40)
        >>> found.reference, found.estimates[0].is_biased
        ('the exact sum over 8 codes', False)
        >>> found.estimates[0].variance > found.estimates[1].variance == 0
        True
    """
    seed = require_seed(seed)
    named = _named(estimators)
    samples = (samples,) if isinstance(samples, int) else samples
    _require_numbers(samples, repeats)
    device, dtype = home(model)
    batch = as_batch(x).to(device, dtype)
    part = getattr(model, "posterior", model) if of is None else of
    parameters = [p for p in part.parameters() if p.requires_grad]
    if not parameters:
        raise ValueError(
            f"Expected a part with parameters that are learned; got {type(part).__name__} without any. Say of which "
            "part: of=model.likelihood."
        )
    if exact is not None and [tuple(t.shape) for t in exact] != [tuple(p.shape) for p in parameters]:
        raise ValueError(
            f"Expected exact of shapes {[tuple(p.shape) for p in parameters]}, one for each parameter; got "
            f"{[tuple(t.shape) for t in exact]}."
        )
    trial = _Trial(model, batch, bound, parameters, repeats, seed, device)
    truth = _Truth(trial, exact, samples)
    found = [estimate for name, each in named.items() for estimate in _estimates(trial, truth, name, each)]
    return Comparison(tuple(found), truth.words, truth.lengths, sum(p.numel() for p in parameters), repeats)


@dataclass(frozen=True, eq=False)
class _Trial:
    """What a gradient is tried on."""

    model: Model
    batch: Batch
    bound: BoundFunction
    parameters: list[nn.Parameter]
    repeats: int
    seed: int
    device: torch.device

    def one(self, estimator: Gradient | Estimator, samples: int) -> Tensor:
        """One evaluation, as one vector."""
        with torch.enable_grad():
            batch = self.model.encoded(self.batch)
            if isinstance(estimator, Gradient):
                value = estimator(self.model, batch, self.bound, samples=samples)[0].mean()
            else:
                objective = dataclasses.replace(estimator, samples=samples)  # type: ignore[type-var]
                value = -objective(self.model, batch).value
            found = torch.autograd.grad(value, self.parameters, materialize_grads=True)
        return torch.cat([g.reshape(-1) for g in found])

    def repeated(self, estimator: Gradient | Estimator, samples: int, repeats: int) -> _Moments:
        """Many evaluations, of which means by group and squares are kept."""
        with own_random_state(self.device, seed=self.seed):
            first = self.one(estimator, samples).double()  # also warms up, and is not timed
            sums, squares = first.new_zeros(GROUPS, len(first)), first.new_zeros(GROUPS)
            times = []
            for repeat in range(repeats):
                start = time.perf_counter()
                g = self.one(estimator, samples)
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)
                times.append(time.perf_counter() - start)
                sums[repeat % GROUPS] += g
                squares[repeat % GROUPS] += g.double().square().sum()
        counts = torch.tensor([len(range(g, repeats, GROUPS)) for g in range(GROUPS)]).to(sums)
        return _Moments(sums / counts[:, None], squares, counts, statistics.median(times))


@dataclass(frozen=True, eq=False)
class _Moments:
    """Of many evaluations: means (G, P), sums of squared lengths (G,) and counts (G,) of each group."""

    means: Tensor
    squares: Tensor
    counts: Tensor
    seconds: float

    def variance(self) -> tuple[float, float]:
        """Summed over the parameters, with its standard error by the spread of the groups."""
        each = (self.squares - self.counts * self.means.square().sum(1)) / (self.counts - 1)
        each = each.clamp(min=0)  # rounding, where there is no noise
        return float(each.mean()), float(each.std() / math.sqrt(GROUPS))


class _Truth:
    """What biases are measured against: the gradient itself, or the mean of many draws of an unbiased one."""

    def __init__(self, trial: _Trial, exact: Sequence[Tensor] | None, samples: Sequence[int]) -> None:
        self.trial, self.most = trial, max(samples)
        self.given = None if exact is None else torch.cat([t.detach().double().reshape(-1) for t in exact])[None]
        self._known: dict[int, tuple[Tensor, str]] = {}
        self.lengths: dict[int, float] = {}
        refused: ValueError | None = None
        for k in samples:
            try:
                self.lengths[k] = float(self.at(k).mean(0).norm())
            except ValueError as error:  # a bound that cannot be one of so many draws
                refused = error
        if refused is not None and not self.lengths:
            raise refused

    @property
    def words(self) -> str:
        """What it is, in words: more than one thing where that differs from one K to another."""
        return " and ".join(dict.fromkeys(words for _, words in self._known.values()))

    def at(self, samples: int) -> Tensor:
        """Shape (G, P) of independent means; (1, P) where it is exact."""
        k = self.most if self.trial.bound is bounds.elbo else samples  # whose mean is the same for each K
        if k not in self._known:
            self._known[k] = self._found(k)
        return self._known[k][0]

    def _found(self, samples: int) -> tuple[Tensor, str]:
        trial = self.trial
        if self.given is not None:
            return self.given, "the gradient given"
        if trial.bound is bounds.elbo or samples == 1:
            try:
                codes = len(trial.model.every_code(trial.model.encoded(trial.batch)))
            except (TypeError, ValueError):  # no codes, or too many
                pass
            else:
                return trial.one(Enumerate(), 1).double()[None], f"the exact sum over {codes} codes"
        gradient, repeats = _unbiased(trial, samples), FOR_REFERENCE * trial.repeats
        other = dataclasses.replace(trial, seed=seed_after(trial.seed, 1))
        found = other.repeated(gradient, samples, repeats)
        return found.means, f"the mean of {repeats} draws of {brief(gradient)}"


def _unbiased(trial: _Trial, samples: int) -> Gradient:
    """The quietest gradient without bias for these latents."""
    with own_random_state(trial.device, seed=trial.seed), torch.enable_grad():
        z, _ = trial.model.propose(trial.batch, 1)
    if z.requires_grad and not any(part.discrete for part in trial.model.parts(trial.batch)):
        return DoublyReparameterised()
    return VIMCO() if samples > 1 else ScoreFunction("batch")


def _estimates(
    trial: _Trial, truth: _Truth, name: str, estimator: Gradient | Estimator
) -> Iterator[EstimatorStatistics]:
    refused: ValueError | None = None
    worked = False
    for k in truth.lengths:
        try:
            found = trial.repeated(estimator, k, trial.repeats)
        except ValueError as error:  # one that cannot work with so many samples
            refused = error
            continue
        worked = True
        square, spread = _squared_bias(found.means - truth.at(k))
        rounding = 64 * torch.finfo(trial.parameters[0].dtype).eps * truth.lengths[k]
        yield EstimatorStatistics(name, k, square, max(spread, rounding**2), *found.variance(), found.seconds)
    if refused is not None and not worked:
        raise refused


def _squared_bias(off: Tensor) -> tuple[float, float]:
    """The squared length of the mean of independent vectors, shape (G, P), without the part that their noise adds.

    The mean of all products of two different vectors has the squared length of their mean as its expectation. Its
    standard error is the jackknife's: the spread of what is left when each group in turn is left out.
    """
    count, total, own = len(off), off.sum(0), off.square().sum(1)

    def without(rest: Tensor, squares: Tensor, n: int) -> Tensor:
        return (rest - squares) / (n * (n - 1))

    whole = without(total.square().sum(), own.sum(), count)
    others = total.square().sum() - 2 * (off @ total) + own
    left = without(others, own.sum() - own, count - 1)
    error = ((count - 1) / count * (left - left.mean()).square().sum()).sqrt()
    return float(whole), float(error)


def _named(
    estimators: Mapping[str, Gradient | Estimator] | Sequence[Gradient | Estimator],
) -> dict[str, Gradient | Estimator]:
    named = estimators if isinstance(estimators, Mapping) else {}
    if isinstance(estimators, list | tuple):
        named = {brief(each): each for each in estimators}
        if len(named) < len(estimators):
            raise ValueError(
                f"Expected estimators that differ; got {[brief(each) for each in estimators]}. Name those that look "
                "alike: {'first': …, 'second': …}."
            )
    if not (named and all(map(_is_estimator, named.values()))):
        raise TypeError(
            f"Expected gradients or objectives of draws, by name or in a list; got {estimators!r}. For example: "
            "[tb.gradients.Pathwise(), tb.gradients.ScoreFunction('batch')]."
        )
    return dict(named)


def _is_estimator(value: object) -> bool:
    if isinstance(value, type):
        return False
    takes_samples = dataclasses.is_dataclass(value) and callable(value) and hasattr(value, "samples")
    return isinstance(value, Gradient) or takes_samples


def _require_numbers(samples: Sequence[int], repeats: int) -> None:
    if not samples or min(samples) < 1:
        raise ValueError(f"Expected numbers of samples, each at least 1; got {tuple(samples)}.")
    if repeats < LEAST:
        raise ValueError(f"Expected at least {LEAST} repeats, for bias and variance to have errors; got {repeats}.")


def brief(value: object) -> str:
    """A gradient or an objective as it would be written, without samples and the arguments that are the default.

    Args:
        value: any.

    Returns:
        Text.

    Example:
        >>> brief(ScoreFunction("batch")), brief(ScoreFunction())
        ("ScoreFunction(baseline='batch')", 'ScoreFunction()')
    """
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return getattr(value, "__name__", repr(value))
    given = []
    for item in dataclasses.fields(value):
        own = getattr(value, item.name)
        made = item.default_factory() if callable(item.default_factory) else item.default
        if own != made and item.name != "samples":  # of which a comparison has its own
            given.append(f"{item.name}={brief(own)}")
    return f"{type(value).__name__}({', '.join(given)})"
