"""Objectives that learn something of their own, and second players that play against the model."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from training import QUIET, before_each_step, data, equal, model, recorded, weights, written

import tightbound as tb
from tightbound.autoencoder import VAE
from tightbound.batch import Batch
from tightbound.objectives import ELBO, Loss, SecondPlayer
from tightbound.training import Training, fit
from tightbound.training.checkpoint import OBJECTIVE, load_state
from tightbound.training.step import TrainStep

CPU = torch.device("cpu")


class Tempered(nn.Module):
    """The ELBO, its distortion measured with a temperature that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(0.5))

    def forward(self, model: VAE, batch: Batch, step: Tensor | None = None) -> Loss:
        loss = ELBO()(model, batch, step)
        return Loss(loss.value + self.log_temperature.square(), loss.terms)


class Game(nn.Module):
    """A player that tells draws of the posterior from draws of the prior; the model wants them to be the same."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.player = nn.Linear(2, 1)
        self.offset = nn.Parameter(torch.tensor(0.1))
        self.second_player = SecondPlayer(self.player, learning_rate=0.01)

    def forward(self, model: VAE, batch: Batch, step: Tensor | None = None) -> Loss:
        q = model.posterior(batch.x)
        z = q.rsample()
        fooled = self.player(z).mean()
        value = -model.likelihood.log_prob(batch.x, z).mean() + fooled + (fooled.detach() - self.offset).square()
        second = self.player(torch.ones_like(z)).square().mean() - fooled
        return Loss(value, {"fooled": fooled.detach()}, second)


def step_of(objective: tb.objectives.Objective) -> TrainStep:
    return TrainStep(model(), objective, Training(schedule="constant"), steps=10, device=CPU)


# Parameters of an objective


def test_an_objectives_own_parameters_move_and_are_saved(tmp_path: Path) -> None:
    objective = Tempered()
    ended = fit(model(), data(), objective=objective, epochs=3, out=tmp_path, **QUIET)
    assert 0 < objective.log_temperature.item() < 0.5
    assert ended.objective is objective
    assert load_file(tmp_path / OBJECTIVE)["log_temperature"].equal(objective.log_temperature.detach())
    assert load_state(tmp_path)["step"]["weights"].keys() == {"model", "objective"}


@pytest.mark.parametrize("kind", [Tempered, Game])
def test_a_stopped_training_goes_on_with_them_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: type[nn.Module]
) -> None:
    def run(folder: str, *, resume: bool = False) -> tuple[dict[str, Tensor], bytes]:
        objective = kind()
        fit(model(), data(), objective=objective, epochs=3, ema=0.9, out=tmp_path / folder, resume=resume, **QUIET)
        return weights(objective), (tmp_path / folder / OBJECTIVE).read_bytes()

    with monkeypatch.context() as patch:
        before_each_step(patch, lambda step: step == 5 and os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            run("stopped")
    resumed, complete = run("stopped", resume=True), run("complete")
    assert equal(resumed[0], complete[0])
    assert resumed[1] == complete[1]
    assert written(tmp_path / "stopped") == written(tmp_path / "complete")


def test_they_are_averaged_with_the_models() -> None:
    settings = {**QUIET, "validation": 0, "schedule": "constant", "epochs": 2}
    last, averaged = Tempered(), Tempered()
    fit(model(), data(), objective=last, **settings)
    fit(model(), data(), objective=averaged, ema=0.9, **settings)
    assert last.log_temperature.item() < averaged.log_temperature.item() < 0.5


# A second player


@pytest.mark.parametrize("way", ["_gradients_plainly", "_gradients_in_one"])
def test_each_player_gets_the_gradient_of_its_own_loss_alone(way: str) -> None:
    step = step_of(Game())
    batch, number = Batch(data(), checked=True), torch.tensor(0.0)
    torch.manual_seed(3)
    ours, theirs, _ = getattr(step, way)(step.copies, step.their_weights, batch, number)
    torch.manual_seed(3)
    loss = step.objective(step.model, batch, number)
    assert not any(name.startswith("objective.player") for name in step.parameters)
    assert "objective.offset" in step.parameters
    expected = torch.autograd.grad(loss.value, [*step.parameters.values()], retain_graph=True)
    torch.testing.assert_close([*ours], [*expected])
    assert loss.second is not None
    torch.testing.assert_close([*theirs], [*torch.autograd.grad(loss.second, step.their_parameters)])
    assert all(g.abs().max() > 0 for g in theirs)


def test_the_second_players_step_is_torchs_own_adam_and_its_loss_is_logged() -> None:
    step = step_of(Game())
    player = nn.Linear(2, 1)
    player.load_state_dict(step.objective.player.state_dict())
    optimizer = torch.optim.Adam(player.parameters(), lr=0.01, betas=(0.5, 0.9))
    for number in range(3):
        step.step(Batch(data(), checked=True), number)
        for p, g in zip(player.parameters(), step.their_gradients, strict=True):
            p.grad = g.clone()
        optimizer.step()
    torch.testing.assert_close(weights(step.objective.player), weights(player))
    assert step.names == ("fooled", "second_player")


def test_a_loss_without_a_second_leaves_the_player_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Idle(Game):
        def forward(self, model: VAE, batch: Batch, step: Tensor | None = None) -> Loss:
            loss = super().forward(model, batch, step)
            return Loss(loss.value, loss.terms)

    objective = Idle()
    before = weights(objective.player)
    recorded(monkeypatch, objective=objective, epochs=1)
    assert equal(weights(objective.player), before)
    assert objective.offset.item() != 0.1
