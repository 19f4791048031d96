"""What a training says as it begins: where it computes, what it sees and what it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import SMALL, said
from torch import nn
from training import QUIET, bits, data, model

import tightbound as tb
from tightbound.architecture import in_short, in_words, parameters_of
from tightbound.networks import MLP, ConvDecoder, ConvEncoder, Standardized

LOUD: dict[str, Any] = {**QUIET, "progress": True, "epochs": 1, "threads": 1}


def test_two_lines_before_the_first_step(capsys: pytest.CaptureFixture[str]) -> None:
    vae = model()
    tb.fit(vae, data(), **LOUD)
    first, second, third, *_ = capsys.readouterr().err.splitlines()
    assert first == "Training on cpu: 100 observations of 3, 20 of them held out for validation."
    count = sum(each.numel() for each in vae.parameters())
    assert second == (
        "VAE: StandardNormal prior (2), DiagonalNormal posterior (MLP 3-8-4), Gaussian likelihood (MLP 2-8-3); "
        f"{count} parameters."
    )
    assert third.startswith("step ")


@pytest.mark.parametrize(
    ("validation", "words"),
    [
        (0, "1,000 observations of 3, none held out for validation."),
        (0.1, "1,000 observations of 3, 100 of them held out for validation."),
        (data(40), "1,000 observations of 3, 40 others for validation."),
    ],
    ids=["none", "a share", "others"],
)
def test_what_is_held_out_is_told(validation: Any, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    tb.fit(model(), data(1000), **{**LOUD, "validation": validation})
    assert words in capsys.readouterr().err


def test_a_training_that_goes_on_says_from_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tb.fit(model(), data(), out=tmp_path / "run", **LOUD)
    capsys.readouterr()
    tb.fit(model(), data(), out=tmp_path / "run", resume=True, **LOUD)
    assert f"\nGoing on behind step {made.steps} of {made.steps}.\n" in capsys.readouterr().err


def test_a_quiet_one_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    tb.fit(model(), data(), epochs=1, **QUIET)
    assert capsys.readouterr().err == ""


def test_the_command_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = said(capsys, "train", "digits", *SMALL, "--train.precision", "float32", "--out", tmp_path / "run")
    assert code == 0
    assert "Training on cpu: 1,617 observations of 1×8×8, 162 of them held out for validation.\n" in error
    assert "DiagonalNormal posterior (MLP 64-16-6), Bernoulli likelihood (MLP 3-16-64); " in error


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (MLP((1, 28, 28), (40,), hidden=(400, 200)), "MLP 784-400-200-40"),
        (Standardized(MLP((3,), (2,), hidden=()), torch.zeros(3), torch.ones(3)), "MLP 3-2"),
        (nn.Linear(5, 4), "Linear 5-4"),
        (nn.Sequential(nn.Linear(5, 7), nn.ELU(), nn.Linear(7, 4)), "Sequential 5-7-4"),
        (nn.ModuleList([nn.Linear(5, 7), nn.Linear(5, 4)]), "ModuleList of 2 layers"),  # side by side, no chain
        (nn.Sequential(*[nn.Linear(3, 3) for _ in range(9)]), "Sequential of 9 layers"),
        (nn.Sequential(nn.Conv2d(1, 2, 3)), "Sequential of 1 layer"),
        (ConvEncoder((1, 28, 28), 40), "ConvEncoder of 5 layers"),
        (ConvDecoder(20, (1, 28, 28)), "ConvDecoder of 5 layers"),
        (nn.Identity(), "Identity"),
    ],
    ids=["mlp", "wrapped", "linear", "chain", "no chain", "long", "one", "encoder", "decoder", "none"],
)
def test_a_network_in_short(network: nn.Module, words: str) -> None:
    assert in_short(network) == words


def test_a_model_in_words() -> None:
    assert in_words(bits()).startswith("VAE: Bernoulli prior (4), Bernoulli posterior (MLP 3-8-4), ")
    assert in_words(tb.PairedVAE(model())).startswith("PairedVAE of a VAE: StandardNormal prior (2), ")
    assert in_words(nn.Linear(1, 1)) == "Linear"
    joint = tb.posteriors.Joint([
        tb.posteriors.DiagonalNormal(nn.Linear(5, 4)), tb.posteriors.Categorical(nn.Linear(5, 3), classes=3)
    ])  # fmt: skip
    prior = tb.priors.Joint([tb.priors.StandardNormal(2), tb.priors.Categorical(1, classes=3)])
    found = in_words(tb.VAE(prior, joint, tb.likelihoods.Gaussian(nn.Linear(5, 5))))
    assert "Joint posterior (Linear 5-4, Linear 5-3), Gaussian likelihood (Linear 5-5)" in found


def test_a_shared_parameter_counts_once() -> None:
    layer = nn.Linear(3, 3)
    assert parameters_of(nn.Sequential(layer, layer)) == 12
