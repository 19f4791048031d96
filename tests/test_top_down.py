"""Layers of latents, each given the one above: against linear-Gaussian layers, which are solved by hand."""

from __future__ import annotations

import pytest
import torch
from oracle import linear_layers

import tightbound as tb
from tightbound.batch import Batch

LAYERS = pytest.mark.parametrize("layers", [(3, 2), (4, 3, 2), (3, 3, 2, 1), (1, 1)])


@LAYERS
def test_where_q_is_the_true_posterior_every_log_weight_is_the_evidence(layers: tuple[int, ...]) -> None:
    known = linear_layers(*layers)
    model, x = known.model(), known.evidence.sample((6,))
    draws = model.draw(x, samples=7)
    assert draws.z.shape == (7, 6, sum(layers))
    torch.testing.assert_close(draws.log_w, known.evidence.log_prob(x).expand(7, 6), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.log_posterior(Batch(x), draws.z), draws.log_qz_x)
