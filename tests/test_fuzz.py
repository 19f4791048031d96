"""A minute of hostile and unlucky tries, each run with the same ones; ``make fuzz`` makes others for an hour."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SECONDS = {"arrays": 8, "files": 6, "damaged_folders": 14, "other_values": 10, "at_once": 10, "signals": 12}


@pytest.mark.parametrize("kind", SECONDS)
def test_nothing_falls(kind: str) -> None:
    """In a process of its own, which can be forked."""
    command = [sys.executable, str(HERE / "fuzz.py"), str(SECONDS[kind]), "0", kind]
    place = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=place, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["tries"] > 0
