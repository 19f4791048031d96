"""Recipes: everything a run is made of, as frozen dataclasses and as TOML, read strictly. No torch here."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from tightbound.files import require_file
from tightbound.paths import require_path
from tightbound.runs.fitting import require_fitting
from tightbound.runs.no_recipe import no_recipe
from tightbound.runs.pieces import FORMER, LIKELIHOODS, POSTERIORS, PRIORS, row
from tightbound.runs.registry import OBJECTIVES
from tightbound.runs.rows import ObjectiveRecipe
from tightbound.runs.schema import Names, Variants, read, to_table
from tightbound.settings import Training, require_seed

__all__ = [
    "DataRecipe", "EvaluateRecipe", "ModelRecipe", "Recipe", "from_file", "from_table", "from_toml", "load", "shipped",
    "to_toml",
]  # fmt: skip

MOST_LAYERS = 1000
SCALES = (1e-15, 1e15)  # beyond which 1/σ² and the sums of its squares leave float32
MOST_BYTES = 10**6  # of a recipe's text: a thousand times what one needs
MOST_PARTS = 20  # of a dotted key, for which the reader's time rises as the square
LONG = "'tightbound recipes digits' prints one as it should be."
_PART = r"""(?:(?<![\w-])[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*"""
_LONG_KEY = re.compile(rf"(?:{_PART}\.[ \t]*){{{MOST_PARTS}}}")
GIVEN = "given in Python"  # the source of data that were made in Python, which no folder keeps
NOT_KEPT = (
    "Expected the data themselves, for they were made in Python and no folder keeps them; got none. In Python give "
    "them along: run.data(x), tb.report(run, x), tb.compare([…], data=x). For a command write them to a file, "
    "np.save('x.npy', x), and add --data x.npy."
)


@dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """Where observations come from.

    Attributes:
        source: "digits", "mnist", "sprites" and its kin, or a path: .npy, .npz, .h5, a folder of images; "given in
            Python" for data made there.
        size: Side in pixels of sprites, and that images of a folder are resized and cropped to; needed where they
            differ.
        labels: Labels that training knows, of each class equally many. By default all that there are.
        factors: Training observations whose factors it knows, taken at random. By default all.
        test_fraction: What is split off as the test set where the source has none of its own.
        shift: Pixels by which training's images are moved at most, anew in each step; validation and evaluation see
            them as they are.
        flip: Along which axis training's images are turned over, each with probability 1/2 in each step: "none",
            "horizontal", "vertical" or "both".

    Example:
        >>> DataRecipe(source="photos", size=64).test_fraction
        0.1
    """

    source: str = "digits"
    size: int | None = None
    labels: int | None = None
    factors: int | None = None
    test_fraction: float = 0.1
    shift: int = 0
    flip: Literal["none", "horizontal", "vertical", "both"] = "none"

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise ValueError(f"Expected shift >= 0 pixels; got {self.shift}.")

    def augmented(self) -> str:
        """What training makes of its images, in words; empty where it takes them as they are."""
        ways = {"none": [], "both": ["flipped along both axes"]}.get(self.flip, [f"flipped {self.flip}ly"])
        moved = [f"shifted by up to {self.shift} pixel{'s'[: self.shift > 1]}"] if self.shift else []
        return " and ".join([*moved, *ways])


@dataclass(frozen=True, kw_only=True)
class ModelRecipe:
    """Prior, posterior, likelihood and their networks.

    Attributes:
        latent_dim: How many latent variables z has; where it has layers, the one nearest to x.
        layers: How many each layer above that has, where the posterior is top-down: "[16]" for two layers in all.
        classes: Classes of each of them, where they are categorical, and of each of the codes.
        codes: Variables of classes that a joint posterior has beside latent_dim real numbers.
        network: "mlp", "conv", "resnet", or "auto": conv for images of more than 32 pixels a side, else mlp.
        hidden: Widths of the MLP's hidden layers, from x to z; the decoder has them in reverse.
        channels: Channels of the first convolutional stage; "auto": 32, or 16 above 48 pixels a side.
        activation: "relu", "tanh", "silu", "gelu", "elu" or "softplus".
        init: "torch" for its default law; "xavier" for Glorot's, and a last bias at the data's mean.
        posterior: q(z|x).
        prior: p(z); "auto" takes the partner of the posterior.
        components: How many components the prior has.
        flow: How a flow bends, of the posterior or the prior: "autoregressive" shifts and scales each number by those
            before it, "spline" sends it along a monotone spline.
        transforms: How many such steps a flow is made of.
        learned_prior: Whether the parameters of the prior are learned, where it is one of the posterior's family; those
            of a mixture and of a vamp prior always are.
        likelihood: p(x|z); "auto" follows from the data.
        scale: σ of the likelihood: a number, "learned" or "per-element".
        condition: What encoder and decoder are told of each observation besides: "none", its "label", or its "factors".

    Example:
        >>> ModelRecipe(latent_dim=8, hidden=(200, 100)).likelihood
        'auto'
    """

    latent_dim: int = 32
    layers: tuple[int, ...] = (16,)
    classes: int = 10
    codes: int = 1
    network: Literal["auto", "mlp", "conv", "resnet"] = "auto"
    hidden: tuple[int, ...] = (500, 500)
    channels: int | Literal["auto"] = "auto"
    activation: str = "silu"
    init: Literal["torch", "xavier"] = "xavier"
    posterior: Annotated[str, Names(POSTERIORS)] = next(iter(POSTERIORS))
    prior: Annotated[str, Names(PRIORS, extra=("auto",))] = "auto"
    components: int = 100
    flow: Literal["autoregressive", "spline"] = "autoregressive"
    transforms: int = 2
    learned_prior: bool = False
    likelihood: Annotated[str, Names(LIKELIHOODS, extra=("auto",), former=FORMER)] = "auto"
    scale: float | Literal["learned", "per-element"] = "learned"
    condition: Literal["none", "label", "factors"] = "none"

    def __post_init__(self) -> None:
        for name in ("latent_dim", "classes", "codes", "channels", "components", "transforms"):
            if getattr(self, name) != "auto" and getattr(self, name) < (least := 1 + (name == "classes")):
                raise ValueError(f"Expected {name} >= {least}; got {getattr(self, name)}.")
        counts = {"hidden layers": len(self.hidden), "layers": len(self.layers), "transforms": self.transforms}
        for name, count in counts.items():
            if count > MOST_LAYERS:
                raise ValueError(f"Expected at most {MOST_LAYERS} {name}; got {count}. Take fewer, and wider ones.")
        for name, sizes in (("hidden widths", self.hidden), ("sizes of layers", self.layers)):
            if any(size < 1 for size in sizes):
                raise ValueError(f"Expected {name} >= 1; got {sizes}.")
        if isinstance(self.scale, float) and not SCALES[0] <= self.scale <= SCALES[1]:
            raise ValueError(
                f"Expected a positive scale as model.scale, from {SCALES[0]:g} to {SCALES[1]:g} in the data's unit; "
                f"got {self.scale:g}. 'learned' finds one."
            )

    def prior_by_name(self) -> str:
        """The prior's name; that of the posterior's partner where it is "auto"."""
        partner = row(POSTERIORS, self.posterior, "model.posterior").partner
        return partner if self.prior == "auto" else self.prior


@dataclass(frozen=True, kw_only=True)
class EvaluateRecipe:
    """How a trained run is evaluated on its test set.

    Attributes:
        samples: Draws of z from q(z|x) for each observation, K of the tightest importance-weighted bound.
        proposal: What log p(x) is estimated with. auto: refined where latents are real numbers, enumerated where all
            codes can be listed, else posterior, which is q(z|x) and the bound at K samples.
        error: Standard error that the draws of a refined proposal may leave in each observation's log p(x), in nats.

    Example:
        >>> EvaluateRecipe(samples=5000, proposal="posterior")
        EvaluateRecipe(samples=5000, proposal='posterior', error=0.05)
    """

    samples: int = 500
    proposal: Literal["auto", "refined", "enumerated", "posterior"] = "auto"
    error: float = 0.05

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"Expected samples >= 1; got {self.samples}.")
        if not 0 < self.error < math.inf:
            raise ValueError(f"Expected error > 0 nats; got {self.error}.")


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

    Example:
        >>> Recipe(name="mine").updated({"objective.beta": 4.0}).objective.beta
        4.0
    """

    name: str = "recipe"
    about: str = ""
    reaches: str = ""
    seed: int = 0
    data: DataRecipe = field(default_factory=DataRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    objective: Annotated[ObjectiveRecipe, Variants(OBJECTIVES, what="objective")] = field(
        default_factory=next(iter(OBJECTIVES.values()))
    )
    train: Training = field(default_factory=Training)
    evaluate: EvaluateRecipe = field(default_factory=EvaluateRecipe)

    def __post_init__(self) -> None:
        require_seed(self.seed)
        require_fitting(self.model, self.objective)

    def updated(self, changes: Mapping[str, Any]) -> Recipe:
        """A copy with fields changed by dotted name.

        Args:
            changes: new values by dotted name. Where "objective.name" changes, the other fields of the objective that
                are not named start from that objective's own defaults.

        Returns:
            The changed recipe.

        Raises:
            ValueError: for a field that does not exist or a value it cannot hold.

        Example:
            >>> changed = Recipe().updated({"objective.beta": 4, "seed": 3})
            >>> changed.objective.beta, changed.updated({"objective.name": "iwae"}).objective.samples
            (4.0, 5)
        """
        table = to_table(self)
        if changes.get("objective.name", self.objective.name) != self.objective.name:
            table["objective"] = {}
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

    Args:
        recipe: any.

    Returns:
        Text that :func:`from_toml` reads back.

    Example:
        >>> from_toml(to_toml(Recipe(seed=3))) == Recipe(seed=3)
        True
    """
    import tomli_w

    return tomli_w.dumps(to_table(recipe))


def from_toml(
    text: str, *, origin: str = "the recipe", migrate: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> Recipe:
    """Read a recipe, strictly.

    Args:
        text: TOML.
        origin: where it comes from, for messages.
        migrate: brings the table of an older version up to date; does nothing by default.

    Returns:
        The recipe.

    Raises:
        ValueError: for text that is no TOML, an unknown key, or a value of another type, naming all three.

    Example:
        >>> from_toml("seed = 3").seed
        3
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f"Expected a recipe of at most {MOST_BYTES:,} letters in {origin}; got {len(text):,}. {LONG}")
    if found := _LONG_KEY.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise ValueError(f"Expected keys of at most {MOST_PARTS} parts in {origin}; got more in line {line}. {LONG}")
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Expected TOML in {origin}; got something else: {error}.{_on_backslashes(text)}") from None
    try:
        return from_table(migrate(table))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"In {origin}: {error}") from None


def _on_backslashes(text: str) -> str:
    """What to do about a path of Windows between double quotes, whose backslashes TOML reads as something else."""
    if not re.search(r'"[^"\n]*\\[^"\n]*"', text):
        return ""
    return " A path with backslashes goes between single quotes, 'C:\\photos', or with /: \"C:/photos\"."


def from_file(path: Path, *, migrate: Callable[[dict[str, Any]], dict[str, Any]] = dict) -> Recipe:
    """Read a recipe from a file.

    Args:
        path: a TOML file.
        migrate: as of :func:`from_toml`.

    Returns:
        The recipe.

    Raises:
        ValueError: for a file that is no text, and as :func:`from_toml` does.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "mine.toml")
        ...     _ = path.write_text("seed = 3")
        ...     from_file(path).seed
        3
    """
    require_file(path)
    if (size := path.stat().st_size) > MOST_BYTES:
        raise ValueError(f"Expected a recipe of at most {MOST_BYTES:,} bytes; got {size:,} in {path}. {LONG}")
    try:
        text = path.read_text(encoding="utf-8")
    except ValueError as error:
        raise ValueError(f"Expected TOML in {path}; got no text: {error}.") from None
    return from_toml(text, origin=str(path), migrate=migrate)


def from_table(table: Mapping[str, Any]) -> Recipe:
    """A recipe from plain values.

    Args:
        table: values by name, sections as tables of their own.

    Returns:
        The recipe.

    Raises:
        ValueError: for an unknown key or a value of another type.

    Example:
        >>> from_table({"train": {"epochs": 3}}).train.epochs
        3.0
    """
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

    Args:
        name: of a shipped recipe, or the path of a .toml file.

    Returns:
        The recipe.

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
    require_path(path)
    if path.suffix == ".toml" and path.exists() and not path.is_dir():
        return from_file(path)
    raise no_recipe(name, shipped())
