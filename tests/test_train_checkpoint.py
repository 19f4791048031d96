"""What a training writes and reads back: state, weights, metrics."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from training import QUIET, data, model, weights, written

from tightbound.files import foreign
from tightbound.objectives import ELBO
from tightbound.training import Training, fit
from tightbound.training import checkpoint as checkpoints
from tightbound.training.checkpoint import (
    STATE,
    WEIGHTS,
    check_weights,
    load_state,
    load_weights,
    save_state,
    save_weights,
)
from tightbound.training.journal import METRICS, TIMING, Journal, read_metrics

# State and weights


def test_state_comes_back(tmp_path: Path) -> None:
    state = {"tensor": torch.arange(3), "nested": {"list": [1, 2.5, None, "text"]}, "flag": True}
    save_state(tmp_path, state)
    read = load_state(tmp_path)
    assert read["tensor"].equal(state["tensor"])
    assert read["nested"] == state["nested"]
    assert [path.name for path in (tmp_path / STATE).parent.iterdir()] == ["state.pt"]


def test_a_missing_state_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"Expected a checkpoint to resume from; got none at .*Was the run ever started"
    ):
        load_state(tmp_path)


@pytest.mark.parametrize("value", [[1, 2], "text", torch.zeros(3), {"number": 3}])
def test_a_state_of_another_form_is_refused(tmp_path: Path, value: Any) -> None:
    (tmp_path / STATE).parent.mkdir()
    torch.save(value, tmp_path / STATE)
    with pytest.raises(ValueError, match="Expected a checkpoint of format 3; got another one at"):
        load_state(tmp_path)


def test_an_object_in_a_state_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path, {"module": nn.Linear(2, 2)})
    with pytest.raises(
        ValueError, match=r"Expected a checkpoint of plain tensors; .*a pickle of more than plain values"
    ):
        load_state(tmp_path)


def test_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    before, other = model(), model(seed=1)
    save_weights(tmp_path, {"model": before.state_dict()})
    first = (tmp_path / WEIGHTS).read_bytes()
    load_weights(tmp_path, other)
    save_weights(tmp_path, {"model": other.state_dict()})
    assert (tmp_path / WEIGHTS).read_bytes() == first


def test_weights_of_any_dtype_and_layout_are_written(tmp_path: Path) -> None:
    module = nn.Module()
    for i, dtype in enumerate((torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64)):
        module.register_buffer(f"b{i}", torch.ones(3, 4).to(dtype).T)
    module.register_buffer("view", torch.zeros(()).expand(5, 5))
    save_weights(tmp_path, {"model": module.state_dict()})
    module.register_buffer("view", torch.ones(5, 5))
    load_weights(tmp_path, module)
    assert module.get_buffer("view").sum() == 0


def test_weights_are_checked_without_a_model_in_memory(tmp_path: Path) -> None:
    save_weights(tmp_path, {"model": nn.Linear(3, 2).state_dict()})
    check_weights(tmp_path, nn.Linear(3, 2, device="meta"))
    for other in (nn.Linear(2, 3, device="meta"), nn.Linear(3, 2, bias=False, device="meta"), nn.Sequential()):
        with pytest.raises(ValueError, match=r"Expected the weights of the run's model .*: bias"):
            check_weights(tmp_path, other)


def test_weights_are_named_by_the_first_three_that_differ(tmp_path: Path) -> None:
    save_file({name: torch.zeros(1) for name in "abcde"}, tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match="got others: a, b, bias missing, extra or of another shape"):
        check_weights(tmp_path, nn.Linear(3, 2))


def test_whatever_a_foreign_file_provokes_is_a_value_error(tmp_path: Path) -> None:
    for error in (KeyError("x"), RuntimeError("one\ntwo"), RecursionError(), MemoryError(), OverflowError("big")):
        with (
            pytest.raises(
                ValueError, match=r"Expected a file; got a damaged or foreign file at .*Nothing in it was run"
            ),
            foreign(tmp_path, "a file"),
        ):
            raise error
    with pytest.raises(KeyboardInterrupt), foreign(tmp_path, "a file"):
        raise KeyboardInterrupt


# What must not change between a run and its continuation


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"seed": 1}, "seed"),
        ({"epochs": 3}, "settings"),
        ({"ema": 0.5}, "settings"),
        ({"objective": ELBO(beta=2.0)}, "objective"),
        ({"data": data(seed=1)}, "data"),
        ({"data": data(99)}, "data"),
        ({"precision": "bfloat16"}, "precision or compile"),
    ],
)
def test_going_on_with_something_else_is_refused(tmp_path: Path, changes: dict[str, Any], what: str) -> None:
    fit(model(), data(), epochs=1, out=tmp_path, **QUIET)
    before = written(tmp_path)
    settings = {**QUIET, "epochs": 1, "data": data(), **changes}
    with pytest.raises(ValueError, match=rf"Expected what the run in .* was started with; got another {what}\. "):
        fit(model(), settings.pop("data"), out=tmp_path, resume=True, **settings)
    assert written(tmp_path) == before


def test_going_on_with_another_model_is_refused(tmp_path: Path) -> None:
    fit(model(), data(), epochs=1, out=tmp_path, **QUIET)
    other = model()
    other.posterior.network.layers.append(nn.Linear(8, 8))
    with pytest.raises(ValueError, match=r"got another model\. A resumed run repeats"):
        fit(other, data(), epochs=1, out=tmp_path, resume=True, **QUIET)


def test_how_often_checkpoints_are_written_may_change(tmp_path: Path) -> None:
    fit(model(), data(), epochs=1, out=tmp_path, **QUIET)
    fit(model(seed=1), data(), epochs=1, out=tmp_path, resume=True, checkpoint_seconds=0, **QUIET)


def test_resume_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Expected a checkpoint to resume from; got none at"):
        fit(model(), data(), epochs=1, out=tmp_path / "run", resume=True, **QUIET)


def test_checkpoints_hold_the_last_step_that_was_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers: list[int] = []
    save = checkpoints.save_state

    def watched(run: Path, state: dict[str, Any]) -> None:
        numbers.append(state["standing"]["number"])
        save(run, state)

    monkeypatch.setattr(checkpoints, "save_state", watched)
    fit(model(), data(), epochs=2, out=tmp_path, **{**QUIET, "checkpoint_seconds": 0})
    assert numbers == list(range(9))
    numbers.clear()
    fit(model(), data(), epochs=2, out=tmp_path / "seldom", **{**QUIET, "checkpoint_seconds": math.inf})
    assert numbers == [0, 8]


def test_the_state_is_of_plain_values(tmp_path: Path) -> None:
    fit(model(), data(), epochs=1, out=tmp_path, settings=Training(ema=0.9), **QUIET)
    state = load_state(tmp_path)
    assert state.keys() == {"format", "standing", "step", "names", "execution", "noise", "journal", "fingerprint"}
    assert state["standing"]["number"] == 4
    for kept in (state["step"]["weights"], state["standing"]["best"]["weights"]):
        assert kept.keys() == {"model"}
        assert weights(model()).keys() == kept["model"].keys()


# Metrics


lines = st.lists(st.dictionaries(st.text(max_size=5), st.floats() | st.integers() | st.text(max_size=5), max_size=3))


@given(lines)
def test_lines_come_back_as_they_are_kept(written: list[dict[str, Any]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        files: dict[str, str] = {}
        patch.setattr(
            Journal, "_write", lambda self, name, line: files.update({name: json.dumps(line, allow_nan=False)})
        )
        journal = Journal(None)
        for line in written:
            journal.metric(**line)
            assert json.loads(files[METRICS]) == journal.metrics[-1]
    assert len(journal.metrics) == len(written)


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.metric(a=math.nan, b=math.inf, c=1.5, d=None)
    journal.close()
    assert (tmp_path / METRICS).read_text() == '{"a": null, "b": null, "c": 1.5, "d": null}\n'


def test_a_journal_goes_on_where_the_checkpoint_left_off(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.metric(step=1)
    journal.timing(step=1, seconds=0.5)
    sizes = journal.sizes()
    journal.metric(step=2)
    journal.timing(step=2, seconds=0.9)
    journal.close()
    again = Journal(tmp_path, sizes)
    assert again.metrics == [{"step": 1}]
    assert again.sizes() == sizes
    again.metric(step=2)
    again.close()
    assert read_metrics(tmp_path) == [{"step": 1}, {"step": 2}]
    assert (tmp_path / TIMING).read_text() == '{"step": 1, "seconds": 0.5}\n'


def test_every_line_can_be_read_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for step in range(3):
        journal.metric(step=step)
        assert len(read_metrics(tmp_path)) == step + 1
    journal.close()


def test_a_journal_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"Expected at least 100 bytes in .*metrics.jsonl, as at the checkpoint; got 0"
    ):
        Journal(tmp_path, (100, 0))
    assert (tmp_path / METRICS).stat().st_size == 0


def test_a_clock_that_was_cut_short_or_is_gone_is_done_without(tmp_path: Path) -> None:
    (tmp_path / METRICS).write_text('{"step": 1}\n')
    with pytest.warns(
        UserWarning, match=r"Expected at least 9 bytes in .*timing.jsonl.*; got 0\. The training goes on"
    ):
        journal = Journal(tmp_path, resume_at=(12, 9))
    journal.timing(step=2)
    journal.close()
    assert (tmp_path / TIMING).read_text() == '{"step": 2}\n'


def test_metrics_that_are_gone_say_how_to_begin_anew(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Put back the file as it was, or train anew: tightbound recipes .* > again"):
        Journal(tmp_path, resume_at=(100, 0))


def test_a_journal_without_a_folder_keeps_its_lines() -> None:
    journal = Journal(None)
    journal.metric(step=1)
    journal.timing(step=1, seconds=1.0)
    journal.sync()
    assert journal.metrics == [{"step": 1}]
    assert journal.sizes() == (0, 0)
    journal.close()
