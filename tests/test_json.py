"""``--json`` of every verb: one strict object alone on standard output, whose keys are those of the page."""

from __future__ import annotations

import contextlib
import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_demo import SMALL as TINY_DEMO
from test_docs import DOCS, blocks, tables
from test_labs import small
from tiny import SMALL, copied, said, trained

from tightbound.cli import commands, demo
from tightbound.cli.answer import answering, strict
from tightbound.cli.verbs import app
from tightbound.evaluate.scores import predicted
from tightbound.labs import LABS
from tightbound.runs import recipe as recipes
from tightbound.runs.run import open_run

PAGE = DOCS / "json.md"
FINISHED = (*SMALL, "--train.epochs", "30")  # of few observations, so that it is more than a hundred steps
KINDS: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "true or false": (bool,),
    "whole number": (int,),
    "number": (int, float, type(None)),  # which is null where it cannot be told
    "object": (dict,),
    "list": (list,),
}


@dataclass(frozen=True)
class Key:
    """A key of the page: what it leads to, and whether it can be missing."""

    path: tuple[str, ...]
    kind: str
    optional: bool

    @property
    def of(self) -> str:
        """The section that says what the object is, where that is another one."""
        found = re.search(r"\[([^]]+)\]", self.kind)
        return found[1] if found else ""

    def takes(self, value: object) -> bool:
        if value is None:
            return "null" in self.kind or self.kind in ("number", "any")
        if self.kind.startswith("any"):
            return True
        kind = "object" if self.of else next(name for name in KINDS if self.kind.startswith(name))
        return isinstance(value, KINDS[kind]) and not (isinstance(value, bool) and kind != "true or false")


def page() -> dict[str, list[Key]]:
    """The keys of each section."""
    text = PAGE.read_text(encoding="utf-8")
    titles = [
        title for title, body in re.findall(r"^##+ (.+)\n((?:(?!^#).*\n)*)", text, re.MULTILINE) if "| key" in body
    ]
    found = {}
    for title, (_, *rows) in zip(titles, tables(PAGE), strict=True):
        found[title] = [
            Key(parts(name), kind.replace(", optional", ""), "optional" in kind or meaning.endswith("; optional"))
            for names, kind, meaning in rows
            for name in re.findall(r"`([^`]+)`", names)
        ]
    return found


def parts(name: str) -> tuple[str, ...]:
    """``a.b[].c`` as ("a", "b", "[]", "c")."""
    return tuple(part for part in name.replace("[]", ".[]").split("."))


def leads(key: tuple[str, ...], path: tuple[str, ...]) -> bool:
    return len(key) == len(path) and all(mine in ("*", one) for mine, one in zip(key, path, strict=True))


def unlike(table: Any, keys: list[Key], pages: dict[str, list[Key]]) -> list[str]:
    """How an object differs from what the page says of it, a line each."""
    return [*_undocumented(table, (), keys, pages), *_missing(table, keys)]


def _undocumented(value: Any, path: tuple[str, ...], keys: list[Key], pages: dict[str, list[Key]]) -> Iterator[str]:
    exact = [key for key in keys if leads(key.path, path)]
    key = next((key for key in exact if key.path == path), exact[0] if exact else None)
    inside = [each for each in keys if len(each.path) > len(path) and leads(each.path[: len(path)], path)]
    if key is not None and not key.takes(value):
        yield f"{'.'.join(path)} is {value!r}, not {key.kind}"
    elif key is not None and key.of and value is not None:
        yield from (f"{'.'.join(path)}: {line}" for line in unlike(value, pages[key.of], pages))
    elif isinstance(value, dict) and inside:
        for name, each in value.items():
            yield from _undocumented(each, (*path, name), keys, pages)
    elif isinstance(value, list) and inside:
        for each in value:
            yield from _undocumented(each, (*path, "[]"), keys, pages)
    elif key is None:
        yield f"{'.'.join(path)} is not on the page: {value!r}"


def _missing(table: Any, keys: list[Key]) -> Iterator[str]:
    for key in keys:
        found = [table]
        for part in key.path[:-1]:
            found = [inner for each in found for inner in _within(each, part)]
        last = key.path[-1]
        if last == "[]":
            continue
        if not key.optional and not all(isinstance(each, dict) and (last == "*" or last in each) for each in found):
            yield f"{'.'.join(key.path)} is missing"


def _within(value: Any, part: str) -> list[Any]:
    if part == "[]" or (part == "*" and isinstance(value, dict)):
        return list(value.values()) if isinstance(value, dict) else list(value or [])
    return [] if value is None or value.get(part) is None else [value[part]]


@pytest.fixture(scope="module")
def pages() -> dict[str, list[Key]]:
    return page()


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of a bar whose kind and place are known."""
    path = tmp_path_factory.mktemp("bars") / "bars.npz"
    kind, place, _ = (each.ravel() for each in np.meshgrid(range(2), range(6), range(25), indexing="ij"))
    images = np.zeros((len(kind), 6, 6), np.uint8)
    images[np.arange(len(kind)), place] = 1
    images[kind == 1] = images[kind == 1].transpose(0, 2, 1)
    np.savez(path, x=images, factors=np.stack([kind, place], 1), factor_names=np.array(["kind", "place"]))
    return path


def given(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    """The object that a verb prints, and nothing beside it."""
    code, out, error = said(capsys, *words, "--json")
    assert code == 0, error
    assert out.count("\n") == 1
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


CASES = {  # section of the page: words of a command
    "version": "version",
    "recipes": "recipes",
    "recipes NAME": "recipes mnist",
    "data": "data",
    "data NAME": "data digits",
    "data clear": "data clear",
    "train": "train digits --out OUT/new",
    "evaluate": "evaluate RUN --samples 12",
    "certify": "certify RUN --observations 4 --temperatures 3",
    "gaps": "gaps RUN --observations 4",
    "information": "information RUN --draws 100",
    "check": "check RUN --observations 20",
    "disentangle without factors": "disentangle RUN --observations 200",
    "compare": "compare RUN OTHER --out OUT/compare.html",
    "sample": "sample RUN --count 4",
    "report": "report RUN",
    "lab": "lab",
}


@pytest.mark.parametrize("section", CASES)
def test_a_verb_gives_the_keys_of_the_page(
    section: str, pages: dict[str, list[Key]], capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if section == "data clear":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    places = {"RUN": copied(tmp_path), "OTHER": trained(), "OUT": tmp_path}
    words = [re.sub("RUN|OTHER|OUT", lambda found: str(places[found[0]]), word) for word in CASES[section].split()]
    assert unlike(given(capsys, *words, *(SMALL if words[0] == "train" else ())), pages[section], pages) == []


@pytest.mark.parametrize("words", ["reconstruct --out x.npy", "traverse --steps 2", "interpolate", "embed --out x.npy"])
def test_what_shows_a_model_gives_what_sample_gives(
    words: str, pages: dict[str, list[Key]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    verb, *more = words.replace("x.npy", str(tmp_path / "x.npy")).split()
    found = given(capsys, verb, copied(tmp_path), *more)
    assert unlike(found, pages["sample"], pages) == []
    assert Path(found["file"]).is_file()
    assert found["shape"] == (list(np.load(found["file"]).shape) if found["file"].endswith(".npy") else None)


def test_of_known_factors(
    bars: Path, pages: dict[str, list[Key]], capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(predicted, "TREES", 5)
    words = ["auto", "--data", bars, *FINISHED, "--quiet", "--out"]
    found = given(capsys, "sweep", "--over", "objective.beta=1,4", "--seeds", "2", *words, tmp_path / "s")
    assert unlike(found, pages["sweep"], pages) == []
    assert [row["beta"] for row in found["rows"]] == [1, 4, 1, 4]
    assert found["choices"]
    assert json.loads((tmp_path / "s" / "sweep.json").read_text()).items() <= found.items()
    scores = given(capsys, "disentangle", tmp_path / "s" / "beta=1")
    assert unlike(scores, pages["disentangle"], pages) == []
    told = given(capsys, "data", bars)
    assert unlike(told, pages["data NAME"], pages) == []
    assert told["factors"] == {"count": 2, "names": ["kind", "place"]}


def test_the_demo_gives_the_keys_of_the_page(
    pages: dict[str, list[Key]], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipes.load(demo.RECIPE).updated(TINY_DEMO)
    monkeypatch.setattr(demo.recipes, "load", lambda name: recipe)
    monkeypatch.setattr(demo, "known_evidence", lambda progress: small("known-evidence"))
    found = given(capsys, "demo", "--out", tmp_path / "demo")
    assert unlike(found, pages["demo"], pages) == []
    assert [run["run"] for run in found["runs"]] == [str(tmp_path / "demo" / f"beta={beta}") for beta in (1, 8)]
    assert found["findings"]


@pytest.mark.parametrize("name", LABS)
def test_a_lab_gives_the_keys_of_the_page(
    name: str, pages: dict[str, list[Key]], capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    made = small(name)
    monkeypatch.setattr(type(LABS[name]), "load", lambda self: lambda **_: made)
    found = given(capsys, "lab", name, "--out", tmp_path / "labs")
    assert unlike(found, pages[f"lab {name}"], pages) == []
    assert all(Path(file).is_file() for file in found["files"])


def test_the_page_has_every_verb(pages: dict[str, list[Key]]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for verb in (verb for verb in app if not verb.startswith("-")):
        assert verb in {title.split()[0] for title in pages} or f"`{verb}`" in text, verb
    written = {each for cases in (CASES, {f"lab {name}": "" for name in LABS}) for each in cases}
    assert set(pages) == written | {"sweep", "disentangle", "demo"}
    for keys in pages.values():
        assert len({key.path for key in keys}) == len(keys)
        assert all(key.of in pages for key in keys if key.of)


def test_the_page_is_held_to_what_is_there(pages: dict[str, list[Key]]) -> None:
    """The comparison itself finds what is missing, what is not on the page, and what is of another kind."""
    keys = [Key(("a", "[]", "b"), "number", optional=False), Key(("c",), "text or null", optional=True)]
    assert unlike({"a": [{"b": 1}], "c": None}, keys, pages) == []
    assert unlike({"a": []}, keys, pages) == []
    assert unlike({"a": [{}, {"b": 1}]}, keys, pages) == ["a.[].b is missing"]
    assert unlike({"a": [{"b": "x", "d": 1}]}, keys, pages) == [
        "a.[].b is 'x', not number", "a.[].d is not on the page: 1"
    ]  # fmt: skip
    assert unlike({"a": [{"b": True}]}, keys, pages) == ["a.[].b is True, not number"]


def test_the_example_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    namespace: dict[str, Any] = {}
    [block] = blocks(PAGE, "python")
    exec(
        compile(block.replace('["tightbound",', f'[{sys.executable!r}, "-m", "tightbound",'), str(PAGE), "exec"),
        namespace,
    )
    kept = open_run(trained()).evaluation()
    assert kept is not None
    assert namespace["elbo"](str(trained())) == pytest.approx(kept["elbo"], abs=1e-4)


# Strict, alone, and nothing on failure


def test_a_report_gives_the_evaluation_as_evaluate_does(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = copied(tmp_path)
    found = given(capsys, "report", run)["evaluation"]
    assert found == given(capsys, "report", run)["evaluation"]
    assert {**given(capsys, "evaluate", run), "weights": found["weights"]} == found


def test_what_is_no_number_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(as_json=True) as answer:
        answer.give({"a": math.nan, "b": [math.inf, (1.0, np.float64("-inf"))], "c": np.ones((1, 2)), "d": Path("x")})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, [1.0, None]], "c": [[1.0, 1.0]], "d": "x"}
    assert strict({1: True, "x": None}) == {"1": True, "x": None}


def test_whatever_else_is_printed_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(as_json=True) as answer:
        print("a library's own words")
        answer.say("words for a person")
        answer.give({"a": 1})
    assert capsys.readouterr() == ('{"a": 1}\n', "a library's own words\n")


def test_a_failure_leaves_standard_output_empty(capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(ZeroDivisionError), answering(as_json=True) as answer:
        answer.give({"a": 1})
        raise ZeroDivisionError
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("recipes nothing", 2), ("data nothing", 2), ("evaluate nowhere", 2), ("train digits --train.epochs 0", 2),
        ("lab nothing", 2), ("sample RUN --count 0", 2), ("embed RUN --out z.txt", 2), ("report nowhere", 2),
        ("compare RUN", 2), ("sweep digits --over nothing", 2), ("train digits --out OUT --resumee", 2), ("versoin", 2),
    ],
)  # fmt: skip
def test_a_wrong_request_has_no_json(words: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    given = [str(trained()) if word == "RUN" else word for word in words.split()]
    found, out, error = said(capsys, *given, "--json")
    assert (found, out, error.count("\n")) == (code, "", 1)


def test_a_run_that_fails_or_is_stopped_has_no_json(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    run = copied(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(commands, "write_report", full)
        for words in (["report", run], ["train", "--resume", run]):
            assert said(capsys, *words, "--json")[:2] == (1, "")

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "measure", stop)
    assert said(capsys, "evaluate", run, "--json")[:2] == (1, "")


def test_several_processes_give_one_object(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from tightbound.cli.verbs import main

    words = ["train", "digits", *SMALL, "--procs", "2", "--quiet", "--json", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    assert json.loads(capfd.readouterr().out)["run"] == str(tmp_path / "run")
