"""The registry: each piece stands in one row, everything else reads it there, and a new piece takes one row."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.distributions as td
from building import SMALL, values
from torch import Tensor

import tightbound as tb
from tightbound.data import Observations, summarise
from tightbound.likelihoods import Likelihood
from tightbound.objectives import Loss
from tightbound.reports.page import write_report
from tightbound.runs import drawn, registry
from tightbound.runs import recipe as recipes
from tightbound.runs.build import build
from tightbound.runs.measured import measure
from tightbound.runs.pieces import GRADIENTS, LIKELIHOODS, POSTERIORS, PRIORS
from tightbound.runs.plan import Plan, imported
from tightbound.runs.recipe import Recipe
from tightbound.runs.registry import OBJECTIVES, register
from tightbound.runs.rows import GradientRow, LikelihoodRow, ObjectiveRecipe, PosteriorRow, PriorRow
from tightbound.runs.run import open_run
from tightbound.runs.starting import train

PACKAGE = Path(tb.__file__).parent
TABLES: tuple[dict[str, Any], ...] = (LIKELIHOODS, POSTERIORS, PRIORS, GRADIENTS, OBJECTIVES)


@pytest.fixture(autouse=True)
def _registry_as_before() -> Iterator[None]:
    before = [dict(table) for table in TABLES]
    yield
    for table, rows in zip(TABLES, before, strict=True):
        table.clear()
        table.update(rows)


# A new piece: one class and one row


class Exponential(Likelihood):
    """Positive numbers."""

    def elements(self, out: Tensor, lead: int) -> td.Distribution:
        return td.Exponential(out.exp(), validate_args=False)

    def initial_output(self, mean: Tensor) -> Tensor:
        return -mean.clamp(min=1e-3).log()


@dataclass(frozen=True)
class Squeezed:
    """The distortion, and the square of the rate with a weight."""

    weight: float
    samples: int

    def __call__(self, model: tb.Model, batch: tb.Batch, step: Tensor | None = None) -> Loss:
        draws = model.draw(batch, samples=self.samples)
        distortion, rate = -draws.log_px_z.mean(), (draws.log_qz_x - draws.log_pz).mean()
        return Loss(distortion + self.weight * rate**2, {"distortion": distortion.detach(), "rate": rate.detach()})


EXPONENTIAL = LikelihoodRow(
    name="exponential", cls=f"{__name__}.Exponential", about="positive numbers", standardises=True
)


@dataclass(frozen=True, kw_only=True)
class SqueezedRecipe(ObjectiveRecipe):
    """The rate, squared.

    Attributes:
        weight: Of the squared rate.
        samples: Draws of z for each observation.
    """

    name: str = dataclasses.field(default="squeezed", init=False, repr=False)
    weight: float = 0.5
    samples: int = 1
    cls: ClassVar[str] = f"{__name__}.Squeezed"

    def in_words(self, steps: int) -> str:
        return f"Loss = distortion + {self.weight:g} × the square of the rate."


def test_a_new_likelihood_and_a_new_objective_take_one_row_each(tmp_path: Path) -> None:
    register(EXPONENTIAL)
    register(SqueezedRecipe)
    text = "[model]\nlikelihood = 'exponential'\n[objective]\nname = 'squeezed'\nweight = 0.25\n"
    wanted = recipes.from_toml(text).updated({**SMALL, "train.validation": 10})
    trained = train(wanted, tmp_path / "run", data=td.Exponential(2.0).sample((60, 4)), progress=False)
    assert type(trained.model.likelihood).__name__ == "Exponential"
    assert trained.result.objective == Squeezed(weight=0.25, samples=1)
    assert trained.result.steps > 0
    run = open_run(tmp_path / "run")
    assert run.recipe.objective == SqueezedRecipe(weight=0.25)
    assert run.model().sample(3).min() >= 0
    run.save_evaluation(measure(run.model(), trained.data.test, samples=5))
    page = write_report(run, run.model(), trained.data).read_text(encoding="utf-8")
    assert page.count("Loss = distortion + 0.25 × the square of the rate.") == 2  # in the head and under the curves
    assert "exponential likelihood (named in the recipe)" in page


def test_without_its_row_a_piece_is_unknown() -> None:
    with pytest.raises(ValueError, match=r"Expected 'auto' or .* for model.likelihood; got 'exponential'"):
        recipes.from_toml("[model]\nlikelihood = 'exponential'")
    with pytest.raises(ValueError, match=r"Expected 'elbo' or .* for objective.name; got 'squeezed'"):
        recipes.from_toml("[objective]\nname = 'squeezed'")


def test_a_new_objective_is_told_apart_in_errors_too() -> None:
    register(SqueezedRecipe)
    with pytest.raises(ValueError, match=r"with the objective 'elbo'; got objective.weight, a field of 'squeezed'"):
        recipes.from_toml("[objective]\nweight = 2")
    with pytest.raises(
        ValueError, match=r"Expected only the fields weight and samples with the objective 'squeezed'; got objective.b"
    ):
        recipes.from_toml("[objective]\nname = 'squeezed'\nbeta = 2")


@pytest.mark.parametrize(
    "row",
    [
        LikelihoodRow(name="gaussian", cls="x.Y", about="mine"),
        PosteriorRow(name="full-normal", cls="x.Y", about="mine"),
        PriorRow(name="vamp", cls="x.Y", about="mine"),
        GradientRow(name="pathwise", cls="x.Y", about="mine"),
        drawn.Elbo,
    ],
)
def test_a_name_is_given_once(row: Any) -> None:
    with pytest.raises(ValueError, match=f"Expected a name of its own for the .*; got '{row.name}', which is taken"):
        register(row)


@pytest.mark.parametrize("wrong", ["gaussian", Exponential, None])
def test_only_rows_are_registered(wrong: Any) -> None:
    with pytest.raises(TypeError, match="Expected a row of the registry or a subclass of ObjectiveRecipe; got "):
        register(wrong)


# What stands in the rows


@pytest.mark.parametrize("row", [row for table in TABLES for row in table.values()], ids=lambda row: row.name)
def test_every_row_names_a_class_of_the_library(row: Any) -> None:
    cls = imported(row.cls)
    assert inspect.isclass(cls)
    assert row.cls.startswith("tightbound.")
    assert row.name == row.name.lower()


@pytest.mark.parametrize("row", [row for table in TABLES[:-1] for row in table.values()], ids=lambda row: row.name)
def test_every_piece_takes_what_its_class_takes_and_is_described(row: Any) -> None:
    assert set(row.takes) <= inspect.signature(imported(row.cls)).parameters.keys()
    assert row.about
    assert not row.about.endswith(".")


def test_every_class_of_the_library_stands_in_a_row() -> None:
    named = {row.cls for table in TABLES for row in table.values()} | {row.bound for row in OBJECTIVES.values()}
    for module in (tb.likelihoods, tb.posteriors, tb.priors, tb.gradients):
        own = [cls for cls in vars(module).values() if inspect.isclass(cls) and cls.__module__ == module.__name__]
        made = {f"{cls.__module__}.{cls.__name__}" for cls in own if not inspect.isabstract(cls)}
        made -= {"tightbound.posteriors.Joint", "tightbound.priors.Joint"}  # of parts, of which a recipe has one
        assert {name for name in made if not name.rpartition(".")[2].startswith("_")} <= named


@pytest.mark.parametrize("cls", OBJECTIVES.values(), ids=OBJECTIVES)
def test_every_objective_is_made_of_its_own_fields(cls: type[ObjectiveRecipe]) -> None:
    objective = registry.plan(cls()).make()
    assert type(objective) is imported(cls.cls)
    for field in dataclasses.fields(cls):
        if hasattr(objective, field.name) and field.name != "gradient":
            assert getattr(objective, field.name) == getattr(cls(), field.name)


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_reach_their_objective(name: str) -> None:
    objective = registry.plan(drawn.Iwae(gradient=name)).make()
    assert type(objective.gradient) is imported(GRADIENTS[name].cls)


def test_a_warm_up_becomes_a_schedule() -> None:
    made = registry.plan(drawn.Capacity(capacity=9.0, warmup_steps=5)).make()
    assert made.capacity == tb.schedules.Linear(0.0, 9.0, steps=5)
    assert registry.plan(drawn.Capacity(capacity=9.0)).make().capacity == 9.0


def test_plans_within_plans_are_made_first() -> None:
    plan = Plan(
        "tightbound.objectives.ELBO", {"beta": Plan("tightbound.schedules.Linear", {"start": 0, "end": 1, "steps": 2})}
    )
    assert plan.make().beta == tb.schedules.Linear(0, 1, 2)


@pytest.mark.parametrize("cls", OBJECTIVES.values(), ids=OBJECTIVES)
def test_every_objective_is_said_in_one_sentence(cls: type[ObjectiveRecipe]) -> None:
    assert re.fullmatch(r"Loss = .*[^.]\.", cls().in_words(100))


# What "auto" picks

NATURES = ("binary", "levels", "unit", "counts", "overdispersed", "codes", "real")


def test_each_nature_of_data_has_exactly_one_likelihood() -> None:
    suited = [row.suits for row in LIKELIHOODS.values() if row.suits is not None]
    assert sorted(suited) == sorted(NATURES)
    assert [LIKELIHOODS[registry.suited(nature)].suits for nature in NATURES] == list(NATURES)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "nature"),
    [("binary", "binary"), ("grey", "levels"), ("floats", "unit"), ("counts", "counts"), ("real", "real"),
     ("overdispersed", "overdispersed")],
)  # fmt: skip
def test_what_auto_picks_describes_the_data(kind: str, nature: str) -> None:
    x = torch.from_numpy(values(kind))
    facts = summarise(Observations(x, scale=255 if x.dtype == torch.uint8 else 1))
    assert facts.nature == nature
    picked = LIKELIHOODS[registry.suited(facts.nature)]
    assert facts.kind in picked.kinds


@pytest.mark.parametrize("kind", ["binary", "grey", "floats", "counts", "real"])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_kinds_say_what_builds(name: str, kind: str) -> None:
    """A row lets through exactly the data that its class gives a finite log-density."""
    x = values(kind, (6,))
    wanted = Recipe().updated({**SMALL, "model.likelihood": name, "train.validation": 0})
    scale = 255 if x.dtype == "uint8" else 1
    data = Observations(torch.from_numpy(x), scale=scale)
    if summarise(data).kind in LIKELIHOODS[name].kinds and not (name == "discretized-logistic" and kind == "floats"):
        built = build(wanted, data)
        assert built.model.draw(built.data.train.eval_batch(0, 4)).log_w.isfinite().all()
    else:
        refusal = f"Expected {LIKELIHOODS[name].wants}.* for model.likelihood '{name}'; got "
        with pytest.raises(ValueError, match=refusal):
            build(wanted, data)


# Each name is written once

OTHER_WORDS = {"elbo", "iwae", "capacity"}  # an evaluation's bounds and a field are called so too


def constants(file: Path) -> list[ast.Constant]:
    """The texts in a file that are no docstrings and no ``__all__``; words of another meaning only where compared."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    documented = [node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docs = {id(node.body[0].value) for node in documented if node.body and isinstance(node.body[0], ast.Expr)}
    public = [
        node.value for node in tree.body if isinstance(node, ast.Assign) and "__all__" in ast.unparse(node.targets)
    ]
    docs |= {id(part) for node in public for part in ast.walk(node)}
    compared = {id(part) for node in ast.walk(tree) for part in alternatives(node)}
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [node for node in texts if id(node) not in docs and (node.value not in OTHER_WORDS or id(node) in compared)]


def alternatives(node: ast.AST) -> list[ast.AST]:
    """What a comparison or a ``Literal`` lists, one by one."""
    listed: list[ast.expr] = []
    if isinstance(node, ast.Compare):
        listed = [node.left, *node.comparators]
    elif isinstance(node, ast.MatchValue):
        listed = [node.value]
    elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal":
        listed = [node.slice]
    groups = [part.elts if isinstance(part, ast.Tuple | ast.List | ast.Set) else [part] for part in listed]
    return [part for group in groups for part in group]


ROWS = (
    "runs/pieces.py", "runs/drawn.py", "runs/whole_batch.py", "runs/labelled.py",
    "columns.py", "likelihoods/of_columns.py",  # families of a table's columns, some of which are called the same
)  # fmt: skip


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_no_other_file_names_a_likelihood_or_an_objective(file: Path) -> None:
    place = str(file.relative_to(PACKAGE))
    names = LIKELIHOODS.keys() | OBJECTIVES.keys()
    found = [(node.lineno, node.value) for node in constants(file) if node.value in names]
    assert bool(found) == (place in ROWS), f"{place} names {found}: ask the registry"


def test_a_name_would_be_found(tmp_path: Path) -> None:
    text = (
        '"""elbo"""\na = {"elbo": 1}\nb = x in ("elbo", 3)\nc = "gaussian"\nd: Literal["iwae"]\ne = len(x["iwae"]) > 2'
    )
    (tmp_path / "x.py").write_text(text)
    found = {(node.lineno, node.value) for node in constants(tmp_path / "x.py")}
    assert found == {(3, "elbo"), (4, "gaussian"), (5, "iwae")}
