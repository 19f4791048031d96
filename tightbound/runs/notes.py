"""What a person should know of data before a training begins, a sentence each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tightbound.data import Data, DataSummary, Observations, summarise
from tightbound.data.nature import Elements
from tightbound.data.strays import strays, unseen_classes
from tightbound.data.summary import first_unlike
from tightbound.likelihoods import Categorical
from tightbound.runs.resolving import needs_float64

RESIDUE = 2.0**-46  # of the widest element's unit: what rounding leaves in float64 is narrower


def on_condition(data: Data, classes: int, covariates: int) -> tuple[list[str], bool]:
    """What a person should know of a condition, a sentence each, and whether float32 loses digits of its covariates.

    Args:
        data: training and test set.
        classes: of the label, where that is the condition, or a latent.
        covariates: how many columns the factors have, where they are the condition.

    Raises:
        ValueError: for covariates that are not finite, or too large.

    Example:
        >>> from tightbound.data import load
        >>> on_condition(load("digits"), 10, 0)
        ([], False)
    """
    said = unseen_classes(data) if classes else []
    if not covariates:
        return said, False
    train, test = (covariates_of(part) for part in (data.train, data.test))
    facts, unseen = summarise(train), summarise(test)
    said += [*facts.notes, *strays(Data(data.name, train, test), facts, unseen)]
    return said, needs_float64(facts) or needs_float64(unseen)


def covariates_of(observations: Observations) -> Observations:
    """The factors of observations as observations of their own, to be looked at as such.

    Args:
        observations: with factors.

    Example:
        >>> covariates_of(Observations(torch.zeros(2, 1), factors=torch.tensor([[30.0], [50.0]]))).column_names
        ('covariate 0',)
    """
    table = observations.factor_table()
    if table is None:
        raise ValueError(f"Expected factors; got none in {observations.name}.")
    names = observations.factor_names or tuple(map(str, range(table.shape[1])))
    return Observations(
        table,
        column_names=tuple(f"covariate {name}" for name in names),
        name=f"the covariates of {observations.name}",
    )


def notes_on(data: Data, facts: DataSummary, unseen: DataSummary, model: nn.Module, *, wide: bool) -> tuple[str, ...]:
    """What a person should know of the data and of what follows from them, a sentence each.

    Args:
        data: as they were read.
        facts: a summary of the training data.
        unseen: the same of the test data.
        model: made for them.
        wide: whether it computes in float64.

    Example:
        >>> from tightbound.data import load, summarise
        >>> digits = load("digits")
        >>> notes_on(digits, summarise(digits.train), summarise(digits.test), nn.Identity(), wide=False)
        ()
    """
    found = [*data.train.notes, *(note for note in data.test.notes if note not in data.train.notes), *facts.notes]
    found += strays(data, facts, unseen)
    if isinstance(getattr(model, "likelihood", None), Categorical) and unseen.high > facts.high:
        row = first_unlike(data.test, facts)
        found.append(
            f"codes above {facts.high:g} are in the test set alone, first at row {row}: nothing is learned of them"
        )
    if wide:
        found.append("float32 has too few digits or too small a range for some numbers: the model computes in float64")
    low, high = facts.ends
    unit = getattr(getattr(model, "likelihood", None), "unit", None)
    if facts.kind in ("counts", "real") and bool((low == high).all()):
        found.append("every element has one value in the training data: there is nothing to learn, and no nats to win")
    elif isinstance(unit, Tensor) and (constant := int((unit == 0).sum())):
        of = f"{constant} of {unit.numel()} elements {'has' if constant == 1 else 'have'}"
        found.append(f"{of} one value in the training data, but for rounding, and no nats to win")
    if isinstance(unit, Tensor):
        found += _residues(data.train, facts, unit)
    return tuple(found)


def _residues(observations: Observations, facts: DataSummary, unit: Tensor) -> list[str]:
    """Name a column so narrow beside another that it may be what rounding has left of a computation."""
    least = RESIDUE * float(unit.max())
    narrow = ((unit > 0) & (unit < least)).flatten().nonzero()[:, 0].tolist()
    if observations.stored.dtype != torch.float64 or not narrow:
        return []
    place = Elements(observations, *facts.ends).place(narrow[0])
    more = f", and {len(narrow) - 1} more of the kind" if len(narrow) > 1 else ""
    times = float(unit.max() / unit.flatten()[narrow[0]])
    return [
        f"{place} varies {times:.0g} times less than another element does{more}: where that is what rounding has left "
        "of a computation, leave it out, for its nats mean nothing"
    ]
