"""The observations that training never sees, and the loss on them."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch

from tightbound.data import Data, Observations
from tightbound.data import observations as as_observations
from tightbound.distributed import world
from tightbound.runtime import own_random_state
from tightbound.settings import Training, plain
from tightbound.training.step import SECOND, TrainStep

SEED = 1  # the same noise at each validation, so that two of them differ by the weights alone
ROWS = 1024


def chosen(settings: Training, validation: Any) -> tuple[Training, Observations | None]:
    """What is held out: by the settings, which may be told another number, or observations that are given.

    Args:
        settings: of the training.
        validation: a share or a number of observations, or observations themselves; as the settings say where it is
            None.

    Returns:
        The settings, and the observations if they are given: nothing is then held out of the training set.

    Raises:
        TypeError: for what is neither a number nor data.
        ValueError: for data that cannot be used.

    Example:
        >>> chosen(Training(), 5)[0].validation, chosen(Training(), torch.zeros(7, 2))[0].validation
        (5, 0)
    """
    if validation is None:
        return settings, None
    if isinstance(plain(validation), Real):
        return settings.updated({"validation": validation}), None
    found = validation.test if isinstance(validation, Data) else as_observations(validation)
    return settings.updated({"validation": 0}), found.replace(name=f"{found.name}, the validation set")


def alike(train: Observations, held_out: Observations) -> Observations:
    """Observations for validation, their labels counted as those of the training set are.

    Args:
        train: the training set.
        held_out: what is given for validation.

    Raises:
        ValueError: for another shape or scale, columns or factors of other names, and labels that training lacks.

    Example:
        >>> train, held_out = (as_observations((torch.zeros(2, 1), y)) for y in (["ant", "cat"], ["cat", "cat"]))
        >>> alike(train, held_out).labels
        tensor([1, 1])
    """
    for what in ("shape", "scale"):
        ours, theirs = getattr(train, what), getattr(held_out, what)
        if ours != theirs:
            ours, theirs = (tuple(each) if what == "shape" else each for each in (ours, theirs))
            raise ValueError(
                f"Expected observations of {what} {ours}, as those of the training set; got {theirs} in "
                f"{held_out.name}. Make both in the same way."
            )
    for what in ("column_names", "factor_names"):
        ours, theirs = getattr(train, what), getattr(held_out, what)
        if ours and theirs and ours != theirs:
            raise ValueError(
                f"Expected the {what} {', '.join(ours)}, as those of the training set; got {', '.join(theirs)} in "
                f"{held_out.name}. Put both into one order."
            )
    if train.labels is None or held_out.labels is None or held_out.label_names in ((), train.label_names):
        return held_out
    if missing := [name for name in held_out.label_names if name not in train.label_names]:
        raise ValueError(
            f"Expected labels that the training set has; got {', '.join(missing)} in {held_out.name}. Leave those "
            "observations out, or give whole numbers that mean the same in both."
        )
    places = torch.tensor([train.label_names.index(name) for name in held_out.label_names])
    known, labels = held_out.labels >= 0, held_out.labels.long()
    return held_out.replace(labels=torch.where(known, places[labels], labels), label_names=train.label_names)


@torch.no_grad()
def validate(step: TrainStep, observations: Observations, *, names: Sequence[str], batch_size: int) -> dict[str, float]:
    """The loss and its terms, by ``names``, in nats per observation, schedules at their end.

    Several processes take batches in turn; noise belongs to a batch, so the result does not depend on their number.
    An objective that looks at a batch as a whole sees batches of the training's ``batch_size``; the last is filled up
    with observations before it. Leaves model and objective in training mode.
    """
    here, count = world(), len(observations)
    whole = getattr(step.objective, "whole_batch", False)
    rows = batch_size if whole else max(ROWS // getattr(step.objective, "samples", 1), 1)
    total = torch.zeros(1 + len(names), dtype=torch.float64)
    step.set_mode(training=False)
    with own_random_state(step.device):
        for number, start in enumerate(range(0, count, rows)):
            if number % here.count != here.rank:
                continue
            torch.manual_seed(SEED + number)
            first = max(0, min(start, count - rows)) if whole else start
            batch = observations.eval_batch(first, start + rows, step.dtype)._replace(checked=True).to(step.device)
            loss = step.objective(step.model, batch)
            terms = loss.terms if loss.second is None else {**loss.terms, SECOND: loss.second}
            values = torch.stack([loss.value, *(terms[name] for name in names)])
            total += values.cpu().double() * min(rows, count - start) / count
    step.set_mode(training=True)
    return dict(zip(("loss", *names), here.sum(total).tolist(), strict=True))
