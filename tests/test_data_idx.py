"""IDX files are read back exactly, and no bytes whatever do worse than a ValueError."""

import gzip
import struct
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tightbound.data.idx import parse_idx, read_idx

CODES = {"u1": 8, "i1": 9, "i2": 11, "i4": 12, "f4": 13, "f8": 14}


def idx(array: np.ndarray) -> bytes:
    """The format as its description has it, independent of the reader."""
    header = bytes([0, 0, CODES[array.dtype.str[1:]], array.ndim])
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(array.dtype.newbyteorder(">")).tobytes()


@contextmanager
def little_memory():
    """Fail if more than 4 MB are taken at any moment."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()


def written(folder, content: bytes):
    path = folder / "some-images-idx3-ubyte"
    path.write_bytes(content)
    return path


ARRAYS = st.sampled_from(sorted(CODES)).flatmap(
    lambda code: hnp.arrays(np.dtype(code), hnp.array_shapes(min_dims=1, max_dims=4, max_side=5))
)


@given(array=ARRAYS, packed=st.booleans())
def test_what_was_written_is_read(array, packed, tmp_path_factory):
    content = idx(array)
    path = written(tmp_path_factory.getbasetemp(), gzip.compress(content) if packed else content)
    read = read_idx(path)
    assert read.dtype == array.dtype
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, array)
    assert read.flags.writeable


@given(
    content=st.one_of(
        st.binary(max_size=80),
        st.builds(
            lambda code, axes, rest: bytes([0, 0, code, axes]) + rest,
            st.sampled_from([0, *CODES.values()]),
            st.integers(0, 255),
            st.binary(max_size=60),
        ),
    ),
    packing=st.sampled_from(["plain", "gzip", "gzip, cut short", "gzip's first bytes"]),
)
@settings(max_examples=300)
def test_any_bytes_give_an_array_or_a_value_error(content, packing, tmp_path_factory):
    packed = {
        "plain": content,
        "gzip": gzip.compress(content),
        "gzip, cut short": gzip.compress(content)[:-9],
        "gzip's first bytes": b"\x1f\x8b" + content,
    }[packing]
    path = written(tmp_path_factory.getbasetemp(), packed)
    try:
        assert read_idx(path).size > 0
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017 - most bytes are refused, a few are not


@given(content=st.binary(max_size=300), at=st.integers(0, 200), put=st.binary(min_size=1, max_size=4))
def test_a_damaged_gzip_file_gives_a_value_error_at_worst(content, at, put, tmp_path_factory):
    packed = bytearray(gzip.compress(idx(np.frombuffer(b"\0" + content, np.uint8))))
    packed[at : at + len(put)] = put
    try:
        read_idx(written(tmp_path_factory.getbasetemp(), bytes(packed)))
    except ValueError as error:
        assert "some-images-idx3-ubyte" in str(error)  # noqa: PT017 - damage may hit bytes that say nothing


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_header_cannot_ask_for_memory(pack, tmp_path):
    path = written(tmp_path, pack(bytes([0, 0, 14, 3]) + b"\xff" * 12 + bytes(100)))
    with (
        little_memory(),
        pytest.raises(ValueError, match=r"Expected 6\d{29} bytes for shape \(4294967295, .*; got 116 in .*idx3-ubyte"),
    ):
        read_idx(path)


def test_a_gzip_bomb_is_not_unpacked(tmp_path):
    path = written(tmp_path, gzip.compress(idx(np.zeros(10, np.uint8)) + bytes(50_000_000)))
    with little_memory(), pytest.raises(ValueError, match=r"Expected 18 bytes .* got more in"):
        read_idx(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Expected an IDX file; got one that begins with b'' in name"),
        (b"\x89PNG....", "Expected an IDX file; got one that begins with"),
        (b"\0\0\x0a\x01\0\0\0\1.", "Expected an IDX file"),
        (b"\0\0\x08\x00", "Expected an IDX file"),
        (b"\0\0\x08\x09" + bytes(40), "Expected an IDX file"),
        (b"\0\0\x08\x03\0\0\0\1", "Expected 3 sizes in the header; got only 8 bytes in name"),
        (b"\0\0\x08\x02\0\0\0\1\0\0\0\0", r"Expected at least one item; got shape \(1, 0\) in name"),
        (idx(np.zeros((2, 3), np.uint8))[:-1], r"Expected 18 bytes for shape \(2, 3\); got 17 in name"),
        (idx(np.zeros((2, 3), np.uint8)) + b"\0", r"Expected 18 bytes for shape \(2, 3\); got more in name"),
    ],
)
def test_what_is_wrong_is_said(content, message):
    with pytest.raises(ValueError, match=message):
        parse_idx(content, "name")


def test_half_a_gzip_file_is_refused_by_name(tmp_path):
    path = written(tmp_path, gzip.compress(idx(np.arange(200, dtype=np.uint8)))[:-30])
    message = r"Expected a whole gzip file; got .* in .*some-images-idx3-ubyte\. Fetch or write the file again"
    with pytest.raises(ValueError, match=message):
        read_idx(path)
