"""``tb.report``: the page of a run, of whatever it is made, without a folder; in a frame of its own in a notebook."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_report import EVIL, Page
from torch import Tensor
from training import QUIET, data, model

import tightbound as tb
from tightbound.batch import Batch
from tightbound.reports.in_python import Report
from tightbound.runs.from_fit import HELD_OUT
from tightbound.runs.told import OTHERS, UNKNOWN


def fitted(given: Any = None, **changes: Any) -> tuple[Any, Any, tb.training.TrainResult]:
    vae, x = model(), data() if given is None else given
    return vae, x, tb.fit(vae, x, **{**QUIET, "epochs": 2, **changes})


def parts() -> tb.data.Data:
    return tb.data.Data("mine", tb.data.observations(data()), tb.data.observations(data(30, seed=1)))


def report(*given: Any, **more: Any) -> Report:
    return tb.report(*given, progress=False, **more)


def page(found: Report) -> Page:
    read = Page(found.page)
    assert read.open == []
    return read


@pytest.fixture(scope="module")
def whole() -> tuple[Report, Any, tb.data.Data, tb.training.TrainResult]:
    with torch.random.fork_rng(devices=[]):
        vae, given, result = fitted(parts())
        return report(vae, given, result), vae, given, result


# One page, whatever it is made from


def test_it_is_the_page_of_the_same_training_in_a_folder(whole: Any, tmp_path: Path) -> None:
    _, _, given, _ = whole
    vae, given, result = fitted(given, out=tmp_path / "run")
    here, there = page(report(vae, given, result, name="run")), page(report(tb.open_run(tmp_path / "run"), given))
    for found in (here, there):
        assert found.all("img")
        assert [attributes["id"] for attributes in found.all("section") if "id" in attributes] == [
            attributes["id"] for attributes in there.all("section") if "id" in attributes
        ]
    body = [re.sub(r"out='ANOTHER'", "", each.text).partition("Environment") for each in (here, there)]
    without = [re.sub(r"Made.*?Again.*?Verdict", "", each[0], flags=re.S) for each in body]
    assert without[0] == without[1]


def test_the_head_says_data_model_training_and_how_to_do_it_again(whole: Any) -> None:
    found, vae, _, result = whole
    head = page(found).text.partition("Verdict")[0]
    assert "mine: 100 training, 20 of them held out for validation, and 30 test observations of 3" in head
    assert "DiagonalNormal posterior (MLP 3-8-4), Gaussian likelihood (MLP 2-8-3)" in head
    assert f"{sum(each.numel() for each in vae.parameters()):,} parameters" in head
    assert f"{result.steps} steps, 2 epochs, seed 0. Loss = distortion + rate." in head
    assert "tb.fit(model, data, seed=0, epochs=2, batch_size=20, " in head
    assert "out=" not in head
    assert re.search(r"Madetrained in \d+ s, page of \d{4}-\d\d-\d\d", head)
    assert found.name == "VAE on mine"


def test_its_numbers_are_those_of_evidence_on_the_test_set(whole: Any) -> None:
    found, vae, given, _ = whole
    again = tb.evidence(vae, given.test)
    assert found.evidence.elbo == again.elbo
    assert found.evidence.observations == 30
    assert "NLL, independent" in page(found).text  # the simple models are fitted to the training set
    assert "What the code tells" in page(found).text


def test_evidence_that_there_is_is_taken(whole: Any) -> None:
    _, vae, given, result = whole
    known = tb.evidence(vae, given.test, samples=7, seed=3)
    found = report(vae, given, result, evidence=known)
    assert found.evidence is not None
    assert found.evidence.elbo == known.elbo
    assert "of each, bounds from 7 samples of q(z|x)" in page(found).text
    with pytest.raises(ValueError, match="Expected evidence of the 30 observations of the test set; got evidence of 9"):
        report(vae, given, result, evidence=tb.evidence(vae, data(9), samples=2))


def test_without_a_result_there_are_no_curves_and_the_page_says_so() -> None:
    vae, given, _ = fitted(parts())
    found = page(report(vae, given))
    assert "TrainingNot told" in found.text or "Trainingnot told" in found.text
    assert "training" not in {attributes.get("id") for attributes in found.all("section")}
    assert "Again" not in found.text.partition("Verdict")[0]
    assert "Settings" not in found.text
    assert "100 training and 30 test observations of 3" in found.text


# What it is judged on


def test_of_the_training_s_own_observations_it_is_what_was_held_out() -> None:
    vae, x, result = fitted(seed=4)
    found = report(vae, x, result)
    held_out = tb.training.batches.split(tb.data.observations(x), 0.2, 4)[1]
    assert found.evidence is not None
    assert held_out is not None
    assert found.evidence.observations == 20
    assert found.evidence.elbo == tb.evidence(vae, held_out).elbo
    assert HELD_OUT in page(found).text
    assert "80 training observations of 3, and 20 held out for validation" in page(found).text
    with pytest.raises(ValueError, match="Expected evidence of the 20 observations held out for validation; got"):
        report(vae, x, result, evidence=tb.evidence(vae, x, samples=2))


@pytest.mark.parametrize("told", [True, False], ids=["with a result", "without"])
def test_others_are_all_of_them_and_the_page_says_so(told: bool) -> None:
    vae, _, result = fitted()
    found = report(vae, data(40, seed=5), result if told else None)
    assert found.evidence is not None
    assert found.evidence.observations == 40
    assert page(found).text.count(UNKNOWN) == 2  # beside the data, and first in the verdict
    assert "NLL, independent" not in page(found).text


def test_a_training_set_that_was_not_trained_on_is_told() -> None:
    vae, _, result = fitted()
    found = page(report(vae, parts_of(data(50, seed=6)), result))
    assert f"50 training and 30 test observations of 3. {OTHERS}" in found.text


def parts_of(x: Tensor) -> tb.data.Data:
    return tb.data.Data("other", tb.data.observations(x), tb.data.observations(data(30, seed=1)))


def test_where_nothing_was_held_out_a_test_set_must_be_given() -> None:
    vae, x, result = fitted(validation=0)
    with pytest.raises(
        ValueError, match=r"Expected observations that the model has not seen; .* tb\.data\.Data\('mine"
    ):
        report(vae, x, result)
    assert "HELD" not in page(report(vae, parts(), result)).text


def test_the_same_observations_are_known_again_however_they_are_given() -> None:
    x = data()
    vae, _, result = fitted((x, torch.zeros(100, dtype=torch.long)))
    for given in (x, x.numpy(), tb.data.observations(x), torch.utils.data.TensorDataset(x)):
        assert HELD_OUT in report(vae, given, result).page.replace("&#x27;", "'")


# Any model


class Coins(tb.Model):
    """Of one's own: no parts, a discrete latent, and nothing beside the contract."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor([-1.0, 1.0]))

    def propose(self, batch: Batch, samples: int) -> tuple[Tensor, Tensor]:
        z = torch.randint(2, (samples, batch.size, 1)).float()
        return z, self.log_posterior(batch, z)

    def log_joint(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
        p = torch.sigmoid(self.logits)[z.squeeze(-1).long()]
        log_px_z = torch.where(batch.x.squeeze(-1) == 1, p, 1 - p).log()
        return log_px_z, torch.full_like(log_px_z, 0.5).log()

    def log_posterior(self, batch: Batch, z: Tensor, *, frozen: bool = False) -> Tensor:
        return torch.full(z.shape[:2], 0.5).log()


def test_a_model_that_honours_the_contract_and_no_more() -> None:
    x = torch.randint(2, (60, 1)).float()
    vae = Coins()
    found = page(report(vae, x))
    assert "Coins; 2 parameters" in found.text
    assert "ELBO" in found.text
    assert "Coins is no tb.VAE" in found.text


class Own(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def test_a_layer_of_ones_own_is_shown_as_any_other_in_memory_and_of_a_run(tmp_path: Path) -> None:
    vae = tb.VAE(model().prior, tb.posteriors.DiagonalNormal(Own()), model().likelihood)
    result = tb.fit(vae, parts(), epochs=1, out=tmp_path / "run", **QUIET)
    assert "DiagonalNormal posterior (Own 3-4)" in page(report(vae, parts(), result)).text
    run = tb.open_run(tmp_path / "run", model=vae)
    assert page(report(run, parts())).all("img")
    with pytest.raises(ValueError, match=r"whose code no folder keeps\. In Python, with the model built as before"):
        report(tmp_path / "run", parts())


def test_an_evaluation_that_is_refused_leaves_a_page_that_says_so() -> None:
    class Sure(Coins):
        def log_joint(self, batch: Batch, z: Tensor) -> tuple[Tensor, Tensor]:
            found = super().log_joint(batch, z)
            return found[0] * float("nan"), found[1]

    found = report(Sure(), torch.randint(2, (20, 1)).float())
    assert found.evidence is None
    assert "Left outThe evaluation was refused. " in page(found).text


def test_neither_the_model_nor_the_caller_s_random_numbers_are_touched(whole: Any) -> None:
    _, vae, given, result = whole
    vae.train()
    before, weights = torch.get_rng_state(), {name: each.clone() for name, each in vae.state_dict().items()}
    first, second = (report(vae, given, result).page for _ in range(2))
    assert torch.get_rng_state().equal(before)
    assert vae.training
    assert all(each.equal(weights[name]) for name, each in vae.state_dict().items())
    vae.eval()
    same = [re.sub(r"page of [-0-9 :]+|reported: [-0-9 :]+", "", each) for each in (first, second)]
    assert same[0] == same[1]


# Runs


def test_a_run_needs_nothing_else_and_nothing_is_written_into_it(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", data().numpy())
    tb.fit(model(), tb.load_data(tmp_path / "x.npy"), epochs=1, out=tmp_path / "run", **QUIET)
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    for given in (tb.open_run(tmp_path / "run"), tmp_path / "run", str(tmp_path / "run")):
        found = report(given)
        assert found.evidence is not None
        assert found.evidence.observations == 10
        assert "out='ANOTHER'" in page(found).text
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before


def test_the_evaluation_that_a_run_keeps_is_shown(tmp_path: Path) -> None:
    small = {"train.epochs": 0.2, "model.hidden": [8], "evaluate.samples": 2}
    run = tb.train("digits", out=tmp_path / "run", changes=small, progress=False)
    from tightbound.runs.measured import measure

    run.save_evaluation(measure(run.model(), run.data().test, samples=9))
    assert "of each, bounds from 9 samples of q(z|x)" in page(report(run)).text
    known = tb.evidence(run.model(), run.data().test, samples=3)
    assert "of each, bounds from 3 samples of q(z|x)" in page(report(run, evidence=known)).text
    for name, value in (("result", fitted()[2]), ("name", "x")):
        with pytest.raises(TypeError, match=f"Expected no {name}= with a run, whose folder has it; got one"):
            report(run, **{name: value})


# Written, and in a notebook


class Frame(HTMLParser):
    """The one frame of a notebook's cell."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_a_notebook_shows_the_page_in_a_frame_in_which_nothing_runs(whole: Any) -> None:
    [(tag, attributes)] = Frame(whole[0]._repr_html_()).tags
    assert tag == "iframe"
    inside = attributes["srcdoc"]
    assert inside is not None
    assert inside.replace('<base href="about:srcdoc">', "") == whole[0].page
    assert "<base" not in whole[0].page  # a file has its own address
    links = [link["href"] for link in page(whole[0]).all("a")]
    assert all(str(link).startswith("#") for link in links)
    assert inside.index("<base") < inside.index("<a ")
    assert attributes["sandbox"] == ""
    assert "Content-Security-Policy" in whole[0].page


def test_out_and_write_give_the_same_file_and_a_second_one_replaces_it(whole: Any, tmp_path: Path) -> None:
    found, vae, given, result = whole
    path = found.write(tmp_path / "made" / "page.html")
    assert path.read_text(encoding="utf-8") == found.page
    again = report(vae, given, result, out=tmp_path / "made" / "page.html", name="anew")
    assert path.read_text(encoding="utf-8") == again.page
    assert [each.name for each in path.parent.iterdir()] == ["page.html"]
    assert repr(found) == "Report of VAE on mine: .write('page.html') writes the page."


def test_names_are_escaped(tmp_path: Path) -> None:
    vae, given, result = fitted(tb.data.Data(EVIL, parts().train, parts().test))
    found = report(vae, given, result)
    assert "<script" not in found.page
    assert "<script" not in found._repr_html_()
    assert EVIL in page(found).text
    assert html.escape(EVIL) in found.page


# Refused


@pytest.mark.parametrize(
    ("call", "kind", "error"),
    [
        (lambda: report(torch.nn.Linear(3, 3), data()), TypeError, r"Expected a model such as tb\.VAE\(.*; got Linear"),
        (lambda: report(tb.VAE, data()), TypeError, "got the class VAE"),
        (lambda: report(model()), TypeError, r"Expected data to judge the model on; got none.*tb\.report\(model, data"),
        (lambda: report(model(), {"x": 3}), TypeError, "Expected an array, a tensor.*; got dict"),
        (lambda: report(model(), data(), {"loss": 1}), TypeError, r"what tb\.fit returned as result; got dict"),
        (lambda: report(model(), torch.zeros(9, 4)), ValueError, r"Expected observations of shape \(3,\).*got \(4,\)"),
        (lambda: report(model(), data() * float("nan")), ValueError, "finite"),
        (lambda: report(model(), data(), evidence=3), TypeError, r"Expected what tb\.evidence returned; got int"),
        (lambda: report(model(), data(), name=3), TypeError, "Expected a name for the page; got 3"),
        (lambda: report(model(), data(), out="page"), ValueError, "ends in .html; got page. For example: page.html"),
        (lambda: report(model(), data(), out=3), TypeError, "Expected the path of a page; got 3"),
        (lambda: report("nowhere"), ValueError, "nowhere"),
    ],
    ids=[
        "no model", "a class", "no data", "no observations", "no result", "another shape", "not finite", "no evidence",
        "no name", "no page", "no path", "no run",
    ],
)  # fmt: skip
def test_what_is_none_of_it_is_refused(call: Callable[[], object], kind: type[Exception], error: str) -> None:
    with pytest.raises(kind, match=error):
        call()


def test_a_folder_is_no_page(tmp_path: Path) -> None:
    (tmp_path / "page.html").mkdir()
    with pytest.raises(ValueError, match=r"ends in \.html; got .*page\.html, which is a folder"):
        report(model(), data(), out=tmp_path / "page.html")
