"""What a transform may make of a batch: other values of the same kind, by torch's own random numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from tightbound.batch import Batch
from tightbound.checks import described
from tightbound.data.transforms import Transform
from tightbound.model import Model
from tightbound.runtime import own_random_state
from tightbound.support import first_outside, outside


def require_transform(transform: object) -> None:
    """Refuse what cannot be called.

    Args:
        transform: what was given.

    Raises:
        TypeError: for anything but a function or None.

    Example:
        >>> require_transform(None)
    """
    if transform is not None and not callable(transform):
        raise TypeError(
            f"Expected a function of a batch's x as transform; got {transform!r}. Write "
            "transform=tb.data.transforms.Shift(2), for example."
        )


def transformed(transform: Transform, x: Tensor) -> Tensor:
    """What a transform makes of a batch's x.

    Args:
        transform: any.
        x: observations, shape (B, \\*shape); the transform may overwrite them.

    Returns:
        Others of the same shape and type, in the same place.

    Raises:
        TypeError: for what is no tensor.
        ValueError: for another shape, type or device.

    Example:
        >>> transformed(torch.neg, torch.ones(2, 1)).tolist()
        [[-1.0], [-1.0]]
    """
    form, called = (tuple(x.shape), x.dtype, x.device), _called(transform)
    with torch.no_grad():
        made = transform(x)
    if not isinstance(made, Tensor):
        raise TypeError(
            f"Expected a transform that gives a tensor; got {type(made).__name__} from {called}. It is called "
            "with a batch's x, and returns another of that shape."
        )
    for what, before, after in zip(
        ("shape", "type", "device"), form, (tuple(made.shape), made.dtype, made.device), strict=True
    ):
        if before != after:
            raise ValueError(
                f"Expected a transform that keeps the {what} of a batch's x, {before}; got {after} from {called}."
                f"{' The first axis counts the observations.' if what == 'shape' else ''}"
            )
    return made


def check_transform(transform: Transform, model: Model, batch: Batch, *, name: str, seed: int) -> None:
    """Try a transform on a batch, twice, before the first step.

    Args:
        transform: any.
        model: on its device.
        batch: of the training's, as it is before the transform.
        name: of the data.
        seed: of what the transform draws.

    Raises:
        TypeError: as :func:`transformed`.
        ValueError: likewise; for data of which values are absent; for a transform whose random numbers are not torch's,
            and for values that are not finite or outside the likelihood's support.
    """
    if batch.mask is not None:
        raise ValueError(
            f"Expected observations that are all there for a transform, which knows of no mask; got a mask in {name}. "
            "Fill in the absent values, or leave the transform out."
        )
    found, called = [], _called(transform)
    for _ in range(2):
        with own_random_state(batch.x.device, seed=seed):
            found.append(transformed(transform, batch.x.clone()))
    made, again = found
    if not made.isfinite().all():
        raise ValueError(
            f"Expected a transform that gives finite values; got NaN or infinity from {called} for the first "
            f"batch of {name}."
        )
    if not made.equal(again):
        raise ValueError(
            f"Expected a transform whose random numbers are torch's own, so that a resumed run repeats them; got other "
            f"values at the second call from {called}. Draw with torch.rand and torch.randint."
        )
    known = described(model)
    if known.support is not None and (index := first_outside(known.support, made)) is not None:
        raise outside(
            known.support,
            known.likelihood,
            made,
            where=f"what {called} makes of observation {index} of the first batch",
        )


def _called(transform: Transform) -> str:
    """A function's name, and the words of whatever else a transform is."""
    return str(getattr(transform, "__qualname__", repr(transform)))
