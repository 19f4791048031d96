"""A run's folder from a stranger: nothing in it is executed, and what is wrong with it is said."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import TINY, edited, use
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from tightbound.files import DIGESTS
from tightbound.runs.run import open_run
from tightbound.runs.starting import resume, train
from tightbound.training.checkpoint import load_state


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the digits, made once."""
    folder = tmp_path_factory.mktemp("runs") / "original"
    train(TINY, folder, progress=False)
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil. A stranger makes digests of his own, or leaves them out."""
    copy = Path(shutil.copytree(original, tmp_path / "run"))
    (copy / DIGESTS).unlink()
    return copy


class Payload:
    """What a pickle runs when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def test_the_payload_would_work(tmp_path: Path) -> None:
    torch.save(Payload(tmp_path / "marker"), tmp_path / "state.pt")
    torch.load(tmp_path / "state.pt", weights_only=False)
    assert (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "checkpoint/state.pt", "per-observation.safetensors"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_is_refused_and_never_run(folder: Path, tmp_path: Path, name: str, legacy: bool) -> None:
    marker = tmp_path / "marker"
    state = {**load_state(folder), "number": Payload(marker)}
    torch.save(state, folder / name, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(
        ValueError, match=r"Expected a .*; got a damaged or foreign file at .*Nothing in it was run"
    ) as e:
        use(folder)
    assert not marker.exists()
    assert "weights_only" not in str(e.value)  # torch's own advice is how to run it after all


@pytest.mark.parametrize("name", ["model.safetensors", "checkpoint/state.pt", "per-observation.safetensors"])
@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"\xff" * 64, b"{}", b"\x02\0\0\0\0\0\0\0{}", b"PK\x03\x04"])
def test_damaged_files_are_refused(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    if (name, content) == ("per-observation.safetensors", b"\x02\0\0\0\0\0\0\0{}"):
        assert open_run(folder).per_observation() == {}  # a whole file of nothing
        return
    with pytest.raises(ValueError, match=r"Expected .*; got "):
        use(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "checkpoint/state.pt"])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_truncated_files_are_refused(folder: Path, name: str, share: float) -> None:
    os.truncate(folder / name, int((folder / name).stat().st_size * share))
    with pytest.raises(ValueError, match=r"got a damaged or foreign file at .*Nothing in it was run"):
        use(folder)


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"Expected weights at .*got no such file. .* resume it if it was killed"):
        open_run(folder).model()


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights.popitem(),
        lambda weights: weights.update(more=torch.zeros(3)),
        lambda weights: weights.update({name: value[..., None] for name, value in weights.items()}),
        lambda weights: weights.update({name: value.double() for name, value in weights.items()}),
        lambda weights: weights.clear(),
    ],
    ids=["missing", "extra", "shape", "dtype", "nothing"],
)
def test_weights_of_another_model_are_refused(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"Expected the weights of the run's model .* do not belong together"):
        open_run(folder).model()


def test_weights_of_another_recipe_are_refused(folder: Path, tmp_path: Path) -> None:
    train(TINY.updated({"model.hidden": [9]}), tmp_path / "other", progress=False)
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    with pytest.raises(ValueError, match=r"Expected the weights of the run's model .* do not belong together"):
        open_run(folder).model()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('likelihood = "bernoulli"', 'likelihood = "os.system"'),
        ('likelihood = "bernoulli"', 'likelihood = "auto"'),
        ('network = "mlp"', 'network = "torch.nn.Linear"'),
        ('network = "mlp"', 'network = "conv3d"'),
        ('network = "mlp"', 'network = "auto"'),
        ('prior = "standard-normal"', 'prior = "__import__"'),
        ('posterior = "diagonal-normal"', 'posterior = "builtins.eval"'),
        ('activation = "silu"', 'activation = "os.system"'),
        ('activation = "silu"', 'activation = "__class__"'),
        ('name = "elbo"', 'name = "subprocess.run"'),
        ("latent_dim = 2", "latent_dim = -2"),
        ("latent_dim = 2", "latent_dim = 1000000000000"),
        ("    8,", "    1000000000000000000000,"),
        ("    8,", "    1000000000,\n    1000000000,"),
        ('network = "mlp"', 'network = "conv"'),
        ("channels = 32", 'channels = "many"'),
        ("seed = 0", "seed = 1\nunknown = 3"),
        ("seed = 0", "seed = "),
    ],
)
def test_a_recipe_of_anything_unknown_is_refused(folder: Path, old: str, new: str) -> None:
    text = (folder / "recipe.toml").read_text(encoding="utf-8")
    assert old in text
    (folder / "recipe.toml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=r"Expected .*; got |Expected TOML in"):
        open_run(folder).model()


@pytest.mark.parametrize("content", [b"\xff\xfe\0", b"<html>", b"\0", b"seed = " + b"[" * 100_000])
def test_a_recipe_that_is_no_toml_is_refused(folder: Path, content: bytes) -> None:
    (folder / "recipe.toml").write_bytes(content)
    with pytest.raises(ValueError, match=r"Expected TOML in .*recipe.toml; got "):
        open_run(folder)


class LargestTensor(TorchDispatchMode):
    """How many elements the largest tensor has that takes memory."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor) and not tensor.is_meta:
                self.largest = max(self.largest, tensor.numel())
        return out


def test_the_largest_tensor_is_seen(folder: Path) -> None:
    with LargestTensor() as seen:
        open_run(folder).model()
    assert seen.largest >= 64 * 8


@pytest.mark.parametrize(
    "shape",
    [
        [2**12, 2**12], [2**20, 2**20], [2**62, 2**62], [10**30], [1] * 1000, [0], [-8, 8], [1, 8, 9], [63], [8.0, 8.0],
        ["8"], [True], [], 8, None, "8x8", [[8]],
    ],
    ids=str,
)  # fmt: skip
def test_a_shape_of_any_size_is_refused_without_taking_memory(folder: Path, shape: object) -> None:
    edited(folder / "config.json", lambda values: values.update(shape=shape))
    with LargestTensor() as seen, pytest.raises(ValueError, match=r"Expected .*; got "):
        open_run(folder).model()
    assert seen.largest < 1000


@pytest.mark.parametrize("levels", [-1, 10**9, 2.5, "3", None, True])
def test_impossible_levels_are_refused(folder: Path, levels: object) -> None:
    edited(folder / "config.json", lambda values: values.update(levels=levels))
    with pytest.raises(
        ValueError, match=r"Expected a configuration of format 6 or older, a shape .* at most 65536 levels"
    ):
        open_run(folder)


@pytest.mark.parametrize("name", ["config.json", "environment.json", "evaluation.json"])
@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"{", b"\xff", b"[" * 100_000, b'{"a": 1}{'])
def test_files_that_are_no_json_are_refused(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"Expected (a )?JSON (object )?in .*{name}; got"):
        use(folder)


def test_a_configuration_of_another_format_is_refused(folder: Path) -> None:
    edited(folder / "config.json", lambda values: values.update(format=99))
    with pytest.raises(ValueError, match="Expected a configuration of format 6"):
        open_run(folder)


@pytest.mark.parametrize("line", [b"[]", b"{", b"\xff", b"[" * 100_000])
def test_metrics_that_are_no_json_are_refused(folder: Path, line: bytes) -> None:
    whole = (folder / "metrics.jsonl").read_bytes()
    (folder / "metrics.jsonl").write_bytes(line + b"\n" + whole)
    with pytest.raises(ValueError, match=r"Expected one JSON object a line in .*metrics.jsonl; got .* in line 1"):
        open_run(folder).metrics()


def test_a_line_under_way_is_left_out(folder: Path) -> None:
    lines = open_run(folder).metrics()
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo')
    assert open_run(folder).metrics() == lines


@pytest.mark.parametrize(
    "name",
    [
        "recipe.toml", "config.json", "environment.json", "evaluation.json", "certificate.json", "gaps.json",
        "information.json", "checks.json", "checks.safetensors", "metrics.jsonl", "timing.jsonl",
        "model.safetensors", "checkpoint", "checkpoint/state.pt", "per-observation.safetensors", "figures",
        "report.html",
    ],
)  # fmt: skip
@pytest.mark.parametrize("relative", [False, True])
def test_links_out_of_the_folder_are_refused(folder: Path, tmp_path: Path, name: str, relative: bool) -> None:
    outside = tmp_path / "outside"
    if (folder / name).exists():
        (folder / name).rename(outside)
    elif name == "figures":
        outside.mkdir()
    else:
        outside.write_text("{}")
    (folder / name).symlink_to(Path(os.path.relpath(outside, (folder / name).parent)) if relative else outside)
    before = outside.read_bytes() if outside.is_file() else sorted(outside.iterdir())
    for verb in (open_run, resume):
        with pytest.raises(ValueError, match=r"Expected files inside the run folder; got .*, which leads out of it"):
            verb(folder)
    assert before == (outside.read_bytes() if outside.is_file() else sorted(outside.iterdir()))


def test_links_within_the_folder_and_to_it_are_fine(folder: Path, tmp_path: Path) -> None:
    (folder / "metrics.jsonl").rename(folder / "elsewhere.jsonl")
    (folder / "metrics.jsonl").symlink_to("elsewhere.jsonl")
    (tmp_path / "link").symlink_to(folder)
    use(tmp_path / "link")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("fingerprint"), "got a damaged or foreign file at"),
        (lambda state: state.pop("step"), "got a damaged or foreign file at"),
        (lambda state: state["step"].clear(), "got a damaged or foreign file at"),
        (lambda state: state.pop("standing"), "got a damaged or foreign file at"),
        (lambda state: state["standing"].update(number="many"), "got a damaged or foreign file at"),
        (lambda state: state.update(journal=[0]), "got a damaged or foreign file at"),
        (lambda state: state.update(journal=["many", {}]), "got a damaged or foreign file at"),
        (
            lambda state: state.update(journal=[10**15, 0]),
            r"Expected at least 1000000000000000 bytes in .*metrics.jsonl",
        ),
        (lambda state: state.update(journal=[-5, 0]), r"Expected at least -5 bytes in .*metrics.jsonl"),
        (lambda state: state.update(format=1), "Expected a checkpoint of format 3; got another one"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    state = load_state(folder)
    change(state)
    torch.save(state, folder / "checkpoint" / "state.pt")
    with pytest.raises(ValueError, match=message):
        resume(folder, progress=False)
    assert (folder / "metrics.jsonl").stat().st_size > 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_configuration_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.toml").write_text("seed = 3")
    os.mkfifo(folder / "config.json")
    with pytest.raises(ValueError, match=r"Expected a file; got .*config.json, which is a pipe"):
        open_run(folder)
