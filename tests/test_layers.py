"""What may import what, and other rules that a machine can check."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tightbound"
FILES = sorted(PACKAGE.rglob("*.py"))
CORE = {
    "batch", "bounds", "conditional", "distributions", "divergences", "draws", "flows", "frames", "gradients",
    "likelihoods", "model", "networks", "objectives", "posteriors", "priors", "saving", "schedules", "support",
    "autoencoder", "conditioned", "semi_supervised", "told", "paired", "links", "columns",
}  # fmt: skip
# Each may know those before it, never one after it.
EDGES = ["plots", "runs", "reports", "labs", "explore", "cli", "__main__"]

# All that these may know of the package.
ALLOWED: dict[str, set[str]] = {
    "": {"runs", "saving", "surface"},  # in functions: importing the package loads nothing
    "_version": set(),
    "surface": set(),
    "files": {"paths"},
    "paths": set(),
    "ownership": set(),
    "settings": set(),
    "progress": set(),
    "notebook": set(),
    "distributed": set(),
    "runtime": {"settings"},
    "compilations": {"files"},
    "architecture": set(),
    "execution": {"compilations", "runtime"},
    "threads": {"runtime"},
    "frames": {"surface"},
    "batch": {"frames"},
    "draws": set(),
    "networks": set(),
    "told": {"networks"},
    "schedules": set(),
    "support": set(),
    "conditional": set(),
    "columns": set(),
    "distributions": {"support"},
    "flows": {"conditional", "runtime"},  # what priors and posteriors share, and the one place that knows zuko
    "links": {"conditional", "distributions"},  # from a layer of latents to the one below, of priors and posteriors
    "divergences": {"distributions"},
    "bounds": {"draws"},
    "likelihoods": {"columns", "conditional", "distributions", "support"},
    "posteriors": {"conditional", "distributions", "flows", "links", "priors", "told"},
    "priors": {"conditional", "distributions", "flows", "links"},
    "model": {"batch", "bounds", "distributions", "draws", "runtime"},
    "autoencoder": {
        "batch", "conditional", "distributions", "divergences", "draws", "likelihoods", "model", "priors", "runtime",
        "saving", "support",
    },
    "conditioned": {"autoencoder", "batch", "conditional", "likelihoods", "model", "runtime", "told"},
    "semi_supervised": {"autoencoder", "conditional", "conditioned", "posteriors", "priors", "runtime"},
    "paired": {"autoencoder", "batch", "distributions", "divergences", "model", "posteriors", "support"},
    "gradients": {"batch", "bounds", "distributions", "draws", "model", "runtime", "schedules", "settings"},
    "objectives": {
        "batch", "bounds", "distributions", "divergences", "draws", "gradients", "model", "networks", "schedules",
        "surface",
    },
    "saving": {
        "autoencoder", "columns", "conditioned", "files", "likelihoods", "model", "networks", "paired", "paths",
        "posteriors",
        "priors", "runtime", "semi_supervised", "told",
    },
    "checks": {
        "batch", "conditioned", "data", "distributions", "model", "priors", "runtime", "support", "surface",
        "autoencoder",
    },
}  # fmt: skip
# What the others may not know.
FORBIDDEN: dict[str, set[str]] = {
    "data": {*(CORE - {"batch", "columns"}), *EDGES, "checks", "training", "evaluate"},
    "evaluate": {*EDGES, "objectives", "gradients", "training"},
    "training": {*EDGES, "evaluate", "bounds", "likelihoods", "posteriors", "priors"},
    **{name: set(EDGES[place + 1 :]) for place, name in enumerate(EDGES)},
}
WITHOUT_TORCH = (
    "cli", "cli.verbs", "cli.showing", "cli.flags", "cli.errors", "cli.launch", "cli.output",
    "cli.answer", "cli.there", "runs", "runs.recipe",
    "runs.schema", "runs.registry",
    "runs.pieces", "runs.drawn",
    "runs.fitting", "runs.migrate", "runs.plan", "runs.rows", "runs.whole_batch", "labs", "labs.catalogue",
    "settings", "surface",
)  # fmt: skip
LONGEST = {
    "model": 435,  # most of it says what each method of the contract must give
    "objectives.of_batches": 420,  # half of it says in formulas what each objective is
    "cli.verbs": 560,  # most of it is the help that users read
    "posteriors": 490,  # one class each, half of it formulas and examples
    "priors": 440,  # the same
    "data.observations": 460,  # most of it says in examples what a model sees
}
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def name_of(file: Path) -> str:
    """Dotted name within the package: ``data.idx``; empty for the package itself."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file): file for file in FILES}


def absolute(node: ast.ImportFrom, file: Path) -> str:
    if not node.level:
        return node.module or ""
    package = ["tightbound", *file.relative_to(PACKAGE).parent.parts]
    return ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])


def imports(file: Path, *, lazy: bool, typing: bool = False) -> set[str]:
    """Modules (and private names) that a file imports: in functions if ``lazy``, for the type checker if ``typing``."""
    found: set[str] = set()
    nodes: list[ast.AST] = [tree(file)]
    while nodes:
        node = nodes.pop()
        if not typing and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes += node.orelse
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not lazy:
            continue
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found = found.union(*(_named(absolute(node, file), alias.name) for alias in node.names))
        else:
            nodes += ast.iter_child_nodes(node)
    return found


def _named(module: str, name: str) -> set[str]:
    """``from module import name``: the module of that name if it is one, else the module that has the name."""
    if f"{module}.{name}".removeprefix("tightbound.") in MODULES:
        return {f"{module}.{name}"}
    return {module, f"{module}.{name}"} if name.startswith("_") else {module}


def package_imports(file: Path, *, lazy: bool, typing: bool = False) -> set[str]:
    """Modules of the package that a file imports, by their dotted names within it."""
    return {name.removeprefix("tightbound.") for name in imports(file, lazy=lazy, typing=typing)} & (
        MODULES.keys() - {""}
    )


def top(name: str) -> str:
    return name.partition(".")[0]


every_file = pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(PACKAGE)) for file in FILES])


@every_file
def test_imports_point_one_way(file: Path) -> None:
    name = top(name_of(file))
    assert name in ALLOWED or name in FORBIDDEN, f"say in this file where {name} stands"
    others = {top(other) for other in package_imports(file, lazy=True, typing=bool(name))} - {name, "_version"}
    if name in ALLOWED:
        assert others <= ALLOWED[name], f"{name} may not know {others - ALLOWED[name]}"
    assert not others & FORBIDDEN.get(name, set()), f"{name} may not know {others & FORBIDDEN[name]}"


def test_there_is_no_circle_of_imports() -> None:
    graph = {name: package_imports(file, lazy=False, typing=True) - {name} for name, file in MODULES.items() if name}
    done: set[str] = set()

    def follow(name: str, path: tuple[str, ...]) -> None:
        # A package's __init__ gathers its own modules, which never import it back by name.
        assert name not in path, f"circle: {' -> '.join([*path, name])}"
        if name in done:
            return
        for other in graph.get(name, ()):
            follow(other, (*path, name))
        done.add(name)

    for name in graph:
        follow(name, ())


@every_file
def test_private_names_stay_in_their_package(file: Path) -> None:
    own = top(name_of(file))
    for name in imports(file, lazy=True):
        parts = name.split(".")
        if parts[0] == "tightbound" and len(parts) > 1 and parts[1] not in (own, "_version"):
            assert not any(part.startswith("_") for part in parts[1:]), f"{name} is private"


@every_file
def test_no_assert_statement(file: Path) -> None:
    lines = [node.lineno for node in ast.walk(tree(file)) if isinstance(node, ast.Assert)]
    assert not lines, f"assert in lines {lines}: raise an error that survives python -O"


@every_file
def test_files_and_functions_are_short(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= LONGEST.get(name_of(file), 400)
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert length <= 50, f"{node.name} has {length} lines"


@every_file
def test_no_pickle(file: Path) -> None:
    assert not {top(name) for name in imports(file, lazy=True)} & PICKLES


@every_file
def test_torch_loads_weights_only(file: Path) -> None:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            safe = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert safe.get("weights_only") == "True", f"line {node.lineno}: torch.load unpickles without weights_only"


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_light_modules_do_not_import_torch(name: str) -> None:
    if name not in MODULES:
        pytest.skip(f"there is no {name} yet")
    assert "torch" not in {top(other) for other in imports(MODULES[name], lazy=False)}
    loads_without_torch(f"import tightbound.{name}")


def test_importing_the_package_loads_nothing_heavy() -> None:
    loads_without_torch("import tightbound; tightbound.__version__; dir(tightbound)")


def loads_without_torch(code: str) -> None:
    check = (
        f"{code}\nimport sys; print(*sorted({{'torch', 'numpy', 'sklearn', 'matplotlib', 'PIL'}} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", check], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_the_core_changes_no_global_state() -> None:
    code = """
import torch, random, sys
from torch.distributions import Distribution
def state():
    return torch.get_default_dtype(), Distribution._validate_args, torch.get_num_threads(), random.getstate(), \
        torch.get_rng_state().tolist(), torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled()
before = state()
import importlib
for name in sys.argv[1:]:
    importlib.import_module(f"tightbound.{name}")
sys.exit(before != state())
"""
    core = sorted(CORE & MODULES.keys())
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *core],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
