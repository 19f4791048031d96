"""What the command line's verbs do, with the arguments that :mod:`tightbound.cli.verbs` describes.

Each gives an exit code; a wrong request is a ValueError.

Results go to standard output, everything said on the way to standard error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from tightbound import evaluate as evaluation
from tightbound.cli.answer import Answer
from tightbound.distributed import joined
from tightbound.evaluate import Schedule
from tightbound.files import why
from tightbound.labs import Lab
from tightbound.progress import evaluating
from tightbound.reports.compared import write_comparison
from tightbound.reports.page import write_report
from tightbound.runs import comparing, starting
from tightbound.runs import folder as files
from tightbound.runs import sweep as sweeps
from tightbound.runs.comparing import COMPARED_ON
from tightbound.runs.from_fit import FromFit, whole_recipe
from tightbound.runs.lessons import lessons
from tightbound.runs.measured import MUTUAL, measure, remark_on
from tightbound.runs.places import with_data_found, with_source
from tightbound.runs.recipe import Recipe
from tightbound.runs.run import Kept, Run, Split, open_run
from tightbound.runs.starting import Trained
from tightbound.runs.sweep_recipes import of_recipe
from tightbound.runs.trained import model_of, remark_of
from tightbound.surface import listed
from tightbound.training.signals import signals_kept

COMPARISON = "compare.html"  # beside the first run
MOST_SEEDS = 10_000  # trainings of one value
MOST_CHECKED = 100_000  # observations of a check, which keeps all of them in memory


def train(
    recipe: Recipe, out: Path | None, *, answer: Answer, before: Recipe | None = None, start: Run | None = None,
    progress: bool = True, log: str | None = None,
) -> int:  # fmt: skip
    """Train, evaluate, report. ``before``: the recipe as it was before the command line changed it."""
    with joined() as here:
        if progress and here.is_main:
            for note in notes(before or recipe, recipe):
                tell(note)
        with signals_kept():
            trained = starting.train(recipe, out, start=start, progress=progress, on_log=log)
    return _after(trained, answer, progress=progress) if here.is_main else int(trained.result.ended == "interrupted")


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


def train_on(
    path: Path, changed: Callable[[Recipe], Recipe], out: Path | None, *, answer: Answer, progress: bool = True,
    log: str | None = None,
) -> int:  # fmt: skip
    """Train, evaluate, report a new run that starts from the weights of another. ``changed``: its recipe by the old."""
    start = open_run(path)
    recipe = changed(whole_recipe(with_data_found(start).recipe, path))
    tell(f"A new run of {recipe.train.epochs:g} epochs, from the weights of {path}.")
    return train(recipe, out, answer=answer, start=start, progress=progress, log=log)


def resume(
    path: Path, *, answer: Answer, data: str | None = None, progress: bool = True, log: str | None = None
) -> int:
    """Go on with a run, evaluate, report."""
    with joined() as here, signals_kept():
        trained = starting.resume(path, data=data, progress=progress, on_log=log)
    return _after(trained, answer, progress=progress) if here.is_main else int(trained.result.ended == "interrupted")


def _after(trained: Trained, answer: Answer, *, progress: bool) -> int:
    made, ended = trained.run, trained.result
    if ended.ended == "interrupted":
        tell(f"Stopped at step {ended.steps}. Go on with: tightbound train --resume {shlex.quote(str(made.path))}")
        return 1
    learned = [lesson.replace("RUN", shlex.quote(str(made.path))) for lesson in lessons(made)]
    if progress:
        early = ", early, as the validation loss had stopped falling" if ended.ended == "early" else ""
        kept = f"kept the weights of step {ended.best_step}"
        tell(f"Trained {ended.steps} steps in {ended.seconds:.1f} s{early}; {kept}.")
        if isinstance(made.recipe, Recipe):
            tell(f"Likelihood: {made.recipe.model.likelihood} ({made.config.why}).")
        for lesson in learned:
            tell(f"Note: {lesson}")
    try:
        with _unfinished(made) as keep:
            settings = {"keep": keep, "remark": remark_on(made.recipe, ended.steps), **_settings(made.recipe)}
            found = measure(trained.model, trained.data.test, train=trained.data.train, progress=progress, **settings)
    except ValueError as error:  # not the request was wrong but what training made of it
        page = write_report(made, trained.model, trained.data, refused=[f"The evaluation was refused. {error}"])
        raise ArithmeticError(
            f"The run in {made.path} is trained, but not to be evaluated. {error} Its report says so: {page}"
        ) from error
    answer.say(found)  # before anything is written: the numbers are what took the time
    made.save_evaluation(found)
    page = write_report(made, trained.model, trained.data)
    answer.say(f"Report: {page}")
    answer.give(
        {
            "run": made.path,
            "ended": ended.ended,
            **{name: getattr(ended, name) for name in ("steps", "best_step", "seconds")},
            "likelihood": made.recipe.model.likelihood if isinstance(made.recipe, Recipe) else None,
            "because": made.config.why if isinstance(made.recipe, Recipe) else None,
            "notes": [*trained.notes, *learned],
            "evaluation": found.to_json(),
            "report": page,
        }
    )
    return 0


def evaluate(path: Path, changes: dict[str, Any], *, split: Split | None, source: str | None, answer: Answer) -> int:
    """Print the evidence; keep it in the run where it is of its own test set. ``changes``: of the recipe's settings."""
    made = open_run(path)
    settings = dataclasses.asdict(dataclasses.replace(made.recipe.evaluate, **changes))
    own = source is None and split in (None, "test")
    data, model = made.data() if own else None, model_of(made)
    observations, train = (made.split(split, source), None) if data is None else (data.test, data.train)
    with _unfinished(made) as keep:
        settings = {"keep": keep, "remark": remark_of(made), **settings}
        found = measure(model, observations, train=train, progress=True, **settings)
    answer.found(found)
    if own:
        renews = f"'tightbound report {shlex.quote(str(path))}' renews the page"
        _keep(lambda: made.save_evaluation(found), made.path / files.EVALUATION, renews)
    return 0


@contextlib.contextmanager
def _unfinished(made: Run) -> Iterator[Path | None]:
    """Where an evaluation keeps what it has measured, until it is done; None where the folder cannot be written."""
    path = made.path / files.UNFINISHED
    try:
        yield path if os.access(made.path, os.W_OK) else None
    except KeyboardInterrupt:
        if path.is_file():
            tell(
                f"What was measured is kept: 'tightbound evaluate {shlex.quote(str(made.path))}' with the same options "
                "goes on from there."
            )
        raise
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _keep(save: Callable[[], object], path: Path, more: str = "") -> None:
    """Write what was measured into the run; where that cannot be, say so: the numbers are out already."""
    try:
        save()
    except OSError as error:
        tell(f"Not kept in {path}: {why(error)}.")
    else:
        tell(f"Kept in {path}{f'; {more}' if more else ''}.")


def certify(
    path: Path, walk: dict[str, int], *, observations: int, seed: int, answer: Answer, source: str | None = None
) -> int:
    """Print a certificate and keep it in the run. ``walk``: settings of the schedule."""
    made, schedule = opened(path, source), Schedule(**walk)
    test, model = made.data().test, model_of(made)
    with evaluating(2 * min(observations, len(test)), show=True) as tell:
        found = evaluation.certify(model, test, observations=observations, schedule=schedule, seed=seed, progress=tell)
    return _checked(made, files.CERTIFICATE, found, answer=answer)


def gaps(path: Path, *, observations: int, seed: int, answer: Answer, source: str | None = None) -> int:
    """Print the gaps of test and training observations and keep them in the run."""
    made = opened(path, source)
    test, train, model = made.data().test, made.split("train"), model_of(made)
    with evaluating(sum(min(observations, len(part)) for part in (test, train)), show=True) as tell:
        found = evaluation.gaps(model, test, train=train, observations=observations, seed=seed, progress=tell)
    return _checked(made, files.GAPS, found, answer=answer)


def information(path: Path, *, draws: int, split: Split, seed: int, answer: Answer, source: str | None = None) -> int:
    """Print what the code tells; keep it in the run where it is of its test set."""
    made = opened(path, source)
    observations = made.split(split)
    with evaluating(len(observations), show=True) as tell:
        found = evaluation.information(model_of(made), observations, draws=draws, seed=seed, progress=tell)
    return _checked(made, files.INFORMATION if split == "test" else None, found, answer=answer)


def check(path: Path, *, observations: int, seed: int, answer: Answer, source: str | None = None) -> int:
    """Print what comes true of what the model says, and keep it in the run."""
    if not 2 <= observations <= MOST_CHECKED:
        raise ValueError(
            f"Expected --observations between 2, which show an error, and {MOST_CHECKED}; got {observations}."
        )
    made = opened(path, source)
    test, train, model = made.data().test, made.split("train"), model_of(made)
    with evaluating(5 * observations + 3 * min(observations, len(test)), show=True) as tell:
        found = evaluation.check(model, train, test, observations=observations, seed=seed, progress=tell)
    return _checked(made, files.CHECKS, found, answer=answer)


def disentangle(
    path: Path,
    *,
    observations: int,
    split: Split | Literal["all"],
    seed: int,
    answer: Answer,
    source: str | None = None,
) -> int:
    """Print scores beside known factors; keep those of all observations in the run."""
    made = opened(path, source)
    observed = made.data().everything()[-1] if split == "all" else made.split(split)  # a test set apart says more
    if observed.factors is None:
        with evaluating(min(observations, len(observed)), show=True) as tell:
            told = evaluation.independence(
                model_of(made), observed, observations=observations, seed=seed, progress=tell
            )
        return _checked(made, files.INDEPENDENCE if split == "all" else None, told, answer=answer)
    with evaluating(min(observations, len(observed)), show=True) as tell:
        found = evaluation.disentangle(model_of(made), observed, observations=observations, seed=seed, progress=tell)
    return _checked(made, files.DISENTANGLEMENT if split == "all" else None, found, answer=answer)


def _checked(made: Run, name: str | None, found: Kept, *, answer: Answer) -> int:
    answer.found(found)
    if name is not None:
        _keep(lambda: made.save(name, found), made.path / name)
    return 0


def compare(
    paths: Sequence[Path], *, split: COMPARED_ON, out: Path | None, answer: Answer, source: str | None = None
) -> int:
    """Print a comparison, keep in the runs what had to be measured, and write its page."""
    if out is not None and (out.suffix != ".html" or out.exists()):
        got = f"{out}, which exists" if out.exists() else out
        raise ValueError(f"Expected --out to be a new file that ends in .html; got {got}. Choose another.")
    found = comparing.compare(paths, split=split, data=source, keep=True, progress=True)
    answer.say(f"{found}\n")  # before anything is written: the numbers are what took the time
    page = out or paths[0].resolve().parent / COMPARISON
    try:
        written: str | None = str(write_comparison(found, page))
    except OSError as error:
        written = None
        tell(f"Not kept in {page}: {why(error)}.")
    answer.give({**found.to_json(), "page": written})
    if written is not None:
        answer.say(f"Page: {written}")
    return 0


def report(path: Path, *, answer: Answer, source: str | None = None) -> int:
    """Write the report anew, after an evaluation where there was none."""
    made = opened(path, source)
    model, data = model_of(made), made.data()
    refused = []
    if made.evaluation() is None:
        try:
            with _unfinished(made) as keep:
                settings = {"keep": keep, "remark": remark_of(made), **_settings(made.recipe)}
                found = measure(model, data.test, train=data.train, progress=True, **settings)
            answer.say(found)
            made.save_evaluation(found)
        except ValueError as error:
            refused.append(f"The evaluation was refused. {error}")
    page = write_report(made, model, data, refused=refused)
    answer.say(f"Report: {page}")
    answer.give({"report": page, "refused": refused, "evaluation": _kept(made)})
    return 0


def _kept(made: Run) -> dict[str, Any] | None:
    """The run's evaluation as ``evaluate`` gives it."""
    if (found := made.evaluation()) is None:
        return None
    classes = made.kept(files.CLASSIFICATION)
    return {**found, MUTUAL: made.kept(files.INFORMATION), **({"classification": classes} if classes else {})}


def sweep(
    recipe: Recipe, over: str, out: Path | None, *, answer: Answer, before: Recipe | None = None, seeds: int = 1,
    progress: bool = True,
) -> int:  # fmt: skip
    """Train for each value; end with the table, and where the values can be compared with a choice."""
    for note in notes(before or recipe, recipe) if progress else []:
        tell(note)
    field, values = sweeps.parse_over(over)
    at_least("seeds", seeds, 1)
    at_most("seeds", seeds, MOST_SEEDS)
    with signals_kept():
        found = of_recipe(recipe, field, values, out, seeds=seeds, progress=progress)
    folder = Path(str(found.path))
    if found.setting.missing:
        tell(f"Stopped. The same command goes on, with --out {shlex.quote(str(folder))}")
        return 1
    answer.say(f"{found}\n")  # before anything is written: the numbers are what took the time
    for path in found.save(folder):
        answer.say(f"{'Table' if path.suffix == '.json' else 'Figure'}: {path}")
    answer.give({**found.to_json(), "folder": folder})
    return 0


def lab(found: Lab, *, out: Path, seed: int, answer: Answer) -> int:
    """Compute a lab, write its files, print its words or its numbers."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"Expected --out to be a folder; got {out}, which is a file. Choose another.")
    if found.trains:
        tell("Training; this takes some seconds.")
    made = found.load()(seed=seed, **({"progress": True} if found.trains else {}))
    written = made.save(out)
    answer.say("\n".join([f"{made}\n", *map(str, written)]))
    answer.give({**made.to_json(), "files": written})
    return 0


def _settings(recipe: Recipe | FromFit) -> dict[str, Any]:
    return dataclasses.asdict(recipe.evaluate)


def opened(path: Path, source: str | None, *, own: bool = True) -> Run:
    """A run, whose data are at ``source`` where that is given; where ``own`` is false, others are welcome there."""
    made = open_run(path)
    return made if source is None else with_source(made, source, own=own)


def at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"Expected --{name} of at least {least}; got {value}.")


def at_most(name: str, value: int, most: int) -> None:
    if value > most:
        raise ValueError(f"Expected --{name} of at most {most}; got {value}. Take fewer.")


def tell(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody reads: no reason to stop working
        print(text, file=sys.stderr, flush=True)
