"""A run's report: one self-contained HTML page, with the numbers, their errors, what they mean, and the pictures."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from functools import partial
from importlib import resources
from pathlib import Path

from tightbound import plots
from tightbound.data import Data
from tightbound.files import foreign, write_atomically, write_text
from tightbound.model import Model
from tightbound.reports.figures import Picture, pictures
from tightbound.reports.sections import OF_FILES, escaped, with_commands
from tightbound.runs import recipe as recipes
from tightbound.runs.folder import FIGURES, REPORT
from tightbound.runs.from_fit import HELD_OUT, FromFit, in_words
from tightbound.runs.lessons import lessons
from tightbound.runs.recipe import Recipe
from tightbound.runs.run import Run

__all__ = ["document", "render", "section_of", "write_report"]

WIDE = 530  # CSS pixels: a wider figure has a row of its own
FOOTER = (
    "<footer>Made by tightbound. Numbers are in nats per observation unless said otherwise; ± is one standard error "
    "over observations.</footer>"
)
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # nothing is fetched and nothing runs


def write_report(run: Run, model: Model, data: Data, *, refused: Sequence[str] = ()) -> Path:
    """Write ``report.html`` and ``figures/`` into a run's folder. What cannot be shown of the model it says, and why.

    Args:
        run: whose report.
        model: the run's, trained.
        data: the run's.
        refused: what could not be measured, a sentence each.

    Returns:
        The page's path.

    Example:
        >>> import tempfile, tightbound as tb
        >>> small = {"train.epochs": 0.1, "model.hidden": [8], "model.latent_dim": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = tb.train("digits", out=f"{folder}/run", changes=small, progress=False)
        ...     write_report(run, run.model(), run.data()).name
        'report.html'
    """
    _judged(run)  # numbers that this version cannot read are refused before there is any work in them
    sections, left_out = list[str](), list(refused)
    for picture in pictures(run, model, data, left_out):
        png = plots.to_png(picture.figure)
        write_atomically(run.path / FIGURES / f"{picture.name}.png", partial(Path.write_bytes, data=png))
        sections.append(section_of(picture))
    page = render(run, data, [*map(_left_out, left_out), *sections], model=model)
    write_text(run.path / REPORT, page.encode(errors="backslashreplace").decode())  # paths need not be UTF-8
    return run.path / REPORT


def render(run: Run, data: Data, sections: list[str], *, model: Model | None = None) -> str:
    """The page as text. Everything that comes from files or users is escaped.

    Args:
        run: whose report.
        data: the run's.
        sections: HTML already made, one for each picture.
        model: the run's; without it its size is not told.

    Returns:
        HTML.
    """
    parts = [
        _header(run, data, model),
        *_learned(run),
        *_judged(run),
        *sections,
        _details("Recipe", recipes.to_toml(run.recipe))
        if isinstance(run.recipe, Recipe)
        else _details("Settings", run.recipe.to_toml()),
        _details("Environment", _environment(run)),
        FOOTER,
    ]
    return document(f"{run.recipe.name}: tightbound report", parts)


def document(title: str, parts: Sequence[str]) -> str:
    """A page that needs nothing else, fetches nothing and runs nothing.

    Args:
        title: of the page, as text.
        parts: what is in it, as HTML.

    Returns:
        HTML.

    Example:
        >>> document("a < b", ["<p>less</p>"]).count("a &lt; b")
        1
    """
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escaped(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>\n{_style()}</style></head>\n'
        f"<body><main>\n{chr(10).join(parts)}\n</main></body></html>\n"
    )


def _environment(run: Run) -> str:
    """What the run was made with. The report does without: a damaged file of it can't be measured anew."""
    try:
        return "\n".join(f"{key}: {value}" for key, value in run.environment().items())
    except ValueError as error:
        return f"environment: not readable. {error}"


def _judged(run: Run) -> list[str]:
    """What was measured of the run, a section for each file that is there."""
    made = []
    for name, section in OF_FILES.items():
        if (found := run.kept(name)) is not None:
            with foreign(run.path / name, "numbers as this version keeps them", run.renewed(name)):
                made.append(section(found))
    return made


def _learned(run: Run) -> list[str]:
    """What the curves of its training say, where that is something to act on."""
    points = "\n".join(f"<li>{with_commands(text)}</li>" for text in lessons(run))
    return [f'<section class="wide verdict warning"><h2>Training</h2><ul>{points}</ul></section>'] if points else []


def _left_out(reason: str) -> str:
    """A section for what there is not."""
    return f'<section class="wide verdict warning"><h2>Left out</h2><p>{escaped(reason)}</p></section>'


def _style() -> str:
    return (resources.files("tightbound.reports") / "style.css").read_text(encoding="utf-8")


def _header(run: Run, data: Data, model: Model | None) -> str:
    facts = {"Data": _data(run, data), "Model": _model(run, model), "Training": _training(run), "Made": _made(run)}
    again = "tightbound recipes RUN > again.toml; tightbound train again.toml"
    if isinstance(run.recipe, FromFit):
        again = run.recipe.again("ANOTHER", resume=False)
    listed = "".join(f"<dt>{name}</dt><dd>{escaped(text)}</dd>" for name, text in facts.items())
    listed += f"<dt>Again</dt><dd><code>{escaped(again)}</code></dd>"
    about = f"<p>{escaped(run.recipe.about)}</p>" if run.recipe.about else ""
    return f"<header><h1>{escaped(run.recipe.name)}</h1>{about}<dl>{listed}</dl></header>"


def _data(run: Run, data: Data) -> str:
    shape = "×".join(map(str, run.config.shape)) + (", binarised" if data.test.binarise else "")
    if HELD_OUT in data.test.notes:
        kept = f"{len(data.test)} held out for validation, which are judged as there is no test set"
        return f"{data.name}: {len(data.train)} training observations of {shape}, and {kept}"
    held_out = run.held_out(data)
    kept = f", {len(held_out)} of them held out for validation," if held_out is not None else ""
    return f"{data.name}: {len(data.train)} training{kept} and {len(data.test)} test observations of {shape}"


def _model(run: Run, made: Model | None) -> str:
    count = "" if made is None else f", {sum(each.numel() for each in made.parameters()):,} parameters"
    if isinstance(run.recipe, FromFit):
        return ("not at hand" if made is None else in_words(made)) + count
    model = run.recipe.model
    because = f" ({run.config.why})" if run.config.why else ""
    widths = ""
    if made is not None and model.network == "mlp" and model.hidden:
        widths = f" of {' and '.join(map(str, model.hidden))} units"
    return (
        f"{model.latent_dim} latent dimensions, {model.prior} prior, {model.posterior} posterior, "
        f"{model.likelihood} likelihood{because}, {model.network} networks{widths}{count}"
    )


def _made(run: Run) -> str:
    """When, with what, and how long it took; what nobody wrote down is left out."""
    try:
        known = run.environment()
    except ValueError:  # further down the page says so
        known = {}
    seconds = run.seconds()
    took = [] if seconds is None else [f"in {seconds:.0f} s" if seconds < 120 else f"in {seconds / 60:.0f} minutes"]
    versions = [f"{name} {known[name]}" for name in ("tightbound", "torch", "python") if known.get(name)]
    where = [str(known[name]) for name in ("cuda", "system") if known.get(name)][:1]
    return ", ".join([str(known.get("started", "no date on record")), *took, *where, *versions])


def _training(run: Run) -> str:
    metrics = run.metrics()
    if not metrics:
        return "none on record"
    step, epoch = metrics[-1]["step"], metrics[-1]["epoch"]
    made = f", images {augmented}" if (augmented := run.recipe.data.augmented()) else ""
    return f"{step} steps, {epoch:.4g} epochs{made}, seed {run.recipe.seed}. {run.recipe.objective.in_words(step)}"


def section_of(picture: Picture) -> str:
    """A figure with its words. As SVG it follows a dark page; within an image nothing of it can run.

    Args:
        picture: any.

    Returns:
        HTML.
    """
    svg = plots.to_svg(picture.figure)
    size = [round(float(found)) for found in re.findall(r'\b(?:width|height)="([0-9.]+)"', svg)[:2]]
    source = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")
    kind = ' class="wide"' if size[0] > WIDE else ""
    return (
        f'<section{kind} id="{escaped(picture.name)}"><h2>{escaped(picture.title)}</h2><figure>'
        f'<img src="{source}" width="{size[0]}" height="{size[1]}" alt="{escaped(plots.alt_text(picture.figure))}">'
        f"<figcaption>{escaped(picture.caption)}</figcaption></figure></section>"
    )


def _details(title: str, text: str) -> str:
    return f'<section class="wide"><details><summary>{title}</summary><pre>{escaped(text)}</pre></details></section>'
