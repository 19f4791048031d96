"""A data set in two parts: one to train a model on, and one to test it on."""

from __future__ import annotations

import dataclasses
import numbers
from dataclasses import dataclass

import torch

from tightbound.data.observations import Observations
from tightbound.data.summary import DataSummary, require_grey, summarise

SPLIT_SEED = 20_130_620  # a constant, so that the test rows are the same whatever seed a model is trained with


@dataclass(frozen=True, eq=False)
class Data:
    """A training set and a test set of the same kind of observation.

    Args:
        name: what reports call the data.
        train: the observations that a model is trained on.
        test: the observations that it is tested on. It never sees them in training.

    Raises:
        TypeError: if a part is no Observations.
        ValueError: if the two parts differ in shape or scale.

    Example:
        >>> pixels = torch.tensor([[0], [255]], dtype=torch.uint8)
        >>> data = Data("dots", Observations(pixels, scale=255), Observations(pixels, scale=255))
        >>> data.binarised().split("test").batch(torch.tensor([1])).x
        tensor([[1.]])
    """

    name: str
    train: Observations
    test: Observations

    def __post_init__(self) -> None:
        for part, which in ((self.train, "training"), (self.test, "test")):
            if not isinstance(part, Observations):
                raise TypeError(
                    f"Expected Observations as the {which} set of {self.name}; got {type(part).__name__}. Make them: "
                    "tb.data.observations(x)."
                )
        for what in ("shape", "scale"):
            train, test = getattr(self.train, what), getattr(self.test, what)
            if train != test:
                raise ValueError(
                    f"Expected training and test observations of one {what}; got {_plain(train)} and {_plain(test)} "
                    f"in {self.name}. {self._remedy()}"
                )

    def _repr_html_(self) -> str:
        from tightbound.data.shown import shown_beside

        return shown_beside(f"Data: {self.name}", {"training": self.train, "test": self.test})

    def _remedy(self) -> str:
        kinds = [str(part.stored.dtype).removeprefix("torch.") for part in (self.train, self.test)]
        differ = f": the one is stored as {kinds[0]}, the other as {kinds[1]}" if kinds[0] != kinds[1] else ""
        return f"Make both in the same way{differ}."

    def split(self, name: str) -> Observations:
        """Choose a part by its name.

        Args:
            name: "train" or "test".

        Returns:
            That part.

        Raises:
            ValueError: if the name is another one.

        Example:
            >>> data = split_off(Observations(torch.arange(20)[:, None]), 0.25)
            >>> len(data.split("train")), len(data.split("test"))
            (15, 5)
        """
        if name not in ("train", "test"):
            raise ValueError(f'Expected the split "train" or "test"; got {name!r}. Choose one of the two.')
        return self.train if name == "train" else self.test

    @property
    def has_own_test_set(self) -> bool:
        """Whether the test set was found apart, and is no share of what was found."""
        return self.train.stored is not self.test.stored

    def everything(self) -> list[Observations]:
        """All observations as they are stored: in one part, or in two where the test set is kept apart.

        Example:
            >>> data = split_off(Observations(torch.arange(20)[:, None]), 0.25)
            >>> [len(part) for part in data.everything()]
            [20]
        """
        return [self.train, self.test] if self.has_own_test_set else [self.train.replace(rows=None)]

    def summaries(self) -> tuple[DataSummary, DataSummary]:
        """Summaries of the training and of the test set, as :func:`tightbound.data.summarise` makes them.

        Raises:
            ValueError: as for that function, with the numbers of rows of both parts together where one was split.

        Example:
            >>> seen, unseen = split_off(Observations(torch.arange(20)[:, None]), 0.25).summaries()
            >>> seen.count, unseen.count
            (15, 5)
        """
        if self.has_own_test_set:
            return summarise(self.train), summarise(self.test)
        every = torch.arange(len(self.train.stored))
        parts = [every if part.rows is None else part.rows.cpu() for part in (self.train, self.test)]
        whole = self.train.replace(rows=torch.cat(parts).unique())
        return summarise(self.train, of=whole), summarise(self.test, of=whole)

    def binarised(self) -> Data:
        """Binarise both parts; :class:`Observations` says how.

        Returns:
            The binarised data, which share the stored values with these.

        Raises:
            ValueError: if a value lies outside [0, ``scale``].

        Example:
            >>> data = split_off(Observations(torch.rand(20, 2)), 0.25).binarised()
            >>> data.test.eval_batch().x.unique()
            tensor([0., 1.])
        """
        for part in (self.train, self.test):
            require_grey(part)
        drawn = {"binarise": True, "entropy": None}  # draws of other data
        return dataclasses.replace(self, train=self.train.replace(**drawn), test=self.test.replace(**drawn))


def split_off(observations: Observations, test_fraction: float) -> Data:
    """Split a random test set off, with at least one observation. The same rows are chosen every time.

    Both parts are views of the same stored values, so nothing is read or copied.

    Args:
        observations: at least two.
        test_fraction: which fraction of them to hold out, between 0 and 1.

    Returns:
        Training and test set.

    Raises:
        TypeError: if the fraction is no number.
        ValueError: if the fraction is not between 0 and 1, or if there is only one observation.

    Example:
        >>> data = split_off(Observations(torch.arange(20)[:, None]), 0.1)
        >>> len(data.train), len(data.test)
        (18, 2)
    """
    if not isinstance(test_fraction, numbers.Real):
        raise TypeError(f"Expected a test_fraction that is a number; got {test_fraction!r}. Give one, such as 0.1.")
    if not 0 < test_fraction < 1:
        raise ValueError(
            f"Expected a test_fraction between 0 and 1; got {test_fraction}. Give the fraction to hold out, "
            "such as 0.1."
        )
    count = len(observations)
    if count < 2:
        raise ValueError(
            f"Expected at least two observations, so that one can be held out; got {count} in {observations.name}. "
            "Add observations, or make tightbound.data.Data(name, train, test) yourself."
        )
    held_out = min(max(round(count * test_fraction), 1), count - 1)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(SPLIT_SEED))
    return Data(
        observations.name, train=observations.subset(order[held_out:]), test=observations.subset(order[:held_out])
    )


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, torch.Size) else value
