"""The curve of rate and distortion on real data: exact for linear models, and what a hidden layer wins."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from tightbound.autoencoder import VAE
from tightbound.data import Data, Observations, load
from tightbound.evaluate import evidence
from tightbound.labs.linear_gaussian import BestLinear
from tightbound.labs.result import Result
from tightbound.labs.words import advancing, require_betas, require_sizes, table
from tightbound.likelihoods import Gaussian
from tightbound.networks import MLP, Standardized, end_in_zeros, xavier_
from tightbound.objectives import ELBO
from tightbound.plots import style
from tightbound.plots.figure import Figure
from tightbound.posteriors import DiagonalNormal
from tightbound.priors import StandardNormal
from tightbound.runtime import own_random_state
from tightbound.threads import on_threads
from tightbound.training import Training, fit

__all__ = ["rate_distortion"]

BETAS = (0.25, 1, 4, 16)
SIGMA = 0.2  # of pixels between 0 and 1
KINDS = {"linear": ((), 0.1), "nonlinear": ((128,), 0.01)}  # hidden layers of both networks, and the learning rate
SAMPLES = 50  # draws of each digit: their noise moves a mean by hundredths of a nat
ALIVE = 0.01  # nats: a latent with less says nothing


def rate_distortion(
    *,
    betas: Sequence[float] = BETAS,
    epochs: float = 150,
    latent_dim: int = 16,
    seed: int = 0,
    progress: bool = False,
) -> Result:
    r"""The curve of rate and distortion of scikit-learn's digits, exact for linear models, and beside it trained ones.

    .. math:: \min_{\text{model}} \; \text{distortion} + \beta \, \text{rate}, \qquad
              \text{rate} = \sum_{i \le L} \tfrac12 \log^+ \frac{\lambda_i}{\beta \sigma^2}

    Encoder and decoder are linear or have a hidden layer; the decoder's σ is fixed. What linear models can reach
    depends on the data by their covariance alone, so the minimum is known in closed form for real data as well:
    :class:`~tightbound.labs.linear_gaussian.BestLinear`. Both kinds are trained by samples of the β-weighted bound, as
    any VAE is.

    What to look for: linear models end on the exact curve, a latent for each direction with more variance than β σ².
    Non-linear ones end below it: with the same rate less distortion, as long as the code says much. Held-out digits
    beside them show what was learned by heart, most of it at the smallest β.

    References:
        Alemi et al.: Fixing a Broken ELBO (2018), https://arxiv.org/abs/1711.00464; Lucas et al.: Don't Blame the ELBO!
        (2019), https://arxiv.org/abs/1911.02469; Cover, Thomas: Elements of Information Theory (2006),
        https://doi.org/10.1002/047174882X.

    Args:
        betas: the weights of the rate, two at least, above 0.
        epochs: passes over the training set, for each run.
        latent_dim: latent dimensions, L.
        seed: of weights, noise and batches: the same for every run.
        progress: whether to show on a terminal how it goes.

    Returns:
        Numbers, words and a figure: the exact curve, where trained models end, and how many latents are alive.

    Raises:
        TypeError: for counts that are no whole numbers.
        ValueError: for fewer than two β, values that are not above 0, not finite or given twice, and sizes out of
            range.

    Example:
        >>> found = rate_distortion(betas=(1, 4), epochs=1, latent_dim=2)
        >>> [row["exact"]["alive"] for row in found.numbers["rows"]]
        [2, 2]
    """
    require_betas(betas, zero=False)
    require_sizes(epochs, seed, latent_dim)
    data = load("digits")
    best = BestLinear.of(data.train.eval_batch().x.flatten(1), sigma=SIGMA, latent=latent_dim)
    rows = []
    with on_threads(1), advancing(len(betas) * len(KINDS), show=progress) as advance:
        for beta in sorted(betas):
            row: dict[str, Any] = {"beta": beta, "exact": _exact(best, beta)}
            for kind, (hidden, learning_rate) in KINDS.items():
                model = _start(data, latent_dim, hidden=hidden, seed=seed)
                _train(model, data, ELBO(beta=beta, kl="closed-form"), epochs, rate=learning_rate, seed=seed)
                row[kind] = _measured(model, data.train)
                advance(1)
            row["nonlinear_held_out"] = _measured(model, data.test)
            rows.append(row)
    fine = np.geomspace(rows[0]["beta"] / 1.5, rows[-1]["beta"] * 1.5, 200).tolist()
    numbers = {
        "sigma": SIGMA,
        "latent_dim": latent_dim,
        "epochs": epochs,
        "seed": seed,
        "observations": len(data.train),
        "held_out": len(data.test),
        "rows": rows,
        "curve": [{"beta": beta, **_exact(best, beta)} for beta in fine],
    }
    return Result("rate-distortion", numbers, _words(numbers), _figure(numbers))


def _exact(best: BestLinear, beta: float) -> dict[str, Any]:
    return {"rate": best.rate(beta), "distortion": best.distortion(beta), "alive": best.alive(beta)}


def _start(data: Data, latent: int, *, hidden: Sequence[int], seed: int) -> VAE:
    """A VAE of the digits as grey values, whose decoder starts at the mean."""
    shape, mean = data.train.shape, data.train.eval_batch().x.mean(0)
    with own_random_state(torch.device("cpu"), seed=seed):
        encoder = MLP(shape, (2 * latent,), hidden=hidden, act="silu")
        decoder = MLP((latent,), shape, hidden=hidden[::-1], act="silu")
        xavier_(encoder)
        end_in_zeros(encoder, latent)  # variances of 1: what is linear in x under an exponential would start far off
        xavier_(decoder)
    return VAE(
        StandardNormal(latent),
        DiagonalNormal(Standardized(encoder, mean, torch.full_like(mean, SIGMA))),
        Gaussian(decoder, scale=SIGMA, centre=mean),
    )


def _train(model: VAE, data: Data, objective: ELBO, epochs: float, *, rate: float, seed: int) -> None:
    settings = Training(
        epochs=epochs,
        batch_size=256,
        learning_rate=rate,
        warmup_steps=50,
        validation=0,
        log_every=10_000,
        device="cpu",
        precision="float32",
        compile="never",
    )
    fit(model, data, objective=objective, seed=seed, progress=False, settings=settings)


def _measured(model: VAE, observed: Observations) -> dict[str, Any]:
    found = evidence(model, observed, samples=SAMPLES, proposal="posterior", precision="float32")
    nats = found.kl_per_dimension if found.kl_per_dimension is not None else Tensor()
    return {
        "rate": found.rate.value,
        "distortion": found.distortion.value,
        "alive": int((nats > ALIVE).sum()),
    }


def _words(numbers: Mapping[str, Any]) -> str:
    ends, weighed = [], []
    for row in numbers["rows"]:
        beta = row["beta"]
        each = [row[kind] for kind in ("exact", *KINDS)]
        ends.append([f"{beta:g}", *(f"{of[name]:.2f}" for of in each for name in ("rate", "distortion"))])
        least = _weighed(row["exact"], beta)
        above = [_weighed(row[kind], beta) - least for kind in (*KINDS, "nonlinear_held_out")]
        alive = [str(of["alive"]) for of in each]
        weighed.append([f"{beta:g}", f"{least:.2f}", *(f"{value:+.2f}" for value in above), *alive])
    return "\n".join(
        [
            f"Rate and distortion: {numbers['observations']} digits, σ = {numbers['sigma']}, {numbers['latent_dim']} "
            f"latents, seed {numbers['seed']}. Nats per digit.",
            "",
            "  Where training ends, on the digits it has seen: rate and distortion of each.",
            table(["β", "exact linear", "", "trained linear", "", "trained non-linear", ""], ends),
            "",
            "  distortion + β · rate, how far above the least of linear models; and latents with 0.01 nats.",
            table(["β", "least", "linear", "non-linear", "held out", "alive: exact", "linear", "non-linear"], weighed),
            "",
            textwrap.fill(_said(numbers), width=100),
        ]
    )


def _said(numbers: Mapping[str, Any]) -> str:
    excess, won = [], []
    for row in numbers["rows"]:
        exact, beta = row["exact"], row["beta"]
        excess.append(_weighed(row["linear"], beta) - _weighed(exact, beta))
        won.append(_weighed(exact, beta) - _weighed(row["nonlinear"], beta))
    return (
        f"Trained by samples, linear models end at most {max(excess):.2f} nats above the least that any of them can "
        "have. It is known from the data's covariance alone: reverse water-filling, a latent for each direction whose "
        f"variance is above β σ². A hidden layer wins between {min(won):.2f} and {max(won):.2f} nats on the same "
        "digits."
    )


def _weighed(of: Mapping[str, float], beta: float) -> float:
    return of["distortion"] + beta * of["rate"]


@style.styled
def _figure(numbers: Mapping[str, Any]) -> Figure:
    figure, (left, right) = style.panels(2, columns=2, width=4.8, height=4.4)
    _draw_curve(left, numbers)
    _draw_alive(right, numbers)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", ncols=4)
    style.note(
        figure,
        f"Digits as grey values, σ = {numbers['sigma']}. The line is exact for linear models and these data; points "
        "are where training ends.",
    )
    betas = [row["beta"] for row in numbers["rows"]]
    return style.describe(
        figure,
        f"Rate and distortion of linear and non-linear VAEs on digits at {len(betas)} β from {betas[0]:g} to "
        f"{betas[-1]:g}, beside the exact curve of linear models; and how many latents are alive at each.",
    )


def _draw_curve(panel: Axes, numbers: Mapping[str, Any]) -> None:
    rows, curve = numbers["rows"], numbers["curve"]
    panel.plot(*_points(curve), color=style.INK, lw=1.4, label="linear, exact", zorder=2)
    looks = (
        ("linear", "linear, trained", "D", style.BLUE, style.BLUE),
        ("nonlinear", "non-linear, trained", "o", style.VERMILION, style.VERMILION),
        ("nonlinear_held_out", "non-linear, held-out digits", "o", style.VERMILION, "white"),
    )
    for key, label, marker, colour, face in looks:
        points = _points([row[key] for row in rows])
        panel.plot(*points, marker, ms=6, color=colour, mfc=face, label=label, zorder=3)
    for row, rate, distortion in zip(rows, *_points([row["exact"] for row in rows]), strict=True):
        panel.annotate(f"β = {row['beta']:g}", (rate, distortion), (9, 7), textcoords="offset points", fontsize=8)
    panel.set(title="Rate and distortion", xlabel=f"rate, {style.NATS}", ylabel=f"distortion, {style.NATS}")
    panel.margins(x=0.12, y=0.1)


def _draw_alive(panel: Axes, numbers: Mapping[str, Any]) -> None:
    rows, curve = numbers["rows"], numbers["curve"]
    betas = [row["beta"] for row in rows]
    panel.plot([at["beta"] for at in curve], [at["alive"] for at in curve], color=style.INK, lw=1.4)
    panel.plot(betas, [row["linear"]["alive"] for row in rows], "D", ms=6, color=style.BLUE)
    panel.plot(betas, [row["nonlinear"]["alive"] for row in rows], "o", ms=6, color=style.VERMILION)
    panel.set_xscale("log")
    panel.set_xticks(betas, [f"{beta:g}" for beta in betas])
    panel.minorticks_off()
    panel.set_ylim(0, numbers["latent_dim"] + 1)
    panel.set(title="Latents that are alive", xlabel="β, the weight of the KL term in training", ylabel="latents")


def _points(of: Sequence[Mapping[str, float]]) -> tuple[list[float], list[float]]:
    return [each["rate"] for each in of], [each["distortion"] for each in of]
