"""The report: one page that needs nothing else, tells the run's numbers, and lets nothing in that could run."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tiny import SMALL, copied, said, trained

from tightbound.cli.verbs import main
from tightbound.evaluate import Estimate
from tightbound.reports.page import render, write_report
from tightbound.reports.sections import with_commands
from tightbound.reports.terms import TERMS
from tightbound.runs.run import open_run

EVIL = '<script>alert("&amp;")</script>'


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def shown(value: float, error: float) -> str:
    """A number and its error as they stand side by side in the table's cells."""
    return str(Estimate(value, error)).replace("-", "−").replace(" ± ", "± ")


@pytest.fixture(scope="module")
def text() -> str:
    return (trained() / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text) -> Page:
    return Page(text)


def test_the_page_is_well_formed(page):
    assert page.open == []
    assert page.tags[0][0] == "html"


def test_nothing_is_fetched_and_nothing_runs(text, page):
    for _, attributes in page.tags:
        for name in ("src", "href", "action", "srcset", "data", "poster", "background"):
            assert attributes.get(name, "data:").startswith(("data:", "#"))
        assert not [name for name in attributes if name.startswith("on")]
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "embed", "base", "form"})
    assert "url(" not in text
    assert "@import" not in text
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")


def pictured(page: Page) -> dict[str, str | None]:
    """The classes of sections that have a picture, by its name."""
    found = {str(section["id"]): section.get("class") for section in page.all("section") if section.get("id")}
    return {name: kind for name, kind in found.items() if not name.startswith("part-")}


def drawn(image: dict[str, str | None]) -> str:
    """A picture of the page, as text."""
    return base64.b64decode(image["src"].removeprefix("data:image/svg+xml;base64,"), validate=True).decode()


def test_every_picture_is_in_the_page_described_and_of_its_natural_size(page):
    images = page.all("img")
    assert len(images) == 11
    for image in images:
        svg = ElementTree.fromstring(drawn(image))
        assert svg.tag.endswith("svg")
        assert image["alt"]
        assert (float(image["width"]), float(image["height"])) == pytest.approx(
            (float(svg.get("width")), float(svg.get("height"))), abs=0.5
        )


def test_small_print_has_eleven_pixels(page):
    """Half a page has 510 pixels for a figure; what is wider has a row of its own, of 1078."""
    for image, kind in zip(page.all("img"), pictured(page).values(), strict=True):
        shrunk = min(1, (1078 if kind == "wide" else 510) / int(image["width"]))
        sizes = [float(size) for size in re.findall(r"font: ([0-9.]+)px", drawn(image))]
        assert all(size * 96 / 72 * shrunk >= 10.8 for size in sizes), image["alt"]  # 11 but for rounding


def test_pictures_follow_a_dark_page_and_run_nothing(text, page):
    assert "prefers-color-scheme: dark" in text
    for image in page.all("img"):
        svg = drawn(image)
        assert "prefers-color-scheme: dark" in svg
        assert "#ffffff" not in svg.partition("</style>")[2]
        assert "#2b2b2b" not in svg.partition("</style>")[2].lower()
        assert not re.search(r"<script|<foreignObject|\son[a-z]+=|href=\"(?!#|data:image/png)", svg)


def test_the_pictures_are_files_too(page):
    names = {path.stem for path in (trained() / "figures").glob("*.png")}
    assert names == set(pictured(page))


def test_the_evidence_is_there_with_its_errors(page):
    found = open_run(trained()).evaluation()
    for key in ("elbo", "distortion", "rate", "nll"):
        assert shown(found[key], found[f"{key}_se"]) in page.text
    for bound in found["iwae"]:
        assert f"IWAE, K = {bound['samples']}" in page.text
        assert shown(bound["value"], bound["se"]) in page.text
    assert f"{found['bits_per_dim']:.4f}" in page.text
    assert found["verdict"] == " ".join(found["findings"])
    assert all(finding in page.text for finding in found["findings"])
    assert len(page.all("li")) == len(found["findings"]) > 2
    assert "KL(q(z|x) ‖ p(z)), closed form: what the code costs" in page.text
    assert "180 observations; of each, bounds from 20 samples of q(z|x)." in page.text


def test_the_head_says_what_it_is_when_it_was_made_and_how_to_make_it_again(page):
    run = open_run(trained())
    head = page.text.partition("Verdict")[0]
    count = sum(each.numel() for each in run.model().parameters())
    assert f"mlp networks of 16 units, {count:,} parameters" in head
    assert f"{run.environment()['started']}, in {run.seconds():.0f} s, " in head
    assert f"tightbound {run.environment()['tightbound']}, torch " in head
    assert "tightbound recipes RUN > again.toml; tightbound train again.toml" in head


def test_a_head_says_what_is_known(tmp_path):
    run = open_run(copied(tmp_path))
    (run.path / "environment.json").unlink()
    for damage in ("", "{", "[]\n", '{"seconds": "x"}\n'):
        (run.path / "timing.jsonl").write_text(damage)
        assert run.seconds() is None
    (run.path / "timing.jsonl").unlink()
    os.mkfifo(run.path / "timing.jsonl")
    assert run.seconds() is None
    assert "<dd>no date on record</dd>" in render(run, run.data(), [])


def test_baselines_stand_beside_the_evidence(page):
    found = open_run(trained()).evaluation()["baselines"]
    assert found["independent"] > 20
    assert (found["ppca"], found["png"]) == (None, None)
    assert "NLL, independent" in page.text
    assert shown(found["independent"], found["independent_se"]) in page.text
    assert "NLL, PPCA" not in page.text


def test_contents_list_every_part_and_every_link_leads_somewhere(page):
    places = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(set(places)) == len(places)
    links = [link["href"] for link in page.all("a")]
    assert links
    assert all(link.startswith("#") and link[1:] in places for link in links)
    sections = [section.get("id") for section in page.all("section")]
    details = sum(name == "details" for name, _ in page.tags)
    assert [f"#{place}" for place in sections if place] == links[: len(sections) - details]


def test_terms_are_told_at_the_end_as_in_the_glossary(page):
    used = {link["href"] for link in page.all("a") if str(link["href"]).startswith("#term-")}
    assert {"#term-elbo", "#term-importance-weighted-bound", "#term-pareto-s-k", "#term-baseline"} <= used
    assert len([place for place in page.all("dt") if place.get("id")]) == len(used)
    assert TERMS["ELBO"] in page.text
    docs = (Path(__file__).parents[1] / "docs/glossary.md").read_text(encoding="utf-8")
    told = [line.strip("| ").split(" | ", 1) for line in docs.splitlines() if line.startswith("| ")][1:]
    assert {term: text.replace("\\|", "|") for term, text in told} == TERMS


def test_the_worst_and_best_explained_are_shown_with_their_nats(text):
    """In the picture's titles, which stand in its SVG as text that a reader sees."""
    run = open_run(trained())
    log_px = run.per_observation()["log_px"]
    order = log_px.argsort(stable=True)
    [source] = re.findall(r'id="extremes"><h2>[^<]*</h2><figure><img src="data:image/svg[^,]*,([^"]*)"', text)
    svg = base64.b64decode(source).decode()
    for row in (order[0], order[7], order[-8], order[-1]):
        assert f"{log_px[row]:.1f}".replace("-", "−") in svg
    rows = ", ".join(str(row) for row in run.data().test.rows_of(order[:8]).tolist())
    assert f"rows {rows} of the data" in text


def test_recipe_and_environment_are_there(page):
    run = open_run(trained())
    assert (trained() / "recipe.toml").read_text() in page.text
    assert f"torch: {run.environment()['torch']}" in page.text
    assert "1617 training, 162 of them held out for validation, and 180 test observations of 1×8×8" in page.text


def test_equal_runs_have_equal_reports_but_for_the_environment(text, tmp_path):
    assert main(["train", "digits", *SMALL, "--quiet", "--out", str(tmp_path / "again")]) == 0
    other = (tmp_path / "again" / "report.html").read_text(encoding="utf-8")

    def same(page: str) -> str:
        return re.sub("<dt>Made</dt><dd>.*?</dd>", "", page.partition("<summary>Environment</summary>")[0])

    assert same(text) == same(other)


def test_the_page_names_no_path_of_the_machine(text):
    assert str(trained()) not in text.partition("<summary>Environment</summary>")[0]


def test_whatever_comes_from_files_is_escaped(capsys, tmp_path):
    run = copied(tmp_path)
    recipe = (run / "recipe.toml").read_text().replace('name = "digits"', f"name = '{EVIL}'", 1)
    (run / "recipe.toml").write_text(re.sub("^about = .*$", f"about = '{EVIL}'", recipe, flags=re.M))
    for verb in ("certify", "gaps"):
        assert said(capsys, verb, run, "--observations", "3")[0] == 0
    assert said(capsys, "information", run)[0] == 0
    assert said(capsys, "check", run, "--observations", "3")[0] == 0
    for name, keys in (
        ("certificate.json", ("verdict",)),
        ("gaps.json", ("verdict",)),
        ("information.json", ("verdict",)),
        ("checks.json", ("verdict",)),
        ("evaluation.json", ("verdict", "rate_kind")),
        ("environment.json", ("command",)),
    ):
        values = json.loads((run / name).read_text())
        changed = {"skipped": {EVIL: EVIL}} if name == "checks.json" else {}
        (run / name).write_text(json.dumps({**values, **dict.fromkeys(keys, EVIL), **changed, EVIL: EVIL}))
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "why": EVIL}))
    (run / "digests.json").unlink()
    assert said(capsys, "report", run)[0] == 0
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "<script" not in text
    page = Page(text)
    assert page.open == []
    assert page.text.count(EVIL) >= 13


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """Makes the page, without pictures, of a run whose evaluation says something else."""
    run = copied(tmp_path_factory.mktemp("judged"))
    data = open_run(run).data()
    found = {**open_run(run).evaluation(), "reliable": True, "is_likelihood": True}

    def page(**changes) -> Page:
        kept = {key: value for key, value in {**found, **changes}.items() if value != "gone"}
        (run / "evaluation.json").write_text(json.dumps(kept), encoding="utf-8")
        return Page(render(open_run(run), data, []))

    return page


def test_a_reliable_evaluation_has_a_plain_verdict(judged):
    page = judged()
    assert "read with care" not in page.text
    assert "log p(x), estimate by proposals fitted to each observation" in page.text
    assert "NLL" in page.text
    assert "estimate of −log p(x) by proposals fitted to each observation" in page.text
    assert "Pareto's k" in page.text


def test_an_unreliable_evaluation_has_a_warning(judged):
    page = judged(reliable=False, proposal="posterior")
    assert "read with care" in page.text
    assert "log p(x), lower bound from 20 samples of q(z|x)" in page.text
    assert "upper bound on −log p(x) from 20 samples of q(z|x)" in page.text


def test_an_exact_evaluation_needs_no_draws(judged):
    page = judged(proposal="enumerated", k_median=None, ess_median=None)
    assert "log p(x), exact as the sum over all codes" in page.text
    assert "Pareto's k" not in page.text


def test_an_evaluation_that_an_older_version_kept_is_of_the_posterior(judged):
    new = ("proposal", "draws_mean", "draws_max", "draws_error", "k_median", "high_k_share", "excluded")
    page = judged(**dict.fromkeys(new, "gone"))
    assert "log p(x), estimate from 20 samples of q(z|x)" in page.text
    assert "effective samples" in page.text
    assert "Pareto's k" not in page.text


@pytest.mark.parametrize(
    "name", ["evaluation.json", "certificate.json", "gaps.json", "information.json", "checks.json"]
)
def test_numbers_of_another_version_are_refused_in_one_line(capsys, tmp_path, name):
    run = copied(tmp_path)
    (run / name).write_text("{}", encoding="utf-8")
    code, _, error = said(capsys, "report", run)
    assert code == 2
    what = (
        "an evaluation as this version keeps it" if name == "evaluation.json" else "numbers as this version keeps them"
    )
    assert f"Expected {what}; got a damaged or foreign file at {run / name}" in error


def test_a_tail_and_a_noise_that_nobody_knows_are_not_told(judged):
    page = judged(k_median=None, draws_error=None, draws_mean=1.0, draws_max=1)
    assert "Pareto's kunknown" in page.text
    assert "at most 1effective samples" in page.text


def test_what_is_no_likelihood_is_said_to_be_none(judged):
    page = judged(is_likelihood=False)
    assert "read with care" in page.text
    assert "no log p(x): see below" in page.text
    assert "no likelihood: see the verdict" in page.text


def test_an_unknown_error_is_said_to_be_unknown(judged):
    assert "distortion−3.00± unknown" in judged(distortion=-3.0, distortion_se=None).text
    assert "distortion−12.35± 0.67" in judged(distortion=-12.345, distortion_se=0.67).text


def test_a_run_never_evaluated_has_a_page_without_evidence(tmp_path):
    run = copied(tmp_path)
    (run / "evaluation.json").unlink()
    opened = open_run(run)
    page = Page(write_report(opened, opened.model(), opened.data()).read_text(encoding="utf-8"))
    assert "Verdict" not in page.text
    assert len(page.all("img")) == 8


def test_a_report_can_be_moved_anywhere(tmp_path, text):
    moved = Path(shutil.copy(trained() / "report.html", tmp_path / "elsewhere.html"))
    assert moved.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Train on: tightbound train --resume RUN --train.epochs N.", "tightbound train --resume RUN --train.epochs N"),
        ("tightbound gaps RUN, or tb.evaluate.gaps, tells", "tightbound gaps RUN"),
        ("Repeat with --train.learning-rate 0.001, or", "--train.learning-rate 0.001"),
    ],
)
def test_what_can_be_typed_is_one_piece_of_code(text: str, code: str) -> None:
    assert f"<code>{code}</code>" in with_commands(text)
    assert with_commands(text).count("<code>") == 1
