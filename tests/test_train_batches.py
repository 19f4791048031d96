"""Which observations a step sees, and which are held out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tightbound.data import Observations, load
from tightbound.training.batches import Sampler, split

CPU = torch.device("cpu")
counts, sizes, seeds = st.integers(1, 60), st.integers(1, 80), st.integers(0, 2**63 - 1)


def sampler(count: int, size: int, seed: int) -> Sampler:
    return Sampler(count, size, seed=seed, device=CPU)


@given(counts, sizes, seeds, st.integers(1, 4))
def test_each_observation_comes_once_a_pass_and_no_batch_is_short(
    count: int, size: int, seed: int, passes: int
) -> None:
    batches, size = sampler(count, size, seed), min(size, count)
    steps = -(-passes * count // size)
    drawn = [batches.indices(step) for step in range(steps)]
    assert all(len(indices) == size for indices in drawn)
    for one_pass in torch.cat(drawn)[: passes * count].split(count):
        assert one_pass.sort().values.tolist() == list(range(count))


@given(counts, sizes, seeds, st.lists(st.integers(0, 200), min_size=1, max_size=20))
def test_a_batch_is_a_function_of_seed_and_step(count: int, size: int, seed: int, steps: list[int]) -> None:
    one = sampler(count, size, seed)
    for step in steps:  # in any order, however often, by a new sampler as by one that was used
        assert one.indices(step).equal(sampler(count, size, seed).indices(step))


def test_passes_and_seeds_differ() -> None:
    first, second = (sampler(100, 100, 0).indices(step) for step in (0, 1))
    assert not first.equal(second)
    assert not first.equal(sampler(100, 100, 1).indices(0))


@pytest.mark.parametrize(
    ("one", "other"), [((0, 1), (1, 0)), ((0, 2), (2, 0)), ((0, 2), (1, 1)), ((3, 1), (1, 3)), ((2**63 - 1, 1), (0, 0))]
)
def test_no_pass_of_a_seed_is_one_of_another_seeds(one: tuple[int, int], other: tuple[int, int]) -> None:
    first, second = (sampler(100, 100, seed).indices(number) for seed, number in (one, other))
    assert not first.equal(second)


def test_the_global_random_state_plays_no_part() -> None:
    before = torch.get_rng_state()
    one = sampler(50, 7, 3).indices(20)
    assert torch.get_rng_state().equal(before)
    torch.rand(3)
    assert sampler(50, 7, 3).indices(20).equal(one)


@pytest.mark.parametrize(
    ("epochs", "count", "size", "steps"), [(1, 100, 10, 10), (2, 100, 30, 7), (0.001, 100, 10, 1), (3, 5, 128, 3)]
)
def test_steps_of_so_many_passes(epochs: float, count: int, size: int, steps: int) -> None:
    assert sampler(count, size, 0).steps(epochs) == steps


def test_epoch_counts_passes_exactly() -> None:
    batches = sampler(90, 30, 0)
    assert [batches.epoch(step) for step in (0, 3, 6)] == [0.0, 1.0, 2.0]


def rows(observations: Observations | None) -> Tensor:
    assert observations is not None
    return observations.take(torch.arange(len(observations)))[:, 0]


@given(st.integers(2, 50), st.floats(0.001, 0.9), seeds)
def test_split_is_disjoint_exhaustive_and_the_same_again(count: int, share: float, seed: int) -> None:
    observations = Observations(torch.arange(count)[:, None])
    if max(round(share * count), 1) >= count:
        return
    train, held_out = split(observations, share, seed)
    assert torch.cat([rows(train), rows(held_out)]).sort().values.tolist() == list(range(count))
    assert len(rows(held_out)) == max(round(share * count), 1)
    again, held_out_again = split(observations, share, seed)
    assert rows(train).equal(rows(again))
    assert rows(held_out).equal(rows(held_out_again))


def test_split_by_number_and_by_nothing() -> None:
    observations = Observations(torch.arange(20)[:, None])
    train, held_out = split(observations, 7, 0)
    assert (len(train), len(rows(held_out))) == (13, 7)
    assert split(observations, 0, 0) == (observations, None)


def test_seeds_hold_out_others() -> None:
    observations = Observations(torch.arange(100)[:, None])
    assert not rows(split(observations, 10, 0)[1]).equal(rows(split(observations, 10, 1)[1]))


def test_the_test_set_is_never_seen() -> None:
    data = load(torch.arange(200)[:, None])
    train, held_out = split(data.train, 0.2, 0)
    seen = torch.cat([rows(train), rows(held_out)])
    assert not torch.isin(seen, rows(data.test)).any()
    assert len(seen) + len(data.test) == 200


@pytest.mark.parametrize(("count", "validation"), [(10, 10), (10, 11), (10, 0.99), (1, 0.1)])
def test_a_validation_set_that_leaves_nothing_is_refused(count: int, validation: float) -> None:
    message = f"Expected fewer validation observations than the {count} there are; got validation={validation}"
    with pytest.raises(ValueError, match=message):
        split(Observations(torch.arange(count)[:, None]), validation, 0)
