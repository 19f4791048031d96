"""What every evaluation asks of model and data before it measures anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tightbound as tb
from tightbound.batch import Batch
from tightbound.evaluate import fidelity, neighbours, predictive
from tightbound.evaluate.noise import seeds_of

EVALUATIONS: dict[str, Callable[..., Any]] = {
    "evidence": tb.evaluate.evidence,
    "certify": tb.evaluate.certify,
    "gaps": tb.evaluate.gaps,
    "information": tb.evaluate.information,
}
every_evaluation = pytest.mark.parametrize("evaluate", EVALUATIONS.values(), ids=EVALUATIONS)


def model() -> tb.VAE:
    return tb.VAE(
        prior=tb.priors.StandardNormal(2),
        posterior=tb.posteriors.DiagonalNormal(nn.Linear(3, 4)),
        likelihood=tb.likelihoods.Bernoulli(nn.Linear(2, 3)),
    )


@every_evaluation
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.nan, "Expected finite values; got NaN or infinity in observation 5 of "),
        (0.25, r"support of the Bernoulli likelihood; got the value 0\.25, neither 0 nor 1, first in observation 5"),
    ],
)
def test_values_that_no_likelihood_is_for_are_refused(evaluate: Callable[..., Any], value: float, message: str) -> None:
    x = torch.zeros(9, 3)
    x[5, 1] = value
    with pytest.raises(ValueError, match=message):
        evaluate(model(), x)


@every_evaluation
def test_observations_of_another_shape_are_refused(evaluate: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=r"Expected observations of shape \(3,\), .*; got \(4,\)"):
        evaluate(model(), torch.zeros(9, 4))


@every_evaluation
def test_a_model_whose_methods_disagree_is_refused(evaluate: Callable[..., Any]) -> None:
    class Shifted(tb.VAE):
        def log_posterior(self, batch: Batch, z: torch.Tensor, *, frozen: bool = False) -> torch.Tensor:
            return super().log_posterior(batch, z, frozen=frozen) + 1

    plain = model()
    with pytest.raises(ValueError, match="Expected log_posterior to give the log q"):
        evaluate(Shifted(plain.prior, plain.posterior, plain.likelihood), torch.zeros(9, 3))


def test_training_data_of_gaps_are_looked_at_too() -> None:
    with pytest.raises(ValueError, match="neither 0 nor 1"):
        tb.evaluate.gaps(model(), torch.zeros(5, 3), train=torch.full((5, 3), 0.5))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_seeds_are_made_of_values_of_any_precision(dtype: torch.dtype) -> None:
    x = torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]], [[0.0, 1.0]]], dtype=dtype)
    first, second, third = seeds_of(Batch(x), 3)
    assert first == third != second
    assert seeds_of(Batch(x[1:]), 3) == [second, third]


@pytest.mark.parametrize("check", [neighbours, fidelity, lambda model, _, x, **more: predictive(model, x, **more)])
def test_a_decoder_that_gives_nan_is_told_in_words(check: Callable[..., Any]) -> None:
    class Broken(nn.Linear):
        def forward(self, z: Tensor) -> Tensor:
            return torch.where(z[..., :1] > 0.3, torch.nan, super().forward(z))

    torch.manual_seed(0)
    model = tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(nn.Linear(3, 4)),
        tb.likelihoods.Bernoulli(Broken(2, 3)),
    )
    x = torch.randint(2, (40, 3)).float()
    with pytest.raises(
        ValueError, match=r"Expected p\(x\|z\) to have numbers for parameters; got NaN in \d+ of \d+ el"
    ):
        check(model, x, x, observations=20)
