"""Codes of classes as flat one-hot vectors, and every code that there is."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, constraints

from tightbound.distributions.class_first import ClassFirst
from tightbound.distributions.joint import Joint
from tightbound.distributions.top_down import TopDown
from tightbound.support import support_of

__all__ = ["OneHot", "Part", "at_least_two", "class_probabilities", "codes_of", "every_code", "one_hot", "parts_of"]

MOST_CODES = 4096  # that can be listed: a decoder scores each of them for each observation


class OneHot(Distribution):
    r"""V independent variables of C classes each, as one flat vector of V one-hot vectors: any decoder takes it.

    .. math:: \log P(z) = \sum_v \sum_c z_{vc} \log \mathrm{softmax}(\ell_v)_c

    Args:
        logits: :math:`\ell`, shape (\*batch, V, C); they need not be normalised.

    Example:
        >>> codes = OneHot(torch.tensor([[0.0, 9.0], [9.0, 0.0]]))
        >>> codes.event_shape, codes.mean.round()
        (torch.Size([4]), tensor([0., 1., 1., 0.]))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {"logits": constraints.independent(constraints.real, 2)}

    def __init__(self, logits: Tensor, *, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape[:-2], torch.Size([logits.shape[-2:].numel()]), validate_args=validate_args)

    @property
    def support(self) -> constraints.Constraint:
        return _FlatOneHot(self.logits.shape[-1])

    @property
    def log_probs(self) -> Tensor:
        r"""Log-probability of each class of each variable, shape (\*batch, V, C)."""
        return self.logits.log_softmax(-1)

    @property
    def mean(self) -> Tensor:
        """The probabilities, flat as a code is."""
        return self.logits.softmax(-1).flatten(-2)

    def expand(self, batch_shape: Any, _instance: Any = None) -> OneHot:
        logits = self.logits.expand(*batch_shape, *self.logits.shape[-2:])
        return OneHot(logits, validate_args=self._validate_args)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        return (value.unflatten(-1, self.logits.shape[-2:]) * self.log_probs).sum((-2, -1))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            logits = self.logits.expand(*torch.Size(sample_shape), *self.logits.shape)
            # The Gumbel-max trick: -log of an exponential is a Gumbel, and the largest of logits + Gumbels is a draw.
            gumbel = -torch.empty_like(logits).exponential_().log()
            return one_hot(logits + gumbel)


class _FlatOneHot(constraints.Constraint):
    """Flat vectors of one-hot vectors."""

    is_discrete = True
    event_dim = 1

    def __init__(self, classes: int) -> None:
        self.classes = classes
        super().__init__()

    def check(self, value: Tensor) -> Tensor:
        codes = value.unflatten(-1, (-1, self.classes))
        return (((codes == 0) | (codes == 1)).all(-1) & (codes.sum(-1) == 1)).all(-1)

    def __repr__(self) -> str:
        return f"OneHot(classes={self.classes})"


def at_least_two(classes: int) -> int:
    """The number of classes of a variable.

    Args:
        classes: how many.

    Returns:
        The same.

    Raises:
        ValueError: for fewer than two.

    Example:
        >>> at_least_two(3)
        3
    """
    if classes < 2:
        raise ValueError(f"Expected at least 2 classes; got {classes}.")
    return classes


def one_hot(scores: Tensor) -> Tensor:
    r"""One-hot vectors of the largest scores, flat.

    Args:
        scores: shape (\*batch, V, C).

    Returns:
        Shape (\*batch, V·C).

    Example:
        >>> one_hot(torch.tensor([[0.1, 0.9], [0.6, 0.4]]))
        tensor([0., 1., 1., 0.])
    """
    return F.one_hot(scores.argmax(-1), scores.shape[-1]).to(scores.dtype).flatten(-2)


def class_probabilities(distribution: Distribution) -> Tensor | None:
    r"""The probability of each class of each discrete variable of a latent vector, in their order.

    Args:
        distribution: any.

    Returns:
        Shape (\*batch, V, C), a bit having two classes, 0 and 1; zeros fill up a variable of fewer classes
        than others. None for a distribution that is not of codes in any part.

    Example:
        >>> class_probabilities(Independent(Bernoulli(torch.tensor([0.25, 1.0])), 1))
        tensor([[0.7500, 0.2500],
                [0.0000, 1.0000]])
    """
    if isinstance(distribution, Joint):
        found = [p for p in map(class_probabilities, distribution.parts) if p is not None]
        most = max((p.shape[-1] for p in found), default=0)
        return torch.cat([F.pad(p, (0, most - p.shape[-1])) for p in found], -2) if found else None
    if isinstance(distribution, ClassFirst):
        return class_probabilities(distribution.classes)
    if isinstance(distribution, OneHot):
        return distribution.logits.softmax(-1)
    if isinstance(distribution, Independent) and isinstance(distribution.base_dist, Bernoulli):
        p = distribution.base_dist.probs
        return torch.stack([1 - p, p], -1)
    return None


def codes_of(classes: Tensor, distribution: Distribution) -> Tensor:
    r"""Codes in the form in which a distribution has them.

    Args:
        classes: which class each variable has, shape (\*batch, V).
        distribution: of bits or one-hot vectors.

    Returns:
        Shape (\*batch, length).

    Example:
        >>> codes_of(torch.tensor([1, 0]), OneHot(torch.zeros(2, 3)))
        tensor([0., 1., 0., 1., 0., 0.])
    """
    if isinstance(distribution, OneHot):
        return F.one_hot(classes, distribution.logits.shape[-1]).to(distribution.logits.dtype).flatten(-2)
    return classes.to(distribution.mean.dtype)


def every_code(distribution: Distribution) -> Tensor:
    """All values that a discrete latent vector can take.

    Args:
        distribution: bits or one-hot vectors, or such parts side by side, of any batch shape.

    Returns:
        Shape (codes, length): each code once.

    Raises:
        TypeError: for a distribution whose values cannot be listed.
        ValueError: for more than 4096 of them.

    Example:
        >>> every_code(Independent(Bernoulli(logits=torch.zeros(2)), 1))
        tensor([[0., 0.],
                [0., 1.],
                [1., 0.],
                [1., 1.]])
    """
    if isinstance(distribution, Joint):
        return _side_by_side([every_code(part) for part in distribution.parts])
    p = None if isinstance(distribution, ClassFirst) else class_probabilities(distribution)
    if p is None:
        raise TypeError(
            f"Expected codes that can be listed, bits or classes; got a latent of {type(distribution).__name__}. Take "
            "a posterior of Bernoulli or Categorical variables, or another gradient."
        )
    variables, classes = p.shape[-2:]
    if variables * math.log(classes) > math.log(MOST_CODES) + 1e-9:
        raise ValueError(
            f"Expected at most {MOST_CODES} codes to list; got {variables} variables of {classes} classes, which make "
            f"{classes}^{variables}. Take fewer, or a gradient of draws such as tb.gradients.ScoreFunction()."
        )
    every = torch.cartesian_prod(*[torch.arange(classes, device=p.device)] * variables).view(-1, variables)
    return codes_of(every, distribution)


def _side_by_side(parts: list[Tensor]) -> Tensor:
    """Each combination of the codes of several parts."""
    counts = [len(codes) for codes in parts]
    total = math.prod(counts)
    if total > MOST_CODES:
        raise ValueError(
            f"Expected at most {MOST_CODES} codes to list; got parts of {' × '.join(map(str, counts))} codes, "
            f"{total} in all. Take fewer, or a gradient of draws such as tb.gradients.ScoreFunction()."
        )
    chosen = torch.cartesian_prod(*map(torch.arange, counts)).view(total, -1)
    return torch.cat([codes[chosen[:, i]] for i, codes in enumerate(parts)], -1)


class Part(NamedTuple):
    """What a part of a latent vector is.

    Attributes:
        length: How many elements of the vector it takes.
        variables: How many variables they are: V one-hot vectors are V variables, of C elements each.
        discrete: Whether they are bits or classes.
        support: Where its values lie; None where nobody knows.

    Example:
        >>> Part(length=12, variables=4, discrete=True).variables
        4
    """

    length: int
    variables: int
    discrete: bool
    support: constraints.Constraint | None = None


def parts_of(distribution: Distribution) -> tuple[Part, ...]:
    """What a latent vector is made of.

    Args:
        distribution: of latents.

    Returns:
        Its parts, in order; one, unless it is a :class:`Joint` or has layers.

    Example:
        >>> parts_of(OneHot(torch.zeros(4, 3)))
        (Part(length=12, variables=4, discrete=True, support=...),)
    """
    if isinstance(distribution, Joint):
        return tuple(part for each in distribution.parts for part in parts_of(each))
    if isinstance(distribution, ClassFirst):
        return (*parts_of(distribution.every), *parts_of(distribution.classes))
    if isinstance(distribution, TopDown):
        below = (
            Part(size, size, discrete=False, support=constraints.real_vector) for size in distribution.lengths[:-1]
        )
        return (*below, *parts_of(distribution.top))
    length, classes = distribution.event_shape.numel(), class_probabilities(distribution)
    variables = length if classes is None else classes.shape[-2]
    return (Part(length, variables, classes is not None, support_of(distribution)),)
