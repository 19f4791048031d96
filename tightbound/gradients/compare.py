"""Gradients beside each other: the bias, the noise and the time of each, to know what to spend a second on."""

from __future__ import annotations

import dataclasses
import math
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tightbound import bounds
from tightbound.batch import Batch, as_batch
from tightbound.bounds import BoundFunction
from tightbound.gradients.gradient import Gradient
from tightbound.gradients.pathwise import DoublyReparameterised
from tightbound.gradients.score import VIMCO, Enumerate, ScoreFunction
from tightbound.model import Model
from tightbound.runtime import home, own_random_state

GROUPS = 20  # of repeats: what the standard errors of bias and variance are taken from
LEAST = 2 * GROUPS
AT_REST = 4  # times as many repeats for the mean that stands for an exact gradient


@dataclass(frozen=True)
class Estimate:
    """What one gradient is like at one number of samples.

    Attributes:
        gradient: Its name.
        samples: K, draws for each observation.
        bias_squared: The squared length of its bias, estimated without bias; below 0 by chance where there is none.
        bias_squared_se: Its standard error.
        variance: Of one evaluation, summed over the parameters.
        variance_se: Its standard error.
        seconds: Of one evaluation, forwards and backwards; the median.

    Example:
        >>> found = Estimate("mine", 1, bias_squared=0.04, bias_squared_se=0.001, variance=3.0, variance_se=0.1,
        ...                  seconds=0.002)
        >>> found.bias, found.price
        (0.2, 0.006)
    """

    gradient: str
    samples: int
    bias_squared: float
    bias_squared_se: float
    variance: float
    variance_se: float
    seconds: float

    @property
    def bias(self) -> float:
        """The length of the bias."""
        return math.sqrt(max(self.bias_squared, 0.0))

    @property
    def is_biased(self) -> bool:
        """Whether the bias lies more than three standard errors above none."""
        return self.bias_squared > 3 * self.bias_squared_se

    @property
    def bias_bound(self) -> float:
        """What the bias stays below, by two standard errors."""
        return math.sqrt(max(self.bias_squared, 0.0) + 2 * self.bias_squared_se)

    @property
    def price(self) -> float:
        """Variance times seconds: the variance that is left after a second of averaging. Lower is better."""
        return self.variance * self.seconds


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several gradients at several numbers of samples.

    Attributes:
        estimates: One for each pair that there is.
        reference: What the bias was measured against, in words.
        length: Of the gradient itself, by number of samples.
        parameters: How many numbers it has.
        repeats: Evaluations behind each estimate.

    Example:
        >>> print(Comparison((), "the exact sum over 256 codes", {}, parameters=8, repeats=100))
        Gradients: 8 parameters, 100 repeats, bias against the exact sum over 256 codes
    """

    estimates: tuple[Estimate, ...]
    reference: str
    length: Mapping[int, float]
    parameters: int
    repeats: int

    def to_json(self) -> dict[str, Any]:
        """All numbers as plain values.

        Example:
            >>> Comparison((), "the exact sum", {1: 0.5}, parameters=8, repeats=100).to_json()["length"]
            {'1': 0.5}
        """
        derived = ("bias", "bias_bound", "is_biased", "price")
        return {
            "reference": self.reference,
            "parameters": self.parameters,
            "repeats": self.repeats,
            "length": {str(k): value for k, value in self.length.items()},
            "estimates": [
                dataclasses.asdict(each) | {name: getattr(each, name) for name in derived} for each in self.estimates
            ],
        }

    def __str__(self) -> str:
        head = f"Gradients: {self.parameters} parameters, {self.repeats} repeats, bias against {self.reference}"
        if not self.estimates:
            return head
        width = max(len(each.gradient) for each in self.estimates)
        title = f"{'':{width}}  {'K':>4}  {'|bias|':>18}  {'variance':>20}  {'ms':>8}  {'variance × s':>12}"
        return "\n".join([head, self._lengths(), title, *(_line(each, width) for each in self.estimates)])

    def _lengths(self) -> str:
        found = {f"{value:.3g}" for value in self.length.values()}
        each = ", ".join(f"{value:.3g} at K = {k}" for k, value in self.length.items())
        return f"The gradient itself is {found.pop() if len(found) == 1 else each} long."


def compare(
    model: Model,
    x: Tensor | Batch,
    estimators: Mapping[str, Gradient] | Sequence[Gradient],
    *,
    samples: Sequence[int] = (1, 2, 5, 10, 50),
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
    hang on K, else against the mean of many draws of a gradient that has none. A pair that cannot work, such as
    leave-one-out with one sample, is left out.

    References:
        Mohamed, Rosca, Figurnov, Mnih: Monte Carlo Gradient Estimation in Machine Learning (2020),
        https://arxiv.org/abs/1906.10652.

    Args:
        model: any, in the mode that it is to be looked at in; it is not changed.
        x: observations, one batch of a training.
        estimators: the gradients, by name or in order.
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
    named = _named(estimators)
    _require_numbers(samples, repeats)
    batch, device = as_batch(x), home(model)[0]
    part = getattr(model, "posterior", model) if of is None else of
    parameters = [p for p in part.parameters() if p.requires_grad]
    if exact is not None and [tuple(t.shape) for t in exact] != [tuple(p.shape) for p in parameters]:
        raise ValueError(
            f"Expected exact of shapes {[tuple(p.shape) for p in parameters]}, one for each parameter; got "
            f"{[tuple(t.shape) for t in exact]}."
        )
    trial = _Trial(model, batch, bound, parameters, repeats, seed, device)
    truth = _Truth(trial, exact, samples)
    found = [estimate for name, gradient in named.items() for estimate in _estimates(trial, truth, name, gradient)]
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

    def one(self, gradient: Gradient, samples: int) -> Tensor:
        """One evaluation, as one vector."""
        batch = self.model.encoded(self.batch)
        value, _ = gradient(self.model, batch, self.bound, samples=samples)
        found = torch.autograd.grad(value.mean(), self.parameters, materialize_grads=True)
        return torch.cat([g.reshape(-1) for g in found])

    def repeated(self, gradient: Gradient, samples: int, repeats: int) -> _Moments:
        """Many evaluations, of which means by group and squares are kept."""
        with own_random_state(self.device, seed=self.seed):
            first = self.one(gradient, samples).double()  # also warms up, and is not timed
            sums, squares = first.new_zeros(GROUPS, len(first)), first.new_zeros(GROUPS)
            times = []
            for repeat in range(repeats):
                start = time.perf_counter()
                g = self.one(gradient, samples)
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
        self.trial, self.most, self.words = trial, max(samples), ""
        self.given = None if exact is None else torch.cat([t.detach().double().reshape(-1) for t in exact])
        self._known: dict[int, Tensor] = {}
        self.lengths = {k: float(self.at(k).mean(0).norm()) for k in samples}

    def at(self, samples: int) -> Tensor:
        """Shape (G, P) of independent means; (1, P) where it is exact."""
        if self.given is not None:
            self.words = "the gradient given"
            return self.given[None]
        k = self.most if self.trial.bound is bounds.elbo else samples  # whose mean is the same for each K
        if k not in self._known:
            self._known[k] = self._found(k)
        return self._known[k]

    def _found(self, samples: int) -> Tensor:
        trial = self.trial
        if trial.bound is bounds.elbo or samples == 1:
            try:
                codes = len(trial.model.every_code(trial.model.encoded(trial.batch)))
            except (TypeError, ValueError):  # no codes, or too many
                pass
            else:
                self.words = f"the exact sum over {codes} codes"
                return trial.one(Enumerate(), 1).double()[None]
        gradient = _unbiased(trial, samples)
        repeats = AT_REST * trial.repeats
        self.words = f"the mean of {repeats} draws of {brief(gradient)}"
        return dataclasses.replace(trial, seed=trial.seed + 1).repeated(gradient, samples, repeats).means


def _unbiased(trial: _Trial, samples: int) -> Gradient:
    """The quietest gradient without bias for these latents."""
    with own_random_state(trial.device, seed=trial.seed), torch.enable_grad():
        z, _ = trial.model.propose(trial.batch, 1)
    if z.requires_grad:
        return DoublyReparameterised()
    return VIMCO() if samples > 1 else ScoreFunction("batch")


def _estimates(trial: _Trial, truth: _Truth, name: str, gradient: Gradient) -> Iterator[Estimate]:
    refused: ValueError | None = None
    worked = False
    for k in truth.lengths:
        try:
            found = trial.repeated(gradient, k, trial.repeats)
        except ValueError as error:  # one that cannot work with so many samples
            refused = error
            continue
        worked = True
        yield Estimate(name, k, *_squared_bias(found.means - truth.at(k)), *found.variance(), found.seconds)
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


def _named(estimators: Mapping[str, Gradient] | Sequence[Gradient]) -> dict[str, Gradient]:
    named = dict(estimators) if isinstance(estimators, Mapping) else {}
    if not isinstance(estimators, Mapping):
        for each in [estimators] if isinstance(estimators, Gradient) else estimators:
            named[brief(each)] = each
    if not named or not all(isinstance(each, Gradient) for each in named.values()):
        raise TypeError(
            f"Expected gradients, by name or in a list; got {estimators!r}. For example: "
            "[tb.gradients.Pathwise(), tb.gradients.ScoreFunction('batch')]."
        )
    return named


def _require_numbers(samples: Sequence[int], repeats: int) -> None:
    if not samples or min(samples) < 1:
        raise ValueError(f"Expected numbers of samples, each at least 1; got {tuple(samples)}.")
    if repeats < LEAST:
        raise ValueError(f"Expected at least {LEAST} repeats, for bias and variance to have errors; got {repeats}.")


def brief(gradient: Gradient) -> str:
    """A gradient as it would be written, without the arguments that are the default.

    Args:
        gradient: any.

    Returns:
        Text.

    Example:
        >>> brief(ScoreFunction("batch")), brief(ScoreFunction())
        ("ScoreFunction(baseline='batch')", 'ScoreFunction()')
    """
    if not dataclasses.is_dataclass(gradient):
        return repr(gradient)
    given = [
        f"{item.name}={getattr(gradient, item.name)!r}"
        for item in dataclasses.fields(gradient)
        if getattr(gradient, item.name) != item.default
    ]
    return f"{type(gradient).__name__}({', '.join(given)})"


def _line(each: Estimate, width: int) -> str:
    bias = f"below {each.bias_bound:.2g}"
    if each.is_biased:
        bias = f"{each.bias:.3g} ± {each.bias_squared_se / (2 * each.bias):.1g}"
    variance = f"{each.variance:.3g} ± {each.variance_se:.1g}"
    return (
        f"{each.gradient:{width}}  {each.samples:>4}  {bias:>18}  {variance:>20}  {1000 * each.seconds:>8.2f}  "
        f"{each.price:>12.3g}"
    )
