"""Small models, small data, and a look at the weights before each step: what tests of the training share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tightbound as tb
from tightbound.networks import MLP
from tightbound.training import TrainResult, fit
from tightbound.training.batches import Sampler

QUIET: dict[str, Any] = {
    "progress": False, "batch_size": 20, "validation": 0.2, "log_every": 1, "learning_rate": 0.01,
    "precision": "float32",
}  # fmt: skip


def data(count: int = 100, *, seed: int = 0) -> Tensor:
    """Real vectors of three elements that two latents explain well."""
    generator = torch.Generator().manual_seed(seed)
    z, noise = torch.randn(count, 2, generator=generator), torch.randn(count, 3, generator=generator)
    return z @ torch.tensor([[1.0, 0.5, -1.0], [0.0, 1.0, 2.0]]) + 0.3 * noise


def model(*, seed: int = 0) -> Any:  # a VAE whose parts tests take apart
    """A VAE for them, always the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return tb.VAE(
            prior=tb.priors.StandardNormal(2),
            posterior=tb.posteriors.DiagonalNormal(MLP((3,), (4,), hidden=(8,))),
            likelihood=tb.likelihoods.Gaussian(MLP((2,), (3,), hidden=(8,)), scale=0.5),
        )


def bits(*, seed: int = 0) -> Any:
    """A VAE of four bits for the same data."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return tb.VAE(
            prior=tb.priors.Bernoulli(4, learned=True),
            posterior=tb.posteriors.Bernoulli(MLP((3,), (4,), hidden=(8,))),
            likelihood=tb.likelihoods.Gaussian(MLP((4,), (3,), hidden=(8,)), scale=0.5),
        )


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    """A copy of every number the model has."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two such copies are the same, bit for bit."""
    return one.keys() == other.keys() and all(one[name].equal(other[name]) for name in one)


def before_each_step(monkeypatch: pytest.MonkeyPatch, call: Callable[[int], object]) -> None:
    """Call with the step's number, from 0, as the training asks which observations it will see."""
    indices = Sampler.indices

    def seen(self: Sampler, step: int) -> Tensor:
        call(step)
        return indices(self, step)

    monkeypatch.setattr(Sampler, "indices", seen)


def written(folder: Path) -> dict[str, bytes]:
    """What must be the same for the same seed, however often a run was stopped."""
    return {name: (folder / name).read_bytes() for name in ("metrics.jsonl", "model.safetensors")}


def lines(ended: TrainResult, split: str) -> list[dict[str, Any]]:
    return [line for line in ended.metrics if line["split"] == split]


def recorded(monkeypatch: pytest.MonkeyPatch, **settings: Any) -> tuple[list[dict[str, Tensor]], TrainResult]:
    """The weights before each step and after the last, of a training without averaging or validation."""
    vae, seen = model(), {}
    with monkeypatch.context() as patch:
        before_each_step(patch, lambda step: seen.update({step: weights(vae)}))
        ended = fit(vae, data(), **{**QUIET, "validation": 0, **settings})
    assert list(seen) == list(range(ended.steps))
    return [*seen.values(), weights(vae)], ended
