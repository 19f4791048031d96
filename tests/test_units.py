"""Densities in units of any size, and constants, which count nothing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.distributions import Laplace, Normal

import tightbound as tb
from tightbound.conditional import bounded
from tightbound.distributions import InUnits

LOC, SCALE = torch.tensor([0.3, -1.0, 2.0]), torch.tensor([0.5, 1.0, 3.0])
CENTRE = torch.tensor([5.0, 0.0, -7.0])


@pytest.mark.parametrize("unit", [1e-30, 1e-3, 1.0, 1e20, 1e30])
@pytest.mark.parametrize("base", [Normal, Laplace])
def test_the_density_is_that_of_u_less_the_log_of_the_unit(base: type, unit: float) -> None:
    """In single precision, where the square of the unit is beyond the type at both ends."""
    p = InUnits(base(LOC, SCALE), CENTRE * unit, torch.full((3,), unit))
    u = torch.tensor([[0.1, 2.0, -3.0], [-1.0, 0.0, 9.0]])
    expected = base(LOC.double(), SCALE.double()).log_prob(u.double()) - math.log(unit)
    torch.testing.assert_close(p.log_prob((CENTRE + u) * unit).double(), expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(p.mean / unit, CENTRE + LOC)
    torch.testing.assert_close(p.loc / unit, CENTRE + LOC)
    torch.testing.assert_close(p.scale / unit, SCALE)
    torch.testing.assert_close(p.stddev / unit, base(LOC, SCALE).stddev)
    assert p.expand((4, 3)).log_prob(p.mean).shape == (4, 3)


def test_the_variance_is_the_square_of_the_deviation() -> None:
    p = InUnits(Normal(LOC, SCALE), CENTRE, torch.tensor([2.0, 1.0, 0.0]))
    torch.testing.assert_close(p.variance, torch.tensor([1.0, 1.0, 0.0]))


def test_a_constant_counts_nothing_and_passes_no_gradient() -> None:
    loc = torch.zeros(2, requires_grad=True)
    p = InUnits(Normal(loc, torch.ones(2)), torch.tensor([5.0, 5.0]), torch.tensor([2.0, 0.0]))
    log_p = p.log_prob(torch.tensor([[6.0, 5.0], [4.0, 3e38]]))
    assert log_p[:, 1].tolist() == [0.0, 0.0]
    (slope,) = torch.autograd.grad(log_p.sum(), loc)
    assert slope.tolist() == [0.0, 0.0]  # 0.5 and −0.5 of the first, and none of the second
    assert (p.sample((9,))[:, 1] == 5).all()
    torch.manual_seed(0)
    drawn = p.sample((2000,))[:, 0]
    assert abs(drawn.mean() - 5) < 0.2
    assert abs(drawn.std() / 2 - 1) < 0.1
    assert p.has_rsample
    assert p.rsample((3,)).requires_grad


@pytest.mark.parametrize("kind", [tb.likelihoods.Gaussian, tb.likelihoods.Laplace])
@pytest.mark.parametrize("scale", ["learned", "per-element", 0.7])
def test_a_likelihood_in_another_unit_differs_by_the_log_of_the_unit(kind: type, scale: object) -> None:
    """log p of x in units of s is log p of x / s, less log s for each element that varies."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 6), nn.Unflatten(1, (2, 3))) if scale == "per-element" else nn.Linear(2, 3)
    plain = kind(network, scale=scale)
    unit = torch.tensor([1e25, 1e-25, 0.0])
    other = kind(network, scale=scale, centre=torch.tensor([1e25, 0.0, 4.0]), unit=unit)
    z, u = torch.randn(4, 2), torch.randn(4, 3)
    x = torch.tensor([1e25, 0.0, 4.0]) + unit * u
    each = plain(z).base_dist.log_prob(u)[:, :2].sum(1)
    torch.testing.assert_close(other.log_prob(x, z), each - unit[:2].log().sum(), rtol=1e-5, atol=1e-4)


def test_numbers_bend_only_beyond_their_bounds() -> None:
    inside = torch.linspace(-16, 4, 101)
    assert torch.equal(bounded(inside), inside)
    raw = torch.tensor([-1e30, -17.0, -16.001, 4.001, 5.0, 1e30], requires_grad=True)
    found = bounded(raw)
    assert found[0] == -21
    assert found[-1] == 9
    assert (found.diff() > 0).all()
    (slope,) = torch.autograd.grad(found.sum(), raw)
    assert (slope[1:-1] > 0.95 * torch.tensor([1.0, 1.0, 1.0, 0.95])).all()
    assert ((found - raw)[1:-1].abs() < 0.02).all()


POSTERIORS = ("DiagonalNormal", "FullNormal", "LogNormal", "Exponential")


@pytest.mark.parametrize("name", POSTERIORS)
def test_an_odd_observation_has_a_finite_score_and_refuses_nobody(name: str) -> None:
    """At a hundred, a thousand, and a million deviations: a number, and the others' as before."""
    torch.manual_seed(0)
    encoder = nn.Linear(5, getattr(tb.posteriors, name).outputs_for(2))
    with torch.no_grad():
        encoder.weight.mul_(3)
    prior = getattr(tb.priors, "StandardNormal" if name.endswith("Normal") and name != "LogNormal" else name)(2)
    model = tb.VAE(prior, getattr(tb.posteriors, name)(encoder), tb.likelihoods.Gaussian(nn.Linear(2, 5)))
    x = torch.randn(40, 5)
    alone = tb.evaluate.evidence(model, x, samples=4, proposal="posterior", seed=0)
    for far in (100.0, 1e3, 1e6):
        odd = torch.cat([x, torch.full((1, 5), far)])
        found = tb.evaluate.evidence(model, odd, samples=4, proposal="posterior", seed=0)
        elbo = found.per_observation["elbo"]
        torch.testing.assert_close(elbo[:40], alone.per_observation["elbo"])
        assert elbo.isfinite().all()
        assert elbo[40] < -(far**1.5)
    if name.endswith("Normal") and name != "LogNormal":  # of the size that its distance has: σ of 10¹² gave −10²⁰
        assert elbo[40] > -100 * far**2
