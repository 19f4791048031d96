"""A folder of PNG and JPEG files.

- Files are taken in the order of their paths, all folders below included; hidden ones and other kinds of file are not.
- Images in sub-folders are labelled by them. A folder with ``train`` and ``test`` in it is already split.
- All become 8-bit, in colour if any one is in colour; palettes count as colour. Photographs are turned upright as
  their EXIF data says. What 8 bits cannot keep — 16-bit images, transparent pixels — is refused, not guessed at.
- With ``size``, the short side is brought to that many pixels and the centre cut out as a square.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tightbound.data.labels import encode
from tightbound.data.observations import Observations
from tightbound.data.splits import Data
from tightbound.progress import progress

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = (".png", ".jpg", ".jpeg")
_FORMATS = ("PNG", "JPEG")  # by content, and no other of Pillow's: some of those start programs
_GREY, _COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def read_images(folder: Path, *, size: int | None = None) -> Observations | Data:
    """All images of a folder as one 8-bit tensor (N, C, height, width), with C = 1 or 3.

    Args:
        folder: where they are.
        size: height and width to bring every image to; by default all must have one size already.

    Returns:
        Data if the folder holds ``train`` and ``test``, Observations otherwise.

    Raises:
        ValueError: for a folder without images, or with only one of ``train`` and ``test``; for images beside
            sub-folders with images; for images of several sizes where no ``size`` is given, unreadable ones, 16-bit
            ones and ones with transparent pixels, each naming the file.
    """
    if size is not None and size < 1:
        raise ValueError(f"Expected a size of at least one pixel; got {size}.")
    parts = _parts(folder)
    paths = [_paths(part) for part in parts]
    labels, names = encode([_labels(part, files) for part, files in zip(parts, paths, strict=True)], str(folder))
    stored = _decode([path for files in paths for path in files], size, f"reading {folder.name}")
    sets = [
        Observations(pixels, labels=codes, label_names=names, name=str(part), scale=255)
        for part, codes, pixels in zip(parts, labels, stored.split(list(map(len, paths))), strict=True)
    ]
    return sets[0] if len(sets) == 1 else Data(str(folder), train=sets[0], test=sets[1])


def _parts(folder: Path) -> list[Path]:
    there = [name for name in ("train", "test") if (folder / name).is_dir()]
    if len(there) == 1:
        raise ValueError(
            f'Expected both "train" and "test" in {folder}, or neither; got only "{there[0]}". Add the other, or give '
            f"{folder / there[0]} to have a test set split off from it."
        )
    return [folder / name for name in there] or [folder]


def _paths(folder: Path) -> list[Path]:
    paths, others, seen = [], set(), set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        if (real := os.path.realpath(place)) in seen:
            raise ValueError(
                f"Expected every folder once; got {real} again by the link {place}. Remove one of the two."
            )
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(place, name) for name in files if not name.startswith(".")):
            if path.suffix.lower() in ENDINGS:
                paths.append(path)
            else:
                others.add(path.suffix.lower() or path.name)
    if not paths:
        found = f"only {', '.join(sorted(others)[:8])}" if others else "no file at all"
        raise ValueError(f"Expected PNG or JPEG files ({', '.join(ENDINGS)}) in {folder}; got {found}.")
    return sorted(paths, key=lambda path: path.relative_to(folder).parts)


def _refuse(error: OSError) -> None:
    raise ValueError(
        f"Expected folders that can be read; got {error}. Change its permissions, or move it elsewhere."
    ) from error


def _labels(folder: Path, paths: Sequence[Path]) -> list[str] | None:
    """Name of the first folder below ``folder`` on the way to each path; None if there is none for any."""
    inner = [path.relative_to(folder).parts[:-1] for path in paths]
    if not any(inner):
        return None
    if not all(inner):
        stray = next(path for path, parts in zip(paths, inner, strict=True) if not parts)
        raise ValueError(
            f"Expected images either all in sub-folders of {folder}, which label them, or all directly in it; "
            f"got both, {stray.name} for one directly. Move those, or the sub-folders, elsewhere."
        )
    return [parts[0] for parts in inner]


def _decode(paths: Sequence[Path], size: int | None, title: str) -> Tensor:
    pool = ThreadPoolExecutor()
    try:
        with progress(title, len(paths), unit="images") as advance:
            return _stack(paths, pool.map(partial(_pixels, size=size), paths), advance)
    finally:
        pool.shutdown(cancel_futures=True)  # or an error would wait for all the other images


def _stack(paths: Sequence[Path], decoded: Iterator[Tensor], advance: Callable[[int], None]) -> Tensor:
    stored = torch.empty(0)
    for index, pixels in enumerate(decoded):
        if index == 0:
            stored = torch.empty((len(paths), *pixels.shape), dtype=torch.uint8)
        if pixels.shape[1:] != stored.shape[2:]:
            raise ValueError(
                f"Expected images of one height and width; got {_measures(stored)} in {paths[0]} and "
                f"{_measures(pixels)} in {paths[index]}. Give size=… (--data.size …) to bring each one's short side to "
                "that many pixels and cut out the centre."
            )
        if len(pixels) > stored.shape[1]:
            stored = stored.expand(-1, len(pixels), -1, -1).contiguous()
        stored[index] = pixels
        advance(1)
    return stored


def _measures(pixels: Tensor) -> str:
    return "×".join(map(str, pixels.shape[-2:]))


def _pixels(path: Path, size: int | None) -> Tensor:
    """One image as (1 or 3, height, width); errors name the file."""
    from PIL import ImageOps

    image = _open(path)
    if "A" in image.mode or "transparency" in image.info:
        grey = image.mode in _GREY
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
            raise ValueError(
                f"Expected opaque images; got transparent pixels in {path}. Put a background of your choice behind "
                "them, with PIL.Image.alpha_composite for instance."
            )
        image = image.convert("L" if grey else "RGB")
    image = image.convert("L" if image.mode in _GREY else "RGB")
    if size is not None:
        image = ImageOps.fit(image, (size, size))
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


def _open(path: Path) -> Image.Image:
    from PIL import Image, ImageOps

    try:
        with open(path, "rb") as file:
            start = file.read(25)
        with Image.open(path, formats=_FORMATS) as opened:
            image = ImageOps.exif_transpose(opened)
    except Exception as error:  # a damaged file can break a decoder in any way
        raise ValueError(f"Expected a PNG or JPEG image; got {error} for {path}. Remove or repair it.") from error
    # Pillow would quietly halve the depth of 16-bit colour, so the file itself is asked.
    if (start[:4] == b"\x89PNG" and start[24] == 16) or image.mode not in _GREY + _COLOUR:
        raise ValueError(
            f"Expected 8 bits a channel; got a 16-bit image (mode {image.mode}) in {path}. Convert it to 8 bits, or "
            "save all of them as one array with numpy.save."
        )
    return image
