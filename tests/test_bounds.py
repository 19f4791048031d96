from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracle import assert_mean, draws_with, linear_gaussian, standard_error
from torch import Tensor
from torch.distributions import kl_divergence

from tightbound.bounds import elbo, iwae, miwae, renyi
from tightbound.draws import Draws

BOUNDS: dict[str, Callable[[Draws], Tensor]] = {
    "elbo": elbo,
    "iwae": iwae,
    "renyi-0.3": lambda draws: renyi(0.3)(draws),
    "renyi-2": lambda draws: renyi(2.0)(draws),
    "miwae-2": lambda draws: miwae(2)(draws),
}
every_bound = pytest.mark.parametrize("bound", BOUNDS.values(), ids=BOUNDS)
log_weights = st.lists(
    st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=4, max_size=4
).map(lambda rows: torch.tensor(rows, dtype=torch.float64))  # fmt: skip


@every_bound
@pytest.mark.parametrize("orthogonal", [False, True])
def test_exact_posterior_gives_the_evidence(bound: Callable[[Draws], Tensor], orthogonal: bool) -> None:
    problem = linear_gaussian(orthogonal=orthogonal)
    x = problem.evidence.sample((6,))
    posterior = problem.exact_diagonal_posterior() if orthogonal else problem.exact_posterior()
    draws = problem.model(posterior).draw(x, samples=32)
    torch.testing.assert_close(bound(draws), problem.evidence.log_prob(x), rtol=0, atol=1e-10)


def test_every_draw_from_the_exact_posterior_weighs_the_evidence() -> None:
    problem = linear_gaussian()
    x = problem.evidence.sample((6,))
    log_w = problem.model(problem.exact_posterior()).draw(x, samples=100).log_w
    assert (log_w - problem.evidence.log_prob(x)).abs().max() < 1e-10


def test_elbo_falls_short_of_the_evidence_by_the_divergence_from_the_posterior() -> None:
    problem = linear_gaussian(orthogonal=True)
    x = problem.evidence.sample((3,))
    model = problem.model(problem.wrong_posterior())
    gap = kl_divergence(_as_full(model.encode(x)), problem.posterior(x))
    assert_mean(model.draw(x, samples=20_000).log_w, problem.evidence.log_prob(x) - gap)


def _as_full(q: torch.distributions.Independent) -> torch.distributions.MultivariateNormal:
    return torch.distributions.MultivariateNormal(q.mean, torch.diag_embed(q.variance))


def test_iwae_rises_with_the_draws_to_the_evidence() -> None:
    problem = linear_gaussian()
    x = problem.evidence.sample((1,))
    model = problem.model(problem.wrong_posterior())
    log_w = model.draw(x.expand(4000, -1), samples=64).log_w
    exact = problem.evidence.log_prob(x)
    gaps = {k: exact - iwae(draws_with(log_w[:k])) for k in (1, 2, 8, 64)}
    for fewer, more in ((1, 2), (2, 8), (8, 64)):
        closer = gaps[fewer] - gaps[more]
        assert closer.mean() > 4 * standard_error(closer)
    assert gaps[64].mean() > -4 * standard_error(gaps[64])
    assert gaps[64].mean() < gaps[1].mean() / 20


def test_importance_weights_estimate_the_evidence_without_bias() -> None:
    problem = linear_gaussian()
    x = problem.evidence.sample((1,))
    model = problem.model(problem.wrong_posterior())
    bound = iwae(model.draw(x.expand(5000, -1), samples=8))
    assert_mean((bound - problem.evidence.log_prob(x)).exp(), 1.0)


def test_hand_computed_values() -> None:
    draws = draws_with(torch.tensor([[0.0], [math.log(3)]], dtype=torch.float64))
    assert elbo(draws).item() == pytest.approx(0.5 * math.log(3))
    assert iwae(draws).item() == pytest.approx(math.log(2))
    assert renyi(2.0)(draws).item() == pytest.approx(-math.log((1 + 1 / 3) / 2))
    assert renyi(0.5)(draws).item() == pytest.approx(2 * math.log((1 + math.sqrt(3)) / 2))


@given(log_weights)
def test_limits_of_renyi(log_w: Tensor) -> None:
    draws = draws_with(log_w)
    torch.testing.assert_close(renyi(0.0)(draws), iwae(draws))
    torch.testing.assert_close(renyi(1.0)(draws), elbo(draws))
    for near in (1 - 1e-10, 1 + 1e-10):
        torch.testing.assert_close(renyi(near)(draws), elbo(draws), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("alpha", [1 - 1e-6, 1 + 1e-6])
def test_renyi_is_continuous_at_one_in_single_precision(alpha: float) -> None:
    draws = draws_with(torch.randn(16, 5) - 100)
    torch.testing.assert_close(renyi(alpha)(draws), elbo(draws), rtol=1e-6, atol=1e-4)


@given(log_weights, st.floats(0, 5), st.floats(0, 5))
def test_renyi_falls_with_its_order(log_w: Tensor, one: float, other: float) -> None:
    draws, (low, high) = draws_with(log_w), sorted((one, other))
    assert (renyi(high)(draws) <= renyi(low)(draws) + 1e-9).all()


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.999, 1.0, 1.001, 1.5, 3.0])
def test_renyi_stands_extreme_weights(alpha: float) -> None:
    log_w = torch.tensor([[-1e4], [1e4], [3.0]], requires_grad=True)
    bound = renyi(alpha)(draws_with(log_w))
    (gradient,) = torch.autograd.grad(bound.sum(), log_w)
    assert -1e4 <= bound <= 1e4
    assert gradient.isfinite().all()


def test_a_weight_of_zero_ends_only_the_bounds_that_average_logarithms() -> None:
    draws = draws_with(torch.tensor([[0.0], [-math.inf]]))
    assert iwae(draws).item() == renyi(0.0)(draws).item() == pytest.approx(-math.log(2))
    assert elbo(draws).item() == renyi(1.5)(draws).item() == -math.inf
    nothing = draws_with(torch.full((2, 1), -math.inf))
    assert iwae(nothing).item() == renyi(0.5)(nothing).item() == -math.inf


@given(log_weights)
def test_limits_and_order_of_miwae(log_w: Tensor) -> None:
    draws = draws_with(log_w)
    torch.testing.assert_close(miwae(1)(draws), iwae(draws))
    torch.testing.assert_close(miwae(4)(draws), elbo(draws))
    assert (elbo(draws) <= miwae(2)(draws) + 1e-9).all()
    assert (miwae(2)(draws) <= iwae(draws) + 1e-9).all()


@every_bound
@given(log_w=log_weights, shift=st.floats(-1000, 1000))
def test_a_constant_passes_through(bound: Callable[[Draws], Tensor], log_w: Tensor, shift: float) -> None:
    torch.testing.assert_close(bound(draws_with(log_w + shift)), bound(draws_with(log_w)) + shift, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["elbo", "iwae", "renyi-0.3", "renyi-2"])
@given(log_w=log_weights, order=st.permutations(range(4)))
def test_the_order_of_draws_does_not_matter(name: str, log_w: Tensor, order: list[int]) -> None:
    torch.testing.assert_close(BOUNDS[name](draws_with(log_w[order])), BOUNDS[name](draws_with(log_w)))


@every_bound
def test_one_value_an_observation(bound: Callable[[Draws], Tensor]) -> None:
    log_w = torch.randn(4, 3)
    rows = torch.stack([bound(draws_with(log_w[:, [i]])) for i in range(3)], 1).squeeze(0)
    torch.testing.assert_close(bound(draws_with(log_w)), rows)


@every_bound
def test_weights_of_the_gradient_sum_to_one(bound: Callable[[Draws], Tensor]) -> None:
    log_w = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(bound(draws_with(log_w)).sum(), log_w)
    assert (gradient > 0).all()
    torch.testing.assert_close(gradient.sum(0), torch.ones(3, dtype=torch.float64))


@pytest.mark.parametrize("alpha", [-0.1, -math.inf, math.inf, math.nan])
def test_renyi_refuses_orders_that_bound_nothing(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"Expected an order alpha >= 0; got"):
        renyi(alpha)(draws_with(torch.zeros(2, 1)))


@pytest.mark.parametrize("groups", [0, -1])
def test_miwae_refuses_fewer_than_one_group(groups: int) -> None:
    with pytest.raises(ValueError, match=rf"Expected at least 1 group; got groups={groups}\."):
        miwae(groups)


@pytest.mark.parametrize("groups", [3, 8])
def test_miwae_refuses_groups_that_do_not_divide_the_draws(groups: int) -> None:
    with pytest.raises(ValueError, match=rf"Expected a number of groups that divides the 4 draws; got {groups}"):
        miwae(groups)(draws_with(torch.zeros(4, 1)))
