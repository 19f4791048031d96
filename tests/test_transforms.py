"""Transforms: what they make of images, that they reach training's batches alone, and that a resume repeats them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_train_resume import interrupt_at
from torch import Tensor, nn
from torch.utils.data import Dataset
from training import QUIET, before_each_step, data, equal, model, weights, written

import tightbound as tb
from tightbound.data import Observations
from tightbound.data.transforms import WAYS, Compose, Flip, Shift
from tightbound.networks import MLP
from tightbound.runs.identity import training_fingerprint
from tightbound.runs.recipe import Recipe
from tightbound.runs.resolving import transform_of
from tightbound.runs.schema import to_table
from tightbound.training import NonFiniteError, fit
from tightbound.training.fingerprint import FREE, fingerprint
from tightbound.training.signals import signals_kept
from tightbound.training.transforming import check_transform

NUMBERED = torch.arange(35.0).reshape(1, 1, 5, 7)  # every pixel another value


def images(count: int = 60) -> Tensor:
    """Zeros and ones, most of them on the left."""
    columns = torch.linspace(0.9, 0.1, 6).expand(count, 1, 6, 6)
    return torch.bernoulli(columns, generator=torch.Generator().manual_seed(0))


def of_images(*, seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return tb.VAE(
            prior=tb.priors.StandardNormal(2),
            posterior=tb.posteriors.DiagonalNormal(MLP((1, 6, 6), (4,), hidden=(8,))),
            likelihood=tb.likelihoods.Bernoulli(MLP((2,), (1, 6, 6), hidden=(8,))),
        )


# What they make of images


@pytest.mark.parametrize("pixels", [1, 2, 4])
def test_a_shift_moves_whole_images_and_repeats_their_edges(pixels: int) -> None:
    padded = nn.functional.pad(NUMBERED, (pixels,) * 4, mode="replicate")[0, 0]
    side = range(2 * pixels + 1)
    expected = {(i, j): padded[i : i + 5, j : j + 7] for i in side for j in side}
    shifted = Shift(pixels)(NUMBERED.expand(4000, 1, 5, 7))[:, 0]
    counts = {place: int((shifted == each).all((1, 2)).sum()) for place, each in expected.items()}
    assert sum(counts.values()) == 4000
    share = 1 / len(counts)
    error = (share * (1 - share) / 4000) ** 0.5
    assert all(abs(count / 4000 - share) < 5 * error for count in counts.values())


def test_channels_move_together() -> None:
    x = torch.cat([NUMBERED, NUMBERED + 100], 1).expand(50, 2, 5, 7)
    for transform in (Shift(2), Flip("both")):
        made = transform(x)
        assert (made[:, 1] - made[:, 0] == 100).all()


@pytest.mark.parametrize("way", WAYS)
def test_a_flip_turns_every_other_image_over(way: str) -> None:
    axes = {"horizontal": [(), (-1,)], "vertical": [(), (-2,)], "both": [(), (-1,), (-2,), (-1, -2)]}[way]
    made = Flip(way)(NUMBERED.expand(4000, 1, 5, 7))  # type: ignore[arg-type]
    counts = [int((made == NUMBERED.flip(each)).all(3).all(2).sum()) for each in axes]
    share = 1 / len(axes)
    assert sum(counts) == 4000
    assert all(abs(count / 4000 - share) < 5 * (share * (1 - share) / 4000) ** 0.5 for count in counts)


def test_the_input_is_left_alone_and_the_result_is_the_state_s() -> None:
    x = images()
    before, transform = x.clone(), Compose((Flip("both"), Shift(2)))
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        made.append(transform(x))
    assert x.equal(before)
    assert made[0].equal(made[1])
    assert not made[0].equal(made[2])


def test_one_after_another() -> None:
    torch.manual_seed(3)
    expected = Shift(1)(Flip()(NUMBERED))
    torch.manual_seed(3)
    assert Compose((Flip(), Shift(1)))(NUMBERED).equal(expected)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Shift(0), ValueError, r"at least 1 pixel to shift by; got 0\. Leave the transform out"),
        (lambda: Shift(1.5), TypeError, r"a whole number of pixels to shift by; got 1\.5\. 2 will do"),
        (lambda: Shift(True), TypeError, r"a whole number of pixels to shift by; got True"),
        (lambda: Flip("up"), ValueError, r"a flip among horizontal, vertical, both; got 'up'"),
        (
            lambda: Shift(5)(NUMBERED),
            ValueError,
            r"a shift of fewer pixels than the 5 of an image's side; got 5",
        ),
        (
            lambda: Shift(1)(torch.zeros(3, 5)),
            ValueError,
            r"images of shape \(channels, height, width\) for Shift\(pixels=1\); got observations of shape \(5,\)\. "
            "Leave the transform out, or write",
        ),
        (
            lambda: Flip()(torch.zeros(3, 2, 1, 6, 6)),
            ValueError,
            r"images .*; got observations of shape \(2, 1, 6, 6\)",
        ),
    ],
)
def test_what_they_cannot_do_is_refused(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^Expected {message}"):
        make()
    assert Shift(4)(NUMBERED).shape == NUMBERED.shape


# In training


class Seen:
    """A transform that remembers."""

    def __init__(self, transform: Callable[[Tensor], Tensor]) -> None:
        self.transform, self.given, self.made = transform, list[Tensor](), list[Tensor]()

    def __call__(self, x: Tensor) -> Tensor:
        self.given.append(x.clone())
        self.made.append(self.transform(x))
        return self.made[-1]

    def __repr__(self) -> str:
        return "Seen()"


def test_each_step_sees_what_the_transform_makes_and_validation_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    vae, seen, looked = of_images(), Seen(Compose((Flip(), Shift(2)))), []
    encoded = type(vae).encoded

    def watch(self: Any, batch: Any) -> Any:
        looked.append(batch.x)
        return encoded(self, batch)

    monkeypatch.setattr(type(vae), "encoded", watch)
    x = images()
    ended = fit(vae, x, transform=seen, epochs=2, **QUIET)
    steps = seen.made[-ended.steps :]
    assert all(any(each is made or each.equal(made) for each in looked) for made in steps)
    rows = {tuple(row) for row in x.flatten(1).tolist()}
    assert all(tuple(row) in rows for given in seen.given for row in given.flatten(1).tolist())
    validated = [each for each in looked if len(each) == 12]  # a fifth of 60
    assert len(validated) >= 2
    assert all(tuple(row) in rows for each in validated for row in each.flatten(1).tolist())
    assert not all(tuple(row) in rows for each in steps for row in each.flatten(1).tolist())


def test_a_transform_that_does_nothing_changes_nothing() -> None:
    one, other = of_images(), of_images()
    fit(one, images(), epochs=2, **QUIET)
    fit(other, images(), transform=lambda x: x, epochs=2, **QUIET)
    assert equal(weights(one), weights(other))


@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize("binarise", [False, True])
def test_a_resumed_run_repeats_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: int, *, binarise: bool
) -> None:
    x = Observations(images() if not binarise else torch.rand(60, 1, 6, 6), binarise=binarise)

    def run(folder: Path, *, resume: bool = False) -> dict[str, Tensor]:
        vae = of_images(seed=int(resume))
        fit(vae, x, out=folder, resume=resume, transform=Compose((Shift(2), Flip())), epochs=3, **QUIET)
        return weights(vae)

    with monkeypatch.context() as patch:
        before_each_step(patch, interrupt_at(step))
        with signals_kept():
            run(tmp_path / "stopped")
    assert equal(run(tmp_path / "stopped", resume=True), run(tmp_path / "complete"))
    assert written(tmp_path / "stopped") == written(tmp_path / "complete")


@pytest.mark.parametrize(
    ("before", "after"), [(Shift(2), Shift(1)), (Shift(2), None), (None, Flip()), (Flip(), Shift(2))]
)
def test_another_transform_does_not_go_on(tmp_path: Path, before: Any, after: Any) -> None:
    fit(of_images(), images(), out=tmp_path, transform=before, epochs=1, **QUIET)
    with pytest.raises(ValueError, match=r"Expected what the run in .* was started with; got another transform"):
        fit(of_images(), images(), out=tmp_path, transform=after, resume=True, epochs=1, **QUIET)


def test_a_compiled_step_sees_it_too() -> None:
    runs = []
    for compiled in ("never", "always"):
        vae = of_images()
        fit(vae, images(), transform=Shift(2), epochs=1, **{**QUIET, "compile": compiled})
        runs.append(weights(vae))
    for name, value in runs[0].items():
        torch.testing.assert_close(runs[1][name], value, rtol=1e-3, atol=1e-4)


def drawn_elsewhere(x: Tensor) -> Tensor:
    return x + float(np.random.default_rng().normal())


@pytest.mark.parametrize(
    ("transform", "error", "message"),
    [
        (
            3,
            TypeError,
            r"a function of a batch's x as transform; got 3\. Write transform=tb\.data\.transforms\.S",
        ),
        (
            lambda x: x.numpy(),
            TypeError,
            r"a transform that gives a tensor; got ndarray from .*lambda>\. It is call",
        ),
        (lambda x: x[:, :2], ValueError, r"keeps the shape of a batch's x, \(20, 3\); got \(20, 2\) from .* The first"),
        (lambda x: x[1:], ValueError, r"keeps the shape of a batch's x, \(20, 3\); got \(19, 3\)"),
        (lambda x: x.double(), ValueError, r"keeps the type of a batch's x, torch\.float32; got torch\.float64"),
        (lambda x: x.to("meta"), ValueError, r"keeps the device of a batch's x, cpu; got meta"),
        (
            lambda x: x / 0,
            ValueError,
            r"a transform that gives finite values; got NaN or infinity from .* for the f",
        ),
        (
            drawn_elsewhere,
            ValueError,
            r"random numbers are torch's own, .*; got other values .* from drawn_elsewhere\.",
        ),
        (Shift(2), ValueError, r"images of shape \(channels, height, width\) for Shift"),
    ],
)
def test_what_no_batch_can_be_made_of_is_refused_before_the_first_step(
    tmp_path: Path, transform: Any, error: type[Exception], message: str
) -> None:
    vae = model()
    before = weights(vae)
    with pytest.raises(error, match=f"^Expected {message}|^Expected a transform (that|whose) {message}"):
        fit(vae, data(), transform=transform, out=tmp_path / "run", epochs=1, **QUIET)
    assert equal(weights(vae), before)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_values_outside_the_support_are_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"support of the Bernoulli likelihood; got the value 0\.5, neither 0 nor 1, first in what .*<lambda> "
        "makes of observation 0 of the first batch",
    ):
        fit(of_images(), images(), transform=lambda x: x / 2 + 0.25 * (x == 0), epochs=1, **QUIET)


def test_absent_values_are_refused() -> None:
    batch = tb.Batch(images(), mask=torch.ones(60, 1, 6, 6, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"all there for a transform, which knows of no mask; got a mask in faces"):
        check_transform(Flip(), of_images(), batch, name="faces", seed=0)
    check_transform(Flip(), of_images(), batch._replace(mask=None), name="faces", seed=0)


def test_a_transform_that_fails_later_is_named() -> None:
    calls = []

    def later(x: Tensor) -> Tensor:
        calls.append(1)
        return x / 0 if x.sum() == calls_until else x

    x = images()
    calls_until = None
    sums = Seen(lambda x: x)
    fit(of_images(), x, transform=sums, epochs=1, **QUIET)
    calls_until = sums.made[-1].sum()  # of the last batch
    with pytest.raises(NonFiniteError, match=r"^At step \d+ the transform gave values that are not finite\. Mend it\."):
        fit(of_images(), x, transform=later, epochs=1, **QUIET)


# By recipe


def test_a_recipe_s_fields_are_these_transforms() -> None:
    made = Recipe().updated({"data.shift": 2, "data.flip": "both"}).data
    assert transform_of(made, (1, 8, 8)) == Compose((Shift(2), Flip("both")))
    assert transform_of(Recipe().updated({"data.flip": "vertical"}).data, (1, 8, 8)) == Compose((Flip("vertical"),))
    assert transform_of(Recipe().data, (5,)) is None
    assert made.augmented() == "shifted by up to 2 pixels and flipped along both axes"


@pytest.mark.parametrize(
    ("changes", "shape", "message"),
    [
        (
            {"data.shift": 2},
            (5,),
            r"images .* for data\.shift and data\.flip; got observations of shape \(5,\)",
        ),
        ({"data.flip": "horizontal"}, (7, 5), r"images .*; got observations of shape \(7, 5\)"),
        ({"data.shift": 8}, (1, 9, 8), r"data\.shift below the 8 pixels of an image's side; got 8\. Take less"),
    ],
    ids=str,
)
def test_a_recipe_that_does_not_fit_its_data_is_refused(
    changes: dict[str, Any], shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^Expected {message}"):
        transform_of(Recipe().updated(changes).data, shape)


def test_fields_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected shift >= 0 pixels; got -1"):
        Recipe().updated({"data.shift": -1})
    with pytest.raises(ValueError, match=r"for data\.flip; got 'sideways'"):
        Recipe().updated({"data.flip": "sideways"})


def test_a_run_by_recipe_trains_on_them_and_says_so(tmp_path: Path) -> None:
    small = {"model.latent_dim": 2, "model.hidden": [8], "train.epochs": 0.2, "evaluate.samples": 2}
    moved = {**small, "data.shift": 1, "data.flip": "horizontal"}
    plain, run = (
        tb.train("digits", out=tmp_path / name, changes=changes, progress=False)
        for name, changes in (("plain", small), ("moved", moved))
    )
    assert run.recipe.data.shift == 1
    assert 'flip = "horizontal"' in (tmp_path / "moved" / "recipe.toml").read_text()
    assert run.metrics() != plain.metrics()
    assert run.split("test").take(torch.arange(5)).equal(plain.split("test").take(torch.arange(5)))
    from tightbound.reports.page import write_report

    page = write_report(run, run.model(), run.data()).read_text(encoding="utf-8")
    assert page.count("shifted by up to 1 pixel and flipped horizontally") == 2


def test_runs_from_before_keep_their_name() -> None:
    table = to_table(Recipe())
    table["data"] = {"test_fraction": 0.1}  # all that there was, but for the source
    table["train"] = {name: value for name, value in table["train"].items() if name not in FREE}
    before = {name: table[name] for name in ("seed", "data", "objective", "train")}
    assert training_fingerprint(Recipe()) == fingerprint(before)
    assert training_fingerprint(Recipe().updated({"data.shift": 1})) != fingerprint(before)


# Data sets that are random themselves


class Noisy(Dataset[Any]):
    def __init__(self, *, random: bool, label: bool = False) -> None:
        self.random, self.label = random, label

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> Any:
        x = torch.full((1, 6, 6), float(index) if index else torch.nan)
        x = x + torch.rand(()) if self.random else x
        return (x, index) if self.label else x


@pytest.mark.parametrize("label", [False, True])
def test_a_data_set_that_is_random_is_never_frozen_without_a_word(*, label: bool) -> None:
    with pytest.warns(
        UserWarning,
        match=r"^Expected items that are the same whenever they are read; got another one the second time at index \d+ "
        r"of data set, as of a random transform\. One draw of each is kept .* transform=tb\.data\.transforms\.Flip\(\)",
    ):
        found = tb.data.observations(Noisy(random=True, label=label))
    assert len(found) == 30
    assert tb.data.observations(Noisy(random=False, label=label)).shape == (1, 6, 6)  # a NaN is the same NaN
