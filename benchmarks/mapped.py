"""Training on a mapped .npy file larger than the memory allowed: its speed, and the memory it takes.

What is bounded: a process of its own may allocate ``--limit`` MiB (RLIMIT_DATA), less than the larger file holds. Pages
of a mapped file do not count, for the system drops them when memory runs short. So the limit proves that nothing copies
the file; *anonymous* memory (RssAnon), which cannot be dropped, is measured against the size of the file; but the
system's cache may hold all of it here. Three conditions say what the cache is worth: *warm*, all pages in memory at the
start of a turn; *cold*, none at the start; *lost*, none at the start of any step, as if there were no cache at all;
*asked*, none at the start, and the file treated as one that memory cannot hold: nothing is read but the rows asked for,
so that nearly each batch comes from the disk.
For a real shortage run it with less memory than the file: ``systemd-run --scope -p MemoryMax=1G python …``.

The files are made in a temporary folder, which must be on a disk (no tmpfs) for cold to mean anything.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import in_turn, ratios, report
from growth import SHAPE, Side, images
from memory import MIB, Stage, anonymous, fetch, forget, limit, pages_of_files
from torch import Tensor

import tightbound as tb
from tightbound.checks import check_data
from tightbound.data import mapped as asking
from tightbound.training import batches, fingerprint

IN_MEMORY = 60_000
Row = dict[str, Any]


def stages(path: Path, changes: Row) -> tuple[list[Row], Side]:
    """What the library does before the first step, one thing after another; cold where it says so, then as a whole."""
    rows: list[Row] = []
    with Stage("load", rows):
        train = tb.data.load(path).train
    few = Side(train.subset(torch.arange(1000)), **changes).model
    cpu = torch.device("cpu")
    with Stage("split", rows):
        part = batches.split(train, 0.1, 0)[0]
    with Stage("permutation", rows):
        batches.Sampler(len(part), 128, seed=1, device=cpu).indices(0)
    works = {
        "fingerprint": lambda: fingerprint.fingerprint_of_data(train),
        "support": lambda: check_data(few, part),
        "summarise": lambda: tb.data.summarise(train),
        "moments": lambda: tb.data.moments(train),
    }
    for name, work in works.items():
        forget(file_of(train), path)
        for state in ("cold", "warm"):
            with Stage(f"{name}, {state}", rows):
                work()
    with Stage("training, begun", rows):
        side = Side(train, **changes).begin()
    return rows, side


def file_of(data: tb.data.Observations) -> Tensor:
    """The mapped tensor itself."""
    assert isinstance(data.stored, Tensor)
    return data.stored


def child(args: argparse.Namespace) -> Row:
    """The limited process: stages, then turns against images in memory."""
    limit(args.limit)
    changes = {"train.compile": args.compile, "train.validation": 0.1, "train.device": "cpu"}
    found: Row = {"anon MiB at the start": anonymous()}
    before, mapped = stages(args.child, changes)
    found["before step 1"] = anonymous()
    resident = Side(tb.data.load(images(args.in_memory)).train, **changes).begin()
    asking.SHARE = 0.0  # as if the file were larger than memory
    sides = dict.fromkeys(("warm", "cold", "lost"), mapped) | {
        "asked": Side(tb.data.load(args.child).train, **changes).begin()
    }
    stored, other = (file_of(side.loop.setup.data) for side in (mapped, sides["asked"]))
    most, pages = anonymous(), 0.0

    def turn(state: str) -> float:
        nonlocal most, pages
        parts = max(args.steps // 20, 1) if state == "lost" else 1
        times = []
        for _ in range(parts):
            if state == "warm":
                fetch(stored)
            else:
                for each in (stored, other):  # the system keeps what either has mapped
                    forget(each, args.child)
            times.append(sides[state].turn(1 if state == "lost" else args.steps))
        most, pages = max(most, anonymous()), max(pages, pages_of_files())
        return statistics.mean(times)

    for side in (mapped, resident, sides["asked"]):
        side.turn(args.steps // 10 + 1)
    for state in sides:
        seen = in_turn(
            {"memory": lambda: resident.turn(args.steps), "mapped": partial(turn, state)},
            repeats=args.repeats,
        )
        found[f"{state}, µs an image"] = 1e6 * statistics.median(seen["mapped"])
        found[f"{state}, of the speed in memory"] = ratios(seen["memory"], seen["mapped"])
    found["copy refused"] = refused(stored.nbytes)
    return {"file MiB": stored.nbytes / MIB, "images": len(stored), **found, "most in training": most,
            "pages of files": pages, "stages": before}  # fmt: skip


def refused(count: int) -> bool:
    """Whether the limit forbids a copy of so many bytes: or it would prove nothing."""
    try:
        torch.empty(count, dtype=torch.uint8)
    except RuntimeError:
        return True
    return False


def write(path: Path, count: int) -> None:
    """``count`` images as a .npy file, on the disk and no more in memory."""
    block = images(min(count, IN_MEMORY)).numpy()
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (count, *SHAPE)})
        for start in range(0, count, len(block)):
            file.write(block[: count - start].tobytes())
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 2048], help="of the files, in MiB")
    parser.add_argument("--limit", type=int, default=1536, help="MiB that the training process may allocate")
    parser.add_argument("--in-memory", type=int, default=IN_MEMORY, help="images of the side in memory")
    parser.add_argument("--steps", type=int, default=400, help="in each turn")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile", choices=("always", "never"), default="always")
    parser.add_argument("--folder", type=Path, default=None, help="for the files; the system's temporary one else")
    parser.add_argument("--child", type=Path, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(args)))
        return
    rows, before = [], []
    for size in args.sizes:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            path = Path(folder, "images.npy")
            write(path, size * MIB // 784)
            command = [sys.executable, *sys.argv, "--child", str(path)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        before += [{"file MiB": size, **row} for row in found.pop("stages")]
        rows.append(found)
    report("before the first step on a mapped file", before)
    grown = (rows[-1]["most in training"] - rows[0]["most in training"]) * MIB
    more = max(rows[-1]["images"] - rows[0]["images"], 1)
    report("training on a mapped file", rows, {"limit MiB": args.limit, "anonymous bytes an image": grown / more})


if __name__ == "__main__":
    main()
