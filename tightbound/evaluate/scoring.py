"""The inner loop of an evaluation: log-densities of K draws for a block of observations, in bounded memory."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution

from tightbound.conditional import unvalidated
from tightbound.draws import Draws
from tightbound.likelihoods import Bernoulli
from tightbound.model import VAE

DRAWN = 2**16  # latents drawn in one go: the noise hangs on this alone, never on how many are decoded at a time


def score(model: VAE, x: Tensor, q: Distribution, samples: int, *, budget: int) -> Draws:
    r"""K draws for each of B observations, scored ``budget`` decoder rows at a time.

    Args:
        model: in evaluation mode.
        x: observations, shape (B, \*shape).
        q: the posterior at ``x``.
        samples: how many, K.
        budget: latents decoded at a time; at least one for each observation.

    Returns:
        Draws in float64 on the CPU, log-densities of shape (K, B); their ``z`` is left empty, shape (K, B, 0).

    Raises:
        ValueError: for values outside the likelihood's support.
    """
    scored: list[Tensor] = []
    for count in _parts(samples, max(1, DRAWN // len(x))):
        z = (q.rsample if q.has_rsample else q.sample)(torch.Size([count]))
        if not scored:
            _require_support(model, x, z[:1])
        with unvalidated():
            scored += [_weigh(model, x, part, q) for part in z.split(max(1, budget // len(x)))]
    # Float64 before anything is added up: log p(x | z) is large, what the bounds differ by is small.
    log_px_z, log_pz, log_qz_x = torch.cat(scored, 1).cpu().double()
    return Draws(log_px_z.new_empty(samples, len(x), 0), log_px_z, log_pz, log_qz_x)


def _weigh(model: VAE, x: Tensor, z: Tensor, q: Distribution) -> Tensor:
    """The three log-densities of some draws, shape (3, k, B): where nearly all the time goes."""
    draws = model.weigh(x, z, q)
    return torch.stack([draws.log_px_z, draws.log_pz, draws.log_qz_x])


def _parts(total: int, size: int) -> list[int]:
    return [size] * (total // size) + ([total % size] if total % size else [])


def _require_support(model: VAE, x: Tensor, z: Tensor) -> None:
    """One draw through torch's own checks, which the other draws go without, for speed."""
    try:
        model.decode(z).log_prob(x)
    except ValueError as error:
        # Parameters out of bounds come from a network gone wrong; the log-weights will show for which observation.
        if "within the support" not in str(error):
            return
        name = type(model.likelihood).__name__
        raise ValueError(
            f"Expected data within the support of the {name} likelihood; got {_outside(model, x)}. {_remedy(model)}"
        ) from error


def _outside(model: VAE, x: Tensor) -> str:
    if _is_binary(model):
        return f"the value {x[(x != 0) & (x != 1)][0].item():.4g}, neither 0 nor 1"
    return f"values between {x.min().item():.4g} and {x.max().item():.4g}"


def _remedy(model: VAE) -> str:
    if _is_binary(model):
        return (
            "For grey values in [0, 1]: binarise them (binarise=True), take a density such as ContinuousBernoulli, or "
            "say Bernoulli(grey=True), whose numbers are no likelihood. Others: bring them to [0, 1] first."
        )
    return "Rescale the data as in training, or take a likelihood made for such values."


def _is_binary(model: VAE) -> bool:
    return isinstance(model.likelihood, Bernoulli) and not model.likelihood.grey
