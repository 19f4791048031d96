"""What the code tells about an observation: mutual information as an interval, and where the rest of the rate goes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from tightbound.autoencoder import VAE
from tightbound.batch import Batch
from tightbound.data.mapped import require_memory
from tightbound.divergences import pairwise_log_prob
from tightbound.evaluate.estimates import Estimate, Judged, plain, row
from tightbound.evaluate.noise import proposed, seeds_of
from tightbound.evaluate.observed import ENCODED, blocks, observed_as, require_several
from tightbound.model import Model
from tightbound.runtime import evaluation_mode, home, own_random_state
from tightbound.settings import require_seed

AT_ONCE = 2**21  # numbers of latents compared at a time
NEAR_LOG_N = 0.1  # nats below log N, where a draw knows no other observation than its own
MOST_DRAWS = 10**7  # each is held against every observation
SATURATED = 0.2  # share of such draws from which on what depends on them is refused
WIDTH = 22  # of the column of names
SHARES = (0.05, 0.2, 0.5, 0.8, 0.95)  # of the other observations' posteriors in a mixture with the prior


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Information(Judged):
    r"""What the code tells, in nats per observation.

    .. math:: \text{rate} = I_q(x; z) + \mathrm{KL}(q(z) \,\|\, p(z)), \qquad
              \mathrm{KL}(q(z) \,\|\, p(z)) = \mathrm{TC}(q(z)) + \sum_d \mathrm{KL}(q(z_d) \,\|\, p(z_d))

    with :math:`q(z)` the mean of q(z | x) over observations.

    Args:
        rate: of the same draws: more than that the code cannot tell.
        lower: on the mutual information: that with the N observations at hand. It is never above log N.
        upper: on the mutual information: the least of the rate and of what the other observations' posteriors allow,
            alone and mixed with the prior.
        marginal_kl: KL(q(z) ‖ p(z)) over the N observations; None where it cannot be told from them.
        total_correlation: how far q(z) is from a product over its dimensions; None where it cannot be told, or where
            prior or posterior do not factorise.
        dimension_wise: the sum of KL(q(z_d) ‖ p(z_d)); None where prior or posterior do not factorise.
        saturated: share of draws that know no other observation than their own, within 0.1 nats of log N.
        observations: N.
        draws: how many draws the means are of, M; each observation has equally many.
        seed: of the draws.

    References:
        Hoffman, Johnson: ELBO surgery (2016),
        http://approximateinference.org/accepted/HoffmanJohnson2016.pdf; Chen et al.: Isolating Sources of
        Disentanglement in VAEs (2018), https://arxiv.org/abs/1802.04942; Poole et al.: On Variational Bounds of Mutual
        Information (2019), https://arxiv.org/abs/1905.06922.

    Example:
        >>> import torch, tightbound as tb
        >>> _ = torch.manual_seed(0)
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> made = tb.evaluate.information(model, torch.randn(300, 5), draws=100)
        >>> made.observations, made.draws, made.saturated < 0.2
        (300, 100, True)
    """

    rate: Estimate
    lower: Estimate
    upper: Estimate
    marginal_kl: Estimate | None
    total_correlation: Estimate | None
    dimension_wise: Estimate | None
    saturated: float
    observations: int
    draws: int
    seed: int

    @property
    def verdict(self) -> str:
        """What can be said, and what cannot."""
        most = math.log(self.observations)
        if self.saturated > SATURATED:
            return (
                f"The code tells at least {self.lower.value:.2f} nats about an observation, and at most "
                f"{self.upper.value:.2f}. {self.saturated:.0%} of the draws know no other observation than their own, "
                f"and the lower bound cannot pass log N = {most:.2f}: it says how many observations there are, not "
                "what the code tells. KL(q(z) ‖ p(z)) and the total correlation would be artefacts of N, and are not "
                "given."
            )
        ends = [f"{end.value:.2f}" for end in (self.lower, self.upper)]
        told = ends[0] if ends[0] == ends[1] else f"between {ends[0]} and {ends[1]}"
        said = f"The code tells {told} nats about an observation, of the {self.rate.value:.2f} that it costs."
        if self.marginal_kl is not None and self.marginal_kl.value > max(0.1, 0.1 * self.rate.value):
            said += (
                f" {self.marginal_kl.value:.2f} nats are paid for codes that stray from the prior as a whole: a "
                "learned prior could save them."
            )
        return said

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words; None where a number cannot be told."""
        others = ("saturated", "observations", "draws", "seed", "verdict")
        estimates = plain({name: getattr(self, name) for name in _NAMES})
        return {**estimates, **{name: getattr(self, name) for name in others}}

    @property
    def table(self) -> str:
        """The numbers, without the verdict."""
        head = f"Information: {self.observations} observations, {self.draws} draws, seed {self.seed}"
        rows = [
            row(title, getattr(self, name) or "   not to be told", note, width=WIDTH)
            for name, (title, note) in _NAMES.items()
        ]
        most = math.log(self.observations)
        rows.append(row("saturated", f"{self.saturated:>12.1%} of the draws, at log N = {most:.2f}", "", width=WIDTH))
        return "\n".join([head, *rows])


_NAMES = {
    "rate": ("rate", "E log q(z|x) − log p(z)"),
    "lower": ("information, at least", "with the observations at hand"),
    "upper": ("information, at most", "least of the rate and of mixtures"),
    "marginal_kl": ("KL(q(z) ‖ p(z))", "rate less information"),
    "total_correlation": ("total correlation", "of q(z) over its dimensions"),
    "dimension_wise": ("dimension-wise KL", "of q(z_d) from the prior"),
}


def information(
    model: Model,
    data: Any,
    *,
    draws: int = 2000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Information:
    r"""What the code tells about an observation, as an interval, and how far all codes together are from the prior.

    Every draw is compared with the posterior of *every* observation: an exact mixture, no estimate from mini-batches,
    whose constants differ from the true ones by tens of nats.

    Args:
        model: any; of codes as well as of real latents.
        data: observations, or anything that ``tb.data.observations`` takes.
        draws: how many at most, M: of as many observations as there are, and of each equally many. An error is over
            observations.
        seed: of the draws.
        progress: called with the observations compared and their total.

    Returns:
        Bounds on the mutual information, and the parts of the rate.

    Raises:
        ValueError: for fewer than two observations or draws, and more draws than 10⁷; and as ``evidence``.

    References:
        Hoffman, Johnson: ELBO surgery (2016), http://approximateinference.org/accepted/HoffmanJohnson2016.pdf.

    Example:
        >>> import tightbound as tb
        >>> _ = torch.manual_seed(0)
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> found = information(model, torch.randn(300, 5))
        >>> found.lower.value < found.upper.value, found.saturated
        (True, 0.0)
    """
    seed = require_seed(seed)
    require_several(draws, "draws")
    observed = observed_as(data)
    if len(observed) < 2:
        raise ValueError(f"Expected at least 2 observations to tell apart; got {len(observed)} in {observed.name}.")
    if draws > MOST_DRAWS:
        raise ValueError(f"Expected at most {MOST_DRAWS:,} draws; got {draws:,}. 2000 do for most models.")
    require_memory(8 * draws, of=f"draws={draws:,}", remedy="Take fewer.")
    with evaluation_mode(model), own_random_state(home(model)[0], seed=seed):
        chosen, each = torch.randperm(len(observed))[:draws].sort().values, max(1, draws // len(observed))
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        for start, batch in blocks(model, observed, ENCODED):
            part = batch.rows(chosen[(chosen >= start) & (chosen < start + batch.size)].to(batch.x.device) - start)
            if part.size:
                z, log_q = proposed(model, part, seeds_of(part, seed), each)
                log_pz = model.log_joint(part, z)[1]
                parts.append((_side_by_side(z), _side_by_side(log_q), _side_by_side(log_pz)))
        z, own, log_pz = (torch.cat(column) for column in zip(*parts, strict=True))
        prior = _prior_factors(model)
        seen = _Mixture(z, chosen.repeat_interleave(each), by_dimension=prior is not None)
        for start, batch in blocks(model, observed, ENCODED):
            seen.add(model, batch, start)
            if progress is not None:
                progress(start + batch.size, len(observed))
        of_prior = None if prior is None else prior.log_prob(z).flatten(1).cpu().double()
    return _report(_Drawn(own, log_pz, of_prior, each), seen, count=len(observed), seed=seed)


class _Mixture:
    """The mean of q(z | x) over observations at some draws, gathered a block of observations at a time.

    Args:
        z: the draws, shape (M, *latent).
        own: the index of the observation that each was drawn for, shape (M,).
        by_dimension: whether to gather each dimension by itself as well, where the posterior has such factors.
    """

    def __init__(self, z: Tensor, own: Tensor, *, by_dimension: bool) -> None:
        self.z, self.own, self.by_dimension = z, own, by_dimension
        self.others = torch.full((len(z),), -torch.inf, dtype=torch.float64)  # log of the sum over all but the own one
        self.all = self.others.clone()
        self.dimensions: Tensor | None = None  # the same over all, of each dimension, (M, L)

    def add(self, model: Model, batch: Batch, start: int) -> None:
        """Compare every draw with these observations, the first of which has the index ``start``."""
        batch = model.encoded(batch)
        step = max(1, AT_ONCE // (batch.size * self.z[0].numel()))
        for first in range(0, len(self.z), step):
            rows = slice(first, first + step)
            z = self.z[rows, None].expand(-1, batch.size, *self.z.shape[1:])
            log_q = model.log_posterior(batch, z).cpu().double()
            self.all[rows] = torch.logaddexp(self.all[rows], log_q.logsumexp(1))
            place = self.own[rows] - start
            inside = (place >= 0) & (place < batch.size)
            log_q[inside.nonzero()[:, 0], place[inside]] = -torch.inf
            self.others[rows] = torch.logaddexp(self.others[rows], log_q.logsumexp(1))
            if self.by_dimension and isinstance(batch.q, Independent):
                self._add_dimensions(
                    rows, pairwise_log_prob(batch.q, self.z[rows]).flatten(2).cpu().double().logsumexp(1)
                )

    def _add_dimensions(self, rows: slice, log_q: Tensor) -> None:
        if self.dimensions is None:
            self.dimensions = torch.full((len(self.z), log_q.shape[-1]), -torch.inf, dtype=torch.float64)
        self.dimensions[rows] = torch.logaddexp(self.dimensions[rows], log_q)


class _Drawn:
    """Log-densities of the draws, on the CPU, and means over them.

    Args:
        log_q: log q(z | x) at the own observation, shape (M,).
        log_pz: of the prior, shape (M,).
        of_prior: the prior of each dimension, shape (M, L), where it factorises.
        each: draws of one observation, which stand side by side.
    """

    def __init__(self, log_q: Tensor, log_pz: Tensor, of_prior: Tensor | None, each: int) -> None:
        self.log_q, self.log_pz = log_q.cpu().double(), log_pz.cpu().double()
        self.of_prior, self.each = of_prior, each

    def mean(self, values: Tensor) -> Estimate:
        """Draws of one observation are no independent evidence: its mean is one value."""
        return Estimate.of(self.by_observation(values))

    def by_observation(self, values: Tensor) -> Tensor:
        """Means over the draws of each observation: (…, M) to (…, observations)."""
        return values.unflatten(-1, (-1, self.each)).mean(-1)


def _side_by_side(values: Tensor) -> Tensor:
    """(K, B, …) to (B · K, …), the draws of one observation after each other."""
    return values.transpose(0, 1).flatten(0, 1)


def _report(drawn: _Drawn, seen: _Mixture, *, count: int, seed: int) -> Information:
    together, others = seen.all - math.log(count), seen.others - math.log(count - 1)
    told = drawn.log_q - together
    saturated = float((told > math.log(count) - NEAR_LOG_N).double().mean())
    known = saturated <= SATURATED
    wise = correlation = None
    if drawn.of_prior is not None and seen.dimensions is not None:
        single = seen.dimensions - math.log(count)
        wise = drawn.mean((single - drawn.of_prior).sum(1))
        correlation = drawn.mean(together - single.sum(1)) if known else None
    return Information(
        rate=drawn.mean(drawn.log_q - drawn.log_pz),
        lower=drawn.mean(told),
        upper=_upper(drawn, others),
        marginal_kl=drawn.mean(together - drawn.log_pz) if known else None,
        total_correlation=correlation,
        dimension_wise=wise,
        saturated=saturated,
        observations=count,
        draws=len(drawn.log_q),
        seed=seed,
    )


def _upper(drawn: _Drawn, others: Tensor) -> Estimate:
    """The least of E log q(z | x) − log r(z), r without the draw's own observation: each bounds from above."""
    mixed = [torch.logaddexp(math.log(s) + others, math.log(1 - s) + drawn.log_pz) for s in SHARES]
    bounds = drawn.by_observation(torch.stack([drawn.log_q - each for each in (drawn.log_pz, others, *mixed)]))
    # Each half of the observations is measured by what the other half chose: the least of several means is no bound.
    values = torch.empty_like(bounds[0])
    for half in (0, 1):
        values[half::2] = bounds[int(bounds[:, 1 - half :: 2].mean(1).argmin()), half::2]
    return Estimate.of(values)


def _prior_factors(model: Model) -> Distribution | None:
    """The prior of each element of a latent, where they are independent and the model has the contract of its parts."""
    if not isinstance(model, VAE) or type(model).log_joint is not VAE.log_joint:
        return None
    if type(model).propose is not VAE.propose or type(model).log_posterior is not VAE.log_posterior:
        return None
    prior = model.prior()
    return prior.base_dist if isinstance(prior, Independent) else None
