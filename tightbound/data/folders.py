"""Which images of a folder are the training set and the test set, and which folders label them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tightbound.files import require_file
from tightbound.surface import some

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
_SPLITS = {  # what folders are called, in lower case
    "train": "train", "training": "train", "tr": "train", "test": "test", "testing": "test", "te": "test",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
}  # fmt: skip
_SHORT = ("tr", "te")  # which are languages as well
_CALLED = re.compile(
    f"({'|'.join(_SPLITS)})[-_ ]*(sets?|images?|imgs?|pictures?|photos?|data|datasets?|splits?|samples?|folder)?"
)


def split_folders(folder: Path) -> tuple[list[Path], list[str]]:
    """Find the folders of training and test set.

    Args:
        folder: any.

    Returns:
        The two folders, or the folder itself where it is not split; and what is to be said of it, a sentence each.

    Raises:
        ValueError: if there is only one of the two sets, or if there are two folders for one of them.
    """
    place = _place(folder)
    inside, loose = _entries(place)
    found: dict[str, Path] = {}
    for split, path in _sides(inside):
        if split in found:
            raise ValueError(
                f"Expected one folder for the {split} set in {place}; got {found[split].name} and {path.name}. Put "
                "the images together, or move one of the folders elsewhere."
            )
        found[split] = path
    if found.keys() <= {"validation"}:  # which may be a label as well
        return [folder], []
    held_out = found.get("test", found.get("validation"))
    if "train" not in found or held_out is None:
        only = next(iter(found.values()))
        raise ValueError(
            f'Expected both "train" and "test" in {place}, or neither; got only "{only.name}". Add the other, or load '
            f"{only} alone: a test set is then split off from it."
        )
    notes = [] if place == folder else [f"the split is that of the folder {place}, as {folder} holds nothing else"]
    notes += _on_split(found, [_said(path.name) for path in inside if path not in found.values()])
    if loose:
        notes.append(
            f"left out {counted(map(_kind, loose))} beside the folders {found['train'].name} and {held_out.name}"
        )
    return [found["train"], held_out], notes


def _on_split(found: dict[str, Path], others: Sequence[str]) -> list[str]:
    unusual = {name: found[name].name for name in ("train", "test") if name in found and found[name].name != name}
    notes = [f"the folder {called} is the {name} set" for name, called in unusual.items()]
    if "validation" in found:
        name = found["validation"].name
        left = f"the folder {name} is left out: validation takes its share of the training set"
        notes.append(left if "test" in found else f"the folder {name} is the test set, as there is no other")
    return notes + ([f"other folders beside them are left out: {some(others, 5)}"] if others else [])


def _place(folder: Path) -> Path:
    """Where the split is: further down, where each folder holds nothing but the next."""
    place, seen = folder, set[Path]()
    while place.resolve() not in seen:
        seen.add(place.resolve())
        inside, loose = _entries(place)
        if {split for split, _ in _sides(inside)} - {"validation"}:
            return place
        if len(inside) != 1 or any(_is_image(path) for path in loose):
            return folder
        place = inside[0]
    return folder


def _sides(folders: Sequence[Path]) -> list[tuple[str, Path]]:
    """The folders that are called as splits are, each with the split."""
    called = [(found[1], path) for path in folders if (found := _CALLED.fullmatch(path.name.strip().lower()))]
    alone = len(called) == len(folders)
    return [(_SPLITS[word], path) for word, path in called if alone or word not in _SHORT]


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """The folders and the files in a folder, in order, without those that are hidden."""
    folders, files = list[Path](), list[Path]()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not _hidden(entry.name):
                    (folders if entry.is_dir() else files).append(Path(entry.path))
    except OSError as error:
        _refuse(error)
    return sorted(folders), sorted(files)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"  # which a Mac puts into archives


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS


def _kind(path: Path) -> str:
    return _said(path.suffix.lower() or path.name)


def _said(name: str) -> str:
    """A name as a note can be written: what is no UTF-8 in it is replaced."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def counted(kinds: Iterable[str]) -> str:
    """How many there are of each of the most frequent kinds.

    Example:
        >>> counted([".txt", ".csv", ".txt"])
        '2 .txt, 1 .csv'
    """
    kinds = list(kinds)
    counts = sorted(((kinds.count(kind), kind) for kind in set(kinds)), reverse=True)
    more = sum(count for count, _ in counts[8:])
    return ", ".join(f"{count} {kind}" for count, kind in counts[:8]) + (f" and {more} of other kinds" if more else "")


def images_below(folder: Path) -> tuple[list[Path], list[str]]:
    """Find the images in a folder and in all folders below.

    Args:
        folder: any.

    Returns:
        The images, in the order of their paths; and the endings of other files.

    Raises:
        ValueError: if there is no image, a folder cannot be read or comes twice, or a name is not UTF-8.
    """
    found, others, seen = list[tuple[tuple[str, ...], Path]](), list[str](), set()
    for place, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        if (real := os.path.realpath(place)) in seen:
            raise ValueError(f"Expected every folder once; got {real} again by the link {place}. Remove the link.")
        seen.add(real)
        folders[:] = [name for name in folders if not _hidden(name)]
        above = Path(place).relative_to(folder).parts
        for name in (name for name in files if not _hidden(name)):
            path = Path(place, name)
            if _is_image(path):
                _require_words(path)
                if not os.path.isfile(path):
                    require_file(path)
                found.append(((*above, name), path))
            else:
                others.append(_kind(path))
    if not found:
        there = f"only {some(sorted(set(others)), 8)}" if others else "no file at all"
        raise ValueError(
            f"Expected images ({', '.join(ENDINGS)}) in {folder}; got {there}. Add such files, or give another folder."
        )
    return [path for _, path in sorted(found)], others


def _require_words(path: Path) -> None:
    """Refuse names that are no text: no page, no picture and no file of ours could say them."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ValueError(f"Expected names in UTF-8; got {_said(str(path))}. Rename that file or folder.") from None


def _refuse(error: OSError) -> None:
    raise ValueError(
        f"Expected folders that can be read; got {error}. Change the folder's permissions, or move it elsewhere."
    ) from error


def labels_of(folder: Path, paths: Sequence[Path]) -> list[str] | None:
    """Name the sub-folder of ``folder`` that holds each image.

    Args:
        folder: a training or test set.
        paths: of images in it.

    Returns:
        A name for each path; None if no path lies in a sub-folder.

    Raises:
        ValueError: if only some do, or if a sub-folder holds a training and a test set.
    """
    places = [os.path.dirname(path) for path in paths]
    parts_of = {place: Path(place).relative_to(folder).parts for place in set(places)}
    inner = [parts_of[place] for place in places]
    if not any(inner):
        return None
    if not all(inner):
        stray = next(path for path, parts in zip(paths, inner, strict=True) if not parts)
        raise ValueError(
            f"Expected images either all in sub-folders of {folder}, which label them, or all directly in it; "
            f"got both: {stray.name}, for example, lies directly in it. Move those images or the sub-folders elsewhere."
        )
    _require_no_split_below(folder, set(inner))
    return [parts[0] for parts in inner]


def _require_no_split_below(folder: Path, inner: set[tuple[str, ...]]) -> None:
    """Refuse a split of each label apart: its test images would be trained on."""
    inside: dict[Path, set[Path]] = {}
    for parts in inner:
        for depth in range(1, len(parts)):
            inside.setdefault(Path(*parts[:depth]), set()).add(Path(parts[depth]))
    for place in sorted(inside):
        found = dict(_sides(sorted(inside[place])))
        if "train" in found and len(found) > 1:
            train, test = found["train"], found.get("test") or found["validation"]
            raise ValueError(
                f"Expected a training and a test set in {folder} itself; got {train} and {test} in its sub-folder "
                f"{place}. Load {folder / place} alone, or move the images to {train / place} and {test / place}."
            )


def on_words(names: Sequence[str]) -> list[str]:
    """What is to be said of labels that are called as splits are.

    Example:
        >>> on_words(["cats", "train2017"])
        ['the folder train2017 is a label and no split; call folders train and test to make them one']
    """
    alike = [name for name in names if any(map(_CALLED.fullmatch, re.findall("[a-z]+", name.lower())))]
    if not alike:
        return []
    said = f"the folder {alike[0]} is a label" if len(alike) == 1 else f"the folders {some(alike, 5)} are labels"
    return [f"{said} and no split; call folders train and test to make them one"]
