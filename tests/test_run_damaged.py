"""A file of a run that is damaged is named, itself and once, with what renews it; what can do without it does."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import copied, refused

from tightbound.cli.verbs import main
from tightbound.files import foreign
from tightbound.runs.recipe import Recipe
from tightbound.runs.run import open_run
from tightbound.runs.sweep import begin


@pytest.mark.parametrize("text", ["{", "[1, 2]", "\xff"])
def test_a_report_does_without_the_environment(text: str, tmp_path: Path) -> None:
    run = copied(tmp_path)
    (run / "environment.json").write_text(text, encoding="latin-1")
    assert main(["train", "--resume", str(run), "--quiet"]) == 0
    assert "environment: not readable. Expected" in (run / "report.html").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=r"Expected .*JSON"):
        open_run(run).environment()


def test_the_file_to_blame_is_named_once(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"^Expected b; got .* at inner \(it\)\. Nothing in it was run\. Do this\.$"),
        foreign(tmp_path, "a"),
        foreign(Path("inner"), "b", "Do this."),
    ):
        raise ValueError("it.")


@pytest.mark.parametrize(
    ("name", "content", "verb"),
    [
        ("evaluation.json", "[1, 2]", "evaluate"),
        ("evaluation.json", '{"samples": 2}', "evaluate"),
        ("per-observation.safetensors", "xx", "evaluate"),
        ("gaps.json", "{", "gaps"),
        ("gaps.json", "{}", "gaps"),
        ("checks.json", "{}", "check"),
    ],
)
def test_what_renews_a_damaged_file_is_said(name: str, content: str, verb: str, tmp_path: Path, capsys) -> None:
    run = copied(tmp_path)
    (run / name).write_text(content)
    error = refused(capsys, "report", run)
    assert error.count("damaged or foreign file") <= 1
    assert name in error
    assert error.endswith(f"'tightbound {verb} {run}' writes it anew.\n")
    more = {"evaluate": ["--samples", "2"], "gaps": ["--observations", "3"], "check": ["--observations", "20"]}
    assert main([verb, str(run), *more[verb]]) == 0
    assert main(["report", str(run)]) == 0


def test_damaged_metrics_are_named_once_and_done_without_where_they_are_removed(tmp_path: Path, capsys) -> None:
    run = copied(tmp_path)
    (run / "metrics.jsonl").write_text('{"a": 1}\n')
    error = refused(capsys, "report", run)
    assert error.count("damaged or foreign file") == 1
    assert "Put back the file as it was, or remove it: a report is then without curves." in error
    (run / "metrics.jsonl").unlink()
    assert main(["report", str(run)]) == 0


@pytest.mark.parametrize("text", ["[1, 2]", '{"model.safetensors": "abc"}', "3"])
def test_digests_that_are_none(text: str, tmp_path: Path, capsys) -> None:
    run = copied(tmp_path)
    (run / "digests.json").write_text(text)
    error = refused(capsys, "report", run)
    assert "digests.json (no lists of digests by the names of files). Nothing in it was run. Put back" in error


def test_the_base_of_a_sweep_that_is_no_text_is_another_sweeps(tmp_path: Path) -> None:
    begin(tmp_path, Recipe(), "objective.beta", [1, 2])
    (tmp_path / "base.toml").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"Expected a new folder, or that of a sweep over objective.beta .*--out"):
        begin(tmp_path, Recipe(), "objective.beta", [1, 2])
