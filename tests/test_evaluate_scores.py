"""Scores of disentanglement beside exact answers, and beside formulas written here a second time."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch

from tightbound.evaluate.scores import intervened, mutual, predicted
from tightbound.evaluate.scores.labelled import Labelled, dead

SIZES = (3, 6, 8, 8)


def grid(*sizes: int, repeat: int = 1) -> torch.Tensor:
    """Every combination of the factors' values, as often as asked: factors are independent, exactly."""
    return torch.tensor(list(itertools.product(*map(range, sizes)))).double().repeat(repeat, 1)


@pytest.fixture(scope="module")
def factors() -> torch.Tensor:
    return grid(*SIZES)


def information(codes: torch.Tensor, factors: torch.Tensor, **words: object) -> torch.Tensor:
    return mutual.mutual_information(Labelled.of(codes, factors), **words)


def by_counting(code: list[float], factor: list[float]) -> float:
    """Mutual information of two discrete lists, in nats, by its definition."""
    n, both, first, second = len(code), Counter(zip(code, factor, strict=True)), Counter(code), Counter(factor)
    return sum(c / n * math.log(c * n / (first[a] * second[b])) for (a, b), c in both.items())


# Mutual information


def test_information_of_independent_factors_is_exact(factors: torch.Tensor) -> None:
    expected = torch.diag(torch.tensor(SIZES).double().log())
    torch.testing.assert_close(information(factors, factors, correction="none"), expected)


def test_plug_in_information_is_that_of_the_definition() -> None:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(500, 2, generator=generator)
    factors = (codes[:, :1] + torch.randn(500, 1, generator=generator)).round()
    found = information(codes, factors, correction="none", bins=7)
    for unit in range(2):
        code = codes[:, unit].double().numpy()
        edges = np.histogram(code, 7)[1]
        binned = np.digitize(code, edges[:-1])  # as the literature's code has it
        assert found[unit, 0].item() == pytest.approx(by_counting(binned.tolist(), factors[:, 0].tolist()), abs=1e-12)


@pytest.mark.parametrize(("count", "wrong", "left"), [(1000, 0.32, 0.14), (10_000, 0.033, 0.007)])
def test_the_correction_takes_most_of_what_noise_seems_to_tell(count: int, wrong: float, left: float) -> None:
    """Of normal noise and a factor of 40 values; the truth is 0."""
    generator = torch.Generator().manual_seed(0)
    plain, corrected = [], []
    for _ in range(20):
        codes = torch.randn(count, 1, generator=generator)
        values = torch.randint(40, (count, 1), generator=generator).double()
        plain.append(information(codes, values, correction="none").item())
        corrected.append(information(codes, values).item())
    for values, expected in ((plain, wrong), (corrected, left)):
        assert np.mean(values) == pytest.approx(expected, abs=4 * np.std(values) / math.sqrt(20) + 0.05 * expected)


def test_the_correction_is_that_of_miller_and_madow() -> None:
    counts = torch.tensor([[5.0, 3.0, 0.0, 2.0]])
    plain = -sum(p * math.log(p) for p in (0.5, 0.3, 0.2))
    assert mutual.entropy(counts).item() == pytest.approx(plain)
    assert mutual.entropy(counts, "miller-madow").item() == pytest.approx(plain + 2 / 20)


def test_a_factor_of_very_many_values_is_cut() -> None:
    column = torch.linspace(0, 1, 2001)[:, None]
    made = Labelled.of(column, column)
    assert made.sizes == (20,)
    counts = torch.bincount(made.classes[:, 0])
    assert counts.max() - counts.min() <= 2
    assert Labelled.of(column[:200], column[:200]).sizes == (200,)


def test_a_unit_of_few_values_has_a_bin_for_each() -> None:
    odd = torch.tensor([[0.0], [1.0], [1.01]]).repeat(10, 1)
    assert information(odd, odd, correction="none").item() == pytest.approx(math.log(3))


# Scores from it


def mig(codes: torch.Tensor, factors: torch.Tensor) -> float:
    made = Labelled.of(codes, factors)
    return mutual.mig(mutual.mutual_information(made, correction="none"), mutual.entropies(made)).mean().item()


def mig_sup(codes: torch.Tensor, factors: torch.Tensor) -> float:
    made = Labelled.of(codes, factors)
    return mutual.mig_sup(mutual.mutual_information(made, correction="none"), mutual.entropies(made)).mean().item()


def modularity(codes: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    return mutual.modularity(information(codes, factors, correction="none"))


def test_a_perfect_code_has_one_everywhere(factors: torch.Tensor) -> None:
    for codes in (factors, factors[:, [2, 0, 3, 1]], -3 * factors + 5):
        assert mig(codes, factors) == pytest.approx(1)
        assert mig_sup(codes, factors) == pytest.approx(1)
        torch.testing.assert_close(modularity(codes, factors), torch.ones(4).double())


def test_a_perfect_code_of_dsprites_has_less_by_the_rule_of_the_literature() -> None:
    """Twenty bins cannot hold 40 and 32 values: 0.896 and not 1."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.stack([torch.randint(size, (10_000,), generator=generator) for size in (3, 6, 40, 32, 32)], 1)
    assert mig(factors, factors) == pytest.approx(0.896, abs=0.004)


def test_two_units_for_one_factor(factors: torch.Tensor) -> None:
    twice = torch.cat([factors, factors], 1)
    assert mig(twice, factors) == pytest.approx(0)
    assert mig_sup(twice, factors) == pytest.approx(1)


def test_a_unit_for_two_factors_by_hand() -> None:
    """z tells both, in full; a second unit tells neither."""
    factors = grid(2, 4)
    codes = torch.stack([factors[:, 0] * 4 + factors[:, 1], torch.zeros(8)], 1)
    assert mig(codes, factors) == pytest.approx(1)
    assert mig_sup(codes[:, :1], factors) == pytest.approx(0)
    # I = (log 2, log 4) = (1, 2) log 2, so 1 − 1² / 2² = 3/4.
    assert modularity(codes[:, :1], factors).item() == pytest.approx(3 / 4)


def test_a_turn_by_45_degrees_by_hand() -> None:
    """Of two fair coins, a + b tells each by log 2 / 2: 0 where they are equal, and a + b and a − b are alike."""
    factors = grid(2, 2)
    turned = torch.stack([factors.sum(1), factors[:, 0] - factors[:, 1]], 1)
    found = information(turned, factors, correction="none")
    torch.testing.assert_close(found, torch.full((2, 2), math.log(2) / 2).double())
    assert mig(turned, factors) == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(modularity(turned, factors), torch.zeros(2).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(predicted.sap(Labelled.of(turned, factors)), torch.zeros(2).double(), atol=1e-12, rtol=0)


def test_one_unit_and_one_factor() -> None:
    one = grid(4, repeat=5)
    assert mig(one, one) == mig_sup(one, one) == pytest.approx(1)
    assert modularity(one, one).item() == 1
    assert predicted.sap(Labelled.of(one, one)).item() == pytest.approx(1)


@pytest.mark.parametrize("place", [0, 2])
def test_where_a_dead_unit_stands_makes_no_difference(place: int) -> None:
    factors = grid(3, 4, repeat=20)
    noise = 1e-6 * torch.randn(len(factors), 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    codes = torch.cat([factors[:, :place], noise, factors[:, place:]], 1)
    assert dead(codes).tolist() == [unit == place for unit in range(3)]
    # Not left out, it makes modularity look like that of a poor code.
    assert modularity(codes, factors).mean() < 0.9 < modularity(codes[:, ~dead(codes)], factors).mean()


def test_both_sides_of_dead() -> None:
    wide = torch.tensor([[-1.0], [1.0]])
    for share, expected in ((1.001e-3, False), (0.999e-3, True)):
        assert dead(torch.cat([wide, share * wide], 1)).tolist() == [False, expected]
    assert dead(torch.zeros(5, 2)).all()


# Predictors


def test_dci_from_importances_by_hand() -> None:
    importance = torch.tensor([[0.75, 0.25], [0.25, 0.75]]).double()
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert predicted.disentanglement_of(importance).item() == pytest.approx(1 - entropy)
    assert predicted.completeness_of(importance).item() == pytest.approx(1 - entropy)
    # A unit of no importance counts for nothing, wherever it stands.
    for place in (0, 2):
        padded = torch.cat([importance[:place], torch.zeros(1, 2), importance[place:]])
        assert predicted.disentanglement_of(padded).item() == pytest.approx(1 - entropy)
    # Shares of the whole are weights: of a unit for one factor and one for both, 2 : 1.
    uneven = torch.tensor([[2.0, 0.0], [0.5, 0.5]]).double()
    assert predicted.disentanglement_of(uneven).item() == pytest.approx(2 / 3)


def test_dci_of_a_perfect_code_is_one(factors: torch.Tensor) -> None:
    importance, accuracy = predicted.dci(Labelled.of(factors.repeat(2, 1), factors.repeat(2, 1)), seed=0)
    assert predicted.disentanglement_of(importance).item() > 0.999
    assert predicted.completeness_of(importance).item() > 0.999
    torch.testing.assert_close(accuracy, torch.ones(4).double())


def test_dci_of_noise_is_at_chance(factors: torch.Tensor) -> None:
    noise = torch.randn(len(factors), 4, generator=torch.Generator().manual_seed(0))
    importance, accuracy = predicted.dci(Labelled.of(noise, factors), seed=0)
    assert predicted.disentanglement_of(importance).item() < 0.01
    for seen, size in zip(accuracy.tolist(), SIZES, strict=True):
        assert abs(seen - 1 / size) < 4 * math.sqrt(1 / size / (len(factors) / 3))


def test_sap_is_a_squared_correlation() -> None:
    generator = torch.Generator().manual_seed(0)
    codes, factors = torch.randn(300, 3, generator=generator), torch.randn(300, 2, generator=generator)
    factors += codes[:, :2]
    found = predicted.sap(Labelled.of(codes, factors))
    for place in range(2):
        squares = sorted(np.corrcoef(codes[:, unit], factors[:, place])[0, 1] ** 2 for unit in range(3))
        assert found[place].item() == pytest.approx(squares[2] - squares[1], rel=1e-6)


def test_sap_of_a_categorical_factor_needs_no_order() -> None:
    """Its codes are in another order than its values; a correlation would see little of it."""
    values = grid(3, 5, repeat=8)
    codes = values.clone()
    codes[:, 0] = torch.tensor([1.0, 0.0, 2.0])[values[:, 0].long()]
    with_order, without = (predicted.sap(Labelled.of(codes, values, [kind, False])) for kind in (False, True))
    assert with_order[0].item() == pytest.approx(0.25)
    assert without[0].item() == pytest.approx(1)
    assert with_order[1] == without[1]


def test_explicitness_of_two_values_is_one_and_of_noise_a_half() -> None:
    factors = grid(2, 2, repeat=500)
    assert predicted.explicitness(Labelled.of(factors, factors), 0).tolist() == [1, 1]
    noise = torch.randn(len(factors), 2, generator=torch.Generator().manual_seed(0))
    found = predicted.explicitness(Labelled.of(noise, factors), 0)
    assert ((found - 0.5).abs() < 4 * math.sqrt(1 / 12 / 333)).all()


def test_explicitness_of_a_middle_value_by_hand() -> None:
    """Of three ordered values a line tells the outer ones; the middle one lies above one and below the other: ½."""
    factors = grid(3, repeat=700)
    [found] = predicted.explicitness(Labelled.of(factors, factors), 0).tolist()
    assert found == pytest.approx((1 + 0.5 + 1) / 3, abs=0.02)


# Interventions


def test_groups_share_the_value_of_their_factor() -> None:
    factors = grid(3, 4, repeat=10)
    made = Labelled.of(factors, factors)
    fixed, rows, others = intervened._groups(made, 200, torch.Generator().manual_seed(0))
    for place, first, second in zip(fixed, rows, others, strict=True):
        assert len(made.classes[torch.cat([first, second]), place].unique()) == 1
    assert fixed.unique().tolist() == [0, 1]
    assert (made.classes[rows[:, 0], 0].bincount() > 30).all()


@pytest.mark.parametrize("score", [intervened.factor_vae, intervened.beta_vae])
def test_fixed_factors_are_told_from_a_perfect_code_and_not_from_noise(score, factors: torch.Tensor) -> None:
    assert score(Labelled.of(factors, factors), 0) == 1
    noise = torch.randn(len(factors), 4, generator=torch.Generator().manual_seed(0))
    assert abs(score(Labelled.of(noise, factors), 0) - 1 / 4) < 4 * math.sqrt(3 / 16 / intervened.VOTES[1]) + 0.02
    one = grid(4, repeat=50)
    assert score(Labelled.of(one, one), 0) == 1


def test_units_of_any_width_are_told_alike(factors: torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    codes = factors + torch.randn(factors.shape, dtype=torch.float64, generator=generator)
    wide = codes * torch.tensor([1e-3, 1.0, 1e3, 10.0]).double()
    for score in (intervened.factor_vae, intervened.beta_vae):
        assert score(Labelled.of(wide, factors), 3) == pytest.approx(score(Labelled.of(codes, factors), 3), abs=2e-3)
    torch.testing.assert_close(intervened.irs(Labelled.of(wide, factors)), intervened.irs(Labelled.of(codes, factors)))


def test_irs_by_hand() -> None:
    """z = a + b, each 0 or 1: fixed a leaves ½ of deviation, nothing fixed 1."""
    factors = grid(2, 2, repeat=200)
    both = factors.sum(1, keepdim=True)
    assert intervened.irs(Labelled.of(both, factors)).item() == pytest.approx(0.5)
    torch.testing.assert_close(intervened.irs(Labelled.of(factors, factors)), torch.ones(2).double())
