"""The textbook: its notebook runs and every section draws; every line of its page computes; and all of it is true."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from test_docs import DOCS, ROOT, _words_alone, blocks, execute, tables

from tightbound.plots.figure import Figure

BOOK = ROOT / "notebooks" / "textbook.ipynb"
PAGE = DOCS / "textbook.md"
FIGURES = {1: 2, 2: 2, 3: 1, 4: 2, 5: 1, 6: 1, 7: 1, 8: 1, 9: 1, 10: 2, 11: 3, 12: 7}  # how many each section draws
FOUND = """
import json

print(json.dumps({
    "elbo": [log_w.mean().item(), tb.bounds.elbo(draws).mean().item()],
    "parts": (-distortion - rate).item(),
    "rates": [by_latent.mean(0).tolist(), normal.rate_per_dimension(batch).detach().mean(0).tolist()],
    "density": largest_difference,
    "bits": {name: estimate.value for name, estimate in of_bits.items()},
    "variance": [[name, k, value] for (name, k), value in variance.items()],
    "spread": [list(ks), spread],
    "apart": apart,
    "gap": [gaps.test.gap.value, gaps.test.amortisation.value, gaps.test.approximation.value],
    "bounds": [value for _, value, _ in bounds],
    "log_px": -found.nll.value,
    "signal": [[name, k, value] for (name, k), value in signal.items()],
    "rows": rows,
    "information": [[each.lower.value, each.upper.value, each.rate.value] for each in informations],
    "mig": {beta: [s.scores["mig"].value.value, s.scores["mig"].chance] for beta, s in scores.items()},
}))
"""


def kept() -> Any:
    return nbformat.read(BOOK, as_version=4)


def section_of(cells: list[Any]) -> list[int]:
    """Of each cell the number of its section, 0 before the first."""
    numbers, now = [], 0
    for cell in cells:
        heading = re.match(r"## (\d+)\. ", cell.source) if cell.cell_type == "markdown" else None
        now = int(heading[1]) if heading else now
        numbers.append(now)
    return numbers


def pictures(cell: Any) -> int:
    return sum("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def test_the_notebook_is_kept_without_what_a_run_leaves() -> None:
    book = kept()
    nbformat.validate(book)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert all(cell.metadata == {} for cell in book.cells)
    assert [cell.id for cell in book.cells] == list(dict.fromkeys(cell.id for cell in book.cells))
    assert max(len(cell.source.splitlines()) for cell in code) <= 32  # what a reader holds in one head
    assert sorted(set(section_of(book.cells))) == [0, *FIGURES]


@pytest.mark.timeout(600)
def test_every_cell_runs_every_section_draws_and_what_it_draws_is_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # of its kernel: other tests want the other core
    book = kept()
    book.cells.append(nbformat.v4.new_code_cell(FOUND))
    NotebookClient(book, kernel_name="python3", timeout=280, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert list(tmp_path.iterdir()) == []
    drawn = dict.fromkeys(FIGURES, 0)
    for cell, section in zip(book.cells[:-1], section_of(book.cells), strict=False):
        said = [output.name for output in cell.get("outputs", []) if output.output_type == "stream"]
        assert set(said) <= {"stdout"}, cell.source  # no warning
        if section:
            drawn[section] += pictures(cell)
    assert drawn == FIGURES
    [output] = book.cells[-1].outputs
    it_is_true(json.loads(output.text))


def it_is_true(found: dict[str, Any]) -> None:
    assert found["elbo"][0] == pytest.approx(found["elbo"][1], abs=1e-3)
    assert found["parts"] == pytest.approx(found["elbo"][0], abs=0.05)  # 64 000 draws
    assert found["rates"][0] == pytest.approx(found["rates"][1], abs=1e-4)
    assert found["density"] < 1e-4
    assert found["apart"] < 1e-12
    gap, amortisation, approximation = found["gap"]
    assert gap == pytest.approx(amortisation + approximation)
    assert found["bounds"] == sorted(found["bounds"])
    assert found["bounds"][-1] < found["log_px"] + 0.05
    its_noise_is_what_it_says(found)
    its_betas_are_what_it_says(found)


def its_noise_is_what_it_says(found: dict[str, Any]) -> None:
    variance = {(name, k): value for name, k, value in found["variance"]}
    for name in ("score function", "score, batch baseline", "pathwise", "sticking the landing"):
        assert 6 < variance[name, 1] / variance[name, 16] < 40, name
    assert variance["score function", 1] > 100 * variance["pathwise", 1]
    assert variance["sticking the landing", 1] < variance["pathwise", 1]
    ks, spread = found["spread"]
    assert 0.5 < spread[-1] * ks[-1] / spread[0] < 2
    signal = {(name, k): value for name, k, value in found["signal"]}
    assert signal["pathwise", 32] < signal["pathwise", 2]
    assert signal["doubly reparameterised", 32] > 3 * signal["pathwise", 32]
    quiet = [value for name, value in found["bits"].items() if not name.startswith("score")]
    assert found["bits"]["score function, leave-one-out"] < min(quiet)  # as it says of a short run


def its_betas_are_what_it_says(found: dict[str, Any]) -> None:
    rows = found["rows"]
    assert [row["distortion"] for row in rows] == sorted(row["distortion"] for row in rows)
    assert [row["rate"] for row in rows] == sorted((row["rate"] for row in rows), reverse=True)
    assert max(rows, key=lambda row: row["elbo"])["beta"] in (0.5, 1.0)  # a short run may not tell these two apart
    for lower, upper, rate in found["information"]:
        assert lower <= upper + 0.1
        assert upper <= rate + 1e-9
    score, chance = found["mig"]["50 with factors"]
    assert score > chance + 0.05


# The page


def line_of(row: list[str]) -> str:
    """The line of Python or the command that begins a row's last cell."""
    found = re.match(r"`([^`]+)`(: |$)", row[2])
    return found[1] if found else ""


def test_the_page_has_a_line_for_each_formula_and_figure() -> None:
    formulas, figures = tables(PAGE)
    numbers = [row[0] for table in (formulas, figures) for row in table[1:]]
    assert numbers == [str(i + 1) for i in range(len(numbers))]
    assert len(numbers) >= 33
    for row in formulas[1:] + figures[1:]:
        assert line_of(row), row


def test_the_page_runs_prints_what_it_shows_and_its_lines_compute(capsys: pytest.CaptureFixture[str]) -> None:
    space = execute(PAGE)
    rest = " ".join(_words_alone(capsys.readouterr().out))
    for text in blocks(PAGE, "text"):
        words = " ".join(_words_alone(text))
        _, found, rest = rest.partition(words)
        assert found, text
    its_numbers_show_what_it_corrects(space)
    formulas, figures = tables(PAGE)
    for table in (formulas, figures):
        for row in table[1:]:
            line = line_of(row)
            if not line.startswith("tightbound "):
                made = eval(line, space)
                assert isinstance(made, Figure) or table is formulas, line


def its_numbers_show_what_it_corrects(space: dict[str, Any]) -> None:
    seen, told, found, both = space["seen"], space["told"], space["found"], space["both"]
    right = -seen.distortion.value - told.lower.value - told.marginal_kl.value
    assert right == pytest.approx(seen.elbo.value, abs=4 * told.rate.se)
    assert told.lower.value - told.marginal_kl.value > 0 > seen.elbo.value + 10
    rate = space["fit"].history["train"]["rate"]
    assert rate[-1] > 3 * min(rate)
    low = both["β = 0.1"]
    assert -low.elbo.value > low.nll.value + 2
    assert found.nll.value - low.nll.value < -low.elbo.value + found.elbo.value
    by_beta = {row["beta"]: row for row in space["rows"]}
    assert by_beta[64.0]["active_units"] == by_beta[8.0]["active_units"] == 0 < by_beta[1.0]["active_units"]
    assert max(by_beta.values(), key=lambda row: row["elbo"])["beta"] == 1
    assert space["nothing"].rate.value == pytest.approx(16)
    assert space["nothing"].active_units == 0
    assert abs(space["its"].upper.value) < 1e-3
    assert space["pathwise"].var() > 20 * space["score"].var()
    assert low.distortion.value + 0.1 * low.rate.value < found.distortion.value + found.rate.value
    assert torch.isfinite(space["draws"].log_w).all()
