"""The one call that trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tightbound.data import Data
from tightbound.data import observations as as_observations
from tightbound.distributed import joined
from tightbound.model import VAE
from tightbound.objectives import ELBO, Objective
from tightbound.progress import progress_for
from tightbound.runtime import own_random_state
from tightbound.settings import Training
from tightbound.training.signals import catching_signals
from tightbound.training.trainer import Trainer, TrainResult


def fit(
    model: VAE,
    data: Any,
    *,
    objective: Objective | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    settings: Training | None = None,
    **changes: Any,
) -> TrainResult:
    r"""Train a model; afterwards it holds the best weights by validation loss.

    Under ``torchrun`` the processes share each batch between them, draw noise of their own and take the same steps; the
    first one writes to ``out``. To go on with such a run takes as many, and each must be able to read ``out``.

    Args:
        model: what is trained, in place.
        data: training observations: an array, a tensor, a torch ``Dataset``, ``Observations``, or ``Data`` for its
            train split.
        objective: what is made small; the ELBO by default.
        seed: of the noise, the batches and the validation split.
        out: folder for metrics, checkpoints and weights, without a run in it yet; nothing is written by default.
        resume: go on from the checkpoint in ``out``: the result is that of a run never stopped, bit for bit.
        progress: whether to show how it goes.
        settings: a :class:`Training`; the defaults otherwise.
        **changes: single settings of :class:`Training`, such as ``epochs=10``.

    Returns:
        How it went.

    Raises:
        TypeError: for a setting that does not exist, and data of another type.
        ValueError: for data the model's likelihood does not describe, settings out of range, a folder that has a run in
            it already, and a checkpoint that is missing, damaged or of another training.
        NonFiniteError: when loss or gradient stop being finite, with the step and the term that went first.

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
    settings = (settings or Training()).updated(changes)
    observations = data.train if isinstance(data, Data) else as_observations(data)
    was_training = model.training
    with joined() as here:
        trainer = Trainer(model, observations, objective or ELBO(), settings, seed, Path(out) if out else None)
        with own_random_state(trainer.device), catching_signals() as asked_to_stop:
            try:
                trainer.begin(resume=resume)
                shown = progress_for(trainer.steps, trainer.number, show=progress and here.is_main)
                try:
                    return trainer.run(asked_to_stop, shown)
                finally:
                    shown.close()
            finally:
                trainer.journal.close()
                model.train(was_training)
