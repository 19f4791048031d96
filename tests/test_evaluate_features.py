"""What images are seen by: which labels are learned, which sizes are taken, and that equal images look equal."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import tightbound as tb
from tightbound.batch import Batch
from tightbound.data.observations import Observations
from tightbound.evaluate import features as seeing
from tightbound.evaluate.features import Features, features


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeing, "STEPS", 5)


def of(x: Tensor, labels: Tensor | None = None, tried: Batch | None = None) -> Features:
    width = x[0].numel()
    model = tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(nn.Sequential(nn.Flatten(), nn.Linear(width, 4))),
        tb.likelihoods.Gaussian(nn.Sequential(nn.Linear(2, width), nn.Unflatten(-1, x.shape[1:]))),
    )
    with torch.no_grad():
        return features(
            model, Observations(x, labels), tried or Batch(x[:20], label=None if labels is None else labels[:20])
        )


TEN = torch.arange(100) % 10
LABELS = {
    "ten": (TEN, True),
    "numbered otherwise": (7 * TEN + 3, True),
    "half of them unknown": (torch.where(torch.arange(100) < 50, -1, TEN % 5), True),
    "most of them unknown": (torch.where(torch.arange(100) < 51, -1, TEN % 2), False),
    "one": (0 * TEN, False),
    "each by itself": (torch.arange(100), False),
    "none": (None, False),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_learned_where_they_are_known_and_come_again(name: str) -> None:
    labels, learned = LABELS[name]
    found = of(torch.rand(100, 1, 8, 8), labels)
    assert ("labels apart" in found.words) == learned
    assert ("quarter-turn" in found.words) != learned
    if name == "numbered otherwise":
        assert "to tell 10 labels apart" in found.words


def test_a_net_is_tried_on_images_with_labels_that_it_knows() -> None:
    x = torch.rand(100, 1, 8, 8)
    assert of(x, TEN, Batch(x[:9])).told is None
    assert of(x, TEN, Batch(x[:9], label=torch.full((9,), 77))).told is None
    assert of(x, TEN, Batch(x[:2], label=torch.tensor([3, -1]))).told is None  # one shows no error
    assert of(x, TEN, Batch(x[:2], label=torch.tensor([3, 9]))).told is not None
    assert of(x, None, Batch(x[:9])).told is not None


def test_what_can_be_learned_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeing, "STEPS", 100)
    torch.manual_seed(0)
    x, label = 1000 + torch.randn(400, 2, 8, 8), torch.arange(400) % 4  # far from 0: the net sees it standardised
    x[..., 0] += 5 * label[:, None, None]
    found = of(x[:300], label[:300] + 5, Batch(x[300:], label=label[300:] + 5))
    assert found.told is not None
    assert found.told.value > 0.9


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 40, 40), (1, 9, 50), (5, 70, 8)])
@pytest.mark.parametrize("labelled", [True, False])
def test_images_of_every_size_are_seen(shape: tuple[int, int, int], labelled: bool) -> None:
    x = torch.rand(40, *shape)
    found = of(x, torch.arange(40) % 4 if labelled else None)
    seen = found.of(x)
    assert seen.shape == (40, 64)
    assert seen.dtype == torch.float64
    assert not seen.requires_grad


@pytest.mark.parametrize("shape", [(12,), (7, 28, 1), (1, 7, 28), (8, 8), (2, 3, 8, 8)])
def test_of_all_else_the_values_are_taken(shape: tuple[int, ...]) -> None:
    x = 3 + 2 * torch.randn(50, *shape)
    x[:, 0] = 0.1  # equal everywhere
    found = of(x)
    seen = found.of(x)
    assert found.words == "the values, less the training data's mean, over its deviation"
    torch.testing.assert_close(
        seen,
        ((x - x.mean(0)) / x.std(0, correction=0).where(x.std(0) > 1e-6, 1)).double().flatten(1),
        rtol=1e-4,
        atol=1e-4,
    )
    assert found.told is None


def test_equal_images_look_equal_in_any_company() -> None:
    x = torch.rand(131, 1, 8, 8)
    found = of(x)
    whole = found.of(x)
    for count in (1, 3, 65):
        assert torch.equal(found.of(x[:count]), whole[:count])
    assert torch.equal(found.of(x.flip(0)).flip(0), whole)
    assert len(whole.unique(dim=0)) == 131


def test_an_image_that_is_no_number_spoils_no_other() -> None:
    x = torch.rand(20, 1, 8, 8)
    found = of(x)
    strange = x.clone()
    strange[3, 0, 2, 2] = torch.nan
    seen = found.of(strange)
    assert seen[3].isnan().any()
    assert torch.equal(seen[4:], found.of(x)[4:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_same_whatever_the_default_type(dtype: torch.dtype) -> None:
    x = torch.rand(40, 1, 8, 8)
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    model = tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(nn.Sequential(nn.Flatten(), nn.Linear(64, 4))),
        tb.likelihoods.Gaussian(nn.Sequential(nn.Linear(2, 64), nn.Unflatten(-1, (1, 8, 8)))),
    )
    torch.set_default_dtype(dtype)
    try:
        assert features(model, Observations(x), Batch(x)).of(x).isfinite().all()
    finally:
        torch.set_default_dtype(before)
