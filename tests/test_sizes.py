"""Sizes that cannot fit are refused before any memory is taken, and those that fit are not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import refused, trained

import tightbound as tb
from tightbound.data import load, mapped
from tightbound.data.mapped import require_memory
from tightbound.evaluate import evidence, information
from tightbound.runs.build import build
from tightbound.runs.recipe import Recipe
from tightbound.runs.sizes import require_room

GB = 10**9
DATA = torch.randn(60, 3)


@pytest.fixture(autouse=True)
def four_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "memory", lambda: 4 * GB)


@pytest.mark.parametrize(("needed", "fits"), [(0, True), (4 * GB, True), (4 * GB + 1, False), (10**400, False)])
def test_what_fits_exactly_fits(needed: int, fits: bool) -> None:
    if fits:
        require_memory(needed, of="x", remedy="y")
        return
    with pytest.raises(ValueError, match=r"this machine's memory of 4 GB; got x, which needs about .* GB\. y$"):
        require_memory(needed, of="x", remedy="y")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.hidden": [10**9]}, "a hidden width = 1,000,000,000"),
        ({"model.hidden": [10**5, 10**5]}, r"weights \(a hidden width = 100,000, .*needs about 320 GB"),
        ({"model.latent_dim": 10**9}, "latent_dim = 1,000,000,000"),
        ({"model.latent_dim": 10**5, "model.posterior": "full-normal"}, "latent_dim = 100,000"),
        ({"model.prior": "mixture", "model.components": 10**9}, "components = 1,000,000,000"),
        ({"model.prior": "vamp", "model.components": 10**10}, "components = 10,000,000,000"),
        (
            {"model.posterior": "categorical", "model.classes": 10**9, "objective.gradient": "gumbel-softmax"},
            "classes = 1,000,000,000",
        ),
        ({"model.latent_dim": 2**63}, "a model whose numbers can be counted; got latent_dim = about 1e18"),
        ({"model.hidden": [2**62, 2**62]}, "whose numbers can be counted; got a hidden width = about 1e18"),
        ({"objective.name": "iwae", "objective.samples": 10**9}, r"a step of .* draws .*train.micro_batch"),
        ({"evaluate.samples": 10**12}, "evaluate.samples = 1,000,000,000,000, which needs about"),
    ],
    ids=str,
)
def test_a_recipe_that_cannot_fit_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build(Recipe().updated(changes), DATA)


@pytest.mark.parametrize(
    ("changes", "read"),
    [
        ({}, ["latent_dim"]),
        ({"model.network": "mlp", "model.hidden": [9]}, ["latent_dim", "a hidden width"]),
        ({"model.network": "conv", "model.channels": 9}, ["latent_dim", "channels"]),
        ({"model.network": "conv"}, ["latent_dim"]),
        ({"model.prior": "mixture"}, ["latent_dim", "components"]),
        ({"model.prior": "vamp"}, ["latent_dim", "components"]),
        ({"model.posterior": "flow"}, ["latent_dim", "transforms"]),
        ({"model.posterior": "categorical", "objective.gradient": "score-function"}, ["latent_dim", "classes"]),
    ],
    ids=str,
)
def test_only_sizes_that_the_parts_in_use_read_are_named(changes: dict[str, Any], read: list[str]) -> None:
    few = {"model.latent_dim": 9, "model.network": "mlp", "model.hidden": [], "model.classes": 2}
    recipe = Recipe().updated({**few, **changes})
    with pytest.raises(ValueError, match=r"a model of .* which needs about") as error:
        require_room(recipe, lambda: torch.nn.Linear(10**5, 10**5, device="meta"), 5, 100)
    named = str(error.value).partition("(")[2].partition(")")[0]
    assert {each.partition(" = ")[0] for each in re.split(", (?=[a-z])", named)} == set(read)


@pytest.mark.parametrize(
    "changes",
    [
        {"model.hidden": [2000, 2000]},
        {"train.batch_size": 10**12},
        {"objective.name": "iwae", "objective.samples": 10**5, "train.micro_batch": 100},
        {"evaluate.samples": 10**6},
    ],
    ids=str,
)
def test_a_recipe_that_fits_is_built(changes: dict[str, Any]) -> None:
    build(Recipe().updated(changes), DATA)


def linear() -> tb.VAE:
    return tb.VAE(
        prior=tb.priors.StandardNormal(2),
        posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(3, 4)),
        likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 3)),
    )


@pytest.mark.parametrize("samples", [10**9, 10**12, 10**18])
def test_evaluations_of_too_many_draws_are_refused(samples: int) -> None:
    with pytest.raises(ValueError, match=r"got samples=1,0.*Take fewer"):
        evidence(linear(), DATA, samples=samples)
    with pytest.raises(ValueError, match=r"Expected at most 10,000,000 draws; got 1,0"):
        information(linear(), DATA, draws=samples)


@pytest.mark.parametrize("size", [10**5, 2**31, 10**9, 10**30])
def test_images_of_too_many_pixels_are_refused(tmp_path: Path, size: int) -> None:
    for number in range(3):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / f"{number}.png")
    for source in (tmp_path, "sprites"):
        with pytest.raises(ValueError, match=rf"of size {size}.*, which needs about .*Take a smaller size"):
            load(source, size=size)


def test_commands_refuse_them_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ("evaluate", trained(), "--samples", 10**12),
        ("sample", trained(), "--count", 10**12, "--out", "x.npy"),
    ):
        assert "fit into this machine's memory of 4 GB" in refused(capsys, *words)
