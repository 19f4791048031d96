"""The verbs that check an estimate further: what they print, keep and add to the report."""

from __future__ import annotations

import json

from tiny import copied, said


def test_a_certificate_is_printed_kept_and_reported(capsys, tmp_path):
    run = copied(tmp_path)
    small = ("--observations", "5", "--temperatures", "3", "--chains", "2", "--json")
    code, out, error = said(capsys, "certify", run, *small)
    found = json.loads(out)
    assert code == 0
    assert f"Kept in {run / 'certificate.json'}." in error
    assert (found["observations"], found["temperatures"], found["chains"], found["leapfrogs"]) == (5, 3, 2, 3)
    assert json.loads((run / "certificate.json").read_text("utf-8")) == found
    assert "<h2>Certificate" not in (run / "report.html").read_text("utf-8")
    assert said(capsys, "report", run)[0] == 0
    page = (run / "report.html").read_text("utf-8")
    assert "<h2>Certificate" in page
    assert "from exact draws of their posteriors" in page
    assert said(capsys, "certify", run, *small[:-1])[1].startswith("Certificate: 5 observations; 3 temperatures, 2 cha")


def test_gaps_are_printed_kept_and_reported(capsys, tmp_path):
    run = copied(tmp_path)
    code, out, error = said(capsys, "gaps", run, "--observations", "5", "--json")
    found = json.loads(out)
    assert code == 0
    assert f"Kept in {run / 'gaps.json'}." in error
    assert found["test"]["observations"] == found["train"]["observations"] == 5
    assert found["family"] == "diagonal"
    assert json.loads((run / "gaps.json").read_text("utf-8")) == found
    assert said(capsys, "report", run)[0] == 0
    assert "<h2>How loose the bound is, and why" in (run / "report.html").read_text("utf-8")
    assert said(capsys, "gaps", run, "--observations", "5")[1].startswith("Gaps: 5 test, 5 training observations, seed")


def test_what_the_code_tells_is_printed_kept_and_reported(capsys, tmp_path):
    run = copied(tmp_path)
    code, out, error = said(capsys, "information", run, "--json")
    found = json.loads(out)
    assert code == 0
    assert f"Kept in {run / 'information.json'}." in error
    assert (found["observations"], found["draws"]) == (180, 1980)
    assert json.loads((run / "information.json").read_text("utf-8")) == found
    assert said(capsys, "report", run)[0] == 0
    assert "<h2>What the code tells" in (run / "report.html").read_text("utf-8")
    text, error = said(capsys, "information", run, "--split", "train", "--draws", "30")[1:]
    assert ", 30 draws, seed 0" in text.splitlines()[0]
    assert "Kept" not in error
    assert json.loads((run / "information.json").read_text("utf-8")) == found
