"""Objectives beside each other on sprites of known factors: scores and ELBO over seeds, with intervals.

Each setting is trained once for each seed into a folder of its own; what is there already is not trained again, and a
run that was broken off goes on. ± is the standard error over seeds; ELBO and rate are of the 922 test images, the
scores and the total correlation TC of all 9216. "?" stands where 9216 images cannot tell the TC.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Any

import torch

import tightbound as tb
from tightbound.runs import recipe as recipes
from tightbound.runs import run as runs
from tightbound.runs import starting

SETTINGS: dict[str, dict[str, Any]] = {
    "β = 1": {"objective.beta": 1.0},
    "β = 2": {"objective.beta": 2.0},
    "β = 4": {"objective.beta": 4.0},
    "β = 8": {"objective.beta": 8.0},
    "β-TC = 2": {"objective.name": "total-correlation", "objective.beta": 2.0},
    "β-TC = 4": {"objective.name": "total-correlation", "objective.beta": 4.0},
    "β-TC = 6": {"objective.name": "total-correlation", "objective.beta": 6.0},
    "FactorVAE, γ = 6": {"objective.name": "factor-vae", "objective.gamma": 6.0},
    "DIP-II, 10": {"objective.name": "dip", "objective.off_diagonal": 10.0, "objective.diagonal": 10.0},
    "capacity 0 to 10": {"objective.name": "capacity", "objective.capacity": 10.0, "objective.warmup_steps": 4000},
}
NETWORKS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "conv": {"model.network": "conv", "model.channels": 8, "train.epochs": 60.0},  # as many minutes
}
SHOWN = {"mig": "MIG", "dci-disentanglement": "DCI-D", "factor-vae-score": "FactorVAE score", "sap": "SAP"}
KEPT = "disentangled.json"


def measured(recipe: tb.Recipe, folder: Path) -> dict[str, float]:
    """Train and score one run, or read what was scored."""
    if (folder / KEPT).is_file():
        return json.loads((folder / KEPT).read_text())
    made = starting.resume if (folder / runs.RECIPE).is_file() else None
    trained = made(folder, progress=False) if made else starting.train(recipe, folder, progress=False)
    if trained.result.ended == "interrupted":
        raise SystemExit("Stopped. The same command goes on.")
    values = {**scored(trained.model, trained.data), "seconds": trained.result.seconds}
    (folder / KEPT).write_text(json.dumps(values))
    return values


def scored(model: tb.VAE, data: tb.data.Data) -> dict[str, float]:
    """Scores of all images beside their factors, and numbers of the test images."""
    whole = data.everything()[-1]
    scores = tb.evaluate.disentangle(model, whole)
    found = tb.evaluate.evidence(model, data.test, samples=100, proposal="posterior")
    told = tb.evaluate.information(model, whole).total_correlation
    values = {name: scores.scores[name].value.value for name in SHOWN}
    values["tc"] = math.nan if told is None else told.value
    values |= {"elbo": found.elbo.value, "rate": found.rate.value, "active": float(len(scores.units))}
    accuracy = zip(scores.factor_names, scores.accuracy, strict=True)
    return values | {f"accuracy of {name}": float(each) for name, each in accuracy}


def row(name: str, found: list[dict[str, float]]) -> str:
    """One line of the table: means over seeds and their standard errors."""

    def cell(key: str, digits: int) -> str:
        values = [each[key] for each in found]
        if any(map(math.isnan, values)):
            return "?"
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return f"{statistics.mean(values):.{digits}f} ± {error:.{digits}f}".replace("-", "−")

    cells = [cell("elbo", 2), cell("rate", 2), cell("tc", 2), cell("active", 1), *(cell(key, 3) for key in SHOWN)]
    return f"| {name} | {' | '.join(cells)} | {statistics.mean(each['seconds'] for each in found):.0f} |"


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="where the runs are, or will be")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--network", choices=tuple(NETWORKS), default="mlp")
    parser.add_argument("--epochs", type=float, help="in place of the recipe's")
    parser.add_argument("--only", help="settings whose names begin so")
    parser.add_argument("--threads", type=int, help="of torch")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    base = recipes.load("sprites").updated(NETWORKS[args.network])
    if args.epochs:
        base = base.updated({"train.epochs": args.epochs})
    chosen = {name: each for name, each in SETTINGS.items() if not args.only or name.startswith(args.only)}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    for seed in range(args.seeds):  # all settings with one seed first: a table is there early
        for name, changes in chosen.items():
            folder = args.out / args.network / f"{name.replace(' ', '')}-{seed}"
            found[name].append(measured(base.updated({"seed": seed, **changes}), folder))
            print(f"{name}, seed {seed}: {found[name][-1]}", flush=True)
    print("\n| objective | ELBO | rate | TC | active | " + " | ".join(SHOWN.values()) + " | seconds |")
    print("|---" * (len(SHOWN) + 6) + "|")
    for name, each in found.items():
        print(row(name, each))


if __name__ == "__main__":
    main()
