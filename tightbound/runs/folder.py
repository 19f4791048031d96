"""What the files of a run's folder are called, and that none of them leads out of it."""

from __future__ import annotations

from pathlib import Path

from tightbound.files import DIGESTS
from tightbound.ownership import LOCK
from tightbound.paths import require_path
from tightbound.runs.migrate import CONFIG, RECIPE, recipe_of
from tightbound.runs.recipe import Recipe
from tightbound.saving import MODEL
from tightbound.training.checkpoint import OBJECTIVE, OLDER, STATE, WEIGHTS
from tightbound.training.journal import METRICS, TIMING
from tightbound.training.replacing import ENVIRONMENT, RECORD

EVALUATION = "evaluation.json"
PER_OBSERVATION = "per-observation.safetensors"
UNFINISHED = "unfinished.safetensors"  # what an interrupted evaluation goes on from
CERTIFICATE = "certificate.json"
GAPS = "gaps.json"
INFORMATION = "information.json"
CHECKS = "checks.json"
CHECKED = "checks.safetensors"
DISENTANGLEMENT = "disentanglement.json"
FACTORED = "disentanglement.safetensors"  # codes beside factors
CLASSIFICATION = "classification.json"
INDEPENDENCE = "independence.json"
REPORT = "report.html"
FIGURES = "figures"
MADE_BY = {
    EVALUATION: "evaluate", PER_OBSERVATION: "evaluate", CLASSIFICATION: "evaluate", CERTIFICATE: "certify",
    GAPS: "gaps", INFORMATION: "information", CHECKS: "check", CHECKED: "check", DISENTANGLEMENT: "disentangle",
    FACTORED: "disentangle", INDEPENDENCE: "disentangle",
}  # fmt: skip
FILES = (
    RECIPE, CONFIG, ENVIRONMENT, EVALUATION, PER_OBSERVATION, CERTIFICATE, GAPS, INFORMATION, CHECKS, CHECKED,
    CLASSIFICATION, DISENTANGLEMENT, FACTORED, INDEPENDENCE, REPORT, FIGURES, MODEL, RECORD, WEIGHTS, OBJECTIVE,
    METRICS, TIMING, STATE, OLDER, LOCK, DIGESTS,
)  # fmt: skip


def recipe_in(folder: Path) -> Recipe:
    """The recipe in a run's folder, none of whose files may lead out of it.

    Args:
        folder: a run's.

    Raises:
        ValueError: for a folder that is no run, a damaged recipe, and a file that points elsewhere or nowhere.
    """
    require_inside(folder)
    return recipe_of(folder)


def require_inside(folder: Path) -> None:
    """Refuse a folder with a file that leads out of it.

    Args:
        folder: a run's.

    Raises:
        ValueError: for one.

    Example:
        >>> require_inside(Path("nowhere"))
    """
    for name in FILES:
        require_path(folder / name)
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"Expected files inside the run folder; got {folder / name}, which leads out of it.")
