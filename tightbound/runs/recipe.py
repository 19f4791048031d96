"""Recipes: everything a run is made of, as frozen dataclasses and as TOML, read strictly. No torch here."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from tightbound.settings import Training
from tightbound.runs.schema import read, to_table

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
        init: "torch" for its default law; "xavier" for Glorot's, and a last bias at the data's mean.
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
        gradient: "pathwise", or "stl" with less noise where the posterior fits, for kl="sampled" (elbo).
        warmup_steps: Steps over which beta (elbo) or the capacity rises from zero.
        nats: Free nats for each latent dimension (free-bits).
        capacity: Nats at which the rate is held (capacity).
        gamma: How strictly it is held there (capacity).
    """

    name: Literal["elbo", "iwae", "free-bits", "capacity"] = "elbo"
    beta: float = 1.0
    samples: int = 1
    kl: Literal["closed-form", "sampled"] = "closed-form"
    gradient: Literal["pathwise", "stl"] = "pathwise"
    warmup_steps: int = 0
    nats: float = 0.25
    capacity: float = 25.0
    gamma: float = 100.0

    USED = types.MappingProxyType(
        {
            "elbo": {"beta", "samples", "kl", "gradient", "warmup_steps"},
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

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"Expected a seed from 0 to 2⁶³ − 1; got {self.seed}.")
        if self.model.prior == "vamp" and self.model.posterior != "diagonal-normal":
            raise ValueError(
                f"Expected posterior='diagonal-normal' with prior='vamp'; got {self.model.posterior!r}, whose mixture "
                "has no closed form here."
            )
        standard = self.model.prior == "standard-normal"
        if self.objective.name == "free-bits" and not (standard and self.model.posterior == "diagonal-normal"):
            raise ValueError(
                "Expected prior='standard-normal' and posterior='diagonal-normal' with the objective 'free-bits', for "
                f"the KL of each dimension; got {self.model.prior!r} and {self.model.posterior!r}."
            )
        if self.objective.name in ("elbo", "capacity") and self.objective.kl == "closed-form" and not standard:
            raise ValueError(
                f"Expected kl='sampled' with prior={self.model.prior!r}; got kl='closed-form', which there is only for "
                "'standard-normal'. Set objective.kl."
            )

        if self.objective.gradient == "stl" and self.objective.kl == "closed-form":
            raise ValueError("Expected kl='sampled' with gradient='stl'; got kl='closed-form'. Set objective.kl.")

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
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Expected TOML in {origin}; got something else: {error}.") from None
    try:
        return from_table(table)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"In {origin}: {error}") from None


def from_file(path: Path) -> Recipe:
    """Read a recipe from a file; see :func:`from_toml`."""
    try:
        text = path.read_text(encoding="utf-8")
    except ValueError as error:
        raise ValueError(f"Expected TOML in {path}; got no text: {error}.") from None
    return from_toml(text, origin=str(path))


def from_table(table: dict[str, Any]) -> Recipe:
    """A recipe from plain values; see :func:`from_toml`."""
    return read(Recipe, table)


def shipped() -> list[str]:
    """Names of the recipes that come with the library.

    Example:
        >>> "digits" in shipped()
        True
    """
    folder = resources.files("tightbound.runs") / "recipes"
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
        text = (resources.files("tightbound.runs") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
        return from_toml(text, origin=f"the recipe {name!r}")
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        return from_file(path)
    close = difflib.get_close_matches(name, shipped(), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"Expected a recipe ({', '.join(shipped())}) or the path of a .toml file; got {name!r}.{hint}")
