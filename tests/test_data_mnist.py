"""MNIST: found where it may lie, verified wherever it comes from, fetched from the first mirror that has it."""

import contextlib
import gzip
import hashlib
import os
import struct
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from tightbound.data import load, mnist, summarise

CLOSED = "http://127.0.0.1:9/"  # the port of the discard service, which nobody runs
REAL = os.environ.get("TIGHTBOUND_DATA")


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def mirror(folder):
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def small_files() -> dict[str, bytes]:
    """Four IDX files like MNIST's, of 6 training and 3 test images."""
    files = {}
    for part, count in (("train", 6), ("t10k", 3)):
        images = bytes(range(count)) * (28 * 28)
        files[f"{part}-images-idx3-ubyte"] = struct.pack(">4B3I", 0, 0, 8, 3, count, 28, 28) + images
        files[f"{part}-labels-idx1-ubyte"] = struct.pack(">4BI", 0, 0, 8, 1, count) + bytes(range(count))
    return files


def put(folder, files, packed=True):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(content) if packed else content)


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Small files with checksums to match, a cache of one's own, and no network."""
    content = small_files()
    md5 = {name: hashlib.md5(content[name], usedforsecurity=False).hexdigest() for name in mnist.MD5}
    monkeypatch.setattr(mnist, "MD5", md5)
    monkeypatch.setattr(mnist, "MIRRORS", (CLOSED,))
    monkeypatch.setattr(mnist, "TIMEOUT", 5.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("TIGHTBOUND_DATA", raising=False)
    return content


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache" / "tightbound" / "mnist"


def check(data):
    assert (data.name, len(data.train), len(data.test), tuple(data.train.shape)) == ("mnist", 6, 3, (1, 28, 28))
    assert (data.train.stored.dtype, data.train.scale) == (torch.uint8, 255)
    assert data.test.labels.tolist() == [0, 1, 2]
    assert data.train.label_names == tuple("0123456789")
    assert data.train.stored[0].flatten()[:7].tolist() == [0, 1, 2, 3, 4, 5, 0]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("place", ["given/mnist", "given", "cache"])
def test_files_are_found_where_they_may_lie(place, packed, files, cache, tmp_path, monkeypatch):
    monkeypatch.setenv("TIGHTBOUND_DATA", str(tmp_path / "given"))
    put(cache if place == "cache" else tmp_path / place, files, packed)
    check(load("mnist"))


def test_the_cache_is_in_the_home_folder_by_default(files, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path / ".cache" / "tightbound" / "mnist", files)
    check(load("mnist"))


def test_a_local_file_with_another_content_is_refused_by_name(files, cache):
    put(cache, files)
    put(cache, {"t10k-labels-idx1-ubyte": files["t10k-labels-idx1-ubyte"][:-1] + b"\7"})
    message = (
        r"Expected t10k-labels-idx1-ubyte with the MD5 checksum [0-9a-f]{32}; got [0-9a-f]{32} from .*ubyte\.gz\. Del"
    )
    with pytest.raises(ValueError, match=message):
        load("mnist")


def test_what_is_missing_is_fetched_once(files, cache, tmp_path, monkeypatch):
    put(tmp_path / "served", files)
    put(cache, {name: files[name] for name in list(files)[:1]})
    with mirror(tmp_path / "served") as url:
        monkeypatch.setattr(mnist, "MIRRORS", (CLOSED, url))
        check(load("mnist"))
    assert sorted(path.name for path in cache.iterdir()) == sorted(f"{name}.gz" for name in files)
    check(load("mnist"))


@pytest.mark.parametrize("damage", ["other bytes", "cut short", "no gzip", "nothing", "too much"])
def test_a_damaged_download_is_neither_kept_nor_believed(damage, files, cache, tmp_path, monkeypatch):
    name = "train-images-idx3-ubyte"
    good = gzip.compress(files[name])
    bad = {
        "other bytes": gzip.compress(files[name][:-1] + b"\xff"),
        "cut short": good[:-20],
        "no gzip": b"<html>Sign in to this network</html>",
        "nothing": b"",
        "too much": good + bytes(1000),
    }[damage]
    put(tmp_path / "bad", files)
    (tmp_path / "bad" / f"{name}.gz").write_bytes(bad)
    put(tmp_path / "good", files)
    monkeypatch.setattr(mnist, "MOST_BYTES", len(good) + 500)
    monkeypatch.setattr(mnist, "PIECE", 100)
    with mirror(tmp_path / "bad") as bad_url, mirror(tmp_path / "good") as good_url:
        monkeypatch.setattr(mnist, "MIRRORS", (bad_url,))
        with pytest.raises(ValueError, match=rf"Expected {name}\.gz on this machine or on a mirror; got neither"):
            load("mnist")
        assert list(cache.iterdir()) == []
        monkeypatch.setattr(mnist, "MIRRORS", (bad_url, good_url))
        check(load("mnist"))


def test_a_mirror_without_the_file_is_passed_over(files, tmp_path, monkeypatch):
    put(tmp_path / "good", files)
    (tmp_path / "empty").mkdir()
    with mirror(tmp_path / "empty") as empty, mirror(tmp_path / "good") as good:
        monkeypatch.setattr(mnist, "MIRRORS", (empty, good))
        check(load("mnist"))


def test_without_a_network_it_is_said_which_files_go_where(files, cache):
    with pytest.raises(ValueError, match=r"got neither \(http://127\.0\.0\.1:9/: .*refused") as caught:
        load("mnist")
    names = ", ".join(
        f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    )
    assert f"Put these four files into {cache}: {names}." in str(caught.value)
    assert "set TIGHTBOUND_DATA to a folder that holds them" in str(caught.value)


def test_a_cache_that_cannot_be_written_is_told(files, tmp_path):
    tmp_path.joinpath("cache").write_text("a file in the way")
    with pytest.raises(ValueError, match=r"got neither .*cache"):
        load("mnist")


@pytest.mark.skipif(
    REAL is None or not (Path(REAL) / "mnist").is_dir(),
    reason="set TIGHTBOUND_DATA to a folder with MNIST's files in mnist/ to test on them",
)
def test_the_real_files_are_the_published_ones():
    data = load("mnist")
    assert (len(data.train), len(data.test)) == (60000, 10000)
    assert data.train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.train.stored.sum().item() / data.train.stored.numel() == pytest.approx(255 * 0.1306604762738429)
    assert data.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert summarise(data.train).describe() == "60000 observations of 1×28×28, uint8 0…255: grey"
