"""Gradients compared: bias, variance and their errors against gradients whose bias and variance are known."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import pytest
import torch
from oracle import linear_gaussian
from test_gradients_codes import codes, exact_elbo, gradient_of
from torch import Tensor, nn

import tightbound as tb
from tightbound import bounds, plots
from tightbound.batch import Batch
from tightbound.bounds import BoundFunction
from tightbound.draws import Draws
from tightbound.gradients import (
    VIMCO,
    Comparison,
    DoublyReparameterised,
    Enumerate,
    EstimatorStatistics,
    Gradient,
    GumbelSoftmax,
    Pathwise,
    ScoreFunction,
    StickingTheLanding,
    compare,
)
from tightbound.gradients.compare import brief
from tightbound.model import Model
from tightbound.objectives import ELBO, Bound


@dataclass(frozen=True)
class Known(Gradient):
    """The exact gradient, a little too long, with noise of known size on each parameter."""

    too_long: float = 0.0
    noise: float = 0.0

    def __call__(
        self, model: Model, batch: Batch, bound: BoundFunction, *, samples: int, step: Tensor | None = None
    ) -> tuple[Tensor, Draws]:
        value, draws = Enumerate()(model, batch, bound, samples=1)
        added = sum(((torch.randn_like(p) * p).sum() for p in model.parameters()), torch.zeros(()))
        return (1 + self.too_long) * value + self.noise / math.sqrt(samples) * added, draws


def test_bias_and_variance_are_the_known_ones() -> None:
    model, batch = codes()
    noisy = {"none": Known(), "long": Known(0.5), "noise": Known(0, 0.5), "both": Known(0.5, 0.5)}
    found = compare(model, batch, noisy, samples=(1, 4), repeats=200)
    length = gradient_of(exact_elbo(model, batch).mean(), model)  # of everything; theirs is the posterior's
    posterior = torch.cat(
        [torch.full((p.numel(),), name.startswith("posterior")) for name, p in model.named_parameters()]
    )
    expected = float(length[posterior].norm())
    assert found.length == pytest.approx({1: expected, 4: expected})
    assert found.parameters == int(posterior.sum())
    for each in found.estimates:
        bias = 0.5 * expected if each.gradient in ("long", "both") else 0.0
        variance = found.parameters * 0.25 / each.samples if each.gradient in ("noise", "both") else 0.0
        assert abs(each.variance - variance) <= 4 * each.variance_se + 1e-12
        assert abs(each.bias_squared - bias**2) <= 4 * each.bias_squared_se + 1e-12
        assert each.is_biased == (bias > 0)
        assert each.bias_bound**2 == pytest.approx(max(each.bias_squared, 0) + 2 * each.bias_squared_se)
        assert each.price == each.variance * each.seconds > 0 or variance == 0


def test_where_there_is_no_bias_its_square_is_as_often_above_zero_as_below() -> None:
    model, batch = codes()
    found = [compare(model, batch, [Known(0, 1.0)], samples=(1,), repeats=40, seed=s).estimates[0] for s in range(30)]
    squares = torch.tensor([each.bias_squared for each in found])
    assert squares.mean().abs() < 4 * squares.std() / math.sqrt(30)
    assert 0.5 < squares.std() / torch.tensor([each.bias_squared_se for each in found]).mean() < 2


def test_noise_falls_as_one_over_the_samples() -> None:
    model, batch = codes()
    unbiased = {"none": ScoreFunction("none"), "batch": ScoreFunction("batch")}
    found = {(e.gradient, e.samples): e for e in compare(model, batch, unbiased, samples=(1, 8)).estimates}
    assert not any(each.is_biased for each in found.values())
    for name in unbiased:
        few, many = found[name, 1], found[name, 8]
        assert abs(few.variance / 8 - many.variance) < 4 * (few.variance_se / 8 + many.variance_se)


def test_a_pair_that_cannot_work_is_left_out_and_a_gradient_that_never_works_is_told_of() -> None:
    model, batch = codes()
    found = compare(model, batch, [ScoreFunction(), Enumerate()], samples=(1, 2), repeats=40)
    assert [(each.gradient, each.samples) for each in found.estimates] == [("ScoreFunction()", 2), ("Enumerate()", 1)]
    with pytest.raises(ValueError, match=r"Expected at least 2 samples with VIMCO\(\)"):
        compare(model, batch, [VIMCO()], samples=(1,), repeats=40)
    with pytest.raises(TypeError, match=r"Expected draws that can be reparameterised for Pathwise\(\)"):
        compare(model, batch, [Pathwise()], samples=(1,), repeats=40)


def test_the_reference_is_exact_where_it_can_be() -> None:
    model, batch = codes()
    few = {"samples": (2,), "repeats": 40}
    assert compare(model, batch, [VIMCO()], **few).reference == "the exact sum over 256 codes"
    many = compare(model, batch, [VIMCO()], bound=bounds.iwae, **few)
    assert many.reference == "the mean of 160 draws of VIMCO()"
    alone = compare(model, batch, [ScoreFunction("none")], bound=bounds.iwae, samples=(1,), repeats=40)
    assert alone.reference == "the exact sum over 256 codes"  # of one draw the bound is the ELBO
    wide = tb.VAE(
        tb.priors.Bernoulli(13), tb.posteriors.Bernoulli(nn.Linear(2, 13)), tb.likelihoods.Gaussian(nn.Linear(13, 2))
    )
    far = compare(wide, torch.zeros(2, 2), [ScoreFunction("none")], samples=(1,), repeats=40)
    assert far.reference == "the mean of 160 draws of ScoreFunction(baseline='batch')"


def test_each_reference_is_told_of() -> None:
    model, batch = codes()
    found = compare(model, batch, [ScoreFunction("none")], bound=bounds.iwae, samples=(2, 1), repeats=40)
    assert found.reference == "the mean of 160 draws of VIMCO() and the exact sum over 256 codes"
    many = compare(model, batch, [VIMCO()], bound=bounds.miwae(2), samples=(1, 2, 4), repeats=40)
    assert [each.samples for each in many.estimates] == [2, 4]
    with torch.no_grad():
        assert compare(model, batch, [ScoreFunction()], samples=2, repeats=40).estimates[0].samples == 2


def test_latents_that_are_discrete_in_part_are_measured_against_the_score() -> None:
    posterior = tb.posteriors.Joint(
        [tb.posteriors.DiagonalNormal(nn.Linear(3, 2)), tb.posteriors.Bernoulli(nn.Linear(3, 2))]
    )
    prior = tb.priors.Joint([tb.priors.StandardNormal(1), tb.priors.Bernoulli(2)])
    model = tb.VAE(prior, posterior, tb.likelihoods.Gaussian(nn.Linear(3, 3)))
    found = compare(model, torch.zeros(4, 3), [ScoreFunction()], samples=(2,), repeats=40)
    assert found.reference == "the mean of 160 draws of VIMCO()"
    assert not found.estimates[0].is_biased


def test_paths_are_measured_against_the_closed_form_that_is_given_and_against_draws() -> None:
    problem = linear_gaussian(orthogonal=True)
    model, batch = problem.model(problem.wrong_posterior()), Batch(problem.evidence.sample((3,)))
    estimators = {"plain": Pathwise(), "landing": StickingTheLanding(), "score": ScoreFunction("none")}
    # E log p(x|z) of the linear-Gaussian model in closed form: at the mean, less the trace of Wᵀ W Σ / 2σ².
    q = model.posterior(batch.x)
    spread = (problem.weight.square().sum(0) * q.variance).sum(-1) / (2 * problem.sigma**2)
    value = model.likelihood(q.mean).log_prob(batch.x) - spread - model.rate(batch)
    exact = torch.autograd.grad(value.mean(), list(model.posterior.parameters()))
    for given in (exact, None):
        found = compare(model, batch, estimators, samples=(1, 4), repeats=100, exact=given)
        assert not any(each.is_biased for each in found.estimates)
        noise = {each.gradient: each.variance for each in found.estimates if each.samples == 4}
        assert noise["landing"] < noise["plain"] < noise["score"]
    assert found.reference == "the mean of 400 draws of DoublyReparameterised()"
    length = float(torch.cat([g.reshape(-1) for g in exact]).norm())
    assert found.length[1] == pytest.approx(length, rel=0.05)


def test_sticking_the_landing_is_seen_to_be_biased_for_bounds_of_many_draws() -> None:
    problem = linear_gaussian(orthogonal=True)
    model, batch = problem.model(problem.wrong_posterior()), Batch(problem.evidence.sample((3,)))
    both = {"landing": StickingTheLanding(), "double": DoublyReparameterised()}
    found = compare(model, batch, both, samples=(20,), repeats=60, bound=bounds.iwae)
    assert {each.gradient: each.is_biased for each in found.estimates} == {"landing": True, "double": False}


def test_objectives_can_be_compared_too() -> None:
    model, batch = codes()
    closed = ELBO(kl="closed-form", gradient=GumbelSoftmax(0.1))
    found = compare(model, batch, [closed, GumbelSoftmax(0.1)], samples=(4,), repeats=200)
    name = "ELBO(kl='closed-form', gradient=GumbelSoftmax(temperature=0.1))"
    assert [each.gradient for each in found.estimates] == [name, "GumbelSoftmax(temperature=0.1)"]
    assert found.estimates[0].bias_bound < found.estimates[1].bias  # the rate of soft codes is another rate
    assert brief(Bound(bounds.iwae, 7, VIMCO())) == "Bound(bound=iwae, gradient=VIMCO())"


def test_the_rate_of_soft_codes_is_one_of_their_noise_whatever_the_temperature() -> None:
    for kind in ("bits", "classes"):
        model, batch = codes(kind)
        rates = []
        for temperature in (0.1, 3.0):
            torch.manual_seed(2)
            made = model.relax(batch, 500, temperature)
            rates.append(made.log_qz_x - made.log_pz)
        torch.testing.assert_close(*rates)
        assert (rates[0].mean(0) > model.rate(batch)).all()


def test_nothing_of_the_caller_is_disturbed() -> None:
    model, batch = codes()
    model.train()
    before = torch.get_rng_state()
    one = compare(model, batch, [ScoreFunction()], samples=(2,), repeats=40)
    assert torch.get_rng_state().equal(before)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    torch.manual_seed(99)
    again = compare(model, batch, [ScoreFunction()], samples=(2,), repeats=40)
    assert again.estimates[0].variance == one.estimates[0].variance
    other = compare(model, batch, [ScoreFunction()], samples=(2,), repeats=40, seed=1)
    assert other.estimates[0].variance != one.estimates[0].variance


def test_numbers_and_words() -> None:
    quiet = EstimatorStatistics("quiet", 1, 1e-8, 1e-6, variance=2.0, variance_se=0.1, seconds=0.003)
    off = EstimatorStatistics("off", 10, 0.25, 0.01, variance=0.2, variance_se=0.01, seconds=0.004)
    found = Comparison((quiet, off), "the exact sum", {1: 1.5, 10: 1.5}, parameters=8, repeats=100)
    assert str(found).splitlines() == [
        "Gradients: 8 parameters, 100 repeats, bias against the exact sum",
        "The gradient itself is 1.5 long.",
        "          K              |bias|              variance        ms  variance × s",
        "quiet     1        below 0.0014               2 ± 0.1      3.00         0.006",
        "off      10          0.5 ± 0.01            0.2 ± 0.01      4.00        0.0008",
    ]
    lengths = Comparison((quiet, off), "the exact sum", {1: 1.5, 10: 2.5}, parameters=8, repeats=100)
    assert "The gradient itself is 1.5 at K = 1, 2.5 at K = 10 long." in str(lengths)
    numbers = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert numbers["estimates"][1]["bias"] == 0.5
    assert numbers["estimates"][1]["price"] == pytest.approx(0.0008)
    assert not numbers["estimates"][0]["is_biased"]


def test_the_figure_shows_what_is_biased_and_what_a_second_buys() -> None:
    rows = [
        EstimatorStatistics("quiet", k, 1e-8, 1e-6, variance=2.0 / k, variance_se=0.1, seconds=0.003 * k**0.5)
        for k in (1, 4)
    ]
    rows += [EstimatorStatistics("off", 1, 0.25, 0.01, variance=0.2, variance_se=0.01, seconds=0.4)]
    rows += [EstimatorStatistics("exact", 1, 0.0, 0.0, variance=0.0, variance_se=0.0, seconds=1.0)]
    figure = plots.gradient_comparison(Comparison(tuple(rows), "the exact sum", {1: 1.5, 4: 1.5}, 8, 100))
    told = plots.alt_text(figure)
    assert told.endswith("Least noise for a second, of those without bias: exact with 1 sample.")
    noise, bias, _ = figure.axes
    assert [line.get_ydata().tolist() for line in noise.lines[:3]] == [[2.0, 0.5], [0.2], []]
    marked = [
        (line.get_markerfacecolor(), [*line.get_ydata()]) for line in bias.lines if line.get_linestyle() == "None"
    ]
    hollow = [heights for face, heights in marked if face == "white" and heights]
    assert hollow == [pytest.approx([rows[0].bias_bound] * 2)]
    assert [heights for face, heights in marked if face != "white" and heights] == [[0.5]]
    with pytest.raises(ValueError, match="Expected a comparison of at least one gradient; got one of none"):
        plots.gradient_comparison(Comparison((), "the exact sum", {}, 8, 100))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"estimators": []}, TypeError, "Expected gradients or objectives of draws, by name or in a list; got"),
        ({"estimators": ["pathwise"]}, TypeError, "Expected gradients or objectives of draws"),
        ({"estimators": ScoreFunction()}, TypeError, "Expected gradients or objectives of draws"),
        ({"estimators": [ELBO]}, TypeError, "Expected gradients or objectives of draws"),
        ({"estimators": [VIMCO(), VIMCO()]}, ValueError, r"Expected estimators that differ; got \['VIMCO\(\)', 'VIM"),
        ({"of": nn.ReLU()}, ValueError, "Expected a part with parameters that are learned; got ReLU without any"),
        ({"samples": ()}, ValueError, "Expected numbers of samples, each at least 1; got"),
        ({"samples": (1, 0)}, ValueError, "Expected numbers of samples, each at least 1; got"),
        ({"repeats": 39}, ValueError, "Expected at least 40 repeats, for bias and variance to have errors; got 39"),
        ({"exact": [torch.zeros(3)]}, ValueError, r"Expected exact of shapes \[\(8, 12\), \(8,\)\].*; got \[\(3,\)\]"),
    ],
)
def test_refuses(changes: dict, error: type[Exception], message: str) -> None:
    model, batch = codes()
    with pytest.raises(error, match=message):
        compare(model, batch, **{"estimators": [VIMCO()], "samples": (2,), "repeats": 40, **changes})
