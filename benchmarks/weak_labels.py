"""What a few labels do for a code: sprites without labels, in pairs that share factors, and with few known factors.

Each setting is trained once for each seed and scored on all 9216 images; what is there already is not trained again.
± is the standard error over seeds. ELBO and rate are of the 922 test images.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from disentanglement import KEPT, row, scored

import tightbound as tb
from tightbound.data import few_factors, pairs
from tightbound.runs import recipe as recipes
from tightbound.runs.build import build

SETTINGS: dict[str, dict[str, Any]] = {
    "no labels, β = 1": {},
    "pairs, 1 to 4 factors changed": {"pairs": None},
    "pairs, 1 factor changed": {"pairs": 1},
    "100 images with factors": {"known": 100},
    "1000 images with factors": {"known": 1000},
}
GAMMA = 10.0  # of the pull to known factors


def measured(name: str, seed: int, folder: Path, changes: dict[str, Any]) -> dict[str, float]:
    """Train and score one run, or read what was scored."""
    if (folder / KEPT).is_file():
        return json.loads((folder / KEPT).read_text())
    wanted = SETTINGS[name]
    built = build(recipes.load("sprites").updated({"seed": seed, "objective.beta": 1.0, **changes}))
    model, data, settings = built.model, built.data, built.recipe.train
    trained: tb.Model = model
    observed, objective = data.train, built.objective
    if "pairs" in wanted:
        # As many steps as the others, each of half as many pairs, none of which comes twice.
        steps = round(settings.epochs * len(data.train))
        observed = pairs(data.train, changed=wanted["pairs"], count=steps // 2, seed=seed)
        settings = settings.updated({"epochs": 1.0, "batch_size": settings.batch_size // 2, "validation": 1000.0})
        trained = tb.PairedVAE(model)
    if "known" in wanted:
        observed = few_factors(data.train, wanted["known"], seed=seed)
        objective = tb.objectives.KnownFactors(objective, gamma=GAMMA)
    result = tb.fit(trained, observed, objective=objective, settings=settings, seed=seed, progress=False)
    if result.ended == "interrupted":
        raise SystemExit("Stopped. The same command goes on.")
    values = {**scored(model, data), "seconds": result.seconds}
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "model")
    (folder / KEPT).write_text(json.dumps(values))
    return values


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="where the runs are, or will be")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=float, help="in place of the recipe's")
    parser.add_argument("--only", help="settings whose names begin so")
    parser.add_argument("--threads", type=int, help="of torch")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    changes = {"train.epochs": args.epochs} if args.epochs else {}
    found: dict[str, list[dict[str, float]]] = {
        name: [] for name in SETTINGS if not args.only or name.startswith(args.only)
    }
    for seed in range(args.seeds):
        for name in found:
            folder = args.out / f"{name.replace(' ', '').replace(',', '-')}-{seed}"
            found[name].append(measured(name, seed, folder, changes))
            print(f"{name}, seed {seed}: {found[name][-1]}", flush=True)
    print()
    for name, each in found.items():
        print(row(name, each))


if __name__ == "__main__":
    main()
