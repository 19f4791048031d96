"""The tail of importance weights."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch

from tightbound.evaluate.importance import pareto_k


def test_k_of_a_tail_that_is_known() -> None:
    """Weights u^(-k) of uniform u have exactly that tail."""
    torch.manual_seed(0)
    u = torch.rand(4000, 50, dtype=torch.float64)
    for k in (0.3, 0.7, 1.2):
        assert pareto_k(-k * u.log()).mean() == pytest.approx(k, abs=0.05)


def test_k_where_there_is_no_telling() -> None:
    even, rows = torch.zeros(100, dtype=torch.float64), 24
    assert pareto_k(torch.randn(rows, 2).double()).isnan().all()
    assert pareto_k(torch.randn(rows + 1, 2).double()).isfinite().all()
    noise = 1e-4 * torch.rand(100, dtype=torch.float64)
    zeros = torch.where(torch.arange(100) < 5, 0.0, -torch.inf)
    steps = torch.cat([torch.zeros(90), torch.arange(10.0)]).double()
    found = pareto_k(torch.stack([even, noise, zeros.double(), steps, torch.full((100,), -torch.inf).double()], 1))
    assert found[:3].tolist() == [0.0, 0.0, math.inf]
    assert found[3].isnan()
    assert found[4] == math.inf
    far = pareto_k(torch.cat([torch.full((80, 1), -1e6).double(), torch.randn(20, 1).double()]))
    assert far.isfinite().all()


def test_a_tail_whose_smoothed_weights_overflow_says_nothing_on_the_way() -> None:
    falling = -6e3 * torch.linspace(0, 1, 1000, dtype=torch.float64)[:, None]
    assert 100 < pareto_k(falling) < math.inf  # a warning is an error here


def test_the_shape_is_told_where_docstrings_are_stripped() -> None:
    code = (
        "import torch; from tightbound.evaluate.importance import pareto_k; torch.manual_seed(0); "
        "print(float(pareto_k(torch.randn(200, 1).double())[0]))"
    )
    plain, stripped = (
        subprocess.run([sys.executable, *flags, "-c", code], capture_output=True, text=True, check=True).stdout
        for flags in ([], ["-OO"])
    )
    assert plain == stripped
    assert 0 < float(plain) < 1
