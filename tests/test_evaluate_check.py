"""All checks in one: which are made, which are left out and why, and what they say together."""

from __future__ import annotations

import json

import pytest
import torch
from oracle import linear_gaussian
from test_contract import TwoLayers
from torch import nn

import tightbound as tb
from tightbound.evaluate import Checks, calibration, check, fidelity, neighbours, predictive

TRUE = linear_gaussian()
EVERY = ["posterior", "refined", "predictive", "neighbours", "fidelity"]


def data(count: int) -> torch.Tensor:
    torch.manual_seed(count)
    return TRUE.evidence.sample((count,))


def test_each_check_is_the_one_that_is_made_by_itself() -> None:
    model, train, others = TRUE.model(TRUE.wrong_posterior()), data(200), data(60)
    seen: list[tuple[int, int]] = []
    found = check(
        model, train, others, observations=80, seed=3, progress=lambda done, total: seen.append((done, total))
    )
    assert list(found.made) == EVERY
    assert not found.skipped
    common = {"observations": 80, "seed": 3}
    alone = Checks(
        posterior=calibration(model, **common),
        refined=calibration(model, proposal="refined", **common),
        predictive=predictive(model, others, **common),
        neighbours=neighbours(model, train, others, **common),
        fidelity=fidelity(model, train, others, **common),
        skipped={},
    )
    assert found.to_json() == alone.to_json()
    assert seen == sorted(seen)
    assert seen[-1] == (580, 580)  # 80, 80, 60 + 80, 60 + 80, 60 + 80


def test_what_they_say_together() -> None:
    right = check(TRUE.model(TRUE.exact_posterior()), data(2000), data(300), observations=300)
    assert right.fine
    assert right.verdict.startswith("5 of 5 checks found nothing wrong.\n\nThe posterior's intervals cover")
    wrong = check(TRUE.model(TRUE.wrong_posterior()), data(2000), data(300), observations=300)
    assert not wrong.fine
    assert wrong.verdict.startswith("1 of 5 checks found something: intervals of q(z|x).\n\n")
    text = str(wrong)
    for each in wrong.made.values():
        assert each.table in text
        assert each.verdict in wrong.verdict
    plain = wrong.to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_codes_have_no_ranks() -> None:
    torch.manual_seed(0)
    model = tb.VAE(
        tb.priors.Bernoulli(3), tb.posteriors.Bernoulli(nn.Linear(9, 3)), tb.likelihoods.Bernoulli(nn.Linear(3, 9))
    )
    seen: list[tuple[int, int]] = []
    found = check(
        model,
        model.sample(50),
        model.sample(20),
        observations=20,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (160, 160)  # what is left out counts as done
    assert seen[0][0] > 40
    assert list(found.made) == EVERY[2:]
    assert list(found.skipped) == EVERY[:2]
    assert "Left out, intervals of q(z|x): its latents are discrete, at least in part, and a code has no rank." in str(
        found
    )
    assert found.to_json()["posterior"] is None


@pytest.mark.parametrize(("latent", "left_out"), [(512, []), (513, ["refined"])])
def test_many_latents_are_not_fitted_to(latent: int, left_out: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tb.VAE(
        tb.priors.StandardNormal(latent),
        tb.posteriors.DiagonalNormal(nn.Linear(3, 2 * latent)),
        tb.likelihoods.Gaussian(nn.Linear(latent, 3)),
    )
    asked = []
    for name in ("calibration", "predictive", "neighbours", "fidelity"):
        monkeypatch.setitem(
            check.__globals__, name, lambda *_, proposal="", _name=name, **__: asked.append(proposal or _name)
        )
    found = check(model, torch.randn(12, 3), torch.randn(6, 3))
    assert list(found.skipped) == left_out
    assert asked == [name for name in EVERY if name not in left_out]
    assert all(
        "513 latent dimensions, and proposals are fitted to at most 512" in why for why in found.skipped.values()
    )


def test_a_likelihood_that_is_none_has_no_draws_like_its_data() -> None:
    grey = tb.VAE(
        tb.priors.StandardNormal(2),
        tb.posteriors.DiagonalNormal(nn.Linear(9, 4)),
        tb.likelihoods.UnnormalisedBernoulli(nn.Linear(2, 9)),
    )
    found = check(grey, torch.rand(20, 9), torch.rand(5, 9), observations=10)
    assert list(found.skipped) == EVERY[2:]
    assert "its likelihood does not sum or integrate to one" in found.skipped["predictive"]


def test_one_held_out_observation_is_too_few_to_compare() -> None:
    found = check(TRUE.model(TRUE.wrong_posterior()), data(20), data(1), observations=10)
    assert list(found.skipped) == EVERY[2:]
    assert "there is one held-out observation, which shows no error" in found.skipped["neighbours"]


@pytest.mark.parametrize(("observations", "held_out", "train"), [(5, 30, 30), (30, 5, 30), (30, 30, 11)])
def test_few_observations_have_too_few_neighbours_to_tell_quality(observations: int, held_out: int, train: int) -> None:
    found = check(TRUE.model(TRUE.wrong_posterior()), data(train), data(held_out), observations=observations)
    assert list(found.made) == EVERY[:4]
    assert found.skipped == {
        "fidelity": "it takes 6 observations, as many held-out ones and 12 training ones, to have 5 neighbours each."
    }


def test_what_cannot_be_checked_is_refused() -> None:
    model = TRUE.model(TRUE.wrong_posterior())
    with pytest.raises(TypeError, match="Expected a VAE, which can simulate observations with their latents; got Two"):
        check(TwoLayers(), data(5), data(5))
    with pytest.raises(ValueError, match="Expected at least 2 observations, which show an error; got observations=1"):
        check(model, data(5), data(5), observations=1)
    with pytest.raises(ValueError, match="shape"):
        check(model, data(5), torch.zeros(5, 4, dtype=torch.float64))


def test_values_by_observation_are_kept() -> None:
    found = check(TRUE.model(TRUE.wrong_posterior()), data(200), data(60), observations=80)
    kept = found.per_observation
    assert kept["ranks"].shape == kept["ranks_refined"].shape == (80, 2)
    assert kept["ranks"].dtype == torch.uint8
    assert kept["p_values"].shape == kept["elbo_ranks"].shape == kept["held_out_distances"].shape == (60,)
    assert kept["distances"].shape == kept["nearest"].shape == (80,)
    assert kept["examples"].shape == kept["means"].shape == kept["closest"].shape == (12, 5)
    for name in ("best", "worst", "worst_nearest", "missed"):
        assert kept[name].shape == (12, 5)
    assert set(Checks(predictive=found.predictive, skipped={}).per_observation) == {
        "p_values", "simulated_p_values", "elbo", "simulated_elbo", "elbo_ranks",
    }  # fmt: skip
