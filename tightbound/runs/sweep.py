"""Sweeps: which runs there are, one for each value and seed, and what is kept of each."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from tightbound.data import Observations
from tightbound.evaluate import Disentanglement, disentangle
from tightbound.files import foreign, read_tensors, write_json, write_tensors, write_text
from tightbound.model import Model
from tightbound.paths import require_path, require_utf8
from tightbound.progress import evaluating
from tightbound.runs.advice import BETA, Outcome
from tightbound.runs.identity import weights_fingerprint
from tightbound.runs.measured import Measured, measure, require_evaluation
from tightbound.runs.recipe import EvaluateRecipe, Recipe, to_toml
from tightbound.runs.schema import to_table
from tightbound.runs.starting import Trained
from tightbound.runs.sweep_words import SCORES, row
from tightbound.settings import Training, seed_after

BASE = "base.toml"
FOUND = "validation.json"
PER_OBSERVATION = "validation.safetensors"
KEPT = ("log_px", "elbo", "distortion", "rate", "row")  # of each observation
COMPARED = 2000  # observations whose codes of several seeds are compared


def parse_over(text: str) -> tuple[str, list[Any]]:
    """A field and its values from ``field=a,b,c``.

    Args:
        text: what follows ``--over``.

    Returns:
        The field's dotted name, and its values.

    Raises:
        ValueError: for text of another form, or a value given twice.

    Example:
        >>> parse_over("objective.beta=0.5,1,2")
        ('objective.beta', [0.5, 1, 2])
    """
    name, found, values = text.partition("=")
    words = [word.strip() for word in values.split(",") if word.strip()]
    if not found or not name.strip() or not words:
        raise ValueError(f"Expected --over with a field and values, such as objective.beta=0.5,1,2,4; got {text!r}.")
    parsed = [_value(word) for word in words]
    if len(set(parsed)) < len(parsed):
        raise ValueError(f"Expected each value of --over once; got {text!r}.")
    return name.strip().replace("-", "_"), parsed


def _value(word: str) -> Any:
    try:
        value = json.loads(word)
    except json.JSONDecodeError:
        return word
    plain = isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
    return value if plain else word


@dataclasses.dataclass(frozen=True)
class Planned:
    """One run of a sweep.

    Attributes:
        value: Of the swept field, as tables name it.
        seed: What it is trained with.
        path: The run's folder; None where nothing is written.
        recipe: What is trained; None of a model that is made in Python.
        given: What the model is made with there.
    """

    value: Any
    seed: int
    path: Path | None
    recipe: Recipe | None = None
    given: Any = None


def begin(folder: Path, recipe: Recipe, field: str, values: Sequence[Any], *, seeds: int = 1) -> list[Planned]:
    """Plan the runs of a sweep. A folder of the same sweep is gone on with, values and seeds may be added.

    Args:
        folder: the sweep's.
        recipe: what the runs have in common.
        field: dotted name of what differs.
        values: of that field.
        seeds: how many trainings each value has, the recipe's seed and those after it.

    Returns:
        The runs, all values with one seed first.

    Raises:
        ValueError: for fewer than one seed, several of them in a sweep over seeds, a folder that holds something else,
            a field there is not, or a value it cannot hold.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     planned = begin(Path(folder), Recipe(), "objective.beta", [1, 4])
        >>> [(run.value, run.recipe.objective.beta, run.path.name) for run in planned]
        [(1, 1.0, 'beta=1'), (4, 4.0, 'beta=4')]
    """
    _require_seeds(seeds, field)
    require_utf8(recipe.name, recipe.data.source)
    changed = [recipe.updated({field: value}) for value in values]
    names = _folders(folder, field, values)
    _take(folder, f"# {field}\n{to_toml(recipe)}", field)
    return [
        Planned(value, seeded.seed, folder / name, seeded)
        for place in range(seeds)
        for value, wanted, plain in zip(values, changed, names, strict=True)
        for seeded in [dataclasses.replace(wanted, seed=seed_after(wanted.seed, place))]
        for name in [f"{plain},seed={seeded.seed}" if place else plain]
    ]


def begin_in_python(
    folder: Path | None, field: str, values: dict[Any, Any], *, seed: int, seeds: int, settings: Training
) -> list[Planned]:
    """The same of models that are made in Python; without a folder nothing is written.

    Args:
        folder: the sweep's, if any.
        field: what differs.
        values: what a model is made with, by what tables call it.
        seed: the first.
        seeds: how many trainings each value has.
        settings: of all trainings.

    Raises:
        ValueError: as :func:`begin`.

    Example:
        >>> planned = begin_in_python(None, "beta", {1: 1, 4: 4}, seed=0, seeds=2, settings=Training())
        >>> [(run.value, run.seed) for run in planned]
        [(1, 0), (4, 0), (1, 1), (4, 1)]
    """
    _require_seeds(seeds, field)
    names = ["" for _ in values] if folder is None else _folders(folder, field, list(values))
    if folder is not None:
        import tomli_w

        table = {"seed": seed, "train": to_table(settings)}
        _take(folder, f"# {field}, of models made in Python\n{tomli_w.dumps(table)}", field)
    planned = []
    for place in range(seeds):
        for (label, value), name in zip(values.items(), names, strict=True):
            own = value if field == "seed" else seed_after(seed, place)
            path = None if folder is None else folder / (f"{name},seed={own}" if place else name)
            planned.append(Planned(label, own, path, given=value))
    return planned


def _require_seeds(seeds: int, field: str) -> None:
    if seeds < 1 or (seeds > 1 and field == "seed"):
        raise ValueError(
            f"Expected at least one seed, and one alone in a sweep over seed; got seeds={seeds} and {field}."
        )


def _folders(folder: Path, field: str, values: Sequence[Any]) -> list[str]:
    """What the runs' folders are called."""
    last = field.split(".")[-1]
    names = [f"{last}={re.sub(r'[^0-9A-Za-z.+_-]', '-', str(value))}" for value in values]
    if len(set(names)) < len(names):
        raise ValueError(f"Expected values whose folders have names of their own; got {', '.join(names)}.")
    for name in names:
        require_path(folder / name)
    return names


def _take(folder: Path, base: str, field: str) -> None:
    """Write down what all runs have in common, or refuse a folder of anything else."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not (folder / BASE).is_file() or (folder / BASE).read_text(encoding="utf-8", errors="replace") != base:
            raise ValueError(
                f"Expected a new folder, or that of a sweep over {field} from the same recipe; got {folder}. Choose "
                "another: --out, or out= in Python."
            )
    else:
        write_text(folder / BASE, base)


def compared_on(trained: Trained) -> Observations:
    """What the values are compared on: the observations held out for validation, the test set where there are none.

    Args:
        trained: one run of the sweep.
    """
    return trained.run.held_out(trained.data) or trained.data.test


def announced(planned: Sequence[Planned], field: str, *, show: bool) -> Iterator[Planned]:
    """Each run, told before its turn.

    Args:
        planned: the runs.
        field: what differs.
        show: whether anything is told.

    Example:
        >>> [each.value for each in announced([Planned(1, 0, None), Planned(4, 0, None)], "beta", show=False)]
        [1, 4]
    """
    several = len({each.seed for each in planned}) > 1
    for number, each in enumerate(planned, start=1):
        if show:
            where = f": {each.path}" if each.path is not None else f", seed {each.seed}" if several else ""
            with contextlib.suppress(BrokenPipeError):  # nobody reads: no reason to stop working
                print(f"[{number}/{len(planned)}] {field} = {each.value}{where}", file=sys.stderr, flush=True)
        yield each


def numbers_on(
    model: Model, observed: Observations, train: Observations, how: EvaluateRecipe, *, remark: str, progress: bool
) -> tuple[Measured, Disentanglement | None, Tensor]:
    """What a sweep compares a run by: numbers on what it has not seen, scores beside known factors, and codes.

    Args:
        model: trained.
        observed: what it has not seen.
        train: what it was trained on, whose factors may be known.
        how: it is evaluated.
        remark: what a reader must know first.
        progress: whether to show how it goes.
    """
    found = measure(model, observed, progress=progress, remark=remark, **dataclasses.asdict(how))
    scores = None
    if train.factor_names:
        with evaluating(len(train), show=progress) as tell:
            scores = disentangle(model, train, progress=tell)
    return found, scores, model.embed(observed)


def keep(run: Planned, found: Measured, scores: Disentanglement | None, codes: Tensor) -> Outcome:
    """What was measured of a run, written into its folder where it has one.

    Args:
        run: which.
        found: what was measured.
        scores: beside known factors, if any.
        codes: of the observations that it was measured on, shape (N, L).

    Returns:
        The outcome.
    """
    values = found.evidence.per_observation
    told = None if scores is None else {name: scores.scores[name].to_json() for name in SCORES}
    table = {**found.to_json(), "scores": told}
    codes = codes[:COMPARED].cpu()
    if run.path is None:
        return Outcome(run.value, table, values["log_px"], values["distortion"], run.seed, codes)
    write_tensors(run.path / PER_OBSERVATION, {**{name: values[name] for name in KEPT}, "codes": codes})
    write_json(run.path / FOUND, {**table, "weights": weights_fingerprint(run.path)})
    return _read(run, run.path)


def measured(run: Planned) -> Outcome | None:
    """What :func:`keep` wrote, or None where the run is not there yet or not measured.

    Args:
        run: which.

    Example:
        >>> measured(Planned(1.0, 0, Path("missing"))) is None
        True
    """
    if run.path is None or not (run.path / FOUND).is_file():
        return None
    return _read(run, run.path)


def _read(run: Planned, path: Path) -> Outcome:
    remedy = f"Remove {path / FOUND}: the same sweep measures this run anew."
    with foreign(path / PER_OBSERVATION, "values as this version keeps them", remedy):
        columns = read_tensors(path / PER_OBSERVATION)
        values = columns["log_px"], columns["distortion"]
    with foreign(path / FOUND, "numbers as this version keeps them", remedy):
        found = json.loads((path / FOUND).read_text(encoding="utf-8"))
        require_evaluation(found)
        outcome = Outcome(run.value, found, *values, run.seed, columns.get("codes"))
        json.dumps(row(BETA, outcome), allow_nan=False)  # all that tables and figures are made of is there
    return outcome
