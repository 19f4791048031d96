"""What the verbs do, on a tiny run: where results go, what is refused before there is work in it, and your own data."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import SMALL, copied, refused, said, stopped, trained

from tightbound.cli import commands
from tightbound.data import splits
from tightbound.evaluate import evidence
from tightbound.files import digest_of
from tightbound.runs import build as builds
from tightbound.runs import recipe as recipes
from tightbound.runs import run as runs
from tightbound.runs.run import open_run

PROMISED = "elbo elbo_se distortion rate iwae nll bits_per_dim active_units latent_dim observations ess_median"


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


def test_training_ends_with_the_evidence_and_the_path_of_the_report(capsys, tmp_path):
    code, out, error = said(capsys, "train", "digits", *SMALL, "--out", tmp_path / "run")
    assert code == 0
    assert out.startswith("Evidence: 180 observations, 20 samples each")
    assert out.splitlines()[-1] == f"Report: {tmp_path / 'run' / 'report.html'}"
    assert (tmp_path / "run" / "report.html").is_file()
    assert re.search(r"Trained 23 steps in \d+\.\d s; kept the weights of step 23\.\n", error)
    assert "Likelihood: bernoulli (named in the recipe)." in error
    noted, _, rest = error.partition("Trained 23 steps")
    assert (
        "Note: The objective warms up over 200 steps and training takes 23, so the full one is never trained" in noted
    )
    assert "warms up over 200" not in rest


def test_a_folder_with_something_in_it_is_never_written_into(capsys):
    before = sorted(trained().rglob("*"))
    error = refused(capsys, "train", "digits", *SMALL, "--out", trained())
    assert "Expected a new folder; got" in error
    assert "Choose another: --out, or out= in Python." in error
    assert sorted(trained().rglob("*")) == before


def test_a_complete_run_resumes_to_itself(capsys, tmp_path):
    run = copied(tmp_path)
    before = (run / "model.safetensors").read_bytes(), (run / "metrics.jsonl").read_bytes()
    code, out, _ = said(capsys, "train", "--resume", run)
    assert code == 0
    assert out.endswith(f"Report: {run / 'report.html'}\n")
    assert ((run / "model.safetensors").read_bytes(), (run / "metrics.jsonl").read_bytes()) == before


def test_the_reason_for_the_likelihood_outlives_a_resume_and_a_training_on(capsys, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (60, 1, 6, 6), dtype=np.uint8))
    run, small = tmp_path / "run", [*SMALL[:4], "--evaluate.samples", "2", "--train.epochs", "1"]
    assert said(capsys, "train", "auto", "--data", tmp_path / "x.npy", *small, "--out", run)[0] == 0
    why = open_run(run).config.why
    assert why.startswith("the values are 256 levels of grey")
    told = f"Likelihood: discretized-logistic ({why})."
    assert told in said(capsys, "train", "--resume", run)[2]
    assert why in (run / "report.html").read_text(encoding="utf-8")
    on = ["--resume", run, "--train.epochs", "2"]
    assert told in said(capsys, "train", *on, "--out", tmp_path / "on")[2]
    assert open_run(tmp_path / "on").config.why == why
    np.save(tmp_path / "y.npy", np.random.default_rng(1).integers(0, 256, (60, 1, 6, 6), dtype=np.uint8))
    assert (
        "(named in the recipe)" in said(capsys, "train", *on, "--data", tmp_path / "y.npy", "--out", tmp_path / "o")[2]
    )
    (run / "checkpoint" / "state.pt").unlink()  # as if it had been killed before its first step
    (run / "checkpoint" / "older.pt").unlink(missing_ok=True)
    (run / "model.safetensors").unlink()
    assert told in said(capsys, "train", "--resume", run)[2]
    assert open_run(run).config.why == why


def test_an_interrupted_training_says_how_to_go_on(capsys, tmp_path, monkeypatch):
    run = copied(tmp_path)
    monkeypatch.setattr(commands.starting, "resume", lambda path, progress, **_: stopped(run))
    code, out, error = said(capsys, "train", "--resume", run)
    assert (code, out) == (1, "")
    assert error == f"Stopped at step 7. Go on with: tightbound train --resume {run}\n"


def test_an_evaluation_that_fails_after_training_is_the_runs_failure(capsys, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError("Expected finite log-weights; got NaN or infinity at observation 3.")

    run = copied(tmp_path)
    monkeypatch.setattr(commands, "measure", fail)
    code, out, error = said(capsys, "train", "--resume", run)
    assert (code, out) == (1, "")
    assert "is trained, but not to be evaluated. Expected finite log-weights" in error


def test_an_interrupted_evaluation_says_how_to_go_on_and_ends_as_one_that_was_not(capsys, tmp_path, monkeypatch):
    def interrupted(*given, **settings):
        measured(*given, **settings)
        raise KeyboardInterrupt

    run, measured = copied(tmp_path), commands.measure
    _, expected, _ = said(capsys, "evaluate", run, "--json", "--samples", "12")
    with monkeypatch.context() as patched:
        patched.setattr(commands, "measure", interrupted)
        code, out, error = said(capsys, "evaluate", run, "--json", "--samples", "12")
    assert (code, out) == (1, "")
    told = f"What was measured is kept: 'tightbound evaluate {run}' with the same options goes on from there."
    assert error.endswith(f"{told}\ntightbound: Stopped.\n")
    assert (run / "unfinished.safetensors").is_file()
    assert said(capsys, "evaluate", run, "--json", "--samples", "12")[:2] == (0, expected)
    assert not (run / "unfinished.safetensors").exists()


def test_evaluate_prints_one_json_object_and_keeps_it(capsys, tmp_path):
    run = copied(tmp_path)
    code, out, error = said(capsys, "evaluate", run, "--json", "--samples", "12")
    found = json.loads(out)
    assert code == 0
    assert found.keys() >= {*PROMISED.split(), "low_ess_share"}
    assert [bound["samples"] for bound in found["iwae"]] == [1, 10, 12]
    assert all(bound.keys() == {"samples", "value", "se", "rise", "rise_se"} for bound in found["iwae"])
    told = found.pop("mutual_information")
    kept = open_run(run).evaluation()
    assert kept.pop("weights") == digest_of(run / "model.safetensors")[:16]
    assert found == kept
    assert told == open_run(run).kept("information.json")
    assert told["rate"] == pytest.approx(found["rate"], abs=4 * math.hypot(told["rate_se"], found["rate_se"]))
    assert "'tightbound report" in error


def test_a_single_observation_is_evaluated_and_has_nothing_to_be_told_from(capsys, tmp_path):
    one = np.zeros((1, 1, 8, 8), np.uint8)
    np.savez(tmp_path / "one.npz", x_train=one, x_test=one)
    words = ("evaluate", trained(), "--data", tmp_path / "one.npz", "--samples", "2")
    assert json.loads(said(capsys, *words, "--json")[1])["mutual_information"] is None
    assert "The code tells" not in said(capsys, *words)[1]
    np.save(tmp_path / "two.npy", np.eye(2, 64, dtype=np.uint8).reshape(2, 1, 8, 8))
    words = ("evaluate", trained(), "--data", tmp_path / "two.npy", "--samples", "2")
    assert json.loads(said(capsys, *words, "--json")[1])["mutual_information"]["observations"] == 2
    assert "The code tells" in said(capsys, *words)[1]


def test_evaluate_gives_what_the_library_gives(capsys):
    run = open_run(trained())
    _, out, _ = said(capsys, "evaluate", trained(), "--split", "validation", "--samples", "7", "--json")
    expected = evidence(run.model(), run.held_out(run.data()), samples=7)
    assert json.loads(out)["elbo"] == pytest.approx(expected.elbo.value, abs=1e-6)


@pytest.mark.parametrize(("split", "count"), [("train", 1455), ("validation", 162), ("test", 180)])
def test_the_splits_are_what_training_made_of_the_data(split, count):
    assert len(open_run(trained()).split(split)) == count


def test_a_sampled_rate_is_kept_as_any_other(capsys, tmp_path):
    """Under a mixture prior there is no closed form: rate and sampled rate are then one and the same tensor."""
    words = ["--model.prior", "mixture", "--model.components", "3", "--objective.kl", "sampled", *SMALL]
    code, out, _ = said(capsys, "train", "digits", *words, "--quiet", "--out", tmp_path / "run")
    assert code == 0
    assert "sampled" in out
    kept = open_run(tmp_path / "run").per_observation()
    assert kept["rate"].equal(kept["rate_sampled"])


def test_the_splits_are_disjoint_and_everything():
    run = open_run(trained())
    rows = [run.split(split).rows for split in ("train", "validation", "test")]
    assert torch.cat(rows).sort().values.tolist() == list(range(1797))
    assert [len(whole) for whole in run.data().everything()] == [1797]


def test_only_its_test_set_is_kept_in_the_run(capsys):
    before = open_run(trained()).evaluation()
    assert said(capsys, "evaluate", trained(), "--split", "train", "--samples", "1", "--json")[0] == 0
    assert open_run(trained()).evaluation() == before


def test_other_data_are_evaluated_whole_unless_they_have_a_test_set(capsys, tmp_path):
    x = np.zeros((30, 1, 8, 8), np.uint8)
    x[::2] = 255
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x_train=x, x_test=x[:7])
    for name, split, count in (("x.npy", [], 30), ("x.npy", ["--split", "test"], 3), ("x.npz", [], 7)):
        _, out, _ = said(capsys, "evaluate", trained(), "--data", tmp_path / name, *split, "--samples", "1", "--json")
        assert json.loads(out)["observations"] == count
    error = refused(capsys, "evaluate", trained(), "--data", tmp_path / "x.npy", "--split", "validation")
    assert "got validation, which only a run's own data have." in error


def test_data_of_another_shape_are_refused(capsys, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((30, 5), np.float32))
    error = refused(capsys, "evaluate", trained(), "--data", tmp_path / "x.npy")
    assert "Expected observations of shape (1, 8, 8)" in error


def test_samples_as_numbers_and_as_a_picture(capsys, tmp_path):
    run = copied(tmp_path)
    for seed in (0, 0, 1):
        (tmp_path / "x.npy").rename(tmp_path / "before.npy") if (tmp_path / "x.npy").exists() else None
        _, out, _ = said(capsys, "sample", run, "--count", "5", "--seed", seed, "--out", tmp_path / "x.npy")
        assert out == f"{tmp_path / 'x.npy'}\n"
        assert np.load(tmp_path / "x.npy").shape == (5, 1, 8, 8)
        if (tmp_path / "before.npy").exists():
            assert (np.load(tmp_path / "x.npy") == np.load(tmp_path / "before.npy")).all() == (seed == 0)
    code, out, _ = said(capsys, "sample", run)
    assert (code, out) == (0, f"{run / 'figures' / 'samples.png'}\n")


def test_samples_are_means_unless_noise_is_asked_for(capsys, tmp_path):
    assert said(capsys, "sample", trained(), "--count", "3", "--out", tmp_path / "mean.npy")[0] == 0
    assert said(capsys, "sample", trained(), "--count", "3", "--draw", "--out", tmp_path / "x.npy")[0] == 0
    assert set(np.unique(np.load(tmp_path / "x.npy"))) <= {0.0, 1.0}
    assert not set(np.unique(np.load(tmp_path / "mean.npy"))) <= {0.0, 1.0}


def test_training_loads_the_data_once_summarises_each_split_once_and_builds_the_model_once(
    capsys, tmp_path, monkeypatch
):
    called: list[str] = []

    def counted(module, name):
        original = getattr(module, name)

        def call(*args, **kwargs):
            called.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    for module in (builds, runs):
        for name in ("loaded", "build_model"):
            counted(module, name)
    counted(splits, "summarise")
    counted(builds, "load")
    assert said(capsys, "train", "digits", *SMALL, "--quiet", "--out", tmp_path / "run")[0] == 0
    assert sorted(called) == ["build_model", "load", "loaded", "summarise", "summarise"]


def test_sampling_leaves_the_random_state_alone(capsys, tmp_path):
    before = torch.get_rng_state()
    said(capsys, "sample", trained(), "--count", "2", "--out", tmp_path / "x.npy")
    assert torch.equal(torch.get_rng_state(), before)


def test_without_temperature_all_samples_are_one(capsys, tmp_path):
    said(capsys, "sample", trained(), "--count", "4", "--temperature", "0", "--out", tmp_path / "x.npy")
    assert np.ptp(np.load(tmp_path / "x.npy"), axis=0).max() == 0


@pytest.mark.parametrize(
    "words",
    [
        ("reconstruct", "--count", "3"),
        ("reconstruct", "--split", "validation", "--count", "2"),
        ("traverse", "--index", "7", "--dimensions", "2", "--steps", "3"),
        ("traverse", "--dimensions", "99", "--steps", "2"),
        ("interpolate", "--rows", "2", "--steps", "3"),
    ],
)
def test_pictures_go_where_they_are_asked_for(words, capsys, tmp_path):
    code, out, _ = said(capsys, words[0], trained(), *words[1:], "--out", tmp_path / "x.png")
    assert (code, out) == (0, f"{tmp_path / 'x.png'}\n")
    assert is_png(tmp_path / "x.png")


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_a_traversal_can_move(ending, capsys, tmp_path):
    code, out, _ = said(capsys, "traverse", trained(), "--steps", "3", "--out", tmp_path / f"walk.{ending}")
    assert (code, out) == (0, f"{tmp_path / f'walk.{ending}'}\n")
    with Image.open(tmp_path / f"walk.{ending}") as found:
        assert found.n_frames == 6


def test_a_traversal_needs_no_evaluation(capsys, tmp_path):
    run = copied(tmp_path)
    (run / "evaluation.json").unlink()
    code, out, _ = said(capsys, "traverse", run, "--steps", "2")
    assert code == 0
    assert is_png(Path(out.strip()))
    assert open_run(run).evaluation() is None


def test_embeddings_are_posterior_means_row_by_row(capsys, tmp_path):
    run = open_run(trained())
    for split, count in (("test", 180), ("all", 1797)):
        assert said(capsys, "embed", trained(), "--split", split, "--out", tmp_path / f"{split}.npy")[0] == 0
        assert np.load(tmp_path / f"{split}.npy").shape == (count, 3)
    whole = run.data().everything()[0]
    expected = run.model().embed(whole.eval_batch(0, 50))
    np.testing.assert_allclose(np.load(tmp_path / "all.npy")[:50], expected.numpy(), atol=1e-6)


def test_other_data_are_embedded_whole(capsys, tmp_path):
    np.save(tmp_path / "x.npy", np.eye(64, dtype=np.uint8).reshape(64, 1, 8, 8) * 255)
    assert said(capsys, "embed", trained(), "--data", tmp_path / "x.npy", "--out", tmp_path / "z.npy")[0] == 0
    assert np.load(tmp_path / "z.npy").shape == (64, 3)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("evaluate RUN --error 0", "Expected error > 0 nats; got 0."),
        ("evaluate RUN --proposal enumerated", "Or take proposal='posterior'."),
        ("certify RUN --observations 1", "Expected at least 2 observations, which show an error; got observations=1."),
        ("certify RUN --leapfrogs 0", "Expected at least 1 of leapfrogs; got leapfrogs=0."),
        ("gaps RUN --observations 1", "Expected at least 2 observations, which show an error; got observations=1."),
        ("information RUN --draws 1", "Expected at least 2 draws, which show an error; got draws=1."),
        ("evaluate RUN --samples 0", "Expected samples >= 1; got 0."),
        ("sample RUN --count 0", "Expected --count of at least 1; got 0."),
        ("sample RUN --temperature nan", "Expected --temperature of 0 or more; got nan."),
        (
            "sample RUN --count 1025",
            "pictures in one figure; got 1025. Ask for fewer, or for numbers: --out x.npy.",
        ),
        ("sample RUN --out x.jpg", "Expected --out to end in .png or .npy; got x.jpg."),
        ("reconstruct RUN --count 0", "Expected --count of at least 1; got 0."),
        ("traverse RUN --index 180", "Expected --index between 0 and 179, a test observation; got 180."),
        ("traverse RUN --index -1", "Expected --index between 0 and 179, a test observation; got -1."),
        ("traverse RUN --dimensions 0", "Expected --dimensions of at least 1; got 0."),
        ("traverse RUN --steps 1", "Expected --steps of at least 2; got 1."),
        ("traverse RUN --steps 500", "Expected at most 1024 pictures in one figure; got 1500. Ask for fewer."),
        ("traverse RUN --out x.npy", "Expected --out to end in .png, .gif or .webp; got x.npy."),
        ("interpolate RUN --rows 0", "Expected --rows of at least 1; got 0."),
        ("interpolate RUN --rows 91 --steps 2", "Expected two test observations a row, 182 for --rows 91; got 180."),
        ("embed RUN --out z.txt", "Expected --out to end in .npy; got z.txt."),
    ],
)
def test_a_wrong_request_says_what_to_ask_for(words, error, capsys):
    assert error in refused(capsys, *(trained() if word == "RUN" else word for word in words.split()))


def test_results_overwrite_nothing(capsys, tmp_path):
    (tmp_path / "mine.npy").write_text("precious")
    for verb in ("embed", "sample"):
        error = refused(capsys, verb, trained(), "--out", tmp_path / "mine.npy")
        assert "mine.npy, which exists. Choose another --out, or remove it first." in error
    assert (tmp_path / "mine.npy").read_text() == "precious"


def test_a_run_without_validation_has_no_validation_split(capsys, tmp_path):
    run = tmp_path / "run"
    assert said(capsys, "train", "digits", *SMALL, "--train.validation", "0", "--quiet", "--out", run)[0] == 0
    error = refused(capsys, "evaluate", run, "--split", "validation")
    assert "this run held nothing out (train.validation = 0); got validation." in error


def test_without_its_metrics_a_run_is_not_said_to_be_hardly_trained(capsys, tmp_path):
    run = copied(tmp_path)
    assert "it has made 23 steps" in said(capsys, "evaluate", run)[1]
    lines = (run / "metrics.jsonl").read_bytes()
    (run / "metrics.jsonl").unlink()
    code, out, _ = said(capsys, "evaluate", run)
    assert (code, "hardly trained" in out) == (0, False)
    for zeroed in (bytes(len(lines)), lines[:-40] + bytes(40)):
        (run / "metrics.jsonl").write_bytes(zeroed)
        assert "metrics.jsonl; got zeros" in refused(capsys, "evaluate", run)


def test_other_data_in_the_place_of_a_runs_own_are_refused(capsys, tmp_path):
    x = np.random.default_rng(0).normal(size=(200, 3))
    np.save(tmp_path / "x.npy", x)
    run = tmp_path / "run"
    words = ["auto", "--data", tmp_path / "x.npy", *SMALL, "--train.epochs", "2", "--quiet", "--out", run]
    assert said(capsys, "train", *words)[0] == 0
    np.save(tmp_path / "moved.npy", x)
    np.save(tmp_path / "x.npy", x + 1)
    for verb in (["evaluate", run], ["report", run], ["gaps", run, "--observations", "4"], ["train", "--resume", run]):
        error = refused(capsys, *verb)
        assert "another data" in error or "Expected the data that the run in" in error, error
    assert said(capsys, "report", run, "--data", tmp_path / "moved.npy")[0] == 0
    assert "Expected the data that the run in" in refused(capsys, "report", run, "--data", tmp_path / "x.npy")
    before = (run / "evaluation.json").read_bytes()
    assert said(capsys, "evaluate", run, "--data", tmp_path / "x.npy")[0] == 0
    assert said(capsys, "reconstruct", run, "--data", tmp_path / "x.npy", "--out", tmp_path / "r.png")[0] == 0
    assert (run / "evaluation.json").read_bytes() == before


def draw(folder: Path, shape: tuple[int, ...], count: int = 20) -> Path:
    """A folder of pictures: one black square each, on white or colours."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for index in range(count):
        pixels = np.full(shape, 255, np.uint8) if len(shape) == 2 else random.integers(0, 256, shape, dtype=np.uint8)
        row, column = random.integers(0, min(shape[:2]) - 8, 2)
        pixels[row : row + 8, column : column + 8] = 0
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return folder


QUICK = "--train.epochs=1 --train.batch-size=16 --evaluate.samples=2 --model.channels=4"


@pytest.mark.parametrize(
    ("shape", "recipe", "network", "likelihood"),
    [
        ((105, 105), "auto", "conv", "bernoulli"),
        ((37, 53, 3), "auto", "conv", "discretized-logistic"),
        ((37, 53, 3), "images", "conv", "discretized-logistic"),
    ],
)
def test_a_folder_of_your_own_images_trains_without_naming_a_layer(
    shape, recipe, network, likelihood, capsys, tmp_path
):
    folder = draw(tmp_path / "mine", shape)
    words = (*QUICK.split(), "--quiet", "--out", tmp_path / "run")
    code, out, error = said(capsys, "train", recipe, "--data", folder, *words)
    assert (code, error) == (0, "")  # quiet is quiet
    run = open_run(tmp_path / "run")
    assert (run.recipe.model.network, run.recipe.model.likelihood) == (network, likelihood)
    assert "Report: " in out


def test_images_of_several_sizes_are_refused_naming_the_file_and_the_remedy(capsys, tmp_path):
    folder = draw(tmp_path / "mine", (16, 16), 3)
    Image.new("L", (20, 16)).save(folder / "odd.png")
    error = refused(capsys, "train", "auto", "--data", folder)
    assert str(folder / "odd.png") in error
    assert "--data.size" in error


def test_what_a_recipe_chose_for_its_own_data_is_said_where_it_is_kept_for_others():
    digits, auto = recipes.load("digits"), recipes.load("auto")
    mine = {"data.source": "my images/"}
    (note,) = commands.notes(digits, digits.updated(mine))
    assert "the recipe 'digits' has network = mlp and likelihood = bernoulli, chosen for digits." in note
    assert note.endswith("tightbound train auto --data 'my images/'")
    assert commands.notes(digits, digits.updated({"objective.beta": 4.0})) == []
    assert commands.notes(auto, auto.updated(mine)) == []
    named = {"model.network": "conv", "model.likelihood": "gaussian"}
    assert commands.notes(digits, digits.updated({**mine, **named})) == []


def test_a_report_of_a_run_that_was_never_evaluated_evaluates_it(capsys, tmp_path):
    run = copied(tmp_path)
    expected = open_run(run).evaluation()
    (run / "evaluation.json").unlink()
    assert said(capsys, "report", run)[0] == 0
    assert open_run(run).evaluation() == expected


@pytest.mark.parametrize(
    ("posterior", "width", "told"),
    [
        ("bernoulli", 3, "each of 3 variables is given by the probability that it is 1."),
        ("categorical", 12, "each of 3 variables is given by the probability that it has each of its 4 classes."),
    ],
)
def test_a_run_of_discrete_codes_says_what_it_is(posterior, width, told, capsys, tmp_path):
    words = ["--model.posterior", posterior, "--model.classes", "4", "--objective.gradient", "leave-one-out"]
    words += ["--objective.samples", "2"]
    code, out, _ = said(capsys, "train", "digits", *SMALL, *words, "--out", tmp_path / "run")
    assert code == 0
    assert "The latent is discrete: all numbers are of hard codes" in " ".join(out.split())
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "of 3 variables of the code active" in page
    assert "it tells more than 0.01 nats about x" in page
    code, _, err = said(capsys, "embed", tmp_path / "run", "--out", tmp_path / "z.npy")
    assert code == 0
    assert told in err
    z = np.load(tmp_path / "z.npy")
    assert z.shape == (180, width)
    assert (z >= 0).all()
    if posterior == "categorical":
        np.testing.assert_allclose(z.reshape(180, 3, 4).sum(-1), 1, rtol=1e-5)
    assert said(capsys, "traverse", tmp_path / "run", "--out", tmp_path / "t.png")[0] == 0
