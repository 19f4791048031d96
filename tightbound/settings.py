"""How a model is trained, as a frozen value. No torch here: recipes and the command line read it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, Literal, TypedDict

LARGEST_SEED = 2**63 - 1
MOST_EPOCHS = 1e9
LEAST = {"batch_size": 1, "log_every": 1, "micro_batch": 0, "warmup_steps": 0, "patience": 0, "threads": 0}
MOST_THREADS = 1024  # more than any processor has
CHOICES = {
    "schedule": ("cosine", "constant"),
    "precision": ("auto", "float32", "bfloat16"),
    "compile": ("auto", "always", "never"),
}


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of one training.

    Attributes:
        epochs: Passes over the training set.
        batch_size: Observations in one step.
        micro_batch: Draws decoded at a time, observations times K; all of a step's at once where it is 0. Gradients are
            the same to rounding; memory stays bounded however large K, at a third more work.
        learning_rate: Adam's highest learning rate.
        schedule: "cosine" falls to zero at the end, "constant" stays.
        warmup_steps: Steps over which the learning rate rises from zero.
        betas: Adam's two decay rates.
        weight_decay: What a step at learning rate 1 would take off the weights of linear and convolutional layers, as
            a share; against over-fitting. None where it is 0.
        clip: Largest norm of the gradient; none where it is 0.
        ema: Decay a step of averaged weights, used for validation and kept at the end; none where it is 0.
        validation: What is held out of the training set: a share below 1, or a number of observations.
        patience: Epochs without a better validation loss before stopping early; never where it is 0.
        precision: Of matrix products: "float32", "bfloat16", or "auto": bfloat16 where the processor multiplies it
            natively and the loss comes out the same.
        compile: "always" compiles the step, "never" does not, "auto" does where the training is long enough to gain.
        device: "cpu", "cuda", "mps", or "auto": the fastest at hand.
        threads: Of the processor. 0 compares one thread with as many as the process may use, on a few steps, and again
            when steps begin to take another time.
        log_every: Steps between two lines of training metrics; finiteness is checked then as well.
        checkpoint_seconds: Seconds between checkpoints; one is written at the end of training in any case.

    Example:
        >>> Training(epochs=3).batch_size
        128
    """

    epochs: float = 20
    batch_size: int = 128
    micro_batch: int = 0
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup_steps: int = 0
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip: float = 0.0
    ema: float = 0.0
    validation: float = 0.1
    patience: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["auto", "always", "never"] = "auto"
    device: str = "auto"
    threads: int = 0
    log_every: int = 50
    checkpoint_seconds: float = 30.0

    def __post_init__(self) -> None:
        for item in fields(self):
            object.__setattr__(self, item.name, plain(getattr(self, item.name)))
        for name, least in LEAST.items():
            if not isinstance(getattr(self, name), Integral):
                raise TypeError(f"Expected a whole number for {name}; got {getattr(self, name)!r}.")
            if getattr(self, name) < least:
                raise ValueError(f"Expected {name} >= {least}; got {getattr(self, name)}.")
        for name in ("epochs", "learning_rate", "weight_decay", "clip", "ema", "validation", "checkpoint_seconds"):
            if not isinstance(getattr(self, name), Real):
                raise TypeError(f"Expected a number for {name}; got {getattr(self, name)!r}.")
        for name in ("epochs", "learning_rate"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"Expected a finite {name} > 0; got {getattr(self, name)}.")
        if self.epochs > MOST_EPOCHS:
            raise ValueError(
                f"Expected epochs of at most {MOST_EPOCHS:g}; got {self.epochs:g}, which no training ends. patience "
                "stops it when it no longer gains."
            )
        for name in ("clip", "validation", "checkpoint_seconds"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"Expected {name} >= 0; got {getattr(self, name)}.")
        if not 0 <= self.weight_decay * self.learning_rate < 1:
            raise ValueError(
                f"Expected weight_decay from 0 to below 1 / learning_rate = {1 / self.learning_rate:g}; got "
                f"{self.weight_decay}. 0.05 is usual."
            )
        if self.validation >= 1 and self.validation != self.validation // 1:
            raise ValueError(
                f"Expected a share below 1 or a whole number of observations as validation; got {self.validation}."
            )
        if not 0 <= self.ema < 1:
            raise ValueError(f"Expected ema in [0, 1); got {self.ema}. 0.999 averages over about 1000 steps.")
        if not isinstance(self.betas, tuple) or not all(isinstance(beta, Real) for beta in self.betas):
            raise TypeError(f"Expected two numbers for betas; got {self.betas!r}. (0.9, 0.999) is usual.")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"Expected two betas in [0, 1); got {self.betas}. (0.9, 0.999) is usual.")
        if self.threads > MOST_THREADS:
            raise ValueError(
                f"Expected threads of at most {MOST_THREADS}; got {self.threads}. 0 finds out how many pay."
            )
        if not isinstance(self.device, str):
            raise TypeError(f"Expected a device by its name, such as 'cpu'; got {self.device!r}.")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"Expected {name} among {', '.join(choices)}; got {getattr(self, name)!r}.")

    def updated(self, changes: dict[str, Any]) -> Training:
        """A copy with some settings changed.

        Args:
            changes: new values by the setting's name.

        Returns:
            The copy.

        Raises:
            TypeError: for a setting that does not exist.

        Example:
            >>> Training().updated({"epochs": 3}).epochs
            3
        """
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                short = [each for each in known if "".join(part[0] for part in each.split("_")) == name]  # lr
                close = short or difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {close[0]!r}?" if close else ""
                raise TypeError(f"Expected a training setting among {', '.join(known)}; got {name!r}.{hint}")
        return replace(self, **changes)


def _require_betas(betas: object) -> None:
    if not isinstance(betas, tuple) or not all(isinstance(beta, Real) for beta in betas):
        raise TypeError(f"Expected two numbers for betas; got {betas!r}. (0.9, 0.999) is usual.")
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"Expected two betas in [0, 1); got {betas}. (0.9, 0.999) is usual.")


class TrainingChanges(TypedDict, total=False):
    """Single settings of a training by name, as :func:`tightbound.fit` takes them: those of :class:`Training`.

    ``validation`` is none of them, as ``fit`` takes observations for it as well. An editor and a type checker read here
    which settings ``fit`` has, and of which type.

    Example:
        >>> changes: TrainingChanges = {"epochs": 3, "batch_size": 64}
        >>> Training().updated(dict(changes)).epochs
        3
    """

    epochs: float
    batch_size: int
    micro_batch: int
    learning_rate: float
    schedule: Literal["cosine", "constant"]
    warmup_steps: int
    betas: tuple[float, float]
    weight_decay: float
    clip: float
    ema: float
    patience: int
    precision: Literal["auto", "float32", "bfloat16"]
    compile: Literal["auto", "always", "never"]
    device: str
    threads: int
    log_every: int
    checkpoint_seconds: float


def plain(value: Any) -> Any:
    """A setting as Python's own value, which every generator, checkpoint and JSON file takes.

    Args:
        value: a number of NumPy's or of any other library, a tensor of one number, a torch device, a list of such; what
            is none of these is given back as it is.

    Example:
        >>> import numpy as np
        >>> plain(np.int64(3)), plain([np.float32(0.5), 1])
        (3, (0.5, 1))
    """
    if isinstance(value, list | tuple):
        return tuple(map(plain, value))
    if isinstance(value, str | bool):
        return value
    if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):
        value = value.item()
    if type(value).__module__ == "torch" and type(value).__name__ == "device":
        return str(value)
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def seed_after(seed: int, place: int) -> int:
    """The seed that many after another, from 0 again behind the largest.

    Args:
        seed: the first.
        place: how many after it.

    Example:
        >>> seed_after(3, 2), seed_after(LARGEST_SEED, 1)
        (5, 0)
    """
    return (int(seed) + place) % (LARGEST_SEED + 1)


def require_seed(seed: object) -> int:
    """Refuse a seed that not every generator takes.

    Args:
        seed: what was given.

    Returns:
        It as Python's own number.

    Raises:
        TypeError: for anything but a whole number.
        ValueError: for one outside the range.

    Example:
        >>> require_seed(-1)
        Traceback (most recent call last):
        ...
        ValueError: Expected a seed from 0 to 2⁶³ − 1; got -1. 0 will do.
    """
    seed = plain(seed)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"Expected a whole number as seed; got {seed!r}. 0 will do.")
    if not 0 <= seed <= LARGEST_SEED:
        raise ValueError(f"Expected a seed from 0 to 2⁶³ − 1; got {seed}. 0 will do.")
    return seed
