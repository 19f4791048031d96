"""What is no recipe, though it is given as one: a run, data, a file that is not there, a name that is misspelt."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Sequence
from pathlib import Path


def no_recipe(name: str, shipped: Sequence[str]) -> ValueError:
    """What to say of it.

    Args:
        name: what was given; no recipe of the library's, and no file that ends in .toml.
        shipped: the names of the library's recipes.

    Example:
        >>> print(no_recipe("digit", ["auto", "digits"]))
        Expected a recipe (auto, digits) or the path of a .toml file; got 'digit'. Did you mean 'digits'?
    """
    path, text = Path(name), shlex.quote(name)
    if (path / "training.json").is_file() or (path / "recipe.toml").is_file():
        anew, own = "", path / "recipe.toml"
        if own.is_file():
            anew = f" To train its recipe anew: tightbound train {shlex.quote(str(own))}"
        return ValueError(
            f"Expected a recipe; got the run in {name}. To go on with it: tightbound train --resume {text}.{anew}"
        )
    if name and path.exists():
        return ValueError(
            f"Expected a recipe, or the path of a .toml file; got {name}, which may be data. Give them to the recipe "
            f"auto: tightbound train auto --data {text}, or tb.train('auto', data={name!r}) in Python."
        )
    close = difflib.get_close_matches(path.stem, shipped, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    if path.suffix or path.name != name:
        return ValueError(
            f"Expected the path of a .toml file; got {name}, where there is nothing (seen from {os.getcwd()}). Check "
            f"the path.{hint}"
        )
    return ValueError(f"Expected a recipe ({', '.join(shipped)}) or the path of a .toml file; got {name!r}.{hint}")
