"""Whether a folder is free for a run, and a former run out of the way. Nothing is removed but what a run writes."""

from __future__ import annotations

from pathlib import Path

from tightbound.files import DIGESTS, is_temporary
from tightbound.ownership import LOCK
from tightbound.paths import require_path
from tightbound.saving import MODEL, OF_RUNS
from tightbound.training.checkpoint import OBJECTIVE, OLDER, STATE, WEIGHTS, has_state
from tightbound.training.journal import METRICS, TIMING

RECIPE, RECORD = OF_RUNS  # the one describes a run of a recipe, the other one that was made in Python
ENVIRONMENT = "environment.json"
NAMED = (RECORD, RECIPE, "config.json")  # what says that a folder holds a run; it goes last
JUDGED = tuple(
    f"{name}.json"
    for name in (
        "evaluation", "certificate", "gaps", "information", "checks", "classification", "independence",
        "disentanglement", "validation",
    )
)  # fmt: skip
TENSORS = tuple(
    f"{name}.safetensors" for name in ("per-observation", "unfinished", "checks", "disentanglement", "validation")
)
WRITTEN = (*JUDGED, *TENSORS, "report.html", METRICS, TIMING, WEIGHTS, OBJECTIVE, MODEL, ENVIRONMENT, DIGESTS)
FOLDERS = {STATE.parent.name: (STATE.name, OLDER.name), "figures": ()}
PICTURES = (".png", ".svg", ".gif", ".webp")
SHOWN = 3  # names in a message


def require_free(folder: Path) -> None:
    """Refuse a folder with a run or a model in it.

    Args:
        folder: where a run is to begin.

    Raises:
        ValueError: for one, with what to do.

    Example:
        >>> require_free(Path("nowhere"))
    """
    if holds_run(folder) and (has_state(folder) or (folder / WEIGHTS).exists()):
        raise ValueError(
            f"Expected a folder without a run in it; got {folder}. overwrite=True replaces that run, and resume=True "
            "goes on with it; or choose another out=."
        )
    if (folder / WEIGHTS).exists():
        raise ValueError(f"Expected a folder without a model in it; got {folder}. Choose another out=.")


def holds_run(folder: Path) -> bool:
    """Whether a folder is that of a run.

    Args:
        folder: any.

    Example:
        >>> holds_run(Path("nowhere"))
        False
    """
    return has_state(folder) or any((folder / name).is_file() for name in NAMED)


def require_replaceable(folder: Path) -> None:
    """Refuse to replace anything but a run: a folder with something else in it stays as it is.

    Args:
        folder: where a run is to begin in the place of another, or of nothing.

    Raises:
        ValueError: for a folder that holds something else, or more than a run.

    Example:
        >>> require_replaceable(Path("nowhere"))
    """
    require_path(folder)
    ours, others = _inside(folder)
    if others and holds_run(folder):
        raise ValueError(
            f"Expected a run alone to replace with overwrite=True; got {folder}, which holds {_listed(others)} as "
            "well. Move that elsewhere, or choose another out=."
        )
    if others or (ours and not holds_run(folder)):
        raise ValueError(
            f"Expected a run to replace with overwrite=True; got {folder}, which is none and holds "
            f"{_listed(others or ours)}. Choose another out=."
        )


def clear(folder: Path) -> None:
    """Remove what a former run has written.

    Args:
        folder: which :func:`require_replaceable` has let pass, and which this process owns.
    """
    last = [folder / name for name in reversed(NAMED)]
    ours, _ = _inside(folder)
    for path in [*(path for path in ours if path not in last), *last]:
        path.unlink(missing_ok=True)
    for name in FOLDERS:
        if (folder / name).is_dir():
            (folder / name).rmdir()


def _inside(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files that a run writes, and all others. What is a link counts as itself, and not as what it points to."""
    ours: list[Path] = []
    others: list[Path] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name in FOLDERS and path.is_dir() and not path.is_symlink():
            for inner in sorted(path.iterdir()):
                known = inner.name in FOLDERS[path.name] or inner.suffix in PICTURES or inner.suffix == ".tmp"
                (ours if known and not inner.is_dir() else others).append(inner)
        elif path.name != LOCK:
            known = path.name in (*NAMED, *WRITTEN) or any(is_temporary(path.name, name) for name in (*NAMED, *WRITTEN))
            (ours if known and (path.is_symlink() or not path.is_dir()) else others).append(path)
    return ours, others


def _listed(paths: list[Path]) -> str:
    names = [path.name for path in paths[:SHOWN]]
    return ", ".join(names) + (f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else "")
