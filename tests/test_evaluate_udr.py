"""Units of models that were trained alike, beside each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from tightbound.evaluate import udr


def codes(count: int = 2000, units: int = 4, *, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, units, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_definition(first: np.ndarray, second: np.ndarray) -> float:
    """The paper's formula, a unit at a time, with scipy's correlations."""
    r = np.array([[abs(spearmanr(a, b).statistic) for b in second.T] for a in first.T])
    total = 0.0
    for b in range(r.shape[1]):
        total += r[:, b].max() ** 2 / r[:, b].sum()
    for a in range(r.shape[0]):
        total += r[a].max() ** 2 / r[a].sum()
    return total / (r.shape[0] + r.shape[1])


def test_it_is_that_of_its_definition() -> None:
    first = codes()
    second = (first @ torch.linalg.qr(codes(4, 4, seed=1))[0])[:, :3].round(decimals=1)  # with ties, another width
    expected = by_definition(first.numpy(), second.numpy())
    assert udr([first, second]).tolist() == pytest.approx([expected, expected])


def test_a_model_has_the_median_over_the_others() -> None:
    models = [codes(seed=0), codes(seed=0) + 0.5 * codes(seed=1), codes(seed=2)]
    pairs = {(i, j): by_definition(models[i].numpy(), models[j].numpy()) for i in range(3) for j in range(i)}
    found = udr(models).tolist()
    assert found[0] == pytest.approx(np.mean([pairs[1, 0], pairs[2, 0]]))
    assert found[2] == pytest.approx(np.mean([pairs[2, 0], pairs[2, 1]]))


def test_order_sign_and_scale_of_units_make_no_difference() -> None:
    """Of equal units the correlation is 1 with one, and of noise's size with the rest."""
    z = codes(50_000)
    same = torch.stack([-(z[:, 2] ** 3), z[:, 0].exp(), 0.1 * z[:, 3], z[:, 1]], 1)
    aligned, turned = udr([z, same]), udr([z, z @ torch.linalg.qr(codes(4, 4, seed=1))[0]])
    assert (aligned > 0.97).all()
    assert (turned < 0.6).all()
    assert (udr([z, codes(50_000, seed=3)]) < 0.02).all()


def test_dead_units_do_not_count() -> None:
    z = codes()
    padded = torch.cat([1e-6 * codes(seed=5), z], 1)
    assert udr([z, padded]).tolist() == pytest.approx(udr([z, z.flip(1)]).tolist())
    told = udr([z, z], alive=[[True, True, False, False]] * 2)
    assert told.tolist() == pytest.approx(udr([z[:, :2], z[:, :2]]).tolist())
    assert udr([z, torch.zeros_like(z)]).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("given", "words", "message"),
    [
        ([codes()], {}, "Expected codes of at least two models, to compare; got 1."),
        ([codes(), codes(100)], {}, r"of the same N observations; got \(2000, 4\), \(100, 4\)."),
        ([codes(), codes()[:, 0]], {}, r"Expected codes of shape \(N, L\), .*; got \(2000, 4\), \(2000,\)."),
        ([codes(), codes()], {"alive": [[True] * 4]}, "Expected alive for each of 2 models; got 1."),
        (
            [codes(), codes()],
            {"alive": [[True] * 4, [True]]},
            "Expected alive as 4 booleans, one for each unit; got torch.bool of shape",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(given, words, message) -> None:
    with pytest.raises(ValueError, match=message):
        udr(given, **words)
