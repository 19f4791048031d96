"""Columns of a table: densities in the table's own units, heads of each family, numbers there and back."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributions as td
from compiled import compiles
from scipy import integrate
from torch import Tensor, nn

import tightbound as tb
from tightbound import distributions
from tightbound.columns import FAMILIES, TRANSFORMS, Column
from tightbound.likelihoods import Columns
from tightbound.likelihoods.of_columns import numbers_of
from tightbound.support import require_support

LEVELS: dict[str, Any] = {"flag": ("no", "yes"), "category": ("a", "b", "c"), "ordinal": ("low", "mid", "high", "top")}
NUMBERS = [
    Column(name="x", kind=kind, transform=transform, family=family, centre=0.4, unit=0.7)
    for kind in ("real", "positive", "date")
    for transform in TRANSFORMS[kind]
    for family in FAMILIES[kind]
]
DISCRETE = [
    Column(name="x", kind=kind, family=family, levels=LEVELS.get(kind, ()))
    for kind in ("count", "ordinal", "category", "flag")
    for family in FAMILIES[kind]
]


def called(column: Column) -> str:
    return f"{column.kind}-{column.transform}-{column.family}"


def table(*columns: Column, latent: int = 2, floor: float = 0.1) -> Columns:
    torch.manual_seed(1)
    return Columns(nn.Linear(latent, Columns.outputs_for(columns)), columns, floor=floor).double()


MIXED = [
    Column(name="age", kind="count"),
    Column(name="plan", kind="category", levels=("a", "b", "c"), shares=(0.5, 0.3, 0.2)),
    Column(name="income", kind="positive", centre=10.0, unit=0.5),
    Column(name="paid", kind="flag", levels=("no", "yes"), shares=(0.9, 0.1)),
    Column(name="rank", kind="ordinal", levels=("1", "2", "3", "4", "5"), shares=(0.1, 0.2, 0.4, 0.2, 0.1)),
    Column(name="depth", kind="real", transform="log1p", family="student-t", centre=1.0, unit=2.0),
    Column(name="town", kind="category", levels=("x", "y"), shares=(0.6, 0.4)),
    Column(name="size", kind="real", centre=-3.0, unit=0.01),
    Column(name="calls", kind="count", family="poisson"),
    Column(name="grade", kind="ordinal", levels=("good", "bad")),
]
ROW = torch.tensor([31.0, 2.0, 0.3, 1.0, 4.0, -0.5, 1.0, 0.1, 7.0, 0.0]).double()
Z = torch.tensor([[0.3, -1.2], [2.0, 0.5], [0.0, 0.0]]).double()


# Densities in the table's own units


@pytest.mark.parametrize("column", NUMBERS, ids=called)
def test_a_column_of_numbers_integrates_to_one_in_its_own_unit(column: Column) -> None:
    p = table(column)

    def density(x: float) -> float:
        y = torch.from_numpy(column.stored(np.array([[x]])))
        with torch.no_grad():
            return p.log_prob_columns(y, Z[:1]).exp().item()

    low = {"log": 0.0, "log1p": -1.0}.get(column.transform, -math.inf)
    if column.transform in ("log", "log1p"):  # along the logarithm, where tails are short enough
        whole, _ = integrate.quad(lambda t: density(low + math.exp(t)) * math.exp(t), -34, 60, limit=400, points=[0, 1])
    else:
        whole, _ = integrate.quad(density, -math.inf, math.inf, limit=400)
    assert whole == pytest.approx(1, abs=2e-3 if column.family == "student-t" else 1e-6)


@pytest.mark.parametrize("column", DISCRETE, ids=called)
def test_a_column_of_codes_sums_to_one(column: Column) -> None:
    p = table(column)
    values = torch.arange(len(column.levels) or 4000).double()[:, None]
    with torch.no_grad():
        assert p.log_prob_columns(values, Z[:1].expand(len(values), 2)).exp().sum().item() == pytest.approx(1, abs=1e-9)


def test_a_change_of_unit_changes_the_nats_by_its_logarithm_alone() -> None:
    """Of the same numbers in metres and in millimetres, each standardised; and a log-normal is torch's own."""
    for kind in ("real", "positive"):
        metres = Column(name="x", kind=kind, centre=0.4, unit=0.7)
        moved = {"centre": 0.4 + math.log(1000)} if kind == "positive" else {"centre": 400.0, "unit": 700.0}
        millimetres = Column(name="x", kind=kind, **{"centre": 0.4, "unit": 0.7, **moved})
        x = np.array([[2.5]])
        here = table(metres).log_prob_columns(torch.from_numpy(metres.stored(x)), Z[:1])
        there = table(millimetres).log_prob_columns(torch.from_numpy(millimetres.stored(1000 * x)), Z[:1])
        torch.testing.assert_close(there, here - math.log(1000))
    column = Column(name="x", kind="positive", centre=0.4, unit=0.7)
    p = table(column)
    location, scale = p._scaled(p.network(Z[:1]))
    exact = td.LogNormal(0.4 + 0.7 * location, 0.7 * scale).log_prob(torch.tensor(2.5).double())
    found = p.log_prob_columns(torch.from_numpy(column.stored(np.array([[2.5]]))), Z[:1])
    torch.testing.assert_close(found, exact)


# Families side by side


def test_each_column_counts_as_it_does_alone_and_a_row_is_their_sum() -> None:
    p = table(*MIXED)
    out = p.network(Z)
    found = p.log_prob_columns(ROW, Z)
    assert found.shape == (3, len(MIXED))
    torch.testing.assert_close(found.sum(-1), p.log_prob(ROW.expand(3, -1), Z))
    families = list(dict.fromkeys(column.family for column in MIXED))
    start = 0
    for family in families:
        own = [column for column in MIXED if column.family == family]
        numbers = out[:, start : start + sum(map(numbers_of, own))]
        start += numbers.shape[1]
        one_at_a_time = numbers.split([numbers_of(column) for column in own], 1)
        if family in ("normal", "student-t", "negative-binomial"):  # all first numbers, then all second ones
            one_at_a_time = numbers.unflatten(1, (2, -1)).unbind(2)
        for column, mine in zip(own, one_at_a_time, strict=True):
            alone = Columns(Given(mine), [column]).double()
            at = MIXED.index(column)
            torch.testing.assert_close(alone.log_prob_columns(ROW[at : at + 1], Z)[:, 0], found[:, at])


class Given(nn.Module):
    def __init__(self, out: Tensor) -> None:
        super().__init__()
        self.out = out.detach()

    def forward(self, z: Tensor) -> Tensor:
        return self.out


def test_families_are_torchs_own() -> None:
    p = table(*MIXED)
    with torch.no_grad():
        parts = dict(zip(p._own, p(Z).base_dist.parts, strict=True))
    assert isinstance(parts["normal"], td.Normal)
    assert isinstance(parts["student-t"], td.StudentT)
    assert (parts["student-t"].df > 2).all()
    assert (parts["normal"].scale > 0.1).all()
    assert isinstance(parts["negative-binomial"], distributions.NegativeBinomial)
    assert isinstance(parts["poisson"], distributions.Poisson)
    assert isinstance(parts["bernoulli"], distributions.Bernoulli)


def test_levels_in_an_order_follow_the_cumulative_logits() -> None:
    thresholds = torch.tensor([[-1.5, 0.2, 2.0], [0.0, torch.inf, torch.inf]]).double()
    for eta in (-30.0, -2.0, 0.0, 0.7, 5.0, 40.0):
        found = distributions.ordered(torch.full((2,), eta).double(), thresholds)
        torch.testing.assert_close(found.exp().sum(-1), torch.ones(2).double())
        below = found.exp().cumsum(-1)[:, :-1]
        torch.testing.assert_close(below[0], torch.sigmoid(thresholds[0] - eta))
        assert below[1, 0].item() == pytest.approx(torch.sigmoid(torch.tensor(-eta)).item())
        assert (found[1, 2:] == -torch.inf).all()
        assert found[0].isfinite().all()  # 40 thresholds away, too, where a difference of sigmoids is 0


def test_slopes_are_finite_for_columns_of_different_numbers_of_levels() -> None:
    p = table(*MIXED)
    p.log_prob(ROW.expand(3, -1), Z).sum().backward()
    for name, parameter in p.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


# Where training begins


def test_training_begins_at_the_columns_own_statistics() -> None:
    p = table(*MIXED)
    with torch.no_grad():
        p.network.weight.zero_()
        p.network.bias.copy_(p.initial_output(torch.zeros(len(MIXED)).double()))
        at = p(Z[:1]).base_dist
    parts = dict(zip(p._own, at.parts, strict=True))
    torch.testing.assert_close(
        parts["categorical"].probs[0, 0], torch.tensor([0.5, 0.3, 0.2]).double(), atol=2e-3, rtol=0
    )
    torch.testing.assert_close(
        parts["categorical"].probs[0, 1], torch.tensor([0.6, 0.4, 0.0]).double(), atol=2e-3, rtol=0
    )
    assert parts["bernoulli"].probs.item() == pytest.approx(0.1, abs=2e-3)
    torch.testing.assert_close(
        parts["ordinal"].probs[0, 0], torch.tensor([0.1, 0.2, 0.4, 0.2, 0.1]).double(), atol=2e-3, rtol=0
    )
    torch.testing.assert_close(parts["normal"].loc, torch.zeros(1, 2).double())
    torch.testing.assert_close(parts["normal"].scale, torch.ones(1, 2).double())


def test_one_value_stands_for_a_column_and_draws_are_in_its_support() -> None:
    p = table(*MIXED)
    with torch.no_grad():
        whole = p(Z)
        mean = tb.likelihoods.point_estimate(whole)
        x = whole.sample((500,))
    assert mean.shape == (3, len(MIXED))
    assert (mean[:, [1, 4, 6, 9]] == mean[:, [1, 4, 6, 9]].round()).all()
    require_support(whole, x.flatten(0, 1), likelihood="Columns")
    assert x[..., 1].max() == 2
    assert x[..., 6].max() == 1
    expanded = whole.base_dist.expand((4, 3, len(MIXED)))
    torch.testing.assert_close(expanded.log_prob(ROW)[2], whole.base_dist.log_prob(ROW))
    for column, value in ((1, 3.0), (6, 2.0), (0, -1.0), (3, 0.5), (9, 2.0), (8, 1.5)):
        odd = ROW.clone()
        odd[column] = value
        with pytest.raises(ValueError, match="in the support of the Columns likelihood"):
            p.log_prob(odd.expand(3, -1), Z)


@compiles
def test_a_compiled_row_counts_the_same() -> None:
    p = table(*MIXED).float()
    x, z = ROW.float().expand(3, -1), Z.float()
    whole = torch.compile(lambda z: p(z).log_prob(x))
    torch.testing.assert_close(whole(z), p.log_prob(x, z), rtol=1e-4, atol=1e-4)


def test_a_model_of_a_table_is_saved_and_read_back(tmp_path: Path) -> None:
    model = tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(nn.Linear(len(MIXED), 4)),
        Columns(tb.networks.MLP((2,), (Columns.outputs_for(MIXED),)), MIXED, floor=0.2),
    ).double()
    model.save(tmp_path / "model")
    again = tb.load_model(tmp_path / "model")
    assert again.likelihood.columns == tuple(MIXED)
    assert again.likelihood.floor == 0.2
    x = ROW.expand(3, -1)
    torch.testing.assert_close(again.likelihood.log_prob(x, Z), model.likelihood.log_prob(x, Z))


# Numbers there and back


@pytest.mark.parametrize("column", NUMBERS, ids=called)
def test_numbers_come_back_and_the_slope_is_that_of_the_transform(column: Column) -> None:
    x = np.array([0.3, 1.0, 25.0])
    y = column.stored(x)
    np.testing.assert_allclose(column.restored(y), x, rtol=1e-12)
    a, b = column.log_slope
    h = 1e-6
    slope = (column.stored(x + h) - column.stored(x - h)) / (2 * h)
    np.testing.assert_allclose(a - b * y, np.log(slope), rtol=1e-6, atol=1e-8)


def test_large_numbers_that_differ_little_keep_their_digits() -> None:
    seconds = 1.6e9 + np.arange(300.0)
    column = Column(name="t", kind="real", centre=float(seconds.mean()), unit=float(seconds.std()))
    assert len(np.unique(column.stored(seconds).astype(np.float32))) == 300


def test_codes_are_as_they_are_and_rows_are_made_legal() -> None:
    flag = Column(name="paid", kind="flag", levels=("no", "yes"))
    np.testing.assert_array_equal(flag.stored(np.array([0.0, 1.0, np.nan])), [0, 1, np.nan])
    np.testing.assert_array_equal(flag.restored(np.array([0.0, 1.0])), [0, 1])
    year = Column(name="year", kind="real", low=1990, high=2020, step=1)
    np.testing.assert_array_equal(year.legal(np.array([1800.2, 2001.4, 2099.0])), [1990, 2001, 2020])


# What is refused


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "number"}, "Expected a kind among real, positive, .*; got 'number' for the column 'x'"),
        ({"kind": "real", "transform": "log"}, "a transform among standardise, log1p, none for the column 'x'"),
        (
            {"kind": "count", "transform": "log1p"},
            "a transform among none for the column 'x', which is of kind 'count'",
        ),
        ({"kind": "count", "family": "normal"}, "a family among negative-binomial, poisson .*; got 'normal'"),
        ({"kind": "category", "levels": ("a",)}, "at least two levels for the column 'x', of kind 'category'; got 1"),
        ({"kind": "flag", "levels": ("a", "b", "c")}, "Expected two levels for the column 'x'.*; got 3"),
        ({"kind": "real", "levels": ("a", "b")}, "Expected no levels for the column 'x', of kind 'real'; got 2"),
        (
            {"kind": "category", "levels": ("a", "b", "a")},
            "Expected different levels for the column 'x'; got 'a' twice",
        ),
        ({"kind": "flag", "levels": ("a", "b"), "shares": (1.0,)}, "a share for each of 2 levels .*; got 1"),
        ({"kind": "real", "unit": 0.0}, "a unit above 0 .* for the column 'x'; got 0.0, 0.0 and 0.0"),
        ({"kind": "real", "centre": math.nan}, "Expected a finite centre"),
        ({"kind": "real", "missing": 1.5}, "a share missing between 0 and 1"),
        ({"kind": "real", "low": 2.0, "high": 1.0}, "Expected low <= high .* for the column 'x'; got 2.0, 1.0"),
        ({"kind": "real", "step": -1.0}, "a step of at least 0"),
    ],
)
def test_columns_that_make_no_sense_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Column(name="x", **fields)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (Column(name="x", kind="positive"), 0.0, "Expected numbers above 0 in the column 'x', .*'log'; got 0"),
        (Column(name="x", kind="real", transform="log1p"), -1.0, "numbers above -1 in the column 'x'"),
        (Column(name="x", kind="count"), -1.0, "Expected whole numbers from 0 in the column 'x'; got -1"),
        (Column(name="x", kind="count"), 1.5, "whole numbers from 0 in the column 'x'; got 1.5"),
        (Column(name="x", kind="flag", levels=("a", "b")), 2.0, "places of its 2 levels, from 0 .*; got 2"),
    ],
)
def test_values_that_a_column_cannot_have_are_refused(column: Column, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        column.stored(np.array([1.0, value, np.nan]))


def test_likelihoods_of_no_sense_are_refused() -> None:
    age = Column(name="age", kind="count")
    with pytest.raises(ValueError, match=r"Expected at least one column; got none\. tb\.data\.describe"):
        Columns(nn.Linear(2, 2), [])
    with pytest.raises(ValueError, match="Expected columns of different names; got 'age' twice in columns"):
        Columns(nn.Linear(2, 2), [age, age])
    with pytest.raises(ValueError, match="Expected a floor above 0; got 0"):
        Columns(nn.Linear(2, 2), [age], floor=0.0)
    with pytest.raises(ValueError, match=r"network giving \(..., 2\) for these 1 columns; got \(..., 3\)"):
        Columns(nn.Linear(2, 3), [age]).log_prob(torch.ones(1, 1), torch.zeros(1, 2))
    with pytest.raises(TypeError, match="A likelihood is conditional on z"):
        Columns(nn.Linear(2, 2), [age])()
