"""The training loop: it knows ``objective(model, x)`` and nothing else about what it trains."""

from __future__ import annotations

import dataclasses
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tightbound.conditional import unvalidated
from tightbound.data import Observations
from tightbound.data import observations as as_observations
from tightbound.model import VAE
from tightbound.objectives import ELBO, Objective
from tightbound.train import batches, checkpoint
from tightbound.train.failure import NonFiniteError, explain
from tightbound.train.journal import Journal
from tightbound.train.progress import Progress, progress_for
from tightbound.train.runtime import own_random_state, resolve_device
from tightbound.settings import Training
from tightbound.train.step import Learner

VALIDATION_SEED = 1  # the same noise at each validation, so that two of them differ by the weights alone
VALIDATION_ROWS = 1024


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a training ended.

    Attributes:
        steps: Optimisation steps made in all.
        loss: The best validation loss, or the last training loss where nothing was held out; nats per observation.
        best_step: The step whose weights the model now has.
        seconds: Time spent in steps and validations, earlier sessions of a resumed run included.
        ended: "complete", "early" (no better validation loss for a while) or "interrupted" (resumable).
        metrics: The lines of ``metrics.jsonl``.
    """

    steps: int
    loss: float
    best_step: int
    seconds: float
    ended: str
    metrics: list[dict[str, Any]] = dataclasses.field(repr=False)


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
) -> Fit:
    r"""Train a model; afterwards it holds the best weights by validation loss.

    Args:
        model: what is trained, in place.
        data: training observations: an array, a tensor, a torch ``Dataset``, ``Observations`` or ``Data`` (its train split).
        objective: what is made small; the ELBO by default.
        seed: of the noise, the batches and the validation split.
        out: folder for metrics, checkpoints and weights; nothing is written by default.
        resume: go on from the checkpoint in ``out``: the result is that of a run never stopped, bit for bit.
        progress: whether to show how it goes.
        settings: a :class:`Training`; the defaults otherwise.
        **changes: single settings of :class:`Training`, such as ``epochs=10``.

    Returns:
        How it went.

    Raises:
        ValueError: for data the model's likelihood does not describe, and settings out of range.
        NonFiniteError: when loss or gradient stop being finite, with the step and the term that went first.

    Example:
        >>> import tightbound as tb
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
    trainer = Trainer(model, as_observations(data), objective or ELBO(), settings, seed, Path(out) if out else None)
    with own_random_state(trainer.device), _catching_signals() as asked_to_stop:
        trainer.begin(resume=resume)
        shown = progress_for(trainer.steps, trainer.number, show=progress)
        try:
            return trainer.run(asked_to_stop, shown)
        finally:
            shown.close()
            trainer.journal.close()


class Trainer:
    """One training under way: the learner, where it stands, and the best it has been."""

    def __init__(
        self, model: VAE, data: Observations, objective: Objective, settings: Training, seed: int, out: Path | None
    ) -> None:
        self.settings, self.seed, self.out = settings, seed, out
        self.device = resolve_device(settings.device)
        self.model = model.to(self.device)
        self.data, self.held_out = batches.split(data, settings.validation, seed)
        if self.device.type != "cpu":
            self.data = self.data.replace(stored=self.data.stored.to(self.device))
        self.sampler = batches.Sampler(len(self.data), settings.batch_size, seed=seed, device=self.device)
        self.steps = self.sampler.steps(settings.epochs)
        self.learner = Learner(model, objective, settings, steps=self.steps, device=self.device)
        self.objective = objective
        self.number = 0
        self.sums: Tensor | None = None
        self.summed = 0
        self.best: dict[str, Any] = {"loss": math.inf, "step": 0, "weights": None}
        self.since_best = 0
        self.seconds = 0.0
        self.identity = checkpoint.fingerprint(
            {
                "settings": {k: v for k, v in dataclasses.asdict(settings).items() if k != "checkpoint_seconds"},
                "objective": repr(objective),
                "seed": seed,
                "observations": [len(data), list(data.shape), data.scale, data.binarise],
            }
        )

    def begin(self, *, resume: bool) -> None:
        """Start at step 0, or where the checkpoint left off."""
        if not resume:
            self._check_first_batch()
            torch.manual_seed(self.seed)
            self.journal = Journal(self.out)
            self.checkpoint()
            return
        if self.out is None:
            raise ValueError("Expected out= with resume=True: the folder of the run to go on with.")
        state = checkpoint.load_state(self.out)
        if state["identity"] != self.identity:
            raise ValueError(
                f"Expected the data, objective, seed and settings that the run in {self.out} was started with; got others. "
                "A resumed run repeats the uninterrupted one, so nothing may change."
            )
        self._restore(state)
        self.journal = Journal(self.out, tuple(state["journal"]))

    def run(self, asked_to_stop: threading.Event, shown: Progress) -> Fit:
        """Step until the end, an early stop or a signal."""
        snapshot, saved = self._state(), time.monotonic()
        ended = "complete"
        with unvalidated():
            while self.number < self.steps and ended == "complete":
                started = time.perf_counter()
                epoch_before = math.floor(self.sampler.epoch(self.number))
                self._step()
                last = self.number == self.steps
                epoch_ended = math.floor(self.sampler.epoch(self.number)) > epoch_before or last
                pause = epoch_ended or self.number % self.settings.log_every == 0
                if pause or asked_to_stop.is_set():
                    if not self._finite():
                        self._fail(snapshot)
                    if pause:
                        self._log(shown)
                    if epoch_ended and not self._validate(shown) and not last:
                        ended = "early"
                    snapshot = self._state()
                self.seconds += time.perf_counter() - started
                if asked_to_stop.is_set() and not last:
                    ended = "interrupted"
                if time.monotonic() - saved > self.settings.checkpoint_seconds or ended != "complete" or last:
                    self.checkpoint()
                    saved = time.monotonic()
        return self._finish(ended)

    def _step(self) -> None:
        x = self.data.visit(self.sampler.indices(self.number), self.learner.dtype).to(self.device)
        values = self.learner.step(x, self.number)
        self.sums = values if self.sums is None else self.sums.add_(values)
        self.summed += 1
        self.number += 1

    def _finite(self) -> bool:
        return self.sums is None or bool(self.sums.isfinite().all())

    def _log(self, shown: Progress) -> None:
        if self.sums is None:
            return
        values = (self.sums / self.summed).tolist()
        line = {
            "step": self.number,
            "epoch": round(self.sampler.epoch(self.number), 4),
            "split": "train",
            **dict(zip(("loss", *self.learner.names), values, strict=True)),
            "learning_rate": self.learner.rate(self.number),
        }
        self.journal.metric(**line)
        self.journal.timing(step=self.number, seconds=round(self.seconds, 3))
        self.sums, self.summed = None, 0
        shown.advance(self.number, line)
        if self.held_out is None:
            self.best.update(loss=line["loss"], step=self.number)

    def _validate(self, shown: Progress) -> bool:
        """Whether to go on. Keeps the weights if they are the best so far."""
        if self.held_out is None:
            return True
        self.learner.swap_average()
        values = self._validation()
        line = {"step": self.number, "epoch": round(self.sampler.epoch(self.number), 4), "split": "validation", **values}
        if not math.isfinite(values["loss"]):
            raise NonFiniteError(f"The validation loss at step {self.number} is {values['loss']}: the weights have left the "
                                 "range where the model makes sense. Lower learning_rate, or set clip=1.")
        better = values["loss"] < self.best["loss"]
        if better:
            weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            self.best, self.since_best = {"loss": values["loss"], "step": self.number, "weights": weights}, 0
        else:
            self.since_best += 1
        self.learner.swap_average()
        self.journal.metric(**line, best=better)
        shown.advance(self.number, line)
        return not self.settings.patience or self.since_best < self.settings.patience

    @torch.no_grad()
    def _validation(self) -> dict[str, float]:
        total: dict[str, float] = {}
        observations = self.held_out or self.data
        rows = max(VALIDATION_ROWS // getattr(self.objective, "samples", 1), 1)
        self.model.eval()
        with own_random_state(self.device):
            torch.manual_seed(VALIDATION_SEED)
            for x in observations.batches(rows, self.learner.dtype):
                loss = self.objective(self.model, x.to(self.device))
                for name, value in (("loss", loss.value), *loss.terms.items()):
                    total[name] = total.get(name, 0.0) + float(value) * len(x) / len(observations)
        self.model.train()
        return total

    def _check_first_batch(self) -> None:
        """Let torch's own validation see a batch before training switches it off."""
        x = self.data.visit(torch.arange(min(16, len(self.data))), self.learner.dtype).to(self.device)
        with torch.no_grad():
            support = self.model.decode(self.model.embed(x)).support
            fits = support.check(x)
        if not fits.all():
            raise ValueError(
                f"Expected values in the support of {type(self.model.likelihood).__name__} ({support}); got others in "
                f"{self.data.name}, from {x.min():g} to {x.max():g}. Grey data: binarise it "
                "(tb.data.load(..., binarise=True)), take a density for [0, 1] such as ContinuousBernoulli, or say "
                "Bernoulli(network, grey=True) and give up the likelihood."
            )

    def _state(self) -> dict[str, Any]:
        return {
            "learner": self.learner.state(),
            "number": self.number,
            "sums": None if self.sums is None else self.sums.clone(),
            "summed": self.summed,
            "names": list(self.learner.names),
            "best": dict(self.best),
            "since_best": self.since_best,
            "seconds": self.seconds,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.learner.restore(state["learner"])
        self.learner.names = tuple(state["names"])
        self.number, self.summed, self.since_best = state["number"], state["summed"], state["since_best"]
        self.sums = None if state["sums"] is None else state["sums"].to(self.device)
        self.best, self.seconds = dict(state["best"]), state["seconds"]

    def checkpoint(self) -> None:
        """Write everything down, where there is a folder for it."""
        if self.out is not None:
            journal = list(self.journal.sizes())
            checkpoint.save_state(self.out, {**self._state(), "journal": journal, "identity": self.identity})

    def _fail(self, snapshot: dict[str, Any]) -> None:
        """Go back to the last good state, keep it, and find the step and the term that went first."""
        self._restore(snapshot)
        self.checkpoint()
        raise explain(self.learner, self.number, lambda number: self.data.visit(self.sampler.indices(number), self.learner.dtype))

    def _finish(self, ended: str) -> Fit:
        if self.best["weights"] is not None and ended != "interrupted":
            self.model.load_state_dict(self.best["weights"])
        elif self.learner.average:
            self.learner.swap_average()
        if self.out is not None:
            checkpoint.save_weights(self.out, self.best["weights"] or self.model.state_dict())
        if self.held_out is None:
            self.best["step"] = self.number
        return Fit(self.number, self.best["loss"], self.best["step"], self.seconds, ended, self.journal.metrics)


@contextmanager
def _catching_signals() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM ask the loop to stop after the step; a second Ctrl-C ends at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: Any) -> None:
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
