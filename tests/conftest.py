"""Each test starts from the same seeds and leaves torch's global state as it found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings
from torch.distributions import Distribution

settings.register_profile("tightbound", derandomize=True, deadline=None)  # the same examples on every machine
settings.load_profile("tightbound")
torch.set_num_threads(1)  # small tensors: threads only get in the way of other workers


@pytest.fixture(autouse=True)
def _global_state() -> Iterator[None]:
    dtype, validates = torch.get_default_dtype(), Distribution._validate_args
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    torch.set_default_dtype(dtype)
    Distribution.set_default_validate_args(validates)
