"""Whether a recipe's sizes fit into the machine's memory, told before any of it is taken."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from tightbound.data.mapped import require_memory
from tightbound.runs.fitting import layers_of
from tightbound.runs.pieces import POSTERIORS, PRIORS, row
from tightbound.runs.recipe import ModelRecipe, Recipe

LARGEST = 2**63
BYTES = 4  # of a number
COPIES = 4  # of each weight in training: itself, its gradient, and two averages that Adam keeps


def require_room(recipe: Recipe, outline: Callable[[], nn.Module], elements: int, rows: int) -> None:
    """Refuse sizes that cannot fit, from what each of them takes at the least.

    Args:
        recipe: resolved.
        outline: makes the model without its memory.
        elements: numbers in an observation.
        rows: observations to train on.

    Raises:
        ValueError: with the memory that is needed, in GB.

    Example:
        >>> from torch import nn
        >>> require_room(Recipe(), lambda: nn.Linear(5, 5), 5, 100)
    """
    try:
        if max(_largest(recipe.model).values()) >= LARGEST:
            raise OverflowError
        made = outline()
    except (RuntimeError, OverflowError):  # a product of sizes beyond 64 bits
        raise ValueError(
            f"Expected a model whose numbers can be counted; got {_sizes(recipe.model)}, whose products are too large. "
            "Take smaller ones."
        ) from None
    weights = sum(p.numel() for p in made.parameters())
    require_memory(
        COPIES * BYTES * weights,
        of=f"a model of {weights:,} weights ({_sizes(recipe.model)})",
        remedy="Take smaller sizes.",
    )
    draws = getattr(recipe.objective, "samples", 1) * min(recipe.train.batch_size, rows)
    decoded = min(draws, recipe.train.micro_batch or draws)
    require_memory(
        BYTES * (draws * sum(layers_of(recipe.model)) + decoded * elements),
        of=f"a step of {draws:,} draws (train.batch_size times objective.samples)",
        remedy="Take a smaller batch, fewer samples or train.micro_batch.",
    )
    require_memory(
        BYTES * recipe.evaluate.samples * sum(layers_of(recipe.model)),
        of=f"evaluate.samples = {recipe.evaluate.samples:,}",
        remedy="Take fewer samples: 5000 is the literature's number.",
    )


def _sizes(model: ModelRecipe) -> str:
    """The model's three largest sizes in words."""
    widest = sorted(_largest(model).items(), key=lambda each: -each[1])[:3]
    return ", ".join(f"{name} = {_short(size)}" for name, size in widest)


def _largest(model: ModelRecipe) -> dict[str, int]:
    """The sizes that the parts in use read."""
    posterior = row(POSTERIORS, model.posterior, "model.posterior")
    prior = row(PRIORS, model.prior_by_name(), "model.prior")
    layers = layers_of(model)
    taken, mixed = {*posterior.takes, *prior.takes}, posterior.latents == "mixed"
    class_first = posterior.latents == "class first"  # whose MLP reads hidden widths behind any trunk
    read = {
        "latent_dim": True,
        "classes": mixed or "classes" in taken,
        "codes": mixed,
        "components": bool(taken & {"components", "pseudo_inputs"}),
        "channels": model.network != "mlp" and model.channels != "auto",
        "transforms": "transforms" in taken,
    }
    sizes = {name: getattr(model, name) for name, wanted in read.items() if wanted}
    sizes |= {"layers": max(layers)} if len(layers) > 1 else {}
    wide = model.hidden if model.network == "mlp" or class_first else ()
    return {**sizes, "a hidden width": max(wide)} if wide else sizes


def _short(size: int) -> str:
    return f"{size:,}" if size < 10**12 else f"about 1e{math.floor(math.log10(size))}"
