"""Codes beside known factors, on the command line and in the report."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tiny import SMALL, refused, said

from tightbound.cli.verbs import main
from tightbound.evaluate.scores import predicted


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on images of a bar, of known place and kind; as many of each."""
    folder = tmp_path_factory.mktemp("factors")
    kind, place, _ = (each.ravel() for each in np.meshgrid(range(2), range(6), range(25), indexing="ij"))
    images = np.zeros((len(kind), 6, 6), np.uint8)
    images[np.arange(len(kind)), place] = 1
    images[kind == 1] = images[kind == 1].transpose(0, 2, 1)
    factors, names = np.stack([kind, place, np.ones_like(kind)], 1), np.array(["kind", "place", "colour"])
    np.savez(folder / "bars.npz", x=images, y=np.array(["flat", "upright"])[kind], factors=factors, factor_names=names)
    words = [
        "train",
        "auto",
        "--data",
        str(folder / "bars.npz"),
        *SMALL[:-1],
        "20",
        "--quiet",
        "--out",
        str(folder / "run"),
    ]
    assert main(words) == 0
    return folder / "run"


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicted, "TREES", 5)


def test_scores_are_printed_kept_and_reported(trained, capsys, tmp_path):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    code, out, error = said(capsys, "disentangle", run, "--json")
    found = json.loads(out)
    assert code == 0
    assert f"Kept in {run / 'disentanglement.json'}." in error
    assert json.loads((run / "disentanglement.json").read_text("utf-8")) == found
    assert found["observations"] == 300
    assert list(found["factors"]) == ["kind", "place"]
    assert found["constant"] == ["colour"]
    assert found["unordered"] == ["kind"]
    assert said(capsys, "report", run)[0] == 0
    page = html.unescape((run / "report.html").read_text("utf-8"))
    assert "<h2>What each latent dimension stands for" in page
    assert found["verdict"] in page
    for picture in ("factors", "by-factor", "traversal-by-factor"):
        assert f'id="{picture}"' in page
        assert (run / "figures" / f"{picture}.png").is_file()
    assert said(capsys, "disentangle", run)[1].startswith("Disentanglement: 300 observations, 2 factors, ")


def test_a_part_is_scored_and_not_kept(trained, capsys, tmp_path):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    code, out, error = said(capsys, "disentangle", run, "--split", "train", "--observations", "150", "--json")
    assert (code, json.loads(out)["observations"]) == (0, 150)
    assert "Kept" not in error
    assert not (run / "disentanglement.json").exists()


def test_too_few_observations_are_refused_in_one_line(trained, capsys):
    told = refused(capsys, "disentangle", trained, "--observations", "99")
    assert "Expected at least 100 observations, so that scores say something; got 99." in told
    assert "Expected at least 2 observations" in refused(capsys, "disentangle", trained, "--observations", "1")


def test_damaged_scores_are_refused_in_one_line(trained, capsys, tmp_path):
    run = Path(shutil.copytree(trained, tmp_path / "run"))
    (run / "disentanglement.json").write_text('{"units": [0], "factors": {}, "scores": {"mig": {}}, "verdict": ""}')
    assert "disentanglement.json" in refused(capsys, "report", run)
