"""Labels and factors that few observations have."""

from __future__ import annotations

import math

import torch

from tightbound.data.observations import Observations
from tightbound.settings import require_seed, seed_after

UNKNOWN = -1
APART = 1_000_003  # from the seed's other choices: the same order would hold the labelled ones out for validation


def few_labels(observations: Observations, count: int, *, seed: int = 0) -> Observations:
    """The same observations, of which few keep their label, of each class equally many; others have −1, unknown.

    Args:
        observations: with labels.
        count: how many keep theirs, a multiple of the number of classes.
        seed: of the choice.

    Returns:
        Observations that share their values with these.

    Raises:
        TypeError: for a seed that is no whole number.
        ValueError: for observations without labels, a count that is no multiple of the classes, or more than there are.

    Example:
        >>> made = few_labels(Observations(torch.zeros(6, 1), torch.tensor([0, 1, 0, 1, 0, 1])), 2)
        >>> sorted(made.label(torch.arange(6)).tolist())
        [-1, -1, -1, -1, 0, 1]
    """
    require_seed(seed)
    everything = torch.arange(len(observations))
    labels = observations.label(everything)
    if labels is None:
        raise ValueError(f"Expected observations with labels; got none in {observations.name}.")
    classes, found = labels[labels != UNKNOWN].unique(return_counts=True)
    if len(classes) == 0 or count < 1 or count % len(classes):
        raise ValueError(
            f"Expected a number of labels that is a multiple of {len(classes)}, the classes of {observations.name}; "
            f"got {count}."
        )
    each = count // len(classes)
    if each > int(found.min()):
        raise ValueError(
            f"Expected at most {int(found.min())} labels of a class, as {observations.name} has; got {each}."
        )
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed_after(seed, APART)))
    kept = torch.cat([order[labels[order] == y][:each] for y in classes])
    rows = everything if observations.rows is None else observations.rows
    known = torch.full((len(observations.stored),), UNKNOWN, dtype=torch.long)
    known[rows[kept]] = labels[kept].long()
    return observations.replace(labels=known)


def with_unknown(observations: Observations) -> Observations:
    """Labels that a file calls -1, or has no word for, as not known: for models that have use for such.

    Args:
        observations: as they were read, where -1 is a class like any other.

    Returns:
        Observations whose labels are −1 there, and whose other classes are numbered without it; as they were where
        there is no such class.

    Example:
        >>> read = Observations(torch.zeros(3, 1), torch.tensor([0, 1, 2]), label_names=("-1", "0", "1"))
        >>> made = with_unknown(read)
        >>> made.label(torch.arange(3)), made.label_names
        (tensor([-1,  0,  1]), ('0', '1'))
    """
    names = observations.label_names
    found = [place for place, name in enumerate(names) if name.strip() in ("", str(UNKNOWN))]
    if not found or observations.labels is None:
        return observations
    kept = [place for place in range(len(names)) if place not in found]
    number = torch.full((len(names),), UNKNOWN)
    number[kept] = torch.arange(len(kept))
    labels = number.to(observations.labels.device)[observations.labels]
    return observations.replace(labels=labels, label_names=tuple(names[place] for place in kept))


def few_factors(observations: Observations, count: int, *, seed: int = 0) -> Observations:
    """The same observations, of which few keep their factors, taken at random; others have NaN, unknown.

    Args:
        observations: with factors.
        count: how many keep theirs.
        seed: of the choice.

    Returns:
        Observations that share their values with these.

    Raises:
        TypeError: for a seed that is no whole number.
        ValueError: for observations without factors, or a count that is not between 1 and all of them.

    Example:
        >>> made = few_factors(Observations(torch.zeros(6, 1), factors=torch.ones(6, 2)), 2)
        >>> int(made.factor_table().isfinite().all(1).sum())
        2
    """
    require_seed(seed)
    table = observations.factor_table()
    if table is None:
        raise ValueError(f"Expected observations with factors; got none in {observations.name}.")
    if not 1 <= count <= len(table):
        raise ValueError(f"Expected between 1 and {len(table)} observations of {observations.name}; got {count}.")
    kept = torch.randperm(len(table), generator=torch.Generator().manual_seed(seed_after(seed, APART)))[:count]
    rows = torch.arange(len(table)) if observations.rows is None else observations.rows
    known = torch.full((len(observations.stored), table.shape[1]), math.nan, dtype=torch.float64)
    known[rows[kept]] = table[kept].double()
    return observations.replace(factors=known)
