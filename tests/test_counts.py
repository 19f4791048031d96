"""Counts against exact arithmetic: float32 parameters, and counts up to a thousand million."""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from scipy import stats
from torch import Tensor

import tightbound as tb
from tightbound.distributions import NegativeBinomial, Poisson

COUNTS = [0.0, 1.0, 7.0, 1e3, 1e5, 1e6, 1e7, 123_456_784.0, 1e9]


def single(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float32)


@pytest.mark.parametrize("off", [-3.0, -1e-2, -1e-4, 0.0, 1e-4, 1e-2, 1.0])
@pytest.mark.parametrize("count", COUNTS)
def test_poisson_is_exact_at_the_rate_that_float32_holds(count: float, off: float) -> None:
    """Against the same sum in forty digits."""
    log_rate = single(math.log(max(count, 0.5)) + off)
    found = Poisson(log_rate).log_prob(single(count)).item()
    assert found == pytest.approx(in_forty_digits(count, log_rate.item()), rel=1e-5)
    assert found <= 0


def in_forty_digits(count: float, log_rate: float) -> float:
    with decimal.localcontext(decimal.Context(prec=60)):
        rate, k = decimal.Decimal(log_rate), decimal.Decimal(count)
        return float(k * rate - rate.exp() - log_factorial(int(count)))


def log_factorial(k: int):
    """By its product for small k, by Stirling's series of Bernoulli numbers for large ones."""
    if k < 100:
        return decimal.Decimal(math.factorial(k)).ln()
    x = decimal.Decimal(k + 1)
    tau = decimal.Decimal("6.283185307179586476925286766559005768394338798750211641949889184615632812572417997")
    found = (x - decimal.Decimal("0.5")) * x.ln() - x + tau.ln() / 2
    for n, b in enumerate([Fraction(1, 6), Fraction(-1, 30), Fraction(1, 42), Fraction(-1, 30)], start=1):
        term = decimal.Decimal(b.numerator) / decimal.Decimal(b.denominator * 2 * n * (2 * n - 1))
        found += term / x ** (2 * n - 1)
    return found


@pytest.mark.parametrize("log_dispersion", [-5.0, 0.0, 3.9, 3.93, 10.0, 20.0, 39.0])
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("off", [-1.0, 0.0, 1e-2])
def test_negative_binomial_is_exact(count: float, log_dispersion: float, off: float) -> None:
    """Against scipy, where it knows; against Poisson, where the dispersion is beyond all counts."""
    log_mean = single(math.log(max(count, 0.5)) + off)
    found = NegativeBinomial(log_mean, single(log_dispersion)).log_prob(single(count)).item()
    if log_dispersion == 39.0:
        expected = Poisson(log_mean).log_prob(single(count)).item()
    elif log_dispersion > 4 or count > 1e7:
        expected = by_ratio(count, log_mean.item(), single(log_dispersion).item())
    else:
        r, m = math.exp(single(log_dispersion).item()), math.exp(log_mean.item())
        expected = stats.nbinom.logpmf(count, r, r / (r + m))
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert found <= 0


def by_ratio(k: float, log_mean: float, log_dispersion: float) -> float:
    """By mpmath-free high precision: log Γ(r + k) − log Γ(r) − log k! + r log(r/(r+m)) + k log(m/(r+m))."""
    with decimal.localcontext(decimal.Context(prec=70)):
        r, m, count = decimal.Decimal(log_dispersion).exp(), decimal.Decimal(log_mean).exp(), decimal.Decimal(k)
        rest = r * (r / (r + m)).ln() + count * (m / (r + m)).ln()
        return float(log_gamma(r + count) - log_gamma(r) - log_factorial(int(k)) + rest)


def log_gamma(x):
    """Stirling's series, after x was raised above 100 by log Γ(x) = log Γ(x + n) − Σ log(x + i)."""
    down = decimal.Decimal(0)
    while x < 100:
        down += x.ln()
        x += 1
    tau = decimal.Decimal("6.283185307179586476925286766559005768394338798750211641949889184615632812572417997")
    found = (x - decimal.Decimal("0.5")) * x.ln() - x + tau.ln() / 2
    for n, b in enumerate([Fraction(1, 6), Fraction(-1, 30), Fraction(1, 42), Fraction(-1, 30)], start=1):
        term = decimal.Decimal(b.numerator) / decimal.Decimal(b.denominator * 2 * n * (2 * n - 1))
        found += term / x ** (2 * n - 1)
    return found - down


@pytest.mark.parametrize("make", [Poisson, lambda first: NegativeBinomial(first, torch.tensor(2.0))])
def test_gradients_are_those_of_the_score(make: Callable[[Tensor], torch.distributions.Distribution]) -> None:
    """d log P(k) / dℓ, in single precision: k − e^ℓ for Poisson, (k − m) r / (r + m) for the other."""
    log_rate = torch.tensor([1.0, 14.0, 20.0], requires_grad=True)
    k = torch.tensor([4.0, 1.21e6, 5e8])
    p = make(log_rate)
    (slope,) = torch.autograd.grad(p.log_prob(k).sum(), log_rate)
    m = log_rate.detach().double().exp()
    r = torch.tensor(torch.inf if isinstance(p, Poisson) else math.exp(2.0), dtype=torch.float64)
    expected = (k - m) / (1 + m / r)
    torch.testing.assert_close(slope.double(), expected, rtol=1e-5, atol=1e-3)
    assert p.log_prob(k).dtype == torch.float32


def test_samples_have_the_mean_and_the_variance() -> None:
    torch.manual_seed(0)
    p = Poisson(torch.tensor([0.0, 3.0])).expand((2, 2))
    x = p.sample((20_000,))
    error = (p.variance / len(x)).sqrt()
    assert ((x.mean(0) - p.mean).abs() < 4 * error).all()
    assert ((x.var(0) / p.variance - 1).abs() < 0.06).all()
    with pytest.raises(ValueError, match="within the support"):
        Poisson(torch.zeros(()), validate_args=True).log_prob(torch.tensor(0.5))


@pytest.mark.parametrize("likelihood", ["poisson", "negative-binomial"])
def test_a_likelihood_of_large_counts_is_one_of_probabilities(likelihood: str) -> None:
    """Nothing is more likely than one: in single precision torch's own gives 0 at 10⁷, and more beyond."""
    constant = {
        "poisson": lambda: tb.likelihoods.Poisson(Constant([16.2])),
        "negative-binomial": lambda: tb.likelihoods.NegativeBinomial(Constant([[16.2], [30.0]])),
    }[likelihood]()
    x = torch.arange(10_853_000, 10_854_000.0)[:, None]
    assert (constant.log_prob(x, torch.zeros(len(x), 1)) < -8).all()


class Constant(torch.nn.Module):
    def __init__(self, value: list) -> None:
        super().__init__()
        self.value = torch.tensor(value)

    def forward(self, z: Tensor) -> Tensor:
        return self.value.expand(len(z), *self.value.shape)
