"""Where a distribution has any probability at all, and what to do with values that lie elsewhere."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution, Independent, constraints
from torch.distributions.constraints import Constraint

SMALL = 127  # whole numbers above it, and up to 255, look like 8-bit pixels
HAIR = 0.1  # values that lie less than that below 0 are no pixels between −1 and 1


class GreyLevels(Constraint):
    """The numbers 0, 1/(L−1), …, 1.

    Args:
        levels: how many, L.
    """

    is_discrete = True

    def __init__(self, levels: int) -> None:
        self.steps = levels - 1
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        level = value * self.steps
        return (level >= -0.01) & (level <= self.steps + 0.01) & ((level - level.round()).abs() < 0.01)

    def __repr__(self) -> str:
        return f"GreyLevels(0, 1/{self.steps}, …, 1)"


def support_of(distribution: Distribution) -> Constraint | None:
    """The support of a distribution, or None where the distribution does not say.

    Args:
        distribution: any.

    Returns:
        The constraint that its values satisfy.

    Example:
        >>> import torch
        >>> from torch.distributions import Poisson
        >>> support_of(Poisson(torch.ones(3)))
        IntegerGreaterThan(lower_bound=0)
    """
    try:
        return distribution.support
    except NotImplementedError:
        return None


def first_outside(support: Constraint, x: Tensor) -> int | None:
    """The first observation with a value outside the support, or None where there is none.

    Args:
        support: as :func:`support_of` gives it.
        x: observations, shape (B, \\*shape).

    Returns:
        Its index.

    Example:
        >>> import torch
        >>> first_outside(constraints.boolean, torch.tensor([[0.0], [0.5]]))
        1
    """
    inside = support.check(x)
    inside = inside.reshape(len(x), -1).all(1)
    return None if bool(inside.all()) else int(inside.logical_not().nonzero()[0, 0])


def require_support(distribution: Distribution, x: Tensor, *, likelihood: str) -> None:
    """Look at every value of ``x`` once.

    Args:
        distribution: of observations, as the likelihood gives it.
        x: observations, shape (B, \\*shape).
        likelihood: its name, for the error.

    Raises:
        ValueError: for values outside the distribution's support.

    Example:
        >>> import torch
        >>> from torch.distributions import Bernoulli
        >>> require_support(Bernoulli(torch.full((3,), 0.5)), torch.ones(2, 3), likelihood="Bernoulli")
    """
    support = support_of(distribution)
    index = None if support is None else first_outside(support, x)
    if support is not None and index is not None:
        raise outside(support, likelihood, x, where=f"observation {index}")


def outside(support: Constraint, likelihood: str, x: Tensor, *, where: str) -> ValueError:
    """The error that says which values lie outside the support, and what to do about it.

    Args:
        support: of the likelihood.
        likelihood: its name.
        x: observations among which some lie outside.
        where: the place of the first of them, in words.

    Returns:
        The error, to be raised.

    Example:
        >>> import torch
        >>> str(outside(constraints.boolean, "Bernoulli", torch.tensor([[0.5]]), where="observation 3 of faces"))[:90]
        'Expected values in the support of the Bernoulli likelihood; got the value 0.5, neither 0 n'
    """
    binary = element_of(support) is constraints.boolean
    got = f"values between {x.min().item():.4g} and {x.max().item():.4g}"
    if binary:
        got = f"the value {x[(x != 0) & (x != 1)][0].item():.4g}, neither 0 nor 1"
    return ValueError(
        f"Expected values in the support of the {likelihood} likelihood; got {got}, first in {where}. "
        f"{_remedy(support, x)}"
    )


def element_of(support: Constraint) -> Constraint:
    """The constraint on one number of an observation."""
    while hasattr(support, "base_constraint"):
        support = support.base_constraint
    return support


def _remedy(support: Constraint, x: Tensor) -> str:
    element, low, high = element_of(support), x.min().item(), x.max().item()
    whole = bool((x == x.round()).all())
    eight_bits = whole and low >= 0 and SMALL < high <= 255
    if element is constraints.boolean and low >= 0 and high <= 1:
        return (
            "Binarise grey data (tb.load_data(...).binarised()), take a density on [0, 1] such as "
            "ContinuousBernoulli, or take UnnormalisedBernoulli, whose numbers are no likelihood."
        )
    if element is constraints.boolean and whole and len(x.unique()) == 2:
        return f"If there are these two values alone, write them as 0 and 1: (x == {high:g}) * 1.0."
    if element is constraints.boolean and eight_bits:
        return (
            "Divide by 255, if these are 8-bit pixels, and take a density on [0, 1] such as ContinuousBernoulli; for "
            "Bernoulli binarise them as well: tb.data.load(x / 255).binarised()."
        )
    if element is constraints.boolean and whole and low >= 0 and high <= SMALL:
        return (
            f"Binarise levels of grey up to {high:g} as tb.data.load(x / {high:g}).binarised(); take Poisson for "
            "counts and Categorical for codes."
        )
    if element in (constraints.boolean, constraints.unit_interval):
        if -1 <= low < -HAIR and high <= 1:
            binarise = " (for Bernoulli tb.data.load((x + 1) / 2).binarised())" * (element is constraints.boolean)
            return f"Take (x + 1) / 2 of pixels that lie between −1 and 1{binarise}, or Gaussian."
        return "Divide by the largest value there can be (8-bit pixels: 255), or take Gaussian for data without bounds."
    if isinstance(element, GreyLevels):
        return _to_levels(element.steps, whole=whole and low >= 0, high=high)
    if _were_pixels(x) and element is constraints.nonnegative_integer:
        return "8-bit values are read as levels of grey over 255: store counts as int64, torch.as_tensor(x).long()."
    return "Rescale the data as in training, or take a likelihood made for such values."


def _to_levels(steps: int, *, whole: bool, high: float) -> str:
    if whole and high <= steps:
        stored = "" if steps < 255 else ", or store 8-bit pixels as uint8"
        return f"Divide by the highest level there is, x / {steps} where there are {steps + 1} levels{stored}."
    return (
        f"Take levels of grey 0, 1/{steps}, …, 1 (of others say so: DiscretizedLogistic(levels=...)), or for real "
        "numbers ContinuousBernoulli between 0 and 1, and Gaussian elsewhere."
    )


def _were_pixels(x: Tensor) -> bool:
    """Whether values look like whole ones up to 255 that were divided by 255."""
    return bool(((x >= 0) & (x <= 1) & ((255 * x - (255 * x).round()).abs() < 0.01)).all())


def name_of(distribution: Distribution) -> str:
    """What the distribution of one element is called.

    Args:
        distribution: any, wrapped in ``Independent`` or not.

    Returns:
        The name of its class.

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> name_of(Independent(Normal(torch.zeros(3), torch.ones(3)), 1))
        'Normal'
    """
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return type(distribution).__name__
