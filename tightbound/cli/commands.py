"""What the command line's verbs do, with the arguments that :mod:`tightbound.cli.verbs` describes.

Each gives an exit code; a wrong request is a ValueError.

Results go to standard output, everything said on the way to standard error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.figure import Figure

from tightbound import evaluate as evaluation
from tightbound import plots
from tightbound.autoencoder import VAE
from tightbound.conditioned import ConditionalVAE, of_one_condition
from tightbound.distributed import joined
from tightbound.distributions import class_probabilities
from tightbound.evaluate import Certificate, Checks, Disentanglement, Gaps, Information, Schedule, evidence
from tightbound.files import write_atomically
from tightbound.labs import Lab
from tightbound.plots.pictures import label_name
from tightbound.progress import evaluating
from tightbound.report import figures
from tightbound.report.page import write_report
from tightbound.runs import run
from tightbound.runs import sweep as sweeps
from tightbound.runs.measured import measure
from tightbound.runs.recipe import Recipe
from tightbound.runs.run import FIGURES, Run, Split, Trained, open_run
from tightbound.runtime import home, own_random_state, resolve_device
from tightbound.semi_supervised import SemiSupervisedVAE
from tightbound.surface import listed

MOST = 1024  # pictures in one figure
MOST_CHECKED = 100_000  # observations of a check, which keeps all of them in memory


def train(recipe: Recipe, out: Path | None, *, before: Recipe | None = None, progress: bool = True) -> int:
    """Train, evaluate, report. ``before``: the recipe as it was before the command line changed it."""
    folder = out or run.default_folder(recipe)
    with joined() as here:
        if progress and here.is_main:
            for note in notes(before or recipe, recipe):
                _tell(note)
        trained = run.train(recipe, folder, progress=progress)
    return _after(trained, progress=progress) if here.is_main else int(trained.result.ended == "interrupted")


def notes(before: Recipe, recipe: Recipe) -> list[str]:
    """What a person may not have meant: a recipe's choices for its own data, kept for other data."""
    names = ("network", "likelihood")
    kept = [
        f"{name} = {getattr(recipe.model, name)}"
        for name in names
        if getattr(recipe.model, name) == getattr(before.model, name) != "auto"
    ]
    if before.data.source in ("", recipe.data.source) or not kept:
        return []
    return [
        f"Note: the recipe {recipe.name!r} has {listed(kept)}, chosen for {before.data.source}. To let them "
        f"follow from your data: tightbound train auto --data {shlex.quote(recipe.data.source)}"
    ]


def resume(path: Path, *, progress: bool = True) -> int:
    """Go on with a run, evaluate, report."""
    with joined() as here:
        trained = run.resume(path, progress=progress)
    return _after(trained, progress=progress) if here.is_main else int(trained.result.ended == "interrupted")


def _after(trained: Trained, *, progress: bool) -> int:
    made, ended = trained.run, trained.result
    if ended.ended == "interrupted":
        _tell(f"Stopped at step {ended.steps}. Go on with: tightbound train --resume {shlex.quote(str(made.path))}")
        return 1
    if progress:
        early = ", early, as the validation loss had stopped falling" if ended.ended == "early" else ""
        kept = f"kept the weights of step {ended.best_step}"
        _tell(f"Trained {ended.steps} steps in {ended.seconds:.1f} s{early}; {kept}.")
        _tell(f"Likelihood: {made.recipe.model.likelihood} ({made.config.why}).")
        _warn_of_warm_up(made.recipe, ended.steps)
    try:
        found = measure(trained.model, trained.data.test, progress=progress, **_settings(made.recipe))
    except ValueError as error:  # not the request was wrong but what training made of it
        raise ArithmeticError(f"The run in {made.path} is trained, but not to be evaluated. {error}") from error
    made.save_evaluation(found)
    page = write_report(made, trained.model, trained.data)
    print(f"{found}\nReport: {page}")
    return 0


def _warn_of_warm_up(recipe: Recipe, steps: int) -> None:
    warmup = getattr(recipe.objective, "warmup_steps", 0)
    if warmup >= steps:
        _tell(
            f"Note: the objective warms up over {warmup} steps and training took {steps}: the full objective was never "
            "trained on. Train longer, or take a shorter --objective.warmup-steps."
        )


def evaluate(path: Path, changes: dict[str, Any], *, split: Split | None, source: str | None, as_json: bool) -> int:
    """Print the evidence; keep it in the run where it is of its own test set. ``changes``: of the recipe's settings."""
    made = open_run(path)
    settings = dataclasses.asdict(dataclasses.replace(made.recipe.evaluate, **changes))
    observations, model = made.split(split, source), _model(made)
    found = measure(model, observations, progress=True, **settings)
    if source is None and split in (None, "test"):
        made.save_evaluation(found)
        _tell(f"Kept in {made.path / run.EVALUATION}; 'tightbound report {shlex.quote(str(path))}' renews the page.")
    print(json.dumps(found.to_json(), allow_nan=False) if as_json else found)
    return 0


def certify(path: Path, walk: dict[str, int], *, observations: int, seed: int, as_json: bool) -> int:
    """Print a certificate and keep it in the run. ``walk``: settings of the schedule."""
    made, schedule = open_run(path), Schedule(**walk)
    test, model = made.data().test, _model(made)
    with evaluating(2 * min(observations, len(test)), show=True) as tell:
        found = evaluation.certify(model, test, observations=observations, schedule=schedule, seed=seed, progress=tell)
    return _checked(made, run.CERTIFICATE, found, as_json=as_json)


def gaps(path: Path, *, observations: int, seed: int, as_json: bool) -> int:
    """Print the gaps of test and training observations and keep them in the run."""
    made = open_run(path)
    test, train, model = made.data().test, made.split("train"), _model(made)
    with evaluating(sum(min(observations, len(part)) for part in (test, train)), show=True) as tell:
        found = evaluation.gaps(model, test, train=train, observations=observations, seed=seed, progress=tell)
    return _checked(made, run.GAPS, found, as_json=as_json)


def information(path: Path, *, draws: int, split: Split, seed: int, as_json: bool) -> int:
    """Print what the code tells; keep it in the run where it is of its test set."""
    made = open_run(path)
    observations = made.split(split)
    with evaluating(len(observations), show=True) as tell:
        found = evaluation.information(_model(made), observations, draws=draws, seed=seed, progress=tell)
    return _checked(made, run.INFORMATION if split == "test" else None, found, as_json=as_json)


def check(path: Path, *, observations: int, seed: int, as_json: bool) -> int:
    """Print what comes true of what the model says, and keep it in the run."""
    if not 2 <= observations <= MOST_CHECKED:
        raise ValueError(
            f"Expected --observations between 2, which show an error, and {MOST_CHECKED}; got {observations}."
        )
    made = open_run(path)
    test, train, model = made.data().test, made.split("train"), _model(made)
    with evaluating(4 * observations + 2 * min(observations, len(test)), show=True) as tell:
        found = evaluation.check(model, train, test, observations=observations, seed=seed, progress=tell)
    return _checked(made, run.CHECKS, found, as_json=as_json)


def disentangle(path: Path, *, observations: int, split: Split | Literal["all"], seed: int, as_json: bool) -> int:
    """Print scores beside known factors; keep those of all observations in the run."""
    made = open_run(path)
    observed = made.data().everything()[-1] if split == "all" else made.split(split)  # a test set apart says more
    with evaluating(min(observations, len(observed)), show=True) as tell:
        found = evaluation.disentangle(_model(made), observed, observations=observations, seed=seed, progress=tell)
    return _checked(made, run.DISENTANGLEMENT if split == "all" else None, found, as_json=as_json)


def _checked(
    made: Run, name: str | None, found: Certificate | Gaps | Information | Checks | Disentanglement, *, as_json: bool
) -> int:
    if name is not None:
        made.save(name, found)
        _tell(f"Kept in {made.path / name}.")
    print(json.dumps(found.to_json(), allow_nan=False) if as_json else found)
    return 0


def sample(
    path: Path, *, count: int, noise: bool, temperature: float, label: str | None, like: int | None, seed: int,
    out: Path | None,
) -> int:  # fmt: skip
    """Samples from the prior, decoded, as a picture or as numbers: means of p(x|z), or with noise draws of x."""
    _at_least("count", count, 1)
    if not temperature >= 0:
        raise ValueError(f"Expected --temperature of 0 or more; got {temperature:g}.")
    made, out = _open(path, out, "samples", (".png", ".npy"), count)
    model = _model(made)
    given = _condition(made, model, label, like)
    with own_random_state(home(model)[0], seed=seed):
        x = model.sample(count, mean=not noise, temperature=temperature, **given)
    return _save(x, out, lambda: plots.samples(x))


def _condition(made: Run, model: VAE, label: str | None, like: int | None) -> dict[str, Any]:
    """What samples are drawn under, as ``model.sample`` takes it."""
    if isinstance(model, SemiSupervisedVAE):
        if label is None and like is None:
            return {}
        model = model.conditional
    if not isinstance(model, ConditionalVAE):
        if label is not None or like is not None:
            raise ValueError(
                "Expected a run with a condition for --label and --like; got one without. Train it with "
                "--model.condition label."
            )
        return {}
    test = made.data().test
    if (label is None) == (like is None) or (label is not None and model.covariates):
        wanted = "--like INDEX" if model.covariates else "--label CLASS or --like INDEX"
        raise ValueError(
            f"Expected {wanted}, for samples under a condition; got "
            f"{'none' if label is None and like is None else 'another'}. INDEX counts test observations."
        )
    if label is not None:
        names = [label_name(y, test.label_names) for y in range(model.classes)]
        if label not in names:
            raise ValueError(f"Expected --label among {', '.join(names)}; got {label}.")
        return {"label": names.index(label)}
    if not 0 <= int(like or 0) < len(test):
        raise ValueError(f"Expected --like between 0 and {len(test) - 1}, a test observation; got {like}.")
    one = test.eval_batch(int(like or 0), int(like or 0) + 1)
    seen = (("label", one.label, model.classes), ("factors", one.factors, model.covariates))
    return {name: value[0] for name, value, wanted in seen if wanted and value is not None}


def reconstruct(path: Path, *, count: int, split: Split, out: Path | None) -> int:
    """Reconstructions, as a picture or as numbers."""
    _at_least("count", count, 1)
    made, out = _open(path, out, "reconstructions", (".png", ".npy"), 2 * count)
    shown, seen = figures.examples(made.split(split), count)
    x = _model(made).reconstruct(seen)
    return _save(x, out, lambda: plots.reconstructions(shown, x, count))


def traverse(path: Path, *, index: int, dimensions: int, steps: int, out: Path | None) -> int:
    """A traversal of the latent dimensions."""
    _at_least("dimensions", dimensions, 1)
    _at_least("steps", steps, 2)
    made, out = _open(path, out, "traversal", (".png", ".gif", ".webp"))
    shown = min(dimensions, made.recipe.model.latent_dim)
    _at_most_pictures(shown * steps)
    test, model = made.data().test, _model(made)
    if not 0 <= index < len(test):
        raise ValueError(f"Expected --index between 0 and {len(test) - 1}, a test observation; got {index}.")
    found = made.evaluation() or evidence(model, test, samples=1, proposal="posterior").to_json()
    found = figures.of_dimensions(model, found)  # which say most
    model, _ = of_one_condition(model, test.subset(torch.tensor([index])))
    x = test.eval_batch(index, index + 1).x[0]
    if out.suffix != ".png":
        frames = plots.traversal_frames(model, x, steps=2 * steps, **figures.ranked(found, shown))
        print(plots.save_animation(frames, out))
        return 0
    figure = plots.latent_traversal(model, x, steps=steps, **figures.ranked(found, shown))
    return _save(None, out, lambda: figure)


def interpolate(path: Path, *, rows: int, steps: int, out: Path | None) -> int:
    """Interpolations between pairs of test observations."""
    _at_least("rows", rows, 1)
    _at_least("steps", steps, 2)
    made, out = _open(path, out, "interpolation", (".png",), rows * (steps + 2))
    model, test = of_one_condition(_model(made), made.data().test)
    seen = figures.examples(test, 2 * rows)[1].x
    if len(seen) < 2 * rows:
        raise ValueError(f"Expected two test observations a row, {2 * rows} for --rows {rows}; got {len(seen)}.")
    figure = plots.interpolation(model, seen[:rows], seen[rows:], steps)
    return _save(None, out, lambda: figure)


def embed(path: Path, *, out: Path, split: Split | Literal["all"] | None, source: str | None) -> int:
    """Posterior means as a .npy file."""
    made, out = _open(path, out, "", (".npy",))
    if split == "all" or (split is None and source is not None):
        parts = made.data(source).everything()
    else:
        parts = [made.split(split, source)]
    model = _model(made)
    codes = torch.cat([model.embed(part) for part in parts])
    if (classes := class_probabilities(model.prior())) is not None:
        variables, count = classes.shape
        what = "is 1" if count == 2 and codes.shape[1] == variables else f"has each of its {count} classes"
        _tell(f"The codes are discrete: each of {variables} variables is given by the probability that it {what}.")
    return _save(codes, out, None)


def report(path: Path) -> int:
    """Write the report anew, after an evaluation where there was none."""
    made = open_run(path)
    model, data = _model(made), made.data()
    if made.evaluation() is None:
        made.save_evaluation(measure(model, data.test, progress=True, **_settings(made.recipe)))
    print(f"Report: {write_report(made, model, data)}")
    return 0


def sweep(recipe: Recipe, over: str, out: Path | None, *, progress: bool = True) -> int:
    """Train for each value; end with the table, and where the values can be compared with a choice."""
    field, values = sweeps.parse_over(over)
    folder = out or run.default_folder(dataclasses.replace(recipe, name=f"{recipe.name}-sweep"))
    planned = sweeps.begin(folder, recipe, field, values)
    outcomes = []
    for number, (value, changed, path) in enumerate(planned, start=1):
        if progress:
            _tell(f"[{number}/{len(planned)}] {field} = {value}: {path}")
        found = sweeps.measured(path)
        if found is None:
            trained = (
                run.resume(path, progress=progress)
                if (path / run.RECIPE).is_file()
                else run.train(changed, path, progress=progress)
            )
            if trained.result.ended == "interrupted":
                _tell(f"Stopped. The same command goes on, with --out {shlex.quote(str(folder))}")
                return 1
            measured = measure(trained.model, sweeps.compared_on(trained), progress=progress, **_settings(changed))
            found = sweeps.keep(path, measured)
        outcomes.append(sweeps.Outcome(value, *found))
    print(sweeps.finish(folder, recipe, field, outcomes))
    return 0


def lab(found: Lab, *, out: Path, seed: int, as_json: bool) -> int:
    """Compute a lab, write its files, print its words or its numbers."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"Expected --out to be a folder; got {out}, which is a file. Choose another.")
    if found.trains:
        _tell("Training on digits; this takes some seconds.")
    made = found.load()(seed=seed, **({"progress": True} if found.trains else {}))
    written = "\n".join(str(path) for path in made.save(out))
    if as_json:
        print(json.dumps(made.to_json(), allow_nan=False))
        _tell(written)
    else:
        print(f"{made}\n\n{written}")
    return 0


def _settings(recipe: Recipe) -> dict[str, Any]:
    return dataclasses.asdict(recipe.evaluate)


def _model(made: Run) -> VAE:
    """The run's model, on the device it was trained on where this machine has it."""
    try:
        device = resolve_device(made.recipe.train.device)
    except ValueError:
        device = resolve_device("auto")
    return made.model().to(device)


def _open(path: Path, out: Path | None, name: str, kinds: tuple[str, ...], pictures: int = 0) -> tuple[Run, Path]:
    """The run and where the result goes, refused before there is any work in it."""
    made = open_run(path)
    if out is not None and out.suffix not in kinds:
        raise ValueError(f"Expected --out to end in {listed(kinds, 'or')}; got {out}.")
    if out is not None and out.exists():
        raise ValueError(f"Expected a new file; got {out}, which exists. Choose another --out, or remove it first.")
    out = out or made.path / FIGURES / f"{name}.png"
    if out.suffix == ".png":
        _at_most_pictures(pictures, ", or for numbers: --out x.npy" if ".npy" in kinds else "")
    return made, out


def _save(x: torch.Tensor | None, out: Path, draw: Callable[[], Figure] | None) -> int:
    if out.suffix == ".npy" and x is not None:
        array = x.cpu().numpy()
        write_atomically(out, lambda path: _save_array(path, array))
    elif draw is not None:
        plots.save(draw(), out)
    print(out)
    return 0


def _save_array(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"Expected --{name} of at least {least}; got {value}.")


def _at_most_pictures(count: int, remedy: str = "") -> None:
    if count > MOST:
        raise ValueError(f"Expected at most {MOST} pictures in one figure; got {count}. Ask for fewer{remedy}.")


def _tell(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody reads: no reason to stop working
        print(text, file=sys.stderr, flush=True)
