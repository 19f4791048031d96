"""A folder of PNG and JPEG files.

- Images are read in the order of their paths, from all folders below too. Hidden files and files of other kinds are
  ignored.
- The name of a sub-folder labels the images in it. A folder that holds ``train`` and ``test`` is already split.
- All images become 8-bit. If any image is in colour, all are; a palette counts as colour. Photographs are turned
  upright as their EXIF data says. 16-bit images and transparent pixels are refused, since 8 bits cannot keep them.
- With ``size``, each image's short side is resized to that many pixels, and the centre is cut out as a square.
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
from tightbound.data.mapped import require_memory
from tightbound.data.observations import Observations
from tightbound.data.splits import Data
from tightbound.progress import progress

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = (".png", ".jpg", ".jpeg")
_FORMATS = ("PNG", "JPEG")  # what Pillow may find in a file: to read some other formats it starts programs
_GREY, _COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def read_images(folder: Path, *, size: int | None = None) -> Observations | Data:
    """Read all images of a folder into one 8-bit tensor (N, C, height, width), with C = 1 or 3.

    Args:
        folder: where the images are.
        size: height and width in pixels that every image gets. Where it is None, all images must have one size already.

    Returns:
        Data if the folder holds ``train`` and ``test``, Observations otherwise.

    Raises:
        ValueError: if the folder has no images, has only one of ``train`` and ``test``, or has images both in
            sub-folders and beside them; if images differ in size and no ``size`` is given; if an image cannot be read,
            has 16 bits, or has transparent pixels (the error names the file); or if ``size`` is less than 1.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (40, 30)).save(Path(folder, "a.png"))
        ...     read_images(Path(folder), size=16).shape
        torch.Size([3, 16, 16])
    """
    if size is not None and size < 1:
        raise ValueError(f"Expected a size of at least one pixel; got {size}. Give a number of pixels, such as 64.")
    parts = _parts(folder)
    paths = [_paths(part) for part in parts]
    count = sum(map(len, paths))
    require_memory(
        count * (size or 0) ** 2,
        of=f"{count:,} images of size {size} (--data.size)",
        remedy="Take a smaller size, or fewer images.",
    )
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
            f'Expected both "train" and "test" in {folder}, or neither; got only "{there[0]}". Add the other, or load '
            f"{folder / there[0]} alone: a test set is then split off from it."
        )
    return [folder / name for name in there] or [folder]


def _paths(folder: Path) -> list[Path]:
    paths, others, seen = [], set(), set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        if (real := os.path.realpath(place)) in seen:
            raise ValueError(f"Expected every folder once; got {real} again by the link {place}. Remove the link.")
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(place, name) for name in files if not name.startswith(".")):
            if path.suffix.lower() in ENDINGS:
                paths.append(path)
            else:
                others.add(path.suffix.lower() or path.name)
    if not paths:
        found = f"only {', '.join(sorted(others)[:8])}" if others else "no file at all"
        raise ValueError(
            f"Expected PNG or JPEG files ({', '.join(ENDINGS)}) in {folder}; got {found}. "
            "Add such files, or give another folder."
        )
    return sorted(paths, key=lambda path: path.relative_to(folder).parts)


def _refuse(error: OSError) -> None:
    raise ValueError(
        f"Expected folders that can be read; got {error}. Change the folder's permissions, or move it elsewhere."
    ) from error


def _labels(folder: Path, paths: Sequence[Path]) -> list[str] | None:
    """Name the sub-folder of ``folder`` that holds each path; None if no path lies in a sub-folder."""
    inner = [path.relative_to(folder).parts[:-1] for path in paths]
    if not any(inner):
        return None
    if not all(inner):
        stray = next(path for path, parts in zip(paths, inner, strict=True) if not parts)
        raise ValueError(
            f"Expected images either all in sub-folders of {folder}, which label them, or all directly in it; "
            f"got both: {stray.name}, for example, lies directly in it. Move those images or the sub-folders elsewhere."
        )
    return [parts[0] for parts in inner]


def _decode(paths: Sequence[Path], size: int | None, title: str) -> Tensor:
    pool = ThreadPoolExecutor()
    try:
        with progress(title, len(paths), unit="images") as advance:
            return _stack(paths, pool.map(partial(_pixels, size=size), paths), advance)
    finally:
        pool.shutdown(cancel_futures=True)  # otherwise an error would wait for all other images


def _stack(paths: Sequence[Path], decoded: Iterator[Tensor], advance: Callable[[int], None]) -> Tensor:
    stored = torch.empty(0)
    for index, pixels in enumerate(decoded):
        if index == 0:
            stored = torch.empty((len(paths), *pixels.shape), dtype=torch.uint8)
        if pixels.shape[1:] != stored.shape[2:]:
            raise ValueError(
                f"Expected images of one height and width; got {_measures(stored)} in {paths[0]} and "
                f"{_measures(pixels)} in {paths[index]}. Give size=… (--data.size …) to resize each image's short "
                "side to that many pixels and cut out the centre."
            )
        if len(pixels) > stored.shape[1]:
            stored = stored.expand(-1, len(pixels), -1, -1).contiguous()
        stored[index] = pixels
        advance(1)
    return stored


def _measures(pixels: Tensor) -> str:
    return "×".join(map(str, pixels.shape[-2:]))


def _pixels(path: Path, size: int | None) -> Tensor:
    """Read one image as (1 or 3, height, width); errors name the file."""
    from PIL import ImageOps

    image = _open(path)
    if "A" in image.mode or "transparency" in image.info:
        grey = image.mode in _GREY
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
            raise ValueError(
                f"Expected opaque images; got transparent pixels in {path}. Put a background behind them, for example "
                "with PIL.Image.alpha_composite."
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
    except Exception as error:  # a damaged file can make a decoder fail in any way
        raise ValueError(f"Expected a PNG or JPEG image; got {error} for {path}. Remove or repair it.") from error
    # Pillow reduces 16-bit colour to 8 bits without a word, so the file's own header has to tell.
    if (start[:4] == b"\x89PNG" and start[24] == 16) or image.mode not in _GREY + _COLOUR:
        raise ValueError(
            f"Expected 8 bits a channel; got a 16-bit image (mode {image.mode}) in {path}. Convert it to 8 bits, or "
            "save all of them as one array with numpy.save."
        )
    return image
