"""Small data of every kind, recipes for them, and what it means that something trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tightbound.runs.build import Built
from tightbound.runs.recipe import Recipe
from tightbound.training import fit

COUNT = 30
IMAGE = (1, 9, 7)
SMALL: dict[str, Any] = {
    "model.latent_dim": 3, "model.hidden": [8], "model.channels": 4, "model.components": 5, "train.batch_size": 10,
    "train.epochs": 1, "train.validation": 10, "train.learning_rate": 0.01, "train.schedule": "constant",
}  # fmt: skip


def values(kind: str, shape: tuple[int, ...] = IMAGE) -> np.ndarray[Any, Any]:
    random, full = np.random.default_rng(0), (COUNT, *shape)
    kinds: dict[str, Callable[[], np.ndarray[Any, Any]]] = {
        "binary": lambda: random.integers(0, 2, full),
        "grey": lambda: random.integers(0, 256, full, dtype=np.uint8),
        "floats": lambda: random.random(full, dtype=np.float32),
        "real": lambda: 5 + 3 * random.standard_normal(full).astype(np.float32),
        "counts": lambda: random.poisson(3, full),
        "overdispersed": lambda: random.poisson(20 * random.random(full) ** 4),
        "classes": lambda: random.integers(0, 4, full),
    }
    return kinds[kind]()


def source(tmp_path: Path, kind: str, shape: tuple[int, ...] = IMAGE) -> str:
    np.save(tmp_path / f"{kind}.npy", values(kind, shape))
    return str(tmp_path / f"{kind}.npy")


def recipe(path: str, **changes: Any) -> Recipe:
    dotted = {name.replace("__", "."): value for name, value in changes.items()}
    return Recipe().updated({**SMALL, "data.source": path, **dotted})


def trains(built: Built) -> None:
    """It draws, it takes two steps, and every one of its networks moves."""
    model, data = built.model, built.data
    with torch.no_grad():
        assert model.draw(data.train.eval_batch(0, 5), samples=2).log_w.isfinite().all()
    before = {name: p.detach().cpu().clone() for name, p in model.named_parameters()}
    ended = fit(
        model, data, objective=built.objective, seed=built.recipe.seed, progress=False, settings=built.recipe.train
    )
    assert ended.steps == 2
    assert np.isfinite(ended.loss)
    moved = {name.split(".")[0] for name, p in model.named_parameters() if not p.cpu().equal(before[name])}
    assert {"posterior", "likelihood"} <= moved
    assert model.reconstruct(data.test.eval_batch(0, 2)).shape == (2, *data.test.shape)
    assert model.sample(2).shape == (2, *data.test.shape)


DESCRIBED = [
    ("bernoulli", "binary"),
    ("bernoulli", "grey"),
    ("bernoulli", "floats"),
    ("unnormalised-bernoulli", "grey"),
    ("unnormalised-bernoulli", "floats"),
    ("continuous-bernoulli", "floats"),
    ("continuous-bernoulli", "grey"),
    ("gaussian", "real"),
    ("gaussian", "grey"),
    ("laplace", "real"),
    ("categorical", "classes"),
    ("categorical", "binary"),
    ("discretized-logistic", "grey"),
    ("poisson", "counts"),
    ("negative-binomial", "overdispersed"),
]
