"""Labs: the concepts of a VAE tutorial, computed live in seconds. Each function gives a :class:`Result`.

``tb.labs.bounds()`` in Python is ``tightbound lab bounds`` on the command line. Functions load when they are first
used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tightbound.labs.catalogue import LABS, Lab
from tightbound.surface import missing

if TYPE_CHECKING:
    from tightbound.labs.result import Result as Result

__all__ = ["LABS", "Lab", "Result", *(name.replace("-", "_") for name in LABS)]


def __getattr__(name: str) -> Any:
    if name == "Result":
        from tightbound.labs.result import Result

        return Result
    lab = LABS.get(name.replace("_", "-"))
    if lab is None:
        raise missing(__name__, name, __all__)
    return lab.load()


def __dir__() -> list[str]:
    return sorted(__all__)
