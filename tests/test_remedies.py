"""What is wrong is named first, and the remedy is the one that works."""

from __future__ import annotations

import warnings

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


@pytest.mark.parametrize("top", [255, 254, 17, 2])
def test_eight_bits_under_bernoulli_are_told_to_divide_by_255(top: int) -> None:
    x = torch.randint(0, top + 1, (30, 8)).float()
    x[0, 0] = top
    with pytest.raises(ValueError, match=r"Divide by 255, .*binarise them as well"):
        fit(vae(tb.likelihoods.Bernoulli(nn.Linear(2, 8))), x, epochs=1, **QUIET)


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
