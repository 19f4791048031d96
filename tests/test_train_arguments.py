"""What `fit` takes from callers whose numbers are another library's, and what it says of what it cannot take."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training import QUIET, data, equal, model, weights

import tightbound as tb
from tightbound.evaluate import evidence
from tightbound.settings import Training, plain
from tightbound.training import fit


def trained(**changes: Any) -> dict[str, Any]:
    vae = model()
    fit(vae, data(), **{**QUIET, "epochs": 1, **changes})
    return weights(vae)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8, torch.tensor, np.array], ids=lambda kind: kind.__name__)
def test_whole_numbers_of_another_library_are_python_s_own(kind: Callable[[int], Any], tmp_path: Path) -> None:
    found = trained(seed=kind(3), batch_size=kind(32), log_every=kind(2), out=tmp_path / "run")
    assert equal(found, trained(seed=3, batch_size=32, log_every=2))
    assert equal(
        trained(seed=kind(3), batch_size=kind(32), log_every=kind(2), out=tmp_path / "run", resume=True), found
    )


@pytest.mark.parametrize("kind", [np.float64, np.float32, torch.tensor], ids=lambda kind: kind.__name__)
def test_fractions_of_another_library_are_python_s_own(kind: Callable[[float], Any], tmp_path: Path) -> None:
    changes = {"learning_rate": kind(0.25), "epochs": kind(1.5), "betas": [kind(0.5), kind(0.75)]}
    own = {"learning_rate": 0.25, "epochs": 1.5, "betas": (0.5, 0.75)}
    assert Training(**changes) == Training(**own)  # type: ignore[arg-type]
    json.dumps(vars(Training(**changes)))
    assert equal(trained(**changes, out=tmp_path / "run"), trained(**own))


def test_a_device_and_a_seed_may_be_objects() -> None:
    assert equal(trained(device=torch.device("cpu")), trained(device="cpu"))
    one, other = (evidence(model(), data()[:5], samples=kind(4), seed=kind(3)) for kind in (int, np.int64))
    assert json.dumps(one.to_json()) == json.dumps(other.to_json())
    assert plain(None) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": tb.objectives.ELBO}, r"an objective; got the class ELBO\. Write tb\.objectives\.ELBO\(\)\."),
        ({"objective": 3}, r"an objective; got 3\. Write tb\.objectives\.ELBO\(\)"),
        ({"settings": 3}, r"settings of the class Training; got 3\. Write tb\.Training\(epochs=10\)"),
        ({"settings": {"epochs": 3}}, "settings of the class Training; got {'epochs': 3}"),
        ({"betas": 3}, r"two numbers for betas; got 3\. \(0\.9, 0\.999\) is usual"),
        ({"betas": "ab"}, "two numbers for betas; got 'ab'"),
        ({"betas": (0.9, None)}, r"two numbers for betas; got \(0\.9, None\)"),
        ({"out": 7}, r"the path of a folder as out; got 7\. Write out='runs/mine'"),
        ({"out": b"x"}, "the path of a folder as out; got b'x'"),
        ({"device": 3}, r"a device by its name, such as 'cpu'; got 3"),
        ({"epochs": np.array([2])}, r"a number for epochs; got array\(\[2\]\)"),
        ({"seed": np.float32(1.5)}, r"a whole number as seed; got 1\.5"),
    ],
    ids=str,
)
def test_values_of_another_kind_are_refused_in_a_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=f"Expected {message}"):
        trained(**changes)


@pytest.mark.parametrize(
    "work",
    [
        lambda: fit(model(), data(), epochs=1, **QUIET),
        lambda: evidence(model(), data()[:5], samples=3),
        lambda: tb.train("digits", changes={"train.epochs": 0.1}, progress=False),
    ],
    ids=["fit", "evidence", "train"],
)
def test_a_default_device_without_numbers_is_refused(
    work: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_default_device("meta")
    try:
        with pytest.raises(RuntimeError, match=r"got meta, whose tensors hold no numbers\. Call torch\.set_default"):
            work()
    finally:
        torch.set_default_device(None)
    assert not list(tmp_path.iterdir())


def test_weights_that_cannot_be_trained_are_refused() -> None:
    with torch.inference_mode():
        vae = model()
    with pytest.raises(TypeError, match=r"made under torch\.inference_mode\(\), such as .*Make the model outside"):
        fit(vae, data(), epochs=1, **QUIET)
    evidence(vae, data()[:5], samples=3)
    with pytest.raises(TypeError, match=r"on the device meta, such as .*Make the model on the device cpu"):
        fit(model().to("meta"), data(), epochs=1, **QUIET)
