"""What must not change between a training and its continuation: model, settings, and every value of the data."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import tightbound as tb
from tightbound.data import Observations, load, mapped, sprites
from tightbound.objectives import ELBO
from tightbound.training import fingerprint as of_fingerprints
from tightbound.training.fingerprint import Fingerprints, fingerprint, fingerprint_of_data, run_fingerprint


def test_fingerprints_tell_facts_apart_and_not_addresses() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint("<function f at 0x7f01>") == fingerprint("<function f at 0x7f02>")
    assert fingerprint(repr(ELBO())) != fingerprint(repr(ELBO(beta=2.0)))


@pytest.mark.parametrize(
    "other",
    [
        Observations(torch.zeros(10, 4)),
        Observations(torch.zeros(11, 3)),
        Observations(torch.zeros(10, 3), scale=2.0),
        Observations(torch.zeros(10, 3), binarise=True),
        Observations(torch.ones(10, 3)),
        Observations(torch.cat([torch.zeros(9, 3), torch.ones(1, 3)])),
    ],
)
def test_other_data_have_another_fingerprint(other: Observations) -> None:
    assert fingerprint_of_data(other) != fingerprint_of_data(Observations(torch.zeros(10, 3)))


def test_the_same_data_have_the_same_fingerprint_however_they_are_stored() -> None:
    x = torch.arange(3000).reshape(1000, 3)
    one = fingerprint_of_data(Observations(x))
    assert one == fingerprint_of_data(Observations(x.flip(0), rows=torch.arange(999, -1, -1)))
    assert one == fingerprint_of_data(Observations(x.clone().t().contiguous().t()))


@pytest.mark.parametrize("count", [3, 10, 64])
def test_each_row_of_few_data_counts(count: int) -> None:
    before = fingerprint_of_data(Observations(torch.zeros(count, 3)))
    for row in range(count):
        x = torch.zeros(count, 3)
        x[row, 1] = 1e-6
        assert fingerprint_of_data(Observations(x)) != before


@pytest.mark.parametrize("row", [0, 1, 507, 998, 999])
def test_every_row_of_many_data_counts(row: int) -> None:
    x = torch.zeros(1000, 3)
    x[row, 1] = 1e-30
    assert fingerprint_of_data(Observations(x)) != fingerprint_of_data(Observations(torch.zeros(1000, 3)))


def test_what_belongs_to_observations_counts_as_well() -> None:
    x, labels = torch.zeros(10, 3), torch.arange(10)
    plain = Observations(x, labels, factors=torch.zeros(10, 2), mask=torch.ones(10, 3).bool())
    others = [
        plain.replace(labels=labels.flip(0)),
        plain.replace(factors=torch.eye(10)[:, :2]),
        plain.replace(mask=torch.arange(30).reshape(10, 3) > 0),
        plain.replace(labels=None),
    ]
    found = {fingerprint_of_data(each) for each in (plain, *others)}
    assert len(found) == 5


def test_what_is_made_when_it_is_asked_for_is_not_made_for_a_fingerprint() -> None:
    made = sprites(32)
    asked: list[int] = []
    data = made.replace(ask=lambda rows: asked.append(len(rows)))
    assert len(fingerprint_of_data(data)) == 16
    assert asked == []


class Another(tb.networks.MLP):
    """The same numbers under another name."""


@pytest.mark.parametrize(
    "change",
    [
        lambda: small(act="relu"),
        lambda: small(likelihood="laplace"),
        lambda: small(scale=0.5),
        lambda: small(scale=0.25),
        lambda: small(encoder=Another),
    ],
)
def test_a_model_of_the_same_weights_is_told_apart_by_what_they_are_for(change: Callable[[], tb.VAE]) -> None:
    def of(which: tb.VAE) -> dict[str, str]:
        return run_fingerprint(
            tb.Training(), device=torch.device("cpu"), objective=ELBO(), seed=0, processes=1, model=which,
            data=Observations(torch.zeros(9, 5)),
        ).there()  # fmt: skip

    first, again, other = of(small()), of(small()), of(change())
    assert first == again
    assert [name for name in first if first[name] != other[name]] == ["model"]


def small(
    *, act: str = "silu", likelihood: str = "gaussian", scale: float = 1.0, encoder: type = tb.networks.MLP
) -> tb.VAE:
    kind = tb.likelihoods.Gaussian if likelihood == "gaussian" else tb.likelihoods.Laplace
    return tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(encoder((5,), (4,), hidden=(6,), act=act)),
        kind(tb.networks.MLP((2,), (5,), hidden=(6,), act=act), scale=scale),
    )


def test_the_fingerprint_of_much_data_does_not_hold_up_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is left out of what is written before; a resume from there can compare everything else."""
    go = threading.Event()
    monkeypatch.setattr(of_fingerprints, "fingerprint_of_data", lambda data: go.wait(10) and "0123456789abcdef")
    found = Fingerprints({"seed": "7"}, Observations(torch.zeros(9, 5)))
    early = found.there(within=0.01)
    assert early == {"seed": "7"}
    go.set()
    assert found.there() == {"seed": "7", "data": "0123456789abcdef"}
    assert found.unlike(early) == []
    assert found.unlike({"seed": "7", "data": "other"}) == ["data"]
    assert found.unlike({"seed": "8"}) == ["seed"]
    assert found.unlike({}) == ["seed"]


def test_data_that_cannot_be_read_are_told_of_where_they_are_needed() -> None:
    def broken(rows: Tensor) -> None:
        raise OSError("gone")

    class Gone(Observations):
        take = broken  # type: ignore[assignment]

    with pytest.raises((OSError, TypeError)):
        Fingerprints({}, Gone(torch.zeros(9, 5))).there()


def test_a_file_larger_than_memory_is_read_again_only_where_it_was_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "memory", lambda: 0)
    file, read = tmp_path / "x.npy", []
    np.save(file, np.zeros((9, 5)))
    monkeypatch.setattr(of_fingerprints, "fingerprint_of_data", lambda data: read.append(1) or f"digest{len(read)}")

    def of(labels: Tensor | None = None, rows: Tensor | None = None) -> Fingerprints:
        return Fingerprints({"seed": "7"}, load(file).train.replace(labels=labels, rows=rows))

    first = of()
    assert not read, "nobody has asked yet"
    before = first.there()
    assert (of().unlike(before), len(read)) == ([], 1)
    again = of()
    assert again.unlike({**before, "seed": "8"}) == ["seed"]
    assert (again.there(), len(read)) == (before, 1)
    without = {name: value for name, value in before.items() if name != "data"}
    assert (of().unlike(without), len(read)) == ([], 2)
    assert (of(labels=torch.arange(9)).unlike(before), len(read)) == (["data"], 3)
    assert (of(rows=torch.arange(8)).unlike(before), len(read)) == (["data"], 4)
    os.utime(file, ns=(1, 1))
    assert (of().unlike(before), len(read)) == (["data"], 5)
    assert of_fingerprints.stamp_of_data(Observations(torch.zeros(9, 5), name=str(file))) is None
