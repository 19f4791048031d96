"""Where lines of metrics can go besides ``metrics.jsonl``: trackers of other people, imported when they are asked for.

Each function here gives an ``on_log`` of :func:`tightbound.fit`. A tracker's run begins with the first line, so that a
training that is refused leaves none behind, and ends with :meth:`Logger.close`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tightbound.surface import listed

__all__ = ["Logger", "mlflow", "named", "require_logger", "tensorboard", "trackio", "wandb"]

NAMES = ("tensorboard", "wandb", "mlflow", "trackio")
PROJECT = "tightbound"
TENSORBOARD = "tensorboard"  # the folder within a run's

Write = Callable[[dict[str, float], int], object]
Close = Callable[[], object]


class Logger:
    """A function of one line of metrics that passes its numbers on, as "train/loss" or "validation/rate" at its step.

    Args:
        begin: called with the first line's step; gives what writes numbers by name and what ends it all.

    Example:
        >>> with Logger(lambda step: (print, lambda: print("closed"))) as log:
        ...     log({"step": 5, "split": "train", "loss": 2.0, "best": True})
        {'train/loss': 2.0} 5
        closed
    """

    def __init__(self, begin: Callable[[int], tuple[Write, Close]]) -> None:
        self._begin = begin
        self._open: tuple[Write, Close] | None = None

    def __call__(self, line: dict[str, Any]) -> None:
        step = line["step"]
        self._open = self._open or self._begin(step)
        numbers = {name: value for name, value in line.items() if name != "step" and type(value) in (int, float)}
        self._open[0]({f"{line['split']}/{name}": value for name, value in numbers.items()}, step)

    def close(self) -> None:
        """End the tracker's run, if it has begun."""
        opened, self._open = self._open, None
        if opened is not None:
            opened[1]()

    def __enter__(self) -> Logger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def tensorboard(folder: str | os.PathLike[str]) -> Logger:
    """Curves for TensorBoard, in a folder of event files: ``tensorboard --logdir FOLDER`` shows them.

    Steps that come again after a resume take the place of those before.

    Args:
        folder: where; it is made with the first line.

    Returns:
        An ``on_log``.

    Raises:
        ModuleNotFoundError: where tensorboard is not installed.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, tensorboard(folder) as log:
        ...     log({"step": 1, "split": "train", "loss": 2.0})
    """
    module = _imported("tensorboard", "torch.utils.tensorboard")

    def begin(first: int) -> tuple[Write, Close]:
        writer = module.SummaryWriter(str(folder), purge_step=first)

        def write(values: dict[str, float], step: int) -> None:
            for name, value in values.items():
                writer.add_scalar(name, value, step)
            writer.flush()  # whoever looks on sees the line, and nothing is lost with the process

        return write, writer.close

    return Logger(begin)


def wandb(
    *, project: str | None = PROJECT, name: str | None = None, folder: str | os.PathLike[str] | None = None
) -> Logger:
    """A run of Weights & Biases: the one that is active, or a new one that ends with the logger.

    Args:
        project: where it is listed; where it is None, as the variable WANDB_PROJECT says.
        name: what it is called; wandb makes one up where it is None.
        folder: for wandb's own files; the working folder where it is None.

    Returns:
        An ``on_log``.

    Raises:
        ModuleNotFoundError: where wandb is not installed.

    Example:
        >>> with wandb(project="digits") as log:  # doctest: +SKIP
        ...     tb.fit(model, data, on_log=log)
    """
    module = _imported("wandb")

    def begin(first: int) -> tuple[Write, Close]:
        active = module.run
        run = active or module.init(project=project, name=name, dir=None if folder is None else str(folder))

        def write(values: dict[str, float], step: int) -> None:
            run.log(values, step=step)

        return write, (lambda: None) if active else run.finish

    return Logger(begin)


def mlflow(*, name: str | None = None) -> Logger:
    """A run of MLflow: the one that is active, or a new one that ends with the logger.

    Where it is kept is told by MLflow's own means, such as the variables MLFLOW_TRACKING_URI and
    MLFLOW_EXPERIMENT_NAME.

    Args:
        name: what it is called; MLflow makes one up where it is None.

    Returns:
        An ``on_log``.

    Raises:
        ModuleNotFoundError: where mlflow is not installed.

    Example:
        >>> with mlflow(name="first") as log:  # doctest: +SKIP
        ...     tb.fit(model, data, on_log=log)
    """
    module = _imported("mlflow")

    def begin(first: int) -> tuple[Write, Close]:
        active = module.active_run()
        if active is None:
            module.start_run(run_name=name)

        def write(values: dict[str, float], step: int) -> None:
            module.log_metrics(values, step=step)

        return write, (lambda: None) if active else module.end_run

    return Logger(begin)


def trackio(*, project: str = PROJECT, name: str | None = None) -> Logger:
    """A run of Trackio, on this machine: ``trackio show`` opens it.

    Args:
        project: where it is listed.
        name: what it is called; trackio makes one up where it is None.

    Returns:
        An ``on_log``.

    Raises:
        ModuleNotFoundError: where trackio is not installed.

    Example:
        >>> with trackio(project="digits") as log:  # doctest: +SKIP
        ...     tb.fit(model, data, on_log=log)
    """
    module = _imported("trackio")

    def begin(first: int) -> tuple[Write, Close]:
        run = module.init(project=project, name=name)

        def write(values: dict[str, float], step: int) -> None:
            run.log(values, step=step)

        return write, module.finish

    return Logger(begin)


def named(name: str, folder: Path) -> Logger:
    """The logger of that name for a run: it is called as the run's folder, and keeps its files there where it has any.

    Args:
        name: "tensorboard", "wandb", "mlflow" or "trackio".
        folder: the run's.

    Returns:
        An ``on_log``.

    Raises:
        ModuleNotFoundError: where its package is not installed.
        ValueError: for another name.

    Example:
        >>> named("tensorbord", Path("run"))
        Traceback (most recent call last):
        ...
        ValueError: Expected a logger among tensorboard, wandb, mlflow and trackio; got 'tensorbord'. ...
    """
    if name == "tensorboard":
        return tensorboard(folder / TENSORBOARD)
    if name == "wandb":
        return wandb(name=folder.name, folder=folder)
    if name in NAMES:
        return {"mlflow": mlflow, "trackio": trackio}[name](name=folder.name)
    raise ValueError(
        f"Expected a logger among {listed(NAMES)}; got {name!r}. A function of your own is given in Python: on_log=."
    )


def require_logger(name: str) -> None:
    """Refuse a name that is none of the four, and one whose package is not installed.

    Args:
        name: of a logger.

    Raises:
        ModuleNotFoundError: where its package is not installed.
        ValueError: for another name.

    Example:
        >>> require_logger("paper")
        Traceback (most recent call last):
        ...
        ValueError: Expected ...
    """
    named(name, Path())


def _imported(package: str, module: str = "") -> Any:
    try:
        return importlib.import_module(module or package)
    except ImportError as error:
        raise ModuleNotFoundError(
            f"Expected the package {package}, to log there; got none. Install it: pip install {package}"
        ) from error
