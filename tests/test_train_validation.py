"""Held-out observations: never trained on, and the judge of which weights are kept."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training import QUIET, before_each_step, data, equal, lines, model, recorded, weights

from tightbound.autoencoder import VAE
from tightbound.batch import Batch
from tightbound.data import Observations
from tightbound.objectives import ELBO, Loss
from tightbound.training import Training, fit
from tightbound.training.batches import split
from tightbound.training.checkpoint import load_weights
from tightbound.training.step import TrainStep
from tightbound.training.validation import validate


def held_out(x: Tensor, seed: int = 0) -> Observations:
    part = split(Observations(x), QUIET["validation"], seed)[1]
    assert part is not None
    return part


def test_the_best_weights_are_those_of_the_lowest_validation_loss(tmp_path: Path) -> None:
    vae, x = model(), data(40)
    ended = fit(vae, x, epochs=60, out=tmp_path, **{**QUIET, "learning_rate": 0.1, "schedule": "constant"})
    losses = {line["step"]: line["loss"] for line in lines(ended, "validation")}
    assert ended.loss == min(losses.values())
    assert losses[ended.best_step] == ended.loss
    assert ended.best_step < ended.steps  # it went on past its best, else this shows nothing
    assert [line["step"] for line in lines(ended, "validation") if line["best"]][-1] == ended.best_step
    loaded = model(seed=1)
    load_weights(tmp_path, loaded)
    assert equal(weights(loaded), weights(vae))
    again = fit(loaded, x, epochs=1e-6, **{**QUIET, "learning_rate": 1e-30})  # a step that moves nothing
    assert again.loss == ended.loss


def test_validation_is_the_objective_on_what_was_held_out() -> None:
    vae, x = model(), data()
    ended = fit(vae, x, epochs=4, **QUIET)
    with torch.no_grad():
        losses = torch.stack([ELBO()(vae, held_out(x).eval_batch()).value for _ in range(2000)])
    error = losses.std() * math.sqrt(1 + 1 / len(losses))
    assert abs(ended.loss - losses.mean()) < 4 * error


def test_what_is_held_out_is_never_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    x = data()
    seen: set[tuple[float, ...]] = set()
    batch = Observations.batch

    def watch(self: Observations, indices: Tensor, dtype: torch.dtype = torch.float32) -> Batch:
        found = batch(self, indices, dtype)
        seen.update(map(tuple, found.x.tolist()))
        return found

    monkeypatch.setattr(Observations, "batch", watch)
    fit(model(), x, epochs=3, **QUIET)
    kept = set(map(tuple, held_out(x).eval_batch().x.tolist()))
    assert len(kept) == 20
    assert seen == set(map(tuple, x.tolist())) - kept


def test_validation_is_without_dropout() -> None:
    vae = model()
    vae.posterior.network = nn.Sequential(nn.Dropout(0.5), vae.posterior.network)
    modes: list[bool] = []
    vae.posterior.network.register_forward_hook(lambda module, *_: modes.append(module.training))
    fit(vae.eval(), data(), epochs=2, **QUIET)
    assert modes[-10:] == [*[True] * 4, False] * 2
    assert not any(modes[:-10])  # the model is tried before the first step
    assert not vae.training


def test_validation_leaves_the_noise_of_the_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = recorded(monkeypatch, epochs=3, validation=0.2)
    scripted(monkeypatch, [3.0, 2.0, 1.0])
    other, _ = recorded(monkeypatch, epochs=3, validation=0.2)
    assert all(equal(a, b) for a, b in zip(one[:-1], other[:-1], strict=True))


def scripted(monkeypatch: pytest.MonkeyPatch, losses: list[float]) -> None:
    """Validation losses as they are wanted."""
    script = iter(losses)
    monkeypatch.setattr("tightbound.training.loop.validate", lambda *args, **kwargs: {"loss": next(script)})


@pytest.mark.parametrize(
    ("patience", "losses", "epochs", "best", "ended"),
    [
        (2, [3.0, 2.0, 4.0, 2.0], 4, 2, "early"),
        (1, [3.0, 3.0], 2, 1, "early"),
        (2, [3.0, 4.0, 2.0, 4.0, 1.0], 5, 5, "complete"),
        (0, [1.0, 2.0, 3.0, 4.0, 5.0], 5, 1, "complete"),
        (4, [1.0, 2.0, 3.0, 4.0, 5.0], 5, 1, "complete"),  # patience runs out as the training ends
    ],
)
def test_stopping_early(
    monkeypatch: pytest.MonkeyPatch, patience: int, losses: list[float], epochs: int, best: int, ended: str
) -> None:
    vae, seen = model(), {}
    before_each_step(monkeypatch, lambda step: seen.update({step: weights(vae)}))
    scripted(monkeypatch, losses)
    found = fit(vae, data(), epochs=5, patience=patience, **QUIET)
    assert (found.ended, found.steps, found.best_step) == (ended, 4 * epochs, 4 * best)
    assert found.loss == losses[best - 1]
    if best < epochs:
        assert equal(weights(vae), seen[4 * best])


def test_without_validation_the_last_weights_stay() -> None:
    ended = fit(model(), data(), epochs=2, **{**QUIET, "validation": 0})
    assert lines(ended, "validation") == []
    assert (ended.loss, ended.best_step) == (ended.metrics[-1]["loss"], ended.steps)


def test_tied_weights_can_be_saved(tmp_path: Path) -> None:
    vae, loaded, shared = model(), model(), nn.Linear(8, 8)
    vae.posterior.network.layers.extend([shared, shared])
    loaded.posterior.network.layers.extend([nn.Linear(8, 8), nn.Linear(8, 8)])
    fit(vae, data(), epochs=1, out=tmp_path, **QUIET)
    load_weights(tmp_path, loaded)
    assert equal(weights(loaded), weights(vae))


class Counted:
    """Loss and terms of which the value is known: the mean over a chunk's observations, and noise by chunk."""

    def __call__(self, model: VAE, batch: Batch, step: Tensor | None = None) -> Loss:
        return Loss(batch.x.mean(), {"noise": torch.rand(()), "rows": torch.tensor(float(batch.size))})


def test_a_short_last_chunk_weighs_as_much_as_it_has_rows() -> None:
    x = torch.randn(2500, 3).double()
    step = TrainStep(model().double(), Counted(), Training(), steps=1, device=torch.device("cpu"))
    found = validate(step, Observations(x), names=("noise", "rows"), batch_size=20)
    sizes = [1024, 1024, 452]
    assert found["loss"] == pytest.approx(x.mean().item(), rel=1e-12)
    assert found["rows"] == pytest.approx(sum(size * size for size in sizes) / 2500, rel=1e-12)
    noise = [torch.rand((), generator=torch.Generator().manual_seed(1 + number)).item() for number in range(3)]
    assert len(set(noise)) == 3
    expected = sum(size * one for size, one in zip(sizes, noise, strict=True)) / 2500
    assert found["noise"] == pytest.approx(expected, rel=1e-6)
    assert validate(step, Observations(x), names=("noise", "rows"), batch_size=20) == found
