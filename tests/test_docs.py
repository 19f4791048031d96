"""What README and docs say is true: their code runs, their commands parse, their links and names exist."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_layers import ALLOWED, MODULES, PACKAGE

import tightbound as tb
from tightbound.cli.verbs import app
from tightbound.files import DIGESTS
from tightbound.ownership import LOCK
from tightbound.runs import folder as runs
from tightbound.runs import pieces, registry, starting
from tightbound.runs import recipe as recipes
from tightbound.training.checkpoint import OLDER, STATE, WEIGHTS
from tightbound.training.journal import METRICS, TIMING
from tightbound.training.loggers import TENSORBOARD

ROOT = PACKAGE.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
LONGEST_EXAMPLE = 25  # lines: what a reader holds in one head

every_page = pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def execute(page: Path) -> dict[str, Any]:
    """Run a page's Python blocks in order, in one namespace; a traceback names the page and the line."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    text = page.read_text(encoding="utf-8")
    for block in blocks(page, "python"):
        before = text[: text.index(block)].count("\n")
        exec(compile("\n" * before + block, str(page), "exec", dont_inherit=True), namespace)
    return namespace


def commands(page: Path) -> list[list[str]]:
    """The words of every ``tightbound …`` line in a page's shell blocks, and of those in its running text."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    inline = re.findall(r"`(tightbound [^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    found = [shlex.split(line, comments=True) for line in (*lines, *inline)]
    return [words[1:] for words in found if words and words[0].rpartition("/")[2] == "tightbound"]


def test_the_examples_pass_the_type_checker(tmp_path: Path) -> None:
    """As strictly as the library itself: what a reader copies gives no complaint in an editor."""
    for page in PAGES:
        if code := "\n\n".join(blocks(page, "python")):
            (tmp_path / f"{page.stem.lower()}_of_docs.py").write_text(code, encoding="utf-8")
    words = ["--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache", tmp_path]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "MYPYPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@every_page
def test_commands_are_understood(page: Path) -> None:
    for words in commands(page):
        if "--help" in words:
            words.remove("--help")
            assert not words or words[0] in app, f"there is no verb {words}"
            continue
        app.parse_args(words, exit_on_error=False, print_error=False)
        if words[0] in ("train", "sweep") and re.fullmatch(r"[a-z][a-z-]*", (*words, "")[1]):
            assert words[1] in recipes.shipped(), f"{page.name} names the recipe {words[1]}"


@every_page
def test_make_targets_exist(page: Path) -> None:
    made = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", page.read_text(encoding="utf-8"))) <= {
        pair for name in made for pair in ((name, ""), ("", name))
    }


@every_page
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), f"{link} in {page.name}"
        headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [slug(heading) for heading in headings], f"{link} in {page.name}"


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@every_page
def test_toml_blocks_are_recipes(page: Path) -> None:
    for block in blocks(page, "toml"):
        recipes.from_toml(block)


@every_page
def test_dotted_flags_and_fields_in_the_text_exist(page: Path) -> None:
    table = {**recipes.to_table(recipes.Recipe()), "objective": {}}
    for objective in registry.OBJECTIVES.values():
        table["objective"] |= dict.fromkeys(item.name for item in dataclasses.fields(objective))
    text = page.read_text(encoding="utf-8")
    for section, field in re.findall(r"--(data|model|objective|train|evaluate)\.([a-z-]+)", text):
        assert field.replace("-", "_") in {*table[section], "size"}, f"--{section}.{field} in {page.name}"


def test_the_idea_holds_for_a_model_solved_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    found = execute(DOCS / "idea.md")
    log_w = found["draws"].log_w
    gap = found["p_x"].log_prob(found["x"]) - log_w.mean(0)
    error = (gap - found["kl_divergence"](found["q_z"], found["p_z"])).abs()
    assert (error < 4 * log_w.std(0) / len(log_w) ** 0.5).all()


def test_the_page_of_dimensions_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    execute(DOCS / "dimensions.md")
    said = capsys.readouterr().out.splitlines()
    [shown] = blocks(DOCS / "dimensions.md", "text")
    assert said[1:4] == shown.strip().splitlines()


def test_the_page_of_tables_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    found = execute(DOCS / "tables.md")
    said = capsys.readouterr().out
    [shown] = blocks(DOCS / "tables.md", "text")
    for part in shown.split("..."):
        assert part.strip() in said
    table, rows, names = found["table"], found["rows"], found["schema"].names
    assert list(rows.columns) == list(names) == ["income", "plan", "visits", "since"]
    assert rows["income"].corr(rows["visits"]) < -0.2  # as in the table, by the code alone
    assert rows.groupby("plan")["income"].median().rank().to_dict() == {"basic": 1.0, "plus": 2.0, "pro": 3.0}
    assert abs(np.log(rows["income"]).mean() - np.log(table["income"]).mean()) < 0.2


def test_the_reference_page_runs() -> None:
    execute(DOCS / "api.md")


def test_the_examples_of_extending_run_and_do_what_they_say(capsys: pytest.CaptureFixture[str]) -> None:
    found = execute(DOCS / "extending.md")
    draws = found["draws"]
    elbo, iwae = tb.bounds.elbo(draws), tb.bounds.iwae(draws)
    torch.testing.assert_close(found["tvo"](draws, steps=1), elbo)
    assert ((elbo <= found["tvo"](draws)) & (found["tvo"](draws) <= iwae)).all()
    largest_error = (draws.log_w.amax(0) - elbo) / 500  # of a left Riemann sum whose terms rise from one to the other
    assert (iwae - found["tvo"](draws, steps=500) <= largest_error).all()
    assert set(found["mmd_fit"].metrics[-1]) >= {"loss", "distortion", "rate", "mmd"}
    assert found["fit"].objective.kl == "sampled"
    with pytest.raises(TypeError, match=r"whose rate has a closed form.*kl='sampled'"):
        tb.objectives.ELBO(kl="closed-form")(
            found["model_of"](found["StudentT"](2), tb.likelihoods.Gaussian), found["x"]
        )


@pytest.mark.parametrize("block", [*blocks(DOCS / "extending.md", "python"), *blocks(DOCS / "tutorial.md", "python")])
def test_an_example_is_short(block: str) -> None:
    assert len(block.splitlines()) <= LONGEST_EXAMPLE


def test_the_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 18, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        folder = tmp_path / "photos" / ("cats", "dogs")[index % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index}.png")
    [toml] = blocks(DOCS / "tutorial.md", "toml")
    small = {"data.size": 8, "train.epochs": 1, "model.hidden": [8]}
    starting.train(recipes.from_toml(toml).updated(small), "runs/photos", progress=False)
    found = execute(DOCS / "tutorial.md")
    printed = capsys.readouterr().out
    assert "discretized-logistic, since the values are 256 levels of each colour" in printed
    assert (tmp_path / "strangest.png").stat().st_size > 0
    assert found["new"].shape == (16, 3, 8, 8)
    the_course_shows_what_it_prints(printed)
    its_formulas_hold(found)
    its_estimators_are_what_it_says(found)


def the_course_shows_what_it_prints(printed: str) -> None:
    """Each block of output was printed, in order; numbers depend on the machine, and so may what is said of a bias."""

    def words(text: str) -> str:
        return " ".join(word for word in _words_alone(text) if word not in ("below", "±"))

    rest = words(printed)
    for text in blocks(DOCS / "tutorial.md", "text")[1:]:
        _, found, rest = rest.partition(words(text))
        assert found, text


def its_formulas_hold(found: dict[str, Any]) -> None:
    assert (found["elbo"] < found["log_px"]).all()
    torch.testing.assert_close(found["by_hand"], found["by_latent"])
    torch.testing.assert_close(torch.stack(found["by_slope"]), torch.stack(found["by_library"]), atol=1e-4, rtol=1e-4)
    each = 2 * found["moved"].detach().square()  # d z²/dμ = 2z · z, draw by draw
    assert (found["through_draws"] - found["known"]).abs() < 4 * each.std() / len(each) ** 0.5
    low, plain, high = found["of_beta"].values()
    assert low.distortion.value < plain.distortion.value < high.distortion.value
    assert plain.elbo.value > max(low.elbo.value, high.elbo.value)


def its_estimators_are_what_it_says(found: dict[str, Any]) -> None:
    slopes = found["slopes"]
    assert slopes["leave-one-out"] == pytest.approx(slopes["enumeration"], abs=4 * 0.0001)
    assert slopes["score function"] == pytest.approx(slopes["enumeration"], abs=4 * 0.0003)
    assert min(slopes["straight-through"], slopes["Gumbel-softmax"]) > 3 * slopes["enumeration"]
    variance = {(each.gradient, each.samples): each.variance for each in found["of_normals"].estimates}
    for name in ("pathwise", "sticking the landing", "score function"):
        assert 8 < variance[name, 1] / variance[name, 16] < 32
    assert variance["pathwise", 1] < variance["score function", 16]
    signal = [found["of_weights"].length[each.samples] / each.variance**0.5 for each in found["of_weights"].estimates]
    assert signal[0] > signal[1]
    assert min(signal[2:]) > max(signal[:2])


def test_the_tutorial_shows_the_lines_that_an_evaluation_prints() -> None:
    model = tb.VAE(
        prior=tb.priors.StandardNormal(2),
        posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(4, 4)),
        likelihood=tb.likelihoods.Bernoulli(torch.nn.Linear(2, 4)),
    )
    printed = str(tb.evaluate.evidence(model, torch.ones(5, 4), samples=1000))
    shown, *_ = blocks(DOCS / "tutorial.md", "text")
    names = [line[:20].strip() for line in printed.split("\n\n")[0].splitlines()[1:]]
    assert [line[:20].strip() for line in shown.split("\n\n")[0].splitlines()[1:]] == names
    [meanings] = [table for table in tables(DOCS / "idea.md") if table[0][0] == "line"]
    explained = [re.sub("…", r"\\d+", row[0]) for row in meanings[1:]]
    assert all(any(re.fullmatch(name, each) for name in explained) for each in names)


def test_the_tutorial_names_the_pictures_of_a_report() -> None:
    [pictures] = [table for table in tables(DOCS / "tutorial.md") if table[0][0] == "picture"]
    made = re.findall(r'Picture\("\w+", "([^"]+)"', (PACKAGE / "reports" / "figures.py").read_text(encoding="utf-8"))
    assert {row[0] for row in pictures[1:]} <= set(made)


def tables(page: Path) -> list[list[list[str]]]:
    """The cells of every table of a page, its head first."""
    found = re.findall(r"(?:^\|.*\|\n)+", page.read_text(encoding="utf-8"), re.MULTILINE)
    rows = [[line.replace(r"\|", "∣").strip()[1:-1].split("|") for line in table.splitlines()] for table in found]
    return [[[cell.strip() for cell in row] for i, row in enumerate(table) if i != 1] for table in rows]


def test_the_architecture_names_every_module() -> None:
    [layout] = blocks(DOCS / "architecture.md", "text")
    inside, outside = layout.split("tests/ ")[0], layout.split("\n")
    named = {name.removesuffix(".py") for name in re.findall(r"^  (\w+(?:\.py|/))", inside, re.MULTILINE)}
    there = {name for name in MODULES if name and "." not in name and not name.startswith("_")}
    assert {name.removesuffix("/") for name in named} - {"recipes"} == there
    assert all((ROOT / line.split("/")[0]).is_dir() for line in outside if re.match(r"\w+/", line))


def test_the_architecture_has_the_arrows_that_are_enforced() -> None:
    [arrows] = [table for table in tables(DOCS / "architecture.md") if table[0][0] == "module"]
    names = [re.findall(r"`(\w+)`", row[0]) for row in arrows[1:]]
    allowed = [set(re.findall(r"`(\w+)`", row[1])) for row in arrows[1:]]
    written = {name: others for each, others in zip(names, allowed, strict=True) for name in each}
    there = {name for name in MODULES if name and not name.startswith("_")}
    assert written == {name: others & there for name, others in ALLOWED.items() if name in there}


def test_the_architecture_names_every_file_of_a_run() -> None:
    [files] = [table for table in tables(DOCS / "architecture.md") if table[0][0] == "file"]
    written = {name.rstrip("/") for row in files[1:] for name in re.findall(r"`([^`]+)`", row[0])}
    about = (runs.RECIPE, runs.CONFIG, runs.RECORD, runs.MODEL, runs.ENVIRONMENT)
    trained = (WEIGHTS, METRICS, TIMING, STATE.as_posix())
    guarded = (OLDER.as_posix(), DIGESTS, LOCK)
    judged = (runs.EVALUATION, runs.PER_OBSERVATION, runs.UNFINISHED, runs.CERTIFICATE, runs.GAPS, runs.INFORMATION)
    checked = (runs.CHECKS, runs.CHECKED, runs.DISENTANGLEMENT, runs.FACTORED, runs.CLASSIFICATION, runs.INDEPENDENCE)
    assert written == {*about, *trained, *guarded, *judged, *checked, runs.REPORT, runs.FIGURES, TENSORBOARD}


def test_the_page_of_labs_runs_and_shows_what_they_print(capsys: pytest.CaptureFixture[str]) -> None:
    execute(DOCS / "labs.md")
    shown = dict(
        zip(
            re.findall(r"^tightbound lab (\S+)$", (DOCS / "labs.md").read_text("utf-8"), re.MULTILINE),
            blocks(DOCS / "labs.md", "text"),
            strict=True,
        )
    )
    for name, text in shown.items():
        assert (DOCS / "figures" / f"lab-{name}.png").stat().st_size < 120_000
        if name in ("reparameterisation", "bounds"):  # which train nothing; last digits depend on the machine
            assert _words_alone(text) == _words_alone(str(tb.labs.LABS[name].load()()))


def _words_alone(text: str) -> list[str]:
    return re.sub(r"[-+−]?\d[\d.,e-]*", "", text).split()


def test_choosing_lists_every_choice_of_a_recipe() -> None:
    text = (DOCS / "choosing.md").read_text(encoding="utf-8")
    for table in (pieces.LIKELIHOODS, pieces.POSTERIORS, pieces.PRIORS, registry.OBJECTIVES, pieces.GRADIENTS):
        for choice in table:
            assert f"`{choice}`" in text or f'"{choice}"' in text, choice


def test_choosing_quotes_the_verdict() -> None:
    [verdicts] = [table for table in tables(DOCS / "choosing.md") if table[0][0] == "verdict"]
    source = (PACKAGE / "evaluate" / "verdict.py").read_text(encoding="utf-8")
    said = re.sub(r'"\s*f?"', "", source)  # adjacent strings are one
    for quoted, *_ in verdicts[1:]:
        for part in re.split("…", quoted.strip("*")):
            words = re.sub(r"\d+ of \d+|\d+", "", part).strip()
            assert not words or words in re.sub(r"\{[^{}]*\}|\d+", "", said), words
