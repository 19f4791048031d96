"""What a notebook shows as the last line of a cell: pictures without magic, tables without scripts."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import struct
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import TINY
from tiny import copied
from training import QUIET, data, model

import tightbound as tb
from tightbound import plots
from tightbound.labs import LABS
from tightbound.notebook import table

NASTY = "<script>alert('x')</script> & \"y\""


class Reader(HTMLParser):
    """The text of a page, cell by cell; tags must close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        assert {name for name, _ in attrs} <= {"style"}
        if tag in ("td", "th", "p", "b"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.cells[-1] += data


def read(value: Any) -> list[str]:
    """The cells that a notebook shows of it."""
    page = Reader(value._repr_html_())
    assert page.tags <= {"div", "b", "table", "tr", "td", "th", "p"}
    return page.cells


def beside(cells: list[str], name: str) -> str:
    return cells[cells.index(name) + 1]


# Figures


def drawn() -> dict[str, Any]:
    x, vae = torch.rand(9, 1, 8, 8), model()
    lines = [{"step": i, "epoch": float(i), "split": "train", "loss": 3.0 / i} for i in (1, 2)]
    return {
        "curves": plots.training_curves(lines),
        "images": plots.images(x),
        "map": plots.latent_map(torch.randn(50, 2)),
        "kl": plots.kl_per_dimension(torch.rand(6)),
        "bounds": plots.bound_by_samples([(1, -9.0, 0.1), (10, -8.0, 0.1)]),
        "pareto": plots.pareto_k(torch.rand(40)),
        "distances": plots.neighbour_distances(torch.rand(40), torch.rand(90)),
        "traversal": plots.latent_traversal(vae),
        "lab": LABS["bounds"].load()().figure,
    }


def test_every_figure_gives_a_png_and_the_size_it_is_shown_at() -> None:
    for name, figure in drawn().items():
        png, size = figure._repr_png_()
        width, height = struct.unpack(">II", png[16:24])
        assert png[:8] == b"\x89PNG\r\n\x1a\n", name
        assert (size["width"], size["height"]) == (width // 2, height // 2), name


def test_every_function_of_plots_returns_such_a_figure() -> None:
    returned = [
        value for name in plots.__all__
        if "Figure" in str(value := getattr(plots, name).__annotations__.get("return"))
    ]  # fmt: skip
    assert len(returned) > 20
    for name in Path(plots.__file__).parent.glob("*.py"):
        made = re.findall(r"^\s+figure = (\w+)\(figsize", name.read_text(encoding="utf-8"), re.MULTILINE)
        assert not made or "plots.figure import" in name.read_text(encoding="utf-8"), name


# Tables


def test_a_table_escapes_everything() -> None:
    text = table(NASTY, [(NASTY, NASTY)], head=(NASTY, NASTY), said=[NASTY, ""])
    page = Reader(text)
    assert "script" not in page.tags
    assert page.cells == [NASTY] * 6
    assert "<script" not in text


def test_observations_and_data_are_tables() -> None:
    stored = torch.zeros(30, 2, dtype=torch.uint8)
    seen = tb.data.Observations(
        stored, labels=torch.zeros(30, dtype=torch.long), label_names=(NASTY, "b"), factors=torch.zeros(30, 1),
        scale=255, binarise=True, name=NASTY, notes=(NASTY,), mask=torch.ones(30, 2, dtype=torch.bool),
    )  # fmt: skip
    cells = read(seen)
    assert cells[0] == f"Observations: {NASTY}"
    assert (beside(cells, "observations"), beside(cells, "shape")) == ("30", "2")
    assert beside(cells, "stored as") == "uint8, 255 means 1"
    assert (beside(cells, "seen"), beside(cells, "labels")) == ("binarised", f"{NASTY}, b")
    assert (beside(cells, "factors"), beside(cells, "absent values")) == ("without names", "yes")
    assert cells[-1] == NASTY
    both = read(tb.data.load(seen))
    assert both[1:4] == ["", "training", "test"]
    assert both[both.index("observations") : both.index("shape")] == ["observations", "27", "3"]
    assert "and 40 in all" not in str(read(tb.data.load("digits")))
    assert beside(read(tb.data.load("digits")), "shape") == "1 × 8 × 8"


def test_many_names_are_not_all_shown() -> None:
    names = tuple(f"c{i}" for i in range(40))
    cells = read(tb.data.Observations(torch.zeros(3, 40), column_names=names))
    assert beside(cells, "columns").endswith("c9, … 40 in all")


def test_a_result_is_a_table() -> None:
    ended = tb.fit(model(), data(), epochs=2, **QUIET)
    cells = read(ended)
    assert (beside(cells, "ended"), beside(cells, "steps"), beside(cells, "epochs")) == ("complete", "8", "2")
    assert beside(cells, "best validation loss") == f"{ended.loss:.2f} nats, at step {ended.best_step}"
    assert beside(cells, "objective") == repr(ended.objective)
    assert "last training loss" in read(tb.fit(model(), data(), epochs=1, **{**QUIET, "validation": 0}))
    assert read(dataclasses.replace(ended, remark=NASTY, metrics=[]))[-1] == NASTY


def test_evidence_is_a_table_with_its_errors_and_its_findings() -> None:
    found = tb.evidence(model(), data(), samples=10)
    cells = read(found)
    assert cells[0] == "Evidence: 100 observations, 10 samples each, seed 0"
    value, error = str(found.elbo).split(" ± ")
    place = cells.index("ELBO")
    assert cells[place + 1 : place + 3] == [value.replace("-", "−"), f"± {error}"]
    assert cells[-len(found.findings) :] == found.findings
    assert beside(cells, "active units") == f"{found.active_units} of 2"


def test_a_run_is_a_table_of_what_is_known(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    cells = read(tb.open_run(folder))
    assert cells[0] == "Run: digits"
    assert (beside(cells, "folder"), beside(cells, "objective")) == (str(folder), "elbo")
    assert beside(cells, "ELBO").startswith("−")
    assert beside(cells, "report") == str(folder / "report.html")
    (folder / "evaluation.json").write_text("{", encoding="utf-8")
    (folder / "metrics.jsonl").write_text("[]\n", encoding="utf-8")
    cells = read(tb.open_run(folder))
    assert "ELBO" not in cells
    assert [cell for cell in cells if cell.startswith("Expected ")] != []


def test_a_run_that_has_not_been_evaluated_says_so(tmp_path: Path) -> None:
    tb.fit(model(), data(), epochs=1, out=tmp_path / NASTY.replace("/", "-"), **QUIET)
    [folder] = tmp_path.iterdir()
    cells = read(tb.open_run(folder))
    assert beside(cells, "evaluated").startswith("not yet")
    assert beside(cells, "folder") == str(folder)
    assert beside(cells, "objective").startswith("ELBO(")


def test_plain_reprs_are_short(tmp_path: Path) -> None:
    tb.fit(model(), data(), epochs=1, out=tmp_path / "run", **QUIET)
    assert repr(tb.open_run(tmp_path / "run")) == f"Run({str(tmp_path / 'run')!r}, made by tb.fit)"
    assert repr(tb.open_run(copied(tmp_path / "other"))).endswith("recipe='digits')")
    assert len(repr(tb.data.load("digits"))) < 250
    assert TINY.name == "tiny"


# In a notebook


@pytest.mark.skipif(not importlib.util.find_spec("nbclient"), reason="nbclient is not installed")
def test_a_notebook_shows_them_without_magic() -> None:
    import nbformat
    from nbclient import NotebookClient

    code = [
        "import torch, tightbound as tb; tb.plots.kl_per_dimension(torch.rand(3))",
        "tb.data.load('digits')",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in code])
    NotebookClient(book, kernel_name="python3", timeout=120).execute()
    figure, table = (cell.outputs[-1]["data"] for cell in book.cells)
    assert "image/png" in figure
    assert "<table" in table["text/html"]
    assert np.isfinite(len(figure["image/png"]))
