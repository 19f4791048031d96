"""One owner of a folder at a time; damage is found; what is older is kept."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Literal

import pytest
import torch
from runs import TINY, edited
from training import QUIET, before_each_step, data, model

import tightbound as tb
from tightbound.cli.verbs import main
from tightbound.files import DIGESTS, digest_of, require_kept, write_kept
from tightbound.ownership import LOCK, owned
from tightbound.runs.run import open_run
from tightbound.runs.starting import default_folder, resume, train
from tightbound.training import fit
from tightbound.training.checkpoint import OLDER, STATE, load_state

BUSY = r"Expected a folder in which nobody is at work; got .*, into which process \d+ on .* writes\. Wait until"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "original"
    train(TINY, folder, progress=False)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run"))


# One owner


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    """Another thread is another owner; whoever owns it may own it again; afterwards it is free."""
    said: list[str] = []

    def other() -> None:
        try:
            with owned(tmp_path):
                said.append("mine")
        except ValueError as error:
            said.append(str(error))

    def asked() -> str:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        return said.pop()

    with owned(tmp_path):
        with owned(tmp_path / ".." / tmp_path.name):
            pass
        assert f"process {os.getpid()} on" in asked()
    assert asked() == "mine"
    with pytest.raises(RuntimeError), owned(tmp_path):
        raise RuntimeError
    assert asked() == "mine"


def test_the_lock_ends_with_its_owner_however_that_ends(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from tightbound.ownership import owned\n"
        f"with owned(Path({str(tmp_path)!r})): print('mine', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "mine\n"
        with pytest.raises(ValueError, match=rf"process {process.pid} on"), owned(tmp_path):
            pass
        process.kill()
    with owned(tmp_path):
        pass


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_a_lock_that_is_something_else_is_refused(tmp_path: Path, kind: str) -> None:
    place = tmp_path / LOCK
    if kind == "link":
        place.symlink_to(tmp_path / "elsewhere")
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        place.mkdir()
    with pytest.raises(ValueError, match="Expected a"), owned(tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"Expected a folder to write into; got .*Choose another --out, or out="):
        train(TINY, tmp_path / "file" / "run", progress=False)
    with owned(tmp_path / "missing", make=False):
        assert not (tmp_path / "missing").exists()


def test_nobody_trains_goes_on_or_fits_where_another_does(folder: Path, tmp_path: Path) -> None:
    model = tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
    )
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != LOCK}
    failed: list[BaseException] = []

    def at(work: object) -> None:
        try:
            work()  # type: ignore[operator]
        except BaseException as error:
            failed.append(error)

    with owned(folder), owned(tmp_path / "new"):
        for work in (
            lambda: resume(folder, progress=False),
            lambda: train(TINY, tmp_path / "new", progress=False),
            lambda: tb.fit(model, torch.randn(50, 5), out=tmp_path / "new", epochs=1, progress=False),
        ):
            thread = threading.Thread(target=at, args=(work,))
            thread.start()
            thread.join()
    assert len(failed) == 3
    for error in failed:
        with pytest.raises(ValueError, match=BUSY):
            raise error
    assert {path: path.read_bytes() for path in before} == before
    assert {path.name for path in (tmp_path / "new").iterdir()} == {LOCK}


def test_trainings_of_one_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda _: "20260101-000000")
    made = [train(TINY.updated({"seed": seed}), progress=False).run for seed in range(3)]
    first = default_folder(TINY)
    assert [str(run.path) for run in made] == [str(first), f"{first}-2", f"{first}-3"]
    assert [open_run(run.path).recipe.seed for run in made] == [0, 1, 2]


def test_of_two_processes_into_one_folder_one_wins_and_all_of_it_is_its_own(tmp_path: Path) -> None:
    """Started at once, each with a seed of its own. The loser says so."""
    code = (
        "import sys; from runs import TINY; from tightbound.runs.starting import train\n"
        f"try: train(TINY.updated({{'seed': int(sys.argv[1])}}), {str(tmp_path / 'run')!r}, progress=False)\n"
        "except ValueError as error: sys.exit(str(error))"
    )
    command = [sys.executable, "-c", code]
    place = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    started = [subprocess.Popen([*command, str(seed)], stderr=subprocess.PIPE, text=True, env=place) for seed in (1, 2)]
    errors = [process.communicate()[1] for process in started]
    codes = [process.returncode for process in started]
    assert sorted(codes) == [0, 1], errors
    winner = codes.index(0) + 1
    assert errors[codes.index(1)].startswith("Expected a")
    run = open_run(tmp_path / "run")
    assert run.recipe.seed == winner
    alone = train(run.recipe, tmp_path / "alone", progress=False)
    assert all(value.equal(run.model().state_dict()[name]) for name, value in alone.model.state_dict().items())
    assert (run.path / "metrics.jsonl").read_bytes() == (tmp_path / "alone" / "metrics.jsonl").read_bytes()


# Damage


def flipped(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["model.safetensors", "checkpoint/state.pt", "config.json"])
@pytest.mark.parametrize("seed", range(12))
def test_any_bit_that_changed_is_found(folder: Path, name: str, seed: int) -> None:
    path = folder / name
    flipped(path, random.Random(seed).randrange(8 * path.stat().st_size))
    with pytest.raises(ValueError, match=rf"{path.name}"):
        (open_run(folder).model() if name != "checkpoint/state.pt" else resume(folder, progress=False))


@pytest.mark.parametrize("name", ["model.safetensors", "checkpoint/state.pt"])
@pytest.mark.parametrize("at", [0.0, 0.5, 0.99])
def test_a_sector_of_zeros_and_a_cut_are_found(folder: Path, name: str, at: float) -> None:
    path, whole = folder / name, (folder / name).read_bytes()
    start = int(at * (len(whole) - 8)) // 512 * 512
    for damaged in (whole[:start] + bytes(512) + whole[start + 512 :], whole[: start + 1], whole + b"\0"):
        path.write_bytes(damaged)
        if damaged == whole:
            continue
        with pytest.raises(ValueError, match=r"as it was written; got a file that has changed since, by its SHA-256"):
            (open_run(folder).model() if name == "model.safetensors" else resume(folder, progress=False))


def test_a_saved_model_is_compared_with_its_digests(tmp_path: Path) -> None:
    model = tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(tb.networks.MLP((5,), (4,))),
        tb.likelihoods.Gaussian(tb.networks.MLP((2,), (5,))),
    )
    model.save(tmp_path)
    tb.load_model(tmp_path)
    for name in ("model.safetensors", "model.json"):
        whole = (tmp_path / name).read_bytes()
        flipped(tmp_path / name, 8 * len(whole) - 80)
        with pytest.raises(ValueError, match=name):
            tb.load_model(tmp_path)
        (tmp_path / name).write_bytes(whole)
    (tmp_path / DIGESTS).unlink()
    tb.load_model(tmp_path)  # as older versions wrote them


def test_damaged_digests_are_named(folder: Path) -> None:
    for text in ("", "[]", '{"model.safetensors": 3}', "{"):
        (folder / DIGESTS).write_text(text)
        with pytest.raises(ValueError, match=r"Expected .*digests"):
            open_run(folder).model()


def test_the_state_before_a_damaged_one_is_named_and_gone_on_with(
    original: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By hand, as the message says: what follows is bit for bit what it was."""
    (folder / "model.safetensors").unlink()  # written last: without it the run has not ended
    flipped(folder / STATE, 8000)
    step = load_state_of(folder / OLDER)
    with pytest.raises(ValueError, match=rf"of step {step}, is whole: remove .*state\.pt, and --resume goes on from"):
        resume(folder, progress=False)
    (folder / STATE).unlink()
    assert load_state(folder)["standing"]["number"] == step
    capsys.readouterr()
    resume(folder, progress=False)
    assert f"missing: going on from the one before, of step {step}.\n" in capsys.readouterr().err
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (folder / name).read_bytes() == (original / name).read_bytes()
    flipped(folder / STATE, 8000)
    flipped(folder / OLDER, 8000)
    with pytest.raises(ValueError, match="backup") as error:
        resume(folder, progress=False)
    assert "is whole" not in str(error.value)


def load_state_of(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["standing"]["number"])


def test_a_file_is_known_at_every_moment_of_its_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a kill comes between its digest and itself."""
    write_kept(tmp_path, "x", lambda path: path.write_text("one"))
    first = digest_of(tmp_path / "x")
    with monkeypatch.context() as patch:
        replace = Path.replace

        def killed(self: Path, other: Path) -> Path:
            if Path(other).name == "x":
                raise KeyboardInterrupt
            return replace(self, other)

        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write_kept(tmp_path, "x", lambda path: path.write_text("two"))
    assert (tmp_path / "x").read_text() == "one"
    require_kept(tmp_path, "x")
    write_kept(tmp_path, "x", lambda path: path.write_text("three"), older="y")
    assert ((tmp_path / "x").read_text(), (tmp_path / "y").read_text()) == ("three", "one")
    require_kept(tmp_path, "y", as_written="x")
    assert len(json.loads((tmp_path / DIGESTS).read_text())["x"]) == 3
    assert first in json.loads((tmp_path / DIGESTS).read_text())["x"]
    (tmp_path / "x").write_text("four")
    with pytest.raises(ValueError, match="SHA-256"):
        require_kept(tmp_path, "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [DIGESTS, "x", "y"]


# What was changed since


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('activation = "silu"', 'activation = "relu"'),
        ('likelihood = "bernoulli"', 'likelihood = "unnormalised-bernoulli"'),
    ],
)
def test_another_model_in_the_recipe_is_refused_everywhere(folder: Path, before: str, after: str) -> None:
    text = (folder / "recipe.toml").read_text()
    assert before in text
    (folder / "recipe.toml").write_text(text.replace(before, after))
    for work in (open_run, lambda place: resume(place, progress=False)):
        with pytest.raises(
            ValueError, match=r"Expected the \[model\] that the weights were trained with in .*recipe\.toml"
        ):
            work(folder)
    (folder / "recipe.toml").write_text(text.replace("samples = 2", "samples = 3"))
    assert open_run(folder).recipe.evaluate.samples == 3  # that may change


@pytest.mark.parametrize("content", [None, b"", b"{", b'{"format": 99}', b"[]"])
def test_a_run_without_its_configuration_is_not_gone_on_with(folder: Path, content: bytes | None) -> None:
    (folder / "config.json").unlink()
    if content is not None:
        (folder / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json"):
        resume(folder, progress=False)
    assert main(["train", "--resume", str(folder)]) == 2


def test_a_run_that_has_ended_is_not_trained_again_without_its_checkpoint(folder: Path) -> None:
    shutil.rmtree(folder / "checkpoint")
    before = (folder / "model.safetensors").read_bytes(), (folder / "metrics.jsonl").read_bytes()
    with pytest.raises(
        ValueError, match=r"has ended and whose checkpoint is gone\. Its weights are there: evaluate it"
    ):
        resume(folder, progress=False)
    assert ((folder / "model.safetensors").read_bytes(), (folder / "metrics.jsonl").read_bytes()) == before
    open_run(folder).model()


@pytest.mark.parametrize("damage", ["removed", "flipped"])
@pytest.mark.parametrize("resumed", [True, "auto"])
def test_a_training_that_has_ended_is_not_repeated_from_the_state_before_its_last(
    tmp_path: Path, damage: str, resumed: bool | Literal["auto"]
) -> None:
    for name, changes in (("all", {}), ("early", {"epochs": 50, "patience": 2, "learning_rate": 0.3})):
        folder, settings = tmp_path / name, {**QUIET, "epochs": 2, **changes}
        result = fit(model(), data(), out=folder, **settings)
        assert result.ended == {"all": "complete", "early": "early"}[name]
        assert fit(model(), data(), out=folder, resume=resumed, **settings).steps == result.steps
        before = (folder / "model.safetensors").read_bytes(), (folder / "metrics.jsonl").read_bytes()
        (folder / STATE).unlink() if damage == "removed" else flipped(folder / STATE, 8000)
        with pytest.raises(ValueError, match=r"has ended\b.*Its weights are there: evaluate it") as error:
            fit(model(), data(), out=folder, resume=resumed, **settings)
        assert "remove" not in str(error.value)
        assert ((folder / "model.safetensors").read_bytes(), (folder / "metrics.jsonl").read_bytes()) == before


def test_an_interrupted_training_goes_on_from_the_state_before_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**QUIET, "epochs": 2}
    fit(model(), data(), out=tmp_path / "never", **settings)
    with monkeypatch.context() as patch:
        before_each_step(patch, lambda step: os.kill(os.getpid(), signal.SIGINT) if step == 5 else None)
        with pytest.raises(KeyboardInterrupt):
            fit(model(), data(), out=tmp_path / "run", **settings)
    (tmp_path / "run" / STATE).unlink()
    capsys.readouterr()
    fit(model(), data(), out=tmp_path / "run", resume=True, **settings)
    said = "The newest checkpoint is missing: going on from the one before, of step 0.\n"
    assert capsys.readouterr().err == said
    for name in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "never" / name).read_bytes()


# Lengthened, and moved


def test_a_run_is_lengthened_as_a_new_one_that_starts_from_its_weights(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    new = tmp_path / "longer"
    assert main(["train", "--resume", str(folder), "--train.epochs", "1", "--out", str(new)]) == 0
    said = capsys.readouterr().err
    assert f"A new run of 1 epochs, from the weights of {folder}." in said
    assert {path: path.read_bytes() for path in before} == before
    longer = open_run(new)
    assert longer.recipe.train.epochs == 1
    assert longer.config.started == f"from the weights of {folder.resolve()}"
    first, start = longer.metrics()[0], open_run(folder).metrics()[-1]
    assert first["loss"] < open_run(folder).metrics()[0]["loss"] - 0.5 * (
        open_run(folder).metrics()[0]["loss"] - start["loss"]
    )
    assert main(["train", "--resume", str(folder), "--model.latent_dim", "3"]) == 2
    assert "Expected the model of" in capsys.readouterr().err
    assert main(["train", "--resume", str(folder), "--out", str(tmp_path / "other")]) == 2
    assert "without --out, as it goes on in its own folder" in capsys.readouterr().err


def test_a_run_finds_its_data_from_other_places_and_where_they_have_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    np.save("x.npy", np.random.default_rng(0).normal(size=(60, 5)))
    recipe = TINY.updated({"model.likelihood": "gaussian", "data.source": "x.npy", "train.epochs": 2})
    train(recipe, "run", progress=False)
    monkeypatch.chdir(tmp_path / "there")
    run = open_run("../here/run")
    assert len(run.data().train) == 54
    assert main(["report", "../here/run"]) == 0
    resume("../here/run", progress=False)
    shutil.move(tmp_path / "here" / "x.npy", tmp_path / "there" / "moved.npy")
    with pytest.raises(ValueError, match="where there is nothing"):
        resume("../here/run", progress=False)
    assert main(["train", "--resume", "../here/run", "--data", "moved.npy"]) == 0
    np.save("moved.npy", np.random.default_rng(1).normal(size=(60, 5)))
    assert main(["train", "--resume", "../here/run", "--data", "moved.npy"]) == 2
    assert "got another data" in capsys.readouterr().err


def test_older_configurations_open(folder: Path) -> None:
    edited(folder / "config.json", lambda values: [values.pop(name) for name in ("model", "source", "started", "wide")])
    (folder / DIGESTS).unlink()
    assert open_run(folder).config.model == ""
    open_run(folder).model()
