"""What a fit costs and what it is worth: slopes an image, and the draws that an image then needs for 0.05 nats.

Ours in sweeps of orthogonal directions, beside the steps of independent antithetic draws that whitened natural-gradient
fits are usually made of. The draws an image needs are given twice: for plain Student-t draws, and for sets of opposite
pairs whose radii come from slices.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import tightbound as tb
from tightbound.batch import Batch
from tightbound.evaluate.accelerate import Accelerated
from tightbound.evaluate.noise import proposed, seeds_of
from tightbound.evaluate.observed import blocks
from tightbound.evaluate.proposals import FIRST, LONGER, PAIRS, SET, Proposal, refine, start_of, student_noise
from tightbound.evaluate.target import Target
from tightbound.runtime import evaluation_mode

ERROR = 0.05  # nats
SETS = 60  # that the draws needed are told from
Fit = Callable[[Target, Batch, Proposal], Proposal]


def stepwise(steps: int, draws: int, rate: float) -> Fit:
    """Steps of independent antithetic draws, at falling rates."""

    def fit(target: Target, batch: Batch, start: Proposal) -> Proposal:
        mean, factor = start.mean, start.factor
        for number in range(steps):
            share = (number + 0.5) / steps
            a = rate * (1.0 if share <= 0.5 else 0.3 if share <= 0.8 else 0.1)
            half = torch.randn(draws // 2, *mean.shape)
            noise = torch.cat([half, -half])
            _, slope = target.slope(batch, mean + torch.einsum("bij,kbj->kbi", factor, noise))
            g = torch.einsum("bji,kbj->kbi", factor, slope) + noise
            moment = torch.einsum("kbi,kbj->bij", g, noise) / draws
            moment = ((moment + moment.mT) / 2).clamp(-2, 2)
            mean = mean + a * (factor @ g.mean(0).clamp(-2, 2)[..., None])[..., 0]
            stretched = torch.diag_embed(torch.exp(a / 2 * moment.diagonal(dim1=-2, dim2=-1)))
            factor = factor @ (torch.tril(a * moment, -1) + stretched)
        return Proposal.of(mean, factor)

    return fit


def needed(target: Target, batch: Batch, fitted: Proposal) -> tuple[Tensor, Tensor]:
    """Draws for an error of 0.05 nats, by image: plain ones, and such in sets."""
    generators = [torch.Generator().manual_seed(i) for i in range(batch.size)]
    noise = student_noise([SETS] * batch.size, target.dim, generators)
    noise = noise.unflatten(1, (batch.size, SETS)).transpose(1, 2).flatten(0, 1)  # (SET * SETS, B, D)
    log_w = [
        target(batch, fitted.at(part.to(fitted.mean))).double() - fitted.log_student(part) for part in noise.split(SET)
    ]
    w = (torch.cat(log_w) - torch.cat(log_w).amax(0)).exp().unflatten(0, (SET, SETS))
    plain = w.flatten(0, 1).var(0) / w.mean((0, 1)).square()
    in_sets = SET * w.mean(0).var(0) / w.mean((0, 1)).square()
    return plain / ERROR**2, in_sets / ERROR**2


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder, of a model of continuous latents")
    parser.add_argument("--images", type=int, default=150)
    args = parser.parse_args()
    run = tb.open_run(args.run)
    model, test = run.model(), run.split("test")
    with evaluation_mode(model):
        _, batch = next(blocks(model, test, args.images))
        z, _ = proposed(model, batch, seeds_of(batch, 0), 100)
        joint = Accelerated(model, torch.float32, compile=False)
        target = Target(joint, z.shape[2:], model.parts(batch))
        start = start_of(target.from_latent(z))
        sweep = 2 * target.dim * math.ceil(PAIRS / target.dim)
        fits: dict[str, tuple[int, Fit]] = {
            "no fit": (0, lambda _target, _batch, start: start),
            "30 steps of 16 draws": (480, stepwise(30, 16, 0.25)),
            "16 steps of 16 draws": (256, stepwise(16, 16, 0.25)),
            "30 steps of 8 draws": (240, stepwise(30, 8, 0.25)),
            "2 sweeps": (2 * sweep, lambda *given: refine(*given, sweeps=FIRST[:2])),
            "3 sweeps, the default": (3 * sweep, refine),
            "7 sweeps, of hard images": (
                7 * sweep,
                lambda target, batch, start: refine(target, batch, refine(target, batch, start), sweeps=LONGER, seed=1),
            ),
        }
        print("| fit | slopes | plain draws, mean | median | in sets, mean | median |\n|---|---|---|---|---|---|")
        for name, (slopes, fit) in fits.items():
            torch.manual_seed(0)
            plain, in_sets = needed(target, batch, fit(target, batch, start))
            cells = f"{plain.mean():.0f} | {plain.median():.0f} | {in_sets.mean():.0f} | {in_sets.median():.0f}"
            print(f"| {name} | {slopes} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
