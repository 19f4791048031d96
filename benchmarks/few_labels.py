"""MNIST with a hundred labels: the test error of the recipe mnist-m2 over seeds, beside that of the labels alone.

M1+M2 is the same on codes in the place of images: the posterior's means of one run of the recipe mnist, which has seen
no label and no test image. Each seed chooses other labelled images, and starts from other weights. What is there
already is not trained again, and a run that was broken off goes on. ± is the standard deviation over seeds, as the
literature has it.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier

import tightbound as tb
from tightbound.data import few_labels
from tightbound.runs import recipe as recipes
from tightbound.runs import run as runs
from tightbound.runs import starting
from tightbound.training.checkpoint import WEIGHTS

ON_CODES = {"model.likelihood": "gaussian", "model.latent_dim": 8, "model.hidden": [256, 256]}  # of M2 on M1's codes


def codes(folder: Path, changes: dict[str, Any]) -> tb.data.Data:
    """The posterior's means of MNIST under the recipe mnist, trained where it is not there."""
    if not (folder / WEIGHTS).is_file():
        begun = (folder / runs.RECIPE).is_file()
        trained = (
            starting.resume(folder, progress=False)
            if begun
            else starting.train(recipes.load("mnist").updated(changes), folder, progress=False)
        )
        if trained.result.ended == "interrupted":
            raise SystemExit("Stopped. The same command goes on.")
    run = runs.open_run(folder)
    model, data = run.model(), run.data()
    parts = [tb.data.Observations(model.embed(part), part.labels, name="codes") for part in (data.train, data.test)]
    return tb.data.Data("codes of MNIST", *parts)


def with_the_rest(seed: int, folder: Path, data: tb.data.Data | None, changes: dict[str, Any]) -> float:
    """Test error in %, of the semi-supervised model on the recipe's own data or others."""
    kept = folder / runs.CLASSIFICATION
    if not kept.is_file():
        begun = (folder / runs.RECIPE).is_file()
        recipe = recipes.load("mnist-m2").updated({"seed": seed, **changes})
        trained = (
            starting.resume(folder, data=data, progress=False)
            if begun
            else starting.train(recipe, folder, data=data, progress=False)
        )
        if trained.result.ended == "interrupted":
            raise SystemExit("Stopped. The same command goes on.")
        trained.run.save(runs.CLASSIFICATION, tb.evaluate.classification(trained.model, trained.data.test))
    return 100 * float(json.loads(kept.read_text())["error"])


def alone(seed: int, data: tb.data.Data) -> dict[str, float]:
    """Test errors in %, of classifiers that see the labelled images and nothing else."""
    some = few_labels(data.train, 100, seed=seed)
    labels = some.label(torch.arange(len(some)))
    everything = torch.arange(len(data.test))
    truth = data.test.label(everything)
    assert labels is not None
    assert truth is not None
    known = (labels >= 0).nonzero()[:, 0]
    x, y = some.unbinarised(known).flatten(1).numpy(), labels[known].numpy()
    seen, true = data.test.unbinarised(everything).flatten(1).numpy(), truth.numpy()
    makers = {
        "logistic regression": LogisticRegression(max_iter=2000),
        "nearest neighbour": KNeighborsClassifier(1),
        "a net of 500-500": MLPClassifier((500, 500), max_iter=500, random_state=seed),
    }
    return {name: 100 * float((made.fit(x, y).predict(seen) != true).mean()) for name, made in makers.items()}


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="where the runs are, or will be")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=float, help="in place of the recipes'")
    parser.add_argument("--threads", type=int, help="of torch")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    changes = {"train.epochs": args.epochs} if args.epochs else {}
    data, of_codes = tb.load_data("mnist"), codes(args.out / "m1", changes)
    found: dict[str, list[float]] = {}
    for seed in range(args.seeds):
        errors = alone(seed, data)
        errors["M2, the recipe mnist-m2"] = with_the_rest(seed, args.out / f"m2-{seed}", None, changes)
        errors["M1+M2"] = with_the_rest(seed, args.out / f"m1-m2-{seed}", of_codes, ON_CODES | changes)
        print(f"seed {seed}: " + ", ".join(f"{name} {error:.2f} %" for name, error in errors.items()), flush=True)
        for name, error in errors.items():
            found.setdefault(name, []).append(error)
    print()
    for name, each in found.items():
        spread = statistics.stdev(each) if len(each) > 1 else float("nan")
        print(f"| {name} | {statistics.mean(each):.2f} ± {spread:.2f} |")


if __name__ == "__main__":
    main()
