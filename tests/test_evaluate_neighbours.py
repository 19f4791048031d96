"""Nearest training observations, against brute force; models that copy, that do not, and that miss the data."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest
import torch
from oracle import linear_gaussian
from scipy.stats import mannwhitneyu, norm
from test_contract import TwoLayers
from torch import Tensor, nn

import tightbound as tb
from tightbound.data.observations import Observations
from tightbound.evaluate import Neighbours, neighbours

TRUE = linear_gaussian()


class Learned(nn.Module):
    """A decoder that knows training observations by heart, and gives one of them for a share of all codes."""

    def __init__(self, train: Tensor, share: float = 1.0, other: float = 20.0) -> None:
        super().__init__()
        self.register_buffer("known", train)
        self.share, self.other = share, other

    def forward(self, z: Tensor) -> Tensor:
        level = torch.special.ndtr(z[..., 0])
        copied = self.known[(level / self.share * len(self.known)).long().clamp(max=len(self.known) - 1)]
        return torch.where((level < self.share)[..., None], copied, self.other * z[..., 1:2])


def data(count: int, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return TRUE.evidence.sample((count,))


def copying(train: Tensor, share: float = 1.0, *, scale: float = 0.01, other: float = 20.0) -> tb.VAE:
    return tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(nn.Linear(5, 4)),
        tb.likelihoods.Gaussian(Learned(train, share, other), scale=scale),
    ).double()


def test_a_model_that_does_not_copy_is_not_accused() -> None:
    found = neighbours(TRUE.model(TRUE.wrong_posterior()), data(2000, 0), data(400, 1), observations=400)
    assert found.fine
    assert abs(found.z) < 3
    assert found.nearer.value == pytest.approx(0.5, abs=4 * found.nearer.se)
    assert found.very_near.value == pytest.approx(0.01, abs=0.03)
    assert found.verdict.endswith("no sign that the model copies, or makes what is not there.")


def test_a_model_that_copies_is_caught() -> None:
    train = data(500, 0)
    found = neighbours(copying(train), train, data(400, 1), observations=400)
    assert found.z < -15
    assert found.nearer.value > 0.95
    assert not found.fine
    assert "the model copies what it was trained on, or makes too little of what varies in it" in found.verdict
    torch.testing.assert_close(found.means, train[found.nearest[: len(found.means)]])
    torch.testing.assert_close(found.closest, found.means)


def test_copies_among_samples_that_are_too_far_are_caught_too() -> None:
    train = data(500, 0)
    found = neighbours(copying(train, 0.4), train, data(400, 1), observations=400)
    assert found.z > -3
    assert found.very_near.value == pytest.approx(0.4, abs=4 * found.very_near.se + 0.02)
    assert not found.fine
    assert "are nearer than all but 1% of the held-out observations: some may be copies." in found.verdict


def test_a_model_that_makes_noise_is_told_from_one_that_copies() -> None:
    noisy = dataclasses.replace(TRUE, sigma=3 * TRUE.sigma)
    found = neighbours(noisy.model(noisy.wrong_posterior()), data(2000, 0), data(400, 1), observations=400)
    assert found.z > 10
    assert not found.fine
    assert found.verdict.endswith("it makes what is not there, or noise that the data do not have.")


def of(samples: Tensor, held_out: Tensor) -> Neighbours:
    one = torch.zeros(1, 1)
    return Neighbours(
        samples=samples, held_out=held_out, nearest=one[0], examples=one, means=one, closest=one, train=9, seed=0
    )


@pytest.mark.parametrize(
    ("share", "fine"), [(0.5, True), (0.451, True), (0.449, False), (0.549, True), (0.551, False), (0.6, False)]
)
def test_distances_are_called_different_by_the_share_of_pairs(share: float, fine: bool) -> None:
    """Of uniform numbers, one to the power a lies below another in a share of a / (1 + a)."""
    even = torch.linspace(0.001, 1, 5000).double()
    found = of(even ** (share / (1 - share)), even)
    assert found.nearer.value == pytest.approx(share, abs=5e-4)
    assert abs(found.z) > 3 or share == 0.5
    assert found._differs != fine
    few = torch.linspace(0.001, 1, 30).double()
    assert not of(few ** (share / (1 - share)), few)._differs  # too few to tell


@pytest.mark.parametrize(("copies", "fine"), [(20, True), (50, True), (51, False), (100, False)])
def test_copies_are_called_so_from_one_in_twenty_on(copies: int, fine: bool) -> None:
    even = torch.linspace(1, 2, 1001).double()
    samples = torch.cat([torch.zeros(copies), torch.linspace(1.02, 2, 1000 - copies)]).double()
    found = of(samples, even)
    assert found.very_near.value == pytest.approx(copies / 1000)
    assert found.fine == fine
    assert ("some may be copies" in found.verdict) != fine
    few = of(samples, torch.linspace(1, 2, 99).double())
    assert "some may be copies" not in few.verdict  # the nearest of so few are often near


def test_distances_are_those_of_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    """Far from 0 and close together, in float32: a product alone would lose every digit."""
    torch.manual_seed(0)
    train = 1000 + torch.randn(300, 2, 3)
    model = tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(nn.Sequential(nn.Flatten(), nn.Linear(6, 4))),
        tb.likelihoods.Gaussian(nn.Sequential(nn.Linear(2, 6), nn.Unflatten(1, (2, 3))), scale=0.5, centre=1000.0),
    )
    held_out = 1000 + torch.randn(40, 2, 3)
    whole = neighbours(model, train, held_out, observations=50)
    exact = torch.cdist(held_out.flatten(1).double(), train.flatten(1).double()).min(1).values
    torch.testing.assert_close(whole.held_out, exact, rtol=1e-9, atol=1e-9)
    ours = torch.cdist(whole.examples.flatten(1).double(), train.flatten(1).double()).min(1)
    torch.testing.assert_close(whole.samples[:12], ours.values, rtol=1e-9, atol=1e-9)
    assert torch.equal(whole.nearest[:12], ours.indices)
    torch.testing.assert_close(whole.closest, train[ours.indices])
    monkeypatch.setattr(sys.modules["tightbound.evaluate.neighbours"], "BLOCK", 7)
    monkeypatch.setattr(sys.modules["tightbound.evaluate.neighbours"], "ASKED", 6 * 9)
    seen: list[tuple[int, int]] = []
    parts = neighbours(model, train, held_out, observations=50, progress=lambda done, total: seen.append((done, total)))
    assert torch.equal(parts.nearest, whole.nearest)
    torch.testing.assert_close(parts.samples, whole.samples)
    passes = 6 + 5  # of 50 samples and of 40 others, nine at a time
    assert seen[0] == (7, passes * 300)
    assert seen[-1] == (passes * 300, passes * 300)


def test_an_observation_of_the_training_data_is_at_no_distance() -> None:
    train = 1e4 + data(300, 0)
    model = copying(train - 1e4)
    found = neighbours(model, train, train[:50], observations=50)
    assert (found.held_out == 0).all()


def test_binarised_data_are_compared_as_the_model_sees_them() -> None:
    torch.manual_seed(0)
    grey = Observations(torch.rand(1100, 9), binarise=True)
    model = tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(nn.Linear(9, 4)),
        tb.likelihoods.Bernoulli(nn.Linear(2, 9)),
    )
    found = neighbours(model, grey, grey.subset(torch.arange(100)), observations=60)
    seen = grey.eval_batch().x
    for values in (found.examples, found.closest):
        assert ((values == 0) | (values == 1)).all()
    assert ((found.means > 0) & (found.means < 1)).all()
    torch.testing.assert_close(found.closest, seen[found.nearest[:12]])
    assert torch.equal(found.samples**2, (found.samples**2).round())


def test_the_rank_test_is_mann_and_whitneys() -> None:
    found = neighbours(TRUE.model(TRUE.wrong_posterior()), data(200, 0), data(90, 1), observations=70)
    theirs = mannwhitneyu(found.samples, found.held_out, method="asymptotic", use_continuity=False)
    assert 2 * norm.sf(abs(found.z)) == pytest.approx(theirs.pvalue)
    assert found.nearer.value == pytest.approx(1 - theirs.statistic / (70 * 70))


def test_it_repeats_and_leaves_the_random_state() -> None:
    model, train, others = TRUE.model(TRUE.wrong_posterior()), data(200, 0), data(50, 1)
    before = torch.get_rng_state()
    first = neighbours(model, train, others, observations=30)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.samples, neighbours(model, train, others, observations=30).samples)
    assert not torch.equal(first.samples, neighbours(model, train, others, observations=30, seed=1).samples)
    assert (len(first.samples), len(first.held_out), first.train) == (30, 30, 200)


def test_in_print_and_in_json() -> None:
    found = neighbours(TRUE.model(TRUE.wrong_posterior()), data(200, 0), data(50, 1), observations=100)
    text = str(found)
    assert text.startswith("Neighbours: 100 samples and 50 held-out observations among 200 training ones, seed 0\n")
    assert "standard deviations; below 0 they are nearer" in text
    plain = found.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert (plain["samples"], plain["held_out"], plain["train"]) == (100, 50, 200)


def test_what_cannot_be_compared_is_refused() -> None:
    model = TRUE.model(TRUE.wrong_posterior())
    with pytest.raises(TypeError, match="Expected a VAE, which can simulate observations with their latents; got Two"):
        neighbours(TwoLayers(), data(5, 0), data(5, 1))
    with pytest.raises(ValueError, match="Expected at least 2 observations, which show an error; got observations=1"):
        neighbours(model, data(5, 0), data(5, 1), observations=1)
    with pytest.raises(ValueError, match="Expected at least 2 held-out observations, which show an error; got 1 in"):
        neighbours(model, data(5, 0), data(1, 1))
    with pytest.raises(ValueError, match="shape"):
        neighbours(model, torch.zeros(5, 4, dtype=torch.float64), data(5, 1))
    grey = tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(nn.Linear(9, 4)),
        tb.likelihoods.UnnormalisedBernoulli(nn.Linear(2, 9)),
    )
    with pytest.raises(
        ValueError, match="Expected a likelihood that sums or integrates to one, whose draws can be compared with data;"
    ):
        neighbours(grey, torch.rand(9, 9), torch.rand(9, 9))
