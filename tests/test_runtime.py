"""Evaluation mode and random state are lent and given back, to several threads at once as well."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from tightbound.runtime import evaluation_mode, own_random_state

CPU = torch.device("cpu")


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.Dropout())


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def test_every_module_gets_its_own_mode_back() -> None:
    model = network().train()
    model[1].eval()
    with evaluation_mode(model):
        assert modes(model) == [False, False, False]
        assert not torch.is_grad_enabled()
    assert modes(model) == [True, True, False]
    assert torch.is_grad_enabled()


def test_a_model_in_evaluation_mode_stays_in_it() -> None:
    model = network().eval()
    with evaluation_mode(model), evaluation_mode(model):
        assert not any(modes(model))
    assert not any(modes(model))


def test_the_mode_comes_back_after_an_error() -> None:
    model = network().train()
    with pytest.raises(ZeroDivisionError), evaluation_mode(model):
        _ = 1 / 0
    assert all(modes(model))


def test_nested_uses_end_with_the_outer_one() -> None:
    model = network().train()
    with evaluation_mode(model):
        with evaluation_mode(model):
            pass
        assert not any(modes(model))
    assert all(modes(model))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_of_two_threads_the_last_to_leave_restores_the_mode(training: bool, first_to_leave: int) -> None:
    model = network().train(training)
    inside, leave = [threading.Event() for _ in range(2)], [threading.Event() for _ in range(2)]

    def evaluate(index: int) -> None:
        with evaluation_mode(model):
            inside[index].set()
            leave[index].wait(10)

    threads = [threading.Thread(target=evaluate, args=(index,)) for index in range(2)]
    for thread, entered in zip(threads, inside, strict=True):  # the second enters a model that the first has switched
        thread.start()
        assert entered.wait(10)
    leave[first_to_leave].set()
    threads[first_to_leave].join(10)
    assert not any(modes(model))
    leave[1 - first_to_leave].set()
    threads[1 - first_to_leave].join(10)
    assert modes(model) == [training] * 3


def test_random_numbers_inside_disturb_nobody_outside() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with own_random_state(CPU, seed=1):
        seeded = torch.rand(3)
    with own_random_state(CPU):
        assert torch.rand(3).equal(expected)  # without a seed they go on from the caller's
    assert torch.rand(3).equal(expected)
    assert not seeded.equal(expected)
