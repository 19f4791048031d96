"""What data decide in a recipe: the names that it leaves open, and what a model's shape depends on."""

from __future__ import annotations

import dataclasses

import torch

from tightbound.data import Data, DataSummary, Observations, is_image
from tightbound.data.few import UNKNOWN, with_unknown
from tightbound.data.summary import first_unlike
from tightbound.data.transforms import Compose, Flip, Shift, Transform
from tightbound.runs import registry
from tightbound.runs.pieces import LIKELIHOODS, POSTERIORS, row
from tightbound.runs.recipe import DataRecipe, ModelRecipe, Recipe
from tightbound.runs.rows import LikelihoodRow

LARGEST_MLP_SIDE = 32
LARGEST_WIDE_SIDE = 48  # above it 16 channels reach as many nats in half of the time (benchmarks/images.py)
MOST_LEVELS = 2**16
EIGHT_BITS = (127, 255)  # counts whose largest lies between them look like pixels


def resolve(recipe: Recipe, facts: DataSummary) -> Recipe:
    """The recipe with every "auto" of the model replaced.

    Args:
        recipe: any.
        facts: a summary of the training data.

    Returns:
        A recipe that names its network, its channels and its likelihood.

    Raises:
        ValueError: for convolutions on data that are no images.

    Example:
        >>> from tightbound.data import Observations, summarise
        >>> resolve(Recipe(), summarise(Observations(torch.randn(9, 5)))).model.network
        'mlp'
    """
    model = recipe.model
    image = len(facts.shape) == 3
    if model.network == "auto":
        large = is_image(facts.shape) and max(facts.shape[1:]) > LARGEST_MLP_SIDE
        model = dataclasses.replace(model, network="conv" if large else "mlp")
    if model.network in ("conv", "resnet") and not image:
        raise ValueError(
            f"Expected images (channels, height, width) for network={model.network!r}; got observations of shape "
            f"{tuple(facts.shape)}. Take network='mlp'."
        )
    if model.channels == "auto":
        large = image and model.network != "mlp" and max(facts.shape[1:]) > LARGEST_WIDE_SIDE
        model = dataclasses.replace(model, channels=16 if large else 32)
    if model.likelihood == "auto":
        model = dataclasses.replace(model, likelihood=registry.suited(facts.nature))
    model = dataclasses.replace(model, prior=model.prior_by_name())
    return dataclasses.replace(recipe, model=model)


def prepared(recipe: Recipe, data: Data, facts: DataSummary, unseen: DataSummary) -> Data:
    """The data as the model wants them: grey values binarised where its likelihood is one of binary data, and labels
    that a file calls -1, or has no word for, not known where the class is a latent.

    Args:
        recipe: resolved.
        data: as they were loaded.
        facts: a summary of the training data.
        unseen: the same of the test data.

    Example:
        >>> from tightbound.data import load, summarise
        >>> from tightbound.runs.recipe import ModelRecipe
        >>> digits = load("digits")
        >>> facts = summarise(digits.train)
        >>> recipe = Recipe(model=ModelRecipe(likelihood="bernoulli"))
        >>> prepared(recipe, digits, facts, facts).train.binarise
        True
    """
    if model_has_latent_class(recipe.model):
        data = dataclasses.replace(data, train=with_unknown(data.train), test=with_unknown(data.test))
    binarises = row(LIKELIHOODS, recipe.model.likelihood, "model.likelihood").binarises
    return data.binarised() if binarises and {facts.kind, unseen.kind} != {"binary"} else data


def levels_of(likelihood: str, facts: DataSummary, unseen: DataSummary, *, test: Observations | None = None) -> int:
    """How many values an element takes, in training and test set together; 0 where the likelihood does not care.

    Args:
        likelihood: its name in the registry.
        facts: a summary of the training data.
        unseen: the same of the test data.
        test: the test data, where an error is to name a row.

    Raises:
        ValueError: for data of a kind that the likelihood does not describe.

    Example:
        >>> from tightbound.data import load, summarise
        >>> facts = summarise(load("digits").train)
        >>> levels_of("discretized-logistic", facts, facts), levels_of("bernoulli", facts, facts)
        (17, 0)
    """
    wanted = row(LIKELIHOODS, likelihood, "model.likelihood")
    _require_like_training(wanted, facts, unseen, test)
    levels = 0
    if wanted.counts == "grey":
        levels = round(facts.scale) + 1
    if wanted.counts == "classes":
        levels = round(max(facts.high, unseen.high) / facts.scale) + 1
    for part, name in ((facts, "training set"), (unseen, "test set")):
        fractions = wanted.counts == "grey" and "float" in part.dtype
        if part.kind not in wanted.kinds or fractions or levels > MOST_LEVELS:
            odd = None if test is None or part is facts else first_unlike(test, facts)
            raise ValueError(_undescribed(wanted, part, name if odd is None else f"{name}, first at row {odd}"))
    return levels


def _require_like_training(
    wanted: LikelihoodRow, facts: DataSummary, unseen: DataSummary, test: Observations | None
) -> None:
    """Refuse a test set that the likelihood describes, and of which training says nothing."""
    expected = ""
    described = unseen.kind in wanted.kinds and facts.kind in wanted.kinds
    if described and wanted.counts == "classes" and unseen.high > 2 * facts.high + 1:
        expected = f"codes in the test set that the training set has, 0 to {facts.high:g}"
    if wanted.binarises and facts.kind == "binary" and unseen.kind == "grey":
        expected = "a test set of zeros and ones, as the training set is"
    if expected:
        odd = "" if test is None else f", first at row {first_unlike(test, facts)}"
        raise ValueError(f"Expected {expected}; got {unseen.describe()}{odd}. Make both sets in the same way.")


def transform_of(recipe: DataRecipe, shape: tuple[int, ...]) -> Transform | None:
    """What training makes of each batch of images.

    Args:
        recipe: which says by how far they are shifted, and how they are flipped.
        shape: of one observation.

    Returns:
        The transform, or None where they stay as they are.

    Raises:
        ValueError: for observations that are no images, and for a shift as far as an image is wide or high.

    Example:
        >>> transform_of(DataRecipe(shift=2, flip="horizontal"), (1, 8, 8))
        Compose(transforms=(Shift(pixels=2), Flip(way='horizontal')))
    """
    if not recipe.augmented():
        return None
    if len(shape) != 3:
        raise ValueError(
            f"Expected images (channels, height, width) for data.shift and data.flip; got observations of shape "
            f"{shape}. Leave the two fields out."
        )
    if recipe.shift >= min(shape[1:]):
        raise ValueError(
            f"Expected data.shift below the {min(shape[1:])} pixels of an image's side; got {recipe.shift}. Take less."
        )
    shifts = (Shift(recipe.shift),) if recipe.shift else ()
    flips = (Flip(recipe.flip),) if recipe.flip != "none" else ()
    return Compose((*shifts, *flips))


def needs_float64(facts: DataSummary) -> bool:
    """Whether float32 has too few digits for the data, or cannot hold them at all, be they constant.

    Args:
        facts: a summary of them.

    Example:
        >>> from tightbound.data import summarise
        >>> needs_float64(summarise(Observations(torch.full((9, 1), 1e39, dtype=torch.float64))))
        True
    """
    return facts.wide or max(-facts.low, facts.high) > torch.finfo(torch.float32).max


def model_has_latent_class(model: ModelRecipe) -> bool:
    """Whether a class is part of the latent, so that labels need not be known.

    Args:
        model: as a recipe has it.

    Example:
        >>> from tightbound.runs.recipe import ModelRecipe
        >>> model_has_latent_class(ModelRecipe())
        False
    """
    return row(POSTERIORS, model.posterior, "model.posterior").latents == "class first"


def conditions_of(model: ModelRecipe, data: Data) -> tuple[int, int]:
    """How many classes and how many covariates a condition has, or a latent class.

    Args:
        model: resolved.
        data: training and test set.

    Returns:
        Classes of the label, and columns of the factors; 0 where they are no condition.

    Raises:
        ValueError: for data without what the condition is made of, or labels below 0; a latent class need not be known
            of all training observations.

    Example:
        >>> from tightbound.data import load
        >>> conditions_of(ModelRecipe(condition="label"), load("digits"))
        (10, 0)
    """
    parts, latent = (data.train, data.test), model_has_latent_class(model)
    if model.condition == "label" or latent:
        field = "model.posterior 'class-first'" if latent else "model.condition 'label'"
        labels = [part.label(torch.arange(len(part))) for part in parts]
        least = min((int(each.min()) for each in labels if each is not None), default=-1)
        if any(each is None for each in labels) or least < (UNKNOWN if latent else 0):
            got = "none" if any(each is None for each in labels) else f"{least}"
            raise ValueError(
                f"Expected labels from 0 for {field}; got {got} in {data.name}. Take data with labels, or another "
                f"{field.split()[0]}."
            )
        classes = max(2, len(data.train.label_names), 1 + max(int(each.max()) for each in labels if each is not None))
        if classes > MOST_LEVELS:
            raise ValueError(
                f"Expected at most {MOST_LEVELS} classes for {field}; got labels up to {classes - 1} in {data.name}. "
                "Number them anew: numpy.unique(y, return_inverse=True)[1]."
            )
        return classes, 0
    if model.condition == "factors":
        if any(part.factors is None for part in parts):
            raise ValueError(
                f"Expected factors for model.condition 'factors'; got none in {data.name}. Give them in a .npz file "
                "as the array factors, or take model.condition 'none'."
            )
        return 0, data.train.factors.shape[1]  # type: ignore[union-attr]
    return 0, 0


def _undescribed(wanted: LikelihoodRow, facts: DataSummary, where: str) -> str:
    most = f", {MOST_LEVELS} different ones at most," if wanted.counts else ""
    remedy = f" {wanted.remedy}" if wanted.remedy else ""
    if "grey" in wanted.kinds and facts.kind == "counts" and EIGHT_BITS[0] < facts.high <= EIGHT_BITS[1]:
        divide = "" if wanted.counts else ", or divide them by 255"
        remedy += f" If these are 8-bit pixels, store them as uint8{divide}."
    suited = registry.suited(facts.nature)
    other = (
        f"Look at those rows, or take {suited!r}"
        if where.startswith("test")
        else f"For these data 'auto' takes {suited!r}"
    )
    return (
        f"Expected {wanted.wants}{most} for model.likelihood {wanted.name!r}; got {facts.describe()}, in the {where}. "
        f"{other}.{remedy}"
    )


def reason(recipe: Recipe, facts: DataSummary) -> str:
    """How the likelihood was chosen, in words.

    Args:
        recipe: as it was before it was resolved.
        facts: a summary of the training data.
    """
    return facts.because if recipe.model.likelihood == "auto" else "named in the recipe"
