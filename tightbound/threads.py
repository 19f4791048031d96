"""How many threads torch computes on: what the process may use, and a trial of what the work needs.

Threads of one computation wait for each other many times in each step. Where another process wants the same cores, all
wait for the one that is held up, and two threads can take fifty times as long as one. No rule knows that beforehand; a
trial of a few steps does.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch

from tightbound.runtime import only_thread

ROUNDS = 3  # of a trial, each of a step that is timed and one before it that wakes the threads
LONGEST = 2.0  # seconds after which a trial ends, after the round it is in
LOST = 2.0  # times as long as on one thread: a trial ends at once
WORTH = 0.95  # share of one thread's time that more threads must stay below: they take cores from others
STEPS = 8  # from whose time together it is told whether a step takes as long as it did
CHANGED = 1.5  # times as long, or as short, after which a trial is repeated
SHARE = 0.03  # of all time that trials may take
BEHIND = 0.2  # seconds that steps may fall behind what one thread was seen to need, before one is taken
LATE = 3  # steps, at least, that do so: one alone may be late for many reasons
AGAIN = 60.0  # seconds after which fewer threads than there could be are compared with all of them once more


def usable() -> int:
    """How many threads the process may use: as many as torch has now, and no more than its processors.

    The processors are those of its affinity and of its control group's quota, not all that the host has.

    Returns:
        The number, at least 1.

    Example:
        >>> 1 <= usable() <= torch.get_num_threads()
        True
    """
    affinity = getattr(os, "sched_getaffinity", None)
    processors = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(torch.get_num_threads(), processors, math.ceil(min(quota(), processors))))


def quota(root: Path = Path("/")) -> float:
    """How many processors' time the process's control groups let it have: the least of its own and of those around it.

    Args:
        root: where the system's files are.

    Returns:
        The number; infinite where nothing limits it, or nothing is known.

    References:
        https://docs.kernel.org/admin-guide/cgroup-v2.html, "cpu.max";
        https://docs.kernel.org/scheduler/sched-bwc.html, "cpu.cfs_quota_us".

    Example:
        >>> quota(Path("/nowhere"))
        inf
    """
    found = [math.inf]
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, kinds, name = line.split(":", 2) if line.count(":") > 1 else ("", "none", "")
        if kinds and "cpu" not in kinds.split(","):
            continue
        top = root / "sys/fs/cgroup" / kinds
        own = top / name.lstrip("/")
        for group in (own, *(each for each in own.parents if each.is_relative_to(top))):
            words = (_text(group / "cpu.max") or _pair(group)).split()
            if len(words) == 2 and all(word.isdecimal() and int(word) for word in words):
                found.append(int(words[0]) / int(words[1]))
    return min(found)


def _pair(group: Path) -> str:
    """The two files of the first version of control groups, in the form of the second."""
    return f"{_text(group / 'cpu.cfs_quota_us').strip()} {_text(group / 'cpu.cfs_period_us').strip()}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


@contextmanager
def on_threads(count: int | None) -> Iterator[None]:
    """Torch computes on that many threads inside. Where steps are many and small, one alone is the quickest.

    The number is the process's own: what other threads of it compute meanwhile has as many. Inside it may be changed.

    Args:
        count: how many; None leaves them as they are.

    Example:
        >>> with on_threads(1):
        ...     torch.get_num_threads()
        1
    """
    with only_thread():
        before = torch.get_num_threads()
        try:
            if count is not None:
                torch.set_num_threads(count)
            yield
        finally:
            torch.set_num_threads(before)


def tried(work: Callable[[], object], counts: Sequence[int]) -> dict[int, float]:
    """How long some work takes on each number of threads, in turn: the median of a few times.

    The shortest would be that of a lucky moment, in which nobody else wanted a core.

    Args:
        work: that leaves everything as it was.
        counts: the fewest first.

    Returns:
        Seconds by the number of threads.

    Example:
        >>> sorted(tried(lambda: torch.ones(9).sum(), [1, 1]))
        [1]
    """
    taken: dict[int, list[float]] = {count: [] for count in counts}
    began = time.perf_counter()
    for _ in range(ROUNDS):
        for count in counts:
            with on_threads(count):
                woken = _seconds(work)  # threads that sleep are slow at first
                slow = bool(taken[counts[0]]) and woken > LOST * ROUNDS * median(taken[counts[0]])
                taken[count].append(woken if slow else _seconds(work))
        found = {count: median(seconds) for count, seconds in taken.items()}
        lost = max(found.values()) > LOST * found[counts[0]]
        if lost or time.perf_counter() - began > LONGEST:
            break
    return found


def best(found: dict[int, float]) -> int:
    """The number of threads to take: more than the fewest only where that gains something.

    Args:
        found: as :func:`tried` gives it.

    Example:
        >>> best({1: 1.0, 2: 0.6}), best({1: 1.0, 2: 0.99}), best({1: 1.0, 2: 40.0})
        (2, 1, 1)
    """
    fewest = min(found)
    quickest = min(found, key=found.__getitem__)
    return quickest if found[quickest] < WORTH * found[fewest] else fewest


class Watch:
    """Tells when a trial is due again: steps take another time than they did, as the machine has more or less to do.

    A trial of a few steps may see a lucky moment of busy processors, in which several threads ran undisturbed. So the
    steps that follow are held against what one thread was seen to need.

    Args:
        fewer: whether fewer threads are used than could be; then it is also due now and then.
        alone: seconds of a step on the fewest threads, where more are used and that is known.
        spent: seconds that trials have taken so far.
        last: seconds of the last of them, which the next one is expected to take.
        clock: seconds since whenever.
    """

    def __init__(
        self, *, fewer: bool, alone: float = math.inf, spent: float = 0.0, last: float = 0.0,
        began: float | None = None, clock: Callable[[], float] = time.perf_counter,
    ) -> None:  # fmt: skip
        self._clock, self._fewer, self._alone = clock, fewer, alone
        self._spent, self._last = spent, last
        self._behind, self._late = 0.0, 0
        self._chosen = clock()
        self._began = self._chosen if began is None else began
        self._recent: deque[float] = deque(maxlen=STEPS)
        self._usual: float | None = None

    def due(self, seconds: float) -> bool:
        """Whether another trial is due, after a step of so many seconds."""
        self._recent.append(seconds)
        if len(self._recent) < STEPS:
            return False
        now, lately = self._clock(), sum(self._recent)
        if self._usual is None:
            self._usual = lately
        if self._spent + self._last > SHARE * (now - self._began):
            return False
        changed = not self._usual / CHANGED < lately < self._usual * CHANGED
        return changed or (self._fewer and now - self._chosen > AGAIN)

    def lost(self, seconds: float) -> bool:
        """Whether steps have fallen behind those of one thread, after one of so many seconds."""
        late = seconds - self._alone
        self._behind = max(0.0, self._behind + late)
        self._late = self._late + (late > 0) if self._behind else 0
        return self._behind > BEHIND and self._late >= LATE

    def after(self, *, fewer: bool, alone: float = math.inf, seconds: float = 0.0) -> Watch:
        """The watch over the steps after another choice, by a trial that took so many seconds, or by none."""
        return Watch(
            fewer=fewer, alone=alone, spent=self._spent + seconds, last=seconds or self._last, began=self._began,
            clock=self._clock,
        )  # fmt: skip


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
