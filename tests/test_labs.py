"""Labs: exact answers, estimates within their own errors, parts that add up, and how the command line gives them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from tiny import refused, said

import tightbound as tb
from tightbound.distributions.reparameterised import EULER
from tightbound.labs import LABS, Result, draws, estimators, training
from tightbound.labs.catalogue import find
from tightbound.runtime import own_random_state

SMALL: dict[str, dict[str, Any]] = {
    "reparameterisation": {"draws": 200},
    "bounds": {"observations": 20, "samples": 16},
    "known-evidence": {"epochs": 2, "samples": 10},
    "gradients": {"latents": 2, "repeats": 40},
    "discrete": {"repeats": 200},
    "trade-off": {"betas": (0.5, 4), "epochs": 0.5, "latent_dim": 2, "samples": 2},
    "rate-distortion": {"betas": (1, 4), "epochs": 0.5, "latent_dim": 2},
    "decomposition": {"epochs": 0.5, "latent_dim": 2},
}
every_lab = pytest.mark.parametrize("name", LABS)


def small(name: str, **changes: Any) -> Result:
    with pytest.MonkeyPatch.context() as patch:  # of the lab that has its sizes written down
        for constant, value in (("LATENTS", (2, 3)), ("SAMPLES", (1, 2)), ("WEIGHTED", (1, 4))):
            patch.setattr(estimators, constant, value)
        return LABS[name].load()(**{**SMALL.get(name, {}), **changes})


def within(row: dict[str, float], value: str, exact: float, errors: float = 4.0) -> bool:
    return abs(row[value] - exact) <= errors * row["se"] + 1e-12


# What holds for every lab


@every_lab
def test_a_lab_is_reproducible_and_disturbs_nobody(name):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = small(name)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert small(name).to_json() == first.to_json()
    assert small(name, seed=1).to_json() != {**first.to_json(), "seed": 1}


@every_lab
def test_a_lab_gives_strict_json_words_and_a_figure_with_its_description(name, tmp_path):
    found = small(name)
    assert (found.name, found.to_json()["lab"]) == (name, name)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False)) == found.to_json()
    assert len(found.text.splitlines()) > 5
    assert max(map(len, found.text.splitlines())) <= 100
    assert isinstance(found.figure, Figure)
    assert tb.plots.alt_text(found.figure)
    assert [path.name for path in found.save(tmp_path)] == [f"{name}.png", f"{name}.json", f"{name}.txt"]
    assert (tmp_path / f"{name}.txt").read_text(encoding="utf-8") == f"{found}\n"


@every_lab
def test_a_lab_teaches(name):
    function = LABS[name].load()
    assert getattr(tb.labs, name.replace("-", "_")) is function
    for words in (".. math::", "What to look for:", "References:", "https://", ">>> "):
        assert words in function.__doc__


@every_lab
@pytest.mark.parametrize(
    ("seed", "error", "message"),
    [
        (-1, ValueError, "Expected a seed from 0 to 2⁶³ − 1; got -1. 0 will do."),
        (2**63, ValueError, "Expected a seed from 0 to 2⁶³ − 1; got 9223372036854775808. 0 will do."),
        (0.5, TypeError, "Expected a whole number as seed; got 0.5. 0 will do."),
        (True, TypeError, "Expected a whole number as seed; got True. 0 will do."),
    ],
)
def test_a_seed_that_is_none_is_refused(name, seed, error, message):
    with pytest.raises(error, match=message):
        small(name, seed=seed)


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("reparameterisation", {"draws": 99}, ValueError, "draws of at least 100; got 99. Fewer show neither a shape"),
        ("reparameterisation", {"draws": 1e3}, TypeError, "Expected a whole number for draws; got 1000.0. For example"),
        ("bounds", {"observations": 1}, ValueError, "observations of at least 2; got 1. One shows no spread."),
        ("bounds", {"samples": 1}, ValueError, "samples of at least 2; got 1. With one sample there is no bound but"),
        ("gradients", {"latents": 0}, ValueError, "latents of at least 1; got 0. A model without latents has no"),
        ("gradients", {"repeats": 39}, ValueError, "repeats of at least 40; got 39. Bias and variance would have no"),
        ("discrete", {"repeats": 99}, ValueError, "repeats of at least 100; got 99. Fewer show no bias beside their"),
        ("discrete", {"phi": math.inf}, ValueError, "Expected phi between −4 and 4; got inf. A bit that is nearly"),
        ("trade-off", {"betas": (1,)}, ValueError, r"two different values of betas at least; got \(1,\). For example"),
        ("trade-off", {"betas": (1, 1.0)}, ValueError, r"two different values of betas at least; got \(1, 1.0\)."),
        ("trade-off", {"betas": (1, -2)}, ValueError, "Expected finite betas of 0 or more; got -2. Leave it out."),
        ("trade-off", {"betas": (1, math.nan)}, ValueError, "Expected finite betas of 0 or more; got nan."),
        ("rate-distortion", {"betas": (1,)}, ValueError, r"two different values of betas at least; got \(1,\)."),
        ("rate-distortion", {"betas": (1, 0)}, ValueError, "Expected finite betas above 0; got 0. Leave it out."),
        ("rate-distortion", {"epochs": -1}, ValueError, "Expected a finite number of epochs above 0; got -1."),
        ("trade-off", {"samples": 0}, ValueError, "samples of at least 1; got 0. Each observation needs one draw"),
        ("trade-off", {"epochs": 0}, ValueError, "Expected a finite number of epochs above 0; got 0. A short lab"),
        ("trade-off", {"latent_dim": 1}, ValueError, "latent_dim of at least 2; got 1. There is nothing to trade"),
        ("decomposition", {"epochs": math.inf}, ValueError, "Expected a finite number of epochs above 0; got inf."),
        ("decomposition", {"latent_dim": True}, TypeError, "Expected a whole number for latent_dim; got True."),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_do(name, arguments, error, message):
    with pytest.raises(error, match=message):
        small(name, **arguments)


# Reparameterisation


def rows(count: int) -> dict[tuple[str, str], dict[str, float]]:
    found = tb.labs.reparameterisation(draws=count)
    return {(each["family"], row["quantity"]): row for each in found.numbers["families"] for row in each["rows"]}


def test_exact_moments_and_gradients_are_those_of_the_textbook():
    found = {key: row["exact"] for key, row in rows(100).items()}
    m, s = 0.2, 0.5  # the log-normal's
    mean = 0.5 + EULER * 0.8  # the Gumbel's
    expected = {
        ("normal", "mean"): 1.0,
        ("normal", "standard deviation"): 0.5,
        ("normal", "d/dμ E z²"): 2.0,
        ("normal", "d/dσ E z²"): 1.0,
        ("log-normal", "mean"): math.exp(m + s**2 / 2),
        ("log-normal", "standard deviation"): math.exp(m + s**2 / 2) * math.sqrt(math.exp(s**2) - 1),
        ("log-normal", "d/dμ E z²"): 2 * math.exp(2 * m + 2 * s**2),
        ("log-normal", "d/dσ E z²"): 4 * s * math.exp(2 * m + 2 * s**2),
        ("exponential", "mean"): 1 / 1.5,
        ("exponential", "standard deviation"): 1 / 1.5,
        ("exponential", "d/dλ E z²"): -4 / 1.5**3,
        ("Gumbel", "mean"): mean,
        ("Gumbel", "standard deviation"): math.pi * 0.8 / math.sqrt(6),
        ("Gumbel", "d/dμ E z²"): 2 * mean,
        ("Gumbel", "d/dβ E z²"): 2 * mean * EULER + math.pi**2 * 0.8 / 3,
    }
    assert found == pytest.approx(expected, rel=1e-12)


def test_estimates_lie_within_their_own_errors_and_the_errors_are_honest():
    scores = np.array([drawn_off(seed) for seed in range(40)])
    assert (np.abs(scores) < 4.5).all()
    assert (np.abs(scores.mean(0)) < 4 / math.sqrt(40)).all()  # no bias beyond noise
    spread = np.sqrt((scores**2).mean(0))  # one for each quantity: half or twice the true error would show
    assert spread.min() > 0.62, spread
    assert spread.max() < 1.5, spread


def drawn_off(seed: int) -> list[float]:
    with own_random_state(torch.device("cpu"), seed=seed):
        return [row["off"] for family in draws.FAMILIES for row in draws._draw(family, 2000).rows]


def test_more_draws_give_smaller_errors():
    few, many = rows(1000), rows(16_000)
    for key in few:
        assert many[key]["se"] < few[key]["se"] / 2


# Bounds


@pytest.fixture(scope="module")
def solved() -> dict[str, Any]:
    return dict(tb.labs.bounds(observations=200, samples=256).numbers)


def test_the_gap_is_the_kl_to_rounding(solved):
    assert solved["largest_difference"] < 1e-12
    for each in solved["posteriors"]:
        assert each["gap"] == pytest.approx(each["kl"], abs=1e-12)
        assert solved["log_px"] - each["elbo"] == pytest.approx(each["kl"], abs=1e-12)


def test_each_posterior_is_off_by_the_amount_that_is_known_by_hand(solved):
    r = torch.linalg.inv(posterior_precision())
    correlation = float(r[0, 1] / (r[0, 0] * r[1, 1]).sqrt())
    expected = {
        "exact": 0.0,
        "mean off by 1 sd": 0.5,
        "1.5 times too wide": 1.5**2 - 1 - 2 * math.log(1.5),
        "0.6 times as wide": 0.6**2 - 1 - 2 * math.log(0.6),
        "no correlation": -0.5 * math.log(1 - correlation**2),
    }
    assert {each["posterior"]: each["kl"] for each in solved["posteriors"]} == pytest.approx(expected, abs=1e-12)


def posterior_precision() -> torch.Tensor:
    weight = torch.tensor([[1.0, 0.9], [0.8, 0.6], [0.3, -0.2], [-0.4, -0.1], [0.6, 0.8]], dtype=torch.float64)
    return torch.eye(2, dtype=torch.float64) + weight.T @ weight / 0.7**2


def test_draws_give_the_same_gap_within_their_errors(solved):
    for each in solved["posteriors"]:
        assert within(each["bounds"][0], "gap", each["kl"])


def test_bounds_rise_with_k_and_stay_below_log_px(solved):
    for each in solved["posteriors"]:
        assert [bound["k"] for bound in each["bounds"]] == [2**i for i in range(9)]
        for lower, higher in zip(each["bounds"], each["bounds"][1:], strict=False):
            assert higher["value"] >= lower["value"] - 4 * max(lower["se"], higher["se"]) - 1e-12
        assert all(bound["value"] <= solved["log_px"] + 4 * bound["se"] + 1e-12 for bound in each["bounds"])
        assert all(bound["value"] == pytest.approx(solved["log_px"] - bound["gap"]) for bound in each["bounds"])


def test_with_the_exact_posterior_every_bound_is_log_px_at_every_draw(solved):
    for bound in solved["posteriors"][0]["bounds"]:
        assert abs(bound["gap"]) < 1e-12
        assert bound["se"] < 1e-12


def test_the_gap_of_many_samples_is_the_variance_of_the_weights_over_2k(solved):
    found = {each["posterior"]: each for each in solved["posteriors"]}
    assert found["mean off by 1 sd"]["variance_of_weights"] == pytest.approx(math.e - 1)
    assert found["1.5 times too wide"]["variance_of_weights"] == pytest.approx(1.5**4 / (2 * 1.5**2 - 1) - 1)
    assert found["exact"]["variance_of_weights"] == pytest.approx(0, abs=1e-12)
    assert found["0.6 times as wide"]["variance_of_weights"] is None  # 0.6² < ½: infinite
    assert found["no correlation"]["variance_of_weights"] is None
    bound = found["1.5 times too wide"]["bounds"][4]
    assert bound["gap_for_large_k"] == pytest.approx(found["1.5 times too wide"]["variance_of_weights"] / 32)
    assert within(bound, "gap", bound["gap_for_large_k"], errors=5)


# Gradients


@pytest.fixture(scope="module")
def estimated() -> dict[str, Any]:
    return dict(tb.labs.gradients(latents=4, repeats=80).numbers)


def of(comparison: dict[str, Any], name: str, samples: int) -> dict[str, Any]:
    [row] = [row for row in comparison["estimates"] if (row["gradient"], row["samples"]) == (name, samples)]
    return row


def test_the_gradient_of_the_elbo_is_missed_by_none(estimated):
    assert estimated["elbo"]["reference"] == "the gradient given"
    for comparison in (estimated["elbo"], *estimated["by_latents"].values()):
        assert not [row for row in comparison["estimates"] if row["is_biased"]]


def test_the_closed_form_is_the_gradient_of_many_draws():
    with own_random_state(torch.device("cpu"), seed=3):
        problem = estimators._Problem(3, 0.7)
    found = tb.gradients.compare(
        problem.model, problem.x, [tb.gradients.StickingTheLanding()], samples=(400,), repeats=40, exact=problem.exact()
    )
    assert not found.estimates[0].is_biased
    assert found.estimates[0].bias_bound < 0.02 * found.length[400]


def test_noise_is_where_theory_has_it(estimated):
    elbo = estimated["elbo"]
    assert of(estimated["exact_posterior"], "sticking the landing", 1)["variance"] < 1e-20
    assert of(estimated["exact_posterior"], "pathwise", 1)["variance"] > 0.1
    for name in ("score function", "pathwise", "sticking the landing"):
        few, many = of(elbo, name, 1), of(elbo, name, 20)
        assert abs(few["variance"] / 20 - many["variance"]) < 5 * (few["variance_se"] / 20 + many["variance_se"])
    order = ("sticking the landing", "pathwise", "score, leave-one-out", "score function")
    noise = [of(elbo, name, 5)["variance"] for name in order]
    assert noise == sorted(noise)
    ratios = [
        of(each, "score function", 2)["variance"] / of(each, "pathwise", 2)["variance"]
        for each in estimated["by_latents"].values()
    ]
    assert ratios == sorted(ratios)
    assert ratios[-1] > 10 * ratios[0]


def test_weighted_bounds_drown_the_plain_gradient_and_bias_the_landing(estimated):
    weighted = estimated["iwae"]
    plain, double = (
        [estimators._signal(weighted, name, k) for k in (1, 64)] for name in ("pathwise", "doubly reparameterised")
    )
    assert plain[1] < plain[0] / 2
    assert double[1] > 5 * plain[1]
    assert of(weighted, "sticking the landing", 64)["is_biased"]
    assert not of(weighted, "doubly reparameterised", 64)["is_biased"]


# Discrete


@pytest.fixture(scope="module")
def bit() -> dict[str, Any]:
    return dict(tb.labs.discrete(repeats=50_000).numbers)


def test_every_unbiased_estimator_hits_the_gradient_of_a_bit(bit):
    p = 1 / (1 + math.exp(-0.5))
    biased = {"straight-through", "Gumbel-softmax (t = 0.5)", "hard Gumbel-softmax (t = 0.5)"}
    for row in bit["estimates"]:
        assert row["exact"] == pytest.approx((1 - 2 * row["target"]) * p * (1 - p), abs=1e-15)
        if row["estimator"] == "enumeration":
            assert row["estimate"] == pytest.approx(row["exact"], abs=1e-15)
            assert row["noise"] == 0
        elif row["estimator"] in biased:
            assert abs(row["off"]) > 10
        else:
            assert abs(row["off"]) < 4.5
    assert {row["estimator"] for row in bit["estimates"]} > biased


def test_straight_through_and_relaxed_bits_are_off_by_what_can_be_computed(bit):
    p, phi = 1 / (1 + math.exp(-0.5)), 0.5
    for row in bit["estimates"]:
        if row["estimator"] == "straight-through":
            assert within(row, "estimate", 2 * (p - row["target"]) * p * (1 - p), errors=4.5)
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000  # the noise's quantiles: an integral, not draws
    for row in bit["over_temperature"]:
        if row["temperature"] < 0.5:
            continue  # so steep that the grid is too coarse
        soft = torch.sigmoid((phi + torch.logit(u)) / row["temperature"])
        mean = (2 * (soft - row["target"]) * soft * (1 - soft) / row["temperature"]).mean()
        assert within(row, "estimate", float(mean), errors=4.5)


def test_a_lower_temperature_has_more_noise(bit):
    noise = [row["noise"] for row in bit["over_temperature"]]
    assert noise == sorted(noise, reverse=True)


# Trade-off


@pytest.fixture(scope="module")
def swept() -> Result:
    return tb.labs.trade_off(betas=(0.1, 1, 8), epochs=12, latent_dim=6, samples=50)


def test_a_larger_beta_costs_distortion_and_saves_rate(swept):
    small_beta, one, large = swept.numbers["rows"]
    assert [row["beta"] for row in swept.numbers["rows"]] == [0.1, 1, 8]
    assert small_beta["rate"] > one["rate"] > large["rate"]
    assert small_beta["distortion"] < one["distortion"] < large["distortion"]
    assert one["elbo"] > max(small_beta["elbo"], large["elbo"])
    assert large["active_units"] == 0
    for row in swept.numbers["rows"]:
        assert row["elbo"] == pytest.approx(-row["distortion"] - row["rate_sampled"], abs=1e-6)
        assert row["elbo"] <= -row["nll"]
        assert row["observations"] == 162


def test_the_curves_are_made_of_their_two_terms(swept):
    for curve, row in zip(swept.numbers["curves"], swept.numbers["rows"], strict=True):
        assert curve["beta"] == row["beta"]
        assert len(curve["points"]) == 12
        for point in curve["points"]:
            assert point["elbo"] == point["reconstruction"] - point["kl"]
            assert point["objective"] == pytest.approx(point["reconstruction"] - curve["beta"] * point["kl"])
        best = max(curve["points"], key=lambda point: point["objective"])  # whose weights are kept
        assert best["kl"] == pytest.approx(row["rate"], abs=1e-3)


def test_the_choice_is_that_of_a_sweep(swept):
    chosen = {choice["purpose"]: choice["value"] for choice in swept.numbers["choices"]}
    likeliest = min(swept.numbers["rows"], key=lambda row: row["nll"])["beta"]
    assert chosen == {"generation": likeliest, "representation": 0.1, "disentanglement": 1}
    for purpose, value in chosen.items():
        assert any(purpose in line and f" {value} " in line for line in swept.text.splitlines())


# Decomposition


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    return dict(tb.labs.decomposition(epochs=14, latent_dim=4).numbers)


def test_the_parts_add_up_to_the_loss_to_rounding(parts):
    assert parts["largest_difference"] < 1e-12
    assert parts["steps"] == parts["lines"][-1]["step"]
    for line in parts["lines"]:
        assert line["loss"] == pytest.approx(line["distortion"] + sum(line["rates"]), abs=1e-12)
        assert min(line["rates"]) >= 0


def test_latents_wake_and_the_distortion_falls_by_more_than_they_cost(parts):
    first, last = parts["lines"][2], parts["lines"][-1]
    assert any(latent["awake_by"] for latent in parts["latents"])
    assert first["distortion"] - last["distortion"] > sum(last["rates"]) - sum(first["rates"])
    for latent in parts["latents"]:
        rates = {line["step"]: line["rates"][latent["latent"]] for line in parts["lines"]}
        by = latent["awake_by"]
        assert latent["rate_at_the_end"] == rates[parts["steps"]]
        assert (rates[parts["steps"]] < 0.1) if by is None else min(r for s, r in rates.items() if s >= by) >= 0.1


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([0.2, 0.05, 0.1, 0.3], 30),
        ([0.2, 0.2, 0.2, 0.2], 10),
        ([0.2, 0.2, 0.2, 0.0999], None),
        ([0.0, 0.0, 0.0, 0.1], 40),
    ],
)
def test_a_latent_is_awake_once_it_no_longer_falls_asleep(rates, expected):
    assert training._awake_by([10, 20, 30, 40], np.array(rates)) == expected


def test_a_rate_without_parts_is_refused():
    model = tb.VAE(
        tb.priors.MixtureOfNormals(2, components=3),
        tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
    )
    with pytest.raises(TypeError, match=r"Expected a posterior and a prior that factorise.*Take DiagonalNormal and"):
        training._ByDimension()(model, torch.zeros(3, 5))


# The command line


def test_the_labs_are_listed_with_what_they_teach(capsys):
    code, out, error = said(capsys, "lab")
    _, shown, _ = said(capsys, "lab", "--help")
    assert (code, error) == (0, "")
    for lab in LABS.values():
        assert f"{lab.name} " in out
        for text in (out, shown):
            assert lab.teaches in " ".join(text.split())


def test_a_lab_prints_its_words_and_where_its_files_are(capsys, tmp_path):
    code, out, error = said(capsys, "lab", "reparameterisation", "--out", tmp_path / "made")
    assert (code, error) == (0, "")
    paths = [Path(line) for line in out.splitlines()[-3:]]
    assert [path.name for path in paths] == [f"reparameterisation.{kind}" for kind in ("png", "json", "txt")]
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert out.startswith(paths[2].read_text(encoding="utf-8"))


def test_json_alone_goes_to_standard_output_and_a_lab_may_overwrite_itself(capsys, tmp_path):
    (tmp_path / "reparameterisation.json").write_text("of an earlier call")
    code, out, error = said(capsys, "lab", "reparameterisation", "--json", "--seed", "3", "--out", tmp_path)
    found = json.loads(out)
    assert (code, found["lab"], found["seed"], found["draws"]) == (0, "reparameterisation", 3, 20_000)
    assert error.splitlines() == [str(tmp_path / f"reparameterisation.{kind}") for kind in ("png", "json", "txt")]
    assert json.loads((tmp_path / "reparameterisation.json").read_text(encoding="utf-8")) == found


def test_the_default_folder_is_labs(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "trade_off", lambda **given: Result("trade-off", given, "words", Figure()))
    code, out, error = said(capsys, "lab", "trade_off")
    assert (code, out) == (0, "words\n\nlabs/trade-off.png\nlabs/trade-off.json\nlabs/trade-off.txt\n")
    assert error == "Training; this takes some seconds.\n"
    made = json.loads((tmp_path / "labs" / "trade-off.json").read_text(encoding="utf-8"))
    assert made == {"lab": "trade-off", "seed": 0, "progress": True}


def test_wrong_requests_say_what_to_ask_for(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    assert refused(capsys, "lab", "bonds").endswith("got 'bonds'. Did you mean 'bounds'?\n")
    assert refused(capsys, "lab", "xyzzy").endswith("decomposition); got 'xyzzy'.\n")
    assert "Expected a seed from 0 to 2⁶³ − 1; got -1." in refused(capsys, "lab", "bounds", "--seed", "-1")
    error = refused(capsys, "lab", "bounds", "--out", tmp_path / "file")
    assert f"Expected --out to be a folder; got {tmp_path / 'file'}, which is a file. Choose another." in error


def test_names_are_found_as_either_language_writes_them():
    assert find("trade_off") is find("trade-off") is LABS["trade-off"]
