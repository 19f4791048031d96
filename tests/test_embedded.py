"""A training inside somebody's own program: his signals, his threads, his restarts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from training import QUIET, before_each_step, data, equal, model, weights

from tightbound.autoencoder import VAE
from tightbound.evaluate import evidence
from tightbound.runtime import evaluation_mode, in_training
from tightbound.training import fit

HERE = Path(__file__).parent


# Signals


@contextmanager
def handled(number: int, handler: Any) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def kills(number: int) -> Callable[[int], None]:
    return lambda step: os.kill(os.getpid(), number) if step == 3 else None


def train(folder: Path | None = None, **changes: Any) -> Any:
    return fit(model(), data(), out=folder, **{**QUIET, "epochs": 2, **changes})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_ignored_signal_stays_ignored(monkeypatch: pytest.MonkeyPatch, number: signal.Signals) -> None:
    with handled(number, signal.SIG_IGN):
        before_each_step(monkeypatch, kills(number))
        assert train().ended == "complete"
        assert signal.getsignal(number) is signal.SIG_IGN


@pytest.mark.parametrize("step", [3, 7], ids=["midway", "last step"])
def test_ctrl_c_ends_in_a_keyboard_interrupt_once_the_checkpoint_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: int
) -> None:
    with monkeypatch.context() as patch:
        before_each_step(patch, lambda now: os.kill(os.getpid(), signal.SIGINT) if now == step else None)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert train(tmp_path / "run", resume=True).steps == 8


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_handler_of_ones_own_is_called_once_and_fit_returns_when_it_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: signal.Signals
) -> None:
    called: list[tuple[int, bool]] = []

    def own(given: int, frame: Any) -> None:
        called.append((given, (tmp_path / "run" / "model.safetensors").is_file()))

    with handled(number, own):
        before_each_step(monkeypatch, kills(number))
        ended = train(tmp_path / "run")
        assert (called, ended.ended, ended.steps) == ([(number, True)], "interrupted", 4)
        assert signal.getsignal(number) is own


FOUR_FITS = """
import os, signal, sys
sys.path.insert(0, {here!r})
import training
from tightbound.training import fit
from _pytest.monkeypatch import MonkeyPatch
training.before_each_step(MonkeyPatch(), lambda step: step == 3 and os.kill(os.getpid(), signal.{name}))
for number in range(4):
    print("fit", number, flush=True)
    fit(training.model(), training.data(), epochs=1, **training.QUIET)
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", -signal.SIGINT), ("SIGTERM", -signal.SIGTERM)])
def test_a_script_of_four_fits_stops_at_the_first(name: str, code: int) -> None:
    words = [sys.executable, "-c", FOUR_FITS.format(here=str(HERE), name=name)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("fit 0\n", code), done.stderr


# Threads


def switches() -> tuple[Any, ...]:
    return (
        Distribution._validate_args,
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
    )


def noisy(seed: int) -> VAE:
    vae = model(seed=seed)
    vae.posterior.network = nn.Sequential(nn.Dropout(0.3), vae.posterior.network)
    return vae


def fitting(seed: int) -> Callable[[], dict[str, Tensor]]:
    vae, x = noisy(seed), data()  # made beforehand: their own seed is the process's

    def work() -> dict[str, Tensor]:
        fit(vae, x, seed=seed, epochs=3, **QUIET)
        return weights(vae)

    return work


def judging(seed: int) -> Callable[[], dict[str, Tensor]]:
    vae, x = model(seed=seed), data()
    return lambda: {
        name: value for name, value in evidence(vae, x, samples=8, seed=seed).per_observation.items() if name != "k"
    }


def in_threads(*work: Callable[[], Any]) -> list[Any]:
    """What each gives, all begun at once."""
    found, ready = [None] * len(work), threading.Barrier(len(work))

    def run(place: int) -> None:
        ready.wait()
        found[place] = work[place]()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return found


def test_fits_and_evaluations_in_threads_give_bit_for_bit_what_they_give_alone() -> None:
    kinds = [*((fitting, seed) for seed in range(3)), *((judging, seed) for seed in range(2))]
    alone = [kind(seed)() for kind, seed in kinds]
    work = [kind(seed) for kind, seed in kinds]
    state, before = torch.get_rng_state(), switches()
    together = in_threads(*work)
    assert (torch.equal(torch.get_rng_state(), state), switches()) == (True, before)
    assert all(equal(one, other) for one, other in zip(alone, together, strict=True))


def test_samples_of_ones_own_seed_stay_what_they_are_beside_trainings() -> None:
    vae = model()
    alone = [fitting(seed)() for seed in range(2)]
    torch.manual_seed(5)
    expected = [vae.sample(3) for _ in range(9)]
    work = [fitting(seed) for seed in range(2)]
    torch.manual_seed(5)
    *together, sampled = in_threads(*work, lambda: [vae.sample(3) for _ in range(9)])
    assert all(torch.equal(one, other) for one, other in zip(expected, sampled, strict=True))
    assert all(equal(one, other) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize("round", range(8))
def test_threads_that_train_and_use_one_model_wait_for_each_other(round: int) -> None:
    vae, x, before = model(), data(), switches()

    def training() -> str:
        return fit(vae, x, epochs=1, progress=False, validation=0).ended

    def using(call: Callable[[], Any]) -> Callable[[], bool]:
        return lambda: [call() for _ in range(5)] != []

    uses = (
        lambda: vae.embed(x), lambda: vae.reconstruct(x), lambda: vae.log_prob(x[:3], samples=4), lambda: vae.sample(3),
        lambda: vae.encode(x).mean, lambda: evidence(vae, x[:9], samples=4),
    )  # fmt: skip
    found = in_threads(training, training, training, *map(using, uses))
    assert (found, vae.training, switches()) == (["complete"] * 3 + [True] * 6, False, before)


def test_a_training_waits_for_those_who_compute_with_its_model_and_lets_no_others_in() -> None:
    vae, inside, leave = model(), threading.Event(), threading.Event()

    def embed() -> None:
        with evaluation_mode(vae):
            inside.set()
            assert leave.wait(60)

    threads = [threading.Thread(target=embed), threading.Thread(target=lambda: fit(vae, data(), epochs=1, **QUIET))]
    threads[0].start()
    assert inside.wait(60)
    threads[1].start()
    threads[1].join(0.3)
    assert threads[1].is_alive()
    leave.set()
    threads[1].join(60)
    assert not threads[1].is_alive()


def test_an_evaluation_of_another_model_goes_on_beside_one_that_waits_to_train() -> None:
    vae, other = model(), model(seed=1)
    with in_training(vae), evaluation_mode(vae):
        assert in_threads(lambda: tuple(other.embed(data()).shape)) == [(len(data()), 2)]


def test_a_failure_in_a_thread_lets_the_others_go_on() -> None:
    def fails() -> str:
        with pytest.raises(ValueError, match="Expected finite values"):
            fit(model(), data() * float("nan"), epochs=1, **QUIET)
        return "failed"

    *_, ended = in_threads(fails, fails, lambda: fit(model(), data(), epochs=1, **QUIET).ended)
    assert ended == "complete"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_process_forked_beside_a_training_can_train() -> None:
    code = f"""
import os, sys, threading
sys.path.insert(0, {str(HERE)!r})
import training
from tightbound.runtime import only_thread
from tightbound.training import fit
inside, over = threading.Event(), threading.Event()
def hold():
    with only_thread():
        inside.set()
        over.wait()
threading.Thread(target=hold).start()
inside.wait()
child = os.fork()
if child == 0:
    fit(training.model(), training.data(), epochs=0.2, **training.QUIET)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
over.set()
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "7\n", done.stderr


# Resumption by itself


def test_auto_begins_where_there_is_no_checkpoint_and_goes_on_where_there_is(tmp_path: Path) -> None:
    first = train(tmp_path / "run", resume="auto")
    again = train(tmp_path / "run", resume="auto")
    assert (first.steps, again.steps, again.seconds) == (8, 8, first.seconds)
    with pytest.raises(ValueError, match="Expected a folder without a run in it"):
        train(tmp_path / "run")


def test_threads_that_train_and_ask_one_model_wait_for_each_other() -> None:
    """A training holds its model from the first look on: nobody sees weights in half precision, or half a step."""
    x, failed = data()[:100], list[BaseException]()

    def tried(work: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                failed.append(error)

        return run

    for _ in range(10):
        one = model()
        works = [lambda one=one: fit(one, x, epochs=1, validation=0, progress=False)] * 3
        works += [lambda one=one: one.embed(x), lambda one=one: one.sample(3)]
        works += [lambda one=one: one.log_prob(x[:9], samples=9), lambda one=one: one.encode(x).mean]
        threads = [threading.Thread(target=tried(work)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
    assert failed == []


@pytest.mark.parametrize("word", ["Auto", "yes", "", "True", 2, None])
def test_other_words_for_resume_are_refused(word: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Expected resume=True, False or 'auto'; got"):
        train(tmp_path / "run", resume=word)


@pytest.mark.parametrize("word", [True, "auto"])
def test_to_go_on_takes_a_folder(word: Any) -> None:
    with pytest.raises(ValueError, match=rf"Expected out= with resume={word!r}"):
        train(resume=word)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not killed alike here")
def test_killed_processes_of_torchrun_come_back_to_the_bits_of_a_run_never_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}:{HERE}", "OMP_NUM_THREADS": "1"}
    environment.pop("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", None)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--max-restarts=2", "--standalone"]
    for name in ("never", "kills"):
        words = [*launch, str(HERE / "restarted.py"), str(tmp_path / name), name]
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, timeout=100)
        assert done.returncode == 0, done.stderr
        told = [(tmp_path / f"{name}-{rank}.txt").read_text() for rank in (0, 1)]
        assert told == [f"{int(name == 'kills')} complete"] * 2
    for file in ("model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "kills" / file).read_bytes() == (tmp_path / "never" / file).read_bytes()
