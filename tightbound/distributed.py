"""Several processes at one training: who each is, and how they agree. One alone agrees with itself, at no cost."""

from __future__ import annotations

import atexit
import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
import torch.distributed as dist
from torch import Tensor

_GROUPS = itertools.count()


class LostProcessError(RuntimeError):
    """Another process of this training has ended."""


@dataclass(frozen=True)
class World:
    """This process among ``count`` that train one model.

    Args:
        rank: which one, from 0. The first leads: it alone writes and speaks.
        count: how many there are.

    Example:
        >>> World(1, 2).shard(torch.arange(5))
        tensor([1, 3])
    """

    rank: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def shard(self, indices: Tensor) -> Tensor:
        """This process's part of a batch; all of them together are the batch."""
        return indices[self.rank :: self.count]

    def mean(self, tensors: Sequence[Tensor], rows: int) -> Sequence[Tensor]:
        """Means over the rows of all processes, of means over the ``rows`` of each: in one message."""
        if self.count == 1:
            return tensors
        flat = torch.cat([*(t.reshape(-1) for t in tensors), tensors[0].new_ones(1)]).mul_(rows)
        with _together():
            dist.all_reduce(flat)
        parts = flat.div_(flat[-1].clone()).split([*(t.numel() for t in tensors), 1])
        return [part.view(t.shape) for part, t in zip(parts, tensors, strict=False)]

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, the same bits in each."""
        if self.count > 1:
            with _together():
                dist.all_reduce(values)
        return values

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag whether any process has it set."""
        if self.count == 1:
            return flags
        return tuple((self.sum(torch.tensor([float(flag) for flag in flags])) > 0).tolist())

    def gather(self, values: Tensor) -> list[Tensor]:
        """What each process has, by rank: tensors of one shape, on the CPU."""
        if self.count == 1:
            return [values]
        found = [torch.empty_like(values) for _ in range(self.count)]
        with _together():
            dist.all_gather(found, values)
        return found

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Take over what the first process has, in place."""
        if self.count > 1:
            with _together():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)

    def wait(self) -> None:
        """Return when all processes have come this far."""
        self.sum(torch.zeros(1))

    def device(self, device: torch.device) -> torch.device:
        """The GPU of this process's own, where there are several on its machine."""
        if self.count == 1 or device.type != "cuda" or device.index is not None:
            return device
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", self.rank)) % torch.cuda.device_count())


def world() -> World:
    """This process's place in the group it has joined; alone where it has joined none."""
    if dist.is_available() and dist.is_initialized():
        return World(dist.get_rank(), dist.get_world_size())
    return World()


@contextmanager
def joined() -> Iterator[World]:
    """Join the processes that ``torchrun`` started beside this one, unless that is done; leave them at the end."""
    if dist.is_initialized() or _count() == 1:
        yield world()
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    # Under a name of its own: what an earlier group has left at the meeting point would be taken for this one's.
    store = dist.PrefixStore(f"tightbound/{_attempt()}/{next(_GROUPS)}", _meeting_point())
    rank, count = int(os.environ["RANK"]), _count()
    dist.init_process_group(backend, store=store, rank=rank, world_size=count)
    try:
        world().wait()  # who leaves before all are connected, for something is wrong, would take others with it
        yield world()
        world().wait()  # who leaves early would be taken for lost
    finally:
        dist.destroy_process_group()


def _count() -> int:
    """How many processes there are, by the variables that ``torchrun`` sets.

    Raises:
        ValueError: for variables of which some are missing, or no numbers.
    """
    said = {name: os.environ.get(name, "") for name in ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")}
    if said["WORLD_SIZE"] in ("", "1"):
        return 1
    numbers = [said[name] for name in ("WORLD_SIZE", "RANK", "MASTER_PORT")]
    whole = all(each.isascii() and each.isdecimal() for each in numbers)
    if not (whole and said["MASTER_ADDR"] and int(said["RANK"]) < int(said["WORLD_SIZE"])):
        got = ", ".join(f"{name}={value or 'none'}" for name, value in said.items())
        raise ValueError(
            f"Expected the environment as torchrun sets it, where WORLD_SIZE is set; got {got}. To train in one "
            "process: unset WORLD_SIZE. In several of this machine: --procs."
        )
    return int(said["WORLD_SIZE"])


def _attempt() -> str:
    """How often ``torchrun`` has started these processes: on one machine all agree, on several they need not."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if os.environ.get("GROUP_WORLD_SIZE", "1") == "1" else "0"


@cache
def _meeting_point() -> dist.Store:
    """Where the processes find each other: one for as long as they live, for one of them holds it open."""
    store, _, _ = next(dist.rendezvous("env://"))
    atexit.register(_meeting_point.cache_clear)  # its threads must end before the interpreter does
    return store


@contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostProcessError(
            "Expected the other processes of this training to go on; one has ended. The last "
            "checkpoint is kept: go on with --resume, or resume=True in Python."
        ) from error
