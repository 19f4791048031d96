"""The page of a comparison: numbers of all runs, their differences, what their recipes differ in, and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tightbound import plots
from tightbound.files import write_text
from tightbound.reports.figures import Picture
from tightbound.reports.page import FOOTER, document, section_of
from tightbound.reports.sections import escaped, estimate, framed, row_of, with_commands
from tightbound.runs.comparison import HEADINGS, QUANTITIES, Comparison, Difference, in_a_cell
from tightbound.runs.run import Run

__all__ = ["grid", "pictures", "render", "write_comparison"]

ABOUT = {
    "log_px": "of the data under the model; higher is better",
    "elbo": "the evidence lower bound; higher is better",
    "distortion": "what the reconstruction costs",
    "rate": "what the code costs",
}


def write_comparison(found: Comparison, path: Path) -> Path:
    """Write a comparison as one self-contained page, over the one that was there.

    Args:
        found: what was compared.
        path: of the page.

    Returns:
        The path.

    Example:
        >>> import tempfile, tightbound as tb
        >>> small = {"train.epochs": 0.1, "model.hidden": [8], "evaluate.samples": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = [
        ...         tb.train("digits", out=f"{folder}/{n}", changes={**small, "seed": n}, progress=False)
        ...         for n in (1, 2)
        ...     ]
        ...     write_comparison(tb.compare(made), Path(folder) / "compare.html").name
        'compare.html'
    """
    write_text(path, render(found).encode(errors="backslashreplace").decode())  # paths need not be UTF-8
    return path


def render(found: Comparison) -> str:
    """The page as text. Everything that comes from files or users is escaped.

    Args:
        found: what was compared.

    Returns:
        HTML.
    """
    names = [run.name for run in found.runs]
    parts = [
        _header(found),
        _verdict(found),
        _runs(found),
        *map(_difference, found.differences),
        _fields(found, names),
        *map(section_of, pictures(found)),
        FOOTER,
    ]
    return document(f"{' and '.join(names)}: tightbound comparison", [part for part in parts if part])


def pictures(found: Comparison) -> Iterator[Picture]:
    """Every picture that the runs have numbers for.

    Args:
        found: what was compared.

    Raises:
        ValueError: for damaged metrics.
    """
    first = found.runs[0].name
    less = {run.name: found.paired(run)["log_px"] for run in found.runs[1:]}
    caption = f"How much more likely each observation is than under {first}. A mean can hide that some are less likely."
    if all(len(each) > 1 for each in less.values()):
        yield Picture("differences", "By observation", caption, plots.paired_differences(less, less=first))
    bounds = {
        run.name: ([(each["samples"], each["value"]) for each in run.found["iwae"]], -run.found["nll"])
        for run in found.runs
    }
    if any(len(each) > 1 for each, _ in bounds.values()):
        caption = "What each importance-weighted bound lacks. At K = 1 it is the ELBO: what its encoder costs the run."
        yield Picture("bounds", "How tight the bounds are", caption, plots.compared_bounds(bounds))
    metrics = {run.name: run.run.metrics() for run in found.runs}
    curves = {name: lines for name, lines in metrics.items() if any(line.get("rate") is not None for line in lines)}
    if curves:
        caption = (
            "On what was held out for validation, or on training data where nothing was. These are comparable whatever "
            "was trained on; a loss is not. The first tenth may be cut off."
        )
        yield Picture("training", "Training", caption, plots.compared_curves(curves))


def _header(found: Comparison) -> str:
    facts = {
        "Data": f"{len(found.runs[0].values['elbo'])} {found.split} observations of {found.source}",
        **{run.name: _of(run.run) for run in found.runs},
    }
    listed = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(text)}</dd>" for name, text in facts.items())
    return f"<header><h1>{escaped(', '.join(run.name for run in found.runs))}</h1><dl>{listed}</dl></header>"


def _of(run: Run) -> str:
    lines = run.metrics()
    trained = f", {lines[-1]['step']:,} steps of seed {run.recipe.seed}" if lines else ""
    return f"{run.path}, of the recipe {run.recipe.name}{trained}"


def _verdict(found: Comparison) -> str:
    tiles = "".join(
        f"<div><b>{escaped(value)} <small>{escaped(error)}</small></b>"
        f"<span>nats of log p(x), {escaped(each.name)} less {escaped(each.other)}</span></div>"
        for each in found.differences
        for value, error in [estimate(each.log_px.value, each.log_px.se)]
    )
    points = "\n".join(f"<li>{with_commands(text)}</li>" for text in found.findings)
    fine = found.is_likelihood and all(
        run.found["reliable"] and run.ended and not run.found.get("remark") for run in found.runs
    )
    kind = "wide verdict" if fine else "wide verdict warning"
    return f'<section class="{kind}"><h2>Verdict</h2><div class="tiles">{tiles}</div><ul>{points}</ul></section>'


def _difference(found: Difference) -> str:
    rows = [
        row_of(title, *estimate(getattr(found, name).value, getattr(found, name).se), ABOUT[name])
        for name, title in QUANTITIES.items()
    ]
    note = (
        f"Paired: each observation under {found.name} less the same under {found.other}, {found.observations} of them. "
        f"log p(x) is higher for {found.share:.0%}."
    )
    title = escaped(f"{found.name} less {found.other}")
    return f'<section class="wide"><h2>{title}</h2><p class="note">{escaped(note)}</p>{framed(rows)}</section>'


def _runs(found: Comparison) -> str:
    rows = [(name, *(cell.replace("-", "−") for cell in numbers)) for name, *numbers in found.rows()]
    return f'<section class="wide"><h2>The runs</h2>{grid(("run", *HEADINGS), rows)}</section>'


def _fields(found: Comparison, names: Sequence[str]) -> str:
    """What the recipes differ in."""
    rows = [(name, *map(in_a_cell, values)) for name, values in found.fields.items()]
    told = grid(("field", *names), rows) if rows else '<p class="note">In nothing: only the runs themselves differ.</p>'
    return f'<section class="wide"><h2>What the recipes differ in</h2>{told}</section>'


def grid(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of many columns, which a narrow page scrolls.

    Args:
        headings: of the columns.
        rows: of cells, the first of each its name.

    Returns:
        HTML.

    Example:
        >>> grid(("run", "ELBO"), [("a", "−9.1")]).count("<td")
        2
    """
    head, *body = (
        "".join(f'<{tag} class="{"number" if at else "name"}">{escaped(cell)}</{tag}>' for at, cell in enumerate(row))
        for tag, row in (("th", headings), *(("td", row) for row in rows))
    )
    whole = "".join(f"<tr>{row}</tr>" for row in (head, *body))
    return f'<div class="scroll"><table class="grid">{whole}</table></div>'
