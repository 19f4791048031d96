"""The numbers of an evaluation in words: what the code carries, how tight the bound is, what to trust and to try."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor

from tightbound.evaluate.estimates import Estimate
from tightbound.evaluate.floor import Floor
from tightbound.evaluate.robust import Far

Latent = Literal["real", "discrete", "mixed"]
ACTIVE = 0.01  # variance of the posterior's mean (Burda et al. 2015), or nats of a discrete variable; more is active
LOW_ESS = 10  # effective samples; where k is below one half, the bias of log p(x) is then about -0.05 nats
HIGH_K = 0.7  # Pareto's k, above which an error that the draws show says nothing (Vehtari et al. 2024)
FEW_DRAWS = 25  # from fewer no tail can be told, and so no k
SMALL_ERROR = 0.05  # nats of a mean's error that come from the draws, at most
LOW_RATE = 0.1  # nats per observation; a code that pays less can say next to nothing
LOOSE = 1.0  # nats between ELBO and log p(x) that are worth going after …
LOOSE_SHARE = 0.05  # … and which share of the rate
SQUASHED = "The decoder seems to end in a Sigmoid, as all its logits lie in [0, 1], while Bernoulli takes logits"
_SIGNS: dict[Latent, str] = {  # that a variable carries information
    "real": "the posterior's mean moves with x",
    "discrete": "tells more than 0.01 nats about x",
    "mixed": "tells more than 0.01 nats about x or has a mean that moves with it",
}
TOLERATED_SHARE = 0.05  # observations of high k that a mean over all of them stands


def on_decoder(*, squashed: bool) -> str:
    """A warning where a decoder cannot say what it should."""
    return f"{SQUASHED}: no probability can be below 0.5 or above 0.73. Leave it out." if squashed else ""


def on_code(
    active: Tensor, rate: float, observations: int, *, latent: Latent = "real", scale: float | None = None
) -> str:
    """Whether the posterior has collapsed.

    Args:
        active: which variables carry information, boolean, shape (L,).
        rate: nats per observation.
        observations: how many.
        latent: of what kind the variables are.
        scale: σ of the likelihood, where it is fixed.
    """
    count, total, discrete = int(active.sum()), len(active), latent != "real"
    one, many = "latent dimension", "latent dimensions"
    if discrete:
        one, many = "variable of the code", "variables of the code"
    sign = _SIGNS[latent]
    if observations == 1:
        return f"One observation cannot show which {many} carry information."
    if count == 0:
        return _collapsed(total, many, rate, scale)
    faint = (
        f" The rate is only {rate:.2g} nats, though: the code says next to nothing about an observation."
        if rate < LOW_RATE
        else ""
    )
    each = "each " if discrete and total > 1 else ""
    if count == total:
        whole = f"The one {one} carries" if total == 1 else f"All {total} {many} carry"
        return f"{whole} information ({each}{sign}).{faint}"
    off = [i for i, on in enumerate(active.tolist()) if not on]
    return (
        f"{count} of {total} {many} carry information ({each}{sign}); {_listed(off, discrete=discrete)} switched off, "
        f"which is normal for a model with more {'variables' if discrete else 'dimensions'} than its data repay.{faint}"
    )


def on_scoring(latent: Latent) -> str:
    """What was scored, where training may have scored something else."""
    if latent == "real":
        return ""
    part = " in part" if latent == "mixed" else ""
    return f"The latent is discrete{part}: all numbers are of hard codes, whatever training relaxed."


def on_excluded(counted: Tensor, rows: Tensor | None = None) -> str:
    """What is left out of the means. ``counted``: boolean, shape (N,); ``rows``: where each stands in its data."""
    out = ((~counted).nonzero()[:, 0] if rows is None else rows[~counted]).tolist()
    if not out:
        return ""
    which = f"row{'s'[: len(out) > 1]} {_some(out)} of the data (from 0)"
    return (
        f"{len(out)} of {len(counted)} observations are left out of all means, as log p(x) of them is -∞ to the "
        f"model's precision: {which}. They lie far from all that the model knows."
    )


def on_far(far: Sequence[Far], without: Estimate) -> str:
    """Which observations move the mean by themselves. ``without``: the mean ELBO of the others."""
    if not far:
        return ""
    rows, moved = _some([each.row for each in far]), sum(each.moves for each in far)
    if len(far) == 1:
        what = f"Row {rows} of the data (from 0) moves the mean ELBO by {moved:.2g} nats: without it"
    else:
        what = f"Rows {rows} of the data (from 0) move the mean ELBO by {moved:.2g} nats together: without them"
    return f"{what} it is {without}. Look there first; the median says what is typical."


def on_bound(gap: float, rate: float, *, reliable: bool, latent: Latent = "real") -> str:
    """How far the ELBO lies below log p(x). ``gap``: log p(x) less the ELBO, in nats."""
    if gap > max(LOOSE, LOOSE_SHARE * rate):
        least = "" if reliable else "at least "
        remedy = (
            "tightbound gaps RUN, or tb.evaluate.gaps, tells what the encoder loses and what a richer family could win."
            if latent == "real"
            else "A larger encoder or training with the IWAE objective can win some of them back."
        )
        return (
            f"The ELBO is loose: it lies {least}{gap:.1f} nats below log p(x), because the posterior does not fit "
            f"the true one. {remedy}"
        )
    return f"The ELBO is tight: log p(x) lies about {max(gap, 0.0):.2g} nats above it." if reliable else ""


def on_weights(high_k_share: float, draws: float, error: float, *, proposal: str, latent: Latent = "real") -> str:
    """Whether the estimate of log p(x) can be trusted. ``error``: of the mean by the draws' noise, in nats."""
    if proposal == "enumerated":
        return ""
    remedy = "Take proposal='refined'" if proposal == "posterior" and latent == "real" else "Fit a better posterior"
    if draws < FEW_DRAWS:
        return (
            f"{draws:.0f} draw{'s'[: draws > 1]} an observation cannot tell log p(x): the NLL is an upper bound. "
            f"{'Take more samples' if latent != 'real' else remedy}."
        )
    if high_k_share > TOLERATED_SHARE:
        return (
            f"For {high_k_share:.0%} of the observations the weights have a tail that runs away (Pareto's k above "
            f"{HIGH_K}): the draws that matter most have not come yet, and the NLL is too high by more than its error "
            f"says, however large the effective sample size. {remedy}; more samples help very little."
        )
    if error > SMALL_ERROR:
        return f"The noise of the draws alone moves the NLL by {error:.2g} nats: take more samples or observations."
    return ""


def on_floor(floor: Floor) -> str:
    """How far a density's nats are of its unit: by data that are levels, and elements known as well as it can say."""
    return " ".join(part for part in (_on_levels(floor.levels), _on_elements(floor)) if part)


def _on_levels(levels: int) -> str:
    if not levels:
        return ""
    return (
        f"A density of data that are {levels} levels: its nats are of the unit from black to white, can be raised "
        "without end by a narrower density, and compare with other densities alone. In steps of one level there are "
        f"{math.log2(levels - 1):.2f} more bits per dimension. For the probability of each level: "
        "tb.likelihoods.DiscretizedLogistic, discretized-logistic in recipes."
    )


def _on_elements(floor: Floor) -> str:
    if not floor.elements:
        return ""
    if floor.elements == 1:
        which, whose = "1 element is predicted to the smallest scale that there is, and wins", "It hardly varies, or is"
    else:
        which = f"{floor.elements} elements are predicted to the smallest scale that there is, and win"
        whose = "They hardly vary, or are"
    return f"{which} {floor.nats:.1f} nats by that alone. {whose} made of the others: see what the rest is worth."


def on_baselines(saved: Mapping[str, Estimate]) -> str:
    """Whether the model explains more than simple ones do.

    Args:
        saved: log p(x) less that of each baseline, "independent" and perhaps "ppca", paired by observation, and perhaps
            "png".
    """
    if "independent" not in saved:
        return ""
    independent, ppca = saved["independent"], saved.get("ppca")
    if not independent.value > 2 * independent.se:
        return (
            f"The model explains the data no better than its own likelihood without a latent does ({independent} nats "
            "more): it has learned next to nothing of how elements depend on one another."
        )
    if ppca is not None and ppca.value < -2 * ppca.se:
        less = Estimate(-ppca.value, ppca.se)
        return (
            f"A normal with as many directions (PPCA) explains the data better, by {less} nats: train longer, or take "
            "a larger network; where that does not help, the data are linear."
        )
    said = f"log p(x) is {independent} nats higher than the same likelihood reaches without a latent."
    png = saved.get("png")
    if png is not None and png.value < -2 * png.se:
        said += (
            f" As PNG files the images take {Estimate(-png.value, png.se)} nats less than the model needs: a pixel is "
            "told by those next to it, and the decoder has only the code to tell it by. A larger network and a longer "
            "training help."
        )
    return said


def on_likelihood(*, is_likelihood: bool) -> str:
    """A warning where the numbers are not log-likelihoods."""
    if is_likelihood:
        return ""
    return (
        "No likelihood: UnnormalisedBernoulli does not integrate to one over grey values, so these are "
        "cross-entropies, to be compared only with others made the same way; not with results on binary data, nor with "
        "a density's."
    )


def _collapsed(total: int, many: str, rate: float, scale: float | None) -> str:
    start = f"The posterior has collapsed: none of the {total} {many}"
    if rate < LOW_RATE:
        return (
            f"{start} carries information, and the decoder does without the code (rate {max(rate, 0.0):.2g} nats). "
            f"{_on_scale(scale)}ry to warm β up from 0 to 1, free bits, or a weaker decoder."
        )
    return (
        f"{start} has a mean that moves with x, yet the rate is {rate:.2g} nats: the posterior differs from the prior "
        "in much the same way for all observations, which costs nats and tells little. Longer training or a learned "
        "prior can remove that cost; a warm-up of β or free bits can bring the code to life."
    )


def _on_scale(scale: float | None) -> str:
    if scale is None:
        return "T"
    return (
        f"The likelihood's σ is fixed at {scale:g}: where that is large beside the data, no code pays. Learn it first "
        "(scale='learned', --model.scale learned), then t"
    )


def _listed(indices: list[int], *, discrete: bool) -> str:
    noun = "variable" if discrete else "dimension"
    return f"{noun}{'s'[: len(indices) > 1]} {_some(indices)} (from 0) {'is' if len(indices) == 1 else 'are'}"


def _some(indices: list[int]) -> str:
    """The first ten of them."""
    return ", ".join(map(str, indices[:10])) + (", …" if len(indices) > 10 else "")
