"""Pictures of what comes true of what a model says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor, tensor

from tightbound import plots
from tightbound.evaluate.likeness import SHARES
from tightbound.files import foreign
from tightbound.runs.folder import CHECKED, CHECKS
from tightbound.runs.told import Told


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure with what a reader should look for in it."""

    name: str
    title: str
    caption: str
    figure: Figure


def checked(run: Told) -> list[Picture]:
    """Of each check that was made; of the others the page gives the reason.

    Args:
        run: whose pictures.

    Raises:
        ValueError: for damaged files.
    """
    told = run.kept(CHECKS)
    found = run.per_observation(CHECKED) if told is not None else {}
    with foreign(run.path / CHECKED, "values as this version keeps them", run.renewed(CHECKED)):
        return [
            *_intervals(found),
            *_predictions(found),
            *_neighbours(found),
            *_quality(found, (told or {}).get("fidelity")),
        ]


def _intervals(found: dict[str, Tensor]) -> Iterator[Picture]:
    if "ranks" in found:
        caption = (
            "Where the z that a simulated observation was made of lies among draws. High at both ends: intervals are "
            "too narrow; high in the middle: too wide; slanted: biased."
        )
        figure = plots.rank_histograms(found["ranks"], found.get("ranks_refined"))
        yield Picture("intervals", "Do intervals cover what they say?", caption, figure)


def _predictions(found: dict[str, Tensor]) -> Iterator[Picture]:
    if "p_values" in found:
        caption = (
            "Left: how many replicas, made of an observation's own codes, are less likely than it. Few of them: p(x|z) "
            "is too sure of itself; nearly all: less sure than it may be. Where both sets are off alike, q(z|x) is to "
            "blame. Right: the ELBO of an observation among those of observations that the model made."
        )
        figure = plots.predictive_checks(found["p_values"], found["simulated_p_values"], found["elbo_ranks"])
        yield Picture("predictions", "Is a test observation among what is predicted?", caption, figure)


def _neighbours(found: dict[str, Tensor]) -> Iterator[Picture]:
    if "distances" not in found:
        return
    ours, theirs = (each[each.isfinite()] for each in (found["distances"], found["held_out_distances"]))
    if len(ours) and len(theirs):
        caption = (
            "Samples to the left of test observations: the model copies. To the right: it makes what is not there."
        )
        yield Picture("distances", "Does the model copy?", caption, plots.neighbour_distances(ours, theirs))
    if found["examples"].ndim > 2:
        caption = (
            "The first samples, not chosen by anyone: the mean of p(x|z), the draw of it that was compared, and the "
            "training observation nearest to the draw, as the model saw it."
        )
        figure = plots.nearest_neighbours(found["means"], found["examples"], found["closest"])
        yield Picture("neighbours", "Samples and their nearest training observations", caption, figure)


def _quality(found: dict[str, Tensor], told: dict[str, Any] | None) -> Iterator[Picture]:
    if told is None:
        return
    columns = (
        tensor([told[f"{of}{name}{end}"] for name in SHARES]) for end in ("", "_se") for of in ("", "reference_")
    )
    caption = (
        f"By {told['features']}. Samples left of the data themselves: above, they look like nothing in the data; "
        "below, parts of the data are rarely or never sampled."
    )
    yield Picture("quality", "Are samples told from data?", caption, plots.sample_quality(*columns))
    if "best" in found and found["best"].ndim > 2:
        caption = (
            "Samples where test observations are densest, those farthest out, the test observation nearest "
            "to each of these, and the test observations farthest from any sample."
        )
        figure = plots.sample_extremes(*(found[name] for name in ("best", "worst", "worst_nearest", "missed")))
        yield Picture("best-and-worst", "The best and the worst samples, and what is missed", caption, figure)
