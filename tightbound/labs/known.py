"""A VAE trained for seconds whose evidence is known: points of a plane and one latent, which can be summed over."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tightbound.autoencoder import VAE
from tightbound.data import Data, Observations
from tightbound.evaluate import Estimate, evidence
from tightbound.labs.result import Result
from tightbound.labs.words import advancing, require_sizes, require_whole
from tightbound.likelihoods import Gaussian
from tightbound.networks import MLP
from tightbound.objectives import ELBO
from tightbound.plots import style
from tightbound.plots.figure import Figure
from tightbound.posteriors import DiagonalNormal
from tightbound.priors import StandardNormal
from tightbound.runtime import own_random_state
from tightbound.threads import on_threads
from tightbound.training import fit

__all__ = ["known_evidence"]

END, POINTS = 8.0, 4001  # the grid over the latent: beyond it the prior has a share of 1e-15
TRAINED, HELD_OUT = 2000, 500
NOISE = 0.1  # of the points around their arc
AT_ONCE = 100  # points summed over in one go
MAP = 90  # cells of the picture along each axis
AROUND = 0.7  # of the picture, around the points


def known_evidence(*, epochs: float = 60, samples: int = 100, seed: int = 0, progress: bool = False) -> Result:
    r"""A VAE of one latent on points around an arc, and its log p(x): estimated, and summed up exactly.

    .. math:: p(x) = \int p(x \mid z) \, p(z) \, dz

    With one latent the integral is a sum over a fine grid, by trapezoids; the numbers tell how little half of its
    points would change. So what :func:`tightbound.evaluate.evidence` estimates stands beside the truth, for a network
    that was trained.

    What to look for: the estimate lies on the truth, within the noise of its draws. The ELBO lies below it at each
    point by KL(q(z|x) ‖ p(z|x)): little along the arc, more where the posterior is no normal.

    References:
        Kingma, Welling: Auto-Encoding Variational Bayes (2013), https://arxiv.org/abs/1312.6114; Khan, Nielsen: Fast
        yet Simple Natural-Gradient Descent (2018), https://arxiv.org/abs/1807.04489, for the proposals of the estimate.

    Args:
        epochs: passes over the 2000 points that it is trained on.
        samples: draws of q(z|x) for each of 500 other points.
        seed: of points, weights, noise and batches.
        progress: whether to show on a terminal how it goes.

    Returns:
        Numbers, words and a figure: the density that was learned, and what ELBO and estimate lack at each point.

    Raises:
        TypeError: for counts that are no whole numbers.
        ValueError: for sizes out of range.

    Example:
        >>> found = known_evidence(epochs=2, samples=10).numbers
        >>> abs(found["difference"]) < 0.05, found["gap"] > 0
        (True, True)
    """
    require_sizes(epochs, seed)
    require_whole("samples", samples, least=2, why="One draw shows no spread.")
    with on_threads(1), own_random_state(torch.device("cpu"), seed=seed), advancing(1, show=progress) as advance:
        data = Data("arc", Observations(_arc(TRAINED), name="arc"), Observations(_arc(HELD_OUT), name="arc"))
        model = VAE(
            prior=StandardNormal(1),
            posterior=DiagonalNormal(MLP((2,), (2,), hidden=(32, 32), act="silu")),
            likelihood=Gaussian(MLP((1,), (2,), hidden=(32, 32), act="silu"), scale="learned"),
        )
        ended = fit(
            model, data, objective=ELBO(), epochs=epochs, batch_size=100, learning_rate=5e-3, seed=seed, device="cpu",
            compile="never", progress=False,
        )  # fmt: skip
        model = model.double()
        found = evidence(model, data.test, samples=samples, seed=seed)
        x = data.test.eval_batch(dtype=torch.float64).x
        exact = summed(model, x)
        advance(1)
    each = found.per_observation
    difference, gap = Estimate.of(each["log_px"] - exact), Estimate.of(exact - each["elbo"])
    coarse = summed(model, x, points=POINTS // 2 + 1)
    numbers = {
        "epochs": epochs,
        "steps": ended.steps,
        "observations": len(x),
        "samples": samples,
        "seed": seed,
        "exact": float(exact.mean()),
        "grid_error": float((coarse - exact).abs().max()),
        "estimate": -found.nll.value,
        "noise": found.draws_error,
        "difference": difference.value,
        "difference_se": difference.se,
        "elbo": found.elbo.value,
        "gap": gap.value,
        "gap_se": gap.se,
    }
    picture = _figure(model, x, exact, {"ELBO": each["elbo"], "estimate": each["log_px"]}, numbers)
    return Result("known-evidence", numbers, _words(numbers), picture)


def summed(model: VAE, x: Tensor, *, points: int = POINTS) -> Tensor:
    """log p(x) of a model with one latent, by trapezoids over it.

    Args:
        model: in float64.
        x: shape (N, D).
        points: of the grid.

    Returns:
        Nats, shape (N,).

    Example:
        >>> from tightbound.labs.linear_gaussian import LinearGaussian
        >>> exact = LinearGaussian(torch.ones(2, 1).double(), torch.zeros(2).double(), sigma=0.5)
        >>> model = exact.model(DiagonalNormal(torch.nn.Linear(2, 2).double()))
        >>> x = torch.tensor([[1.0, -0.5]], dtype=torch.float64)
        >>> bool((summed(model, x) - exact.evidence.log_prob(x)).abs() < 1e-9)
        True
    """
    z = torch.linspace(-END, END, points, dtype=x.dtype)[:, None]
    with torch.no_grad():
        decoded, log_pz = model.likelihood(z), model.prior().log_prob(z)
        joints = [decoded.log_prob(part[:, None]) + log_pz for part in x.split(AT_ONCE)]
    joint = torch.cat(joints)
    joint[:, [0, -1]] -= math.log(2)
    return joint.logsumexp(1) + math.log(2 * END / (points - 1))


def _arc(count: int) -> Tensor:
    """Points around an arc of two thirds of a circle."""
    angle = (torch.rand(count) - 0.5) * 4 * math.pi / 3
    return torch.stack((angle.sin(), angle.cos()), 1) + NOISE * torch.randn(count, 2)


def _words(numbers: Mapping[str, Any]) -> str:
    noise = Estimate(numbers["estimate"], numbers["noise"])
    off = Estimate(numbers["difference"], numbers["difference_se"])
    return (
        f"A VAE of one latent, trained for {numbers['steps']} steps on points of a plane, judged on "
        f"{numbers['observations']} others.\n\n"
        f"log p(x), estimated   {noise} nats (± the noise of its draws)\n"
        f"log p(x), exact       {numbers['exact']:.4f} nats (the sum over its latent)\n"
        f"difference            {off}, paired by point\n"
        f"ELBO                  {numbers['elbo']:.4f}, which is {Estimate(numbers['gap'], numbers['gap_se'])} below: "
        "KL(q(z|x) || p(z|x))"
    )


@style.styled
def _figure(
    model: VAE, x: Tensor, exact: Tensor, each: Mapping[str, Tensor], numbers: Mapping[str, Any]
) -> Figure:  # fmt: skip
    figure = Figure(figsize=(9.6, 4.3))
    plane, panel = figure.subplots(1, 2)
    low, high = x.amin(0) - AROUND, x.amax(0) + AROUND
    axes = [torch.linspace(float(a), float(b), MAP, dtype=x.dtype) for a, b in zip(low, high, strict=True)]
    density = summed(model, torch.cartesian_prod(*axes), points=501).exp().reshape(MAP, MAP).T
    plane.imshow(
        np.sqrt(density.numpy()), origin="lower", cmap="Blues", aspect="equal",
        extent=(float(low[0]), float(high[0]), float(low[1]), float(high[1])),
    )  # fmt: skip
    with torch.no_grad():
        curve = model.likelihood(torch.linspace(-3, 3, 400, dtype=x.dtype)[:, None]).mean
    plane.plot(*x.T.numpy(), ".", ms=2.5, color=style.ORANGE, label="held-out points")
    plane.plot(*curve.T.numpy(), color=style.INK, lw=1.4, label="decoded means, z from −3 to 3")
    plane.set_title("p(x), summed over z")
    plane.grid(visible=False)
    plane.legend(loc="lower center")
    colours = {"ELBO": style.VERMILION, "estimate": style.BLUE}
    for name, values in each.items():
        panel.plot(exact.numpy(), (values - exact).numpy(), ".", ms=3.5, color=colours[name], label=name)
    panel.axhline(0, color=style.INK, lw=0.8, zorder=0)
    panel.set_xlabel("log p(x), exact, in nats")
    panel.set_ylabel("less the exact value, in nats")
    panel.set_title("What ELBO and estimate lack, by point")
    panel.legend()
    noise = Estimate(numbers["estimate"], numbers["noise"])
    return style.describe(
        figure,
        f"The density that a VAE of one latent learned of points around an arc, and at each of "
        f"{numbers['observations']} held-out points what its ELBO and its estimate of log p(x) lack. Estimated {noise} "
        f"nats, exact {numbers['exact']:.4f}.",
    )
