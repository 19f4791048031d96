"""The report of an evaluation: estimates, their reliability, values by observation, and what they mean in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from tightbound.evaluate import robust
from tightbound.evaluate.estimates import Estimate, Judged, in_columns, noise_of_mean, number, plain, row
from tightbound.evaluate.floor import NOTHING, Floor
from tightbound.evaluate.robust import Far
from tightbound.evaluate.verdict import (
    ACTIVE,
    FEW_DRAWS,
    HIGH_K,
    LOW_ESS,
    SMALL_ERROR,
    TOLERATED_SHARE,
    Latent,
    on_baselines,
    on_bound,
    on_code,
    on_decoder,
    on_excluded,
    on_far,
    on_floor,
    on_likelihood,
    on_scoring,
    on_weights,
)
from tightbound.notebook import table as in_notebook

if TYPE_CHECKING:
    from tightbound.evaluate.baselines import Baselines

ProposalName = Literal["auto", "refined", "enumerated", "posterior"]
_ESTIMATED: dict[str, str] = {  # how log p(x) was
    "refined": "by refined proposals",
    "enumerated": "exact, over all codes",
    "posterior": "from q(z|x)",
}


def counted(per_observation: Mapping[str, Tensor]) -> Tensor:
    """Which observations means are taken of, boolean (N,): those whose ELBO and log p(x) are finite.

    Args:
        per_observation: "elbo" and "log_px", each (N,).
    """
    return per_observation["elbo"].isfinite() & per_observation["log_px"].isfinite()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Evidence(Judged):
    r"""How well a model explains data. Nats per observation; ``print`` shows all of it.

    Args:
        elbo: evidence lower bound, the mean log-weight: exactly ``-distortion - rate_sampled``, and free of noise where
            the posterior is exact.
        distortion: :math:`-\mathbb{E}_q \log p(x \mid z)`.
        rate: :math:`\mathrm{KL}(q(z \mid x) \,\|\, p(z))`, in closed form where there is one.
        rate_kind: "closed-form" or "sampled".
        rate_sampled: the rate from the draws, whatever ``rate_kind`` says.
        rate_by_layer: of latents that are layers, what each costs given those above, the layer nearest to x first, from
            64 draws of each observation or more; empty for others.
        iwae: pairs of K and the importance-weighted bound of K samples from q(z | x), all from the same draws.
        rises: how far each of these bounds lies above the first, paired by observation.
        nll: the estimate of :math:`-\log p(x)`; in expectation never below it.
        bits_per_dim: ``nll`` in bits per element of an observation.
        per_observation: each (N,), float64, on the CPU: "elbo", "distortion", "rate", "rate_sampled", of layers
            "rate_1" and so on; "log_px", with
            "error", its standard error by the noise of its draws, "draws", how many they are, "ess", how many of them
            count, and "k", the shape of their weights' tail; "row", where it stands in its data; "same", where the
            first of equal observations stands among these: they have the same draws.
        kl_per_dimension: mean KL of each latent dimension, (L,); None where the pair has no such closed form.
        mean_variance: variance over the data of the posterior's mean, (L,).
        information: of a discrete code, the mutual information of each variable with the observation, (variables,), in
            nats; None for other latents. Where real numbers stand beside a code, both have an entry for each variable,
            and NaN where the other one says it.
        observations: how many, N.
        samples: K, draws of each observation from q(z | x).
        proposal: what ``nll`` comes from: "refined", "enumerated" or "posterior".
        seed: of the draws.
        precision: of the decoder's matrix products, "float32" or "bfloat16".
        is_likelihood: False for grey data under ``UnnormalisedBernoulli``.
        floor: how many elements a density predicts to its smallest scale, in some observations, and the nats they win.
        fixed_scale: σ of the likelihood, where it is a number and not learned.
        squashed: whether all logits of a Bernoulli decoder lie in [0, 1], as behind a Sigmoid that should not be there.
        remark: what a reader must know before the numbers, such as that training has hardly begun.
        baselines: what simple models reach on the same observations, where somebody has measured that.

    Example:
        >>> import torch, tightbound as tb
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> found = tb.evaluate.evidence(model, torch.zeros(8, 5), samples=10)
        >>> found.samples, found.latent_dim, [k for k, bound in found.iwae], found.per_observation["elbo"].shape
        (10, 2, [1, 10], torch.Size([8]))

    References:
        Burda, Grosse, Salakhutdinov: Importance Weighted Autoencoders (2015), https://arxiv.org/abs/1509.00519, for the
        bound and the active units; Alemi et al.: Fixing a Broken ELBO (2018), https://arxiv.org/abs/1711.00464, for
        distortion and rate.
    """

    elbo: Estimate
    distortion: Estimate
    rate: Estimate
    rate_kind: Literal["closed-form", "sampled"]
    rate_sampled: Estimate
    iwae: tuple[tuple[int, Estimate], ...]
    nll: Estimate
    bits_per_dim: float
    per_observation: dict[str, Tensor]
    kl_per_dimension: Tensor | None
    mean_variance: Tensor
    information: Tensor | None = None
    observations: int
    samples: int
    proposal: ProposalName
    seed: int
    precision: str
    is_likelihood: bool
    rises: tuple[Estimate, ...] = ()
    rate_by_layer: tuple[Estimate, ...] = ()
    floor: Floor = NOTHING
    fixed_scale: float | None = None
    squashed: bool = False
    remark: str = ""
    baselines: Baselines | None = None

    @property
    def gap(self) -> Estimate:
        """log p(x) less the ELBO, paired by observation: KL(q(z|x) ‖ p(z|x)), as far as ``nll`` is reliable."""
        noise = self._of("error")
        if "elbo_error" in self.per_observation:  # NaN of a single draw, whose noise nobody knows
            noise = torch.hypot(noise, self._of("elbo_error").nan_to_num(0.0))
        return Estimate.of(self._of("log_px") - self._of("elbo"), noise, self.same[self.counted])

    @property
    def counted(self) -> Tensor:
        """Which observations the means are of, boolean (N,): those whose ELBO and log p(x) are finite."""
        return counted(self.per_observation)

    @property
    def rows(self) -> Tensor:
        """Where each observation stands in the data it was taken from, (N,): of a split, rows of the whole."""
        known = self.per_observation.get("row")
        return torch.arange(len(self.counted)) if known is None else known.long()

    @property
    def same(self) -> Tensor:
        """Where the first of equal observations stands, (N,)."""
        return self.per_observation.get("same", torch.arange(len(self.counted)))

    @property
    def far(self) -> tuple[Far, ...]:
        """The observations that move the mean of the ELBO by themselves, the farthest first."""
        index = self.counted.nonzero()[:, 0]
        found = robust.far(self._of("elbo"), self.rows[index])
        return tuple(replace(each, index=int(index[each.index])) for each in found)

    @property
    def elbo_trimmed(self) -> Estimate:
        """The mean ELBO of the middle 90 % of the observations, which no far one can move."""
        return robust.trimmed(self._of("elbo"))

    @property
    def nll_trimmed(self) -> Estimate:
        """The same of ``nll``."""
        return robust.trimmed(-self._of("log_px"))

    @property
    def elbo_median(self) -> float:
        """The median ELBO of the observations."""
        return float(self._of("elbo").median())

    @property
    def nll_median(self) -> float:
        """The same of ``nll``."""
        return float((-self._of("log_px")).median())

    @property
    def draws_error(self) -> float:
        """Standard error of ``nll`` by the noise of the draws alone, in nats."""
        return noise_of_mean(self._of("error"), self.same[self.counted])

    @property
    def draws_mean(self) -> float:
        """How many draws an observation's log p(x) is made of, on average."""
        return float(self._of("draws").mean())

    @property
    def draws_max(self) -> int:
        """The most of them."""
        return int(self._of("draws").max())

    @property
    def ess_median(self) -> float:
        r"""Median over observations of the effective sample size :math:`(\sum w)^2 / \sum w^2` of those draws."""
        return float(self._of("ess").median())

    @property
    def low_ess_share(self) -> float:
        """Share of observations where it is below 10."""
        return float((self._of("ess") < LOW_ESS).double().mean())

    @property
    def k_median(self) -> float:
        """Median over observations of Pareto's k; NaN where no tail can be told."""
        return float(self._of("k").nanmedian())

    @property
    def high_k_share(self) -> float:
        """Share of observations where it is above 0.7: where the largest weight has not been drawn yet, as a rule."""
        return float((self._of("k") > HIGH_K).double().mean())

    @property
    def reliable(self) -> bool:
        """Whether ``nll`` deserves to be called an estimate: k tells of few observations that their weights run away.

        That is at most 5 % above 0.7, with draws enough to tell, and draws whose noise moves ``nll`` by 0.05 nats at
        most.
        """
        if self.proposal == "enumerated":
            return True
        enough = self.draws_mean >= FEW_DRAWS and self.draws_error <= SMALL_ERROR
        return enough and self.high_k_share <= TOLERATED_SHARE

    def _of(self, name: str) -> Tensor:
        return self.per_observation[name][self.counted]

    def _saved(self) -> dict[str, Estimate]:
        """log p(x) less that of each baseline, paired by observation."""
        theirs = {} if self.baselines is None else self.baselines.per_observation
        found = {}
        for name, each in theirs.items():
            at = self.counted[: len(each)].nonzero()[:, 0]
            log_px, noise = (self.per_observation[column][at] for column in ("log_px", "error"))
            found[name] = Estimate.of(log_px - each[at], noise, self.same[at])
        return found

    def _without_far(self) -> Tensor:
        """The ELBO of the counted observations that are not far."""
        kept = self.counted.clone()
        kept[[each.index for each in self.far]] = False
        return self.per_observation["elbo"][kept]

    @property
    def active(self) -> Tensor:
        """Which latent dimensions carry information, boolean (L,): variance of the posterior's mean above 0.01.

        Of a discrete code, which variables do: mutual information with the observation above 0.01 nats.
        """
        if self.information is None:
            return self.mean_variance > ACTIVE
        told = self.information
        return (torch.where(told.isnan(), self.mean_variance, told) if self._latent == "mixed" else told) > ACTIVE

    @property
    def _latent(self) -> Latent:
        """What the latent is; NaN stands for what a variable of another kind has none of."""
        if self.information is None:
            return "real"
        return "mixed" if self.information.isnan().any() else "discrete"

    @property
    def active_units(self) -> int:
        """How many of them there are."""
        return int(self.active.sum())

    @property
    def latent_dim(self) -> int:
        """How many latent dimensions there are, or variables of a discrete code."""
        return len(self.active)

    @property
    def findings(self) -> list[str]:
        """What the numbers mean, one after the other: collapse, the bound's tightness, what to trust, what to try."""
        parts = (
            self.remark,
            on_excluded(self.counted, self.rows),
            on_far(self.far, Estimate.of(self._without_far())),
            on_likelihood(is_likelihood=self.is_likelihood),
            on_floor(self.floor),
            on_scoring(self._latent),
            on_decoder(squashed=self.squashed),
            on_code(self.active, self.rate.value, self.observations, latent=self._latent, scale=self.fixed_scale),
            on_bound(self.gap.value, self.rate.value, reliable=self.reliable, latent=self._latent),
            on_baselines(self._saved()),
            on_weights(
                self.high_k_share, self.draws_mean, self.draws_error, proposal=self.proposal, latent=self._latent
            ),
        )
        return [part for part in parts if part]

    @property
    def verdict(self) -> str:
        """The findings as a text."""
        return " ".join(self.findings)

    def to_json(self) -> dict[str, Any]:
        """All but the per-observation values, as plain numbers, lists and words; None where a number is unknown."""
        named = ("elbo", "distortion", "rate", "rate_sampled", "nll", "gap", "elbo_trimmed", "nll_trimmed")
        bounds = [{"samples": k, "value": number(bound.value), "se": number(bound.se)} for k, bound in self.iwae]
        for bound, rise in zip(bounds, self.rises, strict=False):
            bound.update(rise=number(rise.value), rise_se=number(rise.se))
        others = (
            "rate_kind", "active_units", "latent_dim", "observations", "samples", "proposal", "draws_max", "seed",
            "precision", "reliable",
        )  # fmt: skip
        known = (
            "bits_per_dim", "elbo_median", "nll_median", "draws_error", "draws_mean", "ess_median", "low_ess_share",
            "k_median", "high_k_share",
        )  # fmt: skip
        return {
            **plain({name: getattr(self, name) for name in named}),
            "rate_by_layer": [{"value": number(rate.value), "se": number(rate.se)} for rate in self.rate_by_layer],
            "iwae": bounds,
            **{name: number(getattr(self, name)) for name in known},
            "excluded": int((~self.counted).sum()),
            "far": [asdict(each) for each in self.far],
            "kl_per_dimension": None if self.kl_per_dimension is None else _numbers(self.kl_per_dimension),
            "mean_variance": _numbers(self.mean_variance),
            "information": None if self.information is None else _numbers(self.information),
            "active": self.active.tolist(),
            **{name: getattr(self, name) for name in others},
            "is_likelihood": self.is_likelihood,
            "floor": {**self.floor._asdict(), "nats": number(self.floor.nats)},
            "remark": self.remark,
            "baselines": None if self.baselines is None else self.baselines.to_json(),
            "findings": self.findings,
            "verdict": self.verdict,
        }

    @property
    def table(self) -> str:
        """The numbers, without the verdict."""
        rows = [row(name, value, note) for name, value, note in self._rows()]
        return "\n".join([f"{self._head}, {self.precision}", *rows])

    def _repr_html_(self) -> str:
        cells = [(name, *in_columns(value, note)) for name, value, note in self._rows()]
        return in_notebook(self._head, cells, numbers=(1,), said=self.findings)

    @property
    def _head(self) -> str:
        counts = f"{_many(self.observations, 'observation')}, {_many(self.samples, 'sample')} each"
        return f"Evidence: {counts}, seed {self.seed}"

    def _rows(self) -> list[tuple[str, Estimate | str, str]]:
        bounds = [(f"IWAE, K = {k}", bound, "draws from q(z|x)" if k == 1 else "") for k, bound in self.iwae]
        theirs = [] if self.baselines is None else self.baselines.rows()
        kind = "estimate of -log p(x)" if self.reliable else "upper bound on -log p(x): see below"
        return [
            ("ELBO", self.elbo, "nats per observation, higher is better"),
            ("distortion", self.distortion, "-E log p(x|z)"),
            ("rate", self.rate, f"KL(q(z|x) || p(z)), {self.rate_kind.replace('-', ' ')}"),
            *((f"rate, layer {i}", rate, "given those above") for i, rate in enumerate(self.rate_by_layer, 1)),
            *bounds,
            ("NLL", self.nll, f"{kind}, {_ESTIMATED[self.proposal]}"),
            *((f"NLL, {name}", value, note) for name, value, note in theirs),
            ("NLL, middle 90%", self.nll_trimmed, f"without the ends; median {self.nll_median:.2f}"),
            ("bits per dim", f"{self.bits_per_dim:.4f}", ""),
            *self._trust(),
            ("active units", f"{self.active_units} of {self.latent_dim}", ""),
        ]

    def _trust(self) -> list[tuple[str, str, str]]:
        """Lines on the draws behind the NLL; none where it needs none."""
        if self.proposal == "enumerated":
            return []
        drawn = f"{self.draws_mean:.4g} an observation on average, {self.draws_max} at most"
        noise = "" if math.isnan(self.draws_error) else f"; their noise moves the NLL by {self.draws_error:.2g}"
        tail = "unknown" if math.isnan(self.k_median) else f"median {self.k_median:.2f}"
        return [
            ("draws", drawn + noise, ""),
            ("effective of them", f"median {self.ess_median:.4g}", ""),
            ("Pareto's k", f"{tail}; above {HIGH_K} for {self.high_k_share:.1%} of the observations", ""),
        ]


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _numbers(values: Tensor) -> list[float | None]:
    return [number(value) for value in values.tolist()]
