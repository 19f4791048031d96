"""How numbers are computed: the precision of matrix products, compiled or not, on how many threads; and what pays."""

from __future__ import annotations

import shutil
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch.distributions import Distribution

from tightbound.compilations import COST
from tightbound.runtime import only_thread

SAVED = {"cpu": 1.5e-3, "cuda": 4e-3}  # seconds that compiling saves of a step whatever its size: single operations
SAVED_SHARE = 0.1  # and of the time of its matrix products, between which densities are computed
RATE = 2e11  # operations a second in matrix products
WRITTEN_SAVED = 4e-9  # seconds that a compiled evaluation saves for each number the decoder writes
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Execution:
    """How a training step is computed; a resumed run computes it as it began.

    Args:
        precision: "float32" or "bfloat16", of matrix products.
        compiled: whether gradient and update are one compiled graph.
        threads: of the processor; 0 for as many as torch has.

    Example:
        >>> Execution("bfloat16").dtype
        torch.bfloat16
    """

    precision: str = "float32"
    compiled: bool = False
    threads: int = 0

    @property
    def dtype(self) -> torch.dtype:
        """The precision as torch names it."""
        return PRECISIONS[self.precision]


def step_pays(
    *, steps: int, parameters: int, rows: int, cost: float = COST, device: str = "cpu", convolves: bool = False
) -> bool:
    """Whether a training saves more by a compiled step than compiling costs: from sizes and what is known of the cost.

    On a processor a compiled convolutional step is up to a seventh quicker, or two fifths slower: it is left as it is.

    Args:
        steps: of the training.
        parameters: of the model.
        rows: observations times draws in a step.
        cost: seconds that compiling takes.
        device: where it computes, by its type.
        convolves: whether the model has convolutions.

    Returns:
        Whether it does.

    Example:
        >>> step_pays(steps=5000, parameters=10_000, rows=64), step_pays(steps=100_000, parameters=10**6, rows=128)
        (False, True)
        >>> step_pays(steps=5000, parameters=10_000, rows=64, cost=2)
        True
    """
    if convolves and device == "cpu":
        return False
    products = 6 * parameters * rows / RATE if device == "cpu" else 0.0
    return steps * (SAVED.get(device, 0.0) + SAVED_SHARE * products) > cost


def evaluation_pays(*, numbers: int) -> bool:
    """Whether an evaluation saves more by compiled log-densities than compiling costs.

    Args:
        numbers: how many the decoder writes in all: draws times elements of an observation.

    Returns:
        Whether it does.

    Example:
        >>> evaluation_pays(numbers=10**9), evaluation_pays(numbers=10**11)
        (False, True)
    """
    return numbers * WRITTEN_SAVED > COST


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products of bfloat16 matrices.

    Args:
        device: the device.

    Returns:
        Whether it has.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and _cpu_has_bfloat16()


def _cpu_has_bfloat16() -> bool:
    read = getattr(torch.cpu, "get_capabilities", None)  # newer torch only; elsewhere single precision is safe
    capabilities = read() if read else {}
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16"))


def products_in(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[object]:
    """Matrix products in ``dtype``; densities and sums stay in single precision.

    Args:
        dtype: float32 changes nothing.
        device: where they are computed.

    Returns:
        A context to compute in.
    """
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype)


# Torch counts what was compiled of one function, and gives up after eight: the ninth model of a sweep is compiled too.
_APART = "isolate_recompiles" in signature(torch.compile).parameters


def obstacle() -> str:
    """Why nothing can be compiled here; empty where it can.

    Returns:
        The reason in words.
    """
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        return "no C++ compiler was found"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        return "Python.h was not found (Debian has it in python3-dev)"
    return ""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` as one compiled graph, which draws the same random numbers as it would uncompiled.

    Args:
        function: of tensors and tuples of them.

    Returns:
        The same function, which compiles itself when it is first called.
    """
    apart: dict[str, Any] = {"isolate_recompiles": True} if _APART else {}
    with only_thread():
        validates = Distribution._validate_args
        try:
            return torch.compile(function, fullgraph=True, dynamic=False, options={"fallback_random": True}, **apart)
        finally:
            # The compiler's first use switches torch.distributions' checks off for the whole process.
            Distribution.set_default_validate_args(validates)


@contextmanager
def compiling() -> Iterator[None]:
    """Inside, what the compiler says of its own outdated parts is not shown: no user can act on it.

    Example:
        >>> with compiling():
        ...     warnings.warn_explicit("old", FutureWarning, "lowering.py", 1, module="torch._inductor.lowering")
    """
    with only_thread(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")
        warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")  # fewer digits, which nobody asked for
        yield


def called_again(function: Callable[..., Any], *args: Any) -> Any:
    """What a compiled function gives that has been called once: it must not need compiling anew at each call.

    Args:
        function: as :func:`compiled` gives it, called before.
        *args: what it is called with.

    Returns:
        What it gives.

    Raises:
        RuntimeError: where it would, as with a network that counts its own calls.
    """
    with torch.compiler.set_stance("fail_on_recompile"):
        return function(*args)
