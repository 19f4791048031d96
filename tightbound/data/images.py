"""A folder of images: PNG, JPEG, WebP, BMP, TIFF and GIF files.

- Images are read in the order of their paths, from all folders below too. Hidden files are ignored, and files of other
  kinds are counted in a note. Of moving pictures and of files with several pages the first picture is read, which a
  note says.
- The name of a sub-folder labels the images in it. A folder that holds ``train`` and ``test`` is already split, in
  upper or lower case; ``training``, ``testing``, ``validation``, ``val``, ``valid`` and ``dev`` are splits too. Without
  a test set the validation set is one; beside a test set it is left out, which a note says.
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
from tightbound.files import require_file
from tightbound.progress import progress

if TYPE_CHECKING:
    from PIL import Image

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
# What Pillow may find in a file: to read some other formats it starts programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
_SPLITS = {  # what folders are called, in lower case
    "train": "train", "training": "train", "test": "test", "testing": "test", "val": "validation",
    "valid": "validation", "validation": "validation", "dev": "validation",
}  # fmt: skip
_GREY, _COLOUR = ("1", "L", "LA"), ("P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


def read_images(folder: Path, *, size: int | None = None) -> Observations | Data:
    """Read all images of a folder into one 8-bit tensor (N, C, height, width), with C = 1 or 3.

    Args:
        folder: where the images are.
        size: height and width in pixels that every image gets. Where it is None, all images must have one size already.

    Returns:
        Data if the folder holds ``train`` and ``test``, Observations otherwise.

    Raises:
        ValueError: if the folder has no images, has only one of ``train`` and ``test``, has two folders for one of
            them, or has images both in sub-folders and beside them; if images differ in size and no ``size`` is given;
            if an image cannot be read, has 16 bits, or has transparent pixels (the error names the file); if a name is
            not UTF-8; or if ``size`` is less than 1.

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
    parts, notes = _parts(folder)
    listed = [_paths(part) for part in parts]
    paths = [found for found, _ in listed]
    notes += _left_out([other for _, others in listed for other in others])
    count = sum(map(len, paths))
    require_memory(
        count * (size or 0) ** 2,
        of=f"{count:,} images of size {size} (--data.size)",
        remedy="Take a smaller size, or fewer images.",
    )
    labels, names = encode([_labels(part, files) for part, files in zip(parts, paths, strict=True)], str(folder))
    stored, several = _decode([path for files in paths for path in files], size, f"reading {folder.name}")
    notes += [f"{several} files have more than one picture; the first of each was read"] if several else []
    sets = [
        Observations(pixels, labels=codes, label_names=names, name=str(part), scale=255, notes=tuple(notes))
        for part, codes, pixels in zip(parts, labels, stored.split(list(map(len, paths))), strict=True)
    ]
    return sets[0] if len(sets) == 1 else Data(str(folder), train=sets[0], test=sets[1])


def _parts(folder: Path) -> tuple[list[Path], list[str]]:
    """The folders of training and test set, or the folder itself; and what is to be said of it."""
    found: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_dir() and path.name.lower() in _SPLITS):
        split = _SPLITS[path.name.lower()]
        if split in found:
            raise ValueError(
                f"Expected one folder for the {split} set in {folder}; got {found[split].name} and {path.name}. Put "
                "the images together, or move one of the folders elsewhere."
            )
        found[split] = path
    if not found or found.keys() == {"validation"}:  # which may be a label as well
        return [folder], []
    held_out = found.get("test", found.get("validation"))
    if "train" not in found or held_out is None:
        only = next(iter(found.values()))
        raise ValueError(
            f'Expected both "train" and "test" in {folder}, or neither; got only "{only.name}". Add the other, or load '
            f"{only} alone: a test set is then split off from it."
        )
    unusual = {name: found[name].name for name in ("train", "test") if name in found and found[name].name != name}
    notes = [f"the folder {called} is the {name} set" for name, called in unusual.items()]
    if "validation" in found:
        name = found["validation"].name
        left = f"the folder {name} is left out: validation takes its share of the training set"
        notes.append(left if "test" in found else f"the folder {name} is the test set, as there is no other")
    others = sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name.lower() not in _SPLITS)
    if others := [name for name in others if not name.startswith(".")]:
        notes.append(f"other folders beside them are left out: {', '.join(others[:5])}")
    return [found["train"], held_out], notes


def _left_out(others: Sequence[str]) -> list[str]:
    """A note on files of other kinds."""
    if not others:
        return []
    counts = sorted(((others.count(kind), kind) for kind in set(others)), reverse=True)
    return [f"left out {', '.join(f'{count} {kind}' for count, kind in counts[:8])}"]


def _paths(folder: Path) -> tuple[list[Path], list[str]]:
    """The images below a folder, and the endings of its other files."""
    paths, others, seen = list[Path](), list[str](), set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        if (real := os.path.realpath(place)) in seen:
            raise ValueError(f"Expected every folder once; got {real} again by the link {place}. Remove the link.")
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(place, name) for name in files if not name.startswith(".")):
            if path.suffix.lower() in ENDINGS:
                _require_words(path)
                require_file(path)
                paths.append(path)
            else:
                others.append(path.suffix.lower() or path.name)
    if not paths:
        found = f"only {', '.join(sorted(set(others))[:8])}" if others else "no file at all"
        raise ValueError(
            f"Expected images ({', '.join(ENDINGS)}) in {folder}; got {found}. Add such files, or give another folder."
        )
    return sorted(paths, key=lambda path: path.relative_to(folder).parts), others


def _require_words(path: Path) -> None:
    """Refuse names that are no text: no page, no picture and no file of ours could say them."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        name = str(path).encode(errors="surrogateescape").decode(errors="replace")
        raise ValueError(f"Expected names in UTF-8; got {name}. Rename that file or folder.") from None


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


def _decode(paths: Sequence[Path], size: int | None, title: str) -> tuple[Tensor, int]:
    """All images, and how many files have more than one."""
    pool = ThreadPoolExecutor()
    try:
        with progress(title, len(paths), unit="images") as advance:
            return _stack(paths, pool.map(partial(_pixels, size=size), paths), advance)
    finally:
        pool.shutdown(cancel_futures=True)  # otherwise an error would wait for all other images


def _stack(
    paths: Sequence[Path], decoded: Iterator[tuple[Tensor, bool]], advance: Callable[[int], None]
) -> tuple[Tensor, int]:
    stored, several = torch.empty(0), 0
    for index, (pixels, more) in enumerate(decoded):
        several += more
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
    return stored, several


def _measures(pixels: Tensor) -> str:
    return "×".join(map(str, pixels.shape[-2:]))


def _pixels(path: Path, size: int | None) -> tuple[Tensor, bool]:
    """Read one image as (1 or 3, height, width), and whether the file has more; errors name the file."""
    from PIL import ImageOps

    image, more = _open(path)
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
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1), more


def _open(path: Path) -> tuple[Image.Image, bool]:
    from PIL import Image, ImageOps

    try:
        with open(path, "rb") as file:
            start = file.read(25)
        with Image.open(path, formats=_FORMATS) as opened:
            more = getattr(opened, "n_frames", 1) > 1
            opened.seek(0)
            image = ImageOps.exif_transpose(opened)
    except Image.DecompressionBombError:
        raise ValueError(
            f"Expected images of at most {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels; got a larger "
            f"one, {path}. Make it smaller with a program for pictures."
        ) from None
    except Exception as error:  # a damaged file can make a decoder fail in any way
        raise ValueError(f"Expected an image; got {error} for {path}. Remove or repair it.") from error
    # Pillow reduces 16-bit colour to 8 bits without a word, so the file's own header has to tell.
    if (start[:4] == b"\x89PNG" and start[24] == 16) or image.mode not in _GREY + _COLOUR:
        raise ValueError(
            f"Expected 8 bits a channel; got a 16-bit image (mode {image.mode}) in {path}. Convert it to 8 bits, or "
            "save all of them as one array with numpy.save."
        )
    return image, more
