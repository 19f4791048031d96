"""Atomic writing: whole or not at all, and nothing left behind."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tightbound.files import require_file, temporary_for, write_atomically, write_json, write_tensors, write_text


def test_writes_and_replaces_without_leftovers(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    write_text(path, "first ü")
    write_text(path, "second")
    assert path.read_text(encoding="utf-8") == "second"
    assert [item.name for item in path.parent.iterdir()] == ["a.txt"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half of the n")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text(encoding="utf-8") == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]


def test_everything_is_on_disk_before_the_file_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def watched_fsync(descriptor: int) -> None:
        events.append("fsync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync file")
        fsync(descriptor)

    def watched_replace(path: Path, to: Path) -> Path:
        events.append("replace")
        return replace(path, to)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    write_text(tmp_path / "a.txt", "text")
    assert events == ["fsync file", "replace", "fsync folder"]


def test_what_a_killed_writer_left_is_cleared_away(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    temporary_for(path).write_text("half of the n")
    write_text(path, "whole")
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("linked", ["file", "temporary"])
def test_links_are_replaced_and_never_written_through(tmp_path: Path, linked: str) -> None:
    outside, path = tmp_path / "outside.txt", tmp_path / "run" / "a.txt"
    outside.write_text("precious")
    path.parent.mkdir()
    (path if linked == "file" else temporary_for(path)).symlink_to(outside)
    write_text(path, "new")
    assert outside.read_text() == "precious"
    assert path.read_text() == "new"
    assert not path.is_symlink()


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_text(tmp_path / "a.txt", "secret")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o600


def test_json_is_strict(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"β": [1.5, None]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"β": [1.5, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"β": [1.5, None]}


def test_tensors_that_share_memory_are_written_out(tmp_path: Path) -> None:
    one = torch.arange(3.0)
    write_tensors(tmp_path / "both.safetensors", {"a": one, "b": one, "part": one[1:]})
    read = load_file(tmp_path / "both.safetensors")
    assert read["a"].equal(one)
    assert read["b"].equal(one)
    assert read["part"].equal(one[1:])


def test_tensors_are_as_readable_as_any_other_file(tmp_path: Path) -> None:
    write_text(tmp_path / "text", "")
    write_tensors(tmp_path / "tensors", {"a": torch.zeros(1)})
    assert (tmp_path / "tensors").stat().st_mode == (tmp_path / "text").stat().st_mode


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
    for path, kind in (
        (tmp_path / "pipe", "pipe"), (tmp_path / "link", "pipe"), (tmp_path / "socket", "socket"),
        (Path("/dev/zero"), "device"), (Path("/dev/null"), "device"), (tmp_path, "folder"),
    ):  # fmt: skip
        with pytest.raises(
            ValueError, match=f"Expected a file; got {path}, which is a {kind}. Give the path of a file."
        ):
            require_file(path)
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "missing"):
        require_file(path)
