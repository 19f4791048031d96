"""The verbs that say what there is, without a run: data, and the version. No torch until there is something to do."""

from __future__ import annotations

import platform
import textwrap
from importlib import metadata
from typing import Annotated

from cyclopts import Parameter

from tightbound._version import __version__
from tightbound.cli.answer import answering
from tightbound.cli.flags import Switch, WholeOrNone
from tightbound.paths import cache

NAMES = {  # of data, and what they are
    "digits": "1,797 handwritten digits of 8×8 pixels, which come with scikit-learn.",
    "mnist": "70,000 handwritten digits of 28×28 pixels, downloaded once; each file's checksum is verified.",
    "sprites": "Shapes in every size, turn and place, drawn at each load, whose factors are known; black and white.",
    "sprites-grey": "The same in levels of grey.",
    "sprites-hue": "The same in colours.",
    "sprites-upright": "Fewer of them in six colours and without a turn, which a small model learns in a minute.",
    "sprites-correlated": "Black and white; scale and x go together in training.",
    "sprites-held-out": "Black and white; tested on hearts that stand on their head on the right.",
}
PATHS = (
    "Or a path: a folder of images, a .npy file, a .npz file with x_train and, where there are any, x_test and labels, "
    "or an .h5 file."
)


def data(
    source: str | None = None,
    /,
    *,
    size: Annotated[WholeOrNone, Parameter(name=("--size", "--data.size"))] = None,
    test_fraction: Annotated[float, Parameter(name=("--test-fraction", "--data.test-fraction"))] = 0.1,
    json: Switch = False,
) -> int:
    """Load data and say what there is to know of them: where they lie, what they hold, which likelihood follows.

    For example: `tightbound data my-images/ --size 64`. `tightbound data mnist` fetches MNIST, unless it is there.

    Without a name it lists the data that have one. `tightbound data clear` removes the decoded images of large folders,
    which are kept in the user's cache so that they are decoded once (a folder called clear is `./clear`).

    It says how many observations of which shape there are, how they are split, what kind of values they have, labels
    and known factors, what was left out and what is odd, and which likelihood and network the recipe `auto` takes, and
    why. What a training would refuse, it refuses.

    Args:
        source: A name, or the path of a .npy, .npz or .h5 file or of a folder of images.
        size: Height and width in pixels that images of a folder are resized to, or that sprites have.
        test_fraction: Which fraction to hold out where there is no test set.
        json: Print one JSON object.
    """
    if source is None:
        with answering(as_json=json) as answer:
            width = max(map(len, NAMES)) + 2
            for name, about in NAMES.items():
                answer.say(entry(name, about, width))
            answer.say(textwrap.fill(PATHS, 100))
            keeps = _kept()
            if keeps["folders"]:
                answer.say(_told(keeps) + " 'tightbound data clear' removes them.")
            answer.give({"data": [{"name": name, "about": about} for name, about in NAMES.items()], "kept": keeps})
        return 0
    if source == "clear":
        from tightbound.data.decoded import clear

        with answering(as_json=json) as answer:
            keeps = _kept()
            clear()
            answer.say(_told(keeps).replace("Kept", "Removed") if keeps["folders"] else "Nothing is kept.")
            answer.give({"removed": keeps})
        return 0
    from tightbound.runs.described import described

    with answering(as_json=json) as answer:
        answer.found(described(source, size=size, test_fraction=test_fraction))
    return 0


def _kept() -> dict[str, str | int]:
    """Where decoded images are kept, of how many folders, and how many bytes they take."""
    place, count, size = cache() / "images", 0, 0
    if place.is_dir():  # what reads it takes a second to import
        from tightbound.data.decoded import list_kept

        found = list_kept()
        count, size = len(found), sum(each for _, _, each in found)
    return {"place": str(place), "folders": count, "bytes": size}


def _told(keeps: dict[str, str | int]) -> str:
    folders, size = int(keeps["folders"]), int(keeps["bytes"])
    amount = f"{size / 1e6:,.1f} MB" if size >= 10**5 else f"{size} bytes"
    return f"Kept in {keeps['place']}: the decoded images of {folders} folder{'s' * (folders != 1)}, {amount}."


def entry(name: str, about: str, width: int) -> str:
    """A name and what it is, as a list shows them.

    Args:
        name: short.
        about: a sentence.
        width: what all names take.

    Example:
        >>> entry("digits", "Handwritten.", 8)
        'digits  Handwritten.'
    """
    return textwrap.fill(about, 100, initial_indent=f"{name:{width}}", subsequent_indent=" " * width)


def version(*, json: Switch = False) -> int:
    """Print the version.

    For example: `tightbound version --json`, which names Python and PyTorch too, as a report of a fault needs them.

    Args:
        json: Print one JSON object: the versions of tightbound, Python and PyTorch, and the platform.
    """
    with answering(as_json=json) as answer:
        answer.say(__version__)
        others = {"python": platform.python_version(), "torch": metadata.version("torch")}
        answer.give({"version": __version__, **others, "platform": platform.platform()})
    return 0
