"""Trainings by several processes: torch is loaded once, and each group of processes is forked off what loaded it.

As a module: :func:`run_groups`, and what tests read back. As a script: runs groups of cases, one folder a group.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from test_train_failure import ROOM, observations, poisoned
from torch import Tensor, nn
from training import QUIET, bits, data, model, weights

from tightbound.autoencoder import VAE
from tightbound.batch import Batch
from tightbound.data import Observations
from tightbound.distributed import World, joined, world
from tightbound.divergences import kl
from tightbound.gradients import Enumerate
from tightbound.objectives import ELBO, Loss
from tightbound.settings import Training
from tightbound.training import fit, loop
from tightbound.training import step as steps
from tightbound.training.batches import Sampler
from tightbound.training.signals import signals_kept
from tightbound.training.step import TrainStep
from tightbound.training.validation import validate

CPU = torch.device("cpu")
LONG: dict[str, Any] = {**QUIET, "epochs": 3, "ema": 0.9, "clip": 1.0, "checkpoint_seconds": 0, "log_every": 4}
STUCK = 100  # seconds after which a process says where it is and ends; a busy machine needs tens
STOPPED_IN = 5  # a step that is none of those in which all look up


class AtTheMean:
    """The ELBO with the posterior's mean in place of draws: an objective without noise."""

    def __call__(self, model: VAE, batch: Batch, step: Tensor | None = None) -> Loss:
        q = model.posterior(batch.x)
        distortion, rate = -model.likelihood.log_prob(batch.x, q.mean).mean(), kl(q, model.prior()).mean()
        return Loss(distortion + rate, {"distortion": distortion.detach(), "rate": rate.detach()})


def told(work: Callable[[], Any]) -> str:
    """The class and the words of what goes wrong."""
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def exact(folder: Path, here: World) -> dict[str, Any]:
    """A training without noise in double precision, until it stops early."""
    vae = model().double()
    ended = fit(
        vae, data(3000).double(), objective=AtTheMean(), out=folder / "run" if here.is_main else folder / "never",
        **{**QUIET, "epochs": 60, "learning_rate": 0.05, "schedule": "constant", "clip": 0.5, "ema": 0.9,
           "validation": 2500.0, "patience": 1, "log_every": 10},
    )  # fmt: skip
    return {"weights": weights(vae), "ended": ended.ended, "loss": ended.loss, "steps": ended.steps}


def enumerated(folder: Path, here: World) -> dict[str, Any]:
    """Bits whose gradient is the exact sum over their codes: a training without noise."""
    codes = bits().double()
    ended = fit(
        codes, data(200).double(), objective=ELBO(gradient=Enumerate()),
        **{**QUIET, "epochs": 3, "learning_rate": 0.02, "clip": 0.5, "ema": 0.9},
    )  # fmt: skip
    return {"weights": weights(codes), "loss": ended.loss}


def mean(folder: Path, here: World) -> dict[str, Any]:
    """Means of rows of which each process has another number."""
    x = torch.arange(18.0, dtype=torch.float64).reshape(6, 3)
    own = x[[0], :] if here.is_main else x[1:, :][here.rank - 1 :: here.count - 1]
    found = here.mean([own.mean(0), own.mean()], len(own))
    return {"by column": found[0], "of all": found[1], "sum": here.sum(own.sum(0)), "expected": x}


def validated(folder: Path, here: World) -> dict[str, Any]:
    """The validation loss of an objective with noise, over several batches."""
    step = TrainStep(model().double(), ELBO(kl="sampled"), Training(), steps=1, device=CPU)
    return validate(step, Observations(data(2500)), names=("distortion", "rate"), batch_size=20)


def noisy(folder: Path, here: World) -> dict[str, Any]:
    """What each process sees and draws, and where it ends."""
    seen: dict[str, list[Tensor]] = {"indices": [], "x": [], "noise": []}
    made = Observations.batch

    def watched(self: Observations, indices: Tensor, dtype: torch.dtype = torch.float32) -> Batch:
        batch = made(self, indices, dtype)
        seen["indices"].append(indices)
        seen["x"].append(batch.x)
        return batch

    def objective(model: VAE, batch: Batch, step: Tensor | None = None) -> Loss:
        draws, q = model.draw(batch, samples=1), model.posterior(batch.x)
        seen["noise"].append(((draws.z[0] - q.mean) / q.stddev).detach())
        return Loss(-draws.log_w.mean(), {})

    Observations.batch = watched
    vae = model()
    settings = {**QUIET, "validation": 0, "batch_size": 21, "epochs": 2.0}
    try:
        grey = Observations(torch.full((100, 3), 0.5), binarise=True)
        ended = fit(vae, grey, objective=objective, seed=3, **settings)
    finally:
        Observations.batch = made
    return {"weights": weights(vae), "steps": ended.steps, **seen}


def followed(folder: Path, here: World) -> dict[str, Any]:
    """A model that each process builds with other weights, and hardly trains."""
    vae = normalised(seed=here.rank)
    before = weights(vae)
    fit(vae, data(), **{**QUIET, "epochs": 0.25, "learning_rate": 1e-30})
    return {"before": before, "after": weights(vae)}


def normalised(*, seed: int = 0) -> VAE:
    vae = model(seed=seed)
    vae.posterior.network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.3), vae.posterior.network)
    return vae


def long(run: Path, here: World, *, stop: int | None = None, **changes: Any) -> dict[str, Any]:
    """A training with running statistics and dropout; the last process is asked to stop in a step."""
    vae, indices = normalised(), Sampler.indices

    def watched(self: Sampler, step: int) -> Tensor:
        if step == stop and here.rank == here.count - 1:
            os.kill(os.getpid(), changes.get("signal", signal.SIGINT))
        return indices(self, step)

    Sampler.indices = watched
    try:
        with signals_kept():
            ended = fit(vae, data(), out=run, **{**LONG, "resume": changes.get("resume", False)})
    finally:
        Sampler.indices = indices
    return {"weights": weights(vae), "ended": ended.ended, "steps": ended.steps}


def interrupted(folder: Path, here: World) -> dict[str, Any]:
    """The same training never stopped, and stopped by a signal to one process and gone on with."""
    found = {"never": long(folder / "never", here), "stopped": long(folder / "run", here, stop=STOPPED_IN)}
    if here.is_main:
        shutil.copytree(folder / "run", folder / "old")
    found["resumed"] = long(folder / "run", here, resume=True)
    found["apart"] = told(lambda: long(folder / ("run" if here.is_main else "old"), here, resume=True))
    return found


def bad(folder: Path, here: World) -> dict[str, Any]:
    """A number that is not finite, of one observation, so in the share of one process."""
    return {
        kind: told(lambda kind=kind, every=every: fit(poisoned(kind), observations(), **{**ROOM, "log_every": every}))
        for kind, every in (("distortion", 1000), ("gradient", 3))
    }


def refused(folder: Path, here: World) -> dict[str, Any]:
    """Fewer observations in a batch than processes."""
    return {"small": told(lambda: fit(model(), data(), **{**QUIET, "batch_size": here.count - 1}))}


def logged(folder: Path, here: World) -> dict[str, Any]:
    """What each process is told, and an error in the function of the first."""
    lines: list[dict[str, Any]] = []

    def fail(line: dict[str, Any]) -> None:
        if line["step"] >= 3:
            raise ValueError(f"of process {here.rank}")

    ended = fit(model(), data(), on_log=lines.append, **{**QUIET, "epochs": 1})
    error = told(lambda: fit(model(), data(), on_log=fail, out=folder / "run", **{**QUIET, "epochs": 1}))
    return {"lines": lines, "metrics": ended.metrics, "error": error.replace(str(folder), "")}


def chosen(folder: Path, here: World) -> dict[str, Any]:
    """Precision where processes see different things, and what is said of a step that cannot be compiled."""
    step = TrainStep(model(), ELBO(), Training(), steps=1, device=CPU)
    steps.multiplies_bfloat16, found = lambda device: True, []
    for same in (lambda batch: here.is_main, lambda batch: True):
        step.same_loss = same
        found.append(step.choose_precision(Batch(data(4))).precision)
    loop.obstacle = lambda: "out of luck"
    with contextlib.redirect_stderr(io.StringIO()) as said:
        fit(model(), data(), **{**QUIET, "epochs": 0.25, "compile": "always"})
    return {"precisions": found, "said": said.getvalue()}


def killed(folder: Path, here: World) -> dict[str, Any]:
    """One process is killed; the others find out."""
    started = time.monotonic()
    error = told(lambda: long(folder / "run", here, stop=9, signal=signal.SIGKILL))
    return {"error": error, "seconds": time.monotonic() - started}


def resumed(folder: Path, here: World) -> dict[str, Any]:
    """Others go on where those before were killed."""
    return long(folder.parents[1] / "killed" / "killed" / "run", here, resume=True)


def alone_each(folder: Path, here: World) -> dict[str, Any]:
    """One ``fit`` after another, each of which joins and leaves by itself, with one in between that fails."""
    vaes = [model() for _ in range(5)]
    for vae in vaes:
        told(lambda: fit(model(), data(), **{**QUIET, "batch_size": 1}))
        fit(vae, data(), **{**QUIET, "epochs": 1})
    return {"weights": [weights(vae) for vae in vaes], "left": world() == World()}


CASES = {case.__name__: case for case in (
    exact, enumerated, mean, validated, noisy, followed, interrupted, bad, refused, logged, chosen, killed, resumed,
    alone_each,
)}  # fmt: skip


def run_case(name: str, folder: Path, here: World) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    torch.manual_seed(here.rank)
    torch.save(CASES[name](folder / name, here), folder / name / f"{here.rank}.pt")


def one_of(count: int, rank: int, port: int, folder: Path, names: Sequence[str]) -> int:
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)
    }  # fmt: skip
    faulthandler.dump_traceback_later(STUCK, exit=True)
    try:
        outside = [name for name in names if name in ("killed", "alone_each")]
        for name in outside:
            run_case(name, folder, World(rank, count))
        if len(outside) < len(names):
            with joined() as here:
                for name in [name for name in names if name not in outside]:
                    run_case(name, folder, here)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def group(word: str, root: Path) -> list[int]:
    """Run ``folder:count:case,case…`` in so many processes; their exit statuses."""
    name, count, cases = word.split(":")
    port, children = free_port(), []
    for rank in range(int(count)):
        child = os.fork()
        if child == 0:
            os._exit(one_of(int(count), rank, port, root / name, cases.split(",")))
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def run_groups(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run groups of cases one after another in a process of its own; each leaves a file a case and rank."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    return subprocess.run(
        [sys.executable, __file__, str(root), *words], capture_output=True, text=True, check=False, env=environment
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    for word in sys.argv[2:]:
        print(word.split(":")[0], *group(word, Path(sys.argv[1])), flush=True)
