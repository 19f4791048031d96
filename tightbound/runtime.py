"""Where a model is and in which state it computes: device, evaluation mode, random numbers."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from tightbound.settings import require_seed


def resolve_device(name: str) -> torch.device:
    """The device of that name; "auto" takes cuda, then mps, then cpu.

    Args:
        name: "auto", "cpu", "cuda", "cuda:1", "mps", ….

    Returns:
        The device.

    Raises:
        ValueError: for a device that this machine does not have.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    kind, _, index = name.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not available.get(kind, False) or (index and not (index.isdecimal() and int(index) < count)):
        here = ", ".join(kind for kind, there in available.items() if there)
        raise ValueError(f"Expected a device of this machine (auto, {here}); got {name!r}.")
    return torch.device(name)


def require_computing() -> None:
    """Say so where torch makes all new tensors without numbers.

    Raises:
        RuntimeError: after ``torch.set_default_device("meta")``.

    Example:
        >>> require_computing()
    """
    if torch.get_default_device().type == "meta":
        raise RuntimeError(
            "Expected a default device that computes; got meta, whose tensors hold no numbers. Call "
            "torch.set_default_device(None) before."
        )


def home(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device and floating-point type of a model: those of its first parameter or buffer that has one.

    Args:
        model: any module.

    Returns:
        Both; the CPU and torch's default type for a module without any.

    Example:
        >>> home(nn.Linear(2, 1, dtype=torch.float64))
        (device(type='cpu'), torch.float64)
    """
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.get_default_dtype()


def in_double(values: Tensor) -> Tensor:
    """Values in float64: on their own device, or on the CPU where that has no such numbers.

    Args:
        values: any tensor.

    Example:
        >>> in_double(torch.ones(2)).dtype
        torch.float64
    """
    return (values.cpu() if values.device.type == "mps" else values).double()


_HELD: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()  # modules that train, by how many hold them still
_LOCK = threading.Lock()
_TRAINED: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()  # models, by how many trainings they are in or await
_USED: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()  # models, by how many compute with them out of turn
_UNUSED = threading.Condition()


@contextmanager
def in_training(model: nn.Module) -> Iterator[None]:
    """The thread's turn to train a model: whoever else computes with it waits, as a step exchanges its weights.

    Args:
        model: what is trained.

    Example:
        >>> with in_training(nn.Dropout()):
        ...     pass
    """
    with _UNUSED:
        _TRAINED[model] = _TRAINED.get(model, 0) + 1
        if not getattr(_TURN, "depth", 0):  # with the turn in hand, those who use it may wait for this thread
            _UNUSED.wait_for(lambda: not _USED.get(model))
    try:
        with only_thread():
            yield
    finally:
        with _UNUSED:
            _TRAINED[model] -= 1
            if not _TRAINED[model]:
                del _TRAINED[model]


@contextmanager
def _beside_no_training(model: nn.Module) -> Iterator[None]:
    """Threads compute with a model side by side, but none while another one trains it."""
    with _UNUSED:
        trained = model in _TRAINED
        if not trained:
            _USED[model] = _USED.get(model, 0) + 1
    if trained:
        with only_thread():
            yield
        return
    try:
        yield
    finally:
        with _UNUSED:
            _USED[model] -= 1
            _UNUSED.notify_all()


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """No gradients, and every module in evaluation mode; training goes on as before afterwards.

    Several threads may be inside at once: the last one to leave puts the modules back. While another thread trains the
    model, they wait until it has.

    Args:
        model: any module.

    Example:
        >>> model = nn.Dropout()
        >>> with evaluation_mode(model):
        ...     model.training
        False
        >>> model.training
        True
    """
    with _beside_no_training(model), _switched(model), torch.no_grad():
        yield


@contextmanager
def _switched(model: nn.Module) -> Iterator[None]:
    held = []
    with _LOCK:
        for module in model.modules():
            if module.training or module in _HELD:
                _HELD[module] = _HELD.get(module, 0) + 1
                module.training = False
                held.append(module)
    try:
        yield
    finally:
        with _LOCK:
            for module in held:
                _HELD[module] -= 1
                if not _HELD[module]:
                    del _HELD[module]
                    module.training = True


_OWNER = threading.RLock()
_TURN = threading.local()  # how often this thread is inside


@contextmanager
def only_thread() -> Iterator[None]:
    """One thread of the process at a time is inside; the others wait. The thread that is inside may come in again.

    All random numbers that torch's distributions and dropout draw come from one state of the process, and so do its
    switches: argument checks, number of threads, what warnings are shown. Whoever changes those is inside, so that a
    training or an evaluation in one of several threads gives bit for bit what it gives alone.

    Example:
        >>> with only_thread(), only_thread():
        ...     pass
    """
    with _OWNER:
        _TURN.depth = getattr(_TURN, "depth", 0) + 1
        try:
            yield
        finally:
            _TURN.depth -= 1


def _renew_owner() -> None:
    """In a forked process the threads that were inside are not there to leave."""
    global _OWNER, _UNUSED
    _OWNER, _UNUSED = threading.RLock(), threading.Condition()
    _TRAINED.clear()
    _USED.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_owner)


@contextmanager
def own_random_state(device: torch.device, *, seed: int | None = None) -> Iterator[None]:
    """Random numbers drawn inside disturb nobody's outside, and those of no other thread: :func:`only_thread`.

    Args:
        device: where they are drawn, besides the CPU.
        seed: to begin with; without one the numbers go on from the caller's.

    Raises:
        TypeError: for a seed that is no whole number.
        ValueError: for one outside 0 to 2⁶³ − 1.

    Example:
        >>> with own_random_state(torch.device("cpu"), seed=3):
        ...     first = torch.rand(())
        >>> with own_random_state(torch.device("cpu"), seed=3):
        ...     bool(torch.rand(()) == first)
        True
    """
    if seed is not None:
        seed = require_seed(seed)
    with only_thread():
        state = random_state(device)
        try:
            if seed is not None:
                seed_generators(seed, device)
            yield
        finally:
            restore_random_state(state, device)


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed the CPU's generator and the device's own, and leave those of other devices alone.

    Args:
        seed: from 0 to 2⁶³ − 1.
        device: the other device.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        torch.cuda.init()
        torch.cuda.default_generators[index].manual_seed(seed)
    if device.type == "mps":
        torch.mps.manual_seed(seed)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of every generator that computing on the device draws from.

    Args:
        device: where it is computed.

    Returns:
        States by kind of device.
    """
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Put back what :func:`random_state` took.

    Args:
        state: states by kind of device.
        device: where it is computed.
    """
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    if device.type == "mps":
        torch.mps.set_rng_state(state["mps"].cpu())
