"""VAEs under a condition, against the plain VAE of each condition and against exact likelihoods."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from compiled import assert_compiled_is_plain, compiles
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

import tightbound as tb
from tightbound.conditioned import ConditionalVAE
from tightbound.data import Observations
from tightbound.networks import MLP
from tightbound.objectives import ELBO
from tightbound.runs.build import build
from tightbound.runs.recipe import ModelRecipe, Recipe
from tightbound.runs.resolving import conditions_of
from tightbound.semi_supervised import of_one_condition
from tightbound.told import Beside, Planes

X = torch.linspace(-1, 1, 30, dtype=torch.float64).reshape(6, 5)
LABELS = torch.tensor([0, 2, 1, 1, 0, 2])
FACTORS = torch.tensor([[30.0, 1.0], [40.0, 0.0], [50.0, 1.0], [20.0, 1.0], [35.0, 0.0], [45.0, 0.5]])


def conditional(*, classes: int = 3, covariates: int = 0, scale: float = 0.8) -> ConditionalVAE:
    torch.manual_seed(3)
    told = classes + covariates
    model = ConditionalVAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(MLP((5 + told,), (4,), hidden=(7,))),
        tb.likelihoods.Gaussian(nn.Linear(2 + told, 5), scale=scale),
        classes=classes,
        covariates=covariates,
    ).double()
    if covariates:
        model.standardise(FACTORS[:, :covariates])
    return model


def batch_of(model: ConditionalVAE) -> tb.Batch:
    label = LABELS if model.classes else None
    return tb.Batch(X, label=label, factors=FACTORS.double() if model.covariates else None)


@pytest.mark.parametrize(("classes", "covariates"), [(3, 0), (0, 2), (3, 2)])
def test_each_row_is_what_the_plain_model_of_its_condition_says(classes: int, covariates: int) -> None:
    model = conditional(classes=classes, covariates=covariates)
    batch, z = batch_of(model), torch.randn(4, 6, 2, dtype=torch.float64)
    found = (*model.log_joint(batch, z), model.log_posterior(batch, z), model.rate(batch), model.embed(batch))
    for row in range(6):
        plain = model.given(label=int(LABELS[row]) if classes else None, factors=FACTORS[row] if covariates else None)
        one = tb.Batch(X[row : row + 1])
        assert type(plain) is tb.VAE
        here = z[:, row : row + 1]
        torch.testing.assert_close(found[0][:, row], plain.log_joint(one, here)[0][:, 0])
        torch.testing.assert_close(found[1][:, row], plain.log_joint(one, here)[1][:, 0])
        torch.testing.assert_close(found[2][:, row], plain.log_posterior(one, here)[:, 0])
        assert found[3] is not None
        torch.testing.assert_close(found[3][row], plain.rate(one)[0])  # type: ignore[index]
        torch.testing.assert_close(found[4][row], plain.embed(X[row : row + 1])[0])
        torch.testing.assert_close(model.reconstruct(batch)[row], plain.reconstruct(X[row : row + 1])[0])
        torch.testing.assert_close(
            model.decode(here[:, 0], label=None if not classes else LABELS[row : row + 1].expand(4),
                         factors=None if not covariates else FACTORS[row : row + 1].expand(4, -1)).mean,
            plain.decode(here[:, 0]).mean,
        )  # fmt: skip


def test_evidence_is_that_of_the_exact_conditional_density() -> None:
    model = conditional()
    weight, bias = model.likelihood.network.weight.detach(), model.likelihood.network.bias.detach()
    covariance = weight[:, :2] @ weight[:, :2].mT + 0.64 * torch.eye(5, dtype=torch.float64)
    exact = MultivariateNormal(weight[:, 2 + LABELS].mT + bias, covariance).log_prob(X)
    found = tb.evidence(model, Observations(X, LABELS), samples=50, error=0.005)
    assert found.proposal == "refined"
    torch.testing.assert_close(found.per_observation["log_px"].double(), exact, atol=0.025, rtol=0)
    alone = model.log_prob(tb.Batch(X, label=LABELS), samples=4000)
    torch.testing.assert_close(alone, exact, atol=0.1, rtol=0)


def test_the_given_model_shares_its_weights() -> None:
    model = conditional()
    plain = model.given(label=2)
    before = plain.log_prob(X, samples=3)
    with torch.no_grad():
        model.likelihood.network.bias += 1
    assert not torch.equal(plain.log_prob(X, samples=3), before)
    assert not isinstance(model.posterior.network, Beside)
    assert {p.data_ptr() for p in plain.parameters()} == {p.data_ptr() for p in model.parameters()}


def test_analogies_decode_each_code_in_every_class() -> None:
    model = conditional()
    batch = batch_of(model)
    made = model.analogies(batch)
    assert made.shape == (6, 3, 5)
    torch.testing.assert_close(made[torch.arange(6), LABELS], model.reconstruct(batch))
    other = model.decode(model.embed(batch), label=torch.full((6,), 1)).mean
    torch.testing.assert_close(made[:, 1], other)


def test_samples_are_of_the_class_asked_for() -> None:
    model = conditional(scale=0.01)
    torch.manual_seed(0)
    apart = model.sample(6, label=LABELS, mean=True, temperature=0)
    each = torch.stack([model.sample(1, label=int(y), mean=True, temperature=0)[0] for y in LABELS])
    torch.testing.assert_close(apart, each)
    assert not torch.allclose(apart[0], apart[1])
    noisy = model.sample(2000, label=1)
    mean = model.given(label=1).decode(torch.zeros(1, 2)).mean[0]
    assert (noisy.mean(0) - mean).abs().max() < 5 * noisy.std(0).max() / math.sqrt(2000)


def test_covariates_are_seen_in_their_own_unit() -> None:
    model = conditional(classes=0, covariates=2)
    seen = model.condition(factors=FACTORS)
    torch.testing.assert_close(seen.mean(0), torch.zeros(2, dtype=torch.float64))
    torch.testing.assert_close(seen.std(0, unbiased=False), torch.ones(2, dtype=torch.float64))
    model.standardise(torch.ones(4, 2))  # what never varies counts as it is
    assert model.unit.tolist() == [1.0, 1.0]


def test_training_uses_the_condition() -> None:
    torch.manual_seed(0)
    labels = torch.arange(600) % 3
    x = torch.randn(600, 5) * 0.1 + torch.eye(5)[labels] * 3
    model = conditional().float()
    tb.fit(model, Observations(x, labels), epochs=150, batch_size=100, learning_rate=3e-2, progress=False)
    drawn = torch.stack([model.sample(200, label=y, mean=True).mean(0) for y in range(3)])
    assert (drawn - 3 * torch.eye(5)[:3]).abs().max() < 0.3


@compiles
def test_the_compiled_step_is_the_plain_one() -> None:
    model = conditional(covariates=2).float()
    batch = tb.Batch(X.float(), label=LABELS, factors=FACTORS, checked=True)
    assert_compiled_is_plain(model, ELBO(kl="sampled"), batch)


def test_saved_and_read_back(tmp_path: Path) -> None:
    model = conditional(classes=3, covariates=2).eval()
    model.save(tmp_path / "model")
    again = tb.load_model(tmp_path / "model")
    assert isinstance(again, ConditionalVAE)
    torch.testing.assert_close(again.embed(batch_of(model)), model.embed(batch_of(model)), rtol=0, atol=0)
    assert again.unit.equal(model.unit)


def test_planes_are_constant_channels() -> None:
    seen: list[Tensor] = []

    class Look(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x

    image, told = torch.rand(2, 3, 4, 5), torch.rand(2, 6)
    Planes(Look(), (3, 4, 5))(torch.cat([image.flatten(1), told], 1))
    assert seen[0].shape == (2, 9, 4, 5)
    assert seen[0][:, :3].equal(image)
    assert seen[0][:, 3:].equal(told[:, :, None, None].expand(-1, -1, 4, 5))


def test_one_condition_of_observations() -> None:
    model = conditional()
    plain, same = of_one_condition(model, Observations(X, LABELS))
    assert len(same) == 2
    torch.testing.assert_close(plain.embed(same), model.embed(tb.Batch(X, label=LABELS))[LABELS == 0])
    other = conditional(classes=0, covariates=2)
    plain, same = of_one_condition(other, Observations(X, factors=FACTORS))
    assert len(same) == 6
    torch.testing.assert_close(plain.embed(X)[0], other.embed(batch_of(other))[0])


@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize("condition", ["label", "factors"])
def test_recipes_build_conditions(network: str, condition: str) -> None:
    recipe = Recipe().updated(
        {"model.condition": condition, "model.network": network, "model.hidden": [9], "model.channels": 4}
    )
    data = Observations(torch.randn(40, 1, 8, 8), torch.arange(40) % 3, factors=torch.randn(40, 2) * 5 + 70)
    built = build(recipe, data)
    model = built.model
    assert isinstance(model, ConditionalVAE)
    assert (model.classes, model.covariates) == ((3, 0) if condition == "label" else (0, 2))
    table = built.data.train.factor_table()
    assert table is not None
    if condition == "factors":
        torch.testing.assert_close(model.centre, table.mean(0))
    assert model.reconstruct(built.data.test).shape == (4, 1, 8, 8)
    # One network saw all of it: what the encoder gives depends on the condition.
    batch = built.data.test.eval_batch(0, 2)
    torch.nn.init.normal_(model.posterior.network.modules().__next__().parameters().__next__())
    moved = batch._replace(label=(batch.label + 1) % 3, factors=batch.factors + 1)  # type: ignore[operator]
    assert not torch.allclose(model.embed(batch), model.embed(moved))


NO_LABEL = "Expected labels, which are this model's condition; got none. Give label=..."
REFUSED: list[tuple[Any, str]] = [
    (lambda m: m.draw(X), NO_LABEL),
    (lambda m: m.decode(torch.zeros(1, 2)), NO_LABEL),
    (lambda m: m.sample(2), NO_LABEL),
    (lambda m: m.given(), NO_LABEL),
    (lambda m: m.sample(2, label=3), "Expected labels from 0 to 2, this model's classes; got 3 in the condition."),
    (lambda m: m.sample(2, label=-1), "Expected labels from 0 to 2, this model's classes; got -1 in the condition."),
    (lambda m: m.sample(2, label=[0, 1, 2]), "Expected a condition for all, or for each of 2 samples; got 3 of them."),
    (lambda m: tb.evidence(m, X), NO_LABEL),
    (lambda m: tb.evidence(m, Observations(X, LABELS + 1, name="mine")),
     "Expected labels from 0 to 2, this model's classes; got 3 in mine."),
    (lambda m: tb.fit(m, Observations(X, LABELS - 1, name="mine"), progress=False),
     "Expected labels from 0 to 2, this model's classes; got -1 in mine."),
]  # fmt: skip


@pytest.mark.parametrize(("ask", "message"), REFUSED)
def test_classes_that_are_missing_or_out_of_range(ask: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        ask(conditional())


def test_covariates_that_are_missing_or_wrong() -> None:
    model = conditional(classes=0, covariates=2)
    with pytest.raises(ValueError, match=re.escape("Expected factors, which are this model's condition; got none.")):
        model.sample(3)
    with pytest.raises(ValueError, match=re.escape("Expected factors of shape (B, 2); got (3, 1).")):
        model.sample(3, factors=torch.zeros(3, 1))
    with pytest.raises(ValueError, match=re.escape("Expected finite factors, this model's condition; got NaN")):
        model.given(factors=[math.nan, 0])
    with pytest.raises(ValueError, match=re.escape("Expected a model whose condition is a class; got one of covar")):
        model.analogies(batch_of(model))


def test_parts_that_cannot_be_told() -> None:
    normal, gaussian = tb.posteriors.DiagonalNormal(nn.Linear(5, 4)), tb.likelihoods.Gaussian(nn.Linear(2, 5))
    with pytest.raises(ValueError, match=re.escape("Expected at least 2 classes, or covariates, as a condition; got")):
        ConditionalVAE(tb.priors.StandardNormal(2), normal, gaussian)
    with pytest.raises(ValueError, match="classes=1"):
        ConditionalVAE(tb.priors.StandardNormal(2), normal, gaussian, classes=1)
    joint = tb.posteriors.Joint([normal])
    with pytest.raises(TypeError, match=re.escape("Expected a posterior made of one network, which can be told the")):
        ConditionalVAE(tb.priors.StandardNormal(2), joint, gaussian, classes=3)


def test_what_simulates_says_to_take_one_condition() -> None:
    with pytest.raises(TypeError, match=re.escape("Take it under one of them, model.given(label=0), with the data")):
        tb.evaluate.check(conditional(), Observations(X, LABELS), Observations(X, LABELS), observations=4)


def test_recipes_refuse_conditions_that_the_data_lack() -> None:
    with pytest.raises(ValueError, match=re.escape("Expected labels from 0 for model.condition 'label'; got none in")):
        build(Recipe().updated({"model.condition": "label"}), torch.randn(40, 3))
    with pytest.raises(ValueError, match=re.escape("Expected factors for model.condition 'factors'; got none in")):
        build(Recipe().updated({"model.condition": "factors"}), torch.randn(40, 3))
    unknown = tb.load_data(Observations(torch.randn(40, 3), torch.full((40,), -1)))
    with pytest.raises(ValueError, match=re.escape("for model.condition 'label'; got -1")):
        conditions_of(ModelRecipe(condition="label"), unknown)
    with pytest.raises(ValueError, match=re.escape("Expected model.condition 'none' with model.prior 'vamp', whose")):
        Recipe().updated({"model.condition": "label", "model.prior": "vamp"})
