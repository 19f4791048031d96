"""Estimates of log p(x), the bounds on it, and what they are made of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tightbound import bounds
from tightbound.batch import Batch
from tightbound.checks import check_model, described
from tightbound.draws import Draws
from tightbound.evaluate.accelerate import Precision, accelerate
from tightbound.evaluate.importance import bound_at, effective_samples, sample_counts
from tightbound.evaluate.latents import LatentStatistics
from tightbound.evaluate.results import Estimate, Evidence, bits_per_dim
from tightbound.evaluate.verdict import LOW_ESS, TOLERATED_SHARE
from tightbound.model import Model
from tightbound.runtime import evaluation_mode, home, own_random_state

if TYPE_CHECKING:
    from tightbound.data.observations import Observations

WEIGHTS = 2**16  # log-weights of one block of observations: K × B
BLOCK = 1024  # observations encoded at a time, at most …
READ = 2**22  # … and numbers they hold, at most
WRITTEN = 2**20  # numbers the decoder writes at a time on a CPU: what its cache holds …
WRITTEN_GPU = 2**24  # … and elsewhere: enough to keep a GPU busy, 64 MB in float32


def evidence(
    model: Model,
    data: Any,
    *,
    samples: int = 5000,
    seed: int = 0,
    budget: int | None = None,
    precision: Precision = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Evidence:
    r"""How well a model explains data: ELBO, distortion, rate and importance-weighted estimates of log p(x).

    .. math:: \log p(x) \ge \mathbb{E} \log \frac{1}{K} \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k \mid x)},
              \qquad z_k \sim q(z \mid x)

    Runs where the model is, in evaluation mode, a block of observations at a time. The draws have a seed of their own:
    the same numbers in every call, and the caller's random state and the model's mode are as before.

    References:
        Burda, Grosse, Salakhutdinov: Importance Weighted Autoencoders (2015), https://arxiv.org/abs/1509.00519.

    Args:
        model: any.
        data: observations, or anything that ``tb.data.observations`` takes; held-out data, to judge a model. Data that
            are binarised are seen with their fixed pixels.
        samples: K, draws for each observation.
        seed: of the draws.
        budget: latents decoded at a time, to trade memory for speed; the numbers do not depend on it.
        precision: of matrix products in the decoder: "auto" takes bfloat16 where the device multiplies it natively and
            log p(x) comes out the same, checked on draws of the first observations; "float32" is strict.
        progress: called with the observations done and their total after each block.

    Returns:
        The report.

    Raises:
        ValueError: for fewer than one sample; for observations of another shape than the model's; for values that are
            not finite or lie outside the likelihood's support; for log-weights that are not finite.

    Example:
        >>> import tightbound as tb
        >>> model = tb.VAE(
        ...     prior=tb.priors.StandardNormal(2),
        ...     posterior=tb.posteriors.DiagonalNormal(torch.nn.Linear(5, 4)),
        ...     likelihood=tb.likelihoods.Gaussian(torch.nn.Linear(2, 5)),
        ... )
        >>> report = tb.evaluate.evidence(model, torch.zeros(8, 5), samples=100)
        >>> report.elbo.value <= -report.nll.value
        True
    """
    if samples < 1:
        raise ValueError(f"Expected at least 1 sample; got samples={samples}.")
    if budget is not None and budget < 1:
        raise ValueError(f"Expected a budget of at least 1 latent at a time; got budget={budget}.")
    observed = _observations(data)
    columns, statistics = defaultdict(list), LatentStatistics()
    device, dtype = home(model)
    with evaluation_mode(model), own_random_state(device, seed=seed):
        known = described(model)
        known.require_shape(observed.shape, observed.name)
        step = _rows(model, observed) if budget is None else budget
        start, scorer, used = 0, None, "float32"
        for batch in observed.batches(_block(observed, samples), dtype):
            batch = batch.to(device)._replace(checked=True)
            known.require_values(batch.x, torch.arange(start, start + batch.size), observed.name)
            if scorer is None:
                check_model(model, batch, name=observed.name)
                with own_random_state(device):
                    scorer, used = accelerate(model, batch, rows=samples * len(observed), precision=precision)
            for name, values in _evaluate(scorer, batch, statistics, samples, rows=step, start=start).items():
                columns[name].append(values)
            start += batch.size
            if progress is not None:
                progress(start, len(observed))
    made = {name: torch.cat(parts) for name, parts in columns.items()}
    return _report(model, observed, made, statistics, samples=samples, seed=seed, precision=used)


def _evaluate(
    model: Model, batch: Batch, statistics: LatentStatistics, samples: int, *, rows: int, start: int
) -> dict[str, Tensor]:
    """All values of one block of observations, each (B,), float64, on the CPU."""
    batch = model.encoded(batch)
    draws = model.score(batch, samples=samples, rows=rows)
    _require_finite(draws.log_w, start)
    mean = model.posterior_mean(batch)
    codes = model.embed(batch) if mean is None else mean
    statistics.add(codes, model.rate_per_dimension(batch), model.class_probabilities(batch), model.parts(batch))
    closed = model.rate(batch)
    return {
        **({} if closed is None else {"rate": closed.cpu().double()}),
        **_values(draws, samples),
    }


def _values(draws: Draws, samples: int) -> dict[str, Tensor]:
    return {
        "elbo": bounds.elbo(draws),
        "distortion": -draws.log_px_z.mean(0),
        "rate_sampled": (draws.log_qz_x - draws.log_pz).mean(0),
        "ess": effective_samples(draws),
        **{f"iwae {k}": bound_at(draws, k) for k in sample_counts(samples)},
    }


def _report(
    model: Model,
    observed: Observations,
    columns: dict[str, Tensor],
    statistics: LatentStatistics,
    *,
    samples: int,
    seed: int,
    precision: str,
) -> Evidence:
    log_px, ess = columns[f"iwae {samples}"], columns["ess"]
    rate = columns.get("rate", columns["rate_sampled"])
    low = (ess < LOW_ESS).double().mean().item()
    kept = {name: columns[name] for name in ("elbo", "distortion", "rate_sampled", "ess")}
    return Evidence(
        elbo=Estimate.of(columns["elbo"]),
        distortion=Estimate.of(columns["distortion"]),
        rate=Estimate.of(rate),
        rate_kind="closed-form" if "rate" in columns else "sampled",
        rate_sampled=Estimate.of(columns["rate_sampled"]),
        iwae=tuple((k, Estimate.of(columns[f"iwae {k}"])) for k in sample_counts(samples)),
        nll=Estimate.of(-log_px),
        bits_per_dim=bits_per_dim(log_px.mean().item(), observed.shape.numel()),
        per_observation={**kept, "rate": rate, "log_px": log_px},
        ess_median=ess.median().item(),
        low_ess_share=low,
        reliable=low <= TOLERATED_SHARE,
        kl_per_dimension=statistics.kl,
        mean_variance=statistics.mean_variance,
        information=statistics.information,
        observations=len(observed),
        samples=samples,
        seed=seed,
        precision=precision,
        is_likelihood=model.is_normalised,
    )


def _observations(data: Any) -> Observations:
    from tightbound.data import observations

    return observations(data)


def _block(observed: Observations, samples: int) -> int:
    return max(1, min(BLOCK, WEIGHTS // samples, READ // observed.shape.numel()))


def _rows(model: Model, observed: Observations) -> int:
    parameters = getattr(getattr(model, "likelihood", None), "parameters_per_element", 1)
    width = observed.shape.numel() * parameters
    return max(1, (WRITTEN if home(model)[0].type == "cpu" else WRITTEN_GPU) // width)


def _require_finite(log_w: Tensor, start: int) -> None:
    """``log_w``: shape (K, B), B observations of which the first has the index ``start``."""
    bad = ~log_w.isfinite().all(0)
    if bad.any():
        index = start + int(bad.nonzero()[0])
        raise ValueError(
            f"Expected finite log-weights; got NaN or infinity at observation {index}. Training has diverged, or this "
            "observation lies far from all that the model knows."
        )
