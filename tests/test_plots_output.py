"""Figures as files: equal ones give equal bytes, and an SVG follows the reader's page."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from tightbound import plots
from tightbound.plots.output import COLOURS, DARK_COLOURS, MANY

R = np.random.default_rng(0)
FIGURES = {
    "lines": lambda: plots.bound_by_samples([(1, -5.0, 0.1), (10, -4.0, 0.1)], log_px=-3.9),
    "pictures": lambda: plots.reconstructions(R.random((4, 8, 8)) * 0 + 0.5, np.zeros((4, 8, 8))),
    "bars": lambda: plots.kl_per_dimension(np.array([2.0, 0.0, 1.0])),
    "points": lambda: plots.latent_map(np.arange(60.0).reshape(30, 2) % 7, np.arange(30) % 3),
}


@pytest.mark.parametrize("name", FIGURES)
def test_equal_figures_give_equal_files(name: str) -> None:
    first, second = (FIGURES[name]() for _ in range(2))
    assert plots.to_svg(first) == plots.to_svg(second)
    assert plots.to_png(first) == plots.to_png(second)


@pytest.mark.parametrize("name", FIGURES)
def test_an_svg_has_a_size_in_pixels_text_and_no_date(name: str) -> None:
    figure = FIGURES[name]()
    text = plots.to_svg(figure)
    svg = ElementTree.fromstring(text)
    left, top, width, height = map(float, svg.get("viewBox").split())
    assert (left, top) == (0, 0)
    assert float(svg.get("width")) == pytest.approx(width * 96 / 72, abs=0.06)
    assert float(svg.get("height")) == pytest.approx(height * 96 / 72, abs=0.06)
    assert name == "pictures" or "</text>" in text
    assert not re.search("20[0-9]{2}-|matplotlib v|<dc:", text)


@pytest.mark.parametrize("name", FIGURES)
def test_each_colour_of_the_page_has_one_for_a_dark_page(name: str) -> None:
    body = plots.to_svg(FIGURES[name]()).partition("</style>")[2]
    assert len(DARK_COLOURS) == len(COLOURS) == len(set(COLOURS.values()))
    assert not [light for light in COLOURS.values() if light.lower() in body.lower()]
    assert set(re.findall(r"var\(--([a-z0-9]+)\)", body)) <= set(COLOURS)


def test_many_points_are_a_picture_within_it_and_the_figure_stays_as_it_is() -> None:
    few, many = (plots.latent_map(R.normal(size=(count, 2))) for count in (MANY - 1, MANY + 1))
    assert "<image" not in plots.to_svg(few)
    assert "<image" in plots.to_svg(many)
    assert not any(each.get_rasterized() for panel in many.axes for each in panel.collections)


def test_both_kinds_of_files_are_written(tmp_path: Path) -> None:
    figure = FIGURES["bars"]()
    saved = plots.save(figure, tmp_path / "new" / "a.svg")
    assert saved.read_text(encoding="utf-8") == plots.to_svg(FIGURES["bars"]())
    assert plots.save(figure, tmp_path / "a.PNG").read_bytes() == plots.to_png(figure)
    with pytest.raises(ValueError, match=r"Expected a path ending in \.png or \.svg; got"):
        plots.save(Figure(), tmp_path / "a.pdf")
