"""A run's report: one self-contained HTML page, with the numbers, their errors, what they mean, and the pictures."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from tightbound import plots
from tightbound import recipe as recipes
from tightbound.data import Data
from tightbound.figures import Picture, pictures
from tightbound.files import write_text
from tightbound.model import VAE
from tightbound.run import FIGURES, REPORT, Run

STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #5b6675; --line: #dfe4ea; --accent: #0072b2; --paper: #fff; }
* { box-sizing: border-box; }
body { font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; color: var(--ink); background: #f6f8fa;
  margin: 0; padding: 2.5rem 1rem 5rem; }
main { max-width: 62rem; margin: 0 auto; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 0 0 .4rem; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 1.3rem 1.6rem;
  margin: 1.2rem 0; }
.lead { color: var(--soft); margin: 0 0 1.5rem; }
.verdict { border-left: 4px solid var(--accent); }
.warning { border-left: 4px solid #d55e00; }
figure { margin: 0; } figure img { max-width: 100%; height: auto; display: block; margin: .4rem auto 0; }
figcaption { color: var(--soft); font-size: .92rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { text-align: right; white-space: nowrap; } td.note { color: var(--soft); }
pre { overflow-x: auto; font-size: .85rem; line-height: 1.45; margin: .5rem 0 0; }
summary { cursor: pointer; font-weight: 600; }
footer { color: var(--soft); font-size: .85rem; }
"""


def write_report(run: Run, model: VAE, data: Data) -> Path:
    """Write ``report.html`` and ``figures/`` into a run's folder; gives the page's path."""
    made = []
    for picture in pictures(run, model, data):
        plots.save(picture.figure, run.path / FIGURES / f"{picture.name}.png")
        made.append(picture)
    page = render(run, data, made)
    write_text(run.path / REPORT, page)
    return run.path / REPORT


def render(run: Run, data: Data, made: list[Picture]) -> str:
    """The page as text. Everything that comes from files or users is escaped."""
    evaluation = run.evaluation()
    parts = [
        f"<h1>{html.escape(run.recipe.name)}</h1>",
        f'<p class="lead">{html.escape(_lead(run, data))}</p>',
        *([] if evaluation is None else [_verdict(evaluation), _table(evaluation)]),
        *(_section(picture) for picture in made),
        _details("Recipe", recipes.to_toml(run.recipe)),
        _details("Environment", "\n".join(f"{key}: {value}" for key, value in run.environment().items())),
        "<footer>Made by tightbound. All numbers are in nats per observation unless said otherwise; "
        "± is one standard error over observations.</footer>",
    ]
    title = html.escape(f"{run.recipe.name}: tightbound report")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f"<body><main>\n{chr(10).join(parts)}\n</main></body></html>\n"
    )


def _lead(run: Run, data: Data) -> str:
    model = run.recipe.model
    shape = "×".join(map(str, run.config.shape))
    likelihood = f"{model.likelihood} likelihood ({run.config.why})" if run.config.why else f"{model.likelihood} likelihood"
    return (
        f"{run.recipe.about} {data.name}: {len(data.train)} training and {len(data.test)} test observations of {shape}. "
        f"{model.latent_dim} latent dimensions, {model.prior} prior, {model.posterior} posterior, {likelihood}."
    ).strip()


def _verdict(evaluation: dict[str, Any]) -> str:
    kind = "verdict" if evaluation["reliable"] and evaluation["is_likelihood"] else "verdict warning"
    return f'<section class="{kind}"><h2>Verdict</h2><p>{html.escape(evaluation["verdict"])}</p></section>'


def _table(evaluation: dict[str, Any]) -> str:
    def row(name: str, value: str, note: str = "") -> str:
        return f'<tr><td>{name}</td><td class="number">{value}</td><td class="note">{note}</td></tr>'

    def estimate(key: str) -> str:
        return _pm(evaluation[key], evaluation[f"{key}_se"])

    rungs = [row(f"importance-weighted bound, K = {r['samples']}", _pm(r["value"], r["se"])) for r in evaluation["iwae"]]
    rows = [
        row("ELBO", estimate("elbo"), "lower bound on log p(x), higher is better"),
        row("distortion", estimate("distortion"), "−E log p(x|z): what the reconstruction costs"),
        row("rate", estimate("rate"), f"KL(q(z|x) ‖ p(z)), {evaluation['rate_kind']}: what the code costs"),
        *rungs,
        row("negative log-likelihood", estimate("nll"), "lower is better" if evaluation["is_likelihood"] else "no likelihood"),
        row("bits per dimension", f"{evaluation['bits_per_dim']:.4f}"),
        row("effective samples, median", f"{evaluation['ess_median']:.4g}", f"too few to trust for {evaluation['low_ess_share']:.1%} of the observations"),
        row("active units", f"{evaluation['active_units']} of {evaluation['latent_dim']}"),
    ]
    head = f"{evaluation['observations']} observations, {evaluation['samples']} samples each"
    return f"<section><h2>Evidence</h2><p class='lead'>{head}</p><table>{''.join(rows)}</table></section>"


def _pm(value: float, error: float | None) -> str:
    return f"{value:.2f} ± {error:.2f}" if error is not None else f"{value:.2f}"


def _section(picture: Picture) -> str:
    alt = html.escape(plots.alt_text(picture.figure), quote=True)
    image = f'<img src="{plots.to_data_uri(picture.figure)}" alt="{alt}">'
    return (
        f"<section><h2>{html.escape(picture.title)}</h2><figure><figcaption>{html.escape(picture.caption)}</figcaption>"
        f"{image}</figure></section>"
    )


def _details(title: str, text: str) -> str:
    return f"<section><details><summary>{title}</summary><pre>{html.escape(text)}</pre></details></section>"
