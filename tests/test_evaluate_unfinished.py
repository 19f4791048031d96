"""An evaluation that was interrupted goes on to the numbers of one that was not; what is not its own is not taken."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from oracle import linear_gaussian
from torch import Tensor

import tightbound as tb
from tightbound.evaluate import Evidence, evidence
from tightbound.evaluate.unfinished import Unfinished
from tightbound.files import DiskFullError

SCORER = sys.modules["tightbound.evaluate.evidence"]._Scorer
SETTINGS = {"samples": 20, "budget": 64}  # some observations a block
COUNT = 24


@pytest.fixture
def model() -> tb.VAE:
    return linear_gaussian().model(linear_gaussian().wrong_posterior())


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(3)
    return linear_gaussian().evidence.sample((COUNT,))


def stopped(model: tb.VAE, x: Tensor, keep: Path, monkeypatch: pytest.MonkeyPatch, *, after: int = 2) -> int:
    """Interrupt an evaluation within a block, after its statistics were added to; give the blocks that were done."""
    done = []
    marginal = SCORER._marginal

    def interrupted(*given: object) -> object:
        if len(done) == after:
            raise KeyboardInterrupt
        done.append(1)
        return marginal(*given)

    with monkeypatch.context() as patched:
        patched.setattr(SCORER, "_marginal", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evidence(model, x, keep=keep, **SETTINGS)
    return len(done)


def measured(model: tb.VAE, x: Tensor, monkeypatch: pytest.MonkeyPatch, **given: object) -> tuple[Evidence, int]:
    """Evaluate, and count the blocks that are scored."""
    calls = []
    call = SCORER.__call__
    with monkeypatch.context() as patched:
        patched.setattr(SCORER, "__call__", lambda *args: calls.append(1) or call(*args))
        return evidence(model, x, **SETTINGS, **given), len(calls)


def assert_same(found: Evidence, expected: Evidence) -> None:
    assert found.to_json() == expected.to_json()
    for name, values in expected.per_observation.items():
        torch.testing.assert_close(found.per_observation[name], values, rtol=0, atol=0, equal_nan=True)


def test_an_interrupted_evaluation_goes_on_to_the_same_numbers(model, x, tmp_path, monkeypatch):
    expected, blocks = measured(model, x, monkeypatch)
    assert stopped(model, x, tmp_path / "so-far", monkeypatch) == 2
    seen = []
    found, scored = measured(model, x, monkeypatch, keep=tmp_path / "so-far", progress=lambda *each: seen.append(each))
    assert_same(found, expected)
    assert scored == blocks - 2 + 1  # the first is measured anew, to see that it is the same model
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (COUNT, COUNT)


def test_a_second_interrupt_loses_nothing_and_a_finished_one_is_there_at_once(model, x, tmp_path, monkeypatch):
    keep = tmp_path / "so-far"
    expected, blocks = measured(model, x, monkeypatch)
    stopped(model, x, keep, monkeypatch)
    assert stopped(model, x, keep, monkeypatch) == 2  # the first anew, and one more
    found, scored = measured(model, x, monkeypatch, keep=keep)
    assert_same(found, expected)
    assert scored == blocks - 3 + 1
    again, scored = measured(model, x, monkeypatch, keep=keep)
    assert_same(again, expected)
    assert scored == 1


def _other_weights(model: tb.VAE, x: Tensor) -> tuple[tb.VAE, Tensor, dict]:
    with torch.no_grad():
        next(model.posterior.parameters()).add_(0.1)
    return model, x, {}


def _other_data(model: tb.VAE, x: Tensor) -> tuple[tb.VAE, Tensor, dict]:
    x = x.clone()
    x[4] += 1.0  # in a block that was done
    return model, x, {}


def _fewer_data(model: tb.VAE, x: Tensor) -> tuple[tb.VAE, Tensor, dict]:
    return model, x[: COUNT - 1], {}


def _other_seed(model: tb.VAE, x: Tensor) -> tuple[tb.VAE, Tensor, dict]:
    return model, x, {"seed": 1}


def _other_error(model: tb.VAE, x: Tensor) -> tuple[tb.VAE, Tensor, dict]:
    return model, x, {"error": 0.01}


@pytest.mark.parametrize("change", [_other_weights, _other_data, _fewer_data, _other_seed, _other_error])
def test_what_was_measured_of_something_else_is_not_taken(
    change: Callable[..., tuple], model, x, tmp_path, monkeypatch
):
    stopped(model, x, tmp_path / "so-far", monkeypatch)
    model, x, given = change(model, x)
    expected, blocks = measured(model, x, monkeypatch, **given)
    found, scored = measured(model, x, monkeypatch, keep=tmp_path / "so-far", **given)
    assert_same(found, expected)
    assert scored == blocks


def test_a_model_that_differs_in_no_weight_is_known_by_its_first_block(x, tmp_path, monkeypatch):
    class Times(torch.nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, z: Tensor) -> Tensor:
            return self.factor * z.tile(3)[..., : x.shape[1]]

    def model(factor: float) -> tb.VAE:
        torch.manual_seed(0)
        return tb.VAE(
            prior=tb.priors.StandardNormal(2),
            posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(x.shape[1], 4)),
            likelihood=tb.likelihoods.Gaussian(Times(factor)),
        )

    stopped(model(1.0), x.float(), tmp_path / "so-far", monkeypatch)
    expected, blocks = measured(model(2.0), x.float(), monkeypatch)
    found, scored = measured(model(2.0), x.float(), monkeypatch, keep=tmp_path / "so-far")
    assert_same(found, expected)
    assert scored == blocks


@pytest.mark.parametrize("where", [0.1, 0.5, 0.9])
def test_a_damaged_file_is_written_over(where: float, model, x, tmp_path, monkeypatch):
    keep = tmp_path / "so-far"
    stopped(model, x, keep, monkeypatch)
    damaged = bytearray(keep.read_bytes())
    damaged[int(where * len(damaged))] ^= 1
    keep.write_bytes(damaged)
    expected, blocks = measured(model, x, monkeypatch)
    found, scored = measured(model, x, monkeypatch, keep=keep)
    assert_same(found, expected)
    assert scored == blocks


def test_where_nothing_can_be_kept_the_numbers_still_come(model, x, tmp_path):
    (tmp_path / "a-file").touch()
    with pytest.warns(UserWarning, match=r"can't be kept in .*a-file.so-far.*evaluation will begin anew"):
        found = evidence(model, x, keep=tmp_path / "a-file" / "so-far", **SETTINGS)
    assert found.observations == COUNT


def test_a_full_disk_is_said_with_one_full_stop(model, x, tmp_path, monkeypatch):
    def full(path, *_):
        raise DiskFullError(path)

    monkeypatch.setattr("tightbound.evaluate.unfinished.write_tensors", full)
    with pytest.warns(UserWarning, match=r"was written before is whole\. After an interrupt"):
        evidence(model, x, keep=tmp_path / "so-far", **SETTINGS)


def test_without_a_file_nothing_is_hashed_and_nothing_is_written(model, x, monkeypatch):
    monkeypatch.setattr("tightbound.evaluate.unfinished._add", None)
    with warnings.catch_warnings(action="error"):
        assert evidence(model, x, **SETTINGS).observations == COUNT


def test_an_unfinished_evaluation_writes_on_the_way(model, tmp_path, monkeypatch):
    monkeypatch.setattr("tightbound.evaluate.unfinished.EVERY", 0.0)
    so_far = Unfinished(tmp_path / "so-far", model, [])
    so_far.statistics.add(torch.zeros(2, 1))
    so_far.add(tb.Batch(torch.zeros(2, 3)), {"elbo": torch.zeros(2)})
    assert (tmp_path / "so-far").is_file()
