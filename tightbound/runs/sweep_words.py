"""What the runs of a sweep say: tables of their numbers, and what a reader must know of these."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Container, Sequence
from typing import Any

from rich import box
from rich.table import Table

from tightbound.evaluate import Estimate, udr
from tightbound.runs.advice import BETA, Choice, Outcome, Value, by_value, over_seeds
from tightbound.runs.measured import MUTUAL
from tightbound.runs.tables import brief, of_numbers, rendered

ESTIMATES = ("elbo", "distortion", "rate", "nll")
BETWEEN = ("lower", "upper")  # the ends of its interval
SCORES = {"mig": "MIG", "dci-disentanglement": "DCI-D", "factor-vae-score": "FactorVAE"}  # and what their columns say
NUMBERS = "nats per observation, ± one standard error"
STAND_FOR = "what its dimensions stand for, ± one standard error"


def alike(outcomes: Sequence[Outcome]) -> dict[int, float]:
    """How far each run's units are those of the other seeds of its value, by ``id``; nothing where there is one seed.

    Args:
        outcomes: the runs, measured.

    Example:
        >>> alike([])
        {}
    """
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
    headings, scored = scores_of(field, values)
    parts = [
        of_numbers(NUMBERS, *numbers_of(field, values)),
        of_numbers(STAND_FOR, headings, scored) if scored else "",
        _advice(field, chosen) if chosen else "",
    ]
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
    numbers = {**{key: outcome.found[key] for key in keys}, **interval, **beside}
    return {key_of(field, numbers): outcome.value, "seed": outcome.seed, **numbers}


def key_of(field: str, numbers: Container[str]) -> str:
    """What a row calls the swept field, beside its numbers.

    Args:
        field: its dotted name.
        numbers: names that are taken.

    Example:
        >>> key_of("objective.beta", []), key_of("objective.samples", ["samples"]), key_of("rate", ["rate"])
        ('beta', 'objective.samples', 'over rate')
    """
    last = field.split(".")[-1]
    if last not in numbers:
        return last
    return field if field not in numbers else f"over {field}"


@dataclasses.dataclass(frozen=True)
class Setting:
    """How a sweep was made, as far as its words depend on it.

    Attributes:
        field: What differs, as it was given.
        beta: Whether that is the weight of the rate.
        validated: Whether runs are measured on what was held out for validation, not on a test set.
        folders: Whether each run has a folder, which commands take.
        unranked: Why runs cannot be ranked, a sentence; empty where they can.
        missing: How many runs there are not, as the sweep was stopped.
    """

    field: str
    beta: bool
    validated: bool = True
    folders: bool = True
    unranked: str = ""
    missing: int = 0

    @property
    def kind(self) -> str:
        """The field as advice and tables know it."""
        return BETA if self.beta else self.field


def hardly(setting: Setting, outcomes: Sequence[Outcome]) -> list[str]:
    """What must be told before any number.

    Args:
        setting: of the sweep.
        outcomes: its runs, measured.
    """
    return [
        f"At {setting.field} = {outcome.value}: {outcome.found['remark']}"
        for outcome in outcomes
        if outcome.found.get("remark")
    ]


def remarks(setting: Setting, outcomes: Sequence[Outcome]) -> list[str]:
    """What a reader must know to take the numbers for what they are.

    Args:
        setting: of the sweep.
        outcomes: its runs, measured; at least one.
    """
    found, field = outcomes[0].found, setting.field
    commands = setting.folders
    last = "tightbound report RUN" if commands else "tb.report(model, data, result)"
    said = [
        f"Measured on {found['observations']} observations held out for validation; the test set is left for the run "
        f"you choose: {last}."
        if setting.validated
        else f"Measured on the test set, as {'train.' if commands else ''}validation = 0: the chosen run's test "
        "numbers flatter it."
    ]
    if setting.missing:
        count = f"{setting.missing} run{'' if setting.missing == 1 else 's'}"
        said.append(f"The sweep was stopped with {count} to go: no value is recommended.")
    if setting.unranked:
        said.append(setting.unranked)
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
    if setting.beta:
        look = "tightbound sample RUN" if commands else "model.sample(16)"
        said.append(f"log p(x) says how well new data are explained, not how samples look: {look}.")
        said.append(_of_disentanglement(found, seeds, "--seeds 5" if commands else "seeds=5"))
    return said


def _of_disentanglement(found: dict[str, Any], seeds: int, more: str) -> str:
    if not found.get("scores"):
        return "Disentanglement is a proxy: without known factors no number shows it (Locatello et al. 2019)."
    alone = (
        "" if seeds > 1 else f" Of one seed each: two seeds of a value can differ by more than the errors say: {more}."
    )
    return f"MIG and the others are of the training observations beside their factors.{alone}"


def numbers_of(field: str, values: Sequence[Value]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and cells of the table of values.

    Args:
        field: dotted name of what differs.
        values: with their runs.
    """
    rows = []
    for value in values:
        cells = [brief(_mean(value, key)) for key in ESTIMATES]
        told = [[(run.found.get(MUTUAL) or {}).get(end) for run in value.runs] for end in BETWEEN]
        ends = [[each for each in end if each is not None] for end in told]
        known = all(len(end) == len(value.runs) for end in ends)
        cells.insert(3, "–".join(f"{sum(end) / len(end):.1f}" for end in ends) if known else "?")
        units = f"{value.number('active_units'):.1f}".removesuffix(".0")
        rows.append((str(value.value), *cells, f"{units}/{value.number('latent_dim'):.0f}"))
    return (symbol(field), "ELBO", "distortion", "rate", "I(x; z)", "NLL", "active"), rows


def scores_of(field: str, values: Sequence[Value]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings and cells of a table beside known factors and over seeds; empty where there is neither.

    Args:
        field: dotted name of what differs.
        values: with their runs.
    """
    known = [name for name in SCORES if all(value.score(name) is not None for value in values)]
    found = alike([run for value in values for run in value.runs])
    if not known and not found:
        return (), []
    rows = []
    for value in values:
        cells = [str(value.score(name)) for name in known]
        if found:
            each = [Estimate(found[id(run)], math.nan) for run in value.runs if id(run) in found]
            cells.append(str(over_seeds(each)) if each else "?")
        rows.append((str(value.value), *cells))
    return (symbol(field), *(SCORES[name] for name in known), *(["UDR"] if found else [])), rows


def _mean(value: Value, key: str) -> Estimate:
    """Of one of the evaluation's estimates: of one run with its error over observations, else over seeds."""
    return over_seeds([Estimate(run.found[key], _or_nan(run.found[f"{key}_se"])) for run in value.runs])


def _advice(field: str, chosen: Sequence[Choice]) -> str:
    table = Table(title=f"which {symbol(field)} to take, from these numbers", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("for", symbol(field), "because"):
        table.add_column(heading)
    for choice in chosen:
        table.add_row(choice.purpose, "none" if choice.value is None else str(choice.value), choice.because)
    return rendered(table)


def symbol(field: str) -> str:
    """What tables call a field.

    Args:
        field: its dotted name.

    Example:
        >>> symbol("objective.beta"), symbol("model.latent_dim")
        ('β', 'latent_dim')
    """
    return "β" if field == BETA else field.split(".")[-1]


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
