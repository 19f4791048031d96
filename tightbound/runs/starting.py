"""Runs: started, gone on with, and begun anew from another run's weights."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from tightbound.data import Data
from tightbound.distributed import world
from tightbound.files import as_json, is_temporary, write_kept, write_text
from tightbound.ownership import LOCK, owned
from tightbound.paths import require_path, require_utf8
from tightbound.runs import recipe as recipes
from tightbound.runs.build import Built, build
from tightbound.runs.folder import recipe_in, require_inside
from tightbound.runs.from_fit import FromFit, data_of, given_to_fit, whole_recipe
from tightbound.runs.identity import model_fingerprint, training_fingerprint, unlike
from tightbound.runs.migrate import CONFIG, FORMAT, RECIPE, is_of_first_format, require_same_weights
from tightbound.runs.places import with_data_found
from tightbound.runs.printed import rebuilt
from tightbound.runs.recipe import GIVEN, Recipe
from tightbound.runs.run import Run, open_run
from tightbound.saving import built, own_pieces, read_description
from tightbound.training import TrainResult, fit
from tightbound.training.checkpoint import WEIGHTS, has_state, load_weights
from tightbound.training.loggers import named, require_logger
from tightbound.training.on_log import OnLog
from tightbound.training.replacing import RECORD

__all__ = ["Trained", "default_folder", "require_fresh", "require_one_data", "require_own", "resume", "train"]

MOST_AT_ONCE = 1000  # runs that begin within one second


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """What a training made.

    Attributes:
        run: Its folder.
        model: The trained model, a VAE as a rule, in evaluation mode, on the device where it was trained.
        data: What it was trained and is to be tested on, as the likelihood wants them.
        result: How the training went.
        notes: What a person should know of the data, a sentence each.

    Example:
        >>> import tempfile, torch
        >>> small = Recipe().updated({"model.hidden": [8], "train.epochs": 0.1})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     made = train(small, f"{folder}/run", data=torch.randn(50, 3), progress=False)
        >>> made.result.ended, made.notes
        ('complete', ())
    """

    run: Run
    model: Any
    data: Data
    result: TrainResult
    notes: tuple[str, ...] = ()


def train(
    recipe: Recipe,
    out: str | os.PathLike[str] | None = None,
    *,
    data: Any = None,
    start: Run | None = None,
    progress: bool = True,
    on_log: OnLog | str | None = None,
) -> Trained:
    """Build a recipe and train it into a new folder.

    Args:
        recipe: what to train.
        out: the folder; ``runs/<recipe>-<time>`` by default.
        data: data in place of the recipe's own: anything that :func:`tightbound.data.load` takes.
        start: a run of the same model, whose weights it starts from.
        progress: whether to show how it goes.
        on_log: called with each line of metrics, as :func:`tightbound.fit` does; or the name of a tracker that gets
            them: "tensorboard", "wandb", "mlflow" or "trackio".

    Returns:
        The run, with the model and the data that it was made of.

    Raises:
        TypeError: for data of another kind.
        ValueError: for a folder that already holds something or into which somebody else writes, for a start with
            another model, and whatever the recipe gets wrong.

    Example:
        >>> import tempfile, torch
        >>> small = Recipe().updated({"model.hidden": [8], "train.epochs": 1, "train.batch_size": 9})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trained = train(small, f"{folder}/run", data=torch.randn(50, 3), progress=False)
        >>> trained.result.steps, len(trained.data.test), trained.model.training
        (5, 5, False)
    """
    if isinstance(on_log, str):
        require_logger(on_log)
    if start is not None and model_fingerprint(recipe) != model_fingerprint(whole_recipe(start.recipe, start.path)):
        raise ValueError(
            f"Expected the model of {start.path}, to start from its weights; got a recipe with another [model]. Leave "
            "the model as it is, or train it from the beginning."
        )
    folder = None if out is None else Path(out)
    if folder is not None and world().is_main:
        require_fresh(folder)  # before the data are read; it is looked at again once it is owned
    built = build(recipe, data)
    require_utf8(built.recipe.name, built.recipe.data.source)
    if start is not None:
        load_weights(start.path, built.model)
    folder = _new_folder(recipe) if folder is None and world().is_main else folder or default_folder(recipe)
    begun = "" if start is None else f"from the weights of {start.path.resolve()}"
    return _train(folder, built, new=True, begun=begun, progress=progress, on_log=on_log)


def resume(path: str | Path, *, data: Any = None, progress: bool = True, on_log: OnLog | str | None = None) -> Trained:
    """Go on with a run that was stopped or killed; the result is that of a run never stopped, bit for bit.

    Args:
        path: the run's folder.
        data: the data that it was started with, where they were made in Python or have moved.
        progress: whether to show how it goes.
        on_log: as of :func:`train`.
        on_log: called with each line of metrics, as :func:`tightbound.fit` does; or the name of a tracker that gets
            them: "tensorboard", "wandb", "mlflow" or "trackio".

    Returns:
        The run, with the model and the data that it was made of.

    Raises:
        TypeError: for data of another kind.
        ValueError: for a folder that is no run, that an older version began, that is damaged, or into which somebody
            else writes; for a run that has ended and has no checkpoint; for data that are not what it was started with.

    Example:
        >>> import tempfile, torch
        >>> small, x = Recipe().updated({"model.hidden": [8], "train.epochs": 0.1}), torch.randn(50, 3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = train(small, f"{folder}/run", data=x, progress=False)
        ...     resume(f"{folder}/run", data=x, progress=False).result == first.result
        True
    """
    if isinstance(on_log, str):
        require_logger(on_log)
    folder = Path(path)
    require_inside(folder)
    if (folder / RECORD).is_file() and not (folder / RECIPE).is_file():
        made = with_data_found(open_run(folder))
        if isinstance(made.recipe, FromFit):
            return _resume_fit(made, made.recipe, data, progress=progress, on_log=on_log)
    recipe, begun = recipe_in(folder), has_state(folder)
    if begun and is_of_first_format(folder):
        raise ValueError(
            f"Expected a run of this version to go on with; got {folder}, which version 0.1.0 began. It can be "
            f"evaluated, reported and embedded as it is. To train it anew: tightbound recipes {folder} > again.toml, "
            "then tightbound train again.toml."
        )
    if not begun and (folder / WEIGHTS).exists():
        raise ValueError(
            f"Expected a run with a checkpoint to go on from; got {folder}, which has ended and whose checkpoint is "
            "gone. Its weights are there: evaluate it, report it, or train on from them with --resume RUN "
            "--train.epochs N."
        )
    if begun or (folder / CONFIG).exists():
        recipe = whole_recipe(with_data_found(open_run(folder)).recipe, folder)
        require_same_weights(folder, recipe)
    return _train(folder, build(recipe, data), resume=begun, progress=progress, on_log=on_log)


def _resume_fit(run: Run, recipe: FromFit, data: Any, *, progress: bool, on_log: OnLog | str | None) -> Trained:
    """Go on with a run that ``tb.fit`` made, where all of it is the library's own."""
    folder = run.path
    spec, dtype = read_description(folder)
    own, objective = own_pieces(spec), rebuilt(recipe.said)
    if own or objective is None:
        what = own[0] if own else f"the objective {recipe.said}"
        raise ValueError(
            f"Expected a model and an objective of the library's own pieces to go on with; got {what} in {folder}, "
            f"whose code no folder keeps. In Python, with all as it was: {recipe.again(str(folder))}."
        )
    given, _ = given_to_fit(recipe, data)
    model = built(folder, spec, dtype)
    with _logged(on_log if world().is_main else None, folder) as log:
        result = fit(
            model, given, objective=objective, seed=recipe.seed, out=folder, resume=True,
            progress=progress, on_log=log, settings=recipe.train,
        )  # fmt: skip
    return Trained(run, model, data_of(recipe, data)[0], result)


def _train(
    folder: Path,
    built: Built,
    *,
    new: bool = False,
    resume: bool = False,
    begun: str = "",
    progress: bool,
    on_log: OnLog | str | None,
) -> Trained:
    recipe, main = built.recipe, world().is_main
    source = Path(recipe.data.source)
    where = str(source.resolve()) if recipe.data.source != GIVEN and source.exists() else ""
    model, training = model_fingerprint(recipe), training_fingerprint(recipe)
    config = dataclasses.replace(built.config, model=model, training=training, source=where, started=begun)
    if main and progress and not resume:
        for note in built.notes:
            end = "" if note.endswith("?") else "."
            print(f"Note: {note[0].upper()}{note[1:]}{end}", file=sys.stderr, flush=True)
    with owned(folder, make=new) if main else nullcontext():
        if main and new:
            require_fresh(folder)
        if main and not resume:
            # The recipe first: with it, what is killed right here can be gone on with.
            write_text(folder / RECIPE, recipes.to_toml(recipe))
            text = as_json({"format": FORMAT, **dataclasses.asdict(config)})
            write_kept(folder, CONFIG, lambda path: path.write_text(text, encoding="utf-8"))
        with _logged(on_log if main else None, folder) as log:
            result = fit(
                built.model,
                built.data,
                objective=built.objective,
                seed=recipe.seed,
                out=folder,
                resume=resume,
                progress=progress,
                transform=built.transform,
                on_log=log,
                settings=recipe.train,
            )
    return Trained(Run(folder, recipe, config), built.model, built.data, result, built.notes)


@contextmanager
def _logged(on_log: OnLog | str | None, folder: Path) -> Iterator[OnLog | None]:
    """A function as it is; of a tracker's name the logger, which is closed behind the training."""
    if isinstance(on_log, str):
        with named(on_log, folder) as logger:
            yield logger
    else:
        yield on_log


def require_fresh(folder: Path) -> None:
    """Refuse a folder that holds anything but what a start that was killed at once leaves behind."""
    require_path(folder)
    names = [item.name for item in folder.iterdir()] if folder.is_dir() else [""] * folder.exists()
    if not all(name == LOCK or is_temporary(name, RECIPE) for name in names):
        raise ValueError(
            f"Expected a new folder; got {folder}, which already holds something. Choose another: --out, or out= in "
            "Python."
        )


def default_folder(recipe: Recipe) -> Path:
    """What a run's folder is called unless it is told: ``runs/<recipe>-<time>``.

    Args:
        recipe: what is trained.

    Example:
        >>> str(default_folder(Recipe(name="digits")))
        'runs/digits-...'
    """
    return Path("runs") / f"{Path(recipe.name).name or 'run'}-{time.strftime('%Y%m%d-%H%M%S')}"


def _new_folder(recipe: Recipe) -> Path:
    """A folder of that name, made here and now; with a number behind it where another run was quicker."""
    first = default_folder(recipe)
    first.parent.mkdir(parents=True, exist_ok=True)
    for place in range(1, MOST_AT_ONCE):
        folder = first if place == 1 else first.with_name(f"{first.name}-{place}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise ValueError(f"Expected a free name for a folder in {first.parent}; got none. Choose one: --out.")


def require_own(recipe: Recipe, folder: Path) -> None:
    """Refuse a folder in which something else was trained than is asked for.

    Args:
        recipe: what is asked for.
        folder: of a run, begun or not.

    Raises:
        ValueError: where its recipe says otherwise, with the fields.

    Example:
        >>> require_own(Recipe(), Path("nowhere"))
    """
    if (folder / RECIPE).is_file() and (others := unlike(recipe, recipe_in(folder))):
        raise ValueError(
            f"Expected this sweep's run in {folder}; got one with another {', '.join(others)}. Move it elsewhere, and "
            "the sweep trains its own."
        )


def require_one_data(folders: Iterable[Path]) -> None:
    """Refuse to rank runs that have not all seen the same data.

    Args:
        folders: of runs, all trained.

    Raises:
        ValueError: where data have changed between two of them.

    Example:
        >>> require_one_data([])
    """
    seen = {known: folder for folder in folders if (known := open_run(folder).config.data)}
    if len(seen) > 1:
        first, second, *_ = seen.values()
        raise ValueError(
            f"Expected one data set for all runs of a sweep; got different ones in {first} and {second}: the data have "
            "changed in between. Remove the older runs, and the same command trains them anew."
        )
