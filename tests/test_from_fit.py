"""The folder of ``tb.fit(out=…)`` is a run: opened, judged and gone on with, without anybody's code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import edited
from torch import Tensor, nn
from training import QUIET, before_each_step, data, weights

import tightbound as tb
from tightbound.cli.verbs import main
from tightbound.files import DIGESTS
from tightbound.networks import MLP
from tightbound.runs import registry
from tightbound.runs.from_fit import HELD_OUT, FromFit
from tightbound.runs.measured import measure
from tightbound.runs.printed import SaidObjective, as_code, named, rebuilt
from tightbound.runs.recipe import GIVEN
from tightbound.runs.starting import resume

SETTINGS: dict[str, Any] = {**QUIET, "epochs": 2}


def library(seed: int = 0) -> tb.VAE:
    torch.manual_seed(seed)
    return tb.VAE(
        prior=tb.priors.MixtureOfNormals(2, components=3),
        posterior=tb.posteriors.DiagonalNormal(MLP((3,), (4,), hidden=(8,), act="tanh")),
        likelihood=tb.likelihoods.Gaussian(nn.Sequential(nn.Linear(2, 7), nn.ELU(alpha=0.5), nn.Linear(7, 3))),
    )


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def own(seed: int = 0) -> tb.VAE:
    torch.manual_seed(seed)
    posterior = tb.posteriors.DiagonalNormal(Own())
    return tb.VAE(tb.priors.StandardNormal(2), posterior, tb.likelihoods.Gaussian(MLP((2,), (3,), hidden=(8,))))


def parts(count: int = 100) -> tb.data.Data:
    return tb.data.Data("mine", tb.data.observations(data(count)), tb.data.observations(data(30, seed=1)))


def trained(folder: Path, model: tb.Model, given: Any, **changes: Any) -> Path:
    tb.fit(model, given, out=folder, **{**SETTINGS, **changes})
    return folder


# Opened


def test_a_model_of_the_library_s_pieces_comes_back(tmp_path: Path) -> None:
    model = library()
    run = tb.open_run(trained(tmp_path / "run", model, parts(), seed=7, checkpoint_seconds=float("inf")))
    again = run.model()
    assert not again.training
    assert str(again) == str(model)
    assert again.embed(data()).equal(model.embed(data()))
    assert tb.load_model(tmp_path / "run").embed(data()).equal(model.embed(data()))
    assert isinstance(run.recipe, FromFit)
    assert (run.recipe.seed, run.recipe.train) == (7, tb.Training(**SETTINGS_OF, checkpoint_seconds=float("inf")))
    assert run.recipe.objective.in_words(8) == "Loss = distortion + rate."
    assert run.metrics()[-1]["split"] == "validation"
    assert run.environment()["torch"] == torch.__version__
    assert run.seconds() is not None
    assert (run.config.shape, run.evaluation(), run.recipe.name) == ((3,), None, "run")


SETTINGS_OF = {name: value for name, value in SETTINGS.items() if name != "progress"}


def test_of_a_module_of_ones_own_the_model_must_be_given(tmp_path: Path) -> None:
    model = own()
    folder = trained(tmp_path / "run", model, parts())
    said = rf"got .*\.Own in .*, whose code no folder keeps\. In Python, .*: tb\.open_run\('{folder}', model=model\)\."
    for ask in (tb.open_run(folder).model, lambda: tb.load_model(folder)):
        with pytest.raises(ValueError, match=said):
            ask()
    assert len(tb.open_run(folder).metrics()) > 0
    fresh = own(seed=3)
    run = tb.open_run(folder, model=fresh.train())
    assert not fresh.training
    assert fresh.embed(data()).equal(model.embed(data()))  # read into the model that was given, at once
    assert run.model() is fresh
    assert len(run.split(None, parts())) == 30


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (library, r"model\.prior is StandardNormal and MixtureOfNormals in the run and here\. Build it as before"),
        (
            lambda: tb.VAE(own().prior, own().posterior, tb.likelihoods.Laplace(MLP((2,), (3,), hidden=(8,)))),
            "model.likelihood is Gaussian and Laplace",
        ),
        (
            lambda: tb.VAE(own().prior, own().posterior, tb.likelihoods.Gaussian(MLP((2,), (3,), hidden=(9,)))),
            r"model.likelihood.network.hidden.0 is 8 and 9",
        ),
    ],
)
def test_another_model_is_refused(other: Callable[[], tb.VAE], said: str, tmp_path: Path) -> None:
    folder, made = trained(tmp_path / "run", own(), data()), other()
    before = weights(made)
    with pytest.raises(ValueError, match=f"Expected the model that was trained in .*; got another one: {said}"):
        tb.open_run(folder, model=made)
    assert all(before[name].equal(value) for name, value in made.state_dict().items())


def test_weights_of_another_shape_under_a_name_of_ones_own_are_refused(tmp_path: Path) -> None:
    folder, made = trained(tmp_path / "run", own(), data()), own()
    made.posterior.network.inner = nn.Linear(3, 4, bias=False)
    with pytest.raises(ValueError, match=r"Expected the weights of the run's model .*inner\.bias missing"):
        tb.open_run(folder, model=made)


def test_a_recipe_s_run_takes_no_model(tmp_path: Path) -> None:
    small = {"model.latent_dim": 2, "model.hidden": [8], "train.epochs": 0.2}
    tb.train("auto", data=data(), out=tmp_path / "run", changes=small, progress=False)
    assert not (tmp_path / "run" / "training.json").exists()
    assert not (tmp_path / "run" / "model.json").exists()
    with pytest.raises(ValueError, match=r"Expected no model for .*; got VAE\. Leave model= out"):
        tb.open_run(tmp_path / "run", model=own())


def test_a_model_that_is_no_vae_is_a_run_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vae = tb.VAE(
        tb.priors.StandardNormal(2), tb.posteriors.DiagonalNormal(MLP((3,), (4,))),
        tb.likelihoods.Gaussian(MLP((2,), (3,))),
    )  # fmt: skip
    pairs = torch.stack([data(60), data(60, seed=1)], 1)
    np.save(tmp_path / "pairs.npy", pairs.numpy())
    folder = trained(tmp_path / "run", tb.PairedVAE(vae), pairs)
    assert isinstance(tb.open_run(folder).model(), tb.PairedVAE)
    assert main(["report", str(folder), "--data", str(tmp_path / "pairs.npy")]) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "No pictures of codes, reconstructions and samples: PairedVAE is no tb.VAE." in page
    assert main(["sample", str(folder)]) == 2
    assert "Expected a tb.VAE for pictures, samples and embeddings; got PairedVAE" in capsys.readouterr().err


# Its data


def test_a_run_finds_its_data_again_where_they_have_a_name_or_a_place(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", data().numpy())
    given = tb.load_data(tmp_path / "x.npy", test_fraction=0.3)
    run = tb.open_run(trained(tmp_path / "run", library(), given))
    assert run.recipe.data.source == str(tmp_path / "x.npy")
    assert run.data().test.eval_batch().x.equal(given.test.eval_batch().x)
    assert len(run.split("validation")) == 14
    np.save(tmp_path / "x.npy", data().numpy() + 1)
    with pytest.raises(ValueError, match=r"Expected the data that the run in .* was trained on; got others in"):
        run.data()


def test_a_training_set_without_its_test_set_finds_it_again(tmp_path: Path) -> None:
    digits = tb.load_data("digits").binarised()
    model = tb.VAE(
        tb.priors.StandardNormal(2), tb.posteriors.DiagonalNormal(MLP((1, 8, 8), (4,), hidden=(8,))),
        tb.likelihoods.Bernoulli(MLP((2,), (1, 8, 8), hidden=(8,))),
    )  # fmt: skip
    found = tb.open_run(trained(tmp_path / "run", model, digits.train, epochs=0.1)).data()
    assert found.test.eval_batch().x.equal(digits.test.eval_batch().x)
    assert HELD_OUT not in found.test.notes


def test_data_that_were_made_in_python_must_be_given(tmp_path: Path) -> None:
    run = tb.open_run(trained(tmp_path / "run", library(), parts()))
    assert run.recipe.data.source == GIVEN
    with pytest.raises(ValueError, match=r"Expected the data themselves, .* tb\.report\(run, x\), .* --data x\.npy"):
        run.data()
    assert len(run.data(parts()).test) == 30


def test_without_a_test_set_what_was_held_out_takes_its_place_and_is_called_so(tmp_path: Path) -> None:
    x = data()
    run = tb.open_run(trained(tmp_path / "run", library(), x))
    found = run.data(x)
    assert (len(found.train), len(found.test)) == (80, 20)
    assert torch.cat([found.train.eval_batch().x, found.test.eval_batch().x]).sum(0).allclose(x.sum(0), atol=1e-4)
    assert found.test.notes[-1] == HELD_OUT
    for split, count in ((None, 20), ("test", 20), ("validation", 20), ("train", 80)):
        assert len(run.split(split, x)) == count
    assert run.split("validation", x).eval_batch().x.equal(found.test.eval_batch().x)
    assert measure(run.model(), found.test, samples=5).evidence.verdict.startswith(HELD_OUT)


def test_other_data_are_all_of_them(tmp_path: Path) -> None:
    run = tb.open_run(trained(tmp_path / "run", library(), data()))
    assert len(run.split(None, data(seed=5))) == 100
    with pytest.raises(ValueError, match=r"Expected the split train or test of .*; got validation"):
        run.split("validation", data(seed=5))
    with pytest.raises(ValueError, match=r"Expected observations of shape \(3,\), as this run's model has seen; got"):
        run.data(torch.zeros(9, 4))


def test_where_nothing_was_held_out_a_test_set_must_be_given(tmp_path: Path) -> None:
    run = tb.open_run(trained(tmp_path / "run", library(), data(), validation=0))
    with pytest.raises(ValueError, match=r"Expected observations that the model has not seen; .*run\.data\(tb\.data"):
        run.data(data())
    given = tb.data.Data("mine", tb.data.observations(data()), tb.data.observations(data(9, seed=4)))
    assert len(run.data(given).test) == 9


def test_the_training_set_alone_of_a_run_that_had_both_is_refused(tmp_path: Path) -> None:
    run = tb.open_run(trained(tmp_path / "run", library(), parts()))
    with pytest.raises(ValueError, match="Expected training and test set, as the run was given both; got the training"):
        run.data(data())


# The command line


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fit")
    np.save(folder / "x.npy", data().numpy())
    with torch.random.fork_rng():
        trained(folder / "run", library(), tb.load_data(folder / "x.npy"), checkpoint_seconds=0.0)
    return folder


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "RUN", "--samples", "5"],
        ["gaps", "RUN", "--observations", "4"],
        ["certify", "RUN", "--observations", "2", "--temperatures", "3"],
        ["information", "RUN"],
        ["check", "RUN", "--observations", "5"],
        ["disentangle", "RUN", "--observations", "9"],
        ["sample", "RUN", "--out", "OUT.npy"],
        ["reconstruct", "RUN", "--out", "OUT.npy"],
        ["traverse", "RUN"],
        ["interpolate", "RUN", "--rows", "2"],
        ["embed", "RUN", "--out", "OUT.npy"],
        ["report", "RUN"],
        ["train", "--resume", "RUN", "--quiet"],
    ],
    ids=lambda words: words[0],
)
def test_every_verb_takes_it(words: list[str], original: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(original / "run", tmp_path / "run"))
    given = [word.replace("RUN", str(folder)).replace("OUT", str(tmp_path / "out")) for word in words]
    assert main(given) == 0
    if words[0] in ("report", "train"):
        page = (folder / "report.html").read_text(encoding="utf-8")
        networks = "DiagonalNormal posterior (MLP 3-8-4), Gaussian likelihood (Sequential 2-7-3)"
        assert f"VAE: MixtureOfNormals prior (2), {networks}" in page
        assert "tb.fit(model, data, seed=0, " in page
        assert "Settings" in page
        assert "90 training, 18 of them held out for validation, and 10 test observations of 3" in page


def test_the_page_of_a_run_without_a_test_set_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", data().numpy())
    folder = trained(tmp_path / "run", library(), data())
    assert main(["report", str(folder), "--data", str(tmp_path / "x.npy")]) == 0
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "80 training observations of 3, and 20 held out for validation, which are judged as there is no" in page
    assert HELD_OUT in page
    assert tb.open_run(folder).evaluation()["verdict"].replace("\n", " ").count(HELD_OUT) == 1


@pytest.mark.parametrize("verb", ["evaluate", "sample", "report", "embed"])
def test_a_verb_that_needs_the_model_s_code_says_the_line_that_works(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "x.npy", data().numpy())
    folder = trained(tmp_path / "run", own(), tb.load_data(tmp_path / "x.npy"))
    capsys.readouterr()
    assert main([verb, str(folder), *(["--out", str(tmp_path / "z.npy")] if verb == "embed" else [])]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    [line] = [part for part in error.split(": ") if part.startswith("tb.open_run(")]
    run = eval(line.strip().rstrip("."), {"tb": tb, "model": own(seed=1)})
    assert run.model().embed(data()).shape == (100, 2)


def test_what_needs_a_recipe_says_so(original: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["recipes", str(original / "run")],
        ["train", "--resume", str(original / "run"), "--train.epochs", "3"],
    ):
        assert main(words) == 2
        assert "which tb.fit made in Python and no recipe describes" in capsys.readouterr().err


def test_a_folder_of_an_older_fit_says_how_to_complete_it(tmp_path: Path) -> None:
    folder = trained(tmp_path / "run", library(), data())
    for name in ("training.json", "model.json", "environment.json"):
        (folder / name).unlink()
    with pytest.raises(ValueError, match=r"and so does tb\.fit\(…, out=FOLDER, resume=True\) of a run that it began"):
        tb.open_run(folder)
    trained(folder, library(), data(), resume=True)
    assert tb.open_run(folder).model().embed(data()).shape == (100, 2)


# Gone on with


def test_a_run_of_the_library_s_pieces_is_gone_on_with_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = tb.objectives.ELBO(beta=tb.schedules.Linear(0, 1, 5), samples=2, kl="sampled")
    whole, broken = library(), library()
    trained(tmp_path / "whole", whole, data(), objective=objective, checkpoint_seconds=0.0)

    def stop(step: int) -> None:
        if step == 5:
            raise RuntimeError("out of luck")

    with monkeypatch.context() as patch:
        before_each_step(patch, stop)
        with pytest.raises(RuntimeError, match="out of luck"):
            trained(tmp_path / "run", broken, data(), objective=objective, checkpoint_seconds=0.0)
    with pytest.raises(ValueError, match=r"Expected weights at .* resume it if it was killed"):
        tb.open_run(tmp_path / "run").model()
    ended = resume(tmp_path / "run", data=data(), progress=False)
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert ended.result.steps == 8
    assert HELD_OUT in ended.data.test.notes


@pytest.mark.parametrize("kind", ["model", "objective"])
def test_what_cannot_be_rebuilt_is_gone_on_with_in_python(kind: str, tmp_path: Path) -> None:
    class Mine(tb.objectives.ELBO):
        pass

    model, objective = (own(), None) if kind == "model" else (library(), Mine())
    folder = trained(tmp_path / "run", model, data(), objective=objective, seed=3)
    with pytest.raises(ValueError, match=r"In Python, with all as it was: tb\.fit\(model, data, ") as error:
        resume(folder, data=data(), progress=False)
    line = str(error.value).partition("as it was: ")[2].rstrip(".")
    given = {"tb": tb, "model": model, "data": data(), "objective": objective}
    assert eval(line.replace(")", ", progress=False)"), given).steps == 8


# Objectives


@pytest.mark.parametrize(
    "objective",
    [
        tb.objectives.ELBO(),
        tb.objectives.ELBO(beta=4, kl="sampled", gradient=tb.gradients.StickingTheLanding()),
        tb.objectives.ELBO(beta=tb.schedules.Linear(0.0, 2.0, 30)),
        tb.objectives.IWAE(samples=7, gradient=tb.gradients.DoublyReparameterised()),
        tb.objectives.Bound(tb.bounds.renyi(0.3), samples=4),
        tb.objectives.FreeBits(0.5),
        tb.objectives.Capacity(5.0),
        tb.objectives.ELBO(gradient=tb.gradients.GumbelSoftmax(tb.schedules.Linear(1.0, 0.3, 50)), kl="sampled"),
    ],
    ids=str,
)
def test_an_objective_is_known_by_what_python_prints(objective: Any) -> None:
    assert rebuilt(repr(objective)) == objective
    assert eval(as_code(repr(objective)), {"tb": tb}) == objective
    row = named(repr(objective))
    assert row is not None
    made = registry.plan(row).make()
    assert repr(made).replace(".0", "") == repr(objective).replace(".0", "")


@pytest.mark.parametrize(
    "said",
    [
        "__import__('os').system('ls')", "system('ls')", "ELBO(beta=open('x'))", "ELBO(", "ELBO", "", "(" * 10_000,
        "ELBO(beta=[1, 2])", "Unknown(beta=1.0)", "ELBO(**{})", "ELBO(beta=1.0, samples=1, kl='auto')",
        "Bound(bound=<function mine>, samples=1)",
    ],
)  # fmt: skip
def test_what_is_no_objective_of_the_library_is_not_made(said: str) -> None:
    assert rebuilt(said) is None
    assert named(said) is None
    assert as_code(said) == "objective"
    assert SaidObjective(said).in_words(3) == f"Loss: {said}."


# A stranger's folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(original / "run", tmp_path / "run"))
    (copy / DIGESTS).unlink()
    return copy


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda made: made.update(format=9), "Expected a training of format 1; got 9 in"),
        (lambda made: made.pop("data"), "Expected what a training says of itself; got a damaged or foreign file"),
        (lambda made: made["data"].update(shape=[-1]), "Expected what a training says of itself"),
        (lambda made: made["data"]["train"].update(count="many"), "Expected what a training says of itself"),
        (lambda made: made["settings"].update(epochs=-1), "Expected what a training says of itself"),
        (lambda made: made["settings"].update(spell=1), "Expected what a training says of itself"),
        (lambda made: made.update(seed="x"), "Expected what a training says of itself"),
    ],
)
def test_what_a_stranger_s_training_says_is_looked_at(change: Any, said: str, folder: Path) -> None:
    edited(folder / "training.json", change)
    with pytest.raises(ValueError, match=said):
        tb.open_run(folder)


def test_a_stranger_s_model_names_no_code_and_takes_no_memory(folder: Path) -> None:
    edited(folder / "model.json", lambda made: made["model"]["posterior"]["network"].update(hidden=[10**6, 10**6]))
    with pytest.raises(ValueError, match="numbers are more than a model may have here"):
        tb.open_run(folder).model()
    edited(folder / "model.json", lambda made: made["model"]["posterior"]["network"].update(hidden=[10**5]))
    with pytest.raises(ValueError, match="Expected the weights of the run's model"):
        tb.open_run(folder).model()
    edited(folder / "model.json", lambda made: made.update(model={"piece": "os.system"}))
    with pytest.raises(ValueError, match="Expected a model's description; got a damaged or foreign file"):
        tb.open_run(folder).model()


@pytest.mark.parametrize("name", ["training.json", "model.json"])
def test_any_bit_that_changed_is_found(name: str, original: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(original / "run", tmp_path / "run"))
    text = (folder / name).read_text(encoding="utf-8")
    (folder / name).write_text(text.replace("  ", "   ", 1), encoding="utf-8")
    with pytest.raises(ValueError, match=f"Expected .*{name} as it was written; got a file that has changed since"):
        tb.open_run(folder).model()


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "training.json").rename(tmp_path / "outside.json")
    (folder / "training.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(ValueError, match=r"Expected files inside the run folder; got .*training\.json, which leads"):
        tb.open_run(folder)


def test_what_is_written_is_json(original: Path) -> None:
    made = json.loads((original / "run" / "training.json").read_text(encoding="utf-8"))
    assert made["data"]["train"]["count"] == 90
    assert len(made["data"]["test"]["fingerprint"]) == 16
