"""Estimates of log p(x), the bounds on it, and what they are made of."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor

from tightbound import bounds
from tightbound.batch import Batch, require_whole
from tightbound.checks import described, squashes
from tightbound.data.mapped import require_memory
from tightbound.draws import Draws
from tightbound.evaluate import marginal
from tightbound.evaluate.accelerate import Accelerated, Precision, accelerate
from tightbound.evaluate.estimates import Estimate, bits_per_dim
from tightbound.evaluate.floor import Floor, at_floor
from tightbound.evaluate.importance import bound_at, sample_counts
from tightbound.evaluate.latents import LatentStatistics
from tightbound.evaluate.marginal import START, Marginal
from tightbound.evaluate.noise import scored, seeds_of
from tightbound.evaluate.observed import blocks, latent_of, observed_as, rows_at_once
from tightbound.evaluate.proposals import SET
from tightbound.evaluate.results import Evidence, ProposalName, counted
from tightbound.evaluate.target import Target
from tightbound.evaluate.unfinished import Unfinished
from tightbound.model import Model
from tightbound.runtime import evaluation_mode, home, own_random_state
from tightbound.settings import plain, require_seed

if TYPE_CHECKING:
    from tightbound.data.observations import Observations

WEIGHTS = 2**16  # log-weights of one block of observations: K × B
BLOCK = 1024  # observations encoded at a time, at most …
READ = 2**22  # … and numbers they hold, at most
ROUNDING = 1e-4  # nats an element, by which rounding can lift a sum of log-probabilities
WIDEST = 512  # latent dimensions that are fitted with a full covariance unless that is asked for
REFINING = 1000  # decodings that a refined estimate costs an observation, about: a slope counts as three


def evidence(
    model: Model,
    data: Any,
    *,
    samples: int = 500,
    proposal: ProposalName = "auto",
    error: float = marginal.ERROR,
    seed: int = 0,
    budget: int | None = None,
    precision: Precision = "auto",
    keep: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evidence:
    r"""How well a model explains data: ELBO, distortion, rate, importance-weighted bounds, and log p(x).

    .. math:: \log p(x) \ge \mathbb{E} \log \frac{1}{K} \sum_{k=1}^K \frac{p(x, z_k)}{r(z_k)}, \qquad z_k \sim r(z)

    The bounds at K samples, as the literature prints them, are of draws from q(z | x). log p(x) itself comes from a
    better proposal r where there is one:

    - "refined": a normal with full covariance, fitted to the observation by some steps along the slope of log p(x, z),
      with the tails of a Student-t. Two to three hundred of its draws do what no number of draws from q(z | x) does
      where the true posterior is correlated and q is not. For any model of continuous latents.
    - "enumerated": the exact sum over all codes of a discrete latent that has at most 4096.
    - "posterior": q(z | x) itself, K = ``samples``: the literature's protocol.

    Runs where the model is, in evaluation mode, a block of observations at a time. Each observation has random numbers
    of its own, made of its values and of ``seed``: its numbers are the same alone, in any order and in any company. The
    caller's random state and the model's mode are as before.

    References:
        Burda, Grosse, Salakhutdinov: Importance Weighted Autoencoders (2015), https://arxiv.org/abs/1509.00519.

    Args:
        model: any.
        data: observations, or anything that ``tb.data.observations`` takes; held-out data, to judge a model. Data that
            are binarised are seen with their fixed pixels.
        samples: draws of each observation from q(z | x), for ELBO, rate and bounds.
        proposal: what log p(x) is estimated with: "auto" enumerates where that is possible, refines where latents are
            continuous and at most 512, and takes the posterior elsewhere.
        error: standard error that each observation's log p(x) may have by the noise of its draws, in nats: a refined
            proposal is drawn from as often as that needs, 64 to 2048 times.
        seed: of the draws.
        budget: latents decoded at a time, to trade memory for speed, at least 16 where proposals are refined; the
            numbers depend on it by rounding only.
        precision: of matrix products in the decoder: "auto" takes bfloat16 where the device multiplies it natively and
            log p(x) comes out the same, checked on draws of the first observations; "float32" is strict.
        keep: a file. What has been measured is kept in it every half minute and at an interrupt, and the same call goes
            on from there, to the same numbers. It stays when all is done: delete it then.
        progress: called with the observations done and their total after each block.

    Returns:
        The report.

    Raises:
        ValueError: for fewer than one sample, an error that is not above 0, or an unknown proposal; for a refined
            proposal of discrete latents and an enumeration of latents that cannot be listed; for observations of
            another shape than the model's; for values that are not finite or lie outside the likelihood's support; for
            a model of which no log-weight is finite; for log-probabilities above 0.

    Example:
        >>> import tightbound as tb
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> report = tb.evaluate.evidence(model, torch.zeros(8, 5), samples=100)
        >>> report.elbo.value <= -report.nll.value, report.proposal
        (True, 'refined')
    """
    _require(samples=samples, proposal=proposal, error=error, budget=budget)
    samples, seed = plain(samples), require_seed(seed)
    observed = observed_as(data)
    with evaluation_mode(model):
        known, (device, dtype) = described(model), home(model)
    rows, scorer = rows_at_once(model, observed) if budget is None else budget, None
    size = _block(observed, samples, rows)
    settings = [samples, proposal, error, seed, rows, size, precision, device.type, str(dtype), len(observed)]
    so_far = Unfinished(None if keep is None else Path(keep), model, settings)
    with evaluation_mode(model), own_random_state(device, seed=seed), so_far:
        for start, batch in blocks(model, observed, size):
            if start < so_far.count:
                continue
            if scorer is None:
                require_memory(
                    4 * samples * (latent_of(model, batch)[0].numel() + 3),
                    of=f"samples={samples:,}",
                    remedy="Take fewer: 5000 is the literature's number.",
                )
                cost = samples + (0 if proposal == "posterior" else REFINING)
                joint = accelerate(model, batch, rows=cost * len(observed), precision=precision)
                scorer = _Scorer(joint, batch, proposal, samples=samples, error=error, seed=seed, rows=rows)
                floor = at_floor(model, batch)
            so_far.add(batch, scorer(batch, so_far.statistics))
            if not start:
                so_far.resume((each for _, each in blocks(model, observed, size)), model.parts(batch))
            if progress is not None:
                progress(so_far.count, len(observed))
    if scorer is None:
        raise ValueError(f"Expected at least 1 observation; got none in {observed.name}.")
    made = so_far.columns
    made["same"] = _first_equal(made["same"])
    made["row"] = observed.rows_of(torch.arange(len(observed))).cpu().double()
    if known.support is not None and known.support.is_discrete:
        _require_probabilities(known.likelihood, observed, made)
    return _report(scorer, observed, made, so_far.statistics, floor)


class _Scorer:
    """All numbers of a block of observations; what is decided on the first block holds for all."""

    def __init__(
        self, joint: Accelerated, some: Batch, wanted: ProposalName, *, samples: int, error: float, seed: int, rows: int
    ) -> None:
        self.model, self.joint, self.samples = joint.model, joint, samples
        self.rows, self.seed, self.error = rows, seed, error
        shape, discrete = latent_of(self.model, some)
        self.proposal = self._resolved(wanted, some, shape, discrete=discrete)
        parts = self.model.parts(some) if self.proposal == "refined" else ()
        self.target = Target(joint, shape, parts)
        self.squashed = squashes(self.model, some)

    def __call__(self, batch: Batch, statistics: LatentStatistics) -> dict[str, Tensor]:
        """Each of shape (B,), float64, on the CPU."""
        seeds, batch = seeds_of(batch, self.seed), self.model.encoded(batch)
        count = max(self.samples, START) if self.proposal == "refined" else self.samples
        draws, z = scored(self.joint, batch, seeds, count, least=START, rows=self.rows)
        own = Draws(*(each[: self.samples] for each in (draws.z, draws.log_px_z, draws.log_pz, draws.log_qz_x)))
        elbo = bounds.elbo(own)
        mean = self.model.posterior_mean(batch)
        codes = self.model.embed(batch) if mean is None else mean
        fine = (codes.flatten(1).isfinite().all(1).cpu() & elbo.isfinite()).to(codes.device)
        if fine.any():
            statistics.add(
                codes[fine],
                _rows_of(self.model.rate_per_dimension(batch), fine),
                _rows_of(self.model.class_probabilities(batch), fine),
                self.model.parts(batch),
            )
        closed, layers = self.model.rate(batch), self.model.rate_by_layer(batch, z)
        of_layers = () if layers is None else layers.cpu().double().mean(0).unbind(-1)
        return {
            "same": torch.tensor([seed >> 11 for seed in seeds], dtype=torch.float64),  # what float64 keeps
            **({} if closed is None else {"rate": closed.cpu().double()}),
            "elbo": elbo,
            "distortion": -own.log_px_z.mean(0),
            "rate_sampled": (own.log_qz_x - own.log_pz).mean(0),
            **{f"rate_{number}": rate for number, rate in enumerate(of_layers, 1)},
            **{f"iwae {k}": bound_at(own, k) for k in sample_counts(self.samples)},
            **_noise_of(own),
            **self._marginal(batch, seeds, z, draws)._asdict(),
        }

    def _marginal(self, batch: Batch, seeds: list[int], z: Tensor, draws: Draws) -> Marginal:
        if self.proposal == "enumerated":
            return marginal.enumerated(self.joint, batch, self.model.every_code(batch), rows=self.rows)
        if self.proposal == "refined":
            fits = marginal.Fits(self.target, batch, seeds, width=max(1, self.rows // SET))
            return fits.estimate(*fits.fitted(z, self.error), bounds.elbo(draws), error=self.error)
        return marginal.of_weights(draws.log_w)

    def _resolved(self, wanted: ProposalName, batch: Batch, shape: torch.Size, *, discrete: bool) -> ProposalName:
        if wanted == "refined" and discrete:
            raise ValueError(
                "Expected continuous latents for refined proposals; got a model whose latents are discrete, at least "
                "in part. Take proposal='auto' or 'posterior'."
            )
        if wanted in ("posterior", "refined"):
            return wanted
        try:
            if discrete or wanted == "enumerated":
                self.model.every_code(batch)
                return "enumerated"
        except (TypeError, ValueError) as reason:
            if wanted == "enumerated":
                raise ValueError(f"{reason} Or take proposal='posterior'.") from None
        return "posterior" if discrete or shape.numel() > WIDEST else "refined"


def _require(*, samples: int, proposal: str, error: float, budget: int | None) -> None:
    require_whole(samples, "samples")
    if samples < 1:
        raise ValueError(f"Expected at least 1 sample; got samples={samples}.")
    if proposal not in get_args(ProposalName):
        raise ValueError(f"Expected a proposal of {', '.join(get_args(ProposalName))}; got {proposal!r}.")
    if not 0 < error < math.inf:
        raise ValueError(f"Expected an error above 0 nats; got error={error}. 0.05 is the default.")
    if budget is not None and budget < 1:
        raise ValueError(f"Expected a budget of at least 1 latent at a time; got budget={budget}.")


def _require_probabilities(likelihood: str, observed: Observations, columns: dict[str, Tensor]) -> None:
    """Refuse log-probabilities above 0, which digits that cancel have made."""
    most = (-columns["distortion"]).nan_to_num(-math.inf)
    if float(most.max()) > ROUNDING * observed.shape.numel():
        index = int(most.argmax())
        raise ValueError(
            f"Expected log-probabilities of at most 0, as {likelihood} is a likelihood of whole values; got "
            f"{float(most[index]):.4g} nats for row {int(columns['row'][index])} of {observed.name}. Its log_prob "
            "loses digits at values of this size: compute it in float64."
        )


def _first_equal(marks: Tensor) -> Tensor:
    """Where the first of the observations stands that have the same mark, (N,)."""
    _, group = marks.unique(return_inverse=True)
    at = torch.arange(len(marks))
    return at.new_full((len(marks),), len(marks)).scatter_reduce(0, group, at, "amin")[group].double()


def _noise_of(draws: Draws) -> dict[str, Tensor]:
    """What the draws from q(z | x) may be off in each number made of them, by observation; NaN where there is one."""
    parts = {"elbo": draws.log_w, "distortion": draws.log_px_z, "rate_sampled": draws.log_qz_x - draws.log_pz}
    found = {
        f"{name}_error": each.std(0) / len(each) ** 0.5 if len(each) > 1 else torch.full_like(each[0], math.nan)
        for name, each in parts.items()
    }
    return {**found, "iwae_error": marginal.of_weights(draws.log_w).error}


def _rows_of(values: Tensor | None, index: Tensor) -> Tensor | None:
    return None if values is None else values[index]


def _report(
    scorer: _Scorer,
    observed: Observations,
    columns: dict[str, Tensor],
    statistics: LatentStatistics,
    floor: Floor,
) -> Evidence:
    rate, samples = columns.get("rate", columns["rate_sampled"]), scorer.samples
    fine = counted(columns)
    if not fine.any():
        raise ValueError(
            "Expected finite log-weights; got NaN or infinity for all observations. Either these are far from all that "
            "the model was trained on: look at their unit; or training has diverged: go back to an earlier checkpoint, "
            "or train anew with a lower learning_rate."
        )

    def mean(values: Tensor, noise: str = "") -> Estimate:
        return Estimate.of(values[fine], columns[noise][fine] if noise else None, columns["same"][fine])

    log_px = columns["log_px"]
    layers = [name for name in columns if name.removeprefix("rate_").isdecimal()]
    parts = ("elbo", "elbo_error", "distortion", "rate_sampled", *layers)
    kept = (*parts, "log_px", "error", "ess", "k", "draws", "row", "same")
    noise_at = {k: "elbo_error" if k == 1 else "iwae_error" for k in sample_counts(samples)}
    return Evidence(
        elbo=mean(columns["elbo"], "elbo_error"),
        distortion=mean(columns["distortion"], "distortion_error"),
        rate=mean(rate, "" if "rate" in columns else "rate_sampled_error"),
        rate_kind="closed-form" if "rate" in columns else "sampled",
        rate_sampled=mean(columns["rate_sampled"], "rate_sampled_error"),
        rate_by_layer=tuple(mean(columns[name]) for name in layers),
        iwae=tuple((k, mean(columns[f"iwae {k}"], noise)) for k, noise in noise_at.items()),
        rises=tuple(
            mean(columns[f"iwae {k}"] - columns["iwae 1"], "elbo_error" * (k > 1)) for k in sample_counts(samples)
        ),
        nll=mean(-log_px, "error"),
        bits_per_dim=bits_per_dim(log_px[fine].mean().item(), observed.shape.numel()),
        per_observation={**{name: columns[name] for name in kept}, "rate": rate},
        kl_per_dimension=statistics.kl,
        mean_variance=statistics.mean_variance,
        information=statistics.information,
        observations=len(observed),
        samples=samples,
        proposal=scorer.proposal,
        seed=scorer.seed,
        precision=_precision(scorer),
        is_likelihood=scorer.model.is_normalised,
        floor=floor,
        fixed_scale=_fixed_scale(scorer.model),
        squashed=scorer.squashed,
    )


def _fixed_scale(model: Model) -> float | None:
    scale = getattr(getattr(model, "likelihood", None), "scale", None)
    return float(scale) if isinstance(scale, int | float) else None


def _precision(scorer: _Scorer) -> str:
    """What matrix products are computed in: as asked, where the model is no wider."""
    own = home(scorer.model)[1]
    return str(own if own == torch.float64 else scorer.joint.dtype).removeprefix("torch.")


def _block(observed: Observations, samples: int, rows: int) -> int:
    return max(1, min(BLOCK, WEIGHTS // samples, READ // observed.shape.numel(), rows // SET))
