"""What a comparison of gradients found, as numbers and in words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class EstimatorStatistics:
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
        >>> found = EstimatorStatistics(
        ...     "mine", 1, bias_squared=0.04, bias_squared_se=0.001, variance=3.0, variance_se=0.1, seconds=0.002
        ... )
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
        """What the bias stays below, by two standard errors of its square.

        Roughly: where one parameter has nearly all the noise, it is below the bias itself once in seven times.
        """
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

    estimates: tuple[EstimatorStatistics, ...]
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


def _line(each: EstimatorStatistics, width: int) -> str:
    bias = f"below {each.bias_bound:.2g}"
    if each.is_biased:
        bias = f"{each.bias:.3g} ± {each.bias_squared_se / (2 * each.bias):.1g}"
    variance = f"{each.variance:.3g} ± {each.variance_se:.1g}"
    return (
        f"{each.gradient:{width}}  {each.samples:>4}  {bias:>18}  {variance:>20}  {1000 * each.seconds:>8.2f}  "
        f"{each.price:>12.3g}"
    )
