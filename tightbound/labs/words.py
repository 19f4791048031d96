"""What labs share: whether a request makes sense, how a long one goes, and tables in words."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence

from tightbound.progress import progress
from tightbound.settings import require_seed


def require_whole(name: str, value: object, *, least: int, why: str) -> None:
    """Refuse what is not a whole number, or too small a one.

    Args:
        name: of the argument.
        value: what was given for it.
        least: the smallest that makes sense.
        why: what would go wrong with less, as a sentence that says what to do.

    Raises:
        TypeError: for anything but a whole number.
        ValueError: for too small a one.

    Example:
        >>> require_whole("draws", 1000, least=2, why="One draw shows no spread.")
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"Expected a whole number for {name}; got {value!r}. For example: {name}={least}.")
    if value < least:
        raise ValueError(f"Expected {name} of at least {least}; got {value}. {why}")


def require_betas(betas: Sequence[float], *, zero: bool = True) -> None:
    """Refuse weights of the rate that make no sweep.

    Args:
        betas: what was given.
        zero: whether one may be 0.

    Raises:
        ValueError: for fewer than two different ones, and for one that is negative or not finite.

    Example:
        >>> require_betas((0.5, 1))
    """
    if len(betas) < 2 or len(set(betas)) < len(betas):
        raise ValueError(f"Expected two different values of betas at least; got {tuple(betas)}. For example: (0.5, 1).")
    wrong = [beta for beta in betas if not (0 < beta < math.inf or (zero and beta == 0))]
    if wrong:
        least = "of 0 or more" if zero else "above 0"
        raise ValueError(f"Expected finite betas {least}; got {wrong[0]}. Leave it out.")


def require_sizes(epochs: float, seed: int, latent_dim: int = 2) -> None:
    """Refuse sizes of a training that make no sense.

    Args:
        epochs: passes over the training set.
        seed: of everything random.
        latent_dim: latent dimensions, two at least, of a lab that compares them.

    Raises:
        TypeError: for counts that are no whole numbers.
        ValueError: for sizes out of range.

    Example:
        >>> require_sizes(5, 0)
    """
    if not 0 < epochs < math.inf:
        raise ValueError(f"Expected a finite number of epochs above 0; got {epochs}. A short lab has 5.")
    require_whole("latent_dim", latent_dim, least=2, why="There is nothing to trade or to tell apart in fewer.")
    require_seed(seed)


def advancing(total: int, *, show: bool) -> contextlib.AbstractContextManager[Callable[[int], None]]:
    """A context whose value is told how many trainings are done.

    Args:
        total: how many there are.
        show: whether a person sees it.

    Example:
        >>> with advancing(2, show=False) as advance:
        ...     advance(1)
    """
    return progress("training", total, unit="runs") if show else contextlib.nullcontext(lambda done: None)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for a terminal: names to the left, numbers to the right.

    Args:
        head: a heading for each column.
        rows: the cells; the first of each row is its name.

    Returns:
        Its lines, indented by two.

    Example:
        >>> print(table(["K", "gap"], [["one", "0.5"], ["ten", "0.25"]]))
          K     gap
          one   0.5
          ten  0.25
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for name, *cells in (head, *rows):
        numbers = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  " + "  ".join([name.ljust(widths[0]), *numbers]).rstrip())
    return "\n".join(lines)
