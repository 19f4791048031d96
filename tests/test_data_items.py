"""Data sets of items, whoever made them: one way for all, in memory or through a file, and nothing lost in silence."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    WeightedRandomSampler,
)
from training import QUIET, data, equal, model, weights

import tightbound as tb
from tightbound.data import datasets, observations, write
from tightbound.data.items import parsed
from tightbound.training import fit

X = data(30)
Y = torch.arange(30) % 3
PLAIN = {name: value for name, value in QUIET.items() if name != "batch_size"}


class Numbered:
    """No torch: a length, and items by number, as Hugging Face's data sets are."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        if not isinstance(index, int):
            raise TypeError("by one number at a time")
        return self.items[index]


class Iterated:
    """No length: items one after another, from the beginning each time, as shards are."""

    def __init__(self, items: Iterable[Any]) -> None:
        self.items = list(items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


class Streamed(IterableDataset[Any]):
    def __init__(self, items: Iterable[Any]) -> None:
        self.items = list(items)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:  # of which torch itself says that it need not be right
        return 3


def generated(items: list[Any]) -> Iterator[Any]:
    """One array, filled again and again, as some readers do."""
    buffer = torch.empty(3)
    for x, label in items:
        buffer.copy_(x)
        yield buffer, label


PAIRS = [(x, int(y)) for x, y in zip(X, Y, strict=True)]
DICTS = [{"image": x.numpy(), "label": np.int64(y), "__key__": str(i)} for i, (x, y) in enumerate(PAIRS)]


@pytest.mark.parametrize(
    "source",
    [
        lambda: TensorDataset(X, Y),
        lambda: Numbered(PAIRS),
        lambda: Numbered(DICTS),
        lambda: Numbered([{"x": x.tolist(), "y": y} for x, y in PAIRS]),
        lambda: Iterated(PAIRS),
        lambda: Iterated({"y": torch.tensor(y), "x": x} for x, y in PAIRS),
        lambda: Streamed(PAIRS),
        lambda: generated(PAIRS),
        lambda: DataLoader(TensorDataset(X, Y), batch_size=7, shuffle=True),
        lambda: DataLoader(Streamed(PAIRS), batch_size=7),
        lambda: DataLoader(Numbered(PAIRS), batch_size=None),  # type: ignore[arg-type]
    ],
    ids=["tensors", "numbered", "dicts", "lists", "iterated", "dicts iterated", "IterableDataset", "generator",
         "loader", "loader of a stream", "loader of single items"],
)  # fmt: skip
def test_each_kind_becomes_the_same_observations(source: Callable[[], Any], tmp_path: Path) -> None:
    for found in (observations(source()), write(source(), tmp_path / "x.npy")):
        assert found.take(torch.arange(30)).float().equal(X)
        labels = found.label(torch.arange(30))
        assert labels is not None
        assert labels.equal(Y)
        assert found.notes == ()


def test_pictures_of_a_stream_and_words_as_labels() -> None:
    items = [{"png": Image.new("RGB", (4, 5), name), "cls": name} for name in ("red", "lime")]
    found = observations(Iterated(items))
    assert (found.shape, found.scale, found.label_names) == ((3, 5, 4), 255, ("lime", "red"))


def test_what_is_left_out_of_a_dict_is_told() -> None:
    items = [{"x": x, "label": y, "file": f"{i}.png", "fine_label": 3} for i, (x, y) in enumerate(PAIRS)]
    assert observations(Numbered(items)).notes == ("file, fine_label of the items of data set were left out",)


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        ([], ValueError, r"at least one observation; got an empty (Numbered|Iterated)\. Check how it was made"),
        (
            [{"a": X[0], "b": X[1]}],
            ValueError,
            r"items with one array in each; got 'a' and 'b' at index 0 .*item\['a'\]",
        ),
        (
            [{"png": b"\x89PNG", "cls": b"3"}],
            TypeError,
            r"items x or .*; got dict at index 0 .* Decode 'png', which holds",
        ),
        (
            [{"words": "abc"}],
            TypeError,
            r"items x or .*; got dict at index 0 .* Let one of its values be an array or a p",
        ),
        ([X[0], (X[1], 3)], ValueError, r"a label of every item or of none; got none at index 0 and one at index 1"),
        (
            [{"x": X[0], "y": 1}, {"x": X[1]}],
            ValueError,
            r"a label of every item or of none; got one at index 0 and none",
        ),
        ([X[0], X[1, :2]], ValueError, r"items of shape \(3,\) and torch\.float32, as the first one; got \(2,\)"),
        (["a"], TypeError, r"items x or \(x, label\), .*; got str at index 0"),
    ],
)
@pytest.mark.parametrize("kind", [Numbered, Iterated])
def test_other_items_are_refused(
    tmp_path: Path, kind: Callable[[Any], Any], items: list[Any], error: type[Exception], message: str
) -> None:
    for read in (observations, lambda source: write(source, tmp_path / "x.npy")):
        with pytest.raises(error, match=f"^Expected {message}"):
            read(kind(items))
    assert list(tmp_path.iterdir()) == []


def test_a_data_set_without_a_length_is_refused() -> None:
    class Endless(Dataset[Tensor]):
        def __getitem__(self, index: int) -> Tensor:
            return X[0]

    with pytest.raises(
        TypeError, match=r"with a length and items by number, or one that iterates; got Endless\. Collect"
    ):
        observations(Endless())


# How much


def test_an_iterable_is_read_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "MOST_BYTES", 30 * 3 * 4)
    assert len(observations(Iterated(PAIRS))) == 30
    taken = []

    def endless() -> Iterator[Tensor]:
        while True:
            taken.append(1)
            yield X[0]

    with pytest.raises(
        ValueError, match=r"an iterable that ends within .* GiB, .*; got more in data set, after 31 items\."
    ):
        observations(endless())
    assert len(taken) == 31


def test_a_known_length_that_does_not_fit_is_refused_before_any_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tightbound.data.mapped.memory", lambda: 30 * 3 * 4)
    assert len(observations(Numbered(PAIRS))) == 30
    monkeypatch.setattr("tightbound.data.mapped.memory", lambda: 30 * 3 * 4 - 1)
    with pytest.raises(
        ValueError, match=r"got 30 items of shape \(3,\) in data set, which .* tb\.data\.write\(dataset, 'x"
    ):
        observations(Numbered(PAIRS))


# Through a file


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.int64, torch.bool, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 9, 11])
def test_a_file_has_what_numpy_would_have_written(tmp_path: Path, dtype: torch.dtype, count: int) -> None:
    x = (3 * torch.rand(count, 2, 5)).to(dtype)
    write(iter(x), tmp_path / "x.npy")
    expected = x.float() if dtype == torch.bfloat16 else x
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), expected.numpy())
    np.save(tmp_path / "y.npy", expected.numpy())
    assert (tmp_path / "x.npy").read_bytes() == (tmp_path / "y.npy").read_bytes()
    assert len(tb.data.arrays.read_npy(tmp_path / "x.npy")) == count


def test_a_training_from_a_file_is_that_from_memory(tmp_path: Path) -> None:
    one, other = model(), model()
    fit(one, X, epochs=2, **QUIET)
    fit(other, write(generated(PAIRS), tmp_path / "x.npy"), epochs=2, **QUIET)
    assert equal(weights(one), weights(other))


@pytest.mark.parametrize(
    ("source", "path", "error", "message"),
    [
        (Iterated(PAIRS), "x.txt", ValueError, r"a new file whose name ends in \.npy; got x\.txt: .*x\.txt\. Choose"),
        (
            Iterated(PAIRS),
            "there.npy",
            ValueError,
            r"a new file .*; got one that is there already: .*read what is there: ",
        ),
        ([1, 2], "x.npy", TypeError, r"a data set or another iterable of items; got list"),
        (X, "x.npy", TypeError, r"a data set or another iterable of items; got Tensor"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, source: Any, path: str, error: type[Exception], message: str) -> None:
    (tmp_path / "there.npy").write_bytes(b"mine")
    with pytest.raises(error, match=f"^Expected {message}"):
        write(source, tmp_path / path)
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"mine"]


def test_what_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> Iterator[Tensor]:
        yield from X
        raise OSError("no connection")

    with pytest.raises(OSError, match="no connection"):
        write(broken(), tmp_path / "x.npy")
    assert list(tmp_path.iterdir()) == []


# What changes from reading to reading


class Trembling(Iterated):
    def __iter__(self) -> Iterator[Any]:
        return ((x + torch.rand(()), y) for x, y in self.items)


class Shuffled(Iterated):
    def __iter__(self) -> Iterator[Any]:
        return iter(random.sample(self.items, len(self.items)))


def test_a_random_stream_is_never_frozen_without_a_word() -> None:
    with pytest.warns(
        UserWarning, match="Expected items that are the same whenever they are read; got another one the s"
    ):
        observations(Trembling(PAIRS))


def test_another_order_is_no_other_item() -> None:
    found = observations(Shuffled(PAIRS))
    assert found.take(torch.arange(30)).sum(0).allclose(X.sum(0), atol=1e-4)


def test_a_resume_asks_for_the_same_order(tmp_path: Path) -> None:
    fit(model(), Iterated(PAIRS), out=tmp_path, epochs=1, **QUIET)
    fit(model(), Iterated(PAIRS), out=tmp_path, resume=True, epochs=1, **QUIET)
    with pytest.raises(ValueError, match=r"was started with; got another data\. A resumed run repeats"):
        fit(model(), Iterated(PAIRS[::-1]), out=tmp_path, resume=True, epochs=1, **QUIET)


# Data loaders


def test_fit_takes_a_loader_s_data_set_and_its_batch_size_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    one, other = model(), model()
    expected = fit(one, X, batch_size=7, epochs=2, **PLAIN)
    capsys.readouterr()
    found = fit(other, DataLoader(TensorDataset(X), batch_size=7, shuffle=True), epochs=2, **PLAIN)
    assert equal(weights(one), weights(other))
    assert found.metrics == expected.metrics
    said = "The DataLoader's data set was read once; batches of 7 are drawn from it, by the seed of fit.\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    "given",
    [{"batch_size": 5}, {"settings": tb.Training(batch_size=5, **{k: v for k, v in PLAIN.items() if k != "progress"})}],
    ids=["by name", "settings"],
)
def test_a_batch_size_that_is_given_counts_more(capsys: pytest.CaptureFixture[str], given: dict[str, Any]) -> None:
    fit(model(), DataLoader(TensorDataset(X), batch_size=7), epochs=1, **{**PLAIN, **given})
    assert "batches of 5 are drawn" in capsys.readouterr().err


def test_a_loader_is_a_validation_set_too() -> None:
    loader = DataLoader(TensorDataset(X[:9]), batch_size=2)
    found = fit(model(), X, epochs=1, **{**QUIET, "validation": loader})
    assert found.metrics == fit(model(), X, epochs=1, **{**QUIET, "validation": X[:9]}).metrics


T = TensorDataset(X)


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (
            DataLoader(T, sampler=WeightedRandomSampler([1.0] * 30, 30)),
            r"without a sampler of its own.*; got WeightedRand",
        ),
        (
            DataLoader(T, sampler=RandomSampler(T, replacement=True)),
            r"without a sampler of its own.*; got RandomSampler",
        ),
        (DataLoader(T, sampler=RandomSampler(T, num_samples=10)), r"without a sampler of its own.*; got RandomSampler"),
        (
            DataLoader(T, sampler=[1, 2, 3]),
            r"without a sampler of its own.*; got list\. Give .*observations\(loader\.data",
        ),
        (DataLoader(T, batch_sampler=BatchSampler(SequentialSampler(T), 3, False)), r"without a .*; got BatchSampler"),
        (DataLoader(T, collate_fn=torch.stack), r"without a collate_fn of its own.*; got .*stack\. Let the data set's"),
    ],
    ids=["weighted", "with replacement", "fewer", "list", "batches", "collate_fn"],
)
def test_a_loader_that_samples_or_collates_by_itself_is_refused(loader: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^Expected a DataLoader {message}"):
        fit(model(), loader, epochs=1, **PLAIN)


def test_one_item_alone() -> None:
    assert parsed((X[0],), 0, "x")[1] is None
    assert parsed({"x": [1, 2], "label": "cat"}, 0, "x")[1] == "cat"
