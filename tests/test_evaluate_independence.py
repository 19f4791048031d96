"""Dependence of the dimensions of a code, where no factor is known, against exact numbers."""

from __future__ import annotations

import html
import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from tiny import copied, said
from torch import nn

import tightbound as tb
from tightbound.data import Observations
from tightbound.evaluate import Estimate, Independence, independence
from tightbound.evaluate.independence import dependence_of

N = 10_000


@pytest.mark.parametrize("correlation", [0.0, 0.3, -0.6, 0.9])
def test_of_two_normals_it_is_that_of_their_correlation(correlation: float) -> None:
    first, noise = torch.randn(2, N, dtype=torch.float64)
    second = correlation * first + math.sqrt(1 - correlation**2) * noise
    found = float(dependence_of(first[:, None], second[:, None]))
    exact = -0.5 * math.log(1 - correlation**2)
    assert exact - 0.06 * exact - 0.01 < found < exact + 0.01  # cells of a histogram lose some, and add none


def test_any_monotone_map_changes_nothing() -> None:
    z = torch.randn(N, 3, dtype=torch.float64)
    z[:, 1] += z[:, 0]
    bent = torch.stack([z[:, 0].exp(), -(z[:, 1] ** 3), z[:, 2].sigmoid()], 1)
    torch.testing.assert_close(dependence_of(z, z), dependence_of(bent, bent), atol=0.01, rtol=0)


def test_dependence_without_correlation_is_seen() -> None:
    z = torch.randn(N, 1, dtype=torch.float64)
    assert float(dependence_of(z, z.square() + 0.1 * torch.randn_like(z))) > 0.5


class Coder(nn.Module):
    """An encoder that gives the first columns of x, with little noise."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:, :4], torch.full_like(x[:, :4], -6.0)], 1)


def model_of() -> tb.VAE:
    return tb.VAE(
        tb.priors.StandardNormal(4), tb.posteriors.DiagonalNormal(Coder()), tb.likelihoods.Gaussian(nn.Linear(4, 5))
    )


def test_pairs_and_their_total() -> None:
    torch.manual_seed(0)
    x = torch.randn(4000, 5)
    x[:, 2] = 0.8 * x[:, 0] + 0.6 * x[:, 2]
    x[:, 3] = 0  # a unit that stands still, but for the noise of its posterior
    found = independence(model_of(), Observations(x), seed=3)
    assert found.strongest == (0, 2)
    assert found.units == (0, 1, 2, 3)  # a mean of 0 with σ = 0.05 costs nats: it is not the prior's
    exact = -0.5 * math.log(1 - 0.64)
    assert abs(float(found.dependence[0, 2]) - exact) < 0.05
    assert found.dependence.diagonal().sum() == 0
    assert found.chance < 0.03
    assert float(found.dependence[0, 1]) < 0.03
    assert "Units 0 and 2 depend on one another most: 0.4" in found.verdict
    assert "No factor is known" in found.verdict
    assert found.to_json()["units"] == [0, 1, 2, 3]
    assert "strongest pair" in str(found)


def test_independent_units_are_told_so() -> None:
    torch.manual_seed(1)
    found = independence(model_of(), Observations(torch.randn(4000, 5)), observations=3000)
    assert found.observations == 3000
    assert float(found.dependence.max()) < 0.04
    again = independence(model_of(), Observations(torch.randn(4000, 5)), observations=3000)
    assert again.seed == 0


@pytest.mark.parametrize(("units", "words"), [((), "no unit is alive"), ((2,), "one unit alone is alive")])
def test_fewer_than_two_units_have_nothing_to_depend_on(units: tuple[int, ...], words: str) -> None:
    made = Independence(
        dependence=torch.zeros(len(units), len(units)), chance=0.0, total_correlation=None, units=units, latent_dim=5,
        observations=10, seed=0,
    )  # fmt: skip
    assert made.strongest is None
    assert words in made.verdict
    assert "not to be told" in str(made)


def test_less_than_chance_is_called_nothing() -> None:
    made = Independence(
        dependence=torch.tensor([[0.0, 0.01], [0.01, 0.0]]), chance=0.02, total_correlation=Estimate(0.1, 0.01),
        units=(0, 1), latent_dim=2, observations=10, seed=0,
    )  # fmt: skip
    assert made.verdict.startswith("No two units depend on one another by more than chance has, 0.020 nats.")


def test_the_command_says_it_where_no_factor_is_known(capsys, tmp_path):
    run = copied(tmp_path)
    code, out, error = said(capsys, "disentangle", run, "--json")
    assert code == 0
    assert f"Kept in {run / 'independence.json'}." in error
    assert json.loads(out) == json.loads((run / "independence.json").read_text("utf-8"))
    assert said(capsys, "report", run)[0] == 0
    page = html.unescape((run / "report.html").read_text("utf-8"))
    assert "What can be said of dimensions without known factors" in page
    shown = len(json.loads(out)["units"]) > 1
    assert ("Which dimensions depend on one another" in page) == shown
    (run / "independence.json").write_text("{}")
    code, _, error = said(capsys, "report", run)
    assert (code, "independence.json" in error) == (2, True)
    shutil.rmtree(Path(run))
