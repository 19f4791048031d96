"""Sweeps: what is trained, what it is compared on, how one goes on, and which value the numbers speak for."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import SMALL, refused, said, stopped, trained

from tightbound.cli import commands
from tightbound.evaluate import Estimate, disentangle, evidence, udr
from tightbound.evaluate.scores import predicted
from tightbound.runs import advice, sweep
from tightbound.runs import recipe as recipes
from tightbound.runs.advice import Outcome, choices
from tightbound.runs.run import open_run

NOISE = torch.linspace(-1.0, 1.0, 50)


def outcome(value, *, log_px: float, distortion: float, rate: float, units: int = 9, **found) -> Outcome:
    """A run of 50 observations whose values differ from those of other runs by the same for each observation."""
    whole = {"rate": rate, "active_units": units, "latent_dim": 10, "reliable": True, "iwae": [], **found}
    return Outcome(value, whole, NOISE + log_px, distortion - NOISE)


def chosen(outcomes, field="objective.beta"):
    return {choice.purpose: choice for choice in choices(field, outcomes)}


def four() -> list[Outcome]:
    return [
        outcome(0.5, log_px=-93.0, distortion=62.0, rate=30.0),
        outcome(1, log_px=-90.0, distortion=66.0, rate=25.0),
        outcome(4, log_px=-99.0, distortion=86.0, rate=11.0, units=5),
        outcome(40, log_px=-200.0, distortion=200.0, rate=0.01, units=0),
    ]


def test_generation_takes_the_highest_log_likelihood():
    choice = chosen(four())["generation"]
    assert choice.value == 1
    assert choice.because.startswith("highest log p(x), -90.000 ± 0.084 nats; β = 0.5 is 3.0")


def test_what_cannot_be_told_apart_is_said():
    wide = Outcome(2, four()[1].found, four()[1].log_px - 0.1 + 5 * NOISE.flip(0).sin(), four()[1].distortion)
    assert chosen([*four(), wide])["generation"].because.endswith("not told apart from β = 2")


def test_differences_are_paired_by_observation():
    near = outcome(2, log_px=-90.01, distortion=66.0, rate=25.0)  # lower by little, but at each observation
    assert "not told apart" not in chosen([*four(), near])["generation"].because


def test_an_unreliable_estimate_may_still_rise():
    rising = {"reliable": False, "iwae": [{"value": -95.0}, {"value": -93.0}]}
    low = outcome(0.5, log_px=-91.5, distortion=62.0, rate=30.0, **rising)
    assert chosen([low, four()[1]])["generation"].because.endswith("not told apart from β = 0.5")
    settled = outcome(0.5, log_px=-91.5, distortion=62.0, rate=30.0, **{**rising, "reliable": True})
    assert "not told apart" not in chosen([settled, four()[1]])["generation"].because


def test_representation_takes_the_least_distortion_and_says_what_it_costs():
    choice = chosen(four())["representation"]
    assert choice.value == 0.5
    assert "at most 30.0 nats, 9 of 10 units active" in choice.because
    assert re.search(r"costs 3\.0+ ± \S+ nats of log p\(x\); the lowest β tried$", choice.because)


def test_among_equal_distortions_representation_takes_the_cheapest_code():
    dear = outcome(0.5, log_px=-100.0, distortion=66.0, rate=34.0)
    assert chosen([dear, four()[1]])["representation"].value == 1


def test_disentanglement_takes_the_strongest_pressure_that_leaves_something_to_untangle():
    choice = chosen(four())["disentanglement"]
    assert choice.value == 4
    assert "at most 11.0 nats, 5 of 10 units active" in choice.because
    assert "highest β tried" not in choice.because
    assert chosen(four()[:3])["disentanglement"].because.endswith("the highest β tried")


@pytest.mark.parametrize(("rate", "units"), [(1.0, 9), (30.0, 1)])
def test_where_all_codes_say_too_little_disentanglement_takes_none(rate, units):
    faint = [outcome(beta, log_px=-90.0 - beta, distortion=60.0, rate=rate, units=units) for beta in (1, 2)]
    assert chosen(faint)["disentanglement"].value is None


def test_another_field_has_one_choice():
    (choice,) = choices("model.latent_dim", four())
    assert (choice.purpose, choice.value) == ("likelihood", 1)
    assert "latent_dim = 0.5 is" in choice.because


@pytest.mark.parametrize("field", ["data.size", "model.likelihood", "seed", "train.validation", "evaluate.samples"])
def test_runs_on_different_observations_are_not_ranked(field):
    assert not advice.comparable(field)
    assert choices(field, four()) == []


HARDLY = {"remark": "The model is hardly trained: it has made 23 steps."}


@pytest.mark.parametrize("finished", [0, 1])
def test_among_unfinished_runs_no_value_is_recommended(finished):
    runs = [dataclasses.replace(run, found={**run.found, **HARDLY}) for run in four()[finished:]]
    runs = [*four()[:finished], *runs]
    assert choices("objective.beta", runs) == []
    (sentence,) = advice.passed_over("objective.beta", runs)
    values = ", ".join(str(run.value) for run in runs[finished:])
    assert sentence.startswith(f"No value is recommended, as the runs at objective.beta = {values} are unfinished.")


def test_an_unfinished_run_is_passed_over():
    best = dataclasses.replace(four()[1], found={**four()[1].found, **HARDLY})
    runs = [four()[0], best, *four()[2:]]
    assert chosen(runs)["generation"].value == 0.5
    assert advice.passed_over("objective.beta", runs) == [
        "Recommended is one of the other values alone, as the runs at objective.beta = 1 are unfinished."
    ]
    assert advice.passed_over("objective.beta", four()) == []


def test_a_sweep_of_unfinished_runs_says_so_before_and_after(capsys, tmp_path):
    words = ("--over", "objective.beta=0.5,1", *SMALL, "--out", tmp_path / "s")
    code, out, error = said(capsys, "sweep", "digits", *words)
    assert code == 0
    assert error.index("warms up over 200 steps and training takes 23") < error.index("[2/2]")
    assert "No value is recommended, as the runs at objective.beta = 0.5, 1 are unfinished" in " ".join(out.split())
    assert "which β to take" not in out
    table = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert table["choices"] == []
    assert any(remark.startswith("No value is recommended") for remark in table["remarks"])


def test_a_sweep_notes_what_a_training_notes(capsys, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((60, 1, 8, 8), np.uint8) + np.eye(8, dtype=np.uint8))
    words = ("--data", tmp_path / "x.npy", *SMALL, "--over", "objective.beta=1", "--out", tmp_path / "s")
    error = said(capsys, "sweep", "digits", *words)[2]
    assert error.startswith("Note: the recipe 'digits' has network = mlp and likelihood = bernoulli, chosen")


def test_one_value_leaves_nothing_to_choose():
    assert choices("objective.beta", four()[:1]) == []


@pytest.mark.parametrize("errors", [1.5, 1.9, 2.1, 2.5])
def test_two_standard_errors_tell_apart(errors):
    """Differences of mean d and standard error d / errors, paired by observation."""
    other = 10 * torch.randn(2000)  # of a spread that would hide the difference, were it not paired
    difference = torch.randn(2000)
    difference = (difference - difference.mean()) / difference.std() * 2000**0.5 / errors + 1
    assert advice.surely_positive(Estimate.of(other + difference - (other))) == (errors >= 2)
    assert not advice.surely_positive(Estimate.of(other - (other + difference)))


@pytest.mark.parametrize(("errors", "apart"), [(1.5, False), (2.5, True)])
def test_choices_take_two_standard_errors_for_a_difference(errors, apart):
    noise = torch.randn(500)
    noise = (noise - noise.mean()) / noise.std() * 500**0.5 / errors
    found = {"rate": 20.0, "active_units": 9, "latent_dim": 10, "reliable": True, "iwae": []}
    base = NOISE.repeat(10)
    likely = Outcome(1, found, base - 90 + noise + 1, base + 66.0)
    other = Outcome(2, {**found, "rate": 10.0}, base - 90, base + 66.0 + noise + 1)
    made = chosen([likely, other])
    assert ("not told apart from β = 2" in made["generation"].because) != apart
    assert made["representation"].value == (1 if apart else 2)  # where distortions are equal, the cheaper code
    assert ("costs" in made["disentanglement"].because) == apart


@pytest.mark.parametrize("nats", [0.4, 0.6])
def test_what_an_unreliable_estimate_may_lack_is_its_last_rise(nats):
    rising = {"reliable": False, "iwae": [{"value": -99.0}, {"value": -95.0 - nats}, {"value": -95.0}]}
    assert advice.unsettled(rising) == pytest.approx(nats)
    assert advice.unsettled({**rising, "reliable": True}) == 0.0
    assert advice.unsettled({**rising, "iwae": rising["iwae"][:1]}) == 0.0
    low = outcome(0.5, log_px=-90.5, distortion=62.0, rate=30.0, **rising)
    assert ("not told apart" in chosen([low, four()[1]])["generation"].because) == (nats > 0.5)


@pytest.mark.parametrize(
    ("rate", "units", "chosen_value"), [(1.38, 9, None), (1.39, 9, 1), (30.0, 1, None), (30.0, 2, 1)]
)
def test_two_units_and_two_bits_are_the_least_there_is_to_untangle(rate, units, chosen_value):
    runs = [outcome(1, log_px=-90.0, distortion=60.0, rate=rate, units=units)]
    runs.append(outcome(2, log_px=-95.0, distortion=70.0, rate=0.1, units=0))
    assert chosen(runs)["disentanglement"].value == chosen_value


def test_an_observation_alone_tells_nothing_apart():
    assert not advice.surely_positive(Estimate.of(torch.tensor([3.0]) - (torch.tensor([1.0]))))


@pytest.mark.parametrize(
    ("text", "field", "values"),
    [
        ("objective.beta=0.5,1,2", "objective.beta", [0.5, 1, 2]),
        ("model.latent-dim = 2, 8", "model.latent_dim", [2, 8]),
        ("objective.name=elbo,iwae", "objective.name", ["elbo", "iwae"]),
        ("model.scale=0.1,learned", "model.scale", [0.1, "learned"]),
        ("objective.beta=NaN,1e999,[3]", "objective.beta", ["NaN", "1e999", "[3]"]),
    ],
)
def test_over_is_read(text, field, values):
    assert sweep.parse_over(text) == (field, values)


@pytest.mark.parametrize("text", ["objective.beta", "=1,2", "objective.beta=", "objective.beta=,"])
def test_over_of_another_form_is_refused(text):
    with pytest.raises(ValueError, match=r"Expected --over with a field and values, such as objective\.beta=0"):
        sweep.parse_over(text)


def test_a_value_twice_is_refused():
    with pytest.raises(ValueError, match="Expected each value of --over once; got"):
        sweep.parse_over("objective.beta=1,1.0")


def test_values_are_checked_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"Expected a number for objective\.beta; got 'x'"):
        sweep.begin(tmp_path / "s", recipes.load("digits"), "objective.beta", [1, "x"])
    assert not (tmp_path / "s").exists()


def test_folders_are_named_after_values_and_lie_in_the_sweeps(tmp_path):
    planned = sweep.begin(tmp_path / "s", recipes.load("digits"), "data.source", ["a/b.npy", "../c"])
    assert [run.path.name for run in planned] == ["source=a-b.npy", "source=..-c"]
    with pytest.raises(ValueError, match="Expected values whose folders have names of their own"):
        sweep.begin(tmp_path / "t", recipes.load("digits"), "data.source", ["a/b", "a-b"])


def test_a_folder_of_something_else_is_refused(tmp_path):
    recipe = recipes.load("digits")
    sweep.begin(tmp_path / "s", recipe, "objective.beta", [1, 2])
    assert len(sweep.begin(tmp_path / "s", recipe, "objective.beta", [1, 2, 4])) == 3
    for other, field in ((recipe.updated({"seed": 3}), "objective.beta"), (recipe, "model.latent_dim")):
        with pytest.raises(ValueError, match=r"Expected a new folder, or that of .* Choose another: --out"):
            sweep.begin(tmp_path / "s", other, field, [1, 2])
    with pytest.raises(ValueError, match="Expected a new folder"):
        sweep.begin(trained(), recipe, "objective.beta", [1, 2])


LONGER = (*SMALL[:-1], "5", "--objective.warmup-steps", "20")  # just beyond the hundred steps that say something


def run_sweep(capsys, out: Path, values: str = "0.5,1,4") -> tuple[int, str, str]:
    return said(capsys, "sweep", "digits", "--over", f"objective.beta={values}", *LONGER, "--out", out)


def test_a_sweep_is_interrupted_goes_on_and_ends_with_a_choice(capsys, tmp_path, monkeypatch):
    trained()  # before trainings are counted: whichever test comes first makes the tiny run
    train, trainings, stopping = commands.starting.train, [], {"beta=1"}

    def stoppable(recipe, folder, *, progress):
        trainings.append(folder.name)
        if folder.name in stopping:
            raise KeyboardInterrupt
        return train(recipe, folder, progress=progress)

    monkeypatch.setattr(commands.starting, "train", stoppable)
    assert run_sweep(capsys, tmp_path / "s")[0] == 1
    stopping.clear()
    code, out, error = run_sweep(capsys, tmp_path / "s")
    assert (code, trainings) == (0, ["beta=0.5", "beta=1", "beta=1", "beta=4"])
    assert "[3/3] objective.beta = 4" in error
    check_what_it_says(out, tmp_path / "s")
    check_what_it_writes(tmp_path / "s")


def test_a_sweep_ranks_its_own_runs_on_one_data_set(capsys, tmp_path):
    """A run of somebody else's in its folder, or of data that have changed, would be ranked with the others."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(100, 3)))
    auto, over = ["auto", "--data", tmp_path / "x.npy", *SMALL, "--train.epochs", "2"], "objective.beta=0.5,2"
    sweep_it = ["sweep", *auto, "--over", over, "--out", tmp_path / "s"]
    other = ["--objective.beta", "9", "--seed", "5", "--quiet"]
    (tmp_path / "s").mkdir()
    assert said(capsys, "sweep", *auto, "--over", "objective.beta=0.5", "--out", tmp_path / "s")[0] == 0
    assert said(capsys, "train", *auto, *other, "--out", tmp_path / "s" / "beta=2")[0] == 0
    code, _, error = said(capsys, *sweep_it)
    assert (code, "got one with another seed, objective.beta" in error) == (2, True), error
    shutil.move(tmp_path / "s" / "beta=2", tmp_path / "elsewhere")
    np.save(tmp_path / "x.npy", np.random.default_rng(1).normal(size=(100, 3)))
    code, _, error = said(capsys, *sweep_it)
    assert (code, "Expected one data set for all runs of a sweep" in error) == (2, True), error
    shutil.rmtree(tmp_path / "s" / "beta=0.5")
    assert said(capsys, *sweep_it)[0] == 0


def check_what_it_says(out: str, folder: Path) -> None:
    assert max(map(len, out.replace(str(folder), "s").splitlines())) <= 80
    for words in ("generation", "representation", "disentanglement", "log p(x)", "162 observations held out"):
        assert words in " ".join(out.split())
    assert "hardly trained" not in out
    assert out.splitlines()[-3:] == [
        f"Figure: {folder / 'tradeoff.png'}",
        f"Figure: {folder / 'rate-distortion.png'}",
        f"Table: {folder / 'sweep.json'}",
    ]


def check_what_it_writes(folder: Path) -> None:
    table = json.loads((folder / "sweep.json").read_text())
    assert [row["beta"] for row in table["rows"]] == [0.5, 1, 4]
    assert [choice["purpose"] for choice in table["choices"]] == ["generation", "representation", "disentanglement"]
    assert (folder / "tradeoff.png").read_bytes().startswith(b"\x89PNG")
    run = open_run(folder / "beta=4")
    assert run.recipe.objective.beta == 4.0
    assert run.evaluation() is None  # the test set stays unseen until a run is chosen
    found = evidence(run.model(), run.split("validation"), samples=20)
    for name in ("elbo", "distortion", "rate", "nll"):
        assert math.isclose(table["rows"][2][name], found.to_json()[name], rel_tol=1e-5)
    assert table["rows"][2]["active_units"] == found.active_units


def test_an_interrupted_run_of_a_sweep_says_how_to_go_on(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(commands.starting, "train", lambda recipe, folder, progress: stopped())
    code, out, error = run_sweep(capsys, tmp_path / "a sweep")
    assert (code, out) == (1, "")
    assert error.endswith(f"Stopped. The same command goes on, with --out '{tmp_path / 'a sweep'}'\n")


def test_without_validation_the_test_set_is_used_and_that_is_said(capsys, tmp_path):
    words = ("--over", "model.latent_dim=2,3", *LONGER[:2], *LONGER[4:], "--train.validation", "0", "--quiet")
    code, out, error = said(capsys, "sweep", "digits", *words, "--out", tmp_path / "s")
    assert (code, error) == (0, "")
    assert "Measured on the test set, as train.validation = 0" in out
    assert "which latent_dim to take" in out
    assert not (tmp_path / "s" / "tradeoff.png").exists()


def test_a_sweep_of_nothing_there_is_is_refused(capsys):
    assert "Expected a field of the objective 'elbo'; got 'objective.bet'" in refused(
        capsys, "sweep", "digits", "--over", "objective.bet=1,2"
    )


def seeded(value, *, log_px, mig, **found) -> list[Outcome]:
    """Runs of several seeds: each has its own level, beside which the spread of observations says nothing."""
    made = []
    for seed, (level, score) in enumerate(zip(log_px, mig, strict=True)):
        scores = {"mig": {"value": score, "se": 0.001}}
        one = outcome(value, log_px=level, distortion=-level - 20, rate=20.0, scores=scores, **found)
        made.append(dataclasses.replace(one, seed=seed))
    return made


def test_several_seeds_are_compared_by_what_they_differ_by():
    near = [*seeded(1, log_px=[-90, -92, -91], mig=[0.1, 0.1, 0.1]), *seeded(4, log_px=[-93, -90, -92], mig=[0.1] * 3)]
    assert "not told apart from β = 4" in chosen(near)["generation"].because
    alone = [near[0], near[3]]  # one seed each: three nats, without a word on what another seed would have
    assert "β = 4 is 3.00 ± 0.00 lower" in chosen(alone)["generation"].because
    apart = [*seeded(1, log_px=[-90, -92, -91], mig=[0.1] * 3), *seeded(4, log_px=[-99, -98, -97], mig=[0.1] * 3)]
    assert "β = 4 is 7.00 ± 0.82 lower" in chosen(apart)["generation"].because


def test_where_factors_are_known_disentanglement_is_measured():
    runs = [
        *seeded(1, log_px=[-90] * 3, mig=[0.05, 0.07, 0.06]),
        *seeded(4, log_px=[-95] * 3, mig=[0.30, 0.20, 0.25]),
        *seeded(8, log_px=[-99] * 3, mig=[0.10, 0.40, 0.01]),
    ]
    found = chosen(runs)["disentanglement"]
    assert found.value == 4
    assert found.because.startswith("highest MIG, 0.250 ± 0.029; not told apart from β = 8: at most 20.0 nats")
    assert "; costs 5.00 ± 0.00 nats of log p(x)" in found.because
    assert "strongest pressure" in chosen(four())["disentanglement"].because


def test_one_seed_beside_several_tells_nothing_apart():
    runs = [seeded(1, log_px=[-90], mig=[0.5])[0], *seeded(4, log_px=[-200, -201], mig=[0.1, 0.1])]
    assert "not told apart from β = 4" in chosen(runs)["generation"].because


def test_seeds_are_planned_values_first_and_may_be_added(tmp_path):
    recipe = recipes.load("digits").updated({"seed": 7})
    one = sweep.begin(tmp_path / "s", recipe, "objective.beta", [1, 4])
    two = sweep.begin(tmp_path / "s", recipe, "objective.beta", [1, 4], seeds=2)
    assert [run.path.name for run in one] == ["beta=1", "beta=4"]
    assert [run.path.name for run in two] == ["beta=1", "beta=4", "beta=1,seed=8", "beta=4,seed=8"]
    assert [run.recipe.seed for run in two] == [7, 7, 8, 8]
    with pytest.raises(ValueError, match=re.escape("Expected at least one seed, and one alone in a sweep over seed")):
        sweep.begin(tmp_path / "t", recipe, "seed", [1, 2], seeds=2)
    with pytest.raises(ValueError, match="Expected at least one seed"):
        sweep.begin(tmp_path / "t", recipe, "objective.beta", [1, 2], seeds=0)


@pytest.fixture(scope="module")
def bars(tmp_path_factory) -> Path:
    """Images of a bar whose kind and place are known."""
    path = tmp_path_factory.mktemp("bars") / "bars.npz"
    kind, place, _ = (each.ravel() for each in np.meshgrid(range(2), range(6), range(25), indexing="ij"))
    images = np.zeros((len(kind), 6, 6), np.uint8)
    images[np.arange(len(kind)), place] = 1
    images[kind == 1] = images[kind == 1].transpose(0, 2, 1)
    names = np.array(["kind", "place"])
    np.savez(path, x=images, factors=np.stack([kind, place], 1), factor_names=names)
    return path


def test_a_sweep_beside_known_factors(bars, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(predicted, "TREES", 5)
    words = ["sweep", "auto", "--data", bars, "--over", "objective.beta=1,4", "--seeds", "2", *SMALL, "--quiet"]
    words += ["--train.epochs", "30"]
    code, out, _ = said(capsys, *words, "--out", tmp_path / "s")
    assert code == 0
    said_ = " ".join(out.split())
    for each in ("what its dimensions stand for", "MIG", "DCI-D", "FactorVAE", "UDR", "highest MIG", "Means of 2"):
        assert each in said_
    table = json.loads((tmp_path / "s" / "sweep.json").read_text())
    assert [(row["beta"], row["seed"]) for row in table["rows"]] == [(1, 0), (4, 0), (1, 1), (4, 1)]
    run = open_run(tmp_path / "s" / "beta=4,seed=1")
    scores = disentangle(run.model(), run.data().train).scores
    row = table["rows"][3]
    assert math.isclose(row["mig"], scores["mig"].value.value, abs_tol=1e-6)
    first, second = (open_run(tmp_path / "s" / name) for name in ("beta=4", "beta=4,seed=1"))
    assert first.recipe.seed == 0
    codes = [each.model().embed(each.split("validation")) for each in (first, second)]
    assert math.isclose(row["udr"], float(udr(codes)[1]), abs_tol=1e-6)
    assert (tmp_path / "s" / "disentanglement.png").read_bytes().startswith(b"\x89PNG")
    again = said(capsys, *words, "--out", tmp_path / "s")  # nothing is trained again
    assert again[1] == out


def test_a_sweep_of_no_seeds_is_refused(capsys, tmp_path):
    words = ("sweep", "digits", "--over", "objective.beta=1,2", "--seeds", "0", "--out", tmp_path / "s")
    assert "Expected --seeds of at least 1; got 0." in refused(capsys, *words)
