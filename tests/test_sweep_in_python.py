"""``tb.sweep``: over what a function makes models with, over settings, over a recipe's fields; one object of it all."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_notebook import beside, read
from torch import nn
from training import QUIET, data, model, weights

import tightbound as tb
from tightbound.runs import sweep_functions
from tightbound.runs.sweep_words import Setting
from tightbound.runs.swept import Sweep, SweepRun

HOW: dict[str, Any] = {**QUIET, "epochs": 2}


def vae(**given: Any) -> tb.VAE:
    """Another model each time, as the seed has it."""
    return tb.VAE(
        prior=tb.priors.StandardNormal(2),
        posterior=tb.posteriors.DiagonalNormal(nn.Linear(3, 4)),
        likelihood=given.get("likelihood", tb.likelihoods.Gaussian)(nn.Linear(2, 3)),
    )


def vae_alone() -> tb.VAE:
    return vae()


def make(beta: float) -> tuple[tb.VAE, Any]:
    return vae(), tb.objectives.ELBO(beta=beta)


def sweep(*given: Any, **more: Any) -> Sweep:
    return tb.sweep(*given, **{**HOW, **more})


@pytest.fixture(scope="module")
def swept() -> Sweep:
    with torch.random.fork_rng(devices=[]):
        return sweep(make, data(), over={"beta": [0.5, 1, 4]})


# What is trained


def test_each_run_is_the_training_that_fit_would_make(swept: Sweep) -> None:
    assert [(run.value, run.seed) for run in swept.runs] == [(0.5, 0), (1, 0), (4, 0)]
    torch.manual_seed(0)
    alone, objective = make(4)
    result = tb.fit(alone, data(), objective=objective, seed=0, **HOW)
    assert all(weights(alone)[name].equal(value) for name, value in weights(swept.runs[2].model).items())
    assert swept.runs[2].metrics() == result.metrics


def test_all_are_measured_on_what_was_held_out(swept: Sweep) -> None:
    held_out = tb.training.batches.split(tb.data.observations(data()), 0.2, 0)[1]
    for run, row in zip(swept.runs, swept.rows(), strict=True):
        found = tb.evidence(run.model, held_out, samples=500)
        assert (row["observations"], row["elbo"]) == (20, found.elbo.value)
        assert row["beta"] == run.value
    assert "Measured on 20 observations held out for validation" in str(swept)


def test_seeds_make_runs_values_first_and_start_alike(swept: Sweep) -> None:
    found = sweep(make, data(), over={"beta": [1, 4]}, seeds=2, seed=7)
    assert [(run.value, run.seed) for run in found.runs] == [(1, 7), (4, 7), (1, 8), (4, 8)]
    assert "Means of 2 or more seeds" in str(found)
    begun: dict[int, list[Any]] = {}

    def kept(beta: float) -> Any:
        made = make(beta)
        begun.setdefault(len(begun), weights(made[0]))
        return made

    sweep(kept, data(), over={"beta": [1, 4]})
    assert all(begun[0][name].equal(value) for name, value in begun[1].items())


def test_the_caller_s_random_numbers_stay() -> None:
    before = torch.get_rng_state()
    sweep(make, data(), over={"beta": [1]}, epochs=1)
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize(
    ("over", "labels"),
    [
        ({"learning_rate": [0.001, 0.01]}, [0.001, 0.01]),
        ({"objective": {"elbo": tb.objectives.ELBO(), "iwae": tb.objectives.IWAE(samples=3)}}, ["elbo", "iwae"]),
        ({"batch_size": range(10, 31, 20)}, [10, 30]),
    ],
    ids=["a number", "objectives", "a range"],
)
def test_a_setting_of_fit_may_differ(over: Any, labels: list[Any]) -> None:
    [name] = over
    found = tb.sweep(vae_alone, data(), over=over, **{key: value for key, value in HOW.items() if key != name})
    assert [row[name] for row in found.rows()] == labels
    assert found.setting.kind == name
    assert [choice.purpose for choice in found.choices] == ["likelihood"]
    told = [run.result for run in found.runs]
    assert told[0] is not None
    assert told[1] is not None
    if name != "objective":
        assert [getattr(each.settings, name) for each in told if each is not None] == labels
    else:
        assert [type(each.objective).__name__ for each in told if each is not None] == ["ELBO", "IWAE"]


def test_values_of_any_kind_have_names() -> None:
    found = sweep(vae, data(), over={"likelihood": [tb.likelihoods.Gaussian, tb.likelihoods.Laplace]})
    assert [row["likelihood"] for row in found.rows()] == ["Gaussian", "Laplace"]
    assert [run.value for run in found.runs] == [tb.likelihoods.Gaussian, tb.likelihoods.Laplace]
    assert len(found.choices) == 1  # both are densities


class Sized(tb.VAE):
    def __init__(self, latents: int) -> None:
        parts = tb.posteriors.DiagonalNormal(nn.Linear(3, 2 * latents)), tb.likelihoods.Gaussian(nn.Linear(latents, 3))
        super().__init__(tb.priors.StandardNormal(latents), *parts)


def test_a_class_makes_models_too() -> None:
    found = sweep(Sized, data(), over={"latents": [1, 2, 3]})
    assert [row["latent_dim"] for row in found.rows()] == [1, 2, 3]
    figure = found.figure()
    assert tb.plots.alt_text(figure).startswith("ELBO, reconstruction term and KL term of 3 runs by latents.")


def test_a_name_that_a_number_has_already_hides_none() -> None:
    def made(samples: int) -> Any:
        return vae(), tb.objectives.IWAE(samples=samples)

    found = sweep(made, data(), over={"samples": [2, 3]})
    assert [(row["over samples"], row["samples"]) for row in found.rows()] == [(2, 500), (3, 500)]
    assert "over samples" in tb.plots.alt_text(found.figure())


def test_observations_for_validation_are_what_is_compared_on() -> None:
    found = sweep(make, data(), over={"beta": [1, 4]}, validation=data(33, seed=3))
    assert {row["observations"] for row in found.rows()} == {33}


def test_without_validation_the_test_set_is_used_and_that_is_said() -> None:
    parts = tb.data.Data("mine", tb.data.observations(data()), tb.data.observations(data(25, seed=1)))
    found = sweep(make, parts, over={"beta": [1, 4]}, validation=0)
    assert {row["observations"] for row in found.rows()} == {25}
    assert "Measured on the test set, as validation = 0" in str(found)
    with pytest.raises(ValueError, match="Expected observations to compare the values on; got validation=0"):
        sweep(make, data(), over={"beta": [1, 4]}, validation=0)


# What is advised


def test_beta_is_known_by_what_the_objectives_weigh(swept: Sweep) -> None:
    assert [choice.purpose for choice in swept.choices] == ["generation", "representation", "disentanglement"]
    assert swept.figure().axes[3].get_title("left").startswith("Trained on: −distortion − β")
    rising = sweep(
        lambda beta: (vae(), tb.objectives.ELBO(beta=tb.schedules.Linear(start=0.0, end=beta, steps=4))),
        data(),
        over={"beta": [1, 2]},
    )
    assert rising.setting.beta
    other = sweep(lambda beta: vae(), data(), over={"beta": [1, 2]})  # a name alone says nothing
    assert not other.setting.beta
    assert [choice.purpose for choice in other.choices] == ["likelihood"]


@pytest.mark.parametrize(
    ("field", "values"), [("seed", [0, 1]), ("validation", [0.1, 0.2])], ids=["seed", "validation"]
)
def test_runs_on_other_observations_are_not_ranked(field: str, values: list[Any]) -> None:
    how = {key: value for key, value in HOW.items() if key != field}
    found = tb.sweep(vae_alone, data(), over={field: values}, **how)
    assert found.choices == []
    assert f"Runs at different {field} describe different observations" in str(found)
    with pytest.raises(ValueError, match=f"Expected runs that can be compared; got others. Runs at different {field}"):
        found.figure()
    assert len(found.curves().axes) > 0


def test_a_density_is_not_ranked_with_a_probability() -> None:
    x = torch.randint(2, (80, 3)).float()
    found = sweep(vae, x, over={"likelihood": [tb.likelihoods.Gaussian, tb.likelihoods.Bernoulli]})
    assert found.choices == []
    assert "p(x) of these runs is not of one kind (density, probability)" in str(found)


def test_nothing_is_recommended_where_runs_are_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fit, done = sweep_functions.fit, []

    def stopped(*given: Any, **more: Any) -> Any:
        done.append(fit(*given, **more))
        return done[-1] if len(done) < 3 else dataclasses.replace(done[-1], ended="interrupted")

    monkeypatch.setattr(sweep_functions, "fit", stopped)
    found = sweep(make, data(), over={"beta": [0.5, 1, 4]}, seeds=2, out=tmp_path / "s")
    assert (len(found.runs), found.setting.missing, found.choices) == (2, 4, [])
    assert "The sweep was stopped with 4 runs to go: no value is recommended." in str(found)
    assert "to take" not in str(found)
    assert "to take" not in found._repr_html_()
    assert not (tmp_path / "s" / "sweep.json").exists()


def test_a_sweep_that_has_no_run_yet_says_so() -> None:
    found = Sweep(Setting("beta", beta=True, missing=2), ())
    assert str(found) == "The sweep was stopped before its first run had ended."
    assert "stopped before" in found._repr_html_()
    for draw in (found.figure, found.curves):
        with pytest.raises(ValueError, match="stopped before its first run"):
            draw()


# What is shown


def test_a_notebook_shows_the_table_the_choices_and_the_remarks(swept: Sweep) -> None:
    cells = read(swept)
    assert cells[0] == "Sweep over beta: nats per observation, ± one standard error"
    place = cells.index("0.5")
    assert cells[place + 1].startswith("−")
    assert "Which β to take" in cells
    assert beside(cells, "generation") in ("0.5", "1", "4")
    assert all(remark in cells for remark in swept.remarks)
    assert max(map(len, str(swept).splitlines())) <= 80


def test_words_are_of_python(swept: Sweep) -> None:
    assert "tb.report(model, data, result)" in str(swept)
    assert "model.sample(16)" in str(swept)
    assert not re.search(r"tightbound [a-z]+ RUN|--seeds", str(swept))


def test_curves_are_overlaid_by_value_and_seed(swept: Sweep) -> None:
    names = [text.get_text() for text in swept.curves().legends[0].get_texts()]
    assert names == ["β = 0.5", "β = 1", "β = 4"]
    several = sweep(make, data(), over={"beta": [1, 4]}, seeds=2, epochs=1)
    names = [text.get_text() for text in several.curves().legends[0].get_texts()]
    assert names == ["β = 1, seed 0", "β = 4, seed 0", "β = 1, seed 1", "β = 4, seed 1"]


def test_progress_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sweep(make, data(), over={"beta": [1, 4]}, epochs=1)
    assert capsys.readouterr().err == ""
    sweep(make, data(), over={"beta": [1, 4]}, epochs=1, progress=True)
    error = capsys.readouterr().err
    assert "[1/2] beta = 1\n" in error
    assert "[2/2] beta = 4\n" in error
    sweep(make, data(), over={"beta": [1]}, epochs=1, progress=True, out=tmp_path / "s", seeds=2)
    assert f"[2/2] beta = 1: {tmp_path / 's' / 'beta=1,seed=1'}\n" in capsys.readouterr().err


# What is written


def test_a_folder_is_gone_on_with_and_values_may_be_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sweep(make, data(), over={"beta": [1, 4]}, out=tmp_path / "s")
    names = {"base.toml", "beta=1", "beta=4", "sweep.json", "tradeoff.png", "rate-distortion.png"}
    assert {path.name for path in (tmp_path / "s").iterdir()} == names
    assert tb.open_run(tmp_path / "s" / "beta=4").model().embed(data()).equal(first.runs[1].model.embed(data()))
    measure, measured = sweep_functions.sweeps.numbers_on, []
    monkeypatch.setattr(
        sweep_functions.sweeps, "numbers_on", lambda *given, **more: measured.append(1) or measure(*given, **more)
    )
    more = sweep(make, data(), over={"beta": [1, 4, 8]}, out=tmp_path / "s")
    assert len(measured) == 1  # the two that were there are neither trained nor measured again
    assert more.rows()[:2] == json.loads(json.dumps(first.rows()))
    assert json.loads((tmp_path / "s" / "sweep.json").read_text())["rows"] == json.loads(json.dumps(more.rows()))
    name = "likelihood.network.weight"
    assert weights(more.runs[0].model)[name].equal(weights(first.runs[0].model)[name])


def test_a_sweep_that_was_broken_off_goes_on(tmp_path: Path) -> None:
    asked: list[float] = []

    def breaking(beta: float) -> Any:
        asked.append(beta)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return make(beta)

    with pytest.raises(KeyboardInterrupt):
        sweep(breaking, data(), over={"beta": [1, 4]}, out=tmp_path / "s")
    found = sweep(breaking, data(), over={"beta": [1, 4]}, out=tmp_path / "s")
    straight = sweep(make, data(), over={"beta": [1, 4]})
    assert [row["elbo"] for row in found.rows()] == pytest.approx([row["elbo"] for row in straight.rows()], rel=1e-6)


def test_another_sweep_s_folder_is_refused(tmp_path: Path) -> None:
    sweep(make, data(), over={"beta": [1]}, out=tmp_path / "s")
    refused = r"Expected a new folder, or that of a sweep over .*out= in Python"
    with pytest.raises(ValueError, match=refused):
        sweep(make, data(), over={"beta": [1]}, out=tmp_path / "s", epochs=3)
    with pytest.raises(ValueError, match=refused):
        sweep(vae_alone, data(), over={"patience": [1]}, out=tmp_path / "s")
    with pytest.raises(ValueError, match=r"Expected what the run in .* was started with; got another .*data"):
        sweep(make, data(seed=9), over={"beta": [1]}, out=tmp_path / "s")
    with pytest.raises(ValueError, match=r"Expected what the run in .* was started with; got another .*model"):
        sweep(lambda beta: (model(), tb.objectives.ELBO(beta=beta)), data(), over={"beta": [1]}, out=tmp_path / "s")


# Recipes

SMALL = {"train.epochs": 0.5, "model.hidden": [8], "model.latent_dim": 2, "evaluate.samples": 5}


def test_a_recipe_is_swept_as_by_the_command(tmp_path: Path) -> None:
    found = tb.sweep(
        "digits", over={"objective.beta": [1, 4]}, out=tmp_path / "s", changes=SMALL, seed=3, progress=False
    )
    assert [run.seed for run in found.runs] == [3, 3]
    assert found.runs[0].run is not None
    assert found.runs[0].run.recipe.seed == 3
    assert (tmp_path / "s" / "tradeoff.png").exists()
    assert found.setting.beta
    assert "tightbound report RUN" in str(found)
    assert isinstance(found.runs[1].model, tb.VAE)
    again = tb.sweep("digits", over={"objective.beta": [1, 4]}, out=tmp_path / "s", changes={**SMALL, "seed": 3})
    assert again.rows() == found.rows()
    assert again.runs[0].result is None  # it was not trained again
    assert again.runs[0].metrics() == found.runs[0].metrics()


def test_a_recipe_takes_data_made_in_python(tmp_path: Path) -> None:
    found = tb.sweep(
        "auto", data(), over={"model.latent_dim": [1, 2]}, out=tmp_path / "s",
        changes={"train.epochs": 1, "model.hidden": [8], "evaluate.samples": 5}, progress=False,
    )  # fmt: skip
    assert [row["latent_dim"] for row in found.rows()] == [1, 2]
    assert (tmp_path / "s" / "values.png").exists()
    with pytest.raises(ValueError, match="Expected data with the recipe 'auto', which is for data of your own"):
        tb.sweep("auto", over={"model.latent_dim": [1, 2]})


# Refused


def same() -> Callable[..., Any]:
    made = vae()
    return lambda beta: made


REFUSED: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "a model": (lambda: sweep(vae(), data(), over=ONE), TypeError, r"a function that makes a model; got VAE.*def make"),
    "no data": (lambda: sweep(make, over=ONE), TypeError, "Expected data to train on with a function; got none"),
    "nothing": (
        lambda: sweep(make, data(), over={}),
        TypeError,
        "Expected one name and its values as over; got 0 name",
    ),
    "two names": (lambda: sweep(make, data(), over={"a": [1], "b": [2]}), TypeError, "as over; got 2 names"),
    "no mapping": (lambda: sweep(make, data(), over=[1, 2]), TypeError, r"as over; got \[1, 2\]"),
    "one value": (
        lambda: sweep(make, data(), over={"beta": 4}),
        TypeError,
        "Expected a list of values for beta; got 4",
    ),
    "a number of torch's": (
        lambda: sweep(make, data(), over={"beta": torch.tensor(4.0)}),
        TypeError,
        r"for beta; got tensor\(4\.\)",
    ),
    "a word": (lambda: sweep(make, data(), over={"beta": "1,4"}), TypeError, "a list of values for beta; got '1,4'"),
    "no value": (lambda: sweep(make, data(), over={"beta": []}), ValueError, "at least one value for beta; got none"),
    "twice": (lambda: sweep(make, data(), over={"beta": [1, 1.0]}), ValueError, "each value of beta once.*got 1 twice"),
    "no argument": (lambda: sweep(make, data(), over={"gamma": [1]}), TypeError, "that takes gamma.*takes beta"),
    "said twice": (
        lambda: sweep(vae_alone, data(), over={"epochs": [1]}),
        TypeError,
        "epochs once; got it as over and",
    ),
    "no model": (
        lambda: tb.sweep(lambda: 3, data(), over={"epochs": [1]}),
        TypeError,
        "returns a model.*got int for ep",
    ),
    "the same model": (lambda: sweep(same(), data(), over={"beta": [1, 2]}), ValueError, "makes a new model each time"),
    "resume": (lambda: sweep(make, data(), over=ONE, resume=True), TypeError, "besides what a sweep says.*resume="),
    "changes": (lambda: sweep(make, data(), over=ONE, changes={"a": 1}), TypeError, "Expected no changes= with a func"),
    "no seeds": (lambda: sweep(make, data(), over=ONE, seeds=0), ValueError, "Expected at least one seed"),
    "no seed": (lambda: sweep(make, data(), over=ONE, seed=-1), ValueError, "Expected a seed from 0"),
    "no setting": (lambda: sweep(make, data(), over=ONE, epoch=3), TypeError, "Did you mean 'epochs'"),
    "a setting": (lambda: tb.sweep("digits", over=SEED, epochs=3), TypeError, r"with a recipe; got epochs=.*'train\.e"),
    "no setting of a recipe": (lambda: tb.sweep("digits", over=SEED, foo=3), TypeError, "with a recipe; got foo="),
    "no field": (lambda: tb.sweep("digits", over={"objective.bet": [1]}), ValueError, "Expected a field of the object"),
    "no recipe": (lambda: tb.sweep("digitz", over=SEED), ValueError, "digits"),
}
ONE, SEED = {"beta": [1]}, {"seed": [1]}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_none_of_it_is_refused(name: str) -> None:
    call, kind, error = REFUSED[name]
    with pytest.raises(kind, match=error):
        call()


def test_a_run_without_a_model_says_so(swept: Sweep) -> None:
    with pytest.raises(ValueError, match="Expected a run with a model or with a folder; got one without"):
        _ = SweepRun(1, swept.runs[0].outcome).model
    assert SweepRun(1, swept.runs[0].outcome).metrics() == []
