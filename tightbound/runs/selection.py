"""Which observations of a run a split means."""

from __future__ import annotations

from tightbound.data import Data, Observations
from tightbound.runs.run import Run
from tightbound.training import batches


def held_out(run: Run, data: Data) -> Observations | None:
    """What training kept for validation, or None where it kept nothing."""
    return batches.split(data.train, run.recipe.train.validation, run.recipe.seed)[1]


def part(run: Run, split: str | None, source: str | None = None) -> Observations:
    """The observations of a split: "train" (without those of validation), "validation" or "test", the default.

    Args:
        run: whose they are.
        split: which.
        source: other data, of which without a split the test set is meant if they have one of their own, else all.

    Raises:
        ValueError: for data that cannot be read or of another shape, and for a validation split that there is not.
    """
    data = run.data(source)
    if source is not None and split is None:
        return data.test if _own_test_set(data) else everything(data)[0]
    if source is None and split == "train":
        return batches.split(data.train, run.recipe.train.validation, run.recipe.seed)[0]
    if source is None and split == "validation":
        kept = held_out(run, data)
        if kept is None:
            raise ValueError(
                "Expected the split train or test, as this run held nothing out (train.validation = 0); got validation."
            )
        return kept
    if split == "validation":
        raise ValueError(
            f"Expected the split train or test of {data.name}; got validation, which only a run's own data have."
        )
    return data.split(split or "test")


def everything(data: Data) -> list[Observations]:
    """All observations as they are stored: in one part, or in two where the test set is kept apart."""
    return [data.train, data.test] if _own_test_set(data) else [data.train.replace(rows=None)]


def _own_test_set(data: Data) -> bool:
    return data.train.stored is not data.test.stored
