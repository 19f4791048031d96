"""How alike two sets of points are: by their means and covariances, and by the balls that neighbours span."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tightbound.evaluate.estimates import Estimate

NEAREST = 5  # neighbours that a point's ball reaches to, k
GROUPS = 20  # that the points are left out in, a group at a time, for the error of a distance
SHARES = ("precision", "density", "recall", "coverage")


def frechet(first: Tensor, second: Tensor) -> float:
    r"""Fréchet distance of two normals that have the sets' means and covariances, squared.

    .. math:: |\mu_1 - \mu_2|^2 + \operatorname{tr}\left(\Sigma_1 + \Sigma_2
              - 2 (\Sigma_1^{1/2} \Sigma_2 \Sigma_1^{1/2})^{1/2}\right)

    The last trace is the sum of the singular values of :math:`R_1 R_2^\top`, where :math:`\Sigma = R^\top R` by a QR
    decomposition of the points, which squares nothing.

    Where both sets have one distribution it lies above 0 all the same, the more, the more dimensions and the fewer
    points there are.

    References:
        Dowson, Landau: The Fréchet Distance between Multivariate Normal Distributions (1982),
        https://doi.org/10.1016/0047-259X(82)90077-X.

    Args:
        first: points, shape (N, D), N at least 2.
        second: points, shape (M, D), M at least 2.

    Returns:
        The distance, at least 0; NaN where a number is not finite, or a square.

    Example:
        >>> line = torch.tensor([[-1.0], [0.0], [1.0]])
        >>> round(frechet(line, 3 * line + 4), 9)  # 4² + (3 − 1)²
        20.0
    """
    one, other = first.double(), second.double()
    apart, roots = (one.mean(0) - other.mean(0)).square().sum(), (_root(one), _root(other))
    whole = float(apart + roots[0].square().sum() + roots[1].square().sum())
    if not math.isfinite(whole):
        return math.nan
    return max(whole - 2 * float(torch.linalg.svdvals(roots[0] @ roots[1].T).sum()), 0.0)


def _root(points: Tensor) -> Tensor:
    """R, whose square is the covariance; NaN where that is not finite."""
    away = (points - points.mean(0)) / math.sqrt(len(points) - 1)
    if not away.square().sum().isfinite():
        return away[:1] * torch.nan
    return torch.linalg.qr(away, mode="r").R


def frechet_beside(points: Tensor, reference: Tensor, data: Tensor) -> tuple[Estimate, Estimate, Estimate]:
    """Fréchet distance of two sets from a third one, as shares of its variance, and the first less the second.

    Errors are jackknife's, of so many groups of each set. Where both distances are 0 but for chance they are about
    twice too large.

    Args:
        points: shape (N, D).
        reference: shape (N, D).
        data: shape (N, D). Where all of them are equal, distances are given as they are.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> near, far, difference = frechet_beside(torch.randn(90, 2), 9 + torch.randn(90, 2), torch.randn(90, 2))
        >>> near.value < 0.1, far.value > 50, difference.value < -50
        (True, True, True)
    """
    index = torch.arange(len(data))

    def of(kept: Tensor) -> Tensor:
        own = data[kept].double()
        variance = float((own - own.mean(0)).square().sum()) / (len(own) - 1) or 1.0
        ours, theirs = (frechet(each[kept], own) / variance for each in (points, reference))
        return torch.tensor([ours, theirs, ours - theirs], dtype=torch.float64)

    groups = min(GROUPS, len(data))
    without = torch.stack([of(index[index % groups != group]) for group in range(groups)])
    errors = ((groups - 1) * without.var(0, correction=0)).sqrt()
    ours, theirs, difference = map(Estimate, of(index).tolist(), errors.tolist())
    return ours, theirs, difference


def distances(first: Tensor, second: Tensor) -> Tensor:
    """Of all pairs, shape (N, M), float64: 0 of equal points, infinite where a number is not finite.

    Args:
        first: points, shape (N, D).
        second: points, shape (M, D).

    Example:
        >>> distances(torch.tensor([[0.0], [torch.nan]]), torch.tensor([[3.0]]))
        tensor([[3.],
                [inf]], dtype=torch.float64)
    """
    # Products of matrices would be quicker, and would not give 0 for points that are equal.
    found = torch.cdist(first.double(), second.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return found.nan_to_num(nan=torch.inf, posinf=torch.inf)


def radii(points: Tensor) -> Tensor:
    """How far each point's k nearest others reach, shape (N,): the ball that it spans.

    Args:
        points: shape (N, D), N above k.

    Example:
        >>> radii(torch.arange(7.0)[:, None])
        tensor([5., 4., 3., 3., 3., 4., 5.], dtype=torch.float64)
    """
    return distances(points, points).kthvalue(NEAREST + 1, dim=1).values  # the first of them is the point itself


@dataclass(frozen=True, eq=False)
class Share:
    """A mean over pairs of points, as each point's part in it.

    Args:
        value: the mean.
        points: part of each point of one set, shape (N,).
        data: part of each point of the other set, shape (M,).
    """

    value: float
    points: Tensor
    data: Tensor

    @property
    def estimate(self) -> Estimate:
        """With the error that both sets' spread gives: rather too large than too small."""
        return Estimate(self.value, math.sqrt(_noise(self.points) + _noise(self.data)))

    def less(self, other: Share) -> Estimate:
        """The difference from another set's share, whose other set is the same one.

        Args:
            other: what is subtracted.
        """
        noise = _noise(self.points) + _noise(other.points) + _noise(self.data - other.data)
        return Estimate(self.value - other.value, math.sqrt(noise))


def shares(points: Tensor, data: Tensor) -> dict[str, Share]:
    r"""Precision, density, recall and coverage of points, beside data.

    A point *spans* a ball that reaches to its k = 5 nearest others, edge included. *Precision* is the share of points
    that lie in a ball of the data; *density* how many of them a point lies in, over k: about 1 where both sets have one
    distribution, and not swayed by a single odd observation. *Recall* is the share of data that lie in a ball of the
    points; *coverage* the share of data whose own ball holds a point.

    Errors are of means over observations on either side. A ball holds others in only by itself where it is the only one
    that does, so that is its part in a share.

    References:
        Kynkäänniemi, Karras, Laine, Lehtinen, Aila: Improved Precision and Recall Metric for Assessing Generative
        Models (2019), https://arxiv.org/abs/1904.06991; Naeem, Oh, Uh, Choi, Yoo: Reliable Fidelity and Diversity
        Metrics for Generative Models (2020), https://arxiv.org/abs/2002.09797.

    Args:
        points: shape (N, D), N above k.
        data: shape (M, D), M above k.

    Example:
        >>> line = torch.arange(8.0)[:, None]
        >>> {name: round(each.value, 3) for name, each in shares(line[:6], line).items()}
        {'precision': 1.0, 'density': 1.367, 'recall': 1.0, 'coverage': 1.0}
    """
    apart = distances(points, data)
    finite = apart.isfinite()  # points that are no numbers span balls without end, and lie in none
    inside, around = finite & (apart <= radii(data)), finite & (apart <= radii(points)[:, None])
    every = {
        "precision": (inside.any(1), _only(inside, 1)),
        "density": (inside.double().sum(1) / NEAREST, inside.double().sum(0) / NEAREST),
        "recall": (_only(around, 0), around.any(0)),
        "coverage": (_only(inside, 0), inside.any(0)),
    }
    found = {}
    for name, (ours, theirs) in every.items():
        first, second = ours.double(), theirs.double()
        found[name] = Share(float((first if name in ("precision", "density") else second).mean()), first, second)
    return found


def _only(held: Tensor, along: int) -> Tensor:
    """How many each ball holds that no other one does; balls lie along that axis."""
    return (held & (held.sum(along, keepdim=True) == 1)).sum(1 - along)


def _noise(parts: Tensor) -> float:
    return float(parts.var()) / len(parts)
