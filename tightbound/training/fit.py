"""The one call that trains."""

from __future__ import annotations

import inspect
import os
import re
import sys
import textwrap
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, TypeVar, Unpack

import torch
from torch import nn
from torch.utils.data import DataLoader

from tightbound.checks import check_model, require_gradients, require_trainable, said_of, squashes
from tightbound.data import Data, Observations
from tightbound.data import observations as as_observations
from tightbound.data.transforms import Transform
from tightbound.distributed import World, joined
from tightbound.model import Model
from tightbound.objectives import ELBO, Objective, resolve
from tightbound.ownership import owned
from tightbound.progress import progress_for
from tightbound.runtime import home, in_training, own_random_state, require_computing, resolve_device
from tightbound.settings import Training, TrainingChanges, require_seed
from tightbound.threads import on_threads
from tightbound.training import batches
from tightbound.training.fingerprint import run_fingerprint
from tightbound.training.loop import Loop, Setup
from tightbound.training.on_log import OnLog, require_on_log
from tightbound.training.opening import opening
from tightbound.training.record import begin_record, end_record
from tightbound.training.result import TrainResult
from tightbound.training.signals import Asked
from tightbound.training.step import TrainStep
from tightbound.training.transforming import require_transform
from tightbound.training.validation import alike, chosen

F = TypeVar("F", bound=Callable[..., Any])


def _shows_every_setting(function: F) -> F:
    """Let ``help`` show the settings that the function takes by name."""
    signature = inspect.signature(function)
    own_names = set(signature.parameters)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    more = [
        inspect.Parameter(item.name, inspect.Parameter.KEYWORD_ONLY, default=item.default, annotation=item.type)
        for item in fields(Training)
        if item.name not in signature.parameters
    ]
    function.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
    listed = (inspect.getdoc(Training) or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    entries = [entry for entry in re.split(r"\n(?=    \w)", listed) if entry.split(":")[0].strip() not in own_names]
    if function.__doc__ is not None:
        function.__doc__ = function.__doc__.replace("    @settings", textwrap.indent("\n".join(entries), "    "))
    return function


@_shows_every_setting
def fit(
    model: Model,
    data: Any,
    *,
    objective: Objective | None = None,
    validation: Any = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool | Literal["auto"] = False,
    overwrite: bool = False,
    progress: bool = True,
    transform: Transform | None = None,
    on_log: OnLog | None = None,
    settings: Training | None = None,
    **changes: Unpack[TrainingChanges],
) -> TrainResult:
    r"""Train a model; afterwards it holds the best weights by validation loss and is in evaluation mode.

    Under ``torchrun`` the processes share each batch between them, draw noise of their own and take the same steps; the
    first one writes to ``out``. To go on with such a run takes as many, and each must be able to read ``out``.

    Model and data are looked at before the first step: shapes, finite values, the likelihood's support, and whether
    the model's parts fit together. Of ``Data`` the test set is looked at too, and not trained on.

    Ctrl-C and SIGTERM stop it after a step, with the checkpoint written. The signal is then passed on: Ctrl-C ends in
    ``KeyboardInterrupt``, SIGTERM ends the process, and a handler of your own is called; where that returns, so does
    ``fit``. A signal that was ignored stays ignored, and a thread other than the main one sees none.

    Trainings and evaluations in several threads wait for each other, as all of torch's random numbers come from one
    state: each gives bit for bit what it gives alone.

    Args:
        model: what is trained, in place.
        data: training observations: an array, a tensor, a data set of items (of torch, Hugging Face, or any class that
            iterates), a ``DataLoader`` for its data set and its batch size, ``Observations``, or ``Data`` for its train
            split.
        objective: what is made small; the ELBO by default. One that is a module is trained with the model.
        validation: what is held out of the training set: a share below 1, or a number of observations; a tenth by
            default, as the settings say. Or observations of their own, as ``data`` takes them, and ``Data`` for its
            test set: nothing is then held out, and they are looked at as those of training are.
        seed: of the noise, the batches and the validation split.
        out: folder for metrics, checkpoints and weights, without a run in it yet; nothing is written by default.
            ``tb.open_run`` and every verb of the command line take it.
        resume: go on from the checkpoint in ``out``: the result is that of a run never stopped, bit for bit. "auto":
            go on where there is one, else begin, as restarted processes want it.
        overwrite: whether a run that is in ``out`` is replaced, as a cell of a notebook that runs twice wants it. The
            new one is looked at first; a folder with anything else in it stays as it is.
        progress: whether to show how it goes.
        transform: what is made of a batch's x in each step of training, and of nothing else: one of
            :mod:`tightbound.data.transforms`, or a function of your own to another tensor of the same shape. It runs on
            the training's device, and draws from torch's random numbers.
        on_log: a function that is called with each line of ``metrics.jsonl``, a dict, once the step is over and in the
            first process only. Whatever it draws, computes or does to the model, the training goes on as without it,
            bit for bit; an error in it ends the training, with the state saved. It sees the weights of the last step.
        settings: a :class:`Training`; the defaults otherwise.
        **changes: single settings by name, such as ``epochs=10``; they are listed below.

    Settings:
    @settings

    Returns:
        How it went.

    Raises:
        TypeError: for a setting that does not exist, data of another type, and a model that cannot be trained as it is.
        ValueError: for data the model's likelihood does not describe, parts that do not fit together, settings out of
            range, a folder that has a run in it already or into which somebody else writes, and a checkpoint that is
            missing, damaged or of another training.
        RuntimeError: inside ``torch.no_grad()``.
        NonFiniteError: when loss or gradient stop being finite, with the step and the term that went first.
        OnLogError: when ``on_log`` fails.

    Example:
        >>> import torch, tightbound as tb
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(200, 5)
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> tb.fit(model, x, epochs=2, batch_size=50, progress=False).steps
        7
    """
    require_gradients()
    require_computing()
    _require_arguments(objective, settings, out)
    require_on_log(on_log)
    require_transform(transform)
    settings, seed = (settings or _of_loader(data)).updated(dict(changes)), require_seed(seed)
    settings, given = chosen(settings, validation)
    if not isinstance(model, Model):
        raise TypeError(
            f"Expected a model such as tb.VAE(prior, posterior, likelihood); got {type(model).__name__}. Write a "
            "tb.Model for one of your own."
        )
    _require_purpose(out, resume=resume, overwrite=overwrite)
    source = Path(out) if out else None
    asked = Asked()
    try:
        with joined() as here, in_training(model):
            loop = prepare(
                model, data, objective or ELBO(), settings, seed, source, here, validation=given, transform=transform,
                on_log=on_log,
            )  # fmt: skip
            owner = owned(source, make=resume is not True) if source is not None and here.is_main else nullcontext()
            with owner, own_random_state(loop.step.device), on_threads(None), asked.listening():
                return _trained(loop, data, asked, resume=resume, overwrite=overwrite, progress=progress)
    finally:
        asked.pass_on()  # only now, as whoever leaves the other processes early would be taken for lost


def _require_arguments(objective: object, settings: object, out: object) -> None:
    """Refuse values of another kind than those that are meant."""
    if isinstance(objective, type):
        home = "tb.objectives." if objective.__module__.startswith(Objective.__module__.rpartition(".")[0]) else ""
        raise TypeError(
            f"Expected an objective; got the class {objective.__name__}. Write {home}{objective.__name__}()."
        )
    if objective is not None and not callable(objective):
        raise TypeError(f"Expected an objective; got {objective!r}. Write tb.objectives.ELBO(), for example.")
    if settings is not None and not isinstance(settings, Training):
        raise TypeError(f"Expected settings of the class Training; got {settings!r}. Write tb.Training(epochs=10).")
    if out is not None and not isinstance(out, str | os.PathLike):
        raise TypeError(f"Expected the path of a folder as out; got {out!r}. Write out='runs/mine'.")


def _of_loader(data: Any) -> Training:
    """The default settings, with the batch size of a data loader that is given in the place of data."""
    return Training(batch_size=data.batch_size) if isinstance(data, DataLoader) and data.batch_size else Training()


def _require_purpose(out: object, *, resume: object, overwrite: bool) -> None:
    """Refuse what says two things of a folder, or something of none."""
    if resume not in (True, False, "auto"):
        raise ValueError(f"Expected resume=True, False or 'auto'; got {resume!r}.")
    if overwrite and resume:
        raise ValueError(f"Expected overwrite=True or resume={resume!r}; got both. Go on with a run, or replace it.")
    if resume and not out:
        raise ValueError(f"Expected out= with resume={resume!r}: the folder of the run to go on with.")
    if overwrite and not out:
        raise ValueError("Expected out= with overwrite=True: the folder of the run to replace.")


def _trained(
    loop: Loop, data: Any, asked: Asked, *, resume: bool | Literal["auto"], overwrite: bool, progress: bool
) -> TrainResult:
    try:
        new = not (resume and (resume != "auto" or loop.begun()))
        if new:
            loop.begin(overwrite=overwrite)
        else:
            loop.go_on()
        begin_record(loop, data, new=new)
        shown = progress_for(loop.setup.steps, loop.at.number, show=progress and loop.setup.world.is_main)
        try:
            shown.note(opening(loop))
            result = loop.run(asked, shown)
        finally:
            shown.close()
        end_record(loop, data)
        return result
    finally:
        loop.journal.close()
        loop.step.set_mode(training=False)


def prepare(
    model: Model, data: Any, objective: Objective, settings: Training, seed: int, source: Path | None, here: World, *,
    validation: Observations | None = None, transform: Transform | None = None, on_log: OnLog | None = None,
) -> Loop:  # fmt: skip
    """A training that is ready to begin: model and data tried, everything where it is computed.

    Args:
        model: what is trained.
        data: as :func:`fit` takes them.
        objective: what is made small.
        settings: how.
        seed: of noise, batches and the validation split.
        source: the run's folder, if any.
        here: the processes that share each batch.
        validation: observations for it, where none are held out of the training set.
        transform: as :func:`fit` takes it.
        on_log: likewise.

    Returns:
        The loop, not begun.
    """
    observations = _observed(data, settings, here)
    device = here.device(resolve_device(settings.device))
    apart = [data.test] if isinstance(data, Data) else []
    train, held_out = batches.split(observations, settings.validation, seed)
    if validation is not None:
        held_out = validation = alike(train, validation)
        apart.append(validation)
    sampler = batches.Sampler(len(train), settings.batch_size, seed=seed, device=device)
    if sampler.batch_size < here.count:
        raise ValueError(
            f"Expected at least one observation of a batch for each of {here.count} processes; got batches of "
            f"{sampler.batch_size}. Take a larger batch_size, or fewer processes."
        )
    require_trainable(model)
    model.to(device)
    few = observations.eval_batch(0, 2, home(model)[1]).to(device)
    check_model(model, few, name=said_of(observations))
    if squashes(model, few):
        warnings.warn(
            "The decoder seems to end in a Sigmoid, as all its logits lie in [0, 1], while Bernoulli takes logits. "
            "Leave the Sigmoid out.",
            stacklevel=3,
        )
    with torch.no_grad(), own_random_state(device, seed=seed):  # parts that it makes are the seed's
        objective = resolve(objective, model, few, observations=train)
    if isinstance(objective, nn.Module):
        objective.to(device)
    if getattr(objective, "whole_batch", False):
        _require_whole_batches(objective, sampler.batch_size, held_out, here)
    step = TrainStep(model, objective, settings, steps=sampler.steps(settings.epochs), device=device)
    setup = Setup(
        settings=settings,
        seed=seed,
        world=here,
        data=_on(train, device),
        held_out=held_out,
        looked_at=(observations, *apart),
        sampler=sampler,
        source=source,
        fingerprint=run_fingerprint(
            settings, device=device, objective=objective, seed=seed, processes=here.count, model=model,
            data=observations, validation=validation, transform=transform,
        ),
        transform=transform,
        on_log=on_log,
    )  # fmt: skip
    return Loop(setup, step)


def _observed(data: Any, settings: Training, here: World) -> Observations:
    """Training observations, and a line on what becomes of a data loader."""
    observations = data.train if isinstance(data, Data) else as_observations(data)
    if isinstance(data, DataLoader) and here.is_main:
        print(
            f"The DataLoader's data set was read once; batches of {settings.batch_size} are drawn from it, by the seed "
            "of fit.",
            file=sys.stderr,
        )
    return observations


def _require_whole_batches(objective: Objective, size: int, held_out: Observations | None, here: World) -> None:
    """Refuse what would change an objective that looks at a batch as a whole."""
    name = type(objective).__name__
    if here.count > 1:
        raise ValueError(
            f"Expected one process with {name}, which looks at a batch as a whole; got {here.count}, each with a part "
            "of it. Train without torchrun or --procs."
        )
    if size < 2 or (held_out is not None and len(held_out) < 2):
        raise ValueError(
            f"Expected at least 2 observations in a batch, and 2 for validation if any, with {name}, which compares "
            f"them; got {size} and {'none' if held_out is None else len(held_out)}. Take a larger batch_size or "
            "validation."
        )


def _on(data: Observations, device: torch.device) -> Observations:
    """The observations where they are computed on."""
    if device.type == "cpu":
        return data
    names = ("stored", "rows", "labels", "factors", "mask")
    moved = {name: value.to(device) for name in names if (value := getattr(data, name)) is not None}
    return data.replace(**moved, ask=None)
