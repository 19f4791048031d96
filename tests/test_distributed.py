"""Several processes train as one would: the same steps, the same files, the same end."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from ranked import LONG, STOPPED_IN, World, normalised, run_groups
from test_train_failure import BAD_STEP, EXPECTED
from torch import Tensor
from training import data, equal, model, weights, written

from tightbound.distributed import joined, world
from tightbound.training import fit
from tightbound.training.batches import Sampler

ROUNDING = {"rtol": 1e-7, "atol": 1e-8}  # float64's, which hundreds of Adam's steps have multiplied
CHOICES = "noisy,followed,interrupted,bad,refused,logged,chosen"
GROUPS = (
    "one:1:exact,enumerated,validated,interrupted",
    f"two:2:exact,enumerated,validated,{CHOICES}",
    "three:3:exact,enumerated,validated,mean,noisy,refused",
    "killed:2:killed",
    "again:2:resumed",
    "each:2:alone_each",
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that the processes left, each group in its folder."""
    folder = tmp_path_factory.mktemp("ranks")
    done = run_groups(folder, *GROUPS)
    assert done.returncode == 0, done.stderr
    statuses = {name: list(map(int, rest)) for name, *rest in map(str.split, done.stdout.splitlines())}
    assert statuses.pop("killed") == [0, -signal.SIGKILL], done.stderr
    assert set(map(tuple, statuses.values())) == {(0,), (0, 0), (0, 0, 0)}, done.stderr
    return folder


def found(root: Path, group: str, case: str) -> list[dict[str, Any]]:
    """What each process of a group found in a case, by rank."""
    files = sorted((root / group / case).glob("*.pt"))
    return [torch.load(file, weights_only=True) for file in files]


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


# Alone


def test_one_alone_agrees_with_itself() -> None:
    alone, tensors = World(), [torch.tensor([1.0, 2.0]), torch.tensor(3.0)]
    assert alone.is_main
    assert alone.mean(tensors, 7) is tensors
    assert alone.sum(tensors[0]) is tensors[0]
    assert alone.any(True, False) == (True, False)
    assert alone.gather(tensors[0]) == [tensors[0]]
    assert alone.shard(torch.arange(5)).equal(torch.arange(5))
    assert alone.device(torch.device("cuda")) == torch.device("cuda")
    alone.broadcast(tensors)
    assert tensors[0].tolist() == [1, 2]


def test_who_has_joined_nobody_is_alone() -> None:
    assert world() == World(0, 1)
    with joined() as here:
        assert here == World()


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_make_up_the_batch_and_differ_by_one_at_most(count: int) -> None:
    batch = torch.randperm(20)
    shares = [World(rank, count).shard(batch) for rank in range(count)]
    assert torch.cat(shares).sort().values.equal(torch.arange(20))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


# Together


def test_the_mean_is_over_all_rows(root: Path) -> None:
    for each in found(root, "three", "mean"):
        x = each["expected"]
        torch.testing.assert_close(each["by column"], x.mean(0))
        torch.testing.assert_close(each["of all"], x.mean())
        assert each["sum"].equal(x.sum(0))


@pytest.mark.parametrize(("group", "count"), [("two", 2), ("three", 3)])
def test_without_noise_several_give_the_result_of_one(root: Path, group: str, count: int) -> None:
    [one], several = found(root, "one", "exact"), found(root, group, "exact")
    assert len(several) == count
    assert one["ended"] == "early"
    assert one["steps"] > 50
    for each in several:
        assert (each["ended"], each["steps"]) == (one["ended"], one["steps"])
        torch.testing.assert_close(each["weights"], one["weights"], **ROUNDING)
        assert equal(each["weights"], several[0]["weights"])
        assert each["loss"] == several[0]["loss"]


@pytest.mark.parametrize(("group", "count"), [("two", 2), ("three", 3)])
def test_the_exact_gradient_of_bits_is_that_of_one(root: Path, group: str, count: int) -> None:
    [one], several = found(root, "one", "enumerated"), found(root, group, "enumerated")
    assert len(several) == count
    for each in several:
        torch.testing.assert_close(each["weights"], one["weights"], **ROUNDING)
        assert each["loss"] == pytest.approx(one["loss"], rel=1e-9)


@pytest.mark.parametrize("group", ["two", "three"])
def test_the_first_alone_writes_and_what_one_would(root: Path, group: str) -> None:
    expected, folder = root / "one" / "exact" / "run", root / group / "exact" / "run"
    assert not (folder.parent / "never").exists()
    files = [{str(path.relative_to(there)) for path in there.rglob("*")} for there in (expected, folder)]
    assert files[0] == files[1]
    for ours, theirs in zip(metrics(folder), metrics(expected), strict=True):
        assert ours.pop("split") == theirs.pop("split")
        assert ours == pytest.approx(theirs, rel=ROUNDING["rtol"])


@pytest.mark.parametrize("group", ["two", "three"])
def test_the_validation_loss_does_not_depend_on_how_many_look(root: Path, group: str) -> None:
    [one] = found(root, "one", "validated")
    for each in found(root, group, "validated"):
        assert each == pytest.approx(one, rel=1e-13)


@pytest.mark.parametrize("group", ["two", "three"])
def test_batches_are_shared_and_noise_is_not(root: Path, group: str) -> None:
    several = found(root, group, "noisy")
    sampler = Sampler(100, 21, seed=3, device=torch.device("cpu"))
    for step in range(several[0]["steps"]):
        shares = [each["indices"][step - several[0]["steps"]] for each in several]  # before the first: the choices
        assert torch.cat(shares).sort().values.equal(sampler.indices(step).sort().values)
    for kind in ("x", "noise"):
        assert different([torch.cat(each[kind][-8:]) for each in several])
    assert all(equal(each["weights"], several[0]["weights"]) for each in several)


def different(tensors: list[Tensor]) -> bool:
    """Whether of any two of them most of the elements that both have differ."""
    least = min(map(len, tensors))
    pairs = [(a[:least], b[:least]) for i, a in enumerate(tensors) for b in tensors[:i]]
    return all(float((a != b).float().mean()) > 0.3 for a, b in pairs)


def test_all_begin_where_the_first_does(root: Path) -> None:
    first, second = found(root, "two", "followed")
    assert not equal(second["before"], first["before"])
    assert equal(second["after"], first["after"])
    trained = dict(model().named_parameters())
    kept = {name: value for name, value in first["before"].items() if name in trained}
    torch.testing.assert_close({name: second["after"][name] for name in kept}, kept)


# Stopped


def test_a_signal_to_one_stops_all_at_the_same_step(root: Path) -> None:
    for each in found(root, "two", "interrupted"):
        assert (each["stopped"]["ended"], each["stopped"]["steps"]) == ("interrupted", 8)
    assert STOPPED_IN < 8 - 1
    assert LONG["log_every"] * 2 == 8


def test_to_go_on_repeats_the_run_never_stopped(root: Path) -> None:
    folder, several = root / "two" / "interrupted", found(root, "two", "interrupted")
    for each in several:
        assert (each["never"]["ended"], each["resumed"]["ended"]) == ("complete", "complete")
        assert equal(each["resumed"]["weights"], each["never"]["weights"])
        assert equal(each["resumed"]["weights"], several[0]["never"]["weights"])
    assert written(folder / "run") == written(folder / "never")


def test_another_number_of_processes_does_not_go_on(root: Path) -> None:
    with pytest.raises(ValueError, match="got another number of processes"):
        fit(normalised(), data(), out=root / "two" / "interrupted" / "run", resume=True, **LONG)


def test_all_go_on_from_the_same_checkpoint(root: Path) -> None:
    for each in found(root, "two", "interrupted"):
        assert each["apart"].startswith(
            "ValueError: Expected one checkpoint for all processes; got those of steps [8, 12]"
        )
        assert each["apart"].endswith("All of them must read the same folder.")


def test_who_loses_another_says_so_and_all_can_go_on(root: Path) -> None:
    [left] = found(root, "killed", "killed")
    assert left["error"].startswith("LostProcessError: Expected the other processes of this training to go on; one has")
    assert left["error"].endswith("go on with --resume, or resume=True in Python.")
    assert left["seconds"] < 60
    never = found(root, "two", "interrupted")[0]["never"]["weights"]
    assert all(equal(each["weights"], never) for each in found(root, "again", "resumed"))
    assert written(root / "killed" / "killed" / "run") == written(root / "two" / "interrupted" / "never")


# Refused


@pytest.mark.parametrize("kind", ["distortion", "gradient"])
def test_what_is_not_finite_for_one_is_named_by_all(root: Path, kind: str) -> None:
    first, second = found(root, "two", "bad")
    assert first[kind] == second[kind]
    assert re.match(rf"NonFiniteError: At step {BAD_STEP} {EXPECTED[kind]}", first[kind])


@pytest.mark.parametrize(("group", "count"), [("two", 2), ("three", 3)])
def test_a_batch_has_something_for_each(root: Path, group: str, count: int) -> None:
    for each in found(root, group, "refused"):
        assert each["small"] == (
            f"ValueError: Expected at least one observation of a batch for each of {count} processes; got batches of "
            f"{count - 1}. Take a larger batch_size, or fewer processes."
        )


def test_all_choose_alike_and_the_first_alone_speaks(root: Path) -> None:
    first, second = found(root, "two", "chosen")
    assert first["precisions"] == second["precisions"] == ["float32", "bfloat16"]
    assert first["said"] == "The step runs uncompiled, and slower: out of luck.\n"
    assert second["said"] == ""


def test_the_first_alone_is_told_and_all_end_where_it_fails(root: Path) -> None:
    first, second = found(root, "two", "logged")
    assert first["lines"] == first["metrics"]
    assert second["lines"] == []
    assert first["error"].startswith("OnLogError: Expected on_log to take each line of metrics; got ValueError: of pro")
    assert second["error"] == (
        "OnLogError: Expected on_log to take each line of metrics; got an error in the first process, at step 3. The "
        "state is saved: mend it, and go on with resume=True, or --resume /run."
    )


def test_one_training_after_another(root: Path) -> None:
    first, second = found(root, "each", "alone_each")
    assert first["left"]
    assert second["left"]
    assert all(equal(each, first["weights"][0]) for each in (*first["weights"], *second["weights"]))
    assert not equal(first["weights"][0], weights(model()))
