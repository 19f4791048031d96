"""Two sets of points beside each other: distances in closed form, shares by hand, errors by repetition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from tightbound.evaluate.likeness import SHARES, distances, frechet, frechet_beside, radii, shares


def of_moments(mean: Tensor, root: Tensor, count: int) -> Tensor:
    """Points whose mean and covariance, rootᵀ root, are exactly these."""
    away = torch.randn(count, len(mean), dtype=torch.float64)
    away = away - away.mean(0)
    white = torch.linalg.qr(away).Q * math.sqrt(count - 1)
    return mean + white @ root


def test_frechet_distance_of_normals_is_that_of_the_closed_form() -> None:
    torch.manual_seed(0)
    means, roots = torch.randn(2, 4, dtype=torch.float64), torch.randn(2, 4, 4, dtype=torch.float64)
    first, second = (of_moments(mean, root, count) for mean, root, count in zip(means, roots, (50, 80), strict=True))
    one, other = (np.asarray(root.T @ root) for root in roots)
    expected = float((means[0] - means[1]).square().sum()) + np.trace(one + other - 2 * sqrtm(one @ other).real)
    assert frechet(first, second) == pytest.approx(expected, rel=1e-9)
    assert frechet(second, first) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_independent_elements_is_the_difference_of_deviations() -> None:
    torch.manual_seed(0)
    first = of_moments(torch.tensor([0.0, 1.0]), torch.diag(torch.tensor([1.0, 3.0]).double()), 30)
    second = of_moments(torch.tensor([2.0, 1.0]), torch.diag(torch.tensor([4.0, 0.5]).double()), 40)
    assert frechet(first, second) == pytest.approx(2**2 + (4 - 1) ** 2 + (3 - 0.5) ** 2)


@pytest.mark.parametrize(("count", "width"), [(40, 3), (10, 30), (2, 1)])
def test_equal_sets_are_at_no_distance(count: int, width: int) -> None:
    torch.manual_seed(0)
    points = 1e3 + torch.randn(count, width)
    assert frechet(points, points.flip(0)) == pytest.approx(0, abs=1e-9 * 1e3)
    assert frechet(points, points + 2) == pytest.approx(4 * width)


def test_fewer_points_than_dimensions_have_the_distance_of_their_own_plane() -> None:
    torch.manual_seed(0)
    turn = torch.linalg.qr(torch.randn(20, 20, dtype=torch.float64)).Q
    flat = torch.randn(2, 8, 3, dtype=torch.float64)
    wide = torch.cat([flat, torch.zeros(2, 8, 17)], 2) @ turn
    assert frechet(wide[0], wide[1]) == pytest.approx(frechet(flat[0], flat[1]), abs=1e-6)


@pytest.mark.parametrize("odd", [math.nan, math.inf, 1e200])
def test_what_has_no_covariance_has_no_distance(odd: float) -> None:
    points = torch.randn(9, 2, dtype=torch.float64)
    strange = points.clone()
    strange[3, 1] = odd
    assert math.isnan(frechet(strange, points))
    assert math.isnan(frechet(points, strange))
    assert all(math.isnan(each.value) for each in frechet_beside(strange, strange, points))


def test_distances_beside_a_set_are_shares_of_its_variance_with_jackknifes_errors() -> None:
    torch.manual_seed(0)
    points, reference, data = torch.randn(3, 60, 2).double() * torch.tensor([3.0, 1.0])
    points = points + 1
    ours, theirs, difference = frechet_beside(points, reference, data)
    variance = float(data.var(0).sum())
    assert ours.value == pytest.approx(frechet(points, data) / variance)
    assert theirs.value == pytest.approx(frechet(reference, data) / variance)
    assert difference.value == pytest.approx(ours.value - theirs.value)
    every = []
    for group in range(20):
        kept = torch.arange(60) % 20 != group
        every.append(frechet(points[kept], data[kept]) / float(data[kept].var(0).sum()))
    assert ours.se == pytest.approx(math.sqrt(19 / 20 * np.sum((np.array(every) - np.mean(every)) ** 2)))


def test_the_error_of_a_distance_is_its_spread() -> None:
    torch.manual_seed(0)
    found = [frechet_beside(torch.randn(200, 2) + 1, torch.randn(200, 2), torch.randn(200, 2))[2] for _ in range(100)]
    spread = torch.tensor([each.value for each in found]).std()
    assert np.mean([each.se for each in found]) == pytest.approx(float(spread), rel=0.3)


def test_equal_sets_lie_in_each_other() -> None:
    torch.manual_seed(0)
    points = torch.randn(50, 3)
    found = shares(points, points)
    assert {name: each.value for name, each in found.items() if name != "density"} == {
        "precision": 1, "recall": 1, "coverage": 1,
    }  # fmt: skip
    assert found["density"].value == pytest.approx(6 / 5)  # its own ball, and k others on average


def test_sets_that_are_far_apart_have_nothing_in_common() -> None:
    torch.manual_seed(0)
    found = shares(torch.randn(50, 3), 100 + torch.randn(40, 3))
    assert {name: each.value for name, each in found.items()} == dict.fromkeys(SHARES, 0)
    assert {each.estimate.se for each in found.values()} == {0}


def test_a_missing_cluster_is_missing_in_recall_and_coverage() -> None:
    torch.manual_seed(0)
    one, other = torch.randn(2, 60, 2)
    found = shares(one, torch.cat([one, 100 + other]))
    assert (found["precision"].value, found["recall"].value, found["coverage"].value) == (1, 0.5, 0.5)


def test_shares_on_a_line_are_those_by_hand() -> None:
    line = torch.arange(8.0)[:, None]
    assert radii(line).tolist() == [5, 4, 3, 3, 3, 3, 4, 5]
    points = torch.cat([line[:6], torch.tensor([[1000.0]])])
    found = shares(points, line)
    inside = torch.tensor([4, 5, 8, 8, 8, 8, 0])  # balls around each point
    assert [int(n) for n in (distances(points, line) <= radii(line)).sum(1)] == inside.tolist()
    assert found["precision"].value == pytest.approx(6 / 7)
    assert found["density"].value == pytest.approx(inside.sum().item() / (5 * 7))
    assert (found["recall"].value, found["coverage"].value) == (1, 1)


def test_edges_belong_to_a_ball() -> None:
    line = torch.arange(6.0)[:, None]
    assert shares(line[-1:].repeat(6, 1) + 5, line)["precision"].value == 1  # 10, at the edge of the ball of 5
    assert shares(line[-1:].repeat(6, 1) + 5.001, line)["precision"].value == 0


def test_points_that_are_no_numbers_lie_nowhere_and_hold_nothing() -> None:
    strange = torch.full((9, 2), torch.nan)
    found = shares(strange, torch.randn(9, 2))
    assert {name: each.value for name, each in found.items()} == dict.fromkeys(SHARES, 0)


@pytest.mark.parametrize(("count", "width"), [(60, 2), (150, 20)])
def test_errors_of_shares_are_no_smaller_than_their_spread(count: int, width: int) -> None:
    """Of the shares themselves, and of their difference from another set's beside the same data."""
    torch.manual_seed(0)
    values: dict[str, list[tuple[float, float]]] = {name: [] for name in SHARES}
    for _ in range(100):
        points, reference, data = torch.randn(3, count, width)
        ours, theirs = shares(points, data), shares(reference, data)
        for name in SHARES:
            each = ours[name].less(theirs[name])
            values[name].append((each.value, each.se))
    for name, pairs in values.items():
        found = torch.tensor(pairs)
        assert 0.4 < found[:, 0].std() / found[:, 1].mean() < 1.15, name
        assert ((found[:, 0].abs() > 3 * found[:, 1]) & (found[:, 0].abs() > 0.05)).sum() == 0, name
