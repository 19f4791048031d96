"""What the curves of a training say: whether it stopped too soon, and how much of it was learned by heart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tightbound.runs.recipe import Recipe
from tightbound.runs.told import Told

TAIL = 0.8  # of the training; what validation still wins after it could have gone on
FALLING = 0.01  # share of the validation loss that it wins there, above which it was still falling
HEART = 0.1  # share of the validation loss that training lies below it, above which examples are learned by heart
COMMAND = (  # what to try where each lesson was learned
    "Train on: tightbound train --resume RUN --train.epochs N.",
    "Try --train.weight-decay 0.05, a smaller --model.hidden, or more data.",
)
PYTHON = (
    "Train on: tb.fit(model, data, epochs=N) goes on from the weights that it has.",
    "Try tb.fit(…, weight_decay=0.05), smaller networks, or more data.",
)
LEAST = 0.5  # nats, below which neither is worth a word


def lessons(run: Told) -> list[str]:
    """Sentences on a training, each with the number behind it and what to try; none where the curves look well.

    Args:
        run: any, or a model that was made in Python.

    Returns:
        The sentences.
    """
    if run.recipe is None:
        return []
    warmup, in_python = getattr(run.recipe.objective, "warmup_steps", 0) or 0, not isinstance(run.recipe, Recipe)
    augmented = bool(run.recipe.data.augmented())
    return of_curves(run.metrics(), warmup=warmup, augmented=augmented, in_python=in_python)


def of_curves(
    metrics: Sequence[dict[str, Any]], *, warmup: int = 0, augmented: bool = False, in_python: bool = False
) -> list[str]:
    """The same of the lines of ``metrics.jsonl``.

    Args:
        metrics: in their order.
        warmup: steps over which the objective rises: losses before are of another one.
        augmented: whether the training set's images were moved or turned, which makes them harder than those of
            validation.
        in_python: whether what to try is told in Python, not as a command.

    Returns:
        The sentences.

    Example:
        >>> lines = [{"split": "validation", "step": n, "loss": 100.0 - n, "best": True} for n in range(1, 11)]
        >>> of_curves(lines)[0][:66]
        'Training stopped while the validation loss was still falling: by 2'
    """
    validated = [line for line in metrics if line["split"] == "validation" and line["step"] > warmup]
    trained = [line for line in metrics if line["split"] == "train" and line["step"] > warmup]
    if not validated:
        return []
    best = next((line for line in reversed(validated) if line.get("best")), validated[-1])
    return [
        *_fell(validated, best, PYTHON if in_python else COMMAND),
        *([] if augmented else _by_heart(trained, best, PYTHON if in_python else COMMAND)),
    ]


def _fell(validated: Sequence[dict[str, Any]], best: dict[str, Any], words: tuple[str, str]) -> list[str]:
    last = validated[-1]
    before = [line for line in validated if line["step"] <= TAIL * last["step"]]
    if best is not last or not before:
        return []
    won = before[-1]["loss"] - last["loss"]
    if won < max(LEAST, FALLING * abs(last["loss"])):
        return []
    return [
        f"Training stopped while the validation loss was still falling: by {won:.2f} nats over the last "
        f"{1 - before[-1]['step'] / last['step']:.0%} of its steps. {words[0]}"
    ]


def _by_heart(trained: Sequence[dict[str, Any]], best: dict[str, Any], words: tuple[str, str]) -> list[str]:
    before = [line for line in trained if line["step"] <= best["step"]]
    if not before:
        return []
    gap = best["loss"] - before[-1]["loss"]
    if gap < max(LEAST, HEART * abs(best["loss"])):
        return []
    return [
        f"The model is over-fitted: on its training set it loses {before[-1]['loss']:.2f} nats, on the observations "
        f"held out {best['loss']:.2f}, {gap:.2f} more, which it has learned by heart. {words[1]}"
    ]
