"""Each benchmark runs to its end, at sizes that tell nothing of speed."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import tightbound as tb
from tightbound.data.mnist import files
from tightbound.execution import obstacle

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
SCRIPTS = {path.stem: path for path in sorted(FOLDER.glob("*.py")) if "__main__" in path.read_text(encoding="utf-8")}
TINY = "--seconds 1 --epochs 0.01 --out {out} --channels 2 --latent 2 --data"


class Small(NamedTuple):
    """A small run: of what, with which words, what it prints around one positive number, and a file that it makes."""

    name: str
    words: str
    printed: str
    kept: str = ""
    needs: str = ""


SMALL = [
    Small("disentanglement", "{out} --seeds 1 --epochs 0.02 --only 'β = 1'", r"\| β = 1 \| −(\S+) ± nan \|"),
    Small("evaluation", "--images 10 --samples 20 --repeats 1", r'"ours, float32", "ms an image": (\S+?)[,}]',
          needs="mnist"),
    Small("few_labels", "{out} --seeds 1 --epochs 0.01", r"\| M1\+M2 \| (\S+) ± nan \|", needs="mnist"),
    Small("folder", "--count 2300 --steps 2 --repeats 1", r'"images": 2300, "kept MB": (\S+),'),
    Small("gradients", "--epochs 0.1 --repeats 40 --samples 1 2 --out {out}", r"VIMCO +2 .* (\S+)\n", "digits.png"),
    Small("growth", "--sizes 300 600 --evaluated 300 600 --steps 3 --samples 2 --repeats 1 --compile never --out {out}",
          r'"latent map", "images": 600, "\S+ an image": (\S+),', "growth.png", needs="mnist"),
    Small("images", f"{TINY} mnist", r'"textbook\'s loop", .*"-ELBO": (\S+),', "images-mnist.png", needs="mnist"),
    Small("images", f"{TINY} patches", r'"textbook\'s loop", .*"-ELBO": (\S+),', "images-patches.png"),
    Small("iwae_cost", "--samples 3 --batch-size 4 --micro-batch 2 --steps 1 --repeats 1 --compile 0",
          r'"peak MiB over K = 1, K = 30, micro_batch=2": (\S+)}'),
    Small("likelihood", "{run} --images 3 --samples 20", r"\| refined \| (\S+) ±"),
    Small("likelihood", "{run} --images 3 --seeds 2", r"2 seeds of 3 images: .*; means by seed (\S+), \S+\n"),
    Small("mapped", "--sizes 1 2 --limit 4096 --in-memory 100 --steps 2 --repeats 1 --compile never --folder {out}",
          r'"images": 2674, .*"asked, \S+ an image": (\S+),', needs="mnist"),
    Small("processes", "--batches 8 --images 100 --images-a-turn 16 --repeats 1 --port {port}",
          r'"batch": 8, "processes": 2, "images/s": (\S+),', needs="mnist"),
    Small("proposals", "{run} --images 3", r"\| 3 sweeps, the default \| \d+ \| (\S+) \|"),
    Small("startup", "--repeats 1", r'"import tightbound and use it", "seconds, median": (\S+),'),
    Small("time_to_quality", "--seconds 1 --epochs 0.01 --images 5 --samples 10 --out {out}",
          r'"textbook\'s loop", .*"NLL at the end": (\S+),', "time_to_quality.png", needs="mnist"),
    Small("training_throughput", "--epochs 1 --seeds 1 --images 300", r'"float32 .*"test loss after 3": (\S+),',
          needs="mnist compiler"),
    Small("weak_labels", "{out} --seeds 1 --epochs 0.02 --only '100 images'",
          r"\| 100 images with factors \| −(\S+) ± nan \|"),
    Small("weak_labels", "{out} --seeds 1 --epochs 0.5 --only 'pairs, 1 factor'",
          r"\| pairs, 1 factor changed \| −(\S+) ± nan \|"),
]  # fmt: skip


def test_each_benchmark_answers_help(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    known = set(sys.modules)
    try:
        for path in SCRIPTS.values():
            monkeypatch.setattr(sys, "argv", [str(path), "--help"])
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(str(path), run_name="__main__")
            assert ended.value.code == 0
            assert capsys.readouterr().out.startswith(f"usage: {path.name} [-h]")
    finally:
        for name in set(sys.modules) - known:
            if (FOLDER / f"{name}.py").exists():  # which a test's own module may be called too
                del sys.modules[name]


def test_each_benchmark_has_a_small_run() -> None:
    assert {small.name for small in SMALL} == set(SCRIPTS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks") / "run"
    tb.train("digits", out=folder, changes={"train.epochs": 0.5}, progress=False)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="benchmarks ask Linux for a process's memory")
@pytest.mark.parametrize("small", SMALL, ids=lambda small: small.name)
def test_small_runs_end_well(small: Small, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if "mnist" in small.needs and not (os.environ.get("TIGHTBOUND_DATA") and len(files()) == 4):
        pytest.skip("set TIGHTBOUND_DATA to a folder with MNIST's files in mnist/ to run it")
    if "compiler" in small.needs and obstacle():
        pytest.skip("nothing can be compiled here")
    places = {"out": tmp_path, "port": free_port() - 2}  # a group of two meets at the port 2 above
    if "{run}" in small.words:
        places["run"] = request.getfixturevalue("run")
    done = subprocess.run(
        [sys.executable, SCRIPTS[small.name], *shlex.split(small.words.format(**places))],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=280,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = re.search(small.printed, done.stdout)
    assert printed, done.stdout
    assert 0 < float(printed[1]) < float("inf")
    assert (tmp_path / small.kept).exists()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
