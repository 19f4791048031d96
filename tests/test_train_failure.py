"""When numbers stop being finite: the right step, the right name, and the last good state on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training import QUIET, before_each_step, data, equal, model, weights, written

import tightbound as tb
from tightbound.data import Observations
from tightbound.training import NonFiniteError, fit
from tightbound.training.batches import Sampler, split
from tightbound.training.checkpoint import load_state

COUNT, BATCH, POISONED = 100, 10, 8
ROOM = {**QUIET, "batch_size": BATCH, "validation": 0, "epochs": 1, "learning_rate": 1e-3}
FIRST_PASS = Sampler(COUNT, BATCH, seed=0, device=torch.device("cpu"))
BAD_STEP = next(step for step in range(COUNT // BATCH) if POISONED in FIRST_PASS.indices(step)) + 1  # counted from 1


class Poison(nn.Module):
    """A network that does something else, once it is armed, with observations whose last element is 1.

    Args:
        outputs: how many numbers it gives.
        kind: what it does.
    """

    def __init__(self, outputs: int, kind: str) -> None:
        super().__init__()
        self.kind, self.armed = kind, True
        self.inner = nn.Linear(3, outputs)
        self.size = nn.Parameter(torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        out, poisoned = self.inner(x), (x[..., -1:] == 1) & torch.tensor(self.armed)
        if self.kind == "distortion":  # a mean whose square is only just finite, and so is the KL
            return out + torch.where(poisoned, torch.tensor([1e19, 1e19, 0.0, 0.0]), 0.0)
        if (
            self.kind == "rate"
        ):  # a mean of a little more, where p(x|z) is so wide that any draw is as good, and squares nothing
            return out + torch.where(poisoned, torch.tensor([3e19, 3e19, 0.0, 0.0]), 0.0)
        # A square root at zero: its value is finite, its slope is not.
        return out + (self.size * poisoned.logical_not()).square().sqrt()


def poisoned(kind: str, *, armed: bool = True) -> tb.VAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        posterior, decoder = Poison(4, kind), nn.Linear(2, 3)
        posterior.armed = armed
        return tb.VAE(
            prior=tb.priors.StandardNormal(2),
            posterior=tb.posteriors.DiagonalNormal(posterior),
            likelihood=tb.likelihoods.Laplace(decoder, scale=1e15)
            if kind == "rate"
            else tb.likelihoods.Gaussian(decoder, scale=0.01),
        )


def observations() -> Tensor:
    x = 0.1 * data(COUNT)
    x[:, -1] = 0
    x[POISONED, -1] = 1
    return x


def test_the_layer_that_gave_the_first_of_them_is_named() -> None:
    class Rooted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
            self.root = nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return self.root((-1 - self.layers(x)).sqrt())  # of negative numbers

    broken = tb.VAE(
        tb.priors.StandardNormal(2), tb.posteriors.DiagonalNormal(Rooted()), tb.likelihoods.Gaussian(nn.Linear(2, 3))
    )
    named = r"became nan\. The first output that is not finite is that of posterior\.network\.root \(Identity\)\. Try"
    with pytest.raises(NonFiniteError, match=named):
        fit(broken, data(COUNT), **ROOM)


EXPECTED = {
    "distortion": r"the distortion became inf\. .*Try a lower learning_rate, clip=1\.0, .*; look for outliers",
    "rate": r"the rate became (inf|nan)\. .*Try a lower learning_rate, .*; a posterior's variance has grown",
    "gradient": r"the gradient of posterior\.network\.size stopped being finite, while the loss was still \d.*\. Try",
}


@pytest.mark.parametrize("kind", ["distortion", "rate", "gradient"])
@pytest.mark.parametrize(
    "changes",
    [
        {"log_every": 1},
        {"log_every": BAD_STEP},  # looked at just then
        {"log_every": max(BAD_STEP - 1, 1)},
        {"log_every": 1000},
        {"log_every": 1000, "checkpoint_seconds": 0},
        {"log_every": 3, "clip": 1.0},
        {"log_every": 1000, "ema": 0.9, "warmup_steps": 5},
        {"log_every": 1000, "epochs": BAD_STEP * BATCH / COUNT},  # it is the last step
        {"log_every": 1000, "objective": tb.objectives.ELBO(kl="sampled")},
    ],
    ids=str,
)
def test_step_and_culprit_are_named(tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    with pytest.raises(NonFiniteError, match=rf"^At step {BAD_STEP} {EXPECTED[kind]}"):
        fit(poisoned(kind), observations(), out=tmp_path, **{**ROOM, **changes})
    state = load_state(tmp_path)
    assert state["standing"]["number"] < BAD_STEP
    assert all(value.isfinite().all() for value in state["step"]["weights"]["model"].values())


def test_the_test_can_tell_steps_apart() -> None:
    assert 2 < BAD_STEP < COUNT // BATCH


@pytest.mark.parametrize("kind", ["distortion", "rate", "gradient"])
@pytest.mark.parametrize("changes", [{"log_every": 2}, {"log_every": 1000}, {"log_every": 2, "checkpoint_seconds": 0}])
def test_the_last_good_checkpoint_can_be_gone_on_with(tmp_path: Path, kind: str, changes: dict[str, Any]) -> None:
    settings = {**ROOM, **changes, "ema": 0.9}
    with pytest.raises(NonFiniteError):
        fit(poisoned(kind), observations(), out=tmp_path / "run", **settings)
    for _ in range(2):  # as it stands it fails again, in the same place
        with pytest.raises(NonFiniteError, match=rf"^At step {BAD_STEP} {EXPECTED[kind]}"):
            fit(poisoned(kind), observations(), out=tmp_path / "run", resume=True, **settings)
    fit(poisoned(kind, armed=False), observations(), out=tmp_path / "run", resume=True, **settings)
    fit(poisoned(kind, armed=False), observations(), out=tmp_path / "never", **settings)
    assert written(tmp_path / "run") == written(tmp_path / "never")


def test_the_model_is_left_in_its_last_good_state(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = poisoned("gradient")
    seen: dict[int, Any] = {}
    before_each_step(monkeypatch, lambda step: seen.setdefault(step, weights(vae)))
    with pytest.raises(NonFiniteError):
        fit(vae, observations(), **ROOM)
    assert equal(weights(vae), seen[BAD_STEP - 1])


def test_a_failure_without_a_folder_is_named_as_well() -> None:
    with pytest.raises(NonFiniteError, match=f"^At step {BAD_STEP} the gradient of posterior.network.size"):
        fit(poisoned("gradient"), observations(), **{**ROOM, "log_every": 1000})


def test_a_learning_rate_beyond_reason() -> None:
    with pytest.raises(NonFiniteError, match=r"^At step \d+ the .* Try a lower learning_rate"):
        fit(model(), data(), epochs=50, **{**QUIET, "learning_rate": 1e30})


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_validation_loss_that_is_not_finite(tmp_path: Path, ema: float) -> None:
    x, settings = data(), {**QUIET, "epochs": 2, "ema": ema, "out": tmp_path}
    held_out = split(Observations(torch.arange(100)[:, None]), 0.2, 0)[1]
    assert held_out is not None
    x[int(held_out.take(torch.tensor([0])))] = 1e30
    for resume in (False, True):
        with pytest.raises(NonFiniteError, match=r"^At step 4 the validation loss became (inf|nan): some held-out obs"):
            fit(model(), x, resume=resume, **settings)
        assert load_state(tmp_path)["standing"]["number"] == 3


def plain(likelihood: nn.Module, first: nn.Module | None = None) -> tb.VAE:
    encoder = nn.Sequential(first or nn.Identity(), nn.Linear(3, 4))
    return tb.VAE(tb.priors.StandardNormal(2), tb.posteriors.DiagonalNormal(encoder), likelihood)


@pytest.mark.parametrize(("size", "scale"), [(1e20, "learned"), (1e36, "learned"), (1e-30, 1e-30)])
def test_data_of_another_scale_are_named_where_the_first_steps_fail(size: float, scale: Any) -> None:
    torch.manual_seed(0)
    x = data(COUNT) * size
    with pytest.raises(NonFiniteError, match=r"^At step 1 the distortion became inf\. The largest number .*") as failed:
        fit(plain(tb.likelihoods.Gaussian(nn.Linear(2, 3), scale=scale)), x, **ROOM)
    assert "learning_rate" not in str(failed.value)
    remedy = str(failed.value).removesuffix(".").partition("Divide them by it: ")[2]
    for given in (x, x.numpy()):
        fit(plain(tb.likelihoods.Gaussian(nn.Linear(2, 3))), eval(remedy, {"x": given}), **ROOM)


@pytest.mark.parametrize("largest", [1000, 10**9])
def test_counts_too_large_for_a_network_want_another_first_layer(largest: int) -> None:
    torch.manual_seed(0)
    x = torch.randint(0, largest, (COUNT, 3))
    with pytest.raises(NonFiniteError, match=r"Let the encoder begin with torch\.nn\.BatchNorm1d\.$"):
        fit(plain(tb.likelihoods.Poisson(nn.Linear(2, 3))), x, **ROOM)
    fit(plain(tb.likelihoods.Poisson(nn.Linear(2, 3)), nn.BatchNorm1d(3)), x, **ROOM)


def test_data_of_a_good_scale_are_not_blamed() -> None:
    torch.manual_seed(0)
    broken = plain(tb.likelihoods.Gaussian(nn.Linear(2, 3), scale=1e-30))
    with pytest.raises(
        NonFiniteError, match=r"^At step 1 the distortion became inf\. Try a lower learning_rate.*outliers"
    ):
        fit(broken, data(COUNT), **ROOM)


def test_a_constant_that_float32_cannot_hold_is_computed_in_float64(tmp_path: Path) -> None:
    x = data(COUNT).double()
    x[:, 0] = 1e39
    small = tb.Recipe().updated({"model.hidden": [8], "train.epochs": 1, "model.latent_dim": 2})
    made = tb.train(small, out=tmp_path / "run", data=x, progress=False)
    assert next(made.model().parameters()).dtype == torch.float64
    with pytest.raises(ValueError, match=r"Expected finite values; got NaN or infinity .* as float32 holds it"):
        fit(plain(tb.likelihoods.Gaussian(nn.Linear(2, 3))), x, **ROOM)
