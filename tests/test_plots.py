"""Figures tell the truth: what is drawn is what was given, limits hold it, marks are where they belong."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from PIL import Image

from tightbound import plots
from tightbound.data.observations import Observations
from tightbound.plots.style import VERMILION

SHAPES = [(1, 8, 8), (3, 8, 9), (8, 9), (8, 9, 3), (2, 8, 9), (2, 3, 4, 5), (1,), (5,), (200,), (2, 50), (1, 1, 9)]


def shown(figure: Figure) -> list[np.ndarray]:
    """The pixels of every picture, in order."""
    return [np.asarray(image.get_array()) for image in figure.axes[0].images]


def words(figure: Figure) -> str:
    """All small print and texts of a figure."""
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    return " | ".join([*texts, figure.get_supxlabel()])


def titles(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def ring(axes: matplotlib.axes.Axes) -> tuple[float, float]:
    """Where the one hollow marker is."""
    (line,) = [line for line in axes.lines if line.get_markerfacecolor() == "none" and line.get_markersize() > 6]
    return float(line.get_xdata()[0]), float(line.get_ydata()[0])


def runs(betas: list[float], elbos: list[float]) -> list[dict[str, float]]:
    return [
        {"beta": b, "elbo": e, "elbo_se": 0.5, "distortion": -e - 3 / b, "distortion_se": 0.4, "rate": 3 / b}
        for b, e in zip(betas, elbos, strict=True)
    ]


def history(count: int = 100) -> list[dict[str, object]]:
    steps = range(1, count + 1)
    train = [{"step": s, "split": "train", "loss": 90 + 50 / s, "distortion": 70 + 50 / s, "rate": 20.0} for s in steps]
    return [*train, *({"step": s, "split": "validation", "loss": 95 + abs(s - 60)} for s in range(10, 101, 10))]


LINES = [
    {"epoch": float(e), "split": split, "distortion": 30 - e + more, "rate": float(e)}
    for e in range(1, 13)
    for split, more in (("train", 0), ("validation", 5))
]
SWEEP = runs([0.1, 0.5, 1, 2, 16], [-101.0, -95, -92, -93, -140])
FIGURES = {
    "images": lambda: plots.images(torch.rand(5, 1, 8, 8), titles=list("abcde")),
    "data_grid": lambda: plots.data_grid(
        Observations(torch.rand(9, 1, 8, 8), torch.arange(9), label_names=("$a", "_b"))
    ),
    "samples": lambda: plots.samples(torch.rand(5, 12)),
    "reconstructions": lambda: plots.reconstructions(torch.rand(5, 12), torch.rand(5, 12)),
    "reconstructions under": lambda: plots.reconstructions(*torch.rand(2, 10, 1, 8, 8), columns=8),
    "training_curves": lambda: plots.training_curves(history()),
    "beta_tradeoff": lambda: plots.beta_tradeoff([{**r, "nll": 90.0, "active_units": 3} for r in SWEEP]),
    "rate_distortion": lambda: plots.rate_distortion(SWEEP),
    "by_value": lambda: plots.by_value([{**r, "a $name": f"${i}" * 9} for i, r in enumerate(SWEEP)], "a $name"),
    "latent_map": lambda: plots.latent_map(torch.randn(50, 5), torch.arange(50) % 12, ["$1", "_x"]),
    "kl_per_dimension": lambda: plots.kl_per_dimension(torch.rand(6)),
    "bound_by_samples": lambda: plots.bound_by_samples([(1, -9.0, 0.1), (10, -8.0, 0.1)]),
    "pareto_k": lambda: plots.pareto_k(torch.rand(40)),
    "compared_curves": lambda: plots.compared_curves({"$a": LINES, "_b": LINES[1:]}),
    "compared_bounds": lambda: plots.compared_bounds({"$a": ([(1, -9.0), (5, -8.5)], -8.0), "b": ([(1, -9.5)], -9.0)}),
    "paired_differences": lambda: plots.paired_differences({"$b": torch.randn(90), "c": torch.randn(90)}, less="_a"),
    "rank_histograms": lambda: plots.rank_histograms(torch.randint(100, (90, 5)), torch.randint(100, (90, 5))),
    "predictive_checks": lambda: plots.predictive_checks(torch.rand(40), torch.rand(90), torch.rand(40)),
    "neighbour_distances": lambda: plots.neighbour_distances(torch.rand(40), torch.rand(90)),
    "sample_quality": lambda: plots.sample_quality(*torch.rand(4, 4)),
    "sample_extremes": lambda: plots.sample_extremes(*torch.rand(4, 6, 1, 8, 8)),
    "nearest_neighbours": lambda: plots.nearest_neighbours(*torch.rand(3, 6, 1, 8, 8)),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_alike_each_time_and_says_what_it_shows(name: str) -> None:
    pngs = []
    for size in (9, 30):
        torch.manual_seed(0)
        with matplotlib.rc_context({"font.size": size, "axes.grid": False}):  # the caller's own taste
            before = dict(matplotlib.rcParams)
            figure = FIGURES[name]()
            pngs.append(plots.to_png(figure, dpi=40))
            assert dict(matplotlib.rcParams) == before
        assert plots.alt_text(figure).endswith(".")
    assert pngs[0] == pngs[1]
    assert Image.open(io.BytesIO(pngs[0])).size > (40, 40)


def test_pngs_hold_no_date_and_no_version(tmp_path: Path) -> None:
    figure = plots.images(torch.rand(2, 1, 8, 8))
    path = plots.save(figure, tmp_path / "made" / "on the way" / "x.png", dpi=50)
    assert path.read_bytes() == plots.to_png(figure, dpi=50)
    assert not any(chunk in path.read_bytes() for chunk in (b"tEXt", b"tIME", b"iTXt"))


def test_pyplot_is_never_loaded() -> None:
    code = "import sys, tightbound.plots as p, torch; p.to_png(p.images(torch.rand(2, 5))); "
    code += "sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_observations_of_any_shape_are_each_drawn_once(shape: tuple[int, ...]) -> None:
    figure = plots.images(torch.rand(7, *shape), columns=3)
    axes = figure.axes[0]
    series = shape[0] if shape == (2, 50) else 1
    assert len(axes.images) == 7 or len(axes.lines) == 7 * series
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    for line in axes.lines:
        assert left < line.get_xdata().min() <= line.get_xdata().max() < right
        assert top < line.get_ydata().min() <= line.get_ydata().max() < bottom
    extents = [tuple(image.get_extent()) for image in axes.images]
    assert len(set(extents)) == len(extents)


def test_pixels_are_those_of_the_data() -> None:
    colour, grey = torch.rand(2, 3, 8, 9), torch.rand(2, 1, 8, 9)
    torch.testing.assert_close(torch.tensor(np.stack(shown(plots.images(colour)))), colour.permute(0, 2, 3, 1))
    for rgb, x in zip(shown(plots.images(grey)), grey, strict=True):
        assert (rgb == x[0, :, :, None].numpy()).all()
    assert "Black" not in words(plots.images(grey))


def test_values_outside_0_to_1_get_a_scale_that_is_stated() -> None:
    figure = plots.images(torch.tensor([-2.0, 0, 2, 6]).expand(2, 1, 4, 4))
    np.testing.assert_allclose(shown(figure)[0][0, :, 0], [0, 0.25, 0.5, 1])
    assert "Black is −2, white 6." in words(figure)
    np.testing.assert_allclose(shown(plots.images(torch.full((1, 1, 4, 4), 7.0), limits=(5, 6)))[0], 1)


def test_what_is_no_number_stands_out() -> None:
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 2] = torch.nan
    figure = plots.images(x)
    assert to_hex(shown(figure)[0][1, 2]).upper() == VERMILION
    assert shown(figure)[0].sum() == pytest.approx(shown(figure)[0][1, 2].sum())
    assert "not a finite number" in words(figure)


def test_columns_of_a_table_in_units_of_their_own_are_all_visible() -> None:
    table = torch.rand(6, 5, dtype=torch.float64) * torch.tensor([1, 1, 1, 1, 1e4])
    lines = [line.get_ydata() for line in plots.images(table, columns=1).axes[0].lines]
    heights = np.stack([y - y.mean() for y in lines]).std(0)
    assert heights.min() > 0.05 * heights.max()
    assert "its own smallest" in words(plots.images(table))
    assert "bottom 0.00, top 1.00" in words(plots.images(table[:, :4]))


def test_the_grid_of_data_is_a_choice_that_never_changes_sorted_by_label() -> None:
    pixels = torch.arange(300, dtype=torch.float32).div(300)[:, None, None, None].expand(300, 1, 4, 4)
    labels = torch.arange(300) % 3
    data = Observations(pixels, labels, label_names=("ant", "bee", "cow"))
    before = torch.get_rng_state()
    figure, again = plots.data_grid(data, 20), plots.data_grid(data, 20)
    assert torch.equal(before, torch.get_rng_state())
    rows = [round(float(picture[0, 0, 0]) * 300) for picture in shown(figure)]
    assert rows == [round(float(picture[0, 0, 0]) * 300) for picture in shown(again)]
    assert len(set(rows)) == 20
    assert titles(figure) == [data.label_names[row % 3] for row in rows] == sorted(titles(figure))
    assert len(shown(plots.data_grid(data.subset(torch.arange(5)), 20))) == 5


def test_each_reconstruction_stands_beside_its_original_on_its_scale() -> None:
    x = torch.rand(6, 1, 4, 4)
    pictures = shown(plots.reconstructions(x, 2 * x, 5))
    assert len(pictures) == 10
    for i in range(5):
        np.testing.assert_allclose(pictures[2 * i][..., 0], x[i, 0])
        np.testing.assert_allclose(pictures[2 * i + 1][..., 0], (2 * x[i, 0]).clamp(max=1))
    lines = plots.reconstructions(torch.zeros(3, 9), torch.ones(3, 9)).axes[0].lines
    assert len(lines) == 6
    assert all(lines[2 * i].get_ydata()[0] > lines[2 * i + 1].get_ydata()[0] for i in range(3))  # y is downwards


def rows_of(figure: Figure) -> list[list[float]]:
    """The first pixel of every picture, row by row as they lie, what is veiled left out."""
    axes = figure.axes[0]
    veils = [patch.get_bbox() for patch in axes.patches if patch.get_alpha() == 1]
    found: dict[float, list[tuple[float, float]]] = {}
    for image in axes.images:
        left, right, bottom, top = image.get_extent()
        if not any(veil.contains((left + right) / 2, (bottom + top) / 2) for veil in veils):
            found.setdefault(round(top, 6), []).append((left, float(np.asarray(image.get_array())[0, 0, 0])))
    return [[value for _, value in sorted(found[top])] for top in sorted(found)]


def test_sixteen_images_lie_in_two_rows_of_eight_with_their_labels() -> None:
    x = torch.arange(16.0).div(16)[:, None, None, None].expand(16, 1, 4, 4)
    figure = plots.images(x, columns=8, titles=torch.arange(16) % 10)
    wanted = [[i / 16 for i in range(8)], [i / 16 for i in range(8, 16)]]
    assert rows_of(figure) == rows_of(plots.samples(x, columns=8)) == wanted
    assert titles(figure) == [str(i % 10) for i in range(16)]
    grid = plots.data_grid(Observations(x, torch.arange(16) % 2), 16, columns=8)
    assert rows_of(grid) == [[i / 16 for i in range(0, 16, 2)], [i / 16 for i in range(1, 16, 2)]]
    assert titles(grid) == ["0"] * 8 + ["1"] * 8


@pytest.mark.parametrize(("count", "rows"), [(8, [8, 8]), (16, [8] * 4), (10, [8, 8, 2, 2]), (3, [3, 3])])
def test_reconstructions_lie_under_their_originals(count: int, rows: list[int]) -> None:
    x = torch.arange(1.0, 21).div(40)[:, None, None, None].expand(20, 1, 4, 4)
    figure = plots.reconstructions(x, 2 * x, count, columns=8)
    found = rows_of(figure)
    assert [len(row) for row in found] == rows
    originals, decoded = ([value for row in part for value in row] for part in (found[::2], found[1::2]))
    assert originals == pytest.approx([(i + 1) / 40 for i in range(count)])
    assert decoded == pytest.approx([(i + 1) / 20 for i in range(count)])
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["original", "decoded"] * (len(rows) // 2)
    assert plots.alt_text(figure) == f"{count} observations, each with its reconstruction under it."


def test_lines_take_columns_as_well() -> None:
    figure = plots.reconstructions(torch.rand(8, 9), torch.rand(8, 9), columns=8)
    lefts = {round(float(line.get_xdata()[0]), 6) for line in figure.axes[0].lines}
    assert len(lefts) == 8
    assert plots.alt_text(figure).endswith("each with its reconstruction over it.")


def test_the_first_steps_do_not_squash_the_curve_and_the_rest_is_held() -> None:
    lines = history()
    lines[0]["loss"] = 1e6
    axes = plots.training_curves(lines).axes[0]
    low, high = axes.get_ylim()
    later = [line["loss"] for line in lines if line["step"] > 10]
    assert low < min(later)
    assert max(later) < high < 200
    assert "off the top: up to 1e+06" in axes.texts[0].get_text()
    assert not any("off the" in text.get_text() for text in plots.training_curves(lines[1:]).axes[2].texts)


def test_the_best_validation_loss_is_ringed_once_beta_has_settled() -> None:
    lines = history()
    assert ring(plots.training_curves(lines).axes[0]) == (60, 95)
    warm = [{**line, "beta": min(1.0, line["step"] / 71)} for line in lines]
    figure = plots.training_curves(warm)
    assert ring(figure.axes[0]) == (80, 115)
    assert "β reaches 1" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_curves_survive_holes_and_single_points() -> None:
    broken = history(20)
    broken[7]["loss"], broken[8]["loss"], broken[9]["loss"] = float("nan"), None, float("inf")
    axes = plots.training_curves(broken).axes[0]
    assert "red: not finite, 3 lines" in axes.texts[0].get_text()
    assert np.isfinite(axes.get_ylim()).all()
    figure = plots.training_curves([{"step": 1, "split": "train", "loss": 3.0}])
    assert len(figure.axes) == 1
    low, high = figure.axes[0].get_ylim()
    assert low < 3 < high


def test_a_running_mean_leaves_a_constant_as_it_is() -> None:
    rate = plots.training_curves(history()).axes[2].lines
    assert len(rate) == 2  # the values, and their mean
    np.testing.assert_allclose(rate[1].get_ydata(), 20)


@pytest.mark.parametrize("elbos", [[-101.0, -95, -92, -93, -140], [-80, -95, -99, -99, -99]])
def test_the_best_beta_is_that_of_the_highest_elbo_in_every_panel(elbos: list[float]) -> None:
    rows = runs([0.1, 0.5, 1, 2, 16], elbos)
    best = max(rows, key=lambda row: row["elbo"])
    axes = plots.beta_tradeoff(rows[::-1]).axes
    assert [ring(a)[0] for a in axes] == [best["beta"]] * 4
    wanted = [best["elbo"], -best["distortion"], best["rate"], -best["distortion"] - best["beta"] * best["rate"]]
    assert [ring(a)[1] for a in axes] == pytest.approx(wanted)
    assert ring(plots.rate_distortion(rows).axes[0]) == pytest.approx((best["rate"], best["distortion"]))


def test_error_bars_are_two_standard_errors() -> None:
    (bars,) = [c for c in plots.beta_tradeoff(SWEEP).axes[0].containers if isinstance(c, ErrorbarContainer)]
    (segments,) = bars[2]
    np.testing.assert_allclose([s[1, 1] - s[0, 1] for s in segments.get_segments()], 2 * 2 * 0.5)


def test_runs_at_one_beta_are_averaged_with_the_error_of_their_mean() -> None:
    rows = runs([1, 1, 2], [-90.0, -94, -93])
    line, *_ = plots.beta_tradeoff(rows).axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), [-92, -93])
    (bars,) = [c for c in plots.beta_tradeoff(rows).axes[0].containers if isinstance(c, ErrorbarContainer)]
    first = bars[2][0].get_segments()[0]
    assert first[1, 1] - first[0, 1] == pytest.approx(2 * 2 * 2)  # the two runs' standard error is 2


@pytest.mark.parametrize(
    ("betas", "scale"), [([1, 2, 10], "linear"), ([0.1, 1, 10], "log"), ([0.0, 0.1, 4], "symlog"), ([3.0], "linear")]
)
def test_beta_is_on_a_logarithmic_axis_where_it_spans_decades(betas: list[float], scale: str) -> None:
    rows = [{"beta": b, "elbo": -90.0, "distortion": 80.0, "rate": 10.0} for b in betas]
    axes = plots.beta_tradeoff(rows).axes[0]
    assert axes.get_xscale() == scale
    assert set(axes.get_xticks()) <= set(betas)


@pytest.mark.parametrize(
    ("values", "scale", "places"),
    [
        ([2, 4, 8], "linear", [2, 4, 8]),
        ([0.1, 1.0, 100.0], "log", [0.1, 1, 100]),
        (["b", "a", True], "linear", [0, 1, 2]),
    ],
    ids=["numbers", "decades", "names"],
)
def test_values_stand_where_they_lie_and_names_in_their_order(
    values: list[object], scale: str, places: list[float]
) -> None:
    rows = [{"v": v, "elbo": -e, "distortion": e - 3, "rate": 3.0} for v, e in zip(values, (9, 7, 8), strict=True)]
    figure = plots.by_value(rows, "v")
    for panel, wanted in zip(figure.axes, (-7.0, -4.0, 3.0), strict=True):
        assert panel.get_xscale() == scale
        np.testing.assert_allclose(panel.lines[0].get_xdata(), places)
        assert ring(panel) == pytest.approx((places[1], wanted))
    assert plots.alt_text(figure).endswith(f"Highest ELBO −7.00 nats at v = {values[1]}.")
    if places == [0, 1, 2]:
        assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["b", "a", "True"]
        assert figure.axes[0].lines[0].get_linestyle() == "None"  # there is no way from one name to another


def test_runs_at_one_name_are_averaged() -> None:
    rows = [{"v": v, "elbo": e, "distortion": -e, "rate": 0.0} for v, e in (("a", -9.0), ("b", -8.0), ("a", -5.0))]
    np.testing.assert_allclose(plots.by_value(rows, "v").axes[0].lines[0].get_ydata(), [-7, -8])


def test_rows_without_the_value_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected 'v' in every row; got a row without\."):
        plots.by_value(SWEEP, "v")
    with pytest.raises(ValueError, match=r"Expected 'v' in every row; got no rows\."):
        plots.by_value([], "v")


def test_along_grey_lines_the_elbo_is_the_one_written() -> None:
    axes = plots.rate_distortion(SWEEP).axes[0]
    grey = [line for line in axes.lines if line.get_linewidth() == 0.8]
    labels = [t.get_text().split()[-1] for t in axes.texts if "β" not in t.get_text()]
    assert len(grey) == len(labels) > 2
    for line, label in zip(grey, labels, strict=True):
        np.testing.assert_allclose(-line.get_xdata() - np.array(line.get_ydata()), float(label.replace("−", "-")))


def test_bars_are_sorted_and_dead_ones_greyed() -> None:
    axes = plots.kl_per_dimension(torch.tensor([0.5, 0.001, 3.0])).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["z₂", "z₀", "z₁"]
    assert [bar.get_height() for bar in axes.patches[:3]] == pytest.approx([3, 0.5, 0.001])
    colours = [bar.get_facecolor() for bar in axes.patches[:3]]
    assert colours[0] == colours[1] != colours[2]
    assert "2 of 3 dimensions active, 3.5 nats" in axes.get_title(loc="left")
    told = plots.kl_per_dimension(np.array([0.5, 0.6]), np.array([False, True])).axes[0]
    assert "1 of 2 dimensions active" in told.get_title(loc="left")
