"""What is wrong is named first, and the remedy is the one that works."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from training import QUIET, data, model

import tightbound as tb
from tightbound.evaluate import evidence
from tightbound.evaluate.estimates import Estimate, row
from tightbound.evaluate.verdict import on_code
from tightbound.runs.measured import measure, remark_on
from tightbound.runs.recipe import Recipe
from tightbound.training import fit
from tightbound.training.failure import runaway


def vae(likelihood: nn.Module, elements: int = 8) -> tb.VAE:
    posterior = tb.posteriors.DiagonalNormal(nn.Linear(elements, 4))
    return tb.VAE(tb.priors.StandardNormal(2), posterior, likelihood)


def bits(count: int = 60, elements: int = 8) -> Tensor:
    return (torch.rand(count, elements) < 0.2).float()


class Squashed(nn.Module):
    def __init__(self, last: nn.Linear) -> None:
        super().__init__()
        self.last = last

    def forward(self, z: Tensor) -> Tensor:
        return torch.sigmoid(self.last(z))


def clamped() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 8), nn.Hardtanh(0.0, 1.0))


@pytest.mark.parametrize(
    "decoder",
    [lambda: nn.Sequential(nn.Linear(2, 8), nn.Sigmoid()), lambda: Squashed(nn.Linear(2, 8)), clamped],
    ids=["module", "function", "clamp"],
)
def test_a_sigmoid_before_logits_is_noticed_by_fit_and_by_the_verdict(decoder) -> None:
    made = vae(tb.likelihoods.Bernoulli(decoder()))
    with pytest.warns(UserWarning, match=r"seems to end in a Sigmoid, as all its logits lie in \[0, 1\].* Leave the"):
        fit(made, bits(), epochs=1, **QUIET)
    found = evidence(made, bits(), samples=5)
    assert found.squashed
    assert found.verdict.startswith("The decoder seems to end in a Sigmoid")


def zeros() -> nn.Linear:
    layer = nn.Linear(2, 8)
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, 0.3)
    return layer


@pytest.mark.parametrize(
    "likelihood",
    [
        lambda: tb.likelihoods.Bernoulli(nn.Linear(2, 8)),
        lambda: tb.likelihoods.Bernoulli(nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8))),
        lambda: tb.likelihoods.Bernoulli(zeros()),
        lambda: tb.likelihoods.Gaussian(nn.Sequential(nn.Linear(2, 8), nn.Sigmoid())),
    ],
    ids=["linear", "tanh inside", "constant", "Gaussian"],
)
def test_other_decoders_are_left_in_peace(likelihood) -> None:
    made = vae(likelihood())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(made, bits(), epochs=1, **QUIET)
    assert not evidence(made, bits(), samples=5).squashed


def test_a_collapse_under_a_fixed_scale_names_the_scale_first() -> None:
    off = torch.tensor([False, False])
    fixed, learned = on_code(off, 0.01, 9, scale=5.0), on_code(off, 0.01, 9)
    assert fixed.index("σ is fixed at 5") < fixed.index("warm β up")
    assert "--model.scale learned" in fixed
    assert "σ" not in learned
    assert "Try to warm β up" in learned


@pytest.mark.parametrize(("scale", "expected"), [(5, 5.0), (0.5, 0.5), ("learned", None), ("per-element", None)])
def test_an_evaluation_knows_a_fixed_scale(scale, expected) -> None:
    network = nn.Sequential(nn.Linear(2, 16), nn.Unflatten(-1, (2, 8))) if scale == "per-element" else nn.Linear(2, 8)
    made = vae(tb.likelihoods.Gaussian(network, scale=scale))
    assert evidence(made, torch.randn(20, 8), samples=5).fixed_scale == expected


def refused(likelihood: nn.Module, x: Any) -> str:
    with pytest.raises(ValueError, match=r"^Expected values in the support of ") as error:
        fit(vae(likelihood), x, epochs=1, **QUIET)
    return str(error.value)


def bernoulli() -> nn.Module:
    return tb.likelihoods.Bernoulli(nn.Linear(2, 8))


@pytest.mark.parametrize("make", [Tensor.numpy, torch.clone], ids=["NumPy", "torch"])
@pytest.mark.parametrize(
    ("low", "high", "words", "remedy"),
    [
        (0, 255, "Divide by 255, .*binarise them as well", r"tb\.data\.load\(x / 255\)\.binarised\(\)"),
        (0, 128, "Divide by 255, .*binarise them as well", r"tb\.data\.load\(x / 255\)\.binarised\(\)"),
        (0, 127, "Binarise levels of grey up to 127", r"tb\.data\.load\(x / 127\)\.binarised\(\)"),
        (0, 16, "Binarise levels of grey up to 16 .*Poisson for counts", r"tb\.data\.load\(x / 16\)\.binarised\(\)"),
        (0, 2, "Binarise levels of grey up to 2 .*Categorical for", r"tb\.data\.load\(x / 2\)\.binarised\(\)"),
        (1, 2, "two values alone, write them as 0 and 1", r"\(x == 2\) \* 1\.0"),
        (-1, 1, "pixels that lie between −1 and 1", r"tb\.data\.load\(\(x \+ 1\) / 2\)\.binarised\(\)"),
    ],
)
def test_the_remedy_for_values_that_are_no_bits_works(make, low: int, high: int, words: str, remedy: str) -> None:
    x = make(torch.randint(low, high + 1, (30, 8)).float())
    x[0, 0], x[0, 1] = high, low
    said = refused(bernoulli(), x)
    assert re.search(words, said)
    assert ("Divide by 255" in said) is (high >= 128)
    found = re.search(remedy, said)
    assert found is not None
    fit(vae(bernoulli()), eval(found[0], {"tb": tb, "x": x}), epochs=1, **QUIET)


def test_real_numbers_between_minus_one_and_one_are_told_alike() -> None:
    x = torch.rand(30, 8) * 2 - 1
    assert "Take (x + 1) / 2 of pixels" in refused(bernoulli(), x)
    said = refused(tb.likelihoods.ContinuousBernoulli(nn.Linear(2, 8)), x)
    assert said.endswith("Take (x + 1) / 2 of pixels that lie between −1 and 1, or Gaussian.")
    fit(vae(tb.likelihoods.ContinuousBernoulli(nn.Linear(2, 8))), (x + 1) / 2, epochs=1, **QUIET)


def test_counts_in_eight_bits_are_told_to_be_stored_as_whole_numbers() -> None:
    x = np.random.default_rng(0).integers(0, 256, (30, 8)).astype(np.uint8)
    likelihood = tb.likelihoods.NegativeBinomial(nn.Sequential(nn.Linear(2, 16), nn.Unflatten(1, (2, 8))))
    said = refused(likelihood, x)
    assert said.endswith("store counts as int64, torch.as_tensor(x).long().")
    fit(vae(likelihood), torch.as_tensor(x).long(), epochs=1, **QUIET)
    assert "8-bit" not in refused(likelihood, torch.rand(30, 8))


def test_grey_levels_are_told_to_be_divided_or_stored_in_eight_bits() -> None:
    likelihood = tb.likelihoods.DiscretizedLogistic(nn.Linear(2, 8))
    x = np.random.default_rng(0).integers(0, 256, (30, 8)).astype(np.float32)
    assert "x / 255 where there are 256 levels, or store 8-bit pixels as uint8" in refused(likelihood, x)
    for right in (x / 255, x.astype(np.uint8)):
        fit(vae(likelihood), right, epochs=1, **QUIET)
    assert "ContinuousBernoulli between 0 and 1, and Gaussian elsewhere" in refused(likelihood, x + 0.5)
    few = tb.likelihoods.DiscretizedLogistic(nn.Linear(2, 8), levels=17)
    assert refused(few, x % 17).endswith("x / 16 where there are 17 levels.")
    fit(vae(few), x % 17 / 16, epochs=1, **QUIET)


@pytest.mark.parametrize("x", [torch.rand(30, 8) * 255, torch.full((30, 8), 256.0)], ids=["not whole", "larger"])
def test_other_values_are_not(x: Tensor) -> None:
    with pytest.raises(ValueError, match="Divide by the largest value"):
        fit(vae(tb.likelihoods.Bernoulli(nn.Linear(2, 8))), x, epochs=1, **QUIET)


@pytest.mark.parametrize(
    ("loss", "told"), [(5e6, False), (5.1e6, True), (7e28, True), (-9e9, False), (float("inf"), False)]
)
def test_a_loss_beyond_sense_is_told(loss: float, told: bool) -> None:
    assert ("run away. Standardise the data" in runaway(loss, 5)) is told


def test_fit_returns_no_such_loss_without_a_remark(capsys: pytest.CaptureFixture[str]) -> None:
    far = tb.likelihoods.Gaussian(nn.Linear(2, 3), scale=0.5, centre=torch.full((3,), 1e6))
    ended = fit(vae(far, 3), data(), epochs=0.25, **QUIET)
    assert ended.remark.startswith(f"The best loss is {ended.loss:.2g} nats an observation")
    assert capsys.readouterr().err == f"{ended.remark}\n"
    assert fit(model(), data(), epochs=1, **QUIET).remark == ""


@pytest.mark.parametrize(
    ("steps", "warmup", "words"),
    [
        (11, 0, ("hardly trained: it has made 11 steps",)),
        (99, 0, ("hardly trained",)),
        (100, 0, ()),
        (150, 150, ("warms up over 150 steps",)),
        (150, 149, ()),
        (69, 200, ("hardly trained", "warms up over 200 steps")),
    ],
)
def test_a_model_that_is_hardly_trained_is_told_of_first(steps: int, warmup: int, words: tuple[str, ...]) -> None:
    remark = remark_on(Recipe().updated({"objective.warmup_steps": warmup}), steps)
    assert bool(remark) is bool(words)
    assert all(word in remark for word in words)
    found = measure(model(), tb.data.observations(data(20)), samples=5, remark=remark).evidence
    assert found.verdict.startswith(remark)
    assert found.to_json()["remark"] == remark


@pytest.mark.parametrize("value", [1.0, 143139679283.25, 1e30])
@pytest.mark.parametrize("error", [0.1, 4.5e10, 1e28, float("nan")])
@pytest.mark.parametrize("name", ["ELBO", "a name of 18 chars"])
def test_wide_numbers_keep_their_distance(value: float, error: float, name: str) -> None:
    number, said = str(Estimate(value, error)).split(" ± ")
    assert row(name, Estimate(value, error), "nats").split() == [*name.split(), number, "±", *said.split(), "nats"]


@pytest.mark.parametrize("part", ["prior", "likelihood"])
@pytest.mark.parametrize("mean", [True, False])
@pytest.mark.parametrize(
    "likelihood",
    [tb.likelihoods.Gaussian, tb.likelihoods.Bernoulli, tb.likelihoods.Poisson, tb.likelihoods.ContinuousBernoulli],
    ids=lambda kind: kind.__name__,
)
def test_samples_of_weights_that_are_not_finite_are_refused_in_a_sentence(part: str, mean: bool, likelihood) -> None:
    posterior = tb.posteriors.DiagonalNormal(nn.Linear(8, 4))
    made = tb.VAE(tb.priors.MixtureOfNormals(2, components=3), posterior, likelihood(nn.Linear(2, 8)))
    with torch.no_grad():
        for p in getattr(made, part).parameters():
            p.fill_(float("nan"))
    with pytest.raises(
        ValueError, match=r"^Expected finite weights; got NaN or infinity in .*The training has diverged"
    ):
        made.sample(3, mean=mean)
