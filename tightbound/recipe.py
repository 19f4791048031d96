"""Recipes: everything a run is made of, as frozen dataclasses and as TOML, read strictly. No torch here."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
import typing
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from tightbound.settings import Training

LikelihoodName = Literal[
    "auto",
    "bernoulli",
    "grey-bernoulli",
    "continuous-bernoulli",
    "gaussian",
    "laplace",
    "categorical",
    "discretized-logistic",
    "poisson",
    "negative-binomial",
]


@dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """Where observations come from.

    Attributes:
        source: "digits", "mnist", or a path: .npy, .npz, a folder of images.
        size: Side in pixels that images of a folder are resized and cropped to; needed where they differ.
        test_fraction: What is split off as the test set where the source has none of its own.
    """

    source: str = "digits"
    size: int | None = None
    test_fraction: float = 0.1


@dataclass(frozen=True, kw_only=True)
class ModelRecipe:
    """Prior, posterior, likelihood and their networks.

    Attributes:
        latent_dim: Length of the latent vector z.
        network: "mlp", "conv", "resnet", or "auto": conv for images of more than 32 pixels a side, else mlp.
        hidden: Widths of the MLP's hidden layers, from x to z; the decoder has them in reverse.
        channels: Channels of the first convolutional stage.
        activation: "relu", "tanh", "silu", "gelu", "elu" or "softplus".
        init: "torch" for its default law, "xavier" for Glorot's; the last bias starts at the data's mean under the latter.
        posterior: q(z|x).
        prior: p(z).
        components: Components of a "mixture" or "vamp" prior.
        likelihood: p(x|z). "bernoulli" binarises grey data; "grey-bernoulli" takes it as it is and is no likelihood;
            "auto" follows from the data.
        scale: σ of a gaussian, laplace or discretized-logistic likelihood: a number, "learned" or "per-element".
    """

    latent_dim: int = 32
    network: Literal["auto", "mlp", "conv", "resnet"] = "auto"
    hidden: tuple[int, ...] = (500, 500)
    channels: int = 32
    activation: str = "silu"
    init: Literal["torch", "xavier"] = "xavier"
    posterior: Literal["diagonal-normal", "full-normal"] = "diagonal-normal"
    prior: Literal["standard-normal", "mixture", "vamp"] = "standard-normal"
    components: int = 100
    likelihood: LikelihoodName = "auto"
    scale: float | Literal["learned", "per-element"] = "learned"

    def __post_init__(self) -> None:
        for name in ("latent_dim", "channels", "components"):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected {name} >= 1; got {getattr(self, name)}.")
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"Expected hidden widths >= 1; got {self.hidden}.")


@dataclass(frozen=True, kw_only=True)
class ObjectiveRecipe:
    """What training makes small.

    Attributes:
        name: "elbo", "iwae", "free-bits" or "capacity".
        beta: Weight of the rate (elbo).
        samples: Draws of z for each observation; K of the importance-weighted bound.
        kl: The rate in "closed-form", or "sampled" from the draws (elbo, capacity).
        warmup_steps: Steps over which beta (elbo) or the capacity rises from zero.
        nats: Free nats for each latent dimension (free-bits).
        capacity: Nats at which the rate is held (capacity).
        gamma: How strictly it is held there (capacity).
    """

    name: Literal["elbo", "iwae", "free-bits", "capacity"] = "elbo"
    beta: float = 1.0
    samples: int = 1
    kl: Literal["closed-form", "sampled"] = "closed-form"
    warmup_steps: int = 0
    nats: float = 0.25
    capacity: float = 25.0
    gamma: float = 100.0

    USED = types.MappingProxyType(
        {
            "elbo": {"beta", "samples", "kl", "warmup_steps"},
            "iwae": {"samples"},
            "free-bits": {"nats", "samples"},
            "capacity": {"capacity", "gamma", "samples", "kl", "warmup_steps"},
        }
    )

    def __post_init__(self) -> None:
        used = self.USED.get(self.name, set())
        for item in dataclasses.fields(self):
            if item.name not in ("name", *used) and getattr(self, item.name) != item.default:
                raise ValueError(
                    f"Expected only {', '.join(sorted(used))} with the objective {self.name!r}; got {item.name}="
                    f"{getattr(self, item.name)}, which it does not use."
                )


@dataclass(frozen=True, kw_only=True)
class EvaluateRecipe:
    """How a trained run is evaluated on its test set.

    Attributes:
        samples: Draws of z for each observation, K of the tightest importance-weighted bound.
    """

    samples: int = 500

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"Expected samples >= 1; got {self.samples}.")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole run.

    Attributes:
        name: What the run folder is called after.
        about: One sentence on what it is for.
        reaches: The number it must reach, and how that was measured.
        seed: Of weights, noise, batches and the validation split.
        data: Where observations come from.
        model: Prior, posterior, likelihood, networks.
        objective: What is made small.
        train: How.
        evaluate: How its evidence is estimated afterwards.
    """

    name: str = "recipe"
    about: str = ""
    reaches: str = ""
    seed: int = 0
    data: DataRecipe = field(default_factory=DataRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    objective: ObjectiveRecipe = field(default_factory=ObjectiveRecipe)
    train: Training = field(default_factory=Training)
    evaluate: EvaluateRecipe = field(default_factory=EvaluateRecipe)

    def updated(self, changes: dict[str, Any]) -> Recipe:
        """A copy with fields changed by dotted name.

        Raises:
            ValueError: for a field that does not exist or a value it cannot hold.

        Example:
            >>> Recipe().updated({"objective.beta": 4, "seed": 3}).objective.beta
            4.0
        """
        table = to_table(self)
        for dotted, value in changes.items():
            *sections, last = dotted.split(".")
            inner = table
            for section in sections:
                inner = inner.setdefault(section, {})
                if not isinstance(inner, dict):
                    raise ValueError(f"Expected a section in {dotted!r}; got the field {section!r}.")
            inner[last] = value
        return from_table(table)


def to_table(recipe: Any) -> dict[str, Any]:
    """A recipe as plain values, every field written out; what is None is left out, as TOML has no word for it."""
    table: dict[str, Any] = {}
    for item in dataclasses.fields(recipe):
        value = getattr(recipe, item.name)
        if dataclasses.is_dataclass(value):
            table[item.name] = to_table(value)
        elif value is not None:
            table[item.name] = list(value) if isinstance(value, tuple) else value
    return table


def to_toml(recipe: Recipe) -> str:
    """A recipe as TOML.

    Example:
        >>> from_toml(to_toml(Recipe(seed=3))) == Recipe(seed=3)
        True
    """
    import tomli_w

    return tomli_w.dumps(to_table(recipe))


def from_toml(text: str, *, origin: str = "the recipe") -> Recipe:
    """Read a recipe, strictly.

    Raises:
        ValueError: for text that is no TOML, an unknown key, or a value of another type, naming all three.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"Expected TOML in {origin}; got something else: {error}.") from None
    try:
        return from_table(table)
    except ValueError as error:
        raise ValueError(f"In {origin}: {error}") from None


def from_table(table: dict[str, Any]) -> Recipe:
    """A recipe from plain values; see :func:`from_toml`."""
    return typing.cast(Recipe, _read(Recipe, table, ""))


def _read(cls: Any, table: dict[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(cls)
    known = [item.name for item in dataclasses.fields(cls)]
    values = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {where + close[0]!r}?" if close else f" There are: {', '.join(known)}."
            raise ValueError(f"Expected a known field; got {where + key!r}.{hint}")
        values[name] = _value(hints[name], value, where + name)
    return cls(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ValueError(f"Expected a section [{where}]; got {value!r}.")
        return _read(hint, value, where + ".")
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    for option in options:
        found, result = _match(option, value)
        if found:
            return result
    words = " or ".join(_words(option) for option in options if option is not type(None))
    close = difflib.get_close_matches(str(value), [w for o in options for w in _choices(o)], n=1)
    raise ValueError(f"Expected {words} for {where}; got {value!r}." + (f" Did you mean {close[0]!r}?" if close else ""))


def _match(hint: Any, value: Any) -> tuple[bool, Any]:
    origin = typing.get_origin(hint)
    if origin is tuple:
        inner = typing.get_args(hint)[0]
        if not isinstance(value, (list, tuple)):
            return False, None
        matched = [_match(inner, item) for item in value]
        return all(found for found, _ in matched), tuple(item for _, item in matched)
    if origin is Literal:
        return value in typing.get_args(hint), value
    if isinstance(value, bool):
        return hint is bool, value
    if hint is float and isinstance(value, (int, float)):
        return True, float(value)
    return isinstance(value, hint), value


def _choices(hint: Any) -> tuple[str, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


def _words(hint: Any) -> str:
    if choices := _choices(hint):
        return " or ".join(repr(choice) for choice in choices)
    if typing.get_origin(hint) is tuple:
        return f"a list of {_words(typing.get_args(hint)[0])}s"
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}.get(hint, str(hint))


def shipped() -> list[str]:
    """Names of the recipes that come with the library.

    Example:
        >>> "digits" in shipped()
        True
    """
    folder = resources.files("tightbound") / "recipes"
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))


def load(name: str) -> Recipe:
    """A shipped recipe by name, or one of your own by path.

    Raises:
        ValueError: for an unknown name, or a file that cannot be read as a recipe.

    Example:
        >>> load("digits").data.source
        'digits'
    """
    if name in shipped():
        text = (resources.files("tightbound") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
        return from_toml(text, origin=f"the recipe {name!r}")
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        return from_toml(path.read_text(encoding="utf-8"), origin=name)
    close = difflib.get_close_matches(name, shipped(), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"Expected a recipe ({', '.join(shipped())}) or the path of a .toml file; got {name!r}.{hint}")
