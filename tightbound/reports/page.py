"""A run's report: one self-contained HTML page, with the numbers, their errors, what they mean, and the pictures."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable, Sequence
from functools import partial
from importlib import resources
from pathlib import Path

from tightbound import plots
from tightbound.architecture import in_words, parameters_of
from tightbound.data import Data
from tightbound.files import foreign, write_atomically, write_text
from tightbound.model import Model
from tightbound.reports.figures import Picture, pictures
from tightbound.reports.sections import OF_FILES, escaped, with_commands
from tightbound.reports.terms import glossary
from tightbound.runs import recipe as recipes
from tightbound.runs.fitting import layers_of
from tightbound.runs.folder import FIGURES, REPORT
from tightbound.runs.from_fit import HELD_OUT, FromFit
from tightbound.runs.lessons import lessons
from tightbound.runs.recipe import Recipe
from tightbound.runs.run import Run
from tightbound.runs.told import OTHERS, UNKNOWN, InPython, Judged, Told

__all__ = ["document", "facts_of", "page_of", "refuse_damaged", "render", "section_of", "write_report"]

SEVERAL = 3  # sections, more of which have a list of contents
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

    def save(picture: Picture) -> None:
        png = plots.to_png(picture.figure)
        write_atomically(run.path / FIGURES / f"{picture.name}.png", partial(Path.write_bytes, data=png))

    page = page_of(run, model, data, refused=refused, save=save)
    write_text(run.path / REPORT, page.encode(errors="backslashreplace").decode())  # paths need not be UTF-8
    return run.path / REPORT


def page_of(
    run: Told, model: Model, data: Data, *, refused: Sequence[str] = (), save: Callable[[Picture], object] | None = None
) -> str:
    """The page of a model, whether a folder holds it or not. What cannot be shown of it the page says, and why.

    Args:
        run: a run, or a model that was made in Python.
        model: it, trained.
        data: what it was trained and is judged on.
        refused: what could not be measured, a sentence each.
        save: is called with each picture, where they are kept as files too.

    Returns:
        HTML.

    Raises:
        ValueError: for damaged files.

    Example:
        >>> import torch, tightbound as tb
        >>> from tightbound.runs.told import in_python
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> made, data = in_python("mine", "VAE", torch.randn(9, 5), None)
        >>> page_of(made, model, data)[:15]
        '<!doctype html>'
    """
    refuse_damaged(run)  # before there is any work in it
    sections, left_out = list[str](), list(refused)
    for picture in pictures(run, model, data, left_out):
        if save is not None:
            save(picture)
        sections.append(section_of(picture))
    return render(run, data, [*_left_out(left_out), *sections], model=model)


def refuse_damaged(run: Told) -> None:
    """Refuse numbers that this version cannot read.

    Args:
        run: whose.

    Raises:
        ValueError: for such, with how they are made anew.

    Example:
        >>> import torch
        >>> from tightbound.runs.told import in_python
        >>> refuse_damaged(in_python("mine", "VAE", torch.randn(9, 5), None)[0])
    """
    _judged(run)


def render(run: Told, data: Data, sections: list[str], *, model: Model | None = None) -> str:
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
        *_recipe(run),
        _details("Environment", _environment(run)),
        FOOTER,
    ]
    return document(f"{run.name}: tightbound report", parts)


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
    body = _with_contents("\n".join(parts))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escaped(title)}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>\n{_style()}</style></head>\n'
        f"<body><main>\n{body}\n</main></body></html>\n"
    )


def _recipe(run: Told) -> list[str]:
    if isinstance(run.recipe, Recipe):
        return [_details("Recipe", recipes.to_toml(run.recipe))]
    return [] if run.recipe is None else [_details("Settings", run.recipe.to_toml())]


def _with_contents(body: str) -> str:
    """What a page has, listed behind its head, and what its terms mean, at its end."""
    if terms := glossary(body):
        body = body.replace(FOOTER, f"{terms}\n{FOOTER}")
    listed = list[str]()

    def named(found: re.Match[str]) -> str:
        attributes, title = found.groups()
        if given := re.search(r'id="([^"]*)"', attributes):
            anchor = given[1]
        else:
            anchor = "part-" + re.sub(r"[^a-z0-9]+", "-", html.unescape(title).lower()).strip("-")
            anchor += f"-{len(listed)}" if f'"#{anchor}"' in "".join(listed) else ""  # a title may come twice
            attributes += f' id="{anchor}"'
        listed.append(f'<a href="#{anchor}">{title}</a>')
        return f"<section{attributes}><h2>{title}"

    body = re.sub(r"<section([^>]*)><h2>([^<]*)", named, body)
    contents = f'</header>\n<nav class="wide" aria-label="Contents">{" ".join(listed)}</nav>'
    return body.replace("</header>", contents, 1) if len(listed) > SEVERAL else body


def _environment(run: Told) -> str:
    """What the run was made with. The report does without: a damaged file of it can't be measured anew."""
    try:
        return "\n".join(f"{key}: {value}" for key, value in run.environment().items())
    except ValueError as error:
        return f"environment: not readable. {error}"


def _judged(run: Told) -> list[str]:
    """What was measured of the run, a section for each file that is there."""
    made = []
    for name, section in OF_FILES.items():
        if (found := run.kept(name)) is not None:
            with foreign(run.path / name, "numbers as this version keeps them", run.renewed(name)):
                made.append(section(found))
    return made


def _learned(run: Told) -> list[str]:
    """What the curves of its training say, where that is something to act on."""
    points = "\n".join(f"<li>{with_commands(text)}</li>" for text in lessons(run))
    return (
        [f'<section class="wide verdict warning"><h2>How training ended</h2><ul>{points}</ul></section>']
        if points
        else []
    )


def _left_out(reasons: Sequence[str]) -> list[str]:
    """A section for what there is not."""
    points = "\n".join(f"<li>{escaped(reason)}</li>" for reason in reasons)
    return [f'<section class="wide verdict warning"><h2>Left out</h2><ul>{points}</ul></section>'] if points else []


def _style() -> str:
    return (resources.files("tightbound.reports") / "style.css").read_text(encoding="utf-8")


def _header(run: Told, data: Data, model: Model | None) -> str:
    facts = facts_of(run, data, model)
    listed = "".join(f"<dt>{name}</dt><dd>{escaped(text)}</dd>" for name, text in facts.items())
    if again := _again(run):
        listed += f"<dt>Again</dt><dd><code>{escaped(again)}</code></dd>"
    about = f"<p>{escaped(run.recipe.about)}</p>" if run.recipe is not None and run.recipe.about else ""
    return f"<header><h1>{escaped(run.name)}</h1>{about}<dl>{listed}</dl></header>"


def _again(run: Told) -> str:
    """How the same is trained anew; empty where nobody knows."""
    if run.recipe is None:
        return ""
    if isinstance(run.recipe, FromFit):
        of = run.of if isinstance(run, Judged) else run
        return run.recipe.again(None if isinstance(of, InPython) else "ANOTHER", resume=False)
    return "tightbound recipes RUN > again.toml; tightbound train again.toml"


def facts_of(run: Told, data: Data, model: Model | None) -> dict[str, str]:
    """What a reader must know of a run before its numbers.

    Args:
        run: which.
        data: the run's.
        model: the run's; without it its size is not told.

    Returns:
        Words, by what they are of.
    """
    return {"Data": _data(run, data), "Model": _model(run, model), "Training": _training(run), "Made": _made(run)}


def _data(run: Told, data: Data) -> str:
    shape = "×".join(map(str, run.config.shape)) + (", binarised" if data.test.binarise else "")
    if HELD_OUT in data.test.notes:
        kept = f"{len(data.test)} held out for validation, which are judged as there is no test set"
        return f"{data.name}: {len(data.train)} training observations of {shape}, and {kept}"
    if UNKNOWN in data.test.notes:
        return f"{data.name}: {len(data.test)} observations of {shape}. {UNKNOWN}"
    held_out = run.held_out(data)
    kept = f", {len(held_out)} of them held out for validation," if held_out is not None else ""
    others = f". {OTHERS}" if OTHERS in data.test.notes else ""
    return f"{data.name}: {len(data.train)} training{kept} and {len(data.test)} test observations of {shape}{others}"


def _model(run: Told, made: Model | None) -> str:
    count = "" if made is None else f"{parameters_of(made):,} parameters"
    if not isinstance(run.recipe, Recipe):
        return "not at hand" if made is None else f"{in_words(made)}; {count}"
    model = run.recipe.model
    because = f" ({run.config.why})" if run.config.why else ""
    widths = ""
    if made is not None and model.network == "mlp" and model.hidden:
        widths = f" of {' and '.join(map(str, model.hidden))} units"
    layers = " + ".join(map(str, layers_of(model)))
    return (
        f"{layers} latent dimensions, {model.prior} prior, {model.posterior} posterior, "
        f"{model.likelihood} likelihood{because}, {model.network} networks{widths}{', ' if count else ''}{count}"
    )


def _made(run: Told) -> str:
    """When, with what, and how long it took; what nobody wrote down is left out."""
    try:
        known = run.environment()
    except ValueError:  # further down the page says so
        known = {}
    seconds = run.seconds()
    took = [] if seconds is None else [f"in {seconds:.0f} s" if seconds < 120 else f"in {seconds / 60:.0f} minutes"]
    versions = [f"{name} {known[name]}" for name in ("tightbound", "torch", "python") if known.get(name)]
    where = [str(known[name]) for name in ("cuda", "system") if known.get(name)][:1]
    if reported := known.get("reported"):
        return ", ".join([*(f"trained {each}" for each in took), f"page of {reported}", *where, *versions])
    return ", ".join([str(known.get("started", "no date on record")), *took, *where, *versions])


def _training(run: Told) -> str:
    metrics, recipe = run.metrics(), run.recipe
    if not metrics or recipe is None:
        return "not told" if recipe is None else "none on record"
    step, epoch = metrics[-1]["step"], metrics[-1]["epoch"]
    made = f", images {augmented}" if (augmented := recipe.data.augmented()) else ""
    return f"{step} steps, {epoch:.4g} epochs{made}, seed {recipe.seed}. {recipe.objective.in_words(step)}"


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
