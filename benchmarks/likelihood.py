"""log p(x) of a run's test images by refined proposals and by K draws of q(z|x): bias, Pareto's k, seconds, memory.

Both are measured against a reference of its own random numbers: three refined estimates of 2048 draws an image each, by
three fits. Then the same images several times over with other seeds: a fit that went wrong would stand out by more than
its error says, and k ought to have told of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from memory import Stage
from torch import Tensor

import tightbound as tb
from tightbound.evaluate import Estimate, Evidence


def measured(model: tb.VAE, images: tb.data.Observations, **settings: Any) -> tuple[Evidence, float, float]:
    """The evidence, the seconds that it took, and the MiB that it needed besides at its peak."""
    rows: list[dict[str, Any]] = []
    with Stage("evidence", rows):
        found = tb.evaluate.evidence(model, images, **settings)
    return found, rows[0]["s"], rows[0]["peak MiB"]


def reference(model: tb.VAE, images: tb.data.Observations) -> Tensor:
    """log p(x) from 6144 draws an image."""
    parts = [measured(model, images, samples=64, error=1e-6, seed=100 + i)[0].per_observation for i in range(3)]
    log_px, draws = (torch.stack([part[name] for part in parts]) for name in ("log_px", "draws"))
    return (log_px + draws.log()).logsumexp(0) - draws.sum(0).log()


def row(name: str, found: Evidence, seconds: float, mib: float, exact: Tensor) -> str:
    """One line of the table."""
    bias = Estimate.of(found.per_observation["log_px"] - exact)
    return (
        f"| {name} | {found.nll} | {bias.value:+.4f} ± {bias.se:.4f} | {found.k_median:.2f} | {found.high_k_share:.1%} "
        f"| {found.ess_median:.0f} of {found.draws_mean:.0f} | {1e3 * seconds / found.observations:.1f} | {mib:.0f} |"
    )


def outliers(model: tb.VAE, images: tb.data.Observations, seeds: int) -> str:
    """How estimates with other random numbers scatter, and whether one that is far off was told of."""
    runs = [measured(model, images, samples=64, seed=seed)[0].per_observation for seed in range(seeds)]
    log_px, error, k = (torch.stack([run[name] for run in runs]) for name in ("log_px", "error", "k"))
    middle = log_px.median(0).values
    off = (log_px - middle).abs()
    z = off / error
    far = (off > 1.0) | (z > 6)
    unnoticed = far & (k <= 0.7) & (z > 6)
    return (
        f"{seeds} seeds of {len(images)} images: {int(far.sum())} estimates of {far.numel()} more than 1 nat or 6 "
        f"errors from the median over seeds, {int(unnoticed.sum())} of them without a k above 0.7; the farthest "
        f"{off.max():.2f} nats; k above 0.7 for {(k > 0.7).double().mean():.1%}; means by seed "
        + ", ".join(f"{-each.mean():.4f}" for each in log_px)
    )


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder, of a model of continuous latents")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--samples", type=int, default=5000, help="draws of q(z|x)")
    parser.add_argument("--seeds", type=int, default=0)
    args = parser.parse_args()
    run = tb.open_run(args.run)
    model, test = run.model(), run.split("test")
    images = test.subset(torch.arange(min(args.images, len(test))))
    measured(model, images.subset(torch.arange(2)), samples=2)  # what is loaded on first use
    if args.seeds:
        print(outliers(model, images, args.seeds))
        return
    exact = reference(model, images)
    print("| proposal | NLL | bias | k, median | k above 0.7 | effective draws | ms an image | MiB |")
    print("|---|---|---|---|---|---|---|---|")
    plain = measured(model, images, samples=args.samples, proposal="posterior")
    print(row(f"q(z\\|x), K = {args.samples}", *plain, exact), flush=True)
    refined = measured(model, images, samples=100)
    print(row("refined", *refined, exact))
    print(f"refined takes {refined[1] / plain[1]:.2f} of the time, the ELBO's 100 draws included")


if __name__ == "__main__":
    main()
