"""Pairs that share factors, and factors that few observations have: what they say, and that they help."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from compiled import assert_compiled_is_plain, compiles
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

import tightbound as tb
from tightbound.data import Observations, few_factors, pairs
from tightbound.objectives import ELBO, FactorVAE, KnownFactors, TotalCorrelation
from tightbound.runs import starting
from tightbound.runs.recipe import Recipe
from tightbound.settings import Training

L, D = 3, 5
X = torch.linspace(-1, 1, 40, dtype=torch.float64).reshape(4, 2, D)


def vae_of() -> tb.VAE:
    torch.manual_seed(2)
    model = tb.VAE(
        tb.priors.StandardNormal(L),
        tb.posteriors.DiagonalNormal(nn.Linear(D, 2 * L)),
        tb.likelihoods.Gaussian(nn.Linear(L, D), scale=0.7),
    ).double()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.7 * torch.randn_like(p))
    return model


def posteriors(model: tb.VAE) -> tuple[Normal, Normal]:
    mean, log_variance = model.posterior.network(X).chunk(2, -1)  # type: ignore[operator,union-attr]
    return tuple(Normal(mean[:, i], (0.5 * log_variance[:, i]).exp()) for i in (0, 1))  # type: ignore[return-value]


def grid() -> Observations:
    """3 × 4 × 5 factor combinations, each an observation that says which it is."""
    table = torch.cartesian_prod(torch.arange(3), torch.arange(4) * 10, torch.arange(5) - 2).double()
    return Observations(table + 0.5, factors=table, factor_names=("a", "b", "c"), name="grid")


@pytest.mark.parametrize("changed", [1, 2, None])
def test_pairs_differ_in_as_many_factors_as_asked_for(changed: int | None) -> None:
    made = pairs(grid(), changed=changed, count=3000)
    assert (made.shape, len(made), made.factors) == ((2, 3), 3000, None)
    differ = made.eval_batch().x.diff(dim=1)[:, 0] != 0
    counts = differ.sum(1).bincount(minlength=4)
    share = differ.double().mean(0)
    if changed is not None:
        assert counts.tolist() == [0 if k != changed else 3000 for k in range(4)]
        assert ((share - changed / 3).abs() < 5 * math.sqrt(0.25 / 3000)).all()
    else:
        assert counts[0] == counts[3] == 0
        assert abs(counts[1] - 1500) < 5 * math.sqrt(750)


def test_new_values_are_any_of_the_others() -> None:
    x = pairs(grid(), changed=1, count=6000).eval_batch().x
    first = x[:, 0, 2] == 0.5  # c = 0 changes into each of four values
    moved = x[first & (x[:, 0, 2] != x[:, 1, 2])][:, 1, 2]
    values, counts = moved.unique(return_counts=True)
    assert values.tolist() == [-1.5, -0.5, 1.5, 2.5]
    assert (counts - len(moved) / 4).abs().max() < 5 * math.sqrt(len(moved) / 4)


def test_pairs_of_a_subset_are_of_that_subset_and_partners_exist() -> None:
    whole = grid()
    part = whole.subset(torch.randperm(60)[:25])
    x = pairs(part, count=500).eval_batch().x
    there = {tuple(row.tolist()) for row in part.eval_batch().x}
    assert {tuple(row.tolist()) for row in x.flatten(0, 1)} <= there
    assert (x.diff(dim=1) != 0).any(2).all()
    again, other = pairs(part, count=500).eval_batch().x, pairs(part, count=500, seed=1).eval_batch().x
    assert x.equal(again)
    assert not x.equal(other[: len(x)])


@pytest.mark.parametrize("shared", [None, 0, 1, 2, 3])
def test_shared_dimensions_have_one_posterior_and_the_others_their_own(shared: int | None) -> None:
    model = vae_of()
    one, two = posteriors(model)
    apart = kl_divergence(one, two)
    q: Any = tb.PairedVAE(model, shared=shared).encoded(tb.Batch(X)).q
    mean, variance = q.base_dist.loc, q.base_dist.scale.square()
    for row in range(4):
        order = apart[row].argsort()
        middle = (apart[row].max() + apart[row].min()) / 2
        alike = set(order[: (apart[row] < middle).sum() if shared is None else shared].tolist())
        for j in range(L):
            means, variances = [p.loc[row, j] for p in (one, two)], [p.variance[row, j] for p in (one, two)]
            if j in alike:
                means, variances = [sum(means) / 2] * 2, [sum(variances) / 2] * 2
            torch.testing.assert_close(mean[row, :, j], torch.stack(means))
            torch.testing.assert_close(variance[row, :, j], torch.stack(variances))


def test_its_densities_are_sums_over_the_pair() -> None:
    vae = vae_of()
    model, batch = tb.PairedVAE(vae), tb.Batch(X)
    z, log_q = model.propose(batch, 6)
    torch.testing.assert_close(model.log_posterior(batch, z), log_q)
    torch.testing.assert_close(model.log_posterior(batch, z, frozen=True), log_q)
    wanted = [vae.log_joint(tb.Batch(X[:, i]), z[:, :, i]) for i in (0, 1)]
    found = model.log_joint(batch, z)
    for place in (0, 1):
        torch.testing.assert_close(found[place], wanted[0][place] + wanted[1][place])
    rate = model.rate(batch)
    assert rate is not None
    draws = model.draw(batch, samples=40_000)
    sampled = draws.log_qz_x - draws.log_pz
    assert ((sampled.mean(0) - rate).abs() < 5 * sampled.std(0) / 200).all()


def test_with_nothing_shared_it_is_two_observations() -> None:
    vae = vae_of()
    rates = vae.rate(tb.Batch(X.flatten(0, 1)))
    together = tb.PairedVAE(vae, shared=0).rate(tb.Batch(X))
    assert rates is not None
    assert together is not None
    torch.testing.assert_close(together, rates.unflatten(0, (4, 2)).sum(1))


def test_a_frozen_posterior_has_no_gradient_of_its_parameters() -> None:
    model = tb.PairedVAE(vae_of())
    z = torch.randn(2, 4, 2, L, dtype=torch.float64, requires_grad=True)
    value = model.log_posterior(tb.Batch(X), z, frozen=True).sum()
    value.backward()
    assert z.grad is not None
    assert all(p.grad is None for p in model.parameters())


@compiles
@pytest.mark.parametrize("kind", ["pairs", "factors"])
def test_a_compiled_step_is_the_plain_one(kind: str) -> None:
    vae = vae_of().float()
    model: tb.Model = tb.PairedVAE(vae) if kind == "pairs" else vae
    x = X.float() if kind == "pairs" else X[:, 0].float()
    batch = tb.Batch(x, checked=True)
    objective: Any = ELBO()
    if kind == "factors":
        data = Observations(x, factors=torch.randn(4, 2))
        objective = KnownFactors(ELBO()).fitted_to(model, batch, data)
    assert_compiled_is_plain(model, objective, batch)


def turned(count: int = 2000) -> Observations:
    """Two independent factors behind a rotation: no single observation says which directions they are."""
    torch.manual_seed(0)
    factors = torch.cartesian_prod(torch.linspace(-1.5, 1.5, 12), torch.linspace(-1.5, 1.5, 12))
    angle = torch.tensor(math.pi / 4)
    matrix = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    rows = torch.randint(len(factors), (count,))
    x = factors[rows] @ matrix.T + 0.05 * torch.randn(count, 2)
    return Observations(x, factors=factors[rows])


def linear() -> tb.VAE:
    torch.manual_seed(4)
    return tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(nn.Linear(2, 4)),
        tb.likelihoods.Gaussian(nn.Linear(2, 2), scale=0.2),
    )


def alignment(model: tb.VAE, data: Observations) -> Tensor:
    """|correlation| of each factor with its best unit, and the next best."""
    both = torch.cat([model.embed(data), data.factors.float()], 1)  # type: ignore[union-attr]
    return torch.corrcoef(both.T)[2:, :2].abs().sort(1, descending=True).values


SETTINGS = Training(epochs=30, batch_size=100, learning_rate=2e-2, validation=0)


def test_pairs_find_directions_that_single_observations_do_not_show() -> None:
    data, model = turned(), linear()
    tb.fit(tb.PairedVAE(model), pairs(data, changed=1), settings=SETTINGS, progress=False)
    assert (alignment(model, data)[:, 0] > 0.97).all()
    alone = linear()
    tb.fit(alone, data, settings=SETTINGS, progress=False)
    assert (alignment(alone, data)[:, 0] < 0.97).any()


def test_a_few_factors_do_the_same() -> None:
    data, model = turned(), linear()
    result = tb.fit(model, few_factors(data, 20), objective=KnownFactors(gamma=20.0), settings=SETTINGS, progress=False)
    kept: Any = result.objective
    assert len(kept.factors) == 20
    assert (alignment(model, data)[:, 0] > 0.97).all()
    both = torch.cat([model.embed(data), data.factors.float()], 1)  # type: ignore[union-attr]
    assert (torch.corrcoef(both.T)[2:, :2].diagonal() > 0.97).all()  # in their order, and the same way round


def test_the_pull_is_half_the_squared_distance_to_standardised_factors() -> None:
    model, x = vae_of(), X[:, 0]
    factors = torch.tensor([[10.0, 5.0], [20.0, 5.0], [30.0, 5.0], [math.nan, 5.0]])
    data = Observations(x, factors=factors)
    objective = KnownFactors(ELBO(), gamma=3.0, labelled_batch=60_000).fitted_to(model, tb.Batch(x), data)
    standard = torch.tensor([[-1.0, 0], [0, 0], [1, 0]], dtype=torch.float64) * torch.tensor([1.5**0.5, 1])
    torch.testing.assert_close(objective.factors, standard)  # what never varies stays at zero
    loss = objective(model, tb.Batch(x))
    each = 0.5 * (model.embed(x)[:3, :2] - standard).square().sum(1)
    assert abs(loss.terms["factors"] - each.mean()) < 5 * each.std() / math.sqrt(60_000)
    rest = loss.value - 3 * loss.terms["factors"]
    torch.testing.assert_close(rest, loss.terms["distortion"] + loss.terms["rate"])


def test_what_is_inside_keeps_its_nature() -> None:
    assert KnownFactors(TotalCorrelation()).whole_batch
    assert not KnownFactors().whole_batch
    inside = FactorVAE(latent_dim=L)
    assert KnownFactors(inside).second_player is inside.second_player
    data = Observations(X[:, 0].float(), factors=torch.randn(4, 2))
    fitted = KnownFactors(TotalCorrelation()).fitted_to(vae_of().float(), data.eval_batch(), data)
    assert fitted.objective == TotalCorrelation(observations=4)


def test_few_factors_keeps_so_many_at_random() -> None:
    data = grid()
    table = few_factors(data, 7).factor_table()
    assert table is not None
    known = table.isfinite().all(1)
    assert int(known.sum()) == 7
    assert table[known].equal(data.factors[known])  # type: ignore[index]
    assert few_factors(data, 60).factor_table().equal(data.factors)  # type: ignore[arg-type,union-attr]


REFUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: pairs(Observations(X[:, 0])), ValueError,
     "Expected observations with two factors or more that vary; got none in data."),
    (lambda: pairs(Observations(X[:, 0], factors=torch.arange(4.0)[:, None])), ValueError, "that vary; got 1 in data"),
    (lambda: pairs(grid(), changed=3), ValueError,
     "Expected changed between 1 and 2, and count of at least 1; got changed=3 and count=60."),
    (lambda: pairs(grid(), changed=0), ValueError, "got changed=0"),
    (lambda: pairs(grid(), count=0), ValueError, "got changed=None and count=0"),
    (lambda: pairs(Observations(X[:, 0], factors=torch.tensor([[0.0, 0], [1, 1], [2, 2], [3, 3]]))), ValueError,
     "Expected observations that share all but some factors; got none in data."),
    (lambda: pairs(grid(), seed=1.5), TypeError, "seed"),  # type: ignore[arg-type]
    (lambda: few_factors(Observations(X[:, 0]), 2), ValueError, "Expected observations with factors; got none"),
    (lambda: few_factors(grid(), 0), ValueError, "Expected between 1 and 60 observations of grid; got 0."),
    (lambda: few_factors(grid(), 61), ValueError, "Expected between 1 and 60 observations of grid; got 61."),
    (lambda: tb.PairedVAE(tb.VAE(tb.priors.StandardNormal(2), tb.posteriors.FullNormal(nn.Linear(D, 5)),
                                 tb.likelihoods.Gaussian(nn.Linear(2, D)))), TypeError,
     "Expected a VAE with the posterior DiagonalNormal, whose dimensions can be shared one by one; got FullNormal."),
    (lambda: tb.PairedVAE(vae_of(), shared=-1), ValueError, "Expected shared of 0 or more dimensions; got -1."),
    (lambda: tb.PairedVAE(vae_of()).draw(X[:, 0]), ValueError,
     "Expected pairs, shape (B, 2, *shape); got (4, 5). Make them with tb.data.pairs."),
    (lambda: KnownFactors(gamma=-1.0), ValueError, "Expected gamma >= 0; got -1.0"),
    (lambda: KnownFactors(labelled_batch=0), ValueError, "Expected labelled_batch >= 1; got 0"),
    (lambda: KnownFactors()(vae_of(), tb.Batch(X[:, 0])), ValueError,
     "Expected observations with factors, which fit keeps; got a call before fit."),
    (lambda: tb.fit(vae_of(), X[:, 0], objective=KnownFactors(), progress=False), ValueError,
     "Expected 2 observations or more with factors in the training set for KnownFactors; got 0."),
    (lambda: tb.fit(vae_of(), Observations(X[:, 0], factors=torch.randn(4, 4)), objective=KnownFactors(),
                    settings=SETTINGS, progress=False), ValueError,
     "Expected a latent of at least 4 dimensions, one for each factor; got (3,)."),
]  # fmt: skip


@pytest.mark.parametrize(("ask", "error", "message"), REFUSED)
def test_what_is_refused(ask: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        ask()


def test_a_recipe_knows_a_few_factors_and_scores_know_all(tmp_path: Any) -> None:
    changes = {
        "objective.name": "known-factors", "objective.beta": 2.0, "data.factors": 12, "model.hidden": [8],
        "model.latent_dim": 4, "train.epochs": 1.0, "train.validation": 0.0,
    }  # fmt: skip
    torch.manual_seed(0)
    table = torch.randn(100, 2)
    data = Observations(torch.cat([table, torch.randn(100, 3)], 1), factors=table, factor_names=("a", "b"))
    trained = starting.train(Recipe().updated(changes), tmp_path / "run", data=data, progress=False)
    kept: Any = trained.result.objective
    assert len(kept.factors) == 12
    assert kept.objective.beta == 2.0
    assert kept.objective.kl == "closed-form"
    known = trained.data.train.factor_table()
    assert known is not None
    assert int(known.isfinite().all(1).sum()) == 12
    whole = trained.run.data(data).train.factor_table()
    assert whole is not None
    assert bool(whole.isfinite().all())
    again = starting.resume(tmp_path / "run", data=data, progress=False)  # its labelled observations are the same
    assert again.result.metrics == trained.result.metrics
