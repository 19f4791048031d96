"""Data at a glance, for a notebook."""

from __future__ import annotations

from collections.abc import Mapping

from tightbound.data.observations import Observations
from tightbound.notebook import table

FEW = 10  # names that are shown


def shown(observations: Observations) -> str:
    """Observations as a table.

    Args:
        observations: any.

    Returns:
        HTML.
    """
    return table(f"Observations: {observations.name}", facts(observations).items(), said=observations.notes)


def shown_beside(title: str, parts: Mapping[str, Observations]) -> str:
    """Several sets of observations as one table.

    Args:
        title: what they are.
        parts: by what they are called.

    Returns:
        HTML.
    """
    each = [facts(part) for part in parts.values()]
    rows = [(name, *(found.get(name, "") for found in each)) for name in {key: 0 for found in each for key in found}]
    said = dict.fromkeys(note for part in parts.values() for note in part.notes)
    return table(title, rows, head=("", *parts), said=list(said))


def facts(observations: Observations) -> dict[str, str]:
    """What there is to know of observations at a glance, by name.

    Args:
        observations: any.

    Example:
        >>> import torch
        >>> facts(Observations(torch.zeros(2, 3)))
        {'observations': '2', 'shape': '3', 'stored as': 'float32'}
    """
    kind = str(observations.stored.dtype).removeprefix("torch.")
    scale = "" if observations.scale == 1 else f", {observations.scale:g} means 1"
    found = {
        "observations": f"{len(observations):,}",
        "shape": " × ".join(map(str, observations.shape)) or "one number",
        "stored as": f"{kind}{scale}",
    }
    if observations.binarise:
        found["seen"] = "binarised"
    for name, there, names in (
        ("labels", observations.labels is not None, observations.label_names),
        ("factors", observations.factors is not None, observations.factor_names),
        ("columns", bool(observations.column_names), observations.column_names),
    ):
        if there:
            more = f", … {len(names)} in all" if len(names) > FEW else ""
            found[name] = ", ".join(names[:FEW]) + more or "without names"
    return {**found, "absent values": "yes"} if observations.mask is not None else found
