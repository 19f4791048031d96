"""Where a distribution has any probability at all, and what to do with values that lie elsewhere."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Distribution, Independent, constraints
from torch.distributions.constraints import Constraint


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
    if element_of(support) is constraints.boolean and bool(((x >= 0) & (x <= 1)).all()):
        return (
            "Binarise grey data (tb.load_data(...).binarised()), take a density on [0, 1] such as "
            "ContinuousBernoulli, or take UnnormalisedBernoulli, whose numbers are no likelihood."
        )
    eight_bits = 1 < x.max() <= 255 and bool(((x >= 0) & (x == x.round())).all())
    if element_of(support) is constraints.boolean and eight_bits:
        return (
            "Divide by 255, if these are 8-bit pixels, and take a density on [0, 1] such as ContinuousBernoulli; for "
            "Bernoulli binarise them as well: tb.data.Observations(x / 255).binarised()."
        )
    if element_of(support) in (constraints.boolean, constraints.unit_interval):
        return "Divide by the largest value there can be (8-bit pixels: 255), or take Gaussian for data without bounds."
    return "Rescale the data as in training, or take a likelihood made for such values."


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
