"""Scores of codes with a known answer, with their errors, chance, and a perfect code beside."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator

import pytest
import torch

import tightbound as tb
from tightbound.evaluate import Disentanglement, disentangle, disentanglement
from tightbound.evaluate.disentanglement import _counted
from tightbound.evaluate.scores import predicted
from tightbound.evaluate.scores.definitions import DEFINITIONS
from tightbound.evaluate.scores.labelled import Labelled

NAMES = ("shape", "scale", "x")
SIZES = (3, 4, 5)


@pytest.fixture(scope="module", autouse=True)
def _few_trees() -> Iterator[None]:
    """The forests themselves are tested beside other scores."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predicted, "TREES", 5)
        yield


@pytest.fixture(scope="module")
def factors() -> torch.Tensor:
    return torch.tensor(list(itertools.product(*map(range, SIZES)))).double().repeat(10, 1)


@pytest.fixture(scope="module")
def perfect(factors: torch.Tensor) -> Disentanglement:
    return disentanglement(2 * factors - 1, factors, samples=factors, names=NAMES, unordered=("shape",))


def test_a_perfect_code_has_what_a_perfect_code_has(perfect: Disentanglement) -> None:
    assert perfect.best == {"shape": 0, "scale": 1, "x": 2}
    for name in DEFINITIONS:
        score = perfect.scores[name]
        assert score.value.value == pytest.approx(score.perfect, abs=max(5 * score.value.se, 1e-9)), name
        assert score.chance < score.perfect, name
        assert score.rescaled == pytest.approx(1, abs=0.05)
        if name != "explicitness":
            assert score.perfect == pytest.approx(1, abs=0.02), name
    assert perfect.verdict.startswith("Unit 0 (from 0) stands for shape. Unit 1 (from 0) stands for scale. Unit 2")


def test_noise_is_at_chance(factors: torch.Tensor) -> None:
    noise = torch.randn(len(factors), 3, generator=torch.Generator().manual_seed(0))
    found = disentanglement(noise, factors, names=NAMES, unordered=("shape",))
    for name, score in found.scores.items():
        spread = math.hypot(score.value.se, 0.05 if "modularity" in name else 0.01)
        assert abs(score.value.value - score.chance) < 5 * spread, name
    assert "No unit stands for one factor: MIG is at chance." in found.verdict
    assert "The code hardly tells shape, scale, x, by all its units together." in found.verdict


def test_a_turned_code_has_lost_its_units_but_not_what_they_tell(factors: torch.Tensor) -> None:
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)).double())[0]
    found = disentanglement((factors - factors.mean(0)) @ turn, factors, names=NAMES)
    for name in ("mig", "mig-sup", "dci-disentanglement", "dci-completeness", "sap"):
        assert found.scores[name].rescaled < 0.6, name
    assert found.scores["dci-informativeness"].value.value > 0.95
    assert found.verdict.startswith("No unit stands for one factor alone: MIG is 0.")


def test_errors_are_the_spread_over_other_data() -> None:
    """Errors against the spread of scores over 100 fresh data sets."""
    generator = torch.Generator().manual_seed(0)
    values, errors = [], []
    for _ in range(100):
        factors = torch.randint(0, 3, (400, 2), generator=generator).double()
        codes = factors + torch.randn(400, 2, generator=generator)
        scored = Labelled.of(codes, factors)
        mig = _counted(scored, scored, scored, None, generator)["mig"].value
        values.append(mig.value)
        errors.append(mig.se)
    # A little too large: without its outermost observation a unit has other bins.
    assert 0.85 < torch.tensor(errors).mean().item() / torch.tensor(values).std().item() < 1.5


@pytest.mark.parametrize("place", [0, 1, 3])
def test_dead_units_are_left_out_wherever_they_stand(
    factors: torch.Tensor, perfect: Disentanglement, place: int
) -> None:
    noise = 1e-6 * torch.randn(len(factors), 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    codes = torch.cat([factors[:, :place], noise, factors[:, place:]], 1)
    found = disentanglement(codes, factors, names=NAMES, unordered=("shape",))
    assert found.units == tuple(unit for unit in range(5) if unit not in (place, place + 1))
    assert found.best == {name: found.units[at] for at, name in enumerate(NAMES)}
    for name in ("mig", "modularity", "sap", "irs", "dci-disentanglement", "factor-vae-score"):
        assert found.scores[name].value.value == pytest.approx(perfect.scores[name].value.value, abs=0.01), name
    assert "2 dead units were left out first." in str(found)


def test_who_knows_better_says_which_units_are_alive(factors: torch.Tensor) -> None:
    found = disentanglement(factors, factors, names=NAMES, alive=[True, False, True])
    assert found.units == (0, 2)
    assert found.information.shape == (2, 3)


def test_a_collapsed_code_has_nothing(factors: torch.Tensor) -> None:
    for codes, alive in ((torch.zeros(len(factors), 2), None), (factors, [False] * 3)):
        found = disentanglement(codes, factors, names=NAMES, alive=alive)
        assert {score.value.value for score in found.scores.values()} == {0}
        assert found.best == dict.fromkeys(NAMES)
        assert found.verdict.startswith("The code is collapsed: no unit moves")
        json.dumps(found.to_json(), allow_nan=False)
        assert "none" in found.table


def test_constant_factors_are_left_out_and_named(factors: torch.Tensor) -> None:
    padded = torch.cat([torch.ones(len(factors), 1), factors], 1)
    found = disentanglement(factors, padded, names=("colour", *NAMES))
    assert found.constant == ("colour",)
    assert found.factor_names == NAMES
    assert "Of one value only, and left out: colour." in str(found)


def test_a_seed_gives_the_same_numbers(factors: torch.Tensor) -> None:
    codes = factors + torch.randn(factors.shape, generator=torch.Generator().manual_seed(0))
    first, again = (disentanglement(codes, factors, seed=3) for _ in range(2))
    assert first.to_json() == again.to_json()
    assert disentanglement(codes, factors, seed=4).to_json() != first.to_json()


def test_scores_print_with_chance_and_perfection(perfect: Disentanglement) -> None:
    lines = str(perfect).splitlines()
    assert lines[0] == "Disentanglement: 600 observations, 3 factors, 3 of 3 units alive, seed 0"
    assert lines[1].split() == ["score", "value", "error", "chance", "perfect"]
    assert lines[2] == "  MIG                        1.004 ± 0.000     0.005    1.004"
    assert all(len(line) <= 100 for line in lines)
    found = perfect.to_json()
    assert found["scores"]["mig"]["reference"] == "Chen et al. (2018), https://arxiv.org/abs/1802.04942"
    assert found["unordered"] == ["shape"]
    assert {"definition", "formula", "estimator"} <= found["scores"]["sap"].keys()


def test_it_tells_how_far_it_is(factors: torch.Tensor) -> None:
    told: list[tuple[int, int]] = []
    disentanglement(factors, factors, progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == [120, 240, 360, 480, 600]
    assert {total for _, total in told} == {600}


NONE = torch.zeros(100, 2)
SOME = torch.arange(200.0).view(100, 2)


@pytest.mark.parametrize(
    ("codes", "factors", "words", "error", "message"),
    [
        (SOME[:50], SOME, {}, ValueError, "Expected one row of factors for each of 50 codes; got 100."),
        (
            SOME[:99],
            SOME[:99],
            {},
            ValueError,
            "Expected at least 100 observations, .*; got 99.",
        ),
        (SOME[:, 0], SOME, {}, ValueError, r"Expected codes of shape \(N, L\); got \(100,\)."),
        (SOME, SOME[:, 0], {}, ValueError, r"Expected factors of shape \(N, F\); got \(100,\)."),
        (SOME[:, :0], SOME, {}, ValueError, r"Expected codes of shape \(N, L\); got \(100, 0\)."),
        (SOME.log(), SOME, {}, ValueError, "Expected finite codes; got NaN or infinity, first in row 0."),
        (SOME, SOME / (SOME != 7), {}, ValueError, "Expected finite factors; got NaN or infinity, first in row 3."),
        (SOME.cfloat(), SOME, {}, TypeError, "Expected codes that are real numbers; got torch.complex64."),
        (
            SOME,
            NONE,
            {},
            ValueError,
            "Expected at least one factor of two or more values; got factors that are",
        ),
        (SOME, SOME, {"names": ("a",)}, ValueError, "Expected 2 names, one for each factor; got 1."),
        (SOME, SOME, {"names": ("a", "b"), "unordered": ("c",)}, ValueError, "Expected unordered .* a, b; got c."),
        (
            SOME,
            SOME,
            {"alive": [True]},
            ValueError,
            r"Expected alive as 2 .*; got torch.bool of shape \(1,\).",
        ),
        (SOME, SOME, {"alive": [1, 0]}, ValueError, "Expected alive as 2 booleans, .*; got torch.int64"),
        (SOME, SOME, {"samples": SOME[:, :1]}, ValueError, r"Expected samples of shape \(100, 2\); got \(100, 1\)."),
        (SOME, SOME, {"seed": -1}, ValueError, "Expected a seed from 0"),
    ],
)
def test_what_cannot_be_scored_is_refused(codes, factors, words, error, message) -> None:
    with pytest.raises(error, match=message):
        disentanglement(codes, factors, **words)


# Of models


def linear(width: int, latent: int) -> tb.VAE:
    torch.manual_seed(0)
    return tb.VAE(
        prior=tb.priors.StandardNormal(latent),
        posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(width, 2 * latent)),
        likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(latent, width)),
    )


def test_a_model_is_scored_by_its_means_and_draws(factors: torch.Tensor) -> None:
    """An encoder that copies two factors, and a unit that is its prior."""
    model = linear(3, 3)
    with torch.no_grad():
        model.posterior.network.weight.zero_()
        model.posterior.network.bias.zero_()
        model.posterior.network.weight[0, 0] = model.posterior.network.weight[1, 1] = 2.0
        model.posterior.network.bias[3:5] = -8.0
    labels = factors[:, 0].long()
    observed = tb.data.Observations(factors.float(), labels, factors=factors, factor_names=NAMES)
    found = disentangle(model, observed)
    assert found.units == (0, 1)
    assert found.unordered == ("shape",)
    assert found.best["shape"] == 0
    assert found.best["scale"] == 1
    assert found.scores["mig-samples"].value.value == pytest.approx(found.scores["mig"].value.value, abs=0.05)
    torch.testing.assert_close(found.per_observation["codes"], model.embed(factors.float()))
    assert found.per_observation["factors"].equal(factors)
    few = disentangle(model, observed, observations=150)
    assert few.observations == len(few.per_observation["codes"]) == 150


def test_a_part_of_observations_has_its_own_factors(factors: torch.Tensor) -> None:
    observed = tb.data.Observations(factors.float(), factors=factors)
    rows = torch.arange(599, 399, -1)
    found = disentangle(linear(3, 2), observed.subset(rows))
    assert found.per_observation["factors"].equal(factors[rows])
    assert found.factor_names == ("factor 0", "factor 1", "factor 2")


def test_data_without_factors_are_refused() -> None:
    with pytest.raises(ValueError, match="Expected observations whose factors are known; got array, which has none"):
        disentangle(linear(5, 2), torch.randn(200, 5))


def test_observations_whose_factors_are_not_known_are_left_out() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 5)
    factors = x[:, :2].sign()
    factors[300:, 1] = torch.nan
    model = tb.VAE(
        prior=tb.priors.StandardNormal(2),
        posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
    )
    found = tb.evaluate.disentangle(model, tb.data.Observations(x, factors=factors))
    whole = tb.evaluate.disentangle(model, tb.data.Observations(x[:300], factors=factors[:300]))
    assert found.per_observation["factors"].shape == (300, 2)
    assert found.scores["mig"].value == whole.scores["mig"].value
    with pytest.raises(ValueError, match="Expected finite factors"):
        tb.evaluate.disentangle(model, tb.data.Observations(x, factors=torch.full((400, 2), torch.nan)))
