"""tightbound: variational autoencoders whose bounds you can trust.

Submodules load when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from tightbound._version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tightbound import bounds as bounds
    from tightbound import data as data
    from tightbound import distributions as distributions
    from tightbound import divergences as divergences
    from tightbound import evaluate as evaluate
    from tightbound import gradients as gradients
    from tightbound import labs as labs
    from tightbound import likelihoods as likelihoods
    from tightbound import networks as networks
    from tightbound import objectives as objectives
    from tightbound import plots as plots
    from tightbound import posteriors as posteriors
    from tightbound import priors as priors
    from tightbound import schedules as schedules
    from tightbound import training as training
    from tightbound.autoencoder import VAE as VAE
    from tightbound.batch import Batch as Batch
    from tightbound.conditioned import ConditionalVAE as ConditionalVAE
    from tightbound.draws import Draws as Draws
    from tightbound.evaluate.evidence import evidence as evidence
    from tightbound.model import Model as Model
    from tightbound.paired import PairedVAE as PairedVAE
    from tightbound.reports.in_python import report as report
    from tightbound.runs.comparing import compare as compare
    from tightbound.runs.recipe import Recipe as Recipe
    from tightbound.runs.run import Run as Run
    from tightbound.runs.run import open_run as open_run
    from tightbound.runs.sweeping import sweep as sweep
    from tightbound.semi_supervised import SemiSupervisedVAE as SemiSupervisedVAE
    from tightbound.settings import Training as Training
    from tightbound.training.fit import fit as fit

    load_data = data.load

_MODULES = (
    "bounds",
    "data",
    "distributions",
    "divergences",
    "evaluate",
    "gradients",
    "labs",
    "likelihoods",
    "networks",
    "objectives",
    "plots",
    "posteriors",
    "priors",
    "schedules",
    "training",
)
_NAMES = {  # and where each is, under the same name unless another one is given
    "Batch": "tightbound.batch",
    "Draws": "tightbound.draws",
    "Model": "tightbound.model",
    "PairedVAE": "tightbound.paired",
    "Recipe": "tightbound.runs.recipe",
    "Run": "tightbound.runs.run",
    "Training": "tightbound.settings",
    "VAE": "tightbound.autoencoder",
    "ConditionalVAE": "tightbound.conditioned",
    "SemiSupervisedVAE": "tightbound.semi_supervised",
    "compare": "tightbound.runs.comparing",
    "evidence": "tightbound.evaluate",
    "fit": "tightbound.training",
    "load_data": "tightbound.data:load",
    "open_run": "tightbound.runs.run",
    "report": "tightbound.reports.in_python",
    "sweep": "tightbound.runs.sweeping",
}

__all__ = ["__version__", *_MODULES, *_NAMES, "load_model", "train"]


def train(
    recipe: str | os.PathLike[str] | Recipe,
    *,
    data: Any = None,
    out: str | os.PathLike[str] | None = None,
    changes: Mapping[str, Any] | None = None,
    progress: bool = True,
    on_log: Callable[[dict[str, Any]], object] | str | None = None,
) -> Run:
    """Train a recipe into a new folder. The command line's ``tightbound train`` evaluates and reports besides.

    Args:
        recipe: a recipe, the name of one that comes with the library, or the path of a .toml file.
        data: data in place of the recipe's own: anything that ``load_data`` takes.
        out: the run's new folder; ``runs/<recipe>-<time>`` by default.
        changes: new values for fields of the recipe, by dotted name, such as ``{"train.epochs": 10}``.
        progress: whether to show how it goes.
        on_log: a function that is called with each line of metrics, as ``fit`` does; or the name of a tracker that gets
            them: "tensorboard", "wandb", "mlflow" or "trackio".

    Returns:
        The run: ``run.model()`` is the trained model.

    Raises:
        TypeError: for a recipe, or data, of another kind.
        ValueError: for a recipe that there is not, a folder that already holds something, and whatever the recipe gets
            wrong.

    Example:
        >>> import tempfile, tightbound as tb
        >>> small = {"train.epochs": 0.1, "model.hidden": [8], "model.latent_dim": 2}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = tb.train("digits", out=f"{folder}/run", changes=small, progress=False)
        ...     run.model().sample(3).shape
        torch.Size([3, 1, 8, 8])
    """
    from tightbound.runs import recipe as recipes
    from tightbound.runs import starting

    if not isinstance(recipe, str | os.PathLike | recipes.Recipe):
        raise TypeError(
            f"Expected a recipe, its name or the path of a .toml file; got {type(recipe).__name__}. Give data by name: "
            "tb.train('auto', data=x)."
        )
    wanted = (recipe if isinstance(recipe, recipes.Recipe) else recipes.load(str(recipe))).updated(changes or {})
    if data is None and not wanted.data.source:
        raise ValueError(
            f"Expected data with the recipe {wanted.name!r}, which is for data of your own; got none. For example: "
            f"tb.train({wanted.name!r}, data=x)."
        )
    return starting.train(wanted, out, data=data, progress=progress, on_log=on_log).run


def load_model(folder: str | os.PathLike[str]) -> Model:
    """The model in a folder: a run's, or one that ``model.save`` wrote. Nothing in the folder is executed.

    Args:
        folder: where it is.

    Returns:
        The model, on the CPU and in evaluation mode.

    Raises:
        ValueError: for a folder that holds no model, and for damaged files.

    Example:
        >>> import tempfile, tightbound as tb
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(tb.networks.MLP((5,), (4,))),
        ...     likelihood=tb.likelihoods.Gaussian(tb.networks.MLP((2,), (5,))),
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/model")
        ...     tb.load_model(f"{folder}/model").sample(3).shape
        torch.Size([3, 5])
    """
    import os
    from pathlib import Path

    from tightbound import saving
    from tightbound.runs.migrate import RECIPE, RECORD

    if any(
        os.path.isfile(Path(folder) / name) for name in (RECIPE, RECORD)
    ):  # where the system does not take the path, the next line says so
        from tightbound.runs.run import open_run

        model: Model = open_run(Path(folder)).model()
        return model
    return saving.load_model(Path(folder))


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"tightbound.{name}")
    if name in _NAMES:
        module, _, other = _NAMES[name].partition(":")
        return getattr(importlib.import_module(module), other or name)
    from tightbound.surface import missing

    raise missing("tightbound", name, __all__)


def __dir__() -> list[str]:
    return sorted(__all__)
