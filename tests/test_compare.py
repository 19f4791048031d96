"""Runs compared: paired differences are what they say, what cannot be compared is refused, and what is kept is used."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import edited
from test_report import EVIL, Page
from tiny import SMALL, refused, said

import tightbound as tb
from tightbound.cli.verbs import main
from tightbound.evaluate import Estimate, evidence
from tightbound.reports.compared import render
from tightbound.runs import comparing
from tightbound.runs.comparison import QUANTITIES, Comparison, Difference, errors_needed, in_a_cell
from tightbound.runs.pieces import LIKELIHOODS
from tightbound.runs.plan import imported
from tightbound.runs.run import open_run
from tightbound.runs.trained import has_ended, remark_of

FAST = {"model.hidden": [8], "model.latent_dim": 2, "train.epochs": 0.5, "evaluate.samples": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three evaluated runs on the digits, to read and never to write into; and one of grey levels."""
    into = tmp_path_factory.mktemp("compared")
    for name, more in {
        "a": [],
        "b": ["--model.latent-dim", "5"],
        "c": ["--seed", "7", "--objective.beta", "2"],
        "levels": ["--model.likelihood", "discretized-logistic"],
    }.items():
        assert main(["train", "digits", *SMALL, *more, "--quiet", "--out", str(into / name)]) == 0
    return into


@pytest.fixture
def own(folder, tmp_path) -> Path:
    """The same, to write into."""
    return Path(shutil.copytree(folder, tmp_path / "runs"))


def run_on(x: Any, out: Path, **changes: Any) -> tb.Run:
    return tb.train("auto", data=x, out=out, changes={**FAST, **changes}, progress=False)


def never(*given: Any, **settings: Any) -> None:
    raise RuntimeError("measured")


# Numbers


def test_differences_are_means_of_what_evaluations_give_by_observation(folder):
    found = tb.compare([folder / "a", folder / "b"])
    a, b = (
        evidence(run.model(), run.data().test, samples=20) for run in (open_run(folder / "a"), open_run(folder / "b"))
    )
    [difference] = found.differences
    for name in QUANTITIES:
        expected = Estimate.of(b.per_observation[name] - a.per_observation[name])
        assert getattr(difference, name).value == pytest.approx(expected.value, abs=1e-5)
        assert getattr(difference, name).se == pytest.approx(expected.se, rel=1e-3)
    assert difference.log_px.value == pytest.approx(a.nll.value - b.nll.value, abs=1e-5)
    assert difference.log_px.se < a.nll.se  # what is hard for one is hard for both
    assert difference.share == pytest.approx(
        float((b.per_observation["log_px"] > a.per_observation["log_px"]).double().mean())
    )
    assert found.fields == {"model.latent_dim": [3, 5]}


def test_the_other_way_round_every_sign_is_the_other(folder):
    one, other = tb.compare([folder / "a", folder / "b"]), tb.compare([folder / "b", folder / "a"])
    for name in QUANTITIES:
        mine, theirs = getattr(one.differences[0], name), getattr(other.differences[0], name)
        assert (mine.value, mine.se) == pytest.approx((-theirs.value, theirs.se))
    assert one.differences[0].better == other.differences[0].better


def test_each_of_several_is_compared_with_the_first(folder):
    found = tb.compare([folder / "a", folder / "b", folder / "c"])
    assert [(each.name, each.other) for each in found.differences] == [("b", "a"), ("c", "a")]
    pairs = [tb.compare([folder / "a", folder / name]).differences[0] for name in "bc"]
    assert [each.log_px for each in found.differences] == [each.log_px for each in pairs]
    assert found.errors > 2 == pytest.approx(tb.compare([folder / "a", folder / "b"]).errors)
    assert "2 comparisons were made. A difference counts from 2.3 of its standard errors on" in found.verdict
    assert found.fields["seed"] == [0, 0, 7]
    assert found.fields["objective.beta"] == [1.0, 1.0, 2.0]


def less(errors: float, nats: float = 1.0, count: int = 400) -> dict[str, torch.Tensor]:
    """Differences of that mean, so many standard errors above zero."""
    noise = torch.randn(count, dtype=torch.float64)
    noise = (noise - noise.mean()) / noise.std() * count**0.5 * nats / errors
    return dict.fromkeys(QUANTITIES, noise + nats)


@pytest.mark.parametrize(("errors", "comparisons", "better"), [
    (1.9, 1, None), (2.1, 1, "b"), (2.3, 3, None), (2.5, 3, "b"),
])  # fmt: skip
def test_a_difference_needs_two_errors_and_more_where_many_are_made(errors, comparisons, better):
    found = Difference.of("b", "a", less(errors), (0.0, 0.0), errors=errors_needed(comparisons))
    assert found.better == better


def test_so_many_comparisons_together_err_no_oftener_than_one():
    chance = torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor([-errors_needed(m) for m in (1, 4, 9)]))
    assert (chance * torch.tensor([1, 4, 9])).tolist() == pytest.approx([float(chance[0])] * 3, rel=1e-4)


@pytest.mark.parametrize(("lacks", "better"), [((0.0, 0.4), "b"), ((0.0, 0.9), None), ((5.0, 0.0), "b")])
def test_what_the_lower_estimate_may_still_lack_counts_against_the_difference(lacks, better):
    found = Difference.of("b", "a", less(10.0), lacks)
    assert (found.better, found.lacks) == (better, lacks[1])


def test_no_difference_and_one_observation_tell_nothing():
    nothing = {name: torch.zeros(9) for name in QUANTITIES}
    assert Difference.of("b", "a", nothing, (0.0, 0.0)).better is None
    assert Difference.of("b", "a", {name: torch.ones(1) for name in QUANTITIES}, (0.0, 0.0)).better is None


def changed(found: Comparison, **values: float) -> Comparison:
    """The same, of which each observation of the second run has that much more than in the first."""
    noise = 0.1 * torch.linspace(-1, 1, len(found.runs[0].values["elbo"]), dtype=torch.float64)
    base = found.runs[0].values
    moved = {**base, **{name: base[name] + noise + values.get(name, 0.0) for name in QUANTITIES}}
    second = dataclasses.replace(found.runs[1], values=moved, found={**found.runs[1].found, "remark": ""})
    first = dataclasses.replace(found.runs[0], found={**found.runs[0].found, "remark": ""})
    return dataclasses.replace(found, runs=(first, second))


@pytest.mark.parametrize(("values", "words"), [
    ({"log_px": 3.21, "elbo": 3.0}, r"^b explains the data better than a, by 3\.21\d* ± 0\.00\d+ nats\.$"),
    ({"log_px": -3.21, "elbo": -3.0}, r"^a explains the data better than b, by 3\.21\d* ± 0\.00\d+ nats\.$"),
    ({"log_px": 0.001}, r"^No difference between a and b can be told: 0\.0010 ± 0\.00\d+ nats of log p\(x\)\.$"),
    ({"log_px": 3.0, "elbo": -2.0}, r"^b explains .* nats\. a has the higher ELBO, by 2\.000\d ± 0\.00\d+ nats: its p"),
    ({"elbo": 2.0}, r"^No difference .* b has the higher ELBO, by 2\.000\d ± "),
])  # fmt: skip
def test_the_verdict_says_which_and_by_how_much(folder, values, words):
    found = changed(tb.compare([folder / "a", folder / "b"]), **values)
    assert re.search(words, found.findings[0]), found.findings[0]
    assert found.findings[1].startswith("1 comparison was made. Each run is one training")
    assert len(found.findings) == 2


def test_an_unreliable_estimate_is_said_to_be_one(folder):
    found = changed(tb.compare([folder / "a", folder / "b"]), log_px=3.0, elbo=3.0)
    rising = {"reliable": False, "iwae": [{"samples": 1, "value": -30.0}, {"samples": 9, "value": -26.0}]}
    first = dataclasses.replace(found.runs[0], found={**found.runs[0].found, **rising})
    doubtful = dataclasses.replace(found, runs=(first, found.runs[1]))
    assert doubtful.findings[0].startswith("No difference between a and b can be told: 3.0")
    assert "The estimate of the lower one may still lack 4 nats." in doubtful.findings[0]


def test_observations_without_a_finite_number_are_left_out_of_both_and_counted(folder):
    found = tb.compare([folder / "a", folder / "b"])
    for place in (0, 1):
        found.runs[place].values["log_px"][place] = -torch.inf
    [difference] = found.differences
    assert difference.observations == 178
    assert np.isfinite(difference.log_px.value)
    assert "178 of 180 observations have finite numbers under a and b: the others are left out." in found.verdict


def test_what_is_known_of_a_run_is_said(own):
    with (own / "a" / "metrics.jsonl").open(encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    shorter = "".join(json.dumps({**line, "epoch": line["epoch"] / 2}) + "\n" for line in lines)
    (own / "a" / "metrics.jsonl").write_text(shorter, encoding="utf-8")
    found = tb.compare([own / "a", own / "b"])
    assert "The training of a has not come to its end." in found.findings
    assert [run["ended"] for run in found.to_json()["runs"]] == [False, True]
    [remark] = [each for each in found.findings if each.startswith("a and b: The model is hardly trained")]
    assert "warms up over 200 steps" in remark


def test_cross_entropies_are_compared_and_called_so(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (60, 5), dtype=np.uint8)
    grey = {"model.likelihood": "unnormalised-bernoulli"}
    made = [run_on(x, tmp_path / str(seed), seed=seed, **grey) for seed in (0, 1)]
    found = tb.compare(made, data=x)
    assert not found.is_likelihood
    assert "No likelihood: these are cross-entropies of grey values." in found.findings
    assert "explains" not in found.verdict


# What can be compared


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_the_measure_of_a_likelihood_is_that_of_its_distribution(name):
    row = LIKELIHOODS[name]
    given = {"levels": 4, "classes": 4, "centre": torch.zeros(3), "unit": torch.ones(3), "scale": "learned"}
    cls = imported(row.cls)
    made = cls(torch.nn.Identity(), **{key: given[key] for key in row.takes})
    count = made.parameters_per_element
    made.network = torch.nn.Unflatten(-1, (count, 3) if count > 1 else (3,))
    support = made(torch.zeros(2, 7, 3 * count)).support
    expected = "none" if not made.is_normalised else "probability" if support.is_discrete else "density"
    assert row.measure == expected


def test_a_density_and_a_probability_are_refused(folder, tmp_path, capsys):
    x = np.random.default_rng(0).integers(0, 9, (60, 5))
    made = [run_on(x, tmp_path / name, **{"model.likelihood": name}) for name in ("gaussian", "poisson")]
    with pytest.raises(ValueError, match=r"Expected runs whose p\(x\) is of one kind; got .*gaussian, a density, and"):
        tb.compare(made, data=x)
    error = refused(capsys, "compare", folder / "a", folder / "levels")
    assert "with bernoulli, a probability of black and white, and" in error
    assert "with discretized-logistic, a probability of levels: their nats cannot be compared." in error


def test_probabilities_of_the_same_values_are_compared(tmp_path):
    x = np.random.default_rng(0).integers(0, 2, (80, 5))
    pair = [run_on(x, tmp_path / name, **{"model.likelihood": name}) for name in ("bernoulli", "categorical")]
    assert tb.compare(pair, data=x).fields["model.likelihood"] == ["bernoulli", "categorical"]
    counts = np.random.default_rng(0).integers(0, 9, (80, 5))
    pair = [run_on(counts, tmp_path / name, **{"model.likelihood": name}) for name in ("poisson", "negative-binomial")]
    assert tb.compare(pair, data=counts).count == 1


def test_other_data_and_another_split_are_refused_with_what_differs(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 4))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", x + 1)
    first = run_on(str(tmp_path / "x.npy"), tmp_path / "first")
    others = {
        r"data\.source is '.*x\.npy' and '.*y\.npy'\. A paired": run_on(str(tmp_path / "y.npy"), tmp_path / "second"),
        r"data\.test_fraction is 0\.1 and 0\.2\. A paired": run_on(
            str(tmp_path / "x.npy"), tmp_path / "third", **{"data.test_fraction": 0.2}
        ),
    }
    for words, other in others.items():
        with pytest.raises(ValueError, match=rf"Expected runs on one data set, split alike; got .*: {words}"):
            tb.compare([first, other])
    np.save(tmp_path / "x.npy", x + 2)
    with pytest.raises(ValueError, match="they have changed between the two trainings"):
        tb.compare([first, run_on(str(tmp_path / "x.npy"), tmp_path / "fourth")])


def test_data_that_were_too_much_to_read_are_looked_at(own, monkeypatch):
    for name in "ab":
        edited(own / name / "config.json", lambda values: values.update(data=""))
        (own / name / "digests.json").unlink()
    assert tb.compare([own / "a", own / "b"]).count == 1
    monkeypatch.setattr(comparing, "fingerprint_of_data", lambda observations: str(id(observations)))
    with pytest.raises(ValueError, match="Expected runs on one data set, split alike"):
        tb.compare([own / "a", own / "b"])


def test_a_model_of_x_and_one_of_x_given_its_class_are_refused(tmp_path):
    made = [
        tb.train("digits", out=tmp_path / name, changes={**FAST, "model.condition": name}, progress=False)
        for name in ("none", "label")
    ]
    words = r"Expected runs under one condition; got .*, which has log p\(x\), and .*, which has log p\(x \| label\)"
    with pytest.raises(ValueError, match=words):
        tb.compare(made)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((), "Expected two or more runs; got 0. For example: tightbound compare runs/a runs/b"),
        (("a",), "Expected two or more runs; got 1."),
        (("a", "a"), "Expected two or more runs; got "),
        (("a", "nowhere"), "Expected a run folder with a recipe.toml; got"),
        (("a", "c", "--split", "validation"), "Expected runs that hold out the same observations for validation; got"),
        (("a", "b", "--split", "train"), "Expected validation or test for --split; got 'train'."),
        (("a", "b", "--out", "x.png"), "Expected --out to be a new file that ends in .html; got x.png."),
    ],
)
def test_a_wrong_request_is_refused_in_a_sentence(words, error, folder, capsys):
    paths = [folder / word if word in ("a", "b", "c", "nowhere") else word for word in words]
    assert error in refused(capsys, "compare", *paths)


def test_a_run_alone_is_no_list_of_runs(folder):
    with pytest.raises(TypeError, match="Expected a list of runs; got one alone"):
        tb.compare(str(folder / "a"))  # type: ignore[arg-type]


def test_runs_without_validation_have_none_to_be_compared_on(tmp_path):
    x = torch.randn(60, 3)
    made = [run_on(x, tmp_path / name, **{"train.validation": 0}) for name in ("one", "other")]
    with pytest.raises(ValueError, match=r"Expected runs that hold observations out for validation; got .*one, which"):
        tb.compare(made, split="validation", data=x)


def test_data_given_in_python_must_be_the_runs_own(tmp_path):
    x = torch.randn(60, 3)
    made = [run_on(x, tmp_path / str(n), seed=n) for n in (0, 1)]
    assert tb.compare(made, data=x).source == "given in Python"
    with pytest.raises(ValueError, match=r"Expected the data that the run in .* was trained on as data=; got others"):
        tb.compare(made, data=x + 1)


# What is kept, and what is measured


def test_evaluations_that_are_kept_are_used_without_model_or_data(folder, monkeypatch):
    monkeypatch.setattr(comparing, "measure", never)
    monkeypatch.setattr(tb.Run, "data", never)
    monkeypatch.setattr(tb.Run, "model", never)
    assert tb.compare([folder / "a", folder / "b"]).count == 1


@pytest.mark.parametrize("damage", ["gone", "values gone", "other weights", "older", "other numbers", "damaged"])
def test_an_evaluation_that_is_not_of_these_weights_is_measured_anew(own, damage, monkeypatch):
    kept, run = open_run(own / "b").evaluation(), own / "b"
    if damage == "gone":
        (run / "evaluation.json").unlink()
    elif damage == "values gone":
        (run / "per-observation.safetensors").unlink()
    elif damage == "damaged":
        (run / "evaluation.json").write_text("{", encoding="utf-8")
    else:
        change = {"other weights": {"weights": "0" * 16}, "older": {}, "other numbers": {"elbo": kept["elbo"] + 1}}
        values = {**kept, **change[damage]}
        if damage == "older":
            del values["weights"]
        (run / "evaluation.json").write_text(json.dumps(values), encoding="utf-8")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in run.iterdir())
    found = tb.compare([own / "a", run])
    assert found.runs[1].found["elbo"] == pytest.approx(kept["elbo"], abs=1e-5)
    assert sorted((path.name, path.stat().st_mtime_ns) for path in run.iterdir()) == before  # Python writes nothing
    tb.compare([own / "a", run], keep=True)
    assert open_run(run).evaluation()["elbo"] == pytest.approx(kept["elbo"], abs=1e-5)
    monkeypatch.setattr(comparing, "measure", never)
    assert tb.compare([own / "a", run]).runs[1].found["elbo"] == pytest.approx(kept["elbo"], abs=1e-5)


def test_a_sweeps_own_measurements_are_used_for_validation(capsys, tmp_path, monkeypatch):
    words = ("--over", "objective.beta=1,2", *SMALL, "--quiet", "--out", tmp_path / "s")
    assert said(capsys, "sweep", "digits", *words)[0] == 0
    pair = [tmp_path / "s" / f"beta={beta}" for beta in (1, 2)]
    with monkeypatch.context() as patched:
        patched.setattr(comparing, "measure", never)
        found = tb.compare(pair, split="validation")
    assert (found.split, found.fields) == ("validation", {"objective.beta": [1.0, 2.0]})
    assert len(found.runs[0].values["elbo"]) == 162
    (pair[1] / "validation.json").unlink()
    again = tb.compare(pair, split="validation")
    assert again.differences[0].log_px.value == pytest.approx(found.differences[0].log_px.value, abs=1e-5)


def test_a_training_that_stopped_short_has_not_ended(own):
    run = open_run(own / "a")
    assert has_ended(run)
    lines = run.metrics()

    def ended(**changes: Any) -> bool:
        text = "".join(json.dumps({**line, **changes}) + "\n" for line in lines)
        (own / "a" / "metrics.jsonl").write_text(text, encoding="utf-8")
        return has_ended(run)

    assert not ended(epoch=0.9)
    step = lines[-1]["step"]
    assert remark_of(run).endswith(
        f"The training has not come to its end: it is at step {step}, epoch 0.9 of 1. It goes on with: "
        f"tightbound train --resume {own / 'a'}."
    )
    assert ended(epoch=1.0)
    assert "not come to its end" not in remark_of(run)
    assert ended(epoch=0.98)  # 23 steps an epoch, and half a step is rounded away
    patient = dataclasses.replace(run.recipe, train=dataclasses.replace(run.recipe.train, patience=1))
    run = dataclasses.replace(run, recipe=patient)
    assert not ended(epoch=0.5, best=True)
    assert ended(epoch=0.5, best=False)
    (own / "a" / "metrics.jsonl").unlink()
    assert has_ended(run)


# Names, words and the page


def test_runs_are_called_by_as_much_of_their_path_as_tells_them_apart(own, tmp_path):
    shutil.copytree(own / "b", tmp_path / "other" / "a")
    found = tb.compare([own / "a", tmp_path / "other" / "a"])
    assert [run.name for run in found.runs] == ["runs/a", "other/a"]
    assert [run.name for run in tb.compare([own / "a", own / "b"]).runs] == ["a", "b"]


def test_what_a_cell_shows():
    assert in_a_cell("x" * 24) == "x" * 24
    assert in_a_cell("x" * 25) == "x" * 23 + "…"


def test_it_prints_all_of_it(folder):
    found = tb.compare([folder / "a", folder / "b", folder / "c"])
    text = str(found)
    assert text.startswith("Compared: 180 test observations of digits; nats per observation, ± one standard error")
    for each in found.differences:
        assert f"{each.name} less a, paired by observation" in text
        assert re.search(rf"log p\(x\) +{re.escape(str(each.log_px).split(' ')[0])} ± ", text)
    assert re.search(r"objective\.beta +1\.0 +1\.0 +2\.0", text)
    assert found._repr_html_() == f"<pre>{html.escape(text)}</pre>"


def test_equal_recipes_differ_in_nothing(own):
    shutil.copytree(own / "a", own / "again")
    found = tb.compare([own / "a", own / "again"])
    assert found.fields == {}
    assert "The recipes differ" not in str(found)
    assert found.findings[0].startswith("No difference between a and again can be told: 0.00 ± 0.00 nats")
    assert "In nothing: only the runs themselves differ." in render(found)


def test_the_command_prints_numbers_and_writes_a_page_beside_the_runs(own, capsys):
    code, out, error = said(capsys, "compare", own / "a", own / "b")
    assert (code, error) == (0, "")
    assert out.startswith("Compared: 180 test observations")
    assert out.splitlines()[-1] == f"Page: {own / 'compare.html'}"
    assert (own / "compare.html").is_file()
    assert said(capsys, "compare", own / "a", own / "b", own / "c")[0] == 0  # written anew
    assert "c less a" in (own / "compare.html").read_text(encoding="utf-8")
    page = own / "mine.html"
    assert said(capsys, "compare", own / "a", own / "b", "--out", page)[1].endswith(f"Page: {page}\n")
    assert f"got {page}, which exists" in refused(capsys, "compare", own / "a", own / "b", "--out", page)


def test_a_page_that_cannot_be_written_costs_no_numbers(own, capsys, tmp_path):
    (tmp_path / "file").touch()
    words = ("compare", own / "a", own / "b", "--out", tmp_path / "file" / "x.html", "--json")
    code, out, error = said(capsys, *words)
    assert code == 0
    assert json.loads(out)["page"] is None
    assert error.startswith(f"Not kept in {tmp_path / 'file' / 'x.html'}: ")


def test_the_page_is_whole_describes_its_pictures_and_runs_nothing(folder):
    text = render(tb.compare([folder / "a", folder / "b", folder / "c"]))
    page = Page(text)
    assert page.open == []
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "embed", "base", "form"})
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert len(page.all("img")) == 3
    assert all(image["alt"] and image["src"].startswith("data:") for image in page.all("img"))
    assert "prefers-color-scheme: dark" in text
    assert "objective.beta" in page.text


def test_whatever_comes_from_files_is_escaped_on_the_page(own):
    evil = own / EVIL.replace("/", "_")
    shutil.copytree(own / "b", evil)
    recipe = (evil / "recipe.toml").read_text().replace('name = "digits"', f"name = '{EVIL}'", 1)
    (evil / "recipe.toml").write_text(recipe)
    text = render(tb.compare([own / "a", evil]))
    assert "<script" not in text
    assert Page(text).open == []


def test_runs_without_metrics_have_a_page_without_curves(own):
    for name in "ab":
        (own / name / "metrics.jsonl").unlink()
    page = Page(render(tb.compare([own / "a", own / "b"])))
    assert len(page.all("img")) == 2
