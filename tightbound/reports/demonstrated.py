"""The demo's page: one recipe at two β, what the smaller code gives up and what it gains, and a toy that is known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from tightbound import plots
from tightbound.autoencoder import VAE
from tightbound.data import Data, Observations
from tightbound.evaluate import Estimate
from tightbound.files import write_text
from tightbound.reports.compared import grid
from tightbound.reports.figures import Picture, examples, ranked
from tightbound.reports.page import FOOTER, document, facts_of, section_of
from tightbound.reports.sections import escaped, estimate
from tightbound.runs.comparison import HEADINGS, Compared, Comparison
from tightbound.runs.folder import FIGURES, REPORT
from tightbound.runs.run import Run
from tightbound.runs.trained import model_of
from tightbound.surface import listed

__all__ = ["write_demonstration"]

SHOWN = 16  # reconstructions
STEPS = 9  # of a walk
HUES = {
    "red": "#d62728", "yellow": "#d9b310", "green": "#2ca02c", "cyan": "#17becf", "blue": "#1f4fd8",
    "magenta": "#d63ad6",
}  # fmt: skip


def write_demonstration(found: Comparison, toy: Picture, path: Path) -> tuple[Path, list[str]]:
    """Write the page of a recipe at two β, and its figures.

    Args:
        found: the runs, compared: the one with the smaller β first.
        toy: a model whose answer is known, as a picture.
        path: of the page; runs and their comparison lie beside it.

    Returns:
        The path, and what the numbers mean, a sentence each.
    """
    data = found.runs[0].run.data()
    colours = [_colours(run, data) for run in found.runs]
    of_each = [_pictures(*each, data) for each in zip(found.runs, colours, strict=True)]
    pictures = [*chain.from_iterable(zip(*of_each, strict=True)), toy]  # of both runs, side by side
    for picture in pictures:
        write_text(path.parent / FIGURES / f"{picture.name}.svg", plots.to_svg(picture.figure))
    said = findings(found, [each.told for each in colours if each is not None])
    parts = [
        _header(found.runs[0].run, data),
        _verdict(found, said),
        *map(section_of, pictures),
        _numbers(found),
        _links(found, path),
        FOOTER,
    ]
    write_text(path, document("A first look: tightbound", parts))
    return path, said


@dataclass(frozen=True, eq=False)
class Colours:
    """Where a code has the colour of its images.

    Attributes:
        codes: Posterior means of the test images, shape (N, L).
        hues: Which colour each has, shape (N,).
        dimensions: The two that tell most of it.
        told: The share whose nearest neighbour in these two has the same colour.
    """

    codes: Tensor
    hues: Tensor
    dimensions: tuple[int, int]
    told: Estimate


def findings(found: Comparison, told: Sequence[Estimate] = ()) -> list[str]:
    """What β does, by the numbers of the two runs.

    Args:
        found: the runs, compared.
        told: of each, the share whose colour two dimensions tell; nothing where that is not known.

    Returns:
        A sentence each.
    """
    first, other = found.runs
    [less] = found.differences
    small, large = (run.run.recipe.objective.beta for run in found.runs)  # type: ignore[union-attr]
    units = [f"{run.found['active_units']} dimensions" for run in found.runs]
    said = [
        f"The code: {Estimate(first.found['rate'], first.found['rate_se'])} nats in {units[0]} at β = {small:g}, and "
        f"{Estimate(other.found['rate'], other.found['rate_se'])} in {units[1]} at β = {large:g}, where each nat costs "
        f"{large / small:g} times as much.",
    ]
    if less.tells("distortion") and less.tells("log_px"):
        more, worse = less.distortion.value > 0, less.log_px.value < 0
        said.append(
            f"The price: at β = {large:g} reconstructions cost {_size(less.distortion)} nats "
            f"{'more' if more else 'less'}, and log p(x) is {_size(less.log_px)} nats "
            f"{'lower' if worse else 'higher'}, paired by image."
        )
    if len(told) == 2:
        before, after = (f"{share.value:.0%}" for share in told)
        said.append(
            f"Where the colour is: by the image that is nearest in two dimensions it is told for {after} of the images "
            f"at β = {large:g}, and for {before} at β = {small:g}. See the two maps."
        )
    said.append(
        "What else a dimension stands for, no number here says: look at the walks, in which one of them moves at a "
        "time. What changes with it, and how many things at once?"
    )
    if (least := (first.found.get("baselines") or {}).get("entropy")) is not None:
        said.append(
            f"The floor: {round(math.exp(least)):,} images, all equally likely, so that no model can need less than "
            f"{least:.2f} nats on average. It needs {Estimate(first.found['nll'], first.found['nll_se'])} at "
            f"β = {small:g}, and {Estimate(other.found['nll'], other.found['nll_se'])} at β = {large:g}."
        )
    return said


def _size(less: Estimate) -> str:
    return str(Estimate(abs(less.value), less.se))


def _header(run: Run, data: Data) -> str:
    facts = facts_of(run, data, model_of(run))
    listed = "".join(f"<dt>{name}</dt><dd>{escaped(text)}</dd>" for name, text in facts.items())
    about = "One variational autoencoder, trained twice: what its code costs, and what it is worth."
    return f"<header><h1>A first look</h1><p>{about}</p><dl>{listed}</dl></header>"


def _verdict(found: Comparison, said: list[str]) -> str:
    tiles = ""
    for run in found.runs:
        for key, what in (("rate", "nats in the code"), ("distortion", "nats for the image, its code known")):
            value, error = estimate(run.found[key], run.found[f"{key}_se"])
            name = f"{what}, β = {run.run.recipe.objective.beta:g}"  # type: ignore[union-attr]
            tiles += f"<div><b>{escaped(value)} <small>{escaped(error)}</small></b><span>{escaped(name)}</span></div>"
    points = "\n".join(f"<li>{escaped(text)}</li>" for text in said)
    return (
        f'<section class="wide verdict"><h2>What β does</h2><div class="tiles">{tiles}</div><ul>{points}</ul></section>'
    )


def _factors(data: Data) -> str:
    return listed(data.test.factor_names) if data.test.factor_names else "its factors"


def _pictures(run: Compared, colours: Colours | None, data: Data) -> Iterator[Picture]:
    model, name = model_of(run.run), run.name
    if not isinstance(model, VAE):
        return
    beta = f"β = {run.run.recipe.objective.beta:g}"  # type: ignore[union-attr]
    shown, seen = examples(data.test, len(data.test))
    start = seen.x.flatten(1).sum(1).argmax()  # a large one, on which changes are seen
    evaluation = ranked(run.found, model.prior().event_shape.numel())
    caption = f"Test images, each beside what its code keeps of it. Every combination of {_factors(data)} is one image."
    decoded = plots.reconstructions(shown[:SHOWN], model.reconstruct(seen.x[:SHOWN]))
    yield Picture(f"reconstructions-{name}", f"Reconstructions, {beta}", caption, decoded)
    if colours is not None:
        caption = "The two dimensions that tell most of the colour, each image a point. The model has seen no factor."
        figure = plots.latent_map(
            colours.codes, colours.hues, tuple(HUES), dimensions=colours.dimensions, colours=tuple(HUES.values())
        )
        yield Picture(f"map-{name}", f"Where the colours are, {beta}", caption, figure)
    walk = plots.latent_traversal(model, seen.x[start], steps=STEPS, **evaluation)
    caption = "One latent dimension at a time goes along the prior, the most informative first; the others stay."
    yield Picture(f"walk-{name}", f"What each dimension does, {beta}", caption, walk)


def _colours(run: Compared, data: Data) -> Colours | None:
    hues, model = _levels(data.test, "hue"), model_of(run.run)
    if hues is None or len(hues.unique()) != len(HUES) or not isinstance(model, VAE):
        return None
    codes = model.embed(data.test).double().cpu()
    first, second = _share(codes, hues).argsort(descending=True)[:2].tolist()
    apart = torch.cdist(codes[:, [first, second]], codes[:, [first, second]]).fill_diagonal_(math.inf)
    same = hues[apart.argmin(1)] == hues
    return Colours(codes, hues, (first, second), Estimate.of(same.double()))


def _levels(observations: Observations, name: str) -> Tensor | None:
    """Which level of a factor each observation has; None where there is no such factor."""
    table = observations.factor_table()
    if table is None or name not in observations.factor_names:
        return None
    return table[:, observations.factor_names.index(name)].unique(return_inverse=True)[1]


def _share(codes: Tensor, levels: Tensor) -> Tensor:
    """Of each dimension's variance, the share between levels."""
    means = torch.stack([codes[levels == level].mean(0) for level in levels.unique()])
    return (means[levels] - codes.mean(0)).square().mean(0) / codes.var(0).clamp(min=1e-12)


def _numbers(found: Comparison) -> str:
    rows = [(name, *(cell.replace("-", "−") for cell in numbers)) for name, *numbers in found.rows()]
    return f'<section class="wide"><h2>The numbers</h2>{grid(("run", *HEADINGS), rows)}</section>'


def _links(found: Comparison, path: Path) -> str:
    """To the pages beside this one, as far as they are there."""
    pages = {f"All that was measured of {run.name}": run.run.path / REPORT for run in found.runs}
    pages["Both runs compared, image by image"] = path.parent / "compare.html"
    there = {text: page.relative_to(path.parent).as_posix() for text, page in pages.items() if page.is_file()}
    listed = "".join(f'<li><a href="{escaped(page)}">{escaped(text)}</a></li>' for text, page in there.items())
    return f'<section class="wide"><h2>More</h2><ul>{listed}</ul></section>'
