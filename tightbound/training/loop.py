"""The training loop: it knows ``objective(model, batch, step)`` and nothing else about what it trains."""

from __future__ import annotations

import itertools
import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tightbound.batch import Batch
from tightbound.checks import check_data
from tightbound.data import Observations
from tightbound.data.mapped import watched
from tightbound.data.transforms import Transform
from tightbound.distributed import World
from tightbound.execution import Execution, obstacle
from tightbound.files import foreign
from tightbound.progress import Progress
from tightbound.runtime import own_random_state, random_state, restore_random_state
from tightbound.settings import Training, seed_after
from tightbound.training import checkpoint
from tightbound.training.batches import Sampler
from tightbound.training.failure import NonFiniteError, explain, runaway
from tightbound.training.fingerprint import Fingerprints, glimpse_of_data
from tightbound.training.journal import Journal, ended
from tightbound.training.on_log import OnLog, OnLogError, tell
from tightbound.training.pace import Pace
from tightbound.training.replacing import clear, require_free, require_replaceable
from tightbound.training.result import TrainResult
from tightbound.training.signals import NUMBERS, Asked
from tightbound.training.state import Best, Standing, State, require_alike
from tightbound.training.step import TrainStep
from tightbound.training.transforming import check_transform, transformed
from tightbound.training.validation import validate

READ_FIRST = 1.0  # seconds that the first step waits for the fingerprint of the data
NEXT_RANK = 15_485_863  # between seeds of two processes' noise: seeds 0, 1, 2 … are other people's runs


@dataclass(frozen=True, eq=False)
class Setup:
    """What a training is made of and does not change.

    Attributes:
        settings: How it trains.
        seed: Of noise and batches.
        world: The processes that share each batch.
        data: What it trains on.
        held_out: What it validates on, if anything.
        looked_at: What is looked at before the first step: all observations, in the order in which they were given, and
            what the model will be judged on, if that is known.
        sampler: Which observations each step sees.
        source: The run's folder, to go on from; None without one.
        fingerprint: What must be the same to go on.
        transform: What is made of each batch of the training, if anything.
        on_log: A function of the user's own that is told every line of metrics, if any.
    """

    settings: Training
    seed: int
    world: World
    data: Observations
    held_out: Observations | None
    looked_at: tuple[Observations, ...]
    sampler: Sampler
    source: Path | None
    fingerprint: Fingerprints
    transform: Transform | None = None
    on_log: OnLog | None = None

    @property
    def out(self) -> Path | None:
        """The folder to write into: the first process alone does."""
        return self.source if self.world.is_main else None

    @property
    def steps(self) -> int:
        """How many steps there are in all."""
        return self.sampler.steps(self.settings.epochs)

    @property
    def noise_seed(self) -> int:
        """Of this process's own noise; batches are of the run's seed, the same everywhere."""
        return seed_after(self.seed, NEXT_RANK * self.world.rank)


class Loop:
    """One training under way.

    Args:
        setup: what it is made of.
        step: the weights and how they move.
    """

    def __init__(self, setup: Setup, step: TrainStep) -> None:
        self.setup, self.step = setup, step
        self.journal = Journal(None)
        self._file = watched(setup.data.name)
        self.at = Standing()
        self._good = self._state()  # the last state in which every number was finite
        self._clock = time.perf_counter()
        self.pace = Pace(setup.settings, step)

    def begin(self, *, overwrite: bool = False) -> None:
        """Start at step 0.

        Args:
            overwrite: whether a run that is in the folder goes, once all that can be looked at has been.

        Raises:
            ValueError: for a folder with a run in it, or with overwrite something else, and data that the model does
                not describe.
        """
        setup, step = self.setup, self.step
        if setup.out is not None:
            (require_replaceable if overwrite else require_free)(setup.out)
        for part in setup.looked_at:
            check_data(step.model, part)
        self._try_transform()
        step.set_mode(training=True)
        setup.world.broadcast([t for m in step.modules().values() for t in (*m.parameters(), *m.buffers())])
        self._choose_execution()
        torch.manual_seed(setup.noise_seed)
        if setup.out is not None and overwrite:
            clear(setup.out)
        self.journal = Journal(setup.out)
        self._good = self._state()
        self._save()

    def begun(self) -> bool:
        """Whether there is a checkpoint to go on from, as the first process sees it."""
        source, world = self.setup.source, self.setup.world
        return world.any(world.is_main and source is not None and checkpoint.has_state(source))[0]

    def go_on(self) -> None:
        """Start where the checkpoint left off.

        Raises:
            ValueError: for no folder, no checkpoint in it, a damaged one, or one of another training.
        """
        setup = self.setup
        if setup.source is None:
            raise ValueError("Expected out= with resume=True: the folder of the run to go on with.")
        plain = checkpoint.load_state(setup.source, ended=self._has_ended(setup.source))
        older = checkpoint.is_older(setup.source)
        with foreign(setup.source / checkpoint.STATE, "a checkpoint of this training"):
            others = setup.fingerprint.unlike(plain["fingerprint"])
            number = torch.tensor(State.from_plain(plain).standing.number)
        if others:
            raise ValueError(
                f"Expected what the run in {setup.source} was started with; got another {', '.join(others)}. A resumed "
                "run repeats the uninterrupted one, so nothing may change."
            )
        numbers = {int(each) for each in setup.world.gather(number)}
        if len(numbers) > 1:
            raise ValueError(
                f"Expected one checkpoint for all processes; got those of steps {sorted(numbers)} in {setup.source}. "
                "All of them must read the same folder."
            )
        with foreign(setup.source / checkpoint.STATE, "a checkpoint of this training"):
            state = State.from_plain(plain)
            require_alike(state.standing.best.weights, self.step.weights_now())
            self._restore(state)
        if older and setup.world.is_main:
            print(
                f"The newest checkpoint is missing: going on from the one before, of step {int(number)}.",
                file=sys.stderr,
            )
        self._try_transform()
        self.step.set_mode(training=True)
        self.step.use(Execution(state.execution.precision))
        self.pace.go_on(state.execution.threads, self._batch(0))
        self._restore(state)
        if state.execution.compiled:
            self._compile(self._batch(0))
            self._restore(state)
        self.journal = Journal(setup.out, state.journal)
        self._good = self._state()

    def _has_ended(self, source: Path) -> bool:
        """Whether the folder holds a training that is over, whose weights are written last."""
        patience = self.setup.settings.patience if self.setup.held_out is not None else 0
        return (source / checkpoint.WEIGHTS).is_file() and ended(source, self.setup.steps, patience)

    def run(self, asked: Asked, shown: Progress) -> TrainResult:
        """Step until the end, an early stop or a signal."""
        setup = self.setup
        steps, sampler, world = setup.steps, setup.sampler, setup.world
        self._clock, saved = time.perf_counter(), time.monotonic()
        shown.note(self.pace.said)
        while self.at.number < steps and not self.at.early:
            epochs = math.floor(sampler.epoch(self.at.number))
            if self._step():
                shown.note(self.pace.said)
            last = self.at.number == steps
            epoch_ended = math.floor(sampler.epoch(self.at.number)) > epochs or last
            log = epoch_ended or self.at.number % setup.settings.log_every == 0
            if world.count > 1 and not log:
                continue  # what one process alone knows of is settled where all of them look up
            due = time.monotonic() - saved > setup.settings.checkpoint_seconds
            *numbers, due = world.any(*(asked.number is each for each in NUMBERS), due)
            stop = next(itertools.compress(NUMBERS, numbers), None)  # what one was asked, all are
            asked.number = stop or asked.number
            if not (log or stop or due):
                continue
            self._look(shown, log=log, validation=epoch_ended)
            over = last or self.at.early
            if due or stop or over:
                self._save()
                saved = time.monotonic()
            if stop and not over:
                return self._finish("interrupted")
        return self._finish("early" if self.at.early else "complete")

    def _choose_execution(self) -> None:
        """Precision and compilation, by rules that give the same answer for the same training."""
        setup, step = self.setup, self.step
        torch.manual_seed(setup.noise_seed)
        batch = self._batch(0)
        step.use(step.choose_precision(batch))
        self.pace.start(batch)
        wanted = setup.settings.compile
        pays = step.compiling_pays(batch, setup.steps)
        pays = setup.world.any(setup.world.is_main and pays)[0]  # what is remembered differs between machines
        if wanted == "always" or (wanted == "auto" and pays):
            self._compile(batch)

    def _compile(self, batch: Batch) -> None:
        reason = obstacle() or self.step.try_compiled(batch)
        if reason and self.setup.world.is_main:
            print(f"The step runs uncompiled, and slower: {reason}.", file=sys.stderr)

    def _step(self) -> bool:
        """Take a step; true where those after it run on another number of threads."""
        at = self.at
        if self._file is not None:
            self._file.require_same()
        began = time.perf_counter()
        values = self.step.step(self._batch(at.number), at.number)
        sums = values if at.sums is None else at.sums.add_(values)
        self.at = replace(at, number=at.number + 1, sums=sums, summed=at.summed + 1)
        seconds, left = time.perf_counter() - began, self.setup.steps - self.at.number
        return self.pace.after(seconds, lambda: self._batch(at.number), left)

    def _batch(self, number: int) -> Batch:
        setup = self.setup
        batch = setup.data.batch(setup.world.shard(setup.sampler.indices(number)), self.step.dtype)
        if setup.transform is not None:
            batch = batch._replace(x=transformed(setup.transform, batch.x))
        if setup.data.ask is not None:
            setup.data.prefetch(setup.world.shard(setup.sampler.indices(number + 1)))
        return batch._replace(checked=True)

    def _try_transform(self) -> None:
        setup, step = self.setup, self.step
        if setup.transform is not None:  # all processes try the same, so that what is refused is refused by all
            with own_random_state(step.device, seed=setup.seed):
                batch = setup.data.batch(setup.sampler.indices(0), step.dtype).to(step.device)
            check_transform(setup.transform, step.model, batch, name=setup.data.name, seed=setup.seed)

    def _look(self, shown: Progress, *, log: bool, validation: bool) -> None:
        """Read what the steps left unread; where it is good, log it and hold it."""
        told = len(self.journal.metrics)
        buffers = [buffer for module in self.step.modules().values() for buffer in module.buffers()]
        self.setup.world.broadcast(buffers)  # running statistics are of each process's own batches
        finite = self.at.sums is None or bool(self.at.sums.isfinite().all())
        if not finite or self.step.bad_weight():
            raise self._failure()
        if log:
            self._log(shown)
        if validation and self.setup.held_out is not None:
            self._validate(self.setup.held_out, shown)
        self._tick()
        self._good = self._state()
        self._tell(self.journal.metrics[told:])

    def _tell(self, lines: list[dict[str, Any]]) -> None:
        """Give the lines of a look to the user's function, and undo whatever it did to the training."""
        setup, failed = self.setup, None
        if setup.on_log is not None and setup.world.is_main and lines:
            failed = tell(setup.on_log, lines)
            self._restore(self._good)
            self.step.set_mode(training=True)
        if any(setup.world.any(failed is not None)):  # whoever goes on alone would wait for ever
            self._save()
            raise OnLogError(failed, self.at.number, setup.source) from failed

    def _tick(self) -> None:
        now = time.perf_counter()
        self.at, self._clock = replace(self.at, seconds=self.at.seconds + now - self._clock), now

    def _log(self, shown: Progress) -> None:
        at = self.at
        if at.sums is None:
            return
        values = (at.sums / at.summed).tolist()
        line = {
            **self._where("train"),
            **dict(zip(("loss", *self.step.names), values, strict=True)),
            "learning_rate": self.step.rate(at.number),
        }
        self.journal.metric(**line)
        self._tick()
        self.journal.timing(step=at.number, seconds=round(self.at.seconds, 3), threads=torch.get_num_threads())
        best = self.at.best if self.setup.held_out is not None else replace(self.at.best, loss=line["loss"])
        self.at = replace(self.at, sums=None, summed=0, best=best)
        shown.advance(at.number, line)

    def _where(self, split: str) -> dict[str, Any]:
        number = self.at.number
        return {"step": number, "epoch": round(self.setup.sampler.epoch(number), 4), "split": split}

    def _validate(self, held_out: Observations, shown: Progress) -> None:
        """Keep the weights if they are the best so far; give up after too long without better ones."""
        step, best, number = self.step, self.at.best, self.at.number
        step.swap_average()
        values = validate(step, held_out, names=step.names, batch_size=self.setup.sampler.batch_size)
        if not math.isfinite(values["loss"]):
            self._restore(self._good)
            self._save()
            raise NonFiniteError(
                f"At step {number} the validation loss became {values['loss']}: some held-out observations lie where "
                "the model makes no sense. Look for outliers in the data; lower learning_rate, or set clip=1.0."
            )
        better = values["loss"] < best.loss
        best = Best(values["loss"], number, step.weights_now()) if better else replace(best, since=best.since + 1)
        patience = self.setup.settings.patience
        early = bool(patience) and best.since >= patience and number < self.setup.steps
        self.at = replace(self.at, best=best, early=early)
        step.swap_average()
        line = {**self._where("validation"), **values, "best": better}
        self.journal.metric(**line)
        shown.advance(number, line)

    def _state(self) -> State:
        at, step = self.at, self.step
        sums = None if at.sums is None else at.sums.clone()
        return State(
            replace(at, sums=sums), step.state(), step.names, step.execution, self._noise(), self.journal.sizes()
        )

    def _noise(self) -> list[dict[str, Tensor]]:
        """The random state of each process."""
        world = self.setup.world
        found = {name: world.gather(value.cpu()) for name, value in random_state(self.step.device).items()}
        return [{name: values[rank] for name, values in found.items()} for rank in range(world.count)]

    def _restore(self, state: State) -> None:
        step, standing = self.step, state.standing
        step.restore(state.step)
        restore_random_state(state.noise[self.setup.world.rank], step.device)
        step.names = state.names
        self.at = replace(standing, sums=None if standing.sums is None else standing.sums.to(step.device).clone())

    def _save(self) -> None:
        """Write down the last good state, where there is a folder for it."""
        if self.setup.out is not None:
            self.journal.sync()
            wait = None if self.at.number else READ_FIRST  # of much data nothing is known before the first step
            plain = {**self._good.to_plain(), "fingerprint": self.setup.fingerprint.there(within=wait)}
            checkpoint.save_state(self.setup.out, plain)

    def _failure(self) -> NonFiniteError:
        """Go back to the last good state, keep it, and find the step and the term that went first."""
        stop = self.at.number
        self._restore(self._good)
        self._save()
        return explain(self.step, self.at.number, stop, self._batch)

    def _finish(self, ended: str) -> TrainResult:
        at, step = self.at, self.step
        best = at.best
        if best.weights is not None:
            step.load(best.weights)
        else:
            step.swap_average()
            best = replace(best, step=at.number)
        if self.setup.out is not None:
            checkpoint.save_weights(self.setup.out, step.weights_now())
        self.setup.world.wait()  # so that whoever goes on from here finds the files
        remark = runaway(best.loss, self.setup.data.shape.numel())
        if remark and self.setup.world.is_main:
            print(remark, file=sys.stderr)
        return TrainResult(
            at.number, best.loss, best.step, at.seconds, ended, step.objective, self.journal.metrics, remark,
            self.setup.seed, self.setup.settings, glimpse_of_data(self.setup.looked_at[0]),
        )  # fmt: skip
