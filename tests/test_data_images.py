"""Folders of images: what is read, in which order, and what is refused."""

import io
import os
import struct
import sys
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tightbound.data import load, summarise
from tightbound.data.images import read_images


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "pictures"


def save(path, array, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    (array if isinstance(array, Image.Image) else Image.fromarray(np.asarray(array, np.uint8))).save(path, **how)
    return path


def grey(value, height=4, width=6):
    return np.full((height, width), value)


def colour(red, green, blue, height=4, width=6):
    return np.broadcast_to(np.array([red, green, blue]), (height, width, 3))


# --- what is read ---


def test_pixels_are_those_of_the_files_in_the_order_of_their_paths(folder):
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (5, 7)) for name in ("b.png", "a.PNG", "c.png", "10.png", "9.png")}
    for name, pixels in images.items():
        save(folder / name, pixels)
    data = read_images(folder)
    assert (data.stored.dtype, tuple(data.shape), data.scale) == (torch.uint8, (1, 5, 7), 255)
    for stored, name in zip(data.stored, sorted(images), strict=True):
        np.testing.assert_array_equal(stored[0], images[name])
    assert data.labels is None
    assert summarise(data).kind == "grey"


def test_colour_has_three_channels_in_their_order(folder):
    save(folder / "a.png", colour(1, 2, 3))
    assert read_images(folder).stored[0, :, 0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("order", ["abc", "bca", "cab"])
def test_one_coloured_image_makes_all_coloured(order, folder):
    for name, pixels in zip(order, (grey(9), colour(1, 2, 3), grey(7)), strict=True):
        save(folder / f"{name}.png", pixels)
    seen = {tuple(pixels[:, 0, 0].tolist()) for pixels in read_images(folder).stored}
    assert seen == {(9, 9, 9), (1, 2, 3), (7, 7, 7)}


def test_jpeg_is_read_and_turned_upright(folder):
    picture = Image.fromarray(np.repeat(np.array([[0], [255]], np.uint8), [16, 16], axis=0).repeat(8, axis=1))
    lying = picture.rotate(90, expand=True)
    save(folder / "a.jpg", picture, quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    save(folder / "b.jpeg", lying, quality=95, exif=exif)
    upright, turned = read_images(folder).stored.float()
    assert upright.shape == turned.shape == (1, 32, 8)
    assert (upright[0, :8].mean(), upright[0, -8:].mean()) == pytest.approx((0, 255), abs=3)
    assert (turned - upright).abs().max() < 9


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_of_eight_bits_is_read(mode, folder):
    save(folder / "a.png", Image.fromarray(grey(255).astype(np.uint8)).convert(mode))
    data = read_images(folder)
    assert len(data.stored[0]) == (1 if mode in ("1", "L", "LA") else 3)
    assert (data.stored == 255).all()


def test_cmyk_becomes_colour(folder):
    save(folder / "a.jpg", Image.new("CMYK", (8, 8), (0, 255, 255, 0)), quality=95)
    assert read_images(folder).stored[0, :, 0, 0].tolist() == pytest.approx([254, 0, 0], abs=3)


def test_other_files_and_hidden_ones_are_left_alone(folder):
    save(folder / "a.png", grey(1))
    save(folder / ".hidden.png", grey(2, height=9))
    save(folder / ".thumbnails" / "b.png", grey(3, height=9))
    (folder / "notes.txt").write_text("no image")
    assert len(read_images(folder)) == 1


# --- labels and splits ---


def test_sub_folders_are_labels(folder):
    for name, value in (("dogs/1.png", 1), ("cats/deep/er/2.png", 2), ("dogs/0.png", 3)):
        save(folder / name, grey(value))
    data = read_images(folder)
    assert data.label_names == ("cats", "dogs")
    assert data.labels.tolist() == [0, 1, 1]
    assert data.stored[:, 0, 0, 0].tolist() == [2, 3, 1]


def test_train_and_test_are_splits(folder):
    for name, value in (("train/b/1.png", 1), ("train/c/2.png", 2), ("test/a/3.png", 3), ("other/4.png", 4)):
        save(folder / name, grey(value))
    data = load(folder)
    assert data.name == str(folder)
    assert data.train.label_names == data.test.label_names == ("a", "b", "c")
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([1, 2], [0])
    assert data.train.stored[:, 0, 0, 0].tolist() == [1, 2]
    assert data.test.stored[:, 0, 0, 0].tolist() == [3]


def test_colour_in_one_split_colours_both(folder):
    save(folder / "train" / "a.png", grey(1))
    save(folder / "test" / "a.png", colour(1, 2, 3))
    assert load(folder).train.shape == load(folder).test.shape == (3, 4, 6)


def test_other_folders_are_split_at_random_and_always_alike(folder):
    for value in range(30):
        save(folder / f"{value:02}.png", grey(value))
    first, second = load(folder, test_fraction=0.2), load(str(folder), test_fraction=0.2)
    assert torch.equal(first.test.rows, second.test.rows)
    assert len(first.test) == 6
    assert sorted([*first.train.rows.tolist(), *first.test.rows.tolist()]) == list(range(30))


# --- size ---


@pytest.mark.parametrize(("height", "width"), [(40, 80), (80, 40)])
def test_a_size_keeps_the_centre(height, width, folder):
    pixels = np.zeros((height, width))
    top, left = (height - 40) // 2, (width - 40) // 2
    pixels[top : top + 40, left : left + 40] = 255
    save(folder / "wide.png", pixels)
    save(folder / "small.png", grey(255, 5, 5))
    data = read_images(folder, size=10)
    assert tuple(data.shape) == (1, 10, 10)
    assert (data.stored[:, :, 1:-1, 1:-1] == 255).all()


def test_a_size_that_images_already_have_changes_nothing(folder):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3))
    save(folder / "a.png", pixels)
    assert torch.equal(read_images(folder, size=8).stored, read_images(folder).stored)


# --- what is refused ---


def test_images_of_several_sizes_are_refused_by_name(folder):
    save(folder / "a.png", grey(0, 4, 6))
    save(folder / "b.png", grey(0, 4, 6))
    save(folder / "c.png", grey(0, 5, 6))
    message = r"one height and width; got 4×6 in .*a\.png and 5×6 in .*c\.png\. Give size=… \(--data\.size …\)"
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_an_unreadable_image_is_refused_by_name(folder):
    whole = save(folder / "a.png", np.random.default_rng(0).integers(0, 256, (20, 20))).read_bytes()
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "PPM")
    for content in (b"", b"no image", whole[:60], whole[:-40], whole[:20] + b"????" + whole[24:], buffer.getvalue()):
        (folder / "b.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"Expected an image; got .* for .*b\.png\. Remove or repair it"):
            load(folder)


@given(ending=st.sampled_from(["png", "jpg"]), at=st.integers(0, 400), put=st.binary(min_size=1, max_size=4))
@settings(max_examples=200)
def test_damage_anywhere_gives_data_or_a_clear_error(ending, at, put, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / f"damaged-{ending}"
    path = save(folder / f"a.{ending}", colour(1, 2, 3))
    content = bytearray(path.read_bytes())
    content[at : at + len(put)] = put
    path.write_bytes(content)
    try:
        assert len(read_images(folder)) == 1
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017 - damage may hit bytes that say nothing


def test_sixteen_bits_are_refused_by_name(folder):
    save(folder / "a.png", Image.fromarray(np.full((4, 4), 40_000, np.uint16)))
    with pytest.raises(
        ValueError, match=r"Expected 8 bits a channel, grey or RGB; got a 16-bit image \(mode I;16\) in .*a\.png"
    ):
        load(folder)


def test_sixteen_bits_of_colour_are_refused_as_well(folder):
    # Pillow reads such files as 8 bits, and cannot write them, so this one is put together by hand.
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0))
    folder.mkdir()
    rows = chunk(b"IDAT", zlib.compress((b"\0" + bytes(12)) * 2))
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + rows + chunk(b"IEND", b""))
    with pytest.raises(
        ValueError, match=r"Expected 8 bits a channel, grey or RGB; got a 16-bit image \(mode RGB\) in .*a\.png"
    ):
        load(folder)


def tiff(bits: int) -> bytes:
    """A 2×2 RGB image, which Pillow cannot write in 16 bits."""
    pixels = bytes(2 * 2 * 3 * bits // 8)
    tags = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 3, 122), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 128),
            (277, 3, 1, 3), (278, 3, 1, 2), (279, 4, 1, len(pixels))]  # fmt: skip
    header = b"II*\0" + struct.pack("<IH", 8, 9) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return header + struct.pack("<HHH", bits, bits, bits) + pixels


def test_sixteen_bits_of_colour_are_refused_in_tiff_too(folder):
    folder.mkdir()
    (folder / "a.tif").write_bytes(tiff(8))
    assert read_images(folder).shape == (3, 2, 2)
    (folder / "a.tif").write_bytes(tiff(16))
    with pytest.raises(ValueError, match=r"got a 16-bit image \(mode RGB\) in .*a\.tif\. Convert it to 8 bits with a"):
        load(folder)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("LAB", r'an image in LAB colours in .*a\.tif\. Convert it: image\.convert\("RGB"\)'),
        (
            "F",
            r"an image of floating-point numbers \(mode F\) in .*a\.tif\. Save all of them as one array: numpy\.save",
        ),
        ("I", r"a 32-bit image \(mode I\) in .*a\.tif\. Convert it to 8 bits\. Or save all"),
    ],
)
def test_what_an_image_is_instead_of_bytes_is_said(mode, words, folder):
    save(folder / "a.tif", Image.new(mode, (4, 4)))
    with pytest.raises(ValueError, match=f"Expected 8 bits a channel, grey or RGB; got {words}"):
        load(folder)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_refused_by_name(mode, folder):
    if mode == "P":
        save(folder / "a.png", Image.new("P", (4, 4)), transparency=0)
    else:
        save(folder / "a.png", Image.new(mode, (4, 4)))
    with pytest.raises(ValueError, match=r"Expected opaque images; got transparent pixels in .*a\.png"):
        load(folder)


def test_a_folder_without_images_is_refused(folder):
    folder.mkdir()
    with pytest.raises(ValueError, match=r"Expected images .* in .*pictures; got no file at all"):
        load(folder)
    (folder / "a.eps").write_bytes(b"")
    (folder / "README").write_bytes(b"")
    with pytest.raises(ValueError, match=r"in .*pictures; got only \.eps, README"):
        load(folder)


def test_images_beside_labelled_ones_are_refused(folder):
    save(folder / "cats" / "a.png", grey(0))
    save(folder / "stray.png", grey(0))
    with pytest.raises(
        ValueError, match=r"all in sub-folders of .*pictures.*or all directly in it; got both: stray\.png"
    ):
        load(folder)


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links, which Windows keeps for administrators")
def test_links_are_followed_but_only_once(folder, tmp_path):
    save(tmp_path / "elsewhere" / "a.png", grey(0))
    folder.mkdir()
    (folder / "cats").symlink_to(tmp_path / "elsewhere")
    assert read_images(folder).label_names == ("cats",)
    (folder / "again").symlink_to(folder)
    with pytest.raises(ValueError, match=r"Expected every folder once; got .*pictures again by the link .*again\."):
        load(folder)


def test_a_folder_that_cannot_be_read_is_refused_by_name(folder, monkeypatch):
    save(folder / "cats" / "a.png", grey(0))
    scan = os.scandir

    def forbidden(path):  # root may read everything, so permissions would not do
        if str(path).endswith("cats"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(
        ValueError, match=r"Expected folders that can be read; got .*Permission denied: .*cats'\. Change"
    ):
        load(folder)


@pytest.mark.parametrize("there", ["train", "test"])
def test_half_a_split_is_refused(there, folder):
    save(folder / there / "a.png", grey(0))
    with pytest.raises(
        ValueError, match=rf'Expected both "train" and "test" in .*; got only "{there}"\. Add the other'
    ):
        load(folder)


def test_a_size_of_nothing_is_refused(folder):
    save(folder / "a.png", grey(0))
    with pytest.raises(ValueError, match="Expected a size of at least one pixel; got 0"):
        load(folder, size=0)


def test_a_person_sees_progress(folder, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for value in range(3):
        save(folder / f"{value}.png", grey(value))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    read_images(folder)
    assert "reading" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()
