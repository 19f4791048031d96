"""Folders that version 0.1.0 made: they open, evaluate, report and embed; what cannot be brought up to date says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tightbound.cli.verbs import main
from tightbound.evaluate import evidence
from tightbound.files import DIGESTS
from tightbound.reports.page import write_report
from tightbound.runs import recipe as recipes
from tightbound.runs.drawn import Capacity, Elbo, FreeBits, Iwae
from tightbound.runs.recipe import Recipe, from_toml
from tightbound.runs.run import open_run
from tightbound.runs.starting import resume, train

RECIPE = """
name = "old"
about = ""
reaches = ""
seed = 0

[data]
source = "digits"
test_fraction = 0.1

[model]
latent_dim = 2
network = "mlp"
hidden = [8]
channels = 32
activation = "silu"
init = "xavier"
posterior = "diagonal-normal"
prior = "{prior}"
components = 3
likelihood = "{likelihood}"
scale = "learned"

[objective]
{objective}

[train]
epochs = 1.0
batch_size = 128
validation = 0.1

[evaluate]
samples = 20
"""
OBJECTIVE = {
    "name": "elbo", "beta": 1.0, "samples": 1, "kl": "closed-form", "gradient": "pathwise", "warmup_steps": 0,
    "nats": 0.25, "capacity": 25.0, "gamma": 100.0,
}  # fmt: skip
SHAPES = {
    "posterior.network.layers.0.weight": (8, 64), "posterior.network.layers.0.bias": (8,),
    "posterior.network.last.weight": (4, 8), "posterior.network.last.bias": (4,),
    "likelihood.network.layers.0.weight": (8, 2), "likelihood.network.layers.0.bias": (8,),
    "likelihood.network.last.weight": (64, 8), "likelihood.network.last.bias": (64,),
}  # fmt: skip
MIXTURE = {"prior.logits": (3,), "prior.mean": (3, 2), "prior.log_scale": (3, 2)}


def written(
    folder: Path, *, likelihood: str = "bernoulli", prior: str = "standard-normal", **objective: object
) -> Path:
    """A complete run's folder as version 0.1.0 laid it out."""
    lines = "\n".join(f"{name} = {json.dumps(value)}" for name, value in {**OBJECTIVE, **objective}.items())
    text = RECIPE.format(likelihood=likelihood, prior=prior, objective=lines)
    (folder / "checkpoint").mkdir(parents=True)
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    config = {"format": 1, "shape": [1, 8, 8], "levels": 0, "why": "named in the recipe"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps({"tightbound": "0.1.0"}), encoding="utf-8")
    line = {"step": 12, "epoch": 1.0, "split": "train", "loss": 30.0, "distortion": 29.0, "rate": 1.0}
    (folder / "metrics.jsonl").write_text(json.dumps({**line, "learning_rate": 0.0}) + "\n", encoding="utf-8")
    shapes = {**SHAPES, **(MIXTURE if prior == "mixture" else {})}
    save_file({name: 0.1 * torch.randn(shape) for name, shape in shapes.items()}, folder / "model.safetensors")
    torch.save({"format": 2}, folder / "checkpoint" / "state.pt")
    return folder


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        ({}, Elbo(kl="closed-form")),
        ({"beta": 4.0, "warmup_steps": 7}, Elbo(beta=4.0, kl="closed-form", warmup_steps=7)),
        ({"kl": "sampled", "gradient": "stl"}, Elbo(kl="sampled", gradient="sticking-the-landing")),
        ({"name": "iwae", "samples": 5}, Iwae(samples=5)),
        ({"name": "free-bits", "nats": 0.5}, FreeBits(nats=0.5)),
        ({"name": "capacity", "capacity": 9.0, "gamma": 3.0}, Capacity(capacity=9.0, gamma=3.0, kl="closed-form")),
    ],
)
def test_every_old_objective_is_understood(tmp_path: Path, old: dict[str, object], expected: object) -> None:
    assert open_run(written(tmp_path / "run", **old)).recipe.objective == expected


@pytest.mark.parametrize(("old", "new"), [("grey-bernoulli", "unnormalised-bernoulli"), ("bernoulli", "bernoulli")])
def test_the_old_likelihoods_are_understood(tmp_path: Path, old: str, new: str) -> None:
    run = open_run(written(tmp_path / "run", likelihood=old))
    assert run.recipe.model.likelihood == new
    assert run.data().test.binarise == (old == "bernoulli")
    assert evidence(run.model(), run.data().test, samples=2).is_likelihood == (old == "bernoulli")


def test_an_old_folder_evaluates_reports_and_embeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path / "run", prior="mixture", kl="sampled", gradient="stl")
    before = {name: (folder / name).read_bytes() for name in ("recipe.toml", "config.json", "model.safetensors")}
    assert main(["evaluate", str(folder), "--samples", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rate_kind"] == "sampled"
    assert main(["report", str(folder)]) == 0
    assert main(["embed", str(folder), "--out", str(tmp_path / "z.npy")]) == 0
    assert np.load(tmp_path / "z.npy").shape == (180, 2)
    run = open_run(folder)
    assert "Loss = distortion + rate." in write_report(run, run.model(), run.data()).read_text(encoding="utf-8")
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_an_old_training_is_not_gone_on_with_and_it_is_said_how_to_redo_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path / "run", gradient="stl", kl="sampled", prior="mixture")
    with pytest.raises(ValueError, match=r"Expected a run of this version to go on with; got .*, which version 0.1.0"):
        resume(folder, progress=False)
    assert main(["train", "--resume", str(folder)]) == 2
    words = f"tightbound recipes {folder} > again.toml, then tightbound train again.toml"
    assert words in capsys.readouterr().err
    assert main(["recipes", str(folder)]) == 0  # and what it says works
    again = from_toml(capsys.readouterr().out)
    assert again == open_run(folder).recipe
    assert again.updated({"train.epochs": 3}).objective == Elbo(kl="sampled", gradient="sticking-the-landing")


@pytest.mark.parametrize(
    ("section", "line", "message"),
    [
        ("[objective]", "xyzzy = 3", "got 'objective.xyzzy'"),
        ("[model]", "xyzzy = 3", "got 'model.xyzzy'"),
    ],
)
def test_what_cannot_be_brought_up_to_date_is_refused(tmp_path: Path, section: str, line: str, message: str) -> None:
    folder = written(tmp_path / "run")
    text = (folder / "recipe.toml").read_text(encoding="utf-8")
    (folder / "recipe.toml").write_text(text.replace(section, f"{section}\n{line}"), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{message}.* Version 0.1.0 made this run, .* Train it anew"):
        open_run(folder)


def test_a_used_field_of_another_objective_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", nats=3.0)  # which version 0.1.0 would not have written
    with pytest.raises(
        ValueError, match=r"with the objective 'elbo'; got objective.nats, .* Version 0.1.0 made this run"
    ):
        open_run(folder)


def test_today_s_folders_are_read_strictly(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", likelihood="grey-bernoulli")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "format": 2}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"got 'grey-bernoulli'. Did you mean 'unnormalised-bernoulli'\?"):
        open_run(folder)


def test_what_was_killed_before_it_began_is_begun_by_this_version(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", name="iwae", samples=2)
    (folder / "checkpoint" / "state.pt").unlink()
    (folder / "model.safetensors").unlink()
    resume(folder, progress=False)
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["format"] == 6
    assert open_run(folder).recipe.objective == Iwae(samples=2)
    assert isinstance(open_run(folder).recipe, Recipe)


@pytest.mark.parametrize(
    ("version", "posterior", "network", "what"),
    [
        (1, "full-normal", "mlp", "a full-normal posterior"), (2, "full-normal", "mlp", "a full-normal posterior"),
        (3, "full-normal", "mlp", ""), (2, "diagonal-normal", "mlp", ""),
        (3, "diagonal-normal", "conv", "a convolutional network"),
        (1, "diagonal-normal", "resnet", "a convolutional network"),
        (4, "diagonal-normal", "conv", "a convolutional network"), (5, "diagonal-normal", "conv", ""),
        (5, "top-down", "mlp", "a top-down posterior"), (6, "top-down", "mlp", ""),
    ],
)  # fmt: skip
def test_weights_that_mean_something_else_by_now_are_not_taken_for_todays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], version: int, posterior: str, network: str, what: str
) -> None:
    folder = tmp_path / "run"
    small = {"model.hidden": [8], "model.latent_dim": 2, "train.epochs": 0.1, "model.posterior": posterior}
    small |= {"model.network": network, "model.channels": 2, "model.layers": [1]}
    train(recipes.load("digits").updated(small), folder, progress=False)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "format": version}), encoding="utf-8")
    (folder / DIGESTS).unlink()  # which older versions did not write
    if what:
        with pytest.raises(ValueError, match=f"Expected {what}.* that this version trained; got one of an"):
            open_run(folder).model()
        assert main(["train", "--resume", str(folder)]) == 2
        assert main(["evaluate", str(folder)]) == 2
        assert "tightbound train again.toml" in capsys.readouterr().err
        assert main(["recipes", str(folder)]) == 0  # what it says works
    else:
        latents = 3 if posterior == "top-down" else 2
        assert open_run(folder).model().embed(torch.zeros(1, 1, 8, 8)).shape == (1, latents)
        resume(folder, progress=False)
