"""A run at a glance, for a notebook: what it is of, how far it came, what was measured."""

from __future__ import annotations

from typing import Any

from tightbound.evaluate import Estimate
from tightbound.notebook import table
from tightbound.runs.folder import REPORT
from tightbound.runs.from_fit import FromFit
from tightbound.runs.run import Run


def shown(run: Run) -> str:
    """A run as a table. A file that is damaged is said to be so, and hides nothing else.

    Args:
        run: any.

    Returns:
        HTML.
    """
    recipe, said = run.recipe, list[str]()
    rows = [
        ("folder", str(run.path)),
        ("data", f"{recipe.data.source}, of shape {' × '.join(map(str, run.config.shape))}"),
    ]
    if isinstance(recipe, FromFit):
        rows.append(("objective", recipe.said))
    else:
        model = recipe.model
        rows.append(("model", f"{model.prior} prior, {model.posterior} posterior, {model.likelihood} likelihood"))
        rows.append(("objective", recipe.objective.name))
    for read in (_trained, _evaluated):
        try:
            rows += read(run)
        except ValueError as error:
            said.append(str(error))
    if (run.path / REPORT).is_file():
        rows.append(("report", str(run.path / REPORT)))
    return table(f"Run: {recipe.name}", rows, said=said)


def _trained(run: Run) -> list[tuple[str, str]]:
    lines = run.metrics()
    if not lines:
        return [("trained", "not yet")]
    best = [line for line in lines if line.get("best") and line.get("loss") is not None][-1:]
    found = [("trained", f"{lines[-1]['step']:,} steps, {lines[-1]['epoch']:.4g} epochs, seed {run.recipe.seed}")]
    return found + [("best validation loss", f"{line['loss']:.2f} nats, at step {line['step']:,}") for line in best]


def _evaluated(run: Run) -> list[tuple[str, str]]:
    found = run.evaluation()
    if found is None:
        return [("evaluated", "not yet: tightbound evaluate, or tb.evidence")]
    return [(name, _estimate(found, key)) for name, key in (("ELBO", "elbo"), ("NLL", "nll"), ("rate", "rate"))]


def _estimate(found: dict[str, Any], key: str) -> str:
    error = found.get(f"{key}_se")
    return f"{Estimate(found[key], float('nan') if error is None else error)} nats".replace("-", "−")
