"""Sweeps: one recipe trained once for each value of a field, measured, and told in a table and two figures."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch import Tensor

from tightbound import plots
from tightbound.data import Observations
from tightbound.evaluate import Estimate
from tightbound.files import write_json, write_tensors, write_text
from tightbound.runs.advice import BETA, Choice, Outcome, choices, comparable
from tightbound.runs.measured import MUTUAL, Measured
from tightbound.runs.recipe import Recipe, to_toml
from tightbound.runs.run import Trained

TABLE = "sweep.json"
BASE = "base.toml"
FOUND = "validation.json"
PER_OBSERVATION = "validation.safetensors"
COLUMNS = 80  # of a plain terminal
ESTIMATES = ("elbo", "distortion", "rate", "nll")
BETWEEN = ("lower", "upper")  # the ends of its interval


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


def begin(folder: Path, recipe: Recipe, field: str, values: Sequence[Any]) -> list[tuple[Any, Recipe, Path]]:
    """Plan the runs of a sweep. A folder of the same sweep is gone on with, values may be added.

    Args:
        folder: the sweep's.
        recipe: what the runs have in common.
        field: dotted name of what differs.
        values: of that field.

    Returns:
        Value, recipe and folder of each run.

    Raises:
        ValueError: for a folder that holds something else, a field there is not, or a value it cannot hold.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     planned = begin(Path(folder), Recipe(), "objective.beta", [1, 4])
        >>> [(value, recipe.objective.beta, path.name) for value, recipe, path in planned]
        [(1, 1.0, 'beta=1'), (4, 4.0, 'beta=4')]
    """
    last = field.split(".")[-1]
    names = [f"{last}={re.sub(r'[^0-9A-Za-z.+_-]', '-', str(value))}" for value in values]
    changed = [recipe.updated({field: value}) for value in values]
    if len(set(names)) < len(names):
        raise ValueError(f"Expected values whose folders have names of their own; got {', '.join(names)}.")
    base = f"# {field}\n{to_toml(recipe)}"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not (folder / BASE).is_file() or (folder / BASE).read_text(encoding="utf-8") != base:
            raise ValueError(
                f"Expected a new folder, or that of a sweep over {field} from the same recipe; got {folder}. Choose "
                "another: --out."
            )
    else:
        write_text(folder / BASE, base)
    return list(zip(values, changed, [folder / name for name in names], strict=True))


def compared_on(trained: Trained) -> Observations:
    """What the values are compared on: the observations held out for validation, the test set where there are none.

    Args:
        trained: one run of the sweep.
    """
    return trained.run.held_out(trained.data) or trained.data.test


def keep(path: Path, found: Measured) -> tuple[dict[str, Any], Tensor, Tensor]:
    """Write a run's measurement into its folder.

    Args:
        path: the run's folder.
        found: what was measured.

    Returns:
        What an :class:`Outcome` needs of it: the numbers, and log p(x) and distortion of each observation.
    """
    columns = {name: found.evidence.per_observation[name] for name in ("log_px", "distortion")}
    write_tensors(path / PER_OBSERVATION, columns)
    write_json(path / FOUND, found.to_json())
    return found.to_json(), columns["log_px"], columns["distortion"]


def measured(path: Path) -> tuple[dict[str, Any], Tensor, Tensor] | None:
    """What :func:`keep` wrote, or None where the run is not there yet or not measured.

    Args:
        path: the run's folder.

    Returns:
        As :func:`keep` gives it.

    Example:
        >>> measured(Path("missing")) is None
        True
    """
    if not (path / FOUND).is_file():
        return None
    columns = load_file(path / PER_OBSERVATION)
    return json.loads((path / FOUND).read_text(encoding="utf-8")), columns["log_px"], columns["distortion"]


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
    rows = [row(field, outcome) for outcome in outcomes]
    made = {"field": field, "rows": rows, "choices": [dataclasses.asdict(c) for c in chosen], "remarks": said}
    write_json(folder / TABLE, made)
    wrapped = [textwrap.fill(remark, COLUMNS, subsequent_indent="  ") for remark in said]
    lines = [in_words(field, outcomes, chosen), *wrapped, ""]
    if field == BETA:
        lines.append(f"Figure: {plots.save(plots.beta_tradeoff(rows), folder / 'tradeoff.png')}")
        lines.append(f"Figure: {plots.save(plots.rate_distortion(rows), folder / 'rate-distortion.png')}")
    return "\n".join([*lines, f"Table: {folder / TABLE}"])


def in_words(field: str, outcomes: Sequence[Outcome], chosen: Sequence[Choice]) -> str:
    """The runs and what to choose among them, as tables for a terminal.

    Args:
        field: dotted name of what differs.
        outcomes: the runs, measured.
        chosen: as :func:`~tightbound.runs.advice.choices` gives them; no table of them where there are none.

    Returns:
        The tables' lines.
    """
    return "\n\n".join([_numbers(field, outcomes), *([_advice(field, chosen)] if chosen else [])])


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
    return {field.split(".")[-1]: outcome.value, **{key: outcome.found[key] for key in keys}, **interval}


def _remarks(recipe: Recipe, field: str, outcomes: Sequence[Outcome]) -> list[str]:
    """What a reader must know to take the numbers for what they are."""
    found = outcomes[0].found
    validated = recipe.train.validation > 0 or field == "train.validation"
    said = [
        f"Measured on {found['observations']} observations held out for validation; the test set is left for the run "
        "you choose: tightbound report RUN."
        if validated
        else "Measured on the test set, as train.validation = 0: the chosen run's test numbers flatter it."
    ]
    if not comparable(field):
        said.append(f"Runs at different {field} describe different observations: their nats cannot be ranked.")
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
        said.append("Disentanglement is a proxy: without known factors no number shows it (Locatello et al. 2019).")
    return said


def _numbers(field: str, outcomes: Sequence[Outcome]) -> str:
    table = Table(
        title="nats per observation, ± one standard error",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    for heading in (_symbol(field), "ELBO", "distortion", "rate", "I(x; z)", "NLL", "active"):
        table.add_column(heading, justify="right")
    for outcome in outcomes:
        found, told = outcome.found, outcome.found.get(MUTUAL)
        cells = [_brief(Estimate(found[key], _or_nan(found[f"{key}_se"]))) for key in ESTIMATES]
        cells.insert(3, "?" if told is None else "–".join(f"{told[end]:.1f}" for end in BETWEEN))
        table.add_row(str(outcome.value), *cells, f"{found['active_units']}/{found['latent_dim']}")
    return _rendered(table)


def _advice(field: str, chosen: Sequence[Choice]) -> str:
    table = Table(
        title=f"which {_symbol(field)} to take, from these numbers", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for heading in ("for", _symbol(field), "because"):
        table.add_column(heading)
    for choice in chosen:
        table.add_row(choice.purpose, "none" if choice.value is None else str(choice.value), choice.because)
    return _rendered(table)


def _symbol(field: str) -> str:
    return "β" if field == BETA else field.split(".")[-1]


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _brief(found: Estimate) -> str:
    """With two decimals at most, so that a row fits a terminal."""
    return f"{found.value:.2f} ± {found.se:.2f}" if found.se < 0.1 else str(found)


def _rendered(table: Table) -> str:
    console = Console(file=io.StringIO(), width=COLUMNS)
    with console.capture() as captured:
        console.print(table)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())
