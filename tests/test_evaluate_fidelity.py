"""Samples told from data, or not: models that are right, that lose a mode, that make noise, and data of every kind."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import pytest
import torch
from oracle import linear_gaussian
from test_contract import TwoLayers
from torch import Tensor, nn

import tightbound as tb
from tightbound.data.observations import Observations
from tightbound.evaluate import Fidelity, features, fidelity
from tightbound.evaluate.estimates import Estimate

TRUE = linear_gaussian()


def data(count: int, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return TRUE.evidence.sample((count,))


class Made(nn.Module):
    """A decoder whose x is a function of z."""

    def __init__(self, make: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.make, self.kept = make, nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        return self.make(z) + self.kept


def making(make: Callable[[Tensor], Tensor], width: int, *, scale: float = 0.1) -> tb.VAE:
    return tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(nn.Sequential(nn.Flatten(), nn.Linear(width, 4))),
        tb.likelihoods.Gaussian(Made(make), scale=scale),
    )


def of(samples: Tensor, reference: Tensor, held_out: Tensor) -> Fidelity:
    one = torch.zeros(1, 1)
    return Fidelity(
        samples=samples.double(), reference=reference.double(), held_out=held_out.double(), features="values",
        best=one, worst=one, nearest=one, missed=one, seed=0,
    )  # fmt: skip


def told(**differences: tuple[float, float]) -> Fidelity:
    """Of these differences with these errors; of all others none."""
    found = of(*torch.randn(3, 20, 1))
    names = ("precision", "density", "recall", "coverage", "frechet")
    every = {name: Estimate(*differences.get(name, (0.0, 0.01))) for name in names}
    ours = {name: Estimate(0.9 + each.value, 0.01) for name, each in every.items()}
    found.__dict__["_measured"] = (ours, dict.fromkeys(names, Estimate(0.9, 0.01)), every)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_a_model_that_is_right_is_not_told_from_data(seed: int) -> None:
    model = TRUE.model(TRUE.wrong_posterior())
    found = fidelity(model, data(2000, seed), data(400, seed + 10), observations=400, seed=seed)
    assert found.fine
    assert found.verdict.startswith("Samples are not told from held-out observations: no sign of lacking quality or")
    assert len(found.samples) == len(found.reference) == len(found.held_out) == 400
    for name, each in found.difference.items():
        assert each.value == pytest.approx(0, abs=4 * each.se), name


def test_noise_is_a_lack_of_quality() -> None:
    noisy = dataclasses.replace(TRUE, sigma=4 * TRUE.sigma)
    found = fidelity(noisy.model(noisy.wrong_posterior()), data(2000, 0), data(400, 1), observations=400)
    assert not found.fine
    assert found.verdict.startswith("Quality: some samples look like nothing in the data (precision 0.")
    assert found.of_samples["precision"].value < 0.7 < 0.9 < found.of_reference["precision"].value
    assert "Fréchet distance" in found.verdict


def test_a_missing_mode_is_a_lack_of_variety() -> None:
    """Data of two clusters, a model of one of them: half of the data are never sampled, and no sample is odd."""

    def two(count: int) -> Tensor:
        return 10 * (torch.randint(2, (count, 1)) * 2 - 1) + torch.randn(count, 2)

    torch.manual_seed(0)
    found = fidelity(making(lambda z: 10 + z, 2), two(1000), two(400), observations=400)
    assert found.of_samples["precision"].value > 0.95
    assert found.of_samples["recall"].value == pytest.approx(0.5, abs=0.08)
    assert found.of_samples["coverage"].value == pytest.approx(0.5, abs=0.08)
    assert not found.fine
    assert "Variety: parts of the data are rarely or never sampled (recall 0." in found.verdict
    assert "Quality" not in found.verdict
    assert (found.missed < -5).all()


def test_the_worst_samples_lie_farthest_out_and_beside_their_nearest_observations() -> None:
    torch.manual_seed(0)
    held_out = torch.randn(200, 2)
    found = fidelity(making(lambda z: 3 * z, 2), torch.randn(4000, 2), held_out)
    outside = found.samples.norm(dim=1)
    assert found.worst.norm(dim=1).min() > outside.median() > found.best.norm(dim=1).max()
    away = torch.cdist(found.worst, held_out)
    torch.testing.assert_close((found.worst - found.nearest).norm(dim=1), away.amin(1), rtol=0.02, atol=0.0)


@pytest.mark.parametrize(
    ("name", "side", "words"),
    [
        ("precision", -1, "Quality: some samples look like nothing in the data (precision 0."),
        ("density", -1, "Quality: some samples look like nothing in the data (density 0."),
        ("recall", -1, "Variety: parts of the data are rarely or never sampled (recall 0."),
        ("coverage", -1, "Variety: parts of the data are rarely or never sampled (coverage 0."),
        ("density", 1, "Samples crowd where the data are densest (density 0."),
        ("recall", 1, "Samples spread over more than the data do (recall 0."),
        ("frechet", 1, "Mean and covariance of samples are not those of the data (Fréchet distance 0."),
    ],
)
def test_a_difference_counts_beyond_chance_and_beyond_five_percent(name: str, side: int, words: str) -> None:
    assert told().fine
    assert told(**{name: (side * 0.049, 0.001)}).fine  # certain, and small
    assert not told(**{name: (side * 0.051, 0.001)}).fine
    assert told(**{name: (side * 0.299, 0.1)}).fine  # large, and chance
    assert not told(**{name: (side * 0.301, 0.1)}).fine
    assert told(**{name: (side * 0.06, 0.01)}).verdict.startswith(words)


def test_a_frechet_distance_cannot_be_too_small() -> None:
    assert told(frechet=(-0.5, 0.01)).fine


def test_quality_and_variety_are_said_one_after_the_other() -> None:
    found = told(precision=(-0.3, 0.01), density=(-0.2, 0.01), coverage=(-0.4, 0.01))
    assert found.verdict == (
        "Quality: some samples look like nothing in the data (precision 0.600 ± 0.010, of the data themselves 0.900 ± "
        "0.010; density 0.700 ± 0.010, of the data themselves 0.900 ± 0.010). Variety: parts of the data are rarely or "
        "never sampled (coverage 0.500 ± 0.010, of the data themselves 0.900 ± 0.010)."
    )


def images(count: int, labelled: bool = True) -> Observations:
    """Bars that stand or lie, below a bright edge."""
    kinds = torch.randint(2, (count,))
    x = 0.1 * torch.rand(count, 1, 12, 12)
    for image, kind, place in zip(x, kinds, torch.randint(10, (count,)), strict=True):
        image[0, :, place : place + 2] += 0.8
        if kind:
            image[0] = image[0].T.clone()
        image[:, 0] += 1
    return Observations(x, kinds if labelled else None)


def bars(z: Tensor, *, standing: bool) -> Tensor:
    """A bar at a place that z says, which only stands, or stands and lies."""
    place = torch.special.ndtr(z[..., :1, None]) * 10
    across = torch.arange(12.0)
    bar = (((across - place.floor()) >= 0) & ((across - place.floor()) < 2)).float() * 0.8 + 0.05
    upright = bar.expand(*bar.shape[:-2], 12, 12)
    lying = upright.transpose(-1, -2)
    whole = upright if standing else torch.where(z[..., 1:, None] > 0, upright, lying)
    edge = (torch.arange(12) == 0).float()[:, None]
    return (whole + edge).unsqueeze(-3)


@pytest.mark.parametrize("labelled", [True, False])
def test_images_are_seen_by_a_net_that_is_trained_on_labels_or_turns(labelled: bool) -> None:
    torch.manual_seed(0)
    train, test = images(900, labelled), images(300, labelled)
    seen: list[tuple[int, int]] = []
    model = making(lambda z: bars(z, standing=False), 144, scale=0.03)
    found = fidelity(model, train, test, progress=lambda done, total: seen.append((done, total)))
    what = "2 labels apart" if labelled else "which quarter-turn an image was turned by"
    assert found.features == f"64 numbers of a small net, trained here to tell {what}"
    assert found.samples.shape == found.reference.shape == found.held_out.shape == (300, 64)
    assert found.told is not None
    assert found.told.value > 0.95
    assert seen == sorted(seen, key=lambda each: each[0] / each[1])
    assert seen[0] == (1, 300)
    assert seen[-1][0] == seen[-1][1]
    assert found.best.shape == found.worst.shape == found.nearest.shape == found.missed.shape == (12, 1, 12, 12)
    half = fidelity(making(lambda z: bars(z, standing=True), 144, scale=0.03), train, test)
    assert "Variety: parts of the data are rarely or never sampled" in half.verdict
    lying = (half.missed.mean(-1).amax((1, 2)) - half.missed.mean(-2).amax((1, 2))) > 0
    assert lying.double().mean() > 0.9


def test_binarised_images_are_seen_as_the_model_sees_them() -> None:
    torch.manual_seed(0)
    grey = Observations(torch.rand(300, 1, 8, 8), binarise=True)
    model = tb.VAE(
        tb.priors.Bernoulli(3),
        tb.posteriors.Bernoulli(nn.Sequential(nn.Flatten(), nn.Linear(64, 3))),
        tb.likelihoods.Bernoulli(nn.Sequential(nn.Linear(3, 64), nn.Unflatten(-1, (1, 8, 8)))),
    )
    found = fidelity(model, grey, grey.subset(torch.arange(40)), observations=60)
    assert len(found.samples) == 40
    for pictures in (found.best, found.worst, found.nearest, found.missed):
        assert ((pictures == 0) | (pictures == 1)).all()


def test_a_table_is_compared_by_its_values_over_their_deviation() -> None:
    torch.manual_seed(0)
    units = torch.tensor([1e-3, 1.0, 1e6])
    train, test = 5 + torch.randn(4000, 3), 5 + torch.randn(200, 3)
    found = fidelity(making(lambda z: units * (5 + torch.cat([z, z[..., :1]], -1)), 3), units * train, units * test)
    assert found.features == "the values, less the training data's mean, over its deviation"
    assert found.told is None
    assert found.held_out.shape == (200, 3)
    torch.testing.assert_close(found.held_out.std(0), torch.ones(3).double(), rtol=0.2, atol=0)
    assert found.held_out.mean(0).abs().max() < 0.3


def test_a_set_has_no_more_than_are_there() -> None:
    model = TRUE.model(TRUE.wrong_posterior())
    assert len(fidelity(model, data(100, 0), data(90, 1), observations=80).samples) == 50  # half of the training data
    assert len(fidelity(model, data(300, 0), data(90, 1)).samples) == 90
    assert len(fidelity(model, data(300, 0), data(90, 1), observations=8).samples) == 8
    assert len(fidelity(model, data(12, 0), data(6, 1), observations=6).worst) == 3


def test_equal_data_are_not_told_from_equal_samples() -> None:
    same = torch.full((60, 1, 8, 8), 0.3)
    model = making(lambda z: (0 * z).sum(-1)[..., None, None, None] + same[0], 64, scale=1e-30)
    found = fidelity(model, same, same[:30])
    assert found.fine
    assert {name: each.value for name, each in found.of_samples.items()} == {
        "precision": 1, "density": 6, "recall": 1, "coverage": 1, "frechet": 0,
    }  # fmt: skip
    far = making(lambda z: (0 * z).sum(-1)[..., None] + torch.ones(3), 3, scale=1e-30)
    off = fidelity(far, torch.zeros(60, 3), torch.zeros(30, 3))
    assert not off.fine
    assert off.of_samples["precision"].value == 0
    assert off.of_samples["frechet"].value == 3  # of no variance, so as it is


@pytest.mark.parametrize(("from_z", "every"), [(0.0, False), (-9.0, True)])
def test_samples_that_are_no_numbers_are_said_and_counted(from_z: float, every: bool) -> None:
    torch.manual_seed(0)
    model = making(lambda z: torch.where(z > from_z, torch.nan, z), 2)
    found = fidelity(model, torch.randn(300, 2), torch.randn(100, 2))
    assert (found.strange == 100) == every
    assert not found.fine
    assert found.verdict.startswith(f"{found.strange} of 100 samples are not finite numbers. Quality: some samples")
    assert found.of_samples["precision"].value <= 1 - found.strange / 100
    plain = found.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["frechet"] is None
    assert "nan" in found.table
    one = dataclasses.replace(found, samples=torch.cat([found.held_out[:-1], found.held_out[:1] * torch.inf]))
    assert one.of_samples["precision"].value == 0.99
    assert not one.fine


def test_it_repeats_and_leaves_the_random_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "STEPS", 20)
    torch.manual_seed(0)
    train, test = images(100), images(40)
    model = making(lambda z: bars(z, standing=False), 144)
    before = torch.get_rng_state()
    first = fidelity(model, train, test)
    assert torch.equal(before, torch.get_rng_state())
    assert all(each.requires_grad for each in model.parameters())
    torch.manual_seed(1)
    again = fidelity(model, train, test)
    assert torch.equal(first.samples, again.samples)
    assert first.to_json() == again.to_json()
    assert not torch.equal(first.samples, fidelity(model, train, test, seed=1).samples)
    with torch.inference_mode():
        assert torch.equal(first.samples, fidelity(model, train, test).samples)


def test_in_print_and_in_json() -> None:
    found = fidelity(TRUE.model(TRUE.wrong_posterior()), data(500, 0), data(100, 1), observations=80)
    head, by, *rest = str(found).splitlines()
    assert head == "Sample quality: 80 samples, and as many held-out and training observations, seed 0"
    assert by == "  by the values, less the training data's mean, over its deviation"
    assert rest[0].startswith(
        f"  precision          {found.of_samples['precision'].value:.3f} ±".replace("   ", "  ")[:11]
    )
    assert f"data {found.of_reference['precision']}" in rest[0]
    plain = found.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    for name in ("precision", "density", "recall", "coverage", "frechet"):
        assert plain[f"{name}_difference"] == pytest.approx(plain[name] - plain[f"reference_{name}"])
        assert plain[f"{name}_se"] >= 0
    assert (plain["observations"], plain["strange"], plain["told"], plain["told_se"]) == (80, 0, None, None)
    net = dataclasses.replace(found, told=Estimate(0.9, 0.01))
    assert "\n  right for 90.0% of others; no number by any other net can be compared with these\n" in net.table


def test_what_cannot_be_compared_is_refused() -> None:
    model = TRUE.model(TRUE.wrong_posterior())
    with pytest.raises(TypeError, match="Expected a VAE, which can simulate observations with their latents; got Two"):
        fidelity(TwoLayers(), data(50, 0), data(50, 1))
    with pytest.raises(ValueError, match="Expected at least 2 observations, which show an error; got observations=1"):
        fidelity(model, data(50, 0), data(50, 1), observations=1)
    few = (
        "Expected at least 6 observations, as many held-out ones and 12 training ones, to have 5 neighbours each; got "
        "observations={}, {} in array and {} in array. Give more."
    )
    for observations, held_out, train in ((5, 50, 50), (50, 5, 50), (50, 50, 11)):
        with pytest.raises(ValueError, match=few.format(observations, held_out, train)):
            fidelity(model, data(train, 0), data(held_out, 1), observations=observations)
    with pytest.raises(ValueError, match="shape"):
        fidelity(model, torch.zeros(50, 4, dtype=torch.float64), data(50, 1))
    grey = tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(nn.Linear(9, 4)),
        tb.likelihoods.UnnormalisedBernoulli(nn.Linear(2, 9)),
    )
    with pytest.raises(
        ValueError, match="Expected a likelihood that sums or integrates to one, whose draws can be compared with data;"
    ):
        fidelity(grey, torch.rand(50, 9), torch.rand(50, 9))
