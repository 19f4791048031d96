"""A run's report: one self-contained HTML page, with the numbers, their errors, what they mean, and the pictures."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from tightbound import plots
from tightbound.autoencoder import VAE
from tightbound.data import Data
from tightbound.evaluate import Estimate
from tightbound.evaluate.check import TITLES
from tightbound.files import foreign, write_atomically, write_text
from tightbound.report.figures import Picture, pictures
from tightbound.runs import recipe as recipes
from tightbound.runs.run import (
    CERTIFICATE,
    CHECKS,
    CLASSIFICATION,
    DISENTANGLEMENT,
    EVALUATION,
    FIGURES,
    GAPS,
    INDEPENDENCE,
    INFORMATION,
    REPORT,
    Run,
)

WIDE = 530  # CSS pixels: a wider figure has a row of its own
_ESTIMATED = {
    "refined": "by proposals fitted to each observation",
    "enumerated": "as the sum over all codes",
    "posterior": "from {samples} samples of q(z|x)",
}
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"  # nothing is fetched and nothing runs


def write_report(run: Run, model: VAE, data: Data, *, refused: Sequence[str] = ()) -> Path:
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
        sections.append(_section(picture))
    write_text(run.path / REPORT, render(run, data, [*map(_left_out, left_out), *sections]))
    return run.path / REPORT


def render(run: Run, data: Data, sections: list[str]) -> str:
    """The page as text. Everything that comes from files or users is escaped.

    Args:
        run: whose report.
        data: the run's.
        sections: HTML already made, one for each picture.

    Returns:
        HTML.
    """
    parts = [
        _header(run, data),
        *_judged(run),
        *sections,
        _details("Recipe", recipes.to_toml(run.recipe)),
        _details("Environment", "\n".join(f"{key}: {value}" for key, value in run.environment().items())),
        "<footer>Made by tightbound. Numbers are in nats per observation unless said otherwise; ± is one standard "
        "error over observations.</footer>",
    ]
    title = _escaped(f"{run.recipe.name}: tightbound report")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>\n{_style()}</style></head>\n'
        f"<body><main>\n{chr(10).join(parts)}\n</main></body></html>\n"
    )


def _judged(run: Run) -> list[str]:
    """What was measured of the run, a section for each file that is there."""
    makers = (
        (EVALUATION, _evidence), (GAPS, _gaps), (INFORMATION, _information), (CERTIFICATE, _certificate),
        (CLASSIFICATION, _classification), (CHECKS, _checks), (DISENTANGLEMENT, _disentanglement),
        (INDEPENDENCE, _independence),
    )  # fmt: skip
    made = []
    for name, section in makers:
        if (found := run.kept(name)) is not None:
            with foreign(run.path / name, "numbers as this version keeps them"):
                made.append(section(found))
    return made


def _left_out(reason: str) -> str:
    """A section for what there is not."""
    return f'<section class="wide verdict warning"><h2>Left out</h2><p>{_escaped(reason)}</p></section>'


def _evidence(found: dict[str, Any]) -> str:
    return _verdict(found) + "\n" + _table(found)


def _style() -> str:
    return (resources.files("tightbound.report") / "style.css").read_text(encoding="utf-8")


def _header(run: Run, data: Data) -> str:
    facts = {"Data": _data(run, data), "Model": _model(run), "Training": _training(run)}
    listed = "".join(f"<dt>{name}</dt><dd>{_escaped(text)}</dd>" for name, text in facts.items())
    about = f"<p>{_escaped(run.recipe.about)}</p>" if run.recipe.about else ""
    return f"<header><h1>{_escaped(run.recipe.name)}</h1>{about}<dl>{listed}</dl></header>"


def _data(run: Run, data: Data) -> str:
    held_out = run.held_out(data)
    kept = f", {len(held_out)} of them held out for validation," if held_out is not None else ""
    shape = "×".join(map(str, run.config.shape))
    binarised = ", binarised" if data.test.binarise else ""
    return f"{data.name}: {len(data.train)} training{kept} and {len(data.test)} test observations of {shape}{binarised}"


def _model(run: Run) -> str:
    model = run.recipe.model
    because = f" ({run.config.why})" if run.config.why else ""
    return (
        f"{model.latent_dim} latent dimensions, {model.prior} prior, {model.posterior} posterior, "
        f"{model.likelihood} likelihood{because}, {model.network} networks"
    )


def _training(run: Run) -> str:
    metrics = run.metrics()
    if not metrics:
        return "none on record"
    step, epoch = metrics[-1]["step"], metrics[-1]["epoch"]
    return f"{step} steps, {epoch:.4g} epochs, seed {run.recipe.seed}. {run.recipe.objective.in_words(step)}"


def _verdict(found: dict[str, Any]) -> str:
    fine = found["reliable"] and found["is_likelihood"]
    proposal = _proposal(found)
    bound = ("exact" if proposal == "enumerated" else "estimate") if fine else "lower bound"
    name = f"log p(x), {bound} {_ESTIMATED[proposal].format(**found)}"
    what_is_active = "variables of the code" if found.get("information") else "latent dimensions"
    units = f"of {found['latent_dim']} {what_is_active} active"
    tiles = [
        (
            _estimate(-found["nll"], found["nll_se"]),
            name if found["is_likelihood"] else "no log p(x): see below",
        ),
        (_estimate(found["elbo"], found["elbo_se"]), "ELBO"),
        (_estimate(found["gap"], found["gap_se"]), "nats between the two"),
        (_estimate(found["rate"], found["rate_se"]), "nats in the code, the rate"),
        ((str(found["active_units"]), ""), units),
    ]
    shown = "".join(
        f"<div><b>{_escaped(value)} <small>{_escaped(error)}</small></b><span>{_escaped(what)}</span></div>"
        for (value, error), what in tiles
    )
    warning = "" if fine else "<small>read with care</small>"
    kind = "wide verdict" if fine else "wide verdict warning"
    text = _escaped(found["verdict"])
    return f'<section class="{kind}"><h2>Verdict{warning}</h2><div class="tiles">{shown}</div><p>{text}</p></section>'


def _table(found: dict[str, Any]) -> str:
    kind = str(found["rate_kind"]).replace("-", " ")
    kind = "estimate of −log p(x) " if found["reliable"] else "upper bound on −log p(x) "
    nll = kind + _ESTIMATED[_proposal(found)].format(**found)
    rows = [
        ("ELBO", found["elbo"], found["elbo_se"], "lower bound on log p(x), higher is better"),
        ("distortion", found["distortion"], found["distortion_se"], "−E log p(x|z): what the reconstruction costs"),
        ("rate", found["rate"], found["rate_se"], f"KL(q(z|x) ‖ p(z)), {kind}: what the code costs"),
        *(
            (f"IWAE, K = {bound['samples']}", bound["value"], bound["se"], "importance-weighted bound of K samples")
            for bound in found["iwae"]
        ),
        ("NLL", found["nll"], found["nll_se"], nll if found["is_likelihood"] else "no likelihood: see the verdict"),
    ]
    cells = [_row(name, *_estimate(value, error), about) for name, value, error, about in rows]
    moves = "it tells more than 0.01 nats about x" if found.get("information") else "the posterior's mean moves with x"
    cells += [
        _row("bits per dimension", f"{found['bits_per_dim']:.4f}", "", "NLL in bits, by element of an observation"),
        *_middle(found),
        *_trust(found),
        _row("active units", f"{found['active_units']} of {found['latent_dim']}", "", moves),
    ]
    note = f"{found['observations']} test observations; of each, bounds from {found['samples']} samples of q(z|x)."
    return f'<section class="wide"><h2>Evidence</h2><p class="note">{_escaped(note)}</p>{_framed(cells)}</section>'


def _certificate(found: dict[str, Any]) -> str:
    """Both methods and both bounds, and what they prove."""
    rows = [
        ("NLL, refined", "refined", "by proposals fitted to each of the observations"),
        ("NLL, annealed", "annealed", "by a walk from these proposals to the true posteriors"),
        ("difference", "difference", "of log p(x), paired by observation"),
        ("lower bound", "lower", "on log p(x) of observations that the model simulated"),
        ("upper bound", "upper", "on the same, from exact draws of their posteriors"),
        ("gap", "gap", "between the two, paired by observation"),
    ]
    return _checked("Certificate", found["verdict"], found, rows)


def _gaps(found: dict[str, Any]) -> str:
    """Where the nats between ELBO and log p(x) go, on the test set and on training observations."""
    rows = [
        ("gap", "gap", "log p(x) less the ELBO"),
        ("encoder", "amortisation", "lost by the encoder to the best member of its family"),
        ("family", "approximation", "lost by that best member"),
        ("full covariance", "full_wins", "what a full covariance wins over none, each fitted to the observation"),
    ]
    return _checked("How loose the bound is, and why", found["verdict"], found["test"], rows)


def _information(found: dict[str, Any]) -> str:
    """What the code tells, and where the rest of the rate goes."""
    rows = [
        ("rate", "rate", "E log q(z|x) − log p(z)"),
        ("at least", "lower", "mutual information of code and observation"),
        ("at most", "upper", "of the same"),
        ("all codes", "marginal_kl", "KL(q(z) ‖ p(z)): how far all codes together are from the prior"),
        ("total correlation", "total_correlation", "of that, dependence between the dimensions"),
        ("dimensions", "dimension_wise", "of that, each dimension by itself"),
    ]
    return _checked("What the code tells", found["verdict"], found, rows)


def _checks(found: dict[str, Any]) -> str:
    """What comes true of what the model says: intervals, predictions, samples."""
    cells = []
    for name, of in (("posterior", "q(z|x)"), ("refined", "refined proposals")):
        for each in [] if found[name] is None else found[name]["coverage"]:
            about = f"of the latents that simulated data were made of lie in central {each['interval']:.0%} intervals"
            cells.append(_row(of, *_estimate(each["value"], each["se"]), about))
    rows = (
        (
            "predictive",
            "replicas",
            "realised",
            "mean p-value: share of replicas that are less likely than the test data",
        ),
        ("predictive", "the model's own", "simulated", "the same of data that the model made"),
        (
            "predictive",
            "what is made",
            "above",
            "share of what the model makes that has a lower ELBO than the test data",
        ),
        ("neighbours", "neighbours", "nearer", "share of pairs in which a sample is nearer to training than test data"),
        ("neighbours", "very near", "very_near", "share of samples nearer than all but 1 % of the test data"),
    )
    for check, name, key, about in rows:
        if (report := found[check]) is not None:
            cells.append(_row(name, *_estimate(report[key], report[f"{key}_se"]), about))
    said = "".join(f"<p>{_escaped(part)}</p>" for part in found["verdict"].split("\n\n"))
    left_out = "".join(
        f'<p class="note">Left out, {_escaped(TITLES.get(name, name))}: {_escaped(reason)}</p>'
        for name, reason in found["skipped"].items()
    )
    table = _framed(cells, unit="share")
    return f'<section class="wide"><h2>Does it come true?</h2>{said}{left_out}{table}</section>'


def _classification(found: dict[str, Any]) -> str:
    """How often one class is taken for another."""
    names = ("error", "expected_error")
    shares = {key: 100 * found[key] for name in names for key in (name, f"{name}_se") if found[key] is not None}
    rows = [("error", "error", "taken for another class"), ("expected", "expected_error", "by q(y|x) itself")]
    cells = [_row(name, *_estimate(shares[key], shares.get(f"{key}_se")), about) for name, key, about in rows]
    verdict = _escaped(found["verdict"])
    return f'<section class="wide"><h2>Classes</h2><p>{verdict}</p>{_framed(cells, unit="%")}</section>'


def _independence(found: dict[str, Any]) -> str:
    """How far dimensions depend on one another, where no factor is known."""
    rows = [("total correlation", "total_correlation", "of q(z) over its dimensions")]
    return _checked("What can be said of dimensions without known factors", found["verdict"], found, rows)


def _disentanglement(found: dict[str, Any]) -> str:
    """How far each latent dimension stands for one known factor."""
    cells = []
    for score in found["scores"].values():
        about = f"{score['definition']} Chance {score['chance']:.2f}, a perfect code {score['perfect']:.2f}."
        cells.append(_row(score["title"], *_estimate(score["value"], score["se"]), about))
    title, verdict = "What each latent dimension stands for", _escaped(found["verdict"])
    return f'<section class="wide"><h2>{title}</h2><p>{verdict}</p>{_framed(cells, unit="score")}</section>'


def _checked(title: str, verdict: str, found: dict[str, Any], rows: list[tuple[str, str, str]]) -> str:
    cells = [
        _row(name, *_estimate(found[key], found[f"{key}_se"]), about)
        for name, key, about in rows
        if found[key] is not None
    ]
    return f'<section class="wide"><h2>{title}</h2><p>{_escaped(verdict)}</p>{_framed(cells)}</section>'


def _middle(found: dict[str, Any]) -> list[str]:
    """A row on what no far observation can move; none in evaluations that an older version kept."""
    if found.get("nll_trimmed") is None:
        return []
    about = f"of the middle 90 % of the observations; the median is {found['nll_median']:.2f}"
    return [_row("NLL, middle 90 %", *_estimate(found["nll_trimmed"], found["nll_trimmed_se"]), about)]


def _trust(found: dict[str, Any]) -> list[str]:
    """Rows on the draws behind the NLL; none where it is an exact sum."""
    if _proposal(found) == "enumerated":
        return []
    rows = [_row("effective samples", f"{found['ess_median']:.4g}", "", "of these draws; median over the observations")]
    if "draws_mean" in found:
        error = found["draws_error"]
        noise = "" if error is None else f"; their noise moves the mean by {error:.2g}"
        about = f"for the NLL of an observation, at most {found['draws_max']}{noise}"
        rows.insert(0, _row("draws", f"{found['draws_mean']:.4g}", "", about))
        share = f"of the weights' tail, median; above 0.7 for {found['high_k_share']:.1%} of the observations"
        k = found["k_median"]
        rows.append(_row("Pareto's k", "unknown" if k is None else f"{k:.2f}".replace("-", "−"), "", share))
    return rows


def _proposal(found: dict[str, Any]) -> str:
    """What log p(x) came from; in evaluations that an older version kept, from the posterior."""
    return str(found.get("proposal", "posterior"))


def _framed(cells: list[str], unit: str = "nats") -> str:
    """A table of rows that :func:`_row` makes."""
    head = f'<tr><th></th><th class="number">{unit}</th><th>± error</th><th class="about"></th></tr>'
    return f'<div class="scroll"><table>{head}{"".join(cells)}</table></div>'


def _row(name: str, value: str, error: str, about: str) -> str:
    cells = (("name", name), ("number", value), ("error", error), ("about", about))
    return "<tr>" + "".join(f'<td class="{kind}">{_escaped(text)}</td>' for kind, text in cells) + "</tr>"


def _estimate(value: float, error: float | None) -> tuple[str, str]:
    """Value and "± error", as many digits as the error allows."""
    number, _, rest = str(Estimate(value, float("nan") if error is None else error)).partition(" ")
    return number.replace("-", "−"), rest


def _section(picture: Picture) -> str:
    """A figure with its words. As SVG it follows a dark page; within an image nothing of it can run."""
    svg = plots.to_svg(picture.figure)
    size = [round(float(found)) for found in re.findall(r'\b(?:width|height)="([0-9.]+)"', svg)[:2]]
    source = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")
    kind = ' class="wide"' if size[0] > WIDE else ""
    return (
        f'<section{kind} id="{_escaped(picture.name)}"><h2>{_escaped(picture.title)}</h2><figure>'
        f'<img src="{source}" width="{size[0]}" height="{size[1]}" alt="{_escaped(plots.alt_text(picture.figure))}">'
        f"<figcaption>{_escaped(picture.caption)}</figcaption></figure></section>"
    )


def _details(title: str, text: str) -> str:
    return f'<section class="wide"><details><summary>{title}</summary><pre>{_escaped(text)}</pre></details></section>'


def _escaped(text: object) -> str:
    return html.escape(str(text), quote=True)
