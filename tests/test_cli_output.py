"""What a command says comes as far as it can, and never ends a work; a full disk and a full memory are named."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from tiny import copied, refused, trained
from training import QUIET, data, model

from tightbound import plots
from tightbound.cli.errors import failure, guarded
from tightbound.cli.output import plain, prepare
from tightbound.cli.verbs import main
from tightbound.files import DiskFullError, told_when_full, write_text
from tightbound.training import fit


def shell(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A line of shell in which ``tightbound`` is this one."""
    words = line.replace("tightbound ", f"{sys.executable} -m tightbound ")
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {words}"], capture_output=True, text=True, errors="replace", check=False,
        env={**os.environ, **variables},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("−3 ± 0.2 … ×", "-3 +- 0.2 ... x"),
        ("σ β Σ Δ", "sigma beta Sigma Delta"),
        ("log p(x) ≥ 1, ≤ 2, ≈ ∞", "log p(x) >= 1, <= 2, ~ inf"),
        ("╭─╮│", "+-+|"),
        ("é 𝔸", r"\u00e9 \U0001d538"),
        ("as it is", "as it is"),
    ],
)
def test_plain_text(text: str, expected: str) -> None:
    assert plain(text) == expected
    assert plain(text).isascii()


@pytest.mark.parametrize("verb", ["recipes", "train --help", "evaluate RUN"])
@pytest.mark.parametrize(
    "variables",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["ascii", "C"],
)
def test_an_encoding_without_signs_degrades(verb: str, variables: dict[str, str]) -> None:
    done = shell(f"tightbound {verb.replace('RUN', str(trained()))}", **variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert "+-" in done.stdout or not verb.startswith("evaluate")


@pytest.mark.parametrize(
    ("line", "code", "out"),
    [
        ("tightbound recipes mnist >&-", 0, ""),
        ("tightbound --help >&-", 0, ""),
        ("tightbound recipes mnist 2>&- | grep -c seed", 0, "1"),
        ("tightbound recipes mnist 2>/dev/full | grep -c seed", 0, "1"),
        ("tightbound recipes mnist <&- | grep -c seed", 0, "1"),
        ("tightbound recipes mnist | head -1 | grep -c name", 0, "1"),
        ("tightbound recipes nothing 2>/dev/full", 2, ""),
        ("tightbound recipes nothing >&- 2>&-", 2, ""),
    ],
)
def test_closed_and_full_streams_end_no_work(line: str, code: int, out: str) -> None:
    done = shell(line)
    assert (done.returncode, done.stdout.strip()) == (code, out), done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["recipes mnist", "--help"])
def test_a_result_that_cannot_be_said_is_a_failure_in_one_line(verb: str) -> None:
    done = shell(f"tightbound {verb} >/dev/full")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("tightbound: Expected")


def test_a_signal_while_the_command_loads_ends_it_in_one_line() -> None:
    code = """
import os, signal, sys, builtins
real = builtins.__import__
def slow(name, *rest, **more):
    if name == "tightbound.cli":
        os.kill(os.getpid(), signal.SIGINT)
    return real(name, *rest, **more)
builtins.__import__ = slow
from tightbound.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "tightbound: Stopped.\n")


@pytest.mark.parametrize("ignored", [False, True])
def test_sigterm_ends_a_command_as_ctrl_c_does(*, ignored: bool) -> None:
    """So what an evaluation has measured is kept; a signal that is ignored stays ignored."""
    code = f"""
import os, signal, sys
if {ignored}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
import tightbound.cli, tightbound.cli.errors as errors
def work():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        print("kept")
tightbound.cli.main = lambda: errors.guarded(work)
from tightbound.__main__ import main
code = main()
os.kill(os.getpid(), signal.SIGTERM)  # too late to matter
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    expected = (0, "kept\n", "") if ignored else (1, "kept\n", "tightbound: Stopped.\n")
    assert (done.returncode, done.stdout, done.stderr) == expected


def test_ctrl_c_outside_the_parser_is_said_too() -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    said: list[str] = []
    assert guarded(stopped, tell=said.append) == 1
    assert said == ["tightbound: Stopped."]


# Full


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    error.__cause__ = cause
    return error


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "error",
    [
        FULL,
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EFBIG, "File too large"),
        RuntimeError("basic_ios::clear: iostream error"),
        RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 11392 vs 11304"),
        raised(RuntimeError("something of a library's"), FULL),
    ],
    ids=str,
)
def test_a_full_disk_is_named_however_it_is_told(error: Exception, tmp_path: Path) -> None:
    write_text(tmp_path / "x", "old")
    match = r"Expected room on the disk; got none: .* for .*x\. Make room and go on"
    with pytest.raises(DiskFullError, match=match), told_when_full(tmp_path / "x"):
        raise error
    assert (tmp_path / "x").read_text() == "old"


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "no"), RuntimeError("other"), ValueError("x")], ids=str
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as found, told_when_full(Path("x")):
        raise error
    assert found.value is error


@pytest.mark.parametrize(
    ("number", "file", "words", "code"),
    [
        (errno.EROFS, "/media/run/report.html", "Expected a folder that can be written to; got /media/run: ", 2),
        (errno.EACCES, "/media/run/.x.png.9.tmp", "Expected a folder that can be written to; got /media/run: ", 2),
        (errno.EACCES, "/media/x.npy", "Expected to be allowed to open /media/x.npy; got: ", 2),
        (errno.EIO, "/media/x.npy", "OSError: ", 1),
        (errno.EACCES, None, "[Errno 13]", 2),
    ],
)
def test_what_may_not_be_written_or_read_is_said_in_words(number: int, file: str | None, words: str, code: int) -> None:
    said: list[str] = []

    def refuse() -> None:
        raise OSError(number, os.strerror(number), *([file] if file else []))

    assert guarded(refuse, tell=said.append) == code
    assert said[0].startswith(f"tightbound: {words}")
    assert os.strerror(number) in said[0]


def test_a_training_on_a_full_disk_says_so_and_keeps_its_checkpoint(tmp_path: Path) -> None:
    """The largest file that a process may write stands for the disk."""
    fit(model(), data(), out=tmp_path / "run", epochs=1, **QUIET)
    kept = (tmp_path / "run" / "checkpoint" / "state.pt").read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) // 2, before[1]))
    try:
        for write in (
            lambda: fit(model(), data(), out=tmp_path / "new", epochs=1, **QUIET),
            lambda: torch.save(torch.zeros(10**5), tmp_path / "run" / "x"),
        ):
            with pytest.raises(DiskFullError), told_when_full(tmp_path):
                write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "run" / "checkpoint" / "state.pt").read_bytes() == kept


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "Expected enough memory; got too little. Take smaller sizes"),
        (MemoryError("Unable to allocate 7.45 TiB for an array"), "with 7.45 TiB asked for in one piece"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4294967296 bytes."),
            "with 4 GiB asked for in one piece",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"), "with 2.00 GiB asked for"),
        (OverflowError("int too big to convert"), "Expected numbers that a machine can count with; got one that"),
        (raised(RuntimeError("x"), FULL), "Expected room on the disk; got none: the disk is full"),
        (RuntimeError("another"), "RuntimeError: another"),
    ],
    ids=str,
)  # fmt: skip
def test_failures_in_words(error: Exception, words: str) -> None:
    assert words in failure(error)
    said: list[str] = []

    def fails() -> None:
        raise error

    assert guarded(fails, tell=said.append) == 1
    assert words in said[0]


def test_json_stays_json_in_ascii() -> None:
    done = shell(f"tightbound evaluate {trained()} --json", PYTHONIOENCODING="ascii")
    found: dict[str, Any] = json.loads(done.stdout)
    assert "verdict" in found


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("verb", ["gaps", "evaluate"])
def test_what_cannot_be_said_is_kept_in_the_run(verb: str, buffered: str, tmp_path: Path) -> None:
    run = copied(tmp_path)
    (run / "evaluation.json").unlink()
    more = "--observations 3" if verb == "gaps" else "--samples 2"
    done = shell(f"tightbound {verb} {run} {more} >/dev/full", PYTHONUNBUFFERED=buffered)
    assert done.returncode == 1
    assert (run / {"gaps": "gaps.json", "evaluate": "evaluation.json"}[verb]).is_file()
    assert re.search(r"Expected standard output to take the result; got No space left on device\. Send", done.stderr)


def test_a_training_says_its_numbers_before_it_keeps_and_draws_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(tmp_path)
    (run / "evaluation.json").unlink()
    (run / "evaluation.json").mkdir()
    assert main(["train", "--resume", str(run), "--quiet"]) == 2
    out, error = capsys.readouterr()
    assert out.startswith("Evidence: ")
    assert re.search(r"got .*evaluation.json, which is a folder\. Remove it", error)
    (run / "evaluation.json").rmdir()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tightbound.cli.commands.write_report", full)
    assert main(["train", "--resume", str(run), "--quiet"]) == 1
    assert capsys.readouterr().out.startswith("Evidence: ")


def test_a_warning_is_one_plain_line(tmp_path: Path) -> None:
    code = """
import sys, warnings
import tightbound.cli.output as output
output.prepare()
warnings.warn("What is measured\\ncan't be kept.", stacklevel=1)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == "tightbound: What is measured can't be kept.\n"


@pytest.mark.parametrize("columns", ["0", "-5", "x", "1", "3", "1e3", "²"])
@pytest.mark.parametrize("verb", ["train --help", "--help"])
def test_columns_that_nothing_can_be_laid_out_in_count_as_unset(verb: str, columns: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tightbound", *verb.split()],
        env={**os.environ, "COLUMNS": columns}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) == 80


def test_a_backend_of_figures_matters_to_no_verb(tmp_path: Path) -> None:
    done = shell(f"tightbound sample {trained()} --out {tmp_path / 's.png'}", MPLBACKEND="nonsense")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("variables", "got"),
    [
        ({"WORLD_SIZE": "x", "RANK": "0"}, "WORLD_SIZE=x, RANK=0, MASTER_ADDR=none, MASTER_PORT=none"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE=2, RANK=0, MASTER_ADDR=none, MASTER_PORT=none"),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "WORLD_SIZE=2, RANK=2"),
        ({"WORLD_SIZE": "2", "RANK": "²", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "WORLD_SIZE=2, RANK=²"),
    ],
)
def test_an_environment_of_no_torchrun_is_refused(
    variables: dict[str, str], got: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    error = refused(capsys, "train", "digits")
    assert f"Expected the environment as torchrun sets it, where WORLD_SIZE is set; got {got}" in error
    assert "unset WORLD_SIZE" in error


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("sample", "RUN", "--temperature", "1e308"), "Expected a temperature of at most 1e+06; got 1e+308."),
        (("information", "RUN", "--draws", "1000000000"), "Expected at most 10,000,000 draws; got 1,000,000,000."),
        (
            ("certify", "RUN", "--temperatures", "1000000000000"),
            "takes at most 10,000,000 slopes; got 17,999,999",
        ),
        (
            ("sweep", "digits", "--over", "objective.beta=1,2", "--seeds", "1000000000"),
            "Expected --seeds of at most 10000; got 1000000000. Take fewer.",
        ),
    ],
)
def test_a_count_that_no_work_ends_with_is_refused(
    words: tuple[str, ...], error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert error in refused(capsys, *(trained() if word == "RUN" else word for word in words))


def test_a_picture_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DiskFullError, match="Expected room on the disk"):
        plots.save(Figure(figsize=(1, 1)), tmp_path / "s.png")
    assert list(tmp_path.iterdir()) == []


def test_help_ends_on_a_terminal_of_one_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((1, 20)))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    shown = warnings.showwarning
    prepare()
    monkeypatch.setattr(warnings, "showwarning", shown)
    assert os.environ.pop("COLUMNS") == "20"
