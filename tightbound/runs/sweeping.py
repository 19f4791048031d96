"""Sweeps as one call: of a recipe, or of models that a function makes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tightbound.model import Model
from tightbound.runs.recipe import Recipe
from tightbound.runs.recipe import load as load_recipe
from tightbound.runs.sweep_functions import of_function
from tightbound.runs.sweep_recipes import of_recipe
from tightbound.runs.swept import Sweep
from tightbound.settings import TrainingChanges, plain, require_seed

__all__ = ["sweep"]

LONGEST = 40  # letters of what a value is called


def sweep(
    what: str | os.PathLike[str] | Recipe | Callable[..., Any],
    data: Any = None,
    *,
    over: Mapping[str, Any],
    seeds: int = 1,
    seed: int | None = None,
    out: str | os.PathLike[str] | None = None,
    changes: Mapping[str, Any] | None = None,
    progress: bool = True,
    **settings: Any,
) -> Sweep:
    """Train once for each value of something, measure all alike, and say which value to take.

    Values are compared on the observations that were held out for validation: the test set is left for the one that you
    choose. Each value is trained with the same seeds, so that all see the same batches and start alike.

    A function makes the model anew for each value, which it takes by name: ``tb.sweep(make, x, over={"beta": [1, 4]})``
    calls ``make(beta=1)``. It returns the model, or the model and its objective. A setting of ``fit`` that it does not
    take goes there: ``over={"learning_rate": [1e-3, 1e-2]}``.

    Args:
        what: a recipe, its name or the path of its .toml file, as ``train`` takes it; or a function that makes a model.
        data: what is trained on, as ``fit`` takes it; of a recipe, in place of its own data.
        over: what differs, and its values: ``{"objective.beta": [1, 4]}`` of a recipe, by the field's dotted name. What
            has no short name of its own is given one: ``{"prior": {"plain": p, "flow": q}}``.
        seeds: how many trainings each value has, with seeds one after another. Errors are then over seeds.
        seed: the first; 0, or the recipe's own, by default.
        out: the sweep's folder, with a run in it for each training. A sweep that was broken off goes on with the same
            call; values and seeds may be added. Of a recipe ``runs/<recipe>-sweep-<time>`` by default; of a function
            nothing is written by default.
        changes: of a recipe: new values for its fields, by dotted name.
        progress: whether to show how it goes.
        **settings: of a function: what ``fit`` takes besides, such as ``epochs=10`` or ``objective=…``.

    Returns:
        The sweep: its table and advice, ``.runs``, ``.figure()`` and ``.curves()``.

    Raises:
        TypeError: for what is neither a recipe nor a function, or a function that makes no model; for arguments that
            belong to the other kind; for values that are no list and no mapping.
        ValueError: for no value or one twice, a folder that holds something else, a model that is made once for all
            values, and whatever a training refuses.

    Example:
        >>> import tempfile, tightbound as tb
        >>> small = {"train.epochs": 0.1, "model.hidden": [8], "evaluate.samples": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     over = {"model.latent_dim": [2, 3]}
        ...     found = tb.sweep("digits", over=over, out=f"{folder}/sizes", changes=small, progress=False)
        >>> [(row["latent_dim"], row["observations"]) for row in found.rows()]
        [(2, 162), (3, 162)]
    """
    field, values = _over(over)
    folder = None if out is None else Path(out)
    if isinstance(what, str | os.PathLike | Recipe):
        if settings:
            name = next(iter(settings))
            raise TypeError(
                f"Expected changes= with a recipe; got {name}=. For example: changes={{'train.{name}': …}}."
                if name in TrainingChanges.__annotations__
                else f"Expected changes= with a recipe; got {name}=. Name the recipe's field in changes=."
            )
        changed = {**(changes or {}), **({} if seed is None else {"seed": require_seed(seed)})}
        recipe = (what if isinstance(what, Recipe) else load_recipe(os.fspath(what))).updated(changed)
        return _saved(of_recipe(recipe, field, list(values), folder, seeds=seeds, data=data, progress=progress))
    if not callable(what) or isinstance(what, Model):
        raise TypeError(
            f"Expected a recipe, or a function that makes a model; got {type(what).__name__}. For example: "
            f"def make({field}): return tb.VAE(…)."
        )
    if changes is not None:
        raise TypeError("Expected no changes= with a function; got some. Give what fit takes: epochs=10.")
    if data is None:
        raise TypeError("Expected data to train on with a function; got none. Give them: tb.sweep(make, x, over=…).")
    first = require_seed(0 if seed is None else seed)
    return _saved(of_function(what, data, field, values, folder, seeds, first, settings, progress=progress))


def _saved(found: Sweep) -> Sweep:
    """With its table and figures in its folder, where it has one and all runs are there."""
    if found.path is not None and not found.setting.missing:
        found.save(found.path)
    return found


def _over(over: object) -> tuple[str, dict[Any, Any]]:
    """What differs, and its values by what tables call them."""
    if not isinstance(over, Mapping) or len(over) != 1 or not all(isinstance(name, str) and name for name in over):
        got = f"{len(over)} names" if isinstance(over, Mapping) and len(over) != 1 else repr(over)
        raise TypeError(f"Expected one name and its values as over; got {got}. For example: over={{'beta': [1, 4]}}.")
    [(name, given)] = over.items()
    if isinstance(given, Mapping):
        labels, values = [str(label) for label in given], list(given.values())
    elif isinstance(given, str) or not hasattr(given, "__iter__") or getattr(given, "ndim", 1) == 0:
        raise TypeError(f"Expected a list of values for {name}; got {given!r}. For example: over={{{name!r}: [1, 4]}}.")
    else:
        values = [plain(value) for value in given]
        labels = [_label(value) for value in values]
    if not values:
        raise ValueError(f"Expected at least one value for {name}; got none.")
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ValueError(
            f"Expected each value of {name} once, under a name of its own; got {twice} twice. Name them: "
            f"over={{{name!r}: {{'one': …, 'other': …}}}}."
        )
    return name, dict(zip(labels, values, strict=True))


def _label(value: Any) -> Any:
    """What tables call a value: itself where it is a number or a word."""
    if isinstance(value, bool | int | float | str):
        return value
    return str(getattr(value, "__name__", None) or value).replace("\n", " ")[:LONGEST]
