"""What labs share: whether a request makes sense, and tables in words."""

from __future__ import annotations

from collections.abc import Sequence


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


def require_seed(seed: object) -> None:
    """Refuse what is no seed.

    Args:
        seed: what was given.

    Raises:
        TypeError: for anything but a whole number.
        ValueError: for one outside the range that every generator takes.

    Example:
        >>> require_seed(0)
    """
    require_whole("seed", seed, least=0, why="Take any whole number from 0 on.")
    if not isinstance(seed, int) or seed > 2**63 - 1:
        raise ValueError(f"Expected a seed from 0 to 2⁶³ − 1; got {seed}. Take a smaller one.")


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
