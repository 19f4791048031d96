"""A large folder of images: the first load, the second, and training from what is kept against training from memory.

``--count`` generated images of 64×64 in colour are written as PNG files into a temporary folder, and loaded with a
cache of their own: *first* decodes them all, *second* opens what was kept, *one more* has one more file in the folder.
A row has seconds, and anonymous memory at its peak, which the system cannot take back; pages of the kept file are not
among it. Then the loop trains the same small dense model from the kept file, treated as one that memory cannot hold,
and from a copy in memory, in turn.

``--folder`` takes images that are there instead.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, in_turn, pixels, ratios, report, seconds
from memory import Stage
from PIL import Image

import tightbound as tb
from tightbound.data import decoded, mapped
from tightbound.distributed import world
from tightbound.progress import progress
from tightbound.runs import recipe as recipes
from tightbound.runs.build import build
from tightbound.training.fit import prepare

SIDE = 64


def draw(folder: Path, count: int) -> Path:
    """Waves in colour with a square on each."""
    drawn = np.random.default_rng(0)
    y, x = (np.mgrid[:SIDE, :SIDE] / SIDE).astype(np.float32)
    with progress("drawing", count, unit="images") as advance:
        for index in range(count):
            into = folder / f"{index // 1000:03}"
            into.mkdir(parents=True, exist_ok=True)
            a, b, c, level = drawn.random((4, 3, 1, 1), dtype=np.float32)
            made = 127 * (1 + np.sin(6 * (a * x + b * y + c)))
            side, (top, left) = int(drawn.integers(8, 24)), drawn.integers(0, SIDE - 24, 2)
            made[:, top : top + side, left : left + side] = 255 * level
            image = Image.fromarray(made.astype(np.uint8).transpose(1, 2, 0))
            image.save(into / f"{index:06}.png", compress_level=1)
            advance(1)
    return folder


class Side:
    """Our loop on some images, a number of steps at a time."""

    def __init__(self, data: tb.data.Observations) -> None:
        changes = {"model.network": "mlp", "train.batch_size": 128, "train.validation": 0, "train.compile": "never"}
        built = build(recipes.load("auto").updated(changes), data)
        recipe = built.recipe
        self.size = recipe.train.batch_size
        self.loop = prepare(built.model, built.data.train, built.objective, recipe.train, 0, None, world())
        self.loop.begin()

    def turn(self, steps: int) -> float:
        """Seconds an image."""
        return seconds(lambda: [self.loop._step() for _ in range(steps)]) / (steps * self.size)


def main() -> None:
    args = arguments(__doc__ or "", count=200_000, folder="", steps=100, repeats=5)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        os.environ["XDG_CACHE_HOME"] = str(Path(place) / "cache")
        folder = Path(args.folder) if args.folder else draw(Path(place) / "many", args.count)
        for name in ("first", "second"):
            with Stage(name, rows):
                data = tb.data.load(folder)
        kept = decoded.list_kept()
        if not args.folder:
            Image.new("RGB", (SIDE, SIDE)).save(folder / "000" / "one-more.png")
            with Stage("one more", rows):
                tb.data.load(folder)
        mapped.SHARE = 0.0  # as if the file were larger than memory
        sides = {"kept": Side(tb.data.load(folder).train)}
        train = data.train
        sides["memory"] = Side(tb.data.Observations(pixels(train), scale=255))
        for side in sides.values():
            side.turn(args.steps // 10 + 1)
        turns = {name: partial(side.turn, args.steps) for name, side in sides.items()}
        seen = in_turn(turns, repeats=args.repeats)
        notes = {
            "images": len(train) + len(data.test),
            "kept MB": sum(size for _, _, size in kept) / 1e6,
            "training from the kept file, µs an image": 1e6 * statistics.median(seen["kept"]),
            "of the speed in memory": ratios(seen["memory"], seen["kept"]),
        }
    report("folder", rows, notes)


if __name__ == "__main__":
    main()
