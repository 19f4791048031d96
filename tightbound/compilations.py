"""What compiling costs here: remembered beside what the compiler keeps, so that both are lost together."""

from __future__ import annotations

import getpass
import json
import math
import os
import tempfile
from pathlib import Path
from statistics import median

from tightbound.files import require_file, write_json

COST = 20.0  # seconds that a first compilation takes on two cores, where nothing is known of this machine
AGAIN = 0.2  # of a first compilation's time that another one takes, which finds its parts in the compiler's cache
FILE = "tightbound.json"
MOST = 1000  # compilations that are remembered


def expected(fingerprint: str) -> float:
    """Seconds that a compilation will take: by those of the same before, or of others on this machine.

    Args:
        fingerprint: of what is compiled.

    Returns:
        The seconds.

    Example:
        >>> expected("never seen") > 0
        True
    """
    known = _read()
    if fingerprint in known:
        first, *later = known[fingerprint]
        return later[0] if later else AGAIN * first
    return median(first for first, *_ in known.values()) if known else COST


def remember(fingerprint: str, seconds: float) -> None:
    """Keep how long a compilation took; where nothing can be written, nothing is kept.

    Args:
        fingerprint: of what was compiled.
        seconds: that it took.
    """
    known = _read()
    known[fingerprint] = [*known.pop(fingerprint, [])[:1], seconds]
    try:
        write_json(_file(), dict(list(known.items())[-MOST:]))
    except (OSError, KeyError):
        return


def _file() -> Path:
    """In the folder that torch's compiler keeps its results in."""
    named = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    return Path(named or Path(tempfile.gettempdir()) / f"torchinductor_{getpass.getuser()}") / FILE


def _read() -> dict[str, list[float]]:
    try:
        require_file(_file())  # no pipe, which would be waited for
        found = json.loads(_file().read_text(encoding="utf-8"))
        return {str(name): _seconds(values) for name, values in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, KeyError):  # no file, or not one of ours
        return {}


def _seconds(values: list[float]) -> list[float]:
    if not 1 <= len(values) <= 2 or not all(0 <= float(each) < math.inf for each in values):
        raise ValueError("no seconds")
    return list(map(float, values))
