"""What the command line's verbs do. Each gives an exit code; a wrong request is a ValueError."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from tightbound import figures, plots, run, sweep as sweeps
from tightbound.evaluate import Evidence, evidence
from tightbound.files import write_atomically
from tightbound.recipe import Recipe
from tightbound.report import write_report
from tightbound.run import FIGURES, Run, open_run
from tightbound.train import Fit


def train(recipe: Recipe, out: Path | None, *, progress: bool = True) -> int:
    """Train, evaluate, report."""
    folder = out or run.default_folder(recipe)
    made, ended = run.train(recipe, folder, progress=progress)
    return _after(made, ended, progress=progress)


def resume(path: Path, *, progress: bool = True) -> int:
    """Go on with a run, evaluate, report."""
    made, ended = run.resume(path, progress=progress)
    return _after(made, ended, progress=progress)


def _after(made: Run, ended: Fit, *, progress: bool) -> int:
    if ended.ended == "interrupted":
        _tell(f"Stopped at step {ended.steps}. Go on with: tightbound train --resume {made.path}")
        return 1
    early = " (early: the validation loss had stopped falling)" if ended.ended == "early" else ""
    _tell(f"Trained {ended.steps} steps in {ended.seconds:.1f} s{early}; best at step {ended.best_step}.")
    if made.config.why:
        _tell(f"Likelihood: {made.recipe.model.likelihood}, {made.config.why}.")
    found = _evaluated(made, "test", made.recipe.evaluate.samples, progress=progress)
    print(found)
    print(f"Report: {write_report(made, made.model(), made.data())}")
    return 0


def _evaluated(made: Run, split: str, samples: int, *, progress: bool) -> Evidence:
    found = _evidence(made, made.data().split(split), samples, progress=progress)
    if split == "test":
        made.save_evaluation(found)
    return found


def _evidence(made: Run, observations: Any, samples: int, *, progress: bool) -> Evidence:
    if not (progress and sys.stderr.isatty()):
        return evidence(made.model(), observations, samples=samples)
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("evaluating", total=len(observations))
        return evidence(
            made.model(), observations, samples=samples, progress=lambda done, of: bar.update(task, completed=done)
        )


def evaluate(path: Path, *, split: str, samples: int | None, source: str | None, as_json: bool) -> int:
    """Print the evidence; keep it in the run where it is of its own test set."""
    made = open_run(path)
    count = samples if samples is not None else made.recipe.evaluate.samples
    if source is None:
        found = _evaluated(made, split, count, progress=not as_json)
    else:
        found = _evidence(made, made.data(source).split(split), count, progress=not as_json)
    print(json.dumps(found.to_json(), allow_nan=False) if as_json else found)
    return 0


def sample(path: Path, *, count: int, temperature: float, seed: int, out: Path | None) -> int:
    """Samples from the prior, as a picture or as numbers."""
    made = open_run(path)
    torch.manual_seed(seed)
    x = made.model().sample(count, temperature=temperature)
    return _save(x, out or made.path / FIGURES / "samples.png", lambda: plots.samples(x))


def reconstruct(path: Path, *, count: int, split: str, out: Path | None) -> int:
    """Reconstructions, as a picture or as numbers."""
    _positive("count", count)
    made = open_run(path)
    shown, seen = figures.examples(made.data(), count, split)
    x = figures.reconstructed(made.model(), seen)
    return _save(x, out or made.path / FIGURES / "reconstructions.png", lambda: plots.reconstructions(shown, x, count))


def traverse(path: Path, *, index: int, dimensions: int, steps: int, out: Path | None) -> int:
    """A traversal of the latent dimensions."""
    made = open_run(path)
    data = made.data()
    if not 0 <= index < len(data.test):
        raise ValueError(f"Expected --index between 0 and {len(data.test) - 1}; got {index}.")
    _positive("dimensions", dimensions)
    kl = (made.evaluation() or {}).get("kl_per_dimension")
    shown = min(dimensions, made.recipe.model.latent_dim)
    x = data.test.fixed(index, index + 1)[0]
    figure = plots.latent_traversal(
        made.model(), x, dimensions=shown, kl=None if kl is None else torch.tensor(kl), steps=steps
    )
    return _save(None, out or made.path / FIGURES / "traversal.png", lambda: figure)


def interpolate(path: Path, *, rows: int, steps: int, out: Path | None) -> int:
    """Interpolations between pairs of test observations."""
    _positive("rows", rows)
    made = open_run(path)
    _, seen = figures.examples(made.data(), 2 * rows)
    if len(seen) < 2 * rows:
        raise ValueError(f"Expected at least {2 * rows} test observations for {rows} rows; got {len(seen)}.")
    figure = plots.interpolation(made.model(), seen[:rows], seen[rows:], steps)
    return _save(None, out or made.path / FIGURES / "interpolation.png", lambda: figure)


def embed(path: Path, *, out: Path, split: str, source: str | None) -> int:
    """Posterior means as a .npy file."""
    made = open_run(path)
    return _save(figures.embedded(made.model(), made.data(source), split), out, None)


def report(path: Path) -> int:
    """Write the report anew, after an evaluation where there was none."""
    made = open_run(path)
    if made.evaluation() is None:
        _evaluated(made, "test", made.recipe.evaluate.samples, progress=True)
    print(f"Report: {write_report(made, made.model(), made.data())}")
    return 0


def sweep(recipe: Recipe, over: str, out: Path | None, *, progress: bool = True) -> int:
    """Train for each value; end with the table, and for β with the trade-off and a choice."""
    field, values = sweeps.parse_over(over)
    folder = out or run.default_folder(recipe).with_name(f"{run.default_folder(recipe).name}-sweep")
    rows = []
    for value, changed, path in sweeps.begin(folder, recipe, field, values):
        _tell(f"{field} = {value}")
        started = (path / run.RECIPE).is_file()
        made, ended = run.resume(path, progress=progress) if started else run.train(changed, path, progress=progress)
        if ended.ended == "interrupted":
            _tell(f"Stopped. Go on with the same command and --out {folder}")
            return 1
        if made.evaluation() is None:
            _evaluated(made, "test", made.recipe.evaluate.samples, progress=progress)
        rows.append(sweeps.row(field, value, made.evaluation() or {}))
    chosen = sweeps.choices(rows) if field == "objective.beta" else []
    sweeps.save(folder, rows, chosen)
    _print_sweep(rows, chosen)
    if chosen:
        print(f"Figure: {plots.save(plots.beta_tradeoff(rows), folder / 'tradeoff.png')}")
        print(f"Figure: {plots.save(plots.rate_distortion(rows), folder / 'rate-distortion.png')}")
    print(f"Table: {folder / sweeps.ROWS}")
    return 0


def _print_sweep(rows: list[dict[str, Any]], chosen: list[sweeps.Choice]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 110)
    name = next(iter(rows[0]))
    table = Table(title="nats per test observation, ± one standard error")
    for heading in (name, "ELBO", "distortion", "rate", "NLL", "active units"):
        table.add_column(heading, justify="right")
    for row in rows:
        numbers = [f"{row[key]:.2f} ± {row[f'{key}_se']:.2f}" for key in ("elbo", "distortion", "rate", "nll")]
        table.add_row(str(row[name]), *numbers, f"{row['active_units']} of {row['latent_dim']}")
    console.print(table)
    if chosen:
        advice = Table(title="which β to take, from these numbers")
        for heading in ("for", "β", "because"):
            advice.add_column(heading)
        for choice in chosen:
            advice.add_row(choice.purpose, f"{choice.value:g}", choice.because)
        console.print(advice)


def _save(x: torch.Tensor | None, out: Path, draw: Any) -> int:
    if out.suffix == ".npy" and x is not None:
        write_atomically(out, lambda path: _save_array(path, x))
    elif out.suffix == ".png" and draw is not None:
        plots.save(draw(), out)
    else:
        kinds = " or ".join(kind for kind, there in ((".npy", x is not None), (".png", draw is not None)) if there)
        raise ValueError(f"Expected --out to end in {kinds}; got {out}.")
    print(out)
    return 0


def _save_array(path: Path, x: torch.Tensor) -> None:
    with path.open("wb") as file:
        np.save(file, x.cpu().numpy(), allow_pickle=False)


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"Expected --{name} of at least 1; got {value}.")


def _tell(text: str) -> None:
    print(text, file=sys.stderr)
