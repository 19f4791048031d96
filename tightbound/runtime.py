"""Where and how numbers are computed: device, precision, compilation, random state."""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from inspect import signature
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


def resolve_device(name: str) -> torch.device:
    """The device of that name; "auto" takes cuda, then mps, then cpu.

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


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16 matrices."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and _cpu_has_bfloat16()


def _cpu_has_bfloat16() -> bool:
    read = getattr(torch.cpu, "get_capabilities", None)  # newer torch only; elsewhere single precision is safe
    capabilities = read() if read else {}
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16"))


def products_in(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[object]:
    """Matrix products in ``dtype``; densities and sums stay in single precision."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype)


@contextmanager
def own_random_state(device: torch.device) -> Iterator[None]:
    """Random numbers drawn inside disturb nobody's outside."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else [], device_type=_fork_type(device)):
        yield


def _fork_type(device: torch.device) -> str:
    return "cuda" if device.type == "cpu" else device.type


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of every generator that training draws from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    if device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Put back what :func:`random_state` took."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    if device.type == "mps":
        torch.mps.set_rng_state(state["mps"].cpu())


def home(model: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device and floating-point type of a model: those of its first parameter or buffer that has one."""
    for tensor in chain(model.parameters(), model.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.get_default_dtype()


@contextmanager
def evaluation_mode(model: nn.Module, *, seed: int) -> Iterator[None]:
    """Evaluation mode, no gradients and a seed of its own, on the CPU and the model's GPU; all undone after."""
    device, _ = home(model)
    # Generators one by one: torch.manual_seed would reseed GPUs that this model does not use.
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index])
    states = [generator.get_state() for generator in generators]
    modes = [(module, module.training) for module in model.modules()]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


# Torch counts what was compiled of one function, and gives up after eight: the ninth model of a sweep is compiled too.
_APART = "isolate_recompiles" in signature(torch.compile).parameters


def obstacle() -> str:
    """Why nothing can be compiled here; empty where it can."""
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        return "no C++ compiler was found"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        return "Python.h was not found (Debian has it in python3-dev)"
    return ""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` as one compiled graph, which draws the same random numbers as it would uncompiled."""
    apart: dict[str, Any] = {"isolate_recompiles": True} if _APART else {}
    return torch.compile(function, fullgraph=True, dynamic=False, options={"fallback_random": True}, **apart)


def called_again(function: Callable[..., Any], *args: Any) -> Any:
    """What a compiled function gives that has been called once: it must not need compiling anew at each call.

    Raises:
        RuntimeError: where it would, as with a network that counts its own calls.
    """
    with torch.compiler.set_stance("fail_on_recompile"):
        return function(*args)
