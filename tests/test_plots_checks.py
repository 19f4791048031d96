"""Figures of the checks: bars hold what was given, bands are what chance allows, and every complaint they can make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle, StepPatch

from tightbound import plots


def bars(panel: Axes) -> list[np.ndarray]:
    """Heights of each set of bars, the filled one first."""
    return [np.asarray(patch.get_data().values) for patch in panel.patches if isinstance(patch, StepPatch)]


def band(panel: Axes) -> tuple[float, float]:
    """From where to where the grey goes."""
    [grey] = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
    return grey.get_y(), grey.get_y() + grey.get_height()


def test_each_rank_is_in_its_bin() -> None:
    ranks = torch.tensor([0, 4, 5, 50, 99])[:, None]
    figure = plots.rank_histograms(ranks, 99 - ranks)
    ours, theirs = bars(figure.axes[0])
    expected = np.zeros(20)
    expected[[0, 1, 10, 19]] = 2, 1, 1, 1
    np.testing.assert_array_equal(ours, expected)
    np.testing.assert_array_equal(theirs, expected[::-1])


def test_the_least_even_dimensions_come_first_and_no_more_than_twelve() -> None:
    even = (torch.arange(1000) % 100)[:, None].expand(-1, 14).clone()
    even[:, 5], even[:, 9] = 0, even[:, 9] // 2
    figure = plots.rank_histograms(even)
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    assert titles[:3] == ["z₅", "z₉", "z₀"]
    assert len(titles) == 12
    assert figure.get_supxlabel().startswith("12 of 14 dimensions, the least even.")
    assert "dimensions" not in plots.rank_histograms(even[:, :12]).get_supxlabel()
    assert plots.alt_text(figure) == "Ranks of 1000 latents in 14 dimensions, of q(z|x)."


@pytest.mark.parametrize("count", [40, 500])
def test_the_band_holds_as_many_bins_as_it_says(count: int) -> None:
    torch.manual_seed(0)
    figure = plots.rank_histograms(torch.randint(100, (count, 12)))
    low, high = band(figure.axes[0])
    heights = np.stack([np.histogram(torch.randint(100, (count,)), 20, (-0.5, 99.5))[0] for _ in range(500)])
    inside = ((heights >= low) & (heights <= high)).mean(1)
    assert inside.mean() > 0.99 - 4 * inside.std() / 500**0.5  # whole numbers: somewhat more
    assert ((heights > low) & (heights < high)).mean() < 0.99
    assert all(panel.get_ylim()[1] > high for panel in figure.axes)


def test_refined_ranks_may_stand_alone() -> None:
    figure = plots.rank_histograms(None, torch.randint(100, (50, 2)))
    assert plots.alt_text(figure).endswith("of refined proposals.")
    assert len(bars(figure.axes[0])) == 1


def test_p_values_and_ranks_are_shares_of_observations() -> None:
    p, made, ranks = torch.tensor([0.01, 0.99]), torch.tensor([0.5, 0.52, 0.92, 1.0]), torch.tensor([0.0, 1.0])
    left, right = plots.predictive_checks(p, made, ranks).axes
    ours, theirs = bars(left)
    assert (ours[0], ours[19], ours.sum()) == (50, 50, 100)
    assert (theirs[10], theirs[18], theirs[19], theirs.sum()) == (50, 25, 25, 100)
    assert bars(right)[0][[0, 19]].tolist() == [50, 50]


def test_the_band_of_two_random_sets_holds_what_it_says() -> None:
    torch.manual_seed(0)
    inside = []
    for _ in range(200):
        elbo, made = torch.randn(300), torch.randn(400)
        ranks = (elbo[:, None] > made).double().mean(1)
        _, right = plots.predictive_checks(torch.rand(300), torch.rand(400), ranks).axes
        (heights,), (low, high) = bars(right), band(right)
        inside.append(((heights >= low) & (heights <= high)).mean())
    assert np.mean(inside) == pytest.approx(0.99, abs=4 * np.std(inside) / 200**0.5)


def test_distances_of_both_sets_are_on_one_scale() -> None:
    figure = plots.neighbour_distances(torch.tensor([1.0, 1.0, 2.0, 3.0]), torch.tensor([2.0, 5.0]))
    theirs, ours = bars(figure.axes[0])
    assert (ours[0], ours.sum(), theirs[-1], theirs.sum()) == (50, 100, 50, 100)
    assert figure.axes[0].get_xlim() == (1, 5)
    assert plots.neighbour_distances(torch.ones(3), torch.ones(2)).axes[0].get_xlim() == (0.5, 1.5)


def test_each_sample_stands_between_its_mean_and_its_neighbour() -> None:
    means, samples, nearest = torch.rand(3, 5, 1, 4, 4)
    axes = plots.nearest_neighbours(means, samples, nearest).axes[0]
    pictures = np.stack([np.asarray(image.get_array())[..., 0] for image in axes.images])
    np.testing.assert_allclose(pictures, torch.cat([means, samples, nearest])[:, 0])
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["mean of p(x|z)", "sample", "nearest"]
    lefts = [image.get_extent()[0] for image in axes.images]
    assert lefts[:5] == lefts[5:10] == lefts[10:]


def test_shares_stand_at_their_values_between_two_errors() -> None:
    ours, theirs = torch.tensor([0.5, 0.6, 0.7, 0.8]), torch.tensor([0.9, 1.1, 0.95, 1.0])
    figure = plots.sample_quality(ours, theirs, torch.full((4,), 0.01), torch.full((4,), 0.05))
    [panel] = figure.axes
    for container, values, error in zip(panel.containers, (theirs, ours), (0.05, 0.01), strict=True):
        points, _, (bars,) = container
        np.testing.assert_allclose(points.get_xdata(), values)
        ends = np.array(bars.get_segments())[:, :, 0]
        np.testing.assert_allclose(ends, np.stack([values - 2 * error, values + 2 * error], 1), rtol=1e-6)
    assert panel.get_xlim()[1] > 1.1 + 2 * 0.05
    assert [label.get_text().split("\n")[0] for label in panel.get_yticklabels()] == [
        "precision", "density", "recall", "coverage",
    ]  # fmt: skip


def test_the_best_stand_above_the_worst_and_what_is_missed() -> None:
    rows = torch.rand(4, 5, 1, 4, 4)
    axes = plots.sample_extremes(*rows).axes[0]
    pictures = np.stack([np.asarray(image.get_array())[..., 0] for image in axes.images])
    np.testing.assert_allclose(pictures, rows.flatten(0, 1)[:, 0])
    labels = ["best samples", "worst samples", "nearest to these", "missed data"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == labels


HALF = torch.full((3,), 0.5)
COMPLAINTS: dict[str, tuple[Callable[[], Any], str]] = {
    "no ranks": (lambda: plots.rank_histograms(None), r"Expected ranks of shape \(N, L\); got \[\]"),
    "one axis": (lambda: plots.rank_histograms(HALF), r"Expected ranks of shape \(N, L\); got \[\(3,\)\]"),
    "two shapes": (
        lambda: plots.rank_histograms(torch.ones(3, 2), torch.ones(3, 1)),
        r"Expected ranks of shape \(N, L\); got \[\(3, 2\), \(3, 1\)\]",
    ),
    "empty": (lambda: plots.rank_histograms(torch.ones(0, 2)), r"Expected ranks of shape \(N, L\); got \[\(0, 2\)\]"),
    "too large": (lambda: plots.rank_histograms(torch.full((3, 2), 100)), "Expected ranks from 0 to 99; got others"),
    "p above 1": (
        lambda: plots.predictive_checks(HALF, 3 * HALF, HALF),
        r"Expected values between 0 and 1, of shape \(N,\); got \(3,\)",
    ),
    "p unknown": (lambda: plots.predictive_checks(HALF * torch.nan, HALF, HALF), "Expected values between 0 and 1"),
    "far": (lambda: plots.neighbour_distances(HALF / 0, HALF), r"Expected finite distances of shape \(N,\); got"),
    "no distances": (lambda: plots.neighbour_distances(HALF, HALF[:0]), "Expected finite distances"),
    "shapes": (
        lambda: plots.nearest_neighbours(torch.rand(3, 4), torch.rand(3, 4), torch.rand(2, 4)),
        r"Expected means, samples and neighbours of one shape; got \(3, 4\), \(3, 4\), \(2, 4\)",
    ),
    "three shares": (
        lambda: plots.sample_quality(HALF, HALF, HALF, HALF),
        r"Expected finite values of shape \(4,\); got .* of shape \(3,\)",
    ),
    "no share": (
        lambda: plots.sample_quality(*torch.full((4, 4), torch.nan)),
        r"Expected finite values of shape \(4,\); got \[nan nan nan nan\] of shape \(4,\)",
    ),
    "kinds": (
        lambda: plots.sample_extremes(*3 * [torch.rand(3, 4)], torch.rand(2, 4)),
        r"Expected samples and observations of one shape; got \(3, 4\), \(3, 4\), \(3, 4\), \(2, 4\)",
    ),
}


@pytest.mark.parametrize("name", COMPLAINTS)
def test_complaints_say_what_was_expected_and_what_came(name: str) -> None:
    call, message = COMPLAINTS[name]
    with pytest.raises(ValueError, match=message):
        call()
