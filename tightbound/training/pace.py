"""On how many threads the steps of a training run: tried at the start, and again when they take another time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from tightbound.batch import Batch
from tightbound.compilations import expected
from tightbound.distributed import world
from tightbound.runtime import own_random_state
from tightbound.settings import Training
from tightbound.threads import Watch, best, usable
from tightbound.training.step import TrainStep

MOST_BYTES = 2**30  # of weights that a trial copies, to put them back


class Pace:
    """The number of threads, and whether it is still the right one.

    One process that trains on the processor looks for it. Several share the processor by a plan of whoever started
    them, and a GPU does not ask for it.

    Args:
        settings: of the training.
        step: whose time it is about.
    """

    def __init__(self, settings: Training, step: TrainStep) -> None:
        self.step, self.most = step, settings.threads or usable()
        heavy = sum(w.numel() * w.element_size() for w in step.weights) > MOST_BYTES
        looks = not settings.threads and self.most > 1 and not heavy
        self._looks = looks and world().count == 1 and step.device.type == "cpu"
        self._fixed = settings.micro_batch > 0  # pieces of a step that are compiled one by one
        self._watch: Watch | None = None
        self.said = ""

    def start(self, batch: Batch) -> None:
        """Choose before the first step."""
        self._use(self.most)
        if self._looks:
            self._try(batch)

    def go_on(self, threads: int, batch: Batch) -> None:
        """Take the number that a checkpoint has; choose where it has none, or more than there are."""
        if not self._looks or not 0 < threads <= self.most:
            self.start(batch)
            return
        self._use(threads)
        self._watch = Watch(fewer=threads < self.most)

    def after(self, seconds: float, batch: Callable[[], Batch], left: int) -> bool:
        """Look at the seconds of a step, with ``left`` more to come; true where another number is used from now on."""
        if self._watch is None:
            return False
        due = self._watch.due(seconds)
        if not self.step.execution.compiled and self._watch.lost(seconds):
            self._use(1)
            self._watch = self._watch.after(fewer=True)
            self.said = f"Threads: 1 of {self.most} (steps on {self.most} fell behind those on 1)."
            return True
        if not due:
            return False
        before = torch.get_num_threads()
        with own_random_state(self.step.device):  # a batch may be drawn at random, and the training's own numbers stay
            return self._tried_again(before, seconds, batch(), left)

    def _tried_again(self, before: int, seconds: float, batch: Batch, left: int) -> bool:
        found = self._try(batch)
        execution = self.step.execution
        if torch.get_num_threads() == before or not execution.compiled:
            return torch.get_num_threads() != before
        gain = 1 - found[torch.get_num_threads()] / found[before]
        cost = expected(self.step.compilation(batch))
        if self._fixed or left * seconds * gain < cost:  # a step is compiled for its number of threads
            self._use(before)
            return False
        self.step.try_compiled(batch)
        return True

    def _try(self, batch: Batch) -> dict[int, float]:
        began = time.perf_counter()
        found = self.step.tried_on([1, self.most], batch)
        threads = best(found)
        self._use(threads)
        taken, fewer, alone = time.perf_counter() - began, threads < self.most, math.inf if threads == 1 else found[1]
        watch = self._watch or Watch(fewer=fewer)
        self._watch = watch.after(fewer=fewer, alone=alone, seconds=taken)
        times = ", ".join(f"{1000 * seconds:.3g} ms on {count}" for count, seconds in found.items())
        self.said = f"Threads: {threads} of {self.most} (a step takes {times})."
        return found

    def _use(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self.step.execution = replace(self.step.execution, threads=threads)
