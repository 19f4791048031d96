"""A folder of images: PNG, JPEG, WebP, BMP, TIFF and GIF files.

- Images are read in the order of their paths, from all folders below too. Hidden files are ignored, and files of other
  kinds are counted in a note. Of moving pictures and of files with several pages the first picture is read, which a
  note says.
- The name of a sub-folder labels the images in it. A folder that holds ``train`` and ``test`` is already split, in
  upper or lower case; ``training``, ``testing``, ``validation``, ``val``, ``valid`` and ``dev`` are splits too, and so
  are names such as ``train_set``, ``Test-Images`` and, where there is nothing else, ``tr`` and ``te``. Without a test
  set the validation set is one; beside a test set it is left out, which a note says. A split may lie deeper, where each
  folder holds nothing but the next.
- All images become 8-bit. If any image is in colour, all are; a palette counts as colour. Photographs are turned
  upright as their EXIF data says. 16-bit images and transparent pixels are refused, since 8 bits cannot keep them.
- With ``size``, each image's short side is resized to that many pixels, and the centre is cut out as a square.
- The images of a large folder are decoded once and kept in the user's cache, as :mod:`tightbound.data.decoded` says.
  From there they are read while a model trains on them: they may be more than memory holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tightbound.batch import tensor_of
from tightbound.data.decoded import FEWEST, kept
from tightbound.data.folders import counted, images_below, labels_of, on_words, split_folders
from tightbound.data.labels import apart, encode
from tightbound.data.mapped import ahead, require_memory
from tightbound.data.observations import Observations
from tightbound.data.splits import Data
from tightbound.progress import progress
from tightbound.surface import some
from tightbound.threads import usable

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["plain", "read_images"]

BLOCK = 512  # images that are decoded while the ones before them are put away
TASK = 32  # images that a thread decodes before it asks for more
NAMED = 10  # files that cannot be read which an error names
# What Pillow may find in a file: to read some other formats it starts programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
_BITS = 258  # the tag of a TIFF file that says how many bits each channel has
INDIRECT = ("P", "PA", "CMYK", "YCbCr")  # whose values are no RGB, so that an array of them means something else
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
            them, has both in one of its sub-folders, or has images both in sub-folders and beside them; if images
            differ in size and no ``size`` is given; if an image cannot be read, has more than 8 bits, or has
            transparent pixels (the error names the file); if a name is not UTF-8; or if ``size`` is less than 1.

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
    parts, notes = split_folders(folder)
    found = [images_below(part) for part in parts]
    paths = [images for images, _ in found]
    if others := [other for _, others in found for other in others]:
        notes.append(f"left out {counted(others)}")
    count = sum(map(len, paths))
    words = [labels_of(part, files) for part, files in zip(parts, paths, strict=True)]
    labels, names = encode(words, str(folder))
    notes += [*on_words(names), *(apart(labels, names) if len(parts) == 2 else [])]
    stored, several = _read(folder, [path for files in paths for path in files], size)
    many = "1 file has" if several == 1 else f"{several} files have"
    notes += [f"{many} more than one picture; the first of each was read"] if several else []
    given: dict[str, Any] = {"label_names": names, "scale": 255, "notes": tuple(notes)}
    if isinstance(stored, np.ndarray):  # which stays in its file: each part knows its rows of it
        whole, ask = tensor_of(stored, str(folder)), ahead(stored)
        everyone = None if labels[0] is None else torch.cat([torch.as_tensor(codes) for codes in labels])
        rows = torch.arange(count).split(list(map(len, paths)))
        given |= {"labels": everyone, "ask": ask}
        sets = [Observations(whole, name=str(p), rows=r, **given) for p, r in zip(parts, rows, strict=True)]
    else:
        pixels = stored.split(list(map(len, paths)))
        each = zip(parts, labels, pixels, strict=True)
        sets = [Observations(x, labels=codes, name=str(part), **given) for part, codes, x in each]
    return sets[0] if len(sets) == 1 else Data(str(folder), train=sets[0], test=sets[1])


def _read(folder: Path, paths: Sequence[Path], size: int | None) -> tuple[Tensor | np.ndarray, int]:
    """All images, and how many files have more than one: mapped from the cache where there are many."""
    blocks = partial(_blocks, paths, size, f"reading {folder.name}")
    if len(paths) >= FEWEST and (found := kept(folder, paths, size, blocks)) is not None:
        return found
    require_memory(
        len(paths) * (size or 0) ** 2,
        of=f"{len(paths):,} images of size {size} (--data.size)",
        remedy="Take a smaller size, or fewer images.",
    )
    stored, several, done = torch.empty(0), 0, 0
    for block, more in blocks():
        several += more
        fresh = torch.from_numpy(block)
        if not done:
            stored = torch.empty((len(paths), *fresh.shape[1:]), dtype=torch.uint8)
        if fresh.shape[1] > stored.shape[1]:
            stored = stored.expand(-1, fresh.shape[1], -1, -1).contiguous()
        stored[done : done + len(fresh)] = fresh
        done += len(fresh)
    return stored, several


def _blocks(paths: Sequence[Path], size: int | None, title: str) -> Iterator[tuple[np.ndarray, int]]:
    """Images in order, many at a time, each time with the number of files that have more than one.

    Where some cannot be read, the others are tried as well, so that all of them can be named at once.
    """
    pool, wrong = ThreadPoolExecutor(usable()), list[tuple[Path, ValueError]]()
    parts = [paths[start : start + BLOCK] for start in range(0, len(paths), BLOCK)]
    first: np.ndarray | None = None
    try:
        with progress(title, len(paths), unit="images") as advance:
            coming = deque([_begun(pool, parts[0], size)])
            for part, following in zip(parts, [*parts[1:], []], strict=True):
                coming.append(_begun(pool, following, size))  # while this part is waited for
                pixels, several = _waited(coming.popleft(), wrong, advance)
                if wrong:
                    if len(wrong) > NAMED:
                        break
                    continue
                first = pixels[0] if first is None else first
                _require_one_size(pixels, part, first, paths[0])
                channels = max(map(len, pixels))
                shape = (channels, *first.shape[1:])
                yield np.stack([np.broadcast_to(each, shape) for each in pixels]), several
    finally:
        pool.shutdown(cancel_futures=True)  # otherwise an error would wait for all other images
    if wrong:
        raise _unreadable(wrong)


Read = list[tuple[Path, np.ndarray | ValueError, bool]]


def _begun(pool: ThreadPoolExecutor, paths: Sequence[Path], size: int | None) -> list[Future[Read]]:
    """A few images a task: threads that ask for work after each small one wait for one another."""
    starts = range(0, len(paths), TASK)
    return [pool.submit(_tried, paths[start : start + TASK], size) for start in starts]


def _tried(paths: Sequence[Path], size: int | None) -> Read:
    found: Read = []
    for path in paths:
        try:
            found.append((path, *_pixels(path, size)))
        except ValueError as error:
            found.append((path, error, False))
    return found


def _waited(
    coming: Sequence[Future[Read]], wrong: list[tuple[Path, ValueError]], advance: Callable[[int], None]
) -> tuple[list[np.ndarray], int]:
    """The images of some tasks, and how many files have more than one; what cannot be read is added to ``wrong``."""
    pixels, several = list[np.ndarray](), 0
    for found in (future.result() for future in coming):
        for path, image, more in found:
            several += more
            if isinstance(image, ValueError):
                wrong.append((path, image))
            else:
                pixels.append(image)
        advance(len(found))
    return pixels, several


def _unreadable(wrong: Sequence[tuple[Path, ValueError]]) -> ValueError:
    [(_, error), *others] = wrong
    if not others:
        return error
    count = f"more than {NAMED}" if len(wrong) > NAMED else f"{len(wrong)}"
    names = some([str(path) for path, _ in wrong], NAMED)
    return ValueError(f"Expected images that can be read; got {count} that cannot be: {names}. Of the first: {error}")


def _require_one_size(pixels: Sequence[np.ndarray], paths: Sequence[Path], first: np.ndarray, its: Path) -> None:
    for path, each in zip(paths, pixels, strict=True):
        if each.shape[1:] != first.shape[1:]:
            raise ValueError(
                f"Expected images of one height and width; got {_measures(first)} in {its} and {_measures(each)} in "
                f"{path}. Give size=… (--data.size …) to resize each image's short side to that many pixels and cut "
                "out the centre."
            )


def _measures(pixels: np.ndarray) -> str:
    return "×".join(map(str, pixels.shape[-2:]))


def _pixels(path: Path, size: int | None) -> tuple[np.ndarray, bool]:
    """Read one image as (1 or 3, height, width), and whether the file has more; errors name the file."""
    from PIL import ImageOps

    image, more = _open(path)
    image = plain(image, path)
    if size is not None:
        image = ImageOps.fit(image, (size, size))
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1), more


def plain(image: Image.Image, where: Path | str) -> Image.Image:
    """Grey or RGB of 8 bits a channel.

    Args:
        image: of any mode of 8 bits.
        where: what error messages call it.

    Raises:
        ValueError: if it has transparent pixels.

    Example:
        >>> from PIL import Image
        >>> plain(Image.new("CMYK", (2, 2)), "x.jpg").mode
        'RGB'
    """
    if "A" in image.mode or "transparency" in image.info:
        grey = image.mode in _GREY
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
            raise ValueError(
                f"Expected opaque images; got transparent pixels in {where}. Put a background behind them, for example "
                "with PIL.Image.alpha_composite."
            )
        image = image.convert("L" if grey else "RGB")
    return image.convert("L" if image.mode in _GREY else "RGB")


def _open(path: Path) -> tuple[Image.Image, bool]:
    from PIL import Image, ImageOps

    try:
        with open(path, "rb") as file:
            start = file.read(25)
        with Image.open(path, formats=_FORMATS) as opened:
            more = getattr(opened, "n_frames", 1) > 1
            opened.seek(0)
            # Pillow reduces 16-bit colour to 8 bits without a word, so the file's own header has to tell.
            bits = start[24] if start[:4] == b"\x89PNG" else max(getattr(opened, "tag_v2", {}).get(_BITS, (8,)))
            image = ImageOps.exif_transpose(opened)
    except Image.DecompressionBombError:
        raise ValueError(
            f"Expected images of at most {2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6:.0f} million pixels; got a larger "
            f"one, {path}. Make it smaller with a program for pictures."
        ) from None
    except Exception as error:  # a damaged file can make a decoder fail in any way
        raise ValueError(f"Expected an image; got {error} for {path}. Remove or repair it.") from error
    if bits > 8 or image.mode not in _GREY + _COLOUR:
        raise _more_than_bytes(image.mode, bits, path)
    return image, more


def _more_than_bytes(mode: str, bits: int, path: Path) -> ValueError:
    remedy = (
        "Save all of them as one array: numpy.save('x.npy', numpy.stack([numpy.asarray(each) for each in images]))."
    )
    if mode in _GREY + _COLOUR:  # an array of it would have 8 bits as well
        got, remedy = f"a {bits}-bit image (mode {mode})", "Convert it to 8 bits with a program for pictures."
    elif mode == "F":
        got = "an image of floating-point numbers (mode F)"
    elif mode.startswith("I"):
        got = f"a {bits}-bit image (mode {mode})"
        remedy = f"Convert it to 8 bits. {remedy.replace('Save', 'Or save')}"
    else:
        got, remedy = f"an image in {mode} colours", 'Convert it: image.convert("RGB").'
    return ValueError(f"Expected 8 bits a channel, grey or RGB; got {got} in {path}. {remedy}")
