"""Hostile and unlucky tries, as many as there is time for: ``python tests/fuzz.py SECONDS [SEED] [KIND …]``.

Each kind of try takes a random generator and either comes through, or fails by what it found. What may happen is that
something works, or that it is refused with one line that begins with "Expected" or "In". Anything else has fallen.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from runs import TINY

import tightbound as tb
from tightbound.data import load, summarise
from tightbound.reports import figures, page
from tightbound.runs.build import build
from tightbound.runs.measured import measure
from tightbound.runs.recipe import Recipe
from tightbound.runs.run import open_run
from tightbound.runs.starting import resume, train

RUN = TINY.updated({"train.epochs": 1, "train.checkpoint_seconds": 0})
SMALL = Recipe().updated(
    {"model.hidden": (4,), "model.latent_dim": 2, "model.network": "mlp", "train.epochs": 1, "train.batch_size": 32}
)
ODD = [None, "x", [], {}, -1, 0, 1, True, [None], "1", 1e300, 2**70, -0.5, [[1]], {"a": 1}, "é\n" * 3]


class Fallen(Exception):
    """What must not be."""


def refused(work: Callable[[], Any]) -> Any:
    """What the work gives, or None where it is refused in one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return work()
    except (ValueError, TypeError, ArithmeticError) as error:
        said = str(error)
        if type(error).__name__ == "NonFiniteError" or (
            said.startswith(("Expected", "In ", "The ")) and "\n" not in said
        ):
            return None
        raise


# Arrays


def arrays(r: random.Random, _: Path) -> None:
    """An array of any shape, type and odd values: described, trained on for a moment, and evaluated."""
    n = np.random.default_rng(r.randrange(2**32))
    shape = (r.choice([1, 2, 3, 40, 90]), *(r.choice([1, 2, 3, 4, 8]) for _ in range(r.choice([1, 1, 1, 2, 3]))))
    laws: list[Callable[[], Any]] = [
        lambda: n.normal(size=shape),
        lambda: n.random(shape),
        lambda: n.integers(0, r.choice([2, 5, 300, 10**9]), shape),
        lambda: n.integers(0, 256, shape).astype("u1"),
        lambda: n.poisson(3, shape),
        lambda: n.standard_cauchy(shape),
        lambda: np.exp(n.normal(0, 9, shape)),
        lambda: np.full(shape, r.choice([0.0, 7.5, 1e30])),
    ]
    x = r.choice(laws)()
    if r.random() < 0.5 and x.dtype.kind == "f":
        x = x * 10.0 ** r.randint(-40, 40) + r.choice([0, 0, 1e3, 1.6e9, -4e6])
    if r.random() < 0.3:
        x = x.astype(r.choice(["f4", "f8", "f2", "i8", "i2", "u2", "?"]))
    if r.random() < 0.3 and x.dtype.kind == "f":
        odd = r.choice([np.nan, np.inf, -9999.0, 1e20, 1e300, 5e-324])
        x.flat[[r.randrange(x.size) for _ in range(r.choice([1, 3]))]] = odd
    built = refused(lambda: build(SMALL, x))
    if built is None:
        return
    summarise(built.data.train).describe()
    trained = refused(
        lambda: tb.fit(built.model, built.data, objective=built.objective, settings=built.recipe.train, progress=False)
    )
    if trained is None:
        return
    found = refused(lambda: tb.evaluate.evidence(built.model, built.data.test, samples=3, proposal="posterior"))
    if found is not None and not np.isfinite(found.elbo.value):
        raise Fallen(f"an ELBO of {found.elbo.value}")


# Files


def _file(r: random.Random, kind: str) -> bytes:
    n = np.random.default_rng(r.randrange(100))
    held = io.BytesIO()
    if kind == ".npy":
        np.save(held, n.random((9, 4)))
    elif kind == ".npz":
        np.savez(held, x=n.random((9, 4)), y=np.arange(9))
    else:
        Image.fromarray(n.integers(0, 256, (6, 7), np.uint8)).save(held, kind[1:].upper().replace("JPG", "JPEG"))
    return held.getvalue()


def files(r: random.Random, place: Path) -> None:
    """A file of which some bytes are others, or missing, or too many."""
    kind = r.choice([".npy", ".npz", ".png", ".jpg", ".webp", ".bmp", ".gif", ".tiff"])
    data = bytearray(_file(r, kind))
    for _ in range(r.choice([1, 1, 2, 8])):
        at = r.randrange(len(data) + 1)
        how = r.randrange(4)
        if how == 0 and at < len(data):
            data[at] ^= 1 << r.randrange(8)
        elif how == 1:
            data[at : at + r.choice([1, 8, 512])] = bytes(r.choice([0, 255]) for _ in range(r.choice([0, 1, 8])))
        elif how == 2:
            del data[at:]
            data += b"\0"
        else:
            data[at:at] = r.randbytes(r.choice([1, 4, 64]))
    (place / f"a{kind}").write_bytes(data)
    if kind in (".npy", ".npz"):
        found = refused(lambda: load(place / f"a{kind}"))
    else:
        (place / f"b{kind}").write_bytes(_file(r, kind))
        found = refused(lambda: load(place))
    if found is not None:
        refused(lambda: summarise(found.train))


# Run folders


def _original(place: Path) -> Path:
    """A finished and evaluated run, made once."""
    folder = place.parent / "original"
    if not folder.exists():
        made = train(RUN, place.parent / "making", progress=False)
        made.run.save_evaluation(measure(made.model, made.data.test, samples=2, proposal="posterior"))
        (place.parent / "making").rename(folder)
    return folder


def _use(folder: Path) -> None:
    run = open_run(folder)
    run.metrics()
    run.environment()
    run.per_observation()
    data = run.data()
    run.model()
    page.render(run, data, [])
    found = run.evaluation()
    if found:
        figures.ranked(found, 3)
    resume(folder, progress=False)


def damaged_folders(r: random.Random, place: Path) -> None:
    """A file of a run is flipped, zeroed, cut, emptied, removed, or another one: all is as it was, or it is refused."""
    original = _original(place)
    folder = Path(shutil.copytree(original, place / "run"))
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    path = folder / r.choice(names)
    data = bytearray(path.read_bytes())
    how = r.choice(["flip", "flip", "flip", "zero", "cut", "empty", "remove", "swap", "folder", "pipe"])
    if how == "flip" and data:
        bit = r.randrange(8 * len(data))
        data[bit // 8] ^= 1 << bit % 8
    elif how == "zero":
        start = r.randrange(len(data) + 1) // 512 * 512
        data[start : start + 512] = bytes(len(data[start : start + 512]))
    elif how == "cut":
        del data[r.randrange(len(data) + 1) :]
    elif how == "empty":
        data = bytearray()
    elif how == "swap":
        data = bytearray((folder / r.choice(names)).read_bytes())
    if how in ("remove", "folder", "pipe"):
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif how == "pipe":
            os.mkfifo(path)
    else:
        path.write_bytes(data)
    if refused(lambda: (_use(folder), True)) is None:
        return
    wanted, found = original / "model.safetensors", folder / "model.safetensors"
    if found.read_bytes() != wanted.read_bytes():
        raise Fallen(f"other weights after a {how} of {path.relative_to(folder)}")


def _places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(each for key, below in inner for each in _places(below, (*place, key)))]


def other_values(r: random.Random, place: Path) -> None:
    """A field of a run's JSON or of a line of its metrics is something else: refused by the file's name, or fine."""
    folder = Path(shutil.copytree(_original(place), place / "run"))
    (folder / "digests.json").unlink()
    name = r.choice(["evaluation.json", "information.json", "config.json", "environment.json", "metrics.jsonl"])
    path = folder / name
    lines = path.read_text().splitlines() if name == "metrics.jsonl" else [path.read_text()]
    index = r.randrange(len(lines))
    value = json.loads(lines[index])
    for _ in range(r.choice([1, 1, 2])):
        where = r.choice(_places(value))
        if not where:
            value = r.choice(ODD)
            break
        inner = value
        for key in where[:-1]:
            inner = inner[key]
        if r.random() < 0.2:
            del inner[where[-1]]
        else:
            inner[where[-1]] = r.choice(ODD)
    lines[index] = json.dumps(value, indent=None if name == "metrics.jsonl" else 2)
    path.write_text("\n".join(lines) + "\n")
    refused(lambda: _use(folder))


# Several at once, and signals


def _child(work: Callable[[], object]) -> int:
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        work()
        code = 0
    except ValueError as error:
        code = 2 if str(error).startswith("Expected") else 1
    except KeyboardInterrupt:
        code = 3
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _ended(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def at_once(r: random.Random, place: Path) -> None:
    """Two or three trainings, or resumes, of one folder within a moment: one is there at the end, and all its own."""
    original, folder = _original(place), place / "run"
    verb = r.choice(["train", "resume"])
    if verb == "resume":
        shutil.copytree(original, folder)
        (folder / "model.safetensors").unlink()
    started = []
    for seed in range(r.choice([2, 3])):
        go = resume if verb == "resume" else partial(train, RUN.updated({"seed": seed}))
        started.append(_child(partial(go, folder, progress=False)))
        time.sleep(r.choice([0, 0, 0.005, 0.02, 0.1]))
    codes = [_ended(each) for each in started]
    if set(codes) - {0, 2} or 0 not in codes or (verb == "train" and codes.count(0) != 1):
        raise Fallen(f"{verb}: exit codes {codes}")
    run = open_run(folder)
    run.model()
    if verb == "resume":
        if _weights(folder) != _weights(original):
            raise Fallen("another model after two resumes")
        return
    if run.recipe.seed != codes.index(0):
        raise Fallen(f"the recipe of seed {run.recipe.seed}, where {codes.index(0)} has won")
    alone = train(run.recipe, place / "alone", progress=False).run.path
    for name in ("model.safetensors", "metrics.jsonl"):
        if (alone / name).read_bytes() != (folder / name).read_bytes():
            raise Fallen(f"{name} is not the winner's")


def signals(r: random.Random, place: Path) -> None:
    """Signals at random instants of a training, again and again; then it is as one that was never stopped."""
    original, folder = _original(place), place / "run"
    for _ in range(r.choice([1, 2, 4])):
        begun = (folder / "recipe.toml").exists()
        process = _child(
            lambda begun=begun: resume(folder, progress=False) if begun else train(RUN, folder, progress=False)
        )
        time.sleep(r.uniform(0, 0.4))
        number = r.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        os.kill(process, number)
        code = _ended(process)
        if code not in (0, 3, -number):
            raise Fallen(f"exit code {code} after {number.name}")
        if (folder / "checkpoint").is_dir():
            open_run(folder).metrics()
    begun = (folder / "recipe.toml").exists()
    (resume(folder, progress=False) if begun else train(RUN, folder, progress=False))
    for name in ("model.safetensors", "metrics.jsonl", "recipe.toml"):
        if (folder / name).read_bytes() != (original / name).read_bytes():
            raise Fallen(f"{name} is another than that of a run never stopped")
    if left := [path.name for path in folder.rglob("*.tmp")]:
        raise Fallen(f"left behind: {left}")


KINDS = {each.__name__: each for each in (arrays, files, damaged_folders, other_values, at_once, signals)}


def run(kind: str, seconds: float, seed: int) -> dict[str, Any]:
    """As many tries of a kind as there is time for."""
    end, tries, fell = time.monotonic() + seconds, 0, []
    with tempfile.TemporaryDirectory() as base:
        while time.monotonic() < end:
            place = Path(base, f"try-{tries}")
            place.mkdir()
            try:
                KINDS[kind](random.Random(f"{kind} {seed} {tries}"), place)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                fell.append({"try": tries, "what": f"{type(error).__name__}: {error}"[:300],
                             "where": traceback.format_exc().splitlines()[-4:-1]})  # fmt: skip
            shutil.rmtree(place, ignore_errors=True)
            tries += 1
    return {"kind": kind, "seed": seed, "tries": tries, "fell": fell}


def main(seconds: float, seed: int, kinds: list[str]) -> int:
    """All kinds, each for its share of the time; a line each, and what fell."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of numpy's, as odd values are cast
    found = [run(kind, seconds / len(kinds), seed) for kind in kinds]
    for each in found:
        print(json.dumps({**each, "fell": len(each["fell"])}))
        for one in each["fell"][:5]:
            print(json.dumps(one), file=sys.stderr)
    return int(any(each["fell"] for each in found))


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, sys.argv[3:] or [*KINDS]))
