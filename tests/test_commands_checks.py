"""The verbs that check an estimate further: what they print, keep and add to the report."""

from __future__ import annotations

import html
import json

import pytest
import torch
from safetensors.torch import save_file
from tiny import copied, refused, said


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


def test_checks_of_what_is_to_come_are_printed_kept_and_reported(capsys, tmp_path):
    run = copied(tmp_path)
    code, out, error = said(capsys, "check", run, "--observations", "30", "--json")
    found = json.loads(out)
    assert code == 0
    assert f"Kept in {run / 'checks.json'}." in error
    assert found["posterior"]["observations"] == found["refined"]["observations"] == 30
    assert found["predictive"]["observations"] == found["neighbours"]["held_out"] == 30
    assert found["fidelity"]["observations"] == 30
    assert found["skipped"] == {}
    assert json.loads((run / "checks.json").read_text("utf-8")) == found
    assert "<h2>Does it come true?" not in (run / "report.html").read_text("utf-8")
    assert said(capsys, "report", run)[0] == 0
    page = html.unescape((run / "report.html").read_text("utf-8"))
    assert "<h2>Does it come true?" in page
    assert all(part in page for part in found["verdict"].split("\n\n"))
    for name in ("intervals", "predictions", "distances", "neighbours", "quality", "best-and-worst"):
        assert f'id="{name}"' in page
        assert (run / "figures" / f"{name}.png").is_file()
    text = said(capsys, "check", run, "--observations", "30", "--seed", "1")[1]
    assert text.startswith("Calibration: 30 simulated observations, 99 draws each, seed 1\n")
    assert " checks found " in text


def test_checks_of_codes_say_what_is_left_out(capsys, tmp_path):
    run = tmp_path / "codes"
    small = ("--model.hidden", "8", "--train.epochs", "0.2", "--evaluate.samples", "2")
    assert said(capsys, "train", "digits-bernoulli", *small, "--quiet", "--out", run)[0] == 0
    code, out, _ = said(capsys, "check", run, "--observations", "5")
    assert code == 0
    assert "Left out, intervals of q(z|x): its latents are discrete" in out
    assert "Neighbours: 5 samples and 5 held-out observations among" in out
    assert "Left out, sample quality: it takes 6 observations" in out
    assert said(capsys, "report", run)[0] == 0
    page = html.unescape((run / "report.html").read_text("utf-8"))
    assert "Left out, intervals of q(z|x): its latents are discrete" in page
    assert 'id="intervals"' not in page
    assert 'id="predictions"' in page


def test_wrong_requests_for_checks_are_refused_in_one_line(capsys, tmp_path):
    between = "Expected --observations between 2, which show an error, and 100000; got"
    for count in ("1", "0", "-5", "100001", "9" * 30):
        assert f"{between} {count}." in refused(capsys, "check", tmp_path, "--observations", count)
    assert "Expected a run folder" in refused(capsys, "check", tmp_path)


@pytest.mark.parametrize("verb", ["certify", "gaps", "information", "check", "sample"])
@pytest.mark.parametrize("seed", ["-1", str(2**63)])
def test_a_seed_that_no_generator_takes_is_refused_in_one_line(verb, seed, capsys, tmp_path):
    assert f"Expected a seed from 0 to 2⁶³ − 1; got {seed}." in refused(capsys, verb, copied(tmp_path), "--seed", seed)


def test_kept_values_of_another_version_are_refused_in_one_line(capsys, tmp_path):
    run = copied(tmp_path)
    assert said(capsys, "check", run, "--observations", "5")[0] == 0
    save_file({"p_values": torch.ones(3)}, run / "checks.safetensors")
    assert "Expected values as this version keeps them; got a damaged or foreign file at" in refused(
        capsys, "report", run
    )
    (run / "checks.safetensors").unlink()
    assert said(capsys, "report", run)[0] == 0
