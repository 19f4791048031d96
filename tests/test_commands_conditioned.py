"""Models under a condition and of a latent class, on the command line and in the report."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import SMALL, refused, said

import tightbound as tb
from tightbound.cli.verbs import main
from tightbound.evaluate.scores import predicted

KINDS = {
    "label": ["--model.condition", "label"],
    "factors": ["--model.condition", "factors"],
    "latent": ["--model.posterior", "class-first", "--objective.name", "semi-supervised", "--data.labels", "6",
               "--train.validation", "0"],
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each kind on images of a bar at one of three places, with a brightness."""
    folder = tmp_path_factory.mktemp("conditioned")
    rng = np.random.default_rng(0)
    place, shine = rng.integers(3, size=300), rng.random((300, 1))
    images = np.zeros((300, 6, 6), np.uint8)
    images[np.arange(300), 2 * place] = 1
    noise = (rng.random(images.shape) < 0.1).astype(np.uint8)
    names = np.array(["top", "middle", "bottom"])
    factors, known = np.concatenate([shine, place[:, None]], 1), np.array(["shine", "place"])
    np.savez(folder / "bars.npz", x=images | noise, y=names[place], factors=factors, factor_names=known)
    made = {}
    for kind, flags in KINDS.items():
        made[kind] = folder / kind
        words = ["train", "auto", "--data", str(folder / "bars.npz"), *SMALL[:-1], "30", "--quiet", *flags]
        assert main([*words, "--out", str(made[kind])]) == 0
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_every_verb_works(runs, kind, capsys, tmp_path):
    run = Path(shutil.copytree(runs[kind], tmp_path / "run"))
    like = [] if kind == "latent" else ["--like", "3"]
    out = tmp_path / "x.npy"
    assert said(capsys, "sample", run, "--count", "5", *like, "--out", out)[0] == 0
    assert np.load(out).shape == (5, 1, 6, 6)
    for verb in (["reconstruct"], ["traverse", "--index", "2"], ["interpolate", "--rows", "2"], ["evaluate"]):
        assert said(capsys, verb[0], run, *verb[1:])[0] == 0, verb
    assert said(capsys, "embed", run, "--out", tmp_path / "z.npy")[0] == 0
    assert said(capsys, "information", run)[0] == 0
    page = html.unescape((run / "report.html").read_text("utf-8"))
    assert ("One style in every class" in page) == (kind != "factors")
    assert "under the condition of the first test observation" in page
    assert ("The model has seen labels." in page) == (kind != "factors")


def test_samples_of_a_class_are_of_that_class(runs, capsys, tmp_path):
    model = tb.open_run(runs["label"]).model()
    for number, name in enumerate(("bottom", "middle", "top")):  # in the order of the alphabet
        out = tmp_path / f"{name}.npy"
        assert said(capsys, "sample", runs["label"], "--count", "50", "--label", name, "--out", out)[0] == 0
        rows = np.load(out).mean((0, 1, 3))
        assert rows.argmax() == {"top": 0, "middle": 2, "bottom": 4}[name]
        assert model.sample(3, label=number).shape == (3, 1, 6, 6)


def test_without_a_condition_samples_are_of_each_class_in_turn(runs, capsys, tmp_path):
    assert said(capsys, "sample", runs["label"], "--count", "60", "--out", tmp_path / "x.npy")[0] == 0
    rows = np.load(tmp_path / "x.npy").reshape(3, 20, 6, 6).mean((1, 3)).argmax(1)
    assert rows.tolist() == [4, 2, 0]  # bottom, middle, top
    assert said(capsys, "sample", runs["factors"], "--count", "60", "--out", tmp_path / "y.npy")[0] == 0


def test_a_model_of_a_latent_class_draws_it_or_is_told_it(runs, capsys, tmp_path):
    for flags in ([], ["--label", "top"], ["--like", "0"]):
        out = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        assert said(capsys, "sample", runs["latent"], "--count", "4", *flags, "--out", out)[0] == 0


def test_the_error_of_classes_is_printed_kept_and_reported(runs, capsys, tmp_path):
    run = Path(shutil.copytree(runs["latent"], tmp_path / "run"))
    code, out, _ = said(capsys, "evaluate", run, "--json")
    found = json.loads(out)["classification"]
    assert code == 0
    assert json.loads((run / "classification.json").read_text("utf-8")) == found
    assert found["error"] < 0.5  # of three bars, by six labels; by chance it is 2/3
    assert found["classes"] == ["bottom", "middle", "top"]
    assert "of the observations are taken for another class" in html.unescape((run / "report.html").read_text("utf-8"))
    assert "taken for another class" in said(capsys, "evaluate", run)[1]


def test_a_class_of_the_latent_is_scored_beside_factors_and_shown(runs, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(predicted, "TREES", 5)
    run = Path(shutil.copytree(runs["latent"], tmp_path / "run"))
    code, out, _ = said(capsys, "disentangle", run, "--json")
    assert code == 0
    found = json.loads(out)
    found["factors"]["place"]["best_unit"] = 4  # a class, behind the three numbers
    (run / "disentanglement.json").write_text(json.dumps(found))
    assert said(capsys, "report", run)[0] == 0
    page = html.unescape((run / "report.html").read_text("utf-8"))
    assert "Which unit tells of which factor" in page
    assert "What the best unit of each factor does" not in page  # a class is no place on the way


@pytest.mark.parametrize(
    ("kind", "flags", "message"),
    [
        ("label", ["--label", "left"], "Expected --label among bottom, middle, top; got left."),
        ("label", ["--like", "999"], "Expected --like between 0 and"),
        ("label", ["--like", "1", "--label", "top"], "Expected --label CLASS or --like INDEX"),
        ("factors", ["--label", "top"], "Expected --like INDEX, a condition for samples; got another."),
        ("latent", ["--label", "left"], "Expected --label among bottom, middle, top; got left."),
    ],
)
def test_a_condition_that_is_missing_or_unknown(runs, kind, flags, message, capsys):
    assert message in refused(capsys, "sample", runs[kind], *flags)


def test_a_run_without_a_condition_takes_none(capsys, tmp_path):
    assert main(["train", "digits", *SMALL, "--quiet", "--out", str(tmp_path / "run")]) == 0
    message = refused(capsys, "sample", tmp_path / "run", "--label", "3")
    assert "Expected a run with a condition for --label and --like; got one without." in message


def test_what_simulates_says_what_to_do(runs, capsys):
    assert "model.given(label=0)" in refused(capsys, "check", runs["label"], "--observations", "5")
    code, out, _ = said(capsys, "certify", runs["label"], "--observations", "5")  # which can do without
    assert code == 0
    assert "annealed" in out


def test_data_without_the_condition_are_refused(capsys, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((50, 4)))
    message = refused(
        capsys, "train", "auto", "--data", tmp_path / "x.npy", "--model.condition", "label", "--out", tmp_path / "run"
    )
    assert "Expected labels from 0 for model.condition 'label'; got none" in message


@pytest.mark.parametrize("unknown", ["numbers", "words"])
def test_labels_of_a_file_may_be_unknown(unknown, capsys, tmp_path):
    rng = np.random.default_rng(1)
    place = rng.integers(3, size=200)
    x = (rng.random((200, 4)) + 3 * np.eye(4)[place]).astype(np.float32)
    known = rng.permutation(200) < 40
    y = np.where(known, place, -1) if unknown == "numbers" else np.where(known, np.array(["a", "b", "c"])[place], "")
    np.savez(tmp_path / "some.npz", x=x, y=y)
    words = ["train", "auto", "--data", tmp_path / "some.npz", *SMALL[:-1], "3", "--quiet", *KINDS["latent"][:4]]
    assert said(capsys, *words, "--out", tmp_path / "run")[0] == 0
    run = tb.open_run(tmp_path / "run")
    assert run.config.classes == 3
    labels = run.data().train.label(torch.arange(len(run.data().train)))
    assert int((labels >= 0).sum()) + int((run.data().test.label(torch.arange(20)) >= 0).sum()) == 40
    assert run.data().test.label_names == (("0", "1", "2") if unknown == "numbers" else ("a", "b", "c"))
