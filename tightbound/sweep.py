"""Sweeps: one recipe trained once for each value of a field, and what the numbers say about which value to take."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from tightbound.files import write_json, write_text
from tightbound.recipe import Recipe, to_toml

ROWS = "sweep.json"
BASE = "base.toml"


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which value serves a purpose best, and the number that says so."""

    purpose: str
    value: Any
    because: str


def parse_over(text: str) -> tuple[str, list[Any]]:
    """A field and its values from ``field=a,b,c``.

    Raises:
        ValueError: for text of another form, or a value given twice.

    Example:
        >>> parse_over("objective.beta=0.5,1,2")
        ('objective.beta', [0.5, 1, 2])
    """
    name, found, values = text.partition("=")
    words = [word.strip() for word in values.split(",") if word.strip()]
    if not found or not name.strip() or not words:
        raise ValueError(f"Expected a field and values such as objective.beta=0.5,1,2,4; got {text!r}.")
    parsed = [_value(word) for word in words]
    if len(set(map(str, parsed))) < len(parsed):
        raise ValueError(f"Expected each value once; got {text!r}.")
    return name.strip().replace("-", "_"), parsed


def _value(word: str) -> Any:
    try:
        return json.loads(word)
    except json.JSONDecodeError:
        return word


def begin(folder: Path, recipe: Recipe, field: str, values: list[Any]) -> list[tuple[Any, Recipe, Path]]:
    """The runs of a sweep: value, recipe, folder. A folder of the same sweep is gone on with.

    Raises:
        ValueError: for a folder that holds something else, or a value the field cannot hold.
    """
    made = [(value, recipe.updated({field: value}), folder / f"{field.split('.')[-1]}={value}") for value in values]
    base = to_toml(recipe)
    if folder.exists() and any(folder.iterdir()):
        if not (folder / BASE).is_file() or (folder / BASE).read_text(encoding="utf-8") != base:
            raise ValueError(f"Expected a new folder or one of the same sweep; got {folder}. Choose another --out.")
    else:
        write_text(folder / BASE, base)
    return made


def row(field: str, value: Any, evaluation: dict[str, Any]) -> dict[str, Any]:
    """One run's numbers in the table."""
    keys = ("elbo", "elbo_se", "distortion", "distortion_se", "rate", "rate_se", "nll", "nll_se", "bits_per_dim")
    named = {key: evaluation[key] for key in (*keys, "active_units", "latent_dim", "reliable")}
    nats = evaluation.get("kl_per_dimension") or []
    active = [n for n, used in zip(nats, evaluation.get("active", []), strict=False) if used]
    return {field.split(".")[-1]: value, **named, "nats_per_active_unit": sum(active) / len(active) if active else None}


def choices(rows: list[dict[str, Any]]) -> list[Choice]:
    """Which β to take for generation, representation and disentanglement, from a sweep's own numbers.

    * generation: the highest ELBO at β = 1's measure; it bounds the likelihood of new data.
    * representation: the highest rate among the runs whose likelihood is within two standard errors of the best:
      the most information kept at no cost in likelihood.
    * disentanglement: the highest β that keeps at least half the nats of the best run's code: pressure towards
      independent dimensions while the code still tells observations apart. A proxy: no factors are known here.

    Example:
        >>> rows = [
        ...     {"beta": b, "elbo": e, "elbo_se": 0.1, "nll": -e, "nll_se": 0.1, "rate": r, "active_units": 9}
        ...     for b, e, r in ((0.5, -92.0, 30.0), (1, -90.0, 25.0), (4, -99.0, 13.0))
        ... ]
        >>> [choice.value for choice in choices(rows)]
        [1, 1, 4]
    """
    best = max(rows, key=lambda row: row["elbo"])
    fair = [row for row in rows if row["nll"] <= min(r["nll"] for r in rows) + 2 * math.hypot(row["nll_se"], best["nll_se"])]
    informed = max(fair, key=lambda row: row["rate"])
    pressed = max((row for row in rows if row["rate"] >= 0.5 * best["rate"]), key=lambda row: row["beta"])
    return [
        Choice("generation", best["beta"], f"highest ELBO, {best['elbo']:.2f} ± {best['elbo_se']:.2f} nats"),
        Choice("representation", informed["beta"], f"most nats in the code, {informed['rate']:.2f}, among the best likelihoods"),
        Choice(
            "disentanglement",
            pressed["beta"],
            f"strongest pressure that keeps half the nats: {pressed['rate']:.2f} in {pressed['active_units']} units",
        ),
    ]


def save(folder: Path, rows: list[dict[str, Any]], chosen: list[Choice]) -> None:
    """Write the sweep's table."""
    write_json(folder / ROWS, {"rows": rows, "choices": [dataclasses.asdict(choice) for choice in chosen]})
