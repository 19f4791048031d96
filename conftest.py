"""Tests and examples compute on the processor, whatever else there is; `tests/test_gpu.py` is for the rest."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _on_the_processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.path.stem == "test_gpu":
        return
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # of commands that a test starts
