"""Data whose factors of variation are known: files that have them, and harder questions made of any that have."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tightbound.data.mapped import SHARE, memory
from tightbound.data.observations import Observations
from tightbound.data.rows import Rows
from tightbound.data.splits import Data
from tightbound.settings import require_seed

if TYPE_CHECKING:
    import h5py

SHAPES3D = ("floor hue", "wall hue", "object hue", "scale", "shape", "orientation")


def correlated(observations: Observations, first: str, second: str, *, spread: float = 0.2, seed: int = 0) -> Data:
    r"""Train where two factors go together, test where they do not.

    A row is kept for training with probability :math:`\exp(-(a - b)^2 / 2 s^2)`, where a and b are the two factors
    scaled to [0, 1] and s is the spread. The test set is a tenth of all rows, taken at random and never trained on.

    Args:
        observations: with factors that have names.
        first: name of a factor.
        second: name of another.
        spread: s; the smaller, the closer the two go together. 0.2 makes a strong correlation, 1 hardly one.
        seed: of what is kept.

    Returns:
        The two parts.

    Raises:
        TypeError: for a seed that is no whole number.
        ValueError: for observations without names of factors, another name, one factor twice, a spread that is not
            positive or keeps nothing, or a seed out of range.

    References:
        Träuble et al.: On Disentangled Representations Learned from Correlated Data (2021),
        https://arxiv.org/abs/2006.07886.

    Example:
        >>> from tightbound.data.sprites import sprites
        >>> made = correlated(sprites(16), "scale", "x")
        >>> at = [made.train.factor_names.index(name) for name in ("scale", "x")]
        >>> kept = made.train.eval_batch().factors[:, at]
        >>> bool(torch.corrcoef(kept.T)[0, 1] > 0.6)
        True
    """
    require_seed(seed)
    if not spread > 0:
        raise ValueError(f"Expected a spread above 0; got {spread}. 0.2 makes a strong correlation.")
    if first == second:
        raise ValueError(f"Expected two different factors; got {first!r} twice.")
    a, b = (_unit(factor(observations, name)) for name in (first, second))
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(observations), generator=generator)
    test = order[: max(1, len(order) // 10)]
    kept = torch.rand(len(a), generator=generator) < torch.exp(-((a - b) ** 2) / (2 * spread**2))
    kept[test] = False
    if not kept.any():
        raise ValueError(f"Expected a spread that keeps some rows; got {spread}, which keeps none. Take a larger one.")
    name = f"{observations.name}, {first} with {second}"
    part = observations.replace(name=name, entropy=None)
    return Data(name, train=part.subset(kept.nonzero()[:, 0]), test=part.subset(test))


def held_out(observations: Observations, where: Mapping[str, Collection[float]]) -> Data:
    """Test on combinations of factors that training has never seen.

    Args:
        observations: with factors that have names.
        where: values of each factor that are held out together: a row that has one of them in *every* factor named is
            for testing.

    Returns:
        The two parts.

    Raises:
        ValueError: for observations without names of factors, another name, no name at all, or a choice that leaves
            one of the parts empty.

    Example:
        >>> from tightbound.data.sprites import sprites
        >>> made = held_out(sprites(16), {"shape": [2], "rotation": [0, 45, 90]})
        >>> len(made.train), len(made.test)
        (8064, 1152)
    """
    if not where:
        raise ValueError('Expected at least one factor to hold out by; got none. For example {"shape": [2]}.')
    chosen = torch.ones(len(observations), dtype=torch.bool)
    for name, values in where.items():
        column = factor(observations, name)
        chosen &= torch.isin(column, torch.as_tensor(list(values), dtype=column.dtype))
    if chosen.all() or not chosen.any():
        raise ValueError(
            f"Expected values that hold some rows out and leave some; got {dict(where)}, which "
            f"{'takes all' if chosen.all() else 'takes none'} of {len(chosen)} rows of {observations.name}."
        )
    parts = (observations.replace(entropy=None).subset(each.nonzero()[:, 0]) for each in (~chosen, chosen))
    return Data(f"{observations.name}, combinations held out", *parts)


def factor(observations: Observations, name: str) -> Tensor:
    """One factor of each observation.

    Args:
        observations: with factors that have names.
        name: of the factor.

    Returns:
        Shape (N,).

    Raises:
        ValueError: where there is no such factor.

    Example:
        >>> table = torch.tensor([[3.0, 1.0], [4.0, 2.0]])
        >>> factor(Observations(torch.zeros(2, 1), factors=table, factor_names=("a", "b")), "a")
        tensor([3., 4.])
    """
    table = observations.factor_table()
    if table is None or name not in observations.factor_names:
        has = ", ".join(observations.factor_names) or "no factor that has a name"
        raise ValueError(f"Expected the name of a factor of {observations.name} ({has}); got {name!r}.")
    return table[:, observations.factor_names.index(name)]


def _unit(values: Tensor) -> Tensor:
    values = values.double()
    return (values - values.amin()) / (values.amax() - values.amin()).clamp(min=1e-300)


def read_h5(path: Path) -> Observations:
    """Read an HDF5 file of images with a table of factors, as 3D Shapes has them: "images" and "labels".

    Args:
        path: the file. Images are (N, H, W, C), 8-bit. They are kept in memory where they fit into half of it;
            otherwise rows are read when they are needed, which is slow in a compressed file.

    Returns:
        N observations of shape (C, H, W). Where there are six factors they have the names of 3D Shapes, and labels are
        shapes.

    Raises:
        ModuleNotFoundError: where the extra "hdf5" is not installed.
        ValueError: for a file that is not HDF5, is damaged, or has no such arrays.

    References:
        Burgess, Kim: 3D Shapes (2018), https://github.com/google-deepmind/3d-shapes.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Expected the library h5py, to read {path}; got none. Install it: pip install 'tightbound[hdf5]'."
        ) from error
    try:
        file = h5py.File(path, "r")
        images, labels = file["images"], file["labels"]
        fine = images.ndim == 4 and labels.ndim == 2 and len(images) == len(labels) and str(images.dtype) == "uint8"
        if not fine:
            raise ValueError(
                'Expected 8-bit "images" of shape (N, H, W, C) and "labels" of shape (N, F); '
                f"got {images.dtype} {images.shape} and {labels.shape} in {path}."
            )
        read, factors = Read(images), torch.from_numpy(labels[:])
        stored = read.whole() if read.shape.numel() < SHARE * memory() else read
    except (OSError, KeyError, AttributeError) as error:
        raise ValueError(f'Expected a whole HDF5 file with "images" and "labels"; got {error} in {path}.') from error
    if isinstance(stored, Tensor):
        file.close()
    named = factors.shape[1] == len(SHAPES3D)
    return Observations(
        stored,
        labels=factors[:, SHAPES3D.index("shape")].long() if named else None,
        factors=factors,
        factor_names=SHAPES3D if named else (),
        name=str(path),
        scale=255.0,
    )


@dataclass(frozen=True, eq=False)
class Read(Rows):
    """Images in an HDF5 file, channels last, in the place of a tensor that holds them.

    Args:
        images: the file's array.
    """

    images: h5py.Dataset

    @property
    def shape(self) -> torch.Size:
        count, height, width, channels = self.images.shape
        return torch.Size((count, channels, height, width))

    def take(self, index: Tensor) -> Tensor:
        rows, back = index.unique(return_inverse=True)  # the library reads rows in order, each once
        return torch.from_numpy(self.images[rows.numpy()])[back].permute(0, 3, 1, 2)

    def whole(self) -> Tensor:
        return torch.from_numpy(self.images[:]).permute(0, 3, 1, 2)
