from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_mean
from torch import Tensor
from torch.distributions import Distribution

from tightbound.distributions.bernoulli import Bernoulli
from tightbound.distributions.counts import NegativeBinomial
from tightbound.distributions.elements import ContinuousBernoulli, DiscretizedLogistic

SIGNED = [sign * size for size in (80, 20, 3, 0.51, 0.49, 0.1, 0.011, 0.009, 1e-4, 1e-12) for sign in (-1, 1)]
LOGITS = torch.tensor([0.0, *SIGNED], dtype=torch.float64)
LOC = [-3.0, -0.01, 0.0, 0.31, 0.5, 1.0, 2.0]
SCALE = [1e-6, 1e-3, 0.05, 1.0, 1e3]


def moments_of_continuous_bernoulli(logits: Tensor) -> tuple[Tensor, Tensor]:
    """log ∫ exp(l (x − ½)) dx and the mean, by Gauss–Legendre quadrature: an entire function, 200 nodes are exact."""
    nodes, weights = (torch.from_numpy(v) for v in np.polynomial.legendre.leggauss(200))
    x = (nodes + 1) / 2
    log_terms = logits.unsqueeze(-1) * (x - 0.5) + (weights / 2).log()
    return log_terms.logsumexp(-1), (log_terms.softmax(-1) * x).sum(-1)


def test_continuous_bernoulli_log_density_and_gradient() -> None:
    value = torch.tensor(0.3, dtype=torch.float64)
    logits = LOGITS.clone().requires_grad_()
    log_prob = ContinuousBernoulli(logits).log_prob(value)
    (gradient,) = torch.autograd.grad(log_prob.sum(), logits)
    log_normaliser, mean = moments_of_continuous_bernoulli(LOGITS)
    torch.testing.assert_close(log_prob.detach(), LOGITS * (value - 0.5) - log_normaliser, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(gradient, value - mean, rtol=1e-9, atol=1e-9)


def test_continuous_bernoulli_keeps_its_digits_in_single_precision() -> None:
    logits = LOGITS.float().requires_grad_()
    value = torch.tensor(0.5)
    log_prob = ContinuousBernoulli(logits).log_prob(value)
    (gradient,) = torch.autograd.grad(log_prob.sum(), logits)
    log_normaliser, mean = moments_of_continuous_bernoulli(LOGITS)
    torch.testing.assert_close(log_prob.double(), -log_normaliser, rtol=1e-5, atol=2e-6)
    torch.testing.assert_close(gradient.double(), 0.5 - mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ContinuousBernoulli(logits).mean.double(), mean, rtol=1e-6, atol=1e-6)


def test_continuous_bernoulli_mean() -> None:
    torch.testing.assert_close(
        ContinuousBernoulli(LOGITS).mean, moments_of_continuous_bernoulli(LOGITS)[1], rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("logit", [-1e6, -1e30, 1e6, 1e30])
def test_continuous_bernoulli_stands_any_logit(logit: float) -> None:
    logits = torch.tensor(logit, requires_grad=True)
    distribution = ContinuousBernoulli(logits)
    end = torch.tensor(1.0 if logit > 0 else 0.0)
    log_prob = distribution.log_prob(end)
    (gradient,) = torch.autograd.grad(log_prob, logits)
    assert log_prob.isfinite()
    assert gradient.isfinite()
    torch.testing.assert_close(distribution.mean, end, rtol=0, atol=1e-5)
    torch.testing.assert_close(distribution.sample(), end, rtol=0, atol=1e-4)


def test_continuous_bernoulli_agrees_with_torch_where_torch_is_stable() -> None:
    logits = torch.tensor([-6.0, -2.0, 1.5, 5.0], dtype=torch.float64)
    theirs, value = torch.distributions.ContinuousBernoulli(logits=logits), torch.tensor(0.8, dtype=torch.float64)
    torch.testing.assert_close(ContinuousBernoulli(logits).log_prob(value), theirs.log_prob(value))
    torch.testing.assert_close(ContinuousBernoulli(logits).mean, theirs.mean)


@pytest.mark.parametrize("logit", [-80.0, -3.0, -0.4, 0.0, 1e-3, 0.4, 3.0, 80.0])
def test_continuous_bernoulli_samples_follow_its_distribution_function(logit: float) -> None:
    x = ContinuousBernoulli(torch.tensor(logit, dtype=torch.float64)).sample((100_000,))
    assert ((x >= 0) & (x <= 1)).all()
    at = torch.tensor([0.01, 0.2, 0.5, 0.9, 0.99], dtype=torch.float64)
    exact = at if logit == 0 else torch.expm1(logit * at) / math.expm1(logit)
    below = (x.unsqueeze(-1) <= at).double().mean(0)
    assert ((below - exact).abs() <= 4 * (exact * (1 - exact) / len(x)).sqrt() + 1e-12).all()


@pytest.mark.parametrize("logit", [-4.0, 0.6, 7.0])
def test_continuous_bernoulli_draws_carry_the_gradient_of_their_mean(logit: float) -> None:
    logits = torch.tensor(logit, dtype=torch.float64).expand(50_000).clone().requires_grad_()
    (pathwise,) = torch.autograd.grad(ContinuousBernoulli(logits).rsample().sum(), logits)
    at = torch.tensor(logit, dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(ContinuousBernoulli(at).mean, at)
    assert_mean(pathwise, exact)


def test_expanding_keeps_the_checks() -> None:
    logit, parts = torch.tensor(0.2), (torch.tensor(0.2), torch.tensor(0.1))
    for kind, arguments, options in (
        (Bernoulli, (logit,), {}),
        (ContinuousBernoulli, (logit,), {}),
        (DiscretizedLogistic, parts, {"levels": 5}),
        (NegativeBinomial, parts, {}),
    ):
        wide = kind(*arguments, **options, validate_args=True).expand(torch.Size([3]))
        torch.testing.assert_close(wide.log_prob(torch.ones(3)), kind(*arguments, **options).log_prob(torch.ones(3)))
        with pytest.raises(ValueError, match="within the support"):
            wide.log_prob(torch.full((3,), 1.1))
        trusting = kind(*arguments, **options, validate_args=False).expand(torch.Size([3]))
        assert trusting.log_prob(torch.full((3,), 1.1)).shape == (3,)


@pytest.mark.parametrize("kind", [ContinuousBernoulli, DiscretizedLogistic, NegativeBinomial])
def test_samples_have_the_type_and_the_place_of_the_parameters(kind: type[Distribution]) -> None:
    torch.set_default_dtype(torch.float64)
    shapes = (3,) if kind is ContinuousBernoulli else (3, 3)
    assert kind(*map(torch.ones, shapes)).sample().dtype == torch.float64
    single = kind(*(torch.full((3,), 0.5, dtype=torch.float32) for _ in shapes))
    assert single.sample().dtype == torch.float32
    elsewhere = kind(*(torch.zeros(3, device="meta") for _ in shapes), validate_args=False)
    assert elsewhere.sample().device.type == "meta"


@pytest.mark.parametrize("levels", [2, 16, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_discretized_logistic_sums_to_one(levels: int, dtype: torch.dtype) -> None:
    loc, scale = (v.to(dtype) for v in torch.meshgrid(torch.tensor(LOC), torch.tensor(SCALE), indexing="ij"))
    grid = torch.linspace(0, 1, levels, dtype=dtype)
    distribution = DiscretizedLogistic(loc, scale, levels=levels)
    p = distribution.log_prob(grid[:, None, None]).exp()
    torch.testing.assert_close(p.sum(0), torch.ones_like(loc), rtol=0, atol=2e-4 if dtype == torch.float32 else 1e-9)
    mean = (p / p.sum(0) * grid[:, None, None]).sum(0)
    torch.testing.assert_close(distribution.mean, mean, rtol=0, atol=1e-4 if dtype == torch.float32 else 1e-9)


@given(st.floats(-0.5, 1.5), st.floats(0.02, 1.0), st.integers(0, 15))
def test_discretized_logistic_is_a_difference_of_distribution_functions(loc: float, scale: float, level: int) -> None:
    cdf = scipy.stats.logistic(loc, scale).cdf
    upper = 1.0 if level == 15 else cdf((level + 0.5) / 15)
    lower = 0.0 if level == 0 else cdf((level - 0.5) / 15)
    distribution = DiscretizedLogistic(*torch.tensor([loc, scale], dtype=torch.float64), levels=16)
    p = distribution.log_prob(torch.tensor(level / 15, dtype=torch.float64)).exp().item()
    assert p == pytest.approx(upper - lower, rel=1e-6, abs=1e-12)


def test_discretized_logistic_gradient_survives_where_the_probability_underflows() -> None:
    loc = torch.tensor(0.0, requires_grad=True)
    scale = torch.tensor(1e-3, requires_grad=True)
    for level in torch.linspace(0, 1, 256):
        log_prob = DiscretizedLogistic(loc, scale).log_prob(level)
        gradients = torch.autograd.grad(log_prob, (loc, scale))
        assert log_prob.isfinite()
        assert all(g.isfinite() for g in gradients)
    torch.testing.assert_close(gradients[0], torch.tensor(1000.0))  # d/dμ of −(1 − h − μ)/s is 1/s


@pytest.mark.parametrize(("loc", "scale"), [(0.31, 0.05), (-0.2, 0.3), (1.4, 0.2), (0.5, 1e-4)])
def test_discretized_logistic_samples_follow_its_probabilities(loc: float, scale: float) -> None:
    distribution = DiscretizedLogistic(torch.tensor(loc).double(), torch.tensor(scale).double(), levels=8)
    grid = torch.linspace(0, 1, 8, dtype=torch.float64)
    x = distribution.sample((50_000,))
    exact = distribution.log_prob(grid).exp()
    seen = torch.stack([(x - level).abs() < 1e-9 for level in grid], 1).double().mean(0)
    assert seen.sum().item() == pytest.approx(1)
    assert ((seen - exact).abs() <= 4 * (exact * (1 - exact) / len(x)).sqrt() + 1e-6).all()


def test_discretized_logistic_refuses_what_is_no_grey_level() -> None:
    distribution = DiscretizedLogistic(torch.tensor(0.5), torch.tensor(0.1), levels=16)
    with pytest.raises(ValueError, match=r"0, 1/15, …, 1"):
        distribution.log_prob(torch.tensor(0.5))
    for outside in (-1.0, 16.0):  # a whole step beyond either end
        with pytest.raises(ValueError, match=r"0, 1/15, …, 1"):
            distribution.log_prob(torch.tensor(outside / 15))
    every_byte = torch.arange(256, dtype=torch.uint8).float() / 255
    DiscretizedLogistic(torch.tensor(0.5), torch.tensor(0.1)).log_prob(every_byte)


@pytest.mark.parametrize("levels", [1, 0, -3])
def test_discretized_logistic_refuses_fewer_than_two_levels(levels: int) -> None:
    with pytest.raises(ValueError, match=f"Expected at least 2 grey levels; got {levels}"):
        DiscretizedLogistic(torch.zeros(()), torch.ones(()), levels=levels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log_dispersion", [-3.0, 0.0, 4.0, 5.0, 8.0, 15.0, 25.0])
def test_negative_binomial_keeps_its_digits_at_every_dispersion(dtype: torch.dtype, log_dispersion: float) -> None:
    log_mean = torch.tensor([-3.0, 0.5, 3.0], dtype=dtype)
    k = torch.arange(60, dtype=dtype).unsqueeze(-1)
    r, m = math.exp(log_dispersion), log_mean.double().exp().numpy()
    ours = NegativeBinomial(log_mean, torch.full_like(log_mean, log_dispersion)).log_prob(k)
    # scipy's own loses digits beyond r ~ e^10, where Poisson with the first correction in 1/r is exact to 1e-8.
    k64 = k.double().numpy()
    if log_dispersion < 10:
        exact = scipy.stats.nbinom.logpmf(k64, r, r / (r + m))
    else:
        exact = scipy.stats.poisson.logpmf(k64, m) + ((k64 - m) ** 2 - k64) / (2 * r)
    tolerance = {"rtol": 1e-5, "atol": 3e-5} if dtype == torch.float32 else {"rtol": 1e-8, "atol": 1e-7}
    torch.testing.assert_close(ours.double(), torch.from_numpy(exact), **tolerance)


@pytest.mark.parametrize("dispersion", [1.0, 3.0, 10.0, 25.0, 49.9, 50.1, 54.0])
def test_negative_binomial_has_all_its_digits_on_both_sides_of_the_series(dispersion: float) -> None:
    """In float64 scipy's own is exact here; a term of the series left out is seen at once."""
    log_mean = torch.tensor([-3.0, 0.5, 3.0], dtype=torch.float64)
    k = torch.arange(200, dtype=torch.float64).unsqueeze(-1)
    log_dispersion = torch.full_like(log_mean, math.log(dispersion))
    ours = NegativeBinomial(log_mean, log_dispersion).log_prob(k)
    share = dispersion / (dispersion + log_mean.exp().numpy())
    exact = scipy.stats.nbinom.logpmf(k.numpy(), dispersion, share)
    torch.testing.assert_close(ours, torch.from_numpy(exact), rtol=1e-9, atol=1e-9)


def test_negative_binomial_gradient_is_finite_and_continuous_over_dispersions() -> None:
    log_dispersion = torch.linspace(-8, 40, 97, dtype=torch.float64, requires_grad=True)
    log_mean = torch.full_like(log_dispersion, 1.0).requires_grad_()
    log_prob = NegativeBinomial(log_mean, log_dispersion).log_prob(torch.tensor(4.0, dtype=torch.float64))
    by_mean, by_dispersion = torch.autograd.grad(log_prob.sum(), (log_mean, log_dispersion))
    r, m = log_dispersion.detach().exp(), math.e
    torch.testing.assert_close(by_mean, (4 - m) * r / (r + m))
    digamma = sum(1 / (r + i) for i in range(4))  # ψ(r + 4) − ψ(r)
    torch.testing.assert_close(
        by_dispersion, r * (digamma - torch.log1p(m / r) + (m - 4) / (r + m)), atol=1e-7, rtol=1e-6
    )


def test_negative_binomial_samples_have_its_mean_and_variance() -> None:
    distribution = NegativeBinomial(torch.tensor(1.2).double(), torch.tensor(0.4).double())
    x = distribution.sample((100_000,))
    mean, r = math.exp(1.2), math.exp(0.4)
    assert distribution.mean.item() == pytest.approx(mean)
    assert distribution.variance.item() == pytest.approx(mean + mean**2 / r)
    assert_mean(x, mean)
    assert_mean((x - mean).square(), mean + mean**2 / r)


def test_discretized_logistic_takes_two_levels() -> None:
    p = DiscretizedLogistic(torch.tensor(0.3), torch.tensor(0.1), levels=2).log_prob(torch.tensor([0.0, 1.0])).exp()
    torch.testing.assert_close(p[1], torch.sigmoid(torch.tensor((0.3 - 0.5) / 0.1)))
    torch.testing.assert_close(p.sum(), torch.tensor(1.0))


@pytest.mark.parametrize("log_dispersion", [-1000.0, -40.0, 40.0, 1000.0])
def test_negative_binomial_stands_any_dispersion(log_dispersion: float) -> None:
    at = torch.tensor(log_dispersion, requires_grad=True)
    log_p = NegativeBinomial(torch.tensor(1.0), at).log_prob(torch.tensor([0.0, 1.0, 7.0]))
    (gradient,) = torch.autograd.grad(log_p.sum(), at)
    assert log_p.isfinite().all()
    assert gradient.isfinite()
    edge = NegativeBinomial(torch.tensor(1.0), at.detach().clamp(-40, 40))
    torch.testing.assert_close(log_p, edge.log_prob(torch.tensor([0.0, 1.0, 7.0])))
