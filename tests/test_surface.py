"""The surface, as a newcomer meets it: names at hand, wrong ones answered, and nothing loaded that is not asked for."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
import types
import typing
from pathlib import Path

import numpy as np
import pytest
import torch

import tightbound as tb
from tightbound.runs import recipe as recipes
from tightbound.settings import TrainingChanges
from tightbound.surface import missing

ROOT = Path(__file__).parents[1]
SMALL = {"model.latent_dim": 2, "model.hidden": [8], "train.epochs": 0.2, "evaluate.samples": 2}


def alone(code: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


# Names


@pytest.mark.parametrize("name", tb.__all__)
def test_every_name_is_there_and_described(name: str) -> None:
    found = getattr(tb, name)
    assert name in dir(tb)
    assert name.startswith("_") or inspect.getdoc(found)


def test_dir_shows_the_surface_and_nothing_else() -> None:
    assert dir(tb) == sorted(tb.__all__)
    assert {"evidence", "load_data", "train", "load_model", "Batch", "Model", "VAE", "networks"} <= set(dir(tb))


def test_short_names_are_those_of_their_modules() -> None:
    assert tb.evidence is tb.evaluate.evidence
    assert tb.load_data is tb.data.load
    assert tb.fit is tb.training.fit
    assert issubclass(tb.VAE, tb.Model)


def test_the_type_checker_sees_the_same_names() -> None:
    text = Path(tb.__file__).read_text(encoding="utf-8").partition("if TYPE_CHECKING:")[2].partition("_MODULES = ")[0]
    for name in set(tb.__all__) - {"__version__", "train", "load_model"}:
        assert f" as {name}\n" in text or f"    {name} = " in text


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("evaluat", "evaluate"), ("objective", "objectives"), ("vae", "VAE"), ("loaddata", "load_data"), ("Fit", "fit")],
)
def test_a_wrong_name_is_answered_with_the_right_one(wrong: str, meant: str) -> None:
    with pytest.raises(
        AttributeError, match=rf"module 'tightbound' has no attribute '{wrong}'. Did you mean {meant}\?"
    ):
        getattr(tb, wrong)


@pytest.mark.parametrize(
    ("wrong", "meant"), [("BetaVAE", r"ELBO\(beta=…\)"), ("Iwae", "IWAE"), ("Capacty", "Capacity")]
)
def test_names_of_the_field_are_answered_too(wrong: str, meant: str) -> None:
    with pytest.raises(AttributeError, match=f"Did you mean {meant}"):
        getattr(tb.objectives, wrong)


def test_what_is_like_nothing_gets_no_hint() -> None:
    assert "mean" not in str(missing("tightbound", "xyzzy", dir(tb)))
    assert not hasattr(tb, "xyzzy")
    assert getattr(tb, "__path__", None) is not None


def test_help_of_fit_shows_every_setting() -> None:
    shown = inspect.signature(tb.fit).parameters
    assert set(inspect.signature(tb.Training).parameters) <= set(shown)
    for name in inspect.signature(tb.Training).parameters:
        assert f"{name}: " in (inspect.getdoc(tb.fit) or "")


def test_the_settings_of_fit_have_the_types_of_their_dataclass() -> None:
    settings = typing.get_type_hints(tb.Training)
    del settings["validation"]  # of which fit has more to say
    assert typing.get_type_hints(TrainingChanges) == settings
    assert list(TrainingChanges.__annotations__) == list(settings)
    assert TrainingChanges.__required_keys__ == frozenset()
    assert typing.get_type_hints(tb.fit)["changes"] == typing.Unpack[TrainingChanges]


# Public modules: those of tb, and those of the reference
PUBLIC = sorted(
    {f"tightbound.{name}" for name in tb.__all__ if isinstance(getattr(tb, name), types.ModuleType)}
    | set(re.findall(r"automodule:: (\S+)", (ROOT / "docs" / "api.md").read_text(encoding="utf-8")))
)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_says_what_it_has(name: str) -> None:
    module = importlib.import_module(name)
    assert all(hasattr(module, each) for each in module.__all__)
    own = {
        each
        for each, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == name and each[0] != "_"
    }
    assert own <= set(module.__all__)
    assert not any(each.startswith("_") for each in module.__all__)


# What an import loads

HEAVY = "print(*sorted({'torch', 'numpy', 'matplotlib', 'sklearn', 'PIL', 'rich'} & set(sys.modules)))"


@pytest.mark.parametrize(
    "code",
    ["import tightbound", "import tightbound as tb; dir(tb); tb.Training(); tb.Recipe()", "import tightbound.cli"],
)
def test_looking_around_loads_nothing_heavy(code: str) -> None:
    assert alone(f"import sys; {code}; {HEAVY}") in ("", "rich")  # cyclopts brings rich


def test_a_wrong_name_loads_nothing_heavy() -> None:
    assert alone(f"import sys, tightbound; hasattr(tightbound, 'evaluat'); {HEAVY}") == ""


def test_an_import_changes_no_global_state() -> None:
    code = """
import torch
before = (torch.get_default_dtype(), torch.distributions.Distribution._validate_args, torch.get_rng_state().tolist())
import tightbound as tb
for name in dir(tb):
    getattr(tb, name)
after = (torch.get_default_dtype(), torch.distributions.Distribution._validate_args, torch.get_rng_state().tolist())
print(before == after)
"""
    assert alone(code) == "True"


# Verbs


def test_train_takes_data_made_in_python_and_load_model_brings_the_model_back(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    run = tb.train("auto", data=x, out=tmp_path / "run", changes=SMALL, progress=False)
    assert isinstance(run, tb.Run)
    assert run.recipe.data.source == recipes.GIVEN
    assert run.recipe.model.likelihood == "gaussian"
    model = tb.load_model(tmp_path / "run")
    assert model.embed(x).equal(tb.open_run(tmp_path / "run").model().embed(x))
    assert tb.evidence(model, run.data(x).test, samples=2).observations == 6


def test_train_takes_a_recipe_a_name_or_a_path(tmp_path: Path) -> None:
    wanted = tb.Recipe(name="mine").updated({**SMALL, "model.likelihood": "bernoulli"})
    (tmp_path / "mine.toml").write_text(recipes.to_toml(wanted), encoding="utf-8")
    made = [tb.train(each, out=tmp_path / str(place), progress=False)
            for place, each in enumerate((wanted, tmp_path / "mine.toml", str(tmp_path / "mine.toml")))]  # fmt: skip
    weights = [run.model().state_dict() for run in made]
    assert all(weights[0][name].equal(other[name]) for other in weights for name in other)


def test_train_keeps_the_path_of_data_in_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 4)))
    run = tb.train("auto", data=tmp_path / "x.npy", out=tmp_path / "run", changes=SMALL, progress=False)
    assert run.recipe.data.source == str(tmp_path / "x.npy")
    assert len(run.data().test) == 6


def test_a_run_goes_where_the_command_line_s_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = tb.train("auto", data=torch.randn(40, 3), changes=SMALL, progress=False)
    assert run.path.parent == Path("runs")
    assert run.path.name.startswith("auto-")


def test_a_recipe_without_data_asks_for_them() -> None:
    with pytest.raises(
        ValueError, match=r"Expected data with the recipe 'auto', .*; got none. .* tb.train\('auto', data="
    ):
        tb.train("auto")


def test_a_model_without_a_run_is_saved_and_loaded(tmp_path: Path) -> None:
    model = tb.VAE(
        prior=tb.priors.StandardNormal(2),
        posterior=tb.posteriors.DiagonalNormal(tb.networks.MLP((5,), (4,))),
        likelihood=tb.likelihoods.Gaussian(tb.networks.MLP((2,), (5,))),
    )
    model.save(tmp_path / "model")
    x = torch.randn(7, 5)
    assert tb.load_model(str(tmp_path / "model")).embed(x).equal(model.embed(x))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Expected a folder that .*; got "):
        tb.load_model(tmp_path)
