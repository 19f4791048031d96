"""The training loop: it knows ``objective(model, x)`` and nothing else about what it trains."""

from __future__ import annotations

import dataclasses
import math
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tightbound.checks import require_support
from tightbound.conditional import unvalidated
from tightbound.data import Observations
from tightbound.distributed import world
from tightbound.execution import Execution, pays
from tightbound.model import VAE
from tightbound.objectives import Objective
from tightbound.progress import Progress
from tightbound.runtime import obstacle, random_state, resolve_device, restore_random_state
from tightbound.settings import Training
from tightbound.training import batches, checkpoint
from tightbound.training.failure import NonFiniteError, explain
from tightbound.training.fingerprint import run_fingerprint
from tightbound.training.journal import Journal
from tightbound.training.precision import choose_precision
from tightbound.training.result import TrainResult
from tightbound.training.step import TrainStep
from tightbound.training.validation import validate

LARGEST_SEED = 2**63 - 1
NEXT_RANK = 15_485_863  # between seeds of two processes' noise: seeds 0, 1, 2 … are other people's runs


class Trainer:
    """One training under way: the learner, where it stands, and the best it has been."""

    def __init__(
        self, model: VAE, data: Observations, objective: Objective, settings: Training, seed: int, out: Path | None
    ) -> None:
        if not 0 <= seed <= LARGEST_SEED:
            raise ValueError(f"Expected a seed from 0 to 2⁶³ − 1; got {seed}.")
        self.settings, self.seed, self.objective = settings, seed, objective
        self.world = world()
        self.source, self.out = out, out if self.world.is_main else None
        self.device = self.world.device(resolve_device(settings.device))
        self.data, self.held_out = batches.split(data, settings.validation, seed)
        self.model = model.to(self.device)
        self.sampler = batches.Sampler(len(self.data), settings.batch_size, seed=seed, device=self.device)
        if self.sampler.batch_size < self.world.count:
            raise ValueError(
                f"Expected at least one observation of a batch for each of {self.world.count} processes; got batches "
                f"of {self.sampler.batch_size}. Take a larger batch_size, or fewer processes."
            )
        self.steps = self.sampler.steps(settings.epochs)
        self.learner = TrainStep(model, objective, settings, steps=self.steps, device=self.device)
        self.journal = Journal(None)
        self.number = 0
        self.early = False
        self.sums: Tensor | None = None
        self.summed = 0
        self.best: dict[str, Any] = {"loss": math.inf, "step": 0, "weights": None}
        self.since_best = 0
        self.seconds = 0.0
        self._clock = time.perf_counter()
        self.good: dict[str, Any] = {}  # the last state in which every number was finite
        self.identity = run_fingerprint(self, data)
        if self.device.type != "cpu":
            rows = None if self.data.rows is None else self.data.rows.to(self.device)
            self.data = self.data.replace(stored=self.data.stored.to(self.device), rows=rows, ask=None)

    def begin(self, *, resume: bool) -> None:
        """Start at step 0, or where the checkpoint left off."""
        if resume:
            self._go_on()
            return
        if self.out is not None and (self.out / checkpoint.STATE).exists():
            raise ValueError(
                f"Expected a folder without a run in it; got {self.out}. Choose another out=, or resume=True to go on."
            )
        for part in filter(None, (self.data, self.held_out)):
            require_support(self.model, part, dtype=self.learner.dtype, device=self.device)
        self.model.train()
        self.world.broadcast([*self.model.parameters(), *self.model.buffers()])
        self._choose_way()
        torch.manual_seed(self._noise_seed())
        self.journal = Journal(self.out)
        self.good = self._state()
        self._save()

    def _noise_seed(self) -> int:
        """Of this process's own noise; batches are of the run's seed, the same everywhere."""
        return (self.seed + NEXT_RANK * self.world.rank) % (LARGEST_SEED + 1)

    def _choose_way(self) -> None:
        """Precision and compilation, by rules that give the same answer for the same training."""
        torch.manual_seed(self._noise_seed())
        x = self._batch(0)
        self.learner.use(choose_precision(self.learner, x))
        rows = len(x) * getattr(self.objective, "samples", 1)
        wanted = self.settings.compile
        weights = sum(w.numel() for w in self.learner.weights)
        if wanted == "always" or (wanted == "auto" and pays(steps=self.steps, parameters=weights, rows=rows)):
            self._compile(x)

    def _compile(self, x: Tensor) -> None:
        reason = obstacle() or self.learner.try_compiled(x)
        if reason and self.world.is_main:
            print(f"The step runs uncompiled, and slower: {reason}.", file=sys.stderr)

    def _go_on(self) -> None:
        if self.source is None:
            raise ValueError("Expected out= with resume=True: the folder of the run to go on with.")
        state = checkpoint.load_state(self.source)
        with checkpoint.foreign(self.source / checkpoint.STATE, "a checkpoint of this training"):
            others = [name for name, value in self.identity.items() if state["identity"].get(name) != value]
            metrics, timing = map(int, state["journal"])
            step = torch.tensor(int(state["number"]))
        if others:
            raise ValueError(
                f"Expected what the run in {self.source} was started with; got another {', '.join(others)}. A resumed "
                "run repeats the uninterrupted one, so nothing may change."
            )
        steps = {int(each) for each in self.world.gather(step)}
        if len(steps) > 1:
            raise ValueError(
                f"Expected one checkpoint for all processes; got those of steps {sorted(steps)} in {self.source}. All "
                "of them must read the same folder."
            )
        with checkpoint.foreign(self.source / checkpoint.STATE, "a checkpoint of this training"):
            way = Execution(**state["way"])
            self._restore(state)
        self.model.train()
        self.learner.use(Execution(way.precision))
        if way.compiled:
            self._compile(self._batch(0))
            self._restore(state)
        self.journal = Journal(self.out, (metrics, timing))
        self.good = self._state()

    def run(self, asked_to_stop: threading.Event, shown: Progress) -> TrainResult:
        """Step until the end, an early stop or a signal."""
        self._clock, saved = time.perf_counter(), time.monotonic()
        with unvalidated():
            while self.number < self.steps and not self.early:
                epochs = math.floor(self.sampler.epoch(self.number))
                self._step()
                last = self.number == self.steps
                epoch_ended = math.floor(self.sampler.epoch(self.number)) > epochs or last
                log = epoch_ended or self.number % self.settings.log_every == 0
                if self.world.count > 1 and not log:
                    continue  # what one process alone knows of is settled where all of them look up
                asked, due = self.world.any(
                    asked_to_stop.is_set(), time.monotonic() - saved > self.settings.checkpoint_seconds
                )
                if not (log or asked or due):
                    continue
                self._look(shown, log=log, validation=epoch_ended)
                over = last or self.early
                if due or asked or over:
                    self._save()
                    saved = time.monotonic()
                if asked and not over:
                    return self._finish("interrupted")
        return self._finish("early" if self.early else "complete")

    def _step(self) -> None:
        values = self.learner.step(self._batch(self.number), self.number)
        self.sums = values if self.sums is None else self.sums.add_(values)
        self.summed += 1
        self.number += 1

    def _batch(self, number: int) -> Tensor:
        x = self.data.batch(self.world.shard(self.sampler.indices(number)), self.learner.dtype)
        if self.data.ask is not None:
            self.data.prefetch(self.world.shard(self.sampler.indices(number + 1)))
        return x

    def _look(self, shown: Progress, *, log: bool, validation: bool) -> None:
        """Read what the steps left unread; where it is good, log it and hold it."""
        self.world.broadcast(list(self.model.buffers()))  # running statistics are of each process's own batches
        finite = self.sums is None or bool(self.sums.isfinite().all())
        if not finite or self.learner.bad_weight():
            raise self._failure()
        if log:
            self._log(shown)
        if validation and self.held_out is not None:
            self._validate(self.held_out, shown)
        self._tick()
        self.good = self._state()

    def _tick(self) -> None:
        now = time.perf_counter()
        self.seconds, self._clock = self.seconds + now - self._clock, now

    def _log(self, shown: Progress) -> None:
        if self.sums is None:
            return
        values = (self.sums / self.summed).tolist()
        line = {
            **self._where("train"),
            **dict(zip(("loss", *self.learner.names), values, strict=True)),
            "learning_rate": self.learner.rate(self.number),
        }
        self.journal.metric(**line)
        self._tick()
        self.journal.timing(step=self.number, seconds=round(self.seconds, 3))
        self.sums, self.summed = None, 0
        shown.advance(self.number, line)
        if self.held_out is None:
            self.best["loss"] = line["loss"]

    def _where(self, split: str) -> dict[str, Any]:
        return {"step": self.number, "epoch": round(self.sampler.epoch(self.number), 4), "split": split}

    def _validate(self, held_out: Observations, shown: Progress) -> None:
        """Keep the weights if they are the best so far; give up after too long without better ones."""
        self.learner.swap_average()
        learner = self.learner
        values = validate(
            self.model, self.objective, held_out, names=learner.names, dtype=learner.dtype, device=self.device
        )
        if not math.isfinite(values["loss"]):
            step = self.number
            self._restore(self.good)
            self._save()
            raise NonFiniteError(
                f"At step {step} the validation loss became {values['loss']}: some held-out observations lie where the "
                "model makes no sense. Look for outliers in the data; lower learning_rate, or set clip=1.0."
            )
        better = values["loss"] < self.best["loss"]
        if better:
            weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            self.best = {"loss": values["loss"], "step": self.number, "weights": weights}
        self.since_best = 0 if better else self.since_best + 1
        self.early = bool(self.settings.patience) and self.since_best >= self.settings.patience
        self.early = self.early and self.number < self.steps
        self.learner.swap_average()
        line = {**self._where("validation"), **values, "best": better}
        self.journal.metric(**line)
        shown.advance(self.number, line)

    def _state(self) -> dict[str, Any]:
        return {
            "learner": self.learner.state(),
            "noise": self._noise(),
            "number": self.number,
            "early": self.early,
            "sums": None if self.sums is None else self.sums.clone(),
            "summed": self.summed,
            "names": list(self.learner.names),
            "way": dataclasses.asdict(self.learner.way),
            "best": dict(self.best),
            "since_best": self.since_best,
            "seconds": self.seconds,
            "journal": list(self.journal.sizes()),
        }

    def _noise(self) -> list[dict[str, Tensor]]:
        """The random state of each process."""
        own = random_state(self.device)
        found = {name: self.world.gather(value.cpu()) for name, value in own.items()}
        return [{name: values[rank] for name, values in found.items()} for rank in range(self.world.count)]

    def _restore(self, state: dict[str, Any]) -> None:
        self.learner.restore(state["learner"])
        restore_random_state(state["noise"][self.world.rank], self.device)
        self.learner.names = tuple(state["names"])
        self.number, self.summed, self.since_best = state["number"], state["summed"], state["since_best"]
        self.sums = None if state["sums"] is None else state["sums"].to(self.device)
        self.best, self.early, self.seconds = dict(state["best"]), state["early"], state["seconds"]

    def _save(self) -> None:
        """Write down the last good state, where there is a folder for it."""
        if self.out is not None:
            self.journal.sync()
            checkpoint.save_state(self.out, {**self.good, "identity": self.identity})

    def _failure(self) -> NonFiniteError:
        """Go back to the last good state, keep it, and find the step and the term that went first."""
        stop = self.number
        self._restore(self.good)
        self._save()
        return explain(self.learner, self.number, stop, self._batch)

    def _finish(self, ended: str) -> TrainResult:
        best = self.best
        if best["weights"] is not None:
            self.model.load_state_dict(best["weights"])
        else:
            self.learner.swap_average()
            best = {**best, "step": self.number}
        if self.out is not None:
            checkpoint.save_weights(self.out, self.model.state_dict())
        self.world.wait()  # so that whoever goes on from here finds the files
        return TrainResult(self.number, best["loss"], best["step"], self.seconds, ended, self.journal.metrics)
