"""The first look: a toy whose answer is known, and one recipe trained at two β, told on one page."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tightbound.cli import commands
from tightbound.evaluate import Estimate
from tightbound.labs.known import known_evidence
from tightbound.reports.compared import write_comparison
from tightbound.reports.demonstrated import write_demonstration
from tightbound.reports.figures import Picture
from tightbound.runs import comparing, starting
from tightbound.runs import recipe as recipes

BETAS = (1.0, 8.0)
RECIPE = "sprites-upright"
PAGE = "demo.html"


def demonstrate(out: Path | None) -> int:
    """Train on sprites at two β, evaluate, compare, and write the page that tells what came out.

    Args:
        out: the new folder of both runs and the page; runs/demo-<time> by default.

    Returns:
        The exit code.

    Raises:
        ValueError: for a folder that holds something.
    """
    recipe = recipes.load(RECIPE)
    folder = out or starting.default_folder(dataclasses.replace(recipe, name="demo"))
    starting.require_fresh(folder)
    commands.tell("1 of 3: a VAE of one latent, whose log p(x) can be summed up exactly.")
    toy = known_evidence(progress=True)
    print(toy, flush=True)
    paths = [folder / f"beta={beta:g}" for beta in BETAS]
    for place, (beta, path) in enumerate(zip(BETAS, paths, strict=True), 2):
        commands.tell(f"{place} of 3: {recipe.about[0].lower()}{recipe.about[1:].partition(':')[0]}, at β = {beta:g}.")
        if code := commands.train(recipe.updated({"objective.beta": beta}), path):
            return code
    found = comparing.compare(paths)
    write_comparison(found, folder / commands.COMPARISON)
    known = Picture("toy", "How far to believe such numbers", _caption(toy.numbers), toy.figure)
    page, findings = write_demonstration(found, known, folder / PAGE)
    print("\n" + "\n".join(f"* {finding}" for finding in findings) + f"\n\nOpen this page in a browser: {page}")
    return 0


def _caption(numbers: Mapping[str, Any]) -> str:
    estimated, off = (
        Estimate(numbers[name], numbers[error])
        for name, error in (("estimate", "noise"), ("difference", "difference_se"))
    )
    gap = Estimate(numbers["gap"], numbers["gap_se"])
    said = (
        f"A VAE of one latent on points of a plane, whose log p(x) can be summed up exactly. Estimated {estimated} "
        f"nats, truth {numbers['exact']:.5f}: off by {off}. The ELBO is {gap} below, which is KL(q(z|x) ‖ p(z|x))."
    )
    return re.sub(r"-(?=[0-9])", "−", said)
