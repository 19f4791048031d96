"""What happens in training: what β trades for what, and which latent wakes when."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from tightbound.batch import Batch, as_batch
from tightbound.data import Observations
from tightbound.labs.result import Result
from tightbound.labs.training_figures import decomposition_figure, trade_off_figure
from tightbound.labs.words import advancing, require_betas, require_sizes, require_whole, table
from tightbound.model import Model
from tightbound.objectives import ELBO, Loss, Objective
from tightbound.runs import recipe as recipes
from tightbound.runs.advice import BETA, Choice, Outcome, choices
from tightbound.runs.build import Built, build
from tightbound.runs.measured import measure
from tightbound.runs.sweep_words import in_words, row
from tightbound.threads import on_threads
from tightbound.training import TrainResult, batches, fit

__all__ = ["decomposition", "trade_off"]

# The recipe for digits, cut down to seconds. No warm-up of β, so that a run has one objective from its first step.
SHORT = {
    "model.hidden": [128],
    "objective.warmup_steps": 0,
    "train.batch_size": 256,
    "train.learning_rate": 1e-2,
    "train.ema": 0.0,
    "train.log_every": 10_000,  # once an epoch, then: each line is a mean over all training digits
    "train.device": "cpu",
    "train.precision": "float32",
    "train.compile": "never",
}
BETAS = (0.1, 0.25, 0.5, 1, 2, 4, 8)
SLOW = {"train.batch_size": 128, "train.learning_rate": 2e-3}  # so that latents wake one after the other
AWAKE = 0.1  # nats: a latent with less says next to nothing


def trade_off(
    *,
    betas: Sequence[float] = BETAS,
    epochs: float = 25,
    latent_dim: int = 10,
    samples: int = 200,
    seed: int = 0,
    progress: bool = False,
) -> Result:
    r"""A sweep over β on scikit-learn's digits: what a smaller rate costs, and which β serves which purpose.

    .. math:: \mathbb{E}_q[\log p(x \mid z)] - \beta \, \mathrm{KL}(q(z \mid x) \,\|\, p(z))

    The shipped recipe for digits, shortened, is trained once for each β. Every run is measured in the same way on
    observations it was not trained on, at β = 1 whatever it was trained with.

    What to look for: with a small β reconstructions improve and the code costs more nats than it saves, so the ELBO
    *falls* while the objective rises. With a large β the code dies, and the distortion is that of one picture for all.
    The objectives of different β are on different scales and cannot be ranked; rate, distortion, ELBO and log p(x) can.

    References:
        Higgins et al.: β-VAE (2017), https://openreview.net/forum?id=Sy2fzU9gl; Alemi et al.: Fixing a Broken ELBO
        (2018), https://arxiv.org/abs/1711.00464.

    Args:
        betas: the weights of the rate, two at least.
        epochs: passes over the training set, for each run.
        latent_dim: latent dimensions.
        samples: draws for each observation in the estimate of log p(x).
        seed: of weights, noise and batches: the same for every β.
        progress: whether to show on a terminal how it goes.

    Returns:
        Numbers, words and a figure: the four quantities over training and over β, the curve of rate and distortion, and
        what to choose.

    Raises:
        TypeError: for counts that are no whole numbers.
        ValueError: for fewer than two β, values that are negative, not finite or given twice, and sizes out of range.

    Example:
        >>> found = trade_off(betas=(0.5, 4), epochs=0.5, latent_dim=2, samples=2)
        >>> [choice["purpose"] for choice in found.numbers["choices"]]
        ['generation', 'representation', 'disentanglement']
    """
    require_betas(betas)
    require_sizes(epochs, seed, latent_dim)
    require_whole("samples", samples, least=1, why="Each observation needs one draw at least.")
    outcomes, curves = [], []
    with on_threads(1), advancing(len(betas), show=progress) as advance:
        for beta in betas:
            made, ended = _trained({"objective.beta": beta}, epochs, latent_dim, seed)
            found = measure(made.model, _held_out(made), samples=samples, seed=seed, precision="float32")
            columns = found.evidence.per_observation
            outcomes.append(Outcome(beta, found.to_json(), columns["log_px"], columns["distortion"]))
            curves.append({"beta": beta, "points": _points(ended, beta)})
            advance(1)
    chosen = choices(BETA, outcomes)
    numbers = {
        "betas": list(betas),
        "epochs": epochs,
        "steps": ended.steps,
        "seed": seed,
        "rows": [row(BETA, outcome) for outcome in outcomes],
        "choices": [dataclasses.asdict(choice) for choice in chosen],
        "curves": curves,
    }
    return Result("trade-off", numbers, _trade_off_words(numbers, outcomes, chosen), trade_off_figure(numbers))


def decomposition(*, epochs: float = 40, latent_dim: int = 10, seed: int = 0, progress: bool = False) -> Result:
    r"""The negative ELBO over a training on digits, as a sum: distortion, and the rate of each latent.

    .. math:: -\text{ELBO} = \mathbb{E}_q[-\log p(x \mid z)] + \sum_j \mathrm{KL}(q(z_j \mid x) \,\|\, p(z_j))

    Posterior and prior factorise, so the rate is a sum over latent dimensions. The training is in float64, and each
    line of its log is a mean over an epoch's steps, so the parts add up to the loss that was trained on, to rounding.

    What to look for: at first all latents fall asleep, for a code that tells nothing costs less than one that tells
    noise. Then one after the other begins to say something, and each nat of rate buys more than a nat of distortion.
    Some may sleep for ever: they cost nothing, and a smaller model would do.

    References:
        Kingma, Welling: Auto-Encoding Variational Bayes (2013), https://arxiv.org/abs/1312.6114; Bowman et al.:
        Generating Sentences from a Continuous Space (2016), https://arxiv.org/abs/1511.06349, for latents that sleep.

    Args:
        epochs: passes over the training set.
        latent_dim: latent dimensions.
        seed: of weights, noise and batches.
        progress: whether to show on a terminal how it goes.

    Returns:
        Numbers, words and a figure: the parts over the steps of training, and the step at which each latent wakes.

    Raises:
        TypeError: for counts that are no whole numbers.
        ValueError: for sizes out of range.

    Example:
        >>> found = decomposition(epochs=1, latent_dim=2)
        >>> found.numbers["largest_difference"] < 1e-12
        True
    """
    require_sizes(epochs, seed, latent_dim)
    with on_threads(1), advancing(1, show=progress) as advance:
        _, ended = _trained(SLOW, epochs, latent_dim, seed, objective=_ByDimension(), double=True)
        advance(1)
    lines = [line for line in ended.metrics if line["split"] == "train"]
    rates = np.array([[line[f"rate {j}"] for j in range(latent_dim)] for line in lines])
    steps = [line["step"] for line in lines]
    parts = np.array([line["distortion"] for line in lines]) + rates.sum(1)
    losses = np.array([line["loss"] for line in lines])
    numbers = {
        "epochs": epochs,
        "steps": ended.steps,
        "seed": seed,
        "largest_difference": float(np.abs(losses - parts).max()),
        "lines": [
            {"step": line["step"], "loss": line["loss"], "distortion": line["distortion"], "rates": rate.tolist()}
            for line, rate in zip(lines, rates, strict=True)
        ],
        "latents": [
            {"latent": j, "awake_by": _awake_by(steps, rates[:, j]), "rate_at_the_end": float(rates[-1, j])}
            for j in range(latent_dim)
        ],
    }
    return Result("decomposition", numbers, _decomposition_words(numbers), decomposition_figure(numbers))


def _trade_off_words(numbers: Mapping[str, Any], outcomes: Sequence[Outcome], chosen: Sequence[Choice]) -> str:
    found = outcomes[0].found
    dead = [f"{outcome.value:g}" for outcome in outcomes if not outcome.found["active_units"]]
    died = f" With β = {', '.join(dead)} the code died: no unit is active." if dead else ""
    return "\n".join(
        [
            f"Trade-off: digits, {numbers['steps']} steps for each β, seed {numbers['seed']}. Measured on "
            f"{found['observations']} held-out digits, {found['samples']} draws each.",
            "",
            in_words(BETA, outcomes, chosen),
            textwrap.fill(
                f"{_at(outcomes[0])}. {_at(outcomes[-1])}. Each run was trained on distortion + β · rate; ELBO "
                f"and NLL ask the same question of all of them.{died} The held-out digits also chose which weights "
                "were kept, so all runs look a little better here than on others.",
                width=100,
            ),
        ]
    )


def _at(outcome: Outcome) -> str:
    rate, distortion = outcome.found["rate"], outcome.found["distortion"]
    return f"At β = {outcome.value:g} the code has {rate:.2f} nats and the distortion is {distortion:.2f}"


def _decomposition_words(numbers: Mapping[str, Any]) -> str:
    lines = numbers["lines"]
    shown = [lines[round(place)] for place in np.linspace(0, len(lines) - 1, min(8, len(lines)))]
    sums = [
        [
            str(line["step"]),
            f"{line['loss']:.3f}",
            f"{line['distortion']:.3f}",
            f"{sum(line['rates']):.3f}",
            str(sum(rate >= AWAKE for rate in line["rates"])),
        ]
        for line in shown
    ]
    ordered = sorted(numbers["latents"], key=lambda latent: (latent["awake_by"] or math.inf, latent["latent"]))
    latents = [
        [
            f"z{latent['latent']}",
            "never" if latent["awake_by"] is None else f"step {latent['awake_by']}",
            f"{latent['rate_at_the_end']:.3f}",
        ]
        for latent in ordered
    ]
    awake = sum(latent["awake_by"] is not None for latent in ordered)
    return "\n".join(
        [
            f"Decomposition: digits, {numbers['steps']} steps, seed {numbers['seed']}. Nats per observation.",
            "",
            table(["step", "-ELBO", "distortion", "rate", f"latents with {AWAKE} nats"], sums),
            "",
            f"Which latent wakes when: it has {AWAKE} nats from there on.",
            table(["latent", "awake by", "rate at the end"], latents),
            "",
            textwrap.fill(
                f"{awake} of {len(ordered)} latents woke. Distortion and the rates of all latents add up to the loss "
                f"that was trained on: they are at most {numbers['largest_difference']:.0e} nats apart at any step.",
                width=100,
            ),
        ]
    )


@dataclass(frozen=True)
class _ByDimension:
    """The negative ELBO, with the rate of each latent dimension among the terms that are logged."""

    def __call__(self, model: Model, batch: Batch, step: Tensor | None = None) -> Loss:
        batch = model.encoded(as_batch(batch))
        rates = model.rate_per_dimension(batch)
        if rates is None:
            raise TypeError(
                "Expected a posterior and a prior that factorise, so that the rate is a sum over latents; got others. "
                "Take DiagonalNormal and StandardNormal."
            )
        loss = ELBO(kl="closed-form")(model, batch, step)
        each = rates.detach().mean(0).unbind()
        return Loss(loss.value, {**loss.terms, **{f"rate {j}": rate for j, rate in enumerate(each)}})


def _trained(
    changes: Mapping[str, Any],
    epochs: float,
    latent_dim: int,
    seed: int,
    *,
    objective: Objective | None = None,
    double: bool = False,
) -> tuple[Built, TrainResult]:
    """The recipe for digits with these changes, trained without a folder."""
    sizes = {"train.epochs": epochs, "model.latent_dim": latent_dim, "seed": seed}
    made = build(recipes.load("digits").updated({**SHORT, **sizes, **changes}))
    if double:
        made.model.double()
    ended = fit(
        made.model,
        made.data,
        objective=objective or made.objective,
        seed=seed,
        progress=False,
        settings=made.recipe.train,
    )
    return made, ended


def _held_out(made: Built) -> Observations:
    """What training kept for validation; the test set is left alone."""
    held_out = batches.split(made.data.train, made.recipe.train.validation, made.recipe.seed)[1]
    return made.data.test if held_out is None else held_out


def _points(ended: TrainResult, beta: float) -> list[dict[str, float]]:
    """The four quantities on held-out observations, after each epoch."""
    return [
        {
            "step": line["step"],
            "elbo": -line["distortion"] - line["rate"],
            "reconstruction": -line["distortion"],
            "kl": line["rate"],
            "objective": -line["distortion"] - beta * line["rate"],
        }
        for line in ended.metrics
        if line["split"] == "validation"
    ]


def _awake_by(steps: Sequence[int], rates: np.ndarray) -> int | None:
    """The first step from which on a latent has a tenth of a nat or more; None where it sleeps at the end."""
    asleep = np.flatnonzero(rates < AWAKE)
    first = int(asleep[-1]) + 1 if len(asleep) else 0
    return steps[first] if first < len(steps) else None
