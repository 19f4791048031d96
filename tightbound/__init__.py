"""tightbound: variational autoencoders whose bounds you can trust.

Submodules load when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tightbound._version import __version__

if TYPE_CHECKING:
    from tightbound import (
        bounds as bounds,
    )
    from tightbound import (
        data as data,
    )
    from tightbound import (
        divergences as divergences,
    )
    from tightbound import (
        evaluate as evaluate,
    )
    from tightbound import (
        gradients as gradients,
    )
    from tightbound import (
        likelihoods as likelihoods,
    )
    from tightbound import (
        networks as networks,
    )
    from tightbound import (
        objectives as objectives,
    )
    from tightbound import (
        plots as plots,
    )
    from tightbound import (
        posteriors as posteriors,
    )
    from tightbound import (
        priors as priors,
    )
    from tightbound import (
        schedules as schedules,
    )
    from tightbound.draws import Draws as Draws
    from tightbound.model import VAE as VAE
    from tightbound.runs.run import Run as Run
    from tightbound.runs.run import open_run as open_run
    from tightbound.settings import Training as Training
    from tightbound.training import fit as fit

_MODULES = (
    "bounds",
    "data",
    "divergences",
    "evaluate",
    "gradients",
    "likelihoods",
    "networks",
    "objectives",
    "plots",
    "posteriors",
    "priors",
    "schedules",
)
_NAMES = {
    "VAE": "tightbound.model",
    "Draws": "tightbound.draws",
    "Run": "tightbound.runs.run",
    "Training": "tightbound.settings",
    "fit": "tightbound.training",
    "open_run": "tightbound.runs.run",
}

__all__ = ["__version__", *_MODULES, *_NAMES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"tightbound.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'tightbound' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
