"""Figures of dimensions, classes and scores: what they draw, and what they refuse."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from tightbound import plots

SCORE = {"mig": 0.2, "mig_se": 0.05, "dci_disentanglement": 0.1, "factor_vae_score": 0.5}


def texts(figure: Any) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_scores_of_several_seeds_have_the_error_of_their_mean() -> None:
    rows = [{"beta": 4.0, **SCORE, "mig": each} for each in (0.1, 0.2, 0.3)] + [{"beta": 1.0, **SCORE}]
    figure = plots.scores_by_beta(rows)
    [axes] = figure.axes
    lines = {line.get_label(): line for line in axes.containers}
    points, _, [bars] = lines["MIG"].lines
    np.testing.assert_allclose(points.get_ydata(), [0.2, 0.2])
    ends = [segment[:, 1] for segment in bars.get_segments()]
    np.testing.assert_allclose(ends[0], [0.1, 0.3])  # two of its own
    np.testing.assert_allclose(ends[1], 0.2 + 2 * np.array([-1, 1]) * 0.1 / np.sqrt(3))
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "4"]
    assert "UDR" not in lines
    [axes] = plots.scores_by_beta([{**row, "udr": 0.4} for row in rows]).axes
    assert "UDR" in {each.get_label() for each in axes.containers}


def test_dependence_leaves_the_diagonal_empty() -> None:
    figure = plots.dependence_matrix(np.array([[9.0, 0.2, 0.0], [0.2, 9.0, 0.1], [0.0, 0.1, 9.0]]), (0, 3, 4))
    assert texts(figure) == ["0.20", "0.00", "0.20", "0.10", "0.00", "0.10"]
    assert plots.alt_text(figure).endswith("Most: z₀ and z₃, 0.20 nats.")


def test_analogies_stand_in_the_row_of_their_observation() -> None:
    first, made = torch.zeros(2, 1, 4, 4), torch.arange(6.0).reshape(2, 3, 1, 1, 1).expand(2, 3, 1, 4, 4) / 6
    figure = plots.analogies(first, made, ["a", "b", "c"])
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["original", "a", "b", "c"]
    assert plots.alt_text(figure) == "2 observations, each with its style in 3 classes."


def test_rows_of_samples_have_names() -> None:
    figure = plots.samples(torch.rand(4, 1, 4, 4), columns=2, rows=["a", "b"])
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["a", "b"]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.scores_by_beta([]), "Expected at least one run; got no rows."),
        (
            lambda: plots.dependence_matrix(np.zeros((1, 1)), (0,)),
            "of at least 2 units, 1 here; got (1, 1).",
        ),
        (
            lambda: plots.dependence_matrix(np.zeros((2, 3)), (0, 1)),
            "of at least 2 units, 2 here; got (2, 3).",
        ),
        (
            lambda: plots.analogies(torch.zeros(2, 1, 4, 4), torch.zeros(2, 3, 1, 4, 4), ["a", "b"]),
            "Expected decodings of 2 observations in 2 classes; got (2, 3).",
        ),
    ],
)
def test_what_is_refused(draw: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        draw()
