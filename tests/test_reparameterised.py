"""Draws as maps of noise: the density of g(ε), its moments, and the gradients that pass through it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import scipy.stats
import torch
from oracle import assert_mean
from torch import Tensor

from tightbound.distributions import Bernoulli as Bits
from tightbound.distributions import (
    BinaryConcrete,
    Concrete,
    Exponential,
    Gumbel,
    IndependentBernoulli,
    Logistic,
    LogNormal,
    Normal,
    OneHot,
    Reparameterised,
    Uniform,
    class_probabilities,
    codes_of,
    every_code,
    relaxed,
)
from tightbound.priors import StandardNormal

Family = Callable[..., Reparameterised]
# Each family with parameters, and scipy's distribution of the same ones.
FAMILIES: dict[str, tuple[Family, tuple[float, ...], object]] = {
    "normal": (Normal, (0.7, 1.3), scipy.stats.norm(0.7, 1.3)),
    "log-normal": (LogNormal, (0.2, 0.6), scipy.stats.lognorm(0.6, scale=math.exp(0.2))),
    "exponential": (Exponential, (2.5,), scipy.stats.expon(scale=1 / 2.5)),
    "gumbel": (Gumbel, (-0.4, 0.8), scipy.stats.gumbel_r(-0.4, 0.8)),
    "logistic": (Logistic, (0.3, 0.5), scipy.stats.logistic(0.3, 0.5)),
    "uniform": (Uniform, (-1.0, 2.0), scipy.stats.uniform(-1.0, 3.0)),
}
every_family = pytest.mark.parametrize("name", FAMILIES)


def of(name: str, *, grad: bool = False) -> tuple[Reparameterised, list[Tensor]]:
    """A family at its parameters, and these."""
    kind, values, _ = FAMILIES[name]
    parameters = [torch.tensor(value, dtype=torch.float64, requires_grad=grad) for value in values]
    return kind(*parameters), parameters


def quantiles(p: Reparameterised, count: int = 41) -> Tensor:
    """Noise spread evenly over its law."""
    return p.noise_distribution.icdf((torch.arange(count, dtype=torch.float64) + 0.5) / count)


def gradients(value: Tensor, parameters: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)


@every_family
def test_a_draw_is_the_map_of_its_noise(name: str) -> None:
    p, _ = of(name)
    torch.manual_seed(3)
    z = p.rsample((5,))
    torch.manual_seed(3)
    assert z.equal(p.from_noise(p.noise((5,))))
    torch.manual_seed(3)
    assert z.equal(p.sample((5,)))


@every_family
def test_the_density_of_the_map_is_the_log_prob(name: str) -> None:
    """log p(z) = log p(ε) − log |dg/dε|."""
    p, _ = of(name)
    noise = quantiles(p).requires_grad_()
    z = p.from_noise(noise)
    (slope,) = torch.autograd.grad(z.sum(), noise)
    torch.testing.assert_close(p.log_prob(z), p.noise_distribution.log_prob(noise) - slope.abs().log())


@every_family
def test_densities_and_moments_are_scipys(name: str) -> None:
    p, _ = of(name)
    theirs = FAMILIES[name][2]
    z = p.from_noise(quantiles(p))
    torch.testing.assert_close(p.log_prob(z), torch.from_numpy(theirs.logpdf(z.numpy())))
    torch.testing.assert_close(p.mean, torch.tensor(theirs.mean()).double())
    torch.testing.assert_close(p.variance, torch.tensor(theirs.var()).double())


@every_family
def test_draws_follow_the_law(name: str) -> None:
    p, _ = of(name)
    z = p.sample((20_000,))
    assert scipy.stats.kstest(z.numpy(), FAMILIES[name][2].cdf).pvalue > 1e-3


@every_family
def test_the_gradient_through_draws_is_that_of_the_expectation(name: str) -> None:
    """∇ E[z] and ∇ E[z²], from the closed forms of mean and variance."""
    p, parameters = of(name, grad=True)
    exact = [gradients(f, parameters) for f in (p.mean, p.variance + p.mean.square())]
    copies = [q.detach().expand(50_000).clone().requires_grad_() for q in parameters]
    z = FAMILIES[name][0](*copies).rsample()
    for f, expected in zip((z, z.square()), exact, strict=True):
        for found, wanted in zip(gradients(f.sum(), copies), expected, strict=True):
            assert_mean(found, wanted)


@every_family
def test_the_ends_of_the_noise_give_finite_draws(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kind, values, _ = FAMILIES[name]
    for end in (0.0, 1 - 2**-24):
        monkeypatch.setattr(torch, "rand", lambda *_args, end=end, **_kw: torch.full((3,), end))
        parameters = [torch.full((3,), value, requires_grad=True) for value in values]
        z = kind(*parameters).rsample()
        assert z.isfinite().all()
        assert all(g.isfinite().all() for g in torch.autograd.grad(z.sum(), parameters))


@every_family
def test_expanding_keeps_the_law_the_type_and_the_checks(name: str) -> None:
    p, _ = of(name)
    wide = p.expand(torch.Size([2, 3]))
    assert type(wide) is type(p)
    assert wide.sample((4,)).shape == (4, 2, 3)
    z = p.from_noise(quantiles(p, 3))
    torch.testing.assert_close(wide.log_prob(z), p.log_prob(z).expand(2, 3))
    with pytest.raises(ValueError, match="within the support"):
        wide.log_prob(torch.full((3,), torch.nan))


# Relaxed codes


def softs(temperature: float) -> dict[str, BinaryConcrete | Concrete]:
    logits = torch.tensor([[0.3, -1.2, 2.0], [0.0, 0.5, -0.5]], dtype=torch.float64)
    return {"bits": BinaryConcrete(logits, temperature), "classes": Concrete(logits[None].expand(4, 2, 3), temperature)}


every_soft = pytest.mark.parametrize("kind", ["bits", "classes"])


@every_soft
def test_soft_and_hard_codes_share_their_noise(kind: str) -> None:
    soft, cold = softs(0.7)[kind], softs(1e-4)[kind]
    noise = soft.noise((1000,))
    codes = soft.hard(noise)
    assert codes.shape == soft.from_noise(noise).shape == (1000, *soft.batch_shape, *soft.event_shape)
    sure = (cold.from_noise(noise) - codes).abs() < 1e-6
    assert sure.double().mean() > 0.99
    assert ((codes == 0) | (codes == 1)).all()


@every_soft
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_a_hard_code_has_the_law_of_what_is_relaxed(kind: str, temperature: float) -> None:
    soft = softs(temperature)[kind]
    codes = soft.hard(soft.noise((20_000,)))
    exact = torch.sigmoid(soft.logits) if kind == "bits" else soft.logits.softmax(-1).flatten(-2)
    error = (codes.mean(0) - exact).abs()
    assert (error <= 4.5 * (exact * (1 - exact) / 20_000).sqrt()).all()


@every_soft
def test_the_density_of_noise_is_the_density_of_its_draw(kind: str) -> None:
    soft = softs(0.7)[kind]
    noise = soft.noise((200,))
    torch.testing.assert_close(soft.log_prob_of(soft.unsquashed(noise)), soft.log_prob(soft.from_noise(noise)))


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.0])
def test_a_relaxed_bit_has_the_density_of_its_map(temperature: float) -> None:
    soft = BinaryConcrete(torch.tensor([0.8], dtype=torch.float64), temperature)
    noise = soft.noise((50,)).requires_grad_()
    z = soft.from_noise(noise)
    (slope,) = torch.autograd.grad(z.sum(), noise)
    density = soft.noise_distribution.log_prob(noise) - slope.log()
    torch.testing.assert_close(soft.log_prob(z), density.sum(-1))


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.0])
def test_two_relaxed_classes_are_a_relaxed_bit(temperature: float) -> None:
    logits = torch.tensor([[0.8, -0.3]], dtype=torch.float64)
    z = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    two = Concrete(logits, temperature).log_prob(torch.stack([z, 1 - z], -1))
    one = BinaryConcrete(logits[:, 0] - logits[:, 1], temperature).log_prob(z[:, None])
    torch.testing.assert_close(two, one)


def test_three_relaxed_classes_integrate_to_one() -> None:
    soft = Concrete(torch.tensor([[0.5, -0.2, 0.0]], dtype=torch.float64), 0.9)
    # Over the simplex by z = softmax(u, v, 0), whose Jacobian is z1 z2 z3.
    u = torch.linspace(-30, 30, 1201, dtype=torch.float64)
    grid = torch.stack([*torch.meshgrid(u, u, indexing="ij"), torch.zeros(1201, 1201, dtype=torch.float64)], -1)
    log_z = grid.log_softmax(-1)
    log_p = soft.log_prob_of(log_z[..., None, :])
    total = (log_p + log_z.sum(-1)).exp().sum() * (u[1] - u[0]) ** 2
    torch.testing.assert_close(total, torch.tensor(1.0).double(), rtol=1e-6, atol=0)


@every_soft
def test_densities_of_cold_codes_stay_finite_in_single_precision(kind: str) -> None:
    soft = softs(0.05)[kind]
    soft = type(soft)(soft.logits.float().requires_grad_(), 0.05)
    noise = soft.noise((2000,))
    log_p = soft.log_prob_of(soft.unsquashed(noise))
    (gradient,) = torch.autograd.grad(log_p.sum(), soft.logits)
    assert log_p.isfinite().all()
    assert gradient.isfinite().all()
    assert soft.log_prob_of(soft.unsquashed(noise)).dtype == torch.float32


def test_what_is_relaxed_keeps_its_shape() -> None:
    logits = torch.zeros(5, 6)
    bits = relaxed(IndependentBernoulli(Bits(logits), 1), 0.5)
    classes = relaxed(OneHot(logits.view(5, 2, 3)), torch.tensor(0.5))
    assert bits.rsample((7,)).shape == classes.rsample((7,)).shape == (7, 5, 6)
    assert bits.log_prob(bits.sample()).shape == classes.log_prob(classes.sample()).shape == (5,)
    with pytest.raises(TypeError, match="Expected a latent of bits or classes to be relaxed; got one of Independent"):
        relaxed(StandardNormal(2)(), 0.5)


# Codes of classes


def test_one_hot_codes_sum_to_one_and_are_drawn_as_often_as_they_should() -> None:
    codes = OneHot(torch.randn(2, 3, dtype=torch.float64))
    every = every_code(codes)
    p = codes.log_prob(every).exp()
    assert every.shape == (9, 6)
    assert every.unique(dim=0).shape == (9, 6)
    torch.testing.assert_close(p.sum(), torch.tensor(1.0).double())
    torch.testing.assert_close((p[:, None] * every).sum(0), codes.mean)
    seen = (codes.sample((20_000,))[:, None] == every).all(-1).double().mean(0)
    assert ((seen - p).abs() <= 4.5 * (p * (1 - p) / 20_000).sqrt()).all()


def test_one_hot_codes_have_batches_and_refuse_what_is_none() -> None:
    codes = OneHot(torch.zeros(5, 2, 3))
    assert (codes.batch_shape, codes.event_shape, codes.sample((7,)).shape) == ((5,), (6,), (7, 5, 6))
    assert OneHot(torch.zeros(2, 3)).expand(torch.Size([4])).sample().shape == (4, 6)
    for wrong in ([0.5, 0.5, 0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]):
        with pytest.raises(ValueError, match=r"within the support \(OneHot\(classes=3\)\)"):
            codes.log_prob(torch.tensor(wrong).expand(5, 6))
    torch.testing.assert_close(codes.log_probs, torch.full((5, 2, 3), -math.log(3)))


def test_codes_are_listed_up_to_a_number() -> None:
    bits = every_code(IndependentBernoulli(Bits(torch.zeros(5, 12)), 1))
    assert bits.shape == bits.unique(dim=0).shape == (4096, 12)
    with pytest.raises(
        ValueError, match=r"Expected at most 4096 codes to list; got 13 variables of 2 classes, .* 2\^13"
    ):
        every_code(IndependentBernoulli(Bits(torch.zeros(13)), 1))
    assert every_code(OneHot(torch.zeros(4, 8))).shape == (4096, 32)
    assert every_code(OneHot(torch.zeros(1, 5))).shape == (5, 5)
    with pytest.raises(ValueError, match="got 20 variables of 10 classes"):
        every_code(OneHot(torch.zeros(20, 10)))
    with pytest.raises(
        TypeError, match="Expected codes that can be listed, bits or classes; got a latent of Independent"
    ):
        every_code(StandardNormal(2)())


def test_probabilities_of_classes_have_one_form() -> None:
    bits = IndependentBernoulli(Bits(torch.tensor([[0.0, 3.0]])), 1)
    torch.testing.assert_close(class_probabilities(bits)[..., 1], bits.mean)
    torch.testing.assert_close(class_probabilities(bits).sum(-1), torch.ones(1, 2))
    codes = OneHot(torch.randn(5, 2, 3))
    torch.testing.assert_close(class_probabilities(codes).flatten(-2), codes.mean)
    assert class_probabilities(StandardNormal(2)()) is None
    chosen = torch.tensor([[1, 0]])
    assert codes_of(chosen, bits).tolist() == [[1.0, 0.0]]
    assert codes_of(chosen, codes).tolist() == [[0.0, 1.0, 0.0, 1.0, 0.0, 0.0]]
