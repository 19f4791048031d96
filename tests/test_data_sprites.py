"""Sprites: each image is made of its factors, and no other image is like it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tightbound.data import load, sprites
from tightbound.data.sprites import RADIUS, Drawn


@pytest.fixture(scope="module")
def grey():
    return sprites(32, colour="grey", rotations=4)


def distinct(images: torch.Tensor) -> int:
    return len({image.tobytes() for image in images.numpy()})


def test_no_two_images_are_equal():
    made = sprites()
    assert len(made) == 3 * 6 * 8 * 8 * 8 == distinct(made.stored)
    assert made.stored.unique().tolist() == [0, 1]


@pytest.mark.parametrize(
    "changes", [{"rotations": 16, "positions": 4}, {"colour": "grey", "scales": 10, "positions": 5}, {"size": 48}]
)
def test_nor_are_they_for_other_counts(changes):
    made = sprites(**changes)
    assert distinct(made.stored) == len(made)


def test_every_combination_is_there_once(grey):
    table = grey.factors
    assert len(table.unique(dim=0)) == len(table) == 3 * 6 * 4 * 8 * 8
    assert [len(column.unique()) for column in table.T] == [3, 6, 4, 8, 8]
    assert grey.labels.equal(table[:, 0].long())
    assert [grey.label_names[label] for label in (0, 1, 2)] == ["arrow", "L", "heart"]


def test_nothing_is_cut_off():
    """A sprite in the corner covers as much as one in the middle, up to how finely a pixel is looked at."""
    made = sprites(128, colour="grey", scales=2, positions=3)
    covered = made.stored.double().sum((1, 2, 3)).view(-1, 9)
    assert (covered / covered[:, 4:5] - 1).abs().max() < 0.02


def test_area_grows_with_the_square_of_scale(grey):
    area = grey.stored.double().mean((1, 2, 3)).view(3, 6, -1).mean(-1) / 255
    scale = torch.linspace(0.5, 1, 6).double()
    torch.testing.assert_close(area / area[:, -1:], (scale**2).expand(3, 6), rtol=0.02, atol=0)
    assert area.max() < np.pi * RADIUS**2


def test_a_sprite_that_moves_by_whole_pixels_stays_as_it_is():
    table = torch.tensor([[2, 0.8, 100, x, y] for x, y in ((0.25, 0.25), (0.75, 0.5))], dtype=torch.float64)
    first, second = Drawn(table, 32, "grey").take(torch.arange(2))[:, 0]
    assert first.roll((8, 16), (0, 1)).equal(second)


def test_a_sprite_stands_where_its_factors_say():
    """The middle of an arrow that is turned about lies on the other side of its place, as far away."""
    table = torch.tensor([[0, 1, turn, 0.4, 0.6] for turn in (0.0, 180.0)], dtype=torch.float64)
    image = Drawn(table, 64, "grey").take(torch.arange(2))[:, 0].double()
    at = (torch.arange(64).double() + 0.5) / 64
    mass = image.sum((1, 2))
    x, y = (image.sum(1) @ at) / mass, (image.sum(2) @ at) / mass
    torch.testing.assert_close(x, torch.full_like(x, 0.4), rtol=0, atol=1e-3)
    torch.testing.assert_close(y.mean(), torch.tensor(0.6).double(), rtol=0, atol=1e-3)
    assert y[0] != y[1]


def test_a_quarter_turn_turns_the_image():
    table = torch.tensor([[1, 1, turn, 0.5, 0.5] for turn in (0.0, 90.0)], dtype=torch.float64)
    upright, turned = Drawn(table, 32, "grey").take(torch.arange(2))[:, 0]
    assert upright.rot90().equal(turned)  # against the clock


def test_colour_is_grey_times_hue():
    made = sprites(16, colour="hue", scales=1, rotations=1, positions=1, hues=3)
    plain = sprites(16, colour="grey", scales=1, rotations=1, positions=1)
    assert made.factor_names[-1] == "hue"
    for shape in range(3):
        for hue in range(3):  # red, green, blue
            expected = torch.zeros(3, 16, 16, dtype=torch.uint8)
            expected[hue] = plain.stored[shape, 0]
            assert made.stored[3 * shape + hue].equal(expected)


@pytest.mark.parametrize("colour", ["binary", "grey", "hue", "primary"])
def test_images_drawn_when_asked_for_are_those_that_are_kept(colour):
    few = {"colour": colour, "scales": 2, "rotations": 2, "positions": 2, "hues": 2}
    kept, drawn = (sprites(16, **few, in_memory=choice) for choice in (True, False))
    rows = torch.tensor([5, 0, 5, len(kept) - 1])
    assert isinstance(kept.stored, torch.Tensor)
    assert isinstance(drawn.stored, Drawn)
    assert drawn.take(rows).equal(kept.take(rows))
    assert drawn.eval_batch().x.equal(kept.eval_batch().x)
    assert drawn.shape == kept.shape
    assert drawn.to(torch.device("cpu")).stored is drawn.stored
    assert drawn.to(torch.device("meta")).stored.shape == kept.stored.shape


def test_primary_colours_are_bits_of_red_green_and_blue():
    made, plain = (sprites(colour=colour, scales=4, rotations=1, positions=12) for colour in ("primary", "binary"))
    assert made.scale == 1
    assert len({image.tobytes() for image in made.stored.numpy()}) == len(made) == 6 * len(plain) == 10368
    every = [(1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1)]  # around the circle, from red
    for index in range(0, len(made), 7):
        image = made.stored[index]
        expected = torch.tensor(every[index % 6], dtype=torch.uint8)[:, None, None] * plain.stored[index // 6]
        assert image.equal(expected)
    two = sprites(16, colour="primary", positions=2, rotations=1, hues=2)
    assert two.factor_table()[:, -1].unique().tolist() == [0, 0.5]


def test_what_never_differs_is_no_factor():
    assert sprites(16, scales=1, rotations=1, positions=2).factor_names == ("shape", "x", "y")
    assert sprites(16, colour="hue", positions=1, rotations=2, hues=1).factor_names == ("shape", "scale", "rotation")


def test_more_than_memory_should_hold_is_drawn():
    assert isinstance(sprites(64, rotations=40, positions=32).stored, Drawn)


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ({"size": 15}, ValueError, "Expected size of at least 16; got 15."),
        ({"scales": 0}, ValueError, "Expected scales of at least 1; got 0."),
        ({"rotations": 2.5}, TypeError, "Expected a whole number for rotations; got 2.5."),
        ({"positions": True}, TypeError, "Expected a whole number for positions; got True."),
        ({"colour": "red"}, ValueError, "Expected a colour of binary, grey, hue, primary; got 'red'."),
        ({"colour": "primary", "hues": 4}, ValueError, 'Expected 1, 2, 3 or 6 hues with colour="primary"; got 4.'),
        ({"colour": "primary", "hues": 12}, ValueError, "Expected 1, 2, 3 or 6 hues"),
    ],
)
def test_a_wrong_number_is_refused(words, error, message):
    with pytest.raises(error, match=message):
        sprites(**words)


def test_no_size_is_no_default():
    with pytest.raises(ValueError, match="Expected size of at least 16; got 0"):
        load("sprites", size=0)


def test_they_have_a_name():
    data = load("sprites", size=16)
    assert (len(data.train), len(data.test)) == (8294, 922)
    assert data.train.shape == (1, 16, 16)
    assert load("sprites-grey").train.shape == (1, 32, 32)
