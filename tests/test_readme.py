"""The README's example runs, and what it names is there."""

from __future__ import annotations

import re
from functools import reduce
from pathlib import Path

import pytest
from test_docs import ROOT, blocks, commands, execute, tables

import tightbound as tb
from tightbound.cli.verbs import app
from tightbound.data import summary
from tightbound.evaluate import Evidence
from tightbound.runs.pieces import LIKELIHOODS

README = ROOT / "README.md"
NAMES = ROOT / "docs" / "api.md"


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # where an example may leave its run


def test_the_example_runs_and_its_bounds_are_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    found = execute(README)
    report = tb.evaluate.evidence(found["model"], found["data"].test, samples=10)
    assert isinstance(report, Evidence)
    assert report.elbo.value < report.iwae[-1][1].value
    draws = found["draws"]
    assert (tb.bounds.elbo(draws) <= tb.bounds.iwae(draws)).all()
    assert "active units" in capsys.readouterr().out


def test_the_example_is_short() -> None:
    mine, whole = blocks(README, "python")
    assert len([line for line in whole.splitlines() if line]) <= 16
    assert len([line for line in mine.splitlines() if line]) <= 10


def test_its_own_data_end_in_a_number_and_a_model_that_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    found = execute(README)
    assert found["codes"].shape[0] == 5
    assert str(found["found"]) in capsys.readouterr().out
    assert found["found"].active_units == 3  # as many as the data are made of
    assert "<title>" in Path("runs/mine/report.html").read_text(encoding="utf-8")


def test_every_verb_it_names_exists_and_none_is_left_out() -> None:
    verbs = {name for name in app if not name.startswith("-")}
    text = README.read_text(encoding="utf-8").split("## On the command line")[1].split("##")[0]
    named = {words[0] for words in commands(README)}
    assert named <= verbs
    assert all(re.search(rf"\b{verb}\b", text) for verb in verbs)


def test_every_name_in_its_table_exists() -> None:
    [contents] = [table for table in tables(NAMES) if table[0][0] == "name"]
    for row in contents[1:]:
        for dotted in re.findall(r"`([\w.]+)`", row[0]):
            reduce(getattr, dotted.split("."), tb)


def test_its_table_leaves_no_piece_out() -> None:
    text = NAMES.read_text(encoding="utf-8")
    for module in (tb.bounds, tb.objectives, tb.priors, tb.posteriors, tb.likelihoods):
        own = {name: item for name, item in vars(module).items() if getattr(item, "__module__", "") == module.__name__}
        short = module.__name__.rpartition(".")[2]
        for name, item in own.items():
            helpers = ("Loss", "Objective", "at_least_two", "log_mean", "point_estimate", "resolve")
            abstract = getattr(item, "__abstractmethods__", None) or name in helpers
            assert name.startswith("_") or abstract or f"`{short}.{name}`" in text, f"{short}.{name}"


def test_what_auto_picks_is_what_it_says() -> None:
    [picks] = [table for table in tables(README) if table[0][1].startswith("`auto`")]
    named = [name for row in picks[1:] for name in re.findall(r"`([\w-]+)`", row[1])]
    assert set(named) <= set(LIKELIHOODS)
    assert f"passes {summary.OVERDISPERSED} ×" in README.read_text(encoding="utf-8")
