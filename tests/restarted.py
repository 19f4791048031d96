"""A script for ``torchrun``: one process kills itself once, in step 9, and all come back."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
import training
from _pytest.monkeypatch import MonkeyPatch

from tightbound.training import fit


def main(folder: Path, *, kills: bool) -> None:
    def once(step: int) -> None:
        if kills and step == 9 and os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
            os.kill(os.getpid(), signal.SIGKILL)

    training.before_each_step(MonkeyPatch(), once)
    torch.set_num_threads(1)
    settings = {**training.QUIET, "epochs": 4, "checkpoint_seconds": 0}
    ended = fit(training.model(), training.data(), out=folder, resume="auto", **settings)
    # A file for each process: lines that two processes print at once run into each other.
    told = f"{os.environ['TORCHELASTIC_RESTART_COUNT']} {ended.ended}"
    folder.with_name(f"{folder.name}-{os.environ['RANK']}.txt").write_text(told)


if __name__ == "__main__":
    main(Path(sys.argv[1]), kills=sys.argv[2] == "kills")
