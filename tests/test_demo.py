"""The demo: one page of two real runs and a toy, whose sentences are the numbers of the runs."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import refused

from tightbound import labs
from tightbound.cli import commands, demo
from tightbound.cli.verbs import main
from tightbound.evaluate import Estimate
from tightbound.reports import demonstrated
from tightbound.runs import recipe as recipes
from tightbound.runs.comparing import compare
from tightbound.runs.run import open_run

SMALL: dict[str, Any] = {
    "data.size": 16, "data.test_fraction": 0.005, "model.hidden": [32], "train.epochs": 1, "evaluate.samples": 3,
    "train.compile": "never", "train.device": "cpu", "train.precision": "float32", "objective.warmup_steps": 10,
}  # fmt: skip


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo of small pictures and a small network."""
    folder = tmp_path_factory.mktemp("demo") / "shown"
    with pytest.MonkeyPatch.context() as patch:
        recipe = recipes.load(demo.RECIPE).updated(SMALL)
        patch.setattr(demo.recipes, "load", lambda name: recipe)
        patch.setattr(demo, "known_evidence", lambda progress: labs.known_evidence(epochs=2, samples=10))
        assert demo.demonstrate(folder) == 0
    return folder / demo.PAGE


def test_the_page_tells_the_numbers_of_its_runs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = compare([page.parent / "beta=1", page.parent / "beta=8"])
    for run in found.runs:
        assert f"{Estimate(run.found['rate'], run.found['rate_se'])} " in text
        assert str(Estimate(run.found["nll"], run.found["nll_se"])) in text
    least = found.runs[0].found["baselines"]["entropy"]
    assert f"{round(math.exp(least)):,} images" in text
    assert f"less than {least:.2f} nats" in text
    assert [run.run.recipe.objective.beta for run in found.runs] == [1.0, 8.0]  # type: ignore[union-attr]
    fields = set(found.fields)
    assert fields == {"objective.beta"}


def test_every_link_of_the_page_leads_to_a_file_beside_it(page: Path) -> None:
    links = re.findall(r'href="([^"#]+)"', page.read_text(encoding="utf-8"))
    assert links == ["beta=1/report.html", "beta=8/report.html", "compare.html"]
    assert all((page.parent / link).is_file() for link in links)


def test_the_toy_stands_beside_its_truth(page: Path) -> None:
    toy = labs.known_evidence(epochs=2, samples=10).numbers
    text = page.read_text(encoding="utf-8")
    assert f"truth {toy['exact']:.5f}".replace("-", "−") in text
    assert str(Estimate(toy["estimate"], toy["noise"])).replace("-", "−") in text


def test_both_runs_are_runs_like_any_other(page: Path) -> None:
    for beta in (1, 8):
        made = open_run(page.parent / f"beta={beta}")
        assert made.evaluation() is not None
        assert made.metrics()[-1]["step"] > 0


def test_a_folder_that_holds_something_is_refused_before_any_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(demo, "known_evidence", lambda progress: pytest.fail("work began"))
    (tmp_path / "mine.txt").touch()
    assert "already holds something" in refused(capsys, "demo", "--out", str(tmp_path))
    assert "sprites" in refused(capsys, "demo", "spirtes")


def test_a_demo_that_is_interrupted_ends_without_a_page(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trained: list[Path] = []

    def train(recipe: recipes.Recipe, out: Path) -> int:
        trained.append(out)
        return 1

    monkeypatch.setattr(demo, "known_evidence", lambda progress: "the toy")
    monkeypatch.setattr(commands, "train", train)
    assert main(["demo", "--out", str(tmp_path / "new")]) == 1
    assert [path.name for path in trained] == ["beta=1"]
    assert not (tmp_path / "new" / demo.PAGE).exists()


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_other_demos_are_runs_of_their_recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    asked: list[tuple[str, Path]] = []
    monkeypatch.setattr(commands, "train", lambda recipe, out: asked.append((recipe.name, out)) or 0)
    assert main(["demo", name, "--out", str(tmp_path / "run")]) == 0
    assert asked == [(name, tmp_path / "run")]


# What β does, in words


def changed(page: Path, change: Callable[[str], float]) -> list[str]:
    """The findings of the page's runs, with other differences: ``change`` gives each quantity's mean."""
    found = compare([page.parent / "beta=1", page.parent / "beta=8"])
    [less] = found.differences
    quantities = {name: Estimate(change(name), 1.0) for name in ("distortion", "log_px")}

    class Changed:
        runs = found.runs
        differences = (dataclasses.replace(less, lacks=0.0, **quantities),)

    return demonstrated.findings(Changed())  # type: ignore[arg-type]


def test_a_price_is_told_where_both_differences_are_and_by_their_signs(page: Path) -> None:
    [price] = [each for each in changed(page, lambda name: 9.0 if name == "distortion" else -8.0) if "price" in each]
    assert "cost 9.0 ± 1.0 nats more, and log p(x) is 8.0 ± 1.0 nats lower" in price
    [price] = [each for each in changed(page, lambda name: -9.0 if name == "distortion" else 8.0) if "price" in each]
    assert "cost 9.0 ± 1.0 nats less, and log p(x) is 8.0 ± 1.0 nats higher" in price
    assert not [each for each in changed(page, lambda name: 9.0 if name == "distortion" else -0.5) if "price" in each]


def test_the_share_of_variance_between_levels_is_one_where_levels_are_points() -> None:
    levels = torch.arange(30) % 3
    codes = torch.stack((levels.double(), torch.randn(30, dtype=torch.float64)), 1)
    share = demonstrated._share(codes, levels)
    assert share[0].item() == pytest.approx(29 / 30)  # the variance divides by N - 1
    assert share[1] < 0.5
