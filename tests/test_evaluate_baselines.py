"""Simple models that a model must beat: each against a formula of its own."""

from __future__ import annotations

import dataclasses
import io
import math
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, Poisson

import tightbound as tb
from tightbound.data import Observations
from tightbound.evaluate import Estimate, baselines
from tightbound.evaluate.verdict import on_baselines
from tightbound.runs.measured import measure


def vae(likelihood: type, shape: tuple[int, ...], latent: int = 2, outputs: int = 1, **given: object) -> tb.VAE:
    out = shape if outputs == 1 else (outputs, *shape)
    return tb.VAE(
        prior=tb.priors.StandardNormal(latent),
        posterior=tb.posteriors.DiagonalNormal(tb.networks.MLP(shape, (2 * latent,), hidden=(4,))),
        likelihood=likelihood(tb.networks.MLP((latent,), out, hidden=(4,)), **given),
    )


def correlated(count: int, unit: float = 1.0, offset: float = 0.0) -> Tensor:
    made = torch.Generator().manual_seed(5)
    z, noise = (torch.randn(count, d, generator=made, dtype=torch.float64) for d in (2, 5))
    mixing = torch.tensor([[1.0, -2, 0.5, 0, 1], [0.3, 1, 1, -1, 0]], dtype=torch.float64)
    return (z @ mixing + 0.4 * noise) * unit + offset


TRAIN, TEST = correlated(3000)[:2500], correlated(3000)[2500:]


@pytest.mark.parametrize("scale", ["learned", "per-element", 0.7])
def test_independent_numbers_are_those_of_their_means_and_deviations(scale: object) -> None:
    outputs = 2 if scale == "per-element" else 1
    model = vae(tb.likelihoods.Gaussian, (5,), outputs=outputs, scale=scale).double()
    mean, spread = TRAIN.mean(0), {"learned": TRAIN.var(0, unbiased=False).mean().sqrt(), 0.7: torch.tensor(0.7)}
    each = Normal(mean, TRAIN.std(0, unbiased=False) if outputs == 2 else spread[scale])  # type: ignore[index]
    found = baselines(model, TRAIN, TEST)
    expected = each.log_prob(TEST).sum(1)
    torch.testing.assert_close(found.per_observation["independent"], expected, rtol=1e-3, atol=1e-3)
    assert math.isclose(found.independent.value, -expected.mean(), abs_tol=1e-3)


def test_independent_counts_are_those_of_their_means() -> None:
    made = torch.Generator().manual_seed(0)
    x = torch.poisson(torch.tensor([0.5, 4.0, 90.0]).expand(900, 3), generator=made)
    found = baselines(vae(tb.likelihoods.Poisson, (3,)), x[:800], x[800:])
    expected = Poisson(x[:800].mean(0)).log_prob(x[800:]).sum(1).double()
    torch.testing.assert_close(found.per_observation["independent"], expected, rtol=1e-3, atol=1e-3)
    assert (found.ppca, found.png) == (None, None)


def test_independent_levels_beat_none_that_a_single_output_can_say() -> None:
    """Fitted to what it is tested on, it is no worse than any other output."""
    x = torch.randint(0, 16, (400, 4)) / 15
    model = vae(tb.likelihoods.DiscretizedLogistic, (4,), levels=16)
    best = baselines(model, x, x).independent.value
    for _ in range(20):
        assert best <= -model.likelihood.log_prob(x, torch.randn(1, 2).expand(400, 2)).mean().item() + 1e-4


@pytest.mark.parametrize("unit", [1.0, 1e-20])
@pytest.mark.parametrize("latent", [1, 2, 4, 9])
def test_ppca_is_the_maximum_of_its_likelihood(latent: int, unit: float) -> None:
    train, test = TRAIN * unit + unit, TEST * unit + unit
    model = vae(tb.likelihoods.Gaussian, (5,), latent, centre=train.mean(0), unit=train.std(0)).double()
    found = baselines(model, train, test)
    u, rest = (TRAIN - TRAIN.mean(0)) / TRAIN.std(0), min(latent, 4)
    covariance = u.mT @ u / len(u)
    values, vectors = np.linalg.eigh(covariance.numpy())
    noise = values[: 5 - rest].mean()
    w = vectors[:, 5 - rest :] * np.sqrt(np.maximum(values[5 - rest :] - noise, 0))
    p = MultivariateNormal(torch.zeros(5).double(), torch.tensor(w @ w.T + noise * np.eye(5)))
    expected = p.log_prob((TEST - TRAIN.mean(0)) / TRAIN.std(0)) - TRAIN.std(0).log().sum() - 5 * math.log(unit)
    torch.testing.assert_close(found.per_observation["ppca"], expected, rtol=1e-4, atol=1e-4)
    assert found.ppca is not None
    assert math.isclose(found.ppca.value, -expected.mean(), rel_tol=1e-4)


def test_a_constant_element_counts_nothing() -> None:
    wide = torch.cat([TRAIN, torch.full((len(TRAIN), 1), 7.0)], 1)
    unit = wide.std(0, unbiased=False)
    model = vae(tb.likelihoods.Gaussian, (6,), centre=wide.mean(0), unit=unit).double()
    narrow = vae(tb.likelihoods.Gaussian, (5,), centre=wide.mean(0)[:5], unit=unit[:5]).double()
    ours, theirs = baselines(model, wide, wide), baselines(narrow, TRAIN, TRAIN)
    assert ours.ppca is not None
    assert theirs.ppca is not None
    assert math.isclose(ours.ppca.value, theirs.ppca.value, rel_tol=1e-9)
    same = torch.full((9, 2), 7.0)
    constant = vae(tb.likelihoods.Gaussian, (2,), centre=7.0, unit=torch.zeros(2))
    assert baselines(constant, same, same).ppca is None


@pytest.mark.parametrize("channels", [1, 3])
def test_png_counts_compressed_pixels_alone(channels: int) -> None:
    made = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (5, channels, 12, 9), generator=made, dtype=torch.uint8)
    data = Observations(pixels, scale=255)
    found = baselines(vae(tb.likelihoods.DiscretizedLogistic, tuple(data.shape), levels=256), data, data).png
    assert found is not None
    noise = pixels[0].numel() * math.log(256)  # which nothing compresses
    assert noise < found.value < 1.1 * noise + 200
    flat = Observations(torch.zeros_like(pixels), scale=255)
    assert baselines(vae(tb.likelihoods.DiscretizedLogistic, tuple(data.shape), levels=256), flat, flat).png.value < 400
    file = io.BytesIO()
    array = pixels[0, 0].numpy() if channels == 1 else pixels[0].permute(1, 2, 0).numpy()
    Image.fromarray(array).save(file, "PNG", optimize=True)
    whole = file.getvalue()
    at = whole.index(b"IDAT")
    assert zlib.decompress(whole[at + 4 : at + 4 + int.from_bytes(whole[at - 4 : at], "big")])
    assert found.value < 8 * math.log(2) * len(whole)


def test_png_is_not_beside_a_density_whose_nats_are_of_another_unit() -> None:
    data = Observations(torch.zeros(5, 1, 12, 9, dtype=torch.uint8), scale=255)
    for likelihood in (
        tb.likelihoods.Gaussian,
        tb.likelihoods.ContinuousBernoulli,
        tb.likelihoods.UnnormalisedBernoulli,
    ):
        assert baselines(vae(likelihood, tuple(data.shape)), data, data).png is None


def test_models_without_such_a_likelihood_are_refused() -> None:
    with pytest.raises(TypeError, match=r"Expected a VAE with one of tb\.likelihoods, .*; got Linear"):
        baselines(nn.Linear(2, 2), TRAIN, TEST)  # type: ignore[arg-type]


# In words


@pytest.mark.parametrize(
    ("saved", "words"),
    [
        ({}, ""),
        ({"independent": Estimate(4.0, 0.1)}, "log p(x) is 4.00 ± 0.10 nats higher than the same"),
        ({"independent": Estimate(0.1, 0.1)}, "no better than its own likelihood without a latent does (0.10 ± 0.10"),
        ({"independent": Estimate(-3.0, 0.1)}, "no better than its own likelihood"),
        ({"independent": Estimate(4.0, 0.1), "ppca": Estimate(-0.3, 0.1)}, "explains the data better, by 0.30 ±"),
        ({"independent": Estimate(4.0, 0.1), "ppca": Estimate(-0.1, 0.1)}, "log p(x) is 4.00"),
        ({"independent": Estimate(4.0, 0.1), "png": Estimate(-0.3, 0.1)}, "PNG files the images take 0.30 ± 0.10 nats"),
        ({"independent": Estimate(4.0, 0.1), "png": Estimate(-0.1, 0.1)}, "reaches without a latent."),
    ],
)  # fmt: skip
def test_the_verdict_says_whether_a_model_beats_them(saved: dict[str, Estimate], words: str) -> None:
    assert words in on_baselines(saved)
    assert bool(words) == bool(on_baselines(saved))
    assert ("PNG" in on_baselines(saved)) == ("PNG" in words)


def test_an_evaluation_with_its_training_set_has_them_by_pairs() -> None:
    torch.manual_seed(0)
    model = vae(tb.likelihoods.Gaussian, (5,), centre=TRAIN.mean(0), unit=TRAIN.std(0)).double()
    test = Observations(TEST[:60])
    found = measure(model, test, train=Observations(TRAIN), samples=20).evidence
    assert found.baselines is not None
    assert "no better than its own likelihood without a latent" in found.verdict
    assert "NLL, independent" in found.table
    assert "NLL, PPCA" in found.table
    assert found.to_json()["baselines"]["independent"] == found.baselines.independent.value
    plain = dataclasses.replace(found, baselines=None)
    assert plain.to_json()["baselines"] is None
    assert "independent" not in plain.table
    assert measure(model, test, samples=20).evidence.baselines is None
