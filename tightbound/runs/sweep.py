"""Sweeps: one recipe trained once for each value of a field, measured, and told in a table and two figures."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from torch import Tensor

from tightbound import plots
from tightbound.data import Observations
from tightbound.evaluate import Disentanglement, Estimate, udr
from tightbound.files import foreign, read_tensors, write_json, write_tensors, write_text
from tightbound.paths import require_path, require_utf8
from tightbound.runs.advice import BETA, Choice, Outcome, Value, by_value, choices, comparable, over_seeds, passed_over
from tightbound.runs.identity import weights_fingerprint
from tightbound.runs.measured import MUTUAL, Measured, require_evaluation
from tightbound.runs.recipe import Recipe, to_toml
from tightbound.runs.starting import Trained
from tightbound.runs.tables import COLUMNS, brief, of_numbers, rendered
from tightbound.settings import seed_after

TABLE = "sweep.json"
BASE = "base.toml"
FOUND = "validation.json"
PER_OBSERVATION = "validation.safetensors"
ESTIMATES = ("elbo", "distortion", "rate", "nll")
KEPT = ("log_px", "elbo", "distortion", "rate", "row")  # of each observation
BETWEEN = ("lower", "upper")  # the ends of its interval
SCORES = {"mig": "MIG", "dci-disentanglement": "DCI-D", "factor-vae-score": "FactorVAE"}  # and what their columns say
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
        value: Of the swept field.
        recipe: What is trained.
        path: The run's folder.
    """

    value: Any
    recipe: Recipe
    path: Path


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
    if seeds < 1 or (seeds > 1 and field == "seed"):
        raise ValueError(
            f"Expected at least one seed, and one alone in a sweep over seed; got seeds={seeds} and {field}."
        )
    require_utf8(recipe.name, recipe.data.source)
    last = field.split(".")[-1]
    names = [f"{last}={re.sub(r'[^0-9A-Za-z.+_-]', '-', str(value))}" for value in values]
    changed = [recipe.updated({field: value}) for value in values]
    if len(set(names)) < len(names):
        raise ValueError(f"Expected values whose folders have names of their own; got {', '.join(names)}.")
    for name in names:
        require_path(folder / name)
    base = f"# {field}\n{to_toml(recipe)}"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not (folder / BASE).is_file() or (folder / BASE).read_text(encoding="utf-8", errors="replace") != base:
            raise ValueError(
                f"Expected a new folder, or that of a sweep over {field} from the same recipe; got {folder}. Choose "
                "another: --out."
            )
    else:
        write_text(folder / BASE, base)
    planned = []
    for place in range(seeds):
        for value, wanted, name in zip(values, changed, names, strict=True):
            seeded = dataclasses.replace(wanted, seed=seed_after(wanted.seed, place))
            planned.append(Planned(value, seeded, folder / (f"{name},seed={seeded.seed}" if place else name)))
    return planned


def compared_on(trained: Trained) -> Observations:
    """What the values are compared on: the observations held out for validation, the test set where there are none.

    Args:
        trained: one run of the sweep.
    """
    return trained.run.held_out(trained.data) or trained.data.test


def keep(run: Planned, found: Measured, scores: Disentanglement | None, codes: Tensor) -> Outcome:
    """Write a run's measurement into its folder.

    Args:
        run: which.
        found: what was measured.
        scores: beside known factors, if any.
        codes: of the observations that it was measured on, shape (N, L).

    Returns:
        The outcome.
    """
    columns = {name: found.evidence.per_observation[name] for name in KEPT}
    write_tensors(run.path / PER_OBSERVATION, {**columns, "codes": codes[:COMPARED].cpu()})
    told = None if scores is None else {name: scores.scores[name].to_json() for name in SCORES}
    write_json(run.path / FOUND, {**found.to_json(), "scores": told, "weights": weights_fingerprint(run.path)})
    return _read(run)


def measured(run: Planned) -> Outcome | None:
    """What :func:`keep` wrote, or None where the run is not there yet or not measured.

    Args:
        run: which.

    Example:
        >>> measured(Planned(1.0, Recipe(), Path("missing"))) is None
        True
    """
    if not (run.path / FOUND).is_file():
        return None
    return _read(run)


def _read(run: Planned) -> Outcome:
    remedy = f"Remove {run.path / FOUND}: the same sweep measures this run anew."
    with foreign(run.path / PER_OBSERVATION, "values as this version keeps them", remedy):
        columns = read_tensors(run.path / PER_OBSERVATION)
        values = columns["log_px"], columns["distortion"]
    with foreign(run.path / FOUND, "numbers as this version keeps them", remedy):
        found = json.loads((run.path / FOUND).read_text(encoding="utf-8"))
        require_evaluation(found)
        outcome = Outcome(run.value, found, *values, run.recipe.seed, columns.get("codes"))
        json.dumps(row(BETA, outcome), allow_nan=False)  # all that tables and figures are made of is there
    return outcome


def finish(folder: Path, recipe: Recipe, field: str, outcomes: Sequence[Outcome]) -> str:
    """Write the sweep's table, and for β its figures.

    Args:
        folder: the sweep's.
        recipe: what the runs have in common.
        field: dotted name of what differs.
        outcomes: the runs, measured.

    Returns:
        All of it in words, for a terminal.
    """
    chosen, said = choices(field, outcomes), _remarks(recipe, field, outcomes)
    alike = _alike(outcomes)
    rows = [{**row(field, outcome), "udr": alike.get(id(outcome))} for outcome in outcomes]
    made = {"field": field, "rows": rows, "choices": [dataclasses.asdict(c) for c in chosen], "remarks": said}
    write_json(folder / TABLE, made)
    wrapped = [textwrap.fill(remark, COLUMNS, subsequent_indent="  ") for remark in said]
    hardly = sum(bool(outcome.found.get("remark")) for outcome in outcomes)  # told before any number
    hardly += hardly > 0 and comparable(field)
    lines = [*wrapped[:hardly], in_words(field, outcomes, chosen), *wrapped[hardly:], ""]
    if field == BETA:
        lines.append(f"Figure: {plots.save(plots.beta_tradeoff(rows), folder / 'tradeoff.png')}")
        lines.append(f"Figure: {plots.save(plots.rate_distortion(rows), folder / 'rate-distortion.png')}")
        if all(each["mig"] is not None for each in rows):
            lines.append(f"Figure: {plots.save(plots.scores_by_beta(rows), folder / 'disentanglement.png')}")
    return "\n".join([*lines, f"Table: {folder / TABLE}"])


def _alike(outcomes: Sequence[Outcome]) -> dict[int, float]:
    """How far each run's units are those of the other seeds of its value; nothing where there is one seed."""
    found: dict[int, float] = {}
    for value in by_value(outcomes):
        codes = [run.codes for run in value.runs if run.codes is not None]
        if len(codes) == len(value.runs) > 1:
            found |= {id(run): float(each) for run, each in zip(value.runs, udr(codes), strict=True)}
    return found


def in_words(field: str, outcomes: Sequence[Outcome], chosen: Sequence[Choice]) -> str:
    """The runs and what to choose among them, as tables for a terminal.

    Args:
        field: dotted name of what differs.
        outcomes: the runs, measured.
        chosen: as :func:`~tightbound.runs.advice.choices` gives them; no table of them where there are none.

    Returns:
        The tables' lines.
    """
    values = by_value(outcomes)
    parts = [_numbers(field, values), _scores(field, values), _advice(field, chosen) if chosen else ""]
    return "\n\n".join(part for part in parts if part)


def row(field: str, outcome: Outcome) -> dict[str, Any]:
    """One run's numbers, as a row of the sweep's table and of its figures.

    Args:
        field: dotted name of what differs.
        outcome: the run, measured.
    """
    keys = [key for name in ESTIMATES for key in (name, f"{name}_se")]
    keys += [
        "rate_sampled", "rate_sampled_se", "bits_per_dim", "active_units", "latent_dim", "observations", "samples",
        "proposal", "high_k_share", "reliable",
    ]  # fmt: skip
    told = outcome.found.get(MUTUAL) or {}  # a sweep that an older version began has none
    interval = {f"information_{end}{part}": told.get(f"{end}{part}") for end in BETWEEN for part in ("", "_se")}
    scores = outcome.found.get("scores") or {}
    beside = {
        f"{name.replace('-', '_')}{part}": scores.get(name, {}).get(key)
        for name in SCORES
        for part, key in (("", "value"), ("_se", "se"))
    }
    numbers = {key: outcome.found[key] for key in keys}
    return {field.split(".")[-1]: outcome.value, "seed": outcome.seed, **numbers, **interval, **beside}


def _remarks(recipe: Recipe, field: str, outcomes: Sequence[Outcome]) -> list[str]:
    """What a reader must know to take the numbers for what they are."""
    found = outcomes[0].found
    validated = recipe.train.validation > 0 or field == "train.validation"
    hardly = [
        f"At {field} = {outcome.value}: {outcome.found['remark']}"
        for outcome in outcomes
        if outcome.found.get("remark")
    ]
    said = [
        *hardly,
        *(passed_over(field, outcomes) if comparable(field) else []),
        f"Measured on {found['observations']} observations held out for validation; the test set is left for the run "
        "you choose: tightbound report RUN."
        if validated
        else "Measured on the test set, as train.validation = 0: the chosen run's test numbers flatter it.",
    ]
    if not comparable(field):
        said.append(f"Runs at different {field} describe different observations: their nats cannot be ranked.")
    seeds = min(len(value.runs) for value in by_value(outcomes))
    if seeds > 1:
        said.append(f"Means of {seeds} or more seeds; ± is what these differ by, a standard error.")
    said += [
        f"At {field} = {outcome.value}, the weights have a tail that runs away for {outcome.found['high_k_share']:.0%} "
        "of the observations (Pareto's k above 0.7), or too few draws to tell: its NLL is likely too high."
        for outcome in outcomes
        if not outcome.found["reliable"]
    ]
    if not all(outcome.found["is_likelihood"] for outcome in outcomes):
        said.append("No likelihood: these are cross-entropies of grey values.")
    if field == BETA:
        said.append("log p(x) says how well new data are explained, not how samples look: tightbound sample RUN.")
        said.append(_of_disentanglement(found, seeds))
    return said


def _of_disentanglement(found: dict[str, Any], seeds: int) -> str:
    if not found.get("scores"):
        return "Disentanglement is a proxy: without known factors no number shows it (Locatello et al. 2019)."
    return "MIG and the others are of the training observations beside their factors." + (
        ""
        if seeds > 1
        else " Of one seed each: two seeds of a value can differ by more than the errors say: --seeds 5."
    )


def _numbers(field: str, values: Sequence[Value]) -> str:
    rows = []
    for value in values:
        cells = [brief(_mean(value, key)) for key in ESTIMATES]
        told = [[(run.found.get(MUTUAL) or {}).get(end) for run in value.runs] for end in BETWEEN]
        ends = [[each for each in end if each is not None] for end in told]
        known = all(len(end) == len(value.runs) for end in ends)
        cells.insert(3, "–".join(f"{sum(end) / len(end):.1f}" for end in ends) if known else "?")
        units = f"{value.number('active_units'):.1f}".removesuffix(".0")
        rows.append((str(value.value), *cells, f"{units}/{value.number('latent_dim'):.0f}"))
    headings = (_symbol(field), "ELBO", "distortion", "rate", "I(x; z)", "NLL", "active")
    return of_numbers("nats per observation, ± one standard error", headings, rows)


def _scores(field: str, values: Sequence[Value]) -> str:
    """A table beside known factors and over seeds; empty where there is neither."""
    known = [name for name in SCORES if all(value.score(name) is not None for value in values)]
    alike = _alike([run for value in values for run in value.runs])
    if not known and not alike:
        return ""
    rows = []
    for value in values:
        cells = [str(value.score(name)) for name in known]
        if alike:
            each = [Estimate(alike[id(run)], math.nan) for run in value.runs if id(run) in alike]
            cells.append(str(over_seeds(each)) if each else "?")
        rows.append((str(value.value), *cells))
    headings = (_symbol(field), *(SCORES[name] for name in known), *(["UDR"] if alike else []))
    return of_numbers("what its dimensions stand for, ± one standard error", headings, rows)


def _mean(value: Value, key: str) -> Estimate:
    """Of one of the evaluation's estimates: of one run with its error over observations, else over seeds."""
    return over_seeds([Estimate(run.found[key], _or_nan(run.found[f"{key}_se"])) for run in value.runs])


def _advice(field: str, chosen: Sequence[Choice]) -> str:
    table = Table(
        title=f"which {_symbol(field)} to take, from these numbers", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for heading in ("for", _symbol(field), "because"):
        table.add_column(heading)
    for choice in chosen:
        table.add_row(choice.purpose, "none" if choice.value is None else str(choice.value), choice.because)
    return rendered(table)


def _symbol(field: str) -> str:
    return "β" if field == BETA else field.split(".")[-1]


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
