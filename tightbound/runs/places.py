"""Where a run's data are: where its recipe says, where they were when it was trained, or where somebody says."""

from __future__ import annotations

import dataclasses

from tightbound.runs.from_fit import found_where_it_was, moved
from tightbound.runs.run import Run


def with_data_found(run: Run) -> Run:
    """The run with data where they were when it began, if they are not where its recipe says from here.

    Args:
        run: any.
    """
    return dataclasses.replace(run, recipe=found_where_it_was(run.recipe, run.config))


def with_source(run: Run, source: str, *, own: bool = True) -> Run:
    """The run with its data somewhere else.

    Args:
        run: any.
        source: where they are now.
        own: whether they must be the run's own; where this is false, others are welcome there.
    """
    config = run.config if own else dataclasses.replace(run.config, data="")
    return dataclasses.replace(run, recipe=moved(run.recipe, source), config=config)
