"""Whether held-out observations are what the model predicts: beside replicas of their own, and beside what it makes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from tightbound import bounds
from tightbound.autoencoder import VAE
from tightbound.batch import Batch
from tightbound.draws import Draws
from tightbound.evaluate.estimates import Estimate, Judged, number, plain, row
from tightbound.evaluate.noise import own_numbers, proposed, seeds_of
from tightbound.evaluate.observed import (
    blocks,
    draw_of,
    observed_as,
    require_normalised,
    require_several,
    require_simulating,
    require_two,
    rows_at_once,
    simulated,
    some_of,
)
from tightbound.evaluate.ranks import kolmogorov_smirnov, placed, share_below
from tightbound.model import Model
from tightbound.runtime import evaluation_mode, home, own_random_state
from tightbound.settings import require_seed

DRAWS = 99  # of z for each observation, and replicas
BLOCK = 256  # observations at a time
SURE = 3.0  # standard errors from which on a share is called off …
OFF = 0.05  # … if it is off by so much as well
LOW = 0.05  # p-value below which an observation is unlike its replicas; 1 − LOW likewise
UNEVEN = 1.63  # Kolmogorov–Smirnov distance that one pair of equal distributions in a hundred has, scaled …
APART = 0.1  # … if it is so large unscaled as well
WIDTH = 30  # of the column of names


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Predictive(Judged):
    r"""Held-out observations beside replicas of their own, and beside observations that the model makes.

    A *posterior predictive p-value* near 0 means that the observation is less likely than nearly all of its replicas
    under the codes that it has itself: p(x | z) is too sure of itself, for a Gaussian :math:`\sigma` too small, or the
    codes miss something. Near 1 it is more likely than they are: p(x | z) is less sure than it may be. The value uses
    an observation twice, for its codes and for the comparison; so under a right model the values are *not* uniform but
    gather around ½, and an extreme one weighs more than it says (Gelman 2013). Their mean is ½ even so, where model
    and posterior are right: x and a replica are then exchangeable given z.

    A *rank* is the share of observations made by the model that have a lower ELBO. Ranks are uniform if the held-out
    observations come from the model, whatever the posterior. Near 0, an observation is unusual to the model; where
    most lie near 1, the model spreads over what the data do not show, or its posterior knows the data better.

    Args:
        p_values: posterior predictive p-value of each held-out observation, shape (N,).
        simulated_p_values: the same of observations that the model made, shape (M,).
        elbo: of each held-out observation, shape (N,), in nats.
        simulated_elbo: of observations that the model made, shape (M,), in nats.
        draws: replicas of each, K.
        seed: of everything random.

    References:
        Gelman, Meng, Stern: Posterior Predictive Assessment of Model Fitness via Realized Discrepancies (1996),
        https://www3.stat.sinica.edu.tw/statistica/oldpdf/A6n41.pdf; Gelman: Two simple examples for understanding
        posterior p-values whose distributions are far from uniform (2013), https://doi.org/10.1214/13-EJS854.

    Example:
        >>> half = torch.full((20,), 0.5)
        >>> Predictive(
        ...     p_values=half, simulated_p_values=half, elbo=half, simulated_elbo=half, draws=99, seed=0
        ... ).fine
        True
    """

    p_values: Tensor
    simulated_p_values: Tensor
    elbo: Tensor
    simulated_elbo: Tensor
    draws: int
    seed: int

    @property
    def realised(self) -> Estimate:
        """The mean p-value of held-out observations: how often a replica is the less likely one."""
        return Estimate.of(self.p_values)

    @property
    def simulated(self) -> Estimate:
        """The same of observations that the model made: ½ where q(z | x) is the true posterior."""
        return Estimate.of(self.simulated_p_values)

    @property
    def difference(self) -> Estimate:
        """The first less the second: what a misfit of q(z | x), if it is alike on both, does not explain."""
        ours, theirs = self.realised, self.simulated
        return Estimate(ours.value - theirs.value, math.hypot(ours.se, theirs.se))

    @property
    def ranks(self) -> Tensor:
        """The share of observations made by the model that have a lower ELBO, for each held-out one, shape (N,)."""
        return placed(self.elbo, self.simulated_elbo)

    @property
    def above(self) -> Estimate:
        """The mean rank: how often a held-out observation has a higher ELBO than one that the model made."""
        return share_below(self.simulated_elbo, self.elbo)

    @property
    def uneven(self) -> float:
        r"""Kolmogorov–Smirnov distance of both sets of ELBOs, times :math:`\sqrt{NM / (N + M)}`.

        Above 1.63 for one pair of equal distributions in a hundred.
        """
        n, m = len(self.elbo), len(self.simulated_elbo)
        return kolmogorov_smirnov(self.elbo, self.simulated_elbo) * math.sqrt(n * m / (n + m))

    @property
    def fine(self) -> bool:
        """Whether nothing of the model is off by more than chance and a little; what q(z | x) does is not counted."""
        return self._noise == 0 and not (_off(self.above, 0.5) or self._spread_otherwise)

    @property
    def _noise(self) -> int:
        """−1 where replicas are too much alike, 1 where they are too different, 0 where neither can be told.

        The mean has to be off one half, and to be off that of the model's own data towards the same side.
        """
        if not (_off(self.realised, 0.5) and _off(self.difference, 0.0)):
            return 0
        side = 1 if self.realised.value > 0.5 else -1
        return side if side * self.difference.value > 0 else 0

    @property
    def _spread_otherwise(self) -> bool:
        return self.uneven > UNEVEN and kolmogorov_smirnov(self.elbo, self.simulated_elbo) > APART

    @property
    def verdict(self) -> str:
        """Whether held-out observations are like their replicas, and like what the model makes."""
        return f"{self._on_replicas()} {self._on_prior()}"

    def _on_replicas(self) -> str:
        said = (
            f"Held-out observations are more likely than replicas of them in {self.realised.value:.1%} ± "
            f"{self.realised.se:.1%} of the draws, observations that the model made in {self.simulated.value:.1%} ± "
            f"{self.simulated.se:.1%}"
        )
        if self._noise < 0:
            low = float((self.p_values < LOW).double().mean())
            return (
                f"{said}: p(x|z) is too sure of itself, for a Gaussian its σ too small, or the codes miss what is new "
                f"in them. {low:.1%} are less likely than {1 - LOW:.0%} of their replicas."
            )
        if self._noise > 0:
            high = float((self.p_values > 1 - LOW).double().mean())
            return (
                f"{said}: p(x|z) is less sure than it may be, for a Gaussian its σ too large. {high:.1%} are more "
                f"likely than {1 - LOW:.0%} of their replicas."
            )
        if _off(self.simulated, 0.5):
            return f"{said}. The second is off one half, which is the fault of q(z|x): no noise of p(x|z) explains it."
        return f"{said}: no sign that the noise of p(x|z) is off."

    def _on_prior(self) -> str:
        said = f"{self.above.value:.1%} ± {self.above.se:.1%} of what the model makes has a lower ELBO than they"
        if _off(self.above, 0.5) and self.above.value < 0.5:
            return f"Only {said} have: they are unusual to the model."
        if _off(self.above, 0.5):
            return f"{said} have: the model spreads over things that the data do not show."
        if self._spread_otherwise:
            return f"{said} have: one half within chance, but their ELBOs are spread otherwise."
        return f"{said} have: no sign that they are unlike what it makes."

    def to_json(self) -> dict[str, Any]:
        """All but the values by observation, as plain numbers and words."""
        estimates = ("realised", "simulated", "difference", "above")
        return {
            **plain({name: getattr(self, name) for name in estimates}),
            "elbo": number(float(self.elbo.mean())),
            "simulated_elbo": number(float(self.simulated_elbo.mean())),
            "low": float((self.p_values < LOW).double().mean()),
            "high": float((self.p_values > 1 - LOW).double().mean()),
            "uneven": self.uneven,
            "observations": len(self.p_values),
            "made": len(self.simulated_p_values),
            "draws": self.draws,
            "seed": self.seed,
            "verdict": self.verdict,
        }

    @property
    def table(self) -> str:
        """The numbers, without the verdict."""
        head = (
            f"Predictive: {len(self.p_values)} held-out and {len(self.simulated_elbo)} made observations, {self.draws} "
            f"replicas each, seed {self.seed}"
        )
        low, high = ((each.double().mean() * 100) for each in (self.p_values < LOW, self.p_values > 1 - LOW))
        lines: list[tuple[str, Estimate | str, str]] = [
            ("more likely than replicas", self.realised, "share, held-out: mean p-value"),
            ("the same, made by the model", self.simulated, "½ where q(z|x) is the true posterior"),
            ("p-values below 0.05, above 0.95", f"{low:>7.1f} %, {high:.1f} %", ""),
            ("more likely than what is made", self.above, "share, by their ELBOs; ½ where the model is right"),
        ]
        return "\n".join([head, *(row(*line, width=WIDTH) for line in lines)])


def predictive(
    model: Model,
    data: Any,
    *,
    observations: int = 500,
    draws: int = DRAWS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Predictive:
    r"""Posterior and prior predictive checks: is a held-out x among what the model says is to come?

    Both ask log-densities, which every likelihood has, whatever x is made of.

    *Beside its replicas.* Codes are drawn, :math:`z_k \sim q(z \mid x)`, and of each code a replica,
    :math:`\tilde x_k \sim p(x \mid z_k)`. The discrepancy is :math:`-\log p(x \mid z)`, realised at the same z:

    .. math:: p = \frac{1}{K} \sum_k \left[\log p(\tilde x_k \mid z_k) < \log p(x \mid z_k)\right]

    with half for ties. Its mean over observations is ½ under a right model and a right posterior. It is taken of
    observations that the model made as well, which shows what q alone does to it.

    *Beside what the model makes*, from z of the prior: the rank of its ELBO among theirs. An ELBO of K draws is as good
    a statistic here as log p(x): the ranks are uniform for any, if x comes from the model.

    Args:
        model: a ``VAE``, which can simulate; of any latents.
        data: observations that it has not seen, or anything that ``tb.data.observations`` takes.
        observations: how many of them, taken at random, all where there are fewer; and how many the model makes.
        draws: of z for each observation, and replicas, K.
        seed: of everything random.
        progress: called with the observations done and their total.

    Returns:
        p-values, ranks, and what they mean.

    Raises:
        TypeError: for a model that does not say how to simulate.
        ValueError: for fewer than two observations or draws, and for a likelihood that is none; and as ``evidence``.

    References:
        Gelman, Meng, Stern: Posterior Predictive Assessment of Model Fitness via Realized Discrepancies (1996),
        https://www3.stat.sinica.edu.tw/statistica/oldpdf/A6n41.pdf.

    Example:
        >>> import tightbound as tb
        >>> _ = torch.manual_seed(0)
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> own, far = model.sample(200), 3 * model.sample(200)
        >>> predictive(model, own, observations=200).fine, predictive(model, far).above.value < 0.1
        (True, True)
    """
    seed = require_seed(seed)
    require_several(observations, "observations")
    require_several(draws, "draws")
    able = require_simulating(model)
    require_normalised(model, "whose replicas can be told from data")
    observed, device = observed_as(data), home(model)[0]
    require_two(len(observed), observed.name)
    with evaluation_mode(model), own_random_state(device, seed=seed):
        chosen = some_of(observed, observations)
        rows, total, done = rows_at_once(model, chosen), len(chosen) + observations, 0
        given: Iterator[tuple[Batch, bool]] = ((batch, False) for _, batch in blocks(model, chosen, BLOCK))
        made = ((batch, True) for batch, _ in simulated(able, observations, BLOCK))
        found: dict[bool, list[Tensor]] = {False: [], True: []}
        for batch, is_made in chain(given, made):
            found[is_made].append(_judged(able, batch, draws, seed=seed, rows=rows))
            done += batch.size
            if progress is not None:
                progress(done, total)
    (p_values, elbo), (simulated_p, simulated_elbo) = (torch.cat(found[kind], 1) for kind in (False, True))
    return Predictive(
        p_values=p_values,
        simulated_p_values=simulated_p,
        elbo=elbo,
        simulated_elbo=simulated_elbo,
        draws=draws,
        seed=seed,
    )


def _judged(model: VAE, batch: Batch, draws: int, *, seed: int, rows: int) -> Tensor:
    """p-value and ELBO of each observation, shape (2, B), float64; decoded one observation after the other."""
    seeds = seeds_of(batch, seed)
    z, log_q = proposed(model, batch, seeds, draws)
    found = []
    for index, own in enumerate(seeds):
        one, its_z = batch.rows(slice(index, index + 1)), z[:, index : index + 1]
        parts = []
        with own_numbers(own, "replicas", batch.x.device):
            for piece in its_z.split(rows):
                replicas = Batch(draw_of(model, piece)[:, 0].to(batch.x.dtype), checked=True)
                theirs, _ = model.log_joint(replicas, piece.transpose(0, 1))
                parts.append(torch.stack([*model.log_joint(one, piece), theirs.transpose(0, 1)]))
        log_px_z, log_pz, theirs = torch.cat(parts, 1).cpu().double()
        own_draws = Draws(its_z.cpu(), log_px_z, log_pz, log_q[:, index : index + 1].cpu().double())
        below = (theirs < log_px_z).double() + 0.5 * (theirs == log_px_z).double()
        found.append(torch.cat([below.mean(0), bounds.elbo(own_draws)]))
    return torch.stack(found, 1)


def _off(found: Estimate, expected: float) -> bool:
    return abs(found.value - expected) > max(SURE * found.se, OFF)
