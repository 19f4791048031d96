"""What can be said of the dimensions of a code where no factor is known: how far they depend on one another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tightbound.evaluate.estimates import Estimate, Judged, plain, row
from tightbound.evaluate.information import information
from tightbound.evaluate.observed import observed_as, some_of
from tightbound.evaluate.scores.labelled import alive_units
from tightbound.evaluate.scores.mutual import BINS, entropy, joint_counts
from tightbound.evaluate.units import units_of
from tightbound.model import Model
from tightbound.runtime import home, own_random_state
from tightbound.settings import require_seed


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Independence(Judged):
    r"""How far the dimensions of a code depend on one another.

    Args:
        dependence: mutual information of each pair of live units, nats, shape (U, U), 0 on its diagonal.
        chance: the largest among as many pairs of a unit with another observation's.
        total_correlation: of q(z) over its dimensions, over the observations at hand; None where it cannot be told.
        units: which units are alive.
        latent_dim: how many there are, L.
        observations: N.
        seed: of the draws.

    Example:
        >>> pairs = torch.tensor([[0.0, 0.2], [0.2, 0.0]])
        >>> made = Independence(
        ...     dependence=pairs, chance=0.01, total_correlation=Estimate(0.3, 0.02), units=(0, 3), latent_dim=5,
        ...     observations=1000, seed=0,
        ... )
        >>> made.strongest
        (0, 3)
    """

    dependence: Tensor
    chance: float
    total_correlation: Estimate | None
    units: tuple[int, ...]
    latent_dim: int
    observations: int
    seed: int

    @property
    def strongest(self) -> tuple[int, int] | None:
        """The two units that depend on one another most; None where fewer than two are alive."""
        if len(self.units) < 2:
            return None
        first, second = divmod(int(self.dependence.argmax()), len(self.units))
        return self.units[first], self.units[second]

    @property
    def table(self) -> str:
        """The numbers."""
        head = f"Dependence of {len(self.units)} live units of {self.latent_dim}; {self.observations} observations"
        lines = [f"{head}, seed {self.seed}", ""]
        lines.append(row("total correlation", self.total_correlation or "   not to be told", "nats, of q(z)"))
        if self.strongest is not None:
            first, second = self.strongest
            about = f"nats between z{first} and z{second}; {self.chance:.3f} by chance"
            lines.append(f"  {'strongest pair':<18}{float(self.dependence.max()):>12.3f}{'':13}{about}")
        return "\n".join(lines)

    @property
    def verdict(self) -> str:
        """What the numbers mean, and what they cannot."""
        limits = (
            "No factor is known, so no number here says whether a dimension stands for one: a code turned into any "
            "other direction explains the data as well (Locatello et al. 2019). What several seeds find alike is no "
            "accident: tightbound sweep ... --seeds 5. A few labels say more: tb.PairedVAE, tb.objectives.KnownFactors."
        )
        if self.strongest is None:
            alive = "no unit is alive" if not self.units else "one unit alone is alive"
            return f"There is nothing to depend on one another: {alive}.\n\n{limits}"
        first, second = self.strongest
        most = float(self.dependence.max())
        said = (
            f"No two units depend on one another by more than chance has, {self.chance:.3f} nats."
            if most <= self.chance
            else f"Units {first} and {second} depend on one another most: {most:.3f} nats."
        )
        if self.total_correlation is not None:
            said += f" All together share {self.total_correlation} nats."
        return f"{said}\n\n{limits}"

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words."""
        return {
            **plain({"total_correlation": self.total_correlation}),
            "dependence": self.dependence.tolist(), "chance": self.chance, "units": list(self.units),
            "latent_dim": self.latent_dim, "observations": self.observations, "seed": self.seed,
            "verdict": self.verdict,
        }  # fmt: skip


def independence(
    model: Model,
    data: Any,
    *,
    observations: int = 10_000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Independence:
    """How far the dimensions of a code depend on one another: what can be said without known factors.

    Of each observation one z is drawn. The mutual information of two units is that of a histogram of 20 × 20 cells,
    each row and column of as many draws, corrected after Miller and Madow. Units are alive that carry 0.01 nats on
    average; where the rate has no closed form in each dimension, those that move.

    Args:
        model: any.
        data: observations.
        observations: how many of them, taken at random; all where there are fewer.
        seed: of everything random.
        progress: called with how far it is, in observations, and their total.

    Returns:
        Dependence of each pair, and the total correlation.

    Raises:
        ValueError: for fewer than two observations; and as :func:`tightbound.evaluate.information`.

    References:
        Locatello et al.: Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations
        (2019), https://arxiv.org/abs/1811.12359.

    Example:
        >>> import tightbound as tb
        >>> _ = torch.manual_seed(0)
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> independence(model, torch.randn(500, 5)).units
        (0, 1)
    """
    seed = require_seed(seed)
    observed = observed_as(data)
    with own_random_state(home(model)[0], seed=seed):
        chosen = some_of(observed, observations)
    found = units_of(model, chosen, seed=seed)
    z = found.draws.double()
    (units,) = alive_units(z, found.alive).nonzero(as_tuple=True)
    order = torch.randperm(len(z), generator=torch.Generator().manual_seed(seed))
    return Independence(
        dependence=dependence_of(z[:, units], z[:, units]).fill_diagonal_(0),
        chance=float(dependence_of(z[:, units], z[order][:, units]).max()) if len(units) else 0.0,
        total_correlation=information(model, chosen, seed=seed, progress=progress).total_correlation,
        units=tuple(units.tolist()),
        latent_dim=z.shape[1],
        observations=len(chosen),
        seed=seed,
    )


def dependence_of(first: Tensor, second: Tensor) -> Tensor:
    """Mutual information of each column of one table with each of another, in nats.

    Args:
        first: shape (N, L).
        second: shape (N, M).

    Returns:
        Shape (L, M), corrected after Miller and Madow, at least 0.

    Example:
        >>> z = torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))
        >>> [round(float(each), 1) for each in dependence_of(z, z[:, :1]).flatten()]
        [3.0, 0.0]
    """
    ours, theirs = _ranked(first), _ranked(second)
    columns = []
    for column in theirs.T:
        joint = joint_counts(ours, column, BINS, BINS)
        both = entropy(joint.flatten(1), "miller-madow")
        apart = entropy(joint.sum(2), "miller-madow") + entropy(joint.sum(1), "miller-madow")
        columns.append((apart - both).clamp(min=0))
    return torch.stack(columns, 1) if columns else torch.zeros(first.shape[1], 0, dtype=torch.float64)


def _ranked(table: Tensor) -> Tensor:
    """Each column in 20 parts of equally many values."""
    return table.argsort(0).argsort(0) * BINS // len(table)
