"""A data set with a part to learn from and a part to be judged on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch

from tightbound.data.observations import Observations
from tightbound.data.summary import require_grey

SPLIT_SEED = 20_130_620  # of no run: the test rows stay the same whatever seed a model is trained with


@dataclass(frozen=True, eq=False)
class Data:
    """A training set and a test set of the same kind of observation.

    Args:
        name: what reports call the data.
        train: what a model learns from.
        test: what it is judged on, and never sees in training.

    Raises:
        ValueError: if the two differ in shape or scale.

    Example:
        >>> pixels = torch.tensor([[0], [255]], dtype=torch.uint8)
        >>> data = Data("dots", Observations(pixels, scale=255), Observations(pixels, scale=255))
        >>> data.binarised().split("test").batch(torch.tensor([1]))
        tensor([[1.]])
    """

    name: str
    train: Observations
    test: Observations

    def __post_init__(self) -> None:
        for what in ("shape", "scale"):
            train, test = getattr(self.train, what), getattr(self.test, what)
            if train != test:
                raise ValueError(
                    f"Expected training and test observations of one {what}; got {_plain(train)} and {_plain(test)} "
                    f"in {self.name}. Make both the same way."
                )

    def split(self, name: str) -> Observations:
        """The part called ``name``, "train" or "test".

        Raises:
            ValueError: for any other name.
        """
        if name not in ("train", "test"):
            raise ValueError(f'Expected the split "train" or "test"; got {name!r}.')
        return self.train if name == "train" else self.test

    def binarised(self) -> Data:
        """The same data, binarised: see :class:`Observations`.

        Raises:
            ValueError: for values outside [0, ``scale``].
        """
        for part in (self.train, self.test):
            require_grey(part)
        return dataclasses.replace(self, train=self.train.replace(binarise=True), test=self.test.replace(binarise=True))


def split_off(observations: Observations, test_fraction: float) -> Data:
    """Hold out a random ``test_fraction`` of the observations: the same rows always, and at least one.

    Both parts are views of the same storage, so nothing is read or copied.

    Raises:
        ValueError: for a fraction that is not between 0 and 1, or for a single observation.

    Example:
        >>> data = split_off(Observations(torch.arange(20)[:, None]), 0.1)
        >>> len(data.train), len(data.test)
        (18, 2)
    """
    if not 0 < test_fraction < 1:
        raise ValueError(f"Expected a test_fraction between 0 and 1; got {test_fraction}.")
    count = len(observations)
    if count < 2:
        raise ValueError(
            f"Expected at least two observations, so that one can be held out; got {count} in {observations.name}."
        )
    held_out = min(max(round(count * test_fraction), 1), count - 1)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED))
    return Data(
        observations.name, train=observations.subset(order[held_out:]), test=observations.subset(order[:held_out])
    )


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, torch.Size) else value
